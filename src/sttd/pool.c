#include "pool.h"

#include <verbacast/sttd.h>

#include "heard.h"
#include "hearing.h"
#include "rows.h"
#include "segmenter.h"

#include <verbacast/base/log.h>
#include <verbacast/base/thread.h>

#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <utlist.h>

#define WINDOWS_PER_TURN 31 // a second
#define BACKLOG_MAX (POOL_BACKLOG_S * ENGINE_RATE_HZ)
#define BEHIND (ENGINE_RATE_HZ / 2)     // partials become rare
#define FAR_BEHIND (ENGINE_RATE_HZ * 2) // no partials at all
#define MARKS 128
#define STACK_BYTES (8 * 1024 * 1024) // models run on it

struct outcome_node {
  struct outcome outcome;
  struct outcome_node *prev, *next; // in stream.outcomes
};

struct mark {
  uint64_t position; // end of what a feed brought
  uint64_t at_ns;
};

struct stream {
  /* set before start, then read-only */
  struct pool *pool;
  void *owner;
  int wants_partials;
  uint32_t ring_size; // samples, a power of two
  int16_t *ring;      // [keep_from, written) is not changed by the network's thread
  /* guarded by the pool's mutex */
  struct stream *prev, *next; // in pool.streams
  struct stream *next_ready;  // in pool.ready
  int is_ready;               // it stands there
  uint64_t written, heard, keep_from;
  uint64_t due_ns;      // when the sound heard so far would have been heard in real time
  uint64_t finished_ns; // 0: more sound may come
  int is_taken;         // by a decoding thread
  int is_over;          // nothing more happens
  int is_closed;        // free it
  int wants_room;       // a feed found it full
  struct mark marks[MARKS];
  uint32_t n_marks; // ever made
  struct outcome_node *outcomes;
  uint32_t n_outcomes;
  /* the thread that took it */
  struct ear *ear;
  struct segmenter segmenter;
  char *shown; // text of the open segment's last partial
  uint64_t shown_id;
  char *told; // text of the final that the open segment was cut off from
};

struct decoder {
  /* set before start, then read-only */
  struct pool *pool;
  pthread_t thread;
  struct vc_slots *slots;
  /* guarded by the pool's mutex */
  uint64_t turn_began_ns; // 0: waits
  /* its thread only */
  struct hearing hearing;
};

struct pool {
  /* set before start, then read-only */
  struct pool_settings settings;
  int event_fd;
  uint32_t n_decoders;
  /* guarded by the mutex */
  pthread_mutex_t mutex;
  pthread_cond_t work;
  struct stream *streams;
  struct stream *ready, *last_ready;
  struct ear **ears; // that nobody uses, at most n_decoders
  uint32_t n_ears;
  int is_stopping;
  struct decoder decoders[];
};

// --- outcomes, under the mutex

static void tell_ready(struct stream *stream)
{
  struct pool *pool = stream->pool;
  if (stream->is_ready || stream->is_closed) {
    return;
  }
  stream->is_ready = 1;
  stream->next_ready = NULL;
  if (pool->ready == NULL) {
    pool->ready = stream;
    uint64_t one = 1;
    ssize_t n = write(pool->event_fd, &one, sizeof one);
    (void)n; // it cannot be full
  } else {
    pool->last_ready->next_ready = stream;
  }
  pool->last_ready = stream;
}

static void outcome_free(struct outcome_node *node)
{
  vc_utterance_destroy(&node->outcome.utterance);
  free(node);
}

// The partial of the same utterance that was not taken yet gives way. Returns: 1 there was one.
static int drop_overtaken(struct stream *stream, const struct outcome *outcome)
{
  struct outcome_node *node;
  DL_FOREACH(stream->outcomes, node)
  {
    const struct vc_utterance *utterance = node->outcome.utterance;
    if (utterance != NULL && !utterance->is_final &&
        strcmp(utterance->id, outcome->utterance->id) == 0) {
      DL_DELETE(stream->outcomes, node);
      stream->n_outcomes--;
      outcome_free(node);
      return 1;
    }
  }
  return 0;
}

