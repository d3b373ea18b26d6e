#include <verbacast/base/log.h>
#include <verbacast/wire/http.h>

#include <stdlib.h>
#include <string.h>

#include "room.h"

#define TICK_MS 50
#define LANE_CAPACITY 8192

static int check_url(const char *value, struct vc_error *error)
{
  struct vc_url url;
  if (vc_url_parse(value, &url) != 0 ||
      (strcmp(url.scheme, "http") != 0 && strcmp(url.scheme, "https") != 0)) {
    return vc_error_set(error, "is no http:// or https:// address");
  }
  return 0;
}

#define FIELD(name) offsetof(struct vc_stt_options, name)
const struct vc_option vc_stt_option_rows[] = {
    {"STT_URL", VC_OPTION_TEXT, FIELD(stt_url), "http://127.0.0.1:4100/v2/live",
     "http:// or https:// address", .check = check_url,
     .help = "The speech-to-text service: Gladia Live v2, or verbacast-stt."},
    {"GLADIA_API_KEY", VC_OPTION_SECRET, FIELD(gladia_api_key),
     .help = "Sent to it as x-gladia-key."},
    {"STT_LANGUAGES", VC_OPTION_TEXT, FIELD(stt_languages), "en", "a comma list of codes",
     .help = "The languages that are spoken; empty: it detects them."},
    {"STT_ENDPOINTING_S", VC_OPTION_REAL, FIELD(stt_endpointing_s), "0.3", "s", 0.01, 10,
     .help = "Silence that ends an utterance."},
    {"STT_MAX_UTTERANCE_S", VC_OPTION_REAL, FIELD(stt_max_utterance_s), "5", "s", 5, 60,
     .help = "An utterance is ended after so long without a silence."},
    {"STT_BUFFER_MS", VC_OPTION_INTEGER, FIELD(stt_buffer_ms), "30000", "ms", 1000, 600000,
     .help = "Audio kept for a service that is slow or away; beyond it the oldest is dropped."},
    {"STT_THREADS", VC_OPTION_INTEGER, FIELD(stt_threads), "0", "threads", 0, 256,
     .help = "Workers that talk to the service; 0: by cores."},
    VC_OPTION_ROWS_END,
};

#define MS(name, help)                                                                             \
  {                                                                                                \
    name, VC_METRIC_DISTRIBUTION, "ms", help                                                       \
  }
#define COUNTER(name, unit, help)                                                                  \
  {                                                                                                \
    name, VC_METRIC_COUNTER, unit, help                                                            \
  }
#define END_TO_TEXT                                                                                \
  "From handing the last audio chunk before the message to the socket to the message's arrival; "  \
  "not the service's delay, mostly the phase between sends."
#define LATENCY_TEXT                                                                               \
  "From the arrival of the packet that held the sample at the utterance's end to the message's "   \
  "arrival: the service's delay."
const struct vc_metric vc_stt_metrics[] = {
    [CHUNKS_SENT] = COUNTER("audio.chunks_sent", "chunks", "Audio chunks sent to the service."),
    [CHUNK_BYTES] = {"audio.chunk_size_bytes", VC_METRIC_DISTRIBUTION, "bytes",
                     "Size of the audio chunks that were sent."},
    [TO_STT] = MS("ingest.to_stt_ms",
                  "From the arrival of a chunk's last packet to the chunk's being handed to the "
                  "service's socket."),
    [END_TO_TRANSCRIPT] = MS("stt.end_to_transcript_ms", END_TO_TEXT),
    [END_TO_PARTIAL] = MS("stt.end_to_transcript_ms.partial", END_TO_TEXT),
    [END_TO_FINAL] = MS("stt.end_to_transcript_ms.final", END_TO_TEXT),
    [LATENCY] = MS("gladia.stt_latency_ms", LATENCY_TEXT),
    [LATENCY_PARTIAL] = MS("gladia.stt_latency_ms.partial", LATENCY_TEXT),
    [LATENCY_FINAL] = MS("gladia.stt_latency_ms.final", LATENCY_TEXT),
    [MESSAGE_GAP] = MS("gladia.message_gap_ms",
                       "Between two transcripts of one connection while speech goes on."),
    [SESSIONS] = {"stt.sessions", VC_METRIC_GAUGE, "sessions", "Sessions being transcribed."},
    [CONNECTIONS_TOTAL] = COUNTER("stt.connections_total", "connections",
                                  "Connections to the service that were opened."),
    [RECONNECTS] = COUNTER("stt.reconnects_total", "connections",
                           "Connections opened again to a session that goes on."),
    [NEW_SESSIONS] = COUNTER("stt.new_sessions_total", "sessions",
                             "Sessions made anew at the service because the one before was over."),
    [REFUSALS] =
        COUNTER("stt.failures_total", "attempts", "Attempts to reach the service that failed."),
    [AUDIO_DROPPED_MS] = COUNTER("stt.audio_dropped_ms_total", "ms",
                                 "Audio that was never sent: more than STT_BUFFER_MS waited."),
    [MALFORMED] = COUNTER("stt.malformed_total", "messages",
                          "Messages of the service that could not be read."),
    [ERRORS] = COUNTER("stt.errors_total", "messages", "Errors that the service told."),
    [DUPLICATES] = COUNTER("stt.duplicates_total", "utterances",
                           "Utterances that were told already, after a connection was lost."),
    [PARTIALS_MERGED] = COUNTER("stt.partials_merged_total", "partials",
                                "Partials replaced by later ones while the ledger was behind."),
    [UNFINISHED] =
        COUNTER("stt.unfinished_total", "sessions", "Sessions that ended with audio unsent."),
    VC_METRIC_ROWS_END,
};

