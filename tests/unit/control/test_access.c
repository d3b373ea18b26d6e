// Who may ask what, on nodes with and without secrets.
#include "no_verdict.h"
#include "rig.h"

#include <verbacast/wire/livekit.h>

#include <stdio.h>
#include <string.h>
#include <time.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define VIEWER "viewer-secret"
#define VIEWER_OLD "viewer-secret-of-yesterday"
#define ADMIN "admin-token"
#define API_KEY "APIkey"
#define API_SECRET "livekit-secret"
#define TRANSCRIPT "/sessions/demo/transcript.txt"
#define BEARER(token) "Authorization: Bearer " token "\r\n"
#define KICK "{\"session\":\"demo\",\"what\":\"viewers\"}"

// The nodes of all tests: nobody changes them.
static struct {
  struct rig *open;      // no secret
  struct rig *closed;    // all secrets
  struct rig *half;      // the viewers' door open, the operators' behind a secret
  struct rig *insecure;  // no secret, --insecure
  struct rig *both_ways; // VIEWER_SECRET, and --insecure all the same
  struct rig *proxied;   // all secrets, 127.0.0.1 is a proxy of ours
  struct rig *both;      // VIEWER_SECRET and LiveKit's keys
  struct rig *livekit;   // LiveKit's keys alone
} nodes;

static struct rig *make(const char *const *environment, const char *proxies)
{
  struct rig *rig = rig_create(environment, proxies);
  rig_reply(rig, VC_QUERY_TRANSCRIPT, (struct rig_reply){.status = 200, .text = "[]"});
  rig_reply(rig, VC_QUERY_KICK_VIEWERS, (struct rig_reply){.status = 200});
  rig_reply(rig, VC_QUERY_SESSIONS, (struct rig_reply){.status = 200, .text = "[]"});
  rig_reply(rig, VC_QUERY_PUBLISHERS, (struct rig_reply){.status = 200, .text = "{}"});
  rig_reply(rig, VC_QUERY_VIEWERS, (struct rig_reply){.status = 200, .text = "{}"});
  rig_reply(rig, VC_QUERY_ERASE, (struct rig_reply){.status = 200});
  rig_reply(rig, VC_QUERY_BEGAN, (struct rig_reply){.status = 404});
  return rig;
}

static int set_up(void **state)
{
  static const char *const all[] = {"VIEWER_SECRET=" VIEWER "," VIEWER_OLD, "ADMIN_TOKEN=" ADMIN,
                                    NULL};
  nodes.open = make(
      (const char *const[]){"ALLOWED_ORIGINS=https://friend.example, http://b.example:80,", NULL},
      "");
  nodes.closed = make(all, "");
  nodes.half = make((const char *const[]){"ADMIN_TOKEN=" ADMIN, NULL}, "");
  nodes.insecure = make((const char *const[]){"INSECURE=1", NULL}, "");
  nodes.both_ways = make((const char *const[]){"INSECURE=1", "VIEWER_SECRET=" VIEWER, NULL}, "");
  nodes.proxied = make(all, "127.0.0.1");
  nodes.both = make((const char *const[]){"VIEWER_SECRET=" VIEWER, "LIVEKIT_API_KEY=new," API_KEY,
                                          "LIVEKIT_API_SECRET=new," API_SECRET, NULL},
                    "");
  nodes.livekit = make(
      (const char *const[]){"LIVEKIT_API_KEY=" API_KEY, "LIVEKIT_API_SECRET=" API_SECRET, NULL},
      "");
  return 0;
}

static void *destroy(void *rig)
{
  rig_destroy(rig);
  return NULL;
}

// All at once: a door takes its time to close.
static int tear_down(void **state)
{
  struct rig *const all[] = {nodes.open,      nodes.closed,  nodes.half, nodes.insecure,
                             nodes.both_ways, nodes.proxied, nodes.both, nodes.livekit};
  pthread_t threads[sizeof all / sizeof *all];
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
    assert_int_equal(pthread_create(&threads[i], NULL, destroy, all[i]), 0);
  }
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
    pthread_join(threads[i], NULL);
  }
  return 0;
}

static void expect(struct rig *rig, enum rig_door door, const char *method, const char *target,
                   const char *headers, int status)
{
  int got = rig_ask(rig, door, method, target, headers);
  if (got != status) {
    fail_msg("%s %s at door %d with '%s': %d, not %d: %s", method, target, (int)door, headers, got,
             status, rig->body);
  }
}

