// Webhooks on the room's real threads: what is let in, what is told on, and what becomes of it when
// too many wait.
#include "no_verdict.h"
#include "rig.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#define PATIENCE_MS 20000

static struct rig rig;

static int set_up(void **state)
{
  (void)state;
  rig_start(&rig, NULL);
  return 0;
}

static int tear_down(void **state)
{
  (void)state;
  rig_stop(&rig);
  return 0;
}

#define FINISHED(id, name)                                                                         \
  "{\"event\":\"room_finished\",\"room\":{\"sid\":\"RM_1\",\"name\":\"" name "\"},\"id\":\"" id    \
  "\"}"

static void test_room_that_is_over(void **state)
{
  (void)state;
  assert_int_equal(rig_bring_good(&rig, FINISHED("EV_1", "one")), 200);
  rig_await_ended(&rig, "one ");
  assert_int_equal(rig_bring_good(&rig, FINISHED("EV_1", "one")), 200); // again
  assert_int_equal(rig_bring_good(&rig, FINISHED("EV_2", "two words")), 200);
  rig_await_ended(&rig, "one two-words--a03f1d611645eb53 ");
  rig_expect_claimed(&rig, "lk:event:EV_1 lk:event:EV_2 ");
  assert_int_equal(rig_counter(&rig, "livekit.webhooks_total"), 3);
  assert_int_equal(rig_counter(&rig, "livekit.webhooks_repeated_total"), 1);
}

// LiveKit brings it again; it was not a wrong one.
static void test_no_memory_to_verify(void **state)
{
  (void)state;
  no_memory_for_token(1);
  assert_int_equal(rig_bring_good(&rig, FINISHED("EV_1", "one")), 503);
  assert_int_equal(rig_counter(&rig, "livekit.webhooks_refused_total"), 0);
  assert_int_equal(rig_counter(&rig, "livekit.webhooks_unqueued_total"), 1);
  assert_int_equal(rig_bring_good(&rig, FINISHED("EV_1", "one")), 200);
  rig_await_ended(&rig, "one ");
}

// Nor to hash the body; the first is what LiveKit hashes.
static void test_no_memory_for_a_hash(void **state)
{
  (void)state;
  no_memory_for_digest(2);
  assert_int_equal(rig_bring_good(&rig, FINISHED("EV_1", "one")), 503);
  assert_int_equal(rig_counter(&rig, "livekit.webhooks_refused_total"), 0);
  assert_int_equal(rig_counter(&rig, "livekit.webhooks_unqueued_total"), 1);
  no_memory_for_digest(3); // the name that its session has
  assert_int_equal(rig_bring_good(&rig, FINISHED("EV_1", "two words")), 200);
  rig_await_counter(&rig, "livekit.out_of_memory_total", 1);
  assert_int_equal(rig_bring_good(&rig, FINISHED("EV_2", "one")), 200);
  rig_await_ended(&rig, "one ");
}

// Without LIVEKIT_AUTO_EGRESS.
static void test_room_that_begins(void **state)
{
  (void)state;
  assert_int_equal(rig_bring_good(&rig, "{\"event\":\"room_started\",\"room\":{\"sid\":\"RM_1\","
                                        "\"name\":\"one\"},\"id\":\"EV_1\"}"),
                   200);
  assert_int_equal(rig_bring_good(&rig,
                                  "{\"event\":\"egress_ended\",\"egressInfo\":{\"egressId\":"
                                  "\"EG_1\",\"roomName\":\"one\",\"status\":\"EGRESS_FAILED\","
                                  "\"streamResults\":[{\"url\":\"" RIG_ADDRESS "/{o...e}\"}]},"
                                  "\"id\":\"EV_2\"}"),
                   200);
  assert_int_equal(rig_bring_good(&rig, FINISHED("EV_3", "two")), 200);
  rig_await_ended(&rig, "two ");
  assert_int_equal(rig_counter(&rig, "livekit.rooms"), 0); // none is looked after
  assert_int_equal(rig_counter(&rig, "livekit.polls_total"), 0);
}

static void test_event_of_another_node(void **state)
{
  (void)state;
  rig_set_others(&rig, "lk:event:EV_1");
  assert_int_equal(rig_bring_good(&rig, FINISHED("EV_1", "one")), 200);
  rig_await_counter(&rig, "livekit.webhooks_repeated_total", 1);
  assert_int_equal(rig_bring_good(&rig, FINISHED("EV_2", "two")), 200);
  rig_await_ended(&rig, "two ");
}

