// The ledger's own: what one of its workers holds. Everything here is that worker's thread only.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <verbacast/base/log.h>
#include <verbacast/flow/message.h>
#include <verbacast/flow/query.h>
#include <verbacast/flow/record.h>
#include <verbacast/flow/remote.h>
#include <verbacast/flow/result.h>
#include <verbacast/flow/viewer.h>
#include <verbacast/ledger.h>
#include <verbacast/wire/fleet.h>
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
  REMOTE_MESSAGES,
  REMOTE_STRAYS,
  REMOTE_GAPS,
  FLEET_DROPPED,
  CLAIMS_LATE,
  EPOCHS_FENCED,
  EPOCHS_TAKEN,
  CLOSES_LATE,
  ORPHANS,
  JOINS_UNFILLED,
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
  uint64_t hole_to;    // nor what is numbered between what stands before this and it; 0: no hole
  int is_cut;          // what came after last_seq is lost; how much is not known
  int is_after_loss;   // other nodes are told that of the epoch before
  int is_refused;      // other nodes have not all of it, and may have what is not here
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
  // It began when another node had claimed the session, the last that did: who began before was
  // told to leave.
  int is_newcomer;
  enum vc_state state;
  char reason[96];
  struct dedup dedup;
  struct open open[OPEN_MAX]; // the first shown comes first
  size_t n_open;
};

// A join or catch-up that waits: for room in a lane, or for what Redis holds.
struct request {
  struct request *prev, *next; // in ledger.waiting or fleet.joins
  struct vc_item *item;
  int is_refused;
};

enum claim {
  CLAIM_NONE,
  CLAIM_WANTED, // to be put
  CLAIM_ASKED,  // the answer is waited for
  CLAIM_HELD,   // what is said here goes to the other nodes
};

// What Redis holds is asked for once more: somebody knows more than it held.
enum refresh { REFRESH_NONE, REFRESH_WANTED, REFRESH_ASKED };

// Whoever publishes it here is to be told that another node does now.
enum closing { CLOSING_NONE, CLOSING_WANTED, CLOSING_LATE };

