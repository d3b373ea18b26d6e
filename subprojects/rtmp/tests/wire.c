#include "wire.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

void put_byte(struct rtmp_bytes *out, unsigned byte)
{
  uint8_t at = (uint8_t)byte;
  rtmp_bytes_add(out, &at, 1);
}

void put_u24(struct rtmp_bytes *out, uint32_t value)
{
  put_byte(out, value >> 16);
  put_byte(out, value >> 8);
  put_byte(out, value);
}

void put_u32(struct rtmp_bytes *out, uint32_t value)
{
  put_byte(out, value >> 24);
  put_u24(out, value);
}

static uint8_t payload_byte(unsigned seed, size_t at)
{
  return (uint8_t)(seed * 31 + at * 7 + at / 256);
}

void put_payload(struct rtmp_bytes *out, unsigned seed, size_t n)
{
  for (size_t i = 0; i < n; i++) {
    put_byte(out, payload_byte(seed, i));
  }
}

void put_basic(struct rtmp_bytes *out, unsigned format, uint32_t id)
{
  if (id < 64) {
    put_byte(out, format << 6 | id);
  } else if (id < 64 + 256) {
    put_byte(out, format << 6);
    put_byte(out, id - 64);
  } else {
    put_byte(out, format << 6 | 1);
    put_byte(out, id - 64);
    put_byte(out, (id - 64) >> 8);
  }
}

void put_type0(struct rtmp_bytes *out, uint32_t id, uint32_t time, uint32_t size, unsigned type,
               uint32_t stream_id)
{
  put_basic(out, 0, id);
  put_u24(out, time);
  put_u24(out, size);
  put_byte(out, type);
  for (int i = 0; i < 4; i++) {
    put_byte(out, stream_id >> (8 * i));
  }
}

void put_type1(struct rtmp_bytes *out, uint32_t id, uint32_t delta, uint32_t size, unsigned type)
{
  put_basic(out, 1, id);
  put_u24(out, delta);
  put_u24(out, size);
  put_byte(out, type);
}

void put_type2(struct rtmp_bytes *out, uint32_t id, uint32_t delta)
{
  put_basic(out, 2, id);
  put_u24(out, delta);
}

void put_type3(struct rtmp_bytes *out, uint32_t id)
{
  put_basic(out, 3, id);
}

void put_message(struct rtmp_bytes *out, uint32_t id, uint32_t time, unsigned type,
                 const void *payload, size_t size)
{
  put_type0(out, id, time, (uint32_t)size, type, 1);
  rtmp_bytes_add(out, payload, size);
}

void put_set_chunk_size(struct rtmp_bytes *out, uint32_t size)
{
  put_type0(out, 2, 0, 4, RTMP_SET_CHUNK_SIZE, 0);
  put_u32(out, size);
}

// --- reading

static void note(struct reading *reading, const struct rtmp_message *message)
{
  assert_true(reading->n < SEEN_MAX);
  struct seen *seen = &reading->seen[reading->n++];
  *seen = (struct seen){.type = message->type,
                        .stream_id = message->stream_id,
                        .timestamp_ms = message->timestamp_ms,
                        .size = message->size,
                        .payload = malloc(message->size + 1)};
  assert_non_null(seen->payload);
  if (message->size > 0) {
    memcpy(seen->payload, message->payload, message->size);
  }
}

// What was left over and a new piece, in memory of its exact size, so that a sanitizer sees every
// step beyond it.
static uint8_t *join(const uint8_t *rest, size_t n_rest, const uint8_t *piece, size_t n_piece)
{
  uint8_t *joined = malloc(n_rest + n_piece);
  assert_true(joined != NULL || n_rest + n_piece == 0);
  if (rest != NULL && n_rest > 0) {
    memcpy(joined, rest, n_rest);
  }
  if (n_piece > 0) {
    memcpy(joined + n_rest, piece, n_piece);
  }
  return joined;
}

void read_cut(struct reading *reading, const struct rtmp_bytes *bytes, const size_t *cuts,
              size_t n_cuts)
{
  struct rtmp_reader reader;
  uint8_t *rest = NULL;
  *reading = (struct reading){0};
  rtmp_reader_init(&reader, MESSAGE_MAX, BUFFERED_MAX);
  size_t from = 0;
  for (size_t i = 0; i <= n_cuts && reading->end == 0; i++) {
    size_t to = i < n_cuts ? cuts[i] : bytes->size;
    size_t size = reading->n_rest + to - from, at = 0, used;
    uint8_t *joined = join(rest, reading->n_rest, bytes->at + from, to - from);
    struct rtmp_message message;
    int status;
    while ((status = rtmp_reader_next(&reader, joined + at, size - at, &used, &message)) == 1) {
      note(reading, &message);
      at += used;
    }
    at += used;
    reading->end = status;
    reading->n_rest = size - at;
    assert_true(status < 0 || reading->n_rest < RTMP_HEADER_MAX);
    free(rest);
    rest = join(joined + at, reading->n_rest, NULL, 0);
    free(joined);
    from = to;
  }
  free(rest);
  reading->n_total = reader.n_buffered;
  rtmp_reader_fini(&reader);
}

void read_whole(struct reading *reading, const struct rtmp_bytes *bytes)
{
  read_cut(reading, bytes, NULL, 0);
}

void reading_fini(struct reading *reading)
{
  for (size_t i = 0; i < reading->n; i++) {
    free(reading->seen[i].payload);
  }
}

void assert_same_reading(const struct reading *a, const struct reading *b)
{
  assert_int_equal(a->n, b->n);
  assert_int_equal(a->end, b->end);
  for (size_t i = 0; i < a->n; i++) {
    assert_int_equal(a->seen[i].type, b->seen[i].type);
    assert_int_equal(a->seen[i].stream_id, b->seen[i].stream_id);
    assert_int_equal(a->seen[i].timestamp_ms, b->seen[i].timestamp_ms);
    assert_int_equal(a->seen[i].size, b->seen[i].size);
    assert_memory_equal(a->seen[i].payload, b->seen[i].payload, a->seen[i].size);
  }
}

void assert_seen(const struct reading *reading, size_t index, unsigned type, uint32_t timestamp_ms,
                 unsigned seed, size_t size)
{
  assert_true(index < reading->n);
  const struct seen *seen = &reading->seen[index];
  assert_int_equal(seen->type, type);
  assert_int_equal(seen->timestamp_ms, timestamp_ms);
  assert_int_equal(seen->size, size);
  for (size_t i = 0; i < size; i++) {
    assert_int_equal(seen->payload[i], payload_byte(seed, i));
  }
}
