// What the files of the room share.
#pragma once

#include <stdatomic.h>

#include <rtmp.h>
#define HASH_NONFATAL_OOM 1 // an element that was not added has hh.tbl NULL
#include <uthash.h>
#include <utlist.h>

#include <verbacast/base/limits.h>
#include <verbacast/flow/listener.h>
#include <verbacast/flow/packet.h>
#include <verbacast/flow/waiting.h>
#include <verbacast/ingest.h>
#include <verbacast/wire/jwt.h>
#include <verbacast/wire/ws.h>

#define SET_UP_TIMEOUT_MS 10000 // from accept to publish
#define CLOSE_MS 2000           // for a peer to take what is unsent, and to hang up
#define DISCARDED_MAX (4 * 1024 * 1024)
#define MESSAGE_MAX (1024 * 1024)
#define UNFINISHED_MAX (2 * 1024 * 1024)
#define UNSENT_MAX (64 * 1024)
#define ACKNOWLEDGE_BYTES 5000 // LiveKit's egress gives up when nothing was acknowledged
#define ACKNOWLEDGE_PAUSE_MS 2000
#define FLAP_MS 10000
#define OVER_MS 3000  // for the last sound of a room that is over: an egress holds as much
#define ASK_MS 1000   // for what other nodes know of a session
#define ASKED_MAX 256 // questions of a worker within ASK_MS
#define TRACK_MESSAGE_MAX (256 * 1024)
#define TRACK_TEXT_MAX 4096
#define TRACK_CONTROL_MAX 512
#define TRACK_AHEAD_MAX_S 10  // of sound that came too early; then it is not read for a while
#define TRACK_PACE 4          // times faster than it is spoken, that sound may come for long
#define TRACK_TAKEN_OVER 4002 // close codes, besides those of RFC 6455
#define TRACK_KICKED 4003
#define TRACK_SILENT 4009
#define FRAME_MAX 65536                   // bytes of one audio frame; a real one has some hundreds
#define NAME_MAX_BYTES (VC_JWT_MAX + 512) // of app and stream name, with their queries

enum metric {
  CONNECTIONS_TOTAL,
  CONNECTIONS,
  PUBLISHERS,
  SESSIONS_TOTAL,
  BYTES,
  PACKETS,
  DROPPED,
  TAKEOVERS,
  FLAPS,
  REFUSED_ADDRESS,
  REFUSED_FULL,
  REFUSED_APP,
  REFUSED_NAME,
  REFUSED_TOKEN,
  REFUSED_GATE,
  REFUSED_PROTOCOL,
  TIMEOUTS,
  LOST,
  ACCEPT_RESTS,
  TRACKS,
  HELD_BACK,
  ASKED,
  UNASKED,
  UNANSWERED,
};

// Whether the session of a publisher is on elsewhere, from when it is asked on for ASK_MS.
struct question {
  struct vc_query *query;        // NULL: answered, or given up
  struct connection *connection; // that waits, NULL: it has gone
  uint64_t asked_ns;
};

struct room {
  /* set before start, then read-only */
  struct vc_ingest_settings settings;
  struct vc_networks proxies;
  int listen_fd;
  struct vc_stage *stage;
  struct vc_limits *limits;
  int owns_limits;
  /* any thread, atomic */
  _Atomic uint64_t next_session_id;
  _Atomic int64_t n_publishers; // sessions with a publisher or waiting for one
};

struct worker_state {
  struct room *room;
  struct vc_listener listener;
  struct vc_putter *decode;
  struct vc_putter *self; // to the other ingest workers, by slug
  uint32_t n_decode, n_ingest;
  struct connection *connections; // all of this worker
  struct track *tracks;           // likewise
  struct session *sessions;       // by key
  size_t n_with_waiting;          // sessions
  int is_draining;
  struct question questions[ASKED_MAX];
  uint8_t *scratch; // what one read brings, SCRATCH_SIZE
  uint8_t *pcm;     // what is gathered of one read of a track, FRAME_MAX
};
#define SCRATCH_SIZE 65536

enum connection_stage {
  PROXY_HEADER, // waits for what a balancer says of its client
  HANDSHAKE_C1,
  HANDSHAKE_C2,
  COMMANDS, // connect, createStream, publish
  ASKING,   // other nodes are asked for its session; it is not read meanwhile
  PUBLISHING,
  CLOSING,   // what is unsent goes out, then our side is shut
  LINGERING, // the peer's side is read away, then close
};

