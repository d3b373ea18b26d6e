// Many rows in few statements: what was erased, the sessions, their participants, the finals, and
// of those that were not taken, why.
#include "postgres.h"

#include <verbacast/wire/json.h>

#include <stdlib.h>
#include <string.h>

#define COLUMNS_MAX 12

struct writing {
  struct pg_store *store;
  struct pg_item *items;
  size_t n_items;
  struct vc_error *error;
  struct pg_ids sessions, participants; // of these rows
};

// A statement whose parameters are columns.
struct columns {
  struct pg_array arrays[COLUMNS_MAX];
  size_t n;
};

static void init_columns(struct columns *columns, const enum pg_type *types, size_t n)
{
  columns->n = n;
  for (size_t i = 0; i < n; i++) {
    pg_array_init(&columns->arrays[i], types[i]);
  }
}

// Takes the columns. Returns: the result, which the caller clears, or NULL.
static PGresult *run_columns(struct writing *writing, const struct pg_statement *statement,
                             struct columns *columns)
{
  struct pg_params params = {0};
  int has_failed = 0;
  for (size_t i = 0; i < columns->n; i++) {
    has_failed |= columns->arrays[i].bytes.has_failed;
    pg_add_array(&params, &columns->arrays[i]);
  }
  PGresult *result = NULL;
  if (has_failed) {
    vc_error_set(writing->error, "store: no memory");
  } else {
    result = pg_run(writing->store, statement, &params, writing->error);
  }
  for (size_t i = 0; i < columns->n; i++) {
    pg_array_fini(&columns->arrays[i]);
  }
  return result;
}

static const char *text_or_null(const char *text)
{
  return text != NULL && text[0] != '\0' ? text : NULL;
}

// The name of a topic and the key of a message are whatever somebody sent.
static const char *clean(const char *text)
{
  return text != NULL && vc_utf8_is_valid(text, strlen(text)) ? text : "";
}

static int is_record(const struct pg_item *item)
{
  return item->record.root != NULL;
}

static const char *slug_of(const struct pg_item *item)
{
  return is_record(item) ? item->record.fields.session : clean(item->row->key);
}

static int64_t epoch_of(const struct pg_item *item)
{
  return is_record(item) ? item->record.fields.epoch : item->row->epoch;
}

static int is_final(const struct pg_item *item)
{
  return is_record(item) && !item->is_erased &&
         item->record.fields.type == VC_RECORD_TYPE_TRANSCRIPT;
}

// --- erasures

static void mark_erased(struct writing *writing, const char *slug, int64_t upto)
{
  for (size_t i = 0; i < writing->n_items; i++) {
    struct pg_item *item = &writing->items[i];
    item->is_erased |= epoch_of(item) <= upto && strcmp(slug_of(item), slug) == 0;
  }
}

static int find_erased(struct writing *writing)
{
  static const struct pg_statement find = {
      "find_erased", "SELECT slug, epoch FROM erasures WHERE slug = ANY ($1::text[])"};
  struct columns columns;
  const char *last = NULL;
  init_columns(&columns, (const enum pg_type[]){PG_TEXT}, 1);
  for (size_t i = 0; i < writing->n_items; i++) {
    const char *slug = slug_of(&writing->items[i]);
    writing->items[i].is_erased = 0;
    if (last == NULL || strcmp(last, slug) != 0) { // most come in rows
      pg_array_add_text(&columns.arrays[0], slug);
    }
    last = slug;
  }
  PGresult *result = run_columns(writing, &find, &columns);
  if (result == NULL) {
    return -1;
  }
  for (int i = 0; i < PQntuples(result); i++) {
    mark_erased(writing, PQgetvalue(result, i, 0), pg_number_of(result, i, 1));
  }
  PQclear(result);
  return 0;
}

// --- sessions and participants

static void gather_session(struct writing *writing, struct pg_item *item)
{
  const struct vc_record_fields *fields = &item->record.fields;
  struct pg_id *session = pg_ids_add(&writing->sessions, fields->epoch, fields->session);
  item->session = session;
  if (session == NULL) {
    return;
  }
  if (session->fields == NULL) {
    const struct pg_id *known =
        pg_ids_find(&writing->store->sessions, fields->epoch, fields->session);
    session->fields = fields;
    session->id = known != NULL ? known->id : 0;
    session->is_wanted = known == NULL;
  }
  session->is_wanted |= fields->type != VC_RECORD_TYPE_TRANSCRIPT;
  if (session->started_at_ms == 0) {
    session->started_at_ms = fields->started_at_ms;
  }
  if (fields->type == VC_RECORD_TYPE_SESSION_ENDED) {
    session->ended_at_ms = fields->ended_at_ms;
  }
}

