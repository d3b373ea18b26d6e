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

struct vc_store {
  sqlite3 *database;
  struct session_id *sessions; // at most IDS_MAX
};

int store_fail(struct vc_store *store, const char *doing, struct vc_error *error);
int store_run(struct vc_store *store, const char *sql, struct vc_error *error);
// Returns NULL and the error when it cannot be prepared.
sqlite3_stmt *store_prepare(struct vc_store *store, const char *sql, struct vc_error *error);
void store_forget_ids(struct vc_store *store);