struct connection {
  struct vc_watch watch;
  enum connection_stage stage;
  struct vc_address address; // the client's, behind a proxy too
  int is_counted, is_exempt;
  uint64_t accepted_ns;
  uint64_t heard_ns;                   // last bytes
  uint64_t read_ns;                    // the read that is being parsed
  uint64_t n_received, n_acknowledged; // bytes since the handshake
  uint64_t acknowledge_ns;             // not before
  struct rtmp_bytes rest;              // read but not parsed: part of a handshake or a chunk header
  struct rtmp_bytes unsent;
  int is_full;         // the socket took no more: it is watched for room
  uint64_t closing_ns; // when CLOSING began
  size_t n_discarded;  // bytes that came while LINGERING
  struct rtmp_reader reader;
  int is_connected; // `connect` was accepted, our chunk size told
  int is_moving;    // `publish` came: the slug's worker goes on
  double publish_transaction;
  uint32_t stream_id; // of the publish command
  uint64_t identity;  // hash of host, flashVer, tcUrl and query: who comes back
  char *slug, *query; // owned, from publish on
  struct session *session;
  struct connection *prev, *next; // in worker_state.connections
};

struct track {
  struct vc_watch watch;
  struct vc_track_newcomer is; // as it came; the descriptor is the watch's
  struct session *session;     // NULL: it is closing
  int is_muted;
  int has_said_so;   // since sound came last, zeros too
  int is_held_back;  // too much of it came: it is not read
  uint64_t ahead_ns; // by how much, as of paced_ns
  uint64_t paced_ns;
  int has_closed;    // both sides said so, or cannot: the peer's end is waited for
  uint64_t heard_ns; // last bytes
  uint64_t ping_ns;  // when it is pinged next
  uint64_t read_ns;  // the read that is being parsed
  uint64_t closing_ns;
  size_t n_discarded; // bytes that came since
  struct vc_ws_parser parser;
  uint8_t odd[2 * VC_TRACK_CHANNELS_MAX]; // of a sample that has not come whole
  size_t n_odd;
  uint8_t control[TRACK_CONTROL_MAX]; // frames to be sent
  size_t n_control;
  struct track *prev, *next; // in worker_state.tracks
};

#define KEY_SIZE (VC_SLUG_MAX + 1 + VC_PARTICIPANT_MAX + 1) // "slug/participant"

// A publishing: of nobody by RTMP, of a participant by a track.
struct session {
  char key[KEY_SIZE];
  struct vc_session *session;
  struct connection *publisher; // NULL: it vanished, the session waits; or a track is meant
  struct track *track;          // likewise
  char address[VC_ADDRESS_TEXT_MAX];
  uint64_t since_ns;          // when this publisher came
  uint64_t lost_ns;           // when the last one vanished
  uint64_t identity;          // of the publisher
  uint64_t replaced_identity; // of the publisher that was replaced last
  uint64_t replaced_ns;       // 0: never
  int64_t began_ms;           // Unix time: when it began, be it on another node
  uint64_t over_ns;           // when its room was said to be over, 0: it goes on
  enum vc_codec codec;        // of the last frame
  int is_closed;              // only waits for its packets to go
  int has_dropped;            // the next sound follows a hole
  struct vc_packet *closing;  // CLOSE, made with the session: its end needs no memory
  struct vc_waiting waiting;  // packets that the decode lane did not take
  UT_hash_handle hh;          // in worker_state.sessions
};

// --- room.c
// The room of this session, which has a publisher, has been over for OVER_MS.
void ingest_room_end_over(struct vc_worker *worker, struct session *session);

// --- connection.c
// Takes the descriptor.
void connection_accept(struct vc_worker *worker, int fd, const struct sockaddr *from);
void connection_close(struct vc_worker *worker, struct connection *connection);
// Sends what is unsent, waits for the peer to hang up, then closes; within CLOSE_MS and
// DISCARDED_MAX. A session that it still has loses its publisher.
void connection_finish(struct vc_worker *worker, struct connection *connection);
// Writes what it can. The connection may be gone afterwards only through connection_close by its
// caller. Returns: 0, or -1 the peer is gone or does not read.
int connection_send(struct vc_worker *worker, struct connection *connection);
// It is not read before connection_read_on. Returns: 0, or -1.
int connection_hold(struct vc_worker *worker, struct connection *connection);
// It publishes: with what it said meanwhile it goes on.
void connection_read_on(struct vc_worker *worker, struct connection *connection);
// What came on the lane between workers. Takes it.
void connection_take_move(struct vc_worker *worker, struct vc_item *item);
void connection_destroy(struct room *room, struct connection *connection);
// Returns: 1 when its time is over (logged and counted).
int connection_is_late(struct vc_worker *worker, struct connection *connection);

