// A session's WebSocket: sound and stop_recording in; acknowledgments here, what was heard by
// session.c.
#include "room.h"

#include <verbacast/base/log.h>

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int live_is_paused(const struct connection *connection)
{
  return connection->pending != NULL;
}

// --- out

static void write_frame(struct connection *connection, enum vc_ws_opcode opcode,
                        const void *payload, size_t size)
{
  uint8_t header[VC_WS_HEADER_MAX];
  size_t n = vc_ws_print_header(header, opcode, size, NULL);
  connection_write(connection, header, n);
  connection_write(connection, payload, size);
}

void live_text(struct connection *connection, const struct vc_text *text)
{
  if (text->has_failed) {
    connection_kill(connection);
    return;
  }
  write_frame(connection, VC_WS_TEXT, text->at, text->size);
  room_count(connection->room, MESSAGES, 1);
}

// The session waits for another connection, this one says farewell.
void live_close(struct connection *connection, int code, const char *reason)
{
  if (connection->state != CONNECTION_LIVE) {
    return;
  }
  uint8_t payload[VC_WS_CONTROL_MAX];
  size_t size = vc_ws_print_close(payload, code, reason);
  write_frame(connection, VC_WS_CLOSE, payload, size);
  struct session *session = connection->session;
  connection->session = NULL;
  if (session != NULL) {
    session_detached(session);
  }
  connection_finish(connection);
}

static void say_error(struct connection *connection, int status, const char *why)
{
  struct session *session = connection->session;
  room_count(connection->room, PROTOCOL_ERRORS, 1);
  if (session->request.wants_errors) {
    struct vc_text text = {0};
    struct vc_gladia_envelope envelope = session_envelope(session);
    vc_gladia_print_error(&text, &envelope, status, why);
    live_text(connection, &text);
    vc_text_fini(&text);
  }
}

static void say_audio_error(struct connection *connection, const char *why)
{
  struct session *session = connection->session;
  room_count(connection->room, PROTOCOL_ERRORS, 1);
  if (session->request.wants_errors || session->request.wants_acks) {
    struct vc_text text = {0};
    struct vc_gladia_envelope envelope = session_envelope(session);
    vc_gladia_print_audio_error(&text, &envelope, why);
    live_text(connection, &text);
    vc_text_fini(&text);
  }
}

static void say_ack(struct connection *connection, size_t size)
{
  const struct session *session = connection->session;
  if (session->request.wants_acks) {
    struct vc_text text = {0};
    struct vc_gladia_envelope envelope = session_envelope(session);
    vc_gladia_print_ack(&text, &envelope, session->n_bytes - size, session->n_bytes,
                        (uint32_t)session->request.sample_rate_hz * 2);
    live_text(connection, &text);
    vc_text_fini(&text);
  }
}

// --- sound

// Copies what there was no room for. The message is acknowledged when all of it is taken.
static void wait_for_room(struct connection *connection, const uint8_t *bytes, size_t size,
                          size_t used)
{
  connection->pending = malloc(size);
  if (connection->pending == NULL) {
    connection_kill(connection);
    return;
  }
  memcpy(connection->pending, bytes, size);
  connection->pending_size = size;
  connection->pending_at = used;
  room_count(connection->room, PAUSES, 1);
}

static void take_sound(struct connection *connection, const uint8_t *bytes, size_t size)
{
  struct session *session = connection->session;
  if (session->state != SESSION_LIVE) {
    say_audio_error(connection, "the recording was stopped already");
    return;
  }
  size_t used = sound_feed(session, bytes, size);
  if (used < size) {
    wait_for_room(connection, bytes, size, used);
  } else {
    say_ack(connection, size);
  }
}

// Returns: 1 all of the message that waited was taken.
static int take_pending(struct connection *connection)
{
  size_t left = connection->pending_size - connection->pending_at;
  connection->pending_at +=
      sound_feed(connection->session, connection->pending + connection->pending_at, left);
  if (connection->pending_at < connection->pending_size) {
    return 0;
  }
  say_ack(connection, connection->pending_size);
  free(connection->pending);
  connection->pending = NULL;
  return 1;
}

// --- messages

static void stop(struct connection *connection)
{
  struct session *session = connection->session;
  if (session->state != SESSION_LIVE) {
    say_error(connection, 409, "the recording was stopped already");
    return;
  }
  struct vc_text text = {0};
  struct vc_gladia_envelope envelope = session_envelope(session);
  if (session->request.wants_acks) {
    vc_gladia_print_stop_ack(&text, &envelope, session_duration_s(session),
                             stream_backlog_s(session->stream));
    live_text(connection, &text);
    vc_text_fini(&text);
  }
  session_stop(session);
}

