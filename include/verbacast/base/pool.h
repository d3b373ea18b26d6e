// Buffers of one capacity that go back to where they came from: the thread that makes many takes
// what others have let go of, without the allocator between them.
//
// One thread takes; a buffer is let go of as any other, by vc_buffer_unref from any thread. At most
// `kept_max` lie unused, what is beyond goes to the allocator. Buffers may outlive their pool.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <verbacast/base/buffer.h>

struct vc_pool;

// Returns: NULL without memory.
struct vc_pool *vc_pool_create(size_t capacity, uint32_t kept_max);
// Thread: one at a time, as for destroy. Returns: as vc_buffer_create.
struct vc_buffer *vc_pool_take(struct vc_pool *pool);
void vc_pool_destroy(struct vc_pool **pool);

// Of buffer.c: takes a buffer of the pool that nobody refers to any more. Thread: any.
void vc_pool_give_back(struct vc_buffer *buffer);
