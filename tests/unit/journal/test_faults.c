// A disk that fails: nothing that was put is lost while memory holds it, the health says so, and
// nothing is promised before it is on the disk.
#include "fault_vfs.h"
#include "rig.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <verbacast/base/log.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define E1 INT64_C(1790000000000)
#define CALLS_MAX 500
#define N_FINALS 3
#define N_MANY 3000
#define LOG_BYTES (192 * 1024)

static struct rig rig;

static int set_up(void **state)
{
  rig_init(&rig);
  vc_log_level_set((enum vc_log_level) - 1);
  return 0;
}

static int tear_down(void **state)
{
  fault_vfs_heal();
  rig_fini(&rig);
  return 0;
}

// Returns: 1 when the failure was met.
static int round_of(unsigned operations, int code, size_t after)
{
  int64_t epoch = E1 + (int64_t)after;
  rig_start(&rig);
  fault_vfs_fail(operations, code, after, 1);
  rig_begin(&rig, "demo", epoch);
  for (uint64_t seq = 1; seq <= N_FINALS; seq++) {
    rig_final(&rig, "demo", epoch, seq);
    rig_wait_metric(&rig, "journal.committed_total", seq + 1);
  }
  rig_end(&rig, "demo", epoch);
  assert_int_equal(rig_stop(&rig, RIG_PATIENCE_MS), 0);
  int is_met = fault_vfs_seen() > after;
  fault_vfs_heal();
  rig_start(&rig); // what the stop could not send or delete
  assert_int_equal(rig_stop(&rig, RIG_PATIENCE_MS), 0);
  for (uint64_t seq = 1; seq <= N_FINALS; seq++) {
    // A row whose deletion failed may be sent again; the sink's keys are for that.
    assert_in_range(rig_n_finals(&rig, "demo", epoch, seq), 1, 2);
  }
  assert_in_range(rig_n_ends(&rig, "demo", epoch, "publisher_left"), 1, 2);
  assert_int_equal(rig_n_ends(&rig, "demo", epoch, "crash"), 0);
  return is_met;
}

static void test_each_call_fails_once(void **state)
{
  static const struct {
    unsigned operations;
    int code;
  } kinds[] = {{FAULT_WRITE, SQLITE_FULL},
               {FAULT_SYNC, SQLITE_IOERR_FSYNC},
               {FAULT_LOCK, SQLITE_IOERR_LOCK}};
  for (size_t kind = 0; kind < sizeof kinds / sizeof *kinds; kind++) {
    size_t after = 0;
    while (after < 40 && round_of(kinds[kind].operations, kinds[kind].code, after)) {
      after++;
    }
    assert_true(after > 2);
    tear_down(NULL);
    set_up(NULL);
  }
}

// What an open fails with is told, and costs nothing of what the file holds.
static void test_each_call_of_a_start(void **state)
{
  struct vc_error error;
  rig_refuse(&rig);
  rig_start(&rig);
  rig_begin(&rig, "demo", E1);
  for (uint64_t seq = 1; seq <= N_FINALS; seq++) {
    rig_final(&rig, "demo", E1, seq);
  }
  assert_int_equal(rig_stop(&rig, 50), 0);
  size_t after = 0;
  for (int is_met = 1; is_met && after < CALLS_MAX; after++) {
    struct vc_journal *journal = NULL;
    error.text[0] = '\0';
    fault_vfs_fail(FAULT_ANY & ~(unsigned)FAULT_READ, SQLITE_IOERR, after, 1);
    int status = vc_journal_create(
        &journal, &(struct vc_journal_settings){.options = &rig.options, .clock = &vc_clock_system},
        &error);
    is_met = fault_vfs_seen() > after;
    fault_vfs_heal();
    assert_true(status == 0 || (journal == NULL && strstr(error.text, "JOURNAL_PATH") != NULL));
    vc_journal_destroy(&journal);
  }
  assert_in_range(after, 5, CALLS_MAX - 1);
  rig_accept(&rig);
  rig_start(&rig);
  rig_wait_kept(&rig, 1 + N_FINALS + 1);
  for (uint64_t seq = 1; seq <= N_FINALS; seq++) {
    assert_int_equal(rig_n_finals(&rig, "demo", E1, seq), 1);
  }
  assert_int_equal(rig_n_ends(&rig, "demo", E1, "crash"), 1);
}

