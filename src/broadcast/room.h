// What the files of the room share.
#pragma once

#define HASH_NONFATAL_OOM 1 // an element that was not added has no table
#include <uthash.h>
#include <utlist.h>

#include <sys/types.h>
#include <sys/uio.h>

#include <verbacast/broadcast.h>
#include <verbacast/wire/lag.h>
#include <verbacast/wire/ws.h>

#define MESSAGE_MAX 4096 // that a viewer may send
#define CONTROL_MAX 512  // unsent control frames of a viewer
#define READ_SIZE 8192
#define READS_PER_TURN 4
#define IOVECS_MAX 64
#define TURN_SHARE 128      // viewers that are written to before the worker looks for other work
#define URING_VIEWERS_MIN 4 // of a session here, by `auto`: fewer are quicker written to one by one
#define CLOSING_SEND_BUFFER (96 * 1024)
#define CLOSE_TIMEOUT_MS 2000 // for the peer's own close

enum metric {
  VIEWERS,
  VIEWERS_TOTAL,
  DELIVERED,
  DELIVERED_BYTES,
  ERRORS,
  HEARTBEAT_TIMEOUTS,
  QUEUE_DROPS,
  PARTIALS_SKIPPED,
  CATCH_UPS,
  SLOW_CLOSED,
  EXPIRED_CLOSED,
  PROTOCOL_ERRORS,
  REFUSED,
  SESSION_LAG,
  FANOUT,
  BROADCAST_LATENCY,
};

struct vc_broadcast {
  /* set before start, then read-only */
  struct vc_broadcast_settings settings;
  struct vc_stage *stage;
  struct vc_stage *ledger;
  struct vc_shared_putter *front; // from the front's threads
  /* any thread, atomic */
  _Atomic uint32_t n_viewers;
  _Atomic uint64_t next_viewer_id;
  _Atomic uint32_t next_worker; // newcomers go round
};

struct entry {
  struct vc_message *message; // one reference
  uint64_t queued_ns;
  uint64_t n_partials_before; // of the session
  int is_after_loss;
  int is_overtaken; // a partial: a later message of its utterance is in the ring
};

struct session {
  char slug[VC_SLUG_MAX + 1];
  struct viewer *viewers;
  size_t n_viewers;
  /* the ring: entries [begin, end) are held, entry i in ring[i % capacity] */
  struct entry *ring;
  size_t capacity;
  uint64_t begin, end;
  uint64_t n_partials;        // that ever came
  struct vc_position evicted; // the newest that left the ring unread by somebody
  uint64_t measured;          // up to here lags were recorded
  int64_t began_ms;           // of the session that is on, Unix time, 0: none is on
  struct vc_lag lag;
  int is_dirty;
  struct session *prev_dirty, *next_dirty; // in worker_state.dirty
  int is_walked;                           // its viewers are being given what came, share by share
  struct viewer *walk;                     // whose turn is next, NULL: that was the last one
  uint64_t walk_to;                        // the ring's end when the walk began
  UT_hash_handle hh;                       // in worker_state.sessions
};

enum viewer_stage {
  ASKING,  // a request to the ledger is to be put
  WAITING, // for the ledger's answer
  TAKING,  // an answer is being sent
  LIVE,
  CLOSING, // a close frame is being sent
  CLOSED,  // it was sent; the peer's end is waited for
};

struct viewer {
  struct vc_watch watch;
  uint64_t id;
  struct session *session;
  enum viewer_stage stage;
  uint8_t has_joined;     // the ledger knows it
  uint8_t is_blocked;     // the socket takes no more
  uint8_t is_behind;      // it was blocked: partials that were overtaken are passed over
  uint8_t has_left;       // the ring, until the answer that brings it back
  uint8_t must_read;      // there was more than a turn's share
  uint8_t n_missed_pongs; // to pings that have left
  uint8_t is_ping_late;   // the last one had not left an interval after it was due
  uint8_t is_exempt;
  uint8_t is_closing; // it is in worker_state.closing
  uint16_t n_control, control_from;
  uint8_t *control;            // CONTROL_MAX, when there is any
  struct vc_position position; // of the last message it was given
  struct vc_position since;
  int64_t begins_ms;       // its token, Unix time
  int64_t expires_ms;      // the same; 0: never
  uint64_t cursor;         // the next entry of the ring
  uint64_t n_partials;     // of the session, that it was given or passed over and counted
  struct vc_message *head; // partly sent
  uint32_t head_from;
  struct vc_answer *answer;
  size_t answer_at;
  uint64_t n_sent;      // bytes handed to the kernel
  uint64_t ping_end;    // n_sent behind the last ping, UINT64_MAX while that is in `control`
  uint64_t n_gone;      // of n_sent, that were out of the kernel's buffer when it was looked at
  uint64_t gone_ns;     // when n_gone had grown
  uint64_t blocked_ns;  // since when it takes nothing, 0: it took what came last
  uint64_t deadline_ns; // ping, or the end of a close
  struct vc_ws_parser parser;
  struct vc_address address;
  struct viewer *prev, *next;             // in session.viewers
  struct viewer *prev_timed, *next_timed; // in worker_state.pings or .closing
  UT_hash_handle hh;                      // in worker_state.viewers
};

