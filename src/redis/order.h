// The order of what comes in of one watched slug. Pure: no socket, no clock.
//
// Messages come by two ways: live, where any may be lost, and from the stream, which holds all kept
// ones of an epoch without a hole (but may be trimmed, or flushed and written again). Each message
// names the kept one before it. So one position is all that has to be known: every kept message up
// to `given` was given or announced as lost. A message that follows it is given at once, whichever
// way it came; one that is not beyond it is a repeat; for one beyond a hole, or of a larger epoch,
// whose begin and the rest of the epoch before it are in the stream, the stream is read again.
// What a read that began ORDER_PATIENCE_MS after a message was held does not bring is lost for
// good. So may be the rest of an epoch where the next one's hello says so.
//
// Bound: ORDER_HELD_MAX messages are held. Beyond it the oldest partial is dropped, which may be
// lost; if none is held, the newest message, and the stream is read again for it.
//
// Thread: one at a time.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <verbacast/flow/remote.h>

#define ORDER_HELD_MAX 500
#define ORDER_PATIENCE_MS 2000
#define ORDER_RETRY_MS 250 // between two reads for the same hole

// How the epoch that was given last goes on.
enum order_ending {
  ORDER_GOES_ON,
  ORDER_GIVEN_UP, // others took its owner for lost, who may have said more than it could write
  ORDER_ENDED,    // by its owner's own word: nothing is to come
};

struct order_held;

struct order_ops {
  // The next message. Takes it.
  void (*give)(void *context, struct vc_remote *remote);
  // (epoch, from] .. to is lost for good; `to` 0: to the end of the epoch, wherever that was.
  void (*gap)(void *context, int64_t epoch, uint64_t from, uint64_t to);
};

struct order_counts {
  uint64_t held, cut; // messages that were held; dropped because too many were
  uint64_t repeats;   // had been given
  uint64_t stale;     // of an older epoch
};

struct order {
  /* set by order_init, then read-only */
  const struct order_ops *ops;
  void *context;
  struct order_counts *counts; // of many
  /* its owner's thread */
  struct vc_position given;
  enum order_ending ending;
  struct vc_position begins; // what the stream began with when a piece was last read
  struct order_held *held;   // by number, none twice
  size_t n_held;
  int is_behind;      // what came after the last read began was dropped
  int is_reading;     // from `began_ns`
  uint64_t began_ns;  // of the read that is under way
  uint64_t retry_ns;  // not before
  uint64_t looked_ns; // when the last complete read began
};

// The stream is to be read first. `is_over`: the epoch of `given` has ended, by whosever word.
void order_init(struct order *order, const struct order_ops *ops, void *context,
                struct order_counts *counts, struct vc_position given, int is_over);
// Frees what is held.
void order_fini(struct order *order);

// A live message. Takes it.
void order_live(struct order *order, struct vc_remote *remote, uint64_t now_ns);
// A live message came and was lost: there was no memory for it.
void order_miss(struct order *order);

// A read is of all that the stream holds after a position, in one or more pieces; it ends, or it
// fails. One that begins at `now_ns` is of a stream that has what was published before any message
// that came until then. Returns: 1 a read should begin now, 0 not yet, or one is under way.
int order_wants_read(const struct order *order, uint64_t now_ns);
// When order_wants_read will say so by time alone.
#define ORDER_NEVER UINT64_MAX
uint64_t order_wakes_ns(const struct order *order);
void order_begin_read(struct order *order, uint64_t now_ns);
// A piece: what the stream begins with at that moment ((0, 0): it is empty), then its first entries
// after `given`.
void order_begins_with(struct order *order, struct vc_position first);
// Takes the entry.
void order_entry(struct order *order, struct vc_remote *remote);
// An entry of that number that cannot be given; `is_lost` 0: it need not be.
void order_pass(struct order *order, struct vc_position number, int is_lost);
void order_end_read(struct order *order, uint64_t now_ns);
void order_fail_read(struct order *order, uint64_t now_ns);

// Whether what was said of the epoch that was given last may go on behind that: as far as a
// complete read of the stream tells, when no message came behind it.
int order_may_lack_rest(const struct order *order);

// The channel was deaf until now: the stream is to be read.
void order_again(struct order *order, uint64_t now_ns);
// All up to the epoch is to be forgotten.
void order_forget(struct order *order, int64_t epoch);
