#include <verbacast/base/lane.h>

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#define N_ITEMS 200000

// Whatever is asked for fits, and something is full at last.
static void test_capacity(void **state)
{
  for (size_t capacity = 1; capacity < 300; capacity += 7) {
    struct vc_lane *lane = vc_lane_create(capacity);
    int item;
    size_t n = 0;
    assert_non_null(lane);
    while (vc_lane_put(lane, &item) == 0) {
      n++;
    }
    assert_in_range(n, capacity, 2 * capacity + 4);
    assert_int_equal(vc_lane_count(lane), n);
    for (; n > 0; n--) {
      assert_ptr_equal(vc_lane_take(lane), &item);
    }
    assert_null(vc_lane_take(lane));
    vc_lane_destroy(&lane);
    assert_null(lane);
  }
  assert_null(vc_lane_create(SIZE_MAX));
}

static void test_order_over_the_edge(void **state)
{
  struct vc_lane *lane = vc_lane_create(7);
  int items[100];
  assert_non_null(lane);
  for (int round = 0; round < 50; round++) {
    for (int i = 0; i < 5; i++) {
      assert_int_equal(vc_lane_put(lane, &items[round + i]), 0);
    }
    for (int i = 0; i < 5; i++) {
      assert_ptr_equal(vc_lane_take(lane), &items[round + i]);
    }
  }
  vc_lane_destroy(&lane);
}

static void *put_numbers(void *context)
{
  for (int i = 0; i < N_ITEMS; i++) {
    int *item = malloc(sizeof *item);
    if (item == NULL) {
      abort();
    }
    *item = i;
    while (vc_lane_put(context, item) != 0) {
      sched_yield();
    }
  }
  return NULL;
}

// What was written before a put is read after the take, in order, nothing lost or doubled.
static void test_two_threads(void **state)
{
  struct vc_lane *lane = vc_lane_create(63);
  pthread_t putter;
  assert_non_null(lane);
  assert_int_equal(pthread_create(&putter, NULL, put_numbers, lane), 0);
  int n_wrong = 0;
  for (int i = 0; i < N_ITEMS;) {
    int *item = vc_lane_take(lane);
    if (item == NULL) {
      sched_yield();
      continue;
    }
    n_wrong += *item != i;
    i++;
    free(item);
  }
  pthread_join(putter, NULL);
  assert_int_equal(n_wrong, 0);
  assert_null(vc_lane_take(lane));
  vc_lane_destroy(&lane);
  vc_lane_destroy(&lane);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_capacity),
      cmocka_unit_test(test_order_over_the_edge),
      cmocka_unit_test(test_two_threads),
  };
  return cmocka_run_group_tests_name("base/lane", tests, NULL, NULL);
}
