// What a path means, and what is answered where nothing is asked of a room.
#include "rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define SLUG_128                                                                                   \
  "a0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890"   \
  "123456789012345678901234567890123456"

static struct rig *rig;    // without secrets
static struct rig *public; // --insecure, behind a proxy of ours

static int set_up(void **state)
{
  static const char *const environment[] = {"INSECURE=1", NULL};
  rig = rig_create(&environment[1], "");
  public = rig_create(environment, "127.0.0.1, 10.0.0.0/8");
  rig_reply(rig, VC_QUERY_TRANSCRIPT, (struct rig_reply){.status = 200, .text = "[]"});
  rig_reply(rig, VC_QUERY_ERASE, (struct rig_reply){.status = 200});
  return 0;
}

static int tear_down(void **state)
{
  rig_destroy(rig);
  rig_destroy(public);
  return 0;
}

static void expect(const char *method, const char *target, int status)
{
  int got = rig_ask(rig, HTTP_DOOR, method, target, "");
  if (got != status) {
    fail_msg("%s %s: %d, not %d: %s", method, target, got, status, rig->body);
  }
}

static void expect_slug(const char *target, const char *slug)
{
  expect("GET", target, 200);
  assert_string_equal(rig->asked, slug);
}

static void test_a_sessions_name(void **state)
{
  assert_int_equal(strlen(SLUG_128), 128);
  expect_slug("/sessions/demo/transcript.txt", "demo");
  expect_slug("/sessions/0/transcript.txt", "0");
  expect_slug("/sessions/A-b_c.d/transcript.json", "A-b_c.d");
  expect_slug("/sessions/" SLUG_128 "/transcript.txt", SLUG_128);
  expect("GET", "/sessions/" SLUG_128 "x/transcript.txt", 404);
}

static void test_what_is_no_sessions_name(void **state)
{
  static const char *const names[] = {
      "-x",      ".x",      "_x",    "d%20mo", "d%2520mo", "d%c3%a9", "d%22mo", "d%0amo",
      "%2e%2ex", "demo%27", "d*",    "d'mo",   "d%09mo",   "%2d",     "d%7f",   "d%3cb",
      "d;x",     "d,x",     "~demo", "d=x",    "d:x",      "d@x",     "d+x"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    char target[128];
    snprintf(target, sizeof target, "/sessions/%s/transcript.txt", names[i]);
    expect("GET", target, 404);
    snprintf(target, sizeof target, "/sessions/%s", names[i]);
    expect("DELETE", target, 404);
    snprintf(target, sizeof target, "/live/%s", names[i]);
    assert_int_equal(rig_upgrade(rig, target, ""), 404);
  }
}

static void test_percent_encoding_is_undone_once(void **state)
{
  expect_slug("/sessions/d%65mo/transcript.txt", "demo");
  expect_slug("/%73essions/demo/transcript%2etxt", "demo");
  expect("GET", "/sessions/d%2565mo/transcript.txt", 404);
  expect("GET", "/sessions/demo/transcript.txt%3ftoken=x", 404);
}

// C would see a path end at its NUL, and whoever stands before the node would not.
static void test_a_malformed_path(void **state)
{
  static const char *const targets[] = {"/healthz%00",
                                        "/healthz%00/nothing",
                                        "/%00",
                                        "/sessions/demo%00x/transcript.txt",
                                        "/sessions/demo/transcript.txt%00.exe",
                                        "/healthz%",
                                        "/healthz%zz",
                                        "/healthz%4"};
  for (size_t i = 0; i < sizeof targets / sizeof *targets; i++) {
    expect("GET", targets[i], 400);
  }
  char target[2048];
  snprintf(target, sizeof target, "/%01500d", 0);
  expect("GET", target, 400);
  expect("DELETE", "/sessions/demo%00x", 400);
  assert_int_equal(rig_upgrade(rig, "/live/demo%00x", ""), 400);
  assert_non_null(strstr(rig->body, "malformed"));
}

static void test_operators_have_no_websockets(void **state)
{
  static const char headers[] =
      "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
      "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";
  assert_int_equal(rig_ask(rig, ADMIN_DOOR, "GET", "/live/demo", headers), 404);
  assert_non_null(strstr(rig->body, "no WebSocket is served here"));
}

