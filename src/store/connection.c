#include "connection.h"

#include <stdlib.h>
#include <string.h>

#define BUSY_STEP_MS 5
#define SCHEME "sqlite:"

// Each brings the tables from the version of its place to the next. Never changed, only added to.
static const char *const migrations[] = {
    "CREATE TABLE sessions (id INTEGER PRIMARY KEY, slug TEXT NOT NULL, epoch INTEGER NOT NULL,"
    " node TEXT, started_at REAL, ended_at REAL, UNIQUE (slug, epoch));"
    "CREATE TABLE participants (id INTEGER PRIMARY KEY,"
    " session_id INTEGER NOT NULL REFERENCES sessions (id), label TEXT NOT NULL,"
    " UNIQUE (session_id, label));"
    "CREATE TABLE transcripts (id INTEGER PRIMARY KEY,"
    " session_id INTEGER NOT NULL REFERENCES sessions (id),"
    " participant_id INTEGER REFERENCES participants (id), utterance_id TEXT NOT NULL,"
    " seq INTEGER NOT NULL, text TEXT NOT NULL, language TEXT, confidence REAL,"
    " start_s REAL NOT NULL, end_s REAL NOT NULL, words TEXT, received_at REAL,"
    " UNIQUE (session_id, utterance_id), UNIQUE (session_id, seq));"
    "CREATE TABLE erasures (slug TEXT PRIMARY KEY, epoch INTEGER NOT NULL, erased_at REAL NOT "
    "NULL);",
    "CREATE TABLE dead (id INTEGER PRIMARY KEY, reason TEXT NOT NULL, topic TEXT NOT NULL,"
    " key TEXT NOT NULL, epoch INTEGER NOT NULL, value BLOB NOT NULL, at REAL NOT NULL);"
    "CREATE INDEX dead_by_key ON dead (key, epoch);",
    "ALTER TABLE transcripts ADD COLUMN approximate INTEGER NOT NULL DEFAULT 0;",
    "CREATE TABLE offsets (cluster_id TEXT NOT NULL, grp TEXT NOT NULL, topic TEXT NOT NULL,"
    " partition INTEGER NOT NULL, next_offset INTEGER NOT NULL,"
    " PRIMARY KEY (cluster_id, grp, topic, partition)) WITHOUT ROWID;"
    "CREATE INDEX sessions_by_end ON sessions (ended_at);"
    "CREATE INDEX transcripts_by_participant ON transcripts (participant_id)"
    " WHERE participant_id IS NOT NULL;",
};
#define N_MIGRATIONS ((int)(sizeof migrations / sizeof *migrations))

int store_fail(struct vc_store *store, const char *doing, struct vc_error *error)
{
  return vc_error_set(error, "store: %s: %s", doing, sqlite3_errmsg(store->database));
}

int store_run(struct vc_store *store, const char *sql, struct vc_error *error)
{
  return sqlite3_exec(store->database, sql, NULL, NULL, NULL) == SQLITE_OK
             ? 0
             : store_fail(store, sql, error);
}

sqlite3_stmt *store_prepare(struct vc_store *store, const char *sql, struct vc_error *error)
{
  sqlite3_stmt *statement = NULL;
  if (sqlite3_prepare_v2(store->database, sql, -1, &statement, NULL) != SQLITE_OK) {
    store_fail(store, sql, error);
    return NULL;
  }
  return statement;
}

int store_one_number(struct vc_store *store, sqlite3_stmt *statement, int64_t *number,
                     struct vc_error *error)
{
  int status = sqlite3_step(statement);
  int has_number = status == SQLITE_ROW;
  *number = has_number ? sqlite3_column_int64(statement, 0) : 0;
  // To its end: an INSERT … RETURNING is done only then.
  while (status == SQLITE_ROW) {
    status = sqlite3_step(statement);
  }
  if (status != SQLITE_DONE) {
    has_number = store_fail(store, sqlite3_sql(statement), error);
  }
  sqlite3_reset(statement);
  return has_number;
}

int vc_store_check_url(const char *url, struct vc_error *error)
{
  const char *path = strncmp(url, SCHEME, sizeof SCHEME - 1) == 0 ? url + sizeof SCHEME - 1 : "";
  // A database in memory would be another one for everybody who opens it.
  int is_file = path[0] != '\0' && strcmp(path, ":memory:") != 0;
  return url[0] == '\0' || is_file
             ? 0
             : vc_error_set(error, "is no store; allowed: sqlite:PATH, or empty for none");
}

