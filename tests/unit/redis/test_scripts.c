// Each script by itself: what it decides, row by row, and what it leaves behind.
#include "room.h"
#include "server.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static struct server server;

static int set_up(void **state)
{
  server_do(&server, "FLUSHALL");
  return 0;
}

// "E-S" or "E-S*": by another node's hand.
static void add(const char *id)
{
  char plain[32];
  snprintf(plain, sizeof plain, "%s", id);
  char *star = strchr(plain, '*');
  if (star != NULL) {
    *star = '\0';
  }
  server_do(&server, "XADD h %s message {\"v\":1,\"node\":\"%s\",\"epoch\":5}", plain,
            star != NULL ? "b" : "a");
}

struct row {
  const char *there; // the stream's ids, blank between them
  const char *epoch, *seq, *after_epoch, *after_seq, *own;
  int what;                       // 0 written, 1 it was there, 2 a hole, 3 fenced
  long long last_epoch, last_seq; // as answered
};

static void check(const struct row *row)
{
  char there[128], *rest = there;
  snprintf(there, sizeof there, "%s", row->there);
  server_do(&server, "DEL h");
  for (char *id; (id = strtok_r(rest, " ", &rest)) != NULL;) {
    add(id);
  }
  long long n = server_number(&server, "XLEN h");
  redisReply *reply =
      server_ask(&server, "EVAL %s 2 h l %s %s %s %s %s %s 1000 60000", redis_scripts[SCRIPT_WRITE],
                 row->epoch, row->seq, row->after_epoch, row->after_seq, row->own,
                 "{\"v\":1,\"node\":\"a\",\"epoch\":5}");
  int is_good = reply_number(reply, 0) == row->what && reply_number(reply, 1) == row->last_epoch &&
                reply_number(reply, 2) == row->last_seq &&
                server_number(&server, "XLEN h") == n + (row->what == 0);
  if (!is_good) {
    fail_msg("[%s] + %s-%s after %s-%s of %s: %lld %lld-%lld", row->there, row->epoch, row->seq,
             row->after_epoch, row->after_seq, row->own, (long long)reply_number(reply, 0),
             (long long)reply_number(reply, 1), (long long)reply_number(reply, 2));
  }
  freeReplyObject(reply);
}

static void test_write(void **state)
{
  static const struct row rows[] = {
      // a hello: behind anything of an older epoch
      {"", "5", "0", "-1", "0", "5", 0, 5, 0},
      {"4-0 4-9", "5", "0", "-1", "1", "5", 0, 5, 0},
      {"4-0 4-9*", "5", "0", "-1", "0", "5", 0, 5, 0},
      {"", "5", "0", "-1", "1", "5", 2, 0, 0}, // there was something, which is gone
      {"5-0", "5", "0", "-1", "1", "5", 1, 5, 0},
      {"5-0 5-3", "5", "0", "-1", "1", "5", 1, 5, 3},
      {"6-0*", "5", "0", "-1", "1", "5", 3, 6, 0},
      {"5-0*", "5", "0", "-1", "0", "5", 3, 5, 0}, // two nodes have the same epoch
      // what follows
      {"5-0", "5", "2", "5", "0", "5", 0, 5, 2},
      {"5-0 5-2", "5", "7", "5", "2", "5", 0, 5, 7},
      {"5-0 5-2", "5", "2", "5", "0", "5", 1, 5, 2},
      {"5-0 5-2 5-7", "5", "2", "5", "0", "5", 1, 5, 7},
      {"5-0", "5", "7", "5", "2", "5", 2, 5, 0},
      {"5-0 5-4", "5", "7", "5", "2", "5", 2, 5, 4}, // what is there is none of ours
      {"", "5", "7", "5", "2", "5", 2, 0, 0},
      {"4-0 4-9", "5", "7", "5", "2", "5", 2, 4, 9},
      {"6-0*", "5", "7", "5", "2", "5", 3, 6, 0},
      // the owner was taken for lost, and somebody else spoke for it
      {"5-0 5-2 5-3*", "5", "7", "5", "2", "5", 3, 5, 3},
      {"5-0 5-2 5-7*", "5", "7", "5", "2", "5", 3, 5, 7},
      // history, behind what it follows in its answer; older epochs too
      {"", "4", "9", "0", "0", "5", 0, 4, 9},
      {"4-0 4-9", "5", "0", "4", "9", "5", 0, 5, 0},
      {"4-0 4-9*", "4", "10", "4", "9", "5", 0, 4, 10},
      {"5-0", "5", "101", "5", "0", "5", 0, 5, 101}, // what came before is trimmed
      {"4-0", "4", "9", "4", "3", "5", 2, 4, 0},
      {"5-0", "4", "9", "4", "3", "5", 1, 5, 0}, // too late for it, and no harm
      {"6-0*", "4", "9", "4", "3", "5", 3, 6, 0},
      // numbers of the size that they have
      {"1790000000000-0 1790000000000-41", "1790000000000", "42", "1790000000000", "41",
       "1790000000000", 0, 1790000000000, 42},
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    check(&rows[i]);
  }
}

