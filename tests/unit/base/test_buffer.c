#include <verbacast/base/buffer.h>

#include <pthread.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

static void test_copy(void **state)
{
  struct vc_buffer *buffer = vc_buffer_copy("abc", 3);
  assert_non_null(buffer);
  assert_int_equal(buffer->size, 3);
  assert_int_equal(buffer->capacity, 3);
  assert_memory_equal(buffer->data, "abc", 3);
  vc_buffer_unref(buffer);
}

static void test_empty(void **state)
{
  struct vc_buffer *buffer = vc_buffer_copy(NULL, 0);
  assert_non_null(buffer);
  assert_int_equal(buffer->size, 0);
  vc_buffer_unref(buffer);
  assert_null(vc_buffer_ref(NULL));
  vc_buffer_unref(NULL);
}

static void test_too_large(void **state)
{
  assert_null(vc_buffer_create(((size_t)1 << 30) + 1));
  assert_null(vc_buffer_create(SIZE_MAX));
}

static void *use_and_let_go(void *context)
{
  struct vc_buffer *buffer = context;
  for (int i = 0; i < 10000; i++) {
    vc_buffer_unref(vc_buffer_ref(buffer));
  }
  intptr_t is_whole = buffer->data[0] == 'x' && buffer->data[63] == 'x';
  vc_buffer_unref(buffer);
  return (void *)is_whole;
}

// The last of four threads frees it: the sanitizers look on.
static void test_shared(void **state)
{
  pthread_t threads[4];
  struct vc_buffer *buffer = vc_buffer_create(64);
  assert_non_null(buffer);
  memset(buffer->data, 'x', 64);
  buffer->size = 64;
  for (size_t i = 0; i < 4; i++) {
    assert_int_equal(pthread_create(&threads[i], NULL, use_and_let_go, vc_buffer_ref(buffer)), 0);
  }
  vc_buffer_unref(buffer);
  for (size_t i = 0; i < 4; i++) {
    void *is_whole;
    pthread_join(threads[i], &is_whole);
    assert_non_null(is_whole);
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_copy),
      cmocka_unit_test(test_empty),
      cmocka_unit_test(test_too_large),
      cmocka_unit_test(test_shared),
  };
  return cmocka_run_group_tests_name("base/buffer", tests, NULL, NULL);
}
