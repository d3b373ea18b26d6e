// The ledger's own: what one of its workers holds. Everything here is that worker's thread only.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <verbacast/base/log.h>
#include <verbacast/flow/message.h>
#include <verbacast/flow/query.h>
#include <verbacast/flow/record.h>
#include <verbacast/flow/result.h>
#include <verbacast/flow/viewer.h>
#include <verbacast/ledger.h>
#include <verbacast/wire/text.h>

#define HASH_NONFATAL_OOM 1 // an element that was not added has hh.tbl NULL
#include <uthash.h>
#include <utlist.h>

#define EPOCHS_MAX 64
#define OPEN_MAX 32
#define BACKLOG_MAX_BYTES ((size_t)64 * 1024 * 1024)
#define RETRY_MS 2 // how long a full lane is left alone

enum ledger_metric {
  PARTIALS,
  FINALS,
  RETRACTS,
  STATUSES,
  EPOCHS,
  DUPLICATES,
  LATE_PARTIALS,
  SAME_PARTIALS,
  EMPTY_UTTERANCES,
  INVALID_UTTERANCES,
  OPEN_OVERFLOWS,
  STRAY_RESULTS,
  STRAY_VIEWERS,
  OUT_OF_MEMORY,
  DELAY_MS,
  SESSIONS,
  VIEWERS,
  HISTORY_BYTES,
  HISTORY_FINALS,
  HISTORY_DROPPED,
  JOINS,
  JOINS_REFUSED,
  CATCH_UPS,
  GAPS,
  LIVE_DROPPED,
  REQUESTS_WAITING,
  REQUESTS_LOST,
  BACKLOG_BYTES,
  RECORDS_LOST,
  PARTIALS_DROPPED,
};

// --- dedup.c: the utterances of one publishing whose final was shown, the last DEDUP_WINDOW

struct seen;
struct dedup {
  struct seen *seen; // a hash in order of arrival
  size_t window;
};
int dedup_has(const struct dedup *dedup, uint64_t key);
// Returns: 0, or -1 no memory.
int dedup_add(struct dedup *dedup, uint64_t key);
void dedup_fini(struct dedup *dedup);

// --- history.c: the numbered messages of an epoch that are kept, in order

struct history {
  struct vc_message **items; // [first, first + n), a reference each
  size_t first, n, capacity;
};
// Takes the reference on success. Returns: 0, or -1 no memory.
int history_push(struct history *history, struct vc_message *message);
// Gives the oldest with its reference, NULL when empty.
struct vc_message *history_pop(struct history *history);
// The first that is numbered after `seq`, borrowed; NULL: none. `finals_only` passes over others.
enum history_kinds { HISTORY_ALL, HISTORY_FINALS_ONLY };
struct vc_message *history_after(const struct history *history, uint64_t seq,
                                 enum history_kinds kinds);
// The position after which the last `n` finals come; `none` when there are fewer.
uint64_t history_before_last_finals(const struct history *history, size_t n, uint64_t none);
size_t message_bytes(const struct vc_message *message);

// --- what a slug is

struct epoch {
  struct epoch *prev, *next; // in session.epochs, oldest first
  int64_t number;
  int64_t started_unix_ms;
  uint64_t first_audio_ns; // where its times count from (monotonic), 0: no sound came yet
  uint32_t last_ordinal;   // of the STT sessions that its utterances are named after
  uint64_t last_seq;
  uint64_t last_kept;  // of the last final, status or end
  uint64_t last_final; // of the last final
  uint64_t dropped_to; // history no longer has what is numbered up to here; 0: it has all
  enum vc_state state;
  char reason[96];
  struct history history;
};

// An utterance that was shown and has no final yet.
struct open {
  uint64_t key;
  char id[VC_UTTERANCE_ID_SIZE];
  double start_s; // as first shown
  struct vc_utterance *utterance;
  struct vc_message *message; // the last that was shown of it
};

