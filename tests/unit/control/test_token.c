// What a token must be, asked as a publisher of RTMP asks: the time is the test's.
#include "rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "no_memory.h"

#define SECRET "publish-secret"
#define OLD "publish-secret-of-yesterday"
#define NOW INT64_C(1790000000)
#define GOOD "{\"session\":\"demo\",\"exp\":1790000060}"

static struct vc_control_options options;
static struct vc_option_group group = {"Control", vc_control_option_rows, &options};
static struct vc_option_set set = {"test", "A test.", &group, 1, NULL};

static int set_up(void **state)
{
  char program[] = "test", secret[] = "PUBLISH_SECRET=" SECRET "," OLD;
  char *arguments[] = {program, NULL}, *environment[] = {secret, NULL};
  struct vc_error error;
  return vc_options_parse(&set, 1, arguments, environment, stdout, &error) != VC_OPTIONS_RUN;
}

static int tear_down(void **state)
{
  vc_options_free(&set);
  return 0;
}

// `why`: NULL where it may publish.
static void expect_in(int64_t now_s, int64_t began_s, const char *slug, const char *token,
                      const char *why)
{
  const struct vc_publisher_times times = {now_s * 1000, began_s * 1000};
  char query[8300];
  snprintf(query, sizeof query, "token=%s", token);
  struct vc_publisher_answer got = vc_control_authorize_publisher(&options, slug, query, times);
  if ((got.status != 0) != (why != NULL) || (why != NULL && strstr(got.why, why) == NULL) ||
      got.is_expired != (why != NULL && strcmp(why, "expired") == 0)) {
    fail_msg("'%s': %d, '%s', %d, not '%s'", token, got.status, got.why != NULL ? got.why : "",
             got.is_expired, why != NULL ? why : "let in");
  }
}

static void expect_at(int64_t now_s, const char *slug, const char *token, const char *why)
{
  expect_in(now_s, 0, slug, token, why);
}

static void expect(const char *token, const char *why)
{
  expect_at(NOW, "demo", token, why);
}

static void expect_grants(const char *grants, const char *why)
{
  expect(rig_token(SECRET, "HS256", grants), why);
}

static void test_a_good_token(void **state)
{
  expect_grants(GOOD, NULL);
  expect_grants("{\"exp\":1790000060,\"session\":\"*\",\"name\":\"anybody\"}", NULL);
  expect(rig_token(OLD, "HS256", GOOD), NULL);
}

static char good_query[8300];

static void ask_good(void)
{
  const struct vc_publisher_times times = {NOW * 1000, 0};
  int status = vc_control_authorize_publisher(&options, "demo", good_query, times).status;
  assert_int_equal(status, memory_has_failed ? 503 : 0);
}

// It is not the token that is wrong then.
static void test_no_memory(void **state)
{
  snprintf(good_query, sizeof good_query, "token=%s", rig_token(SECRET, "HS256", GOOD));
  assert_true(memory_fail_each(ask_good) > 10);
}

static void test_no_token(void **state)
{
  const struct vc_publisher_times times = {NOW * 1000, 0};
  static const char *const queries[] = {"", "token", "tokens=x", "a=b&c", "token=%", "token=%00"};
  for (size_t i = 0; i < sizeof queries / sizeof *queries; i++) {
    assert_int_equal(vc_control_authorize_publisher(&options, "demo", queries[i], times).status,
                     401);
  }
  char query[8300];
  snprintf(query, sizeof query, "token=%08000d", 0);
  assert_int_equal(vc_control_authorize_publisher(&options, "demo", query, times).status, 401);
}

static void test_without_a_secret_nobody_is_asked(void **state)
{
  const struct vc_control_options open = {.publish_secret = NULL};
  const struct vc_publisher_times times = {NOW * 1000, 0};
  assert_int_equal(vc_control_authorize_publisher(&open, "demo", "", times).status, 0);
}

static void test_a_secret_counts_although_insecure(void **state)
{
  options.insecure = 1;
  expect("", "not valid");
  expect(rig_token("guess", "HS256", GOOD), "not valid");
  options.insecure = 0;
}

