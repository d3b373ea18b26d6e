// The same bytes, however they are cut, give the same messages.
#include "wire.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define SEEDS 300
#define EXTENDED 0xffffff

static uint32_t dice_state;

static uint32_t dice(uint32_t n)
{
  dice_state = dice_state * 1664525 + 1013904223;
  return (uint32_t)((uint64_t)(dice_state >> 8) * n >> 24);
}

// What the writer knows of a chunk stream, so that what it writes is well formed.
struct stream {
  uint32_t id, size, sent, extended;
  int has_begun, has_extended, repeats;
};

#define N_STREAMS 4

static void put_time(struct rtmp_bytes *out, struct stream *stream)
{
  if (stream->has_extended) {
    put_u32(out, stream->extended);
  }
}

static void begin(struct rtmp_bytes *out, struct stream *stream)
{
  static const uint8_t types[] = {RTMP_AUDIO, RTMP_VIDEO, RTMP_DATA_AMF0, RTMP_AUDIO};
  int is_open = stream->sent < stream->size; // then a type 3 would continue it
  uint32_t format = !stream->has_begun ? 0 : is_open ? dice(3) : dice(4);
  stream->sent = 0;
  if (format < 3) {
    stream->has_extended = dice(3) == 0;
    stream->repeats = (int)dice(2);
    stream->extended = EXTENDED + dice(1000);
  }
  uint32_t time = stream->has_extended ? EXTENDED : dice(2000);
  if (format <= 1) {
    stream->size = dice(4) == 0 ? dice(3) : dice(700);
  }
  if (format == 0) {
    put_type0(out, stream->id, time, stream->size, types[dice(4)], 1);
  } else if (format == 1) {
    put_type1(out, stream->id, time, stream->size, types[dice(4)]);
  } else if (format == 2) {
    put_type2(out, stream->id, time);
  } else {
    put_type3(out, stream->id);
  }
  put_time(out, stream);
  stream->has_begun = 1;
}

static void put_chunk(struct rtmp_bytes *out, struct stream *stream, uint32_t chunk_size)
{
  if (!stream->has_begun || stream->sent >= stream->size || dice(30) == 0) {
    begin(out, stream); // or leaves the old message
  } else {
    put_type3(out, stream->id);
    if (stream->repeats) {
      put_time(out, stream);
    }
  }
  uint32_t left = stream->size - stream->sent;
  uint32_t n = left < chunk_size ? left : chunk_size;
  put_payload(out, dice(256), n);
  stream->sent += n;
}

static void make(struct rtmp_bytes *out, uint32_t seed)
{
  struct stream streams[N_STREAMS] = {{.id = 3}, {.id = 5}, {.id = 70}, {.id = 400}};
  uint32_t chunk_size = 128;
  dice_state = seed;
  for (uint32_t i = 0, n = 2 + dice(12); i < n; i++) {
    uint32_t what = dice(12);
    if (what == 0) {
      chunk_size = 1 + dice(600);
      put_set_chunk_size(out, chunk_size);
    } else if (what == 1) {
      struct stream *stream = &streams[dice(N_STREAMS)];
      put_type0(out, 2, 0, 4, RTMP_ABORT, 0);
      put_u32(out, stream->id);
      stream->sent = stream->size;
    } else {
      put_chunk(out, &streams[dice(N_STREAMS)], chunk_size);
    }
  }
}

static void check_cuts(const struct rtmp_bytes *bytes, const struct reading *whole,
                       const size_t *cuts, size_t n_cuts)
{
  struct reading reading;
  read_cut(&reading, bytes, cuts, n_cuts);
  assert_same_reading(whole, &reading);
  assert_int_equal(whole->n_total, reading.n_total);
  reading_fini(&reading);
}

static void check_everywhere(const struct rtmp_bytes *bytes, const struct reading *whole)
{
  for (size_t cut = 0; cut <= bytes->size; cut++) {
    check_cuts(bytes, whole, &cut, 1);
  }
  size_t *cuts = calloc(bytes->size + 1, sizeof *cuts);
  assert_non_null(cuts);
  for (size_t step = 1; step <= 19; step += 3) {
    size_t n = 0;
    for (size_t at = step; at < bytes->size; at += step) {
      cuts[n++] = at;
    }
    check_cuts(bytes, whole, cuts, n);
  }
  free(cuts);
}

static void test_well_formed(void **state)
{
  size_t n_messages = 0;
  for (uint32_t seed = 1; seed <= SEEDS; seed++) {
    struct rtmp_bytes bytes = {0};
    struct reading whole;
    make(&bytes, seed);
    read_whole(&whole, &bytes);
    assert_int_equal(whole.end, 0);
    n_messages += whole.n;
    check_everywhere(&bytes, &whole);
    reading_fini(&whole);
    rtmp_bytes_fini(&bytes);
  }
  assert_true(n_messages > SEEDS);
}

// Some bytes are changed: it ends somewhere, but always at the same place.
static void test_damaged(void **state)
{
  size_t n_errors = 0;
  for (uint32_t seed = 1; seed <= SEEDS; seed++) {
    struct rtmp_bytes bytes = {0};
    struct reading whole;
    make(&bytes, seed);
    for (int i = 0; i < 3; i++) {
      bytes.at[dice((uint32_t)bytes.size)] = (uint8_t)dice(256);
    }
    read_whole(&whole, &bytes);
    n_errors += whole.end < 0;
    check_everywhere(&bytes, &whole);
    reading_fini(&whole);
    rtmp_bytes_fini(&bytes);
  }
  assert_true(n_errors > 0);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_well_formed),
      cmocka_unit_test(test_damaged),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
