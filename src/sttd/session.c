// A session lives from POST /v2/live to some minutes after its end; connections come and go. Until
// it is done it has a stream in the pool and counts towards STT_MAX_SESSIONS.
#include "room.h"

#include <verbacast/base/log.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <utlist.h>

#define FIRST_CONNECTION_MS 60000
#define RESUME_MS 60000
#define STOPPING_MS 60000
#define KEEP_MS 600000
#define RECENT_MS 3000 // finals sent so shortly before a connection broke are sent again

// --- making and finding

static void print_random(char *text, size_t size)
{
  static const char digits[] = "0123456789abcdef";
  uint8_t bytes[32];
  size_t n = 0;
  while (n < sizeof bytes) {
    ssize_t got = getrandom(bytes + n, sizeof bytes - n, 0);
    n += got > 0 ? (size_t)got : 0;
  }
  for (size_t i = 0; i + 1 < size; i++) {
    text[i] = digits[bytes[i / 2] >> (i % 2 == 0 ? 4 : 0) & 0xf];
  }
  text[size - 1] = '\0';
}

// A UUID, version 4.
static void print_id(char id[ID_SIZE])
{
  print_random(id, ID_SIZE);
  id[8] = id[13] = id[18] = id[23] = '-';
  id[14] = '4';
  id[19] = "89ab"[id[19] % 4];
}

static int open_stream(struct session *session)
{
  const struct stream_settings settings = {
      .endpointing_s = session->request.endpointing_s,
      .longest_s = session->request.max_utterance_s,
      .wants_partials = session->request.wants_partials,
      .owner = session,
  };
  session->stream = stream_open(session->room->pool, &settings);
  return session->stream != NULL ? 0 : -1;
}

static void trim_kept(struct room *room)
{
  while (room->n_kept > KEPT_SESSIONS) {
    session_destroy(room->kept); // the oldest
  }
}

// Puts it into both tables. Returns: 0, or -1 without memory: it is in none.
static int enlist(struct room *room, struct session *session)
{
  HASH_ADD_STR(room->sessions, id, session);
  if (session->hh.tbl == NULL) {
    return -1;
  }
  HASH_ADD_KEYPTR(hh_token, room->tokens, session->token, strlen(session->token), session);
  if (session->hh_token.tbl == NULL) {
    HASH_DEL(room->sessions, session);
    return -1;
  }
  return 0;
}

struct session *session_create(struct room *room, struct vc_gladia_request *request)
{
  struct session *session = calloc(1, sizeof *session);
  if (session == NULL) {
    return NULL;
  }
  trim_kept(room);
  session->room = room;
  session->request = *request;
  session->odd = -1;
  session->created_ms = vc_clock_unix_ms(room->settings.clock);
  session->created_ns = room_now_ns(room);
  session->deadline_ns = session->created_ns + FIRST_CONNECTION_MS * VC_NS_PER_MS;
  print_id(session->id);
  print_random(session->token, sizeof session->token);
  if (open_stream(session) != 0) {
    free(session);
    return NULL;
  }
  if (enlist(room, session) != 0) {
    stream_close(session->stream);
    free(session);
    return NULL;
  }
  request->metadata = NULL; // the session's now
  room->n_active++;
  room_count(room, SESSIONS_TOTAL, 1);
  vc_metric_set(room->slots, SESSIONS, room->n_active);
  vc_log(VC_LOG_INFO, VC_EVENT("sttd.session"), VC_STR("session", session->id),
         VC_INT("open", room->n_active));
  return session;
}

struct session *session_find(struct room *room, const char *id)
{
  struct session *session;
  HASH_FIND_STR(room->sessions, id, session);
  return session;
}

struct session *session_find_token(struct room *room, const char *token)
{
  struct session *session;
  HASH_FIND(hh_token, room->tokens, token, strlen(token), session);
  return session;
}

// --- the end

static void close_stream(struct session *session)
{
  struct room *room = session->room;
  if (session->stream != NULL) {
    stream_close(session->stream);
    session->stream = NULL;
    room->n_active--;
    vc_metric_set(room->slots, SESSIONS, room->n_active);
  }
}