static int user_version(struct vc_store *store, int *version, struct vc_error *error)
{
  int64_t number = 0;
  sqlite3_stmt *statement = store_prepare(store, "PRAGMA user_version", error);
  int status =
      statement != NULL && store_one_number(store, statement, &number, error) == 1 ? 0 : -1;
  sqlite3_finalize(statement);
  *version = (int)number;
  return status;
}

static int migrate_from(struct vc_store *store, int version, struct vc_error *error)
{
  for (; version < N_MIGRATIONS; version++) {
    char set[64];
    snprintf(set, sizeof set, "PRAGMA user_version = %d", version + 1);
    if (store_run(store, migrations[version], error) != 0 || store_run(store, set, error) != 0) {
      return -1;
    }
  }
  return 0;
}

// Under the database's write lock, so that two programs that start do it once.
static int migrate(struct vc_store *store, struct vc_error *error)
{
  int version;
  if (store_run(store, "BEGIN IMMEDIATE", error) != 0) {
    return -1;
  }
  int status = user_version(store, &version, error);
  if (status == 0 && version > N_MIGRATIONS) {
    status = vc_error_set(error, "store: its tables are of version %d, this program knows %d",
                          version, N_MIGRATIONS);
  }
  if (status == 0) {
    status = migrate_from(store, version, error);
  }
  if (status == 0) {
    return store_run(store, "COMMIT", error);
  }
  store_run(store, "ROLLBACK", NULL);
  return -1;
}

static int open_database(struct vc_store **store_out, const char *url, int flags,
                         struct vc_error *error)
{
  struct vc_error why;
  if (url[0] == '\0' || vc_store_check_url(url, &why) != 0) {
    return vc_error_set(error, "'%s' %s", url, url[0] == '\0' ? "is no store" : why.text);
  }
  struct vc_store *store = calloc(1, sizeof *store);
  if (store == NULL) {
    return vc_error_set(error, "store: no memory");
  }
  const char *path = url + sizeof SCHEME - 1;
  int status = sqlite3_open_v2(path, &store->database, flags | SQLITE_OPEN_NOMUTEX, NULL);
  if (status != SQLITE_OK) {
    vc_error_set(error, "store: cannot open %s: %s", path,
                 store->database != NULL ? sqlite3_errmsg(store->database) : "no memory");
    vc_store_close(&store);
    return -1;
  }
  sqlite3_busy_timeout(store->database, VC_STORE_WAIT_MS);
  if (store_run(store,
                "PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;"
                "PRAGMA secure_delete = ON",
                error) != 0) {
    vc_store_close(&store);
    return -1;
  }
  *store_out = store;
  return 0;
}

// SQLite waits for some of those that have the file locked and not for others that open it at the
// same time: here it waits for none, and is asked again.
static int switch_to_wal(struct vc_store *store, struct vc_error *error)
{
  sqlite3_busy_timeout(store->database, 0);
  int status = store_run(store, "PRAGMA journal_mode = WAL", error);
  for (int waited_ms = 0; status != 0 && waited_ms < VC_STORE_WAIT_MS; waited_ms += BUSY_STEP_MS) {
    if (sqlite3_errcode(store->database) != SQLITE_BUSY) {
      return -1;
    }
    sqlite3_sleep(BUSY_STEP_MS);
    status = store_run(store, "PRAGMA journal_mode = WAL", error);
  }
  sqlite3_busy_timeout(store->database, VC_STORE_WAIT_MS);
  return status;
}

int vc_store_open(struct vc_store **store, const char *url, struct vc_error *error)
{
  if (open_database(store, url, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, error) != 0) {
    return -1;
  }
  if (switch_to_wal(*store, error) != 0 || migrate(*store, error) != 0) {
    vc_store_close(store);
    return -1;
  }
  return 0;
}

int vc_store_open_existing(struct vc_store **store, const char *url, struct vc_error *error)
{
  return open_database(store, url, SQLITE_OPEN_READWRITE, error);
}

void store_forget_ids(struct vc_store *store)
{
  struct session_id *row, *next;
  HASH_ITER(hh, store->sessions, row, next)
  {
    HASH_DEL(store->sessions, row);
    free(row);
  }
}

void vc_store_close(struct vc_store **store)
{
  if (*store != NULL) {
    store_forget_ids(*store);
    for (size_t i = 0; i < N_STATEMENTS; i++) {
      sqlite3_finalize((*store)->statements[i]);
    }
    sqlite3_close_v2((*store)->database);
    free(*store);
    *store = NULL;
  }
}
