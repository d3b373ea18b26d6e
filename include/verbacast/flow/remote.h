// What the ledger and the redis room say to each other: sessions of other nodes come in, what is
// said on this node goes out. Without REDIS_URL none of this travels.
//
// Out (ledger -> redis, the publishing worker; one lane, in the order of the ledger): the messages
// of a session that was claimed; it is let go after its last. A hello that begins an epoch travels
// as its message number 0. The chain of an epoch's kept messages (hello, finals, statuses, end) has
// no hole in Redis: each names the one before it (vc_message.prev_final), and what does not fit is
// not written. What was lost on the way (the lane was full, Redis was away, was flushed) is asked
// for by the room: VC_REMOTE_ASK, answered by VC_FLEET_HISTORY on the same lane, so that history
// and live meet there as they do at a viewer (flow/viewer.h). Full: the message is dropped and
// counted; its session asks again.
//
// Out (ledger -> redis, the watching worker): VC_FLEET_CLAIM, WATCH and UNWATCH. While a slug is
// watched all messages of other nodes come in, in order, each once. A claim ends the watching of
// its slug, and is always answered: by what the stream holds after the position that was named,
// then VC_REMOTE_OWNED. From then on the slug is owned, until it is released.
//
// In (redis -> ledger): for a watched slug first what the stream holds after the position that was
// named, then VC_REMOTE_FILLED, then live. What is missing for good comes as VC_REMOTE_GAP in its
// place. A larger epoch comes after the rest of the one before, and begins with its HELLO or, where
// that is no longer held, with a GAP or any other message. Full: the room stops reading its socket
// until there is room.
#pragma once

#include <stdint.h>

#include <verbacast/flow/item.h>
#include <verbacast/flow/message.h>
#include <verbacast/flow/result.h>
#include <verbacast/flow/viewer.h>

// --- redis -> ledger

enum vc_remote_kind {
  VC_REMOTE_MESSAGE,  // watched: the next message, HELLO for a new epoch
  VC_REMOTE_GAP,      // watched: (epoch, from] .. to is lost; `message` NULL
  VC_REMOTE_FILLED,   // watched: all that the stream held was given; `epoch` of the owner key, or
                      // 0: nobody owns the slug
  VC_REMOTE_OWNER,    // watched: the owner key changed: `epoch` and `node`, or 0: it is gone
  VC_REMOTE_AWAY,     // no slug: Redis is silent; nothing will be filled
  VC_REMOTE_BACK,     // no slug: it answers again
  VC_REMOTE_OWNED,    // the answer to a claim: number on from `epoch` (0: nothing is known of the
                      // slug or Redis is away; as the ledger would by itself)
  VC_REMOTE_TAKEN,    // another node has claimed what we own, or has numbered it meanwhile: `epoch`
                      // is its, `node` may be ""
  VC_REMOTE_FENCED,   // `epoch` is refused and nothing more is published of it than what is kept up
                      // to `seq` at least; it is not taken: claim again
  VC_REMOTE_GIVEN_UP, // `epoch` was released, and others took its owner for lost: what is kept of
                      // it is not all written and never will be, because the stream ends with
                      // `seq`, by their hand. Comes again until an ORPHAN behind that is written
  VC_REMOTE_ASK,      // give what is kept after (`epoch`, `seq`); (0, 0): all that is held
  VC_REMOTE_ERASED,   // the slug was erased on another node, up to `epoch`
};

struct vc_remote {
  struct vc_item item; // VC_ITEM_REMOTE
  enum vc_remote_kind kind;
  char slug[VC_SLUG_MAX + 1];
  char node[96];
  int64_t epoch;
  uint64_t seq;               // ASK, FENCED, GIVEN_UP; GAP: the last that was given before it
  uint64_t to;                // GAP; 0: all the rest of the epoch, if there was any; GIVEN_UP: the
                              // last of it that is written, 0: none is
  int is_after_loss;          // OWNED: what was said before may not all have come, or be written
  int64_t started_unix_ms;    // MESSAGE: when its session began; 0: not known
  struct vc_message *message; // MESSAGE: one reference; no record, and its hash as its utterance id
  enum vc_state state;        // MESSAGE of HELLO, STATUS, END: what it says
  char reason[96];            // "" none
};

// Returns NULL without memory.
struct vc_remote *vc_remote_create(enum vc_remote_kind kind, const char *slug);

// --- ledger -> redis

enum vc_fleet_kind {
  VC_FLEET_CLAIM,   // watching worker: somebody publishes here; all after `position` is given first
  VC_FLEET_MESSAGE, // publishing worker
  VC_FLEET_HISTORY, // publishing worker: the answer to an ASK, of a slug that was released too;
                    // without messages where nothing is held
  VC_FLEET_RELEASE, // publishing worker: its last message was put, or none will come
  VC_FLEET_ORPHAN,  // publishing worker: a status or end of a session whose owner is lost, said by
                    // one that watches it, or by that owner when it is back; refused where somebody
                    // owns the slug or the stream does not end with `position`
  VC_FLEET_WATCH,   // watching worker: everything after `position`; (0, 0): from the beginning
  VC_FLEET_UNWATCH, // watching worker
};

struct vc_fleet {
  struct vc_item item; // VC_ITEM_FLEET
  enum vc_fleet_kind kind;
  char slug[VC_SLUG_MAX + 1];
  struct vc_position position;   // WATCH, CLAIM; HISTORY: what its first message follows, which is
                                 // what was asked for or the last of the piece before; RELEASE:
                                 // the last that is kept of the session, written before it is
                                 // gone; ORPHAN: what it is written behind
  int is_over;                   // WATCH, CLAIM: the epoch of `position` has ended, by its node's
                                 // word or by others' for it; of no meaning in other kinds
  int64_t epoch_floor;           // CLAIM: the epoch is to be at least this
  int64_t started_unix_ms;       // MESSAGE, HISTORY: when the session began
  int is_last;                   // HISTORY: the next messages follow by themselves; RELEASE: no
                                 // word of the session is to come that other nodes will not hear
  size_t most;                   // that `messages` has room for
  size_t n_messages;             // MESSAGE, ORPHAN: 1; HISTORY: at most VC_ANSWER_MAX, of one epoch
  struct vc_message *messages[]; // a reference each
};

// Room for `most` messages. Returns NULL without memory.
struct vc_fleet *vc_fleet_create(enum vc_fleet_kind kind, const char *slug, size_t most);
// Takes a new reference.
void vc_fleet_add(struct vc_fleet *fleet, struct vc_message *message);
