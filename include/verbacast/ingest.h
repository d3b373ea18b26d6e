// ingest: publishers in, packets out: RTMP, and raw PCM of single participants by WebSocket
// (tracks).
//
// Takes TCP connections on RTMP_LISTEN; gives packets (flow/packet.h) to the decode stage, worker
// by the session's hash. A connection lands on any worker; at `publish` it moves to the worker of
// its slug, so that a take-over has one owner.
//
// A track's handshake is the front door's; then its socket is adopted by the worker of its slug, so
// that all streams of a slug are on one. Its participant is its name within the slug: another one
// of the same participant takes over. A close from the peer ends it, a connection that breaks is
// waited for. It is pinged, and whatever comes, a pong too, shows that it is there.
//
// Bounds: MAX_PUBLISHERS sessions, each track one, four times as many connections,
// MAX_CONNECTIONS_PER_ADDRESS (not for loopback and TRUSTED_PROXIES); 10 s from accept to publish;
// INGEST_IDLE_TIMEOUT_MS of silence; 1 MiB a message (video is counted off and never kept), 2 MiB
// unfinished and 64 KiB unsent bytes a connection. What breaks a bound is refused or closed, logged
// once and counted; an audio frame of more than 64 KiB is dropped and counted. Of tracks
// VC_PARTICIPANTS_MAX of a slug, 256 KiB a message, 4 KiB where it is text, 512 unsent bytes; sound
// that comes for long faster than four times as it is spoken is read no faster than that. Who is
// refused is told so before the close, which waits for it to hang up: at most 2 s and 4 MiB. Of
// publishers whose token has expired 256 a second and worker are asked for elsewhere, for 1 s each,
// and not read meanwhile.
//
// Full: while the decode lane is full packets wait in a list of the session; beyond
// VC_INGEST_WAIT_MAX the oldest sound is dropped and counted, and the next packet says so; of
// configs the last is kept. Turns (open, close, …) are never dropped: when nothing else is left to
// drop, a publisher that comes back is refused.
#pragma once

#include <verbacast/base/address.h>
#include <verbacast/base/clock.h>
#include <verbacast/base/error.h>
#include <verbacast/base/limits.h>
#include <verbacast/base/metrics.h>
#include <verbacast/base/options.h>
#include <verbacast/flow/query.h>
#include <verbacast/flow/session.h>
#include <verbacast/flow/stage.h>

#define VC_INGEST_WAIT_MAX 512 // packets: about 10 s of AAC

struct vc_ingest_options {
  const char *rtmp_listen;
  int64_t session_resume_ms;
  int64_t ingest_idle_timeout_ms;
  int64_t max_publishers;
  int64_t max_connections_per_address;
  const char *trusted_proxies;
  int64_t ingest_threads; // 0: by cores
};
extern const struct vc_option vc_ingest_option_rows[];
extern const struct vc_metric vc_ingest_metrics[];

struct vc_ingest_claim {
  const char *slug;
  const char *query;        // "token=…", "" none
  int64_t session_began_ms; // Unix time; 0: the session would begin with this publisher
};

enum vc_ingest_verdict {
  VC_INGEST_MAY,
  VC_INGEST_MAY_NOT,
  VC_INGEST_EXPIRED, // the same, but would if its session had begun earlier, on another node
};

struct vc_ingest_settings {
  const struct vc_ingest_options *options; // lives as long as the stage
  struct vc_stage *decode;                 // where packets go
  uint32_t n_workers;
  int64_t max_sessions; // bounds publishers as MAX_PUBLISHERS does; 0: it does not
  const struct vc_clock *clock;
  struct vc_metrics *metrics; // may be NULL
  struct vc_limits *limits;   // publishers by address, lives as long as the stage; NULL: its own
  // Thread: any (vc_ingest_refusal calls it, too). Returns: why new sessions are refused now (a
  // constant), NULL: they are not. May be NULL.
  const char *(*refusal)(void *context);
  // Thread: ingest workers. Asks whether a publisher may publish; if not, `why` is a constant. May
  // be NULL: everybody may.
  enum vc_ingest_verdict (*authorize)(void *context, const struct vc_ingest_claim *claim,
                                      const char **why);
  // Thread: ingest workers; must not block. Borrows a VC_QUERY_FLEET_BEGAN, which comes back,
  // answered, on a lane into the slug's worker, or does not. Returns: 0 asked, 1 it does not. May
  // be NULL: there is no other node.
  int (*ask_began)(void *context, struct vc_query *query);
  void *context;
};

// Binds RTMP_LISTEN; publishers are taken from the stage's start on.
int vc_ingest_create(struct vc_stage **stage, struct vc_address *bound,
                     const struct vc_ingest_settings *settings, struct vc_error *error);
// Thread: any. Returns: why a session that is new would be refused now, whoever publishes it (a
// constant), NULL: it would not.
const char *vc_ingest_refusal(const struct vc_stage *ingest);
// For --check-config and vc_ingest_create. Returns: 0, or -1 and the error.
int vc_ingest_check(const struct vc_ingest_options *options, struct vc_error *error);

struct vc_track_newcomer {
  int fd; // non-blocking, its handshake done
  char slug[VC_SLUG_MAX + 1];
  char participant[VC_PARTICIPANT_MAX + 1]; // valid
  uint32_t rate_hz, n_channels;             // of the PCM, within the bounds above
  struct vc_address address;
  int is_exempt;     // of the limit by address
  uint64_t identity; // tells one that publishes from another
  int64_t began_ms;  // of its session, Unix time, where it was asked for elsewhere; 0: it was not
};

// The way in for tracks, of one ingest stage.
struct vc_ingest_door;
// Between the creation of the stage and its end. Returns: 0, or -1 and the error.
int vc_ingest_door_create(struct vc_ingest_door **door, struct vc_stage *ingest,
                          struct vc_limits *limits, struct vc_error *error);
void vc_ingest_door_destroy(struct vc_ingest_door **door);
// Thread: any. Takes the descriptor of one that may publish (VC_QUERY_MAY_PUBLISH said so a moment
// ago): where there is no room any more it is closed with 1013.
void vc_ingest_adopt(struct vc_ingest_door *door, const struct vc_track_newcomer *newcomer);
// Returns: how many connections `limits` is to be made for.
size_t vc_ingest_connections_max(const struct vc_ingest_options *options);
