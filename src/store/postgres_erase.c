// What goes: at somebody's wish, and when its time is over.
#include "postgres.h"

#include <verbacast/base/clock.h>

#include <stdio.h>

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

// --- expiry

// A session without an end may still be live: it goes when its last final, too, is old. An epoch
// may be larger than a time can be. Each half is short by itself, so that the first is read from
// the index.
#define BEGAN_BEFORE                                                                               \
  "CASE WHEN s.started_at IS NULL THEN s.epoch < $2::bigint ELSE s.started_at < $1 END"
#define BEGAN "coalesce(s.started_at, to_timestamp(least(s.epoch, $2::bigint) / 1000.0))"
static const struct pg_statement find_oldest = {
    NULL, "SELECT id, at::text FROM ((SELECT id, ended_at AS at FROM sessions"
          " WHERE ended_at < $1::timestamptz AND (ended_at, id) > ($3::timestamptz, $4::bigint)"
          " ORDER BY ended_at, id LIMIT 1) UNION ALL (SELECT id, " BEGAN " AS at FROM sessions s"
          " WHERE ended_at IS NULL AND " BEGAN_BEFORE " AND (" BEGAN
          ", id) > ($3::timestamptz, $4::bigint) AND NOT EXISTS (SELECT 1 FROM transcripts WHERE"
          " session_id = s.id AND received_at >= $1) ORDER BY 2, 1 LIMIT 1)) AS e"
          " ORDER BY at, id LIMIT 1"};

// Moves to the next session. Returns: 1, or 0 there is none, or -1.
static int move_to_oldest(struct pg_store *store, int64_t before_ms, struct vc_error *error)
{
  struct pg_params params = {0};
  pg_add_time(&params, before_ms);
  pg_add_number(&params, before_ms);
  pg_add_text(&params, store->expired_at[0] != '\0' ? store->expired_at : "-infinity");
  pg_add_number(&params, store->expired_id);
  PGresult *oldest = pg_run(store, &find_oldest, &params, error);
  if (oldest == NULL) {
    return -1;
  }
  int is_found = PQntuples(oldest) == 1;
  store->expired_id = is_found ? pg_number_of(oldest, 0, 0) : 0;
  snprintf(store->expired_at, sizeof store->expired_at, "%s",
           is_found ? PQgetvalue(oldest, 0, 1) : "");
  PQclear(oldest);
  return is_found;
}

static int delete_session(struct pg_store *store, struct vc_error *error)
{
  static const struct pg_statement steps[] = {
      {NULL, "DELETE FROM dead d USING sessions s WHERE s.id = $1::bigint AND d.key = s.slug"
             " AND d.epoch = s.epoch"},
      {NULL, "DELETE FROM transcripts WHERE session_id = $1::bigint"},
      {NULL, "DELETE FROM participants WHERE session_id = $1::bigint"},
      {NULL, "DELETE FROM sessions WHERE id = $1::bigint"},
  };
  struct pg_params params = {0};
  pg_add_number(&params, store->expired_id);
  for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
    if (pg_change(store, &steps[i], &params, error) < 0) {
      return -1;
    }
  }
  return 0;
}

int pg_expire_next(struct vc_store *base, int64_t before_unix_ms, struct vc_error *error)
{
  struct pg_store *store = (struct pg_store *)base;
  if (pg_begin_call(store, error) != 0) {
    return -1;
  }
  pg_forget_ids(store);
  int is_begun = pg_do(store, PG_BEGIN_EXPIRING, error) == 0;
  int found = is_begun ? move_to_oldest(store, before_unix_ms, error) : -1;
  if (found == 1 && delete_session(store, error) == 0 && pg_commit(store, error) == 0) {
    return STORE_EXPIRED_GONE;
  }
  pg_roll_back(store);
  return found == 1 ? STORE_EXPIRED_KEPT : found == 0 ? STORE_EXPIRED_NONE : -1;
}

int pg_end_expiry(struct vc_store *base, int64_t before_unix_ms, struct vc_error *error)
{
  static const struct pg_statement dead = {NULL, "DELETE FROM dead WHERE at < $1"};
  struct pg_store *store = (struct pg_store *)base;
  struct pg_params params = {0};
  pg_add_time(&params, before_unix_ms);
  return pg_begin_call(store, error) == 0 && pg_change(store, &dead, &params, error) >= 0 ? 0 : -1;
}