// Takes the outcome's utterance.
static void post(struct decoder *decoder, struct stream *stream, const struct outcome *outcome)
{
  struct pool *pool = stream->pool;
  struct outcome_node *node = calloc(1, sizeof *node);
  pthread_mutex_lock(&pool->mutex);
  if (node == NULL) {
    struct vc_utterance *lost = outcome->utterance;
    vc_utterance_destroy(&lost);
    vc_metric_add(decoder->slots, FAILURES, 1);
  } else {
    node->outcome = *outcome;
    if (outcome->kind == OUTCOME_TRANSCRIPT && drop_overtaken(stream, outcome)) {
      vc_metric_add(decoder->slots, COALESCED, 1);
    }
    DL_APPEND(stream->outcomes, node);
    stream->n_outcomes++;
    tell_ready(stream);
  }
  pthread_mutex_unlock(&pool->mutex);
}

static void post_plain(struct decoder *decoder, struct stream *stream, enum outcome_kind kind,
                       uint64_t position)
{
  const struct outcome outcome = {.kind = kind, .time_s = (double)position / ENGINE_RATE_HZ};
  post(decoder, stream, &outcome);
}

// --- decoding: the thread that took the stream

static uint64_t now_ns(const struct pool *pool)
{
  return vc_clock_now_ns(pool->settings.clock);
}

// When the sample before `position` came in.
static uint64_t arrival_ns(struct stream *stream, uint64_t position)
{
  uint64_t at_ns = 0;
  pthread_mutex_lock(&stream->pool->mutex);
  uint32_t n = stream->n_marks < MARKS ? stream->n_marks : MARKS;
  for (uint32_t i = 1; i <= n; i++) {
    const struct mark *mark = &stream->marks[(stream->n_marks - i) % MARKS];
    if (at_ns != 0 && mark->position < position) {
      break;
    }
    at_ns = mark->at_ns;
  }
  pthread_mutex_unlock(&stream->pool->mutex);
  return at_ns;
}

enum look { LOOK_PARTIAL, LOOK_FINAL };

static void measure(struct decoder *decoder, struct stream *stream, const struct segment *segment,
                    enum look look, uint64_t began_ns)
{
  int is_final = look == LOOK_FINAL;
  uint64_t now = now_ns(decoder->pool);
  uint64_t arrived = arrival_ns(stream, is_final ? segment->voice_end : segment->end);
  vc_metric_add(decoder->slots, is_final ? FINALS : PARTIALS, 1);
  vc_metric_record(decoder->slots, is_final ? FINAL_MS : PARTIAL_MS, (double)(now - began_ns) / 1e6,
                   now);
  vc_metric_record(decoder->slots, is_final ? FINAL_DELAY_MS : PARTIAL_DELAY_MS,
                   now > arrived ? (double)(now - arrived) / 1e6 : 0, now);
}

// What was shown of a segment must get its final: when the last look finds nothing, the words of
// the one before stand.
static void use_shown(struct decoder *decoder, struct stream *stream, const struct segment *segment)
{
  if (stream->shown != NULL && stream->shown_id == segment->id) {
    decoder->hearing.words.text.size = 0;
    decoder->hearing.words.n_words = 0;
    vc_text_add(&decoder->hearing.words.text, stream->shown);
  }
}

static void remember_shown(struct stream *stream, const struct segment *segment, const char *text)
{
  free(stream->shown);
  stream->shown = text != NULL ? strdup(text) : NULL;
  stream->shown_id = segment->id;
}

// What is cut off from this final is heard with it.
static void remember_told(struct stream *stream, const char *text)
{
  free(stream->told);
  stream->told = text != NULL && stream->segmenter.is_open ? strdup(text) : NULL;
}

static void decode(struct decoder *decoder, struct stream *stream, const struct segment *segment,
                   enum look look)
{
  uint64_t began_ns = now_ns(decoder->pool);
  const struct hearing_sound sound = {
      .ear = stream->ear,
      .ring = stream->ring,
      .ring_size = stream->ring_size,
      .segment = segment,
      .told = stream->told,
      .is_final = look == LOOK_FINAL,
  };
  hearing_hear(&decoder->hearing, &sound);
  measure(decoder, stream, segment, look, began_ns);
  if (!hearing_has_words(&decoder->hearing)) {
    vc_metric_add(decoder->slots, EMPTY, 1);
    if (look == LOOK_FINAL) {
      use_shown(decoder, stream, segment);
    }
  }
  const struct heard heard = {&stream->segmenter, segment, stream->ear->engine->languages[0],
                              look == LOOK_FINAL};
  struct outcome outcome = {.kind = OUTCOME_TRANSCRIPT};
  if (heard_utterance(&heard, &decoder->hearing.words, &outcome.utterance) == 0) {
    remember_shown(stream, segment, look == LOOK_FINAL ? NULL : outcome.utterance->text);
    if (look == LOOK_FINAL) {
      remember_told(stream, outcome.utterance->text);
    }
    post(decoder, stream, &outcome);
  } else if (look == LOOK_FINAL) {
    remember_told(stream, NULL);
  }
}