// Nobody is asked for anything.
static void expect_refused(const char *method, const char *target)
{
  rig->asked[0] = '\0';
  int status = rig_ask(rig, HTTP_DOOR, method, target, "");
  if ((status != 404 && status != 405) || rig->asked[0] != '\0') {
    fail_msg("%s %s: %d, asked '%s'", method, target, status, rig->asked);
  }
}

static void test_dot_segments_lead_nowhere_else(void **state)
{
  static const char *const targets[] = {
      "/pages/../secret",
      "/pages/..%2f..%2f..%2fetc%2fpasswd",
      "/pages/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
      "/pages/..%5c..%5csecret",
      "/pages/....//....//etc/passwd",
      "/pages//etc/passwd",
      "/../../etc/passwd",
      "/sessions/../transcript.txt",
      "/sessions/%2e%2e/transcript.txt",
      "/sessions/./transcript.txt",
      "/sessions/..%5cx/transcript.txt",
  };
  for (size_t i = 0; i < sizeof targets / sizeof *targets; i++) {
    expect_refused("GET", targets[i]);
  }
  expect_refused("DELETE", "/sessions/..");
  expect_refused("DELETE", "/sessions/.");
  expect_refused("DELETE", "/sessions/%2e");
  expect_refused("DELETE", "/sessions/demo/..");
  assert_int_equal(rig_upgrade(rig, "/live/..", ""), 404);
  assert_int_equal(rig_upgrade(rig, "/live/x/../..", ""), 404);
}

// A balancer that passes no readyz on has read the path as it stands.
static void test_a_path_is_what_it_says(void **state)
{
  static const char *const targets[] = {"//readyz", "/./readyz", "/x/../readyz", "/readyz.",
                                        "/readyz/."};
  for (size_t i = 0; i < sizeof targets / sizeof *targets; i++) {
    expect("GET", targets[i], 404);
  }
  expect_slug("/sessions/demo./transcript.txt", "demo.");
  expect_slug("/sessions/a..b/transcript.txt", "a..b");
  assert_int_equal(rig_upgrade(rig, "/live/demo.", ""), 101);
  assert_string_equal(rig->adopted, "demo.");
}

static void test_paths(void **state)
{
  static const char *const nowhere[] = {
      "/nothing",
      "/Healthz",
      "/healthz/",
      "/healthz/x",
      "/healthzx",
      "/metrics/",
      "/dashboard/",
      "/pages",
      "/pages/",
      "/pages/nothing.js",
      "/pages/index.html",
      "/sessions/",
      "/sessions/demo/",

      "/sessions/demo/transcript",
      "/admin",
      "/admin/",
      "/admin/kick/x",
      "/transcript.txt",
      "/sessions/demo/transcript.",
      "/sessions/demo/transcript.TXT",
      "/sessions/demo/transcript.txt/",
      "/sessions/demo/x/transcript.txt",
      "/sessions/demo/transcript.doc",
  };
  for (size_t i = 0; i < sizeof nowhere / sizeof *nowhere; i++) {
    if (strcmp(nowhere[i], "/pages/index.html") != 0) {
      expect("GET", nowhere[i], 404);
    }
  }
  static const char *const pages[] = {"/", "/dashboard", "/pages/viewer.js", "/healthz", "/readyz"};
  for (size_t i = 0; i < sizeof pages / sizeof *pages; i++) {
    expect("GET", pages[i], 200);
    expect("HEAD", pages[i], 200);
    assert_int_equal(rig->body_size, 0);
    assert_null(strstr(rig->head, "Content-Length: 0"));
  }
  for (size_t i = 0; i < 3; i++) { // a page's address has tokens in it
    expect("GET", pages[i], 200);
    assert_non_null(strstr(rig->head, "Referrer-Policy: no-referrer\r\n"));
  }
}

static void set_stuck(const char *name)
{
  pthread_mutex_lock(&rig->mutex);
  rig->stuck = name;
  pthread_mutex_unlock(&rig->mutex);
}

static void set_publisher_refusal(const char *why)
{
  pthread_mutex_lock(&rig->mutex);
  rig->publisher_refusal = why;
  pthread_mutex_unlock(&rig->mutex);
}

// Who sends publishers is told; nobody else goes away for that.
static void test_a_node_that_takes_no_publishers(void **state)
{
  expect("GET", "/readyz?publish=1", 200);
  assert_non_null(strstr(rig->body, "\"status\":\"serving\""));
  set_publisher_refusal("The journal is full.");
  expect("GET", "/readyz", 200);
  expect("GET", "/readyz?publish=0", 200);
  expect("GET", "/readyz?publish=1", 404);
  assert_non_null(strstr(rig->body, "\"status\":\"full\",\"reason\":\"The journal is full.\""));
  set_publisher_refusal(NULL);
  expect("GET", "/readyz?publish=1", 200);
}

