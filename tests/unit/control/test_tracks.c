// Who may publish by WebSocket, and what of it goes on to ingest.
#include "no_verdict.h"
#include "rig.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define SECRET "publish-secret"
#define ADA "/ingest/livekit/demo?participant=Ada"

int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*start)(void *), void *argument);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*start)(void *), void *argument);

static atomic_int has_no_thread;

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*start)(void *), void *argument)
{
  return has_no_thread ? EAGAIN : __real_pthread_create(thread, attributes, start, argument);
}

// The nodes of all tests; their replies and limits are put back by who changes them.
static struct {
  struct rig *open;    // no secret
  struct rig *closed;  // PUBLISH_SECRET
  struct rig *watched; // VIEWER_SECRET alone
  struct rig *proxied; // no secret; 127.0.0.1 is a proxy of ours; --insecure
} nodes;

static void may_publish(struct rig *rig, int status, const char *why)
{
  rig_reply(rig, VC_QUERY_MAY_PUBLISH, (struct rig_reply){.status = status, .text = why});
}

static struct rig *make(const char *const *environment, const char *proxies)
{
  struct rig *rig = rig_create(environment, proxies);
  may_publish(rig, 200, NULL);
  return rig;
}

static int set_up(void **state)
{
  nodes.open = make((const char *const[]){"ALLOWED_ORIGINS=https://friend.example", NULL}, "");
  nodes.closed = make((const char *const[]){"PUBLISH_SECRET=" SECRET, NULL}, "");
  nodes.watched = make((const char *const[]){"VIEWER_SECRET=" SECRET, NULL}, "");
  nodes.proxied = make((const char *const[]){"INSECURE=1", NULL}, "127.0.0.1");
  return 0;
}

static int tear_down(void **state)
{
  rig_destroy(nodes.open);
  rig_destroy(nodes.closed);
  rig_destroy(nodes.watched);
  rig_destroy(nodes.proxied);
  return 0;
}

static void expect(struct rig *rig, const char *target, const char *headers, int status)
{
  int got = rig_upgrade(rig, target, headers);
  if (got != status) {
    fail_msg("%s: %d, not %d: %s", target, got, status, rig->body);
  }
}

static void expect_why(struct rig *rig, const char *target, int status, const char *why)
{
  expect(rig, target, "", status);
  assert_non_null(strstr(rig->head, "Content-Type: application/json"));
  if (strstr(rig->body, why) == NULL) {
    fail_msg("%s: %s", target, rig->body);
  }
}

static void test_says_what_it_sends(void **state)
{
  struct rig *rig = nodes.open;
  expect(rig, ADA, "", 101);
  assert_string_equal(rig->track.slug, "demo");
  assert_string_equal(rig->track.participant, "Ada");
  assert_int_equal(rig->track.rate_hz, 48000);
  assert_int_equal(rig->track.n_channels, 2);
  assert_true(vc_address_is_loopback(&rig->track.address));
  assert_int_equal(rig->track.is_exempt, 1);
  assert_string_equal(rig->asked, "demo");
  assert_string_equal(rig->asked_participant, "Ada");
  expect(rig, "/ingest/livekit/demo?participant=J%c3%bcrgen%20B&rate=16000&channels=1", "", 101);
  assert_string_equal(rig->track.participant, "J\xc3\xbcrgen B");
  assert_int_equal(rig->track.rate_hz, 16000);
  assert_int_equal(rig->track.n_channels, 1);
  expect(rig, ADA "&rate=8000&channels=8", "", 101);
  assert_int_equal(rig->track.rate_hz, 8000);
  assert_int_equal(rig->track.n_channels, 8);
  expect(rig, ADA "&rate=96000", "", 101);
  assert_int_equal(rig->track.rate_hz, 96000);
}

static void test_one_is_told_from_another(void **state)
{
  struct rig *rig = nodes.open;
  expect(rig, ADA, "User-Agent: a\r\n", 101);
  uint64_t first = rig->track.identity;
  expect(rig, ADA, "User-Agent: a\r\n", 101);
  assert_true(rig->track.identity == first);
  expect(rig, ADA, "User-Agent: b\r\n", 101);
  assert_true(rig->track.identity != first);
  expect(rig, ADA "&token=x", "User-Agent: a\r\n", 101);
  assert_true(rig->track.identity != first);
  rig = nodes.proxied;
  expect(rig, ADA, "X-Forwarded-For: 192.0.2.1\r\n", 101);
  first = rig->track.identity;
  expect(rig, ADA, "X-Forwarded-For: 192.0.2.2\r\n", 101);
  assert_true(rig->track.identity != first);
}

