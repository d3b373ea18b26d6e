#include "room.h"

#include <verbacast/base/log.h>
#include <verbacast/flow/query.h>
#include <verbacast/wire/text.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TICK_MS 250
#define LANE_CAPACITY 1024 // moves and queries
#define BACKLOG 4096
#define CONNECTIONS_PER_PUBLISHER 4

static int check_listen(const char *value, struct vc_error *error)
{
  struct vc_address address;
  return vc_listen_parse(value, &address, error);
}

static int check_networks(const char *value, struct vc_error *error)
{
  struct vc_networks networks;
  return vc_networks_parse(value, &networks, error);
}

#define FIELD(name) offsetof(struct vc_ingest_options, name)
const struct vc_option vc_ingest_option_rows[] = {
    {"RTMP_LISTEN", VC_OPTION_TEXT, FIELD(rtmp_listen), "127.0.0.1:1937", "HOST:PORT",
     .check = check_listen, .help = "Where publishers connect: rtmp://HOST:PORT/live/{session}."},
    {"SESSION_RESUME_MS", VC_OPTION_INTEGER, FIELD(session_resume_ms), "30000", "ms", 0, 3600000,
     .help = "How long a session waits for a publisher that vanished."},
    {"INGEST_IDLE_TIMEOUT_MS", VC_OPTION_INTEGER, FIELD(ingest_idle_timeout_ms), "15000", "ms", 100,
     3600000,
     .help = "Silence on a publisher's connection until it is closed; a participant's "
             "is pinged meanwhile."},
    {"MAX_PUBLISHERS", VC_OPTION_INTEGER, FIELD(max_publishers), "1000", "sessions", 1, 100000,
     .help = "Publishers, or sessions waiting for one; each participant's stream is one. More are "
             "refused."},
    {"MAX_CONNECTIONS_PER_ADDRESS", VC_OPTION_INTEGER, FIELD(max_connections_per_address), "64",
     "connections", 1, 1000000,
     .help = "From one address, not counting loopback and TRUSTED_PROXIES; for publishers and for "
             "viewers each."},
    {"TRUSTED_PROXIES", VC_OPTION_TEXT, FIELD(trusted_proxies), "", "networks such as 10.0.0.0/8",
     .check = check_networks,
     .help = "From these, the client's address is X-Forwarded-For's last hop that is none of them; "
             "for RTMP a PROXY header (version 1 or 2) is mandatory."},
    {"INGEST_THREADS", VC_OPTION_INTEGER, FIELD(ingest_threads), "0", "threads", 0, 256,
     .help = "Workers that read from publishers; 0: by cores."},
    VC_OPTION_ROWS_END,
};

#define COUNTER(name, unit, help)                                                                  \
  {                                                                                                \
    name, VC_METRIC_COUNTER, unit, help                                                            \
  }
