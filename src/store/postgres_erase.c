// What goes: at somebody's wish, and when its time is over.
#include "postgres.h"

#include <verbacast/base/clock.h>

#include <stdlib.h>
#include <string.h>

// Sessions in one transaction: it has to be done in the time of a call however long they were, and
// writers wait for it.
#define EXPIRE_STEP 10
// Numbers of finals in one statement, and those that an erasure may have without it; and how long
// one such statement follows the other in a call.
#define THIN_STEP 50000
#define THIN_MIN 500000
#define THIN_MAX_MS 5000

#define OF_SESSIONS                                                                                \
  "session_id IN (SELECT id FROM sessions WHERE slug = $1 AND epoch <= $2::bigint)"

// --- very many

struct thinning {
  struct pg_store *store;
  uint64_t end_ns;
  long n; // finals deleted
  struct vc_error *error;
};

static int thin_part(struct thinning *thinning, int64_t session, int64_t first, int64_t last)
{
  static const struct pg_statement part = {
      NULL, "DELETE FROM transcripts WHERE session_id = $1::bigint AND seq >= $2::bigint"
            " AND seq <= $3::bigint"};
  struct pg_params params = {0};
  pg_add_number(&params, session);
  pg_add_number(&params, first);
  pg_add_number(&params, last);
  long n = pg_change(thinning->store, &part, &params, thinning->error);
  if (n < 0) {
    return -1;
  }
  thinning->n += n;
  return vc_clock_now_ns(&vc_clock_system) < thinning->end_ns
             ? 0
             : vc_error_set(thinning->error, "store: an erasure goes on: %ld finals are deleted",
                            thinning->n);
}

// Of a session, from one number to another. They may be any that somebody sent.
static int thin_session(struct thinning *thinning, int64_t session, int64_t first, int64_t last)
{
  while (last - first >= THIN_STEP) {
    if (thin_part(thinning, session, first, first + THIN_STEP - 1) != 0) {
      return -1;
    }
    first += THIN_STEP;
  }
  return thin_part(thinning, session, first, last);
}

// Rows of session, first and last number; these are NULL where it has no final.
static int has_many(const PGresult *sessions)
{
  int64_t n = 0;
  for (int i = 0; i < PQntuples(sessions) && n <= THIN_MIN; i++) {
    int64_t span = pg_number_of(sessions, i, 2) - pg_number_of(sessions, i, 1);
    n += span < THIN_MIN ? span + 1 : THIN_MIN + 1;
  }
  return n > THIN_MIN;
}

static int thin_sessions(struct thinning *thinning, const PGresult *sessions)
{
  int status = 0;
  for (int i = 0; i < PQntuples(sessions) && status == 0; i++) {
    if (!PQgetisnull(sessions, i, 1)) {
      status = thin_session(thinning, pg_number_of(sessions, i, 0), pg_number_of(sessions, i, 1),
                            pg_number_of(sessions, i, 2));
    }
  }
  return status;
}

long pg_thin_out(struct pg_store *store, const char *slug, int64_t epoch, struct vc_error *error)
{
  static const struct pg_statement find = {
      NULL, "SELECT s.id, (SELECT min(seq) FROM transcripts WHERE session_id = s.id),"
            " (SELECT max(seq) FROM transcripts WHERE session_id = s.id) FROM sessions s"
            " WHERE slug = $1 AND epoch <= $2::bigint"};
  struct thinning thinning = {.store = store,
                              .end_ns =
                                  vc_clock_now_ns(&vc_clock_system) + THIN_MAX_MS * VC_NS_PER_MS,
                              .error = error};
  struct pg_params params = {0};
  pg_add_text(&params, slug);
  pg_add_number(&params, epoch);
  PGresult *sessions = pg_run(store, &find, &params, error);
  if (sessions == NULL) {
    return -1;
  }
  int status = has_many(sessions) ? thin_sessions(&thinning, sessions) : 0;
  PQclear(sessions);
  return status == 0 ? thinning.n : -1;
}

// --- an erasure

long pg_erase(struct pg_store *store, const char *slug, int64_t epoch, int64_t now_ms,
              struct vc_error *error)
{
  static const struct pg_statement mark = {
      NULL, "INSERT INTO erasures AS e (slug, epoch, erased_at) VALUES ($1, $2, $3)"
            " ON CONFLICT (slug) DO UPDATE SET epoch = greatest(e.epoch, excluded.epoch),"
            " erased_at = excluded.erased_at"};
  static const struct pg_statement
      dead = {NULL, "DELETE FROM dead WHERE key = $1 AND epoch <= $2::bigint"},
      finals = {NULL, "DELETE FROM transcripts WHERE " OF_SESSIONS},
      participants = {NULL, "DELETE FROM participants WHERE " OF_SESSIONS},
      sessions = {NULL, "DELETE FROM sessions WHERE slug = $1 AND epoch <= $2::bigint"};
  struct pg_params params = {0};
  pg_forget_ids(store);
  pg_add_text(&params, slug);
  pg_add_number(&params, epoch);
  pg_add_time(&params, now_ms);
  if (pg_change(store, &mark, &params, error) < 0) {
    return -1;
  }
  params.n = 2;
  long n;
  if (pg_change(store, &dead, &params, error) < 0 ||
      (n = pg_change(store, &finals, &params, error)) < 0 ||
      pg_change(store, &participants, &params, error) < 0 ||
      pg_change(store, &sessions, &params, error) < 0) {
    return -1;
  }
  return n;
}

