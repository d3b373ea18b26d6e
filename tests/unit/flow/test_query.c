#include <verbacast/flow/query.h>

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#define PATIENCE_MS 60000

// A stage of one question.
static void *answer(void *context)
{
  struct vc_query *query = vc_query_of(context);
  struct vc_buffer *reply = vc_buffer_copy(vc_query_slug(query), strlen(vc_query_slug(query)));
  vc_query_mark_incomplete(query);
  vc_query_answer(query, 200, reply);
  return NULL;
}

static void test_answer(void **state)
{
  pthread_t stage;
  struct vc_query *query = vc_query_create(VC_QUERY_TRANSCRIPT, "room");
  assert_non_null(query);
  vc_query_set_number(query, -5);
  assert_int_equal(vc_query_number(query), -5);
  assert_int_equal(vc_query_kind(query), VC_QUERY_TRANSCRIPT);
  assert_int_equal(pthread_create(&stage, NULL, answer, vc_query_item(query)), 0);
  assert_int_equal(vc_query_wait(query, PATIENCE_MS), 0);
  assert_int_equal(vc_query_status(query), 200);
  assert_int_equal(vc_query_reply(query)->size, 4);
  assert_memory_equal(vc_query_reply(query)->data, "room", 4);
  assert_false(vc_query_is_complete(query));
  assert_int_equal(vc_query_wait(query, 0), 0);
  vc_query_unref(query);
  pthread_join(stage, NULL);
}

static void test_given_up(void **state)
{
  struct vc_query *query = vc_query_create(VC_QUERY_SESSIONS, NULL);
  assert_non_null(query);
  struct vc_item *item = vc_query_item(query);
  assert_int_equal(vc_query_wait(query, 1), 1);
  vc_query_unref(query);
  vc_query_answer(vc_query_of(item), 200, vc_buffer_copy("[]", 2)); // into the void
}

static void test_dropped_by_a_stage(void **state)
{
  struct vc_query *query = vc_query_create(VC_QUERY_ERASE, "room");
  assert_non_null(query);
  vc_item_destroy(vc_query_item(query));
  assert_int_equal(vc_query_wait(query, PATIENCE_MS), 0);
  assert_int_equal(vc_query_status(query), 503);
  assert_null(vc_query_reply(query));
  assert_true(vc_query_is_complete(query));
  vc_query_unref(query);
}

static void test_never_put(void **state)
{
  vc_query_unref(vc_query_create(VC_QUERY_VIEWERS, ""));
  vc_query_unref(NULL);
}

// The asker's patience ends at about the moment of the answer: either way nothing leaks or races.
static void test_given_up_meanwhile(void **state)
{
  for (int i = 0; i < 300; i++) {
    pthread_t stage;
    struct vc_query *query = vc_query_create(VC_QUERY_TRANSCRIPT, "room");
    assert_non_null(query);
    assert_int_equal(pthread_create(&stage, NULL, answer, vc_query_item(query)), 0);
    if (vc_query_wait(query, 0) == 0) {
      assert_int_equal(vc_query_status(query), 200);
    }
    vc_query_unref(query);
    pthread_join(stage, NULL);
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_answer),
      cmocka_unit_test(test_given_up),
      cmocka_unit_test(test_dropped_by_a_stage),
      cmocka_unit_test(test_never_put),
      cmocka_unit_test(test_given_up_meanwhile),
  };
  return cmocka_run_group_tests_name("flow/query", tests, NULL, NULL);
}