// Returns: 1 something was decoded for good.
static int carry_out(struct decoder *decoder, struct stream *stream, unsigned decided)
{
  struct segmenter *segmenter = &stream->segmenter;
  if (decided & SEGMENT_STARTED) {
    post_plain(decoder, stream, OUTCOME_SPEECH_START, segmenter->open.voice_begin);
  }
  if (decided & SEGMENT_FINAL) {
    decode(decoder, stream, &segmenter->done, LOOK_FINAL);
  }
  if (decided & SEGMENT_ENDED) {
    post_plain(decoder, stream, OUTCOME_SPEECH_END, segmenter->done.voice_end);
  }
  return (decided & SEGMENT_FINAL) != 0;
}

static float energy_of(const float samples[ENGINE_WINDOW])
{
  float sum = 0;
  for (size_t i = 0; i < ENGINE_WINDOW; i++) {
    sum += samples[i] * samples[i];
  }
  return sum;
}

static unsigned hear_window(struct stream *stream)
{
  float samples[ENGINE_WINDOW];
  uint64_t position = stream->segmenter.position;
  for (size_t i = 0; i < ENGINE_WINDOW; i++) {
    samples[i] = (float)stream->ring[(position + i) & (stream->ring_size - 1)] / 32768.0f;
  }
  int is_voice = stream->ear->engine->ops->ear_hear(stream->ear, samples);
  return segmenter_step(&stream->segmenter, is_voice, energy_of(samples));
}

static void look(struct decoder *decoder, struct stream *stream, uint64_t written)
{
  struct segmenter *segmenter = &stream->segmenter;
  uint64_t behind = written - segmenter->position;
  enum segmenter_load load = behind > BEHIND ? SEGMENTER_IS_BEHIND : SEGMENTER_KEEPS_UP;
  if (!stream->wants_partials || behind > FAR_BEHIND || !segmenter_wants_look(segmenter, load)) {
    return;
  }
  segmenter_looked(segmenter);
  const struct segment segment = {
      .id = segmenter->open.id,
      .begin = segmenter->open.begin,
      .context = segmenter->open.context,
      .end = segmenter->position,
      .voice_begin = segmenter->open.voice_begin,
      .voice_end = segmenter->voiced > segmenter->open.voice_begin ? segmenter->voiced
                                                                   : segmenter->open.voice_begin,
  };
  decode(decoder, stream, &segment, LOOK_PARTIAL);
}

static struct ear *ear_get(struct pool *pool)
{
  struct ear *ear = NULL;
  pthread_mutex_lock(&pool->mutex);
  if (pool->n_ears > 0) {
    ear = pool->ears[--pool->n_ears];
  }
  pthread_mutex_unlock(&pool->mutex);
  const struct engine_ops *ops = pool->settings.engine->ops;
  if (ear != NULL) {
    ops->ear_reset(ear);
    return ear;
  }
  return ops->ear_open(pool->settings.engine);
}

// Hears what there is, at most a second and one decode for good. Returns: 0, or -1 it cannot go on.
static int serve(struct decoder *decoder, struct stream *stream, uint64_t written, int is_finished)
{
  struct segmenter *segmenter = &stream->segmenter;
  if (stream->ear == NULL) {
    stream->ear = ear_get(decoder->pool);
    if (stream->ear == NULL) {
      return -1;
    }
  }
  int n = 0, has_decoded = 0;
  while (!has_decoded && n < WINDOWS_PER_TURN && segmenter->position + ENGINE_WINDOW <= written) {
    has_decoded = carry_out(decoder, stream, hear_window(stream));
    n++;
  }
  vc_metric_add(decoder->slots, HEARD_MS, (uint64_t)n * ENGINE_WINDOW * 1000 / ENGINE_RATE_HZ);
  if (has_decoded) {
    return 0;
  }
  if (is_finished && segmenter->position + ENGINE_WINDOW > written) {
    carry_out(decoder, stream, segmenter_finish(segmenter, written - segmenter->position));
    return 1;
  }
  look(decoder, stream, written);
  return 0;
}

// --- who is next, under the mutex

