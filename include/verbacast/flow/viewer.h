// What broadcast and ledger say to each other about viewers.
//
// A session's viewers are spread over all broadcast workers. Every message of a session that has
// viewers goes to every worker as a `live`; a viewer's join, its answers and the live messages come
// to the worker through the ledger's one lane, so that history and live meet without a hole or a
// double: what the ledger numbered before it answered a join is in the answer, what it numbers
// after comes as `live` behind it on the same lane.
//
// An answer holds at most VC_ANSWER_MAX references. `is_last` 0: more is to be had from the ledger,
// ask by catch_up{position after this answer} once these are sent. Between such an answer and the
// last one the viewer is not yet on the live ring; from the last answer on it takes the ring from
// `live_from` on: whatever the ring holds before it was in the answer.
//
// A viewer's position is the (epoch, seq) of the last message it was given that is no HELLO; a GAP
// message carries in `epoch` and `seq` the position it moves to. After a last answer the position
// is at least {live_from.epoch, live_from.seq - 1}, also for a viewer that was given a hello only
// (nobody has published: epoch 0, seq 0, a position before every epoch). Messages of an answer
// stand in the order of their numbers, so that a position never goes back: finals, statuses,
// retracts and ends that are later than the position and, at their numbers, the open partials as
// they are now. Where the epoch changes within an answer a HELLO of the new one stands between.
//
// One request of a viewer is under way at a time. A leave is the last that is said of a viewer, and
// not said after an answer that is_refused; an answer to a viewer that has left is to be dropped.
//
// A new epoch comes live as a HELLO. Full: a `live` that does not fit the lane is dropped for that
// worker and the session flagged: the next `live` that fits (if none follows, the newest one again)
// has `is_after_loss` set and every viewer of that worker's ring catches up from its position.
// A request whose answer does not fit waits in the ledger in a list of at most MAX_VIEWERS, and is
// answered as of the moment when there is room.
#pragma once

#include <stdint.h>

#include <verbacast/flow/item.h>
#include <verbacast/flow/message.h>

#define VC_ANSWER_MAX 64

struct vc_position {
  int64_t epoch; // 0: none
  uint64_t seq;
};

struct vc_live {
  struct vc_item item;
  struct vc_message *message; // one reference
  int is_after_loss;
  int64_t began_ms;   // as in an answer, which an END makes 0
  uint64_t queued_ns; // when the ledger put it: ws.session_broadcast_lag_ms
};

struct vc_join {
  struct vc_item item;
  char slug[VC_SLUG_MAX + 1];
  uint32_t worker;          // of broadcast, where the answer goes
  uint64_t viewer_id;       // unique on this node, never reused
  struct vc_position since; // epoch 0: none
};

struct vc_catch_up {
  struct vc_item item;
  char slug[VC_SLUG_MAX + 1];
  uint32_t worker;
  uint64_t viewer_id;
  struct vc_position position;
};

struct vc_leave {
  struct vc_item item;
  char slug[VC_SLUG_MAX + 1];
  uint32_t worker;
  uint64_t viewer_id;
};

struct vc_answer {
  struct vc_item item;
  char slug[VC_SLUG_MAX + 1];
  uint64_t viewer_id;
  int is_last;
  int is_refused;               // no room for another session: close 1013
  int64_t began_ms;             // Unix time at which the session that is on began, 0: none is on
  struct vc_position live_from; // is_last: the first (epoch, seq) that comes live after this
  size_t n_messages;
  struct vc_message *messages[VC_ANSWER_MAX]; // in the order to be sent; a reference each
};

struct vc_live *vc_live_create(struct vc_message *message); // takes a new reference
struct vc_join *vc_join_create(const char *slug);
struct vc_catch_up *vc_catch_up_create(const char *slug);
struct vc_leave *vc_leave_create(const char *slug);
struct vc_answer *vc_answer_create(const char *slug);