// A thread that is no stage's worker, and that hangs, is named as they are.
static void test_whoever_hangs_is_named(void **state)
{
  set_stuck("journal-relay");
  expect("GET", "/healthz", 503);
  assert_non_null(strstr(rig->body, "worker journal-relay has been silent for more than 5 s"));
  expect("GET", "/readyz", 200); // its disk or its database may be that of all nodes
  assert_non_null(strstr(rig->body, "\"status\":\"serving\",\"degraded\":[{\"what\":\"stuck\","));
  assert_non_null(strstr(rig->body, "worker journal-relay has been silent for more than 5 s"));
  expect("GET", "/metrics?format=prometheus", 200);
  assert_non_null(strstr(rig->body, "\nverbacast_stuck{worker=\"journal-relay\"} 1\n"));
  assert_non_null(strstr(rig->body, "\nverbacast_draining 0\n"));
  set_stuck(NULL);
  expect("GET", "/healthz", 200);
  expect("GET", "/readyz", 200);
  assert_null(strstr(rig->body, "worker"));
  expect("GET", "/metrics?format=prometheus", 200);
  assert_null(strstr(rig->body, "verbacast_stuck{"));
}

static void expect_ready(struct rig *node, int status, const char *part)
{
  int got = rig_ask(node, HTTP_DOOR, "GET", "/readyz", "");
  if (got != status || strstr(node->body, part) == NULL) {
    fail_msg("%d, not %d with %s: %s", got, status, part, node->body);
  }
}

// A balancer is to pass it by.
static void test_a_node_whose_stage_hangs_is_not_ready(void **state)
{
  static const struct {
    enum rig_stage stage;
    const char *worker;
  } needed[] = {
      {INGEST, "ingest-0"},       {DECODE, "decode-0"},       {STT, "stt-0"},
      {LEDGER, "ledger-0"},       {BROADCAST, "broadcast-0"}, {PUBLISHER, "redis-publish-0"},
      {WATCHER, "redis-watch-0"},
  };
  struct rig *node = rig_create((const char *const[]){"REDIS_URL=redis://x", NULL}, "");
  char said[128];
  for (size_t i = 0; i < sizeof needed / sizeof *needed; i++) {
    rig_hang(node, needed[i].stage);
    snprintf(said, sizeof said,
             "\"status\":\"stuck\",\"worker\":\"%s\",\"degraded\":[{\"what\":\"stuck\",",
             needed[i].worker);
    expect_ready(node, 503, said);
    rig_unhang(node, needed[i].stage);
    expect_ready(node, 200, "\"status\":\"serving\",\"degraded\":[]");
  }
  rig_destroy(node);
}

// Viewers are served without it; it hides no other that hangs.
static void test_a_node_whose_journal_hangs_is_ready(void **state)
{
  struct rig *node = rig_create((const char *const[]){NULL}, "");
  rig_hang(node, JOURNAL);
  expect_ready(node, 200, "\"status\":\"serving\",\"degraded\":[{\"what\":\"stuck\",");
  assert_non_null(strstr(node->body, "worker journal-0 has been silent for more than 5 s"));
  rig_hang(node, BROADCAST);
  expect_ready(node, 503, "\"status\":\"stuck\",\"worker\":\"broadcast-0\"");
  rig_unhang(node, BROADCAST);
  rig_unhang(node, JOURNAL);
  rig_destroy(node);
}

static void expect_allow(const char *method, const char *target, const char *allow)
{
  char line[64];
  expect(method, target, 405);
  snprintf(line, sizeof line, "Allow: %s\r\n", allow);
  assert_non_null(strstr(rig->head, line));
}

static void test_methods(void **state)
{
  expect_allow("POST", "/metrics", "GET, HEAD");
  expect_allow("DELETE", "/", "GET, HEAD");
  expect_allow("PUT", "/healthz", "GET, HEAD");
  expect_allow("GET", "/admin/kick", "POST");
  expect_allow("GET", "/sessions/demo", "DELETE");
  expect_allow("DELETE", "/sessions/demo/transcript.txt", "GET, HEAD");
  expect("DELETE", "/nothing", 404);
}

