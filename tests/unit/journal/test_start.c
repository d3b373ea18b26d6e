// What a start finds: nothing, another process, rubbish, a newer version, a crash.
#include "rig.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include <verbacast/base/log.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define E1 INT64_C(1790000000000)

static struct rig rig;

static int set_up(void **state)
{
  rig_init(&rig);
  vc_log_level_set(VC_LOG_ERROR);
  return 0;
}

static int tear_down(void **state)
{
  rig_fini(&rig);
  return 0;
}

static int create_second(struct vc_error *error)
{
  struct vc_journal *second = NULL;
  int status = vc_journal_create(
      &second, &(struct vc_journal_settings){.options = &rig.options, .clock = &vc_clock_system},
      error);
  assert_true(status == 0 || second == NULL);
  vc_journal_destroy(&second);
  return status;
}

static void test_second_is_refused(void **state)
{
  struct vc_error error;
  rig_start(&rig);
  assert_int_equal(create_second(&error), -1);
  assert_non_null(strstr(error.text, rig.path));
  assert_non_null(strstr(error.text, "another process"));
  // The first does not notice.
  rig_final(&rig, "demo", E1, 1);
  rig_wait_kept(&rig, 1);
  rig_stop(&rig, 2000);
  assert_int_equal(create_second(&error), 0);
}

static void test_where_it_cannot_be(void **state)
{
  struct vc_error error;
  char missing[300];
  snprintf(missing, sizeof missing, "%s/no-folder/journal.db", rig.folder.path);
  rig.options.journal_path = missing;
  assert_int_equal(create_second(&error), -1);
  assert_non_null(strstr(error.text, "JOURNAL_PATH"));
  assert_non_null(strstr(error.text, missing));
}

static size_t n_moved_aside(void)
{
  DIR *open = opendir(rig.folder.path);
  struct dirent *entry;
  size_t n = 0;
  assert_non_null(open);
  while ((entry = readdir(open)) != NULL) {
    const char *found = strstr(entry->d_name, ".corrupt-");
    n += found != NULL && strchr(found, 'w') == NULL && strchr(found, 'h') == NULL;
  }
  closedir(open);
  return n;
}

static void write_over(long at, size_t size)
{
  FILE *file = fopen(rig.path, access(rig.path, F_OK) == 0 ? "r+b" : "wb");
  assert_non_null(file);
  assert_int_equal(fseek(file, at, SEEK_SET), 0);
  for (size_t i = 0; i < size; i++) {
    fputc("rubbish"[i % 7], file);
  }
  fclose(file);
}

// A file that cannot be read is kept for whoever can, twice in a row; the node runs.
static void test_rubbish_is_moved_aside(void **state)
{
  vc_log_level_set((enum vc_log_level) - 1);
  for (size_t i = 1; i <= 3; i++) {
    write_over(0, 10000);
    rig_start(&rig);
    assert_int_equal(n_moved_aside(), i);
    rig_final(&rig, "demo", E1, i);
    rig_wait_kept(&rig, i);
    assert_int_equal(rig_stop(&rig, 2000), 0);
  }
}

static void test_a_broken_page_is_found(void **state)
{
  vc_log_level_set((enum vc_log_level) - 1);
  rig_refuse(&rig);
  rig_start(&rig);
  for (uint64_t seq = 1; seq <= 100; seq++) {
    rig_final(&rig, "demo", E1, seq);
  }
  assert_int_equal(rig_stop(&rig, 100), 0);
  struct stat status;
  assert_int_equal(stat(rig.path, &status), 0);
  assert_true(status.st_size > 3 * 4096);
  write_over(4096, (size_t)status.st_size - 4096); // behind the first page
  rig_accept(&rig);
  rig_start(&rig);
  assert_int_equal(n_moved_aside(), 1);
  rig_final(&rig, "demo", E1, 101);
  rig_wait_kept(&rig, 1);
}

static void run_sql(const char *sql)
{
  sqlite3 *database;
  char *why = NULL;
  assert_int_equal(sqlite3_open(rig.path, &database), SQLITE_OK);
  if (sqlite3_exec(database, sql, NULL, NULL, &why) != SQLITE_OK) {
    fail_msg("%s: %s", sql, why);
  }
  sqlite3_close(database);
}

