#include "room.h"

#include <verbacast/base/log.h>

#include <stdlib.h>
#include <string.h>

uint32_t chunk_samples(const struct worker_state *state)
{
  return (uint32_t)state->options->pcm_chunk_size_ms * SAMPLES_PER_MS;
}

// --- giving chunks away

static struct vc_item *find_oldest_sound(const struct vc_waiting *waiting)
{
  struct vc_item *item = waiting->items;
  while (item != NULL && ((const struct vc_chunk *)item)->turn != VC_TURN_DATA) {
    item = item->next;
  }
  return item;
}

static void dropping(struct vc_worker *worker, void *owner, struct vc_item *item)
{
  const struct vc_chunk *chunk = (const struct vc_chunk *)item;
  vc_metric_add(vc_worker_slots(worker), DROPPED_MS, chunk->n_samples / SAMPLES_PER_MS);
}

static int put(struct vc_worker *worker, struct vc_item *item)
{
  struct worker_state *state = vc_worker_state(worker);
  const struct vc_chunk *chunk = (const struct vc_chunk *)item;
  uint64_t arrival_ns = chunk->arrival_ns;
  if (vc_putter_put(state->stt, chunk->session->hash % state->n_stt, item) != 0) {
    return 1;
  }
  if (arrival_ns != 0) {
    uint64_t now = vc_clock_now_ns(vc_worker_clock(worker));
    vc_metric_record(vc_worker_slots(worker), CHUNK_LATENCY,
                     (double)(now - arrival_ns) / (double)VC_NS_PER_MS, now);
  }
  return 0;
}

static const struct vc_waiting_rules rules = {.max = VC_DECODE_WAIT_MAX,
                                              .put = put,
                                              .find_droppable = find_oldest_sound,
                                              .dropping = dropping};

// Takes the chunk.
static void give(struct vc_worker *worker, struct session *session, struct vc_chunk *chunk)
{
  struct worker_state *state = vc_worker_state(worker);
  size_t n_before = session->waiting.n;
  vc_waiting_give(&session->waiting, &rules, worker, session, &chunk->item);
  state->n_with_waiting += n_before == 0 && session->waiting.n > 0;
}

void chunks_give_waiting(struct vc_worker *worker, struct session *session)
{
  struct worker_state *state = vc_worker_state(worker);
  if (vc_waiting_flush(&session->waiting, &rules, worker) != 0) {
    return;
  }
  state->n_with_waiting--;
  if (session->is_closed) {
    session_destroy(worker, session);
  }
}

void chunks_give_turn(struct vc_worker *worker, struct session *session,
                      const struct vc_packet *packet)
{
  struct vc_chunk *chunk = vc_chunk_create(session->session, packet->turn);
  if (chunk == NULL) {
    vc_log(VC_LOG_ERROR, VC_EVENT("decode.no_memory"), VC_STR("slug", session->session->slug));
    return;
  }
  chunk->first_sample = session->position;
  give(worker, session, chunk);
}

void chunks_give_close(struct vc_worker *worker, struct session *session,
                       enum vc_close_reason reason)
{
  struct vc_chunk *chunk = session->closing;
  session->closing = NULL;
  session->is_closed = 1;
  chunk->reason = reason;
  chunk->first_sample = session->position;
  give(worker, session, chunk);
}

// --- chunks

void chunks_flush(struct vc_worker *worker, struct session *session)
{
  struct worker_state *state = vc_worker_state(worker);
  if (session->n_remainder == 0) {
    return;
  }
  DL_DELETE(state->growing, session);
  struct vc_chunk *chunk = vc_chunk_create(session->session, VC_TURN_DATA);
  if (chunk == NULL) {
    vc_metric_add(vc_worker_slots(worker), DROPPED_MS, session->n_remainder / SAMPLES_PER_MS);
    vc_buffer_unref(session->remainder);
  } else {
    chunk->first_sample = session->position - session->n_remainder;
    chunk->n_samples = session->n_remainder;
    chunk->arrival_ns = session->remainder_arrival_ns;
    chunk->pcm = session->remainder;
    chunk->pcm->size = session->n_remainder * 2;
  }
  session->remainder = NULL;
  session->n_remainder = 0;
  if (chunk != NULL) {
    give(worker, session, chunk);
  }
}