static void test_write_publishes_and_expires(void **state)
{
  redisContext *listener = server_connection(&server);
  freeReplyObject(redisCommand(listener, "SUBSCRIBE l"));
  server_do(&server, "EVAL %s 2 h l 5 0 -1 0 5 %s 1000 60000", redis_scripts[SCRIPT_WRITE], "text");
  redisReply *reply = NULL;
  assert_int_equal(redisGetReply(listener, (void **)&reply), REDIS_OK);
  assert_string_equal(reply->element[2]->str, "text");
  freeReplyObject(reply);
  redisFree(listener);
  assert_in_range(server_number(&server, "PTTL h"), 50000, 60000);
}

static void test_write_trims(void **state)
{
  for (int i = 1; i <= 500; i++) {
    server_do(&server, "XADD h 5-%d message {\"v\":1,\"node\":\"a\",\"epoch\":5}", i);
  }
  server_do(&server, "EVAL %s 2 h l 5 501 5 500 5 %s 100 60000", redis_scripts[SCRIPT_WRITE],
            "{\"v\":1,\"node\":\"a\",\"epoch\":5}");
  assert_in_range(server_number(&server, "XLEN h"), 100, 300);
}

static redisReply *claim(const char *node, const char *floor)
{
  return server_ask(&server, "EVAL %s 3 o h c \"%s\" %s 10000 60000", redis_scripts[SCRIPT_CLAIM],
                    node, floor);
}

static void test_claim(void **state)
{
  redisReply *reply = claim("a", "1790000000000");
  assert_int_equal(reply_number(reply, 0), 1790000000000);
  assert_string_equal(reply_text(reply, 1), "");
  assert_int_equal(reply_number(reply, 2), 0);
  freeReplyObject(reply);
  assert_in_range(server_number(&server, "PTTL o"), 9000, 10000);

  reply = claim("b", "7"); // a clock that is behind
  assert_int_equal(reply_number(reply, 0), 1790000000001);
  assert_string_equal(reply_text(reply, 1), "a");
  assert_int_equal(reply_number(reply, 2), 1790000000000);
  freeReplyObject(reply);

  add("1790000000009-3");
  reply = claim("a", "7");
  assert_int_equal(reply_number(reply, 0), 1790000000010);
  assert_int_equal(reply_number(reply, 3), 1790000000009);
  assert_int_equal(reply_number(reply, 4), 3);
  freeReplyObject(reply);
  reply = server_ask(&server, "GET o");
  assert_string_equal(reply->str, "{\"node\":\"a\",\"epoch\":1790000000010}");
  freeReplyObject(reply);
}

// What lies there was written by anybody.
static void test_claim_of_nonsense(void **state)
{
  static const char *const values[] = {
      "", "nonsense", "7", "[]", "{}", "{\"node\":7,\"epoch\":\"x\"}", "{\"node\":null}"};
  for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
    server_do(&server, "SET o %s", values[i]);
    redisReply *reply = claim("a", "5");
    assert_int_equal(reply_number(reply, 0), 5);
    freeReplyObject(reply);
  }
}

static void test_renew(void **state)
{
  static const struct {
    const char *owner, *last; // "" none
    int what;
    const char *then; // the owner
  } rows[] = {
      {"{\"node\":\"a\",\"epoch\":5}", "5-3", 0, "{\"node\":\"a\",\"epoch\":5}"},
      {"", "5-3", 0, "{\"node\":\"a\",\"epoch\":5}"},
      {"", "", 0, "{\"node\":\"a\",\"epoch\":5}"},
      {"{\"node\":\"b\",\"epoch\":4}", "4-3", 0, "{\"node\":\"a\",\"epoch\":5}"},
      {"{\"node\":\"a\",\"epoch\":4}", "4-3", 0, "{\"node\":\"a\",\"epoch\":5}"},
      {"{\"node\":\"b\",\"epoch\":6}", "5-3", 1, "{\"node\":\"b\",\"epoch\":6}"},
      {"{\"node\":\"b\",\"epoch\":6}", "6-0", 1, "{\"node\":\"b\",\"epoch\":6}"},
      {"{\"node\":\"b\",\"epoch\":5}", "", 1, "{\"node\":\"b\",\"epoch\":5}"},
      {"{\"node\":\"a\",\"epoch\":6}", "5-3", 2, "{\"node\":\"a\",\"epoch\":6}"},
      {"", "6-0", 2, NULL},
      {"{\"node\":\"a\",\"epoch\":5}", "5-3*", 2, "{\"node\":\"a\",\"epoch\":5}"},
      {"", "5-1000003*", 2, NULL},
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    server_do(&server, "FLUSHALL");
    if (rows[i].owner[0] != '\0') {
      server_do(&server, "SET o %s PX 3000", rows[i].owner);
    }
    if (rows[i].last[0] != '\0') {
      add(rows[i].last);
    }
    redisReply *reply =
        server_ask(&server, "EVAL %s 3 o h c \"a\" 5 10000 60000 a", redis_scripts[SCRIPT_RENEW]);
    if (reply_number(reply, 0) != rows[i].what) {
      fail_msg("row %zu: %lld", i, (long long)reply_number(reply, 0));
    }
    freeReplyObject(reply);
    reply = server_ask(&server, "GET o");
    assert_string_equal(reply->type == REDIS_REPLY_NIL ? "" : reply->str,
                        rows[i].then != NULL ? rows[i].then : "");
    freeReplyObject(reply);
    if (rows[i].what == 0) {
      assert_in_range(server_number(&server, "PTTL o"), 9000, 10000);
    }
    if (rows[i].what == 0 && rows[i].last[0] != '\0') {
      assert_in_range(server_number(&server, "PTTL h"), 50000, 60000);
    }
  }
}

