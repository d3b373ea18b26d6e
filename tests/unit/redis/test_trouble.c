// A Redis that is away, frozen, full, locked, somebody else's replica: nothing waits for it, what
// stands in the way is told, and what it missed is asked for when it is back.
#include "rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define HELLO VC_MESSAGE_HELLO
#define FINAL VC_MESSAGE_FINAL
#define PARTIAL VC_MESSAGE_PARTIAL
#define N_TOO_MANY (LINK_UNANSWERED_MAX + 5000)

static struct server server;
static struct rig rig;

static int set_up(void **state)
{
  server_start(&server, NULL);
  memset(&rig, 0, sizeof rig);
  snprintf(rig.sessions, sizeof rig.sessions, "[]");
  return 0;
}

static int tear_down(void **state)
{
  rig_stop(&rig);
  server_stop(&server);
  return 0;
}

static void connect_to(const char *url)
{
  rig_start(&rig, &server, "a", url);
}

static void say(enum vc_message_kind kind, uint64_t seq, uint64_t prev)
{
  rig_say(&rig, "demo", 5, (struct rig_said){kind, seq, prev});
}

static void begin(void)
{
  connect_to(server.url);
  rig_wait_gauge(&rig, "redis.connections", 3);
  assert_int_equal(rig_claim(&rig, "demo", 5), 5);
  say(HELLO, 0, 0);
  say(FINAL, 1, 0);
  rig_wait_stream(&server, "demo", "5-0 5-1");
}

static const struct rig_said all[] = {{HELLO, 0, 0}, {FINAL, 1, 0}, {FINAL, 2, 1}, {FINAL, 3, 2}};

// --- away

static void test_restarted_empty(void **state)
{
  begin();
  server_kill(&server);
  rig_wait_health(&rig, "127.0.0.1");
  say(FINAL, 2, 1); // nobody buffers it
  rig_wait_metric(&rig, "redis.dropped_total", 1);
  server_start_again(&server, NULL);
  rig_expect_ask(&rig, "demo", 0, 0);
  rig_give(&rig, "demo", (struct vc_position){0, 0}, 1, 5, all, 3);
  say(FINAL, 3, 2);
  rig_wait_stream(&server, "demo", "5-0 5-1 5-2 5-3");
  assert_int_equal(server_number(&server, "EXISTS vc:owner:demo"), 1);
  rig_wait_health(&rig, "");
}

static void test_away_at_the_start(void **state)
{
  server_kill(&server);
  connect_to(server.url);
  rig_wait_health(&rig, "onnect");
  assert_int_equal(rig_claim(&rig, "demo", 5), 0); // at once
  say(HELLO, 0, 0);
  say(FINAL, 1, 0);
  server_start_again(&server, NULL);
  rig_expect_ask(&rig, "demo", 0, 0);
  rig_give(&rig, "demo", (struct vc_position){0, 0}, 1, 5, all, 2);
  rig_wait_stream(&server, "demo", "5-0 5-1");
  rig_wait_health(&rig, "");
}

// It ended while Redis was away: others see its end all the same.
static void test_ended_while_away(void **state)
{
  static const struct rig_said rest[] = {{FINAL, 2, 1}, {VC_MESSAGE_END, 3, 2}};
  begin();
  server_freeze(&server);
  rig_wait_gauge(&rig, "redis.connections", 2);
  say(FINAL, 2, 1);
  say(VC_MESSAGE_END, 3, 2);
  rig_release(&rig, "demo", 5, 3);
  rig_expect_released(&rig, "demo"); // nobody waits for Redis
  server_thaw(&server);
  rig_expect_ask(&rig, "demo", 5, 1);
  rig_give(&rig, "demo", (struct vc_position){5, 1}, 1, 5, rest, 2);
  rig_wait_stream(&server, "demo", "5-0 5-1 5-2 5-3");
  rig_wait_gauge(&rig, "redis.owned", 0);
}