static void test_disk_full_and_free_again(void **state)
{
  char reason[128];
  rig_start(&rig);
  fault_vfs_fail(FAULT_WRITE, SQLITE_FULL, 0, SIZE_MAX);
  for (uint64_t seq = 1; seq <= 20; seq++) {
    rig_final(&rig, "demo", E1, seq);
  }
  rig_wait_degraded(&rig, "journal", 1);
  assert_true(rig_is_degraded(&rig, "journal", reason));
  assert_non_null(strstr(reason, "full"));
  assert_int_equal(rig_metric(&rig, "journal.committed_total"), 0);
  fault_vfs_heal();
  rig_wait_metric(&rig, "journal.committed_total", 20);
  rig_wait_degraded(&rig, "journal", 0);
  rig_wait_kept(&rig, 20);
  assert_int_equal(rig_metric(&rig, "journal.lost_total"), 0);
  assert_int_equal(rig_metric(&rig, "journal.backlog_bytes"), 0);
}

// After the sink was away for so long that the journal has filled the disk: one deletion of all
// that it then takes would need as much room again.
static void test_what_is_relayed_leaves_a_full_disk(void **state)
{
  rig_refuse(&rig);
  rig_start(&rig);
  for (uint64_t seq = 1; seq <= N_MANY; seq++) {
    rig_final(&rig, "demo", E1, seq);
  }
  rig_wait_metric(&rig, "journal.committed_total", N_MANY);
  fault_vfs_limit_log(LOG_BYTES);
  rig_accept(&rig);
  rig_wait_kept(&rig, N_MANY);
  rig_wait_degraded(&rig, "journal", 1);
  rig_wait_metric(&rig, "journal.rows", 0);
  rig_wait_degraded(&rig, "journal", 0); // and there is room for what comes
  rig_final(&rig, "demo", E1, N_MANY + 1);
  rig_wait_kept(&rig, N_MANY + 1);
  rig_wait_metric(&rig, "journal.rows", 0);
  assert_int_equal(rig_metric(&rig, "journal.lost_total"), 0);
}

// A full disk must not keep the node down; what a crash left open is ended when there is room.
static void test_start_with_a_full_disk(void **state)
{
  rig_refuse(&rig);
  rig_start(&rig);
  rig_begin(&rig, "demo", E1);
  rig_final(&rig, "demo", E1, 1);
  assert_int_equal(rig_stop(&rig, 50), 0);
  fault_vfs_fail(FAULT_WRITE, SQLITE_FULL, 0, SIZE_MAX);
  rig_start(&rig);
  rig_wait_degraded(&rig, "journal", 1);
  rig_begin(&rig, "demo", E1 + 1);
  rig_final(&rig, "demo", E1 + 1, 1);
  fault_vfs_heal();
  rig_accept(&rig);
  rig_wait_metric(&rig, "journal.committed_total", 2);
  rig_wait_degraded(&rig, "journal", 0);
  rig_wait_kept(&rig, 5);
  rig_wait_metric(&rig, "journal.rows", 0);
  rig_wait_metric(&rig, "journal.bytes", 0);
  rig_wait_degraded(&rig, "database", 0);
  assert_int_equal(rig_n_ends(&rig, "demo", E1, "crash"), 1);
  assert_int_equal(rig_n_ends(&rig, "demo", E1 + 1, "crash"), 0);
}

// The same where there is no file yet.
static void test_first_start_with_a_full_disk(void **state)
{
  fault_vfs_fail(FAULT_WRITE, SQLITE_FULL, 0, SIZE_MAX);
  rig_start(&rig);
  rig_wait_degraded(&rig, "journal", 1);
  rig_final(&rig, "demo", E1, 1);
  assert_int_equal(rig_erase(&rig, "nobody", E1), 503);
  fault_vfs_heal();
  rig_wait_kept(&rig, 1);
  rig_wait_degraded(&rig, "journal", 0);
  rig_wait_metric(&rig, "journal.rows", 0);
}

