#include <verbacast/base/log.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "room.h"

#define TOO_MANY "Too many publishers."

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

// What can be done without: the oldest sound, else that it was muted, else a config that a later
// one replaces.
static struct vc_item *find_droppable(const struct vc_waiting *waiting)
{
  struct vc_item *sound = find_turn(waiting->items, VC_TURN_DATA);
  sound = sound != NULL ? sound : find_turn(waiting->items, VC_TURN_MUTED);
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
    vc_log(VC_LOG_ERROR, VC_EVENT("ingest.no_memory"), VC_STR("slug", session->session->slug),
           VC_STR("participant", session->session->participant));
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

static void print_key(char key[KEY_SIZE], const char *slug, const char *participant)
{
  snprintf(key, KEY_SIZE, "%s/%s", slug, participant);
}

struct session *ingest_session_find(const struct worker_state *state, const char *slug,
                                    const char *participant)
{
  struct session *session;
  char key[KEY_SIZE];
  print_key(key, slug, participant);
  HASH_FIND_STR(state->sessions, key, session);
  return session;
}

int64_t ingest_session_began(const struct worker_state *state, const char *slug,
                             const char *participant)
{
  const struct session *own = ingest_session_find(state, slug, participant);
  int64_t began_ms = 0;
  if (own != NULL && !own->is_closed) {
    return own->began_ms;
  }
  for (const struct session *session = state->sessions; session != NULL;
       session = session->hh.next) {
    if (session->is_closed || strcmp(session->session->slug, slug) != 0) {
      continue;
    }
    if (session->began_ms < session->session->started_unix_ms) {
      return session->began_ms; // it came from there, and others with it
    }
    began_ms = -1;
  }
  return began_ms;
}

static struct session *session_create(struct vc_worker *worker, const char *slug,
                                      const char *participant)
{
  struct worker_state *state = vc_worker_state(worker);
  struct session *session = calloc(1, sizeof *session);
  if (session == NULL) {
    return NULL;
  }
  uint64_t id = atomic_fetch_add_explicit(&state->room->next_session_id, 1, memory_order_relaxed);
  session->session =
      vc_session_create_of(slug, participant, id, vc_clock_unix_ms(vc_worker_clock(worker)));
  if (session->session != NULL) {
    session->session->began_ns = vc_worker_now_ns(worker);
    session->began_ms = session->session->started_unix_ms;
  }
  session->closing =
      session->session != NULL ? vc_packet_create(session->session, VC_TURN_CLOSE) : NULL;
  print_key(session->key, slug, participant);
  if (session->closing != NULL) {
    HASH_ADD_STR(state->sessions, key, session);
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

static int has_publisher(const struct session *session)
{
  return session->publisher != NULL || session->track != NULL;
}

static void let_go(struct session *session)
{
  if (session->publisher != NULL) {
    session->publisher->session = NULL;
    session->publisher = NULL;
  }
  if (session->track != NULL) {
    session->track->session = NULL;
    session->track = NULL;
  }
}

void ingest_session_end(struct vc_worker *worker, struct session *session,
                        enum vc_close_reason reason)
{
  struct worker_state *state = vc_worker_state(worker);
  let_go(session);
  vc_log(VC_LOG_INFO, VC_EVENT("ingest.end"), VC_STR("slug", session->session->slug),
         VC_STR("participant", session->session->participant),
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

void ingest_session_lose(struct vc_worker *worker, struct session *session)
{
  if (session->over_ns != 0) {
    ingest_session_end(worker, session, VC_CLOSE_PUBLISHER_LEFT);
    return;
  }
  let_go(session);
  session->lost_ns = vc_worker_now_ns(worker);
  vc_metric_add(vc_worker_slots(worker), LOST, 1);
  vc_log(VC_LOG_INFO, VC_EVENT("ingest.lost"), VC_STR("slug", session->session->slug),
         VC_STR("participant", session->session->participant), VC_STR("address", session->address));
  give_turn(worker, session, VC_TURN_LOST);
}

// --- publish

// A publisher that was replaced a moment ago and now wants to replace its replacer: two of them
// would go on like this for ever.
static int is_flap(const struct session *session, uint64_t identity, uint64_t now_ns)
{
  return has_publisher(session) && session->replaced_ns != 0 &&
         session->replaced_identity == identity && session->identity != identity &&
         now_ns - session->replaced_ns < FLAP_MS * VC_NS_PER_MS;
}

// Who was there is told so.
static void replace_publisher(struct vc_worker *worker, struct session *session)
{
  struct connection *old = session->publisher;
  struct track *old_track = session->track;
  session->replaced_identity = session->identity;
  session->replaced_ns = vc_worker_now_ns(worker);
  let_go(session);
  vc_metric_add(vc_worker_slots(worker), TAKEOVERS, 1);
  vc_log(VC_LOG_INFO, VC_EVENT("ingest.takeover"), VC_STR("slug", session->session->slug),
         VC_STR("participant", session->session->participant), VC_STR("from", session->address));
  if (old != NULL) {
    command_say_status(old, "error", "NetStream.Publish.BadName", "Another publisher took over.");
    connection_finish(worker, old);
  }
  if (old_track != NULL) {
    track_finish(worker, old_track, TRACK_TAKEN_OVER,
                 "another stream of this participant took over");
  }
}

static int64_t most_publishers(const struct vc_ingest_settings *settings)
{
  int64_t most = settings->options->max_publishers;
  return settings->max_sessions > 0 && settings->max_sessions < most ? settings->max_sessions
                                                                     : most;
}

static const char *refusal_of_gate(const struct room *room)
{
  const struct vc_ingest_settings *settings = &room->settings;
  return settings->refusal != NULL ? settings->refusal(settings->context) : NULL;
}

static int is_full(const struct room *room)
{
  return atomic_load_explicit(&room->n_publishers, memory_order_relaxed) >=
         most_publishers(&room->settings);
}

const char *ingest_session_refusal(const struct room *room)
{
  const char *why = refusal_of_gate(room);
  return why == NULL && is_full(room) ? TOO_MANY : why;
}

static int take_place(struct vc_worker *worker)
{
  struct worker_state *state = vc_worker_state(worker);
  int64_t most = most_publishers(&state->room->settings);
  if (atomic_fetch_add_explicit(&state->room->n_publishers, 1, memory_order_relaxed) < most) {
    return 0;
  }
  atomic_fetch_sub_explicit(&state->room->n_publishers, 1, memory_order_relaxed);
  return 1;
}

static int refuse(struct refusal *refusal, enum metric metric, const char *why)
{
  *refusal = (struct refusal){metric, why};
  return 1;
}

static int check_gate(struct vc_worker *worker, struct refusal *refusal)
{
  const struct worker_state *state = vc_worker_state(worker);
  const char *why = refusal_of_gate(state->room);
  if (state->is_draining) {
    why = "The node shuts down."; // a session that begins now would never be ended
  }
  return why != NULL ? refuse(refusal, REFUSED_GATE, why) : 0;
}

static int check_participants(const struct worker_state *state, const char *slug,
                              struct refusal *refusal)
{
  size_t n = 0;
  for (const struct session *session = state->sessions; session != NULL;
       session = session->hh.next) {
    n += session->session->participant[0] != '\0' && strcmp(session->session->slug, slug) == 0;
  }
  return n >= VC_PARTICIPANTS_MAX
             ? refuse(refusal, REFUSED_FULL, "Too many participants in this session.")
             : 0;
}

// A session for a key that has none. Returns NULL when it is refused.
static struct session *begin_session(struct vc_worker *worker, const char *slug,
                                     const char *participant, struct refusal *refusal)
{
  struct worker_state *state = vc_worker_state(worker);
  if (check_gate(worker, refusal) != 0 ||
      (participant[0] != '\0' && check_participants(state, slug, refusal) != 0)) {
    return NULL;
  }
  if (take_place(worker) != 0) {
    refuse(refusal, REFUSED_FULL, TOO_MANY);
    return NULL;
  }
  struct session *session = session_create(worker, slug, participant);
  if (session == NULL) {
    atomic_fetch_sub_explicit(&state->room->n_publishers, 1, memory_order_relaxed);
    refuse(refusal, REFUSED_FULL, "No memory.");
  }
  return session;
}

// Whether one that is there may be taken over or gone on with.
static int check_session(struct vc_worker *worker, const struct session *session, uint64_t identity,
                         struct refusal *refusal)
{
  if (session->is_closed) {
    return refuse(refusal, REFUSED_FULL, "The session before has not ended yet.");
  }
  if (is_flap(session, identity, vc_worker_now_ns(worker))) {
    vc_metric_add(vc_worker_slots(worker), FLAPS, 1);
    return refuse(refusal, REFUSED_NAME,
                  "It was replaced a moment ago; two publishers use one name.");
  }
  return is_stuck(session) ? refuse(refusal, REFUSED_FULL, "The node is overloaded.") : 0;
}

// Begins a publishing or goes on with it. Returns NULL when it is refused.
static struct session *take_session(struct vc_worker *worker, const char *slug,
                                    const char *participant, uint64_t identity,
                                    struct refusal *refusal)
{
  struct session *session = ingest_session_find(vc_worker_state(worker), slug, participant);
  if (session == NULL) {
    session = begin_session(worker, slug, participant, refusal);
  } else if (check_session(worker, session, identity, refusal) != 0) {
    session = NULL;
  } else {
    if (has_publisher(session)) {
      replace_publisher(worker, session);
    }
    give_turn(worker, session, VC_TURN_BACK);
  }
  if (session != NULL) {
    session->identity = identity;
    session->over_ns = 0; // a room of that name is on again
    session->since_ns = vc_worker_now_ns(worker);
  }
  return session;
}

// On another node; 0 or less: nobody said so.
static void begin_earlier(struct session *session, int64_t began_ms)
{
  if (began_ms > 0 && began_ms < session->began_ms) {
    session->began_ms = began_ms;
  }
}

static void start_publishing(struct vc_worker *worker, struct connection *connection,
                             struct session *session)
{
  session->publisher = connection;
  vc_address_print(&connection->address, session->address);
  connection->session = session;
  connection->stage = PUBLISHING;
  connection->heard_ns = session->since_ns;
  rtmp_write_user_control(&connection->unsent, 0, connection->stream_id);
  command_say_status(connection, "status", "NetStream.Publish.Start", "Publishing.");
  vc_log(VC_LOG_INFO, VC_EVENT("ingest.publish"), VC_STR("slug", session->session->slug),
         VC_STR("participant", session->session->participant), VC_STR("address", session->address),
         VC_INT("session", session->session->id));
}

static enum vc_ingest_verdict authorize(const struct worker_state *state,
                                        const struct connection *connection, int64_t began_ms,
                                        const char **why)
{
  const struct vc_ingest_settings *settings = &state->room->settings;
  const struct vc_ingest_claim claim = {connection->slug, connection->query, began_ms};
  *why = "the token is missing or not valid";
  return settings->authorize != NULL ? settings->authorize(settings->context, &claim, why)
                                     : VC_INGEST_MAY;
}

static int deny(struct vc_worker *worker, struct connection *connection, const char *why)
{
  return command_refuse(worker, connection, REFUSED_TOKEN, "NetStream.Publish.Denied", why);
}

// One that may. Returns: 0 it publishes, 1 it was refused (said).
static int publish(struct vc_worker *worker, struct connection *connection, int64_t began_ms)
{
  struct worker_state *state = vc_worker_state(worker);
  int is_known = ingest_session_find(state, connection->slug, "") != NULL;
  struct refusal refusal;
  struct session *session =
      take_session(worker, connection->slug, "", connection->identity, &refusal);
  if (session == NULL) {
    return command_refuse(worker, connection, refusal.metric,
                          is_known ? "NetStream.Publish.BadName" : "NetConnection.Connect.Rejected",
                          refusal.why);
  }
  begin_earlier(session, began_ms);
  start_publishing(worker, connection, session);
  return 0;
}

int ingest_session_publish(struct vc_worker *worker, struct connection *connection)
{
  const struct worker_state *state = vc_worker_state(worker);
  int64_t began_ms = ingest_session_began(state, connection->slug, "");
  const char *why;
  enum vc_ingest_verdict verdict = authorize(state, connection, began_ms > 0 ? began_ms : 0, &why);
  if (verdict == VC_INGEST_EXPIRED && began_ms == 0 &&
      comeback_ask(worker, connection, &why) == 0) {
    return 0;
  }
  return verdict != VC_INGEST_MAY ? deny(worker, connection, why)
                                  : publish(worker, connection, began_ms);
}

int ingest_session_come_back(struct vc_worker *worker, struct connection *connection,
                             int64_t began_ms)
{
  const char *why;
  connection->stage = COMMANDS;
  return authorize(vc_worker_state(worker), connection, began_ms, &why) != VC_INGEST_MAY
             ? deny(worker, connection, why)
             : publish(worker, connection, began_ms);
}

// --- tracks

int ingest_session_check(struct vc_worker *worker, const char *slug, const char *participant,
                         struct refusal *refusal)
{
  struct worker_state *state = vc_worker_state(worker);
  const struct session *session = ingest_session_find(state, slug, participant);
  if (session != NULL) {
    // Who asks is known when it comes.
    return check_session(worker, session, session->identity, refusal);
  }
  if (is_full(state->room)) {
    return refuse(refusal, REFUSED_FULL, TOO_MANY);
  }
  return check_gate(worker, refusal) != 0 || check_participants(state, slug, refusal) != 0;
}

int ingest_session_join(struct vc_worker *worker, struct track *track, struct refusal *refusal)
{
  const struct vc_track_newcomer *is = &track->is;
  struct session *session = take_session(worker, is->slug, is->participant, is->identity, refusal);
  if (session == NULL) {
    return 1;
  }
  begin_earlier(session, is->began_ms);
  session->track = track;
  session->codec = VC_CODEC_PCM_S16LE;
  vc_address_print(&is->address, session->address);
  track->session = session;
  vc_log(VC_LOG_INFO, VC_EVENT("ingest.publish"), VC_STR("slug", is->slug),
         VC_STR("participant", is->participant), VC_STR("address", session->address),
         VC_INT("session", session->session->id), VC_INT("rate_hz", is->rate_hz),
         VC_INT("channels", is->n_channels));
  return 0;
}

// Only the first time counts; packets of it come behind.
void ingest_session_begin_sound(struct session *session, uint64_t first_ns)
{
  if (atomic_load_explicit(&session->session->first_audio_ns, memory_order_relaxed) == 0) {
    atomic_store_explicit(&session->session->first_audio_ns, first_ns, memory_order_relaxed);
  }
}

void ingest_session_pcm(struct vc_worker *worker, struct track *track, const uint8_t *bytes,
                        size_t size)
{
  struct session *session = track->session;
  struct vc_packet *packet = vc_packet_create(session->session, VC_TURN_DATA);
  if (packet == NULL || (packet->data = vc_buffer_copy(bytes, size)) == NULL) {
    vc_metric_add(vc_worker_slots(worker), DROPPED, 1);
    session->has_dropped = 1;
    vc_packet_destroy(&packet);
    return;
  }
  packet->codec = VC_CODEC_PCM_S16LE;
  packet->sample_rate_hint_hz = track->is.rate_hz;
  packet->channels_hint = track->is.n_channels;
  packet->arrival_ns = track->read_ns;
  packet->is_discontinuity = session->has_dropped;
  session->has_dropped = 0;
  atomic_fetch_add_explicit(&session->session->n_audio_bytes, size, memory_order_relaxed);
  give(worker, session, packet);
}

void ingest_session_mute(struct vc_worker *worker, struct session *session)
{
  give_turn(worker, session, VC_TURN_MUTED);
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
  if (!is_config) {
    ingest_session_begin_sound(session, packet->arrival_ns);
  }
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
    if (!session->is_closed && !has_publisher(session) &&
        vc_worker_now_ns(worker) >= session->lost_ns + resume_ns) {
      ingest_session_end(worker, session, VC_CLOSE_PUBLISHER_LEFT);
    } else if (!session->is_closed && session->over_ns != 0 &&
               vc_worker_now_ns(worker) >= session->over_ns + OVER_MS * VC_NS_PER_MS) {
      ingest_room_end_over(worker, session);
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
