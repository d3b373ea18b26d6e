// A bounded queue of pointers between exactly one putting and one taking thread, without locks.
// lane.c is the only file that sees ConcurrencyKit (ck_ring, single producer, single consumer).
#pragma once

#include <stddef.h>

struct vc_lane;

// `capacity` is rounded up so that at least that many items fit (a ring of 2^k holds 2^k - 1).
struct vc_lane *vc_lane_create(size_t capacity);
// Must be empty: items belong to somebody.
void vc_lane_destroy(struct vc_lane **lane);

// Thread: the putter. Returns: 0 and the item has moved, 1 full and it is still the caller's.
int vc_lane_put(struct vc_lane *lane, void *item);
// Thread: the taker. Returns: the oldest item, or NULL when empty.
void *vc_lane_take(struct vc_lane *lane);
// Thread: any; a moment's figure for metrics and for the sleep check of the taker.
size_t vc_lane_count(const struct vc_lane *lane);
