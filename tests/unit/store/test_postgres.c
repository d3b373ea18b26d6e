// What is PostgreSQL's alone: URLs with passwords, many that begin at once, a server that crashes
// or freezes, rows that it refuses.
#include "place.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define E1 INT64_C(1790000000000)
#define N_OPENERS 4

static struct place place;
static struct vc_store *store;

static int set_up(void **state)
{
  place_make(&place);
  return 0;
}

static int set_up_store(void **state)
{
  return place_open(&place, &store);
}

static int tear_down(void **state)
{
  return place_close(&place, &store);
}

static const char *ask(const char *sql)
{
  return place_ask(&place, sql, sql);
}

static void tell_server(const char *action)
{
  char command[1024];
  int n = snprintf(command, sizeof command, "%s %s", getenv("VC_TEST_SERVER"), action);
  assert_in_range(n, 1, sizeof command - 1);
  assert_int_equal(system(command), 0); // NOLINT(cert-env33-c): the runner's own
}

// --- URLs

static void test_urls(void **state)
{
  struct vc_error error;
  static const char *const good[] = {"postgresql://h/d", "postgres://u:p@h:5432/d?sslmode=require",
                                     "postgresql://u:p@[::1]:5432,h2:5433/d"};
  static const char *const bad[] = {"postgresql://u:hunter2@[::1/d",
                                    "postgresql://u@h/d?password=hunter2",
                                    "postgresql://u@h/d?%70assword=hunter2",
                                    "postgresql://u@h/d?no=hunter2",
                                    "postgresql://u:hunter2@h/d?sslpassword=hunter2",
                                    "postgresql://u:hun%ter2@h/d"};
  for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
    assert_int_equal(vc_store_check_url(good[i], &error), 0);
  }
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    assert_int_equal(vc_store_check_url(bad[i], &error), -1);
    assert_non_null(strstr(error.text, "allowed: sqlite:PATH, postgresql://"));
    assert_null(strstr(error.text, "hun"));
    assert_int_equal(vc_store_open(&store, bad[i], &error), -1);
    assert_null(strstr(error.text, "hun"));
    assert_null(store);
  }
}

static void test_nobody_there(void **state)
{
  static const char *const urls[] = {"postgresql://u:hunter2@127.0.0.1:1/d",
                                     "postgresql://u:hunter2@127.0.0.1:port/d"};
  for (size_t i = 0; i < sizeof urls / sizeof *urls; i++) {
    struct vc_error error = {.text = ""};
    assert_int_equal(vc_store_open(&store, urls[i], &error), -1);
    assert_true(strlen(error.text) > strlen("store: PostgreSQL: "));
    assert_null(strstr(error.text, "hunter2"));
  }
}

// --- tables

static void test_existing_creates_nothing(void **state)
{
  struct vc_error error;
  char *value = record_started("demo", E1);
  struct vc_store_row row = {.value = value, .size = strlen(value)};
  assert_int_equal(vc_store_open_existing(&store, place.url, &error), 0);
  assert_int_equal(vc_store_write(store, &row, 1, &error), -1);
  free(value);
  assert_string_equal(ask("SELECT count(*) FROM pg_class WHERE relnamespace ="
                          " current_schema()::regnamespace"),
                      "0");
}

// The tables are the contract with whoever reads them with a program of their own.
static void test_tables(void **state)
{
  place_run(&place, "SELECT id, slug, epoch, node, started_at, ended_at FROM sessions");
  place_run(&place, "SELECT id, session_id, label FROM participants");
  place_run(&place, "SELECT cluster_id, grp, topic, partition, next_offset FROM offsets");
  place_run(&place, "SELECT id, session_id, participant_id, utterance_id, seq, text, language,"
                    " confidence, start_s, end_s, words, received_at, approximate"
                    " FROM transcripts");
}

static void test_newer_version_is_refused(void **state)
{
  struct vc_error error;
  vc_store_close(&store);
  place_run(&place, "UPDATE schema_version SET version = 99");
  assert_int_equal(vc_store_open(&store, place.url, &error), -1);
  assert_non_null(strstr(error.text, "version 99"));
  assert_null(store);
  assert_string_equal(ask("SELECT version FROM schema_version"), "99");
}

static void open_and_exit(void)
{
  struct vc_store *mine = NULL;
  struct vc_error error;
  int status = vc_store_open(&mine, place.url, &error);
  vc_store_close(&mine);
  _exit(status == 0 ? 0 : 1);
}

