// What the files of the room share.
#pragma once

#include <sqlite3.h>
#define HASH_NONFATAL_OOM 1 // an element that was not added has hh.tbl NULL
#include <uthash.h>

#include <verbacast/store.h>

#define IDS_MAX 1024

struct session_id {
  char key[160]; // "EPOCH SLUG"
  int64_t id;
  UT_hash_handle hh; // in vc_store.sessions, the least recently made first
};

// Kept for as long as the connection.
enum store_statement {
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

struct vc_store {
  sqlite3 *database;
  sqlite3_stmt *statements[N_STATEMENTS]; // prepared when first asked for
  struct session_id *sessions;            // at most IDS_MAX
  int64_t data_version;                   // for which `sessions` is true
};

int store_fail(struct vc_store *store, const char *doing, struct vc_error *error);
int store_run(struct vc_store *store, const char *sql, struct vc_error *error);
// Returns NULL and the error when it cannot be prepared.
sqlite3_stmt *store_prepare(struct vc_store *store, const char *sql, struct vc_error *error);
void store_forget_ids(struct vc_store *store);
// Of a statement that gives one number or none; leaves it reset. Returns: 1 a number, 0 none, -1.
int store_one_number(struct vc_store *store, sqlite3_stmt *statement, int64_t *number,
                     struct vc_error *error);
// In a transaction. Returns: finals deleted, or -1.
long store_erase(struct vc_store *store, const char *slug, int64_t epoch, int64_t now_ms,
                 struct vc_error *error);
// What was deleted is zeroed in the file; the log before it may still hold it.
void store_wipe_log(struct vc_store *store);
