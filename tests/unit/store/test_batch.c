// Rows and positions in one transaction, records that erase, and what goes when its time is over.
#include "place.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define E1 INT64_C(1790000000000)

static struct place place;
static struct vc_store *store;

static int set_up(void **state)
{
  return place_open(&place, &store);
}

static int tear_down(void **state)
{
  return place_close(&place, &store);
}

static void count(void *context, const struct vc_record_fields *fields)
{
  (*(long *)context)++;
}

static long n_kept(const char *slug)
{
  struct vc_error error;
  long n = 0, n_read = vc_store_read(store, slug, 10000, count, &n, &error);
  assert_int_equal(n_read, n);
  return n;
}

static int64_t position_of(const char *group, const char *topic, int32_t partition)
{
  struct vc_error error;
  int64_t next = -2;
  assert_int_equal(vc_store_find_position(store, "c1", group, topic, partition, &next, &error), 0);
  return next;
}

// Takes the value.
static enum vc_store_outcome write_one(char *value)
{
  struct vc_error error = {.text = ""};
  struct vc_store_row row = {.value = value, .size = strlen(value)};
  assert_int_equal(vc_store_write(store, &row, 1, &error), 0);
  free(value);
  return row.outcome;
}

// One final of the slug that moves positions of "t".
static int move(struct vc_store *by, const char *slug, uint64_t seq,
                const struct vc_store_position *positions, size_t n_positions)
{
  struct vc_error error = {.text = ""};
  char id[32];
  snprintf(id, sizeof id, "1-0-%d", (int)seq);
  char *value = record_final(slug, E1, seq, id, "text");
  struct vc_store_row row = {.value = value, .size = strlen(value)};
  int status = vc_store_write_batch(by,
                                    &(struct vc_store_batch){.rows = &row,
                                                             .n_rows = 1,
                                                             .cluster = "c1",
                                                             .group = "g",
                                                             .positions = positions,
                                                             .n_positions = n_positions},
                                    &error);
  free(value);
  return status;
}

static int move_one(struct vc_store *by, uint64_t seq, int64_t from, int64_t next)
{
  const struct vc_store_position position = {"t", 0, from, next};
  return move(by, "demo", seq, &position, 1);
}

static void test_rows_and_positions_are_one(void **state)
{
  const struct vc_store_position first[] = {{"t", 0, -1, 5}, {"t", 1, -1, 7}, {"u", 0, -1, 0}};
  const struct vc_store_position mixed[] = {{"t", 0, 5, 6}, {"t", 1, 6, 8}};
  assert_int_equal(position_of("g", "t", 0), -1);
  assert_int_equal(move(store, "demo", 1, first, 3), 0);
  assert_int_equal(position_of("g", "t", 0), 5);
  assert_int_equal(position_of("g", "t", 1), 7);
  assert_int_equal(position_of("g", "u", 0), 0);
  assert_int_equal(position_of("another", "t", 0), -1);
  assert_int_equal(position_of("g", "t", 2), -1);
  // One that is not where it is said to be keeps all others, and the rows, back.
  assert_int_equal(move(store, "demo", 2, mixed, 2), 1);
  assert_int_equal(position_of("g", "t", 0), 5);
  assert_int_equal(n_kept("demo"), 1);
  assert_int_equal(move(store, "demo", 2, mixed, 1), 0);
  assert_int_equal(n_kept("demo"), 2);
}

static void test_a_position_is_begun_once(void **state)
{
  assert_int_equal(move_one(store, 1, -1, 5), 0);
  assert_int_equal(move_one(store, 2, -1, 5), 1);
  assert_int_equal(move_one(store, 2, 4, 6), 1);
  assert_int_equal(move_one(store, 2, 5, 6), 0);
  assert_int_equal(position_of("g", "t", 0), 6);
  assert_int_equal(n_kept("demo"), 2);
}

static void test_a_position_that_is_missing(void **state)
{
  assert_int_equal(move_one(store, 1, 3, 4), 1);
  assert_int_equal(position_of("g", "t", 0), -1);
  assert_int_equal(n_kept("demo"), 0);
}

