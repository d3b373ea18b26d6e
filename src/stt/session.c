// A session: its audio from the ring to the socket, its turns, its end.
#include "room.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEEP_ALIVE_MS 20000            // a provider hangs up after 30 s without input
#define FRAME_MAX_SAMPLES (32768 - 16) // a frame stays below 64 KiB
// The first frame of a connection that goes on with an STT session is short and waited for: its
// acknowledgment says how much the stream holds twice, and should it be lost too, it is little.
#define PROBE_SAMPLES 16 // 1 ms: a few of them lost in a row are still less than half a word
#define KEEP_BEFORE_SAMPLES (VC_SAMPLE_RATE_HZ / 2)
#define SILENCE_EXTRA_S 5 // beyond the longest utterance: nothing open, nothing more to come
#define PREDECESSOR_END_MS 3000

// --- its life

struct session *stt_session_create(struct room *room, struct vc_session *of)
{
  struct session *session = calloc(1, sizeof *session);
  struct vc_result *closing = vc_result_create(of, VC_RESULT_CLOSE);
  if (session == NULL || closing == NULL) {
    free(session);
    vc_result_destroy(&closing);
    return NULL;
  }
  session->id = of->id;
  session->session = vc_session_ref(of);
  session->room = room;
  session->closing = closing;
  session->said_state = VC_STATE_LIVE;
  stt_ring_init(&session->ring,
                (uint64_t)room->shared->settings.options->stt_buffer_ms * VC_SAMPLE_RATE_HZ / 1000);
  return session;
}

void stt_session_destroy(struct session *session)
{
  stt_link_end(session);
  stt_room_stand(session, STANDING_UNKNOWN, NULL);
  stt_outbox_fini(session);
  stt_ring_fini(&session->ring);
  stt_trail_fini(&session->trail);
  vc_session_unref(session->session);
  free(session);
}

// --- what viewers are shown of it

static enum vc_state find_state(const struct session *session, const char **reason)
{
  if (session->is_lost) {
    *reason = "publisher lost";
    return VC_STATE_RECONNECTING;
  }
  *reason = session->trouble;
  if (session->standing == STANDING_DOWN) {
    return VC_STATE_STT_DOWN;
  }
  if (session->is_broken) {
    return VC_STATE_RECONNECTING;
  }
  *reason = "";
  return VC_STATE_LIVE;
}

void stt_session_show_state(struct session *session)
{
  const char *reason;
  enum vc_state state = find_state(session, &reason);
  if (session->is_ending ||
      (state == session->said_state && strcmp(reason, session->said_reason) == 0)) {
    return;
  }
  struct vc_result *result = vc_result_create(session->session, VC_RESULT_STATE);
  if (result != NULL) {
    result->state = state;
    snprintf(result->reason, sizeof result->reason, "%s", reason);
    session->said_state = state;
    snprintf(session->said_reason, sizeof session->said_reason, "%s", reason);
  }
  stt_outbox_say(session, result);
}

// --- audio in

uint64_t stt_session_unacknowledged(const struct session *session)
{
  uint64_t sample = stt_trail_unacknowledged(&session->trail, session->send_at);
  return sample < session->send_at ? sample : session->send_at;
}

// What no reconnect and no new STT session will ask for: acknowledged, and covered by a final or
// long silent.
void stt_session_trim(struct session *session)
{
  const struct vc_stt_options *options = session->room->shared->settings.options;
  uint64_t acknowledged = stt_session_unacknowledged(session);
  uint64_t kept = session->told_to;
  if (session->n_open > 0) {
    uint64_t start = (uint64_t)(session->open[0].start_s * VC_SAMPLE_RATE_HZ);
    kept = start > kept || session->open[0].is_from_before ? start : kept;
  } else if (session->owed_stream == 0) {
    uint64_t window =
        (uint64_t)((options->stt_max_utterance_s + SILENCE_EXTRA_S) * VC_SAMPLE_RATE_HZ);
    uint64_t silent = acknowledged > window ? acknowledged - window : 0;
    kept = silent > kept ? silent : kept;
  }
  kept = kept > KEEP_BEFORE_SAMPLES ? kept - KEEP_BEFORE_SAMPLES : 0;
  stt_ring_trim(&session->ring, kept < acknowledged ? kept : acknowledged);
}

void stt_session_hear_chunk(struct session *session, const struct vc_chunk *chunk)
{
  struct room *room = session->room;
  if (session->is_ending) {
    return;
  }
  if (stt_ring_put(&session->ring, chunk->first_sample, chunk->pcm->data, chunk->n_samples,
                   chunk->arrival_ns) != 0) {
    stt_room_count(room, OUT_OF_MEMORY, 1);
    stt_room_count(room, AUDIO_DROPPED_MS, chunk->n_samples * 1000 / VC_SAMPLE_RATE_HZ);
  }
  if (session->send_at < session->ring.tail) {
    stt_room_count(room, AUDIO_DROPPED_MS,
                   (session->ring.tail - session->send_at) * 1000 / VC_SAMPLE_RATE_HZ);
    session->send_at = session->ring.tail;
  }
  stt_session_feed(session);
  stt_session_trim(session);
}

// --- audio out

