// What the files of the SQLite half share.
#pragma once

#include <sqlite3.h>
#define HASH_NONFATAL_OOM 1 // an element that was not added has hh.tbl NULL
#include <uthash.h>

#include "backend.h"

#define IDS_MAX 1024

struct session_id {
  char key[160]; // "EPOCH SLUG"
  int64_t id;
  UT_hash_handle hh; // in sqlite_store.sessions, the least recently made first
};

// Kept for as long as the connection.
enum sqlite_statement {
  STATEMENT_DATA_VERSION,
  STATEMENT_ERASED,
  STATEMENT_UPSERT_SESSION,
  STATEMENT_UPSERT_PARTICIPANT,
  STATEMENT_INSERT,
  STATEMENT_COMPARE,
  STATEMENT_BURY,
  STATEMENT_ADD_POSITION,
  STATEMENT_MOVE_POSITION,
  N_STATEMENTS,
};

struct sqlite_store {
  struct vc_store base;
  sqlite3 *database;
  sqlite3_stmt *statements[N_STATEMENTS]; // prepared when first asked for
  struct session_id *sessions;            // at most IDS_MAX
  int64_t data_version;                   // for which `sessions` is true
  // The session that expiry looked at last, and when it ended or began; 0: it begins anew.
  double expired_s;
  int64_t expired_id;
};

// The calls of the table, where they do not stand beside it.
int sqlite_write_batch(struct vc_store *store, const struct vc_store_batch *batch,
                       struct vc_error *error);
int sqlite_find_position(struct vc_store *store, const char *cluster, const char *group,
                         const char *topic, int32_t partition, int64_t *next,
                         struct vc_error *error);
int sqlite_find_other_cluster(struct vc_store *store, const char *cluster, const char *group,
                              char *other, size_t size, struct vc_error *error);
int sqlite_reset_positions(struct vc_store *store, const char *group, struct vc_error *error);
int sqlite_expire_next(struct vc_store *store, int64_t before_unix_ms, struct vc_error *error);
int sqlite_end_expiry(struct vc_store *store, int64_t before_unix_ms, struct vc_error *error);
long sqlite_read(struct vc_store *store, const char *slug, long most, store_visit *visit,
                 void *context, struct vc_error *error);
int64_t sqlite_last_epoch(struct vc_store *store, const char *slug, struct vc_error *error);
long sqlite_erase_session(struct vc_store *store, const char *slug, int64_t epoch, int64_t now_ms,
                          struct vc_error *error);

int sqlite_fail(struct sqlite_store *store, const char *doing, struct vc_error *error);
int sqlite_run(struct sqlite_store *store, const char *sql, struct vc_error *error);
// Returns NULL and the error when it cannot be prepared.
sqlite3_stmt *sqlite_prepare(struct sqlite_store *store, const char *sql, struct vc_error *error);
void sqlite_forget_ids(struct sqlite_store *store);
// Of a statement that gives one number or none; leaves it reset. Returns: 1 a number, 0 none, -1.
int sqlite_one_number(struct sqlite_store *store, sqlite3_stmt *statement, int64_t *number,
                      struct vc_error *error);
// In a transaction. Returns: finals deleted, or -1.
long sqlite_erase(struct sqlite_store *store, const char *slug, int64_t epoch, int64_t now_ms,
                  struct vc_error *error);
// What was deleted is zeroed in the file; the log before it may still hold it.
void sqlite_wipe_log(struct sqlite_store *store);
