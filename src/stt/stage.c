#include "room.h"

#include <verbacast/base/log.h>
#include <verbacast/wire/http.h>

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#define LANE_CAPACITY 4096 // chunks: two seconds of 100 sessions
#define TICK_MS 50
#define RETRY_LANE_MS 2
#define LEAVE_TRIES 500 // of a millisecond each: the ledger drains after this room
#define LOG_INTERVAL_MS 1000

static int check_url(const char *value, struct vc_error *error)
{
  struct vc_url url;
  if (vc_url_parse(value, &url) != 0 || url.host[0] == '\0' ||
      (strcmp(url.scheme, "http") != 0 && strcmp(url.scheme, "https") != 0)) {
    return vc_error_set(error, "is no http:// or https:// address");
  }
  return 0;
}

static int check_languages(const char *value, struct vc_error *error)
{
  size_t n = value[0] != '\0';
  for (const char *at = value; *at != '\0'; at++) {
    n += *at == ',';
    if (!((*at >= 'a' && *at <= 'z') || (*at >= 'A' && *at <= 'Z') || *at == '-' || *at == ',')) {
      return vc_error_set(error, "is no list of language codes");
    }
  }
  return n <= LANGUAGES_MAX ? 0 : vc_error_set(error, "names more than %d", LANGUAGES_MAX);
}

static int check_ca_file(const char *value, struct vc_error *error)
{
  return value[0] == '\0' || access(value, R_OK) == 0 ? 0 : vc_error_set(error, "cannot be read");
}

const struct vc_option vc_stt_option_rows[] = {
    {"STT_URL", VC_OPTION_TEXT, offsetof(struct vc_stt_options, stt_url),
     .initial = "http://127.0.0.1:4100/v2/live", .unit = "an http:// or https:// URL",
     .help = "Gladia-compatible speech-to-text service (https://api.gladia.io/v2/live).",
     .check = check_url},
    {"GLADIA_API_KEY", VC_OPTION_SECRET, offsetof(struct vc_stt_options, gladia_api_key),
     .help = "Sent to it as x-gladia-key."},
    {"STT_LANGUAGES", VC_OPTION_TEXT, offsetof(struct vc_stt_options, stt_languages),
     .initial = "en", .unit = "language codes, comma between",
     .help = "Languages that are spoken; empty: the service detects.", .check = check_languages},
    {"STT_ENDPOINTING_S", VC_OPTION_REAL, offsetof(struct vc_stt_options, stt_endpointing_s),
     .initial = "0.3", .unit = "s", .min = 0.01, .max = 10,
     .help = "Silence that ends an utterance."},
    {"STT_MAX_UTTERANCE_S", VC_OPTION_REAL, offsetof(struct vc_stt_options, stt_max_utterance_s),
     .initial = "5", .unit = "s", .min = 5, .max = 60,
     .help = "The longest utterance without such a silence."},
    {"STT_BUFFER_MS", VC_OPTION_INTEGER, offsetof(struct vc_stt_options, stt_buffer_ms),
     .initial = "30000", .unit = "ms", .min = 1000, .max = 600000,
     .help = "Audio kept per session for a service that is slow or away; the oldest is dropped."},
    {"STT_THREADS", VC_OPTION_INTEGER, offsetof(struct vc_stt_options, stt_threads), .initial = "0",
     .unit = "threads", .min = 0, .max = 256,
     .help = "Workers that talk to the service; 0: one for each four cores."},
    {"STT_CA_FILE", VC_OPTION_TEXT, offsetof(struct vc_stt_options, stt_ca_file),
     .unit = "a PEM file",
     .help = "Authorities trusted for the service's certificate; empty: the system's.",
     .check = check_ca_file},
    VC_OPTION_ROWS_END,
};