// It gets well by itself, with nothing to commit.
static void test_idle_start_with_a_full_disk(void **state)
{
  rig_start(&rig);
  rig_begin(&rig, "demo", E1);
  rig_wait_kept(&rig, 1);
  assert_int_equal(rig_stop(&rig, RIG_PATIENCE_MS), 0);
  fault_vfs_fail(FAULT_WRITE, SQLITE_FULL, 0, SIZE_MAX);
  rig_start(&rig);
  rig_wait_degraded(&rig, "journal", 1);
  fault_vfs_heal();
  rig_wait_degraded(&rig, "journal", 0);
  rig_wait_kept(&rig, 2);
  assert_int_equal(rig_n_ends(&rig, "demo", E1, "crash"), 1);
}

// A lock is waited for, but for no longer than what waits for us can bear.
static void test_a_locked_file_is_not_waited_for_long(void **state)
{
  struct vc_journal *journal = NULL;
  struct vc_error error = {.text = ""};
  sqlite3 *holder;
  rig_start(&rig);
  assert_int_equal(rig_stop(&rig, 0), 0);
  assert_int_equal(sqlite3_open(rig.path, &holder), SQLITE_OK);
  assert_int_equal(
      sqlite3_exec(holder, "PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE", NULL, NULL, NULL),
      SQLITE_OK);
  size_t slept_us = fault_vfs_slept_us();
  int status = vc_journal_create(
      &journal, &(struct vc_journal_settings){.options = &rig.options, .clock = &vc_clock_system},
      &error);
  assert_int_equal(status, -1);
  assert_non_null(strstr(error.text, "locked"));
  assert_in_range(fault_vfs_slept_us() - slept_us, 1, VC_JOURNAL_WAIT_MS * 1000);
  sqlite3_close(holder);
  rig_start(&rig);
}

static void test_stop_with_a_full_disk(void **state)
{
  rig_start(&rig);
  fault_vfs_fail(FAULT_WRITE, SQLITE_FULL, 0, SIZE_MAX);
  for (uint64_t seq = 1; seq <= 5; seq++) {
    rig_final(&rig, "demo", E1, seq);
  }
  assert_int_equal(rig_stop(&rig, 200), 5); // it says how many are lost
}

// Beyond the bound the oldest lose their durability, and only they.
static void test_the_backlog_is_bounded(void **state)
{
  enum { N = 70, SIZE = 16 * 1024, FIT = 64 };
  char text[SIZE];
  memset(text, 'x', SIZE - 1);
  text[SIZE - 1] = '\0';
  rig.pending_max_bytes = FIT * SIZE;
  rig_start(&rig);
  fault_vfs_fail(FAULT_WRITE, SQLITE_FULL, 0, SIZE_MAX);
  for (uint64_t seq = 1; seq <= N; seq++) {
    rig_put(&rig, VC_RECORD_FINAL, "demo", E1, seq,
            record_final("demo", E1, seq, (char[]){(char)('0' + seq), 0}, text));
  }
  rig_wait_metric(&rig, "stage.items_total", N);
  assert_true(rig_metric(&rig, "journal.backlog_bytes") <= FIT * SIZE);
  fault_vfs_heal();
  // What was kept or lost is all there was, and what was lost is what did not fit.
  uint64_t lost = 0;
  for (int i = 0; i < RIG_PATIENCE_MS; i++) {
    lost = rig_metric(&rig, "journal.lost_total");
    if (rig_metric(&rig, "journal.committed_total") + lost == N) {
      break;
    }
    rig_pause();
  }
  assert_in_range(lost, N - FIT, N - FIT + 2);
  rig_wait_metric(&rig, "journal.committed_total", N - lost);
  rig_wait_kept(&rig, N - lost);
  assert_int_equal(rig_metric(&rig, "journal.lost_total"), lost);
}

static void test_an_erasure_that_fails_is_told(void **state)
{
  rig_refuse(&rig);
  rig_start(&rig);
  rig_final(&rig, "gone", E1, 1);
  rig_wait_metric(&rig, "journal.rows", 1);
  fault_vfs_fail(FAULT_WRITE, SQLITE_FULL, 0, SIZE_MAX);
  assert_int_equal(rig_erase(&rig, "gone", E1), 503);
  fault_vfs_heal();
  assert_int_equal(rig_erase(&rig, "gone", E1), 200);
  rig_wait_metric(&rig, "journal.rows", 0);
}