static void expect_why(struct rig *rig, const char *why)
{
  if (strstr(rig->body, why) == NULL) {
    fail_msg("'%s' does not say '%s'", rig->body, why);
  }
}

// --- protected mode

static const char *const far[] = {
    "X-Forwarded-For: 127.0.0.1\r\n",
    "x-forwarded-for: 192.0.2.1\r\n",
    "Forwarded: for=127.0.0.1\r\n",
    "Host: node.example\r\n",
    "Host: 192.0.2.1:3000\r\n",
    "Host: 0.0.0.0:3000\r\n",
    "Host: [::]:3000\r\n",
    "Host: [2001:db8::1]\r\n",
    "Host: localhost.example\r\n",
    "Host: 127.0.0.1.example:80\r\n",
    "Host: [::1].example\r\n",
    "Host: [::1]example:80\r\n",
    "Host: [::1\r\n",
    "Host: []\r\n",
    "Host: localhost:80@node.example\r\n",
    "Host: 2130706433\r\n",
};

static const char *const near[] = {
    "Host: localhost\r\n",      "Host: LocalHost:3000\r\n", "Host: 127.0.0.1\r\n",
    "Host: 127.9.9.9:3000\r\n", "Host: [::1]\r\n",          "Host: [::1]:3000\r\n",
};

static void test_without_a_secret_only_this_machine_is_served(void **state)
{
  static const char *const paths[] = {"/", "/healthz", "/metrics", TRANSCRIPT, "/nothing"};
  for (size_t i = 0; i < sizeof far / sizeof *far; i++) {
    for (size_t p = 0; p < sizeof paths / sizeof *paths; p++) {
      expect(nodes.open, HTTP_DOOR, "GET", paths[p], far[i], 403);
      expect_why(nodes.open, "VIEWER_SECRET, or --insecure");
      expect(nodes.open, ADMIN_DOOR, "GET", paths[p], far[i], 403);
      expect_why(nodes.open, "ADMIN_TOKEN, or --insecure");
    }
    assert_int_equal(rig_upgrade(nodes.open, "/live/demo", far[i]), 403);
  }
  for (size_t i = 0; i < sizeof near / sizeof *near; i++) {
    expect(nodes.open, HTTP_DOOR, "GET", "/healthz", near[i], 200);
    expect(nodes.open, ADMIN_DOOR, "GET", "/healthz", near[i], 200);
    assert_int_equal(rig_upgrade(nodes.open, "/live/demo", near[i]), 101);
  }
}

static void test_a_secret_or_insecure_lets_everybody_ask(void **state)
{
  for (size_t i = 0; i < sizeof far / sizeof *far; i++) {
    expect(nodes.closed, HTTP_DOOR, "GET", "/healthz", far[i], 200);
    expect(nodes.closed, ADMIN_DOOR, "GET", "/metrics", far[i], 200);
    expect(nodes.insecure, HTTP_DOOR, "GET", TRANSCRIPT, far[i], 200);
    expect(nodes.insecure, ADMIN_DOOR, "GET", "/metrics", far[i], 200);
  }
}

// --insecure is for doors without a secret.
static void test_a_secret_counts_although_insecure(void **state)
{
  struct rig *rig = nodes.both_ways;
  static const char *const paths[] = {TRANSCRIPT, "/metrics", "/sessions", "/dashboard"};
  for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
    expect(rig, HTTP_DOOR, "GET", paths[i], "", 401);
    expect(rig, HTTP_DOOR, "GET", paths[i], far[0], 401);
  }
  assert_int_equal(rig_upgrade(rig, "/live/demo", ""), 401);
  expect(rig, ADMIN_DOOR, "GET", TRANSCRIPT, "", 401);
  expect(rig, ADMIN_DOOR, "GET", "/metrics", far[0], 200);
}

static void test_each_door_needs_its_own_secret(void **state)
{
  expect(nodes.half, HTTP_DOOR, "GET", "/healthz", far[0], 403);
  expect(nodes.half, ADMIN_DOOR, "GET", "/healthz", far[0], 200);
}