static void test_many_begin_at_once(void **state)
{
  pid_t pids[N_OPENERS];
  for (size_t i = 0; i < N_OPENERS; i++) {
    pids[i] = fork();
    assert_true(pids[i] >= 0);
    if (pids[i] == 0) {
      open_and_exit();
    }
  }
  for (size_t i = 0; i < N_OPENERS; i++) {
    int status = -1;
    assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
    assert_int_equal(status, 0);
  }
  assert_string_equal(ask("SELECT count(*) FROM schema_version"), "1");
}

// --- a server that goes

// One final that moves the position of "t" from `at`. Returns: as vc_store_write_batch.
static int move(int64_t at)
{
  struct vc_error error;
  char id[32];
  snprintf(id, sizeof id, "1-0-%d", (int)at);
  char *value = record_final("demo", E1, (uint64_t)at + 2, id, "text");
  struct vc_store_row row = {.value = value, .size = strlen(value)};
  const struct vc_store_position position = {"t", 0, at, at + 1};
  int status = vc_store_write_batch(store,
                                    &(struct vc_store_batch){.rows = &row,
                                                             .n_rows = 1,
                                                             .cluster = "c",
                                                             .group = "g",
                                                             .positions = &position,
                                                             .n_positions = 1},
                                    &error);
  free(value);
  return status;
}

static void test_a_crash_between_calls(void **state)
{
  int64_t at;
  struct vc_error error;
  assert_int_equal(move(-1), 0);
  assert_int_equal(vc_store_connections(store), 1);
  tell_server("crash");
  assert_int_equal(move(0), -1);
  assert_int_equal(move(0), -1);
  assert_int_equal(vc_store_find_position(store, "c", "g", "t", 0, &at, &error), -1);
  tell_server("start");
  assert_int_equal(move(0), 0);
  assert_int_equal(vc_store_find_position(store, "c", "g", "t", 0, &at, &error), 0);
  assert_int_equal(at, 1);
  assert_int_equal(vc_store_connections(store), 2);
  PQreset(place.postgres);
  char sql[128];
  snprintf(sql, sizeof sql, "SET search_path = %s", place.schema);
  place_run(&place, sql);
  assert_string_equal(ask("SELECT count(*) FROM transcripts"), "2");
}

static _Atomic int is_over;
static _Atomic int64_t reached;

// As whoever consumes does it: where a call fails, the positions tell what came of it.
static void *move_on(void *context)
{
  int64_t at = -1;
  struct vc_error error;
  while (!atomic_load(&is_over)) {
    int64_t found;
    int status = move(at);
    if (status == 0) {
      at++;
    } else if (vc_store_find_position(store, "c", "g", "t", 0, &found, &error) == 0) {
      at = found;
    }
    atomic_store(&reached, at);
  }
  return NULL;
}

static void wait_for(int64_t at)
{
  while (atomic_load(&reached) < at) {
    sched_yield();
  }
}

static void test_crashes_within_calls(void **state)
{
  pthread_t thread;
  atomic_store(&is_over, 0);
  atomic_store(&reached, -1);
  assert_int_equal(pthread_create(&thread, NULL, move_on, NULL), 0);
  for (int i = 0; i < 3; i++) {
    wait_for(atomic_load(&reached) + 20);
    tell_server("crash");
    tell_server("start");
  }
  wait_for(atomic_load(&reached) + 20);
  atomic_store(&is_over, 1);
  pthread_join(thread, NULL);
  PQreset(place.postgres);
  char sql[128], expected[32];
  snprintf(sql, sizeof sql, "SET search_path = %s", place.schema);
  place_run(&place, sql);
  // Each step is there once.
  snprintf(expected, sizeof expected, "%d", (int)atomic_load(&reached) + 1);
  assert_string_equal(ask("SELECT count(*) FROM transcripts"), expected);
  assert_string_equal(ask("SELECT max(seq) FROM transcripts"), expected);
  assert_string_equal(ask("SELECT next_offset + 1 FROM offsets"), expected);
}

// It returns at all: the runner's own time is the only clock here.
static void test_a_frozen_server(void **state)
{
  struct vc_error error = {.text = ""};
  struct vc_store *other = NULL;
  assert_int_equal(move(-1), 0);
  tell_server("freeze");
  int status = move(0);
  int opened = vc_store_open(&other, place.url, &error);
  tell_server("thaw");
  assert_int_equal(status, -1);
  assert_int_equal(opened, -1);
  assert_non_null(strstr(error.text, "no answer in time"));
  assert_int_equal(move(0), 0);
}

