// The ring, the trail and what was told: pure, so their headers are taken from the room itself.
#include "ring.h"
#include "told.h"
#include "trail.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define CHUNK 800
#define MS UINT64_C(1000000)

static int n_until_failure = -1; // allocations that still succeed, -1: all

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_malloc(size_t size)
{
  if (n_until_failure == 0) {
    return NULL;
  }
  n_until_failure -= n_until_failure > 0;
  return __real_malloc(size);
}

static void put(struct ring *ring, uint64_t first, uint32_t n, uint64_t arrival_ns)
{
  uint8_t *pcm = calloc(n, 2);
  assert_non_null(pcm);
  for (uint32_t i = 0; i < n; i++) {
    pcm[2 * i] = (uint8_t)(first + i);
    pcm[2 * i + 1] = (uint8_t)((first + i) >> 8 | 1);
  }
  assert_int_equal(stt_ring_put(ring, first, pcm, n, arrival_ns), 0);
  free(pcm);
}

// All that is held from `from` on. Returns: how many samples; holes are passed over.
static uint64_t read_all(const struct ring *ring, uint64_t from)
{
  uint64_t first, n_all = 0;
  const uint8_t *pcm;
  uint32_t n;
  while ((n = stt_ring_run(ring, from, 700, &first, &pcm)) > 0) {
    assert_in_range(first, from, ring->end);
    for (uint32_t i = 0; i < n; i++) {
      int is_silence = pcm[2 * i] == 0 && pcm[2 * i + 1] == 0;
      assert_true(is_silence || pcm[2 * i] == (uint8_t)(first + i));
    }
    from = first + n;
    n_all += n;
  }
  return n_all;
}

static void test_ring_keeps_the_newest(void **state)
{
  struct ring ring;
  stt_ring_init(&ring, 5 * RING_PIECE_SAMPLES);
  for (uint64_t i = 0; i < 1000; i++) {
    put(&ring, i * CHUNK, CHUNK, (i + 1) * MS);
    assert_true(ring.end - ring.tail <= 5 * RING_PIECE_SAMPLES);
  }
  assert_int_equal(ring.end, 1000 * CHUNK);
  assert_int_equal(ring.tail, 1000 * CHUNK - 5 * RING_PIECE_SAMPLES);
  assert_int_equal(read_all(&ring, 0), 5 * RING_PIECE_SAMPLES);
  assert_int_equal(read_all(&ring, ring.end - 5), 5);
  assert_int_equal(read_all(&ring, ring.end), 0);
  stt_ring_trim(&ring, ring.end - 100);
  assert_int_equal(read_all(&ring, 0), 100);
  stt_ring_trim(&ring, ring.end + 100);
  assert_int_equal(read_all(&ring, 0), 0);
  assert_null(ring.oldest);
  put(&ring, ring.end, CHUNK, 0);
  assert_int_equal(read_all(&ring, 0), CHUNK);
  stt_ring_fini(&ring);
}

static void test_ring_knows_arrivals(void **state)
{
  struct ring ring;
  stt_ring_init(&ring, 5 * RING_PIECE_SAMPLES);
  for (uint64_t i = 0; i < 100; i++) {
    put(&ring, i * CHUNK, CHUNK, (1000 + i * 50) * MS);
  }
  for (uint64_t i = 0; i < 100; i++) {
    assert_int_equal(stt_ring_arrival(&ring, i * CHUNK), (1000 + i * 50) * MS);
    assert_int_equal(stt_ring_arrival(&ring, (i + 1) * CHUNK - 1), (1000 + i * 50) * MS);
  }
  assert_int_equal(stt_ring_arrival(&ring, 100 * CHUNK), 0);
  put(&ring, 100 * CHUNK, CHUNK, 0); // made silence
  assert_int_equal(stt_ring_arrival(&ring, 100 * CHUNK), 0);
  put(&ring, 101 * CHUNK, CHUNK, 9000 * MS);
  assert_int_equal(stt_ring_arrival(&ring, 101 * CHUNK), 9000 * MS);
  stt_ring_fini(&ring);
  stt_ring_init(&ring, 5 * RING_PIECE_SAMPLES); // more chunks than a piece remembers
  for (uint64_t i = 0; i < 500; i++) {
    put(&ring, i * 10, 10, (1000 + i) * MS);
  }
  assert_int_equal(stt_ring_arrival(&ring, 55), 1005 * MS);
  assert_int_not_equal(stt_ring_arrival(&ring, 4999), 0);
  stt_ring_fini(&ring);
}

