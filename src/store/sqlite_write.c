#include "sqlite.h"

#include <verbacast/wire/json.h>

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct writer {
  struct sqlite_store *store;
  const struct vc_store_batch *batch;
  struct vc_error *error;
  size_t n_unkept; // rows that are CONFLICT or POISONED
  size_t n_erasures;
};

static const char *const statements[N_STATEMENTS] = {
    [STATEMENT_DATA_VERSION] = "PRAGMA data_version",
    [STATEMENT_ERASED] = "SELECT epoch FROM erasures WHERE slug = ?1",
    [STATEMENT_UPSERT_SESSION] =
        "INSERT INTO sessions (slug, epoch, node, started_at, ended_at) VALUES (?1, ?2, ?3, ?4, ?5)"
        " ON CONFLICT (slug, epoch) DO UPDATE SET ended_at = coalesce(excluded.ended_at, ended_at),"
        " started_at = coalesce(started_at, excluded.started_at) RETURNING id",
    [STATEMENT_UPSERT_PARTICIPANT] =
        "INSERT INTO participants (session_id, label) VALUES (?1, ?2)"
        " ON CONFLICT (session_id, label) DO UPDATE SET label = label RETURNING id",
    [STATEMENT_INSERT] =
        "INSERT INTO transcripts (session_id, participant_id, utterance_id, seq, text, language,"
        " confidence, start_s, end_s, words, received_at, approximate)"
        " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) ON CONFLICT DO NOTHING",
    [STATEMENT_COMPARE] = "SELECT count(*) FROM transcripts WHERE session_id = ?1"
                          " AND utterance_id = ?2 AND seq = ?3 AND text = ?4",
    [STATEMENT_BURY] =
        "INSERT INTO dead (reason, topic, key, epoch, value, at) SELECT ?1, ?2, ?3, ?4, ?5,"
        " (julianday('now') - 2440587.5) * 86400" // Unix time
        " WHERE NOT EXISTS (SELECT 1 FROM dead WHERE key = ?3 AND epoch = ?4 AND value = ?5)",
    [STATEMENT_ADD_POSITION] =
        "INSERT INTO offsets (cluster_id, grp, topic, partition, next_offset)"
        " VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING",
    [STATEMENT_MOVE_POSITION] =
        "UPDATE offsets SET next_offset = ?5 WHERE cluster_id = ?1 AND grp = ?2 AND topic = ?3"
        " AND partition = ?4 AND next_offset = ?6",
};

static int prepare_all(struct writer *writer)
{
  for (size_t i = 0; i < N_STATEMENTS; i++) {
    sqlite3_stmt **statement = &writer->store->statements[i];
    if (*statement == NULL) {
      *statement = sqlite_prepare(writer->store, statements[i], writer->error);
    }
    if (*statement == NULL) {
      return -1;
    }
  }
  return 0;
}

static sqlite3_stmt *statement_of(const struct writer *writer, enum sqlite_statement which)
{
  return writer->store->statements[which];
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

static int one_number(struct writer *writer, sqlite3_stmt *statement, int64_t *number)
{
  return sqlite_one_number(writer->store, statement, number, writer->error);
}

// Of a statement that gives nothing. Returns: 0 or -1.
static int step(struct writer *writer, sqlite3_stmt *statement)
{
  int64_t unused;
  return one_number(writer, statement, &unused);
}

// Returns: 1 the record's session was erased, 0 it was not, -1.
static int is_erased(struct writer *writer, const char *slug, int64_t epoch)
{
  int64_t upto = 0;
  sqlite3_stmt *statement = statement_of(writer, STATEMENT_ERASED);
  bind_text(statement, 1, slug);
  int status = one_number(writer, statement, &upto);
  return status <= 0 ? status : epoch <= upto;
}

static int upsert_session(struct writer *writer, const struct vc_record_fields *fields, int64_t *id)
{
  sqlite3_stmt *statement = statement_of(writer, STATEMENT_UPSERT_SESSION);
  bind_text(statement, 1, fields->session);
  sqlite3_bind_int64(statement, 2, fields->epoch);
  bind_text(statement, 3, fields->node);
  bind_time(statement, 4, fields->started_at_ms);
  bind_time(statement, 5, fields->type == VC_RECORD_TYPE_SESSION_ENDED ? fields->ended_at_ms : 0);
  return one_number(writer, statement, id) == 1 ? 0 : -1;
}

static void remember_id(struct sqlite_store *store, const char *key, int64_t id)
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
  sqlite3_stmt *upsert = statement_of(writer, STATEMENT_UPSERT_PARTICIPANT);
  sqlite3_stmt *statement = statement_of(writer, STATEMENT_INSERT);
  if (label == NULL) {
    sqlite3_bind_null(statement, 2);
    return 0;
  }
  sqlite3_bind_int64(upsert, 1, session);
  sqlite3_bind_text(upsert, 2, label, -1, SQLITE_TRANSIENT);
  if (one_number(writer, upsert, &id) != 1) {
    return -1;
  }
  sqlite3_bind_int64(statement, 2, id);
  return 0;
}

static int insert(struct writer *writer, int64_t session, const struct vc_record_fields *fields)
{
  sqlite3_stmt *statement = statement_of(writer, STATEMENT_INSERT);
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
    status = step(writer, statement);
  }
  free(words);
  return status;
}

