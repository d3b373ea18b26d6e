#include "postgres.h"

#include <math.h>
#include <stdlib.h>

// A database that has none of our tables holds nothing.
#define UNDEFINED_TABLE "42P01"

static const char *text_of(const PGresult *row, int at)
{
  return PQgetisnull(row, 0, at) ? NULL : PQgetvalue(row, 0, at);
}

static double real_of(const PGresult *row, int at)
{
  return PQgetisnull(row, 0, at) ? NAN : strtod(PQgetvalue(row, 0, at), NULL);
}

static void visit_row(const PGresult *row, const char *slug, store_visit *visit, void *context)
{
  const char *language = text_of(row, 4), *words = text_of(row, 9);
  json_t *parsed = words != NULL ? json_loads(words, 0, NULL) : NULL;
  struct vc_record_fields fields = {
      .type = VC_RECORD_TYPE_TRANSCRIPT,
      .session = slug,
      .epoch = pg_number_of(row, 0, 0),
      .seq = (uint64_t)pg_number_of(row, 0, 1),
      .utterance_id = text_of(row, 2),
      .text = text_of(row, 3),
      .language = language != NULL ? language : "",
      .speaker = text_of(row, 5),
      .confidence = real_of(row, 6),
      .start_s = real_of(row, 7),
      .end_s = real_of(row, 8),
      .words = parsed,
      .is_approximate = PQgetvalue(row, 0, 10)[0] == 't',
      .is_final = 1,
  };
  visit(context, &fields);
  json_decref(parsed);
}

long pg_read(struct vc_store *base, const char *slug, long most, store_visit *visit, void *context,
             struct vc_error *error)
{
  static const struct pg_statement select = {
      NULL, "SELECT s.epoch, t.seq, t.utterance_id, t.text, t.language, p.label, t.confidence,"
            " t.start_s, t.end_s, t.words, t.approximate FROM sessions s JOIN transcripts t"
            " ON t.session_id = s.id LEFT JOIN participants p ON p.id = t.participant_id"
            " WHERE s.slug = $1 ORDER BY s.epoch, t.seq LIMIT $2::bigint"};
  struct pg_store *store = (struct pg_store *)base;
  struct pg_params params = {0};
  pg_add_text(&params, slug);
  pg_add_number(&params, most);
  if (pg_begin_call(store, error) != 0 || pg_ask(store, &select, &params, error) != 0) {
    return -1;
  }
  PGresult *row;
  long n = 0;
  int status;
  while ((status = pg_take_row(store, &row, error)) == 1) {
    visit_row(row, slug, visit, context);
    PQclear(row);
    n++;
  }
  return status == 0 ? n : pg_has_failed_with(store, UNDEFINED_TABLE) ? 0 : -1;
}

int64_t pg_last_epoch(struct vc_store *base, const char *slug, struct vc_error *error)
{
  static const struct pg_statement of_one = {
      NULL, "SELECT coalesce(max(epoch), 0) FROM (SELECT epoch FROM sessions WHERE slug = $1"
            " UNION ALL SELECT epoch FROM erasures WHERE slug = $1) AS e"};
  static const struct pg_statement of_all = {
      NULL, "SELECT coalesce(max(epoch), 0) FROM (SELECT epoch FROM sessions"
            " UNION ALL SELECT epoch FROM erasures) AS e"};
  struct pg_store *store = (struct pg_store *)base;
  struct pg_params params = {0};
  if (slug != NULL) {
    pg_add_text(&params, slug);
  }
  if (pg_begin_call(store, error) != 0) {
    return -1;
  }
  PGresult *result = pg_run(store, slug != NULL ? &of_one : &of_all, &params, error);
  if (result == NULL) {
    return pg_has_failed_with(store, UNDEFINED_TABLE) ? 0 : -1;
  }
  int64_t epoch = pg_number_of(result, 0, 0);
  PQclear(result);
  return epoch;
}
