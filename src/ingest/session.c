#include <verbacast/base/log.h>

#include <stdlib.h>
#include <string.h>

#include "room.h"

// --- packets to the decode stage

static int put(struct vc_worker *worker, struct vc_item *item)
{
  struct worker_state *state = vc_worker_state(worker);
  const struct vc_packet *packet = (const struct vc_packet *)item;
  return vc_putter_put(state->decode, packet->session->hash % state->n_decode, item);
}

// The first packet of one turn from `item` on. May be NULL.
static struct vc_item *find_turn(struct vc_item *item, enum vc_turn turn)
{
  while (item != NULL && ((const struct vc_packet *)item)->turn != turn) {
    item = item->next;
  }
  return item;
}

// What can be done without: the oldest sound, else a config that a later one replaces.
static struct vc_item *find_droppable(const struct vc_waiting *waiting)
{
  struct vc_item *sound = find_turn(waiting->items, VC_TURN_DATA);
  if (sound != NULL) {
    return sound;
  }
  struct vc_item *config = find_turn(waiting->items, VC_TURN_CONFIG);
  return config != NULL && find_turn(config->next, VC_TURN_CONFIG) != NULL ? config : NULL;
}

static void dropping(struct vc_worker *worker, void *owner, struct vc_item *item)
{
  struct session *session = owner;
  struct vc_packet *next = (struct vc_packet *)find_turn(item->next, VC_TURN_DATA);
  if (next != NULL) {
    next->is_discontinuity = 1;
  } else {
    session->has_dropped = 1;
  }
  vc_metric_add(vc_worker_slots(worker), DROPPED, 1);
}

static const struct vc_waiting_rules rules = {
    .max = VC_INGEST_WAIT_MAX, .put = put, .find_droppable = find_droppable, .dropping = dropping};

// Only turns wait, as many as may: whoever made one more would make the list grow for ever.
static int is_stuck(const struct session *session)
{
  return session->waiting.n >= VC_INGEST_WAIT_MAX && find_droppable(&session->waiting) == NULL;
}

// Takes the packet.
static void give(struct vc_worker *worker, struct session *session, struct vc_packet *packet)
{
  struct worker_state *state = vc_worker_state(worker);
  size_t n_before = session->waiting.n;
  vc_waiting_give(&session->waiting, &rules, worker, session, &packet->item);
  state->n_with_waiting += n_before == 0 && session->waiting.n > 0;
}

static void session_free(struct vc_worker *worker, struct session *session)
{
  struct worker_state *state = vc_worker_state(worker);
  state->n_with_waiting -= session->waiting.n > 0;
  vc_waiting_fini(&session->waiting);
  vc_packet_destroy(&session->closing);
  HASH_DEL(state->sessions, session);
  vc_session_unref(session->session);
  free(session);
}

static void give_waiting(struct vc_worker *worker, struct session *session)
{
  struct worker_state *state = vc_worker_state(worker);
  if (vc_waiting_flush(&session->waiting, &rules, worker) != 0) {
    return;
  }
  state->n_with_waiting--;
  if (session->is_closed) {
    session_free(worker, session);
  }
}

// Returns: 0, or -1 without memory.
static int give_turn(struct vc_worker *worker, struct session *session, enum vc_turn turn)
{
  struct vc_packet *packet = vc_packet_create(session->session, turn);
  if (packet == NULL) {
    vc_log(VC_LOG_ERROR, VC_EVENT("ingest.no_memory"), VC_STR("slug", session->slug));
    return -1;
  }
  packet->arrival_ns = vc_worker_now_ns(worker);
  give(worker, session, packet);
  return 0;
}

static void give_close(struct vc_worker *worker, struct session *session,
                       enum vc_close_reason reason)
{
  struct vc_packet *packet = session->closing;
  session->closing = NULL;
  packet->reason = reason;
  packet->arrival_ns = vc_worker_now_ns(worker);
  give(worker, session, packet);
}

