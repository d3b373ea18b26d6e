// Something that speaks like a Redis until the connection is made, and then says what no Redis
// says: the connection is given up with a reason, and the node goes on.
#include "rig.h"

#include <netinet/in.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define N_HANDSHAKE (3 + N_SCRIPTS) // SELECT, ROLE, CONFIG GET, SCRIPT LOAD each

struct peer {
  int fd;
  char url[64];
  pthread_t thread;
  sem_t may_go_on;  // with the next connection: what became of the last was seen
  const char *says; // on every connection that is made
  size_t size;
};

// The next command has come as a whole when its number of bulks has; what they are does not matter.
static int read_command(FILE *in)
{
  char line[64], skipped[8192];
  if (fgets(line, sizeof line, in) == NULL || line[0] != '*') {
    return -1;
  }
  for (long n = strtol(line + 1, NULL, 10); n > 0; n--) {
    if (fgets(line, sizeof line, in) == NULL || line[0] != '$') {
      return -1;
    }
    size_t size = strtoul(line + 1, NULL, 10) + 2;
    if (size > sizeof skipped || fread(skipped, 1, size, in) != size) {
      return -1;
    }
  }
  return 0;
}

static const char *answer(int i)
{
  return i == 0   ? "+OK\r\n"
         : i == 1 ? "*1\r\n$6\r\nmaster\r\n"
         : i == 2 ? "*2\r\n$16\r\nmaxmemory-policy\r\n$10\r\nnoeviction\r\n"
                  : "$40\r\n0123456789012345678901234567890123456789\r\n";
}

static void serve(const struct peer *peer, int fd)
{
  FILE *in = fdopen(dup(fd), "r");
  for (int i = 0; i < N_HANDSHAKE && read_command(in) == 0; i++) {
    const char *text = answer(i);
    if (send(fd, text, strlen(text), MSG_NOSIGNAL) < 0) {
      break;
    }
  }
  ssize_t n = send(fd, peer->says, peer->size, MSG_NOSIGNAL);
  while (n >= 0 && fgetc(in) != EOF) { // until it is given up
  }
  fclose(in);
  close(fd);
}

static void *run(void *context)
{
  struct peer *peer = context;
  int fd;
  while ((fd = accept(peer->fd, NULL, NULL)) >= 0) {
    serve(peer, fd);
    sem_wait(&peer->may_go_on);
  }
  return NULL;
}

static void peer_start(struct peer *peer, const char *says, size_t size)
{
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t length = sizeof address;
  *peer = (struct peer){.says = says, .size = size};
  peer->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  assert_int_equal(bind(peer->fd, (struct sockaddr *)&address, length), 0);
  assert_int_equal(listen(peer->fd, 8), 0);
  assert_int_equal(getsockname(peer->fd, (struct sockaddr *)&address, &length), 0);
  snprintf(peer->url, sizeof peer->url, "redis://127.0.0.1:%d", ntohs(address.sin_port));
  sem_init(&peer->may_go_on, 0, 0);
  assert_int_equal(pthread_create(&peer->thread, NULL, run, peer), 0);
}

static void peer_stop(struct peer *peer)
{
  shutdown(peer->fd, SHUT_RDWR);
  pthread_join(peer->thread, NULL);
  sem_destroy(&peer->may_go_on);
  close(peer->fd);
}

static void check(const char *says, size_t size, const char *reason)
{
  static struct peer peer;
  static struct rig rig;
  memset(&rig, 0, sizeof rig);
  peer_start(&peer, says, size);
  rig_start(&rig, NULL, "a", peer.url);
  rig_wait_health(&rig, reason);
  sem_post(&peer.may_go_on);
  rig_wait_metric(&rig, "redis.disconnects_total", 2); // it is tried again
  rig_stop(&rig);
  for (int i = 0; i < 100; i++) { // more than can have been made since
    sem_post(&peer.may_go_on);
  }
  peer_stop(&peer);
}

static void test_no_protocol(void **state)
{
  static const char garbage[] = "HTTP/1.1 400 Bad Request\r\n\r\n";
  check(garbage, sizeof garbage - 1, "no Redis protocol");
}

static void test_unasked(void **state)
{
  static const char unasked[] = ":1\r\n:2\r\n:3\r\n:4\r\n:5\r\n:6\r\n";
  check(unasked, sizeof unasked - 1, "a reply that nothing was asked for");
}

static void test_too_deep(void **state)
{
  static char deep[4 * 64];
  for (size_t i = 0; i < 64; i++) {
    memcpy(deep + 4 * i, "*1\r\n", 4);
  }
  check(deep, sizeof deep, "no Redis protocol");
}

static void test_too_large(void **state)
{
  size_t size = LINK_REPLY_MAX + (size_t)1024 * 1024;
  char *large = malloc(size);
  assert_non_null(large);
  memset(large, 'x', size);
  static const char head[] = "$200000000\r\n";
  memcpy(large, head, sizeof head - 1);
  check(large, size, "a reply of more than 64 MiB");
  free(large);
}

static void test_silent(void **state)
{
  check("", 0, "silent for 2000 ms");
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_no_protocol), cmocka_unit_test(test_unasked),
      cmocka_unit_test(test_too_deep),    cmocka_unit_test(test_too_large),
      cmocka_unit_test(test_silent),
  };
  vc_log_level_set(VC_LOG_ERROR);
  return cmocka_run_group_tests_name("redis/hostile", tests, NULL, NULL);
}