static void gather_participant(struct writing *writing, struct pg_item *item)
{
  const char *label = item->record.fields.speaker;
  int64_t session = item->session->id;
  item->participant = pg_ids_add(&writing->participants, session, label);
  if (item->participant != NULL && item->participant->fields == NULL) {
    const struct pg_id *known = pg_ids_find(&writing->store->participants, session, label);
    item->participant->fields = &item->record.fields;
    item->participant->id = known != NULL ? known->id : 0;
    item->participant->is_wanted = known == NULL;
  }
}

// Rows of id, number, text: into the batch's ids and into those that are remembered.
static void take_ids(const PGresult *result, struct pg_ids *ids, struct pg_ids *remembered)
{
  for (int i = 0; i < PQntuples(result); i++) {
    int64_t number = pg_number_of(result, i, 1), id = pg_number_of(result, i, 0);
    const char *text = PQgetvalue(result, i, 2);
    struct pg_id *found = pg_ids_find(ids, number, text);
    if (found != NULL) {
      found->id = id;
    }
    pg_ids_remember(remembered, number, text, id);
  }
}

static int run_for_ids(struct writing *writing, const struct pg_statement *statement,
                       struct columns *columns, struct pg_ids *ids, struct pg_ids *remembered)
{
  PGresult *result = run_columns(writing, statement, columns);
  if (result == NULL) {
    return -1;
  }
  take_ids(result, ids, remembered);
  PQclear(result);
  return 0;
}

// In an order, so that two writers do not wait for each other's.
static int upsert_sessions(struct writing *writing)
{
  static const struct pg_statement upsert = {
      "upsert_sessions",
      "INSERT INTO sessions AS s (slug, epoch, node, started_at, ended_at) SELECT * FROM"
      " unnest($1::text[], $2::bigint[], $3::text[], $4::timestamptz[], $5::timestamptz[])"
      " ORDER BY 1, 2 ON CONFLICT (slug, epoch) DO UPDATE SET"
      " ended_at = coalesce(excluded.ended_at, s.ended_at),"
      " started_at = coalesce(s.started_at, excluded.started_at) RETURNING id, epoch, slug"};
  static const enum pg_type types[] = {PG_TEXT, PG_BIGINT, PG_TEXT, PG_TIME, PG_TIME};
  struct columns columns;
  init_columns(&columns, types, sizeof types / sizeof *types);
  for (const struct pg_id *id = writing->sessions.first; id != NULL; id = id->hh.next) {
    if (id->is_wanted) {
      pg_array_add_text(&columns.arrays[0], id->fields->session);
      pg_array_add_number(&columns.arrays[1], id->fields->epoch);
      pg_array_add_text(&columns.arrays[2], text_or_null(id->fields->node));
      pg_array_add_time(&columns.arrays[3], id->started_at_ms * 1000);
      pg_array_add_time(&columns.arrays[4], id->ended_at_ms * 1000);
    }
  }
  return run_for_ids(writing, &upsert, &columns, &writing->sessions, &writing->store->sessions);
}

static int upsert_participants(struct writing *writing)
{
  static const struct pg_statement upsert = {
      "upsert_participants",
      "INSERT INTO participants (session_id, label) SELECT * FROM"
      " unnest($1::bigint[], $2::text[]) ORDER BY 1, 2 ON CONFLICT (session_id, label)"
      " DO UPDATE SET label = excluded.label RETURNING id, session_id, label"};
  struct columns columns;
  init_columns(&columns, (const enum pg_type[]){PG_BIGINT, PG_TEXT}, 2);
  for (const struct pg_id *id = writing->participants.first; id != NULL; id = id->hh.next) {
    if (id->is_wanted) {
      pg_array_add_number(&columns.arrays[0], id->number);
      pg_array_add_text(&columns.arrays[1], id->fields->speaker);
    }
  }
  return run_for_ids(writing, &upsert, &columns, &writing->participants,
                     &writing->store->participants);
}

static int has_wanted(const struct pg_ids *ids)
{
  for (const struct pg_id *id = ids->first; id != NULL; id = id->hh.next) {
    if (id->is_wanted) {
      return 1;
    }
  }
  return 0;
}

static int find_sessions(struct writing *writing)
{
  for (size_t i = 0; i < writing->n_items; i++) {
    struct pg_item *item = &writing->items[i];
    item->session = NULL;
    if (!is_record(item) || item->is_erased) {
      continue;
    }
    gather_session(writing, item);
    if (item->session == NULL) {
      return vc_error_set(writing->error, "store: no memory");
    }
  }
  return has_wanted(&writing->sessions) ? upsert_sessions(writing) : 0;
}

static int find_participants(struct writing *writing)
{
  for (size_t i = 0; i < writing->n_items; i++) {
    struct pg_item *item = &writing->items[i];
    item->participant = NULL;
    if (!is_final(item) || item->record.fields.speaker == NULL) {
      continue;
    }
    gather_participant(writing, item);
    if (item->participant == NULL) {
      return vc_error_set(writing->error, "store: no memory");
    }
  }
  return has_wanted(&writing->participants) ? upsert_participants(writing) : 0;
}

