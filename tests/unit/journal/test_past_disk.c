// A disk that takes nothing and a sink that takes what the disk does not.
#include "fault_vfs.h"
#include "rig.h"

#include <sqlite3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <verbacast/base/log.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define E1 INT64_C(1790000000000)
#define N_SLUGS 3

static struct rig rig;

static int set_up(void **state)
{
  rig_init(&rig);
  rig.is_past_disk = 1;
  vc_log_level_set((enum vc_log_level) - 1);
  return 0;
}

static int tear_down(void **state)
{
  fault_vfs_heal();
  rig_fini(&rig);
  return 0;
}

static void fill_disk(void)
{
  fault_vfs_fail(FAULT_WRITE, SQLITE_FULL, 0, SIZE_MAX);
}

static void put_finals(uint64_t from, uint64_t to)
{
  for (uint64_t seq = from; seq <= to; seq++) {
    rig_final(&rig, "demo", E1, seq);
  }
}

// Of each slug, as often as each came: the first time 1, 2, 3 … up to `last`.
static void expect_first_in_order(const uint64_t last[N_SLUGS])
{
  uint64_t reached[N_SLUGS] = {0};
  for (size_t i = 0; i < rig.n_kept; i++) {
    struct vc_record_parsed record;
    const char *why;
    assert_int_equal(vc_record_parse(rig.kept[i], strlen(rig.kept[i]), &record, &why), 0);
    size_t slug = (size_t)(record.fields.session[0] - 'd');
    assert_true(slug < N_SLUGS);
    if (record.fields.seq > reached[slug]) {
      assert_int_equal(record.fields.seq, ++reached[slug]);
    }
    vc_record_parsed_fini(&record);
  }
  for (size_t slug = 0; slug < N_SLUGS; slug++) {
    assert_int_equal(reached[slug], last[slug]);
  }
}

static void test_finals_go_past_a_full_disk(void **state)
{
  enum { N = 250 }; // more than a batch
  rig_start(&rig);
  rig_final(&rig, "demo", E1, 1);
  rig_wait_kept(&rig, 1);
  rig_wait_metric(&rig, "journal.rows", 0);
  fill_disk();
  put_finals(2, N);
  rig_wait_metric(&rig, "journal.past_disk_total", N - 1);
  rig_wait_metric(&rig, "journal.backlog_bytes", 0);
  assert_int_equal(rig_metric(&rig, "journal.committed_total"), 1);
  assert_true(rig_is_degraded(&rig, "journal", NULL));
  assert_false(rig_is_degraded(&rig, "database", NULL));
  fault_vfs_heal();
  rig_wait_degraded(&rig, "journal", 0); // with nothing to commit
  rig_final(&rig, "demo", E1, N + 1);
  rig_wait_kept(&rig, N + 1); // none twice
  expect_first_in_order((uint64_t[N_SLUGS]){N + 1});
  assert_int_equal(rig_stop(&rig, RIG_PATIENCE_MS), 0);
  rig_start(&rig);
  assert_int_equal(rig_stop(&rig, RIG_PATIENCE_MS), 0);
  assert_int_equal(rig.n_kept, N + 1);
}

// It is no promise of the disk's.
static void test_what_went_past_is_traced_as_such(void **state)
{
  rig_start(&rig);
  rig_log_begin(&rig);
  vc_log_level_set(VC_LOG_DEBUG);
  fill_disk();
  put_finals(1, 3);
  rig_wait_metric(&rig, "journal.past_disk_total", 3);
  vc_log_level_set((enum vc_log_level) - 1);
  const char *text = rig_log_end(&rig);
  assert_non_null(strstr(text, "event=journal_past_disk session=demo epoch=1790000000000 seq=3"));
  assert_null(strstr(text, "event=journal_committed"));
}

static int is_busy(void *busy, int n, char **values, char **names)
{
  *(int *)busy = strcmp(values[0], "0") != 0;
  return 0;
}

// What lies in the log is read from there, however spoilt the file is.
static void empty_log(void)
{
  sqlite3 *database;
  int busy;
  assert_int_equal(sqlite3_open(rig.path, &database), SQLITE_OK);
  sqlite3_busy_timeout(database, RIG_PATIENCE_MS);
  do {
    int status = sqlite3_exec(database, "PRAGMA wal_checkpoint(TRUNCATE)", is_busy, &busy, NULL);
    assert_int_equal(status, SQLITE_OK);
  } while (busy);
  sqlite3_close(database);
}

// All behind its first page.
static void spoil_file(void)
{
  static const char rubbish[4096] = "rubbish";
  empty_log();
  FILE *file = fopen(rig.path, "r+b");
  assert_non_null(file);
  assert_int_equal(fseek(file, 0, SEEK_END), 0);
  long size = ftell(file);
  assert_int_equal(fseek(file, sizeof rubbish, SEEK_SET), 0);
  for (long at = sizeof rubbish; at < size; at += (long)sizeof rubbish) {
    assert_int_equal(fwrite(rubbish, sizeof rubbish, 1, file), 1);
  }
  fclose(file);
}

