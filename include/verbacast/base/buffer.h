// A refcounted run of bytes: written by the one who made it, read-only for everybody once a
// second reference exists. The only memory that crosses threads without moving.
#pragma once

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

struct vc_pool;

struct vc_buffer {
  struct vc_pool *pool;   // where it goes back to (base/pool.h); NULL: to the allocator
  struct vc_buffer *next; // the pool's, while nobody refers to it
  _Atomic uint32_t n_refs;
  uint32_t capacity;
  uint32_t size; // bytes in use, set by the maker before it shares the buffer
  uint8_t data[];
};

// Returns: a buffer with one reference and size 0, or NULL without memory (or capacity > 1 GiB).
struct vc_buffer *vc_buffer_create(size_t capacity);
struct vc_buffer *vc_buffer_copy(const void *bytes, size_t size);
// Thread: any. Returns: its argument. NULL is allowed in both.
struct vc_buffer *vc_buffer_ref(struct vc_buffer *buffer);
void vc_buffer_unref(struct vc_buffer *buffer);
