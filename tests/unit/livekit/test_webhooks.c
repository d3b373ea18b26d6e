// Webhooks on the room's real threads: what is let in, what is told on, and what becomes of it when
// too many wait.
#include <verbacast/livekit.h>

#include <verbacast/wire/json.h>
#include <verbacast/wire/jwt.h>

#include <openssl/evp.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#define NOW_S INT64_C(1790000000)
#define PATIENCE_MS 20000

static char secret_of_livekit[] =
    "LIVEKIT_API_SECRET=a secret of 32 bytes or even more,the old one";

struct rig {
  struct vc_livekit_options options;
  struct vc_option_group group;
  struct vc_option_set set;
  struct vc_clock clock;
  struct vc_metrics *metrics;
  struct vc_livekit *livekit;
  /* under the mutex */
  pthread_mutex_t mutex;
  pthread_cond_t changed;
  char ended[64]; // the sessions that were, each with a blank behind it
  char claimed[1024];
  enum vc_livekit_claim claims;
  int is_held; // the room's thread waits in end_session
};

static struct rig rig;

// A word more, with a blank behind it.
static void append(char *list, size_t size, const char *word)
{
  size_t n = strlen(list);
  snprintf(list + n, size - n, "%s ", word);
}

static int64_t fixed_time(void *context)
{
  return NOW_S * 1000000;
}

static void end_session(void *context, const char *slug)
{
  pthread_mutex_lock(&rig.mutex);
  append(rig.ended, sizeof rig.ended, slug);
  pthread_cond_broadcast(&rig.changed);
  while (rig.is_held) {
    pthread_cond_wait(&rig.changed, &rig.mutex);
  }
  pthread_mutex_unlock(&rig.mutex);
}

static enum vc_livekit_claim claim(void *context, const char *key, int64_t ttl_ms)
{
  pthread_mutex_lock(&rig.mutex);
  append(rig.claimed, sizeof rig.claimed, key);
  enum vc_livekit_claim outcome = rig.claims;
  pthread_mutex_unlock(&rig.mutex);
  return outcome;
}

static int set_up(void **state)
{
  (void)state;
  char name[] = "test", key[] = "LIVEKIT_API_KEY=APInew,APIold";
  char *environment[] = {key, secret_of_livekit, NULL};
  char *arguments[] = {name, NULL};
  struct vc_error error;
  memset(&rig, 0, sizeof rig);
  rig.group = (struct vc_option_group){"LiveKit", vc_livekit_option_rows, &rig.options};
  rig.set = (struct vc_option_set){.program = "test", .groups = &rig.group, .n_groups = 1};
  assert_int_equal(vc_options_parse(&rig.set, 1, arguments, environment, stderr, &error),
                   VC_OPTIONS_RUN);
  pthread_mutex_init(&rig.mutex, NULL);
  pthread_cond_init(&rig.changed, NULL);
  rig.claims = VC_LIVEKIT_UNASKED;
  rig.clock = vc_clock_system;
  rig.clock.unix_us = fixed_time;
  rig.metrics = vc_metrics_create(&rig.clock);
  assert_int_equal(vc_livekit_create(&rig.livekit,
                                     &(struct vc_livekit_settings){.options = &rig.options,
                                                                   .clock = &rig.clock,
                                                                   .metrics = rig.metrics,
                                                                   .end_session = end_session,
                                                                   .claim = claim},
                                     &error),
                   0);
  assert_int_equal(vc_stage_start(vc_livekit_stage(rig.livekit), &error), 0);
  return 0;
}

static void let_go(void)
{
  pthread_mutex_lock(&rig.mutex);
  rig.is_held = 0;
  pthread_cond_broadcast(&rig.changed);
  pthread_mutex_unlock(&rig.mutex);
}

static int tear_down(void **state)
{
  (void)state;
  let_go();
  vc_livekit_stop(rig.livekit);
  vc_livekit_destroy(&rig.livekit);
  vc_metrics_destroy(&rig.metrics);
  vc_options_free(&rig.set);
  pthread_cond_destroy(&rig.changed);
  pthread_mutex_destroy(&rig.mutex);
  return 0;
}

struct signer {
  const char *key, *secret;
  int64_t expires_s; // Unix time
};
static const struct signer livekit = {"APInew", "a secret of 32 bytes or even more", NOW_S + 300};

