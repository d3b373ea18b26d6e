#include <verbacast/base/buffer.h>

#include <verbacast/base/pool.h>

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define CAPACITY_MAX (UINT32_C(1) << 30)

struct vc_buffer *vc_buffer_create(size_t capacity)
{
  if (capacity > CAPACITY_MAX) {
    return NULL;
  }
  struct vc_buffer *buffer = malloc(sizeof *buffer + capacity);
  if (buffer == NULL) {
    return NULL;
  }
  buffer->pool = NULL;
  buffer->next = NULL;
  atomic_init(&buffer->n_refs, 1);
  buffer->capacity = (uint32_t)capacity;
  buffer->size = 0;
  return buffer;
}

struct vc_buffer *vc_buffer_copy(const void *bytes, size_t size)
{
  struct vc_buffer *buffer = vc_buffer_create(size);
  if (buffer != NULL) {
    if (size > 0) {
      memcpy(buffer->data, bytes, size);
    }
    buffer->size = (uint32_t)size;
  }
  return buffer;
}

struct vc_buffer *vc_buffer_ref(struct vc_buffer *buffer)
{
  if (buffer != NULL) {
    // Relaxed: who takes a reference holds one already.
    atomic_fetch_add_explicit(&buffer->n_refs, 1, memory_order_relaxed);
  }
  return buffer;
}

void vc_buffer_unref(struct vc_buffer *buffer)
{
  if (buffer == NULL) {
    return;
  }
  // Pairs with itself: the last holder sees all that the others did before they let go.
  uint32_t before = atomic_fetch_sub_explicit(&buffer->n_refs, 1, memory_order_acq_rel);
  assert(before > 0);
  if (before == 1 && buffer->pool != NULL) {
    vc_pool_give_back(buffer);
  } else if (before == 1) {
    free(buffer);
  }
}