static void handle(struct vc_worker *worker, struct vc_item *item)
{
  if (item->kind == VC_ITEM_CHUNK) {
    stt_session_chunk(worker, (struct vc_chunk *)item);
  }
  vc_item_destroy(item);
}

static void tick(struct vc_worker *worker)
{
  struct worker_state *state = vc_worker_state(worker);
  struct session *session, *next;
  HASH_ITER(hh, state->sessions, session, next)
  {
    stt_session_tick(session);
  }
}

static int is_drained(struct vc_worker *worker)
{
  const struct worker_state *state = vc_worker_state(worker);
  return state->sessions == NULL;
}

static int enter(struct vc_worker *worker, void *config, struct vc_error *error)
{
  struct room *room = *(struct room **)config;
  struct worker_state *state = calloc(1, sizeof *state);
  if (state == NULL) {
    return vc_error_set(error, "no memory");
  }
  vc_worker_set_state(worker, state);
  state->room = room;
  state->n_ledger = vc_stage_n_workers(room->settings.ledger);
  state->ledger = vc_putter_create(room->settings.ledger);
  const struct vc_client_settings client = {.user_agent = "verbacast"};
  if (state->ledger == NULL) {
    free(state);
    return vc_error_set(error, "no lane into the ledger");
  }
  if (vc_client_create(&state->client, worker, &client, error) != 0) {
    free(state);
    return -1;
  }
  return 0;
}

// Whoever is left did not get its last finals in time: its end is said all the same.
static void leave(struct vc_worker *worker)
{
  struct worker_state *state = vc_worker_state(worker);
  struct session *session, *next;
  HASH_ITER(hh, state->sessions, session, next)
  {
    stt_session_give_up(session);
    results_flush(session);
    stt_session_destroy(session);
  }
  vc_client_destroy(&state->client);
  free(state);
}

static void destroy_config(void *config)
{
  free(*(struct room **)config);
}

static const struct vc_stage_ops ops = {
    .name = "stt",
    .enter = enter,
    .handle = handle,
    .tick = tick,
    .is_drained = is_drained,
    .leave = leave,
    .destroy_config = destroy_config,
};

static int split_languages(struct room *room, const char *list, struct vc_error *error)
{
  if (strlen(list) >= sizeof room->languages_text) {
    return vc_error_set(error, "STT_LANGUAGES is longer than %zu bytes",
                        sizeof room->languages_text - 1);
  }
  memcpy(room->languages_text, list, strlen(list) + 1);
  char *rest = NULL;
  for (char *code = strtok_r(room->languages_text, ", ", &rest); code != NULL;
       code = strtok_r(NULL, ", ", &rest)) {
    if (room->n_languages == LANGUAGES_MAX) {
      return vc_error_set(error, "STT_LANGUAGES has more than %d codes", LANGUAGES_MAX);
    }
    room->languages[room->n_languages++] = code;
  }
  return 0;
}

int vc_stt_create(struct vc_stage **stage, const struct vc_stt_settings *settings,
                  struct vc_error *error)
{
  struct room *room = calloc(1, sizeof *room);
  if (room == NULL) {
    return vc_error_set(error, "stt: no memory");
  }
  room->settings = *settings;
  if (split_languages(room, settings->options->stt_languages, error) != 0 ||
      vc_stage_create(stage,
                      &(struct vc_stage_settings){
                          .ops = &ops,
                          .config = &room,
                          .config_size = sizeof(struct room *),
                          .n_workers = settings->n_workers,
                          .tick_ms = TICK_MS,
                          .lane_capacity = LANE_CAPACITY,
                          .clock = settings->clock,
                          .metrics = settings->metrics,
                          .metric_rows = vc_stt_metrics,
                      },
                      error) != 0) {
    free(room);
    return -1;
  }
  return 0;
}