static char *sign(const struct signer *signer, const char *body)
{
  unsigned char hash[EVP_MAX_MD_SIZE];
  char encoded[2 * EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  EVP_Digest(body, strlen(body), hash, &size, EVP_sha256(), NULL);
  EVP_EncodeBlock((unsigned char *)encoded, hash, (int)size);
  json_int_t expires_s = signer->expires_s;
  json_t *claims =
      json_pack("{s:s,s:I,s:s}", "iss", signer->key, "exp", expires_s, "sha256", encoded);
  struct vc_jwt_keys *keys = vc_jwt_keys_create(signer->secret, NULL);
  char *token = vc_jwt_print(keys, claims);
  assert_non_null(token);
  vc_jwt_keys_destroy(&keys);
  json_decref(claims);
  return token;
}

// Of `body`, with a token made for `signed_body`.
static int bring(const struct signer *signer, const char *signed_body, const char *body,
                 const char **why)
{
  char *token = sign(signer, signed_body);
  int status = vc_livekit_take_webhook(rig.livekit, token, body, strlen(body), why);
  free(token);
  return status;
}

static int bring_good(const char *body)
{
  const char *why = "";
  return bring(&livekit, body, body, &why);
}

static uint64_t counter(const char *name)
{
  uint64_t value = 0;
  assert_int_equal(vc_metrics_counter(rig.metrics, name, &value), 0);
  return value;
}

static void await_counter(const char *name, uint64_t value)
{
  for (int i = 0; counter(name) != value && i < PATIENCE_MS; i++) {
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
  }
  assert_int_equal(counter(name), value);
}

static void await_ended(const char *expected)
{
  struct timespec limit;
  int status = 0;
  clock_gettime(CLOCK_REALTIME, &limit);
  limit.tv_sec += PATIENCE_MS / 1000;
  pthread_mutex_lock(&rig.mutex);
  while (strcmp(rig.ended, expected) != 0 && status == 0) {
    status = pthread_cond_timedwait(&rig.changed, &rig.mutex, &limit);
  }
  assert_string_equal(rig.ended, expected);
  pthread_mutex_unlock(&rig.mutex);
}

#define FINISHED(id, name)                                                                         \
  "{\"event\":\"room_finished\",\"room\":{\"sid\":\"RM_1\",\"name\":\"" name "\"},\"id\":\"" id    \
  "\"}"

static void test_room_that_is_over(void **state)
{
  (void)state;
  assert_int_equal(bring_good(FINISHED("EV_1", "one")), 200);
  await_ended("one ");
  assert_int_equal(bring_good(FINISHED("EV_1", "one")), 200); // again
  assert_int_equal(bring_good(FINISHED("EV_2", "two words")), 200);
  await_ended("one two-words-a03f1d61 ");
  assert_string_equal(rig.claimed, "lk:event:EV_1 lk:event:EV_2 ");
  assert_int_equal(counter("livekit.webhooks_total"), 3);
  assert_int_equal(counter("livekit.webhooks_repeated_total"), 1);
}

static void test_event_of_another_node(void **state)
{
  (void)state;
  rig.claims = VC_LIVEKIT_OTHERS;
  assert_int_equal(bring_good(FINISHED("EV_1", "one")), 200);
  await_counter("livekit.webhooks_repeated_total", 1);
  pthread_mutex_lock(&rig.mutex);
  rig.claims = VC_LIVEKIT_OURS;
  pthread_mutex_unlock(&rig.mutex);
  assert_int_equal(bring_good(FINISHED("EV_2", "two")), 200);
  await_ended("two ");
}

static void test_who_is_let_in(void **state)
{
  (void)state;
  static const struct {
    struct signer signer;
    const char *signed_body; // NULL: the body that comes
    const char *why;         // NULL: let in
  } rows[] = {
      {{"APInew", "a secret of 32 bytes or even more", NOW_S + 300}, NULL, NULL},
      {{"APIold", "the old one", NOW_S + 300}, NULL, NULL},
      {{"APInew", "a secret of 32 bytes or even more", NOW_S - 4}, NULL, NULL},
      {{"APInew", "a secret of 32 bytes or even more", NOW_S - 5}, NULL, "expired"},
      {{"APInew", "another", NOW_S + 300}, NULL, "sign"},
      {{"APIthird", "the old one", NOW_S + 300}, NULL, "another API key"},
      {{"", "the old one", NOW_S + 300}, NULL, "another API key"},
      {{"APInew", "the old one", NOW_S + 300}, "{ }", "the body is not"},
  };
  uint64_t n_refused = 0;
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    const char *why = "", *of = rows[i].signed_body != NULL ? rows[i].signed_body : "{}";
    int status = bring(&rows[i].signer, of, "{}", &why);
    assert_int_equal(status, rows[i].why != NULL ? 401 : 200);
    assert_true(rows[i].why == NULL || strstr(why, rows[i].why) != NULL);
    n_refused += rows[i].why != NULL;
  }
  const char *why = "";
  assert_int_equal(vc_livekit_take_webhook(rig.livekit, NULL, "{}", 2, &why), 401);
  assert_int_equal(vc_livekit_take_webhook(rig.livekit, "", "{}", 2, &why), 401);
  assert_int_equal(counter("livekit.webhooks_refused_total"), n_refused + 2);
  await_counter("livekit.webhooks_malformed_total", 3);
}

static void test_too_many_wait(void **state)
{
  (void)state;
  rig.is_held = 1;
  assert_int_equal(bring_good(FINISHED("EV_1", "one")), 200);
  await_ended("one ");
  int n = 0;
  while (n <= VC_LIVEKIT_WEBHOOKS_MAX && bring_good("{\"event\":\"x\"}") == 200) {
    n++;
  }
  assert_int_equal(n, VC_LIVEKIT_WEBHOOKS_MAX);
  assert_int_equal(counter("livekit.webhooks_unqueued_total"), 1);
  assert_int_equal(counter("livekit.webhooks_total"), n + 1);
  let_go();
  for (int i = 0; bring_good(FINISHED("EV_2", "two")) != 200 && i < PATIENCE_MS; i++) {
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
  }
  await_ended("one two ");
}

static void test_stopped(void **state)
{
  (void)state;
  const char *why = "";
  vc_livekit_stop(rig.livekit);
  assert_int_equal(bring(&livekit, "{}", "{}", &why), 503);
  assert_non_null(strstr(why, "drains"));
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_room_that_is_over, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_event_of_another_node, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_who_is_let_in, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_too_many_wait, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_stopped, set_up, tear_down),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