// --- what takes long

#define N_MANY 12000

// Takes the value. Returns: what became of it.
static enum vc_store_outcome write_one(char *value)
{
  struct vc_error error;
  struct vc_store_row row = {.value = value, .size = strlen(value)};
  assert_int_equal(vc_store_write(store, &row, 1, &error), 0);
  free(value);
  return row.outcome;
}

// Of "radio"; no statement may delete more than half of them.
static void put_many(void)
{
  write_one(record_final("radio", E1, 1, "u1", "Said."));
  place_run(&place, "INSERT INTO transcripts (session_id, utterance_id, seq, text, start_s, end_s)"
                    " SELECT session_id, 'u' || g, g * 100, 'Said.', 1, 2 FROM transcripts,"
                    " generate_series(2, 12000) g");
  place_run(&place, "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN IF"
                    " (SELECT count(*) FROM gone) > 6000 THEN RAISE ''too long''; END IF;"
                    " RETURN NULL; END'");
  place_run(&place, "CREATE TRIGGER refuse AFTER DELETE ON transcripts REFERENCING OLD TABLE AS"
                    " gone FOR EACH STATEMENT EXECUTE FUNCTION refuse()");
}

// What somebody else holds is waited for a moment only.
static void test_a_session_that_is_locked_is_passed_over(void **state)
{
  struct vc_store_expiry expiry;
  struct vc_error error;
  write_one(record_ended("held", E1, "crash"));
  write_one(record_ended("free", E1 + 1, "crash"));
  place_run(&place, "BEGIN; SELECT 1 FROM sessions WHERE slug = 'held' FOR UPDATE");
  assert_int_equal(vc_store_expire(store, E1 * 2, 10, &expiry, &error), 0);
  place_run(&place, "ROLLBACK");
  assert_int_equal(expiry.n_kept, 1);
  assert_int_equal(expiry.n_gone, 1);
  assert_int_equal(vc_store_expire(store, E1 * 2, 10, &expiry, &error), 0);
  assert_int_equal(expiry.n_gone, 1);
}

static void test_many_are_erased_in_parts(void **state)
{
  struct vc_error error;
  put_many();
  assert_int_equal(vc_store_erase(store, "radio", E1, E1, &error), N_MANY);
  assert_string_equal(ask("SELECT count(*) FROM transcripts"), "0");
  assert_string_equal(ask("SELECT count(*) FROM sessions"), "0");
  assert_string_equal(ask("SELECT slug FROM erasures"), "radio");
}

static void test_many_are_erased_by_a_record(void **state)
{
  put_many();
  assert_int_equal(write_one(record_erased("radio", E1)), VC_STORE_STORED);
  assert_string_equal(ask("SELECT count(*) FROM transcripts"), "0");
  assert_string_equal(ask("SELECT count(*) FROM sessions"), "0");
}

// --- what it refuses

static void test_a_refused_row_is_told_alone(void **state)
{
  enum { N = 100 };
  static char *values[N];
  static struct vc_store_row rows[N];
  struct vc_error error = {.text = ""};
  place_run(&place, "ALTER TABLE transcripts ADD CONSTRAINT no_elephants"
                    " CHECK (text NOT LIKE '%elephant%')");
  for (size_t i = 0; i < N; i++) {
    char id[32];
    snprintf(id, sizeof id, "1-0-%d", (int)i);
    values[i] = record_final("demo", E1, i + 1, id, i == 17 || i == 99 ? "an elephant" : "text");
    rows[i] = (struct vc_store_row){
        .key = "demo", .epoch = E1, .value = values[i], .size = strlen(values[i])};
  }
  assert_int_equal(vc_store_write(store, rows, N, &error), 0);
  for (size_t i = 0; i < N; i++) {
    assert_int_equal(rows[i].outcome, i == 17 || i == 99 ? VC_STORE_POISONED : VC_STORE_STORED);
    free(values[i]);
  }
  assert_string_equal(rows[17].why, "the database refuses it");
  assert_string_equal(ask("SELECT count(*) FROM transcripts"), "98");
  assert_string_equal(ask("SELECT count(*) || min(reason) || min(key) FROM dead"),
                      "2the database refuses itdemo");
}