static void note_sent(struct session *session, uint64_t first, uint32_t n)
{
  struct room *room = session->room;
  uint64_t now = stt_room_now(room), end = first + n;
  if (session->trail.n_frames == 0) {
    session->unanswered_ns = now;
  }
  stt_trail_sent(&session->trail, first, n);
  session->last_sent_ns = session->last_audio_ns = now;
  session->send_at = end;
  atomic_fetch_add_explicit(&session->session->n_chunks_sent, 1, memory_order_relaxed);
  stt_room_count(room, CHUNKS_SENT, 1);
  stt_room_record(room, CHUNK_SIZE, n * 2.0);
  uint64_t arrival = end > session->sent_high ? stt_ring_arrival(&session->ring, end - 1) : 0;
  if (arrival != 0) {
    stt_room_record(room, TO_STT, stt_room_since_ms(room, arrival));
  }
  if (end > session->sent_high) {
    session->sent_high = end;
  }
}

// How much may be sent at once now.
static uint32_t find_most(const struct session *session)
{
  if (session->trail.is_placed || stt_room_now(session->room) >= session->probe_until_ns) {
    return FRAME_MAX_SAMPLES;
  }
  return session->trail.n_frames == 0 ? PROBE_SAMPLES : 0;
}

// Returns: 1 a frame was sent, 0 there is nothing to send or no room for it.
static int send_frame(struct session *session)
{
  uint64_t first;
  const uint8_t *pcm;
  uint32_t n = stt_ring_run(&session->ring, session->send_at, find_most(session), &first, &pcm);
  if (n == 0) {
    return 0;
  }
  if (stt_trail_reserve(&session->trail) != 0) {
    stt_room_count(session->room, OUT_OF_MEMORY, 1);
    return 0;
  }
  int status = vc_socket_send(session->socket, VC_WS_BINARY, pcm, (size_t)n * 2);
  if (status < 0) {
    stt_room_count(session->room, OUT_OF_MEMORY, 1);
  }
  if (status != 0) {
    return 0;
  }
  note_sent(session, first, n);
  return 1;
}

static int send_text(struct session *session, const char *text)
{
  if (vc_socket_send(session->socket, VC_WS_TEXT, text, strlen(text)) != 0) {
    return -1;
  }
  session->last_sent_ns = stt_room_now(session->room);
  return 0;
}

void stt_session_feed(struct session *session)
{
  if (session->phase != PHASE_LIVE || session->has_stopped) {
    return;
  }
  while (send_frame(session)) {
  }
  uint64_t first;
  const uint8_t *pcm;
  if (session->is_ending && stt_ring_run(&session->ring, session->send_at, 1, &first, &pcm) == 0 &&
      send_text(session, vc_gladia_stop_recording) == 0) {
    session->has_stopped = 1;
  }
}

static void keep_alive(struct session *session)
{
  uint64_t silent_ns = stt_room_now(session->room) - session->last_sent_ns;
  if (silent_ns >= KEEP_ALIVE_MS * VC_NS_PER_MS && !session->has_stopped &&
      send_text(session, vc_gladia_keep_alive) == 0) {
    stt_room_count(session->room, KEEP_ALIVES, 1);
  }
}

// --- turns

void stt_session_turn(struct session *session, const struct vc_chunk *chunk)
{
  switch (chunk->turn) {
  case VC_TURN_LOST:
  case VC_TURN_BACK:
    session->is_lost = chunk->turn == VC_TURN_LOST;
    stt_session_show_state(session);
    break;
  case VC_TURN_CLOSE:
    stt_session_begin_end(session, chunk->reason);
    break;
  case VC_TURN_OPEN:
  case VC_TURN_DATA:
  case VC_TURN_CONFIG:
  case VC_TURN_MUTED:
    break;
  }
}

void stt_session_begin_end(struct session *session, enum vc_close_reason reason)
{
  if (session->is_ending) {
    return;
  }
  session->is_ending = 1;
  session->close_reason = reason;
  session->end_at_ns = stt_room_now(session->room) + VC_STT_END_MS * VC_NS_PER_MS;
  int has_nothing = session->ring.end == 0; // it never had any audio
  int is_down = session->standing == STANDING_DOWN;
  if (has_nothing || (is_down && stt_link_try_last(session) != 0)) {
    stt_session_finish(session);
    return;
  }
  stt_session_feed(session);
}

void stt_session_hurry(struct session *session)
{
  stt_session_begin_end(session, VC_CLOSE_PUBLISHER_LEFT);
  uint64_t by = stt_room_now(session->room) + PREDECESSOR_END_MS * VC_NS_PER_MS;
  session->end_at_ns = by < session->end_at_ns ? by : session->end_at_ns;
}

void stt_session_finish(struct session *session)
{
  if (session->phase == PHASE_CLOSED) {
    return;
  }
  session->is_ending = 1;
  stt_hear_retract_all(session);
  stt_link_end(session);
  session->phase = PHASE_CLOSED;
  session->closing->close_reason = session->close_reason;
  session->room->n_closed++;
  stt_room_stand(session, STANDING_UNKNOWN, NULL);
  vc_worker_wake_at(session->room->worker, stt_room_now(session->room));
}

void stt_session_conclude(struct session *session)
{
  if (stt_hear_is_owed(session) && stt_room_now(session->room) < session->end_at_ns) {
    stt_link_renew(session);
  } else {
    stt_session_finish(session);
  }
}

static int is_over(const struct session *session)
{
  uint64_t now = stt_room_now(session->room);
  int is_waited_for = session->n_open > 0 && !stt_hear_is_owed(session);
  return now >= session->end_at_ns ||
         (session->has_ended && !is_waited_for && now >= session->linger_until_ns);
}

void stt_session_tick(struct session *session)
{
  stt_link_tick(session);
  if (session->phase == PHASE_LIVE) {
    stt_hear_tick(session);
    stt_session_feed(session);
    keep_alive(session);
  }
  if (session->is_ending && session->phase != PHASE_CLOSED && is_over(session)) {
    stt_session_conclude(session);
  }
}
