#include <verbacast/decode.h>

#include <verbacast/base/log.h>
#include <verbacast/base/pool.h>
#include <verbacast/flow/chunk.h>
#include <verbacast/flow/packet.h>
#include <verbacast/flow/waiting.h>

#define HASH_NONFATAL_OOM 1 // an element that was not added has hh.tbl NULL
#include <uthash.h>
#include <utlist.h>

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "decoder.h"

#define GAP_MIN_MS 100     // less is the jitter of the publisher's rounding
#define AGREEMENT_MS 1000  // a new publisher's timestamps that go on agree with the clock
#define LANE_CAPACITY 4096 // packets; a burst of a second of 100 sessions fits
#define POOLED_CHUNKS 256  // unused ones that are kept: 400 KB
#define SAMPLES_PER_MS (VC_SAMPLE_RATE_HZ / 1000)

const struct vc_option vc_decode_option_rows[] = {
    {"PCM_CHUNK_SIZE_MS", VC_OPTION_INTEGER, offsetof(struct vc_decode_options, pcm_chunk_size_ms),
     "50", "ms", 10, 200, .help = "Audio per chunk that is sent to the speech-to-text service."},
    {"FLUSH_INTERVAL_MS", VC_OPTION_INTEGER, offsetof(struct vc_decode_options, flush_interval_ms),
     "25", "ms", 1, 1000,
     .help = "A remainder that has not grown for this long, or for 1.5 frames of the codec where "
             "that is longer, goes out as a short chunk."},
    {"DECODE_THREADS", VC_OPTION_INTEGER, offsetof(struct vc_decode_options, decode_threads), "0",
     "threads", 0, 256, .help = "Decoding workers; 0: one for each core."},
    VC_OPTION_ROWS_END,
};

enum {
  FRAMES,
  CORRUPT,
  BAD_CONFIGS,
  SILENCE_MS,
  DROPPED_MS,
  DROPPED_FRAMES,
  SESSIONS,
  CHUNK_LATENCY,
};
const struct vc_metric vc_decode_metrics[] = {
    [FRAMES] = {"decode.frames_total", VC_METRIC_COUNTER, "frames", "Frames that were decoded."},
    [CORRUPT] = {"decode.corrupt_frames_total", VC_METRIC_COUNTER, "frames",
                 "Frames that could not be decoded and were passed over."},
    [BAD_CONFIGS] = {"decode.bad_configs_total", VC_METRIC_COUNTER, "configs",
                     "Codec configurations that libavcodec did not take."},
    [SILENCE_MS] = {"decode.silence_ms_total", VC_METRIC_COUNTER, "ms",
                    "Silence that was made for gaps in the publishers' timestamps."},
    [DROPPED_MS] = {"decode.audio_dropped_ms_total", VC_METRIC_COUNTER, "ms",
                    "Decoded audio dropped because the stt stage did not take it."},
    [DROPPED_FRAMES] = {"decode.undecodable_total", VC_METRIC_COUNTER, "frames",
                        "Frames dropped because no usable configuration came before them."},
    [SESSIONS] = {"decode.sessions", VC_METRIC_GAUGE, "sessions", "Sessions being decoded."},
    [CHUNK_LATENCY] = {"decode.chunk_latency_ms", VC_METRIC_DISTRIBUTION, "ms",
                       "From the arrival of the last byte of a chunk's last packet to the chunk's "
                       "being put to the stt lane."},
    VC_METRIC_ROWS_END,
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
  struct pcm pcm;            // scratch
  struct vc_buffer *silence; // one chunk of it, shared
  struct vc_pool *chunks;    // PCM of whole chunks
  size_t n_with_waiting;     // sessions
};

static uint32_t chunk_samples(const struct worker_state *state)
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

static void session_destroy(struct vc_worker *worker, struct session *session);

static void give_waiting(struct vc_worker *worker, struct session *session)
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

