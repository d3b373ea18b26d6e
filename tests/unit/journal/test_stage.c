// Records go in, are committed in groups, and leave through the relay once and in order.
#include "rig.h"

#include <sqlite3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <verbacast/base/log.h>
#include <verbacast/wire/json.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define E1 INT64_C(1790000000000)

static struct rig rig;

static int set_up(void **state)
{
  rig_init(&rig);
  return 0;
}

static int tear_down(void **state)
{
  rig_fini(&rig);
  return 0;
}

static void test_in_order_and_gone(void **state)
{
  enum { N = 1000 };
  rig_start(&rig);
  for (uint64_t seq = 1; seq <= N; seq++) {
    rig_final(&rig, seq % 2 ? "odd" : "even", E1, seq);
  }
  rig_wait_kept(&rig, N);
  rig_wait_metric(&rig, "journal.rows", 0);
  rig_wait_metric(&rig, "journal.bytes", 0);
  assert_int_equal(rig_metric(&rig, "journal.committed_total"), N);
  assert_int_equal(rig_metric(&rig, "journal.relayed_total"), N);
  assert_int_equal(rig_metric(&rig, "journal.lost_total"), 0);
  assert_int_equal(rig_metric(&rig, "journal.backlog_bytes"), 0);
  assert_int_equal(rig_stop(&rig, 2000), 0);
  uint64_t seq = 0;
  for (size_t i = 0; i < N; i++) {
    struct vc_record_parsed record;
    const char *why;
    assert_int_equal(vc_record_parse(rig.kept[i], strlen(rig.kept[i]), &record, &why), 0);
    assert_int_equal(record.fields.seq, ++seq);
    vc_record_parsed_fini(&record);
  }
}

static void test_a_group_is_one_commit(void **state)
{
  struct vc_distribution commits;
  rig.options.journal_commit_ms = 10000;
  rig_refuse(&rig);
  rig_start(&rig);
  for (uint64_t seq = 1; seq <= 200; seq++) {
    rig_final(&rig, "demo", E1, seq);
  }
  // The stop does not wait for the ten seconds, and is what commits them.
  assert_int_equal(vc_journal_stop(rig.journal, 1), 0);
  assert_int_equal(rig_metric(&rig, "journal.committed_total"), 200);
  assert_int_equal(vc_metrics_distribution(rig.metrics, "journal.commit_ms", &commits), 0);
  assert_int_equal(commits.count_total, 1);
}

static void test_batches_are_bounded(void **state)
{
  rig.sink_most = 7;
  rig_refuse(&rig);
  rig_start(&rig);
  for (uint64_t seq = 1; seq <= 70; seq++) {
    rig_final(&rig, "demo", E1, seq);
  }
  rig_wait_metric(&rig, "journal.committed_total", 70);
  rig_accept(&rig);
  rig_wait_kept(&rig, 70);
  assert_in_range(rig.n_batches, 10, 70);
}

static void test_the_sink_is_away_and_returns(void **state)
{
  char reason[128];
  rig_refuse(&rig);
  rig_start(&rig);
  rig_final(&rig, "demo", E1, 1);
  rig_wait_refused(&rig);
  rig_wait_refused(&rig);
  assert_true(rig_is_degraded(&rig, "database", reason));
  assert_string_equal(reason, "the sink refuses");
  assert_false(rig_is_degraded(&rig, "journal", NULL));
  assert_true(rig_metric(&rig, "journal.relay_errors_total") >= 2);
  rig_final(&rig, "demo", E1, 2);
  rig_wait_metric(&rig, "journal.rows", 2);
  rig_accept(&rig);
  rig_wait_kept(&rig, 2);
  rig_wait_degraded(&rig, "database", 0);
  rig_wait_metric(&rig, "journal.rows", 0);
  assert_int_equal(rig_n_finals(&rig, "demo", E1, 1), 1);
  assert_int_equal(rig_n_finals(&rig, "demo", E1, 2), 1);
}

