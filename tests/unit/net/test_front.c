// A front of the test's own, whose handlers wait where the test wants them to.
#include <verbacast/net/front.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <openssl/crypto.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "no_memory.h"

#define PATIENCE_S 20
#define N_WORKERS 4
#define HANDSHAKE                                                                                  \
  "Host: localhost\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"                   \
  "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"

struct rig {
  struct vc_front *front;
  struct vc_address bound;
  struct vc_networks proxies;
  pthread_mutex_t mutex;
  pthread_cond_t changed;
  /* guarded by the mutex */
  int held;         // "/held/first" waits in its handler with 1, "/held/second" with 2
  int n_waiting;    // do
  int n_answered;   // requests that are no upgrade
  int n_adopted;    // descriptors
  char adopted[64]; // the last one's path
  int fd;           // and descriptor
  /* the test's */
  int n_descriptors; // before the front was there
};

static void wait_until(struct rig *rig, const int *count, int wanted)
{
  struct timespec until;
  clock_gettime(CLOCK_REALTIME, &until);
  until.tv_sec += PATIENCE_S;
  pthread_mutex_lock(&rig->mutex);
  while (*count != wanted) {
    assert_int_equal(pthread_cond_timedwait(&rig->changed, &rig->mutex, &until), 0);
  }
  pthread_mutex_unlock(&rig->mutex);
}

static void hold(struct rig *rig, int held)
{
  pthread_mutex_lock(&rig->mutex);
  rig->held = held;
  pthread_cond_broadcast(&rig->changed);
  pthread_mutex_unlock(&rig->mutex);
}

static void wait_held(struct rig *rig, const struct vc_request *request)
{
  pthread_mutex_lock(&rig->mutex);
  int hold = strcmp(request->path, "/held/first") == 0 ? 1 : 2;
  if (strncmp(request->path, "/held", 5) == 0) {
    rig->n_waiting++;
    pthread_cond_broadcast(&rig->changed);
    while ((rig->held & hold) != 0) {
      pthread_cond_wait(&rig->changed, &rig->mutex);
    }
    rig->n_waiting--;
    pthread_cond_broadcast(&rig->changed);
  }
  pthread_mutex_unlock(&rig->mutex);
}

static int open_socket(void *context, struct vc_request *request)
{
  wait_held(context, request);
  if (strcmp(request->path, "/refused") == 0) {
    vc_respond_error(request, 401, "nobody is let in here");
    return 1;
  }
  if (strcmp(request->path, "/held/publisher") == 0) {
    request->lost_status = 429;
  }
  request->begins_ms = 5;
  request->expires_ms = 7;
  return 0;
}

static void adopt_socket(void *context, const struct vc_request *request, int fd)
{
  struct rig *rig = context;
  pthread_mutex_lock(&rig->mutex);
  snprintf(rig->adopted, sizeof rig->adopted, "%s %d-%d", request->path, (int)request->begins_ms,
           (int)request->expires_ms);
  rig->fd = fd;
  rig->n_adopted++;
  pthread_cond_broadcast(&rig->changed);
  pthread_mutex_unlock(&rig->mutex);
}

static void handle(void *context, struct vc_request *request)
{
  wait_held(context, request);
  vc_respond(request, 200, "text/plain", "", "here", 4);
  struct rig *rig = context;
  pthread_mutex_lock(&rig->mutex);
  rig->n_answered++;
  pthread_cond_broadcast(&rig->changed);
  pthread_mutex_unlock(&rig->mutex);
}

static int count_descriptors(void)
{
  int n = 0;
  for (int fd = 0; fd < sysconf(_SC_OPEN_MAX); fd++) {
    n += fcntl(fd, F_GETFD) >= 0;
  }
  return n;
}

static int begin(void **state)
{
  struct rig *rig = calloc(1, sizeof *rig);
  struct vc_error error;
  rig->n_descriptors = count_descriptors();
  pthread_mutex_init(&rig->mutex, NULL);
  pthread_cond_init(&rig->changed, NULL);
  struct vc_front_settings settings = {
      .listen = "*:0",
      .n_workers = N_WORKERS,
      .takes_sockets = 1,
      .proxies = &rig->proxies,
      .handle = handle,
      .open = open_socket,
      .adopt = adopt_socket,
      .context = rig,
  };
  *state = rig;
  return vc_front_start(&rig->front, &rig->bound, &settings, &error);
}