static void test_time(void **state)
{
  const char *token = rig_token(SECRET, "HS256", GOOD);
  expect_at(NOW + 64, "demo", token, NULL); // the clocks may differ by 5 s
  expect_at(NOW + 65, "demo", token, "expired");
  expect_at(NOW + 1000000, "demo", token, "expired");
}

static void test_the_clocks_leeway(void **state)
{
  const char *token =
      rig_token(SECRET, "HS256", "{\"session\":\"demo\",\"exp\":1790000060,\"nbf\":1790000000}");
  options.token_leeway_ms = 0;
  expect_at(NOW - 1, "demo", token, "not valid yet");
  expect_at(NOW + 59, "demo", token, NULL);
  expect_at(NOW + 60, "demo", token, "expired");
  options.token_leeway_ms = 300000;
  expect_at(NOW - 300, "demo", token, NULL);
  expect_at(NOW + 359, "demo", token, NULL);
  expect_at(NOW + 360, "demo", token, "expired");
  options.token_leeway_ms = 5000;
}

static void test_one_that_was_valid_when_its_session_began(void **state)
{
  const char *token = rig_token(SECRET, "HS256", GOOD);
  expect_in(NOW + 1000, NOW + 64, "demo", token, NULL);
  expect_in(NOW + 1000, NOW + 65, "demo", token, "expired");
  expect_in(NOW + 1000, NOW + 59, "other", token, "another session");
  expect_in(NOW, NOW - 60, "demo", rig_token("guess", "HS256", GOOD), "not valid");
}

// Made while the session was on: it was not valid when that began.
static void test_one_that_began_later_than_its_session(void **state)
{
  const char *token =
      rig_token(SECRET, "HS256", "{\"session\":\"demo\",\"exp\":1790000060,\"nbf\":1790000000}");
  expect_in(NOW + 30, NOW - 1000, "demo", token, NULL);
  expect_in(NOW + 1000, NOW - 6, "demo", token, "expired");
  expect_in(NOW + 1000, NOW - 5, "demo", token, NULL); // the clocks may differ by 5 s
  expect_in(NOW + 1000, NOW + 64, "demo", token, NULL);
  expect_in(NOW + 1000, NOW + 65, "demo", token, "expired");
}

static void test_an_expiry_that_never_comes(void **state)
{
  expect_grants("{\"session\":\"demo\",\"exp\":9223372036854775807}", NULL);
}

static void test_an_expiry_is_needed(void **state)
{
  static const char *const grants[] = {
      "{\"session\":\"demo\"}",
      "{\"session\":\"demo\",\"exp\":0}",
      "{\"session\":\"demo\",\"exp\":-1}",
      "{\"session\":\"demo\",\"exp\":null}",
      "{\"session\":\"demo\",\"exp\":\"1790000060\"}",
      "{\"session\":\"demo\",\"exp\":[1790000060]}",
      "{\"session\":\"demo\",\"exp\":true}",
  };
  for (size_t i = 0; i < sizeof grants / sizeof *grants; i++) {
    expect_grants(grants[i], "not valid");
  }
}

// RFC 7519: a NumericDate may have a fraction.
static void test_times_with_a_fraction(void **state)
{
  expect_grants("{\"session\":\"demo\",\"exp\":1790000060.5}", NULL);
  expect_grants("{\"session\":\"demo\",\"exp\":1789999994.5}", "expired");
  expect_grants("{\"session\":\"demo\",\"exp\":1e300}", NULL);
  expect_grants("{\"session\":\"demo\",\"exp\":1790000060,\"nbf\":1790000030.5}", "not valid");
}

static void test_a_token_that_is_not_good_yet(void **state)
{
  expect_grants("{\"session\":\"demo\",\"exp\":1790000060,\"nbf\":1789999999}", NULL);
  expect_grants("{\"session\":\"demo\",\"exp\":1790000060,\"nbf\":1790000005}", NULL);
  expect_grants("{\"session\":\"demo\",\"exp\":1790000060,\"nbf\":1790000006}", "not valid");
  expect_grants("{\"session\":\"demo\",\"exp\":1790000060,\"nbf\":9223372036854775807}",
                "not valid");
  expect_grants("{\"session\":\"demo\",\"exp\":1790000060,\"nbf\":\"tomorrow\"}", "not valid");
}