static void wait_stuck(int wanted)
{
  for (int i = 0; i < RIG_PATIENCE_MS && vc_journal_is_relay_stuck(rig.journal, 20) != wanted;
       i++) {
    rig_pause();
  }
  assert_int_equal(vc_journal_is_relay_stuck(rig.journal, 20), wanted);
}

// A sink that hangs is told; one that is away, though it is asked again and again, is not.
static void test_a_sink_that_hangs_is_told(void **state)
{
  rig_hang(&rig);
  rig_start(&rig);
  rig_final(&rig, "demo", E1, 1);
  wait_stuck(1);
  assert_false(rig_is_degraded(&rig, "database", NULL));
  rig_refuse(&rig);
  rig_wait_degraded(&rig, "database", 1);
  wait_stuck(0);
  rig_accept(&rig);
  rig_wait_kept(&rig, 1);
  wait_stuck(0);
}

// Whoever made the sink found it away, and nobody has said a word since.
static void test_the_sink_returns_before_the_first_row(void **state)
{
  struct vc_error error;
  rig_refuse(&rig);
  rig_create(&rig);
  vc_health_set(rig.health, "database", "it was away at the start");
  assert_int_equal(vc_journal_start(rig.journal, &error), 0);
  rig_wait_refused(&rig);
  assert_true(rig_is_degraded(&rig, "database", NULL));
  rig_accept(&rig);
  rig_wait_degraded(&rig, "database", 0);
}

static size_t n_empty(void)
{
  pthread_mutex_lock(&rig.mutex);
  size_t n = rig.n_empty;
  pthread_mutex_unlock(&rig.mutex);
  return n;
}

// One that has work of its own is called when nothing comes, and only one that asks for it.
static void test_an_idle_sink_is_called(void **state)
{
  rig.idle_ms = 1;
  rig_start(&rig);
  for (int i = 0; i < RIG_PATIENCE_MS && n_empty() < 3; i++) {
    rig_pause();
  }
  assert_true(n_empty() >= 3);
  assert_int_equal(rig_stop(&rig, 0), 0);
  rig.idle_ms = 0;
  rig.n_empty = 0;
  rig_start(&rig);
  rig_final(&rig, "demo", E1, 1);
  rig_wait_metric(&rig, "journal.relayed_total", 1);
  rig_wait_metric(&rig, "journal.rows", 0);
  assert_int_equal(rig_stop(&rig, 0), 0);
  assert_int_equal(rig.n_empty, 0);
}

static void test_stop_with_the_sink_away_keeps_the_rows(void **state)
{
  rig_refuse(&rig);
  rig_start(&rig);
  for (uint64_t seq = 1; seq <= 10; seq++) {
    rig_final(&rig, "demo", E1, seq);
  }
  assert_int_equal(rig_stop(&rig, 300), 0);
  assert_int_equal(rig.n_kept, 0);
  rig_accept(&rig);
  rig_start(&rig);
  rig_wait_kept(&rig, 10);
  assert_int_equal(rig_stop(&rig, 2000), 0);
  rig_start(&rig);
  assert_int_equal(rig_metric(&rig, "journal.rows"), 0);
  assert_int_equal(rig_stop(&rig, 2000), 0);
  for (uint64_t seq = 1; seq <= 10; seq++) {
    assert_int_equal(rig_n_finals(&rig, "demo", E1, seq), 1);
  }
}

// The stop sends what was put a moment before, and a new start has nothing to send again.
static void test_stop_flushes(void **state)
{
  for (int life = 0; life < 10; life++) {
    rig_start(&rig);
    for (uint64_t seq = 1; seq <= 20; seq++) {
      rig_final(&rig, "demo", E1 + life, seq);
    }
    assert_int_equal(rig_stop(&rig, RIG_PATIENCE_MS), 0);
    assert_int_equal(rig.n_kept, 20 * (life + 1));
  }
}

