// What is taken for the options of LiveKit's.
#include <verbacast/livekit.h>

#include <stdio.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#define PUBLIC_KEY                                                                                 \
  "-----BEGIN PUBLIC KEY-----\n"                                                                   \
  "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEEVs/o5+uQbTjL3chynL4wXgUg2R9\n"                             \
  "q9UU8I5mEovUf86QZ7kOBIjJwqnzD1omageEHWwHdBO6B+dFabmdT9POxg==\n"                                 \
  "-----END PUBLIC KEY-----\n"

// `why` NULL: it is taken.
static void expect_secret(const char *secret, const char *why)
{
  struct vc_livekit_options options;
  const struct vc_option_group group = {"LiveKit", vc_livekit_option_rows, &options};
  struct vc_option_set set = {.program = "test", .groups = &group, .n_groups = 1};
  struct vc_error error = {0};
  char program[] = "test", variable[1024];
  char *arguments[] = {program, NULL}, *environment[] = {variable, NULL};
  memset(&options, 0, sizeof options);
  snprintf(variable, sizeof variable, "LIVEKIT_API_SECRET=%s", secret);
  assert_int_equal(vc_options_parse(&set, 1, arguments, environment, stdout, &error),
                   why != NULL ? VC_OPTIONS_USAGE : VC_OPTIONS_RUN);
  if (why != NULL && strstr(error.text, why) == NULL) {
    fail_msg("'%s', not '%s'", error.text, why);
  }
  vc_options_free(&set);
}

static void test_what_is_no_secret(void **state)
{
  (void)state;
  expect_secret("1,2,3,4,5,6,7,8,9", "LIVEKIT_API_SECRET: the secret has more than 8 keys");
  expect_secret("-----BEGIN PUBLIC KEY-----", "LIVEKIT_API_SECRET: the secret has a text beside");
}

// The calls are signed with the first.
static void test_a_public_key_is_no_secret(void **state)
{
  (void)state;
  expect_secret("new,old", NULL);
  expect_secret("new," PUBLIC_KEY, NULL);
  expect_secret(PUBLIC_KEY, "LIVEKIT_API_SECRET: the secret is a public key");
  expect_secret(PUBLIC_KEY ",old", "LIVEKIT_API_SECRET: the secret is a public key");
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_what_is_no_secret),
      cmocka_unit_test(test_a_public_key_is_no_secret),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