static int has_work(const struct stream *stream)
{
  if (stream->is_closed) {
    return 1;
  }
  return !stream->is_over && stream->n_outcomes < POOL_OUTCOMES_MAX &&
         (stream->finished_ns != 0 || stream->written - stream->heard >= ENGINE_WINDOW);
}

// How far behind real time a stream is, in ns; one that was sent faster than real time is below 0.
static int64_t urgency(const struct stream *stream, uint64_t now)
{
  int64_t backlog = (int64_t)((stream->written - stream->heard) * (VC_NS_PER_S / ENGINE_RATE_HZ));
  int64_t late = (int64_t)(now - stream->due_ns);
  if (stream->is_closed) {
    return INT64_MAX;
  }
  if (stream->finished_ns != 0 && backlog < (int64_t)(VC_NS_PER_S / 10)) {
    return (int64_t)(now - stream->finished_ns); // somebody waits for its last final
  }
  return backlog < late ? backlog : late;
}

static struct stream *choose(struct pool *pool)
{
  struct stream *stream, *best = NULL;
  int64_t most = INT64_MIN;
  uint64_t now = now_ns(pool);
  DL_FOREACH(pool->streams, stream)
  {
    if (!stream->is_taken && has_work(stream)) {
      int64_t urgent = urgency(stream, now);
      if (best == NULL || urgent > most) {
        most = urgent;
        best = stream;
      }
    }
  }
  return best;
}

// --- a stream's end

static void unready(struct stream *stream)
{
  struct pool *pool = stream->pool;
  struct stream **at = &pool->ready, *before = NULL;
  while (*at != NULL && *at != stream) {
    before = *at;
    at = &(*at)->next_ready;
  }
  if (*at != NULL) {
    *at = stream->next_ready;
    if (pool->last_ready == stream) {
      pool->last_ready = before;
    }
  }
  stream->is_ready = 0;
}

// Takes the stream, which stands in no list any more. Not under the mutex: an ear may take its
// time.
static void stream_destroy(struct stream *stream)
{
  struct pool *pool = stream->pool;
  struct outcome_node *node, *next;
  DL_FOREACH_SAFE(stream->outcomes, node, next)
  {
    outcome_free(node);
  }
  if (stream->ear != NULL) {
    pthread_mutex_lock(&pool->mutex);
    if (pool->n_ears < pool->n_decoders && !pool->is_stopping) {
      pool->ears[pool->n_ears++] = stream->ear;
      stream->ear = NULL;
    }
    pthread_mutex_unlock(&pool->mutex);
  }
  if (stream->ear != NULL) {
    stream->ear->engine->ops->ear_close(stream->ear);
  }
  free(stream->shown);
  free(stream->told);
  free(stream->ring);
  free(stream);
}

// --- a decoding thread

static void pay(struct stream *stream, uint64_t heard, uint64_t now)
{
  uint64_t backlog_ns = (stream->written - stream->heard) * (VC_NS_PER_S / ENGINE_RATE_HZ);
  uint64_t earliest = now > backlog_ns ? now - backlog_ns : 0;
  stream->due_ns = stream->due_ns > earliest ? stream->due_ns : earliest;
  stream->due_ns += (heard - stream->heard) * (VC_NS_PER_S / ENGINE_RATE_HZ);
}

static void give_back(struct stream *stream, int status, uint64_t now)
{
  pay(stream, stream->segmenter.position, now);
  stream->heard = stream->segmenter.position;
  stream->keep_from = segmenter_keep_from(&stream->segmenter);
  stream->is_taken = 0;
  if (status != 0) {
    stream->is_over = 1;
  }
  if (stream->wants_room && stream->written - stream->heard < BACKLOG_MAX) {
    stream->wants_room = 0;
    tell_ready(stream);
  }
  if (has_work(stream)) {
    pthread_cond_signal(&stream->pool->work); // what came meanwhile woke nobody
  }
}

static void turn(struct decoder *decoder, struct stream *stream)
{
  struct pool *pool = decoder->pool;
  if (stream->is_closed) {
    DL_DELETE(pool->streams, stream);
    pthread_mutex_unlock(&pool->mutex);
    stream_destroy(stream);
    pthread_mutex_lock(&pool->mutex);
    return;
  }
  stream->is_taken = 1;
  uint64_t written = stream->written;
  int is_finished = stream->finished_ns != 0;
  pthread_mutex_unlock(&pool->mutex);
  int status = serve(decoder, stream, written, is_finished);
  if (status < 0) {
    vc_metric_add(decoder->slots, FAILURES, 1);
    post_plain(decoder, stream, OUTCOME_FAILED, 0);
  } else if (status > 0) {
    post_plain(decoder, stream, OUTCOME_FINISHED, 0);
  }
  pthread_mutex_lock(&pool->mutex);
  give_back(stream, status, now_ns(pool));
}