// Cuts samples into chunks; the rest stays as the remainder. Samples are little-endian as the
// machine's are (checked at build time in meson.build).
void chunks_add_samples(struct vc_worker *worker, struct session *session, const int16_t *samples,
                        size_t n, uint64_t arrival_ns)
{
  struct worker_state *state = vc_worker_state(worker);
  uint32_t whole = chunk_samples(state);
  if (n > 0 && session->n_remainder > 0) {
    DL_DELETE(state->growing, session);
    DL_APPEND(state->growing, session);
  }
  while (n > 0) {
    if (session->remainder == NULL) {
      session->remainder = vc_pool_take(state->chunks);
      if (session->remainder == NULL) {
        vc_metric_add(vc_worker_slots(worker), DROPPED_MS, n / SAMPLES_PER_MS);
        session->position += n;
        return;
      }
    }
    uint32_t room = whole - session->n_remainder;
    uint32_t taken = n < room ? (uint32_t)n : room;
    memcpy(session->remainder->data + session->n_remainder * 2, samples, taken * 2);
    if (session->n_remainder == 0) {
      DL_APPEND(state->growing, session);
    }
    session->n_remainder += taken;
    session->position += taken;
    session->remainder_arrival_ns = arrival_ns;
    session->grown_ns = vc_worker_now_ns(worker);
    samples += taken;
    n -= taken;
    if (session->n_remainder == whole) {
      chunks_flush(worker, session);
    }
  }
}

void chunks_add_silence(struct vc_worker *worker, struct session *session, uint64_t n)
{
  struct worker_state *state = vc_worker_state(worker);
  uint32_t whole = chunk_samples(state);
  vc_metric_add(vc_worker_slots(worker), SILENCE_MS, n / SAMPLES_PER_MS);
  chunks_flush(worker, session);
  while (n > 0) {
    uint32_t taken = n < whole ? (uint32_t)n : whole;
    struct vc_chunk *chunk = vc_chunk_create(session->session, VC_TURN_DATA);
    if (chunk != NULL) {
      chunk->first_sample = session->position;
      chunk->n_samples = taken;
      chunk->pcm = taken == whole ? vc_buffer_ref(state->silence)
                                  : vc_buffer_copy(state->silence->data, taken * 2U);
      if (chunk->pcm != NULL) {
        give(worker, session, chunk);
      } else {
        vc_chunk_destroy(&chunk);
      }
    }
    session->position += taken;
    n -= taken;
  }
}

// --- what has not grown

static uint64_t patience_ns(const struct worker_state *state, const struct session *session)
{
  uint64_t flush = (uint64_t)state->options->flush_interval_ms * VC_NS_PER_MS;
  uint64_t frames = decoder_frame_ns(session->decoder) * 3 / 2;
  return frames > flush ? frames : flush;
}

void chunks_flush_idle(struct vc_worker *worker)
{
  struct worker_state *state = vc_worker_state(worker);
  uint64_t now = vc_worker_now_ns(worker);
  uint64_t least = (uint64_t)state->options->flush_interval_ms * VC_NS_PER_MS;
  struct session *session, *next;
  DL_FOREACH_SAFE(state->growing, session, next)
  {
    if (session->grown_ns + least > now) {
      break; // all behind it have grown later
    }
    if (session->grown_ns + patience_ns(state, session) <= now) {
      chunks_flush(worker, session);
    }
  }
}

// Asks for a turn when the first of the remainders will have waited long enough: not always the
// one that grew first, as frames are of different lengths.
void chunks_wake(struct vc_worker *worker)
{
  struct worker_state *state = vc_worker_state(worker);
  uint64_t least = (uint64_t)state->options->flush_interval_ms * VC_NS_PER_MS;
  uint64_t first = UINT64_MAX;
  const struct session *session;
  DL_FOREACH(state->growing, session)
  {
    if (session->grown_ns + least >= first) {
      break; // all behind it have grown later
    }
    uint64_t due = session->grown_ns + patience_ns(state, session);
    first = due < first ? due : first;
  }
  if (first != UINT64_MAX) {
    vc_worker_wake_at(worker, first);
  }
}
