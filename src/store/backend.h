// What a kind of database does for the room: the calls of store.h, behind one table of functions.
#pragma once

#include <verbacast/store.h>

enum store_opening {
  STORE_CREATE,   // what is missing is made, the tables are brought to the newest version
  STORE_EXISTING, // nothing is made
};

enum store_expired {
  STORE_EXPIRED_NONE, // there is none
  STORE_EXPIRED_GONE,
  STORE_EXPIRED_KEPT, // it cannot be deleted: the error says why
};

typedef void store_visit(void *context, const struct vc_record_fields *fields);

struct store_backend {
  uint32_t call_max_ms; // the longest that a call waits for others
  // Returns: 1 when URLs that begin so are for this backend.
  int (*is_mine)(const char *url);
  // Of a URL that is mine. Returns: NULL, or what is wrong, without a word of the URL.
  const char *(*check_url)(const char *url);
  int (*exists)(const char *url); // NULL: it cannot be told
  int (*open)(struct vc_store **store, const char *url, enum store_opening opening,
              struct vc_error *error);
  void (*close)(struct vc_store *store);
  int (*write_batch)(struct vc_store *store, const struct vc_store_batch *batch,
                     struct vc_error *error);
  int (*find_position)(struct vc_store *store, const char *cluster, const char *group,
                       const char *topic, int32_t partition, int64_t *next, struct vc_error *error);
  int (*find_other_cluster)(struct vc_store *store, const char *cluster, const char *group,
                            char *other, size_t size, struct vc_error *error);
  int (*reset_positions)(struct vc_store *store, const char *group, struct vc_error *error);
  // Of the oldest behind the one that it looked at last; where there is none, it begins anew.
  // Returns: an enum store_expired, or -1: it has looked at none.
  int (*expire_next)(struct vc_store *store, int64_t before_unix_ms, struct vc_error *error);
  // What has lain in `dead`; and of what was deleted nothing is left in files. Returns: 0 or -1.
  int (*end_expiry)(struct vc_store *store, int64_t before_unix_ms, struct vc_error *error);
  long (*read)(struct vc_store *store, const char *slug, long most, store_visit *visit,
               void *context, struct vc_error *error);
  // `slug` NULL: of all.
  int64_t (*last_epoch)(struct vc_store *store, const char *slug, struct vc_error *error);
  long (*erase)(struct vc_store *store, const char *slug, int64_t epoch, int64_t now_ms,
                struct vc_error *error);
};
extern const struct store_backend store_sqlite, store_postgres;

// Each backend's store begins with it.
struct vc_store {
  const struct store_backend *backend;
  unsigned n_connections;
};

extern const char store_why_conflict[], store_why_partial[];

// What the tables take of a row; of one that is refused though it says its epoch, the row has that.
// Returns: 0, or -1 and row->why, vc_json_no_memory among them.
int store_parse(struct vc_store_row *row, struct vc_record_parsed *record);
