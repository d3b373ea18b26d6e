#include "fake_engine.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define WORD_SAMPLES (ENGINE_RATE_HZ / 2)

struct fake {
  struct engine engine;
  pthread_mutex_t mutex; // guards what follows
  pthread_cond_t changed;
  int is_held, n_waiting;
  int ears_fail, decodes_fail, finals_mute, knows_times, n_circles, is_confused;
  size_t n_ears, n_heard;
  int16_t heard_by[FAKE_HEARD_MAX];
};

struct fake_ear {
  struct ear ear;
  int number;
};

static const char *const words_of_time[] = {"one", "two",   "three", "four", "five",
                                            "six", "seven", "eight", "nine", "ten"};

static struct fake *fake_of(const struct engine *engine)
{
  return (struct fake *)(uintptr_t)engine;
}

static void fake_close(struct engine *engine)
{
  struct fake *fake = fake_of(engine);
  pthread_mutex_destroy(&fake->mutex);
  pthread_cond_destroy(&fake->changed);
  free(fake);
}

static struct ear *fake_ear_open(struct engine *engine)
{
  struct fake *fake = fake_of(engine);
  struct fake_ear *ear = calloc(1, sizeof *ear);
  pthread_mutex_lock(&fake->mutex);
  int fails = fake->ears_fail || ear == NULL;
  if (!fails) {
    ear->ear.engine = engine;
    ear->number = (int)fake->n_ears++;
  }
  pthread_mutex_unlock(&fake->mutex);
  if (fails) {
    free(ear);
    return NULL;
  }
  return &ear->ear;
}

static void fake_ear_close(struct ear *ear)
{
  free(ear);
}

static void fake_ear_reset(struct ear *ear) {}

static int fake_ear_hear(struct ear *ear, const float samples[ENGINE_WINDOW])
{
  struct fake *fake = fake_of(ear->engine);
  pthread_mutex_lock(&fake->mutex);
  if (fake->n_heard < FAKE_HEARD_MAX) {
    fake->heard_by[fake->n_heard++] = (int16_t)((struct fake_ear *)ear)->number;
  }
  pthread_mutex_unlock(&fake->mutex);
  for (size_t i = 0; i < ENGINE_WINDOW; i++) {
    if (fabsf(samples[i]) > 0.1f) {
      return 1;
    }
  }
  return 0;
}

static void add_word(struct fake *fake, size_t i, const char *word, struct engine_words *words)
{
  if (i > 0) {
    vc_text_add(&words->text, " ");
  }
  if (fake->knows_times) {
    words->words[words->n_words++] = (struct engine_word){
        .at = (uint32_t)words->text.size,
        .size = (uint32_t)strlen(word),
        .start_s = (float)i / 2,
        .end_s = (float)(i + 1) / 2,
        .confidence = 0.5f,
    };
  }
  vc_text_add(&words->text, word);
}

static void go_round(struct fake *fake, struct engine_words *words)
{
  static const char *const phrase[] = {"round", "and"}, *const titles[] = {"Mr.", "Mrs."};
  for (size_t i = 0; i < 10; i++) {
    add_word(fake, i, fake->knows_times ? titles[i % 2] : phrase[i % 2], words);
  }
  add_word(fake, 10, "out", words);
}

static int fake_ear_decode(struct ear *ear, const struct engine_segment *segment,
                           struct engine_words *words)
{
  struct fake *fake = fake_of(ear->engine);
  pthread_mutex_lock(&fake->mutex);
  fake->n_waiting++;
  pthread_cond_broadcast(&fake->changed);
  while (fake->is_held) {
    pthread_cond_wait(&fake->changed, &fake->mutex);
  }
  fake->n_waiting--;
  int fails = fake->decodes_fail;
  int is_mute = fake->finals_mute && segment->is_last;
  if (segment->is_last && fake->n_circles > 0) {
    fake->n_circles--;
    is_mute = 1;
    go_round(fake, words);
  }
  if (fake->is_confused && segment->n_samples > (size_t)5 * ENGINE_RATE_HZ) {
    is_mute = 1;
    vc_text_add(&words->text, "something else entirely");
  }
  for (size_t i = 0; !fails && !is_mute && i <= (segment->n_samples - 1) / WORD_SAMPLES; i++) {
    add_word(fake, i, words_of_time[i % 10], words);
  }
  pthread_mutex_unlock(&fake->mutex);
  return fails ? -1 : 0;
}

