// Chunks written by hand, header by header, and what a reader makes of them.
#pragma once

#include <rtmp.h>

#define MESSAGE_MAX 65536
#define BUFFERED_MAX 131072

void put_byte(struct rtmp_bytes *out, unsigned byte);
void put_u24(struct rtmp_bytes *out, uint32_t value);
void put_u32(struct rtmp_bytes *out, uint32_t value);
// n bytes that differ by place and seed
void put_payload(struct rtmp_bytes *out, unsigned seed, size_t n);
// Basic headers of one, two or three bytes, whichever is the shortest for the id.
void put_basic(struct rtmp_bytes *out, unsigned format, uint32_t id);
// Headers without an extended timestamp; `time` may be 0xffffff, then put_u32 follows.
void put_type0(struct rtmp_bytes *out, uint32_t id, uint32_t time, uint32_t size, unsigned type,
               uint32_t stream_id);
void put_type1(struct rtmp_bytes *out, uint32_t id, uint32_t delta, uint32_t size, unsigned type);
void put_type2(struct rtmp_bytes *out, uint32_t id, uint32_t delta);
void put_type3(struct rtmp_bytes *out, uint32_t id);
// A message of type 0 in one chunk.
void put_message(struct rtmp_bytes *out, uint32_t id, uint32_t time, unsigned type,
                 const void *payload, size_t size);
void put_set_chunk_size(struct rtmp_bytes *out, uint32_t size);

struct seen {
  uint8_t type;
  uint32_t stream_id, timestamp_ms;
  size_t size;
  uint8_t *payload; // a copy
};

#define SEEN_MAX 256
struct reading {
  struct seen seen[SEEN_MAX];
  size_t n;
  int end;        // 0: all was read, < 0 an rtmp_error
  size_t n_rest;  // bytes that were left over
  size_t n_total; // buffered by the reader at the end
};

// Reads `bytes` in pieces that end at the places of `cuts` (n_cuts, rising) and at the end. Each
// piece lies in memory of its own, of its exact size.
void read_cut(struct reading *reading, const struct rtmp_bytes *bytes, const size_t *cuts,
              size_t n_cuts);
void read_whole(struct reading *reading, const struct rtmp_bytes *bytes);
void reading_fini(struct reading *reading);
// Fails the test when they differ.
void assert_same_reading(const struct reading *a, const struct reading *b);
// The payload is what put_payload wrote.
void assert_seen(const struct reading *reading, size_t index, unsigned type, uint32_t timestamp_ms,
                 unsigned seed, size_t size);