static void test_release(void **state)
{
  static const struct {
    const char *owner;
    int is_ours;
  } rows[] = {{"{\"node\":\"a\",\"epoch\":5}", 1},
              {"{\"node\":\"a\",\"epoch\":6}", 0}, // claimed again
              {"{\"node\":\"b\",\"epoch\":5}", 0}};
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    server_do(&server, "SET o %s", rows[i].owner);
    assert_int_equal(
        server_number(&server, "EVAL %s 3 o h c \"a\" 5 a 60000 1", redis_scripts[SCRIPT_RELEASE]),
        rows[i].is_ours);
    assert_int_equal(server_number(&server, "EXISTS o"), !rows[i].is_ours);
  }
}

static void test_look(void **state)
{
  static const struct {
    const char *entries[4];
    long long epoch, seq, is_ours, ours;
  } rows[] = {{{NULL}, 0, 0, 0, -1},
              {{"5-0", "5-3"}, 5, 3, 1, 3},
              {{"4-9", "5-0", "5-2", "5-1000002*"}, 5, 1000002, 0, 2},
              {{"5-2", "5-1000002*", "5-1000004"}, 5, 1000004, 1, 2},
              {{"5-1000002*"}, 5, 1000002, 0, -1}, // ours was trimmed
              {{"4-3*"}, 4, 3, 0, -1},
              {{"5-2", "6-0*"}, 6, 0, 0, 2}};
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    server_do(&server, "FLUSHALL");
    for (size_t k = 0; k < 4 && rows[i].entries[k] != NULL; k++) {
      add(rows[i].entries[k]);
    }
    redisReply *reply = server_ask(&server, "EVAL %s 1 h 5 4 \"a\"", redis_scripts[SCRIPT_LOOK]);
    assert_int_equal(reply_number(reply, 0), rows[i].epoch);
    assert_int_equal(reply_number(reply, 1), rows[i].seq);
    assert_int_equal(reply_number(reply, 2), rows[i].is_ours);
    assert_int_equal(reply_number(reply, 3), rows[i].ours);
    freeReplyObject(reply);
  }
}

static void test_orphan(void **state)
{
  static const struct {
    const char *owner, *last;
    int is_said;
  } rows[] = {{"", "5-3", 1},
              {"{\"node\":\"a\",\"epoch\":5}", "5-3", 0},
              {"", "5-4", 0}, // another was faster
              {"", "6-3", 0},
              {"", "", 0}};
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    server_do(&server, "FLUSHALL");
    if (rows[i].owner[0] != '\0') {
      server_do(&server, "SET o %s", rows[i].owner);
    }
    if (rows[i].last[0] != '\0') {
      add(rows[i].last);
    }
    long long n = server_number(&server, "XLEN h");
    assert_int_equal(server_number(&server, "EVAL %s 3 o h l 5 4 3 text 1000 60000",
                                   redis_scripts[SCRIPT_ORPHAN]),
                     rows[i].is_said);
    assert_int_equal(server_number(&server, "XLEN h"), n + rows[i].is_said);
  }
}

int main(void)
{
#define WITH(test) cmocka_unit_test_setup(test, set_up)
  const struct CMUnitTest tests[] = {
      WITH(test_write),
      WITH(test_write_publishes_and_expires),
      WITH(test_write_trims),
      WITH(test_claim),
      WITH(test_claim_of_nonsense),
      WITH(test_renew),
      WITH(test_release),
      WITH(test_look),
      WITH(test_orphan),
  };
  if (!server_is_there("redis/scripts")) {
    return 0;
  }
  server_start(&server, NULL);
  int n_failed = cmocka_run_group_tests_name("redis/scripts", tests, NULL, NULL);
  server_stop(&server);
  return n_failed;
}
