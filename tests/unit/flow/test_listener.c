// A listener of a stage that is turned by hand, in a process whose descriptors the test takes away.
#include <verbacast/flow/listener.h>

#include <verbacast/base/address.h>
#include <verbacast/base/log.h>

#include <arpa/inet.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "../ledger/hand_stage.h"

#define MANY 200 // turns in which nothing may happen
#define PATIENCE 5000
#define CONNECTIONS_MAX 16

enum { RESTS };
static const struct vc_metric rows[] = {
    [RESTS] = {"test.rests", VC_METRIC_COUNTER, "rests", "Rests."}, VC_METRIC_ROWS_END};

static struct {
  uint64_t now_ns;
  struct vc_clock clock;
  struct vc_metrics *metrics;
  struct vc_stage *stage;
  struct vc_listener listener;
  struct vc_address bound;
  struct rlimit limit; // as it was
  int log_ends[2];
  int clients[CONNECTIONS_MAX], taken[CONNECTIONS_MAX];
  size_t n_clients, n_taken;
} rig;

static uint64_t now_ns(void *context)
{
  return rig.now_ns;
}

static int64_t unix_us(void *context)
{
  return 0;
}

static void take(struct vc_worker *worker, int fd, const struct sockaddr *from)
{
  assert_true(from->sa_family == AF_INET && rig.n_taken < CONNECTIONS_MAX);
  rig.taken[rig.n_taken++] = fd;
}

static int enter(struct vc_worker *worker, void *config, struct vc_error *error)
{
  return vc_listener_start(worker, &rig.listener);
}

static void tick(struct vc_worker *worker)
{
  vc_listener_tick(worker, &rig.listener);
}

static void leave(struct vc_worker *worker)
{
  vc_listener_stop(worker, &rig.listener);
}

static const struct vc_stage_ops ops = {
    .name = "test", .enter = enter, .tick = tick, .leave = leave};

static int begin(void **state)
{
  struct vc_error error;
  memset(&rig, 0, sizeof rig);
  rig.now_ns = VC_NS_PER_S;
  rig.clock = (struct vc_clock){now_ns, unix_us, NULL};
  rig.metrics = vc_metrics_create(&rig.clock);
  const struct vc_stage_settings settings = {.ops = &ops,
                                             .n_workers = 1,
                                             .tick_ms = 1000,
                                             .clock = &rig.clock,
                                             .metrics = rig.metrics,
                                             .metric_rows = rows};
  rig.listener.fd = vc_listen("127.0.0.1:0", 16, &rig.bound, &error);
  rig.listener.event = "test.accept";
  rig.listener.rests = RESTS;
  rig.listener.take = take;
  if (getrlimit(RLIMIT_NOFILE, &rig.limit) != 0 || pipe(rig.log_ends) != 0 ||
      vc_log_start(&(struct vc_log_settings){rig.log_ends[1], 0, VC_LOG_WARN}, &error) != 0 ||
      vc_stage_create(&rig.stage, &settings, &error) != 0 ||
      vc_stage_start(rig.stage, &error) != 0) {
    return -1;
  }
  hand_turn(rig.stage);
  return 0;
}

static int end(void **state)
{
  vc_log_stop();
  vc_stage_stop(rig.stage, 0);
  vc_stage_destroy(&rig.stage);
  vc_metrics_destroy(&rig.metrics);
  for (size_t i = 0; i < rig.n_clients; i++) {
    close(rig.clients[i]);
  }
  for (size_t i = 0; i < rig.n_taken; i++) {
    close(rig.taken[i]);
  }
  close(rig.listener.fd);
  close(rig.log_ends[0]);
  close(rig.log_ends[1]);
  return 0;
}