static void test_what_is_malformed(void **state)
{
  static const struct {
    const char *target, *why;
  } rows[] = {
      {"/ingest/livekit/demo", "participant="},
      {"/ingest/livekit/demo?participant=", "participant="},
      {"/ingest/livekit/demo?participant=a%0ab", "participant="},
      {"/ingest/livekit/demo?participant=a%00b", "participant="},
      {"/ingest/livekit/demo?participant=%ff", "participant="},
      {"/ingest/livekit/demo?participant=%20a", "participant="},
      {"/ingest/livekit/demo?participant=a%", "participant="},
      {"/ingest/livekit/demo?participant="
       "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
       "participant="},
      {ADA "&rate=7999", "rate="},
      {ADA "&rate=96001", "rate="},
      {ADA "&rate=", "rate="},
      {ADA "&rate=48000x", "rate="},
      {ADA "&rate=-48000", "rate="},
      {ADA "&rate=+48000", "rate="},
      {ADA "&rate=4294968296000", "rate="},
      {ADA "&channels=0", "channels="},
      {ADA "&channels=9", "channels="},
      {ADA "&channels=1.5", "channels="},
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    expect_why(nodes.open, rows[i].target, 400, rows[i].why);
  }
}

static void test_other_paths(void **state)
{
  static const char *const paths[] = {
      "/ingest/livekit/?participant=Ada", "/ingest/livekit/-x?participant=Ada",
      "/ingest/livekit/a/b?participant=Ada", "/ingest/livekit/a%2fb?participant=Ada"};
  for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
    expect_why(nodes.open, paths[i], 404, "streams are taken at");
  }
  expect_why(nodes.open, "/ingest/livekit?participant=Ada", 404, "WebSockets are served");
  assert_int_equal(rig_get(nodes.open, ADMIN_DOOR, ADA), 404);
}

// A page is told there why its handshake was refused.
static void test_the_same_without_a_handshake(void **state)
{
  assert_int_equal(rig_get(nodes.open, HTTP_DOOR, ADA), 426);
  assert_int_equal(rig_get(nodes.open, HTTP_DOOR, "/ingest/livekit/demo"), 400);
  assert_int_equal(rig_get(nodes.closed, HTTP_DOOR, ADA), 401);
  may_publish(nodes.open, 503, "Too many publishers.");
  assert_int_equal(rig_get(nodes.open, HTTP_DOOR, ADA), 503);
  assert_non_null(strstr(nodes.open->body, "Too many publishers."));
  may_publish(nodes.open, 200, NULL);
}

static void test_a_token(void **state)
{
  struct rig *rig = nodes.closed;
  char target[9000];
  static const struct {
    const char *secret, *session;
    long seconds;
    int status;
    const char *why;
  } rows[] = {
      {SECRET, "demo", 60, 101, ""},
      {SECRET, "*", 60, 101, ""},
      {SECRET, "other", 60, 403, "another session"},
      {SECRET, "demo", -60, 401, "expired"},
      {"another-secret", "demo", 60, 401, "not valid"},
  };
  expect_why(rig, ADA, 401, "a token is needed");
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    snprintf(target, sizeof target, ADA "&token=%s",
             rig_token(rows[i].secret, "HS256", rig_grants(rows[i].session, rows[i].seconds)));
    expect(rig, target, "", rows[i].status);
    assert_non_null(strstr(rig->body, rows[i].why));
  }
}

// One that was good when the publishing began may go on with it.
static void test_a_token_that_expires_meanwhile(void **state)
{
  struct rig *rig = nodes.closed;
  char target[9000];
  snprintf(target, sizeof target, ADA "&token=%s",
           rig_token(SECRET, "HS256", rig_grants("demo", -60)));
  int64_t now_ms = vc_clock_unix_ms(&vc_clock_system);
  rig_reply(rig, VC_QUERY_MAY_PUBLISH,
            (struct rig_reply){.status = 200, .number = now_ms - 120000});
  expect(rig, target, "", 101);
  rig_reply(rig, VC_QUERY_MAY_PUBLISH, (struct rig_reply){.status = 200, .number = now_ms - 1000});
  expect(rig, target, "", 401);
  may_publish(rig, 200, NULL);
}

