// The file is made ready when the journal is made, or, when the disk is full then, by the first
// commit that finds room: a full disk must not keep the node down. Nothing is written before it is
// ready, so that sessions that are open in it by then are those a crash left open.
#include <verbacast/base/clock.h>
#include <verbacast/base/log.h>
#include <verbacast/wire/json.h>
#include <verbacast/wire/record.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>
#include <utlist.h>

#include "room.h"

#define VERSION 4
#define PATH_MAX_BYTES 4096
#define ROWS_AT_ONCE 64 // that are deleted where the disk is full
#define PORTIONS_MAX 16 // of them, after a commit that failed

// Numbers of this kind stand in files: new kinds come behind these.
_Static_assert(VC_RECORD_FINAL == 0 && VC_RECORD_SESSION_STARTED == 1 &&
                   VC_RECORD_SESSION_ENDED == 2 && VC_RECORD_SESSION_ERASED == 3,
               "they are what files have");

struct outbox {
  char path[PATH_MAX_BYTES];
  int lock_fd; // -1: a reader
  sqlite3 *database;
  int is_ready;          // its tables are there and hold no session that a crash left open
  int last_code;         // SQLite's, of the last failure
  int64_t highest_epoch; // of all that was ever committed
  sqlite3_stmt *raise_epoch, *insert, *measure_upto, *delete_upto, *open_session, *close_session;
  sqlite3_stmt *bury;
};

static int fail(struct outbox *outbox, const char *doing, struct vc_error *error)
{
  outbox->last_code =
      outbox->database != NULL ? sqlite3_extended_errcode(outbox->database) : SQLITE_NOMEM;
  return vc_error_set(error, "%s: %s", doing,
                      outbox->database != NULL ? sqlite3_errmsg(outbox->database) : "no memory");
}

static int run(struct outbox *outbox, const char *sql, struct vc_error *error)
{
  return sqlite3_exec(outbox->database, sql, NULL, NULL, NULL) == SQLITE_OK
             ? 0
             : fail(outbox, sql, error);
}

static sqlite3_stmt *prepare(struct outbox *outbox, const char *sql, struct vc_error *error)
{
  sqlite3_stmt *statement = NULL;
  if (sqlite3_prepare_v2(outbox->database, sql, -1, &statement, NULL) != SQLITE_OK) {
    fail(outbox, sql, error);
    return NULL;
  }
  return statement;
}

