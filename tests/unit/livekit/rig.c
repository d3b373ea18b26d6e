#include "rig.h"

#include <verbacast/wire/json.h>
#include <verbacast/wire/jwt.h>

#include <openssl/evp.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "peer.h"

#define PATIENCE_MS 20000

// --- what the room asks

static uint64_t monotonic(void *context)
{
  const struct rig *rig = context;
  return (UINT64_C(1000000) + rig->passed_ms) * VC_NS_PER_MS;
}

static int64_t unix_time(void *context)
{
  const struct rig *rig = context;
  return RIG_NOW_S * 1000000 + (int64_t)rig->passed_ms * 1000;
}

// A word more, with a blank behind it.
static void append(char *list, size_t size, const char *word)
{
  size_t n = strlen(list);
  snprintf(list + n, size - n, "%s ", word);
}

static void end_session(void *context, const char *slug)
{
  struct rig *rig = context;
  pthread_mutex_lock(&rig->mutex);
  append(rig->ended, sizeof rig->ended, slug);
  pthread_cond_broadcast(&rig->changed);
  while (rig->is_held) {
    pthread_cond_wait(&rig->changed, &rig->mutex);
  }
  pthread_mutex_unlock(&rig->mutex);
}

static enum vc_livekit_claim claim(void *context, const char *key, int64_t ttl_ms)
{
  struct rig *rig = context;
  assert_true(ttl_ms > 0);
  pthread_mutex_lock(&rig->mutex);
  append(rig->claimed, sizeof rig->claimed, key);
  rig->passed_ms += rig->claim_ms;
  rig->n_stuck += vc_stage_stuck_worker(vc_livekit_stage(rig->livekit), 5000) >= 0;
  const char *others = rig->others;
  pthread_mutex_unlock(&rig->mutex);
  if (others == NULL) {
    return VC_LIVEKIT_UNASKED;
  }
  return others[0] != '\0' && strncmp(key, others, strlen(others)) == 0 ? VC_LIVEKIT_OTHERS
                                                                        : VC_LIVEKIT_OURS;
}

// --- LiveKit

static int method_of(const char *target)
{
  static const char *const names[RIG_METHODS] = {"/ListRooms", "/ListEgress",
                                                 "/StartRoomCompositeEgress", "/StopEgress"};
  for (int i = 0; i < RIG_METHODS; i++) {
    if (strstr(target, names[i]) != NULL) {
      return i;
    }
  }
  return -1;
}

static void answer(struct rig *rig, struct peer *peer)
{
  char head[128];
  size_t size;
  if (peer_read_head(peer) != 0) {
    return;
  }
  int method = method_of(peer->head.target);
  char *body = peer_read_body(peer, &size);
  assert_true(method >= 0 && body != NULL);
  pthread_mutex_lock(&rig->mutex);
  struct rig_answer given = rig->answers[method];
  snprintf(rig->last, sizeof rig->last, "%s", body);
  rig->n_calls[method]++;
  pthread_cond_broadcast(&rig->changed);
  while (rig->is_withheld[method]) {
    pthread_cond_wait(&rig->changed, &rig->mutex);
  }
  pthread_mutex_unlock(&rig->mutex);
  const char *text = given.body != NULL ? given.body : "{}";
  snprintf(head, sizeof head, "HTTP/1.1 %d X\r\nContent-Length: %zu\r\n\r\n",
           given.status != 0 ? given.status : 200, strlen(text));
  peer_say(peer, head);
  peer_say(peer, text);
  free(body);
}

static void *serve(void *context)
{
  struct rig *rig = context;
  struct peer *peer = calloc(1, sizeof *peer);
  assert_non_null(peer);
  while (!rig->is_over) {
    if (peer_accept(peer, rig->listener, NULL) == 0) {
      answer(rig, peer);
      peer_close(peer, 0);
    }
  }
  free(peer);
  return NULL;
}

// The accept that it waits in ends, too.
static void stop_serving(struct rig *rig)
{
  rig->is_over = 1;
  shutdown(rig->listener, SHUT_RDWR);
  pthread_join(rig->thread, NULL);
  close(rig->listener);
}

// --- its life