// What the fleet knows and is to be told of a session; without Redis all of it stays zero.
struct fleet {
  enum claim claim;
  int is_busy;       // in ledger.busy
  int is_watched;    // the watching worker was told
  int is_filled;     // what Redis held when it was asked is here
  int has_unshown;   // what came in before that was not shown
  int is_unsure;     // of what was said before the epoch that begins next
  int is_after_loss; // as the epoch that begins next
  enum refresh refresh;
  enum closing closing;
  int must_release;  // what was kept up to `released` is not ours any more, and that not told
  int has_said_last; // of it, to other nodes
  int is_elsewhere;  // let go of while somebody here was still to leave
  int is_resending;  // what is kept after `resend_after` is to be put
  int64_t claimed_epoch;
  int64_t key_epoch; // of the owner's key that was claimed last, or what it is at least
  struct vc_position released;
  struct vc_position resend_after;
  struct vc_position resend_behind; // the last that was put, or what was asked for
  uint64_t late_until_ns;           // viewers were told `unknown`; until then they are told what is
  uint64_t claim_until_ns;          // then it is numbered without an answer
  uint64_t joins_until_ns;          // then they are answered without the fill
  uint64_t gone_ns;                 // since when nobody owns it, 0: somebody does
  uint64_t said_ns;                 // when that was last said
  uint64_t taken_ns;                // when another node claimed what is ours, 0: none has
  uint64_t taken_again_ns;          // when the last of several did
  int64_t taken_epoch;              // and for which epoch
  struct request *joins;            // wait for the fill
  struct vc_item *results;          // wait for the claim
  size_t n_results;
  struct open *open; // FLEET_OPEN_MAX: of another node's publishing, the first shown comes first
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
  struct session *busy_prev, *busy_next;     // in ledger.busy
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
  struct fleet fleet;
  struct audience audience[]; // one for each worker of broadcast
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
  struct vc_putter *journal;             // NULL: nothing is kept
  struct vc_putter *partials;            // NULL: nobody takes them
  struct vc_putter *publisher, *watcher; // of the redis room; NULL: there are no other nodes
  uint32_t n_broadcast_workers, n_journal_workers;
  /* the worker's */
  struct session *sessions;
  struct session *ended, *behind, *busy;
  int is_redis_away;
  struct request **waiting;     // a list for each worker of broadcast
  size_t n_waiting, n_unfilled; // the latter wait with their sessions
  struct vc_record *backlog;    // waits for room in the journal's lane, the oldest first
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
// History no longer has what is numbered up to `seq`.
void session_lose_to(struct ledger *ledger, struct session *session, struct epoch *epoch,
                     uint64_t seq);
// History never had what is numbered after its last and up to `seq`. Of two such holes it keeps
// what stands behind the first.
void session_miss_to(struct ledger *ledger, struct session *session, struct epoch *epoch,
                     uint64_t seq);
// Takes a reference of the message into the history of the newest epoch, within the bounds.
void session_keep(struct ledger *ledger, struct session *session, struct vc_message *message);
void session_end(struct ledger *ledger, struct session *session);
// Takes it from those that have ended: somebody publishes again.
void session_revive(struct ledger *ledger, struct session *session);
// Its history and numbers are gone, its viewers stay.
void session_forget(struct ledger *ledger, struct session *session);
// The same of its epochs up to `last`, but the newest, which goes on.
void session_forget_before(struct ledger *ledger, struct session *session, int64_t last);
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
// Live, to who watches: those who watched the epoch before are told what they miss of it.
void say_hello(struct ledger *ledger, struct session *session, const struct epoch *epoch,
               struct vc_message *hello);
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
// A status or end of that number, which is not given out by it. NULL without memory.
struct vc_message *status_create(struct ledger *ledger, const struct session *session, uint64_t seq,
                                 enum vc_state state, const char *reason);
struct vc_message *end_create(struct ledger *ledger, const struct session *session, uint64_t seq,
                              const char *reason);
// What is, to be told once more: its number is the last that was given out.
struct vc_message *present_status_create(struct ledger *ledger, const struct session *session);
// A larger number than any that is known.
int64_t next_epoch(const struct ledger *ledger, const struct session *session);
// From now on epochs of whatever session are larger than this, unless it leaves fewer than
// VC_EPOCH_MAX / 2: others may say anything, and one number must not use up those of all sessions.
void begin_behind(struct ledger *ledger, int64_t number);
// The message that stands before all of an epoch on its way to other nodes. NULL without memory.
struct vc_message *beginning_create(struct ledger *ledger, const struct session *session,
                                    const struct epoch *epoch);
// What was numbered becomes the epoch's newest.
void epoch_number(struct session *session, struct epoch *epoch, const struct vc_message *message);
void epoch_set_state(struct session *session, struct epoch *epoch, enum vc_state state,
                     const char *reason);
// A new reference, NULL without memory. `epoch` NULL: nobody has published.
struct vc_message *hello_get(struct ledger *ledger, struct session *session, struct epoch *epoch);
// `to` 0: unknown. The message's position is `after`.
struct vc_message *gap_create(struct ledger *ledger, const struct session *session, int64_t epoch,
                              uint64_t from, uint64_t to, struct vc_position after);

// --- results.c

void handle_result(struct ledger *ledger, const struct vc_result *result, // and its utterance
                   struct vc_utterance **utterance);
void end_live_sessions(struct ledger *ledger);
// What is live goes on in a new epoch.
void renew_live_session(struct ledger *ledger, struct session *session);

// --- live.c: to the workers of broadcast

void live_send(struct ledger *ledger, struct session *session, struct vc_message *message);
// The same, and all viewers catch up from where they are.
void live_send_after_loss(struct ledger *ledger, struct session *session,
                          struct vc_message *message);
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
// Those that waited for the fill are answered.
void requests_release(struct ledger *ledger, struct session *session);
void requests_drop(struct ledger *ledger, struct session *session);
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

// --- fleet.c: what other nodes are told, and what waits for them

// Does what can be done now of what the session's state asks for; the rest is tried again.
void fleet_settle(struct ledger *ledger, struct session *session);
void fleet_retry(struct ledger *ledger);
// 1 while something is to be put that does not come by itself.
int fleet_is_waiting(const struct ledger *ledger);
// Takes the result when its session is still to be claimed. Returns: 1 taken, 0 go on with it.
int fleet_hold(struct ledger *ledger, struct vc_result *result);
// Asks to own the session, in a new epoch; what is said meanwhile is held.
void fleet_claim(struct ledger *ledger, struct session *session);
// The claim is answered, or not waited for any longer: what was held is handled.
void fleet_begin(struct ledger *ledger, struct session *session, int64_t epoch, int is_after_loss);
void fleet_begin_all(struct ledger *ledger);
// The session's last message was said here.
void fleet_let_go(struct ledger *ledger, struct session *session);
// Other nodes have said its end for us, with the number `seq`, and have what is numbered up to
// `theirs`: it is said again behind that.
void fleet_end_given_up(struct ledger *ledger, struct session *session, uint64_t seq,
                        uint64_t theirs);
// What was said here, to the other nodes.
void fleet_send(struct ledger *ledger, struct session *session, struct vc_message *message);
// What is kept after the position is asked for, of a slug that may be held no longer.
void fleet_resend(struct ledger *ledger, struct session *session, const char *slug,
                  struct vc_position after);
// Returns: 1 when the join was taken: it waits for what Redis holds.
int fleet_hold_join(struct ledger *ledger, struct session *session, struct vc_join *join);
// 1: what the viewer has is newer than what is known here, and may well be.
int fleet_is_ahead(const struct ledger *ledger, const struct session *session,
                   struct vc_position position);
// 1: it is known whether somebody publishes.
int fleet_is_known(const struct ledger *ledger, const struct session *session);
// 1: its viewers were told `unknown` a moment ago.
int fleet_was_late(const struct ledger *ledger, const struct session *session);
void fleet_fini(struct session *session);

// --- remote.c: what other nodes say

#define FLEET_OPEN_MAX OPEN_MAX
void handle_remote(struct ledger *ledger, const struct vc_remote *remote);
void remote_forget(struct session *session); // what is open of another node's publishing
// How the newest epoch went on elsewhere was not heard here.
void remote_lose_rest(struct ledger *ledger, struct session *session);
// A claim is answered: viewers catch up with what came meanwhile of older epochs.
void remote_show_rest(struct ledger *ledger, struct session *session);