// --- a session's life

static struct session *find_session(struct worker_state *state, const char *slug)
{
  struct session *session;
  HASH_FIND_STR(state->sessions, slug, session);
  return session;
}

static struct session *session_create(struct vc_worker *worker, const char *slug)
{
  struct worker_state *state = vc_worker_state(worker);
  struct session *session = calloc(1, sizeof *session);
  if (session == NULL) {
    return NULL;
  }
  uint64_t id = atomic_fetch_add_explicit(&state->room->next_session_id, 1, memory_order_relaxed);
  session->session = vc_session_create(slug, id, vc_clock_unix_ms(vc_worker_clock(worker)));
  session->closing =
      session->session != NULL ? vc_packet_create(session->session, VC_TURN_CLOSE) : NULL;
  memcpy(session->slug, slug, strlen(slug) + 1);
  if (session->closing != NULL) {
    HASH_ADD_STR(state->sessions, slug, session);
  }
  if (session->hh.tbl == NULL) {
    vc_packet_destroy(&session->closing);
    vc_session_unref(session->session);
    free(session);
    return NULL;
  }
  if (give_turn(worker, session, VC_TURN_OPEN) != 0) {
    session_free(worker, session);
    return NULL;
  }
  vc_metric_add(vc_worker_slots(worker), SESSIONS_TOTAL, 1);
  vc_metric_add(vc_worker_slots(worker), PUBLISHERS, 1);
  return session;
}

void ingest_session_end(struct vc_worker *worker, struct session *session,
                        enum vc_close_reason reason)
{
  struct worker_state *state = vc_worker_state(worker);
  if (session->publisher != NULL) {
    session->publisher->session = NULL;
    session->publisher = NULL;
  }
  vc_log(VC_LOG_INFO, VC_EVENT("ingest.end"), VC_STR("slug", session->slug),
         VC_STR("reason", vc_close_reason_text(reason)));
  atomic_fetch_sub_explicit(&state->room->n_publishers, 1, memory_order_relaxed);
  vc_metric_add(vc_worker_slots(worker), PUBLISHERS, (uint64_t)-1);
  give_close(worker, session, reason);
  if (session->waiting.n == 0) {
    session_free(worker, session);
  } else {
    // Its packets still wait; a new publisher of the slug begins a session of its own.
    session->is_closed = 1;
  }
}

void ingest_session_lose(struct vc_worker *worker, struct connection *connection)
{
  struct session *session = connection->session;
  connection->session = NULL;
  session->publisher = NULL;
  session->lost_ns = vc_worker_now_ns(worker);
  vc_metric_add(vc_worker_slots(worker), LOST, 1);
  vc_log(VC_LOG_INFO, VC_EVENT("ingest.lost"), VC_STR("slug", session->slug),
         VC_STR("address", session->address));
  give_turn(worker, session, VC_TURN_LOST);
}

// --- publish

// A publisher that was replaced a moment ago and now wants to replace its replacer: two of them
// would go on like this for ever.
static int is_flap(const struct session *session, const struct connection *connection,
                   uint64_t now_ns)
{
  return session->publisher != NULL && session->replaced_ns != 0 &&
         session->replaced_identity == connection->identity &&
         session->publisher->identity != connection->identity &&
         now_ns - session->replaced_ns < FLAP_MS * VC_NS_PER_MS;
}

static void replace_publisher(struct vc_worker *worker, struct session *session)
{
  struct connection *old = session->publisher;
  session->replaced_identity = old->identity;
  session->replaced_ns = vc_worker_now_ns(worker);
  old->session = NULL;
  session->publisher = NULL;
  vc_metric_add(vc_worker_slots(worker), TAKEOVERS, 1);
  vc_log(VC_LOG_INFO, VC_EVENT("ingest.takeover"), VC_STR("slug", session->slug),
         VC_STR("from", session->address));
  command_say_status(old, "error", "NetStream.Publish.BadName", "Another publisher took over.");
  connection_finish(worker, old);
}

