// Opening: which URLs, which tables, which versions; two that open at once.
#include "store_rig.h"

#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define N_OPENERS 4

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
  folder_remove(&folder);
  return 0;
}

static void run_sql(const char *sql)
{
  sqlite3 *database;
  assert_int_equal(sqlite3_open(url + strlen("sqlite:"), &database), SQLITE_OK);
  assert_int_equal(sqlite3_exec(database, sql, NULL, NULL, NULL), SQLITE_OK);
  sqlite3_close(database);
}

static void test_urls(void **state)
{
  struct vc_store *store = NULL;
  struct vc_error error;
  assert_int_equal(vc_store_check_url("", &error), 0);
  assert_int_equal(vc_store_check_url("sqlite:a.db", &error), 0);
  static const char *const bad[] = {"sqlite:", "sqlite",       "mysql://x/y",
                                    "a.db",    " sqlite:a.db", "sqlite::memory:"};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    assert_int_equal(vc_store_check_url(bad[i], &error), -1);
    assert_non_null(strstr(error.text, "sqlite:PATH"));
    assert_int_equal(vc_store_open(&store, bad[i], &error), -1);
    assert_non_null(strstr(error.text, "allowed: sqlite:PATH, postgresql://"));
    assert_null(store);
  }
  assert_int_equal(vc_store_open(&store, "", &error), -1);
}

// A drain counts on it.
static void test_how_long_a_call_may_wait(void **state)
{
  assert_int_equal(vc_store_call_max_ms(""), 0);
  assert_int_equal(vc_store_call_max_ms("sqlite:a.db"), VC_STORE_WAIT_MS);
  assert_int_equal(vc_store_call_max_ms("postgresql://u@h/d"), VC_STORE_CALL_MAX_MS);
  assert_int_equal(vc_store_call_max_ms("postgres://u@h/d"), VC_STORE_CALL_MAX_MS);
}

static void test_where_it_cannot_be(void **state)
{
  struct vc_store *store = NULL;
  struct vc_error error;
  char missing[512];
  snprintf(missing, sizeof missing, "sqlite:%s", folder_file(&folder, "no-folder/store.db"));
  assert_int_equal(vc_store_open(&store, missing, &error), -1);
  assert_non_null(strstr(error.text, "no-folder/store.db"));
  assert_null(store);
}

static void test_existing_creates_nothing(void **state)
{
  struct vc_store *store = NULL;
  struct vc_error error;
  struct stat status;
  assert_int_equal(vc_store_exists(url), 0);
  assert_int_equal(vc_store_exists(""), 0);
  assert_int_equal(vc_store_exists("postgresql://u@h/d"), 1);
  assert_int_equal(vc_store_open_existing(&store, url, &error), -1);
  assert_int_equal(stat(folder_file(&folder, "store.db"), &status), -1);
  assert_int_equal(vc_store_open(&store, url, &error), 0);
  vc_store_close(&store);
  assert_null(store);
  vc_store_close(&store);
  assert_int_equal(vc_store_exists(url), 1);
  assert_int_equal(vc_store_open_existing(&store, url, &error), 0);
  vc_store_close(&store);
}

// The tables are the contract with whoever reads them with a program of their own.
static void test_tables(void **state)
{
  struct vc_store *store;
  struct vc_error error;
  assert_int_equal(vc_store_open(&store, url, &error), 0);
  vc_store_close(&store);
  run_sql("SELECT id, slug, epoch, node, started_at, ended_at FROM sessions");
  run_sql("SELECT id, session_id, label FROM participants");
  run_sql("SELECT cluster_id, grp, topic, partition, next_offset FROM offsets");
  run_sql("SELECT id, session_id, participant_id, utterance_id, seq, text, language, confidence,"
          " start_s, end_s, words, received_at, approximate FROM transcripts");
}

static void test_opening_again_keeps_what_is_there(void **state)
{
  struct vc_store *store;
  struct vc_error error;
  for (int i = 1; i <= 3; i++) {
    assert_int_equal(vc_store_open(&store, url, &error), 0);
    char *value = record_started("demo", i);
    struct vc_store_row row = {.value = value, .size = strlen(value)};
    assert_int_equal(vc_store_write(store, &row, 1, &error), 0);
    assert_int_equal(vc_store_last_epoch(store, "demo", &error), i);
    free(value);
    vc_store_close(&store);
  }
}