// --- command.c
// Returns: 0 go on, 1 close when all is sent, -1 close now.
int command_handle(struct vc_worker *worker, struct connection *connection,
                   const struct rtmp_message *message);
void command_say_status(struct connection *connection, const char *level, const char *code,
                        const char *description);

// Says so, counts and logs it. Returns: 1.
int command_refuse(struct vc_worker *worker, struct connection *connection, enum metric metric,
                   const char *code, const char *why);

// --- session.c
struct refusal {
  enum metric metric;
  const char *why; // a constant
};
struct session *ingest_session_find(const struct worker_state *state, const char *slug,
                                    const char *participant);
// Thread: any. Returns: why a session that is new would be refused now, NULL: it would not.
const char *ingest_session_refusal(const struct room *room);
// Unix time in ms at which this publishing began, or its session on another node, as far as that is
// known here. 0: nobody publishes the slug here, or is waited for; -1: others do.
int64_t ingest_session_began(const struct worker_state *state, const char *slug,
                             const char *participant);
// Returns: 0, or 1 where the participant could not publish now.
int ingest_session_check(struct vc_worker *worker, const char *slug, const char *participant,
                         struct refusal *refusal);
// The track publishes from now on. Returns: 0, or 1 it was refused.
int ingest_session_join(struct vc_worker *worker, struct track *track, struct refusal *refusal);
// So many bytes of PCM, whole samples, at most FRAME_MAX.
void ingest_session_pcm(struct vc_worker *worker, struct track *track, const uint8_t *bytes,
                        size_t size);
// Before the first of it: when that was spoken.
void ingest_session_begin_sound(struct session *session, uint64_t first_ns);
// No sound is to be waited for.
void ingest_session_mute(struct vc_worker *worker, struct session *session);
// The connection wants to publish its slug here. Returns: 0 it does, or is ASKING; 1 it was refused
// (said).
int ingest_session_publish(struct vc_worker *worker, struct connection *connection);
// The same, when other nodes were asked: Unix time in ms at which its session began, 0: it is not
// on. It is ASKING no more.
int ingest_session_come_back(struct vc_worker *worker, struct connection *connection,
                             int64_t began_ms);
void ingest_session_media(struct vc_worker *worker, struct connection *connection,
                          const struct rtmp_message *message);
// The publisher is gone: without a word (the session waits) or properly (it ends).
void ingest_session_lose(struct vc_worker *worker, struct session *session);
void ingest_session_end(struct vc_worker *worker, struct session *session,
                        enum vc_close_reason reason);
void ingest_session_tick(struct vc_worker *worker);
void ingest_session_destroy_all(struct vc_worker *worker);

// --- comeback.c: publishers whose token has expired, and whose session may be on elsewhere
// Returns: 0 the connection is ASKING, 1 it cannot be asked now (counted) and why, a constant.
int comeback_ask(struct vc_worker *worker, struct connection *connection, const char **why);
// An answer. Takes the query.
void comeback_take(struct vc_worker *worker, struct vc_query *query);
// The connection goes, or moves on.
void comeback_forget(struct vc_worker *worker, const struct connection *connection);
// At every tick: refuses those that nobody answered for in time.
void comeback_tick(struct vc_worker *worker);
void comeback_fini(struct worker_state *state);

// --- track.c: the connection of a track
// What the front door gave. Takes it.
void track_take(struct vc_worker *worker, struct vc_item *item);
// Says goodbye and waits for the peer's, within CLOSE_MS and DISCARDED_MAX. Its session is gone, or
// loses it.
void track_finish(struct vc_worker *worker, struct track *track, int code, const char *reason);
void track_close(struct vc_worker *worker, struct track *track);
// At every tick: pings it, and closes it when its time is over.
void track_tick(struct vc_worker *worker, struct track *track);

// An owned item of the room says who takes it.
struct room_item {
  struct vc_owned_item owned;
  void (*take)(struct vc_worker *worker, struct vc_item *item);
};

// --- room.c
void refuse_log(const struct vc_address *from, const char *why, const char *what);