// And one whose publishing was given up, while others go on with its session: the ledger knows when
// that began.
static void test_a_token_that_expires_while_others_go_on(void **state)
{
  struct rig *rig = nodes.closed;
  char target[9000], began[32];
  int64_t began_ms = vc_clock_unix_ms(&vc_clock_system) - 120000;
  snprintf(began, sizeof began, "[%" PRId64 "]", began_ms);
  snprintf(target, sizeof target, ADA "&token=%s",
           rig_token(SECRET, "HS256", rig_grants("demo", -60)));
  rig_reply(rig, VC_QUERY_MAY_PUBLISH, (struct rig_reply){.status = 200, .number = -1});
  expect(rig, target, "", 401);
  rig_reply(rig, VC_QUERY_BEGAN, (struct rig_reply){.status = 200, .text = began});
  expect(rig, target, "", 101);
  assert_int_equal(rig->track.session_began_ms, began_ms); // so that it may come back once more
  snprintf(target, sizeof target, ADA "&token=%s",
           rig_token(SECRET, "HS256", rig_grants("demo", -180)));
  expect(rig, target, "", 401);
  may_publish(rig, 200, NULL);
  expect(rig, target, "", 401); // nobody goes on: it is not asked
  assert_int_equal(rig->n_asked[VC_QUERY_BEGAN], 2);
  rig_reply(rig, VC_QUERY_BEGAN, (struct rig_reply){.status = 404});
}

// Who may come back is told to come later, and not that his token is of no use any more.
static void test_a_full_node_and_a_token_that_expired(void **state)
{
  struct rig *rig = nodes.closed;
  char target[9000];
  int64_t now_ms = vc_clock_unix_ms(&vc_clock_system);
  snprintf(target, sizeof target, ADA "&token=%s",
           rig_token(SECRET, "HS256", rig_grants("demo", -60)));
  struct rig_reply full = {.status = 429, .text = "Too many publishers."};
  full.number = now_ms - 120000;
  rig_reply(rig, VC_QUERY_MAY_PUBLISH, full);
  expect_why(rig, target, 429, "Too many publishers.");
  full.number = now_ms - 1000;
  rig_reply(rig, VC_QUERY_MAY_PUBLISH, full);
  expect_why(rig, target, 401, "expired");
  may_publish(rig, 503, NULL);
  expect_why(rig, target, 429, "too busy");
  snprintf(target, sizeof target, ADA "&token=%s",
           rig_token("another-secret", "HS256", rig_grants("demo", -60)));
  expect_why(rig, target, 401, "not valid");
  may_publish(rig, 200, NULL);
}

// It is the ledger that knows when a session began which others go on with.
static void test_a_busy_ledger_and_a_token_that_expired(void **state)
{
  struct rig *rig = nodes.closed;
  char target[9000];
  snprintf(target, sizeof target, ADA "&token=%s",
           rig_token(SECRET, "HS256", rig_grants("demo", -60)));
  rig_reply(rig, VC_QUERY_MAY_PUBLISH, (struct rig_reply){.status = 200, .number = -1});
  rig_reply(rig, VC_QUERY_BEGAN, (struct rig_reply){.status = 503});
  expect_why(rig, target, 429, "is not known");
  rig_reply(rig, VC_QUERY_BEGAN, (struct rig_reply){.status = 404});
  no_memory_for_queries(VC_QUERY_BEGAN);
  expect_why(rig, target, 429, "is not known");
  no_memory_for_queries(-1);
  expect_why(rig, target, 401, "expired");
  may_publish(rig, 200, NULL);
}

static void test_no_secret_is_this_machine_alone(void **state)
{
  expect(nodes.open, ADA, "X-Forwarded-For: 192.0.2.1\r\n", 403);
  expect(nodes.open, ADA, "Host: node.example\r\n", 403);
  expect(nodes.watched, ADA, "X-Forwarded-For: 192.0.2.1\r\n", 403); // whoever may watch
  expect(nodes.watched, ADA, "", 101);
  expect(nodes.proxied, ADA, "X-Forwarded-For: 192.0.2.1\r\n", 101);
}

static void test_other_origins(void **state)
{
  expect(nodes.open, ADA, "Origin: https://friend.example\r\n", 101);
  expect(nodes.open, ADA, "Origin: https://enemy.example\r\n", 403);
}

static void test_a_full_node(void **state)
{
  struct rig *rig = nodes.open;
  may_publish(rig, 503, "Too many publishers.");
  expect_why(rig, ADA, 503, "Too many publishers.");
  assert_non_null(strstr(rig->head, "Retry-After:"));
  may_publish(rig, 429, "Too many publishers."); // and its session is on here
  expect_why(rig, ADA, 429, "Too many publishers.");
  assert_non_null(strstr(rig->head, "Retry-After:"));
  may_publish(rig, 503, NULL);
  expect_why(rig, ADA, 429, "too busy");
  may_publish(nodes.closed, 503, "Too many publishers."); // is not told to whoever asks
  expect_why(nodes.closed, ADA, 401, "a token is needed");
  may_publish(nodes.closed, 200, NULL);
  may_publish(rig, 200, NULL);
}

