// A broadcast stage that is turned by hand, with the test in the ledger's place and viewers on
// socket pairs. How much a socket takes is played: see rig_take.
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <verbacast/broadcast.h>
#include <verbacast/flow/query.h>
#include <verbacast/wire/ws.h>

#include "../ledger/hand_stage.h"

#define RIG_PEERS_MAX 320 // more than are written to in two turns
#define RIG_TOLD_MAX (64 * 1024)

struct peer {
  int fd;     // its own end, -1: hung up
  int theirs; // the number of the stage's end
  uint32_t worker;
  uint64_t id; // of the viewer, as the ledger knows it
  struct vc_ws_parser parser;
  char told[RIG_TOLD_MAX]; // what it was told since the last look, a word each
  size_t n_told;
  char why[VC_WS_CONTROL_MAX + 1]; // of its close
};

struct rig {
  uint64_t now_ns;
  struct vc_clock clock;
  struct vc_metrics *metrics;
  struct vc_limits *limits;
  struct vc_broadcast_options options;
  uint32_t n_workers, max_viewers;
  int64_t begins_ms, expires_ms; // of those that come
  int64_t began_ms;              // of the session that is on, 0: at the Unix time that its epoch is
  int start_status;              // of the stage
  struct vc_error start_error;
  struct vc_broadcast *broadcast;
  struct vc_stage *stage;
  struct vc_stage *ledger;  // an inbox that the test empties
  struct vc_putter *putter; // the ledger's lane into the stage
  struct peer *peers[RIG_PEERS_MAX];
  size_t n_peers;
  char requests[4096];
};

struct rig *rig_create(void (*change)(struct rig *rig));
void rig_destroy(struct rig *rig);
void rig_turn(struct rig *rig);
void rig_pass_ms(struct rig *rig, uint64_t ms); // the clock, then a turn
uint64_t rig_counter(struct rig *rig, const char *name);

// --- viewers
struct peer *rig_come(struct rig *rig, const char *slug, struct vc_position since);
// Comes, joins, and is given a hello and the state of nothing: it stands at (epoch, seq).
struct peer *rig_watch(struct rig *rig, const char *slug, int64_t epoch, uint64_t seq);
// How many bytes its socket takes from now on, in all; SIZE_MAX: whatever comes. `rig_take` says
// so to the stage as the kernel would.
void rig_stall(struct peer *peer, size_t n_bytes);
void rig_take(struct rig *rig, struct peer *peer, size_t n_bytes);
// So many of the bytes that its socket took are still in the kernel, from now on.
void rig_hold(struct peer *peer, int n_bytes);
void peer_send(struct peer *peer, enum vc_ws_opcode opcode, const void *payload, size_t size);
void peer_send_raw(struct peer *peer, const void *bytes, size_t size);
void peer_hang_up(struct peer *peer);
// Reads what is there and compares: "F1.3a", "ping", "pong:text", "close:1001", "eof".
void peer_expect(struct peer *peer, const char *told);
const char *peer_read(struct peer *peer);

// --- the ledger's side
// What broadcast asked since the last look: "join demo 1 0.0; leave demo 1".
const char *rig_requests(struct rig *rig);
void rig_expect_requests(struct rig *rig, const char *requests);
// The text of its frame is "F1.3a": kind, epoch, seq, utterance (0: none), blown up to `size`.
struct vc_message *rig_message(enum vc_message_kind kind, const char *slug, int64_t epoch,
                               uint64_t seq, char utterance, size_t size);
// To all workers; takes the message.
void rig_live(struct rig *rig, struct vc_message *message);
void rig_live_after_loss(struct rig *rig, struct vc_message *message);
void rig_say(struct rig *rig, enum vc_message_kind kind, uint64_t seq, char utterance);
struct vc_answer *rig_answer(const struct peer *peer, const char *slug);
void rig_answer_add(struct vc_answer *answer, struct vc_message *message); // takes it
void rig_answer_last(struct rig *rig, const struct peer *peer, struct vc_answer *answer,
                     struct vc_position live_from);
void rig_answer_part(struct rig *rig, const struct peer *peer, struct vc_answer *answer);

// Writes of the stage since the start, whatever became of them.
extern size_t rig_n_writes;
// What the kernel refuses an io_uring with, -errno; 0: it gives one.
extern int rig_uring_refusal;
extern int rig_uring_is_old; // it gives one that cannot even be asked what it knows
// With RIG_IO=uring: what its next system calls fail with, -errno; 0: nothing.
extern int rig_uring_status;
