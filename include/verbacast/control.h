// control: what people and machines ask the node over HTTP, and who may ask it. Two doors: the
// viewers' (HTTP_LISTEN, WebSockets too) and the operators' (ADMIN_LISTEN), which answers at once
// whatever happens at the other.
//
// Thread: a front's threads, whose stacks are small; whatever parses or prints JSON runs on a
// thread of its own with 1 MiB of stack, made for the request. Stages are asked by queries with a
// bounded wait: 503 when it was not enough.
#pragma once

#include <stdatomic.h>

#include <verbacast/base/limits.h>
#include <verbacast/base/metrics.h>
#include <verbacast/base/options.h>
#include <verbacast/flow/health.h>
#include <verbacast/flow/stage.h>
#include <verbacast/flow/viewer.h>

struct vc_control_options {
  const char *http_listen;
  const char *admin_listen;
  const char *allowed_origins;
  struct vc_secret *viewer_secret;
  struct vc_secret *publish_secret;
  struct vc_secret *admin_token;
  int64_t token_leeway_ms;
  int insecure;
  int metrics_per_session;
  const char *node_id; // "": host name and a random number
  const char *pages_dir;
};
extern const struct vc_option vc_control_option_rows[];
extern const struct vc_metric vc_control_metrics[];

// LiveKit's, whose tokens to join a room let viewers to its session.
struct vc_control_livekit {
  const char *api_key; // LIVEKIT_API_KEY: one, or "new,old"; NULL or "": LiveKit is not used
  const struct vc_secret *api_secret;
};

struct vc_control_newcomer {
  int fd;
  const char *slug;
  struct vc_position since;
  struct vc_address address;
  int is_exempt;
  int64_t begins_ms;  // its token, Unix time
  int64_t expires_ms; // the same; 0: it has none
};

// A WebSocket that publishes.
struct vc_control_track {
  int fd;
  char slug[VC_SLUG_MAX + 1];
  char participant[VC_PARTICIPANT_MAX + 1];
  uint32_t rate_hz, n_channels;
  struct vc_address address;
  int is_exempt;
  uint64_t identity;        // tells one that publishes from another
  int64_t session_began_ms; // Unix time; 0: not known
};

struct vc_control_settings {
  const struct vc_control_options *options; // lives as long as the control
  struct vc_control_livekit livekit;
  const char *database_url; // of the store; "": none
  const char *kafka_topic;  // that finals are sent to; NULL or "": no Kafka
  const char *node;         // the resolved NODE_ID
  const char *version;
  const struct vc_networks *proxies;
  struct vc_limits *limits;           // of viewers by address
  struct vc_limits *publisher_limits; // of publishers
  struct vc_stage *ingest, *decode, *stt, *ledger, *broadcast, *journal;
  struct vc_stage *publisher, *watcher; // of the redis room; NULL: there are no other nodes
  const struct vc_clock *clock;
  struct vc_metrics *metrics;
  struct vc_health *health;
  long stored_max;         // finals from the store in one answer, 0: 200000
  uint32_t making_wait_ms; // of who asks for a transcript while others are made, 0: 2000
  uint32_t store_rest_ms;  // of a store that was waited for in vain, 0: 5000
  // Thread: a front's. Returns: a thread that is no stage's worker and has been silent for longer
  // than silent_ms, NULL: none.
  const char *(*stuck)(void *context, uint32_t silent_ms);
  // Thread: a front's. Returns: why a publisher whose session is new would be refused now, whoever
  // it is (a constant), NULL: it would not.
  const char *(*publisher_refusal)(void *context);
  // Thread: a front's. A WebSocket that may watch `slug`.
  int (*has_room)(void *context);
  int (*has_room_for_session)(void *context); // for one that the ledger does not hold
  void (*adopt)(void *context, const struct vc_control_newcomer *newcomer);
  void (*adopt_track)(void *context, const struct vc_control_track *track);
  // Thread: one with a stack of 1 MiB. LiveKit's; the header, or NULL; the body, or NULL: may it
  // come? Returns: an HTTP status, and `why` where it is not 200. NULL: LiveKit is not configured,
  // 404.
  int (*take_webhook)(void *context, const char *authorization, const char *body, size_t size,
                      const char **why);
  void *context;
};

struct vc_control;

// Opens both doors. Everything behind them must run.
int vc_control_start(struct vc_control **control, struct vc_address *http, struct vc_address *admin,
                     const struct vc_control_settings *settings, struct vc_error *error);
// /readyz answers 404 from now on, new viewers are refused when `refuses_viewers`.
void vc_control_drain(struct vc_control *control, int refuses_viewers);
// Closes the viewers' door, then the operators'. Up to 4 s.
void vc_control_stop(struct vc_control **control);

// What /sessions shows, for other nodes. Thread: any that may wait for 4 s and has 1 MiB of stack.
// Returns: a JSON array, or NULL: the stages did not answer in time.
struct vc_buffer *vc_control_sessions(struct vc_control *control);

struct vc_control_beside { // of other rooms' options
  const char *rtmp_listen;
  const char *trusted_proxies;
  struct vc_control_livekit livekit;
};
// Protected mode: a listener off loopback needs its secret (the viewers': or LiveKit's), or
// --insecure. Returns: 0, or -1 and which secret is missing.
int vc_control_check(const struct vc_control_options *options,
                     const struct vc_control_beside *beside, struct vc_error *error);

struct vc_publisher_times { // Unix time
  int64_t now_ms;
  int64_t session_began_ms; // 0: it begins with this publisher
};
struct vc_publisher_answer {
  int status;      // 0 it may publish, else HTTP's; 503: there is no memory to say
  const char *why; // a constant
  int is_expired;  // it may not, and would if its session had begun while the token was valid
};
// A publisher's token, from its query. Thread: any with 1 MiB of stack.
struct vc_publisher_answer vc_control_authorize_publisher(const struct vc_control_options *options,
                                                          const char *slug, const char *query,
                                                          struct vc_publisher_times times);
