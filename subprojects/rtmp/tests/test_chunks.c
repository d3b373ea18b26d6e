// What chunk streams mean: sizes, times, interleaving, control messages, aggregates, and that our
// writer writes what our reader reads.
#include "wire.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define EXTENDED 0xffffff

// Reads all of it, and gives `out` back.
static void read_all(struct reading *reading, struct rtmp_bytes *out)
{
  read_whole(reading, out);
  rtmp_bytes_fini(out);
  assert_int_equal(reading->end, 0);
  assert_int_equal(reading->n_rest, 0);
  assert_int_equal(reading->n_total, 0);
}

static void put_chunked(struct rtmp_bytes *out, uint32_t id, unsigned seed, size_t size,
                        size_t chunk_size)
{
  struct rtmp_bytes payload = {0};
  put_payload(&payload, seed, size);
  for (size_t at = 0; at < size; at += chunk_size) {
    if (at > 0) {
      put_type3(out, id);
    }
    rtmp_bytes_add(out, payload.at + at, size - at < chunk_size ? size - at : chunk_size);
  }
  rtmp_bytes_fini(&payload);
}

static void test_any_chunk_size(void **state)
{
  static const uint32_t sizes[] = {1, 2, 127, 128, 129, 4096, 65536, 0xffffff};
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    struct rtmp_bytes out = {0};
    struct reading reading;
    put_set_chunk_size(&out, sizes[i]);
    put_type0(&out, 4, 10, 1000, RTMP_AUDIO, 1);
    put_chunked(&out, 4, 1, 1000, sizes[i]);
    read_all(&reading, &out);
    assert_int_equal(reading.n, 2);
    assert_seen(&reading, 1, RTMP_AUDIO, 10, 1, 1000);
    assert_int_equal(reading.seen[1].stream_id, 1);
    reading_fini(&reading);
  }
}

// Larger ones are all the same, says the specification: no message is.
static void test_chunk_size_beyond_any_message(void **state)
{
  static const uint32_t sizes[] = {0x1000000, 0x7fffffff};
  for (size_t i = 0; i < 2; i++) {
    struct rtmp_bytes out = {0};
    struct reading reading;
    put_set_chunk_size(&out, sizes[i]);
    put_type0(&out, 4, 10, 40000, RTMP_AUDIO, 1);
    put_payload(&out, 1, 40000);
    read_all(&reading, &out);
    assert_seen(&reading, 1, RTMP_AUDIO, 10, 1, 40000);
    reading_fini(&reading);
  }
}

static void test_chunk_size_changes_within_a_message(void **state)
{
  struct rtmp_bytes out = {0};
  struct reading reading;
  struct rtmp_bytes payload = {0};
  put_payload(&payload, 5, 300);
  put_type0(&out, 4, 10, 300, RTMP_AUDIO, 1);
  rtmp_bytes_add(&out, payload.at, 128);
  put_set_chunk_size(&out, 20);
  for (size_t at = 128; at < 300; at += 20) {
    put_type3(&out, 4);
    rtmp_bytes_add(&out, payload.at + at, 300 - at < 20 ? 300 - at : 20);
  }
  rtmp_bytes_fini(&payload);
  read_all(&reading, &out);
  assert_int_equal(reading.n, 2);
  assert_seen(&reading, 1, RTMP_AUDIO, 10, 5, 300);
  reading_fini(&reading);
}

static void test_ids_of_all_lengths(void **state)
{
  static const uint32_t ids[] = {2, 3, 63, 64, 319, 320, 65599};
  struct rtmp_bytes out = {0};
  struct reading reading;
  for (unsigned i = 0; i < 7; i++) { // all begin before the first is complete
    put_type0(&out, ids[i], i, 200, RTMP_AUDIO, 1);
    put_payload(&out, 0, 128);
  }
  for (unsigned i = 0; i < 7; i++) {
    put_type3(&out, ids[i]);
    put_payload(&out, i, 72);
  }
  read_all(&reading, &out);
  assert_int_equal(reading.n, 7);
  for (unsigned i = 0; i < 7; i++) {
    assert_int_equal(reading.seen[i].timestamp_ms, i);
    assert_int_equal(reading.seen[i].size, 200);
  }
  reading_fini(&reading);
}

