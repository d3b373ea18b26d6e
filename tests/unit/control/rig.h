// A control with both doors open on free ports, stages behind it that answer as the test says, and
// a client that says to it byte for byte what the test says.
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include <verbacast/control.h>
#include <verbacast/store.h>
#include <verbacast/flow/query.h>

#define RIG_QUERIES (VC_QUERY_FLEET_BEGAN + 1)
#define RIG_STAGES 8
#define RIG_ENVIRONMENT_MAX 8
#define RIG_STORED_MAX 50 // finals from the store in one answer
#define RIG_HELD_MAX 8
#define RIG_STORE_REST_MS 3600000

enum rig_door { HTTP_DOOR, ADMIN_DOOR };
// What control is told of them, and `stages` of the rig, in this order.
enum rig_stage { INGEST, DECODE, STT, LEDGER, BROADCAST, JOURNAL, PUBLISHER, WATCHER };

// What a stage says to a query.
struct rig_reply {
  int status;
  const char *text; // NULL: none
  int is_incomplete;
  int is_held; // none before rig_release
  int64_t number;
};

struct rig;
// A stage's place in a rig, which its workers have.
struct rig_place {
  struct rig *rig;
  struct vc_clock clock;       // the system's, set forward
  _Atomic uint64_t forward_ns; // where its workers hang
  /* under the rig's mutex */
  int is_hanging;
  int n_hung; // workers
};

struct rig {
  struct vc_control_options options;
  struct vc_store_options store_options;
  struct rig_livekit {
    const char *api_key;
    struct vc_secret *api_secret;
  } livekit;
  struct vc_option_group groups[3];
  struct vc_option_set set;
  const char *kafka_topic; // the environment's KAFKA_TOPIC
  int has_fleet;           // there is a REDIS_URL
  struct vc_networks proxies;
  struct vc_limits *limits, *publisher_limits;
  struct vc_clock clock; // the system's, set forward
  _Atomic uint64_t forward_ns;
  struct vc_metrics *metrics;
  struct vc_health *health;
  struct vc_stage *stages[RIG_STAGES];
  struct rig_place places[RIG_STAGES];
  struct vc_control *control;
  struct vc_address doors[2];
  // of the last answer
  char *head, *body; // NUL-terminated
  size_t body_size;
  /* guarded by the mutex */
  pthread_mutex_t mutex;
  pthread_cond_t changed;
  struct rig_reply replies[RIG_QUERIES];
  int n_asked[RIG_QUERIES];
  struct vc_query *held[RIG_HELD_MAX];
  int n_held;
  char asked[VC_SLUG_MAX + 1]; // the slug of the last query
  int is_full;                 // no room for a viewer
  const char *stuck;           // a thread that is no stage's worker
  const char *publisher_refusal;
  int is_full_of_sessions; // none for another session
  char asked_participant[VC_PARTICIPANT_MAX + 1];
  int n_webhooks;      // where there are LIVEKIT_API_KEY and its secret; without Authorization: 401
  size_t webhook_size; // of the last one's body
  int is_webhook_of_x; // all of it
  int n_adopted;       // viewers and tracks
  char adopted[VC_SLUG_MAX + 1];
  struct vc_control_track track;       // the last one, its fd is closed
  struct vc_control_newcomer newcomer; // the last one; its slug is `adopted`, its fd is closed
};

// `environment`: "NAME=value" …, ended by NULL. `proxies`: TRUSTED_PROXIES.
struct rig *rig_create(const char *const *environment, const char *proxies);
void rig_destroy(struct rig *rig);
void rig_reply(struct rig *rig, enum vc_query_kind kind, struct rig_reply reply);
void rig_await_held(struct rig *rig, int n);
// All workers of a stage hang, and have been silent for longer than any may; then they go on, and
// have shown themselves alive.
void rig_hang(struct rig *rig, enum rig_stage stage);
void rig_unhang(struct rig *rig, enum rig_stage stage);
// Answers all that is held with a status and nothing else.
void rig_release(struct rig *rig, int status);

// Sends a request and reads the answer. `headers`: further lines, each ended by CRLF, or ""; a Host
// of its own door stands there unless they have one. Returns: the status, 0: the connection ended
// without one.
int rig_ask(struct rig *rig, enum rig_door door, const char *method, const char *target,
            const char *headers);
int rig_post(struct rig *rig, enum rig_door door, const char *target, const char *headers,
             const char *body);
int rig_get(struct rig *rig, enum rig_door door, const char *target);
// A WebSocket's handshake; where it is 101 the newcomer has been adopted when it returns.
int rig_upgrade(struct rig *rig, const char *target, const char *headers);

// A JWT of these grants, good until the next call. `algorithm`: "HS256", "none", ….
const char *rig_token(const char *secret, const char *algorithm, const char *grants);
// The grants of a token for `session` that is good for another `seconds`.
const char *rig_grants(const char *session, long seconds);