static void give_turn(struct vc_worker *worker, struct session *session,
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

static void give_close(struct vc_worker *worker, struct session *session,
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

static void flush_remainder(struct vc_worker *worker, struct session *session)
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
static void add_samples(struct vc_worker *worker, struct session *session, const int16_t *samples,
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
      flush_remainder(worker, session);
    }
  }
}

static void add_silence(struct vc_worker *worker, struct session *session, uint64_t n)
{
  struct worker_state *state = vc_worker_state(worker);
  uint32_t whole = chunk_samples(state);
  vc_metric_add(vc_worker_slots(worker), SILENCE_MS, n / SAMPLES_PER_MS);
  flush_remainder(worker, session);
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

// --- the audio clock

static void set_base(struct session *session, const struct vc_packet *packet)
{
  session->has_base = 1;
  session->base_ms = packet->timestamp_ms;
  session->base_position = session->position;
}

// How much later than expected the packet's sound begins, by its publisher's clock.
static int64_t gap_by_timestamp_ms(const struct session *session, const struct vc_packet *packet)
{
  uint64_t since_base_ms = (session->position - session->base_position) / SAMPLES_PER_MS;
  int32_t since_base_publisher_ms = (int32_t)(packet->timestamp_ms - session->base_ms);
  return (int64_t)since_base_publisher_ms - (int64_t)since_base_ms;
}

static void keep_clock(struct vc_worker *worker, struct session *session,
                       const struct vc_packet *packet)
{
  if (!session->has_base) {
    set_base(session, packet);
    return;
  }
  int64_t gap_ms = gap_by_timestamp_ms(session, packet);
  int is_back = session->is_back;
  session->is_back = 0;
  if (is_back) {
    // Its timestamps may go on or begin anew: only those that agree with our clock are believed.
    int64_t away_ms = (int64_t)((packet->arrival_ns - session->last_arrival_ns) / VC_NS_PER_MS);
    int64_t difference_ms = gap_ms - away_ms;
    gap_ms = difference_ms > -AGREEMENT_MS && difference_ms < AGREEMENT_MS ? gap_ms : away_ms;
  }
  int64_t most_ms = INT64_C(1000) * VC_DECODE_SILENCE_MAX_S;
  if (gap_ms > GAP_MIN_MS) {
    uint64_t silence_ms = (uint64_t)(gap_ms < most_ms ? gap_ms : most_ms);
    add_silence(worker, session, silence_ms * SAMPLES_PER_MS);
    set_base(session, packet);
  } else if (is_back || gap_ms < -GAP_MIN_MS) {
    set_base(session, packet);
  }
}

// --- packets

// What the resampler and the chunker hold goes out; nothing follows soon.
static void flush_all(struct vc_worker *worker, struct session *session)
{
  struct worker_state *state = vc_worker_state(worker);
  state->pcm.n = 0;
  if (decoder_flush(session->decoder, &state->pcm) == 0) {
    add_samples(worker, session, state->pcm.samples, state->pcm.n, session->last_arrival_ns);
  }
  flush_remainder(worker, session);
}

static void use_config(struct vc_worker *worker, struct session *session,
                       const struct vc_packet *packet)
{
  const struct vc_buffer *new = packet->data, *old = session->config;
  if (old != NULL && decoder_is_open(session->decoder, packet->codec) &&
      old->size == new->size &&memcmp(old->data, new->data, new->size) == 0) {
    return; // publishers repeat it
  }
  flush_all(worker, session);
  vc_buffer_unref(session->config);
  session->config = NULL;
  if (decoder_open(session->decoder, packet->codec, new->data, new->size) != 0) {
    vc_metric_add(vc_worker_slots(worker), BAD_CONFIGS, 1);
    vc_log(VC_LOG_WARN, VC_EVENT("decode.bad_config"), VC_STR("slug", session->session->slug),
           VC_INT("codec", packet->codec), VC_INT("bytes", new->size));
    return;
  }
  session->config = vc_buffer_ref(packet->data);
}

static void use_data(struct vc_worker *worker, struct session *session,
                     const struct vc_packet *packet)
{
  struct worker_state *state = vc_worker_state(worker);
  int needs_no_config = packet->codec == VC_CODEC_MP3;
  if (!decoder_is_open(session->decoder, packet->codec) &&
      (!needs_no_config || decoder_open(session->decoder, packet->codec, NULL, 0) != 0)) {
    vc_metric_add(vc_worker_slots(worker), DROPPED_FRAMES, 1);
    return;
  }
  keep_clock(worker, session, packet);
  session->last_arrival_ns = packet->arrival_ns;
  state->pcm.n = 0;
  int status =
      decoder_decode(session->decoder, packet->data->data, packet->data->size, &state->pcm);
  vc_metric_add(vc_worker_slots(worker), status == 0 ? FRAMES : CORRUPT, 1);
  add_samples(worker, session, state->pcm.samples, state->pcm.n, packet->arrival_ns);
}

static struct session *session_create(struct vc_worker *worker, struct vc_session *of)
{
  struct worker_state *state = vc_worker_state(worker);
  struct session *session = calloc(1, sizeof *session);
  if (session == NULL) {
    return NULL;
  }
  session->id = of->id;
  session->decoder = decoder_create();
  session->closing = vc_chunk_create(of, VC_TURN_CLOSE);
  if (session->decoder != NULL && session->closing != NULL) {
    HASH_ADD(hh, state->sessions, id, sizeof session->id, session);
  }
  if (session->hh.tbl == NULL) {
    decoder_destroy(&session->decoder);
    vc_chunk_destroy(&session->closing);
    free(session);
    return NULL;
  }
  session->session = vc_session_ref(of);
  vc_metric_add(vc_worker_slots(worker), SESSIONS, 1);
  return session;
}

static void session_destroy(struct vc_worker *worker, struct session *session)
{
  struct worker_state *state = vc_worker_state(worker);
  if (session->n_remainder > 0) {
    DL_DELETE(state->growing, session);
  }
  vc_waiting_fini(&session->waiting);
  vc_chunk_destroy(&session->closing);
  HASH_DEL(state->sessions, session);
  vc_metric_add(vc_worker_slots(worker), SESSIONS, (uint64_t)-1);
  decoder_destroy(&session->decoder);
  vc_buffer_unref(session->config);
  vc_buffer_unref(session->remainder);
  vc_session_unref(session->session);
  free(session);
}

static void handle_packet(struct vc_worker *worker, struct vc_packet *packet)
{
  struct worker_state *state = vc_worker_state(worker);
  struct session *session;
  HASH_FIND(hh, state->sessions, &packet->session->id, sizeof packet->session->id, session);
  if (session == NULL && packet->turn == VC_TURN_OPEN) {
    session = session_create(worker, packet->session);
    if (session == NULL) {
      vc_log(VC_LOG_ERROR, VC_EVENT("decode.no_memory"), VC_STR("slug", packet->session->slug));
    }
  }
  if (session == NULL) {
    return; // opened without memory: what follows is nobody's
  }
  switch (packet->turn) {
  case VC_TURN_OPEN:
    give_turn(worker, session, packet);
    break;
  case VC_TURN_CONFIG:
    use_config(worker, session, packet);
    break;
  case VC_TURN_DATA:
    use_data(worker, session, packet);
    break;
  case VC_TURN_LOST:
    flush_all(worker, session);
    give_turn(worker, session, packet);
    break;
  case VC_TURN_BACK:
    flush_all(worker, session);
    session->is_back = session->has_base;
    give_turn(worker, session, packet);
    break;
  case VC_TURN_CLOSE:
    flush_all(worker, session);
    give_close(worker, session, packet->reason);
    if (session->waiting.n == 0) {
      session_destroy(worker, session);
    }
    break;
  }
}

// --- the stage

static uint64_t patience_ns(const struct worker_state *state, const struct session *session)
{
  uint64_t flush = (uint64_t)state->options->flush_interval_ms * VC_NS_PER_MS;
  uint64_t frames = decoder_frame_ns(session->decoder) * 3 / 2;
  return frames > flush ? frames : flush;
}

static void flush_idle_remainders(struct vc_worker *worker)
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
      flush_remainder(worker, session);
    }
  }
}