// --- finals

static int add_words(struct pg_array *array, const json_t *words)
{
  if (words == NULL) {
    pg_array_add_null(array);
    return 0;
  }
  char *text = vc_json_print(words);
  if (text == NULL) {
    return -1;
  }
  pg_array_add_json(array, text);
  free(text);
  return 0;
}

static int add_final(struct pg_array *arrays, const struct pg_item *item)
{
  const struct vc_record_fields *fields = &item->record.fields;
  pg_array_add_number(&arrays[0], item->session->id);
  if (item->participant != NULL) {
    pg_array_add_number(&arrays[1], item->participant->id);
  } else {
    pg_array_add_null(&arrays[1]);
  }
  pg_array_add_text(&arrays[2], fields->utterance_id);
  pg_array_add_number(&arrays[3], (int64_t)fields->seq);
  pg_array_add_text(&arrays[4], fields->text);
  pg_array_add_text(&arrays[5], text_or_null(fields->language));
  pg_array_add_real(&arrays[6], fields->confidence);
  pg_array_add_real(&arrays[7], fields->start_s);
  pg_array_add_real(&arrays[8], fields->end_s);
  pg_array_add_time(&arrays[10], fields->received_at_us);
  pg_array_add_boolean(&arrays[11], fields->is_approximate);
  return add_words(&arrays[9], fields->words);
}

static PGresult *insert_finals(struct writing *writing)
{
  static const struct pg_statement insert = {
      "insert_finals",
      "INSERT INTO transcripts (session_id, participant_id, utterance_id, seq, text, language,"
      " confidence, start_s, end_s, words, received_at, approximate) SELECT * FROM"
      " unnest($1::bigint[], $2::bigint[], $3::text[], $4::bigint[], $5::text[], $6::text[],"
      " $7::float8[], $8::float8[], $9::float8[], $10::jsonb[], $11::timestamptz[],"
      " $12::boolean[]) ON CONFLICT DO NOTHING RETURNING session_id, seq, utterance_id"};
  static const enum pg_type types[COLUMNS_MAX] = {PG_BIGINT, PG_BIGINT, PG_TEXT,   PG_BIGINT,
                                                  PG_TEXT,   PG_TEXT,   PG_DOUBLE, PG_DOUBLE,
                                                  PG_DOUBLE, PG_JSONB,  PG_TIME,   PG_BOOLEAN};
  struct columns columns;
  int status = 0;
  init_columns(&columns, types, COLUMNS_MAX);
  for (size_t i = 0; i < writing->n_items && status == 0; i++) {
    if (is_final(&writing->items[i])) {
      status = add_final(columns.arrays, &writing->items[i]);
    }
  }
  columns.arrays[0].bytes.has_failed |= status != 0;
  return run_columns(writing, &insert, &columns);
}

static int is_returned(const PGresult *result, int row, const struct pg_item *item)
{
  return row < PQntuples(result) && pg_number_of(result, row, 0) == item->session->id &&
         pg_number_of(result, row, 1) == (int64_t)item->record.fields.seq &&
         strcmp(PQgetvalue(result, row, 2), item->record.fields.utterance_id) == 0;
}

// The rows come back in the order in which they went in: of several with one place the first was
// taken. Those that are not among them are conflicts until they are compared. Returns: how many.
static size_t mark_stored(struct writing *writing, const PGresult *result)
{
  int at = 0;
  size_t n_left = 0;
  for (size_t i = 0; i < writing->n_items; i++) {
    struct pg_item *item = &writing->items[i];
    if (!is_final(item)) {
      continue;
    }
    int is_stored = is_returned(result, at, item);
    at += is_stored;
    n_left += !is_stored;
    item->row->outcome = is_stored ? VC_STORE_STORED : VC_STORE_CONFLICT;
  }
  return n_left;
}

static int is_left(const struct pg_item *item)
{
  return is_final(item) && item->row->outcome == VC_STORE_CONFLICT;
}

// `places` of those that are left, from 1, in a growing order.
static void mark_repeated(struct writing *writing, const PGresult *places)
{
  int at = 0;
  int64_t place = 0;
  for (size_t i = 0; i < writing->n_items; i++) {
    struct pg_item *item = &writing->items[i];
    if (!is_left(item)) {
      continue;
    }
    place++;
    if (at < PQntuples(places) && pg_number_of(places, at, 0) == place) {
      item->row->outcome = VC_STORE_REPEATED;
      at++;
    } else {
      item->row->why = store_why_conflict;
    }
  }
}