// The operators' secret opens no transcript to those who do not have it.
static void test_transcripts_at_the_operators_door_are_not_public(void **state)
{
  expect(nodes.half, ADMIN_DOOR, "GET", TRANSCRIPT, "", 200);
  expect(nodes.half, ADMIN_DOOR, "GET", TRANSCRIPT, "X-Forwarded-For: 192.0.2.1\r\n", 401);
  expect(nodes.half, ADMIN_DOOR, "GET", TRANSCRIPT, "Host: node.example\r\n", 401);
  expect(nodes.half, ADMIN_DOOR, "GET", TRANSCRIPT, "Host: node.example\r\n" BEARER("guess"), 401);
  expect(nodes.half, ADMIN_DOOR, "GET", TRANSCRIPT, "Host: node.example\r\n" BEARER(ADMIN), 200);
  expect(nodes.closed, ADMIN_DOOR, "GET", TRANSCRIPT, "", 401);
}

static void check_listeners(const char *http, const char *admin, const char *rtmp,
                            const char *missing)
{
  static const char *const secrets[] = {"VIEWER_SECRET=v", "ADMIN_TOKEN=a", "PUBLISH_SECRET=p"};
  const char *environment[6] = {http, admin};
  size_t n = 2;
  for (size_t i = 0; i < 3; i++) {
    if (missing == NULL || strncmp(secrets[i], missing, strlen(missing)) != 0) {
      environment[n++] = secrets[i];
    }
  }
  struct vc_control_options options;
  struct vc_option_group group = {"Control", vc_control_option_rows, &options};
  struct vc_option_set set = {"test", "A test.", &group, 1, NULL};
  struct vc_error error = {.text = ""};
  char program[] = "test", *arguments[] = {program, NULL};
  assert_int_equal(vc_options_parse(&set, 1, arguments, (char *const *)environment, stdout, &error),
                   VC_OPTIONS_RUN);
  const struct vc_control_beside beside = {rtmp, "", {NULL, NULL}};
  int status = vc_control_check(&options, &beside, &error);
  assert_int_equal(status, missing != NULL ? -1 : 0);
  if (missing != NULL) {
    assert_non_null(strstr(error.text, missing));
    assert_non_null(strstr(error.text, "--insecure"));
    options.insecure = 1;
    assert_int_equal(vc_control_check(&options, &beside, &error), 0);
  }
  vc_options_free(&set);
}

static void test_a_listener_off_loopback_needs_its_secret(void **state)
{
  static const char near_http[] = "HTTP_LISTEN=127.0.0.1:0", far_http[] = "HTTP_LISTEN=0.0.0.0:0";
  static const char near_admin[] = "ADMIN_LISTEN=[::1]:0", far_admin[] = "ADMIN_LISTEN=*:0";
  check_listeners(far_http, near_admin, "127.0.0.1:0", "VIEWER_SECRET");
  check_listeners(near_http, far_admin, "127.0.0.1:0", "ADMIN_TOKEN");
  check_listeners(near_http, near_admin, "[::]:0", "PUBLISH_SECRET");
  check_listeners(far_http, far_admin, "192.0.2.1:0", NULL);
}

static void test_livekits_keys_protect_the_viewers_door_only(void **state)
{
  struct vc_error error;
  struct vc_control_options options = nodes.livekit->options;
  struct vc_control_beside beside = {
      "127.0.0.1:0", "", {nodes.livekit->livekit.api_key, nodes.livekit->livekit.api_secret}};
  options.http_listen = "0.0.0.0:0";
  assert_int_equal(vc_control_check(&options, &beside, &error), 0);
  options.admin_listen = "0.0.0.0:0";
  assert_int_equal(vc_control_check(&options, &beside, &error), -1);
  assert_non_null(strstr(error.text, "ADMIN_TOKEN"));
  options.admin_listen = "127.0.0.1:0";
  beside.livekit.api_key = "";
  assert_int_equal(vc_control_check(&options, &beside, &error), -1);
  assert_non_null(strstr(error.text, "VIEWER_SECRET"));
  beside = (struct vc_control_beside){"127.0.0.1:0", "", {API_KEY, NULL}};
  assert_int_equal(vc_control_check(&options, &beside, &error), -1);
  beside = (struct vc_control_beside){
      "0.0.0.0:0", "", {nodes.livekit->livekit.api_key, nodes.livekit->livekit.api_secret}};
  assert_int_equal(vc_control_check(&options, &beside, &error), -1);
  assert_non_null(strstr(error.text, "PUBLISH_SECRET"));
}

static void test_a_proxy_before_rtmp_needs_the_publishers_secret(void **state)
{
  struct vc_error error;
  struct vc_control_beside beside = {"127.0.0.1:0", "10.0.0.0/8", {NULL, NULL}};
  assert_int_equal(vc_control_check(&nodes.open->options, &beside, &error), -1);
  assert_non_null(strstr(error.text, "PUBLISH_SECRET"));
  beside.trusted_proxies = "";
  assert_int_equal(vc_control_check(&nodes.open->options, &beside, &error), 0);
}