// --- times

static void test_deltas(void **state)
{
  struct rtmp_bytes out = {0};
  struct reading reading;
  put_type0(&out, 4, 1000, 5, RTMP_AUDIO, 7);
  put_payload(&out, 1, 5);
  put_type1(&out, 4, 20, 6, RTMP_AUDIO);
  put_payload(&out, 2, 6);
  put_type2(&out, 4, 30);
  put_payload(&out, 3, 6);
  put_type3(&out, 4);
  put_payload(&out, 4, 6);
  put_type3(&out, 4);
  put_payload(&out, 5, 6);
  read_all(&reading, &out);
  assert_int_equal(reading.n, 5);
  assert_seen(&reading, 0, RTMP_AUDIO, 1000, 1, 5);
  assert_seen(&reading, 1, RTMP_AUDIO, 1020, 2, 6);
  assert_seen(&reading, 2, RTMP_AUDIO, 1050, 3, 6);
  assert_seen(&reading, 3, RTMP_AUDIO, 1080, 4, 6);
  assert_seen(&reading, 4, RTMP_AUDIO, 1110, 5, 6);
  assert_int_equal(reading.seen[4].stream_id, 7);
  reading_fini(&reading);
}

// As the specification says, and GStreamer's rtmp2sink does it: the delta is the type 0's time.
static void test_type3_right_after_type0(void **state)
{
  struct rtmp_bytes out = {0};
  struct reading reading;
  put_type0(&out, 4, 25, 5, RTMP_AUDIO, 1);
  put_payload(&out, 1, 5);
  put_type3(&out, 4);
  put_payload(&out, 2, 5);
  put_type3(&out, 4);
  put_payload(&out, 3, 5);
  put_type0(&out, 5, 0, 5, RTMP_AUDIO, 1);
  put_payload(&out, 4, 5);
  put_type3(&out, 5);
  put_payload(&out, 5, 5);
  read_all(&reading, &out);
  assert_int_equal(reading.n, 5);
  assert_seen(&reading, 1, RTMP_AUDIO, 50, 2, 5);
  assert_seen(&reading, 2, RTMP_AUDIO, 75, 3, 5);
  assert_seen(&reading, 4, RTMP_AUDIO, 0, 5, 5);
  reading_fini(&reading);
}

static void test_time_wraps(void **state)
{
  struct rtmp_bytes out = {0};
  struct reading reading;
  put_type0(&out, 4, EXTENDED, 5, RTMP_AUDIO, 1);
  put_u32(&out, 0xfffffff0);
  put_payload(&out, 1, 5);
  put_type1(&out, 4, 0x20, 5, RTMP_AUDIO);
  put_payload(&out, 2, 5);
  read_all(&reading, &out);
  assert_seen(&reading, 0, RTMP_AUDIO, 0xfffffff0, 1, 5);
  assert_seen(&reading, 1, RTMP_AUDIO, 0x10, 2, 5);
  reading_fini(&reading);
}

// A message of three chunks whose first header has the type and an extended time. On the later
// chunks the four bytes are repeated by some publishers and left out by others.
static void check_extended(unsigned format, uint32_t extended, int is_repeated)
{
  struct rtmp_bytes out = {0}, payload = {0};
  struct reading reading;
  uint32_t before = format > 0 ? 100 : 0;
  put_payload(&payload, 6, 300);
  put_type0(&out, 4, before, 300, RTMP_AUDIO, 1);
  put_chunked(&out, 4, 5, 300, 128);
  if (format == 0) {
    put_type0(&out, 4, EXTENDED, 300, RTMP_AUDIO, 1);
  } else if (format == 1) {
    put_type1(&out, 4, EXTENDED, 300, RTMP_AUDIO);
  } else {
    put_type2(&out, 4, EXTENDED);
  }
  put_u32(&out, extended);
  for (size_t at = 0; at < 300; at += 128) {
    if (at > 0) {
      put_type3(&out, 4);
    }
    if (at > 0 && is_repeated) {
      put_u32(&out, extended);
    }
    rtmp_bytes_add(&out, payload.at + at, 300 - at < 128 ? 300 - at : 128);
  }
  put_type1(&out, 4, 7, 10, RTMP_AUDIO); // and on without
  put_payload(&out, 7, 10);
  rtmp_bytes_fini(&payload);
  read_all(&reading, &out);
  assert_int_equal(reading.n, 3);
  assert_seen(&reading, 1, RTMP_AUDIO, before + extended, 6, 300);
  assert_seen(&reading, 2, RTMP_AUDIO, before + extended + 7, 7, 10);
  reading_fini(&reading);
}