static void test_ring_takes_holes_and_overlaps(void **state)
{
  struct ring ring;
  stt_ring_init(&ring, 10 * RING_PIECE_SAMPLES);
  put(&ring, 5000, CHUNK, MS); // it need not begin at 0
  assert_int_equal(ring.tail, 5000);
  put(&ring, 5000, CHUNK, MS); // known
  assert_int_equal(ring.end, 5000 + CHUNK);
  put(&ring, 5400, CHUNK, MS); // half of it is
  assert_int_equal(ring.end, 5400 + CHUNK);
  put(&ring, ring.end + 16000, CHUNK, MS); // a second becomes silence
  assert_int_equal(read_all(&ring, 0), 400 + CHUNK + 16000 + CHUNK);
  put(&ring, ring.end + 16001, CHUNK, MS); // more is a hole
  assert_int_equal(read_all(&ring, 0), 400 + CHUNK + 16000 + 2 * CHUNK);
  uint64_t first;
  const uint8_t *pcm;
  assert_int_equal(stt_ring_run(&ring, ring.end - CHUNK - 50, 9, &first, &pcm), 9);
  assert_int_equal(first, ring.end - CHUNK);
  assert_int_equal(stt_ring_arrival(&ring, ring.end - CHUNK - 50), 0);
  stt_ring_fini(&ring);
}

// Also where the first is short, and what follows fills no piece to its end.
static void test_ring_keeps_chunks_whole(void **state)
{
  struct ring ring;
  stt_ring_init(&ring, 10 * RING_PIECE_SAMPLES);
  put(&ring, 0, 300, MS);
  for (uint64_t at = 300; at < 3 * RING_PIECE_SAMPLES; at += CHUNK) {
    put(&ring, at, CHUNK, MS);
  }
  for (uint64_t at = 300, first; at < ring.end; at += CHUNK) {
    const uint8_t *pcm;
    assert_int_equal(stt_ring_run(&ring, at, CHUNK, &first, &pcm), CHUNK);
    assert_int_equal(first, at);
  }
  put(&ring, ring.end, 2 * RING_PIECE_SAMPLES + 5, MS); // what no piece takes is cut
  assert_int_equal(read_all(&ring, 0), ring.end);
  stt_ring_fini(&ring);
}

static void test_ring_without_memory(void **state)
{
  struct ring ring;
  static uint8_t pcm[CHUNK * 2];
  stt_ring_init(&ring, 10 * RING_PIECE_SAMPLES);
  for (uint64_t i = 0; i < RING_PIECE_SAMPLES / CHUNK; i++) {
    put(&ring, i * CHUNK, CHUNK, MS);
  }
  n_until_failure = 0;
  assert_int_equal(stt_ring_put(&ring, ring.end, pcm, CHUNK, MS), -1);
  n_until_failure = -1;
  put(&ring, ring.end + CHUNK, CHUNK, MS); // what was not held is silence
  assert_int_equal(read_all(&ring, 0), RING_PIECE_SAMPLES + 2 * CHUNK);
  stt_ring_fini(&ring);
}

// --- the trail

static void sent(struct trail *trail, uint64_t audio, uint32_t n)
{
  assert_int_equal(stt_trail_reserve(trail), 0);
  stt_trail_sent(trail, audio, n);
}

static void expect(const struct trail *trail, double stream, double audio, int was_sent)
{
  double sent_to;
  double found = stt_trail_find(trail, stream, &sent_to);
  assert_true(found == audio);
  assert_int_equal(found < sent_to, was_sent);
}

