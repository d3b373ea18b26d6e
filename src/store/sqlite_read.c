#include "sqlite.h"

#include <math.h>
#include <string.h>

static const char *text_of(sqlite3_stmt *statement, int at)
{
  return (const char *)sqlite3_column_text(statement, at);
}

static double real_of(sqlite3_stmt *statement, int at)
{
  return sqlite3_column_type(statement, at) == SQLITE_NULL ? NAN
                                                           : sqlite3_column_double(statement, at);
}

static void visit_row(sqlite3_stmt *statement, const char *slug, store_visit *visit, void *context)
{
  const char *text = text_of(statement, 3), *language = text_of(statement, 4);
  const char *words = text_of(statement, 9);
  json_t *parsed = words != NULL ? json_loads(words, 0, NULL) : NULL;
  struct vc_record_fields fields = {
      .type = VC_RECORD_TYPE_TRANSCRIPT,
      .session = slug,
      .epoch = sqlite3_column_int64(statement, 0),
      .seq = (uint64_t)sqlite3_column_int64(statement, 1),
      .utterance_id = text_of(statement, 2),
      .text = text != NULL ? text : "",
      .language = language != NULL ? language : "",
      .speaker = text_of(statement, 5),
      .confidence = real_of(statement, 6),
      .start_s = sqlite3_column_double(statement, 7),
      .end_s = sqlite3_column_double(statement, 8),
      .words = parsed,
      .is_approximate = sqlite3_column_int(statement, 10),
      .is_final = 1,
  };
  visit(context, &fields);
  json_decref(parsed);
}

long sqlite_read(struct vc_store *base, const char *slug, long most, store_visit *visit,
                 void *context, struct vc_error *error)
{
  struct sqlite_store *store = (struct sqlite_store *)base;
  sqlite3_stmt *statement = sqlite_prepare(
      store,
      "SELECT s.epoch, t.seq, t.utterance_id, t.text, t.language, p.label, t.confidence, t.start_s,"
      " t.end_s, t.words, t.approximate FROM sessions s JOIN transcripts t ON t.session_id = s.id"
      " LEFT JOIN participants p ON p.id = t.participant_id WHERE s.slug = ?1"
      " ORDER BY s.epoch, t.seq LIMIT ?2",
      error);
  if (statement == NULL) {
    return -1;
  }
  sqlite3_bind_text(statement, 1, slug, -1, SQLITE_STATIC);
  sqlite3_bind_int64(statement, 2, most);
  long n = 0;
  int status;
  while ((status = sqlite3_step(statement)) == SQLITE_ROW) {
    visit_row(statement, slug, visit, context);
    n++;
  }
  if (status != SQLITE_DONE) {
    sqlite_fail(store, "read", error);
    n = -1;
  }
  sqlite3_finalize(statement);
  return n;
}

// `slug` NULL: the statement has no parameter.
static int64_t read_epoch(struct sqlite_store *store, const char *sql, const char *slug,
                          struct vc_error *error)
{
  sqlite3_stmt *statement = sqlite_prepare(store, sql, error);
  if (statement == NULL) {
    return -1;
  }
  if (slug != NULL) {
    sqlite3_bind_text(statement, 1, slug, -1, SQLITE_STATIC);
  }
  int64_t epoch = sqlite3_step(statement) == SQLITE_ROW ? sqlite3_column_int64(statement, 0)
                                                        : sqlite_fail(store, "read", error);
  sqlite3_finalize(statement);
  return epoch;
}

int64_t sqlite_last_epoch(struct vc_store *base, const char *slug, struct vc_error *error)
{
  struct sqlite_store *store = (struct sqlite_store *)base;
  return slug != NULL
             ? read_epoch(store,
                          "SELECT coalesce(max(epoch), 0) FROM (SELECT epoch FROM sessions WHERE"
                          " slug = ?1 UNION ALL SELECT epoch FROM erasures WHERE slug = ?1)",
                          slug, error)
             : read_epoch(store,
                          "SELECT coalesce(max(epoch), 0) FROM (SELECT epoch FROM sessions UNION"
                          " ALL SELECT epoch FROM erasures)",
                          NULL, error);
}
