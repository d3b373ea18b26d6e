#include "rig.h"

#include <verbacast/base/log.h>

#include <math.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

// --- the ledger

static void lock(struct rig *rig)
{
  pthread_mutex_lock(&rig->mutex);
}

static void unlock(struct rig *rig)
{
  pthread_cond_broadcast(&rig->changed);
  pthread_mutex_unlock(&rig->mutex);
}

static int enter(struct vc_worker *worker, void *config, struct vc_error *error)
{
  vc_worker_set_state(worker, *(struct rig **)config);
  return 0;
}

static void leave(struct vc_worker *worker) {}

static void end_unfinished(struct rig *rig, const char *id)
{
  for (int i = 0; i < rig->n_unfinished; i++) {
    if (strcmp(rig->unfinished[i].id, id) == 0) {
      rig->unfinished[i] = rig->unfinished[--rig->n_unfinished];
      return;
    }
  }
}

static void begin_unfinished(struct rig *rig, const char *id)
{
  end_unfinished(rig, id);
  if (rig->n_unfinished < 64) {
    snprintf(rig->unfinished[rig->n_unfinished++].id, sizeof rig->unfinished[0].id, "%s", id);
  }
}

static void note_word(struct rig *rig, const struct vc_word *word)
{
  int n = atoi(word->text + 1);
  double off = fabs(word->start_s - n * (double)WORD_SAMPLES / VC_SAMPLE_RATE_HZ);
  if (n >= 0 && n < RIG_WORDS_MAX) {
    rig->told[n]++;
    rig->n_words++;
  }
  rig->worst_s = off > rig->worst_s ? off : rig->worst_s;
}

static void note_utterance(struct rig *rig, const struct vc_result *result)
{
  char id[80];
  const struct vc_utterance *utterance = result->utterance;
  snprintf(id, sizeof id, "%u-%d-%s", result->stt_ordinal, utterance->channel, utterance->id);
  snprintf(rig->last_text, sizeof rig->last_text, "%s", utterance->text);
  rig->n_stray += result->stt_ordinal == 0 || rig->n_open == rig->n_closed;
  rig->ordinal_max =
      (int)result->stt_ordinal > rig->ordinal_max ? (int)result->stt_ordinal : rig->ordinal_max;
  if (getenv("RIG_LOG") != NULL) {
    print_message("# %s %s %.3f-%.3f %s\n", utterance->is_final ? "final" : "partial", id,
                  utterance->start_s, utterance->end_s, utterance->text);
  }
  if (!utterance->is_final) {
    rig->n_partials++;
    begin_unfinished(rig, id);
    return;
  }
  rig->n_finals++;
  end_unfinished(rig, id);
  for (size_t i = 0; i < utterance->n_words; i++) {
    note_word(rig, &utterance->words[i]);
  }
}

static void note_retract(struct rig *rig, const struct vc_result *result)
{
  char id[96];
  snprintf(id, sizeof id, "%u-%d-%s", result->stt_ordinal, result->channel, result->utterance_id);
  rig->n_retracts++;
  end_unfinished(rig, id);
}

static void note(struct rig *rig, const struct vc_result *result)
{
  rig->n_after_close += rig->n_open == rig->n_closed && result->kind != VC_RESULT_OPEN;
  switch (result->kind) {
  case VC_RESULT_OPEN:
    rig->n_open++;
    break;
  case VC_RESULT_UTTERANCE:
    note_utterance(rig, result);
    break;
  case VC_RESULT_RETRACT:
    note_retract(rig, result);
    break;
  case VC_RESULT_STATE:
    rig->n_states++;
    rig->state = result->state;
    snprintf(rig->reason, sizeof rig->reason, "%s", result->reason);
    break;
  case VC_RESULT_CLOSE:
    rig->n_closed++;
    rig->close_reason = result->close_reason;
    break;
  }
}

static void handle(struct vc_worker *worker, struct vc_item *item)
{
  struct rig *rig = vc_worker_state(worker);
  lock(rig);
  while (rig->is_blocked) {
    pthread_cond_wait(&rig->changed, &rig->mutex);
  }
  note(rig, (const struct vc_result *)item);
  unlock(rig);
  vc_item_destroy(item);
}

static const struct vc_stage_ops ledger_ops = {
    .name = "ledger", .enter = enter, .handle = handle, .leave = leave};

// --- the rig

static uint64_t turned_now_ns(void *context)
{
  struct rig *rig = context;
  return vc_clock_now_ns(&vc_clock_system) +
         atomic_load_explicit(&rig->turned_ns, memory_order_relaxed);
}

static int64_t turned_unix_us(void *context)
{
  return vc_clock_unix_us(&vc_clock_system);
}