// The place was taken: by the same final, sent again, or by another.
static int compare_finals(struct writing *writing)
{
  static const struct pg_statement compare = {
      "compare_finals",
      "SELECT u.n FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[])"
      " WITH ORDINALITY AS u (session, seq, utterance, text, n)"
      " WHERE (SELECT t.utterance_id = u.utterance AND t.text = u.text FROM transcripts t"
      " WHERE t.session_id = u.session AND t.seq = u.seq) ORDER BY u.n"};
  struct columns columns;
  init_columns(&columns, (const enum pg_type[]){PG_BIGINT, PG_BIGINT, PG_TEXT, PG_TEXT}, 4);
  for (size_t i = 0; i < writing->n_items; i++) {
    const struct pg_item *item = &writing->items[i];
    if (is_left(item)) {
      pg_array_add_number(&columns.arrays[0], item->session->id);
      pg_array_add_number(&columns.arrays[1], (int64_t)item->record.fields.seq);
      pg_array_add_text(&columns.arrays[2], item->record.fields.utterance_id);
      pg_array_add_text(&columns.arrays[3], item->record.fields.text);
    }
  }
  PGresult *places = run_columns(writing, &compare, &columns);
  if (places == NULL) {
    return -1;
  }
  mark_repeated(writing, places);
  PQclear(places);
  return 0;
}

static int write_finals(struct writing *writing)
{
  size_t n = 0;
  for (size_t i = 0; i < writing->n_items; i++) {
    n += (size_t)is_final(&writing->items[i]);
  }
  if (n == 0) {
    return 0;
  }
  PGresult *result = insert_finals(writing);
  if (result == NULL) {
    return -1;
  }
  size_t n_left = mark_stored(writing, result);
  PQclear(result);
  return n_left > 0 ? compare_finals(writing) : 0;
}

// --- all of it

static void mark_others(struct writing *writing)
{
  for (size_t i = 0; i < writing->n_items; i++) {
    struct pg_item *item = &writing->items[i];
    if (item->is_erased) {
      item->row->outcome = VC_STORE_ERASED;
    } else if (!is_record(item)) {
      item->row->outcome = VC_STORE_POISONED;
    } else if (!is_final(item)) {
      item->row->outcome = VC_STORE_STORED;
    }
  }
}

// Sent again, it lies there once.
static int bury(struct writing *writing, const struct pg_item *item)
{
  static const struct pg_statement insert = {
      "bury", "INSERT INTO dead (reason, topic, key, epoch, value) SELECT $1::text, $2::text,"
              " $3::text, $4::bigint, $5::bytea WHERE NOT EXISTS (SELECT 1 FROM dead"
              " WHERE key = $3 AND epoch = $4 AND value = $5)"};
  const struct vc_store_row *row = item->row;
  struct pg_params params = {0};
  pg_add_text(&params, row->why);
  pg_add_text(&params, clean(row->topic));
  pg_add_text(&params, slug_of(item));
  pg_add_number(&params, epoch_of(item));
  pg_add_bytes(&params, row->value != NULL ? row->value : "", row->size);
  return pg_change(writing->store, &insert, &params, writing->error) < 0 ? -1 : 0;
}

static int bury_dead(struct writing *writing)
{
  for (size_t i = 0; i < writing->n_items; i++) {
    enum vc_store_outcome outcome = writing->items[i].row->outcome;
    if ((outcome == VC_STORE_CONFLICT || outcome == VC_STORE_POISONED) &&
        bury(writing, &writing->items[i]) != 0) {
      return -1;
    }
  }
  return 0;
}

static int write_all(struct writing *writing, int has_graves)
{
  if (find_erased(writing) != 0 || find_sessions(writing) != 0 || find_participants(writing) != 0 ||
      write_finals(writing) != 0) {
    return -1;
  }
  mark_others(writing);
  return has_graves ? bury_dead(writing) : 0;
}

int pg_write_items(struct pg_store *store, struct pg_item *items, size_t n_items, int has_graves,
                   struct vc_error *error)
{
  struct writing writing = {.store = store, .items = items, .n_items = n_items, .error = error};
  int status = n_items > 0 ? write_all(&writing, has_graves) : 0;
  pg_ids_fini(&writing.sessions);
  pg_ids_fini(&writing.participants);
  return status;
}

int pg_write_erasure(struct pg_store *store, struct pg_item *item, struct vc_error *error)
{
  const struct vc_record_fields *fields = &item->record.fields;
  struct writing writing = {.store = store, .items = item, .n_items = 1, .error = error};
  if (find_erased(&writing) != 0) {
    return -1;
  }
  item->row->outcome = item->is_erased ? VC_STORE_REPEATED : VC_STORE_STORED;
  return item->is_erased ||
                 pg_erase(store, fields->session, fields->epoch, fields->erased_at_ms, error) >= 0
             ? 0
             : -1;
}
