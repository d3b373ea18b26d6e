// A room on a redis-server: the test is its ledger and, instead of the room's own watching worker,
// what gets claims back. Every wait is for a condition and bounded by SERVER_PATIENCE_MS.
#pragma once

#include "room.h"
#include "server.h"

#define RIG_KEEP_MS 60000

struct rig_box {
  pthread_mutex_t mutex;
  struct vc_item *items; // the oldest first
};

struct rig {
  struct server *server;
  struct vc_redis_options options;
  struct vc_metrics *metrics;
  struct vc_health *health;
  struct vc_redis *redis;
  struct vc_stage *ledger;
  struct vc_putter *to_publisher;
  struct rig_box remotes; // what came to the ledger
  struct rig_box owned;   // and to the watching worker
  char sessions[64];      // what the node says of itself, "" nothing
  size_t sessions_size;   // instead: an empty list of so many bytes
  int keeps_nothing;      // SESSION_KEEP_MS is 0
};

struct vc_redis_settings rig_settings(struct rig *rig, const char *node);
// A node called `node`; it connects to `url` by itself.
void rig_start(struct rig *rig, struct server *server, const char *node, const char *url);
// Forgets what the rig was, starts it, with what the node says of itself, and waits until it is
// connected.
void rig_begin(struct rig *rig, struct server *server, const char *node, const char *sessions);
void rig_stop(struct rig *rig);

uint64_t rig_metric(struct rig *rig, const char *name);
int64_t rig_gauge(struct rig *rig, const char *name);
// Waits until a counter is at least that.
void rig_wait_metric(struct rig *rig, const char *name, uint64_t value);
void rig_wait_gauge(struct rig *rig, const char *name, int64_t value);
// Waits until "redis" is degraded for a reason that has `text` in it; "" until it is not.
void rig_wait_health(struct rig *rig, const char *text);
// Waits for the next thing that comes to the ledger, which must be of that kind. Gives it.
struct vc_remote *rig_remote(struct rig *rig, enum vc_remote_kind kind);
void rig_expect_ask(struct rig *rig, const char *slug, int64_t epoch, uint64_t seq);
// What has come already, NULL: nothing.
struct vc_remote *rig_take_remote(struct rig *rig);
struct vc_item *rig_take_owned(struct rig *rig);
void rig_expect_no_remote(struct rig *rig);
// The epoch that a claim brings, 0 none.
int64_t rig_claim(struct rig *rig, const char *slug, int64_t floor);
struct redis_claim *rig_claim_begin(struct rig *rig, const char *slug, int64_t floor);
void rig_claim_await(struct rig *rig, const struct redis_claim *claim);
struct redis_claim *rig_claim_whole(struct rig *rig, const char *slug, int64_t floor);
void rig_expect_released(struct rig *rig, const char *slug);

// A message of slug, with a frame that tells its number.
struct rig_said {
  enum vc_message_kind kind;
  uint64_t seq, prev;
};
struct vc_fleet *rig_message(const char *slug, int64_t epoch, struct rig_said said);
void rig_put(struct rig *rig, struct vc_fleet *fleet);
void rig_say(struct rig *rig, const char *slug, int64_t epoch, struct rig_said said);
// A piece of history behind a position.
void rig_give(struct rig *rig, const char *slug, struct vc_position after, int is_last,
              int64_t epoch, const struct rig_said *said, size_t n);
void rig_release(struct rig *rig, const char *slug, int64_t epoch, uint64_t seq);
void rig_orphan(struct rig *rig, const char *slug, int64_t epoch, struct rig_said said);
// The same where the stream ends with something else than what the message says.
void rig_orphan_behind(struct rig *rig, const char *slug, struct vc_position last,
                       struct rig_said said);
// What a query is answered with, and its reply.
int rig_query(struct rig *rig, enum vc_query_kind kind, const char *slug, int64_t *number,
              struct vc_buffer **reply);

// The ids of a stream, "5-0 5-2 5-3"; a static text.
const char *rig_stream(struct server *server, const char *slug);
// Waits until the slug is that node's, from that epoch on.
void rig_wait_owner(struct server *server, const char *slug, const char *node, int64_t epoch);
// Waits until the node shows its sessions.
void rig_wait_shown(struct server *server, const char *node);
void rig_wait_no_owner(struct server *server, const char *slug);
void rig_wait_stream(struct server *server, const char *slug, const char *ids);