static int64_t most_publishers(const struct vc_ingest_settings *settings)
{
  int64_t most = settings->options->max_publishers;
  return settings->max_sessions > 0 && settings->max_sessions < most ? settings->max_sessions
                                                                     : most;
}

static int take_place(struct vc_worker *worker, int64_t *n_publishers)
{
  struct worker_state *state = vc_worker_state(worker);
  int64_t most = most_publishers(&state->room->settings);
  *n_publishers =
      atomic_fetch_add_explicit(&state->room->n_publishers, 1, memory_order_relaxed) + 1;
  if (*n_publishers <= most) {
    return 0;
  }
  atomic_fetch_sub_explicit(&state->room->n_publishers, 1, memory_order_relaxed);
  return 1;
}

// A session for a slug that has none. Returns NULL when it was refused (said).
static struct session *begin_session(struct vc_worker *worker, struct connection *connection)
{
  struct worker_state *state = vc_worker_state(worker);
  const struct vc_ingest_settings *settings = &state->room->settings;
  const char *why = settings->refusal != NULL ? settings->refusal(settings->context) : NULL;
  int64_t n_publishers;
  if (state->is_draining) {
    why = "The node shuts down."; // a session that begins now would never be ended
  }
  if (why != NULL) {
    command_refuse(worker, connection, REFUSED_GATE, "NetConnection.Connect.Rejected", why);
    return NULL;
  }
  if (take_place(worker, &n_publishers) != 0) {
    command_refuse(worker, connection, REFUSED_FULL, "NetConnection.Connect.Rejected",
                   "Too many publishers.");
    return NULL;
  }
  struct session *session = session_create(worker, connection->slug);
  if (session == NULL) {
    atomic_fetch_sub_explicit(&state->room->n_publishers, 1, memory_order_relaxed);
    command_refuse(worker, connection, REFUSED_FULL, "NetConnection.Connect.Rejected",
                   "No memory.");
  }
  return session;
}

static void start_publishing(struct vc_worker *worker, struct connection *connection,
                             struct session *session)
{
  session->publisher = connection;
  session->since_ns = vc_worker_now_ns(worker);
  vc_address_print(&connection->address, session->address);
  connection->session = session;
  connection->stage = PUBLISHING;
  connection->heard_ns = session->since_ns;
  rtmp_write_user_control(&connection->unsent, 0, connection->stream_id);
  command_say_status(connection, "status", "NetStream.Publish.Start", "Publishing.");
  vc_log(VC_LOG_INFO, VC_EVENT("ingest.publish"), VC_STR("slug", session->slug),
         VC_STR("address", session->address), VC_INT("session", session->session->id));
}

int ingest_session_publish(struct vc_worker *worker, struct connection *connection)
{
  struct worker_state *state = vc_worker_state(worker);
  const struct vc_ingest_settings *settings = &state->room->settings;
  const char *why = "the token is missing or not valid";
  struct session *session = find_session(state, connection->slug);
  int is_on = session != NULL && !session->is_closed;
  const struct vc_ingest_claim claim = {connection->slug, connection->query,
                                        is_on ? session->session->started_unix_ms : 0};
  if (settings->authorize != NULL && settings->authorize(settings->context, &claim, &why) != 0) {
    return command_refuse(worker, connection, REFUSED_TOKEN, "NetStream.Publish.Denied", why);
  }
  if (session != NULL && session->is_closed) {
    return command_refuse(worker, connection, REFUSED_FULL, "NetStream.Publish.BadName",
                          "The session before has not ended yet.");
  }
  if (session == NULL) {
    session = begin_session(worker, connection);
    if (session == NULL) {
      return 1;
    }
  } else {
    if (is_flap(session, connection, vc_worker_now_ns(worker))) {
      vc_metric_add(vc_worker_slots(worker), FLAPS, 1);
      return command_refuse(worker, connection, REFUSED_NAME, "NetStream.Publish.BadName",
                            "It was replaced a moment ago; two publishers use one name.");
    }
    if (is_stuck(session)) {
      return command_refuse(worker, connection, REFUSED_FULL, "NetStream.Publish.BadName",
                            "The node is overloaded.");
    }
    if (session->publisher != NULL) {
      replace_publisher(worker, session);
    }
    give_turn(worker, session, VC_TURN_BACK);
  }
  start_publishing(worker, connection, session);
  return 0;
}