static void test_extended_times(void **state)
{
  static const uint32_t times[] = {0xffffff, 0x1000000, 0x12345678, 0xffffffff};
  for (unsigned format = 0; format < 3; format++) {
    for (size_t i = 0; i < 4; i++) {
      check_extended(format, times[i], 0);
      check_extended(format, times[i], 1);
    }
  }
}

// A type 3 that begins a message repeats the delta, extended too.
static void test_extended_delta_is_repeated_by_type3(void **state)
{
  struct rtmp_bytes out = {0};
  struct reading reading;
  put_type0(&out, 4, 5, 8, RTMP_AUDIO, 1);
  put_payload(&out, 1, 8);
  put_type2(&out, 4, EXTENDED);
  put_u32(&out, 0x1000000);
  put_payload(&out, 2, 8);
  put_type3(&out, 4);
  put_u32(&out, 0x1000000);
  put_payload(&out, 3, 8);
  read_all(&reading, &out);
  assert_int_equal(reading.n, 3);
  assert_seen(&reading, 1, RTMP_AUDIO, 0x1000005, 2, 8);
  assert_seen(&reading, 2, RTMP_AUDIO, 0x2000005, 3, 8);
  reading_fini(&reading);
}

// --- several streams

static void test_interleaved(void **state)
{
  struct rtmp_bytes out = {0}, a = {0}, b = {0};
  struct reading reading;
  put_payload(&a, 1, 400);
  put_payload(&b, 2, 300);
  put_type0(&out, 4, 10, 400, RTMP_AUDIO, 1);
  rtmp_bytes_add(&out, a.at, 128);
  put_type0(&out, 6, 20, 300, RTMP_DATA_AMF0, 1);
  rtmp_bytes_add(&out, b.at, 128);
  put_type3(&out, 4);
  rtmp_bytes_add(&out, a.at + 128, 128);
  put_message(&out, 7, 30, RTMP_AUDIO, "whole", 5);
  put_type3(&out, 6);
  rtmp_bytes_add(&out, b.at + 128, 128);
  put_type3(&out, 6);
  rtmp_bytes_add(&out, b.at + 256, 44);
  put_type3(&out, 4);
  rtmp_bytes_add(&out, a.at + 256, 128);
  put_type3(&out, 4);
  rtmp_bytes_add(&out, a.at + 384, 16);
  rtmp_bytes_fini(&a);
  rtmp_bytes_fini(&b);
  read_all(&reading, &out);
  assert_int_equal(reading.n, 3);
  assert_memory_equal(reading.seen[0].payload, "whole", 5);
  assert_seen(&reading, 1, RTMP_DATA_AMF0, 20, 2, 300);
  assert_seen(&reading, 2, RTMP_AUDIO, 10, 1, 400);
  reading_fini(&reading);
}

static void test_abort(void **state)
{
  struct rtmp_bytes out = {0};
  struct reading reading;
  put_type0(&out, 4, 10, 300, RTMP_AUDIO, 1);
  put_payload(&out, 1, 128);
  put_type0(&out, 5, 20, 200, RTMP_AUDIO, 1);
  put_payload(&out, 2, 128);
  put_message(&out, 2, 0, RTMP_ABORT, "\0\0\0\4", 4);
  put_message(&out, 2, 0, RTMP_ABORT, "\0\0\0\x3f", 4); // nothing there
  put_message(&out, 2, 0, RTMP_ABORT, "\0\0", 2);       // nothing said
  put_type3(&out, 5);
  put_payload(&out, 3, 72);
  put_type3(&out, 4); // a new message of 300 bytes
  put_payload(&out, 4, 128);
  put_type1(&out, 4, 1, 3, RTMP_AUDIO); // which is given up too
  put_payload(&out, 6, 3);
  read_all(&reading, &out);
  assert_int_equal(reading.n, 5);
  assert_int_equal(reading.seen[0].type, RTMP_ABORT);
  assert_int_equal(reading.seen[3].timestamp_ms, 20);
  assert_int_equal(reading.seen[3].size, 200);
  assert_seen(&reading, 4, RTMP_AUDIO, 21, 6, 3);
  reading_fini(&reading);
}