static void test_trail_runs_straight(void **state)
{
  struct trail trail = {0};
  stt_trail_begin(&trail, 0);
  expect(&trail, 100, 100, 0); // nothing was sent
  sent(&trail, 1000, 100);
  sent(&trail, 1100, 100);
  sent(&trail, 5000, 100); // after a hole
  expect(&trail, 0, 1000, 0);
  expect(&trail, 199, 1199, 0);
  expect(&trail, 200, 5000, 0);
  expect(&trail, 350, 5150, 0); // a provider that rounds up
  assert_int_equal(stt_trail_unacknowledged(&trail, 7), 1000);
  stt_trail_acknowledge(&trail, 0, 100);
  assert_int_equal(stt_trail_unacknowledged(&trail, 7), 1100);
  stt_trail_acknowledge(&trail, 100, 150); // half a frame
  assert_int_equal(stt_trail_unacknowledged(&trail, 7), 1150);
  stt_trail_acknowledge(&trail, 150, 199); // one less: an inclusive end
  assert_int_equal(stt_trail_unacknowledged(&trail, 7), 5000);
  stt_trail_acknowledge(&trail, 200, 900); // more than there is
  assert_int_equal(stt_trail_unacknowledged(&trail, 7), 7);
  stt_trail_acknowledge(&trail, 0, 0);
  stt_trail_fini(&trail);
}

static void test_trail_of_a_resumed_stream(void **state)
{
  struct trail trail = {0};
  stt_trail_begin(&trail, 0);
  for (uint64_t i = 0; i < 10; i++) {
    sent(&trail, i * 100, 100);
  }
  stt_trail_acknowledge(&trail, 0, 300); // three; five came
  stt_trail_reconnect(&trail);
  expect(&trail, 450, 450, 0); // until the place is known
  sent(&trail, 300, 10);
  sent(&trail, 310, 90);
  stt_trail_acknowledge(&trail, 500, 510);
  sent(&trail, 400, 100);
  sent(&trail, 500, 100);
  expect(&trail, 499, 499, 0);
  expect(&trail, 500, 300, 1);
  expect(&trail, 699, 499, 1);
  expect(&trail, 700, 500, 1); // was sent, too, and did not come
  sent(&trail, 600, 500);
  expect(&trail, 1299, 1099, 0);
  assert_int_equal(stt_trail_unacknowledged(&trail, 0), 310);
  stt_trail_fini(&trail);
}

static void test_trail_when_the_place_was_never_known(void **state)
{
  struct trail trail = {0};
  stt_trail_begin(&trail, 0);
  sent(&trail, 0, 1000);
  sent(&trail, 1000, 1000);
  stt_trail_acknowledge(&trail, 0, 1000);
  stt_trail_reconnect(&trail);
  sent(&trail, 1000, 160); // was heard, and its acknowledgment lost
  stt_trail_reconnect(&trail);
  sent(&trail, 1000, 160);
  stt_trail_acknowledge(&trail, 2160, 2320); // both came
  expect(&trail, 1999, 1999, 0);
  expect(&trail, 2000, 1000, 1);
  expect(&trail, 2160, 1000, 1);
  sent(&trail, 1160, 1000);
  expect(&trail, 2160 + 1000, 2000, 0);
  stt_trail_fini(&trail);
}

static void test_trail_of_a_service_that_counts_connections(void **state)
{
  struct trail trail = {0};
  stt_trail_begin(&trail, 0);
  sent(&trail, 0, 1000);
  stt_trail_acknowledge(&trail, 0, 1000);
  stt_trail_reconnect(&trail);
  sent(&trail, 1000, 160);
  stt_trail_acknowledge(&trail, 0, 160);
  expect(&trail, 80, 1080, 0);
  stt_trail_fini(&trail);
}

static void test_trail_of_a_new_session(void **state)
{
  struct trail trail = {0};
  stt_trail_begin(&trail, 5000);
  sent(&trail, 4000, 2000);
  expect(&trail, 500, 4500, 1); // told by the session before
  expect(&trail, 1000, 5000, 0);
  stt_trail_fini(&trail);
}

static void test_trail_is_bounded(void **state)
{
  struct trail trail = {0};
  stt_trail_begin(&trail, 0);
  for (uint64_t i = 0; i < 2 * TRAIL_SENT_MAX; i++) {
    sent(&trail, i * 1000, 100); // a hole each
  }
  assert_int_equal(trail.n_frames, TRAIL_SENT_MAX);
  assert_int_equal(trail.n_spans, TRAIL_SPANS_MAX);
  expect(&trail, (2 * TRAIL_SENT_MAX - 1) * 100.0, (2 * TRAIL_SENT_MAX - 1) * 1000.0, 0);
  assert_int_equal(stt_trail_unacknowledged(&trail, 0), TRAIL_SENT_MAX * 1000);
  stt_trail_fini(&trail);
  stt_trail_begin(&trail, 0);
  n_until_failure = 0;
  assert_int_equal(stt_trail_reserve(&trail), -1);
  n_until_failure = -1;
  assert_int_equal(stt_trail_reserve(&trail), 0);
  stt_trail_fini(&trail);
}