// --- media

static void audio(struct vc_worker *worker, struct connection *connection,
                  const struct rtmp_message *message)
{
  static const enum vc_codec codecs[] = {VC_CODEC_AAC, VC_CODEC_MP3, VC_CODEC_OPUS};
  struct session *session = connection->session;
  struct rtmp_audio_tag tag;
  if (rtmp_audio_parse(message->payload, message->size, &tag) != 0 ||
      tag.kind == RTMP_AUDIO_IGNORED) {
    return;
  }
  if (tag.size > FRAME_MAX) {
    vc_metric_add(vc_worker_slots(worker), DROPPED, 1);
    session->has_dropped = 1;
    return;
  }
  int is_config = tag.kind == RTMP_AUDIO_CONFIG;
  struct vc_packet *packet =
      vc_packet_create(session->session, is_config ? VC_TURN_CONFIG : VC_TURN_DATA);
  if (packet == NULL || (packet->data = vc_buffer_copy(tag.data, tag.size)) == NULL) {
    vc_metric_add(vc_worker_slots(worker), DROPPED, 1);
    session->has_dropped = 1;
    vc_packet_destroy(&packet);
    return;
  }
  if (!is_config) {
    packet->is_discontinuity = session->has_dropped;
    session->has_dropped = 0;
  }
  packet->codec = codecs[tag.codec];
  packet->sample_rate_hint_hz = tag.sample_rate_hz;
  packet->channels_hint = tag.channels;
  packet->timestamp_ms = message->timestamp_ms;
  packet->arrival_ns = connection->read_ns;
  session->codec = packet->codec;
  vc_metric_add(vc_worker_slots(worker), PACKETS, 1);
  atomic_fetch_add_explicit(&session->session->n_audio_bytes, tag.size, memory_order_relaxed);
  give(worker, session, packet);
}

void ingest_session_media(struct vc_worker *worker, struct connection *connection,
                          const struct rtmp_message *message)
{
  if (connection->session == NULL) {
    return; // it has unpublished
  }
  if (message->type == RTMP_AUDIO) {
    audio(worker, connection, message);
  } else if (message->type == RTMP_AGGREGATE) {
    struct rtmp_message part;
    size_t at = 0;
    while (rtmp_aggregate_next(message, &at, &part) == 1) {
      if (part.type == RTMP_AUDIO) {
        audio(worker, connection, &part);
      }
    }
  }
}

// --- time

void ingest_session_tick(struct vc_worker *worker)
{
  struct worker_state *state = vc_worker_state(worker);
  uint64_t resume_ns = (uint64_t)state->room->settings.options->session_resume_ms * VC_NS_PER_MS;
  struct session *session, *next;
  HASH_ITER(hh, state->sessions, session, next)
  {
    if (!session->is_closed && session->publisher == NULL &&
        vc_worker_now_ns(worker) >= session->lost_ns + resume_ns) {
      ingest_session_end(worker, session, VC_CLOSE_PUBLISHER_LEFT);
    } else if (session->waiting.n > 0) {
      give_waiting(worker, session);
    }
  }
}

void ingest_session_destroy_all(struct vc_worker *worker)
{
  struct worker_state *state = vc_worker_state(worker);
  struct session *session, *next;
  HASH_ITER(hh, state->sessions, session, next)
  {
    session_free(worker, session);
  }
}