static void test_who_is_let_in(void **state)
{
  (void)state;
  static const struct {
    struct signer signer;
    const char *signed_body; // NULL: the body that comes
    const char *why;         // NULL: let in
  } rows[] = {
      {{"APInew", RIG_SECRET, RIG_NOW_S + 300}, NULL, NULL},
      {{"APIold", RIG_OLD_SECRET, RIG_NOW_S + 300}, NULL, NULL},
      {{"APInew", RIG_SECRET, RIG_NOW_S - 29}, NULL, NULL},
      {{"APInew", RIG_SECRET, RIG_NOW_S - 30}, NULL, "expired"},
      // LiveKit's clock is ahead of ours.
      {{"APInew", RIG_SECRET, RIG_NOW_S + 330, RIG_NOW_S + 30}, NULL, NULL},
      {{"APInew", RIG_SECRET, RIG_NOW_S + 331, RIG_NOW_S + 31}, NULL, "not valid yet"},
      {{"APInew", "another", RIG_NOW_S + 300}, NULL, "sign"},
      {{"APIthird", RIG_OLD_SECRET, RIG_NOW_S + 300}, NULL, "another API key"},
      {{"", RIG_OLD_SECRET, RIG_NOW_S + 300}, NULL, "another API key"},
      {{"APInew", RIG_OLD_SECRET, RIG_NOW_S + 300}, "{ }", "the body is not"},
  };
  uint64_t n_refused = 0;
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    const char *why = "", *of = rows[i].signed_body != NULL ? rows[i].signed_body : "{}";
    int status = rig_bring(&rig, &rows[i].signer, of, "{}", &why);
    assert_int_equal(status, rows[i].why != NULL ? 401 : 200);
    assert_true(rows[i].why == NULL || strstr(why, rows[i].why) != NULL);
    n_refused += rows[i].why != NULL;
  }
  const char *why = "";
  assert_int_equal(vc_livekit_take_webhook(rig.livekit, NULL, "{}", 2, &why), 401);
  assert_int_equal(vc_livekit_take_webhook(rig.livekit, "", "{}", 2, &why), 401);
  assert_int_equal(vc_livekit_take_webhook(rig.livekit, "", NULL, 0, &why), 401);
  assert_int_equal(rig_counter(&rig, "livekit.webhooks_refused_total"), n_refused + 3);
  rig_await_counter(&rig, "livekit.webhooks_malformed_total", 4);
}

static void test_too_many_wait(void **state)
{
  (void)state;
  rig.is_held = 1; // nothing was brought yet
  assert_int_equal(rig_bring_good(&rig, FINISHED("EV_1", "one")), 200);
  rig_await_ended(&rig, "one ");
  int n = 0;
  while (n <= VC_LIVEKIT_WEBHOOKS_MAX && rig_bring_good(&rig, "{\"event\":\"x\"}") == 200) {
    n++;
  }
  assert_int_equal(n, VC_LIVEKIT_WEBHOOKS_MAX);
  assert_int_equal(rig_counter(&rig, "livekit.webhooks_unqueued_total"), 1);
  assert_int_equal(rig_counter(&rig, "livekit.webhooks_total"), n + 1);
  rig_let_go(&rig);
  for (int i = 0; rig_bring_good(&rig, FINISHED("EV_2", "two")) != 200 && i < PATIENCE_MS; i++) {
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
  }
  rig_await_ended(&rig, "one two ");
}

// Each waits for a second for a Redis that is slow: that is not a thread that hangs.
static void test_claims_that_take_long(void **state)
{
  (void)state;
  char body[128];
  rig.is_held = 1;
  assert_int_equal(rig_bring_good(&rig, FINISHED("EV_0", "one")), 200);
  rig_await_ended(&rig, "one ");
  rig_set_claim_ms(&rig, 1000);
  for (int i = 1; i <= 20; i++) {
    snprintf(body, sizeof body,
             "{\"event\":\"egress_updated\",\"egressInfo\":{\"egressId\":\"EG_1\"},"
             "\"id\":\"EV_%d\"}",
             i);
    assert_int_equal(rig_bring_good(&rig, body), 200);
  }
  assert_int_equal(rig_bring_good(&rig, FINISHED("EV_21", "two")), 200);
  rig_let_go(&rig);
  rig_await_ended(&rig, "one two ");
  assert_int_equal(rig_n_stuck(&rig), 0);
}

static void test_stopped(void **state)
{
  (void)state;
  const char *why = "";
  vc_livekit_stop(rig.livekit);
  const struct signer livekit = {"APInew", RIG_SECRET, RIG_NOW_S + 300};
  assert_int_equal(rig_bring(&rig, &livekit, "{}", "{}", &why), 503);
  assert_non_null(strstr(why, "drains"));
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_room_that_is_over, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_no_memory_to_verify, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_no_memory_for_a_hash, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_room_that_begins, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_event_of_another_node, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_who_is_let_in, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_too_many_wait, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_claims_that_take_long, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_stopped, set_up, tear_down),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
