// Where memory gives out the room is not made, or what it dropped is asked for when there is some.
#include "no_memory.h"
#include "rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static struct server server;
static struct rig rig;

static const struct rig_said said[] = {
    {VC_MESSAGE_HELLO, 0, 0}, {VC_MESSAGE_PARTIAL, 1, 0}, {VC_MESSAGE_FINAL, 2, 0},
    {VC_MESSAGE_FINAL, 3, 2}, {VC_MESSAGE_END, 4, 3},
};
#define N_SAID (sizeof said / sizeof *said)

static int set_up(void **state)
{
  rig_begin(&rig, &server, "a", "");
  return 0;
}

static int tear_down(void **state)
{
  rig_stop(&rig);
  return 0;
}

static void make_one(void)
{
  struct vc_redis *redis = NULL;
  struct vc_error error = {.text = ""};
  struct vc_redis_settings settings = rig_settings(&rig, "b");
  if (vc_redis_create(&redis, &settings, &error) != 0) {
    assert_true(memory_has_failed);
    assert_non_null(strstr(error.text, "no memory"));
    assert_null(redis);
  }
  vc_redis_destroy(&redis);
}

static void test_create(void **state)
{
  assert_true(memory_fail_each(make_one) > 10);
}

// --- a session, from its claim to its release

struct session {
  char slug[16];
  struct redis_claim *claim;
  struct vc_fleet *messages[N_SAID], *release;
  int has_failed, is_released;
};

// All that the test itself needs is made before.
static void prepare(struct session *session, size_t after)
{
  memset(session, 0, sizeof *session);
  snprintf(session->slug, sizeof session->slug, "s%zu", after);
  session->claim = redis_claim_create(session->slug, 5);
  for (size_t i = 0; i < N_SAID; i++) {
    session->messages[i] = rig_message(session->slug, 5, said[i]);
  }
  session->release = vc_fleet_create(VC_FLEET_RELEASE, session->slug, 0);
  session->release->position = (struct vc_position){5, 4};
  session->release->is_last = 1;
}

static void give_what_is_asked_for(const struct session *session, const struct vc_remote *ask)
{
  const struct vc_position after = {ask->epoch, ask->seq};
  size_t first = 0;
  while (first < N_SAID && ask->epoch == 5 && said[first].seq <= ask->seq) {
    first++;
  }
  rig_give(&rig, session->slug, after, 1, 5, said + first, N_SAID - first);
}

static void take_what_comes(struct session *session)
{
  struct vc_remote *remote = rig_take_remote(&rig);
  struct vc_item *item = rig_take_owned(&rig);
  if (remote != NULL) {
    assert_int_equal(remote->kind, VC_REMOTE_ASK);
    session->has_failed |= memory_has_failed;
    memory_fail(0, 0);
    give_what_is_asked_for(session, remote);
    vc_item_destroy(&remote->item);
  }
  if (item != NULL) {
    session->is_released |= redis_item_of(item)->kind == REDIS_RELEASED;
    vc_item_destroy(item);
  }
}

// Returns: 1 when an allocation failed.
static int run_session(size_t after)
{
  static struct session session;
  prepare(&session, after);
  memory_fail(after, 1);
  assert_int_equal(vc_putter_put(rig.redis->watch_to_publish, 0, &session.claim->item.owned.item),
                   0);
  for (size_t i = 0; i < N_SAID; i++) {
    rig_put(&rig, session.messages[i]);
  }
  uint64_t until = vc_clock_now_ns(&vc_clock_system) + SERVER_PATIENCE_MS * VC_NS_PER_MS;
  for (int is_there = 0; !is_there || !session.is_released;) {
    take_what_comes(&session);
    if (!is_there && strcmp(rig_stream(&server, session.slug), "5-0 5-2 5-3 5-4") == 0) {
      is_there = 1;
      rig_put(&rig, session.release);
    }
    assert_true(vc_clock_now_ns(&vc_clock_system) < until);
    usleep(500);
  }
  session.has_failed |= memory_has_failed;
  memory_fail(0, 0);
  rig_wait_gauge(&rig, "redis.owned", 0); // the next makes the table anew
  return session.has_failed;
}

static void test_session(void **state)
{
  size_t after = 0;
  while (run_session(after)) {
    after++;
  }
  assert_true(after > 3);
}

int main(void)
{
#define WITH(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
  const struct CMUnitTest tests[] = {
      WITH(test_create),
      WITH(test_session),
  };
  if (!server_is_there("redis/memory")) {
    return 0;
  }
  vc_log_level_set((enum vc_log_level) - 1);
  server_start(&server, NULL);
  int n_failed = cmocka_run_group_tests_name("redis/memory", tests, NULL, NULL);
  server_stop(&server);
  return n_failed;
}