struct publishing {
  struct publishing *prev, *next; // in session.live, the first that began comes first
  struct vc_session *session;
  uint32_t ordinals_before; // of the epoch, given out when it began
  enum vc_state state;
  char reason[96];
  struct dedup dedup;
  struct open open[OPEN_MAX]; // the first shown comes first
  size_t n_open;
};

struct audience {
  uint32_t n_viewers;
  int is_behind; // a live message did not fit: the next one says so
};

struct session {
  UT_hash_handle hh;                         // in ledger.sessions
  struct session *prev, *next;               // in ledger.ended, the first ended comes first
  struct session *behind_prev, *behind_next; // in ledger.behind
  int is_in_ended, is_in_behind;
  char slug[VC_SLUG_MAX + 1];
  uint32_t hash;
  struct epoch *epochs;
  size_t n_epochs;
  int has_lost_epochs;
  struct publishing *live; // NULL: nobody publishes; each of another participant
  uint64_t ended_ns;
  size_t n_bytes, n_finals, n_items; // of all its history
  struct vc_message *hello;          // of the newest epoch, NULL: to be made
  struct vc_message *newest;         // what was last said live
  uint32_t n_viewers;
  struct audience audience[]; // one for each worker of broadcast
};

// A join or catch-up that waits for room in a lane.
struct request {
  struct request *prev, *next; // in ledger.waiting
  struct vc_item *item;
  int is_refused;
};

struct ledger {
  /* set on entry, then read-only */
  const struct vc_ledger_settings *settings;
  struct vc_ledger_options options; // this worker's share
  size_t max_waiting;
  struct vc_worker *worker;
  struct vc_slots *slots;
  const char *node;
  struct vc_putter *broadcast;
  struct vc_putter *journal;  // NULL: nothing is kept
  struct vc_putter *partials; // NULL: nobody takes them
  uint32_t n_broadcast_workers, n_journal_workers;
  /* the worker's */
  struct session *sessions;
  struct session *ended, *behind;
  struct request **waiting; // a list for each worker of broadcast
  size_t n_waiting;
  struct vc_record *backlog; // waits for room in the journal's lane, the oldest first
  size_t backlog_bytes;
  size_t n_bytes, n_finals; // of all history
  uint32_t n_viewers;
  int64_t epoch_floor; // new epochs are at least this
  int is_journal_bad;
  struct vc_log_limit memory_limit, lost_limit, refused_limit;
  struct vc_text text; // what is being printed
};

void ledger_count(struct ledger *ledger, enum ledger_metric metric);
void ledger_out_of_memory(struct ledger *ledger);

// --- sessions.c

struct session *session_find(struct ledger *ledger, const char *slug);
// For a viewer: NULL with *is_full 1 at MAX_SESSIONS, with 0 without memory.
struct session *session_get_for_viewer(struct ledger *ledger, const char *slug, int *is_full);
// For a publisher: NULL without memory.
struct session *session_get_for_publisher(struct ledger *ledger, const char *slug);
// Returns: Unix ms, 0: nobody publishes.
int64_t session_began_ms(const struct session *session);
struct epoch *session_newest(const struct session *session);
struct epoch *session_find_epoch(const struct session *session, int64_t number);
struct epoch *session_add_epoch(struct ledger *ledger, struct session *session, int64_t number);
// Takes a reference of the message into the history of the newest epoch, within the bounds.
void session_keep(struct ledger *ledger, struct session *session, struct vc_message *message);
void session_end(struct ledger *ledger, struct session *session);
// Takes it from those that have ended: somebody publishes again.
void session_revive(struct ledger *ledger, struct session *session);
// Its history and numbers are gone, its viewers stay.
void session_forget(struct ledger *ledger, struct session *session);
// Frees it when nothing holds it any more.
void session_release(struct ledger *ledger, struct session *session);
void sessions_expire(struct ledger *ledger);
void sessions_fini(struct ledger *ledger);

// --- publishings.c: who publishes a session now, and what is theirs of its clock and its ids