static void read_options(struct rig *rig, uint16_t port, const char *poll_ms)
{
  char name[] = "test", url[64], poll[64], address[] = "LIVEKIT_AUTO_EGRESS=" RIG_ADDRESS;
  char key[] = "LIVEKIT_API_KEY=" RIG_KEYS;
  char secret[] = "LIVEKIT_API_SECRET=" RIG_SECRET "," RIG_OLD_SECRET;
  struct vc_error error;
  snprintf(url, sizeof url, "LIVEKIT_URL=http://127.0.0.1:%u/", port);
  snprintf(poll, sizeof poll, "LIVEKIT_POLL_MS=%s", poll_ms != NULL ? poll_ms : "0");
  char *environment[] = {key, secret, url, poll, poll_ms != NULL ? address : NULL, NULL};
  char *arguments[] = {name, NULL};
  rig->group = (struct vc_option_group){"LiveKit", vc_livekit_option_rows, &rig->options};
  rig->set = (struct vc_option_set){.program = "test", .groups = &rig->group, .n_groups = 1};
  assert_int_equal(vc_options_parse(&rig->set, 1, arguments, environment, stderr, &error),
                   VC_OPTIONS_RUN);
  assert_int_equal(vc_livekit_check(&rig->options, NULL, &error), 0);
}

void rig_start(struct rig *rig, const char *poll_ms)
{
  struct vc_error error;
  uint16_t port;
  memset(rig, 0, sizeof *rig);
  pthread_mutex_init(&rig->mutex, NULL);
  pthread_cond_init(&rig->changed, NULL);
  rig->listener = peer_listen(&port);
  assert_int_equal(pthread_create(&rig->thread, NULL, serve, rig), 0);
  read_options(rig, port, poll_ms);
  rig->clock = (struct vc_clock){monotonic, unix_time, rig};
  rig->metrics = vc_metrics_create(&rig->clock);
  rig->health = vc_health_create(&rig->clock);
  assert_int_equal(vc_livekit_create(&rig->livekit,
                                     &(struct vc_livekit_settings){.options = &rig->options,
                                                                   .clock = &rig->clock,
                                                                   .metrics = rig->metrics,
                                                                   .health = rig->health,
                                                                   .end_session = end_session,
                                                                   .claim = claim,
                                                                   .context = rig},
                                     &error),
                   0);
  assert_int_equal(vc_stage_start(vc_livekit_stage(rig->livekit), &error), 0);
}

void rig_stop(struct rig *rig)
{
  rig_let_go(rig);
  vc_livekit_stop(rig->livekit);
  vc_livekit_destroy(&rig->livekit);
  stop_serving(rig);
  vc_health_destroy(&rig->health);
  vc_metrics_destroy(&rig->metrics);
  vc_options_free(&rig->set);
  pthread_cond_destroy(&rig->changed);
  pthread_mutex_destroy(&rig->mutex);
}

void rig_pass(struct rig *rig, uint64_t ms)
{
  rig->passed_ms += ms;
  vc_stage_wake(vc_livekit_stage(rig->livekit));
}

void rig_answer(struct rig *rig, int method, int status, const char *body)
{
  pthread_mutex_lock(&rig->mutex);
  rig->answers[method] = (struct rig_answer){status, body};
  pthread_mutex_unlock(&rig->mutex);
}

void rig_set_others(struct rig *rig, const char *others)
{
  pthread_mutex_lock(&rig->mutex);
  rig->others = others;
  pthread_mutex_unlock(&rig->mutex);
}

void rig_withhold(struct rig *rig, int method)
{
  pthread_mutex_lock(&rig->mutex);
  rig->is_withheld[method] = 1;
  pthread_mutex_unlock(&rig->mutex);
}

void rig_let_go(struct rig *rig)
{
  pthread_mutex_lock(&rig->mutex);
  rig->is_held = 0;
  memset(rig->is_withheld, 0, sizeof rig->is_withheld);
  pthread_cond_broadcast(&rig->changed);
  pthread_mutex_unlock(&rig->mutex);
}

void rig_set_claim_ms(struct rig *rig, uint64_t ms)
{
  pthread_mutex_lock(&rig->mutex);
  rig->claim_ms = ms;
  pthread_mutex_unlock(&rig->mutex);
}

int rig_n_stuck(struct rig *rig)
{
  pthread_mutex_lock(&rig->mutex);
  int n = rig->n_stuck;
  pthread_mutex_unlock(&rig->mutex);
  return n;
}

// --- webhooks