// --- origins

static const struct {
  const char *origin; // with Host: 127.0.0.1:3000
  int is_ours;
} origins[] = {
    {"http://127.0.0.1:3000", 1},
    {"https://127.0.0.1:3000", 1},
    {"https://friend.example", 1},
    {"HTTPS://Friend.Example", 1},
    {"http://b.example:80", 1},
    {"http://127.0.0.1:3001", 0},
    {"http://127.0.0.1", 0},
    {"http://localhost:3000", 0},
    {"https://elsewhere.example", 0},
    {"https://friend.example.elsewhere.example", 0},
    {"https://friend.exampl", 0},
    {"http://friend.example", 0},
    {"https://friend.example:8443", 0},
    {"friend.example", 0},
    {"null", 0},
    {"", 0},
    {",", 0},
    {"https://friend.example, http://b.example:80", 0},
    {"http://elsewhere.example#://127.0.0.1:3000", 0},
};

static void test_foreign_origins_change_nothing(void **state)
{
  char headers[256];
  for (size_t i = 0; i < sizeof origins / sizeof *origins; i++) {
    int want = origins[i].is_ours ? 200 : 403;
    snprintf(headers, sizeof headers, "Host: 127.0.0.1:3000\r\nOrigin: %s\r\n", origins[i].origin);
    expect(nodes.open, HTTP_DOOR, "DELETE", "/sessions/demo", headers, want);
    expect(nodes.open, ADMIN_DOOR, "DELETE", "/sessions/demo", headers, want);
    assert_int_equal(rig_post(nodes.open, HTTP_DOOR, "/admin/kick", headers, KICK), want);
    assert_int_equal(rig_upgrade(nodes.open, "/live/demo", headers), want == 200 ? 101 : 403);
    expect(nodes.open, HTTP_DOOR, "GET", TRANSCRIPT, headers, 200); // it reads, and no page gets it
  }
}

static void test_a_missing_origin_is_no_foreign_one(void **state)
{
  expect(nodes.open, HTTP_DOOR, "DELETE", "/sessions/demo", "", 200);
  assert_int_equal(rig_post(nodes.open, HTTP_DOOR, "/admin/kick", "", KICK), 200);
  assert_int_equal(rig_upgrade(nodes.open, "/live/demo", ""), 101);
}

// --- viewers

static void expect_token(const char *token, int status, const char *why)
{
  char headers[8300], target[8300];
  snprintf(headers, sizeof headers, BEARER("%s"), token);
  snprintf(target, sizeof target, TRANSCRIPT "?token=%s", token);
  expect(nodes.closed, HTTP_DOOR, "GET", TRANSCRIPT, headers, status);
  expect_why(nodes.closed, why);
  expect(nodes.closed, HTTP_DOOR, "GET", target, "", status);
  expect_why(nodes.closed, why);
  snprintf(target, sizeof target, "/live/demo?token=%s", token);
  assert_int_equal(rig_upgrade(nodes.closed, target, ""), status == 200 ? 101 : status);
  assert_int_equal(rig_upgrade(nodes.closed, "/live/demo", headers), status == 200 ? 101 : status);
}

static void test_a_viewers_token(void **state)
{
  expect(nodes.closed, HTTP_DOOR, "GET", TRANSCRIPT, "", 401);
  expect_why(nodes.closed, "a token is needed");
  assert_non_null(strstr(nodes.closed->head, "WWW-Authenticate: Bearer"));
  assert_int_equal(rig_upgrade(nodes.closed, "/live/demo", ""), 401);
  expect_token(rig_token(VIEWER, "HS256", rig_grants("demo", 60)), 200, "");
  expect_token(rig_token(VIEWER_OLD, "HS256", rig_grants("demo", 60)), 200, "");
  expect_token(rig_token(VIEWER, "HS256", rig_grants("*", 60)), 200, "");
  expect_token(rig_token(VIEWER, "HS256", rig_grants("other", 60)), 403, "for another session");
  expect_token(rig_token(VIEWER, "HS256", rig_grants("demo", -60)), 401, "has expired");
  expect_token(rig_token("guess", "HS256", rig_grants("demo", 60)), 401, "is not valid");
  expect_token(ADMIN, 401, "is not valid");
  expect_token(VIEWER, 401, "is not valid");
}