// The lock is on a file of its own, so that it holds while the database is moved aside.
static int lock(struct outbox *outbox, struct vc_error *error)
{
  char lock_path[PATH_MAX_BYTES + 8];
  snprintf(lock_path, sizeof lock_path, "%s.lock", outbox->path);
  outbox->lock_fd = open(lock_path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
  if (outbox->lock_fd < 0) {
    return vc_error_set(error, "cannot open %s: %s", lock_path, strerror(errno));
  }
  if (flock(outbox->lock_fd, LOCK_EX | LOCK_NB) != 0) {
    return vc_error_set(error,
                        "%s is used by another process; each node needs its own "
                        "JOURNAL_PATH",
                        outbox->path);
  }
  return 0;
}

static int connect_to(struct outbox *outbox, int flags, struct vc_error *error)
{
  if (sqlite3_open_v2(outbox->path, &outbox->database, flags | SQLITE_OPEN_NOMUTEX, NULL) !=
      SQLITE_OK) {
    return fail(outbox, "open", error);
  }
  sqlite3_busy_timeout(outbox->database, VC_JOURNAL_WAIT_MS);
  return run(outbox, "PRAGMA synchronous = FULL; PRAGMA secure_delete = ON", error);
}

// Of a statement that gives one number.
static int read_number(struct outbox *outbox, const char *sql, int64_t *number,
                       struct vc_error *error)
{
  sqlite3_stmt *statement = prepare(outbox, sql, error);
  if (statement == NULL) {
    return -1;
  }
  int status = sqlite3_step(statement) == SQLITE_ROW ? 0 : fail(outbox, sql, error);
  *number = status == 0 ? sqlite3_column_int64(statement, 0) : 0;
  sqlite3_finalize(statement);
  return status;
}

// What a file of any version before the fourth lacks. That one came with `kind`, which says what a
// value is without parsing it: until then all but the turns of sessions were finals.
#define VALUE_TEXT "CAST(value AS TEXT)"
static const char make_third[] =
    "CREATE TABLE IF NOT EXISTS outbox (id INTEGER PRIMARY KEY AUTOINCREMENT,"
    " v INTEGER NOT NULL, key TEXT NOT NULL, epoch INTEGER NOT NULL,"
    " added_ms INTEGER NOT NULL, value BLOB NOT NULL);"
    "CREATE TABLE IF NOT EXISTS open_sessions (key TEXT NOT NULL, epoch INTEGER NOT NULL,"
    " value BLOB NOT NULL, PRIMARY KEY (key, epoch)) WITHOUT ROWID;"
    "CREATE INDEX IF NOT EXISTS outbox_by_key ON outbox (key);"
    "CREATE TABLE IF NOT EXISTS numbering (id INTEGER PRIMARY KEY CHECK (id = 1),"
    " highest_epoch INTEGER NOT NULL);"
    "INSERT OR IGNORE INTO numbering SELECT 1, coalesce(max(epoch), 0) FROM"
    " (SELECT epoch FROM outbox UNION ALL SELECT epoch FROM open_sessions);";
static const char make_fourth[] =
    "ALTER TABLE outbox ADD COLUMN kind INTEGER NOT NULL DEFAULT 0;"
    "UPDATE outbox SET kind = CASE types.type WHEN 'session_started' THEN 1"
    " WHEN 'session_ended' THEN 2 ELSE 3 END FROM"
    " (SELECT id, CASE WHEN json_valid(" VALUE_TEXT ")"
    " THEN json_extract(" VALUE_TEXT ", '$.type') END AS type FROM outbox) AS types"
    " WHERE types.id = outbox.id AND"
    " types.type IN ('session_started', 'session_ended', 'session_erased');"
    "CREATE TABLE dead (id INTEGER PRIMARY KEY, reason TEXT NOT NULL, kind INTEGER NOT NULL,"
    " key TEXT NOT NULL, epoch INTEGER NOT NULL, value BLOB NOT NULL, at REAL NOT NULL);"
    "CREATE INDEX dead_by_key ON dead (key, epoch);"
    "PRAGMA user_version = 4;";

// Writes nothing when all is there: the disk may be full.
static int make_tables(struct outbox *outbox, struct vc_error *error)
{
  int64_t version;
  if (read_number(outbox, "PRAGMA user_version", &version, error) != 0) {
    return -1;
  }
  if (version > VERSION) {
    return vc_error_set(error, "the journal is of version %d, this program knows %d", (int)version,
                        VERSION);
  }
  if (version == VERSION) {
    return 0;
  }
  // What a step of it has done is undone by whoever closes the connection.
  return run(outbox, "PRAGMA journal_mode = WAL; BEGIN IMMEDIATE", error) != 0 ||
                 run(outbox, make_third, error) != 0 || run(outbox, make_fourth, error) != 0
             ? -1
             : run(outbox, "COMMIT", error);
}

static int prepare_all(struct outbox *outbox, struct vc_error *error)
{
  outbox->raise_epoch = prepare(outbox, "UPDATE numbering SET highest_epoch = ?1", error);
  outbox->insert = prepare(outbox,
                           "INSERT INTO outbox (v, key, epoch, added_ms, value, kind)"
                           " VALUES (1, ?1, ?2, ?3, ?4, ?5)",
                           error);
  outbox->measure_upto = prepare(
      outbox, "SELECT count(*), coalesce(sum(length(value)), 0) FROM outbox WHERE id <= ?1", error);
  outbox->delete_upto = prepare(outbox, "DELETE FROM outbox WHERE id <= ?1", error);
  outbox->open_session =
      prepare(outbox, "INSERT OR REPLACE INTO open_sessions VALUES (?1, ?2, ?3)", error);
  outbox->close_session =
      prepare(outbox, "DELETE FROM open_sessions WHERE key = ?1 AND epoch = ?2", error);
  outbox->bury = prepare(outbox,
                         "INSERT INTO dead (reason, kind, key, epoch, value, at)"
                         " SELECT ?2, kind, key, epoch, value, ?3 FROM outbox WHERE id = ?1",
                         error);
  return outbox->raise_epoch == NULL || outbox->insert == NULL || outbox->measure_upto == NULL ||
                 outbox->delete_upto == NULL || outbox->open_session == NULL ||
                 outbox->close_session == NULL || outbox->bury == NULL
             ? -1
             : 0;
}

static void disconnect(struct outbox *outbox)
{
  sqlite3_finalize(outbox->raise_epoch);
  sqlite3_finalize(outbox->insert);
  sqlite3_finalize(outbox->measure_upto);
  sqlite3_finalize(outbox->delete_upto);
  sqlite3_finalize(outbox->open_session);
  sqlite3_finalize(outbox->close_session);
  sqlite3_finalize(outbox->bury);
  outbox->raise_epoch = outbox->insert = outbox->measure_upto = outbox->delete_upto = NULL;
  outbox->open_session = outbox->close_session = outbox->bury = NULL;
  sqlite3_close_v2(outbox->database);
  outbox->database = NULL;
}

static int is_corrupt(struct outbox *outbox)
{
  int code = outbox->database != NULL ? sqlite3_errcode(outbox->database) : SQLITE_OK;
  return code == SQLITE_CORRUPT || code == SQLITE_NOTADB;
}

static int check_integrity(struct outbox *outbox, int *is_bad, struct vc_error *error)
{
  sqlite3_stmt *statement = prepare(outbox, "PRAGMA quick_check(1)", error);
  *is_bad = is_corrupt(outbox);
  if (statement == NULL) {
    return -1;
  }
  int status = sqlite3_step(statement);
  const char *text = status == SQLITE_ROW ? (const char *)sqlite3_column_text(statement, 0) : NULL;
  *is_bad = *is_bad || status == SQLITE_CORRUPT || status == SQLITE_NOTADB ||
            (text != NULL && strcmp(text, "ok") != 0);
  sqlite3_finalize(statement);
  return *is_bad ? vc_error_set(error, "the file is corrupt") : 0;
}

static int step(struct outbox *outbox, sqlite3_stmt *statement, struct vc_error *error)
{
  int status = sqlite3_step(statement) == SQLITE_DONE ? 0 : fail(outbox, "commit", error);
  sqlite3_reset(statement);
  return status;
}

static void bind_key(sqlite3_stmt *statement, const char *key, int64_t epoch)
{
  sqlite3_bind_text(statement, 1, key, -1, SQLITE_STATIC);
  sqlite3_bind_int64(statement, 2, epoch);
}

struct row {
  enum vc_record_kind kind;
  const char *key;
  int64_t epoch;
  const void *value;
  size_t size;
};

static int add_row(struct outbox *outbox, const struct row *row, int64_t now_ms,
                   struct vc_error *error)
{
  bind_key(outbox->insert, row->key, row->epoch);
  sqlite3_bind_int64(outbox->insert, 3, now_ms);
  sqlite3_bind_blob64(outbox->insert, 4, row->value, row->size, SQLITE_STATIC);
  sqlite3_bind_int(outbox->insert, 5, (int)row->kind);
  return step(outbox, outbox->insert, error);
}

// The end of a session whose node died, from the record of its begin.
static int end_one(struct outbox *outbox, const char *value, size_t size, int64_t now_ms,
                   struct vc_error *error)
{
  struct vc_record_parsed begun;
  const char *why;
  if (vc_record_parse(value, size, &begun, &why) != 0) {
    if (why == vc_json_no_memory) {
      return vc_error_set(error, "no memory"); // it has its end another time
    }
    vc_log(VC_LOG_ERROR, VC_EVENT("journal.bad_record"), VC_STR("why", why));
    return 0;
  }
  struct vc_record_fields end = begun.fields;
  struct vc_text text = {0};
  end.type = VC_RECORD_TYPE_SESSION_ENDED;
  end.ended_at_ms = now_ms;
  end.reason = "crash";
  vc_record_print(&text, &end);
  const struct row row = {.kind = VC_RECORD_SESSION_ENDED,
                          .key = end.session,
                          .epoch = end.epoch,
                          .value = text.at,
                          .size = text.size};
  int status =
      text.has_failed ? vc_error_set(error, "no memory") : add_row(outbox, &row, now_ms, error);
  vc_text_fini(&text);
  vc_record_parsed_fini(&begun);
  return status;
}

// Returns: how many, or -1.
static int end_each(struct outbox *outbox, int64_t now_ms, struct vc_error *error)
{
  sqlite3_stmt *statement = prepare(outbox, "SELECT value FROM open_sessions", error);
  if (statement == NULL) {
    return -1;
  }
  int n = 0, status;
  while ((status = sqlite3_step(statement)) == SQLITE_ROW) {
    if (end_one(outbox, sqlite3_column_blob(statement, 0),
                (size_t)sqlite3_column_bytes(statement, 0), now_ms, error) != 0) {
      break;
    }
    n++;
  }
  if (status != SQLITE_DONE && status != SQLITE_ROW) {
    fail(outbox, "open sessions", error);
  }
  sqlite3_finalize(statement);
  return status == SQLITE_DONE && run(outbox, "DELETE FROM open_sessions", error) == 0 ? n : -1;
}

// Before anything of this life is written: what is open now was left open by a crash.
static int end_crashed(struct outbox *outbox, int64_t now_ms, struct vc_error *error)
{
  int64_t has;
  int status = read_number(outbox, "SELECT EXISTS (SELECT 1 FROM open_sessions)", &has, error);
  if (status != 0 || !has) {
    return status;
  }
  if (run(outbox, "BEGIN IMMEDIATE", error) != 0) {
    return -1;
  }
  int n = end_each(outbox, now_ms, error);
  if (n < 0 || run(outbox, "COMMIT", error) != 0) {
    return -1; // the connection is closed, which rolls back and keeps the reason
  }
  vc_log(VC_LOG_WARN, VC_EVENT("journal.crash"), VC_INT("sessions", n));
  return 0;
}

static int set_up(struct outbox *outbox, int *is_bad, struct vc_error *error)
{
  *is_bad = 0;
  if (connect_to(outbox, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, error) != 0 ||
      make_tables(outbox, error) != 0) {
    *is_bad = is_corrupt(outbox);
    return -1;
  }
  if (check_integrity(outbox, is_bad, error) != 0 || prepare_all(outbox, error) != 0) {
    return -1;
  }
  return read_number(outbox, "SELECT highest_epoch FROM numbering", &outbox->highest_epoch, error);
}

static void move_aside(const char *path)
{
  static const char *const suffixes[] = {"", "-wal", "-shm"};
  int64_t now_ms = vc_clock_unix_ms(&vc_clock_system);
  for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
    char from[PATH_MAX_BYTES + 8], to[PATH_MAX_BYTES + 64];
    snprintf(from, sizeof from, "%s%s", path, suffixes[i]);
    snprintf(to, sizeof to, "%s.corrupt-%" PRId64 "%s", path, now_ms, suffixes[i]);
    if (rename(from, to) == 0) {
      vc_log(VC_LOG_ERROR, VC_EVENT("journal.corrupt"), VC_STR("file", from),
             VC_STR("moved_to", to));
    }
  }
}

