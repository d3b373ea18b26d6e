// What the files of the room share.
#pragma once

#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>

#include <verbacast/base/log.h>
#include <verbacast/flow/query.h>
#include <verbacast/flow/record.h>
#include <verbacast/journal.h>

enum metric {
  COMMITTED,
  COMMIT_ERRORS,
  LOST,
  PAST_DISK,
  RELAYED,
  RELAY_ERRORS,
  ROWS,
  BYTES,
  BYTES_MAX,
  PENDING_BYTES,
  DEAD,
  OLDEST_UNSENT,
  COMMIT_MS,
};

struct outbox;

// A row of the outbox that goes into the table `dead` when it is deleted.
struct outbox_grave {
  struct outbox_grave *prev, *next; // in vc_journal.found or .graves, by id
  int64_t id;
  const char *reason; // a constant
};

#define VC_JOURNAL_MOST 100 // rows in a batch when the sink does not say

// What goes past the disk (past.c).
struct past {
  /* set before start, then read-only */
  size_t most;
  /* guarded by the mutex; the list is changed by the stage's thread only */
  struct vc_record *offered; // to the relay, the oldest that are pending
  int64_t first_id;          // of theirs, which go down from it; no other offer has the same
  int is_sent;               // the relay has reported
  const char **hopeless;     // and so each came out
  /* the stage's thread only */
  int64_t next_id;           // below 0: no row of the file has such
  struct vc_record *refused; // hopeless ones, to become rows
  struct vc_record *turns;   // sent; the file is to know which sessions are open
  int64_t epoch;             // the highest that was sent
};

struct vc_journal {
  /* set before start, then read-only */
  struct vc_journal_settings settings;
  struct vc_stage *stage;
  struct outbox *outbox; // the stage's connection
  struct vc_slots *relay_slots;
  pthread_t relay;
  int has_relay;
  /* the stage's thread only */
  struct vc_record *pending; // not committed yet, the oldest first; those before them are in `past`
  size_t n_pending, pending_bytes; // with those
  struct past past;
  uint64_t oldest_ns;  // when the oldest pending record came
  uint64_t retry_ns;   // no commit before
  uint64_t backoff_ms; // 0: the last commit went well
  unsigned n_failed;   // commits since then
  int64_t deleted_upto;
  struct outbox_grave *graves; // for the commit that deletes their rows
  int has_dead;                // and health says so
  uint64_t look_ns;            // looks at the dead again then
  struct vc_log_limit lost_limit;
  int is_degraded;      // health says "journal"
  uint64_t calm_ns;     // until then even when commits go well
  size_t n_uncommitted; // at the end
  /* any thread, atomic */
  _Atomic int64_t relayed_upto; // rows up to this id may go; release: they are in the sink
  _Atomic int64_t bytes;        // of rows in the outbox
  _Atomic int64_t rows;
  _Atomic int64_t highest_epoch;  // of all that was committed before this life
  _Atomic int64_t oldest_unix_ms; // when the oldest row that the relay knows came; 0: it knows none
  _Atomic uint64_t relay_call_ns; // since when the relay is at a call that may block; 0: it is not
  /* guarded by the mutex */
  pthread_mutex_t mutex;
  pthread_cond_t changed;     // a commit, or the stop
  uint64_t n_commits;         // each may have brought rows
  struct outbox_grave *found; // by the relay, before it raised relayed_upto
  int is_stopping;
  uint64_t stop_ns; // the relay goes on until then
};

// --- outbox.c: the file
// Locks the file; moves it aside when it is corrupt; ends the sessions that a crash left open.
// Returns: 0, 1 and the error: the disk is full, each commit tries anew, or -1 and the error.
int outbox_open(struct outbox **outbox, const char *path, int64_t now_ms, struct vc_error *error);
// Returns: 0 while the disk was too full to begin, else 1.
int outbox_is_ready(const struct outbox *outbox);
// Returns: the highest epoch of all that was ever committed, 0 none, or it is not ready.
int64_t outbox_highest_epoch(const struct outbox *outbox);
// Another connection to a file that is open, for the relay.
int outbox_open_reader(struct outbox **outbox, const char *path, struct vc_error *error);
void outbox_close(struct outbox **outbox);
// One transaction: appends the records, buries rows, deletes those up to `delete_upto`. Returns: 0,
// or -1: it was rolled back; where the disk is full some rows may be deleted all the same. When
// there is nothing to do it writes all the same.
#define OUTBOX_LISTS 3
struct outbox_batch {
  const struct vc_record *lists[OUTBOX_LISTS]; // of records, in their order
  const struct vc_record *turns;               // of sessions, without a row of their own
  int64_t epoch;                               // not to be used again, 0: none
  const struct outbox_grave *graves;
  int64_t delete_upto; // 0: none
};
struct outbox_deleted {
  int64_t rows, bytes;
  int64_t buried; // of the rows
};
int outbox_commit(struct outbox *outbox, const struct outbox_batch *batch, int64_t now_ms,
                  struct outbox_deleted *deleted, struct vc_error *error);
// Rows that lie in the table `dead`.
int outbox_count_dead(struct outbox *outbox, int64_t *n, struct vc_error *error);
int outbox_size(struct outbox *outbox, int64_t *rows, int64_t *bytes, struct vc_error *error);
// All of a slug up to an epoch; appends `notice`, the record that says so, which may be NULL.
int outbox_erase(struct outbox *outbox, const char *slug, int64_t epoch,
                 const struct vc_record *notice, int64_t now_ms, struct vc_error *error);

// Gives the values of a slug's rows in order, until `visit` returns other than 0. Returns: 0, or
// -1.
int outbox_visit(struct outbox *outbox, const char *slug,
                 int (*visit)(void *context, const void *value, size_t size), void *context,
                 struct vc_error *error);

struct outbox_row {
  int64_t id;
  int64_t added_ms, epoch;
  enum vc_record_kind kind;
  char *value; // malloc'ed, with the key behind it
  size_t size;
  const char *key;
};
// Reads rows behind `after`, at most `most`. Returns: how many, or -1.
int outbox_read(struct outbox *outbox, int64_t after, struct outbox_row *rows, int most,
                struct vc_error *error);
// Returns: 1 when what failed last did so because the file is corrupt.
int outbox_is_corrupt(const struct outbox *outbox);

// --- stage.c
size_t record_cost(const struct vc_record *record);

// --- past.c
// Thread: the stage's, but for the last three.
int past_init(struct past *past, uint32_t most, struct vc_error *error);
void past_fini(struct past *past);
void past_forget_turns(struct past *past); // the file has them
// All that was not sent is pending again.
void past_take_back(struct vc_journal *journal);
// When it is time for it.
void past_offer(struct vc_journal *journal);
// Lets go of what was sent.
void past_settle(struct vc_worker *worker);
// Thread: the relay's. Gives the offer unless there was a commit since `seen`. Returns: how many,
// or -1 without memory.
int past_take(struct vc_journal *journal, uint64_t seen, struct outbox_row *rows);
void past_report(struct vc_journal *journal, const struct vc_journal_row *rows, size_t n);
int past_is_offered(const struct vc_journal *journal); // the mutex is held

// --- relay.c
void *relay_run(void *journal);