static char *sign(const struct signer *signer, const char *body)
{
  unsigned char hash[EVP_MAX_MD_SIZE];
  char encoded[2 * EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  EVP_Digest(body, strlen(body), hash, &size, EVP_sha256(), NULL);
  EVP_EncodeBlock((unsigned char *)encoded, hash, (int)size);
  json_int_t expires_s = signer->expires_s, begins_s = signer->begins_s;
  json_t *claims = json_pack("{s:s,s:I,s:I,s:s}", "iss", signer->key, "nbf", begins_s, "exp",
                             expires_s, "sha256", encoded);
  struct vc_jwt_keys *keys = vc_jwt_keys_create(signer->secret, NULL);
  char *token = vc_jwt_print(keys, claims);
  assert_non_null(token);
  vc_jwt_keys_destroy(&keys);
  json_decref(claims);
  return token;
}

int rig_bring(struct rig *rig, const struct signer *signer, const char *signed_body,
              const char *body, const char **why)
{
  char *token = sign(signer, signed_body);
  int status = vc_livekit_take_webhook(rig->livekit, token, body, strlen(body), why);
  free(token);
  return status;
}

int rig_bring_good(struct rig *rig, const char *body)
{
  const struct signer livekit = {"APInew", RIG_SECRET, unix_time(rig) / 1000000 + 300, 0};
  const char *why = "";
  return rig_bring(rig, &livekit, body, body, &why);
}

// --- waiting

uint64_t rig_counter(struct rig *rig, const char *name)
{
  uint64_t value = 0;
  assert_int_equal(vc_metrics_counter(rig->metrics, name, &value), 0);
  return value;
}

void rig_await_counter(struct rig *rig, const char *name, uint64_t value)
{
  for (int i = 0; rig_counter(rig, name) != value && i < PATIENCE_MS; i++) {
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
  }
  assert_int_equal(rig_counter(rig, name), value);
}

void rig_pass_until(struct rig *rig, const char *name, uint64_t value)
{
  for (int i = 0; rig_counter(rig, name) != value && i < PATIENCE_MS; i++) {
    rig_pass(rig, 100);
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
  }
  assert_int_equal(rig_counter(rig, name), value);
}

static struct timespec patience(void)
{
  struct timespec limit;
  clock_gettime(CLOCK_REALTIME, &limit);
  limit.tv_sec += PATIENCE_MS / 1000;
  return limit;
}

void rig_await_calls(struct rig *rig, int method, int n)
{
  struct timespec limit = patience();
  int status = 0;
  pthread_mutex_lock(&rig->mutex);
  while (rig->n_calls[method] < n && status == 0) {
    status = pthread_cond_timedwait(&rig->changed, &rig->mutex, &limit);
  }
  int n_calls = rig->n_calls[method];
  pthread_mutex_unlock(&rig->mutex);
  assert_int_equal(n_calls, n);
}

void rig_await_ended(struct rig *rig, const char *expected)
{
  struct timespec limit = patience();
  int status = 0;
  pthread_mutex_lock(&rig->mutex);
  while (strcmp(rig->ended, expected) != 0 && status == 0) {
    status = pthread_cond_timedwait(&rig->changed, &rig->mutex, &limit);
  }
  char ended[sizeof rig->ended];
  memcpy(ended, rig->ended, sizeof ended);
  pthread_mutex_unlock(&rig->mutex);
  assert_string_equal(ended, expected);
}

void rig_expect_last(struct rig *rig, const char *part)
{
  pthread_mutex_lock(&rig->mutex);
  int is_there = strstr(rig->last, part) != NULL;
  pthread_mutex_unlock(&rig->mutex);
  assert_true(is_there);
}

void rig_expect_claimed(struct rig *rig, const char *keys)
{
  char claimed[sizeof rig->claimed];
  pthread_mutex_lock(&rig->mutex);
  memcpy(claimed, rig->claimed, sizeof claimed);
  pthread_mutex_unlock(&rig->mutex);
  assert_string_equal(claimed, keys);
}

void rig_await_degraded(struct rig *rig, const char *reason)
{
  struct vc_condition conditions[VC_HEALTH_MAX] = {{.what = ""}};
  const char *shown = NULL;
  for (int i = 0; i < PATIENCE_MS && (shown == NULL || strcmp(shown, reason) != 0); i++) {
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    size_t n = vc_health_list(rig->health, conditions);
    shown = n > 0 ? conditions[0].reason : "";
  }
  assert_string_equal(shown, reason);
}