const struct vc_metric vc_ingest_metrics[] = {
    [CONNECTIONS_TOTAL] =
        COUNTER("ingest.connections_total", "connections", "Connections that publishers opened."),
    [CONNECTIONS] = {"ingest.connections", VC_METRIC_GAUGE, "connections",
                     "Connections of publishers that are open."},
    [PUBLISHERS] = {"ingest.publishers", VC_METRIC_GAUGE, "sessions",
                    "Sessions with a publisher, or waiting for one."},
    [SESSIONS_TOTAL] = COUNTER("ingest.sessions_total", "sessions", "Sessions that began."),
    [BYTES] = COUNTER("ingest.bytes_total", "bytes", "Bytes read from publishers."),
    [PACKETS] = COUNTER("ingest.packets_total", "packets", "Audio messages that came."),
    [DROPPED] =
        COUNTER("ingest.packets_dropped_total", "packets",
                "Audio messages dropped: too large, or the decode stage did not take them."),
    [TAKEOVERS] = COUNTER("ingest.takeovers_total", "publishers",
                          "Publishers that were replaced by another one of the same name."),
    [FLAPS] = COUNTER("ingest.takeover_flaps_total", "publishers",
                      "Publishers refused because they were replaced less than 10 s before."),
    [REFUSED_ADDRESS] = COUNTER("ingest.address_refused_total", "connections",
                                "Refused: too many connections from one address."),
    [REFUSED_FULL] = COUNTER("ingest.full_refused_total", "connections",
                             "Refused: too many connections or publishers."),
    [REFUSED_APP] = COUNTER("ingest.app_refused_total", "connections",
                            "Refused: an application other than live."),
    [REFUSED_NAME] = COUNTER("ingest.name_refused_total", "connections",
                             "Refused: a name that is empty, malformed or in use, or a wish to "
                             "play."),
    [REFUSED_TOKEN] = COUNTER("ingest.token_refused_total", "connections",
                              "Refused: no token, one that does not fit, or no memory to tell."),
    [REFUSED_GATE] = COUNTER("ingest.gate_refused_total", "connections",
                             "Refused: the node drains or its journal is full."),
    [REFUSED_PROTOCOL] = COUNTER("ingest.protocol_errors_total", "connections",
                                 "Connections closed for what they sent."),
    [TIMEOUTS] = COUNTER("ingest.timeouts_total", "connections",
                         "Connections closed because nothing came, or no publish in time."),
    [LOST] = COUNTER("ingest.lost_total", "publishers",
                     "Publishers that vanished without ending their stream."),
    [ACCEPT_RESTS] =
        COUNTER("ingest.accept_rests_total", "rests",
                "Times a worker took no connections for 100 ms: there was no descriptor for one."),
    [TRACKS] = {"ingest.tracks", VC_METRIC_GAUGE, "connections",
                "Connections of single participants' streams that are open."},
    [HELD_BACK] = COUNTER("ingest.held_back_total", "times",
                          "Times that a participant's stream was not read for a while: more than "
                          "10 s of it had come too early."),
    [ASKED] = COUNTER("ingest.comebacks_asked_total", "publishers",
                      "Publishers whose token has expired and whose session was asked for at the "
                      "other nodes."),
    [UNASKED] = COUNTER("ingest.comebacks_unasked_total", "publishers",
                        "Such publishers refused because Redis could not be asked, or has been by "
                        "256 within a second."),
    [UNANSWERED] = COUNTER("ingest.comebacks_unanswered_total", "publishers",
                           "Such publishers refused because Redis did not answer within 1 s, or is "
                           "away."),
    VC_METRIC_ROWS_END,
};

void refuse_log(const struct vc_address *from, const char *why, const char *what)
{
  char address[VC_ADDRESS_TEXT_MAX], shown[VC_SLUG_MAX + 1];
  vc_address_print(from, address);
  snprintf(shown, sizeof shown, "%.*s", (int)vc_jwt_cut(what), what);
  vc_log(VC_LOG_WARN, VC_EVENT("ingest.refused"), VC_STR("address", address), VC_STR("why", why),
         VC_STR("what", shown));
}

// --- queries

static void print_publisher(struct vc_text *text, const struct session *session)
{
  static const char *const codecs[] = {"aac", "mp3", "opus", "pcm"};
  vc_text_json_string(text, session->key);
  vc_text_format(text, ":{\"address\":\"%s\",\"connected\":%s,\"codec\":\"%s\"", session->address,
                 session->publisher != NULL || session->track != NULL ? "true" : "false",
                 codecs[session->codec]);
  if (session->track != NULL) {
    vc_text_format(text, ",\"muted\":%s,\"rate\":%" PRIu32 ",\"channels\":%" PRIu32,
                   session->track->is_muted ? "true" : "false", session->track->is.rate_hz,
                   session->track->is.n_channels);
  }
  vc_text_add(text, "}");
}

static void answer_publishers(struct vc_worker *worker, struct vc_query *query)
{
  struct worker_state *state = vc_worker_state(worker);
  struct vc_text text = {0};
  vc_text_add(&text, "{");
  for (struct session *session = state->sessions; session != NULL; session = session->hh.next) {
    vc_text_add(&text, session == state->sessions ? "" : ",");
    print_publisher(&text, session);
  }
  vc_text_add(&text, "}");
  struct vc_buffer *reply = vc_text_take(&text);
  vc_query_answer(query, reply != NULL ? 200 : 503, reply);
}

// Why a session is closed that goes on publishing, and what its publisher is told.
struct closing {
  enum vc_query_kind kind;
  enum vc_close_reason reason;
  const char *code; // RTMP's
  int track_code;   // a track's
  const char *description;
};
static const struct closing closings[] = {
    {VC_QUERY_KICK_PUBLISHER, VC_CLOSE_KICKED, "NetStream.Publish.Denied", TRACK_KICKED,
     "Closed by the operator."},
    {VC_QUERY_TAKE_OVER, VC_CLOSE_TAKEN_OVER, "NetStream.Publish.BadName", TRACK_TAKEN_OVER,
     "Another publisher took over."},
    {VC_QUERY_END_SESSION, VC_CLOSE_PUBLISHER_LEFT, "NetStream.Publish.Denied", 1000,
     "The room is over."},
};

static const struct closing *find_closing(enum vc_query_kind kind)
{
  for (size_t i = 0; i < sizeof closings / sizeof *closings; i++) {
    if (closings[i].kind == kind) {
      return &closings[i];
    }
  }
  return NULL;
}

