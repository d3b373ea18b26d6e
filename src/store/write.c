#include "connection.h"

#include <verbacast/wire/json.h>

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// The statements of one write; prepared once a transaction.
struct writer {
  struct vc_store *store;
  struct vc_error *error;
  sqlite3_stmt *erased, *upsert_session, *upsert_participant, *insert, *compare, *bury;
};

static int writer_init(struct writer *writer, struct vc_store *store, struct vc_error *error)
{
  *writer = (struct writer){.store = store, .error = error};
  writer->erased = store_prepare(store, "SELECT epoch FROM erasures WHERE slug = ?1", error);
  writer->upsert_session = store_prepare(
      store,
      "INSERT INTO sessions (slug, epoch, node, started_at, ended_at) VALUES (?1, ?2, ?3, ?4, ?5)"
      " ON CONFLICT (slug, epoch) DO UPDATE SET ended_at = coalesce(excluded.ended_at, ended_at),"
      " started_at = coalesce(started_at, excluded.started_at) RETURNING id",
      error);
  writer->upsert_participant =
      store_prepare(store,
                    "INSERT INTO participants (session_id, label) VALUES (?1, ?2)"
                    " ON CONFLICT (session_id, label) DO UPDATE SET label = label RETURNING id",
                    error);
  writer->insert = store_prepare(
      store,
      "INSERT INTO transcripts (session_id, participant_id, utterance_id, seq, text, language,"
      " confidence, start_s, end_s, words, received_at, approximate)"
      " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) ON CONFLICT DO NOTHING",
      error);
  writer->compare = store_prepare(store,
                                  "SELECT count(*) FROM transcripts WHERE session_id = ?1"
                                  " AND utterance_id = ?2 AND seq = ?3 AND text = ?4",
                                  error);
  writer->bury = store_prepare(
      store,
      "INSERT INTO dead (reason, topic, key, epoch, value, at) SELECT ?1, ?2, ?3, ?4, ?5,"
      " (julianday('now') - 2440587.5) * 86400" // Unix time
      " WHERE NOT EXISTS (SELECT 1 FROM dead WHERE key = ?3 AND epoch = ?4 AND value = ?5)",
      error);
  return writer->erased == NULL || writer->upsert_session == NULL ||
                 writer->upsert_participant == NULL || writer->insert == NULL ||
                 writer->compare == NULL || writer->bury == NULL
             ? -1
             : 0;
}

static void writer_fini(struct writer *writer)
{
  sqlite3_finalize(writer->erased);
  sqlite3_finalize(writer->upsert_session);
  sqlite3_finalize(writer->upsert_participant);
  sqlite3_finalize(writer->insert);
  sqlite3_finalize(writer->compare);
  sqlite3_finalize(writer->bury);
}

static void bind_text(sqlite3_stmt *statement, int at, const char *text)
{
  if (text != NULL && text[0] != '\0') {
    sqlite3_bind_text(statement, at, text, -1, SQLITE_TRANSIENT);
  } else {
    sqlite3_bind_null(statement, at);
  }
}

static void bind_real(sqlite3_stmt *statement, int at, double number)
{
  if (isfinite(number)) {
    sqlite3_bind_double(statement, at, number);
  } else {
    sqlite3_bind_null(statement, at);
  }
}

static void bind_time(sqlite3_stmt *statement, int at, int64_t unix_ms)
{
  bind_real(statement, at, unix_ms > 0 ? (double)unix_ms / 1000 : NAN);
}

// Runs a statement that gives one number or none. Returns: 1 a number, 0 none, -1.
static int one_number(struct writer *writer, sqlite3_stmt *statement, int64_t *number)
{
  int status = sqlite3_step(statement);
  if (status == SQLITE_ROW) {
    *number = sqlite3_column_int64(statement, 0);
    // To its end: an INSERT … RETURNING is done only then.
    while ((status = sqlite3_step(statement)) == SQLITE_ROW) {
    }
    sqlite3_reset(statement);
    return status == SQLITE_DONE ? 1 : store_fail(writer->store, "write", writer->error);
  }
  sqlite3_reset(statement);
  return status == SQLITE_DONE ? 0 : store_fail(writer->store, "write", writer->error);
}