static int is_disk_full(const struct outbox *outbox)
{
  return (outbox->last_code & 0xff) == SQLITE_FULL || outbox->last_code == SQLITE_IOERR_SHMSIZE;
}

int outbox_is_corrupt(const struct outbox *outbox)
{
  int code = outbox->last_code & 0xff;
  return code == SQLITE_CORRUPT || code == SQLITE_NOTADB;
}

static int set_up_or_anew(struct outbox *outbox, struct vc_error *error)
{
  int is_bad;
  int status = set_up(outbox, &is_bad, error);
  if (is_bad) {
    disconnect(outbox);
    move_aside(outbox->path);
    status = set_up(outbox, &is_bad, error);
  }
  return status;
}

// Returns: 0, 1 the disk is full: what was begun is undone, or -1.
static int make_ready(struct outbox *outbox, int64_t now_ms, struct vc_error *error)
{
  if (outbox->is_ready) {
    return 0;
  }
  outbox->last_code = SQLITE_OK;
  int status = set_up_or_anew(outbox, error);
  if (status == 0) {
    status = end_crashed(outbox, now_ms, error);
  }
  outbox->is_ready = status == 0;
  if (status != 0) {
    status = is_disk_full(outbox) ? 1 : -1;
    disconnect(outbox);
  }
  return status;
}

