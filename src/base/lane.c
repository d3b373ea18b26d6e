#include <verbacast/base/lane.h>

#include <ck_ring.h>

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

// ck's assembly is invisible to ThreadSanitizer, so this file is built without it and says itself
// what a put publishes and a take sees.
#ifdef VC_LANE_TSAN
void __tsan_acquire(void *address);
void __tsan_release(void *address);
#define ACQUIRE(address) __tsan_acquire(address)
#define RELEASE(address) __tsan_release(address)
#else
#define ACQUIRE(address) ((void)(address))
#define RELEASE(address) ((void)(address))
#endif

#define CACHE_LINE 64
#define CAPACITY_MAX (UINT32_C(1) << 24)

struct vc_lane {
  _Alignas(CACHE_LINE) ck_ring_t ring;
  _Alignas(CACHE_LINE) ck_ring_buffer_t slots[];
};

struct vc_lane *vc_lane_create(size_t capacity)
{
  if (capacity > CAPACITY_MAX) {
    return NULL;
  }
  unsigned size = 4;
  while (size - 1 < capacity) { // a ring of 2^k holds 2^k - 1
    size *= 2;
  }
  size_t bytes = sizeof(struct vc_lane) + size * sizeof(ck_ring_buffer_t);
  bytes = (bytes + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
  struct vc_lane *lane = aligned_alloc(CACHE_LINE, bytes);
  if (lane != NULL) {
    memset(lane, 0, bytes);
    ck_ring_init(&lane->ring, size);
  }
  return lane;
}

void vc_lane_destroy(struct vc_lane **lane)
{
  if (*lane != NULL) {
    assert(ck_ring_size(&(*lane)->ring) == 0);
    free(*lane);
    *lane = NULL;
  }
}

int vc_lane_put(struct vc_lane *lane, void *item)
{
  RELEASE(item);
  return ck_ring_enqueue_spsc(&lane->ring, lane->slots, item) ? 0 : 1;
}

void *vc_lane_take(struct vc_lane *lane)
{
  void *item = NULL;
  if (!ck_ring_dequeue_spsc(&lane->ring, lane->slots, &item)) {
    return NULL;
  }
  ACQUIRE(item);
  return item;
}

size_t vc_lane_count(const struct vc_lane *lane)
{
  return ck_ring_size(&lane->ring);
}
