// The whole way of what is kept, as it is measured: speech peer, node, Kafka, sink and PostgreSQL.
// Kafka and PostgreSQL run already; a chain has the rest.
#pragma once

#include "bench.h"

struct chain {
  /* set before start */
  struct plan *plan;
  struct database *database;
  const struct sound *sound;
  double finals_per_s; // of all sessions
  const char *const *node_environment, *const *sink_environment;
  /* ours */
  struct system *node, *sink;
  struct pace pace;
  struct speech speech;
  struct publishing publishing;
  struct viewing viewing;
  struct vc_stage *peer, *publishers, *viewers;
  double base_id, began_s; // rows that are ours: newer than this one, received since
};

// Its rows are those that come from now on.
void chain_begin(struct chain *chain, struct plan *plan, struct database *database);
// Publishers are live, all of them, and finals are said from now on.
void chain_start_node(struct chain *chain);
void chain_start_viewers(struct chain *chain); // one of each session
// Returns when it is ready; it may have no partitions yet.
void chain_start_sink(struct chain *chain);
// Until it has partitions to read.
void chain_wait_sink(const struct chain *chain);
// What the node says of itself: the mean; NAN when it says none.
double chain_own_latency_ms(const struct chain *chain, const char *name);
// Nothing more is said. Returns: how many finals were.
size_t chain_hush(struct chain *chain);
// Says finals until `n` are in Kafka, or a few more. Returns: how many were said.
size_t chain_fill(struct chain *chain, size_t n);
// Until `n` rows are there, or no more come. Returns: how many there are.
double chain_wait_rows(const struct chain *chain, size_t n);
void chain_stop_node(struct chain *chain);
void chain_stop_sink(struct chain *chain);
// What was measured is forgotten.
void chain_fini(struct chain *chain);
// Seconds since 1970, as the node and PostgreSQL have them.
double chain_now_s(void);