static struct outbox *create(const char *path, struct vc_error *error)
{
  struct outbox *outbox = calloc(1, sizeof *outbox);
  if (outbox == NULL) {
    vc_error_set(error, "no memory");
    return NULL;
  }
  outbox->lock_fd = -1;
  int n = snprintf(outbox->path, sizeof outbox->path, "%s", path);
  if (n < 0 || (size_t)n >= sizeof outbox->path) {
    vc_error_set(error, "the path is too long");
    free(outbox);
    return NULL;
  }
  return outbox;
}

int outbox_open(struct outbox **outbox_out, const char *path, int64_t now_ms,
                struct vc_error *error)
{
  struct vc_error why = {.text = ""};
  struct outbox *outbox = create(path, &why);
  int status = outbox == NULL ? -1 : lock(outbox, &why);
  if (status == 0) {
    status = make_ready(outbox, now_ms, &why);
  }
  if (status != 0) {
    vc_error_set(error, "JOURNAL_PATH %.200s: %.250s", path, why.text);
  }
  if (status < 0) {
    outbox_close(&outbox);
    return -1;
  }
  *outbox_out = outbox;
  return status;
}

int outbox_open_reader(struct outbox **outbox_out, const char *path, struct vc_error *error)
{
  struct outbox *outbox = create(path, error);
  if (outbox == NULL) {
    return -1;
  }
  if (connect_to(outbox, SQLITE_OPEN_READWRITE, error) != 0) {
    outbox_close(&outbox);
    return -1;
  }
  *outbox_out = outbox;
  return 0;
}