static void handle(struct vc_worker *worker, struct vc_item *item)
{
  if (item->kind == VC_ITEM_PACKET) {
    handle_packet(worker, (struct vc_packet *)item);
  }
  vc_item_destroy(item);
}

// Asks for a turn when the first of the remainders will have waited long enough: not always the
// one that grew first, as frames are of different lengths.
static void wake_for_remainders(struct vc_worker *worker)
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

static void turned(struct vc_worker *worker)
{
  wake_for_remainders(worker);
}

static void tick(struct vc_worker *worker)
{
  struct worker_state *state = vc_worker_state(worker);
  flush_idle_remainders(worker);
  wake_for_remainders(worker); // the wake-up that led here may have been for less than is there now
  if (state->n_with_waiting == 0) {
    return;
  }
  struct session *session, *next;
  HASH_ITER(hh, state->sessions, session, next)
  {
    if (session->waiting.n > 0) {
      give_waiting(worker, session);
    }
  }
}

static int is_drained(struct vc_worker *worker)
{
  struct worker_state *state = vc_worker_state(worker);
  return state->n_with_waiting == 0;
}

static int enter(struct vc_worker *worker, void *config, struct vc_error *error)
{
  const struct vc_decode_settings *settings = config;
  struct worker_state *state = calloc(1, sizeof *state);
  if (state == NULL) {
    return vc_error_set(error, "no memory");
  }
  vc_worker_set_state(worker, state);
  state->options = settings->options;
  state->n_stt = vc_stage_n_workers(settings->stt);
  state->stt = vc_putter_create(settings->stt);
  state->silence = vc_buffer_create(chunk_samples(state) * 2);
  state->chunks = vc_pool_create(chunk_samples(state) * 2, POOLED_CHUNKS);
  if (state->stt == NULL || state->silence == NULL || state->chunks == NULL) {
    vc_buffer_unref(state->silence);
    vc_pool_destroy(&state->chunks);
    free(state);
    return vc_error_set(error, "no memory or no lane into the stt stage");
  }
  state->silence->size = state->silence->capacity;
  memset(state->silence->data, 0, state->silence->size);
  return 0;
}

static void leave(struct vc_worker *worker)
{
  struct worker_state *state = vc_worker_state(worker);
  struct session *session, *next;
  HASH_ITER(hh, state->sessions, session, next)
  {
    session_destroy(worker, session);
  }
  pcm_fini(&state->pcm);
  vc_buffer_unref(state->silence);
  vc_pool_destroy(&state->chunks);
  free(state);
}

static const struct vc_stage_ops ops = {
    .name = "decode",
    .enter = enter,
    .handle = handle,
    .turned = turned,
    .tick = tick,
    .is_drained = is_drained,
    .leave = leave,
};

int vc_decode_create(struct vc_stage **stage, const struct vc_decode_settings *settings,
                     struct vc_error *error)
{
  decoder_route_log();
  return vc_stage_create(stage,
                         &(struct vc_stage_settings){
                             .ops = &ops,
                             .config = settings,
                             .config_size = sizeof *settings,
                             .n_workers = settings->n_workers,
                             .tick_ms = 0,
                             .lane_capacity = LANE_CAPACITY,
                             .clock = settings->clock,
                             .metrics = settings->metrics,
                             .metric_rows = vc_decode_metrics,
                         },
                         error);
}
