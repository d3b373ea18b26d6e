// Every call to the disk fails in turn: a batch is there as a whole or not at all, its writer is
// told which, and when the disk is well again the same batch goes in once.
#include "fault_vfs.h"
#include "store_rig.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define N_ROWS 5
#define CALLS_MAX 2000 // more than any of it makes

static struct folder folder;
static char url[256];

static int set_up(void **state)
{
  folder_make(&folder);
  snprintf(url, sizeof url, "sqlite:%s", folder_file(&folder, "store.db"));
  return 0;
}

static int tear_down(void **state)
{
  fault_vfs_heal();
  folder_remove(&folder);
  return 0;
}

static void count(void *context, const struct vc_record_fields *fields)
{
  (*(long *)context)++;
}

static long n_kept(const char *slug)
{
  struct vc_store *store;
  struct vc_error error;
  long n = 0;
  assert_int_equal(vc_store_open(&store, url, &error), 0);
  long n_read = vc_store_read(store, slug, 1000, count, &n, &error);
  assert_int_equal(n_read, n);
  vc_store_close(&store);
  return n;
}

static int write_batch(struct vc_store *store, const char *slug, struct vc_store_row rows[N_ROWS],
                       struct vc_error *error)
{
  char *values[N_ROWS];
  for (size_t i = 0; i < N_ROWS; i++) {
    values[i] = record_final(slug, 100, i + 1, (char[]){(char)('a' + i), 0}, "text");
    rows[i] = (struct vc_store_row){.value = values[i], .size = strlen(values[i])};
  }
  int status = vc_store_write(store, rows, N_ROWS, error);
  for (size_t i = 0; i < N_ROWS; i++) {
    free(values[i]);
  }
  return status;
}

// Returns: 1 when the failure was never met, and the round says nothing more.
static int write_round(unsigned operations, int code, size_t after)
{
  char slug[32];
  struct vc_store *store;
  struct vc_store_row rows[N_ROWS];
  struct vc_error error = {.text = ""};
  snprintf(slug, sizeof slug, "s%zu-%u-%d", after, operations, code);
  assert_int_equal(vc_store_open(&store, url, &error), 0);
  fault_vfs_fail(operations, code, after, 1);
  int status = write_batch(store, slug, rows, &error);
  int is_met = fault_vfs_seen() > after;
  fault_vfs_heal();
  if (status != 0) {
    assert_true(is_met);
    assert_true(error.text[0] != '\0');
  }
  long n = n_kept(slug);
  assert_true(status == 0 ? n == N_ROWS : n == 0 || n == N_ROWS);
  // The same connection goes on.
  assert_int_equal(write_batch(store, slug, rows, &error), 0);
  assert_int_equal(rows[0].outcome, n == 0 ? VC_STORE_STORED : VC_STORE_REPEATED);
  assert_int_equal(n_kept(slug), N_ROWS);
  vc_store_close(&store);
  return !is_met;
}

static void test_each_call_of_a_write(void **state)
{
  static const struct {
    unsigned operations;
    int code;
  } kinds[] = {{FAULT_WRITE, SQLITE_FULL},
               {FAULT_WRITE, SQLITE_IOERR_WRITE},
               {FAULT_SYNC, SQLITE_IOERR_FSYNC},
               {FAULT_READ, SQLITE_IOERR_READ}};
  for (size_t kind = 0; kind < sizeof kinds / sizeof *kinds; kind++) {
    size_t after = 0;
    while (after < CALLS_MAX && !write_round(kinds[kind].operations, kinds[kind].code, after)) {
      after++;
    }
    assert_in_range(after, kinds[kind].operations == FAULT_READ ? 0 : 1, CALLS_MAX - 1);
  }
}

static void test_each_call_of_an_open(void **state)
{
  size_t after = 0;
  for (int is_met = 1; is_met && after < CALLS_MAX; after++) {
    struct vc_store *store = NULL;
    struct vc_error error = {.text = ""};
    fault_vfs_fail(FAULT_OPEN | FAULT_WRITE | FAULT_SYNC, SQLITE_IOERR, after, 1);
    int status = vc_store_open(&store, url, &error);
    is_met = fault_vfs_seen() > after;
    fault_vfs_heal();
    if (status != 0) {
      assert_null(store);
      assert_true(error.text[0] != '\0');
      assert_int_equal(vc_store_open(&store, url, &error), 0);
    }
    vc_store_close(&store);
    tear_down(NULL);
    set_up(NULL);
  }
  assert_in_range(after, 5, CALLS_MAX - 1);
}