static void test_without_a_sink(void **state)
{
  struct vc_error error;
  rig.metrics = vc_metrics_create(&vc_clock_system);
  assert_int_equal(vc_journal_create(&rig.journal,
                                     &(struct vc_journal_settings){.options = &rig.options,
                                                                   .clock = &vc_clock_system,
                                                                   .metrics = rig.metrics},
                                     &error),
                   0);
  rig.putter = vc_putter_create(vc_journal_stage(rig.journal));
  assert_int_equal(vc_journal_start(rig.journal, &error), 0);
  rig_final(&rig, "demo", E1, 1);
  rig_wait_metric(&rig, "journal.relayed_total", 1);
  rig_wait_metric(&rig, "journal.rows", 0);
}

static void test_full(void **state)
{
  rig.options.journal_max_bytes = 65536;
  rig_refuse(&rig);
  rig_start(&rig);
  assert_null(vc_journal_refusal(rig.journal));
  uint64_t seq = 0;
  while (seq < 5000 && vc_journal_refusal(rig.journal) == NULL) {
    rig_final(&rig, "demo", E1, ++seq);
    rig_wait_metric(&rig, "journal.committed_total", seq);
  }
  assert_in_range(seq, 50, 500);
  // What goes on goes on: only new sessions are refused.
  rig_final(&rig, "demo", E1, ++seq);
  rig_wait_metric(&rig, "journal.committed_total", seq);
  assert_int_equal(rig_stop(&rig, 0), 0);
  // It starts all the same, and says so at once.
  rig_start(&rig);
  assert_non_null(vc_journal_refusal(rig.journal));
  rig_wait_degraded(&rig, "journal", 1);
  rig_accept(&rig);
  rig_wait_kept(&rig, seq);
  rig_wait_metric(&rig, "journal.rows", 0);
  assert_null(vc_journal_refusal(rig.journal));
  rig_wait_degraded(&rig, "journal", 0);
}

static void test_erase(void **state)
{
  rig_refuse(&rig);
  rig_start(&rig);
  for (uint64_t seq = 1; seq <= 100; seq++) {
    rig_final(&rig, "gone", E1, seq);
  }
  rig_final(&rig, "gone", E1 + 1, 1);
  rig_final(&rig, "other", E1, 1);
  rig_wait_metric(&rig, "journal.rows", 102);
  uint64_t bytes = rig_metric(&rig, "journal.bytes");
  assert_int_equal(rig_erase(&rig, "gone", E1), 200);
  assert_int_equal(rig_erase(&rig, "nobody", E1), 200);
  rig_wait_metric(&rig, "journal.rows", 2);
  assert_true(rig_metric(&rig, "journal.bytes") < bytes / 20);
  assert_false(folder_holds(&rig.folder, "what-gone-said-1790000000000-"));
  assert_true(folder_holds(&rig.folder, "what-other-said-1790000000000-1."));
  rig_accept(&rig);
  rig_wait_kept(&rig, 2);
  assert_int_equal(rig_n_finals(&rig, "gone", E1 + 1, 1), 1);
  assert_int_equal(rig_n_finals(&rig, "other", E1, 1), 1);
  rig_wait_metric(&rig, "journal.rows", 0);
  rig_wait_metric(&rig, "journal.bytes", 0);
}

static size_t n_notices(const char *slug, int64_t epoch)
{
  size_t n = 0;
  for (size_t i = 0; i < rig.n_kept; i++) {
    struct vc_record_parsed record;
    const char *why;
    assert_int_equal(vc_record_parse(rig.kept[i], strlen(rig.kept[i]), &record, &why), 0);
    if (record.fields.type == VC_RECORD_TYPE_SESSION_ERASED) {
      assert_string_equal(record.fields.session, slug);
      assert_string_equal(record.fields.node, "a1");
      assert_int_equal(record.fields.epoch, epoch);
      assert_true(record.fields.erased_at_ms > 0);
      n++;
    }
    vc_record_parsed_fini(&record);
  }
  return n;
}