struct uring;

struct worker_state {
  struct vc_broadcast *broadcast;
  struct uring *uring;      // NULL: each viewer has a send() of its own
  size_t uring_viewers_min; // that a session must have
  struct vc_putter *ledger;
  uint32_t n_ledger;
  struct session *sessions;
  struct session *dirty;  // something came; the one that is sent to next first
  struct viewer *viewers; // by id
  struct viewer *pings;   // the next to be pinged first
  struct viewer *closing; // the next to be given up first
  size_t n_asking;
  struct vc_leave **leaves; // that the ledger's lane did not take yet: at most one a viewer
  size_t n_leaves, leaves_capacity;
  uint64_t next_walk_ns; // when all viewers are looked at again
  int must_read;         // some viewer has more to be read
  uint8_t scratch[READ_SIZE];
  /* drain */
  int is_draining;
  uint64_t drain_ns;
  size_t n_at_drain;
};

// --- ring.c: a session's messages
void ring_add(struct vc_worker *worker, struct session *session, struct vc_live *live);
struct entry *ring_at(const struct session *session, uint64_t position);
// Where `from` stands: the first entry that is not before it.
uint64_t ring_find(const struct session *session, struct vc_position from);
// Of the session's partials, those that came before the entry at `place`, which may be the end.
uint64_t ring_partials_before(const struct session *session, uint64_t place);
int position_is_before(struct vc_position a, struct vc_position b);
struct vc_position position_of(const struct vc_message *message);
void ring_fini(struct session *session);

// --- viewer.c: one viewer's life and reading
void viewer_adopt(struct vc_worker *worker, const struct vc_newcomer *newcomer);
// Says why and closes the descriptor of one that does not become a viewer.
void newcomer_turn_away(const struct vc_newcomer *newcomer, int code, const char *reason);
void viewer_destroy(struct vc_worker *worker, struct viewer *viewer);
// Says goodbye; what was not sent of messages is forgotten, but a message is never cut.
void viewer_close(struct vc_worker *worker, struct viewer *viewer, int code, const char *reason);
void viewer_ask(struct vc_worker *worker, struct viewer *viewer);
void viewer_read(struct vc_worker *worker, struct viewer *viewer);
void viewer_tick(struct vc_worker *worker);
// 1 while there is something for the viewer that it has not taken.
int viewer_has_unsent(const struct viewer *viewer);
// Returns: 0, or -1: there is no room for it.
int viewer_control(struct viewer *viewer, enum vc_ws_opcode opcode, const void *payload,
                   size_t size);
void viewer_leave_retry(struct vc_worker *worker);
// Frees the session when it has no viewer any more.
void broadcast_session_release(struct vc_worker *worker, struct session *session);

// What one write carries, in order; the messages are borrowed from the answer or the ring.
struct batch {
  struct iovec iovecs[IOVECS_MAX + 2];
  struct part {
    struct vc_message *message; // NULL: control frames
    uint64_t after;             // where the viewer stands once it has begun
    size_t n_skipped_before;    // partials passed over before it
  } parts[IOVECS_MAX + 2];
  uint64_t end;                // where it stands once all have begun
  size_t n_skipped, n_counted; // partials in all; of which the metric knows
  size_t n;
};

// --- send.c: writing. Returns: 0, or -1: the viewer is gone.
int viewer_flush(struct vc_worker *worker, struct viewer *viewer);
void viewer_answer(struct vc_worker *worker, struct vc_answer *answer);
// The next viewers of the session's walk, at most `share`. Returns: how many.
size_t session_flush(struct vc_worker *worker, struct session *session, size_t share);
// What a viewer that is not blocked is to be sent next; none: viewer_flush() does what is due.
void viewer_gather(struct vc_worker *worker, struct viewer *viewer, struct batch *batch);
// Accounts for a batch of which `result` bytes were taken, or that failed with -errno.
int viewer_sent(struct vc_worker *worker, struct viewer *viewer, struct batch *batch,
                ssize_t result);

// --- uring.c: writes to many viewers in one system call
// Returns: 0, or -1: the kernel has none for us.
int uring_create(struct uring **uring, struct vc_error *error);
void uring_destroy(struct uring **uring);
// Sends to the viewer, at the latest with uring_send(); until then nobody else may write to it.
void uring_add(struct vc_worker *worker, struct uring *uring, struct viewer *viewer);
void uring_send(struct vc_worker *worker, struct uring *uring);
