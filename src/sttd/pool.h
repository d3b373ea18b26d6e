// The recogniser pool: streams of sound in, what was heard out.
//
// One thread a core decodes. A free thread takes the stream that is most behind (by sound that came
// in real time: one whose client sends faster than it speaks goes last), hears at most a second of
// it and decodes at most once, then looks again. So a fast client cannot starve a live one, and
// slow decoding never touches the network's thread.
//
// What is bounded: a stream's sound (POOL_BACKLOG_S unheard, beyond it stream_feed takes no more
// and the client's socket is read less), its outcomes (POOL_OUTCOMES_MAX, beyond it nothing more of
// the stream is decoded). A partial that was not taken yet is replaced by the next; finals are
// never lost.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <verbacast/base/clock.h>
#include <verbacast/base/metrics.h>
#include <verbacast/wire/utterance.h>

#include "engine.h"

#define POOL_BACKLOG_S 4
#define POOL_OUTCOMES_MAX 64

struct pool;
struct stream;

struct pool_settings {
  struct engine *engine; // borrowed
  uint32_t n_threads;
  const struct vc_clock *clock;
  struct vc_metrics *metrics; // may be NULL
};

struct stream_settings {
  double endpointing_s, longest_s; // brought within the engine's limits
  int wants_partials;              // without them no partial is decoded
  void *owner;
};

enum outcome_kind {
  OUTCOME_NONE,
  OUTCOME_SPEECH_START, // time_s
  OUTCOME_SPEECH_END,   // time_s
  OUTCOME_TRANSCRIPT,   // utterance
  OUTCOME_FINISHED,     // after stream_finish: nothing follows
  OUTCOME_FAILED,       // the engine cannot serve this stream: nothing follows
};

struct outcome {
  enum outcome_kind kind;
  double time_s;
  struct vc_utterance *utterance; // the taker's
};

// Thread: the network's, for all that follows.
int pool_create(struct pool **pool, const struct pool_settings *settings, struct vc_error *error);
// All streams must be closed. Waits for the decodes that run.
void pool_destroy(struct pool **pool);
// Readable when a stream has something to tell: an outcome, or room for sound again.
int pool_event_fd(const struct pool *pool);
// Returns: a stream with something to tell, each once, or NULL. Drains the descriptor.
struct stream *pool_take_ready(struct pool *pool);
// Thread: any. Returns: the longest time that one turn of a thread has been going on, in ms.
uint64_t pool_busy_ms(struct pool *pool);

struct stream *stream_open(struct pool *pool, const struct stream_settings *settings);
void *stream_owner(const struct stream *stream);
// Returns: how many samples may be fed now, at most n_samples. When it is less, the stream will be
// told ready as soon as there is more room.
size_t stream_room(struct stream *stream, size_t n_samples);
// No more than stream_room said.
void stream_feed(struct stream *stream, const int16_t *samples, size_t n_samples);
// No more sound comes. What is open is decoded, then OUTCOME_FINISHED.
void stream_finish(struct stream *stream);
// Returns: what happened next; OUTCOME_NONE when there is nothing.
struct outcome stream_take(struct stream *stream);
// Seconds of sound that were taken but not heard yet.
double stream_backlog_s(struct stream *stream);
// Gives the stream up, at any time; it is not to be touched again.
void stream_close(struct stream *stream);