int outbox_is_ready(const struct outbox *outbox)
{
  return outbox->is_ready;
}

int64_t outbox_highest_epoch(const struct outbox *outbox)
{
  return outbox->highest_epoch;
}

void outbox_close(struct outbox **outbox)
{
  if (*outbox != NULL) {
    disconnect(*outbox);
    if ((*outbox)->lock_fd >= 0) {
      close((*outbox)->lock_fd);
    }
    free(*outbox);
    *outbox = NULL;
  }
}

static int turn(struct outbox *outbox, const struct vc_record *record, struct vc_error *error)
{
  if (record->kind == VC_RECORD_SESSION_STARTED) {
    bind_key(outbox->open_session, record->slug, record->epoch);
    sqlite3_bind_blob64(outbox->open_session, 3, record->value->data, record->value->size,
                        SQLITE_STATIC);
    return step(outbox, outbox->open_session, error);
  }
  if (record->kind == VC_RECORD_SESSION_ENDED) {
    bind_key(outbox->close_session, record->slug, record->epoch);
    return step(outbox, outbox->close_session, error);
  }
  return 0;
}

static int append(struct outbox *outbox, const struct vc_record *record, int64_t now_ms,
                  struct vc_error *error)
{
  const struct row row = {.kind = record->kind,
                          .key = record->slug,
                          .epoch = record->epoch,
                          .value = record->value->data,
                          .size = record->value->size};
  return add_row(outbox, &row, now_ms, error) == 0 ? turn(outbox, record, error) : -1;
}