// A sink that has others behind it is sent an erasure too; it stands behind what was there.
static void test_an_erasure_is_sent(void **state)
{
  rig.erased_by = "a1";
  rig_refuse(&rig);
  rig_start(&rig);
  rig_final(&rig, "gone", E1, 1);
  rig_final(&rig, "other", E1, 1);
  rig_wait_metric(&rig, "journal.rows", 2);
  assert_int_equal(rig_erase(&rig, "gone", E1 + 5), 200);
  rig_accept(&rig);
  rig_wait_kept(&rig, 2);
  assert_int_equal(n_notices("gone", E1 + 5), 1);
  assert_int_equal(rig.last_kind, VC_RECORD_SESSION_ERASED);
  assert_int_equal(rig_n_finals(&rig, "other", E1, 1), 1);
  assert_int_equal(rig_stop(&rig, RIG_PATIENCE_MS), 0);
  rig_start(&rig); // its number is not given again
  assert_int_equal(vc_journal_highest_epoch(rig.journal), E1 + 5);
}

static void test_an_erasure_is_sent_to_nobody(void **state)
{
  rig_start(&rig);
  assert_int_equal(rig_erase(&rig, "gone", E1), 200);
  assert_int_equal(rig_stop(&rig, RIG_PATIENCE_MS), 0);
  assert_int_equal(rig.n_kept, 0);
}

// What is not committed yet goes too. (Two putters have no order: the finals are handled when the
// lane of the query that comes behind an answered one is.)
static void test_erase_what_is_pending(void **state)
{
  rig.options.journal_commit_ms = 10000;
  rig_refuse(&rig);
  rig_start(&rig);
  rig_final(&rig, "gone", E1, 1);
  rig_final(&rig, "other", E1, 1);
  for (uint64_t before = 0; before<2; before += rig_metric(&rig, "journal.backlog_bytes")> 0) {
    rig_erase(&rig, "nobody", E1);
  }
  assert_int_equal(rig_erase(&rig, "gone", E1), 200);
  rig_accept(&rig);
  assert_int_equal(rig_stop(&rig, RIG_PATIENCE_MS), 0);
  assert_int_equal(rig.n_kept, 1);
  assert_int_equal(rig_n_finals(&rig, "other", E1, 1), 1);
}

// --- rows that are dead

static int64_t read_file(const char *sql)
{
  sqlite3 *database;
  sqlite3_stmt *statement;
  assert_int_equal(sqlite3_open(rig.path, &database), SQLITE_OK);
  sqlite3_busy_timeout(database, RIG_PATIENCE_MS);
  assert_int_equal(sqlite3_prepare_v2(database, sql, -1, &statement, NULL), SQLITE_OK);
  int64_t number = sqlite3_step(statement) == SQLITE_ROW ? sqlite3_column_int64(statement, 0) : -1;
  sqlite3_finalize(statement);
  sqlite3_close(database);
  return number;
}

// They let those behind them pass, and lie where somebody may look at them.
static void test_dead_rows_are_not_in_the_way(void **state)
{
  rig.hopeless = "what-gone-said";
  rig_refuse(&rig);
  rig_start(&rig);
  rig_final(&rig, "gone", E1, 1);
  rig_final(&rig, "demo", E1, 1);
  rig_begin(&rig, "gone", E1 + 1);
  rig_final(&rig, "gone", E1 + 1, 2);
  rig_wait_metric(&rig, "journal.rows", 4);
  rig_accept(&rig);
  rig_wait_kept(&rig, 2);
  rig_wait_metric(&rig, "journal.dead_total", 2);
  rig_wait_metric(&rig, "journal.rows", 0);
  assert_int_equal(rig_metric(&rig, "journal.relayed_total"), 2);
  assert_int_equal(rig_n_finals(&rig, "demo", E1, 1), 1);
  rig_wait_degraded(&rig, "journal_dead", 1);
  assert_int_equal(read_file("SELECT count(*) FROM dead WHERE reason = 'it is too large' AND key ="
                             " 'gone' AND epoch >= 1790000000000 AND kind = 0 AND at > 1.7e9 AND"
                             " CAST(value AS TEXT) LIKE '%what-gone-said%'"),
                   2);
}