// Returns: n, or -1 and everything is as it was.
static long end_transaction(struct pg_store *store, long n, struct vc_error *error)
{
  if (n < 0 || pg_commit(store, error) != 0) {
    pg_roll_back(store);
    return -1;
  }
  return n;
}

long pg_erase_session(struct vc_store *base, const char *slug, int64_t epoch, int64_t now_ms,
                      struct vc_error *error)
{
  struct pg_store *store = (struct pg_store *)base;
  if (pg_begin_call(store, error) != 0) {
    return -1;
  }
  long n_before = pg_thin_out(store, slug, epoch, error);
  if (n_before < 0) {
    return -1;
  }
  int is_begun = pg_do(store, PG_BEGIN_DELETING, error) == 0;
  long n =
      end_transaction(store, is_begun ? pg_erase(store, slug, epoch, now_ms, error) : -1, error);
  return n < 0 ? -1 : n_before + n;
}

// A session without an end may still be live: it goes when its last final, too, is old. An epoch
// may be larger than a time can be.
#define BEGAN_BEFORE                                                                               \
  "CASE WHEN s.started_at IS NULL THEN s.epoch < $2::bigint ELSE s.started_at < $1 END"
static const struct pg_statement find_expired = {
    NULL, "SELECT array_agg(id) FROM (SELECT id FROM sessions WHERE ended_at < $1::timestamptz"
          " UNION ALL SELECT id FROM sessions s WHERE ended_at IS NULL AND " BEGAN_BEFORE
          " AND NOT EXISTS (SELECT 1 FROM transcripts WHERE session_id = s.id AND"
          " received_at >= $1) LIMIT $3::bigint) AS e"};

static long delete_expired(struct pg_store *store, const char *ids, struct vc_error *error)
{
  static const struct pg_statement
      dead = {NULL, "DELETE FROM dead d USING sessions s WHERE s.id = ANY ($1::bigint[])"
                    " AND d.key = s.slug AND d.epoch = s.epoch"},
      finals = {NULL, "DELETE FROM transcripts WHERE session_id = ANY ($1::bigint[])"},
      participants = {NULL, "DELETE FROM participants WHERE session_id = ANY ($1::bigint[])"},
      sessions = {NULL, "DELETE FROM sessions WHERE id = ANY ($1::bigint[])"};
  struct pg_params params = {0};
  pg_add_text(&params, ids);
  if (pg_change(store, &dead, &params, error) < 0 ||
      pg_change(store, &finals, &params, error) < 0 ||
      pg_change(store, &participants, &params, error) < 0) {
    return -1;
  }
  return pg_change(store, &sessions, &params, error);
}

static long expire(struct pg_store *store, int64_t before_ms, long most, struct vc_error *error)
{
  static const struct pg_statement dead = {NULL, "DELETE FROM dead WHERE at < $1"};
  struct pg_params params = {0};
  pg_add_time(&params, before_ms);
  if (pg_change(store, &dead, &params, error) < 0) {
    return -1;
  }
  pg_add_number(&params, before_ms);
  pg_add_number(&params, most);
  PGresult *expired = pg_run(store, &find_expired, &params, error);
  if (expired == NULL) {
    return -1;
  }
  long n = PQgetisnull(expired, 0, 0) ? 0 : delete_expired(store, PQgetvalue(expired, 0, 0), error);
  PQclear(expired);
  return n;
}

static long expire_some(struct pg_store *store, int64_t before_ms, long most,
                        struct vc_error *error)
{
  int is_begun = pg_do(store, PG_BEGIN_DELETING, error) == 0;
  return end_transaction(store, is_begun ? expire(store, before_ms, most, error) : -1, error);
}

long pg_expire(struct vc_store *base, int64_t before_unix_ms, long most, struct vc_error *error)
{
  struct pg_store *store = (struct pg_store *)base;
  long n = 0, n_asked, n_gone;
  if (pg_begin_call(store, error) != 0) {
    return -1;
  }
  pg_forget_ids(store);
  do {
    n_asked = most - n < EXPIRE_STEP ? most - n : EXPIRE_STEP;
    n_gone = expire_some(store, before_unix_ms, n_asked, error);
    n += n_gone > 0 ? n_gone : 0;
  } while (n_gone == n_asked && n < most);
  return n > 0 ? n : n_gone;
}
