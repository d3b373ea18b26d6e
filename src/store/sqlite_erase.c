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

static int run_before(struct sqlite_store *store, const char *sql, double before_s, long most,
                      struct vc_error *error)
{
  int64_t unused;
  sqlite3_stmt *statement = sqlite_prepare(store, sql, error);
  if (statement == NULL) {
    return -1;
  }
  if (sqlite3_bind_parameter_count(statement) > 0) {
    sqlite3_bind_double(statement, 1, before_s);
    sqlite3_bind_int64(statement, 2, most);
  }
  int status = sqlite_one_number(store, statement, &unused, error);
  sqlite3_finalize(statement);
  return status;
}

// A session without an end may still be live: it goes when its last final, too, is old.
#define EXPIRED                                                                                    \
  "SELECT id FROM sessions WHERE ended_at < ?1 UNION ALL"                                          \
  " SELECT id FROM sessions s WHERE ended_at IS NULL"                                              \
  " AND coalesce(started_at, epoch / 1000.0) < ?1 AND NOT EXISTS (SELECT 1 FROM transcripts"       \
  " WHERE session_id = s.id AND received_at >= ?1) LIMIT ?2"

static long expire(struct sqlite_store *store, double before_s, long most, struct vc_error *error)
{
  static const char *const steps[] = {
      "CREATE TEMP TABLE IF NOT EXISTS expired (id INTEGER PRIMARY KEY)",
      "DELETE FROM temp.expired",
      "INSERT INTO temp.expired " EXPIRED,
      ("DELETE FROM dead WHERE (key, epoch) IN (SELECT slug, epoch FROM sessions WHERE id IN"
       " (SELECT id FROM temp.expired)) OR at < ?1"),
      "DELETE FROM transcripts WHERE session_id IN (SELECT id FROM temp.expired)",
      "DELETE FROM participants WHERE session_id IN (SELECT id FROM temp.expired)",
      "DELETE FROM sessions WHERE id IN (SELECT id FROM temp.expired)",
  };
  for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
    if (run_before(store, steps[i], before_s, most, error) != 0) {
      return -1;
    }
  }
  return sqlite3_changes(store->database);
}

long sqlite_expire(struct vc_store *base, int64_t before_unix_ms, long most, struct vc_error *error)
{
  struct sqlite_store *store = (struct sqlite_store *)base;
  if (sqlite_run(store, "BEGIN IMMEDIATE", error) != 0) {
    return -1;
  }
  sqlite_forget_ids(store);
  return end_transaction(store, expire(store, (double)before_unix_ms / 1000, most, error), error);
}