static void test_no_rows(void **state)
{
  struct vc_error error;
  const struct vc_store_position position = {"t", 0, -1, 9};
  const struct vc_store_batch batch = {
      .cluster = "c1", .group = "g", .positions = &position, .n_positions = 1};
  assert_int_equal(vc_store_write_batch(store, &batch, &error), 0);
  assert_int_equal(position_of("g", "t", 0), 9);
}

#define N_STEPS 40

struct racer {
  uint64_t first_seq;
  int n_moved;
};

// Moves the position on by one whenever it is first.
static void *race(void *context)
{
  struct racer *racer = context;
  struct vc_store *mine;
  struct vc_error error;
  if (vc_store_open(&mine, place.url, &error) != 0) {
    return racer;
  }
  for (int64_t at = -1; at < N_STEPS;) {
    int status = move_one(mine, racer->first_seq + (uint64_t)(at + 1), at, at + 1);
    racer->n_moved += status == 0;
    if (vc_store_find_position(mine, "c1", "g", "t", 0, &at, &error) != 0) {
      break;
    }
  }
  vc_store_close(&mine);
  return NULL;
}

static void test_two_that_race_write_once(void **state)
{
  struct racer racers[2] = {{.first_seq = 1000}, {.first_seq = 2000}};
  pthread_t threads[2];
  for (int i = 0; i < 2; i++) {
    assert_int_equal(pthread_create(&threads[i], NULL, race, &racers[i]), 0);
  }
  for (int i = 0; i < 2; i++) {
    void *result;
    pthread_join(threads[i], &result);
    assert_null(result);
  }
  assert_int_equal(racers[0].n_moved + racers[1].n_moved, N_STEPS + 1);
  assert_int_equal(position_of("g", "t", 0), N_STEPS);
  // Their utterance ids differ by seq, so that what was written twice would be there twice.
  assert_int_equal(n_kept("demo"), N_STEPS + 1);
}

struct undertaker {
  int status;
  int n_calls;
  int n_dead;
};

static int bury(void *context, const struct vc_store_row *rows, size_t n_rows,
                struct vc_error *error)
{
  struct undertaker *undertaker = context;
  undertaker->n_calls++;
  undertaker->n_dead = 0;
  for (size_t i = 0; i < n_rows; i++) {
    if (rows[i].outcome == VC_STORE_CONFLICT || rows[i].outcome == VC_STORE_POISONED) {
      assert_non_null(rows[i].why);
      undertaker->n_dead++;
    }
  }
  return undertaker->status == 0 ? 0 : vc_error_set(error, "no grave");
}

static void test_the_dead_are_buried_before_the_commit(void **state)
{
  struct vc_error error = {.text = ""};
  struct undertaker undertaker = {.status = -1};
  write_one(record_final("demo", E1, 1, "a", "one"));
  char *other = record_final("demo", E1, 1, "a", "two"),
       *good = record_final("demo", E1, 2, "b", "");
  struct vc_store_row rows[] = {{.value = other, .size = strlen(other)},
                                {.value = good, .size = strlen(good)},
                                {.key = "demo", .epoch = E1, .value = "?", .size = 1}};
  const struct vc_store_position position = {"t", 0, -1, 3};
  const struct vc_store_batch batch = {.rows = rows,
                                       .n_rows = 3,
                                       .cluster = "c1",
                                       .group = "g",
                                       .positions = &position,
                                       .n_positions = 1,
                                       .bury = bury,
                                       .context = &undertaker};
  assert_int_equal(vc_store_write_batch(store, &batch, &error), -1);
  assert_string_equal(error.text, "no grave");
  assert_int_equal(position_of("g", "t", 0), -1);
  assert_int_equal(n_kept("demo"), 1);
  undertaker.status = 0;
  assert_int_equal(vc_store_write_batch(store, &batch, &error), 0);
  assert_int_equal(undertaker.n_calls, 2);
  assert_int_equal(undertaker.n_dead, 2);
  assert_int_equal(rows[0].outcome, VC_STORE_CONFLICT);
  assert_int_equal(rows[1].outcome, VC_STORE_STORED);
  assert_int_equal(rows[2].outcome, VC_STORE_POISONED);
  assert_int_equal(position_of("g", "t", 0), 3);
  assert_int_equal(n_kept("demo"), 2);
  free(other);
  free(good);
}