static void connect_one(void)
{
  struct sockaddr_in to = {.sin_family = AF_INET,
                           .sin_port = htons(rig.bound.port),
                           .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  assert_true(fd >= 0);
  assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
  rig.clients[rig.n_clients++] = fd;
}

static void take_descriptors_away(void)
{
  int next = dup(rig.listener.fd);
  assert_true(next >= 0);
  close(next);
  struct rlimit limit = {.rlim_cur = (rlim_t)next, .rlim_max = rig.limit.rlim_max};
  assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

static void give_descriptors_back(void)
{
  assert_int_equal(setrlimit(RLIMIT_NOFILE, &rig.limit), 0);
}

static uint64_t n_rests(void)
{
  uint64_t value = 0;
  assert_int_equal(vc_metrics_counter(rig.metrics, "test.rests", &value), 0);
  return value;
}

static void turn_many(void)
{
  for (int i = 0; i < MANY; i++) {
    hand_turn(rig.stage);
  }
}

static void pass(uint64_t ms)
{
  rig.now_ns += ms * VC_NS_PER_MS;
  turn_many();
}

static void await_taken(size_t n)
{
  for (int i = 0; i < PATIENCE && rig.n_taken < n; i++) {
    hand_turn(rig.stage);
    poll(NULL, 0, rig.n_taken < n);
  }
  assert_int_equal(rig.n_taken, n);
}

static void await_rests(uint64_t n)
{
  for (int i = 0; i < PATIENCE && n_rests() < n; i++) {
    hand_turn(rig.stage);
    poll(NULL, 0, n_rests() < n);
  }
  assert_int_equal(n_rests(), n);
}

// Ends the log. Returns: how often the shortage was said.
static size_t count_lines(void)
{
  char text[8192];
  size_t n = 0;
  vc_log_stop();
  close(rig.log_ends[1]);
  rig.log_ends[1] = -1;
  FILE *log = fdopen(rig.log_ends[0], "r");
  assert_non_null(log);
  while (fgets(text, sizeof text, log) != NULL) {
    n += strstr(text, "event=test.accept") != NULL && strstr(text, "Too many open files") != NULL;
  }
  fclose(log);
  rig.log_ends[0] = -1;
  return n;
}

static void test_takes_connections(void **state)
{
  for (int i = 0; i < 5; i++) {
    connect_one();
  }
  await_taken(5);
  assert_int_equal(n_rests(), 0);
  assert_int_equal(count_lines(), 0);
}

static void test_rests_without_descriptors(void **state)
{
  connect_one();
  take_descriptors_away();
  await_rests(1);
  uint64_t n_events = hand_n_events;
  turn_many();
  pass(VC_LISTENER_REST_MS - 1);
  assert_int_equal(hand_n_events, n_events);
  pass(1); // wakes by itself: the next tick is far
  assert_int_equal(n_rests(), 2);
  assert_int_equal(hand_n_events, n_events + 1);
  pass(VC_LISTENER_REST_MS);
  assert_int_equal(n_rests(), 3);
  assert_int_equal(rig.n_taken, 0);
  give_descriptors_back();
  assert_int_equal(count_lines(), 1);
}

static void test_goes_on_with_descriptors(void **state)
{
  for (int i = 0; i < 3; i++) {
    connect_one();
  }
  take_descriptors_away();
  await_rests(1);
  give_descriptors_back();
  turn_many();
  assert_int_equal(rig.n_taken, 0);
  pass(VC_LISTENER_REST_MS);
  await_taken(3);
  turn_many(); // nobody waits any more: the shortage is over
  connect_one();
  take_descriptors_away();
  await_rests(2);
  give_descriptors_back();
  pass(VC_LISTENER_REST_MS);
  await_taken(4);
  assert_int_equal(count_lines(), 2);
}

static void test_stops_while_it_rests(void **state)
{
  connect_one();
  take_descriptors_away();
  await_rests(1);
  give_descriptors_back();
  assert_int_equal(vc_stage_stop(rig.stage, 0), 0);
  pass(VC_LISTENER_REST_MS);
  assert_int_equal(rig.n_taken, 0);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_takes_connections, begin, end),
      cmocka_unit_test_setup_teardown(test_rests_without_descriptors, begin, end),
      cmocka_unit_test_setup_teardown(test_goes_on_with_descriptors, begin, end),
      cmocka_unit_test_setup_teardown(test_stops_while_it_rests, begin, end),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