const struct vc_metric vc_stt_metrics[] = {
    [CHUNKS_SENT] = {"audio.chunks_sent", VC_METRIC_COUNTER, "chunks",
                     "Frames of audio handed to the STT's socket."},
    [CHUNK_SIZE] = {"audio.chunk_size_bytes", VC_METRIC_DISTRIBUTION, "bytes",
                    "Size of the frames of audio."},
    [TO_STT] = {"ingest.to_stt_ms", VC_METRIC_DISTRIBUTION, "ms",
                "From the arrival of a chunk's last packet to the chunk being handed to the STT's "
                "socket."},
    [END_TO_TRANSCRIPT] = {"stt.end_to_transcript_ms", VC_METRIC_DISTRIBUTION, "ms",
                           "From handing the last audio before a transcript to the socket to the "
                           "transcript's arrival; not the STT's delay, see gladia.stt_latency_ms."},
    [END_TO_TRANSCRIPT_PARTIAL] = {"stt.end_to_transcript_ms.partial", VC_METRIC_DISTRIBUTION, "ms",
                                   "The same, of partials."},
    [END_TO_TRANSCRIPT_FINAL] = {"stt.end_to_transcript_ms.final", VC_METRIC_DISTRIBUTION, "ms",
                                 "The same, of finals."},
    [LATENCY] = {"gladia.stt_latency_ms", VC_METRIC_DISTRIBUTION, "ms",
                 "A transcript's arrival minus the arrival of the packet that held the sample at "
                 "its utterance's end: the STT's delay."},
    [LATENCY_PARTIAL] = {"gladia.stt_latency_ms.partial", VC_METRIC_DISTRIBUTION, "ms",
                         "The same, of partials; target 500."},
    [LATENCY_FINAL] = {"gladia.stt_latency_ms.final", VC_METRIC_DISTRIBUTION, "ms",
                       "The same, of finals; target 1000."},
    [MESSAGE_GAP] = {"gladia.message_gap_ms", VC_METRIC_DISTRIBUTION, "ms",
                     "Between two transcripts of a connection while an utterance goes on."},
    [SESSIONS] = {"stt.sessions", VC_METRIC_GAUGE, "sessions", "Sessions of this room."},
    [STT_SESSIONS] = {"stt.sessions_opened_total", VC_METRIC_COUNTER, "sessions",
                      "Sessions that the service opened for us."},
    [RECONNECTS] = {"stt.reconnects_total", VC_METRIC_COUNTER, "connections",
                    "Connections to the service that worked and were lost or given up."},
    [REFUSALS] = {"stt.refusals_total", VC_METRIC_COUNTER, "attempts",
                  "Attempts to get a session or a connection that failed."},
    [ERRORS] = {"stt.errors_total", VC_METRIC_COUNTER, "messages",
                "Errors that the service reported on a connection."},
    [MALFORMED] = {"stt.malformed_messages_total", VC_METRIC_COUNTER, "messages",
                   "Messages of the service that were not understood and passed over."},
    [AUDIO_REFUSED] = {"stt.audio_refused_total", VC_METRIC_COUNTER, "chunks",
                       "Frames of audio that the service did not take."},
    [AUDIO_RESENT_MS] = {"stt.audio_resent_ms_total", VC_METRIC_COUNTER, "ms",
                         "Audio sent again after a connection or a session was lost."},
    [AUDIO_DROPPED_MS] = {"stt.audio_dropped_ms_total", VC_METRIC_COUNTER, "ms",
                          "Audio dropped because the service was slow or away for longer than "
                          "STT_BUFFER_MS."},
    [DUPLICATES] = {"stt.duplicates_total", VC_METRIC_COUNTER, "transcripts",
                    "Transcripts of audio that was heard or told before."},
    [RETRACTS] = {"stt.retracts_total", VC_METRIC_COUNTER, "utterances",
                  "Partials that get no final."},
    [KEEP_ALIVES] = {"stt.keep_alives_total", VC_METRIC_COUNTER, "messages",
                     "Keep-alives sent while there was no audio."},
    [RESULTS_WAITING] = {"stt.results_waiting_total", VC_METRIC_COUNTER, "results",
                         "Results that had to wait for the ledger."},
    [RESULTS_DROPPED] = {"stt.results_dropped_total", VC_METRIC_COUNTER, "results",
                         "Results lost because too many waited, or at the end of a drain."},
    [OUT_OF_MEMORY] = {"stt.out_of_memory_total", VC_METRIC_COUNTER, "failures",
                       "Allocations that failed."},
    VC_METRIC_ROWS_END,
};

// --- what the other files ask of the room

uint64_t stt_room_now(const struct room *room)
{
  return vc_worker_now_ns(room->worker);
}

void stt_room_count(struct room *room, size_t metric, uint64_t n)
{
  vc_metric_add(room->slots, metric, n);
}

void stt_room_record(struct room *room, size_t metric, double value)
{
  vc_metric_record(room->slots, metric, value, stt_room_now(room));
}

double stt_room_since_ms(const struct room *room, uint64_t then_ns)
{
  uint64_t now = stt_room_now(room);
  return now > then_ns ? (double)(now - then_ns) / (double)VC_NS_PER_MS : 0;
}

uint64_t stt_room_random(struct room *room, uint64_t below)
{
  room->random ^= room->random << 13;
  room->random ^= room->random >> 7;
  room->random ^= room->random << 17;
  return room->random % below;
}

void stt_room_log(struct session *session, const char *event, const char *reason, int code)
{
  struct room *room = session->room;
  uint64_t left_out;
  if (vc_log_limit_pass(&room->log_limit, stt_room_now(room), LOG_INTERVAL_MS, &left_out)) {
    vc_log(VC_LOG_WARN, VC_EVENT(event), VC_STR("session", session->session->slug),
           VC_STR("reason", reason), VC_INT("code", code), VC_INT("left_out", left_out));
  }
}