// Returns: the highest epoch of the batch, or of what was there where that is higher.
static int64_t highest_with(const struct outbox *outbox, const struct outbox_batch *batch)
{
  int64_t highest = outbox->highest_epoch > batch->epoch ? outbox->highest_epoch : batch->epoch;
  const struct vc_record *record;
  for (size_t i = 0; i < OUTBOX_LISTS; i++) {
    DL_FOREACH(batch->lists[i], record)
    {
      highest = record->epoch > highest ? record->epoch : highest;
    }
  }
  return highest;
}

static int raise_epoch(struct outbox *outbox, int64_t epoch, struct vc_error *error)
{
  sqlite3_bind_int64(outbox->raise_epoch, 1, epoch);
  return step(outbox, outbox->raise_epoch, error);
}

// The rows are counted before they go: counting those that stay would take ever longer.
static int delete_rows(struct outbox *outbox, int64_t upto, struct outbox_deleted *deleted,
                       struct vc_error *error)
{
  sqlite3_stmt *measure = outbox->measure_upto;
  sqlite3_bind_int64(measure, 1, upto);
  int status = sqlite3_step(measure) == SQLITE_ROW ? 0 : fail(outbox, "measure", error);
  if (status == 0) {
    deleted->rows = sqlite3_column_int64(measure, 0);
    deleted->bytes = sqlite3_column_int64(measure, 1);
  }
  sqlite3_reset(measure);
  sqlite3_bind_int64(outbox->delete_upto, 1, upto);
  return status == 0 ? step(outbox, outbox->delete_upto, error) : -1;
}

static int bury(struct outbox *outbox, const struct outbox_grave *grave, int64_t now_ms,
                struct outbox_deleted *deleted, struct vc_error *error)
{
  sqlite3_bind_int64(outbox->bury, 1, grave->id);
  sqlite3_bind_text(outbox->bury, 2, grave->reason, -1, SQLITE_STATIC);
  sqlite3_bind_double(outbox->bury, 3, (double)now_ms / 1000);
  int status = step(outbox, outbox->bury, error);
  deleted->buried += status == 0 ? sqlite3_changes(outbox->database) : 0; // 0: it was erased
  return status;
}

static int add_all(struct outbox *outbox, const struct outbox_batch *batch, int64_t now_ms,
                   struct vc_error *error)
{
  const struct vc_record *record;
  int status = 0;
  DL_FOREACH(batch->turns, record)
  {
    status = status == 0 ? turn(outbox, record, error) : status;
  }
  for (size_t i = 0; i < OUTBOX_LISTS; i++) {
    DL_FOREACH(batch->lists[i], record)
    {
      status = status == 0 ? append(outbox, record, now_ms, error) : status;
    }
  }
  return status;
}

static int bury_all(struct outbox *outbox, const struct outbox_grave *graves, int64_t now_ms,
                    struct outbox_deleted *deleted, struct vc_error *error)
{
  const struct outbox_grave *grave;
  int status = 0;
  DL_FOREACH(graves, grave)
  {
    status = status == 0 ? bury(outbox, grave, now_ms, deleted, error) : status;
  }
  return status;
}

static int is_empty(const struct outbox_batch *batch)
{
  size_t n = 0;
  for (size_t i = 0; i < OUTBOX_LISTS; i++) {
    n += batch->lists[i] != NULL;
  }
  return n == 0 && batch->turns == NULL && batch->delete_upto == 0;
}

// Returns: up to which row, 0: there is none.
static int64_t end_of_portion(struct outbox *outbox, int64_t upto)
{
  char sql[160];
  int64_t last;
  snprintf(sql, sizeof sql,
           "SELECT coalesce(max(id), 0) FROM (SELECT id FROM outbox WHERE id <= %" PRId64
           " ORDER BY id LIMIT %d)",
           upto, ROWS_AT_ONCE);
  return read_number(outbox, sql, &last, NULL) == 0 ? last : 0;
}

