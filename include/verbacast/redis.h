// The redis room: everything of hiredis. Sessions of other nodes come in to the ledger, what is
// said here goes out, and what a fleet must agree on is agreed on. docs/fleet.md is the design;
// flow/remote.h is what travels between this room and the ledger.
//
// Threads: "vc-redis-pu-0", "vc-redis-wa-0" (stages of one worker each, which never block)
// and "vc-redis-conn", which makes their connections and gathers the node's sessions for others.
// Redis away: nothing of the node waits for it; the condition "redis" is set, counted and logged.
#pragma once

#include <stdint.h>

#include <verbacast/base/buffer.h>
#include <verbacast/base/clock.h>
#include <verbacast/base/error.h>
#include <verbacast/base/metrics.h>
#include <verbacast/base/options.h>
#include <verbacast/flow/health.h>
#include <verbacast/flow/stage.h>

struct vc_redis;

struct vc_redis_options {
  // redis://[[user]:password@]host[:port][/db], unix:/path, @file (read anew for each connection);
  // "" none
  const char *redis_url;
  const char *redis_prefix; // at most 64 bytes; of all keys and channels
};
extern const struct vc_option vc_redis_option_rows[];
extern const struct vc_metric vc_redis_metrics[];

struct vc_redis_settings {
  const struct vc_redis_options *options;
  const char *node;
  int64_t history_finals;  // about so many entries a stream
  int64_t session_keep_ms; // how long a stream stays after its owner last renewed it, 10 s at least
  const struct vc_clock *clock;
  struct vc_metrics *metrics;
  struct vc_health *health;
  // Thread: the watching worker's; must not block. Somebody wants the session to be over, which is
  // published here.
  void (*end_session)(void *context, const char *slug);
  // Thread: "vc-redis-conn"; may take a second. The node's sessions, a JSON array; NULL: not
  // now.
  struct vc_buffer *(*sessions)(void *context);
  void *context;
};

// Refuses what cannot be: a URL that is none (rediss:// names its reason: this hiredis has no TLS).
int vc_redis_check(const struct vc_redis_options *options, struct vc_error *error);
// Redis need not be there.
int vc_redis_create(struct vc_redis **redis, const struct vc_redis_settings *settings,
                    struct vc_error *error);
// The ledger's putters go into these.
struct vc_stage *vc_redis_publisher(struct vc_redis *redis);
struct vc_stage *vc_redis_watcher(struct vc_redis *redis);
// Before the start: where what comes in goes.
int vc_redis_set_ledger(struct vc_redis *redis, struct vc_stage *ledger, struct vc_error *error);
int vc_redis_start(struct vc_redis *redis, struct vc_error *error);
// All putters have stopped. What was put is written and answered, within timeout_ms for each
// worker; owner keys that are left are let go. A name that is being resolved is waited for.
// Returns: 0, or 1: the time was over.
int vc_redis_stop(struct vc_redis *redis, uint32_t timeout_ms);
void vc_redis_destroy(struct vc_redis **redis);
