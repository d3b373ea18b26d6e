// What goes: at somebody's wish, and when its time is over.
#include "sqlite.h"

static int run_for(struct sqlite_store *store, const char *sql, const char *slug, int64_t epoch,
                   double time_s, struct vc_error *error)
{
  int64_t unused;
  sqlite3_stmt *statement = sqlite_prepare(store, sql, error);
  if (statement == NULL) {
    return -1;
  }
  sqlite3_bind_text(statement, 1, slug, -1, SQLITE_STATIC);
  sqlite3_bind_int64(statement, 2, epoch);
  if (sqlite3_bind_parameter_count(statement) > 2) {
    sqlite3_bind_double(statement, 3, time_s);
  }
  int status = sqlite_one_number(store, statement, &unused, error);
  sqlite3_finalize(statement);
  return status;
}

#define OF_SESSIONS "session_id IN (SELECT id FROM sessions WHERE slug = ?1 AND epoch <= ?2)"

long sqlite_erase(struct sqlite_store *store, const char *slug, int64_t epoch, int64_t now_ms,
                  struct vc_error *error)
{
  sqlite_forget_ids(store);
  if (run_for(store,
              "INSERT INTO erasures (slug, epoch, erased_at) VALUES (?1, ?2, ?3)"
              " ON CONFLICT (slug) DO UPDATE SET epoch = max(epoch, excluded.epoch),"
              " erased_at = excluded.erased_at",
              slug, epoch, (double)now_ms / 1000, error) != 0 ||
      run_for(store, "DELETE FROM dead WHERE key = ?1 AND epoch <= ?2", slug, epoch, 0, error) !=
          0 ||
      run_for(store, "DELETE FROM transcripts WHERE " OF_SESSIONS, slug, epoch, 0, error) != 0) {
    return -1;
  }
  long n = sqlite3_changes(store->database);
  if (run_for(store, "DELETE FROM participants WHERE " OF_SESSIONS, slug, epoch, 0, error) != 0 ||
      run_for(store, "DELETE FROM sessions WHERE slug = ?1 AND epoch <= ?2", slug, epoch, 0,
              error) != 0) {
    return -1;
  }
  return n;
}

void sqlite_wipe_log(struct sqlite_store *store)
{
  sqlite_run(store, "PRAGMA wal_checkpoint(TRUNCATE)", NULL);
}

// Returns: n, or -1 and everything is as it was.
static long end_transaction(struct sqlite_store *store, long n, struct vc_error *error)
{
  if (n < 0 || sqlite_run(store, "COMMIT", error) != 0) {
    sqlite_run(store, "ROLLBACK", NULL);
    return -1;
  }
  sqlite_wipe_log(store);
  return n;
}

long sqlite_erase_session(struct vc_store *base, const char *slug, int64_t epoch, int64_t now_ms,
                          struct vc_error *error)
{
  struct sqlite_store *store = (struct sqlite_store *)base;
  if (sqlite_run(store, "BEGIN IMMEDIATE", error) != 0) {
    return -1;
  }
  return end_transaction(store, sqlite_erase(store, slug, epoch, now_ms, error), error);
}

// A session without an end may still be live: it goes when its last final, too, is old. Each half
// is short by itself, so that the first is read from the index.
#define BEGAN "coalesce(started_at, epoch / 1000.0)"
#define OLDEST                                                                                     \
  "SELECT id, at FROM (SELECT * FROM (SELECT id, ended_at AS at FROM sessions WHERE ended_at < ?1" \
  " AND (ended_at, id) > (?2, ?3) ORDER BY ended_at, id LIMIT 1)"                                  \
  " UNION ALL SELECT * FROM (SELECT id, " BEGAN " AS at FROM sessions s WHERE ended_at IS NULL"    \
  " AND " BEGAN " < ?1 AND (" BEGAN ", id) > (?2, ?3) AND NOT EXISTS (SELECT 1 FROM transcripts"   \
  " WHERE session_id = s.id AND received_at >= ?1) ORDER BY 2, 1 LIMIT 1)) ORDER BY at, id LIMIT " \
  "1"

// Moves to the next session. Returns: 1, or 0 there is none, or -1.
static int find_oldest(struct sqlite_store *store, double before_s, struct vc_error *error)
{
  sqlite3_stmt *statement = sqlite_prepare(store, OLDEST, error);
  if (statement == NULL) {
    return -1;
  }
  sqlite3_bind_double(statement, 1, before_s);
  sqlite3_bind_double(statement, 2, store->expired_s);
  sqlite3_bind_int64(statement, 3, store->expired_id);
  int status = sqlite3_step(statement);
  int is_found = status == SQLITE_ROW;
  if (is_found || status == SQLITE_DONE) {
    store->expired_id = is_found ? sqlite3_column_int64(statement, 0) : 0;
    store->expired_s = is_found ? sqlite3_column_double(statement, 1) : 0;
  } else {
    is_found = sqlite_fail(store, "expire", error);
  }
  sqlite3_finalize(statement);
  return is_found;
}

static int run_of_id(struct sqlite_store *store, const char *sql, int64_t id,
                     struct vc_error *error)
{
  int64_t unused;
  sqlite3_stmt *statement = sqlite_prepare(store, sql, error);
  if (statement == NULL) {
    return -1;
  }
  sqlite3_bind_int64(statement, 1, id);
  int status = sqlite_one_number(store, statement, &unused, error);
  sqlite3_finalize(statement);
  return status;
}

// The one that was found last.
static int delete_session(struct sqlite_store *store, struct vc_error *error)
{
  static const char *const steps[] = {
      "DELETE FROM dead WHERE (key, epoch) IN (SELECT slug, epoch FROM sessions WHERE id = ?1)",
      "DELETE FROM transcripts WHERE session_id = ?1",
      "DELETE FROM participants WHERE session_id = ?1",
      "DELETE FROM sessions WHERE id = ?1",
  };
  int status = 0;
  for (size_t i = 0; i < sizeof steps / sizeof *steps && status == 0; i++) {
    status = run_of_id(store, steps[i], store->expired_id, error);
  }
  return status;
}

int sqlite_expire_next(struct vc_store *base, int64_t before_unix_ms, struct vc_error *error)
{
  struct sqlite_store *store = (struct sqlite_store *)base;
  if (sqlite_run(store, "BEGIN IMMEDIATE", error) != 0) {
    return -1;
  }
  sqlite_forget_ids(store);
  int found = find_oldest(store, (double)before_unix_ms / 1000, error);
  if (found == 1 && delete_session(store, error) == 0 && sqlite_run(store, "COMMIT", error) == 0) {
    return STORE_EXPIRED_GONE;
  }
  sqlite_run(store, "ROLLBACK", NULL);
  return found == 1 ? STORE_EXPIRED_KEPT : found == 0 ? STORE_EXPIRED_NONE : -1;
}

int sqlite_end_expiry(struct vc_store *base, int64_t before_unix_ms, struct vc_error *error)
{
  struct sqlite_store *store = (struct sqlite_store *)base;
  int64_t unused;
  sqlite3_stmt *statement = sqlite_prepare(store, "DELETE FROM dead WHERE at < ?1", error);
  if (statement == NULL) {
    return -1;
  }
  sqlite3_bind_double(statement, 1, (double)before_unix_ms / 1000);
  int status = sqlite_one_number(store, statement, &unused, error);
  sqlite3_finalize(statement);
  sqlite_wipe_log(store);
  return status;
}