// A full disk has no room in the log for all that may go: a few rows at a time go through the room
// that the log has, over what was read back into the file. Rows that have a grave wait for it.
static void make_room(struct outbox *outbox, const struct outbox_batch *batch,
                      struct outbox_deleted *deleted)
{
  int64_t upto = batch->graves != NULL && batch->graves->id <= batch->delete_upto
                     ? batch->graves->id - 1
                     : batch->delete_upto;
  for (int i = 0; i < PORTIONS_MAX; i++) {
    struct outbox_deleted some = {0};
    if (sqlite3_wal_checkpoint_v2(outbox->database, NULL, SQLITE_CHECKPOINT_RESTART, NULL, NULL) !=
        SQLITE_OK) {
      return; // somebody reads, or there is no room for that either
    }
    int64_t last = end_of_portion(outbox, upto);
    if (last == 0 || delete_rows(outbox, last, &some, NULL) != 0) {
      return;
    }
    deleted->rows += some.rows;
    deleted->bytes += some.bytes;
  }
}

int outbox_commit(struct outbox *outbox, const struct outbox_batch *batch, int64_t now_ms,
                  struct outbox_deleted *deleted, struct vc_error *error)
{
  *deleted = (struct outbox_deleted){0};
  if (make_ready(outbox, now_ms, error) != 0 || run(outbox, "BEGIN IMMEDIATE", error) != 0) {
    return -1;
  }
  int64_t highest = highest_with(outbox, batch);
  int status = add_all(outbox, batch, now_ms, error);
  if (status == 0) {
    status = bury_all(outbox, batch->graves, now_ms, deleted, error);
  }
  if (status == 0 && batch->delete_upto > 0) {
    status = delete_rows(outbox, batch->delete_upto, deleted, error);
  }
  if (status == 0 && (highest > outbox->highest_epoch || is_empty(batch))) {
    status = raise_epoch(outbox, highest, error);
  }
  if (status == 0 && run(outbox, "COMMIT", error) == 0) {
    outbox->highest_epoch = highest;
    return 0;
  }
  int is_full = is_disk_full(outbox);
  run(outbox, "ROLLBACK", NULL);
  *deleted = (struct outbox_deleted){0};
  if (is_full && batch->delete_upto > 0) {
    make_room(outbox, batch, deleted);
  }
  return -1;
}

int outbox_size(struct outbox *outbox, int64_t *rows, int64_t *bytes, struct vc_error *error)
{
  *rows = *bytes = 0;
  if (!outbox->is_ready) {
    return 0;
  }
  sqlite3_stmt *statement =
      prepare(outbox, "SELECT count(*), coalesce(sum(length(value)), 0) FROM outbox", error);
  if (statement == NULL) {
    return -1;
  }
  int status = sqlite3_step(statement) == SQLITE_ROW ? 0 : fail(outbox, "size", error);
  *rows = status == 0 ? sqlite3_column_int64(statement, 0) : 0;
  *bytes = status == 0 ? sqlite3_column_int64(statement, 1) : 0;
  sqlite3_finalize(statement);
  return status;
}

int outbox_count_dead(struct outbox *outbox, int64_t *n, struct vc_error *error)
{
  *n = 0;
  return outbox->is_ready ? read_number(outbox, "SELECT count(*) FROM dead", n, error) : 0;
}

static int erase_from(struct outbox *outbox, const char *sql, const char *slug, int64_t epoch,
                      struct vc_error *error)
{
  sqlite3_stmt *statement = prepare(outbox, sql, error);
  if (statement == NULL) {
    return -1;
  }
  bind_key(statement, slug, epoch);
  int status = sqlite3_step(statement) == SQLITE_DONE ? 0 : fail(outbox, "erase", error);
  sqlite3_finalize(statement);
  return status;
}

static int erase_all(struct outbox *outbox, const char *slug, int64_t epoch, struct vc_error *error)
{
  static const char *const statements[] = {
      "DELETE FROM outbox WHERE key = ?1 AND epoch <= ?2",
      "DELETE FROM open_sessions WHERE key = ?1 AND epoch <= ?2",
      "DELETE FROM dead WHERE key = ?1 AND epoch <= ?2",
  };
  int status = 0;
  for (size_t i = 0; i < sizeof statements / sizeof *statements && status == 0; i++) {
    status = erase_from(outbox, statements[i], slug, epoch, error);
  }
  return status;
}