static void forget_recent(struct session *session)
{
  for (size_t i = 0; i < RECENT_FINALS; i++) {
    vc_buffer_unref(session->recent[i].frame);
    session->recent[i].frame = NULL;
  }
}

void session_destroy(struct session *session)
{
  struct room *room = session->room;
  struct connection *connection = session->connection;
  session->connection = NULL;
  if (connection != NULL) {
    connection->session = NULL;
    connection_kill(connection);
  }
  close_stream(session);
  if (session->state == SESSION_DONE) {
    DL_DELETE(room->kept, session);
    room->n_kept--;
  }
  HASH_DEL(room->sessions, session);
  HASH_DELETE(hh_token, room->tokens, session);
  forget_recent(session);
  vc_gladia_request_fini(&session->request);
  vc_text_fini(&session->held);
  vc_text_fini(&session->utterances);
  vc_text_fini(&session->full_text);
  free(session);
}

static void keep_result(struct session *session)
{
  struct room *room = session->room;
  session->state = SESSION_DONE;
  session->completed_ms = vc_clock_unix_ms(room->settings.clock);
  session->deadline_ns = room_now_ns(room) + KEEP_MS * VC_NS_PER_MS;
  close_stream(session);
  DL_APPEND(room->kept, session);
  room->n_kept++;
}

double session_duration_s(const struct session *session)
{
  return (double)session->n_bytes / (2.0 * session->request.sample_rate_hz);
}

static void say_post(struct session *session)
{
  struct vc_text text = {0};
  struct vc_gladia_envelope envelope = session_envelope(session);
  const char *full = session->full_text.size > 0 ? session->full_text.at : "";
  const char *utterances = session->utterances.size > 0 ? session->utterances.at : "";
  vc_gladia_print_post_transcript(&text, &envelope, session->room->engine->languages[0], full,
                                  utterances);
  session_say(session, &text, SESSION_KEEP);
  text.size = 0;
  vc_text_add(&text, "{\"type\":\"post_final_transcript\",\"session_id\":");
  vc_text_json_string(&text, session->id);
  vc_text_add(&text, ",\"created_at\":\"");
  vc_gladia_print_time(&text, envelope.created_at_ms);
  vc_text_add(&text, "\",\"data\":");
  session_print_result(session, &text);
  vc_text_add(&text, "}");
  session_say(session, &text, SESSION_KEEP);
  vc_text_fini(&text);
}

static void say_end(struct session *session)
{
  struct vc_text text = {0};
  struct vc_gladia_envelope envelope = session_envelope(session);
  if (session->request.wants_lifecycle) {
    vc_gladia_print_end_recording(&text, &envelope, session_duration_s(session));
    session_say(session, &text, SESSION_KEEP);
  }
  vc_text_fini(&text);
  if (session->request.wants_post) {
    say_post(session);
  }
  session_say_lifecycle(session, "end_session", SESSION_KEEP);
}

// Everything was heard, or cannot be.
static void finish(struct session *session)
{
  vc_log(VC_LOG_INFO, VC_EVENT("sttd.session_end"), VC_STR("session", session->id),
         VC_REAL("audio_s", session_duration_s(session)), VC_INT("finals", session->n_finals),
         VC_STR("why", session->has_failed      ? "engine"
                       : session->was_shut_down ? "shutdown"
                                                : "stopped"));
  int code = session->has_failed ? 1011 : session->was_shut_down ? 1001 : 1000;
  if (code == 1000) {
    say_end(session);
  }
  keep_result(session);
  if (session->connection != NULL) {
    live_close(session->connection, code,
               session->has_failed      ? "the speech engine failed"
               : session->was_shut_down ? "the server shuts down"
                                        : "");
  }
}

void session_stop(struct session *session)
{
  if (session->state == SESSION_WAITING || session->state == SESSION_LIVE) {
    session->state = SESSION_STOPPING;
    session->deadline_ns = room_now_ns(session->room) + STOPPING_MS * VC_NS_PER_MS;
    stream_finish(session->stream);
  }
}

// --- what it says

struct vc_gladia_envelope session_envelope(const struct session *session)
{
  return (struct vc_gladia_envelope){
      .session_id = session->id,
      .created_at_ms = vc_clock_unix_ms(session->room->settings.clock),
  };
}