// The session ends, and whoever publishes it is told why. `code` NULL: RTMP has no word for it.
static void close_session(struct vc_worker *worker, struct session *session,
                          const struct closing *closing)
{
  struct connection *publisher = session->publisher;
  struct track *track = session->track;
  ingest_session_end(worker, session, closing->reason);
  if (publisher != NULL) {
    if (closing->code != NULL) {
      command_say_status(publisher, "error", closing->code, closing->description);
    }
    connection_finish(worker, publisher);
  }
  if (track != NULL) {
    track_finish(worker, track, closing->track_code, closing->description);
  }
}

// Whoever publishes is heard out, and then not waited for.
static void be_over(struct vc_worker *worker, struct session *session,
                    const struct closing *closing)
{
  if (session->publisher == NULL && session->track == NULL) {
    close_session(worker, session, closing);
  } else if (session->over_ns == 0) {
    session->over_ns = vc_worker_now_ns(worker);
  }
}

void ingest_room_end_over(struct vc_worker *worker, struct session *session)
{
  close_session(worker, session, find_closing(VC_QUERY_END_SESSION));
}

static int is_meant(const struct session *session, const struct vc_query *query)
{
  const char *participant = vc_query_participant(query);
  return !session->is_closed && strcmp(session->session->slug, vc_query_slug(query)) == 0 &&
         (participant[0] == '\0' || strcmp(session->session->participant, participant) == 0);
}

static void answer_close(struct vc_worker *worker, struct vc_query *query,
                         const struct closing *closing)
{
  struct worker_state *state = vc_worker_state(worker);
  struct session *session, *next;
  int status = 404;
  HASH_ITER(hh, state->sessions, session, next)
  {
    if (is_meant(session, query)) {
      (closing->kind == VC_QUERY_END_SESSION ? be_over : close_session)(worker, session, closing);
      status = 200;
    }
  }
  vc_query_answer(query, status, NULL);
}

static void answer_may_publish(struct vc_worker *worker, struct vc_query *query)
{
  const struct worker_state *state = vc_worker_state(worker);
  const char *slug = vc_query_slug(query), *participant = vc_query_participant(query);
  int64_t began_ms = ingest_session_began(state, slug, participant);
  struct refusal refusal;
  vc_query_set_number(query, began_ms);
  if (ingest_session_check(worker, slug, participant, &refusal) != 0) {
    int is_of_this_node = began_ms != 0 && !state->is_draining;
    vc_metric_add(vc_worker_slots(worker), refusal.metric, 1);
    vc_query_answer(query, is_of_this_node ? 429 : 503,
                    vc_buffer_copy(refusal.why, strlen(refusal.why)));
    return;
  }
  vc_query_answer(query, 200, NULL);
}

static void handle(struct vc_worker *worker, struct vc_item *item)
{
  if (item->kind == VC_ITEM_OWNED) {
    ((struct room_item *)item)->take(worker, item);
  } else if (item->kind == VC_ITEM_QUERY) {
    struct vc_query *query = vc_query_of(item);
    const struct closing *closing = find_closing(vc_query_kind(query));
    if (closing != NULL) {
      answer_close(worker, query, closing);
    } else if (vc_query_kind(query) == VC_QUERY_MAY_PUBLISH) {
      answer_may_publish(worker, query);
    } else if (vc_query_kind(query) == VC_QUERY_FLEET_BEGAN) {
      comeback_take(worker, query);
    } else {
      answer_publishers(worker, query);
    }
  } else {
    vc_item_destroy(item);
  }
}

static void tick(struct vc_worker *worker)
{
  struct worker_state *state = vc_worker_state(worker);
  struct connection *connection, *next;
  DL_FOREACH_SAFE(state->connections, connection, next)
  {
    connection_is_late(worker, connection);
  }
  struct track *track, *next_track;
  DL_FOREACH_SAFE(state->tracks, track, next_track)
  {
    track_tick(worker, track);
  }
  vc_listener_tick(worker, &state->listener);
  comeback_tick(worker);
  ingest_session_tick(worker);
}

// Every session ends: that is what a drain says to the stages behind.
static void drain(struct vc_worker *worker)
{
  static const struct closing shutdown = {
      .reason = VC_CLOSE_SHUTDOWN, .track_code = 1001, .description = "shutdown"};
  struct worker_state *state = vc_worker_state(worker);
  struct session *session, *next;
  state->is_draining = 1;
  vc_listener_stop(worker, &state->listener);
  HASH_ITER(hh, state->sessions, session, next)
  {
    if (!session->is_closed) {
      close_session(worker, session, &shutdown);
    }
  }
}

