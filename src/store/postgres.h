// What the files of the PostgreSQL half share.
//
// libpq is used as it is meant for those that may not hang: every statement is sent and its result
// waited for with poll, for at most what is left of the call's time. When that is over, or the
// connection breaks, the connection is closed and the call fails; the next call makes a new one.
#pragma once

#include <libpq-fe.h>
#define HASH_NONFATAL_OOM 1 // an element that was not added has hh.tbl NULL
#include <uthash.h>

#include <verbacast/wire/text.h>

#include "backend.h"

#define PG_CONNECT_MAX_MS 3000
#define PG_CALL_MAX_MS 10000
#define PG_PARAMS_MAX 12
#define PG_PREPARED_MAX 16
#define PG_IDS_MAX 1024
// Of what stands in an index: the database takes no more than 2700 in a row of one.
#define PG_KEY_BYTES_MAX 1000

// Ids of rows by a number and a text: sessions by epoch and slug, participants by session and
// label.
struct pg_id {
  int64_t id; // 0: to be asked for
  int is_wanted;
  int64_t number;
  const struct vc_record_fields *fields; // of a batch: the first of the session …
  int64_t started_at_ms, ended_at_ms;    // … and what any of it tells; 0 nothing
  UT_hash_handle hh;                     // in a map, the least recently made first
  size_t size;                           // of the key
  char key[];                            // number and text
};
struct pg_ids {
  struct pg_id *first;
};
struct pg_id *pg_ids_find(const struct pg_ids *ids, int64_t number, const char *text);
// Texts have at most PG_KEY_BYTES_MAX. Returns: what was added or was there; NULL without memory.
struct pg_id *pg_ids_add(struct pg_ids *ids, int64_t number, const char *text);
// The same, at most PG_IDS_MAX; without memory it is asked for again.
void pg_ids_remember(struct pg_ids *ids, int64_t number, const char *text, int64_t id);
void pg_ids_fini(struct pg_ids *ids);

// Prepared when first used; without a name it is not.
struct pg_statement {
  const char *name;
  const char *sql;
};

struct pg_store {
  struct vc_store base;
  char *url;
  PGconn *connection;     // NULL: the next call makes one
  uint64_t deadline_ns;   // of the call that goes on
  char state[6];          // SQLSTATE of the statement that failed last, "" it was none
  struct pg_ids sessions; // true for as long as no other connection deletes them
  struct pg_ids participants;
  // The session that expiry looked at last, and when it ended or began; "": it begins anew.
  char expired_at[64];
  int64_t expired_id;
  const struct pg_statement *prepared[PG_PREPARED_MAX];
  size_t n_prepared;
};

// --- values: NULL and what is no number become NULL

struct pg_params {
  int n;
  const char *values[PG_PARAMS_MAX];
  int lengths[PG_PARAMS_MAX];
  int is_binary[PG_PARAMS_MAX];
  uint64_t numbers[PG_PARAMS_MAX];
};
void pg_add_text(struct pg_params *params, const char *text);
void pg_add_bytes(struct pg_params *params, const void *bytes, size_t size);
void pg_add_number(struct pg_params *params, int64_t number); // a bigint
void pg_add_time(struct pg_params *params, int64_t unix_ms);

// One column of many rows, as the wire has it.
enum pg_type {
  PG_BOOLEAN = 16,
  PG_BIGINT = 20,
  PG_INTEGER = 23,
  PG_TEXT = 25,
  PG_DOUBLE = 701,
  PG_TIME = 1184,
  PG_JSONB = 3802,
};
struct pg_array {
  struct vc_text bytes;
  uint32_t n;
};
void pg_array_init(struct pg_array *array, enum pg_type type);
void pg_array_fini(struct pg_array *array);
void pg_array_add_text(struct pg_array *array, const char *text);
void pg_array_add_number(struct pg_array *array, int64_t number); // of PG_BIGINT
void pg_array_add_integer(struct pg_array *array, int32_t number);
void pg_array_add_boolean(struct pg_array *array, int is_true);
void pg_array_add_real(struct pg_array *array, double number);
void pg_array_add_time(struct pg_array *array, int64_t unix_us); // 0: NULL
void pg_array_add_json(struct pg_array *array, const char *text);
void pg_array_add_null(struct pg_array *array);
// The array stays where it is until the statement is done.
void pg_add_array(struct pg_params *params, struct pg_array *array);
int64_t pg_number_of(const PGresult *result, int row, int column); // of a text result

// --- calls