static void test_a_sockets_path_without_a_handshake(void **state)
{
  expect("GET", "/live/demo", 426);
  assert_non_null(strstr(rig->head, "Upgrade: websocket\r\n"));
  assert_non_null(strstr(rig->head, "Sec-WebSocket-Version: 13\r\n"));
}

// --- WebSockets

static void test_a_viewer_comes(void **state)
{
  assert_int_equal(rig_upgrade(rig, "/live/d%65mo", ""), 101);
  assert_string_equal(rig->newcomer.slug, "demo");
  assert_int_equal(rig->newcomer.since.epoch, 0);
  assert_int_equal(rig_upgrade(rig, "/live/" SLUG_128, ""), 101);
  assert_string_equal(rig->newcomer.slug, SLUG_128);
  assert_int_equal(rig_upgrade(rig, "/live/" SLUG_128 "x", ""), 404);
  assert_int_equal(rig_upgrade(rig, "/live/demo?token=whatever", ""), 101);
}

static void test_where_no_viewer_comes(void **state)
{
  static const char *const targets[] = {"/",         "/live",       "/live/",         "/live//demo",
                                        "/live/a/b", "/live/demo/", "/sessions/demo", "/nothing",
                                        "/metrics"};
  for (size_t i = 0; i < sizeof targets / sizeof *targets; i++) {
    int status = rig_upgrade(rig, targets[i], "");
    if (status != 404 && strcmp(targets[i], "/live//demo") != 0) {
      fail_msg("%s: %d", targets[i], status);
    }
  }
}

static void test_since(void **state)
{
  assert_int_equal(rig_upgrade(rig, "/live/demo?since=1790000000000.41", ""), 101);
  assert_int_equal(rig->newcomer.since.epoch, 1790000000000);
  assert_int_equal(rig->newcomer.since.seq, 41);
  assert_int_equal(rig_upgrade(rig, "/live/demo?since=1%2E0", ""), 101);
  assert_int_equal(rig->newcomer.since.epoch, 1);
  assert_int_equal(rig_upgrade(rig, "/live/demo?since=", ""), 101);
  assert_int_equal(rig->newcomer.since.epoch, 0);
  static const char *const bad[] = {
      "1",
      "1.",
      ".1",
      "0.1",
      "-1.2",
      "1.-2",
      "1.2.3",
      "1,2",
      "+1.2",
      "1.x",
      "0x1.2",
      "1. 2",
      "%201.2",
      "1.2%00",
      "%",
      "1.%",
      "99999999999999999999.1",
      "1.99999999999999999999",
      "1.00000000000000000000000000000000000000000000000000000000000000"};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    char target[160];
    snprintf(target, sizeof target, "/live/demo?since=%s", bad[i]);
    int status = rig_upgrade(rig, target, "");
    if (status != 400 && strchr(bad[i], ' ') == NULL) {
      fail_msg("since=%s: %d", bad[i], status);
    }
  }
}

static void set_full(int is_full)
{
  pthread_mutex_lock(&rig->mutex);
  rig->is_full = is_full;
  pthread_mutex_unlock(&rig->mutex);
}

static void test_a_full_node_says_so_before_the_handshake(void **state)
{
  set_full(1);
  assert_int_equal(rig_upgrade(rig, "/live/demo", ""), 503);
  assert_non_null(strstr(rig->head, "Retry-After:"));
  set_full(0);
  assert_int_equal(rig_upgrade(rig, "/live/demo", ""), 101);
}

static void set_full_of_sessions(int is_full)
{
  pthread_mutex_lock(&rig->mutex);
  rig->is_full_of_sessions = is_full;
  pthread_mutex_unlock(&rig->mutex);
}

static void test_a_node_full_of_sessions_takes_viewers_of_those_it_holds(void **state)
{
  set_full_of_sessions(1);
  rig_reply(rig, VC_QUERY_BEGAN, (struct rig_reply){.status = 404});
  assert_int_equal(rig_upgrade(rig, "/live/demo", ""), 503);
  assert_non_null(strstr(rig->body, "too many sessions"));
  rig_reply(rig, VC_QUERY_BEGAN, (struct rig_reply){.status = 200, .text = "[0]"});
  assert_int_equal(rig_upgrade(rig, "/live/demo", ""), 101);
  set_full_of_sessions(0);
  rig_reply(rig, VC_QUERY_BEGAN, (struct rig_reply){.status = 404});
  assert_int_equal(rig_upgrade(rig, "/live/demo", ""), 101);
}

