// What a full lane did not take: the items of one session, in their order, until there is room. The
// list is bounded by its room's rules: beyond `max` the oldest item that can be done without is
// dropped. It needs no memory, so that nothing is lost for want of it.
//
// Thread: the putter's worker.
#pragma once

#include <stddef.h>

#include <verbacast/flow/stage.h>

#define VC_WAITING_RETRY_MS 1

struct vc_waiting {
  struct vc_item *items; // the oldest first
  size_t n;
};

// A room's, constant.
struct vc_waiting_rules {
  size_t max;
  // Returns: 0 and the item has moved, 1 the lane is full.
  int (*put)(struct vc_worker *worker, struct vc_item *item);
  // Returns: what is dropped first, or NULL: all of it must be kept, beyond `max` too.
  struct vc_item *(*find_droppable)(const struct vc_waiting *waiting);
  // Borrows the item, which is dropped next and still in its place. `owner`: of the list.
  void (*dropping)(struct vc_worker *worker, void *owner, struct vc_item *item);
};

// Takes the item: puts it, or lets it wait behind those that do. The worker is asked to tick soon
// while something waits.
void vc_waiting_give(struct vc_waiting *waiting, const struct vc_waiting_rules *rules,
                     struct vc_worker *worker, void *owner, struct vc_item *item);
// At every tick: puts what waits, as long as there is room. Returns: 0 nothing waits any more, 1
// something does.
int vc_waiting_flush(struct vc_waiting *waiting, const struct vc_waiting_rules *rules,
                     struct vc_worker *worker);
// Frees what waits.
void vc_waiting_fini(struct vc_waiting *waiting);