int outbox_erase(struct outbox *outbox, const char *slug, int64_t epoch,
                 const struct vc_record *notice, int64_t now_ms, struct vc_error *error)
{
  if (make_ready(outbox, now_ms, error) != 0 || run(outbox, "BEGIN IMMEDIATE", error) != 0) {
    return -1;
  }
  int64_t highest = epoch > outbox->highest_epoch ? epoch : outbox->highest_epoch;
  if (erase_all(outbox, slug, epoch, error) != 0 ||
      (notice != NULL && append(outbox, notice, now_ms, error) != 0) ||
      raise_epoch(outbox, highest, error) != 0 || run(outbox, "COMMIT", error) != 0) {
    run(outbox, "ROLLBACK", NULL);
    return -1;
  }
  outbox->highest_epoch = highest;
  // What was deleted is zeroed in the file; the log before it may still hold it.
  run(outbox, "PRAGMA wal_checkpoint(TRUNCATE)", NULL);
  return 0;
}

int outbox_visit(struct outbox *outbox, const char *slug,
                 int (*visit)(void *context, const void *value, size_t size), void *context,
                 struct vc_error *error)
{
  if (!outbox->is_ready) {
    return vc_error_set(error, "it is not open yet");
  }
  sqlite3_stmt *statement =
      prepare(outbox, "SELECT value FROM outbox WHERE key = ?1 ORDER BY id", error);
  if (statement == NULL) {
    return -1;
  }
  sqlite3_bind_text(statement, 1, slug, -1, SQLITE_STATIC);
  int status;
  while ((status = sqlite3_step(statement)) == SQLITE_ROW &&
         visit(context, sqlite3_column_blob(statement, 0),
               (size_t)sqlite3_column_bytes(statement, 0)) == 0) {
  }
  int has_failed = status != SQLITE_DONE && status != SQLITE_ROW;
  if (has_failed) {
    fail(outbox, "read", error);
  }
  sqlite3_finalize(statement);
  return has_failed ? -1 : 0;
}

// Returns: 0, or -1 without memory.
static int copy_row(sqlite3_stmt *statement, struct outbox_row *row)
{
  size_t size = (size_t)sqlite3_column_bytes(statement, 2);
  size_t key_size = (size_t)sqlite3_column_bytes(statement, 3);
  char *value = calloc(1, size + 1 + key_size + 1);
  if (value == NULL) {
    return -1;
  }
  if (size > 0) { // SQLite gives NULL for nothing
    memcpy(value, sqlite3_column_blob(statement, 2), size);
  }
  if (key_size > 0) {
    memcpy(value + size + 1, sqlite3_column_blob(statement, 3), key_size);
  }
  *row = (struct outbox_row){.id = sqlite3_column_int64(statement, 0),
                             .added_ms = sqlite3_column_int64(statement, 1),
                             .epoch = sqlite3_column_int64(statement, 4),
                             .kind = (enum vc_record_kind)sqlite3_column_int(statement, 5),
                             .value = value,
                             .size = size,
                             .key = value + size + 1};
  return 0;
}

int outbox_read(struct outbox *outbox, int64_t after, struct outbox_row *rows, int most,
                struct vc_error *error)
{
  sqlite3_stmt *statement = prepare(outbox,
                                    "SELECT id, added_ms, value, key, epoch, kind FROM outbox"
                                    " WHERE id > ?1 ORDER BY id LIMIT ?2",
                                    error);
  if (statement == NULL) {
    return -1;
  }
  sqlite3_bind_int64(statement, 1, after);
  sqlite3_bind_int(statement, 2, most);
  int n = 0, status;
  while ((status = sqlite3_step(statement)) == SQLITE_ROW) {
    if (copy_row(statement, &rows[n]) != 0) {
      status = SQLITE_NOMEM;
      break;
    }
    n++;
  }
  sqlite3_finalize(statement);
  if (status != SQLITE_DONE) {
    while (n > 0) {
      free(rows[--n].value);
    }
    return fail(outbox, "read", error);
  }
  return n;
}