static void test_connections_of_one_address(void **state)
{
  struct vc_address far;
  struct rig *rig = nodes.proxied;
  assert_int_equal(vc_address_parse("192.0.2.1", &far), 0);
  assert_int_equal(vc_limits_enter(rig->publisher_limits, &far, 0), 0); // it may have one
  expect(rig, ADA, "X-Forwarded-For: 192.0.2.1\r\n", 429);
  assert_non_null(strstr(rig->body, "from this address"));
  expect(rig, ADA, "X-Forwarded-For: 192.0.2.2\r\n", 101);
  assert_int_equal(rig->track.is_exempt, 0);
  assert_false(vc_address_equal(&rig->track.address, &far));
  vc_limits_leave(rig->publisher_limits, &far, 0);
  expect(rig, ADA, "X-Forwarded-For: 192.0.2.1\r\n", 101);
  assert_true(vc_address_equal(&rig->track.address, &far));
}

// Its connection cannot be taken over then. Returns: the status, with the answer in the rig.
static int upgrade_without_descriptor(struct rig *rig, const char *target)
{
  struct rlimit limit, low;
  getrlimit(RLIMIT_NOFILE, &limit);
  low = limit;
  low.rlim_cur = limit.rlim_cur / 4 < 1024 ? limit.rlim_cur / 4 : 1024;
  setrlimit(RLIMIT_NOFILE, &low);
  int status = rig_upgrade(rig, target, "");
  setrlimit(RLIMIT_NOFILE, &limit);
  return status;
}

// A balancer takes 503 to another node: not where others of the session are here.
static void test_no_descriptor(void **state)
{
  struct rig *rig = nodes.open;
  for (int64_t began_ms = -1; began_ms <= 1; began_ms++) {
    rig_reply(rig, VC_QUERY_MAY_PUBLISH, (struct rig_reply){.status = 200, .number = began_ms});
    assert_int_equal(upgrade_without_descriptor(rig, ADA), began_ms == 0 ? 503 : 429);
    assert_non_null(strstr(rig->body, "no descriptor"));
    assert_non_null(strstr(rig->head, "Retry-After:"));
    expect(rig, ADA, "", 101);
  }
  may_publish(rig, 200, NULL);
  assert_int_equal(upgrade_without_descriptor(rig, "/live/demo"), 503);
}

// Nor is it known then whether others are here.
static void test_no_thread(void **state)
{
  has_no_thread = 1;
  int status = rig_upgrade(nodes.open, ADA, "");
  has_no_thread = 0;
  assert_int_equal(status, 429);
  assert_non_null(strstr(nodes.open->body, "no thread"));
}

static void test_no_memory_for_the_token(void **state)
{
  char target[9000];
  struct rig *rig = nodes.closed;
  snprintf(target, sizeof target, ADA "&token=%s",
           rig_token(SECRET, "HS256", rig_grants("demo", 60)));
  for (int64_t began_ms = -1; began_ms <= 1; began_ms++) {
    rig_reply(rig, VC_QUERY_MAY_PUBLISH, (struct rig_reply){.status = 200, .number = began_ms});
    no_memory_for_token(1);
    int status = rig_upgrade(rig, target, "");
    assert_int_equal(status, began_ms == 0 ? 503 : 429);
    assert_non_null(strstr(rig->body, "no memory"));
    expect(rig, target, "", 101);
  }
}

// Last: it does not come back from it.
static void test_a_draining_node(void **state)
{
  vc_control_drain(nodes.open->control, 0);
  expect(nodes.open, ADA, "", 101);
  vc_control_drain(nodes.open->control, 1);
  expect_why(nodes.open, ADA, 503, "draining");
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_says_what_it_sends),
      cmocka_unit_test(test_one_is_told_from_another),
      cmocka_unit_test(test_what_is_malformed),
      cmocka_unit_test(test_other_paths),
      cmocka_unit_test(test_the_same_without_a_handshake),
      cmocka_unit_test(test_a_token),
      cmocka_unit_test(test_a_token_that_expires_meanwhile),
      cmocka_unit_test(test_a_token_that_expires_while_others_go_on),
      cmocka_unit_test(test_a_full_node_and_a_token_that_expired),
      cmocka_unit_test(test_a_busy_ledger_and_a_token_that_expired),
      cmocka_unit_test(test_no_secret_is_this_machine_alone),
      cmocka_unit_test(test_other_origins),
      cmocka_unit_test(test_a_full_node),
      cmocka_unit_test(test_connections_of_one_address),
      cmocka_unit_test(test_no_descriptor),
      cmocka_unit_test(test_no_thread),
      cmocka_unit_test(test_no_memory_for_the_token),
      cmocka_unit_test(test_a_draining_node),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
