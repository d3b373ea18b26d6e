#include "room.h"

#include <verbacast/base/log.h>

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define GAP_MIN_MS 100     // less is the jitter of the publisher's rounding
#define AGREEMENT_MS 1000  // a new publisher's timestamps that go on agree with the clock
#define LANE_CAPACITY 4096 // packets; a burst of a second of 100 sessions fits
#define POOLED_CHUNKS 256  // unused ones that are kept: 400 KB

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

const struct vc_metric vc_decode_metrics[] = {
    [FRAMES] = {"decode.frames_total", VC_METRIC_COUNTER, "frames", "Frames that were decoded."},
    [CORRUPT] = {"decode.corrupt_frames_total", VC_METRIC_COUNTER, "frames",
                 "Frames that could not be decoded and were passed over."},
    [BAD_CONFIGS] = {"decode.bad_configs_total", VC_METRIC_COUNTER, "configs",
                     "Codec configurations that libavcodec did not take."},
    [SILENCE_MS] = {"decode.silence_ms_total", VC_METRIC_COUNTER, "ms",
                    "Silence that was made for gaps in what publishers sent."},
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
    chunks_add_silence(worker, session, silence_ms * SAMPLES_PER_MS);
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
  raw_release(worker, session);
  state->pcm.n = 0;
  if (decoder_flush(session->decoder, &state->pcm) == 0) {
    chunks_add_samples(worker, session, state->pcm.samples, state->pcm.n, session->last_arrival_ns);
  }
  chunks_flush(worker, session);
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
  chunks_add_samples(worker, session, state->pcm.samples, state->pcm.n, packet->arrival_ns);
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

void session_destroy(struct vc_worker *worker, struct session *session)
{
  struct worker_state *state = vc_worker_state(worker);
  if (session->n_remainder > 0) {
    DL_DELETE(state->growing, session);
  }
  if (session->is_timed) {
    DL_DELETE2(state->timed, session, prev_timed, next_timed);
  }
  pcm_fini(&session->held);
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
    chunks_give_turn(worker, session, packet);
    break;
  case VC_TURN_CONFIG:
    use_config(worker, session, packet);
    break;
  case VC_TURN_DATA:
    if (packet->codec == VC_CODEC_PCM_S16LE) {
      raw_use(worker, session, packet);
    } else {
      use_data(worker, session, packet);
    }
    break;
  case VC_TURN_MUTED:
    raw_mute(worker, session);
    break;
  case VC_TURN_LOST:
    flush_all(worker, session);
    chunks_give_turn(worker, session, packet);
    break;
  case VC_TURN_BACK:
    flush_all(worker, session);
    session->is_back = session->has_base;
    session->arrivals.is_broken = 1;
    chunks_give_turn(worker, session, packet);
    break;
  case VC_TURN_CLOSE:
    flush_all(worker, session);
    chunks_give_close(worker, session, packet->reason);
    if (session->waiting.n == 0) {
      session_destroy(worker, session);
    }
    break;
  }
}

// --- the stage

static void handle(struct vc_worker *worker, struct vc_item *item)
{
  if (item->kind == VC_ITEM_PACKET) {
    handle_packet(worker, (struct vc_packet *)item);
  }
  vc_item_destroy(item);
}

static void turned(struct vc_worker *worker)
{
  chunks_wake(worker);
  raw_wake(worker);
}

static void tick(struct vc_worker *worker)
{
  struct worker_state *state = vc_worker_state(worker);
  chunks_flush_idle(worker);
  raw_serve(worker);
  raw_wake(worker);
  chunks_wake(worker); // the wake-up that led here may have been for less than is there now
  if (state->n_with_waiting == 0) {
    return;
  }
  struct session *session, *next;
  HASH_ITER(hh, state->sessions, session, next)
  {
    if (session->waiting.n > 0) {
      chunks_give_waiting(worker, session);
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
