#include <verbacast/base/pool.h>

#include <stdlib.h>

struct vc_pool {
  size_t capacity;
  uint32_t kept_max;
  _Atomic uint32_t n_refs; // its owner's, and one for each buffer that is out
  _Atomic uint32_t n_kept; // on either list
  _Atomic(struct vc_buffer *) returned;
  struct vc_buffer *unused; // the owner's
};

struct vc_pool *vc_pool_create(size_t capacity, uint32_t kept_max)
{
  struct vc_pool *pool = calloc(1, sizeof *pool);
  if (pool != NULL) {
    pool->capacity = capacity;
    pool->kept_max = kept_max;
    atomic_init(&pool->n_refs, 1);
  }
  return pool;
}

static void free_list(struct vc_buffer *buffer)
{
  while (buffer != NULL) {
    struct vc_buffer *next = buffer->next;
    free(buffer);
    buffer = next;
  }
}

static void unref(struct vc_pool *pool)
{
  // Pairs with itself: the last one sees what all others have returned.
  if (atomic_fetch_sub_explicit(&pool->n_refs, 1, memory_order_acq_rel) == 1) {
    free_list(pool->unused);
    free_list(atomic_load_explicit(&pool->returned, memory_order_relaxed));
    free(pool);
  }
}

void vc_pool_destroy(struct vc_pool **pool)
{
  if (*pool != NULL) {
    unref(*pool);
    *pool = NULL;
  }
}

// All that was returned is taken at once, so a buffer that comes again cannot be mistaken for the
// one that was seen (ABA).
static struct vc_buffer *find_unused(struct vc_pool *pool)
{
  if (pool->unused == NULL) {
    pool->unused = atomic_exchange_explicit(&pool->returned, NULL, memory_order_acquire);
  }
  struct vc_buffer *buffer = pool->unused;
  if (buffer != NULL) {
    pool->unused = buffer->next;
    atomic_fetch_sub_explicit(&pool->n_kept, 1, memory_order_relaxed);
  }
  return buffer;
}

struct vc_buffer *vc_pool_take(struct vc_pool *pool)
{
  struct vc_buffer *buffer = find_unused(pool);
  if (buffer == NULL) {
    buffer = vc_buffer_create(pool->capacity);
  }
  if (buffer != NULL) {
    atomic_store_explicit(&buffer->n_refs, 1, memory_order_relaxed);
    buffer->size = 0;
    buffer->next = NULL;
    buffer->pool = pool;
    atomic_fetch_add_explicit(&pool->n_refs, 1, memory_order_relaxed);
  }
  return buffer;
}

void vc_pool_give_back(struct vc_buffer *buffer)
{
  struct vc_pool *pool = buffer->pool;
  if (atomic_fetch_add_explicit(&pool->n_kept, 1, memory_order_relaxed) >= pool->kept_max) {
    atomic_fetch_sub_explicit(&pool->n_kept, 1, memory_order_relaxed);
    free(buffer);
  } else {
    buffer->next = atomic_load_explicit(&pool->returned, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&pool->returned, &buffer->next, buffer,
                                                  memory_order_release, memory_order_relaxed)) {
    }
  }
  unref(pool);
}
