// What the files of the room share. Thread: a session's worker for all of it.
#pragma once

#define HASH_NONFATAL_OOM 1 // an element that was not added has hh.tbl NULL
#include <uthash.h>
#include <utlist.h>

#include <verbacast/base/pool.h>
#include <verbacast/decode.h>
#include <verbacast/flow/chunk.h>
#include <verbacast/flow/packet.h>
#include <verbacast/flow/waiting.h>

#include "arrivals.h"
#include "decoder.h"

#define SAMPLES_PER_MS (VC_SAMPLE_RATE_HZ / 1000)

enum decode_metric {
  FRAMES,
  CORRUPT,
  BAD_CONFIGS,
  SILENCE_MS,
  DROPPED_MS,
  DROPPED_FRAMES,
  SESSIONS,
  CHUNK_LATENCY,
};

struct session {
  uint64_t id;
  struct vc_session *session; // one reference
  struct decoder *decoder;
  struct vc_buffer *config; // what the decoder was opened with, or NULL
  /* audio clock */
  uint64_t position; // samples since the session began, given to the chunker
  int has_base;
  int is_back;      // the next packet is the first of a publisher that came back
  uint32_t base_ms; // the publisher's timestamp of base_position
  uint64_t base_position;
  uint64_t last_arrival_ns;
  /* PCM: its clock, and what is held back */
  struct arrivals arrivals;
  struct pcm held;
  int is_timed;
  struct session *prev_timed, *next_timed; // in worker_state.timed, while is_timed
  /* the chunk that is being filled */
  struct vc_buffer *remainder; // NULL: none
  uint32_t n_remainder;        // samples
  uint64_t remainder_arrival_ns;
  uint64_t grown_ns;
  struct session *prev, *next; // in worker_state.growing, while n_remainder > 0
  /* its end */
  struct vc_chunk *closing;  // CLOSE, made with the session: it needs no memory
  int is_closed;             // only waits for its chunks to go
  struct vc_waiting waiting; // chunks that the stt lane did not take
  UT_hash_handle hh;         // in worker_state.sessions
};

struct worker_state {
  const struct vc_decode_options *options;
  struct vc_putter *stt;
  uint32_t n_stt;
  struct session *sessions;
  struct session *growing;   // the least recently grown first
  struct session *timed;     // whose arrivals ask to be woken
  struct pcm pcm;            // scratch
  struct vc_buffer *silence; // one chunk of it, shared
  struct vc_pool *chunks;    // PCM of whole chunks
  size_t n_with_waiting;     // sessions
};

void session_destroy(struct vc_worker *worker, struct session *session);

// --- chunks.c: samples become chunks, and chunks go to the stt stage or wait for it

uint32_t chunk_samples(const struct worker_state *state);
// The turn of the packet, at this place of the clock.
void chunks_give_turn(struct vc_worker *worker, struct session *session,
                      const struct vc_packet *packet);
void chunks_give_close(struct vc_worker *worker, struct session *session,
                       enum vc_close_reason reason);
// Those that wait. The session may be gone afterwards.
void chunks_give_waiting(struct vc_worker *worker, struct session *session);
// Each moves the session's clock on.
void chunks_add_samples(struct vc_worker *worker, struct session *session, const int16_t *samples,
                        size_t n, uint64_t arrival_ns);
void chunks_add_silence(struct vc_worker *worker, struct session *session, uint64_t n);
// What there is goes out as a short chunk.
void chunks_flush(struct vc_worker *worker, struct session *session);
// At every tick, and the wish for the next.
void chunks_flush_idle(struct vc_worker *worker);
void chunks_wake(struct vc_worker *worker);

// --- raw.c: PCM, by the clock of arrivals.h

void raw_use(struct vc_worker *worker, struct session *session, const struct vc_packet *packet);
void raw_mute(struct vc_worker *worker, struct session *session);
// What is held back goes on now.
void raw_release(struct vc_worker *worker, struct session *session);
// At every tick, and the wish for the next.
void raw_serve(struct vc_worker *worker);
void raw_wake(struct vc_worker *worker);