// Its words' times were heard: nothing says otherwise.
static void check_is_heard(void *context, const struct vc_record_fields *fields)
{
  assert_int_equal(fields->epoch, 7);
  assert_false(fields->is_approximate);
}

// What a program before this one made.
static void test_an_older_version_is_brought_on(void **state)
{
  struct vc_store *store;
  struct vc_error error;
  assert_int_equal(vc_store_open(&store, url, &error), 0);
  char *value = record_final("demo", 7, 1, "a", "text");
  struct vc_store_row row = {.value = value, .size = strlen(value)};
  assert_int_equal(vc_store_write(store, &row, 1, &error), 0);
  vc_store_close(&store);
  run_sql("DROP TABLE dead; DROP TABLE offsets; DROP INDEX sessions_by_end;"
          " DROP INDEX transcripts_by_participant; ALTER TABLE transcripts DROP COLUMN approximate;"
          " PRAGMA user_version = 1");
  assert_int_equal(vc_store_open(&store, url, &error), 0);
  assert_int_equal(vc_store_read(store, "demo", 10, check_is_heard, NULL, &error), 1);
  row = (struct vc_store_row){.value = "?", .size = 1};
  assert_int_equal(vc_store_write(store, &row, 1, &error), 0);
  assert_int_equal(row.outcome, VC_STORE_POISONED);
  free(value);
  vc_store_close(&store);
  run_sql("SELECT reason, topic, key, epoch, value, at FROM dead");
}

static void test_newer_version_is_refused(void **state)
{
  struct vc_store *store = NULL;
  struct vc_error error;
  assert_int_equal(vc_store_open(&store, url, &error), 0);
  vc_store_close(&store);
  run_sql("PRAGMA user_version = 99");
  assert_int_equal(vc_store_open(&store, url, &error), -1);
  assert_null(store);
  assert_non_null(strstr(error.text, "version 99"));
  run_sql("SELECT * FROM transcripts"); // it was left as it was
}

static void test_a_failed_migration_leaves_nothing(void **state)
{
  struct vc_store *store = NULL;
  struct vc_error error;
  run_sql("CREATE TABLE transcripts (somebody_elses)");
  assert_int_equal(vc_store_open(&store, url, &error), -1);
  assert_null(store);
  run_sql("CREATE TABLE sessions (nothing_of_ours_was_left)");
  run_sql("SELECT somebody_elses FROM transcripts");
}

static void *open_once(void *context)
{
  struct vc_store *store = NULL;
  struct vc_error error;
  if (vc_store_open(&store, url, &error) != 0) {
    fprintf(stderr, "%s\n", error.text);
    return context;
  }
  vc_store_close(&store);
  return NULL;
}

static void test_many_open_at_once(void **state)
{
  pthread_t threads[N_OPENERS];
  for (size_t i = 0; i < N_OPENERS; i++) {
    assert_int_equal(pthread_create(&threads[i], NULL, open_once, &folder), 0);
  }
  for (size_t i = 0; i < N_OPENERS; i++) {
    void *result;
    pthread_join(threads[i], &result);
    assert_null(result);
  }
}

int main(void)
{
#define WITH_FOLDER(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
  const struct CMUnitTest tests[] = {
      WITH_FOLDER(test_urls),
      WITH_FOLDER(test_how_long_a_call_may_wait),
      WITH_FOLDER(test_where_it_cannot_be),
      WITH_FOLDER(test_existing_creates_nothing),
      WITH_FOLDER(test_tables),
      WITH_FOLDER(test_opening_again_keeps_what_is_there),
      WITH_FOLDER(test_an_older_version_is_brought_on),
      WITH_FOLDER(test_newer_version_is_refused),
      WITH_FOLDER(test_a_failed_migration_leaves_nothing),
      WITH_FOLDER(test_many_open_at_once),
  };
  return cmocka_run_group_tests_name("store/tables", tests, NULL, NULL);
}