static void test_video_is_counted_off(void **state)
{
  struct rtmp_bytes out = {0};
  struct reading reading;
  put_set_chunk_size(&out, 100000);
  put_type0(&out, 6, 40, 2 * MESSAGE_MAX, RTMP_VIDEO, 1);
  put_payload(&out, 1, 100000);
  put_message(&out, 4, 41, RTMP_AUDIO, "sound", 5);
  put_type3(&out, 6);
  put_payload(&out, 1, 2 * MESSAGE_MAX - 100000);
  put_message(&out, 4, 42, RTMP_AUDIO, "sound", 5);
  read_all(&reading, &out);
  assert_int_equal(reading.n, 4);
  assert_int_equal(reading.seen[1].timestamp_ms, 41);
  assert_int_equal(reading.seen[2].type, RTMP_VIDEO);
  assert_int_equal(reading.seen[2].size, 0);
  assert_int_equal(reading.seen[3].timestamp_ms, 42);
  reading_fini(&reading);
}

static void test_empty_messages(void **state)
{
  struct rtmp_bytes out = {0};
  struct reading reading;
  put_message(&out, 4, 1, RTMP_AUDIO, "", 0);
  put_type3(&out, 4);
  put_message(&out, 5, 9, RTMP_AUDIO, "x", 1);
  read_all(&reading, &out);
  assert_int_equal(reading.n, 3);
  assert_int_equal(reading.seen[0].size + reading.seen[1].size, 0);
  assert_int_equal(reading.seen[1].timestamp_ms, 2);
  reading_fini(&reading);
}

// --- aggregates

static void put_tag(struct rtmp_bytes *out, unsigned type, uint32_t time, const char *text)
{
  put_byte(out, type);
  put_u24(out, (uint32_t)strlen(text));
  put_u24(out, time & 0xffffff);
  put_byte(out, time >> 24);
  put_u24(out, 0);
  rtmp_bytes_add(out, text, strlen(text));
  put_u32(out, (uint32_t)strlen(text) + 11);
}

static void check_part(const struct rtmp_message *part, unsigned type, uint32_t time,
                       const char *text)
{
  assert_int_equal(part->type, type);
  assert_int_equal(part->timestamp_ms, time);
  assert_int_equal(part->size, strlen(text));
  assert_memory_equal(part->payload, text, part->size);
}

static void test_aggregate(void **state)
{
  struct rtmp_bytes bytes = {0};
  struct rtmp_message part;
  size_t at = 0;
  put_tag(&bytes, RTMP_AUDIO, 0xfffffff0, "one");
  put_tag(&bytes, RTMP_VIDEO, 0xfffffff8, "");
  put_tag(&bytes, RTMP_AUDIO, 4, "three");
  struct rtmp_message aggregate = {.type = RTMP_AGGREGATE,
                                   .stream_id = 1,
                                   .timestamp_ms = 5000,
                                   .payload = bytes.at,
                                   .size = bytes.size - 4}; // the last trailer may be missing
  assert_int_equal(rtmp_aggregate_next(&aggregate, &at, &part), 1);
  check_part(&part, RTMP_AUDIO, 5000, "one");
  assert_int_equal(part.stream_id, 1);
  assert_int_equal(rtmp_aggregate_next(&aggregate, &at, &part), 1);
  check_part(&part, RTMP_VIDEO, 5008, "");
  assert_int_equal(rtmp_aggregate_next(&aggregate, &at, &part), 1);
  check_part(&part, RTMP_AUDIO, 5020, "three");
  assert_int_equal(rtmp_aggregate_next(&aggregate, &at, &part), 0);
  rtmp_bytes_fini(&bytes);
}