static void test_who_is_exempt_of_the_limit_by_address(void **state)
{
  struct vc_address far;
  assert_int_equal(vc_address_parse("192.0.2.1", &far), 0);
  assert_int_equal(rig_upgrade(public, "/live/demo", ""), 101);
  assert_int_equal(public->newcomer.is_exempt, 1);
  assert_int_equal(rig_upgrade(public, "/live/demo", "X-Forwarded-For: 192.0.2.1, 10.1.1.1\r\n"),
                   101);
  assert_int_equal(public->newcomer.is_exempt, 0);
  assert_true(vc_address_equal(&public->newcomer.address, &far));
  assert_int_equal(vc_limits_enter(public->limits, &far, 0), 0); // it may have one
  assert_int_equal(rig_upgrade(public, "/live/demo", "X-Forwarded-For: 192.0.2.1\r\n"), 503);
  assert_int_equal(rig_upgrade(public, "/live/demo", "X-Forwarded-For: 192.0.2.2\r\n"), 101);
  assert_int_equal(rig_upgrade(public, "/live/demo", ""), 101);
  vc_limits_leave(public->limits, &far, 0);
}

static void expect_client(const char *header, const char *address)
{
  char text[VC_ADDRESS_TEXT_MAX];
  assert_int_equal(rig_upgrade(public, "/live/demo", header), 101);
  vc_address_print(&public->newcomer.address, text);
  if (strcmp(text, address) != 0) {
    fail_msg("'%s': %s, not %s", header, text, address);
  }
}

static void test_what_a_proxy_says_of_its_client(void **state)
{
  expect_client("X-Forwarded-For: 2001:db8::1\r\n", "2001:db8::1");
  expect_client("X-Forwarded-For: 192.0.2.1:51234\r\n", "192.0.2.1");
  expect_client("X-Forwarded-For: [2001:db8::1]:51234\r\n", "2001:db8::1");
  expect_client("X-Forwarded-For: [2001:db8::1]\r\n", "2001:db8::1");
  expect_client("X-Forwarded-For: 192.0.2.1:51234, 10.0.0.9:443\r\n", "192.0.2.1");
  expect_client("X-Forwarded-For: 192.0.2.1, unknown\r\n", "127.0.0.1"); // the proxy itself
  expect_client("X-Forwarded-For: 192.0.2.1, [\r\n", "127.0.0.1");
  expect_client("X-Forwarded-For: 192.0.2.1,\r\n", "127.0.0.1");
}

// What a proxy adds stands behind all that the client has written.
static void test_no_headers_hide_the_proxys(void **state)
{
  static const char line[] = "X-Y: z\r\n";
  char headers[1024];
  size_t size = 0;
  for (size_t n = 0; n < 62; n++) {
    size += (size_t)snprintf(headers + size, sizeof headers - size, "%s", line);
  }
  snprintf(headers + size, sizeof headers - size, "X-Forwarded-For: 192.0.2.1\r\n");
  assert_int_equal(rig_ask(public, HTTP_DOOR, "GET", "/healthz", headers), 431);
  assert_int_equal(rig_ask(public, ADMIN_DOOR, "GET", "/healthz", headers), 431);
  assert_int_equal(rig_upgrade(public, "/live/demo", headers), 431);
  const char *fewer = headers + 5 * strlen(line); // with those of a handshake they are 63
  assert_int_equal(rig_ask(public, HTTP_DOOR, "GET", "/healthz", fewer), 200);
  assert_int_equal(rig_upgrade(public, "/live/demo", fewer), 101);
  assert_int_equal(public->newcomer.is_exempt, 0);
}

// --- webhooks

#define WEBHOOK "/livekit/webhook"
#define LENGTH "Content-Length: 1048576\r\n" // of a body that does not come
#define TOO_LONG "Content-Length: 1048577\r\n"

static void expect_webhook(struct rig *to, const char *headers, int status, const char *why)
{
  assert_int_equal(rig_ask(to, HTTP_DOOR, "POST", WEBHOOK, headers), status);
  assert_non_null(strstr(to->body, why));
}