static void *run_decoder(void *context)
{
  struct decoder *decoder = context;
  struct pool *pool = decoder->pool;
  pthread_mutex_lock(&pool->mutex);
  for (;;) {
    struct stream *stream = choose(pool);
    if (stream != NULL) {
      decoder->turn_began_ns = now_ns(pool);
      turn(decoder, stream);
      decoder->turn_began_ns = 0;
    } else if (pool->is_stopping) {
      break;
    } else {
      pthread_cond_wait(&pool->work, &pool->mutex);
    }
  }
  pthread_mutex_unlock(&pool->mutex);
  return NULL;
}

// --- the network's side

struct stream *stream_open(struct pool *pool, const struct stream_settings *settings)
{
  const struct engine *engine = pool->settings.engine;
  struct stream *stream = calloc(1, sizeof *stream);
  if (stream == NULL) {
    return NULL;
  }
  double longest =
      settings->longest_s < engine->utterance_max_s ? settings->longest_s : engine->utterance_max_s;
  double endpointing = settings->endpointing_s > engine->endpointing_min_s
                           ? settings->endpointing_s
                           : engine->endpointing_min_s;
  segmenter_init(&stream->segmenter, endpointing, longest, engine->context_max_s);
  stream->pool = pool;
  stream->owner = settings->owner;
  stream->wants_partials = settings->wants_partials;
  stream->ring_size = 1;
  double kept = longest > engine->context_max_s ? longest : engine->context_max_s;
  while (stream->ring_size < (kept + POOL_BACKLOG_S + 1) * ENGINE_RATE_HZ) {
    stream->ring_size *= 2;
  }
  stream->ring = malloc(stream->ring_size * sizeof *stream->ring);
  if (stream->ring == NULL) {
    free(stream);
    return NULL;
  }
  stream->due_ns = now_ns(pool);
  pthread_mutex_lock(&pool->mutex);
  DL_APPEND(pool->streams, stream);
  pthread_mutex_unlock(&pool->mutex);
  return stream;
}

void *stream_owner(const struct stream *stream)
{
  return stream->owner;
}

size_t stream_room(struct stream *stream, size_t n_samples)
{
  pthread_mutex_lock(&stream->pool->mutex);
  uint64_t backlog = stream->written - stream->heard;
  size_t room = backlog < BACKLOG_MAX ? (size_t)(BACKLOG_MAX - backlog) : 0;
  if (room < n_samples) {
    stream->wants_room = 1;
  }
  pthread_mutex_unlock(&stream->pool->mutex);
  return room < n_samples ? room : n_samples;
}

void stream_feed(struct stream *stream, const int16_t *samples, size_t n_samples)
{
  struct pool *pool = stream->pool;
  pthread_mutex_lock(&pool->mutex);
  assert(stream->written - stream->heard + n_samples <= BACKLOG_MAX);
  assert(stream->written + n_samples - stream->keep_from <= stream->ring_size);
  for (size_t i = 0; i < n_samples; i++) {
    stream->ring[(stream->written + i) & (stream->ring_size - 1)] = samples[i];
  }
  stream->written += n_samples;
  stream->marks[stream->n_marks++ % MARKS] = (struct mark){stream->written, now_ns(pool)};
  if (!stream->is_taken && has_work(stream)) {
    pthread_cond_signal(&pool->work);
  }
  pthread_mutex_unlock(&pool->mutex);
}

void stream_finish(struct stream *stream)
{
  struct pool *pool = stream->pool;
  pthread_mutex_lock(&pool->mutex);
  if (stream->finished_ns == 0) {
    stream->finished_ns = now_ns(pool) | 1;
    pthread_cond_signal(&pool->work);
  }
  pthread_mutex_unlock(&pool->mutex);
}

struct outcome stream_take(struct stream *stream)
{
  struct pool *pool = stream->pool;
  struct outcome outcome = {.kind = OUTCOME_NONE};
  pthread_mutex_lock(&pool->mutex);
  struct outcome_node *node = stream->outcomes;
  if (node != NULL) {
    DL_DELETE(stream->outcomes, node);
    if (stream->n_outcomes-- == POOL_OUTCOMES_MAX) {
      pthread_cond_signal(&pool->work);
    }
    outcome = node->outcome;
    free(node);
  }
  pthread_mutex_unlock(&pool->mutex);
  return outcome;
}

