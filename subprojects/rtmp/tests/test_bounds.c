// What a hostile peer may make the reader hold, and what the reader refuses. Every allocation is
// counted: the linker puts ours in the place of the real ones.
#include "wire.h"

#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *old, size_t size);
void __real_free(void *old);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *old, size_t size);
void __wrap_free(void *old);

static int is_reading; // what is allocated now is the reader's
static size_t held, held_max;
static size_t n_allocations, fail_at = SIZE_MAX;

static size_t size_of(void *at)
{
  return is_reading && at != NULL ? malloc_usable_size(at) : 0;
}

static int must_fail(void)
{
  return is_reading && n_allocations++ == fail_at;
}

static void count(size_t before, size_t after)
{
  held = held - before + after;
  held_max = held > held_max ? held : held_max;
}

void *__wrap_calloc(size_t n, size_t size)
{
  void *at = must_fail() ? NULL : __real_calloc(n, size);
  count(0, size_of(at));
  return at;
}

void *__wrap_realloc(void *old, size_t size)
{
  size_t before = size_of(old);
  void *at = must_fail() ? NULL : __real_realloc(old, size);
  if (at != NULL) {
    count(before, size_of(at));
  }
  return at;
}

void __wrap_free(void *old)
{
  count(size_of(old), 0);
  __real_free(old);
}

static void begin(struct rtmp_reader *reader)
{
  held = held_max = n_allocations = 0;
  rtmp_reader_init(reader, MESSAGE_MAX, BUFFERED_MAX);
}

static void end(struct rtmp_reader *reader)
{
  is_reading = 1;
  rtmp_reader_fini(reader);
  is_reading = 0;
  assert_int_equal(held, 0);
}

// Reads on without keeping what is given; empties `bytes`. Returns what the reader said last.
static int feed(struct rtmp_reader *reader, struct rtmp_bytes *bytes)
{
  struct rtmp_message message;
  size_t at = 0, used;
  int status;
  is_reading = 1;
  while ((status = rtmp_reader_next(reader, bytes->at + at, bytes->size - at, &used, &message)) ==
         1) {
    at += used;
  }
  is_reading = 0;
  assert_true(status < 0 || at + used == bytes->size);
  bytes->size = 0;
  return status;
}

static int feed_once(struct rtmp_bytes *bytes)
{
  struct rtmp_reader reader;
  begin(&reader);
  int status = feed(&reader, bytes);
  rtmp_bytes_fini(bytes);
  end(&reader);
  return status;
}

static void test_large_message_is_refused_at_its_header(void **state)
{
  struct rtmp_reader reader;
  struct rtmp_bytes bytes = {0};
  begin(&reader);
  put_message(&bytes, 4, 0, RTMP_AUDIO, "x", 1);
  assert_int_equal(feed(&reader, &bytes), 0);
  size_t before = n_allocations;
  put_type0(&bytes, 4, 0, MESSAGE_MAX + 1, RTMP_AUDIO, 1);
  assert_int_equal(feed(&reader, &bytes), RTMP_ERROR_MESSAGE_SIZE);
  assert_int_equal(n_allocations, before);
  rtmp_bytes_fini(&bytes);
  end(&reader);
}

static void test_largest_message_is_taken(void **state)
{
  struct rtmp_bytes bytes = {0};
  put_set_chunk_size(&bytes, RTMP_CHUNK_SIZE_MAX);
  put_type0(&bytes, 4, 0, MESSAGE_MAX, RTMP_AUDIO, 1);
  put_payload(&bytes, 1, MESSAGE_MAX);
  assert_int_equal(feed_once(&bytes), 0);
  assert_in_range(held_max, MESSAGE_MAX, MESSAGE_MAX + 8192);
}

// A header that claims much makes the reader hold no more than what has come.
static void test_memory_grows_with_what_came(void **state)
{
  struct rtmp_bytes bytes = {0};
  put_type0(&bytes, 4, 0, MESSAGE_MAX, RTMP_AUDIO, 1);
  put_payload(&bytes, 1, 100);
  assert_int_equal(feed_once(&bytes), 0);
  assert_in_range(held_max, 100, 8192); // with the table of streams
}

static void test_unfinished_messages_are_bounded_together(void **state)
{
  struct rtmp_bytes bytes = {0};
  put_set_chunk_size(&bytes, 60000);
  for (uint32_t id = 4; id < 7; id++) {
    put_type0(&bytes, id, 0, 65000, RTMP_AUDIO, 1);
    put_payload(&bytes, id, 60000);
  }
  assert_int_equal(feed_once(&bytes), RTMP_ERROR_MESSAGE_SIZE);
  assert_in_range(held_max, 1, 2 * BUFFERED_MAX);
}