// Returns: 1 the record's session was erased, 0 it was not, -1.
static int is_erased(struct writer *writer, const char *slug, int64_t epoch)
{
  int64_t upto = 0;
  bind_text(writer->erased, 1, slug);
  int status = one_number(writer, writer->erased, &upto);
  return status <= 0 ? status : epoch <= upto;
}

static int upsert_session(struct writer *writer, const struct vc_record_fields *fields, int64_t *id)
{
  sqlite3_stmt *statement = writer->upsert_session;
  bind_text(statement, 1, fields->session);
  sqlite3_bind_int64(statement, 2, fields->epoch);
  bind_text(statement, 3, fields->node);
  bind_time(statement, 4, fields->started_at_ms);
  bind_time(statement, 5, fields->type == VC_RECORD_TYPE_SESSION_ENDED ? fields->ended_at_ms : 0);
  return one_number(writer, statement, id) == 1 ? 0 : -1;
}

static void remember_id(struct vc_store *store, const char *key, int64_t id)
{
  struct session_id *row = calloc(1, sizeof *row);
  if (row == NULL) {
    return; // it is asked for again
  }
  if (HASH_COUNT(store->sessions) >= IDS_MAX) {
    struct session_id *oldest = store->sessions;
    HASH_DEL(store->sessions, oldest);
    free(oldest);
  }
  snprintf(row->key, sizeof row->key, "%s", key);
  row->id = id;
  HASH_ADD_STR(store->sessions, key, row);
  if (row->hh.tbl == NULL) {
    free(row); // likewise
  }
}

static int session_id(struct writer *writer, const struct vc_record_fields *fields, int64_t *id)
{
  char key[160];
  struct session_id *row;
  int n = snprintf(key, sizeof key, "%" PRId64 " %s", fields->epoch, fields->session);
  int is_short = n > 0 && (size_t)n < sizeof key;
  HASH_FIND_STR(writer->store->sessions, key, row);
  if (is_short && row != NULL) {
    *id = row->id;
    return 0;
  }
  if (upsert_session(writer, fields, id) != 0) {
    return -1;
  }
  if (is_short) {
    remember_id(writer->store, key, *id);
  }
  return 0;
}

static int bind_participant(struct writer *writer, int64_t session, const char *label)
{
  int64_t id = 0;
  if (label == NULL) {
    sqlite3_bind_null(writer->insert, 2);
    return 0;
  }
  sqlite3_bind_int64(writer->upsert_participant, 1, session);
  sqlite3_bind_text(writer->upsert_participant, 2, label, -1, SQLITE_TRANSIENT);
  if (one_number(writer, writer->upsert_participant, &id) != 1) {
    return -1;
  }
  sqlite3_bind_int64(writer->insert, 2, id);
  return 0;
}

static int insert(struct writer *writer, int64_t session, const struct vc_record_fields *fields)
{
  sqlite3_stmt *statement = writer->insert;
  char *words = fields->words != NULL ? vc_json_print(fields->words) : NULL;
  int status = -1;
  if (fields->words != NULL && words == NULL) {
    return vc_error_set(writer->error, "store: no memory");
  }
  if (bind_participant(writer, session, fields->speaker) == 0) {
    sqlite3_bind_int64(statement, 1, session);
    bind_text(statement, 3, fields->utterance_id);
    sqlite3_bind_int64(statement, 4, (int64_t)fields->seq);
    sqlite3_bind_text(statement, 5, fields->text, -1, SQLITE_TRANSIENT);
    bind_text(statement, 6, fields->language);
    bind_real(statement, 7, fields->confidence);
    bind_real(statement, 8, fields->start_s);
    bind_real(statement, 9, fields->end_s);
    bind_text(statement, 10, words);
    bind_time(statement, 11, fields->received_at_us / 1000);
    sqlite3_bind_int(statement, 12, fields->is_approximate);
    status = sqlite3_step(statement) == SQLITE_DONE
                 ? 0
                 : store_fail(writer->store, "insert", writer->error);
    sqlite3_reset(statement);
  }
  free(words);
  return status;
}