struct publishing *publishing_create(const struct ledger *ledger, struct vc_session *of);
void publishing_destroy(struct publishing **publishing);
struct publishing *publishing_find(const struct session *session, uint64_t id);
struct publishing *publishing_find_of(const struct session *session, const char *participant);
// Takes the publishing.
void publishing_add(struct session *session, struct publishing *publishing);
// And frees it.
void publishing_remove(struct session *session, struct publishing *publishing);
// The one whose state is the session's; somebody publishes.
const struct publishing *publishing_best(const struct session *session);
// Before a publishing leaves: its sound may have been the first.
void session_settle_clock(const struct session *session);
// Its times become the session's, its speaker the participant. Returns: 0, or -1 no memory.
int publishing_place(const struct session *session, const struct publishing *publishing,
                     struct vc_utterance **utterance);

struct heard_id {
  uint32_t ordinal; // of the STT session within the publishing
  int channel;
  const char *id; // the provider's
};
// Sets id and key.
void publishing_name(const struct session *session, const struct publishing *publishing,
                     const struct heard_id *heard, struct open *open);

// --- numbering.c: each builds, numbers, keeps and sends; without memory nothing is said

// A new epoch: its hello goes to all viewers. Returns: 0, or -1 no memory.
int say_begin(struct ledger *ledger, struct session *session, int64_t started_unix_ms);
void say_partial(struct ledger *ledger, struct session *session, struct open *open,
                 const struct vc_result *heard);
// `shown` has the id; its `utterance` is not used. Returns: 0, or -1 no memory.
int say_final(struct ledger *ledger, struct session *session, const struct open *shown,
              const struct vc_utterance *utterance, const struct vc_result *heard);
void say_again(struct ledger *ledger, struct session *session, struct open *open);
void say_retract(struct ledger *ledger, struct session *session, const struct open *open);
void say_status(struct ledger *ledger, struct session *session, enum vc_state state,
                const char *reason);
void say_end(struct ledger *ledger, struct session *session, const char *reason);
// A new reference, NULL without memory. `epoch` NULL: nobody has published.
struct vc_message *hello_get(struct ledger *ledger, struct session *session, struct epoch *epoch);
// `to` 0: unknown. The message's position is `after`.
struct vc_message *gap_create(struct ledger *ledger, const struct session *session, int64_t epoch,
                              uint64_t from, uint64_t to, struct vc_position after);

// --- results.c

void handle_result(struct ledger *ledger, const struct vc_result *result, // and its utterance
                   struct vc_utterance **utterance);
void end_live_sessions(struct ledger *ledger);

// --- live.c: to the workers of broadcast

void live_send(struct ledger *ledger, struct session *session, struct vc_message *message);
void live_retry(struct ledger *ledger);
void live_forget(struct ledger *ledger, struct session *session);

// --- answers.c

// Fills the answer to a join or catch-up. Returns: 0, or -1 no memory.
int answer_fill(struct ledger *ledger, struct session *session, const struct vc_item *item,
                struct vc_answer *answer);

// --- join.c

void handle_join(struct ledger *ledger, struct vc_join *join);
void handle_catch_up(struct ledger *ledger, struct vc_catch_up *catch_up);
void handle_leave(struct ledger *ledger, const struct vc_leave *leave);
void requests_retry(struct ledger *ledger);
void requests_fini(struct ledger *ledger);

// --- records.c: to the journal

void record_started(struct ledger *ledger, const struct session *session);
void record_ended(struct ledger *ledger, const struct session *session, const char *reason);
// Takes the reference of the record, which may be NULL. There is somebody who takes partials.
void record_partial(struct ledger *ledger, const struct vc_message *message,
                    struct vc_buffer *value);
// Takes a reference of the final's record.
void record_final(struct ledger *ledger, const struct session *session,
                  const struct vc_message *message);
void records_retry(struct ledger *ledger);
// Those of a slug that wait still.
void records_erase(struct ledger *ledger, const char *slug);
void records_fini(struct ledger *ledger);

// --- queries.c

void handle_query(struct ledger *ledger, struct vc_query *query);