static int is_drained(struct vc_worker *worker)
{
  struct worker_state *state = vc_worker_state(worker);
  return state->n_with_waiting == 0;
}

static void room_destroy(struct room *room)
{
  if (room->listen_fd >= 0) {
    close(room->listen_fd);
  }
  if (room->owns_limits) {
    vc_limits_destroy(&room->limits);
  }
  free(room);
}

static void leave(struct vc_worker *worker)
{
  struct worker_state *state = vc_worker_state(worker);
  struct connection *connection, *next;
  DL_FOREACH_SAFE(state->connections, connection, next)
  {
    connection_close(worker, connection);
  }
  struct track *track, *next_track;
  DL_FOREACH_SAFE(state->tracks, track, next_track)
  {
    track_close(worker, track);
  }
  ingest_session_destroy_all(worker);
  comeback_fini(state);
  free(state->scratch);
  free(state->pcm);
  free(state);
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
  state->n_decode = vc_stage_n_workers(room->settings.decode);
  state->n_ingest = vc_stage_n_workers(room->stage);
  state->decode = vc_putter_create(room->settings.decode);
  state->self = vc_putter_create(room->stage);
  state->scratch = malloc(SCRATCH_SIZE);
  state->pcm = malloc(FRAME_MAX);
  state->listener = (struct vc_listener){.fd = room->listen_fd,
                                         .event = "ingest.accept",
                                         .rests = ACCEPT_RESTS,
                                         .take = connection_accept};
  if (state->decode == NULL || state->self == NULL || state->scratch == NULL ||
      state->pcm == NULL || vc_listener_start(worker, &state->listener) != 0) {
    free(state->scratch);
    free(state->pcm);
    free(state);
    return vc_error_set(error, "no memory or no lane into the decode stage");
  }
  return 0;
}

static void destroy_config(void *config)
{
  room_destroy(*(struct room **)config);
}

static const struct vc_stage_ops ops = {
    .name = "ingest",
    .enter = enter,
    .handle = handle,
    .tick = tick,
    .drain = drain,
    .is_drained = is_drained,
    .leave = leave,
    .destroy_config = destroy_config,
};

int vc_ingest_check(const struct vc_ingest_options *options, struct vc_error *error)
{
  struct vc_address address;
  struct vc_networks networks;
  return vc_listen_parse(options->rtmp_listen, &address, error) != 0 ||
                 vc_networks_parse(options->trusted_proxies, &networks, error) != 0
             ? -1
             : 0;
}

const char *vc_ingest_refusal(const struct vc_stage *ingest)
{
  struct room *const *room = vc_stage_config(ingest);
  return ingest_session_refusal(*room);
}

size_t vc_ingest_connections_max(const struct vc_ingest_options *options)
{
  return (size_t)options->max_publishers * CONNECTIONS_PER_PUBLISHER;
}

int vc_ingest_create(struct vc_stage **stage, struct vc_address *bound,
                     const struct vc_ingest_settings *settings, struct vc_error *error)
{
  const struct vc_ingest_options *options = settings->options;
  struct room *room = calloc(1, sizeof *room);
  if (room == NULL) {
    return vc_error_set(error, "ingest: no memory");
  }
  room->settings = *settings;
  room->listen_fd = -1;
  atomic_init(&room->next_session_id, 1);
  room->owns_limits = settings->limits == NULL;
  room->limits = room->owns_limits ? vc_limits_create(vc_ingest_connections_max(options),
                                                      (size_t)options->max_connections_per_address)
                                   : settings->limits;
  if (room->limits == NULL) {
    vc_error_set(error, "ingest: no memory");
  } else if (vc_networks_parse(options->trusted_proxies, &room->proxies, error) == 0) {
    room->listen_fd = vc_listen(options->rtmp_listen, BACKLOG, bound, error);
  }
  if (room->listen_fd < 0) {
    room_destroy(room);
    return -1;
  }
  int status = vc_stage_create(stage,
                               &(struct vc_stage_settings){
                                   .ops = &ops,
                                   .config = &room,
                                   .config_size = sizeof(struct room *),
                                   .n_workers = settings->n_workers,
                                   .tick_ms = TICK_MS,
                                   .lane_capacity = LANE_CAPACITY,
                                   .clock = settings->clock,
                                   .metrics = settings->metrics,
                                   .metric_rows = vc_ingest_metrics,
                               },
                               error);
  if (status != 0) {
    room_destroy(room);
    return -1;
  }
  room->stage = *stage;
  return 0;
}
