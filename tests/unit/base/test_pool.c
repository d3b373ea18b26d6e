#include <verbacast/base/pool.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <sched.h>
#include <string.h>

#define CAPACITY 64

static struct vc_pool *begin(uint32_t kept_max)
{
  struct vc_pool *pool = vc_pool_create(CAPACITY, kept_max);
  assert_non_null(pool);
  return pool;
}

static struct vc_buffer *take(struct vc_pool *pool)
{
  struct vc_buffer *buffer = vc_pool_take(pool);
  assert_non_null(buffer);
  assert_int_equal(buffer->capacity, CAPACITY);
  assert_int_equal(buffer->size, 0);
  return buffer;
}

static void test_a_buffer_comes_again(void **state)
{
  struct vc_pool *pool = begin(4);
  struct vc_buffer *first = take(pool);
  struct vc_buffer *second = take(pool);
  assert_ptr_not_equal(first, second);
  memset(first->data, 1, CAPACITY);
  first->size = CAPACITY;
  vc_buffer_unref(first);
  assert_ptr_equal(take(pool), first);
  vc_buffer_unref(first);
  vc_buffer_unref(second);
  vc_pool_destroy(&pool);
  assert_null(pool);
}

static void test_not_while_somebody_refers_to_it(void **state)
{
  struct vc_pool *pool = begin(4);
  struct vc_buffer *held = vc_buffer_ref(take(pool));
  vc_buffer_unref(held);
  struct vc_buffer *other = take(pool);
  assert_ptr_not_equal(other, held);
  vc_buffer_unref(held);
  vc_buffer_unref(other);
  vc_pool_destroy(&pool);
}

// The kept ones come again, in the reverse order of their return; what was beyond is new memory or
// not, as the allocator likes: the sanitizers would see one that was used after it went there.
static void test_no_more_are_kept_than_may_be(void **state)
{
  struct vc_pool *pool = begin(2);
  struct vc_buffer *buffers[4];
  for (size_t i = 0; i < 4; i++) {
    buffers[i] = take(pool);
  }
  for (size_t i = 0; i < 4; i++) {
    vc_buffer_unref(buffers[i]);
  }
  assert_ptr_equal(take(pool), buffers[1]);
  assert_ptr_equal(take(pool), buffers[0]);
  vc_buffer_unref(buffers[0]);
  vc_buffer_unref(buffers[1]);
  vc_pool_destroy(&pool);
  pool = begin(0);
  vc_buffer_unref(take(pool));
  vc_pool_destroy(&pool);
}

static void test_a_buffer_outlives_its_pool(void **state)
{
  struct vc_pool *pool = begin(4);
  struct vc_buffer *first = take(pool);
  struct vc_buffer *second = take(pool);
  vc_buffer_unref(take(pool));
  vc_pool_destroy(&pool);
  memset(first->data, 1, CAPACITY);
  vc_buffer_unref(first);
  memset(second->data, 2, CAPACITY);
  vc_buffer_unref(second);
}

// --- threads: each reads what it was given and lets go of it

#define READERS 4
#define ROUNDS 20000

struct reader {
  pthread_t thread;
  _Atomic(struct vc_buffer *) slot;
};

static void *read_all(void *context)
{
  struct reader *reader = context;
  for (uint32_t i = 0; i < ROUNDS; i++) {
    struct vc_buffer *buffer;
    while ((buffer = atomic_exchange(&reader->slot, NULL)) == NULL) {
      sched_yield();
    }
    uint32_t value;
    memcpy(&value, buffer->data, sizeof value);
    int is_right = value == i && buffer->size == sizeof value;
    vc_buffer_unref(buffer);
    if (!is_right) {
      return reader;
    }
  }
  return NULL;
}

static void test_threads_let_go(void **state)
{
  struct reader readers[READERS] = {0};
  struct vc_pool *pool = begin(3);
  for (size_t i = 0; i < READERS; i++) {
    assert_int_equal(pthread_create(&readers[i].thread, NULL, read_all, &readers[i]), 0);
  }
  for (uint32_t round = 0; round < ROUNDS; round++) {
    struct vc_buffer *buffer = take(pool);
    memcpy(buffer->data, &round, sizeof round);
    buffer->size = sizeof round;
    for (size_t i = 0; i < READERS; i++) {
      while (atomic_load(&readers[i].slot) != NULL) {
        sched_yield();
      }
      atomic_store(&readers[i].slot, vc_buffer_ref(buffer));
    }
    vc_buffer_unref(buffer);
  }
  vc_pool_destroy(&pool); // while the last ones are read
  for (size_t i = 0; i < READERS; i++) {
    void *result;
    pthread_join(readers[i].thread, &result);
    assert_null(result);
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_a_buffer_comes_again),
      cmocka_unit_test(test_not_while_somebody_refers_to_it),
      cmocka_unit_test(test_no_more_are_kept_than_may_be),
      cmocka_unit_test(test_a_buffer_outlives_its_pool),
      cmocka_unit_test(test_threads_let_go),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