// Nothing closes its connections.
static void test_frozen(void **state)
{
  static const struct rig_said rest[] = {{FINAL, 2, 1}};
  begin();
  uint64_t begun = vc_clock_now_ns(&vc_clock_system);
  server_freeze(&server);
  say(FINAL, 2, 1); // is written when it thaws: nobody knows that yet
  rig_wait_health(&rig, "silent for 2000 ms");
  uint64_t ms = (vc_clock_now_ns(&vc_clock_system) - begun) / VC_NS_PER_MS;
  assert_in_range(ms, LINK_SILENT_MS - LINK_PING_MS, 3 * LINK_SILENT_MS);
  say(FINAL, 3, 2);
  server_thaw(&server);
  struct vc_remote *ask = rig_remote(&rig, VC_REMOTE_ASK);
  assert_in_range(ask->seq, 1, 2); // as Redis took what lay in the socket, or not
  rig_give(&rig, "demo", (struct vc_position){5, ask->seq}, 1, 5, ask->seq == 1 ? rest : NULL,
           ask->seq == 1);
  vc_item_destroy(&ask->item);
  say(FINAL, 3, 2);
  rig_wait_stream(&server, "demo", "5-0 5-1 5-2 5-3");
  rig_wait_health(&rig, "");
}

static void test_bounds(void **state)
{
  begin();
  server_freeze(&server);
  for (uint64_t seq = 2; seq < N_TOO_MANY; seq++) {
    say(PARTIAL, seq, 1);
  }
  rig_wait_metric(&rig, "redis.full_total", 1);
  assert_true(rig_gauge(&rig, "redis.unanswered") <= LINK_UNANSWERED_MAX);
  assert_true(rig_gauge(&rig, "redis.unsent_bytes") <= (int64_t)LINK_UNSENT_MAX);
  say(FINAL, N_TOO_MANY, 1);
  rig_wait_gauge(&rig, "redis.behind", 1);
  server_thaw(&server);
  struct vc_remote *ask = rig_remote(&rig, VC_REMOTE_ASK);
  assert_int_equal(ask->seq, 1);
  vc_item_destroy(&ask->item);
  static const struct rig_said rest[] = {{FINAL, N_TOO_MANY, 1}};
  rig_give(&rig, "demo", (struct vc_position){5, 1}, 1, 5, rest, 1);
  rig_wait_stream(&server, "demo", "5-0 5-1 5-21384");
  assert_true(rig_metric(&rig, "redis.dropped_total") > 0);
}

// --- it refuses

static void fill_up(void)
{
  server_do(&server, "CONFIG SET maxmemory 1mb"); // less than it is itself
}

static void test_full(void **state)
{
  begin();
  fill_up();
  say(FINAL, 2, 1);
  rig_wait_health(&rig, "OOM");
  assert_true(rig_metric(&rig, "redis.errors_oom_total") > 0);
  assert_int_equal(rig_claim(&rig, "else", 5), 0);
  // The key that is there is renewed.
  server_do(&server, "PEXPIRE vc:owner:demo 6000");
  rig_expect_ask(&rig, "demo", 5, 1); // after a second
  while (server_number(&server, "PTTL vc:owner:demo") < 9000) {
    assert_true(server_number(&server, "PTTL vc:owner:demo") > 0);
  }
  server_do(&server, "CONFIG SET maxmemory 0");
  static const struct rig_said rest[] = {{FINAL, 2, 1}};
  rig_give(&rig, "demo", (struct vc_position){5, 1}, 1, 5, rest, 1);
  // The answer may have come too late for the first.
  uint64_t asked = rig_metric(&rig, "redis.asked_total");
  if (strcmp(rig_stream(&server, "demo"), "5-0 5-1 5-2") != 0 && asked > 1) {
    rig_expect_ask(&rig, "demo", 5, 1);
    rig_give(&rig, "demo", (struct vc_position){5, 1}, 1, 5, rest, 1);
  }
  rig_wait_stream(&server, "demo", "5-0 5-1 5-2");
  rig_wait_health(&rig, "");
}