static void take_text(struct connection *connection, const struct vc_ws_event *event)
{
  struct vc_gladia_client_message message;
  const char *why = "malformed";
  int status = vc_gladia_parse_client((const char *)event->payload, event->size, &message, &why);
  if (status < 0) {
    connection_kill(connection);
  } else if (status > 0 && message.kind == VC_GLADIA_CLIENT_AUDIO) {
    say_audio_error(connection, why);
  } else if (status > 0) {
    say_error(connection, 400, why);
  } else if (message.kind == VC_GLADIA_CLIENT_AUDIO) {
    take_sound(connection, message.audio, message.audio_size);
  } else if (message.kind == VC_GLADIA_CLIENT_STOP) {
    stop(connection);
  } else {
    say_error(connection, 400, "a message of this type is not known here");
  }
  free(message.audio);
}

// The client closes: with 1000 it is done and wants its results kept, else it may come back.
static void take_close(struct connection *connection, int code)
{
  struct session *session = connection->session;
  live_close(connection, vc_ws_close_code_is_valid(code) ? code : 1000, "");
  if (code == 1000 && session->state == SESSION_LIVE) {
    session_stop(session);
  }
}

static void take_event(struct connection *connection, const struct vc_ws_event *event)
{
  switch (event->opcode) {
  case VC_WS_BINARY:
    take_sound(connection, event->payload, event->size);
    break;
  case VC_WS_TEXT:
    take_text(connection, event);
    break;
  case VC_WS_PING:
    write_frame(connection, VC_WS_PONG, event->payload, event->size);
    break;
  case VC_WS_CLOSE:
    take_close(connection, event->close_code);
    break;
  case VC_WS_PONG:
  case VC_WS_CONTINUATION:
    break;
  }
}

static void keep_rest(struct connection *connection, const uint8_t *bytes, size_t size)
{
  if (size == 0) {
    return;
  }
  connection->rest = malloc(size);
  if (connection->rest == NULL) {
    connection_kill(connection);
    return;
  }
  memcpy(connection->rest, bytes, size);
  connection->rest_size = size;
}

void live_bytes(struct connection *connection, const uint8_t *bytes, size_t size)
{
  assert(connection->rest == NULL);
  while (size > 0 && connection->state == CONNECTION_LIVE) {
    struct vc_ws_event event = {0};
    size_t used = 0;
    int status = vc_ws_parse(&connection->parser, bytes, size, &used, &event);
    bytes += used;
    size -= used;
    if (status < 0) {
      room_count(connection->room, PROTOCOL_ERRORS, event.close_code != 1011);
      live_close(connection, event.close_code, "");
    } else if (status > 0) {
      take_event(connection, &event);
    }
    if (live_is_paused(connection)) {
      keep_rest(connection, bytes, size);
      return;
    }
  }
}

void live_resume(struct connection *connection)
{
  if (connection->state != CONNECTION_LIVE || !live_is_paused(connection) ||
      !take_pending(connection)) {
    return;
  }
  uint8_t *rest = connection->rest;
  size_t size = connection->rest_size;
  connection->rest = NULL;
  connection->rest_size = 0;
  live_bytes(connection, rest, size);
  free(rest);
}

// --- the handshake

static void answer_handshake(struct connection *connection)
{
  char accept[VC_WS_ACCEPT_SIZE];
  struct vc_text text = {0};
  int status =
      vc_ws_print_accept(vc_http_find(&connection->request->head, "sec-websocket-key"), accept);
  vc_text_format(&text,
                 "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                 "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
                 accept);
  if (status != 0 || text.has_failed) {
    connection_kill(connection);
  } else {
    connection_write(connection, text.at, text.size);
  }
  vc_text_fini(&text);
}

static void greet(struct session *session)
{
  switch (session->state) {
  case SESSION_WAITING:
    session->state = SESSION_LIVE;
    session_say_lifecycle(session, "start_session", SESSION_DROP);
    session_say_lifecycle(session, "start_recording", SESSION_DROP);
    break;
  case SESSION_LIVE:
    room_count(session->room, SESSIONS_RESUMED, 1);
    break;
  case SESSION_STOPPING:
    break;
  case SESSION_DONE:
    live_close(session->connection, session->has_failed ? 1011 : 1000, "");
    break;
  }
}

void live_attach(struct connection *connection, struct session *session)
{
  if (session->connection != NULL) {
    live_close(session->connection, 1001, "another connection took the session over");
  }
  connection->state = CONNECTION_LIVE;
  vc_ws_parser_init(&connection->parser, VC_WS_SERVER, FRAME_MAX);
  connection->session = session;
  session->connection = connection;
  connection->deadline_ns = room_now_ns(session->room) + 30 * VC_NS_PER_S;
  if (session->state == SESSION_WAITING || session->state == SESSION_LIVE) {
    session->deadline_ns = UINT64_MAX;
  }
  answer_handshake(connection);
  if (session->connection != NULL) {
    session_tell_held(session);
  }
  if (session->connection != NULL) {
    greet(session);
  }
}
