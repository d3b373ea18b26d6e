// store: the tables that finals end up in, in SQLite or PostgreSQL; the header knows neither.
//
// A vc_store is one connection, for one thread at a time; any number may be open. Calls block on
// the disk or the network: never on a stage thread of the sound. A SQLite database that others have
// locked is waited for at most VC_STORE_WAIT_MS, PostgreSQL at most 3 s for a connection (and as
// long as the system takes to find the host's name) and 10 s for a call; then the call fails. Where
// a connection broke, the next call makes a new one.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <verbacast/base/error.h>
#include <verbacast/base/metrics.h>
#include <verbacast/base/options.h>
#include <verbacast/wire/record.h>

#define VC_STORE_WAIT_MS 1000
#define VC_STORE_EXPIRE_MS 1000
#define VC_STORE_CALL_MAX_MS 13000 // a connection and a call, to a server that is silent

struct vc_store_options {
  const char *database_url;
  int64_t batch_flush_interval_ms;
  int64_t batch_max_size;
  int64_t batch_max_queue;
  int64_t retention_days; // 0: for ever
};
extern const struct vc_option vc_store_option_rows[];       // where it is
extern const struct vc_option vc_store_batch_option_rows[]; // BATCH_*
extern const struct vc_metric vc_store_metrics[];

struct vc_store;

// "sqlite:PATH", "postgresql://…", "postgres://…" or "" (no store). Returns: 0, or -1 and what is
// allowed.
int vc_store_check_url(const char *url, struct vc_error *error);
// Returns: 0 when it is certain that nobody has made it yet, which the URL of a server does not
// tell.
int vc_store_exists(const char *url);
// 1: a file, so that each node has its own; 0: a server's, or none.
int vc_store_is_file(const char *url);
// The longest that a call of such a store waits for others, 0: it is none.
uint32_t vc_store_call_max_ms(const char *url);
// Creates what is missing and brings the tables to the newest version. Returns: 0 or -1.
int vc_store_open(struct vc_store **store, const char *url, struct vc_error *error);
// For reading and erasing; creates nothing. A PostgreSQL database without the tables reads as one
// that holds nothing. Returns: 0 or -1.
int vc_store_open_existing(struct vc_store **store, const char *url, struct vc_error *error);
void vc_store_close(struct vc_store **store);
// Returns: how often it has connected, 1 at first. What another connection finds may be another
// server's, or of a while ago.
unsigned vc_store_connections(const struct vc_store *store);

enum vc_store_outcome {
  VC_STORE_STORED,
  VC_STORE_REPEATED, // it was there already, the same; an erasure: so much was erased before
  VC_STORE_ERASED,   // its session was erased: it is not kept
  VC_STORE_CONFLICT, // its place is taken by another text: it lies in the table `dead`
  VC_STORE_POISONED, // it is no record: it lies in the table `dead`
};

struct vc_store_row {
  const char *topic; // where it comes from; NULL unknown
  const char *key;   // the slug, whatever the value says; NULL unknown
  int64_t epoch;     // likewise; 0 unknown
  const char *value; // a record's JSON
  size_t size;
  enum vc_store_outcome outcome; // set by the write
  const char *why;               // CONFLICT, POISONED: a constant
};

// One transaction for all rows. Returns: 0, or -1: nothing was written, try again.
int vc_store_write(struct vc_store *store, struct vc_store_row *rows, size_t n_rows,
                   struct vc_error *error);

// Into the slots of vc_store_metrics: what became of the rows, with a line in the log for each that
// is dead, and how long a transaction took, whatever came of it.
void vc_store_tell(struct vc_slots *slots, const struct vc_store_row *rows, size_t n_rows);
void vc_store_tell_time(struct vc_slots *slots, uint64_t begun_ns, uint64_t ended_ns);

// Rows that come from Kafka: what was consumed and how far is one transaction.
struct vc_store_position {
  const char *topic;
  int32_t partition;
  int64_t from; // what the table has to say, -1: nothing yet
  int64_t next; // what it says afterwards
};
struct vc_store_batch {
  struct vc_store_row *rows;
  size_t n_rows;
  const char *cluster, *group;
  const struct vc_store_position *positions;
  size_t n_positions;
  // Called in the transaction before its commit when rows are CONFLICT or POISONED, which then do
  // not go into the table `dead`. Returns: 0, or -1 and the error: roll back, try again.
  int (*bury)(void *context, const struct vc_store_row *rows, size_t n_rows,
              struct vc_error *error);
  void *context;
};
// Returns: 0; 1: a position is not what the table says, somebody else has moved it: nothing was
// written; -1: nothing was written, or, where the connection broke, it cannot be known: the
// positions tell.
int vc_store_write_batch(struct vc_store *store, const struct vc_store_batch *batch,
                         struct vc_error *error);
// Gives: the position, -1 none. Returns: 0 or -1.
int vc_store_find_position(struct vc_store *store, const char *cluster, const char *group,
                           const char *topic, int32_t partition, int64_t *next,
                           struct vc_error *error);
// Returns: 1 and the name when the group has positions of another cluster and none of this, 0, -1.
int vc_store_find_other_cluster(struct vc_store *store, const char *cluster, const char *group,
                                char *other, size_t size, struct vc_error *error);
// Forgets all positions of the group.
int vc_store_reset_positions(struct vc_store *store, const char *group, struct vc_error *error);

struct vc_store_expiry {
  long n_gone;
  long n_kept;         // could not be deleted
  int has_more;        // it is not through: it goes on there with the next call
  struct vc_error why; // of the last that was kept
};
// Deletes sessions whose end, or, where no end is known, whose last final and begin lie before, and
// what has lain in `dead` since before. The oldest goes first, each in a transaction of its own:
// one that cannot be deleted is passed over, and tried again when the others had their turn. At
// most `most` in a call, and none is begun after VC_STORE_EXPIRE_MS. Returns: 0, or -1: it ended
// early; `expiry` says how far it came in either case.
int vc_store_expire(struct vc_store *store, int64_t before_unix_ms, long most,
                    struct vc_store_expiry *expiry, struct vc_error *error);
// Into the slots of vc_store_metrics: what was kept, with one line in the log for all of the call.
void vc_store_tell_expiry(struct vc_slots *slots, const struct vc_store_expiry *expiry);

// Gives the finals of a slug, all epochs, in order, at most `most`. Returns: how many, or -1.
long vc_store_read(struct vc_store *store, const char *slug, long most,
                   void (*visit)(void *context, const struct vc_record_fields *fields),
                   void *context, struct vc_error *error);
// Returns: the largest epoch of the slug that is or was kept, 0 none, -1.
int64_t vc_store_last_epoch(struct vc_store *store, const char *slug, struct vc_error *error);
// The same of all slugs.
int64_t vc_store_highest_epoch(struct vc_store *store, struct vc_error *error);
// Deletes all of the slug up to `epoch` and keeps out what comes late. Returns: finals deleted, or
// -1.
long vc_store_erase(struct vc_store *store, const char *slug, int64_t epoch, int64_t now_ms,
                    struct vc_error *error);