// An index takes no text of any length.
static void test_long_keys_are_told_in_advance(void **state)
{
  struct vc_error error;
  char key[1200];
  memset(key, 'k', sizeof key - 1);
  key[sizeof key - 1] = '\0';
  char *values[] = {record_final("demo", E1, 1, key, "x"), record_final(key, E1, 1, "a", "x"),
                    record_erased(key, E1), record_final("demo", E1, 2, "b", "x")};
  enum { N = sizeof values / sizeof *values };
  struct vc_store_row rows[N];
  for (size_t i = 0; i < N; i++) {
    rows[i] = (struct vc_store_row){.key = key, .value = values[i], .size = strlen(values[i])};
  }
  assert_int_equal(vc_store_write(store, rows, N, &error), 0);
  for (size_t i = 0; i < N; i++) {
    assert_int_equal(rows[i].outcome, i < N - 1 ? VC_STORE_POISONED : VC_STORE_STORED);
    free(values[i]);
  }
  assert_non_null(strstr(rows[0].why, "longer than"));
}

// What was erased of a session before keeps out nothing of it that is newer.
static void test_long_keys_are_of_their_epoch(void **state)
{
  struct vc_error error = {.text = ""};
  char key[1200];
  memset(key, 'k', sizeof key - 1);
  key[sizeof key - 1] = '\0';
  char *values[] = {record_erased("demo", E1), record_final("demo", E1, 1, key, "x"),
                    record_final("demo", E1 + 1, 1, key, "x")};
  enum { N = sizeof values / sizeof *values };
  struct vc_store_row rows[N];
  for (size_t i = 0; i < N; i++) {
    rows[i] = (struct vc_store_row){.key = "demo", .value = values[i], .size = strlen(values[i])};
  }
  assert_int_equal(vc_store_write(store, rows, N, &error), 0);
  assert_int_equal(rows[1].outcome, VC_STORE_ERASED);
  assert_int_equal(rows[2].outcome, VC_STORE_POISONED);
  for (size_t i = 0; i < N; i++) {
    free(values[i]);
  }
}

// A key and a topic are whatever somebody sent, and so is a value: also none.
static void test_poison_of_any_kind(void **state)
{
  struct vc_error error = {.text = ""};
  struct vc_store_row rows[] = {{.topic = "\xff", .key = "\xfe", .value = "\xfd", .size = 1},
                                {.key = "demo", .value = NULL, .size = 0},
                                {.value = "", .size = 0}};
  assert_int_equal(vc_store_write(store, rows, 3, &error), 0);
  for (size_t i = 0; i < 3; i++) {
    assert_int_equal(rows[i].outcome, VC_STORE_POISONED);
  }
  assert_string_equal(ask("SELECT count(*) FROM dead"), "3");
}

// Only what says something of the session itself, and nothing of what was said, is told.
static void test_errors_hold_no_text(void **state)
{
  struct vc_error error = {.text = ""};
  char *value = record_final("demo", E1, 1, "a", "whispered");
  struct vc_store_row row = {.value = value, .size = strlen(value)};
  place_run(&place, "ALTER TABLE transcripts ADD CONSTRAINT nothing CHECK (false);"
                    "DROP TABLE dead");
  assert_int_equal(vc_store_write(store, &row, 1, &error), -1);
  assert_true(error.text[0] != '\0');
  assert_null(strstr(error.text, "whispered"));
  free(value);
}

int main(void)
{
#define WITH_PLACE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
#define WITH_STORE(test) cmocka_unit_test_setup_teardown(test, set_up_store, tear_down)
  const struct CMUnitTest tests[] = {
      WITH_PLACE(test_urls),
      WITH_PLACE(test_nobody_there),
      WITH_PLACE(test_existing_creates_nothing),
      WITH_STORE(test_tables),
      WITH_STORE(test_newer_version_is_refused),
      WITH_PLACE(test_many_begin_at_once),
      WITH_STORE(test_a_crash_between_calls),
      WITH_STORE(test_crashes_within_calls),
      WITH_STORE(test_a_frozen_server),
      WITH_STORE(test_a_session_that_is_locked_is_passed_over),
      WITH_STORE(test_many_are_erased_in_parts),
      WITH_STORE(test_many_are_erased_by_a_record),
      WITH_STORE(test_a_refused_row_is_told_alone),
      WITH_STORE(test_long_keys_are_told_in_advance),
      WITH_STORE(test_long_keys_are_of_their_epoch),
      WITH_STORE(test_poison_of_any_kind),
      WITH_STORE(test_errors_hold_no_text),
  };
  return cmocka_run_group_tests_name("store/postgres", tests, NULL, NULL);
}
