// What the files of the network's side share. All of it belongs to the network's thread.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <verbacast/base/buffer.h>
#include <verbacast/base/metrics.h>
#include <verbacast/flow/listener.h>
#include <verbacast/flow/stage.h>
#include <verbacast/sttd.h>
#include <verbacast/wire/gladia_server.h>
#include <verbacast/wire/http.h>
#include <verbacast/wire/ws.h>

#define HASH_NONFATAL_OOM 1 // an element that was not added has hh.tbl NULL
#include <uthash.h>

#include "engine.h"
#include "pool.h"
#include "rows.h"

#define BODY_MAX 65536
#define FRAME_MAX (1024 * 1024)
#define OUTPUT_MAX (1024 * 1024) // of a connection; beyond: it is given up
#define OUTPUT_PARTIALS 65536    // beyond: partials are left out
#define OUTPUT_PAUSE 262144      // beyond: nothing more is read
#define HELD_MAX (1024 * 1024)   // of a session that has no connection
#define RESULT_MAX (1024 * 1024)
#define KEPT_SESSIONS 64
#define RECENT_FINALS 8
#define ID_SIZE 37
#define TOKEN_SIZE 65

enum connection_state {
  CONNECTION_HEAD,   // a request's head is read
  CONNECTION_BODY,   // and its body
  CONNECTION_LIVE,   // a WebSocket
  CONNECTION_FLUSH,  // what is unsent is sent, then our side is closed
  CONNECTION_LINGER, // the peer's side is read away, so that it gets all that was sent
  CONNECTION_DEAD,   // closed, freed at the end of the turn
};

struct request {
  char bytes[VC_HTTP_HEAD_MAX];
  size_t n_bytes;
  struct vc_http_head head; // points into bytes
  char *body;
  size_t body_size, n_body;
};

struct connection {
  struct vc_watch watch;
  struct room *room;
  struct connection *prev, *next; // in room.connections or room.dead
  enum connection_state state;
  uint32_t events; // what the watch waits for
  int has_ended;   // the peer sends no more
  uint64_t deadline_ns;
  struct request *request; // while HTTP
  uint8_t *out;            // [out_begin, out_end) is unsent
  size_t out_begin, out_end, out_capacity;
  /* WebSocket */
  struct session *session; // NULL once it has ended or found another connection
  struct vc_ws_parser parser;
  uint8_t *pending; // of an audio message, waiting for room in the stream
  size_t pending_size, pending_at;
  uint8_t *rest; // bytes behind it, not parsed yet
  size_t rest_size;
};

enum session_state {
  SESSION_WAITING,  // for its first connection
  SESSION_LIVE,     // with a connection, or waiting for one to resume
  SESSION_STOPPING, // no more sound is taken
  SESSION_DONE,     // its result is kept
};

struct session {
  UT_hash_handle hh;           // in room.sessions, by id
  UT_hash_handle hh_token;     // in room.tokens
  struct session *prev, *next; // in room.kept, oldest first, while SESSION_DONE
  struct room *room;
  char id[ID_SIZE];
  char token[TOKEN_SIZE];
  enum session_state state;
  struct vc_gladia_request request;
  struct stream *stream;         // NULL when done
  struct connection *connection; // NULL: none
  uint64_t deadline_ns;          // without a connection, while stopping, while kept
  int64_t created_ms, completed_ms;
  uint64_t created_ns;
  uint64_t n_bytes;   // of sound received
  int odd;            // a byte that waits for its other half; -1: none
  int16_t history[8]; // of 8 kHz sound, for making it 16 kHz
  int was_shut_down;  // by the server's drain
  int has_failed;
  /* finals for a client that is away, or was when they were sent */
  struct vc_text held; // WebSocket frames
  struct {
    struct vc_buffer *frame;
    uint64_t sent_ns;
  } recent[RECENT_FINALS];
  uint32_t n_recent; // ever sent
  /* the result */
  struct vc_text utterances; // JSON objects with commas between
  struct vc_text full_text;
  uint32_t n_finals;
};

