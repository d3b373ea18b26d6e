// A refcounted run of bytes: written by the one who made it, read-only for everybody once a
// second reference exists. The only memory that crosses threads without moving.
#pragma once

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

struct vc_buffer {
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