static void test_sessions(void **state)
{
  static const char *const others[] = {"other", "Demo", "demo2", "dem", "", "demo*", "d*", "**"};
  for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
    char grants[128];
    snprintf(grants, sizeof grants, "{\"session\":\"%s\",\"exp\":1790000060}", others[i]);
    expect_grants(grants, "another session");
  }
  expect_grants("{\"exp\":1790000060}", "not valid");
  expect_grants("{\"session\":null,\"exp\":1790000060}", "not valid");
  expect_grants("{\"session\":[\"demo\"],\"exp\":1790000060}", "not valid");
  expect_grants("{\"session\":7,\"exp\":1790000060}", "not valid");
  expect_at(NOW, "*", rig_token(SECRET, "HS256", GOOD), "another session");
}

static void test_signatures(void **state)
{
  static const char *const algorithms[] = {"none", "HS384", "HS512"};
  for (size_t i = 0; i < sizeof algorithms / sizeof *algorithms; i++) {
    expect(rig_token(SECRET, algorithms[i], GOOD), "not valid");
  }
  expect(rig_token("guess", "HS256", GOOD), "not valid");
  expect(rig_token(SECRET "," OLD, "HS256", GOOD), "not valid");
  expect(rig_token(SECRET "x", "HS256", GOOD), "not valid");
}

// Every byte of it counts.
static void test_a_changed_token_is_none(void **state)
{
  char token[1024];
  snprintf(token, sizeof token, "%s", rig_token(SECRET, "HS256", GOOD));
  size_t n = strlen(token);
  for (size_t i = 0; i + 1 < n; i++) { // the last digit has bits that mean nothing
    char was = token[i];
    token[i] = was == 'A' ? 'B' : 'A';
    expect(token, "not valid");
    token[i] = was;
  }
  for (size_t i = 0; i < n; i++) {
    char was = token[i];
    token[i] = '\0';
    expect(token, "not valid");
    token[i] = was;
  }
  expect(token, NULL);
}

static void test_what_is_no_token(void **state)
{
  static const char *const texts[] = {
      ".", "..", "...", "....", "a.b.c", "e30.e30.", "bnVsbA.bnVsbA.bnVsbA", "eyJhbGciOiJIUzI1NiJ9",
      "eyJhbGciOiJIUzI1NiJ9..", "W10.W10.W10",
      // {"alg":"none"} and {"alg":"NONE"}, unsigned
      "eyJhbGciOiJub25lIn0.eyJzZXNzaW9uIjoiKiIsImV4cCI6OTk5OTk5OTk5OX0.",
      "eyJhbGciOiJOT05FIn0.eyJzZXNzaW9uIjoiKiIsImV4cCI6OTk5OTk5OTk5OX0."};
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
    expect(texts[i], "not valid");
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_a_good_token),
      cmocka_unit_test(test_no_memory),
      cmocka_unit_test(test_no_token),
      cmocka_unit_test(test_without_a_secret_nobody_is_asked),
      cmocka_unit_test(test_a_secret_counts_although_insecure),
      cmocka_unit_test(test_time),
      cmocka_unit_test(test_the_clocks_leeway),
      cmocka_unit_test(test_one_that_was_valid_when_its_session_began),
      cmocka_unit_test(test_one_that_began_later_than_its_session),
      cmocka_unit_test(test_an_expiry_that_never_comes),
      cmocka_unit_test(test_an_expiry_is_needed),
      cmocka_unit_test(test_times_with_a_fraction),
      cmocka_unit_test(test_a_token_that_is_not_good_yet),
      cmocka_unit_test(test_sessions),
      cmocka_unit_test(test_signatures),
      cmocka_unit_test(test_a_changed_token_is_none),
      cmocka_unit_test(test_what_is_no_token),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