static void expect_expired(const char *began, int status)
{
  rig_reply(nodes.closed, VC_QUERY_BEGAN, (struct rig_reply){.status = 200, .text = began});
  expect_token(rig_token(VIEWER, "HS256", rig_grants("demo", -60)), status,
               status == 200 ? "" : "has expired");
}

static void test_an_expired_token_of_a_session_that_is_on(void **state)
{
  expect_expired("[1000000000000]", 200); // long ago
  assert_true(nodes.closed->newcomer.expires_ms < vc_clock_unix_ms(&vc_clock_system));
  assert_true(nodes.closed->newcomer.expires_ms > INT64_C(1000000000000));
  expect_token(rig_token(VIEWER, "HS256", rig_grants("other", -60)), 403, "for another session");
  expect_expired("[9000000000000]", 401); // later than the token's end
  expect_expired("[]", 401);
  char claims[256];
  snprintf(claims, sizeof claims, "{\"session\":\"demo\",\"exp\":%ld,\"nbf\":1000000000}",
           (long)time(NULL) - 60);
  rig_reply(nodes.closed, VC_QUERY_BEGAN,
            (struct rig_reply){.status = 200, .text = "[1000000000000]"});
  expect_token(rig_token(VIEWER, "HS256", claims), 200, "");
  assert_int_equal(nodes.closed->newcomer.begins_ms, INT64_C(1000000000000) - 5000);
  rig_reply(nodes.closed, VC_QUERY_BEGAN,
            (struct rig_reply){.status = 200, .text = "[900000000000]"});
  expect_token(rig_token(VIEWER, "HS256", claims), 401, "has expired");
  rig_reply(nodes.closed, VC_QUERY_BEGAN, (struct rig_reply){.status = 404});
}

static long count_refused_tokens(void)
{
  static const char name[] = "\"http.token_refused_total\":";
  expect(nodes.closed, ADMIN_DOOR, "GET", "/metrics", BEARER(ADMIN), 200);
  const char *counter = strstr(nodes.closed->body, name);
  assert_non_null(counter);
  return strtol(counter + strlen(name), NULL, 10);
}

// What is not known of it counts as no refusal.
static void test_an_expired_token_at_a_busy_node(void **state)
{
  rig_reply(nodes.closed, VC_QUERY_BEGAN, (struct rig_reply){.status = 503});
  long n_refused = count_refused_tokens();
  expect_token(rig_token(VIEWER, "HS256", rig_grants("demo", -60)), 503, "is not known");
  rig_reply(nodes.closed, VC_QUERY_BEGAN, (struct rig_reply){.status = 200, .text = "["});
  expect_token(rig_token(VIEWER, "HS256", rig_grants("demo", -60)), 503, "is not known");
  assert_int_equal(count_refused_tokens(), n_refused);
  rig_reply(nodes.closed, VC_QUERY_BEGAN, (struct rig_reply){.status = 404});
  no_memory_for_queries(VC_QUERY_BEGAN);
  expect_token(rig_token(VIEWER, "HS256", rig_grants("demo", -60)), 503, "is not known");
  no_memory_for_queries(-1);
  assert_int_equal(count_refused_tokens(), n_refused);
  expect(nodes.closed, HTTP_DOOR, "GET", TRANSCRIPT, "", 401);
  assert_int_equal(count_refused_tokens(), n_refused + 1);
  expect_token(rig_token(VIEWER, "HS256", rig_grants("other", -60)), 403, "for another session");
}

static void test_a_token_that_is_too_long_is_none(void **state)
{
  char target[6000];
  snprintf(target, sizeof target, TRANSCRIPT "?token=%05000d", 0);
  expect(nodes.closed, HTTP_DOOR, "GET", target, "", 401);
  expect(nodes.closed, HTTP_DOOR, "GET", TRANSCRIPT "?token=%zz", "", 401);
  expect(nodes.closed, HTTP_DOOR, "GET", TRANSCRIPT "?token=", "", 401);
}

// --- LiveKit's tokens

#define ROOM_DEMO "\"room\":\"demo\",\"roomJoin\":true"

// `video`: what its object holds. Returns: the claims, good until the next call.
static const char *join_claims(const char *iss, const char *video, long seconds)
{
  static char claims[1024];
  snprintf(claims, sizeof claims, "{\"iss\":\"%s\",\"sub\":\"anna\",\"exp\":%ld,\"video\":{%s}}",
           iss, (long)time(NULL) + seconds, video);
  return claims;
}

