// Askers and a stage with real threads: one that answers, or one that has not begun to.
#include <verbacast/flow/ask.h>

#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#define PATIENCE_MS 60000
#define N_WORKERS 3
#define LANE_CAPACITY 4 // at least
#define PUTS_MAX 100

static struct vc_stage *stage;
static struct vc_shared_putter *putter;

static int enter(struct vc_worker *worker, void *config, struct vc_error *error)
{
  return 0;
}

// The status says which worker it was, the reply gives the slug back.
static void handle(struct vc_worker *worker, struct vc_item *item)
{
  struct vc_query *query = vc_query_of(item);
  const char *slug = vc_query_slug(query);
  vc_query_answer(query, 200 + (int)vc_worker_index(worker), vc_buffer_copy(slug, strlen(slug)));
}

static void leave(struct vc_worker *worker) {}

static int begin(void **state)
{
  static const struct vc_stage_ops ops = {
      .name = "test", .enter = enter, .handle = handle, .leave = leave};
  struct vc_error error;
  if (vc_stage_create(&stage,
                      &(struct vc_stage_settings){.ops = &ops,
                                                  .n_workers = N_WORKERS,
                                                  .lane_capacity = LANE_CAPACITY,
                                                  .clock = &vc_clock_system},
                      &error) != 0) {
    return -1;
  }
  putter = vc_shared_putter_create(stage);
  return putter != NULL ? 0 : -1;
}

static int end(void **state)
{
  vc_shared_putter_destroy(&putter);
  vc_stage_destroy(&stage);
  return 0;
}

static void test_answered_by_the_worker_that_has_the_slug(void **state)
{
  struct vc_error error;
  assert_int_equal(vc_stage_start(stage, &error), 0);
  for (char slug[] = "a"; slug[0] <= 'z'; slug[0]++) {
    uint32_t worker = vc_ask_worker(stage, slug);
    assert_int_equal(worker, vc_slug_hash(slug, 1) % N_WORKERS);
    struct vc_query *query =
        vc_ask_wait(putter, worker, vc_query_create(VC_QUERY_TRANSCRIPT, slug), PATIENCE_MS);
    assert_non_null(query);
    assert_int_equal(vc_query_status(query), 200 + worker);
    assert_int_equal(vc_query_reply(query)->size, 1);
    assert_memory_equal(vc_query_reply(query)->data, slug, 1);
    vc_query_unref(query);
  }
  assert_int_equal(vc_stage_stop(stage, PATIENCE_MS), 0);
}

static void test_not_in_time(void **state)
{
  assert_null(vc_ask_wait(putter, 0, vc_query_create(VC_QUERY_SESSIONS, ""), 1));
}

// Who finds the lane full does not wait, although the answer to "not asked" is there at once.
static void test_full_lane(void **state)
{
  int n_asked = 0;
  while (vc_ask_put(putter, 0, vc_query_create(VC_QUERY_KICK_PUBLISHER, "room")) == 0) {
    assert_in_range(++n_asked, 1, PUTS_MAX);
  }
  assert_in_range(n_asked, LANE_CAPACITY, PUTS_MAX);
  assert_null(vc_ask_wait(putter, 0, vc_query_create(VC_QUERY_SESSIONS, ""), UINT32_MAX));
  assert_int_equal(vc_ask_put(putter, 1, vc_query_create(VC_QUERY_END_SESSION, "room")), 0);
}

static void test_nobody_waits(void **state)
{
  struct vc_error error;
  struct vc_query *query = vc_query_create(VC_QUERY_END_SESSION, "room");
  assert_non_null(query);
  vc_query_item(query); // a reference of the test's, to see the answer by
  assert_int_equal(vc_ask_put(putter, 2, query), 0);
  assert_int_equal(vc_stage_start(stage, &error), 0);
  assert_int_equal(vc_query_wait(query, PATIENCE_MS), 0);
  assert_int_equal(vc_query_status(query), 202);
  vc_query_unref(query);
  assert_int_equal(vc_stage_stop(stage, PATIENCE_MS), 0);
}

// --- who may not wait has the query back, on a lane of its own stage

static struct vc_stage *own_stage;
static struct vc_shared_putter *own;

static int begin_two(void **state)
{
  if (begin(state) != 0) {
    return -1;
  }
  own_stage = stage;
  own = putter;
  return begin(state);
}

static int end_two(void **state)
{
  end(state); // those that are asked end first
  vc_stage_destroy(&own_stage);
  vc_shared_putter_destroy(&own);
  return 0;
}

static int fill(struct vc_shared_putter *full, uint32_t worker)
{
  int n = 0;
  while (vc_ask_put(full, worker, vc_query_create(VC_QUERY_KICK_PUBLISHER, "room")) == 0) {
    assert_in_range(++n, 1, PUTS_MAX);
  }
  return n;
}

static struct vc_query *ask_back(void)
{
  struct vc_query *query = vc_query_create(VC_QUERY_FLEET_BEGAN, "room");
  assert_non_null(query);
  assert_int_equal(vc_ask_back(putter, 1, query, own, 2), 0);
  return query;
}

static void answer_all(void)
{
  struct vc_error error;
  assert_int_equal(vc_stage_start(stage, &error), 0);
  assert_int_equal(vc_stage_stop(stage, PATIENCE_MS), 0);
}

static void test_comes_back(void **state)
{
  struct vc_query *query = ask_back();
  answer_all();
  assert_int_equal(vc_query_wait(query, 0), 0);
  assert_int_equal(vc_query_status(query), 201);
  vc_query_unref(query);
  assert_int_equal(fill(own, 2), fill(own, 0) - 1); // it has a place there
}

static void test_no_room_to_come_back(void **state)
{
  fill(own, 2);
  struct vc_query *query = ask_back();
  answer_all();
  assert_int_equal(vc_query_status(query), 201);
  vc_query_unref(query);
}

static void test_no_room_to_be_asked(void **state)
{
  struct vc_query *query = vc_query_create(VC_QUERY_FLEET_BEGAN, "room");
  assert_non_null(query);
  fill(putter, 1);
  assert_int_equal(vc_ask_back(putter, 1, query, own, 2), 1);
  assert_int_equal(vc_query_status(query), 503);
  vc_query_unref(query);
  assert_int_equal(fill(own, 2), fill(own, 0)); // and does not come
}

// What nobody took is answered by the end of the stage, and freed by that of the asker's.
static void test_never_taken(void **state)
{
  struct vc_query *query = ask_back();
  end(state);
  assert_int_equal(vc_query_wait(query, 0), 0);
  assert_int_equal(vc_query_status(query), 503);
  vc_query_unref(query);
  assert_int_equal(fill(own, 2), fill(own, 0) - 1);
}

static void test_no_memory_for_the_query(void **state)
{
  assert_null(vc_ask_wait(putter, 0, NULL, PATIENCE_MS));
  assert_int_equal(vc_ask_put(putter, 0, NULL), 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
#define TEST_OF_TWO(name) cmocka_unit_test_setup_teardown(name, begin_two, end_two)

int main(void)
{
  const struct CMUnitTest tests[] = {
      TEST(test_answered_by_the_worker_that_has_the_slug),
      TEST(test_not_in_time),
      TEST(test_full_lane),
      TEST(test_nobody_waits),
      TEST_OF_TWO(test_comes_back),
      TEST_OF_TWO(test_no_room_to_come_back),
      TEST_OF_TWO(test_no_room_to_be_asked),
      TEST_OF_TWO(test_never_taken),
      TEST(test_no_memory_for_the_query),
  };
  return cmocka_run_group_tests_name("flow/ask", tests, NULL, NULL);
}