static void test_nobody_is_called_for_the_living(void **state)
{
  struct vc_error error;
  struct undertaker undertaker = {.status = -1};
  char *value = record_final("demo", E1, 1, "a", "one");
  struct vc_store_row row = {.value = value, .size = strlen(value)};
  const struct vc_store_batch batch = {
      .rows = &row, .n_rows = 1, .bury = bury, .context = &undertaker};
  for (int i = 0; i < 2; i++) {
    assert_int_equal(vc_store_write_batch(store, &batch, &error), 0);
  }
  assert_int_equal(row.outcome, VC_STORE_REPEATED);
  assert_int_equal(undertaker.n_calls, 0);
  free(value);
}

static void test_another_cluster(void **state)
{
  struct vc_error error;
  char other[64] = "";
  const struct vc_store_position position = {"t", 0, -1, 9};
  struct vc_store_batch batch = {
      .cluster = "old", .group = "g", .positions = &position, .n_positions = 1};
  assert_int_equal(vc_store_find_other_cluster(store, "c1", "g", other, sizeof other, &error), 0);
  assert_int_equal(vc_store_write_batch(store, &batch, &error), 0);
  assert_int_equal(vc_store_find_other_cluster(store, "c1", "g", other, sizeof other, &error), 1);
  assert_string_equal(other, "old");
  assert_int_equal(vc_store_find_other_cluster(store, "old", "g", other, sizeof other, &error), 0);
  assert_int_equal(vc_store_find_other_cluster(store, "c1", "h", other, sizeof other, &error), 0);
  batch.cluster = "c1";
  assert_int_equal(vc_store_write_batch(store, &batch, &error), 0);
  assert_int_equal(vc_store_find_other_cluster(store, "c1", "g", other, sizeof other, &error), 0);
}

static void test_positions_are_forgotten_on_demand(void **state)
{
  struct vc_error error;
  const struct vc_store_position position = {"t", 0, -1, 9};
  const struct vc_store_batch batch = {
      .cluster = "c1", .group = "another", .positions = &position, .n_positions = 1};
  assert_int_equal(vc_store_write_batch(store, &batch, &error), 0);
  assert_int_equal(move_one(store, 1, -1, 5), 0);
  assert_int_equal(vc_store_reset_positions(store, "g", &error), 0);
  assert_int_equal(position_of("g", "t", 0), -1);
  assert_int_equal(position_of("another", "t", 0), 9);
  assert_int_equal(n_kept("demo"), 1);
  assert_int_equal(move_one(store, 1, -1, 2), 0);
}

// --- erasures that come as records

static void test_an_erasure_among_finals(void **state)
{
  struct vc_error error = {.text = ""};
  char *values[] = {record_final("demo", E1, 1, "a", "before"),  record_started("demo", E1),
                    record_final("other", E1, 1, "a", "mine"),   record_erased("demo", E1 + 5),
                    record_final("demo", E1, 2, "b", "late"),    record_ended("demo", E1, "crash"),
                    record_final("demo", E1 + 6, 1, "a", "new"), record_erased("demo", E1 + 5)};
  enum { N = sizeof values / sizeof *values };
  static const enum vc_store_outcome expected[N] = {
      VC_STORE_STORED, VC_STORE_STORED, VC_STORE_STORED, VC_STORE_STORED,
      VC_STORE_ERASED, VC_STORE_ERASED, VC_STORE_STORED, VC_STORE_REPEATED};
  struct vc_store_row rows[N];
  for (size_t i = 0; i < N; i++) {
    rows[i] = (struct vc_store_row){.value = values[i], .size = strlen(values[i])};
  }
  assert_int_equal(vc_store_write(store, rows, N, &error), 0);
  for (size_t i = 0; i < N; i++) {
    assert_int_equal(rows[i].outcome, expected[i]);
    free(values[i]);
  }
  assert_int_equal(n_kept("demo"), 1);
  assert_int_equal(n_kept("other"), 1);
  // The tombstone outlasts the batch and the connection.
  vc_store_close(&store);
  assert_int_equal(vc_store_open(&store, place.url, &error), 0);
  assert_int_equal(write_one(record_final("demo", E1 + 5, 3, "c", "late")), VC_STORE_ERASED);
  assert_int_equal(vc_store_last_epoch(store, "demo", &error), E1 + 6);
}