// Its disk takes nothing: the file that it would replace is a folder.
static void test_cannot_save(void **state)
{
  char path[96];
  static const struct rig_said rest[] = {{FINAL, 2, 1}};
  begin();
  snprintf(path, sizeof path, "%s/dump.rdb", server.folder);
  assert_int_equal(mkdir(path, 0700), 0);
  server_do(&server, "CONFIG SET save %s", "3600 1000000");
  server_do(&server, "BGSAVE");
  rig_wait_health(&rig, "MISCONF"); // by the sessions that it cannot tell of
  assert_true(rig_metric(&rig, "redis.errors_misconf_total") > 0);
  say(FINAL, 2, 1);
  rig_expect_ask(&rig, "demo", 5, 1);
  server_do(&server, "CONFIG SET save %s", "");
  rig_give(&rig, "demo", (struct vc_position){5, 1}, 1, 5, rest, 1);
  rig_wait_stream(&server, "demo", "5-0 5-1 5-2");
  rig_wait_health(&rig, "");
  rmdir(path);
}

static void test_no_password(void **state)
{
  server_do(&server, "CONFIG SET requirepass s3cret");
  connect_to(server.url);
  rig_wait_health(&rig, "NOAUTH");
  assert_true(rig_metric(&rig, "redis.errors_auth_total") > 0);
  server_do(&server, "CONFIG SET requirepass %s", "");
  rig_wait_gauge(&rig, "redis.connections", 3);
  rig_wait_health(&rig, "");
}

static void test_password(void **state)
{
  char url[96];
  server_do(&server, "CONFIG SET requirepass s3cret");
  snprintf(url, sizeof url, "redis://:wrong@127.0.0.1:%d", server.port);
  connect_to(url);
  rig_wait_health(&rig, "WRONGPASS");
  rig_stop(&rig);
  memset(&rig, 0, sizeof rig);
  snprintf(url, sizeof url, "redis://:s3cret@127.0.0.1:%d/3", server.port);
  connect_to(url);
  rig_wait_gauge(&rig, "redis.connections", 3);
  assert_int_equal(rig_claim(&rig, "demo", 5), 5);
  server_do(&server, "SELECT 3");
  assert_int_equal(server_number(&server, "EXISTS vc:owner:demo"), 1);
}

static void write_url(const char *path, const char *password)
{
  FILE *file = fopen(path, "w");
  assert_non_null(file);
  fprintf(file, "redis://:%s@127.0.0.1:%d\n", password, server.port);
  fclose(file);
}

// The password is changed: connections that are there stay, new ones take the new one.
static void test_password_in_a_file(void **state)
{
  char path[96], url[98];
  server_do(&server, "CONFIG SET requirepass old");
  snprintf(path, sizeof path, "%s/url", server.folder);
  snprintf(url, sizeof url, "@%s", path);
  write_url(path, "old");
  connect_to(url);
  rig_wait_gauge(&rig, "redis.connections", 3);
  write_url(path, "new");
  server_do(&server, "CONFIG SET requirepass new");
  assert_int_equal(rig_claim(&rig, "demo", 5), 5);
  server_do(&server, "CLIENT KILL TYPE normal SKIPME yes");
  rig_wait_metric(&rig, "redis.connects_total", 2);
  rig_wait_gauge(&rig, "redis.connections", 3);
  unlink(path);
  server_do(&server, "CLIENT KILL TYPE normal SKIPME yes");
  rig_wait_health(&rig, "REDIS_URL names a file that cannot be read");
}

static void test_user(void **state)
{
  char url[96];
  server_do(&server,
            "ACL SETUSER anna on >p%%40ss resetkeys ~vc:* resetchannels &vc:* -@all +@read "
            "+@write +@pubsub +@scripting +@connection +time"); // neither role nor config
  snprintf(url, sizeof url, "redis://anna:p%%2540ss@127.0.0.1:%d", server.port);
  connect_to(url);
  rig_wait_gauge(&rig, "redis.connections", 3); // what she may not ask stays unknown
  rig_wait_health(&rig, "");
  assert_int_equal(rig_claim(&rig, "demo", 5), 5);
  server_do(&server, "ACL SETUSER anna -@write");
  say(HELLO, 0, 0);
  rig_wait_health(&rig, "can't run this command");
  assert_true(rig_metric(&rig, "redis.errors_auth_total") > 0);
}