static void add_old(const char *key, int64_t epoch, char *value)
{
  char sql[4096];
  sqlite3_snprintf(sizeof sql, sql,
                   "INSERT INTO outbox (v, key, epoch, added_ms, value)"
                   " VALUES (1, %Q, %lld, 1790000000000, CAST(%Q AS BLOB))",
                   key, (long long)epoch, value);
  run_sql(sql);
  free(value);
}

// A file as the programs of the first and of the third version made it.
static const char first_version[] =
    "PRAGMA journal_mode = WAL;"
    "CREATE TABLE outbox (id INTEGER PRIMARY KEY AUTOINCREMENT, v INTEGER NOT NULL,"
    " key TEXT NOT NULL, epoch INTEGER NOT NULL, added_ms INTEGER NOT NULL, value BLOB NOT NULL);"
    "CREATE TABLE open_sessions (key TEXT NOT NULL, epoch INTEGER NOT NULL, value BLOB NOT NULL,"
    " PRIMARY KEY (key, epoch)) WITHOUT ROWID;"
    "PRAGMA user_version = 1";
static const char third_version[] =
    "CREATE INDEX outbox_by_key ON outbox (key);"
    "CREATE TABLE numbering (id INTEGER PRIMARY KEY CHECK (id = 1), highest_epoch INTEGER NOT"
    " NULL);"
    "INSERT INTO numbering VALUES (1, 1790000000009);"
    "PRAGMA user_version = 3";

// What a program before this one left is brought on, with all that it holds.
static void test_the_first_version_is_brought_on(void **state)
{
  run_sql(first_version);
  add_old("demo", E1, record_final("demo", E1, 1, "1-0-1", "what-demo-said-1790000000000-1."));
  rig_start(&rig);
  assert_int_equal(vc_journal_highest_epoch(rig.journal), E1);
  rig_wait_kept(&rig, 1);
  assert_int_equal(rig.last_kind, VC_RECORD_FINAL);
}

static void expect_next(size_t n, enum vc_record_kind kind)
{
  rig_wait_kept(&rig, n);
  assert_int_equal(rig.last_kind, kind);
}

// Each row once and of its kind; one that cannot be read is where finals are.
static void test_the_third_version_is_brought_on(void **state)
{
  static const struct {
    const char *value;
    enum vc_record_kind kind;
  } rows[] = {
      {"{\"type\":\"session_started\",\"session\":\"demo\",\"epoch\":1790000000000}",
       VC_RECORD_SESSION_STARTED},
      {"{\"type\":\"transcript\",\"session\":\"demo\",\"epoch\":1790000000000}", VC_RECORD_FINAL},
      {"{\"type\":\"session_ended\",\"session\":\"demo\",\"epoch\":1790000000000}",
       VC_RECORD_SESSION_ENDED},
      {"{\"type\":\"session_ended\",\"session\":\"demo\",\"epoch\":1790000000000", VC_RECORD_FINAL},
      {"{\"type\":\"session_erased\",\"session\":\"demo\",\"epoch\":1790000000000}",
       VC_RECORD_SESSION_ERASED},
      {"{\"type\":[1],\"session\":\"demo\",\"epoch\":1790000000000}", VC_RECORD_FINAL},
      {"\xff\"session\":\"demo\",\"epoch\":1790000000000", VC_RECORD_FINAL},
  };
  enum { N = sizeof rows / sizeof *rows };
  run_sql(first_version);
  run_sql(third_version);
  for (size_t i = 0; i < N; i++) {
    add_old("demo", E1, strdup(rows[i].value));
  }
  rig.sink_most = 1;
  rig_refuse(&rig);
  rig_start(&rig);
  assert_int_equal(vc_journal_highest_epoch(rig.journal), E1 + 9);
  for (size_t i = 0; i < N; i++) {
    rig_take(&rig, 1);
    expect_next(i + 1, rows[i].kind);
    assert_string_equal(rig.kept[i], rows[i].value);
  }
  assert_int_equal(rig_stop(&rig, RIG_PATIENCE_MS), 0);
  rig_start(&rig); // and not again
  assert_int_equal(rig_stop(&rig, RIG_PATIENCE_MS), 0);
  assert_int_equal(rig.n_kept, N);
}