static void hold(struct session *session, const void *frame, size_t size)
{
  if (session->held.size + size > HELD_MAX) {
    room_count(session->room, HELD_DROPPED, 1);
    return;
  }
  vc_text_append(&session->held, frame, size);
}

static void remember(struct session *session, struct vc_buffer *frame)
{
  size_t at = session->n_recent++ % RECENT_FINALS;
  vc_buffer_unref(session->recent[at].frame);
  session->recent[at].frame = vc_buffer_ref(frame);
  session->recent[at].sent_ns = room_now_ns(session->room);
}

void session_tell_held(struct session *session)
{
  struct vc_text *held = &session->held;
  struct vc_buffer *frames = held->size > 0 ? vc_buffer_copy(held->at, held->size) : NULL;
  if (frames != NULL) {
    vc_text_fini(held);
    remember(session, frames);
    connection_write(session->connection, frames->data, frames->size);
    vc_buffer_unref(frames);
  } else if (held->size > 0) {
    connection_kill(session->connection); // no memory: they wait for the next one
  }
}

static void say_kept(struct session *session, const struct vc_text *text)
{
  struct vc_buffer *frame = vc_ws_frame_create(VC_WS_TEXT, text->at, text->size, NULL);
  if (frame == NULL) {
    room_count(session->room, HELD_DROPPED, 1);
    return;
  }
  if (session->connection != NULL) {
    remember(session, frame);
    connection_write(session->connection, frame->data, frame->size);
    room_count(session->room, MESSAGES, 1);
  } else {
    hold(session, frame->data, frame->size);
  }
  vc_buffer_unref(frame);
}

void session_say(struct session *session, const struct vc_text *text, enum session_urgency urgency)
{
  if (text->has_failed) {
    room_count(session->room, HELD_DROPPED, 1);
  } else if (urgency == SESSION_KEEP) {
    say_kept(session, text);
  } else if (session->connection != NULL) {
    live_text(session->connection, text);
  }
}

void session_say_lifecycle(struct session *session, const char *type, enum session_urgency urgency)
{
  if (session->request.wants_lifecycle) {
    struct vc_text text = {0};
    struct vc_gladia_envelope envelope = session_envelope(session);
    vc_gladia_print_lifecycle(&text, &envelope, type);
    session_say(session, &text, urgency);
    vc_text_fini(&text);
  }
}

void session_detached(struct session *session)
{
  struct room *room = session->room;
  uint64_t now = room_now_ns(room);
  session->connection = NULL;
  session->odd = -1;
  uint32_t n = session->n_recent < RECENT_FINALS ? session->n_recent : RECENT_FINALS;
  for (uint32_t i = session->n_recent - n; i != session->n_recent; i++) {
    const struct vc_buffer *frame = session->recent[i % RECENT_FINALS].frame;
    uint64_t sent_ns = session->recent[i % RECENT_FINALS].sent_ns;
    if (frame != NULL && now - sent_ns < RECENT_MS * VC_NS_PER_MS) {
      hold(session, frame->data, frame->size);
    }
  }
  forget_recent(session);
  if (session->state == SESSION_LIVE) {
    session->deadline_ns = now + RESUME_MS * VC_NS_PER_MS;
  }
}

// --- what the stream tells

static void add_to_result(struct session *session, const struct vc_utterance *utterance)
{
  session->n_finals++;
  if (session->utterances.size + session->full_text.size > RESULT_MAX) {
    room_count(session->room, RESULTS_CUT, 1);
    return;
  }
  vc_text_add(&session->utterances, session->utterances.size > 0 ? "," : "");
  vc_gladia_print_utterance(&session->utterances, utterance);
  vc_text_add(&session->full_text, session->full_text.size > 0 ? " " : "");
  vc_text_add(&session->full_text, utterance->text);
}