static void test_no_such_database(void **state)
{
  char url[96];
  snprintf(url, sizeof url, "redis://127.0.0.1:%d/99", server.port);
  connect_to(url);
  rig_wait_health(&rig, "out of range");
  assert_int_equal(rig_gauge(&rig, "redis.connections"), 2); // those of the test
}

static void test_replica(void **state)
{
  static struct server master;
  server_start(&master, NULL);
  server_do(&server, "REPLICAOF 127.0.0.1 %d", master.port);
  connect_to(server.url);
  rig_wait_health(&rig, "replica");
  server_do(&server, "REPLICAOF NO ONE");
  rig_wait_gauge(&rig, "redis.connections", 3);
  rig_wait_health(&rig, "");
  assert_int_equal(rig_claim(&rig, "demo", 5), 5);
  server_do(&server, "REPLICAOF 127.0.0.1 %d", master.port); // failed over
  say(HELLO, 0, 0);
  rig_wait_health(&rig, "replica");
  assert_true(rig_metric(&rig, "redis.errors_readonly_total") >= 2);
  server_stop(&master);
}

static void test_evicting(void **state)
{
  server_do(&server, "CONFIG SET maxmemory-policy allkeys-lru");
  connect_to(server.url);
  rig_wait_health(&rig, "maxmemory-policy is allkeys-lru");
  rig_wait_gauge(&rig, "redis.connections", 3);
  assert_int_equal(rig_claim(&rig, "demo", 5), 5); // it works as far as it does
  server_do(&server, "CONFIG SET maxmemory-policy noeviction");
  server_do(&server, "CLIENT KILL TYPE normal SKIPME yes");
  rig_wait_health(&rig, "");
}

static void test_busy(void **state)
{
  begin();
  server_do(&server, "CONFIG SET busy-reply-threshold 50");
  redisContext *busy = server_connection(&server);
  redisAppendCommand(busy, "EVAL %s 0", "while true do end");
  int is_done = 0;
  while (!is_done) {
    assert_int_equal(redisBufferWrite(busy, &is_done), REDIS_OK);
  }
  rig_wait_health(&rig, "BUSY");
  assert_true(rig_metric(&rig, "redis.errors_busy_total") > 0);
  server_do(&server, "SCRIPT KILL");
  redisFree(busy);
  rig_wait_health(&rig, "");
}

// --- what is no Redis

static void test_no_redis(void **state)
{
  server_kill(&server);
  struct sockaddr_storage address;
  socklen_t size = sizeof address;
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  char url[64];
  assert_int_equal(listen(fd, 1), 0); // on a port of its own; it accepts and says nothing
  assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
  snprintf(url, sizeof url, "redis://127.0.0.1:%d",
           ntohs(((struct sockaddr_in *)&address)->sin_port));
  connect_to(url);
  rig_wait_health(&rig, "no answer within 2 s");
  close(fd);
}

int main(void)
{
#define WITH(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
  const struct CMUnitTest tests[] = {
      WITH(test_restarted_empty),
      WITH(test_away_at_the_start),
      WITH(test_ended_while_away),
      WITH(test_frozen),
      WITH(test_bounds),
      WITH(test_full),
      WITH(test_cannot_save),
      WITH(test_no_password),
      WITH(test_password),
      WITH(test_password_in_a_file),
      WITH(test_user),
      WITH(test_no_such_database),
      WITH(test_replica),
      WITH(test_evicting),
      WITH(test_busy),
      WITH(test_no_redis),
  };
  if (!server_is_there("redis/trouble")) {
    return 0;
  }
  vc_log_level_set(VC_LOG_ERROR);
  return cmocka_run_group_tests_name("redis/trouble", tests, NULL, NULL);
}