static void test_earliest_that_is_not_acknowledged(void **state)
{
  struct trail trail = {0};
  stt_trail_begin(&trail, 0);
  sent(&trail, 5000, 100);
  sent(&trail, 2000, 100); // was sent again
  sent(&trail, 2100, 100);
  assert_int_equal(stt_trail_unacknowledged(&trail, 7), 2000);
  stt_trail_acknowledge(&trail, 0, 200);
  assert_int_equal(stt_trail_unacknowledged(&trail, 7), 2100);
  expect(&trail, 50, 5050, 0);
  expect(&trail, 150, 2050, 1);
  stt_trail_fini(&trail);
}

// --- what was told

static void test_told_by_more_than_half(void **state)
{
  struct told told = {0};
  assert_false(stt_told_holds(&told, 0, 1));
  stt_told_add(&told, 1, 2);
  stt_told_add(&told, 2, 2.5);
  assert_true(stt_told_holds(&told, 1.2, 1.4));
  assert_true(stt_told_holds(&told, 1.5, 2.4)); // by both
  assert_true(stt_told_holds(&told, 0.6, 1.5));
  assert_false(stt_told_holds(&told, 0.4, 1.5));
  assert_false(stt_told_holds(&told, 2.25, 2.75));
  assert_false(stt_told_holds(&told, 3, 4));
  assert_true(stt_told_holds(&told, 1.5, 1.5)); // a moment
  assert_false(stt_told_holds(&told, 2.5, 2.5));
  assert_true(stt_told_end(&told, 1.5) == 2);
  assert_true(stt_told_end(&told, 0.5) == 0.5);
}

// A service sends a final again when a connection breaks behind it.
static void test_told_twice_counts_once(void **state)
{
  struct told told = {0};
  stt_told_add(&told, 0, 2);
  stt_told_add(&told, 0, 2);
  assert_int_equal(told.n, 1);
  assert_false(stt_told_holds(&told, 1.5, 3));
  stt_told_add(&told, 4, 5);
  stt_told_add(&told, 1.5, 2.2);
  assert_false(stt_told_holds(&told, 1.5, 3));
  assert_true(stt_told_end(&told, 0.5) == 2.2);
  stt_told_add(&told, 2, 4.5); // between two
  assert_int_equal(told.n, 1);
  assert_true(stt_told_end(&told, 0.5) == 5);
}

static void test_told_is_bounded(void **state)
{
  struct told told = {0};
  for (int i = 0; i < 2 * TOLD_MAX; i++) {
    stt_told_add(&told, i, i + 0.5);
  }
  assert_int_equal(told.n, TOLD_MAX);
  assert_false(stt_told_holds(&told, TOLD_MAX - 1, TOLD_MAX - 0.5)); // the oldest went
  assert_true(stt_told_holds(&told, TOLD_MAX, TOLD_MAX + 0.5));
  assert_true(stt_told_holds(&told, 2 * TOLD_MAX - 1, 2 * TOLD_MAX - 0.5));
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_ring_keeps_the_newest),
      cmocka_unit_test(test_ring_knows_arrivals),
      cmocka_unit_test(test_ring_takes_holes_and_overlaps),
      cmocka_unit_test(test_ring_keeps_chunks_whole),
      cmocka_unit_test(test_ring_without_memory),
      cmocka_unit_test(test_trail_runs_straight),
      cmocka_unit_test(test_trail_of_a_resumed_stream),
      cmocka_unit_test(test_trail_when_the_place_was_never_known),
      cmocka_unit_test(test_trail_of_a_service_that_counts_connections),
      cmocka_unit_test(test_trail_of_a_new_session),
      cmocka_unit_test(test_trail_is_bounded),
      cmocka_unit_test(test_earliest_that_is_not_acknowledged),
      cmocka_unit_test(test_told_by_more_than_half),
      cmocka_unit_test(test_told_twice_counts_once),
      cmocka_unit_test(test_told_is_bounded),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