// Begins the time of a call, and connects when there is no connection. Returns: 0 or -1.
int pg_begin_call(struct pg_store *store, struct vc_error *error);
void pg_restart_time(struct pg_store *store);
// `params` may be NULL. Returns: the last result, which the caller clears, or NULL and the error.
PGresult *pg_run(struct pg_store *store, const struct pg_statement *statement,
                 const struct pg_params *params, struct vc_error *error);
// The same for the number of rows that it changed, or -1.
long pg_change(struct pg_store *store, const struct pg_statement *statement,
               const struct pg_params *params, struct vc_error *error);
// Sends; its rows are taken one by one. Returns: 0 or -1.
int pg_ask(struct pg_store *store, const struct pg_statement *statement,
           const struct pg_params *params, struct vc_error *error);
// Returns: 1 and a row, which the caller clears; 0 there is none left; -1.
int pg_take_row(struct pg_store *store, PGresult **row, struct vc_error *error);
// Several statements without parameters. Returns: 0 or -1.
int pg_do(struct pg_store *store, const char *sql, struct vc_error *error);
// Returns: 1 when the statement that failed last did so with a state that begins so.
int pg_has_failed_with(const struct pg_store *store, const char *state);
void pg_drop_connection(struct pg_store *store);
void pg_forget_ids(struct pg_store *store);

// --- transactions

// Those that write go beside each other; one that deletes sessions goes alone, so that no row
// slips in behind it.
#define PG_BEGIN_WRITING                                                                           \
  "BEGIN ISOLATION LEVEL READ COMMITTED; SELECT pg_advisory_xact_lock_shared(7954874012653)"
#define PG_BEGIN_DELETING                                                                          \
  "BEGIN ISOLATION LEVEL READ COMMITTED; SELECT pg_advisory_xact_lock(7954874012653)"
// The same of one that can be put off: what others hold it waits for a moment only.
#define PG_BEGIN_EXPIRING PG_BEGIN_DELETING "; SET LOCAL lock_timeout = 200"
// Returns: 0, or -1: where the connection broke, it cannot be known what came of it.
int pg_commit(struct pg_store *store, struct vc_error *error);
void pg_roll_back(struct pg_store *store);

// --- the tables

int pg_migrate(struct pg_store *store, struct vc_error *error);
// Before the transaction of an erasure: where there are very many finals, they go a part at a time,
// since one statement would not be done in the time of a call. Returns: how many, or -1, too when
// there are more: whoever asks again goes on where it ended.
long pg_thin_out(struct pg_store *store, const char *slug, int64_t epoch, struct vc_error *error);
// In a transaction. Returns: finals deleted, or -1.
long pg_erase(struct pg_store *store, const char *slug, int64_t epoch, int64_t now_ms,
              struct vc_error *error);
// In a transaction. Returns: 0; 1: a position is not where it is said to be; -1.
int pg_move_positions(struct pg_store *store, const struct vc_store_batch *batch,
                      struct vc_error *error);

struct pg_item {
  struct vc_store_row *row;
  struct vc_record_parsed record; // root NULL: it is none, row->why says why
  struct pg_id *session, *participant;
  int is_erased;
};
// In a transaction: of rows that do not erase, with what becomes of them. Those that cannot be kept
// go into the table `dead` if `has_graves`. Returns: 0 or -1.
int pg_write_items(struct pg_store *store, struct pg_item *items, size_t n_items, int has_graves,
                   struct vc_error *error);
// Of a row that erases, alone. Returns: 0 or -1.
int pg_write_erasure(struct pg_store *store, struct pg_item *item, struct vc_error *error);

// --- the calls of the table of functions

int pg_write_batch(struct vc_store *store, const struct vc_store_batch *batch,
                   struct vc_error *error);
int pg_find_position(struct vc_store *store, const char *cluster, const char *group,
                     const char *topic, int32_t partition, int64_t *next, struct vc_error *error);
int pg_find_other_cluster(struct vc_store *store, const char *cluster, const char *group,
                          char *other, size_t size, struct vc_error *error);
int pg_reset_positions(struct vc_store *store, const char *group, struct vc_error *error);
int pg_expire_next(struct vc_store *store, int64_t before_unix_ms, struct vc_error *error);
int pg_end_expiry(struct vc_store *store, int64_t before_unix_ms, struct vc_error *error);
long pg_read(struct vc_store *store, const char *slug, long most, store_visit *visit, void *context,
             struct vc_error *error);
int64_t pg_last_epoch(struct vc_store *store, const char *slug, struct vc_error *error);
long pg_erase_session(struct vc_store *store, const char *slug, int64_t epoch, int64_t now_ms,
                      struct vc_error *error);