static void say_transcript(struct session *session, const struct vc_utterance *utterance)
{
  struct room *room = session->room;
  const struct vc_gladia_request *request = &session->request;
  if (!utterance->is_final && session->connection != NULL &&
      connection_unsent(session->connection) > OUTPUT_PARTIALS) {
    room_count(room, PARTIALS_DROPPED, 1);
    return;
  }
  if (utterance->is_final ? request->wants_finals : request->wants_partials) {
    struct vc_text text = {0};
    struct vc_gladia_envelope envelope = session_envelope(session);
    vc_gladia_print_transcript(&text, &envelope, utterance);
    session_say(session, &text, utterance->is_final ? SESSION_KEEP : SESSION_DROP);
    vc_text_fini(&text);
  }
}

static void say_speech(struct session *session, const char *type, double time_s)
{
  if (session->request.wants_speech) {
    struct vc_text text = {0};
    struct vc_gladia_envelope envelope = session_envelope(session);
    vc_gladia_print_speech(&text, &envelope, type, time_s);
    session_say(session, &text, SESSION_DROP);
    vc_text_fini(&text);
  }
}

void session_outcomes(struct session *session)
{
  while (session->stream != NULL) {
    struct outcome outcome = stream_take(session->stream);
    switch (outcome.kind) {
    case OUTCOME_NONE:
      if (session->connection != NULL) {
        live_resume(session->connection);
      }
      return;
    case OUTCOME_SPEECH_START:
      say_speech(session, "speech_start", outcome.time_s);
      break;
    case OUTCOME_SPEECH_END:
      say_speech(session, "speech_end", outcome.time_s);
      break;
    case OUTCOME_TRANSCRIPT:
      if (outcome.utterance->is_final) {
        add_to_result(session, outcome.utterance);
      }
      say_transcript(session, outcome.utterance);
      vc_utterance_destroy(&outcome.utterance);
      break;
    case OUTCOME_FAILED:
      session->has_failed = 1;
      finish(session);
      return;
    case OUTCOME_FINISHED:
      finish(session);
      return;
    }
  }
}

// The members that a result and post_final_transcript share.
void session_print_result(const struct session *session, struct vc_text *text)
{
  double duration_s = session_duration_s(session);
  double took_s = (double)(room_now_ns(session->room) - session->created_ns) / 1e9;
  vc_text_format(text,
                 "{\"metadata\":{\"audio_duration\":%.3f,\"number_of_distinct_channels\":1,"
                 "\"billing_time\":0,\"transcription_time\":%.3f},\"transcription\":"
                 "{\"full_transcript\":",
                 duration_s, took_s);
  vc_text_json_string(text, session->full_text.size > 0 ? session->full_text.at : "");
  vc_text_add(text, ",\"languages\":[");
  vc_text_json_string(text, session->room->engine->languages[0]);
  vc_text_add(text, "],\"utterances\":[");
  vc_text_add(text, session->utterances.size > 0 ? session->utterances.at : "");
  vc_text_add(text, "]}}");
}

// --- time

static void expire(struct session *session)
{
  switch (session->state) {
  case SESSION_WAITING:
    room_count(session->room, SESSIONS_EXPIRED, 1);
    session_destroy(session);
    break;
  case SESSION_LIVE:
    if (session->connection == NULL) {
      room_count(session->room, SESSIONS_EXPIRED, 1);
      session_stop(session);
    }
    break;
  case SESSION_STOPPING:
    session->has_failed = 1;
    finish(session);
    break;
  case SESSION_DONE:
    if (session->connection == NULL) {
      session_destroy(session);
    }
    break;
  }
}

void sessions_tick(struct room *room)
{
  struct session *session, *next;
  uint64_t now = room_now_ns(room);
  HASH_ITER(hh, room->sessions, session, next)
  {
    if (now >= session->deadline_ns) {
      expire(session);
    }
  }
  trim_kept(room);
}

void sessions_drain(struct room *room)
{
  struct session *session, *next;
  HASH_ITER(hh, room->sessions, session, next)
  {
    if (session->state == SESSION_WAITING) {
      session_destroy(session);
    } else if (session->state == SESSION_LIVE) {
      session->was_shut_down = 1;
      session_stop(session);
    }
  }
}

void sessions_destroy(struct room *room)
{
  struct session *session, *next;
  HASH_ITER(hh, room->sessions, session, next)
  {
    session_destroy(session);
  }
}