// A row that is hopeless is put aside once, whichever write of that fails.
static void test_a_dead_row_is_buried_once(void **state)
{
  char reason[128];
  int is_met = 1;
  size_t after = 0;
  rig.hopeless = "-2.\"";
  for (; is_met && after < CALLS_MAX; after++) {
    int64_t epoch = E1 + (int64_t)after;
    rig_start(&rig);
    fault_vfs_fail(FAULT_WRITE, SQLITE_FULL, after, 1);
    for (uint64_t seq = 1; seq <= N_FINALS; seq++) {
      rig_final(&rig, "demo", epoch, seq);
    }
    rig_wait_metric(&rig, "journal.dead_total", 1);
    rig_wait_metric(&rig, "journal.rows", 0);
    rig_wait_degraded(&rig, "journal_dead", 1);
    assert_true(rig_is_degraded(&rig, "journal_dead", reason));
    assert_string_equal(reason, "1 records that no broker takes lie in its table dead");
    is_met = fault_vfs_seen() > after;
    fault_vfs_heal();
    assert_int_equal(rig_erase(&rig, "demo", epoch), 200);
    assert_int_equal(rig_stop(&rig, RIG_PATIENCE_MS), 0);
    assert_in_range(rig_n_finals(&rig, "demo", epoch, 1), 1, 2);
    assert_int_equal(rig_n_finals(&rig, "demo", epoch, 2), 0);
    assert_in_range(rig_n_finals(&rig, "demo", epoch, 3), 1, 2);
  }
  assert_in_range(after, 5, CALLS_MAX - 1);
}

// The log of a run with the disk's calls between its lines: behind each write, and before the line
// that promises it, there is a sync.
static void check_promises(const char *text, size_t n_promised)
{
  int is_synced = 0;
  size_t n = 0;
  for (const char *line = text; *line != '\0'; line = strchr(line, '\n') + 1) {
    if (strncmp(line, "wal-write\n", 10) == 0) {
      is_synced = 0;
    } else if (strncmp(line, "wal-sync\n", 9) == 0) {
      is_synced = 1;
    } else if (strncmp(strchr(line, '\n') - 1, "\n", 1) != 0 &&
               memmem(line, (size_t)(strchr(line, '\n') - line), "event=journal_committed ", 24)) {
      assert_true(is_synced);
      n++;
    }
  }
  assert_int_equal(n, n_promised);
}

static void test_promised_when_synced(void **state)
{
  enum { N = 50 };
  rig_refuse(&rig); // rows are not deleted: all that is written is what was put
  rig_start(&rig);
  vc_log_level_set(VC_LOG_DEBUG);
  fault_vfs_trace(rig_log_begin(&rig));
  for (uint64_t seq = 1; seq <= N; seq++) {
    rig_final(&rig, "demo", E1, seq);
    rig_wait_metric(&rig, "journal.committed_total", seq);
  }
  rig_wait_metric(&rig, "journal.rows", N);
  fault_vfs_trace(-1);
  vc_log_level_set((enum vc_log_level) - 1);
  rig_stop(&rig, 50);
  check_promises(rig_log_end(&rig), N);
}

int main(void)
{
#define WITH_RIG(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
  const struct CMUnitTest tests[] = {
      WITH_RIG(test_each_call_fails_once),
      WITH_RIG(test_each_call_of_a_start),
      WITH_RIG(test_disk_full_and_free_again),
      WITH_RIG(test_what_is_relayed_leaves_a_full_disk),
      WITH_RIG(test_start_with_a_full_disk),
      WITH_RIG(test_first_start_with_a_full_disk),
      WITH_RIG(test_idle_start_with_a_full_disk),
      WITH_RIG(test_stop_with_a_full_disk),
      WITH_RIG(test_the_backlog_is_bounded),
      WITH_RIG(test_an_erasure_that_fails_is_told),
      WITH_RIG(test_a_dead_row_is_buried_once),
      WITH_RIG(test_promised_when_synced),
      WITH_RIG(test_a_locked_file_is_not_waited_for_long),
  };
  fault_vfs_install();
  return cmocka_run_group_tests_name("journal/faults", tests, NULL, NULL);
}