static void parse_options(struct rig *rig, const struct service *service,
                          const struct rig_settings *settings)
{
  char url[160], buffer[64], ca[160], languages[64];
  struct vc_error error = {""};
  snprintf(url, sizeof url, "STT_URL=%s://127.0.0.1:%u/v2/live",
           service->tls != NULL ? "https" : "http", service->port);
  snprintf(buffer, sizeof buffer, "STT_BUFFER_MS=%lld",
           settings->buffer_ms != 0 ? (long long)settings->buffer_ms : 30000LL);
  snprintf(ca, sizeof ca, "STT_CA_FILE=%s", settings->ca_file != NULL ? settings->ca_file : "");
  snprintf(languages, sizeof languages, "STT_LANGUAGES=%s",
           settings->languages != NULL ? settings->languages : "en");
  char key[] = "GLADIA_API_KEY=k-123", program[] = "test";
  char *environment[] = {url, buffer, ca, languages, key, NULL};
  char *argv[] = {program, NULL};
  rig->options_group = (struct vc_option_group){"STT", vc_stt_option_rows, &rig->options};
  rig->options_set =
      (struct vc_option_set){.program = "test", .groups = &rig->options_group, .n_groups = 1};
  if (vc_options_parse(&rig->options_set, 1, argv, environment, stderr, &error) != VC_OPTIONS_RUN) {
    fail_msg("%s", error.text);
  }
}

void rig_start(struct rig *rig, const struct service *service, const struct rig_settings *settings)
{
  static const struct rig_settings usual = {0};
  struct vc_error error;
  settings = settings != NULL ? settings : &usual;
  memset(rig, 0, sizeof *rig);
  vc_log_level_set(getenv("RIG_LOG") != NULL ? VC_LOG_DEBUG : VC_LOG_ERROR);
  pthread_mutex_init(&rig->mutex, NULL);
  pthread_cond_init(&rig->changed, NULL);
  rig->clock = (struct vc_clock){turned_now_ns, turned_unix_us, rig};
  rig->state = VC_STATE_LIVE;
  parse_options(rig, service, settings);
  rig->metrics = vc_metrics_create(&rig->clock);
  rig->health = vc_health_create(&rig->clock);
  struct vc_stage_settings ledger = {.ops = &ledger_ops,
                                     .config = &rig,
                                     .config_size = sizeof rig,
                                     .n_workers = 1,
                                     .lane_capacity =
                                         settings->ledger_lane != 0 ? settings->ledger_lane : 1024,
                                     .clock = &rig->clock};
  assert_int_equal(vc_stage_create(&rig->ledger, &ledger, &error), 0);
  struct vc_stt_settings stt = {.options = &rig->options,
                                .ledger = rig->ledger,
                                .n_workers = 1,
                                .clock = &rig->clock,
                                .metrics = rig->metrics,
                                .health = rig->health};
  assert_int_equal(vc_stt_create(&rig->stt, &stt, &error), 0);
  rig->putter = vc_putter_create(rig->stt);
  assert_non_null(rig->putter);
  assert_int_equal(vc_stage_start(rig->ledger, &error), 0);
  assert_int_equal(vc_stage_start(rig->stt, &error), 0);
}

void rig_stop(struct rig *rig)
{
  vc_stage_stop(rig->stt, 20000);
  vc_stage_stop(rig->ledger, 20000);
  assert_int_equal(rig->n_open, rig->n_closed);
  assert_int_equal(rig->n_stray, 0);
  assert_int_equal(rig->n_after_close, 0);
  assert_int_equal(rig->n_unfinished, 0);
  vc_stage_destroy(&rig->stt);
  vc_stage_destroy(&rig->ledger);
  vc_health_destroy(&rig->health);
  vc_metrics_destroy(&rig->metrics);
  vc_session_unref(rig->session);
  vc_options_free(&rig->options_set);
  pthread_mutex_destroy(&rig->mutex);
  pthread_cond_destroy(&rig->changed);
}

void rig_turn(struct rig *rig, uint64_t by_ms)
{
  atomic_fetch_add_explicit(&rig->turned_ns, by_ms * VC_NS_PER_MS, memory_order_relaxed);
  vc_stage_wake(rig->stt);
}

static void put(struct rig *rig, struct vc_chunk *chunk)
{
  while (vc_putter_put(rig->putter, 0, &chunk->item) != 0) {
    sched_yield();
  }
}

void rig_begin(struct rig *rig, const char *slug)
{
  rig_begin_of(rig, slug, "");
}

void rig_begin_of(struct rig *rig, const char *slug, const char *participant)
{
  static uint64_t id;
  vc_session_unref(rig->session);
  rig->session = vc_session_create_of(slug, participant, ++id, 1790000000000);
  assert_non_null(rig->session);
  rig->n_samples = 0;
  rig_say(rig, VC_TURN_OPEN);
}