// Whether the relay finds that out too depends on what it has in its cache.
static void test_finals_go_past_a_corrupt_file(void **state)
{
  enum { N = 250 };
  rig_start(&rig);
  rig_final(&rig, "demo", E1, 1);
  rig_wait_kept(&rig, 1);
  rig_wait_metric(&rig, "journal.rows", 0);
  spoil_file();
  put_finals(2, N);
  rig_wait_kept(&rig, N);
  expect_first_in_order((uint64_t[N_SLUGS]){N});
  assert_true(rig_is_degraded(&rig, "journal", NULL));
  rig_stop(&rig, 0);
  rig_start(&rig);
  rig_final(&rig, "demo", E1, N + 1);
  rig_wait_kept(&rig, N + 1);
}

static void test_older_rows_go_first(void **state)
{
  enum { N = 300 };
  rig_refuse(&rig);
  rig_start(&rig);
  put_finals(1, N);
  rig_wait_metric(&rig, "journal.rows", N);
  fill_disk();
  put_finals(N + 1, 2 * N);
  rig_wait_degraded(&rig, "journal", 1);
  rig_accept(&rig);
  rig_wait_kept(&rig, 2 * N);
  expect_first_in_order((uint64_t[N_SLUGS]){2 * N});
  rig_wait_metric(&rig, "journal.past_disk_total", N);
  fault_vfs_heal();
  rig_wait_metric(&rig, "journal.rows", 0);
  rig_wait_metric(&rig, "journal.bytes", 0);
}

// Room comes before the sink has taken what was offered.
static void test_a_commit_withdraws_the_offer(void **state)
{
  rig_hang(&rig);
  rig_start(&rig);
  fill_disk();
  put_finals(1, 10);
  rig_wait_hanging(&rig);
  fault_vfs_heal();
  rig_wait_metric(&rig, "journal.committed_total", 10);
  rig_accept(&rig);
  put_finals(11, 12);
  rig_wait_kept(&rig, 22); // what it had in its hands, and the rows
  expect_first_in_order((uint64_t[N_SLUGS]){12});
  rig_wait_metric(&rig, "journal.rows", 0);
  assert_int_equal(rig_metric(&rig, "journal.past_disk_total"), 0);
}

static void test_a_stop_sends_what_the_disk_does_not_take(void **state)
{
  rig_start(&rig);
  fill_disk();
  put_finals(1, 5);
  assert_int_equal(rig_stop(&rig, RIG_PATIENCE_MS), 0);
  assert_int_equal(rig.n_kept, 5);
}

// The file learns who is open as soon as it can.
static void test_turns_past_the_disk(void **state)
{
  rig_start(&rig);
  rig_begin(&rig, "ended", E1);
  rig_wait_metric(&rig, "journal.committed_total", 1);
  fill_disk();
  rig_end(&rig, "ended", E1);
  rig_begin(&rig, "begun", E1 + 7);
  rig_begin(&rig, "short", E1);
  rig_end(&rig, "short", E1);
  rig_wait_metric(&rig, "journal.past_disk_total", 4);
  fault_vfs_heal();
  rig_wait_degraded(&rig, "journal", 0);
  assert_int_equal(rig_stop(&rig, RIG_PATIENCE_MS), 0);
  assert_int_equal(rig.n_kept, 5);
  rig_start(&rig);
  assert_int_equal(vc_journal_highest_epoch(rig.journal), E1 + 7);
  rig_wait_kept(&rig, 6);
  assert_int_equal(rig_n_ends(&rig, "begun", E1 + 7, "crash"), 1);
}

static void test_a_hopeless_one_waits_for_the_disk(void **state)
{
  rig.hopeless = "said-1790000000000-2.";
  rig_start(&rig);
  fill_disk();
  put_finals(1, 4);
  rig_wait_metric(&rig, "journal.past_disk_total", 3);
  assert_int_equal(rig_metric(&rig, "journal.dead_total"), 0);
  assert_true(rig_metric(&rig, "journal.backlog_bytes") > 0);
  fault_vfs_heal();
  rig_wait_metric(&rig, "journal.dead_total", 1);
  rig_wait_degraded(&rig, "journal_dead", 1);
  rig_wait_kept(&rig, 3);
}

static void test_an_erasure_reaches_what_was_offered(void **state)
{
  rig_hang(&rig);
  rig_start(&rig);
  fill_disk();
  put_finals(1, 3);
  rig_final(&rig, "e", E1, 1);
  rig_wait_hanging(&rig);
  assert_int_equal(rig_erase(&rig, "demo", E1), 503); // the file still may hold some
  fault_vfs_heal();
  rig_wait_metric(&rig, "journal.committed_total", 1);
  rig_accept(&rig);
  assert_int_equal(rig_erase(&rig, "demo", E1), 200);
  assert_int_equal(rig_stop(&rig, RIG_PATIENCE_MS), 0);
  assert_false(folder_holds(&rig.folder, "what-demo-said"));
}

static unsigned dice(unsigned n)
{
  static unsigned state = 4711;
  state = state * 1103515245 + 12345;
  return (state >> 16) % n;
}