// Rows leave; the highest number that there was is known all the same.
static void test_the_highest_epoch_is_remembered(void **state)
{
  rig_start(&rig);
  assert_int_equal(vc_journal_highest_epoch(rig.journal), 0);
  rig_begin(&rig, "demo", E1 + 5);
  rig_begin(&rig, "other", E1 + 3);
  rig_wait_kept(&rig, 2);
  assert_int_equal(vc_journal_highest_epoch(rig.journal), 0); // of the lives before this one
  assert_int_equal(rig_stop(&rig, 2000), 0);
  for (int life = 0; life < 2; life++) {
    rig_start(&rig);
    assert_int_equal(vc_journal_highest_epoch(rig.journal), E1 + 5);
    rig_final(&rig, "demo", E1, 1);
    assert_int_equal(rig_stop(&rig, 2000), 0);
  }
}

static void test_newer_version_is_refused(void **state)
{
  struct vc_error error;
  rig_start(&rig);
  rig_stop(&rig, 2000);
  run_sql("PRAGMA user_version = 99");
  assert_int_equal(create_second(&error), -1);
  assert_non_null(strstr(error.text, "version 99"));
  assert_int_equal(n_moved_aside(), 0);
}

// The file is the only thing that knows which sessions were open.
static void test_open_sessions_are_ended(void **state)
{
  rig_start(&rig);
  rig_begin(&rig, "left", E1);
  rig_begin(&rig, "left", E1 + 1);
  rig_begin(&rig, "well", E1);
  rig_end(&rig, "well", E1);
  rig_end(&rig, "left", E1);
  rig_wait_kept(&rig, 5);
  assert_int_equal(rig_stop(&rig, 2000), 0);
  rig_start(&rig);
  rig_wait_kept(&rig, 6);
  assert_int_equal(rig_n_ends(&rig, "left", E1 + 1, "crash"), 1);
  assert_int_equal(rig_n_ends(&rig, "left", E1, "crash"), 0);
  assert_int_equal(rig_n_ends(&rig, "well", E1, "crash"), 0);
  assert_int_equal(rig_stop(&rig, 2000), 0);
  rig_start(&rig);
  assert_int_equal(rig_stop(&rig, 2000), 0);
  assert_int_equal(rig.n_kept, 6); // once
}

static void test_an_erased_session_is_not_ended(void **state)
{
  rig_start(&rig);
  rig_begin(&rig, "gone", E1);
  rig_begin(&rig, "gone", E1 + 1);
  rig_wait_kept(&rig, 2);
  assert_int_equal(rig_erase(&rig, "gone", E1), 200);
  assert_int_equal(rig_stop(&rig, 2000), 0);
  rig_start(&rig);
  rig_wait_kept(&rig, 3);
  assert_int_equal(rig_stop(&rig, 2000), 0);
  assert_int_equal(rig.n_kept, 3);
  assert_int_equal(rig_n_ends(&rig, "gone", E1, "crash"), 0);
  assert_int_equal(rig_n_ends(&rig, "gone", E1 + 1, "crash"), 1);
}

// Never started, or started and stopped with nothing in it.
static void test_without_a_life(void **state)
{
  rig_create(&rig);
  rig_final(&rig, "demo", E1, 1); // lies in the lane and is freed
  assert_int_equal(rig_stop(&rig, 0), 0);
  rig_start(&rig);
  assert_int_equal(rig_stop(&rig, 0), 0);
  assert_int_equal(rig.n_kept, 0);
}

int main(void)
{
#define WITH_RIG(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
  const struct CMUnitTest tests[] = {
      WITH_RIG(test_second_is_refused),
      WITH_RIG(test_where_it_cannot_be),
      WITH_RIG(test_rubbish_is_moved_aside),
      WITH_RIG(test_a_broken_page_is_found),
      WITH_RIG(test_the_first_version_is_brought_on),
      WITH_RIG(test_the_third_version_is_brought_on),
      WITH_RIG(test_the_highest_epoch_is_remembered),
      WITH_RIG(test_newer_version_is_refused),
      WITH_RIG(test_open_sessions_are_ended),
      WITH_RIG(test_an_erased_session_is_not_ended),
      WITH_RIG(test_without_a_life),
  };
  return cmocka_run_group_tests_name("journal/start", tests, NULL, NULL);
}