// Messages that are begun on one stream after the other, and then left or aborted.
static void check_given_up(int is_aborted)
{
  struct rtmp_bytes bytes = {0};
  put_set_chunk_size(&bytes, 60000);
  for (uint32_t id = 3; id < 3 + RTMP_CHUNK_STREAMS_MAX - 1; id++) {
    put_type0(&bytes, id, 0, MESSAGE_MAX, RTMP_AUDIO, 1);
    put_payload(&bytes, id, 60000);
    if (is_aborted) {
      put_type0(&bytes, 2, 0, 4, RTMP_ABORT, 0);
      put_u32(&bytes, id);
    } else {
      put_type1(&bytes, id, 1, 1, RTMP_AUDIO);
      put_payload(&bytes, id, 1);
    }
  }
  assert_int_equal(feed_once(&bytes), 0);
  assert_in_range(held_max, 60000, 2 * BUFFERED_MAX);
}

static void test_given_up_messages_are_let_go(void **state)
{
  check_given_up(0);
  check_given_up(1);
}

// Nor is the payload of a large message kept on every stream when the message is complete.
static void test_complete_messages_are_let_go(void **state)
{
  struct rtmp_bytes bytes = {0};
  put_set_chunk_size(&bytes, MESSAGE_MAX);
  for (uint32_t id = 3; id < 3 + RTMP_CHUNK_STREAMS_MAX - 1; id++) {
    put_type0(&bytes, id, 0, 16000, RTMP_AUDIO, 1);
    put_payload(&bytes, id, 16000);
  }
  assert_int_equal(feed_once(&bytes), 0);
  assert_in_range(held_max, 16000, 2 * BUFFERED_MAX);
}

static void test_too_many_chunk_streams(void **state)
{
  struct rtmp_bytes bytes = {0};
  for (uint32_t i = 0; i < RTMP_CHUNK_STREAMS_MAX; i++) {
    put_message(&bytes, 3 + i, i, RTMP_AUDIO, "x", 1);
  }
  put_type2(&bytes, 3, 1); // one that is known is welcome
  put_byte(&bytes, 'y');
  struct rtmp_bytes more = {0};
  rtmp_bytes_add(&more, bytes.at, bytes.size);
  assert_int_equal(feed_once(&bytes), 0);
  put_message(&more, 3 + RTMP_CHUNK_STREAMS_MAX, 0, RTMP_AUDIO, "x", 1);
  assert_int_equal(feed_once(&more), RTMP_ERROR_CHUNK_STREAMS);
}

static void test_chunk_sizes_out_of_range(void **state)
{
  static const uint32_t sizes[] = {0, 0x80000000, 0xffffffff};
  for (size_t i = 0; i < 3; i++) {
    struct rtmp_bytes bytes = {0};
    put_set_chunk_size(&bytes, sizes[i]);
    assert_int_equal(feed_once(&bytes), RTMP_ERROR_CHUNK_SIZE);
  }
}

static void test_headers_that_continue_nothing(void **state)
{
  struct rtmp_bytes bytes = {0};
  put_type1(&bytes, 4, 0, 5, RTMP_AUDIO);
  put_payload(&bytes, 1, 5);
  assert_int_equal(feed_once(&bytes), RTMP_ERROR_HEADER);
  put_type2(&bytes, 4, 0);
  assert_int_equal(feed_once(&bytes), RTMP_ERROR_HEADER);
  put_type3(&bytes, 4);
  assert_int_equal(feed_once(&bytes), RTMP_ERROR_HEADER);
  put_message(&bytes, 4, 0, 0, "x", 1); // there is no type 0
  assert_int_equal(feed_once(&bytes), RTMP_ERROR_HEADER);
}

static void test_errors_have_texts(void **state)
{
  for (int error = RTMP_ERROR_HEADER; error < 0; error++) {
    assert_string_not_equal(rtmp_error_text(error), rtmp_error_text(0));
  }
}

// Each allocation fails once: the reader says so, and nothing leaks.
static void test_no_memory(void **state)
{
  int status = RTMP_ERROR_MEMORY;
  for (fail_at = 0; status != 0; fail_at++) {
    struct rtmp_bytes bytes = {0};
    put_type0(&bytes, 4, 0, 300, RTMP_AUDIO, 1);
    put_payload(&bytes, 1, 128);
    put_type0(&bytes, 5, 0, 20000, RTMP_AUDIO, 1);
    for (size_t at = 0; at < 20000; at += 128) {
      put_payload(&bytes, 2, 20000 - at < 128 ? 20000 - at : 128);
      put_type3(&bytes, at + 128 < 20000 ? 5 : 4);
    }
    put_payload(&bytes, 3, 128);
    status = feed_once(&bytes);
    assert_true(status == 0 || status == RTMP_ERROR_MEMORY);
  }
  assert_in_range(fail_at, 5, 100);
  fail_at = SIZE_MAX;
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_large_message_is_refused_at_its_header),
      cmocka_unit_test(test_largest_message_is_taken),
      cmocka_unit_test(test_memory_grows_with_what_came),
      cmocka_unit_test(test_unfinished_messages_are_bounded_together),
      cmocka_unit_test(test_given_up_messages_are_let_go),
      cmocka_unit_test(test_complete_messages_are_let_go),
      cmocka_unit_test(test_too_many_chunk_streams),
      cmocka_unit_test(test_chunk_sizes_out_of_range),
      cmocka_unit_test(test_headers_that_continue_nothing),
      cmocka_unit_test(test_errors_have_texts),
      cmocka_unit_test(test_no_memory),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