static void expect_join(struct rig *rig, const char *secret, const char *claims, int status,
                        const char *why)
{
  char headers[8300], target[8300];
  const char *token = rig_token(secret, "HS256", claims);
  snprintf(headers, sizeof headers, "Host: node.example\r\n" BEARER("%s"), token);
  snprintf(target, sizeof target, "/live/demo?token=%s", token);
  expect(rig, HTTP_DOOR, "GET", TRANSCRIPT, headers, status);
  expect_why(rig, why);
  assert_int_equal(rig_upgrade(rig, target, "Host: node.example\r\n"),
                   status == 200 ? 101 : status);
}

static void test_a_token_to_join_the_room(void **state)
{
  struct rig *const rigs[] = {nodes.both, nodes.livekit};
  for (size_t i = 0; i < 2; i++) {
    struct rig *rig = rigs[i];
    expect_join(rig, API_SECRET, join_claims(API_KEY, ROOM_DEMO, 60), 200, "");
    expect_join(rig, API_SECRET, join_claims(API_KEY, ROOM_DEMO ",\"canSubscribe\":true", 60), 200,
                "");
    expect_join(rig, API_SECRET, join_claims(API_KEY, ROOM_DEMO ",\"canSubscribe\":false", 60), 403,
                "hear the room");
    expect_join(rig, API_SECRET, join_claims("APIother", ROOM_DEMO, 60), 401, "LIVEKIT_API_KEY");
    expect_join(rig, API_SECRET, join_claims("", ROOM_DEMO, 60), 401, "LIVEKIT_API_KEY");
    expect_join(rig, API_SECRET, join_claims(API_KEY, "\"room\":\"other\",\"roomJoin\":true", 60),
                403, "another session");
    expect_join(rig, API_SECRET, join_claims(API_KEY, "\"room\":\"*\",\"roomJoin\":true", 60), 403,
                "another session");
    expect_join(rig, API_SECRET, join_claims(API_KEY, "\"room\":\"demo\"", 60), 403, "join a room");
    expect_join(rig, API_SECRET, join_claims(API_KEY, "\"roomJoin\":true", 60), 403, "join a room");
    expect_join(rig, API_SECRET, join_claims(API_KEY, "\"room\":\"demo\",\"roomJoin\":1", 60), 403,
                "join a room");
    expect_join(rig, API_SECRET,
                join_claims(API_KEY, "\"room\":\"demo\",\"roomJoin\":false,\"roomAdmin\":true", 60),
                403, "join a room");
    expect_join(rig, API_SECRET, join_claims(API_KEY, ROOM_DEMO, -60), 401, "has expired");
    expect_join(rig, API_SECRET, "{\"iss\":\"" API_KEY "\",\"video\":{" ROOM_DEMO "}}", 401, "exp");
    expect_join(rig, "guess", join_claims(API_KEY, ROOM_DEMO, 60), 401, "not signed with a key");
    // LiveKit's secret makes no token of our own kind.
    expect_join(rig, API_SECRET, rig_grants("demo", 60), 401, "LIVEKIT_API_KEY");
  }
  expect_join(nodes.both, API_SECRET, join_claims("new", ROOM_DEMO, 60), 200, "");
  expect_join(nodes.both, "new", join_claims(API_KEY, ROOM_DEMO, 60), 200, "");
  expect_join(nodes.both, VIEWER, join_claims(API_KEY, ROOM_DEMO, 60), 401, "names no session");
  expect_join(nodes.both, VIEWER, rig_grants("demo", 60), 200, "");
  expect_join(nodes.both, VIEWER, rig_grants("other", 60), 403, "another session");
}

// For one of the two that it may be signed with.
static void test_no_memory_for_a_token_to_join(void **state)
{
  const char *token = rig_token(API_SECRET, "HS256", join_claims(API_KEY, ROOM_DEMO, 60));
  char target[8300];
  snprintf(target, sizeof target, "/live/demo?token=%s", token);
  for (int i = 1; i <= 2; i++) {
    no_memory_for_token(i);
    int status = rig_upgrade(nodes.both, target, "Host: node.example\r\n");
    assert_int_equal(status, i == 1 ? 101 : 503); // the second alone can tell of it
  }
  assert_non_null(strstr(nodes.both->body, "no memory"));
}