static void change_weather(void)
{
  static const struct {
    unsigned operations;
    int code;
  } faults[] = {{FAULT_WRITE, SQLITE_FULL}, {FAULT_SYNC, SQLITE_IOERR_FSYNC}};
  unsigned which = dice(8);
  switch (which) {
  case 0:
  case 1:
    fault_vfs_fail(faults[which].operations, faults[which].code, 0, SIZE_MAX);
    break;
  case 2:
    rig_refuse(&rig);
    break;
  case 3:
    rig_hang(&rig);
    break;
  case 4:
    rig_accept(&rig);
    break;
  default:
    fault_vfs_heal();
    break;
  }
}

// Whatever disk and sink do: nothing is lost, and first occurrences keep their order.
static void test_in_any_weather(void **state)
{
  static const char *const slugs[N_SLUGS] = {"d", "e", "f"};
  uint64_t last[N_SLUGS] = {0};
  rig.sink_most = 7;
  rig_start(&rig);
  for (int i = 0; i < 4000; i++) {
    unsigned slug = dice(N_SLUGS);
    rig_final(&rig, slugs[slug], E1, ++last[slug]);
    if (dice(40) == 0) {
      change_weather();
    }
    if (dice(10) == 0) {
      rig_pause();
    }
  }
  fault_vfs_heal();
  rig_accept(&rig);
  assert_int_equal(rig_stop(&rig, RIG_PATIENCE_MS), 0);
  expect_first_in_order(last);
}

// --- how old the oldest is

static _Atomic uint64_t hand_ns;

static uint64_t read_hand(void *context)
{
  return atomic_load(&hand_ns);
}

static int64_t read_unix(void *context)
{
  return E1 * 1000 + (int64_t)(atomic_load(&hand_ns) / 1000);
}

static void turn_hand(uint64_t seconds)
{
  atomic_fetch_add(&hand_ns, seconds * VC_NS_PER_S);
  vc_stage_wake(vc_journal_stage(rig.journal));
}

// It grows while the relay is at one call of its sink, and while nothing is on the disk.
static void test_the_oldest_grows_older(void **state)
{
  static const struct vc_clock hand = {.monotonic_ns = read_hand, .unix_us = read_unix};
  atomic_store(&hand_ns, VC_NS_PER_S);
  rig.clock = &hand;
  rig_hang(&rig);
  rig_start(&rig);
  rig_final(&rig, "demo", E1, 1);
  rig_wait_metric(&rig, "stage.items_total", 1);
  turn_hand(1);
  rig_wait_hanging(&rig);
  turn_hand(20);
  rig_wait_metric(&rig, "journal.oldest_unsent_s", 20);
  turn_hand(20);
  rig_wait_metric(&rig, "journal.oldest_unsent_s", 40);
  rig_accept(&rig);
  rig_wait_metric(&rig, "journal.relayed_total", 1);
  turn_hand(1);
  rig_wait_metric(&rig, "journal.oldest_unsent_s", 0);
}

// A disk that takes one commit and fails at the next is not well in between.
static void test_one_commit_is_no_recovery(void **state)
{
  static const struct vc_clock hand = {.monotonic_ns = read_hand, .unix_us = read_unix};
  atomic_store(&hand_ns, VC_NS_PER_S);
  rig.clock = &hand;
  rig_start(&rig);
  fault_vfs_fail(FAULT_WRITE, SQLITE_FULL, 0, 1);
  rig_final(&rig, "demo", E1, 1);
  rig_wait_metric(&rig, "stage.items_total", 1);
  turn_hand(1);
  rig_wait_metric(&rig, "journal.commit_errors_total", 1);
  turn_hand(1);
  rig_wait_metric(&rig, "journal.committed_total", 1);
  rig_final(&rig, "demo", E1, 2);
  rig_wait_metric(&rig, "stage.items_total", 2);
  turn_hand(1);
  rig_wait_metric(&rig, "journal.committed_total", 2);
  assert_true(rig_is_degraded(&rig, "journal", NULL));
  turn_hand(3);
  rig_wait_degraded(&rig, "journal", 0);
}

int main(void)
{
#define WITH_RIG(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
  const struct CMUnitTest tests[] = {
      WITH_RIG(test_finals_go_past_a_full_disk),
      WITH_RIG(test_what_went_past_is_traced_as_such),
      WITH_RIG(test_finals_go_past_a_corrupt_file),
      WITH_RIG(test_older_rows_go_first),
      WITH_RIG(test_a_commit_withdraws_the_offer),
      WITH_RIG(test_a_stop_sends_what_the_disk_does_not_take),
      WITH_RIG(test_turns_past_the_disk),
      WITH_RIG(test_a_hopeless_one_waits_for_the_disk),
      WITH_RIG(test_an_erasure_reaches_what_was_offered),
      WITH_RIG(test_in_any_weather),
      WITH_RIG(test_the_oldest_grows_older),
      WITH_RIG(test_one_commit_is_no_recovery),
  };
  fault_vfs_install();
  return cmocka_run_group_tests_name("journal/past_disk", tests, NULL, NULL);
}
