// Connections of the test's own, as Civetweb would have them.
#include "takeover.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#define N_THREADS 16
#define N_TAKEN 100 // by each
#define LIMIT 16384 // so many that only where the low ones are in use the high ones are looked at

struct connection {
  int client, accepted;
  struct vc_address peer, own;
};

struct door {
  int listener;
  struct vc_address bound;
};

static struct door door;

static int begin(void **state)
{
  struct vc_error error;
  door.listener = vc_listen("*:0", 16, &door.bound, &error);
  return door.listener < 0 || takeover_prepare(&error) != 0;
}

static int end(void **state)
{
  return close(door.listener);
}

// `port`: of the client, 0: any. `to`: which of our addresses it connects to.
static struct connection connect_through(const struct door *through, uint16_t port, const char *to)
{
  struct connection connection;
  struct sockaddr_storage peer;
  socklen_t size = sizeof peer;
  int one = 1;
  struct timeval patience = {.tv_sec = 20};
  struct sockaddr_in from = {
      .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  struct sockaddr_in server = {.sin_family = AF_INET, .sin_port = htons(through->bound.port)};
  assert_int_equal(inet_pton(AF_INET, to, &server.sin_addr), 1);
  connection.client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  setsockopt(connection.client, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  setsockopt(connection.client, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  assert_int_equal(bind(connection.client, (struct sockaddr *)&from, sizeof from), 0);
  assert_int_equal(connect(connection.client, (struct sockaddr *)&server, sizeof server), 0);
  connection.accepted = accept(through->listener, (struct sockaddr *)&peer, &size);
  assert_true(connection.accepted >= 0);
  vc_address_from_socket((struct sockaddr *)&peer, &connection.peer);
  vc_address_from_socket((struct sockaddr *)&server, &connection.own);
  return connection;
}

static struct connection connect_from(uint16_t port, const char *to)
{
  return connect_through(&door, port, to);
}

static int passes(int from, int to)
{
  char byte = 0;
  return send(from, "x", 1, MSG_NOSIGNAL) == 1 && recv(to, &byte, 1, 0) == 1 && byte == 'x';
}

static void check_passes(int from, int to)
{
  assert_true(passes(from, to));
}

static void connection_close(struct connection *connection)
{
  close(connection->client);
  close(connection->accepted);
}

// As Civetweb's thread does it. Returns: ours, or what takeover_begin says.
static int take(const struct connection *connection)
{
  struct takeover takeover;
  int status = takeover_begin(&takeover, &connection->peer, &connection->own, TAKEOVER_EVERYWHERE);
  return status == 0 ? takeover_finish(&takeover) : status;
}

// Above all that Civetweb uses.
static int base_of(long limit)
{
  return limit / 4 < 1024 ? (int)(limit / 4) : 1024;
}

static void check_taken(const struct connection *connection)
{
  char byte;
  int ours = take(connection);
  assert_true(ours >= base_of(sysconf(_SC_OPEN_MAX)));
  assert_int_equal(fcntl(ours, F_GETFD), FD_CLOEXEC);
  assert_int_equal(recv(connection->accepted, &byte, 1, 0), 0);
  assert_int_equal(shutdown(connection->accepted, SHUT_RDWR), 0);
  check_passes(ours, connection->client);
  check_passes(connection->client, ours);
  close(ours);
}

static void test_takes_the_connection(void **state)
{
  struct connection other = connect_from(0, "127.0.0.1");
  struct connection connection = connect_from(0, "127.0.0.1");
  check_taken(&connection);
  check_passes(other.accepted, other.client);
  connection_close(&connection);
  connection_close(&other);
}

static void test_nothing_changes_before_the_end(void **state)
{
  struct takeover takeover;
  struct connection connection = connect_from(0, "127.0.0.1");
  assert_int_equal(takeover_begin(&takeover, &connection.peer, &connection.own, TAKEOVER_NEARBY),
                   0);
  assert_int_equal(takeover.theirs, connection.accepted);
  check_passes(connection.accepted, connection.client);
  takeover_cancel(&takeover);
  check_passes(connection.accepted, connection.client);
  check_passes(connection.client, connection.accepted);
  connection_close(&connection);
}

// One port of the client, two addresses of ours.
static void test_our_address_counts(void **state)
{
  struct connection first = connect_from(0, "127.0.0.1");
  struct connection second = connect_from(first.peer.port, "127.0.0.2");
  assert_int_equal(second.peer.port, first.peer.port);
  check_taken(&second);
  check_passes(first.accepted, first.client);
  check_taken(&first);
  connection_close(&first);
  connection_close(&second);
}

// Who resets its connection and comes again from the same port is found under the dead one's ends;
// a write to the dead one tells.
static void test_one_that_came_again(void **state)
{
  struct takeover takeover;
  struct linger reset = {.l_onoff = 1};
  struct connection dead = connect_from(0, "127.0.0.1");
  setsockopt(dead.client, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
  close(dead.client);
  struct connection again = connect_from(dead.peer.port, "127.0.0.1");
  assert_int_equal(takeover_begin(&takeover, &dead.peer, &dead.own, TAKEOVER_NEARBY), 0);
  assert_int_equal(takeover.theirs, again.accepted);
  assert_int_equal(send(dead.accepted, "x", 1, MSG_NOSIGNAL), -1);
  takeover_cancel(&takeover);
  check_passes(again.accepted, again.client);
  check_taken(&again);
  close(dead.accepted);
  connection_close(&again);
}

static void test_one_that_has_gone(void **state)
{
  struct connection connection = connect_from(0, "127.0.0.1");
  connection_close(&connection);
  assert_int_equal(take(&connection), TAKEOVER_NOT_FOUND);
}

// Among viewers' descriptors, of which there are too many for a request that is only refused.
static void test_one_with_a_high_number(void **state)
{
  struct takeover takeover;
  struct connection connection = connect_from(0, "127.0.0.1");
  int high = fcntl(connection.accepted, F_DUPFD_CLOEXEC, base_of(sysconf(_SC_OPEN_MAX)));
  assert_true(high >= 0);
  close(connection.accepted);
  connection.accepted = high;
  assert_int_equal(takeover_begin(&takeover, &connection.peer, &connection.own, TAKEOVER_NEARBY),
                   TAKEOVER_NOT_FOUND);
  check_taken(&connection);
  connection_close(&connection);
}

// A crowd of descriptors before it, up to those that are a viewer's; and its neighbour, from the
// same port towards another address of ours, before the crowd.
static void test_behind_a_crowd(void **state)
{
  int crowd[3000] = {0};
  size_t n = 0;
  struct connection neighbour = connect_from(0, "127.0.0.2");
  while (n < sizeof crowd / sizeof *crowd && (crowd[n] = dup(door.listener)) >= 0) {
    n++;
  }
  assert_true(n > 64);
  for (size_t i = 0; i < 8; i++) {
    close(crowd[--n]); // the connection's two, ours, and some to spare
  }
  struct connection connection = connect_from(neighbour.peer.port, "127.0.0.1");
  int ours = take(&connection);
  assert_true(ours >= 0);
  check_passes(ours, connection.client);
  check_passes(neighbour.accepted, neighbour.client);
  close(ours);
  connection_close(&connection);
  connection_close(&neighbour);
  while (n > 0) {
    close(crowd[--n]);
  }
}

static void test_no_descriptor(void **state)
{
  int crowd[LIMIT];
  size_t n = 0;
  struct connection connection = connect_from(0, "127.0.0.1");
  while (n < sizeof crowd / sizeof *crowd && (crowd[n] = dup(door.listener)) >= 0) {
    n++;
  }
  assert_true(n > 64 && n < sizeof crowd / sizeof *crowd);
  assert_int_equal(take(&connection), TAKEOVER_NO_DESCRIPTOR);
  check_passes(connection.accepted, connection.client);
  connection_close(&connection);
  while (n > 0) {
    close(crowd[--n]);
  }
}

static void *take_many(void *context)
{
  const struct door *own = context;
  for (int i = 0; i < N_TAKEN; i++) {
    struct connection connection = connect_through(own, 0, "127.0.0.1");
    int ours = take(&connection);
    int is_taken = ours >= 0 && passes(ours, connection.client);
    close(ours);
    connection_close(&connection);
    if (!is_taken) {
      return (void *)"one was not taken";
    }
  }
  return NULL;
}

// One look at the numbers serves many, but nobody whose connection it did not see.
static void test_many_at_once(void **state)
{
  struct door doors[N_THREADS];
  pthread_t threads[N_THREADS];
  struct vc_error error;
  for (size_t i = 0; i < N_THREADS; i++) {
    doors[i].listener = vc_listen("*:0", 16, &doors[i].bound, &error);
    assert_true(doors[i].listener >= 0);
  }
  for (size_t i = 0; i < N_THREADS; i++) {
    assert_int_equal(pthread_create(&threads[i], NULL, take_many, &doors[i]), 0);
  }
  for (size_t i = 0; i < N_THREADS; i++) {
    void *why;
    assert_int_equal(pthread_join(threads[i], &why), 0);
    assert_null(why);
    close(doors[i].listener);
  }
}

static void test_a_closed_door_lets_nobody_in(void **state)
{
  struct sockaddr_in server = {.sin_family = AF_INET,
                               .sin_port = htons(door.bound.port),
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  struct door other = {0};
  other.listener = vc_listen("*:0", 16, &other.bound, NULL);
  takeover_close_door(&door.bound);
  int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  assert_int_not_equal(connect(client, (struct sockaddr *)&server, sizeof server), 0);
  struct connection connection = connect_through(&other, 0, "127.0.0.1");
  close(connection.accepted);
  close(connection.client);
  close(other.listener);
  close(client);
}

static void test_every_trouble_has_a_text(void **state)
{
  for (int status = TAKEOVER_NO_MEMORY; status <= TAKEOVER_NOT_FOUND; status++) {
    assert_in_range(strlen(takeover_trouble(status)), 1, 123);
  }
}

int main(void)
{
  struct rlimit limit;
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max < LIMIT ? limit.rlim_max : LIMIT;
  setrlimit(RLIMIT_NOFILE, &limit);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_takes_the_connection, begin, end),
      cmocka_unit_test_setup_teardown(test_nothing_changes_before_the_end, begin, end),
      cmocka_unit_test_setup_teardown(test_our_address_counts, begin, end),
      cmocka_unit_test_setup_teardown(test_one_that_came_again, begin, end),
      cmocka_unit_test_setup_teardown(test_one_that_has_gone, begin, end),
      cmocka_unit_test_setup_teardown(test_one_with_a_high_number, begin, end),
      cmocka_unit_test_setup_teardown(test_behind_a_crowd, begin, end),
      cmocka_unit_test_setup_teardown(test_no_descriptor, begin, end),
      cmocka_unit_test_setup_teardown(test_many_at_once, begin, end),
      cmocka_unit_test_setup_teardown(test_a_closed_door_lets_nobody_in, begin, end),
      cmocka_unit_test(test_every_trouble_has_a_text),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