// Cut at every place: whole tags are given, then it is malformed, or at its end.
static void test_aggregate_cut(void **state)
{
  struct rtmp_bytes bytes = {0};
  put_tag(&bytes, RTMP_AUDIO, 0, "one");
  put_tag(&bytes, RTMP_AUDIO, 1, "two");
  for (size_t size = 0; size <= bytes.size; size++) {
    uint8_t *copy = malloc(size + 1); // of its size, for the sanitizer
    assert_non_null(copy);
    memcpy(copy + 1, bytes.at, size);
    struct rtmp_message part, aggregate = {.payload = copy + 1, .size = size};
    size_t at = 0;
    int n = 0, status;
    while ((status = rtmp_aggregate_next(&aggregate, &at, &part)) == 1) {
      n++;
      assert_true(at <= size);
    }
    int is_at_end = size == 0 || (size >= 14 && size <= 18) || size >= 18 + 14;
    assert_int_equal(status, is_at_end ? 0 : -1);
    assert_int_equal(n, (size >= 14) + (size >= 18 + 14));
    free(copy);
  }
  rtmp_bytes_fini(&bytes);
}

// --- writing

static void check_written(uint32_t chunk_size, uint32_t time, size_t size)
{
  struct rtmp_bytes out = {0}, payload = {0};
  struct reading reading;
  put_payload(&payload, 3, size);
  rtmp_write_control(&out, RTMP_SET_CHUNK_SIZE, chunk_size);
  struct rtmp_message message = {.type = RTMP_AUDIO,
                                 .stream_id = 0x01020304,
                                 .timestamp_ms = time,
                                 .payload = payload.at,
                                 .size = size};
  rtmp_write(&out, chunk_size, 5, &message);
  rtmp_bytes_fini(&payload);
  read_all(&reading, &out);
  assert_int_equal(reading.n, 2);
  assert_seen(&reading, 1, RTMP_AUDIO, time, 3, size);
  assert_int_equal(reading.seen[1].stream_id, 0x01020304);
  reading_fini(&reading);
}

static void test_written_is_read(void **state)
{
  static const uint32_t chunk_sizes[] = {1, 128, 4096};
  static const uint32_t times[] = {0, 0xfffffe, 0xffffff, 0x1000000, 0xffffffff};
  static const size_t sizes[] = {0, 1, 128, 129, 5000};
  for (size_t i = 0; i < 3; i++) {
    for (size_t j = 0; j < 5; j++) {
      for (size_t k = 0; k < 5; k++) {
        check_written(chunk_sizes[i], times[j], sizes[k]);
      }
    }
  }
}

static void test_control_messages(void **state)
{
  struct rtmp_bytes out = {0};
  struct reading reading;
  rtmp_write_control(&out, RTMP_ACKNOWLEDGEMENT, 5000);
  rtmp_write_control(&out, RTMP_PEER_BANDWIDTH, 2500000);
  rtmp_write_user_control(&out, 7, 0xdeadbeef);
  read_all(&reading, &out);
  assert_int_equal(reading.n, 3);
  assert_int_equal(reading.seen[0].type, RTMP_ACKNOWLEDGEMENT);
  assert_int_equal(rtmp_read_u32(reading.seen[0].payload), 5000);
  assert_int_equal(reading.seen[1].size, 5);
  assert_int_equal(rtmp_read_u32(reading.seen[1].payload), 2500000);
  assert_int_equal(reading.seen[2].type, RTMP_USER_CONTROL);
  assert_memory_equal(reading.seen[2].payload, "\0\7\xde\xad\xbe\xef", 6);
  reading_fini(&reading);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_any_chunk_size),
      cmocka_unit_test(test_chunk_size_beyond_any_message),
      cmocka_unit_test(test_chunk_size_changes_within_a_message),
      cmocka_unit_test(test_ids_of_all_lengths),
      cmocka_unit_test(test_deltas),
      cmocka_unit_test(test_type3_right_after_type0),
      cmocka_unit_test(test_time_wraps),
      cmocka_unit_test(test_extended_times),
      cmocka_unit_test(test_extended_delta_is_repeated_by_type3),
      cmocka_unit_test(test_interleaved),
      cmocka_unit_test(test_abort),
      cmocka_unit_test(test_video_is_counted_off),
      cmocka_unit_test(test_empty_messages),
      cmocka_unit_test(test_aggregate),
      cmocka_unit_test(test_aggregate_cut),
      cmocka_unit_test(test_written_is_read),
      cmocka_unit_test(test_control_messages),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