// The place was taken: by the same final, sent again, or by another.
static int compare(struct writer *writer, int64_t session, const struct vc_record_fields *fields,
                   enum vc_store_outcome *outcome)
{
  int64_t n_same = 0;
  sqlite3_bind_int64(writer->compare, 1, session);
  bind_text(writer->compare, 2, fields->utterance_id);
  sqlite3_bind_int64(writer->compare, 3, (int64_t)fields->seq);
  sqlite3_bind_text(writer->compare, 4, fields->text, -1, SQLITE_TRANSIENT);
  if (one_number(writer, writer->compare, &n_same) != 1) {
    return -1;
  }
  *outcome = n_same > 0 ? VC_STORE_REPEATED : VC_STORE_CONFLICT;
  return 0;
}

static int write_fields(struct writer *writer, const struct vc_record_fields *fields,
                        enum vc_store_outcome *outcome)
{
  int64_t session;
  int erased = is_erased(writer, fields->session, fields->epoch);
  if (erased != 0) {
    *outcome = VC_STORE_ERASED;
    return erased < 0 ? -1 : 0;
  }
  *outcome = VC_STORE_STORED;
  if (fields->type != VC_RECORD_TYPE_TRANSCRIPT) {
    return upsert_session(writer, fields, &session);
  }
  if (session_id(writer, fields, &session) != 0 || insert(writer, session, fields) != 0) {
    return -1;
  }
  return sqlite3_changes(writer->store->database) == 0 ? compare(writer, session, fields, outcome)
                                                       : 0;
}

// What cannot be kept where it belongs is kept where somebody may look for it; sent again, it lies
// there once.
static int bury(struct writer *writer, const struct vc_store_row *row, const char *slug,
                int64_t epoch)
{
  sqlite3_stmt *statement = writer->bury;
  sqlite3_bind_text(statement, 1, row->why, -1, SQLITE_STATIC);
  sqlite3_bind_text(statement, 2, row->topic != NULL ? row->topic : "", -1, SQLITE_STATIC);
  sqlite3_bind_text(statement, 3, slug != NULL ? slug : "", -1, SQLITE_STATIC);
  sqlite3_bind_int64(statement, 4, epoch);
  sqlite3_bind_blob64(statement, 5, row->value, row->size, SQLITE_STATIC);
  int status =
      sqlite3_step(statement) == SQLITE_DONE ? 0 : store_fail(writer->store, "dead", writer->error);
  sqlite3_reset(statement);
  return status;
}

static int write_poison(struct writer *writer, struct vc_store_row *row)
{
  int erased = is_erased(writer, row->key, row->epoch);
  row->outcome = erased == 0 ? VC_STORE_POISONED : VC_STORE_ERASED;
  return erased == 0 ? bury(writer, row, row->key, row->epoch) : erased < 0 ? -1 : 0;
}

static int write_row(struct writer *writer, struct vc_store_row *row)
{
  struct vc_record_parsed record;
  if (vc_record_parse(row->value, row->size, &record, &row->why) != 0) {
    return row->why == vc_json_no_memory ? vc_error_set(writer->error, "store: no memory")
                                         : write_poison(writer, row);
  }
  int status = write_fields(writer, &record.fields, &row->outcome);
  if (status == 0 && row->outcome == VC_STORE_CONFLICT) {
    row->why = "another text has its place";
    status = bury(writer, row, record.fields.session, record.fields.epoch);
  }
  vc_record_parsed_fini(&record);
  return status;
}

static int write_rows(struct writer *writer, struct vc_store_row *rows, size_t n_rows)
{
  int status = 0;
  for (size_t i = 0; i < n_rows && status == 0; i++) {
    status = write_row(writer, &rows[i]);
  }
  return status;
}

int vc_store_write(struct vc_store *store, struct vc_store_row *rows, size_t n_rows,
                   struct vc_error *error)
{
  struct writer writer;
  if (store_run(store, "BEGIN IMMEDIATE", error) != 0) {
    return -1;
  }
  int status = writer_init(&writer, store, error);
  if (status == 0) {
    status = write_rows(&writer, rows, n_rows);
  }
  writer_fini(&writer);
  if (status == 0) {
    status = store_run(store, "COMMIT", error);
  }
  if (status != 0) {
    store_run(store, "ROLLBACK", NULL);
    store_forget_ids(store); // some may be of rows that are gone with the transaction
  }
  return status;
}