// The room's name is no session's: its session is called otherwise.
static void test_a_token_of_a_room_whose_name_is_no_slug(void **state)
{
  char slug[VC_LIVEKIT_SLUG_MAX + 1], target[512], headers[8300];
  assert_int_equal(vc_slug_of_room("Raum 1", slug), 1);
  snprintf(headers, sizeof headers, "Host: node.example\r\n" BEARER("%s"),
           rig_token(API_SECRET, "HS256",
                     join_claims(API_KEY, "\"room\":\"Raum 1\",\"roomJoin\":true", 60)));
  snprintf(target, sizeof target, "/sessions/%s/transcript.txt", slug);
  expect(nodes.livekit, HTTP_DOOR, "GET", target, headers, 200);
  no_memory_for_digest(1);
  expect(nodes.livekit, HTTP_DOOR, "GET", target, headers, 503);
  expect(nodes.livekit, HTTP_DOOR, "GET", TRANSCRIPT, headers, 403);
  // Nor does a room that is called as that session let anybody to it.
  char claims[256];
  snprintf(claims, sizeof claims, "\"room\":\"%s\",\"roomJoin\":true", slug);
  snprintf(headers, sizeof headers, "Host: node.example\r\n" BEARER("%s"),
           rig_token(API_SECRET, "HS256", join_claims(API_KEY, claims, 60)));
  expect(nodes.livekit, HTTP_DOOR, "GET", target, headers, 403);
}

static void test_an_expired_token_to_join_a_session_that_is_on(void **state)
{
  rig_reply(nodes.both, VC_QUERY_BEGAN,
            (struct rig_reply){.status = 200, .text = "[1000000000000]"});
  expect_join(nodes.both, API_SECRET, join_claims(API_KEY, ROOM_DEMO, -60), 200, "");
  expect_join(nodes.both, API_SECRET, join_claims("APIother", ROOM_DEMO, -60), 401, "KEY");
  rig_reply(nodes.both, VC_QUERY_BEGAN, (struct rig_reply){.status = 404});
}

// A node may have LiveKit's keys for its webhooks alone: this machine is asked for nothing, as
// without them; others are.
static void test_livekits_keys_alone_close_the_door_to_others(void **state)
{
  for (size_t i = 0; i < sizeof near / sizeof *near; i++) {
    expect(nodes.livekit, HTTP_DOOR, "GET", TRANSCRIPT, near[i], 200);
    expect(nodes.livekit, HTTP_DOOR, "GET", "/metrics", near[i], 200);
    assert_int_equal(rig_upgrade(nodes.livekit, "/live/demo", near[i]), 101);
  }
  for (size_t i = 0; i < sizeof far / sizeof *far; i++) {
    expect(nodes.livekit, HTTP_DOOR, "GET", TRANSCRIPT, far[i], 401);
    expect(nodes.livekit, HTTP_DOOR, "GET", "/metrics", far[i], 401);
    expect(nodes.livekit, HTTP_DOOR, "GET", "/sessions", far[i], 401);
    expect(nodes.livekit, HTTP_DOOR, "GET", "/dashboard", far[i], 401);
    expect(nodes.livekit, HTTP_DOOR, "GET", "/healthz", far[i], 200);
    assert_int_equal(rig_upgrade(nodes.livekit, "/live/demo", far[i]), 401);
    expect(nodes.livekit, ADMIN_DOOR, "GET", "/metrics", far[i], 403);
    expect(nodes.livekit, ADMIN_DOOR, "GET", TRANSCRIPT, far[i], 403);
  }
  expect(nodes.both, HTTP_DOOR, "GET", TRANSCRIPT, near[0], 401);
}

// --- operators

static const char *const reads[] = {"/metrics", "/sessions", "/dashboard"};

static void test_reading_is_open_until_viewers_need_a_token(void **state)
{
  for (size_t i = 0; i < sizeof reads / sizeof *reads; i++) {
    expect(nodes.open, HTTP_DOOR, "GET", reads[i], "", 200);
    expect(nodes.open, ADMIN_DOOR, "GET", reads[i], "", 200);
    expect(nodes.half, HTTP_DOOR, "GET", reads[i], "", 200);
    expect(nodes.half, ADMIN_DOOR, "GET", reads[i], far[0], 200);
    expect(nodes.closed, HTTP_DOOR, "GET", reads[i], "", 401);
    expect(nodes.closed, HTTP_DOOR, "GET", reads[i], BEARER("guess"), 401);
    expect(nodes.closed, HTTP_DOOR, "GET", reads[i], BEARER(ADMIN "x"), 401);
    expect(nodes.closed, HTTP_DOOR, "GET", reads[i], "Authorization: Basic " ADMIN "\r\n", 401);
    expect(nodes.closed, HTTP_DOOR, "GET", reads[i], "Authorization: bearer " ADMIN "\r\n", 200);
    expect(nodes.closed, HTTP_DOOR, "GET", reads[i], BEARER(ADMIN), 200);
    expect(nodes.closed, ADMIN_DOOR, "GET", reads[i], "", 200);
    expect(nodes.closed, ADMIN_DOOR, "GET", reads[i], BEARER("guess"), 401);
  }
}