// --- health: degraded while a session cannot get its STT. What the last one said stands when it
// goes, unless others show that the service is there.

static void count_standing(struct shared *shared, enum standing standing, uint32_t by)
{
  if (standing == STANDING_UP) {
    shared->n_up += by;
  } else if (standing == STANDING_DOWN) {
    shared->n_down += by;
  }
}

void stt_room_stand(struct session *session, enum standing standing, const char *reason)
{
  struct shared *shared = session->room->shared;
  pthread_mutex_lock(&shared->mutex);
  count_standing(shared, session->standing, UINT32_MAX); // one less
  count_standing(shared, standing, 1);
  int is_well = shared->n_down == 0 && shared->n_up > 0;
  session->standing = standing;
  if (standing == STANDING_DOWN) {
    vc_health_set(shared->settings.health, "stt", reason);
  } else if (is_well) {
    vc_health_clear(shared->settings.health, "stt");
  }
  pthread_mutex_unlock(&shared->mutex);
}

// --- the table

static struct session *find(struct room *room, uint64_t id)
{
  struct session *session;
  HASH_FIND(hh, room->sessions, &id, sizeof id, session);
  return session;
}

// The newest session of a slug's participant that is not over: what it still says goes before a new
// one's. Other participants speak beside it.
static struct session *find_before(struct room *room, const struct vc_session *of)
{
  struct session *found = NULL;
  for (struct session *session = room->sessions; session != NULL; session = session->hh.next) {
    if (strcmp(session->session->slug, of->slug) == 0 &&
        strcmp(session->session->participant, of->participant) == 0) {
      found = session;
    }
  }
  return found;
}

static void open_session(struct room *room, struct vc_session *of)
{
  if (find(room, of->id) != NULL) {
    return;
  }
  struct session *session = stt_session_create(room, of);
  if (session == NULL) {
    stt_room_count(room, OUT_OF_MEMORY, 1);
    return;
  }
  session->before = find_before(room, of);
  HASH_ADD(hh, room->sessions, id, sizeof session->id, session);
  if (session->hh.tbl == NULL) {
    stt_room_count(room, OUT_OF_MEMORY, 1);
    stt_session_destroy(session);
    return;
  }
  if (session->before != NULL) {
    stt_session_hurry(session->before);
  }
  stt_outbox_say(session, vc_result_create(of, VC_RESULT_OPEN));
  stt_link_begin(session);
}

static void remove_session(struct room *room, struct session *session)
{
  assert(room->sessions != NULL);
  HASH_DEL(room->sessions, session);
  for (struct session *other = room->sessions; other != NULL; other = other->hh.next) {
    if (other->before == session) {
      other->before = NULL;
    }
  }
  room->n_closed -= session->phase == PHASE_CLOSED;
  stt_session_destroy(session);
}

static void set_gauge(struct room *room)
{
  vc_metric_set(room->slots, SESSIONS, (int64_t)HASH_COUNT(room->sessions));
}

// Returns: 1 when something is still waiting for the ledger.
static int serve_outboxes(struct room *room)
{
  struct session *session, *next;
  if (room->n_waiting == 0 && room->n_closed == 0) {
    return 0;
  }
  HASH_ITER(hh, room->sessions, session, next)
  {
    stt_outbox_flush(session);
    if (session->phase == PHASE_CLOSED && stt_outbox_close(session)) {
      remove_session(room, session);
    }
  }
  return room->n_waiting > 0 || room->n_closed > 0;
}

// --- the stage

static int enter(struct vc_worker *worker, void *config, struct vc_error *error)
{
  struct shared *shared = *(struct shared **)config;
  struct room *room = calloc(1, sizeof *room);
  if (room == NULL) {
    return vc_error_set(error, "no memory");
  }
  struct vc_client_settings settings = {.ca_file = shared->settings.options->stt_ca_file,
                                        .user_agent = "verbacast"};
  room->worker = worker;
  room->shared = shared;
  room->slots = vc_worker_slots(worker);
  room->n_ledgers = vc_stage_n_workers(shared->settings.ledger);
  ssize_t n = getrandom(&room->random, sizeof room->random, 0);
  room->random |= n < 0 ? UINT64_C(0x9e3779b97f4a7c15) : 1;
  room->putter = vc_putter_create(shared->settings.ledger);
  if (room->putter == NULL) {
    free(room);
    return vc_error_set(error, "no lane to the ledger");
  }
  if (vc_client_create(&room->client, worker, &settings, error) != 0) {
    free(room);
    return -1;
  }
  vc_worker_set_state(worker, room);
  return 0;
}