// It is said by the next life too, until somebody has cleared the table.
static void test_dead_rows_are_told_until_they_are_gone(void **state)
{
  char reason[128];
  rig.hopeless = "what-gone-said";
  rig_start(&rig);
  rig_final(&rig, "gone", E1, 1);
  rig_wait_metric(&rig, "journal.dead_total", 1);
  assert_int_equal(rig_stop(&rig, RIG_PATIENCE_MS), 0);
  rig_start(&rig);
  assert_true(rig_is_degraded(&rig, "journal_dead", reason));
  assert_string_equal(reason, "1 records that no broker takes lie in its table dead");
  assert_int_equal(read_file("DELETE FROM dead RETURNING id"), 1);
  rig_wait_degraded(&rig, "journal_dead", 0);
}

static void test_dead_rows_are_erased(void **state)
{
  rig.hopeless = "what-gone-said";
  rig_start(&rig);
  rig_final(&rig, "gone", E1, 1);
  rig_final(&rig, "gone", E1 + 1, 1);
  rig_wait_metric(&rig, "journal.dead_total", 2);
  assert_int_equal(rig_erase(&rig, "gone", E1), 200);
  assert_int_equal(read_file("SELECT count(*) FROM dead"), 1);
  assert_true(rig_is_degraded(&rig, "journal_dead", NULL));
  assert_int_equal(rig_erase(&rig, "gone", E1 + 1), 200);
  assert_false(rig_is_degraded(&rig, "journal_dead", NULL));
  assert_false(folder_holds(&rig.folder, "what-gone-said"));
}

// --- what is on its way

// "1.2 1.3": epoch (less E1) and number of each record of the answer.
static const char *places_of(struct vc_query *query)
{
  static char places[512];
  const struct vc_buffer *reply = vc_query_reply(query);
  places[0] = '\0';
  json_t *list = reply != NULL ? vc_json_parse((const char *)reply->data, reply->size, NULL) : NULL;
  assert_true(reply == NULL || list != NULL);
  for (size_t i = 0; i < json_array_size(list); i++) {
    struct vc_record_fields fields;
    char place[64];
    assert_null(vc_record_read(json_array_get(list, i), &fields));
    snprintf(place, sizeof place, "%s%d.%d", i > 0 ? " " : "", (int)(fields.epoch - E1),
             (int)fields.seq);
    strncat(places, place, sizeof places - strlen(places) - 1);
  }
  json_decref(list);
  return places;
}

static void expect_unrelayed(const char *slug, int status, const char *places)
{
  struct vc_query *query = rig_unrelayed(&rig, slug);
  assert_int_equal(vc_query_status(query), status);
  assert_string_equal(places_of(query), places);
  assert_true(vc_query_is_complete(query));
  vc_query_unref(query);
}

static void test_what_is_on_its_way_is_told(void **state)
{
  rig_refuse(&rig);
  rig_start(&rig);
  rig_begin(&rig, "demo", E1);
  rig_final(&rig, "demo", E1, 2);
  rig_final(&rig, "other", E1, 7);
  rig_final(&rig, "demo", E1 + 1, 1);
  rig_wait_metric(&rig, "journal.rows", 4);
  expect_unrelayed("demo", 200, "0.0 0.2 1.1");
  expect_unrelayed("other", 200, "0.7");
  expect_unrelayed("nobody", 404, "");
  rig_accept(&rig);
  rig_wait_metric(&rig, "journal.rows", 0);
  expect_unrelayed("demo", 404, "");
}

static void test_what_is_not_committed_is_told_too(void **state)
{
  rig.options.journal_commit_ms = 10000;
  rig_refuse(&rig);
  rig_start(&rig);
  rig_final(&rig, "other", E1, 1);
  rig_final(&rig, "demo", E1, 1);
  rig_final(&rig, "demo", E1, 2);
  rig_wait_metric(&rig, "stage.items_total", 3);
  expect_unrelayed("demo", 200, "0.1 0.2");
  assert_int_equal(rig_metric(&rig, "journal.committed_total"), 0);
}