static int end(void **state)
{
  struct rig *rig = *state;
  vc_front_stop(&rig->front);
  assert_int_equal(count_descriptors(), rig->n_descriptors);
  pthread_cond_destroy(&rig->changed);
  pthread_mutex_destroy(&rig->mutex);
  free(rig);
  return 0;
}

// `port`: of the client, 0: any.
static int connect_from(struct rig *rig, uint16_t port, const char *to)
{
  int one = 1;
  struct timeval patience = {.tv_sec = PATIENCE_S};
  struct sockaddr_in from = {
      .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  struct sockaddr_in server = {.sin_family = AF_INET, .sin_port = htons(rig->bound.port)};
  assert_int_equal(inet_pton(AF_INET, to, &server.sin_addr), 1);
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  assert_int_equal(bind(fd, (struct sockaddr *)&from, sizeof from), 0);
  assert_int_equal(connect(fd, (struct sockaddr *)&server, sizeof server), 0);
  return fd;
}

static uint16_t port_of(int fd)
{
  struct sockaddr_in own = {0};
  socklen_t size = sizeof own;
  assert_int_equal(getsockname(fd, (struct sockaddr *)&own, &size), 0);
  return ntohs(own.sin_port);
}

// `line`: "GET /here HTTP/1.1"
static void say(int fd, const char *line, const char *headers)
{
  char text[8192];
  int n = snprintf(text, sizeof text, "%s\r\n%s\r\n", line, headers);
  assert_int_equal(send(fd, text, (size_t)n, MSG_NOSIGNAL), n);
}

static void ask(int fd, const char *path, const char *headers)
{
  char line[8192];
  snprintf(line, sizeof line, "GET %s HTTP/1.1", path);
  say(fd, line, headers);
}

// Up to the empty line, and no byte more.
static void read_head(int fd, char head[static 1024])
{
  size_t n = 0;
  while (n < 4 || memcmp(head + n - 4, "\r\n\r\n", 4) != 0) {
    assert_true(n < 1023);
    assert_int_equal(recv(fd, head + n, 1, 0), 1);
    n++;
  }
  head[n] = '\0';
}

static void check_passes(int from, int to)
{
  char byte = 0;
  assert_int_equal(send(from, "x", 1, MSG_NOSIGNAL), 1);
  struct timeval patience = {.tv_sec = PATIENCE_S};
  setsockopt(to, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  assert_int_equal(recv(to, &byte, 1, 0), 1);
  assert_int_equal(byte, 'x');
}

static int get_option(int fd, int level, int name)
{
  int value = 0;
  socklen_t size = sizeof value;
  assert_int_equal(getsockopt(fd, level, name, &value, &size), 0);
  return value;
}

static void test_a_handshake(void **state)
{
  struct rig *rig = *state;
  char head[1024];
  int client = connect_from(rig, 0, "127.0.0.1");
  ask(client, "/here?a=b", HANDSHAKE);
  read_head(client, head);
  assert_string_equal(head, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                            "Connection: Upgrade\r\n"
                            "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n");
  wait_until(rig, &rig->n_adopted, 1);
  assert_string_equal(rig->adopted, "/here 5-7");
  check_passes(rig->fd, client);
  assert_true((fcntl(rig->fd, F_GETFL) & O_NONBLOCK) != 0);
  assert_int_equal(get_option(rig->fd, IPPROTO_TCP, TCP_NODELAY), 1);
  assert_int_equal(get_option(rig->fd, SOL_SOCKET, SO_SNDBUF), 2 * 48 * 1024); // Linux doubles it
  close(rig->fd);
  close(client);
  assert_int_equal(vc_front_lost_sockets(rig->front), 0);
}

// Of which Civetweb tells our address only behind it.
static void test_a_long_path(void **state)
{
  struct rig *rig = *state;
  char path[1000] = "/", target[8000], head[1024];
  memset(path + 1, 'a', sizeof path - 2);
  snprintf(target, sizeof target, "%s?since=%06000d", path, 0);
  int client = connect_from(rig, 0, "127.0.0.1");
  ask(client, target, HANDSHAKE);
  read_head(client, head);
  assert_non_null(strstr(head, "HTTP/1.1 101 "));
  wait_until(rig, &rig->n_adopted, 1);
  close(rig->fd);
  close(client);
}

static void shake_hands(struct rig *rig, const char *path, const char *headers, char *head)
{
  int n_adopted = rig->n_adopted;
  int client = connect_from(rig, 0, "127.0.0.1");
  ask(client, path, headers);
  read_head(client, head);
  if (strstr(head, "HTTP/1.1 101 ") != NULL) {
    wait_until(rig, &rig->n_adopted, n_adopted + 1);
    close(rig->fd);
  }
  close(client);
}

// Browsers end a connection that offered protocols and got none, or got one that it did not offer:
// every thread has had one before, also of those who were refused.
static void test_a_protocol_is_taken(void **state)
{
  struct rig *rig = *state;
  char head[1024];
  for (int i = 0; i < 4 * N_WORKERS; i++) {
    shake_hands(rig, "/here", HANDSHAKE "Sec-WebSocket-Protocol: one,  other\r\n", head);
    assert_non_null(strstr(head, "\r\nSec-WebSocket-Protocol: other\r\n\r\n"));
    shake_hands(rig, "/refused", HANDSHAKE "Sec-WebSocket-Protocol: third\r\n", head);
    assert_non_null(strstr(head, "HTTP/1.1 401 "));
  }
  for (int i = 0; i < 4 * N_WORKERS; i++) {
    shake_hands(rig, "/here", HANDSHAKE, head);
    assert_non_null(strstr(head, "HTTP/1.1 101 "));
    assert_null(strstr(head, "Protocol:"));
  }
  shake_hands(rig, "/here", HANDSHAKE "Sec-WebSocket-Protocol: one, \r\n", head);
  assert_non_null(strstr(head, "HTTP/1.1 101 "));
  assert_null(strstr(head, "Protocol:"));
}

// What is not read of a request that is refused is read away, and its connection ended.
static void test_a_refused_one_with_a_body(void **state)
{
  struct rig *rig = *state;
  char head[1024], rest[1024];
  int client = connect_from(rig, 0, "127.0.0.1");
  ask(client, "/refused", HANDSHAKE "Content-Length: 1000000\r\n");
  read_head(client, head);
  assert_non_null(strstr(head, "HTTP/1.1 401 "));
  while (recv(client, rest, sizeof rest, 0) > 0) {
  }
  assert_int_equal(send(client, "x", 1, MSG_NOSIGNAL), 1);
  close(client);
}

static void check_line_refused(struct rig *rig, const char *line, const char *headers,
                               const char *status)
{
  char head[1024];
  int client = connect_from(rig, 0, "127.0.0.1");
  say(client, line, headers);
  read_head(client, head);
  assert_non_null(strstr(head, status));
  close(client);
}

static void check_refused(struct rig *rig, const char *headers, const char *status)
{
  check_line_refused(rig, "GET /here HTTP/1.1", headers, status);
}

static void test_what_is_no_handshake(void **state)
{
  struct rig *rig = *state;
  check_refused(rig, "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n",
                "HTTP/1.1 400 ");
  check_refused(rig,
                "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 12\r\n"
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
                "HTTP/1.1 426 ");
  check_refused(rig, "Upgrade: websocket\r\nConnection: close\r\n", "HTTP/1.1 200 ");
  assert_int_equal(vc_front_bad_requests(rig->front), 2);
  check_line_refused(rig, "POST /here HTTP/1.1", HANDSHAKE, "HTTP/1.1 400 ");
  check_line_refused(rig, "GET /here HTTP/1.0", HANDSHAKE, "HTTP/1.1 400 ");
  check_refused(rig,
                "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                "Sec-WebSocket-Key: dGhlIHNhbXBsZQ==\r\n",
                "HTTP/1.1 400 ");
  assert_int_equal(rig->n_adopted, 0);
}

static void check_has_no_body(struct rig *rig, const char *headers, const char *status)
{
  char head[1024];
  int client = connect_from(rig, 0, "127.0.0.1");
  say(client, "HEAD /here HTTP/1.1", headers);
  read_head(client, head);
  assert_non_null(strstr(head, status));
  assert_int_equal(recv(client, head, sizeof head, 0), 0);
  close(client);
}

static void test_an_answer_to_head_has_no_body(void **state)
{
  check_has_no_body(*state, "", "HTTP/1.1 200 ");
  check_has_no_body(*state,
                    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 12\r\n"
                    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
                    "HTTP/1.1 426 ");
}

// From one port towards two of our addresses, as two clients behind one NAT may come.
static void test_two_at_our_addresses(void **state)
{
  struct rig *rig = *state;
  char head[1024];
  int first = connect_from(rig, 0, "127.0.0.1");
  int second = connect_from(rig, port_of(first), "127.0.0.2");
  ask(second, "/second", HANDSHAKE);
  wait_until(rig, &rig->n_adopted, 1);
  assert_string_equal(rig->adopted, "/second 5-7");
  read_head(second, head);
  check_passes(rig->fd, second);
  close(rig->fd);
  ask(first, "/first", HANDSHAKE);
  wait_until(rig, &rig->n_adopted, 2);
  read_head(first, head);
  check_passes(rig->fd, first);
  close(rig->fd);
  close(first);
  close(second);
}

static void wait_lost(struct rig *rig, uint64_t wanted)
{
  for (int i = 0; i < PATIENCE_S * 1000 && vc_front_lost_sockets(rig->front) != wanted; i++) {
    poll(NULL, 0, 1);
  }
  assert_int_equal(vc_front_lost_sockets(rig->front), wanted);
}

static void reset_connection(int client)
{
  struct linger reset = {.l_onoff = 1};
  setsockopt(client, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
  close(client);
}

// A client resets its connection while a thread is busy with its request, "/held/first", and comes
// again from the same port with "/held/second", which is held too: both descriptors are there.
// Returns: the second.
static int come_again(struct rig *rig, const char *first_headers)
{
  hold(rig, 3);
  int client = connect_from(rig, 0, "127.0.0.1");
  uint16_t port = port_of(client);
  ask(client, "/held/first", first_headers);
  wait_until(rig, &rig->n_waiting, 1);
  reset_connection(client);
  client = connect_from(rig, port, "127.0.0.1");
  ask(client, "/held/second", HANDSHAKE);
  wait_until(rig, &rig->n_waiting, 2);
  return client;
}

static void check_second_is_let_in(struct rig *rig, int client)
{
  char head[1024];
  read_head(client, head);
  assert_non_null(strstr(head, "HTTP/1.1 101 "));
  wait_until(rig, &rig->n_adopted, 1);
  assert_string_equal(rig->adopted, "/held/second 5-7");
  check_passes(rig->fd, client);
  check_passes(client, rig->fd);
  close(rig->fd);
  close(client);
}

// What was let in for the first does not get the second.
static void test_one_that_came_again(void **state)
{
  struct rig *rig = *state;
  int client = come_again(rig, HANDSHAKE);
  hold(rig, 0);
  wait_lost(rig, 1);
  check_second_is_let_in(rig, client);
}

// Nor is the second ended in the place of one whose body nobody reads.
static void test_one_with_a_body_that_came_again(void **state)
{
  struct rig *rig = *state;
  int client = come_again(rig, "Content-Length: 1000000\r\n");
  hold(rig, 2);
  wait_until(rig, &rig->n_answered, 1);
  hold(rig, 0);
  check_second_is_let_in(rig, client);
}

static void check_is_lost(int client, const char *status, const char *why)
{
  char head[1024], body[1024] = "";
  read_head(client, head);
  assert_non_null(strstr(head, status));
  assert_non_null(strstr(head, "\r\nRetry-After: "));
  ssize_t n = recv(client, body, sizeof body - 1, MSG_WAITALL); // up to the end
  assert_true(n > 0);
  assert_non_null(strstr(body, why));
  close(client);
}

// No number is to be had for viewers any more. A balancer takes 503 elsewhere: `open` may say
// better.
static void test_no_descriptor(void **state)
{
  struct rig *rig = *state;
  char head[1024];
  struct rlimit limit, low;
  getrlimit(RLIMIT_NOFILE, &limit);
  low = limit;
  low.rlim_cur = limit.rlim_cur / 4 < 1024 ? limit.rlim_cur / 4 : 1024;
  int viewer = connect_from(rig, 0, "127.0.0.1"), publisher = connect_from(rig, 0, "127.0.0.1");
  assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
  ask(viewer, "/here", HANDSHAKE);
  check_is_lost(viewer, "HTTP/1.1 503 ", "no descriptor");
  ask(publisher, "/held/publisher", HANDSHAKE);
  check_is_lost(publisher, "HTTP/1.1 429 ", "no descriptor");
  assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
  assert_int_equal(vc_front_lost_sockets(rig->front), 2);
  shake_hands(rig, "/here", HANDSHAKE, head);
  assert_non_null(strstr(head, "HTTP/1.1 101 "));
}

void *__real_malloc(size_t size);
void *__real_realloc(void *at, size_t size);

static atomic_int openssl_fails; // its allocations are not those of memory_fail

static void *openssl_allocate(size_t size, const char *file, int line)
{
  (void)file;
  (void)line;
  return openssl_fails ? NULL : __real_malloc(size);
}

static void *openssl_reallocate(void *at, size_t size, const char *file, int line)
{
  (void)file;
  (void)line;
  return openssl_fails ? NULL : __real_realloc(at, size);
}

static void openssl_free(void *at, const char *file, int line)
{
  (void)file;
  (void)line;
  free(at);
}

// For the question about our own end, then for the answer, and for its digest.
static void test_no_memory(void **state)
{
  struct rig *rig = *state;
  for (size_t i = 0; i < 3; i++) {
    hold(rig, 2);
    int client = connect_from(rig, 0, "127.0.0.1");
    ask(client, "/held/publisher", HANDSHAKE);
    wait_until(rig, &rig->n_waiting, 1);
    if (i < 2) {
      memory_fail(i, 1);
    } else {
      openssl_fails = 1;
    }
    hold(rig, 0);
    check_is_lost(client, "HTTP/1.1 429 ", "no memory");
    memory_fail(0, 0);
    openssl_fails = 0;
  }
  assert_int_equal(vc_front_lost_sockets(rig->front), 3);
  assert_int_equal(rig->n_adopted, 0);
}

static void *stop(void *rig)
{
  vc_front_stop(&((struct rig *)rig)->front);
  return NULL;
}

static int is_open(const struct rig *rig)
{
  struct sockaddr_in server = {.sin_family = AF_INET,
                               .sin_port = htons(rig->bound.port),
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  int is_open = connect(fd, (struct sockaddr *)&server, sizeof server) == 0;
  close(fd);
  return is_open;
}

// Nobody is let in any more when it stops; who is under way is answered.
static void test_the_stop(void **state)
{
  struct rig *rig = *state;
  char head[1024];
  pthread_t thread;
  hold(rig, 3);
  int asker = connect_from(rig, 0, "127.0.0.1"), viewer = connect_from(rig, 0, "127.0.0.1");
  ask(asker, "/held/asker", "");
  ask(viewer, "/held/viewer", HANDSHAKE);
  wait_until(rig, &rig->n_waiting, 2);
  assert_int_equal(pthread_create(&thread, NULL, stop, rig), 0);
  for (int i = 0; i < PATIENCE_S * 1000 && is_open(rig); i++) {
    poll(NULL, 0, 1);
  }
  hold(rig, 0);
  read_head(asker, head);
  assert_non_null(strstr(head, "HTTP/1.1 200 "));
  read_head(viewer, head);
  assert_non_null(strstr(head, "HTTP/1.1 101 "));
  assert_int_equal(pthread_join(thread, NULL), 0);
  assert_int_equal(rig->n_adopted, 1);
  close(rig->fd);
  close(asker);
  close(viewer);
}

// What the process has from its first front on.
static int begin_all(void **state)
{
  int status = begin(state);
  if (status == 0) {
    struct rig *rig = *state;
    vc_front_stop(&rig->front);
    free(rig);
  }
  return status;
}

int main(void)
{
  assert_int_equal(CRYPTO_set_mem_functions(openssl_allocate, openssl_reallocate, openssl_free), 1);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_a_handshake, begin, end),
      cmocka_unit_test_setup_teardown(test_a_long_path, begin, end),
      cmocka_unit_test_setup_teardown(test_a_protocol_is_taken, begin, end),
      cmocka_unit_test_setup_teardown(test_a_refused_one_with_a_body, begin, end),
      cmocka_unit_test_setup_teardown(test_what_is_no_handshake, begin, end),
      cmocka_unit_test_setup_teardown(test_an_answer_to_head_has_no_body, begin, end),
      cmocka_unit_test_setup_teardown(test_two_at_our_addresses, begin, end),
      cmocka_unit_test_setup_teardown(test_one_that_came_again, begin, end),
      cmocka_unit_test_setup_teardown(test_one_with_a_body_that_came_again, begin, end),
      cmocka_unit_test_setup_teardown(test_no_descriptor, begin, end),
      cmocka_unit_test_setup_teardown(test_no_memory, begin, end),
      cmocka_unit_test_setup_teardown(test_the_stop, begin, end),
  };
  return cmocka_run_group_tests(tests, begin_all, NULL);
}