static void take_chunk(struct room *room, const struct vc_chunk *chunk)
{
  if (chunk->turn == VC_TURN_OPEN) {
    open_session(room, chunk->session);
    return;
  }
  struct session *session = find(room, chunk->session->id);
  if (session == NULL) {
    return;
  }
  if (chunk->turn == VC_TURN_DATA) {
    stt_session_hear_chunk(session, chunk);
  } else {
    stt_session_turn(session, chunk);
  }
}

static void handle(struct vc_worker *worker, struct vc_item *item)
{
  if (item->kind == VC_ITEM_CHUNK) {
    take_chunk(vc_worker_state(worker), (const struct vc_chunk *)item);
  }
  vc_item_destroy(item);
}

static void turned(struct vc_worker *worker)
{
  struct room *room = vc_worker_state(worker);
  if (serve_outboxes(room)) {
    vc_worker_wake_at(worker, vc_worker_now_ns(worker) + RETRY_LANE_MS * VC_NS_PER_MS);
  }
}

static void tick(struct vc_worker *worker)
{
  struct room *room = vc_worker_state(worker);
  for (struct session *session = room->sessions; session != NULL; session = session->hh.next) {
    stt_session_tick(session);
  }
  set_gauge(room);
}

static void drain(struct vc_worker *worker)
{
  struct room *room = vc_worker_state(worker);
  for (struct session *session = room->sessions; session != NULL; session = session->hh.next) {
    stt_session_begin_end(session, VC_CLOSE_SHUTDOWN);
  }
}

static int is_drained(struct vc_worker *worker)
{
  struct room *room = vc_worker_state(worker);
  return room->sessions == NULL;
}

// Every session's CLOSE is said, also when the time of the drain is over; the ledger still runs.
static void leave(struct vc_worker *worker)
{
  struct room *room = vc_worker_state(worker);
  struct session *session, *next;
  for (session = room->sessions; session != NULL; session = session->hh.next) {
    session->close_reason = session->is_ending ? session->close_reason : VC_CLOSE_SHUTDOWN;
    stt_session_finish(session);
  }
  for (int i = 0; serve_outboxes(room) && i < LEAVE_TRIES; i++) {
    nanosleep(&(struct timespec){.tv_nsec = (long)VC_NS_PER_MS}, NULL);
  }
  HASH_ITER(hh, room->sessions, session, next)
  {
    remove_session(room, session);
  }
  set_gauge(room);
  vc_client_destroy(&room->client);
  free(room);
}

static void shared_destroy(struct shared *shared)
{
  pthread_mutex_destroy(&shared->mutex);
  free(shared->language_text);
  free(shared);
}

static void destroy_config(void *config)
{
  shared_destroy(*(struct shared **)config);
}

static const struct vc_stage_ops ops = {.name = "stt",
                                        .enter = enter,
                                        .handle = handle,
                                        .turned = turned,
                                        .tick = tick,
                                        .drain = drain,
                                        .is_drained = is_drained,
                                        .leave = leave,
                                        .destroy_config = destroy_config};

static int split_languages(struct shared *shared, const char *list)
{
  shared->language_text = strdup(list);
  char *rest = shared->language_text;
  if (rest == NULL) {
    return -1;
  }
  char *word;
  while ((word = strsep(&rest, ",")) != NULL && shared->n_languages < LANGUAGES_MAX) {
    if (word[0] != '\0') {
      shared->languages[shared->n_languages++] = word;
    }
  }
  return 0;
}

int vc_stt_create(struct vc_stage **stage, const struct vc_stt_settings *settings,
                  struct vc_error *error)
{
  struct shared *shared = calloc(1, sizeof *shared);
  if (shared == NULL) {
    return vc_error_set(error, "stt: no memory");
  }
  pthread_mutex_init(&shared->mutex, NULL);
  shared->settings = *settings;
  shared->wants_tls = strncmp(settings->options->stt_url, "https://", 8) == 0;
  struct vc_stage_settings made = {.ops = &ops,
                                   .config = &shared,
                                   .config_size = sizeof shared,
                                   .n_workers = settings->n_workers,
                                   .tick_ms = TICK_MS,
                                   .lane_capacity = LANE_CAPACITY,
                                   .clock = settings->clock,
                                   .metrics = settings->metrics,
                                   .metric_rows = vc_stt_metrics};
  if (split_languages(shared, settings->options->stt_languages) != 0) {
    shared_destroy(shared);
    return vc_error_set(error, "stt: no memory");
  }
  if (vc_stage_create(stage, &made, error) != 0) {
    shared_destroy(shared);
    return -1;
  }
  return 0;
}