void rig_say(struct rig *rig, enum vc_turn turn)
{
  struct vc_chunk *chunk = vc_chunk_create(rig->session, turn);
  assert_non_null(chunk);
  put(rig, chunk);
}

void rig_speak(struct rig *rig, int n_words)
{
  for (int i = 0; i < n_words; i++) {
    struct vc_chunk *chunk = vc_chunk_create(rig->session, VC_TURN_DATA);
    assert_non_null(chunk);
    chunk->first_sample = rig->n_samples;
    chunk->n_samples = WORD_SAMPLES;
    chunk->arrival_ns = turned_now_ns(rig);
    chunk->pcm = vc_buffer_create(WORD_SAMPLES * 2);
    assert_non_null(chunk->pcm);
    int value = (int)(rig->n_samples / WORD_SAMPLES) + 1;
    for (size_t s = 0; s < WORD_SAMPLES; s++) {
      chunk->pcm->data[2 * s] = (uint8_t)value;
      chunk->pcm->data[2 * s + 1] = (uint8_t)(value >> 8);
    }
    chunk->pcm->size = WORD_SAMPLES * 2;
    rig->n_samples += WORD_SAMPLES;
    put(rig, chunk);
  }
}

void rig_skip(struct rig *rig, uint64_t n_samples)
{
  rig->n_samples += n_samples;
}

void rig_block(struct rig *rig, int is_blocked)
{
  lock(rig);
  rig->is_blocked = is_blocked;
  unlock(rig);
}

static struct timespec patience(void)
{
  struct timespec until;
  clock_gettime(CLOCK_REALTIME, &until);
  until.tv_sec += PEER_WAIT_S;
  return until;
}

void rig_await(struct rig *rig, const int *count, int n)
{
  struct timespec until = patience();
  lock(rig);
  while (*count < n && pthread_cond_timedwait(&rig->changed, &rig->mutex, &until) == 0) {
  }
  int value = *count;
  unlock(rig);
  assert_in_range(value, n, 1000000);
}

void rig_await_state(struct rig *rig, enum vc_state state)
{
  struct timespec until = patience();
  lock(rig);
  while (rig->state != state && pthread_cond_timedwait(&rig->changed, &rig->mutex, &until) == 0) {
  }
  enum vc_state seen = rig->state;
  unlock(rig);
  assert_int_equal(seen, state);
}

void rig_turn_until_closed(struct rig *rig, int n)
{
  struct timespec until;
  for (int i = 0; i < PEER_WAIT_S * 10 && rig_get(rig, &rig->n_closed) < n; i++) {
    rig_turn(rig, VC_STT_END_MS + 1000);
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += 100000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    lock(rig);
    while (rig->n_closed < n && pthread_cond_timedwait(&rig->changed, &rig->mutex, &until) == 0) {
    }
    unlock(rig);
  }
  assert_int_equal(rig_get(rig, &rig->n_closed), n);
}

void rig_await_counter(struct rig *rig, const char *name, uint64_t n)
{
  uint64_t until = vc_clock_now_ns(&vc_clock_system) + PEER_WAIT_S * VC_NS_PER_S;
  while (rig_counter(rig, name) < n && vc_clock_now_ns(&vc_clock_system) < until) {
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
  }
  assert_in_range(rig_counter(rig, name), n, 1000000);
}

int rig_get(struct rig *rig, const int *count)
{
  lock(rig);
  int value = *count;
  unlock(rig);
  return value;
}

uint64_t rig_counter(struct rig *rig, const char *name)
{
  uint64_t value = 0;
  assert_int_equal(vc_metrics_counter(rig->metrics, name, &value), 0);
  return value;
}

uint64_t rig_samples(struct rig *rig, const char *distribution)
{
  struct vc_distribution found;
  assert_int_equal(vc_metrics_distribution(rig->metrics, distribution, &found), 0);
  return found.count_total;
}

void rig_check_told(struct rig *rig)
{
  int n_words = (int)(rig->n_samples / WORD_SAMPLES);
  lock(rig);
  for (int i = 0; i < n_words; i++) {
    if (rig->told[i] != 1) {
      print_message("word %d was told %d times\n", i, rig->told[i]);
    }
  }
  int n_wrong = 0;
  for (int i = 0; i < n_words; i++) {
    n_wrong += rig->told[i] != 1;
  }
  double worst_s = rig->worst_s;
  unlock(rig);
  assert_int_equal(n_wrong, 0);
  if (worst_s > 0.025) {
    fail_msg("a word was %f s from its place", worst_s);
  }
}