static void test_the_dead_are_erased_too(void **state)
{
  write_one(record_final("demo", E1, 1, "a", "one"));
  assert_int_equal(write_one(record_final("demo", E1, 1, "a", "whispered")), VC_STORE_CONFLICT);
  assert_int_equal(write_one(record_erased("demo", E1)), VC_STORE_STORED);
  assert_false(place_holds(&place, "whispered"));
  assert_int_equal(write_one(record_final("demo", E1, 1, "a", "whispered")), VC_STORE_ERASED);
  vc_store_close(&store);
  assert_false(place_holds(&place, "whispered"));
}

static void test_an_erasure_is_rolled_back_with_its_batch(void **state)
{
  struct vc_error error;
  write_one(record_final("demo", E1, 1, "a", "one"));
  char *value = record_erased("demo", E1);
  struct vc_store_row row = {.value = value, .size = strlen(value)};
  const struct vc_store_position position = {"t", 0, 5, 6};
  const struct vc_store_batch batch = {.rows = &row,
                                       .n_rows = 1,
                                       .cluster = "c1",
                                       .group = "g",
                                       .positions = &position,
                                       .n_positions = 1};
  assert_int_equal(vc_store_write_batch(store, &batch, &error), 1);
  assert_int_equal(n_kept("demo"), 1);
  assert_int_equal(write_one(record_final("demo", E1, 2, "b", "two")), VC_STORE_STORED);
  free(value);
}

#define N_ERASURES 20

static _Atomic int n_erased;

// Who has to wait for too long for the other tries again.
static void *erase_often(void *context)
{
  struct vc_error error;
  while (n_erased < N_ERASURES) {
    n_erased += vc_store_erase(context, "demo", E1 + n_erased, E1, &error) >= 0;
  }
  return NULL;
}

// A writer that looks for tombstones before one is there, and writes after.
static void test_nothing_slips_in_behind_an_erasure(void **state)
{
  pthread_t thread;
  struct vc_store *eraser;
  struct vc_error error;
  n_erased = 0;
  assert_int_equal(vc_store_open(&eraser, place.url, &error), 0);
  assert_int_equal(pthread_create(&thread, NULL, erase_often, eraser), 0);
  for (uint64_t seq = 1; n_erased < N_ERASURES; seq++) {
    char id[32];
    snprintf(id, sizeof id, "1-0-%d", (int)seq);
    char *value = record_final("demo", E1 + n_erased, seq, id, "text");
    struct vc_store_row row = {.value = value, .size = strlen(value)};
    vc_store_write(store, &row, 1, &error);
    free(value);
  }
  pthread_join(thread, NULL);
  vc_store_close(&eraser);
  assert_int_equal(vc_store_erase(store, "demo", E1 + N_ERASURES - 1, E1, &error), 0);
}

// --- expiry

static struct vc_store_expiry expiry;

// Returns: how many are gone.
static long expire(int64_t before, long most)
{
  struct vc_error error = {.text = ""};
  assert_int_equal(vc_store_expire(store, before, most, &expiry, &error), 0);
  return expiry.n_gone;
}

// record_ended says 60 s after the epoch, record_final was received 2 s after it.
static void test_what_ended_before_goes(void **state)
{
  write_one(record_final("ended", E1, 1, "a", "x"));
  write_one(record_ended("ended", E1, "publisher_left"));
  assert_int_equal(expire(E1 + 60000, 10), 0);
  assert_int_equal(n_kept("ended"), 1);
  assert_int_equal(expire(E1 + 60001, 10), 1);
  assert_int_equal(n_kept("ended"), 0);
  assert_int_equal(expire(E1 + 60001, 10), 0);
}