static const struct engine_ops fake_ops = {
    .close = fake_close,
    .ear_open = fake_ear_open,
    .ear_close = fake_ear_close,
    .ear_reset = fake_ear_reset,
    .ear_hear = fake_ear_hear,
    .ear_decode = fake_ear_decode,
};

struct engine *fake_engine_create(void)
{
  struct fake *fake = calloc(1, sizeof *fake);
  if (fake == NULL) {
    abort();
  }
  fake->engine = (struct engine){
      .ops = &fake_ops,
      .name = "fake",
      .about = "counts half seconds",
      .n_languages = 1,
      .languages = {"en"},
      .endpointing_min_s = 0.2,
      .utterance_max_s = 10,
      .context_max_s = 10,
  };
  pthread_mutex_init(&fake->mutex, NULL);
  pthread_cond_init(&fake->changed, NULL);
  return &fake->engine;
}

static void set(struct engine *engine, int *field, int value)
{
  struct fake *fake = fake_of(engine);
  pthread_mutex_lock(&fake->mutex);
  *field = value;
  pthread_cond_broadcast(&fake->changed);
  pthread_mutex_unlock(&fake->mutex);
}

void fake_engine_hold(struct engine *engine)
{
  set(engine, &fake_of(engine)->is_held, 1);
}

void fake_engine_release(struct engine *engine)
{
  set(engine, &fake_of(engine)->is_held, 0);
}

void fake_engine_fail_ears(struct engine *engine)
{
  set(engine, &fake_of(engine)->ears_fail, 1);
}

void fake_engine_fail_decodes(struct engine *engine)
{
  set(engine, &fake_of(engine)->decodes_fail, 1);
}

void fake_engine_mute_finals(struct engine *engine)
{
  set(engine, &fake_of(engine)->finals_mute, 1);
}

void fake_engine_know_times(struct engine *engine)
{
  set(engine, &fake_of(engine)->knows_times, 1);
}

void fake_engine_circle(struct engine *engine, int n_finals)
{
  set(engine, &fake_of(engine)->n_circles, n_finals);
}

void fake_engine_confuse_long(struct engine *engine)
{
  set(engine, &fake_of(engine)->is_confused, 1);
}

void fake_engine_wait_held(struct engine *engine)
{
  struct fake *fake = fake_of(engine);
  struct timespec limit;
  clock_gettime(CLOCK_REALTIME, &limit);
  limit.tv_sec += 60;
  pthread_mutex_lock(&fake->mutex);
  while (fake->n_waiting == 0) {
    if (pthread_cond_timedwait(&fake->changed, &fake->mutex, &limit) != 0) {
      fprintf(stderr, "no decode came within a minute\n");
      abort();
    }
  }
  pthread_mutex_unlock(&fake->mutex);
}

size_t fake_engine_n_ears(struct engine *engine)
{
  struct fake *fake = fake_of(engine);
  pthread_mutex_lock(&fake->mutex);
  size_t n = fake->n_ears;
  pthread_mutex_unlock(&fake->mutex);
  return n;
}

int fake_engine_heard_by(struct engine *engine, size_t i)
{
  struct fake *fake = fake_of(engine);
  pthread_mutex_lock(&fake->mutex);
  int number = i < fake->n_heard ? fake->heard_by[i] : -1;
  pthread_mutex_unlock(&fake->mutex);
  return number;
}