// The place was taken: by the same final, sent again, or by another.
static int compare(struct writer *writer, int64_t session, const struct vc_record_fields *fields,
                   enum vc_store_outcome *outcome)
{
  int64_t n_same = 0;
  sqlite3_stmt *statement = statement_of(writer, STATEMENT_COMPARE);
  sqlite3_bind_int64(statement, 1, session);
  bind_text(statement, 2, fields->utterance_id);
  sqlite3_bind_int64(statement, 3, (int64_t)fields->seq);
  sqlite3_bind_text(statement, 4, fields->text, -1, SQLITE_TRANSIENT);
  if (one_number(writer, statement, &n_same) != 1) {
    return -1;
  }
  *outcome = n_same > 0 ? VC_STORE_REPEATED : VC_STORE_CONFLICT;
  return 0;
}

static int write_erasure(struct writer *writer, const struct vc_record_fields *fields,
                         enum vc_store_outcome *outcome)
{
  int erased = is_erased(writer, fields->session, fields->epoch);
  *outcome = erased > 0 ? VC_STORE_REPEATED : VC_STORE_STORED;
  if (erased != 0) {
    return erased < 0 ? -1 : 0;
  }
  writer->n_erasures++;
  long n = sqlite_erase(writer->store, fields->session, fields->epoch, fields->erased_at_ms,
                        writer->error);
  return n < 0 ? -1 : 0;
}

static int write_fields(struct writer *writer, const struct vc_record_fields *fields,
                        enum vc_store_outcome *outcome)
{
  int64_t session;
  if (fields->type == VC_RECORD_TYPE_SESSION_ERASED) {
    return write_erasure(writer, fields, outcome);
  }
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
  sqlite3_stmt *statement = statement_of(writer, STATEMENT_BURY);
  writer->n_unkept++;
  if (writer->batch->bury != NULL) {
    return 0; // the caller does
  }
  sqlite3_bind_text(statement, 1, row->why, -1, SQLITE_STATIC);
  sqlite3_bind_text(statement, 2, row->topic != NULL ? row->topic : "", -1, SQLITE_STATIC);
  sqlite3_bind_text(statement, 3, slug != NULL ? slug : "", -1, SQLITE_STATIC);
  sqlite3_bind_int64(statement, 4, epoch);
  sqlite3_bind_blob64(statement, 5, row->value != NULL ? row->value : "", row->size, SQLITE_STATIC);
  return step(writer, statement);
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
  if (store_parse(row, &record) != 0) {
    return row->why == vc_json_no_memory ? vc_error_set(writer->error, "store: no memory")
                                         : write_poison(writer, row);
  }
  int status = write_fields(writer, &record.fields, &row->outcome);
  if (status == 0 && row->outcome == VC_STORE_CONFLICT) {
    row->why = store_why_conflict;
    status = bury(writer, row, record.fields.session, record.fields.epoch);
  }
  vc_record_parsed_fini(&record);
  return status;
}

static int write_rows(struct writer *writer)
{
  const struct vc_store_batch *batch = writer->batch;
  for (size_t i = 0; i < batch->n_rows; i++) {
    if (write_row(writer, &batch->rows[i]) != 0) {
      return -1;
    }
  }
  return writer->n_unkept > 0 && batch->bury != NULL
             ? batch->bury(batch->context, batch->rows, batch->n_rows, writer->error)
             : 0;
}

// Returns: 0; 1: it is not where it is said to be; -1.
static int move_position(struct writer *writer, const struct vc_store_position *position)
{
  sqlite3_stmt *statement =
      statement_of(writer, position->from < 0 ? STATEMENT_ADD_POSITION : STATEMENT_MOVE_POSITION);
  sqlite3_bind_text(statement, 1, writer->batch->cluster, -1, SQLITE_STATIC);
  sqlite3_bind_text(statement, 2, writer->batch->group, -1, SQLITE_STATIC);
  sqlite3_bind_text(statement, 3, position->topic, -1, SQLITE_STATIC);
  sqlite3_bind_int(statement, 4, position->partition);
  sqlite3_bind_int64(statement, 5, position->next);
  if (position->from >= 0) {
    sqlite3_bind_int64(statement, 6, position->from);
  }
  if (step(writer, statement) != 0) {
    return -1;
  }
  return sqlite3_changes(writer->store->database) == 1 ? 0 : 1;
}

static int move_positions(struct writer *writer)
{
  int status = 0;
  for (size_t i = 0; i < writer->batch->n_positions && status == 0; i++) {
    status = move_position(writer, &writer->batch->positions[i]);
  }
  return status;
}

// Somebody else's deletions give row ids free, which the next session may get.
static int forget_old_ids(struct writer *writer)
{
  int64_t version;
  if (one_number(writer, statement_of(writer, STATEMENT_DATA_VERSION), &version) != 1) {
    return -1;
  }
  if (version != writer->store->data_version) {
    sqlite_forget_ids(writer->store);
    writer->store->data_version = version;
  }
  return 0;
}

int sqlite_write_batch(struct vc_store *base, const struct vc_store_batch *batch,
                       struct vc_error *error)
{
  struct sqlite_store *store = (struct sqlite_store *)base;
  struct writer writer = {.store = store, .batch = batch, .error = error};
  if (prepare_all(&writer) != 0 || sqlite_run(store, "BEGIN IMMEDIATE", error) != 0) {
    return -1;
  }
  int status = forget_old_ids(&writer);
  if (status == 0) {
    status = move_positions(&writer);
  }
  if (status == 0) {
    status = write_rows(&writer);
  }
  if (status == 0) {
    status = sqlite_run(store, "COMMIT", error);
  }
  if (status != 0) {
    sqlite_run(store, "ROLLBACK", NULL);
    sqlite_forget_ids(store); // some may be of rows that are gone with the transaction
  } else if (writer.n_erasures > 0) {
    sqlite_wipe_log(store);
  }
  return status;
}