static void test_without_an_end_the_last_final_counts(void **state)
{
  write_one(record_final("open", E1, 1, "a", "x"));
  assert_int_equal(expire(E1 + 1000, 10), 0);
  assert_int_equal(expire(E1 + 2000, 10), 0);
  assert_int_equal(expire(E1 + 2001, 10), 1);
}

static void test_without_finals_the_begin_counts(void **state)
{
  write_one(record_started("silent", E1));
  assert_int_equal(expire(E1, 10), 0);
  assert_int_equal(expire(E1 + 1, 10), 1);
  assert_int_equal(expire(E1 + 1, 10), 0);
}

static void test_expiry_is_bounded(void **state)
{
  for (int64_t i = 0; i < 5; i++) {
    write_one(record_ended("demo", E1 + i, "crash"));
  }
  assert_int_equal(expire(E1 * 2, 2), 2);
  assert_int_equal(expire(E1 * 2, 2), 2);
  assert_int_equal(expire(E1 * 2, 2), 1);
  assert_int_equal(expire(E1 * 2, 2), 0);
}

static void test_many_expire(void **state)
{
  for (int64_t i = 0; i < 33; i++) {
    write_one(record_final("demo", E1 + i, 1, "a", "x"));
  }
  assert_int_equal(expire(E1 * 2, 25), 25);
  assert_int_equal(n_kept("demo"), 8);
  assert_int_equal(expire(E1 * 2, 25), 8);
  assert_int_equal(n_kept("demo"), 0);
}

static void test_what_expired_leaves_nothing(void **state)
{
  write_one(record_final("demo", E1, 1, "a", "one"));
  assert_int_equal(write_one(record_final("demo", E1, 1, "a", "whispered")), VC_STORE_CONFLICT);
  assert_int_equal(expire(E1 + 5000, 10), 1);
  assert_false(place_holds(&place, "whispered"));
  // It is no erasure: what comes late is kept, and expires again.
  assert_int_equal(write_one(record_final("demo", E1, 2, "b", "late")), VC_STORE_STORED);
  assert_int_equal(n_kept("demo"), 1);
  assert_int_equal(expire(E1 + 5000, 10), 1);
}

static void hold_sessions(const char *which)
{
  char sql[512];
  snprintf(sql, sizeof sql,
           place.postgres != NULL
               ? "CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE"
                 " ''it is held''; END'; CREATE TRIGGER hold BEFORE DELETE ON sessions FOR EACH ROW"
                 " WHEN (old.slug LIKE '%s') EXECUTE FUNCTION hold()"
               : "CREATE TRIGGER hold BEFORE DELETE ON sessions WHEN old.slug LIKE '%s'"
                 " BEGIN SELECT RAISE(ABORT, 'it is held'); END",
           which);
  place_run(&place, sql);
}

static void let_go(void)
{
  place_run(&place, place.postgres != NULL ? "DROP TRIGGER hold ON sessions; DROP FUNCTION hold()"
                                           : "DROP TRIGGER hold");
}

// Eight that ended one after the other, the youngest written first.
static void end_eight(void)
{
  static const char *const slugs[] = {"a", "b", "c", "d", "e", "f", "g", "h"};
  for (int i = 7; i >= 0; i--) {
    write_one(record_final(slugs[i], E1 + i, 1, "u", "x"));
    write_one(record_ended(slugs[i], E1 + i, "crash"));
  }
}

static void test_the_oldest_goes_first(void **state)
{
  end_eight();
  write_one(record_started("0", E1 - 1)); // without an end
  assert_int_equal(expire(E1 * 2, 3), 3);
  assert_true(expiry.has_more);
  assert_int_equal(n_kept("a") + n_kept("b"), 0);
  assert_int_equal(n_kept("c"), 1);
  assert_int_equal(expire(E1 * 2, 10), 6);
  assert_false(expiry.has_more);
}

