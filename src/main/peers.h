// The other nodes' part of the node: the redis room, where REDIS_URL is set, and what it asks of
// this one.
#pragma once

#include <verbacast/control.h>
#include <verbacast/flow/query.h>
#include <verbacast/ledger.h>
#include <verbacast/redis.h>

struct peers_settings {
  const struct vc_redis_options *options;
  const struct vc_ledger_options *ledger;
  const char *node;
  struct vc_metrics *metrics;
  struct vc_health *health;
};

struct peers {
  /* set before start, then read-only */
  struct vc_redis *redis; // NULL: there are no other nodes
  struct vc_stage *ingest;
  struct vc_shared_putter *putter; // of the ingest
  struct vc_shared_putter *publisher;
  struct vc_control *control;
};

int peers_has_redis(const struct vc_redis_options *options);
// Makes the room, or nothing but its metrics' names.
int peers_init(struct peers *peers, const struct peers_settings *settings, struct vc_error *error);
struct vc_stage *peers_publisher(const struct peers *peers); // NULL: there are no other nodes
struct vc_stage *peers_watcher(const struct peers *peers);
// Both are there; before anything else is asked of the peers.
int peers_open(struct peers *peers, struct vc_stage *ledger, struct vc_stage *ingest,
               struct vc_error *error);
// Everything that other nodes may ask for runs.
int peers_start(struct peers *peers, struct vc_control *control, struct vc_error *error);
// Thread: any. Another node publishes the slug now: it is closed here. Returns: 0, or 1: not now,
// ask again.
int peers_take_over(const struct peers *peers, const char *slug);
// Thread: any. Borrows a VC_QUERY_FLEET_BEGAN, which comes back, answered, to the ingest worker of
// its slug; not where there is no room. Returns: 0 asked, 1 not: it does not come. There are peers.
int peers_ask_began(const struct peers *peers, struct vc_query *query);
// Thread: any that may wait for 2 s. Whoever publishes it ends it, on whichever node.
void peers_end_session(const struct peers *peers, const char *slug);
// Thread: the same. Of all nodes one gets the key, for ttl_ms. Returns: 0 it is ours, 1 another's,
// -1 there is nobody to ask.
int peers_claim(const struct peers *peers, const char *key, int64_t ttl_ms);
// All that puts to it has stopped. Returns: 0, or 1: not all was said in time.
int peers_stop(struct peers *peers, uint32_t timeout_ms);
void peers_fini(struct peers *peers);
