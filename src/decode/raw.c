#include "room.h"

#include <stdlib.h>
#include <string.h>

// Of silence no more is heard than ends an utterance; over the rest the clock jumps.
static void pass_hole(struct vc_worker *worker, struct session *session, uint64_t n)
{
  uint64_t most = ARRIVALS_SILENCE_MS * SAMPLES_PER_MS;
  if (n > 0) {
    chunks_add_silence(worker, session, n < most ? n : most);
    session->position += n < most ? 0 : n - most;
  }
}

static void set_timed(struct worker_state *state, struct session *session)
{
  int is_timed = arrivals_wake_ns(&session->arrivals) != 0;
  if (is_timed && !session->is_timed) {
    DL_APPEND2(state->timed, session, prev_timed, next_timed);
  } else if (!is_timed && session->is_timed) {
    DL_DELETE2(state->timed, session, prev_timed, next_timed);
  }
  session->is_timed = is_timed;
}

void raw_release(struct vc_worker *worker, struct session *session)
{
  if (session->arrivals.settle_at_ns != 0) {
    pass_hole(worker, session,
              arrivals_settle(&session->arrivals, session->position, session->held.n));
    chunks_add_samples(worker, session, session->held.samples, session->held.n,
                       session->arrivals.last_ns);
    pcm_fini(&session->held); // holes are rare
    set_timed(vc_worker_state(worker), session);
  }
}

// Returns: 0, or -1 without memory.
static int hold_back(struct session *session, const struct pcm *pcm)
{
  struct pcm *held = &session->held;
  int16_t *samples = realloc(held->samples, (held->n + pcm->n) * sizeof *samples);
  if (samples == NULL) {
    return -1;
  }
  memcpy(samples + held->n, pcm->samples, pcm->n * sizeof *samples);
  held->samples = samples;
  held->n = held->capacity = held->n + pcm->n;
  return 0;
}

static int is_silence(const struct vc_buffer *data)
{
  return data->size > 0 && data->data[0] == 0 &&
         memcmp(data->data, data->data + 1, data->size - 1) == 0;
}

void raw_use(struct vc_worker *worker, struct session *session, const struct vc_packet *packet)
{
  struct worker_state *state = vc_worker_state(worker);
  struct arrivals *arrivals = &session->arrivals;
  struct pcm *pcm = &state->pcm;
  pcm->n = 0;
  int status = decoder_resample(session->decoder, packet, pcm);
  vc_metric_add(vc_worker_slots(worker), status == 0 ? FRAMES : CORRUPT, 1);
  if (pcm->n == 0) {
    return; // all of it is in the resampler
  }
  if (arrivals->origin_ns == 0) {
    arrivals_begin(arrivals,
                   atomic_load_explicit(&session->session->first_audio_ns, memory_order_relaxed));
  }
  arrivals->is_broken |= packet->is_discontinuity;
  session->last_arrival_ns = packet->arrival_ns;
  uint64_t now_ns = packet->arrival_ns;
  int is_held = (is_silence(packet->data) ? arrivals_take_silence : arrivals_take)(
      arrivals, now_ns, session->position, pcm->n);
  if (!is_held) {
    chunks_add_samples(worker, session, pcm->samples, pcm->n, now_ns);
  } else if (hold_back(session, pcm) != 0) {
    raw_release(worker, session);
    chunks_add_samples(worker, session, pcm->samples, pcm->n, now_ns);
  } else if (arrivals_is_settled(arrivals, now_ns, session->position, session->held.n)) {
    raw_release(worker, session);
  }
  set_timed(state, session);
}

void raw_mute(struct vc_worker *worker, struct session *session)
{
  if (session->arrivals.origin_ns != 0) {
    raw_release(worker, session);
    arrivals_mute(&session->arrivals, vc_worker_now_ns(worker));
    set_timed(vc_worker_state(worker), session);
  }
}

void raw_serve(struct vc_worker *worker)
{
  struct worker_state *state = vc_worker_state(worker);
  uint64_t now_ns = vc_worker_now_ns(worker);
  struct session *session, *next;
  DL_FOREACH_SAFE2(state->timed, session, next, next_timed)
  {
    if (session->arrivals.settle_at_ns != 0 &&
        arrivals_is_settled(&session->arrivals, now_ns, session->position, session->held.n)) {
      raw_release(worker, session);
    }
    uint64_t n = arrivals_silence(&session->arrivals, now_ns, session->position);
    if (n > 0) {
      chunks_add_silence(worker, session, n);
    }
    set_timed(state, session);
  }
}

void raw_wake(struct vc_worker *worker)
{
  struct worker_state *state = vc_worker_state(worker);
  const struct session *session;
  DL_FOREACH2(state->timed, session, next_timed)
  {
    vc_worker_wake_at(worker, arrivals_wake_ns(&session->arrivals));
  }
}