// An answer is bounded, and says so.
static void test_much_on_its_way_is_cut(void **state)
{
  enum { N = 9, SIZE = 2 * 1024 * 1024 };
  char *text = malloc(SIZE);
  assert_non_null(text);
  memset(text, 'x', SIZE - 1);
  text[SIZE - 1] = '\0';
  rig_refuse(&rig);
  rig_start(&rig);
  for (uint64_t seq = 1; seq <= N; seq++) {
    rig_put(&rig, VC_RECORD_FINAL, "demo", E1, seq,
            record_final("demo", E1, seq, (char[]){(char)('0' + seq), 0}, text));
  }
  free(text);
  rig_wait_metric(&rig, "journal.committed_total", N);
  struct vc_query *query = rig_unrelayed(&rig, "demo");
  assert_int_equal(vc_query_status(query), 200);
  assert_string_equal(places_of(query), "0.1 0.2 0.3 0.4 0.5 0.6 0.7");
  assert_false(vc_query_is_complete(query));
  vc_query_unref(query);
}

// --- what is lost, under a clock that stands: nothing becomes due

static _Atomic uint64_t hand_ns;

static uint64_t read_hand(void *context)
{
  return atomic_load(&hand_ns);
}

static int64_t read_unix(void *context)
{
  return E1 * 1000;
}

static size_t n_times(const char *text, const char *what)
{
  size_t n = 0;
  for (const char *at = strstr(text, what); at != NULL; at = strstr(at + 1, what)) {
    n++;
  }
  return n;
}

static void test_a_storm_of_lost_records_is_a_line(void **state)
{
  static const struct vc_clock hand = {.monotonic_ns = read_hand, .unix_us = read_unix};
  enum { N = 101 };
  rig.clock = &hand;
  rig.pending_max_bytes = 1; // none fits
  atomic_store(&hand_ns, VC_NS_PER_S);
  rig_start(&rig);
  rig_log_begin(&rig);
  for (uint64_t seq = 1; seq <= N; seq++) {
    rig_final(&rig, "demo", E1, seq);
  }
  rig_wait_metric(&rig, "journal.lost_total", N);
  atomic_fetch_add(&hand_ns, 10 * VC_NS_PER_S); // the rest is told without another one
  vc_stage_wake(vc_journal_stage(rig.journal));
  assert_int_equal(rig_stop(&rig, RIG_PATIENCE_MS), 0);
  const char *text = rig_log_end(&rig);
  assert_int_equal(n_times(text, "event=journal.lost "), 2);
  assert_non_null(
      strstr(text, "event=journal.lost session=demo epoch=1790000000000 seq=1 left_out=0"));
  assert_non_null(strstr(text, "event=journal.lost left_out=100"));
}

int main(void)
{
#define WITH_RIG(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
  const struct CMUnitTest tests[] = {
      WITH_RIG(test_in_order_and_gone),
      WITH_RIG(test_a_group_is_one_commit),
      WITH_RIG(test_batches_are_bounded),
      WITH_RIG(test_the_sink_is_away_and_returns),
      WITH_RIG(test_a_sink_that_hangs_is_told),
      WITH_RIG(test_the_sink_returns_before_the_first_row),
      WITH_RIG(test_an_idle_sink_is_called),
      WITH_RIG(test_stop_with_the_sink_away_keeps_the_rows),
      WITH_RIG(test_stop_flushes),
      WITH_RIG(test_without_a_sink),
      WITH_RIG(test_full),
      WITH_RIG(test_erase),
      WITH_RIG(test_an_erasure_is_sent),
      WITH_RIG(test_an_erasure_is_sent_to_nobody),
      WITH_RIG(test_erase_what_is_pending),
      WITH_RIG(test_dead_rows_are_not_in_the_way),
      WITH_RIG(test_dead_rows_are_told_until_they_are_gone),
      WITH_RIG(test_dead_rows_are_erased),
      WITH_RIG(test_what_is_on_its_way_is_told),
      WITH_RIG(test_what_is_not_committed_is_told_too),
      WITH_RIG(test_much_on_its_way_is_cut),
      WITH_RIG(test_a_storm_of_lost_records_is_a_line),
  };
  vc_log_level_set(VC_LOG_ERROR);
  return cmocka_run_group_tests_name("journal/stage", tests, NULL, NULL);
}