double stream_backlog_s(struct stream *stream)
{
  pthread_mutex_lock(&stream->pool->mutex);
  uint64_t backlog = stream->written - stream->heard;
  pthread_mutex_unlock(&stream->pool->mutex);
  return (double)backlog / ENGINE_RATE_HZ;
}

void stream_close(struct stream *stream)
{
  struct pool *pool = stream->pool;
  pthread_mutex_lock(&pool->mutex);
  if (stream->is_ready) {
    unready(stream);
  }
  stream->is_closed = 1;
  pthread_cond_signal(&pool->work);
  pthread_mutex_unlock(&pool->mutex);
}

int pool_event_fd(const struct pool *pool)
{
  return pool->event_fd;
}

struct stream *pool_take_ready(struct pool *pool)
{
  pthread_mutex_lock(&pool->mutex);
  struct stream *stream = pool->ready;
  if (stream != NULL) {
    pool->ready = stream->next_ready;
    stream->is_ready = 0;
  }
  if (pool->ready == NULL) {
    uint64_t count;
    ssize_t n = read(pool->event_fd, &count, sizeof count);
    (void)n;
  }
  pthread_mutex_unlock(&pool->mutex);
  return stream;
}

uint64_t pool_busy_ms(struct pool *pool)
{
  uint64_t longest = 0;
  pthread_mutex_lock(&pool->mutex);
  uint64_t now = now_ns(pool);
  for (uint32_t i = 0; i < pool->n_decoders; i++) {
    uint64_t began = pool->decoders[i].turn_began_ns;
    if (began != 0 && now > began && now - began > longest) {
      longest = now - began;
    }
  }
  pthread_mutex_unlock(&pool->mutex);
  return longest / VC_NS_PER_MS;
}

// --- making and ending

static int start_decoder(struct decoder *decoder, uint32_t index)
{
  char name[16];
  snprintf(name, sizeof name, "vc-ear-%u", index % 1000);
  return vc_thread_start(&decoder->thread, name, STACK_BYTES, run_decoder, decoder);
}

int pool_create(struct pool **pool_out, const struct pool_settings *settings,
                struct vc_error *error)
{
  struct pool *pool = calloc(1, sizeof *pool + settings->n_threads * sizeof pool->decoders[0]);
  if (pool == NULL) {
    return vc_error_set(error, "no memory for the recognisers");
  }
  pool->settings = *settings;
  pthread_mutex_init(&pool->mutex, NULL);
  pthread_cond_init(&pool->work, NULL);
  pool->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  pool->ears = calloc(settings->n_threads, sizeof *pool->ears);
  int status = pool->event_fd < 0 || pool->ears == NULL;
  for (uint32_t i = 0; i < settings->n_threads && status == 0; i++) {
    struct decoder *decoder = &pool->decoders[i];
    decoder->pool = pool;
    decoder->slots = settings->metrics != NULL
                         ? vc_metrics_slots_create(settings->metrics, vc_sttd_pool_metrics)
                         : NULL;
    decoder->hearing.slots = decoder->slots;
    status = start_decoder(decoder, i);
    pool->n_decoders += status == 0;
  }
  if (status != 0) {
    pool_destroy(&pool);
    return vc_error_set(error, "no memory, descriptors or threads for %u recognisers",
                        settings->n_threads);
  }
  *pool_out = pool;
  return 0;
}

void pool_destroy(struct pool **pool_in)
{
  struct pool *pool = *pool_in;
  if (pool == NULL) {
    return;
  }
  pthread_mutex_lock(&pool->mutex);
  pool->is_stopping = 1;
  pthread_cond_broadcast(&pool->work);
  pthread_mutex_unlock(&pool->mutex);
  for (uint32_t i = 0; i < pool->n_decoders; i++) {
    pthread_join(pool->decoders[i].thread, NULL);
    hearing_fini(&pool->decoders[i].hearing);
  }
  assert(pool->streams == NULL);
  while (pool->n_ears > 0) {
    pool->settings.engine->ops->ear_close(pool->ears[--pool->n_ears]);
  }
  free(pool->ears);
  if (pool->event_fd >= 0) {
    close(pool->event_fd);
  }
  pthread_cond_destroy(&pool->work);
  pthread_mutex_destroy(&pool->mutex);
  free(pool);
  *pool_in = NULL;
}