static void test_what_cannot_be_deleted_is_passed_over(void **state)
{
  end_eight();
  hold_sessions("d");
  assert_int_equal(expire(E1 * 2, 10), 7);
  assert_int_equal(expiry.n_kept, 1);
  assert_non_null(strstr(expiry.why.text, "it is held"));
  assert_int_equal(n_kept("d"), 1);
  assert_int_equal(expire(E1 * 2, 10), 0);
  assert_int_equal(expiry.n_kept, 1);
  let_go();
  assert_int_equal(expire(E1 * 2, 10), 1);
  assert_int_equal(n_kept("d"), 0);
}

// More than a call looks at: the next goes on behind them, and then it is their turn again.
static void test_many_that_cannot_be_deleted_are_in_nobodys_way(void **state)
{
  end_eight();
  place_run(&place, "UPDATE sessions SET slug = 'held' || slug WHERE slug < 'f'");
  hold_sessions("held%");
  assert_int_equal(expire(E1 * 2, 4), 0);
  assert_int_equal(expiry.n_kept, 4);
  assert_true(expiry.has_more);
  assert_int_equal(expire(E1 * 2, 5), 3);
  assert_int_equal(expiry.n_kept, 1);
  assert_false(expiry.has_more);
  let_go();
  assert_int_equal(expire(E1 * 2, 10), 5);
}

// Another connection's deletion gives a row's id to the next session; this one remembered it.
static void test_expired_beside_a_writer(void **state)
{
  struct vc_store *other;
  struct vc_error error;
  write_one(record_final("old", E1, 1, "a", "x"));
  assert_int_equal(vc_store_open(&other, place.url, &error), 0);
  assert_int_equal(vc_store_expire(other, E1 + 5000, 10, &expiry, &error), 0);
  assert_int_equal(expiry.n_gone, 1);
  char *value = record_final("new", E1 + 9000, 1, "a", "x");
  struct vc_store_row row = {.value = value, .size = strlen(value)};
  assert_int_equal(vc_store_write(other, &row, 1, &error), 0);
  free(value);
  assert_int_equal(write_one(record_final("old", E1, 2, "b", "late")), VC_STORE_STORED);
  assert_int_equal(n_kept("old"), 1);
  assert_int_equal(n_kept("new"), 1);
  vc_store_close(&other);
}

int main(void)
{
#define WITH_STORE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
  const struct CMUnitTest tests[] = {
      WITH_STORE(test_rows_and_positions_are_one),
      WITH_STORE(test_a_position_is_begun_once),
      WITH_STORE(test_a_position_that_is_missing),
      WITH_STORE(test_no_rows),
      WITH_STORE(test_two_that_race_write_once),
      WITH_STORE(test_the_dead_are_buried_before_the_commit),
      WITH_STORE(test_nobody_is_called_for_the_living),
      WITH_STORE(test_another_cluster),
      WITH_STORE(test_positions_are_forgotten_on_demand),
      WITH_STORE(test_an_erasure_among_finals),
      WITH_STORE(test_the_dead_are_erased_too),
      WITH_STORE(test_an_erasure_is_rolled_back_with_its_batch),
      WITH_STORE(test_nothing_slips_in_behind_an_erasure),
      WITH_STORE(test_what_ended_before_goes),
      WITH_STORE(test_without_an_end_the_last_final_counts),
      WITH_STORE(test_without_finals_the_begin_counts),
      WITH_STORE(test_expiry_is_bounded),
      WITH_STORE(test_many_expire),
      WITH_STORE(test_what_expired_leaves_nothing),
      WITH_STORE(test_the_oldest_goes_first),
      WITH_STORE(test_what_cannot_be_deleted_is_passed_over),
      WITH_STORE(test_many_that_cannot_be_deleted_are_in_nobodys_way),
      WITH_STORE(test_expired_beside_a_writer),
  };
  return cmocka_run_group_tests_name("store/batch", tests, NULL, NULL);
}