static void expect_change(struct rig *rig, enum rig_door door, const char *headers, int status)
{
  expect(rig, door, "DELETE", "/sessions/demo", headers, status);
  int got = rig_post(rig, door, "/admin/kick", headers, KICK);
  if (got != status) {
    fail_msg("kick at door %d with '%s': %d, not %d", (int)door, headers, got, status);
  }
}

static void test_changing_needs_the_token_off_loopback(void **state)
{
  expect_change(nodes.open, HTTP_DOOR, "", 200);
  expect_change(nodes.open, ADMIN_DOOR, "", 200);
  expect_change(nodes.half, ADMIN_DOOR, "", 200);
  expect_change(nodes.closed, ADMIN_DOOR, "", 200);
  expect_change(nodes.closed, HTTP_DOOR, "", 401);
  expect_change(nodes.closed, HTTP_DOOR, BEARER("guess"), 401);
  expect_change(nodes.closed, HTTP_DOOR, BEARER(ADMIN), 200);
  expect_change(nodes.closed, ADMIN_DOOR, BEARER("guess"), 401);
}

// What comes from this machine's address is not always from this machine: a proxy says so, or the
// name that a web page made to point here.
static void test_behind_a_proxy_is_off_loopback(void **state)
{
  struct rig *const all[] = {nodes.half, nodes.closed, nodes.insecure, nodes.proxied};
  for (size_t i = 0; i < sizeof far / sizeof *far; i++) {
    for (size_t n = 0; n < sizeof all / sizeof *all; n++) {
      char headers[256];
      expect_change(all[n], ADMIN_DOOR, far[i], 401);
      snprintf(headers, sizeof headers, "%s" BEARER(ADMIN), far[i]);
      expect_change(all[n], ADMIN_DOOR, headers, all[n] == nodes.insecure ? 401 : 200);
    }
  }
}

static void test_a_viewers_token_is_no_operators(void **state)
{
  char headers[8300];
  snprintf(headers, sizeof headers, BEARER("%s"), rig_token(VIEWER, "HS256", rig_grants("*", 60)));
  expect(nodes.closed, HTTP_DOOR, "GET", "/metrics", headers, 401);
  expect_change(nodes.closed, ADMIN_DOOR, headers, 401);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_without_a_secret_only_this_machine_is_served),
      cmocka_unit_test(test_a_secret_or_insecure_lets_everybody_ask),
      cmocka_unit_test(test_a_secret_counts_although_insecure),
      cmocka_unit_test(test_each_door_needs_its_own_secret),
      cmocka_unit_test(test_transcripts_at_the_operators_door_are_not_public),
      cmocka_unit_test(test_a_listener_off_loopback_needs_its_secret),
      cmocka_unit_test(test_livekits_keys_protect_the_viewers_door_only),
      cmocka_unit_test(test_a_proxy_before_rtmp_needs_the_publishers_secret),
      cmocka_unit_test(test_foreign_origins_change_nothing),
      cmocka_unit_test(test_a_missing_origin_is_no_foreign_one),
      cmocka_unit_test(test_a_viewers_token),
      cmocka_unit_test(test_an_expired_token_of_a_session_that_is_on),
      cmocka_unit_test(test_an_expired_token_at_a_busy_node),
      cmocka_unit_test(test_a_token_that_is_too_long_is_none),
      cmocka_unit_test(test_a_token_to_join_the_room),
      cmocka_unit_test(test_no_memory_for_a_token_to_join),
      cmocka_unit_test(test_a_token_of_a_room_whose_name_is_no_slug),
      cmocka_unit_test(test_an_expired_token_to_join_a_session_that_is_on),
      cmocka_unit_test(test_livekits_keys_alone_close_the_door_to_others),
      cmocka_unit_test(test_reading_is_open_until_viewers_need_a_token),
      cmocka_unit_test(test_changing_needs_the_token_off_loopback),
      cmocka_unit_test(test_behind_a_proxy_is_off_loopback),
      cmocka_unit_test(test_a_viewers_token_is_no_operators),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