static void test_each_call_of_an_erasure(void **state)
{
  size_t after = 0;
  for (int is_met = 1; is_met && after < CALLS_MAX; after++) {
    struct vc_store *store;
    struct vc_store_row rows[N_ROWS];
    struct vc_error error = {.text = ""};
    char slug[32];
    snprintf(slug, sizeof slug, "e%zu", after);
    assert_int_equal(vc_store_open(&store, url, &error), 0);
    assert_int_equal(write_batch(store, slug, rows, &error), 0);
    fault_vfs_fail(FAULT_WRITE | FAULT_SYNC, SQLITE_FULL, after, 1);
    long n = vc_store_erase(store, slug, 100, 1, &error);
    is_met = fault_vfs_seen() > after;
    fault_vfs_heal();
    assert_true(n == N_ROWS || (n == -1 && is_met));
    long left = n_kept(slug);
    assert_true(n == N_ROWS ? left == 0 : left == 0 || left == N_ROWS);
    assert_int_equal(vc_store_erase(store, slug, 100, 1, &error), left);
    assert_int_equal(n_kept(slug), 0);
    vc_store_close(&store);
  }
  assert_in_range(after, 3, CALLS_MAX - 1);
}

static void test_a_full_disk_that_stays_full(void **state)
{
  struct vc_store *store;
  struct vc_store_row rows[N_ROWS];
  struct vc_error error = {.text = ""};
  assert_int_equal(vc_store_open(&store, url, &error), 0);
  fault_vfs_fail(FAULT_WRITE, SQLITE_FULL, 0, SIZE_MAX);
  for (int i = 0; i < 5; i++) {
    assert_int_equal(write_batch(store, "demo", rows, &error), -1);
    assert_non_null(strstr(error.text, "full"));
  }
  fault_vfs_heal();
  assert_int_equal(write_batch(store, "demo", rows, &error), 0);
  assert_int_equal(n_kept("demo"), N_ROWS);
  vc_store_close(&store);
}

// Somebody who holds a lock until it is closed.
static sqlite3 *lock_by(const char *sql)
{
  sqlite3 *holder;
  assert_int_equal(sqlite3_open(url + strlen("sqlite:"), &holder), SQLITE_OK);
  assert_int_equal(sqlite3_exec(holder, sql, NULL, NULL, NULL), SQLITE_OK);
  return holder;
}

#define WHOLE_FILE                                                                                 \
  "PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; CREATE TABLE IF NOT EXISTS theirs (a)"

static void expect_a_short_wait(long status, size_t slept_before_us, const struct vc_error *error)
{
  assert_int_equal(status, -1);
  assert_non_null(strstr(error->text, "locked"));
  assert_in_range(fault_vfs_slept_us() - slept_before_us, 1, VC_STORE_WAIT_MS * 1000);
}

// A lock is waited for, but for no longer than what waits for us can bear.
static void test_a_locked_database_is_not_waited_for_long(void **state)
{
  struct vc_store *store;
  struct vc_store_row rows[N_ROWS];
  struct vc_error error = {.text = ""};
  assert_int_equal(vc_store_open(&store, url, &error), 0);
  sqlite3 *holder = lock_by("BEGIN IMMEDIATE");
  size_t slept_us = fault_vfs_slept_us();
  expect_a_short_wait(write_batch(store, "demo", rows, &error), slept_us, &error);
  slept_us = fault_vfs_slept_us();
  expect_a_short_wait(vc_store_erase(store, "demo", 1, 1, &error), slept_us, &error);
  assert_int_equal(vc_store_last_epoch(store, "demo", &error), 0); // nobody keeps a reader out
  sqlite3_close(holder);
  assert_int_equal(write_batch(store, "demo", rows, &error), 0);
  vc_store_close(&store);
}

static void test_a_locked_file_is_not_waited_for_long(void **state)
{
  struct vc_store *store = NULL;
  struct vc_error error = {.text = ""};
  for (int has_tables = 0; has_tables < 2; has_tables++) {
    sqlite3 *holder = lock_by(WHOLE_FILE);
    size_t slept_us = fault_vfs_slept_us();
    expect_a_short_wait(vc_store_open(&store, url, &error), slept_us, &error);
    slept_us = fault_vfs_slept_us();
    expect_a_short_wait(vc_store_open_existing(&store, url, &error), slept_us, &error);
    sqlite3_close(holder);
    assert_int_equal(vc_store_open(&store, url, &error), 0);
    vc_store_close(&store);
  }
}

int main(void)
{
#define WITH_FOLDER(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
  const struct CMUnitTest tests[] = {
      WITH_FOLDER(test_each_call_of_a_write),
      WITH_FOLDER(test_each_call_of_an_open),
      WITH_FOLDER(test_each_call_of_an_erasure),
      WITH_FOLDER(test_a_full_disk_that_stays_full),
      WITH_FOLDER(test_a_locked_database_is_not_waited_for_long),
      WITH_FOLDER(test_a_locked_file_is_not_waited_for_long),
  };
  fault_vfs_install();
  return cmocka_run_group_tests_name("store/faults", tests, NULL, NULL);
}
