#include "sqlite.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

int sqlite_fail(struct sqlite_store *store, const char *doing, struct vc_error *error)
{
  return vc_error_set(error, "store: %s: %s", doing, sqlite3_errmsg(store->database));
}

int sqlite_run(struct sqlite_store *store, const char *sql, struct vc_error *error)
{
  return sqlite3_exec(store->database, sql, NULL, NULL, NULL) == SQLITE_OK
             ? 0
             : sqlite_fail(store, sql, error);
}

sqlite3_stmt *sqlite_prepare(struct sqlite_store *store, const char *sql, struct vc_error *error)
{
  sqlite3_stmt *statement = NULL;
  if (sqlite3_prepare_v2(store->database, sql, -1, &statement, NULL) != SQLITE_OK) {
    sqlite_fail(store, sql, error);
    return NULL;
  }
  return statement;
}

int sqlite_one_number(struct sqlite_store *store, sqlite3_stmt *statement, int64_t *number,
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
    has_number = sqlite_fail(store, sqlite3_sql(statement), error);
  }
  sqlite3_reset(statement);
  return has_number;
}

static int is_mine(const char *url)
{
  return strncmp(url, SCHEME, sizeof SCHEME - 1) == 0;
}

// A database in memory would be another one for everybody who opens it.
static const char *check_url(const char *url)
{
  const char *path = url + sizeof SCHEME - 1;
  return path[0] != '\0' && strcmp(path, ":memory:") != 0 ? NULL : "names no file";
}

static int exists(const char *url)
{
  return access(url + sizeof SCHEME - 1, F_OK) == 0 || errno != ENOENT;
}

static int user_version(struct sqlite_store *store, int *version, struct vc_error *error)
{
  int64_t number = 0;
  sqlite3_stmt *statement = sqlite_prepare(store, "PRAGMA user_version", error);
  int status =
      statement != NULL && sqlite_one_number(store, statement, &number, error) == 1 ? 0 : -1;
  sqlite3_finalize(statement);
  *version = (int)number;
  return status;
}

static int migrate_from(struct sqlite_store *store, int version, struct vc_error *error)
{
  for (; version < N_MIGRATIONS; version++) {
    char set[64];
    snprintf(set, sizeof set, "PRAGMA user_version = %d", version + 1);
    if (sqlite_run(store, migrations[version], error) != 0 || sqlite_run(store, set, error) != 0) {
      return -1;
    }
  }
  return 0;
}

// Under the database's write lock, so that two programs that start do it once.
static int migrate(struct sqlite_store *store, struct vc_error *error)
{
  int version;
  if (sqlite_run(store, "BEGIN IMMEDIATE", error) != 0) {
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
    return sqlite_run(store, "COMMIT", error);
  }
  sqlite_run(store, "ROLLBACK", NULL);
  return -1;
}

static void close_store(struct vc_store *base)
{
  struct sqlite_store *store = (struct sqlite_store *)base;
  sqlite_forget_ids(store);
  for (size_t i = 0; i < N_STATEMENTS; i++) {
    sqlite3_finalize(store->statements[i]);
  }
  sqlite3_close_v2(store->database);
  free(store);
}

static int open_file(struct sqlite_store *store, const char *path, int flags,
                     struct vc_error *error)
{
  if (sqlite3_open_v2(path, &store->database, flags | SQLITE_OPEN_NOMUTEX, NULL) != SQLITE_OK) {
    return vc_error_set(error, "store: cannot open %s: %s", path,
                        store->database != NULL ? sqlite3_errmsg(store->database) : "no memory");
  }
  sqlite3_busy_timeout(store->database, VC_STORE_WAIT_MS);
  return sqlite_run(store,
                    "PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;"
                    "PRAGMA secure_delete = ON",
                    error);
}

// SQLite waits for some of those that have the file locked and not for others that open it at the
// same time: here it waits for none, and is asked again.
static int switch_to_wal(struct sqlite_store *store, struct vc_error *error)
{
  sqlite3_busy_timeout(store->database, 0);
  int status = sqlite_run(store, "PRAGMA journal_mode = WAL", error);
  for (int waited_ms = 0; status != 0 && waited_ms < VC_STORE_WAIT_MS; waited_ms += BUSY_STEP_MS) {
    if (sqlite3_errcode(store->database) != SQLITE_BUSY) {
      return -1;
    }
    sqlite3_sleep(BUSY_STEP_MS);
    status = sqlite_run(store, "PRAGMA journal_mode = WAL", error);
  }
  sqlite3_busy_timeout(store->database, VC_STORE_WAIT_MS);
  return status;
}

void sqlite_forget_ids(struct sqlite_store *store)
{
  struct session_id *row, *next;
  HASH_ITER(hh, store->sessions, row, next)
  {
    HASH_DEL(store->sessions, row);
    free(row);
  }
}

static int open_store(struct vc_store **store_out, const char *url, enum store_opening opening,
                      struct vc_error *error)
{
  struct sqlite_store *store = calloc(1, sizeof *store);
  if (store == NULL) {
    return vc_error_set(error, "store: no memory");
  }
  store->base.backend = &store_sqlite;
  int is_creating = opening == STORE_CREATE;
  int flags = SQLITE_OPEN_READWRITE | (is_creating ? SQLITE_OPEN_CREATE : 0);
  if (open_file(store, url + sizeof SCHEME - 1, flags, error) != 0 ||
      (is_creating && (switch_to_wal(store, error) != 0 || migrate(store, error) != 0))) {
    close_store(&store->base);
    return -1;
  }
  store->base.n_connections = 1;
  *store_out = &store->base;
  return 0;
}

const struct store_backend store_sqlite = {
    .call_max_ms = VC_STORE_WAIT_MS,
    .is_mine = is_mine,
    .check_url = check_url,
    .exists = exists,
    .open = open_store,
    .close = close_store,
    .write_batch = sqlite_write_batch,
    .find_position = sqlite_find_position,
    .find_other_cluster = sqlite_find_other_cluster,
    .reset_positions = sqlite_reset_positions,
    .expire_next = sqlite_expire_next,
    .end_expiry = sqlite_end_expiry,
    .read = sqlite_read,
    .last_epoch = sqlite_last_epoch,
    .erase = sqlite_erase_session,
};