struct room {
  /* set before start, then read-only */
  struct vc_sttd_settings settings;
  struct engine *engine;
  struct pool *pool;
  uint32_t sessions_max, connections_max;
  int listen_fd;
  struct vc_address bound;
  int64_t started_ms; // Unix time
  /* network thread only */
  struct vc_worker *worker;
  struct vc_slots *slots;
  struct vc_listener listener;
  struct vc_watch outcomes;
  struct connection *connections, *dead;
  uint32_t n_connections;
  struct session *sessions; // by id
  struct session *tokens;   // by token
  struct session *kept;
  uint32_t n_active, n_kept; // sessions that are not done, and done
  int is_draining;
  uint8_t scratch[65536];
};

static inline uint64_t room_now_ns(const struct room *room)
{
  return vc_clock_now_ns(room->settings.clock);
}

static inline void room_count(const struct room *room, enum room_metric metric, uint64_t n)
{
  vc_metric_add(room->slots, metric, n);
}

// --- room.c

// Everything but the engine, which is given and taken (closed at the end, also when this fails).
int room_create(struct vc_sttd **sttd, struct engine *engine,
                const struct vc_sttd_settings *settings, struct vc_address *bound,
                struct vc_error *error);
// For tests that turn the clock: the network's thread takes a turn now.
void room_wake(struct vc_sttd *sttd);

// --- connection.c

// Takes the descriptor.
void connection_accept(struct room *room, int fd);
// Appends to what is unsent; sent when the turn ends. Beyond OUTPUT_MAX the connection is given up.
void connection_write(struct connection *connection, const void *bytes, size_t size);
size_t connection_unsent(const struct connection *connection);
// What is unsent is sent, then the connection ends.
void connection_finish(struct connection *connection);
// Ends it at once; its session is told.
void connection_kill(struct connection *connection);
// Sends what can be sent and waits for what has to be waited for; for all connections, a turn's
// end.
void connections_turned(struct room *room);
void connections_tick(struct room *room);
void connections_destroy(struct room *room);

// --- http.c

// A request is whole: answers it, or makes the connection live.
void http_serve(struct connection *connection);
// Answers with `{"statusCode":…,"message":…}` and ends the connection.
void http_refuse(struct connection *connection, int status, const char *why);

// --- metrics.c

// The figures as the node's /metrics has them.
void metrics_print_json(struct room *room, struct vc_text *text);
// [{"what", "since", "reason"}], as the node's.
void metrics_print_degraded(const struct room *room, struct vc_text *text);

// --- live.c: WebSocket messages

// The connection has asked for this session: answers the handshake, tells what is held.
void live_attach(struct connection *connection, struct session *session);
// Bytes of frames. While a message waits for room the rest waits too.
void live_bytes(struct connection *connection, const uint8_t *bytes, size_t size);
// There is room in the session's stream again.
void live_resume(struct connection *connection);
int live_is_paused(const struct connection *connection);
void live_text(struct connection *connection, const struct vc_text *text);
void live_close(struct connection *connection, int code, const char *reason);

// --- session.c

struct session *session_create(struct room *room, struct vc_gladia_request *request);
struct session *session_find(struct room *room, const char *id);
struct session *session_find_token(struct room *room, const char *token);
// Forgets it with all that it is; its connection is closed.
void session_destroy(struct session *session);
struct vc_gladia_envelope session_envelope(const struct session *session);
double session_duration_s(const struct session *session);

enum session_urgency {
  SESSION_KEEP, // held for a client that is away
  SESSION_DROP, // of the moment
};
// Sends a printed message, if the client asked for its kind (that is the caller's to know).
void session_say(struct session *session, const struct vc_text *text, enum session_urgency urgency);
void session_say_lifecycle(struct session *session, const char *type, enum session_urgency urgency);
// What was held goes to the connection, and is held again should that break soon. It may be gone
// then.
void session_tell_held(struct session *session);
// The connection has gone; the session waits for another.
void session_detached(struct session *session);
// No more sound: what is open is decoded, then the session ends.
void session_stop(struct session *session);
// Takes what the stream has to tell.
void session_outcomes(struct session *session);
void session_print_result(const struct session *session, struct vc_text *text);
void sessions_tick(struct room *room);
void sessions_drain(struct room *room);
void sessions_destroy(struct room *room);

// --- sound.c

// Little-endian 16-bit samples of 8 or 16 kHz into the stream, as many bytes as there is room for.
// Returns: bytes taken.
size_t sound_feed(struct session *session, const uint8_t *bytes, size_t size);