static void expect_whole_webhook(struct rig *to, size_t size, int status)
{
  char *body = malloc(size + 1);
  assert_non_null(body);
  memset(body, 'x', size);
  body[size] = '\0';
  assert_int_equal(rig_post(to, HTTP_DOOR, WEBHOOK, "Authorization: t\r\n", body), status);
  if (status == 200) {
    assert_int_equal(to->webhook_size, size);
    assert_true(to->is_webhook_of_x);
  }
  free(body);
}

// One byte too many, of a body that does not say how long it is.
static void expect_too_large(struct rig *to)
{
  static const char head[] = "Authorization: t\r\nTransfer-Encoding: chunked\r\n\r\n100001\r\n";
  size_t size = sizeof head - 1, n = 1024 * 1024 + 1;
  char *headers = malloc(size + n + 16);
  assert_non_null(headers);
  memcpy(headers, head, size);
  memset(headers + size, 'x', n);
  memcpy(headers + size + n, "\r\n0\r\n", 6);
  expect_webhook(to, headers, 413, "too large");
  free(headers);
}

// Who cannot be LiveKit is not read.
static void test_a_webhook(void **state)
{
  static const char *const environment[] = {"LIVEKIT_API_KEY=key", "LIVEKIT_API_SECRET=secret",
                                            NULL};
  static const size_t sizes[] = {0, 1, 4096, 4097, 8192, 100000, 1024 * 1024 - 1, 1024 * 1024};
  struct rig *keyed = rig_create(environment, "");
  expect_webhook(rig, LENGTH, 404, "LIVEKIT_API_KEY");
  expect_webhook(rig, "Authorization: t\r\n" LENGTH, 404, "LIVEKIT_API_KEY");
  expect_webhook(keyed, LENGTH, 401, "not signed");
  expect_webhook(keyed, "Authorization: another\r\n" LENGTH, 401, "not signed"); // of no body
  assert_int_equal(keyed->n_webhooks, 2);                                        // they are counted
  expect_webhook(keyed, TOO_LONG, 413, "too large");
  expect_webhook(keyed, "Authorization: t\r\n" TOO_LONG, 413, "too large");
  expect_too_large(keyed);
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    expect_whole_webhook(keyed, sizes[i], 200);
    expect_whole_webhook(rig, sizes[i], 404); // it may say all that it has to say
  }
  assert_int_equal(keyed->n_webhooks, 2 + sizeof sizes / sizeof *sizes);
  expect_webhook(keyed, "Authorization: t\r\n" LENGTH, 400, "did not come whole");
  rig_destroy(keyed);
}

// Last: it does not come back from it.
static void test_a_draining_node(void **state)
{
  expect("GET", "/readyz", 200);
  vc_control_drain(rig->control, 0);
  expect("GET", "/readyz", 404);
  expect("GET", "/healthz", 200);
  assert_int_equal(rig_upgrade(rig, "/live/demo", ""), 101);
  vc_control_drain(rig->control, 1);
  assert_int_equal(rig_upgrade(rig, "/live/demo", ""), 503);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_a_sessions_name),
      cmocka_unit_test(test_what_is_no_sessions_name),
      cmocka_unit_test(test_percent_encoding_is_undone_once),
      cmocka_unit_test(test_a_malformed_path),
      cmocka_unit_test(test_operators_have_no_websockets),
      cmocka_unit_test(test_dot_segments_lead_nowhere_else),
      cmocka_unit_test(test_a_path_is_what_it_says),
      cmocka_unit_test(test_paths),
      cmocka_unit_test(test_a_node_that_takes_no_publishers),
      cmocka_unit_test(test_whoever_hangs_is_named),
      cmocka_unit_test(test_a_node_whose_stage_hangs_is_not_ready),
      cmocka_unit_test(test_a_node_whose_journal_hangs_is_ready),
      cmocka_unit_test(test_methods),
      cmocka_unit_test(test_a_sockets_path_without_a_handshake),
      cmocka_unit_test(test_a_viewer_comes),
      cmocka_unit_test(test_where_no_viewer_comes),
      cmocka_unit_test(test_since),
      cmocka_unit_test(test_a_full_node_says_so_before_the_handshake),
      cmocka_unit_test(test_a_node_full_of_sessions_takes_viewers_of_those_it_holds),
      cmocka_unit_test(test_who_is_exempt_of_the_limit_by_address),
      cmocka_unit_test(test_what_a_proxy_says_of_its_client),
      cmocka_unit_test(test_no_headers_hide_the_proxys),
      cmocka_unit_test(test_a_webhook),
      cmocka_unit_test(test_a_draining_node),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
