// Where the journal's rows go: into the database, or, with KAFKA_BROKERS set, to Kafka, whose sink
// writes the database that this node then only reads.
#pragma once

#include <stdatomic.h>

#include <verbacast/flow/health.h>
#include <verbacast/journal.h>
#include <verbacast/kafka.h>
#include <verbacast/store.h>

#define KEEPING_WAIT_MS 1000 // of a call, for the brokers
#define KEEPING_CALLS_MAX 3  // of the database in one: it is opened, asked, written to

struct keeping_settings {
  const struct vc_store_options *store;
  const struct vc_kafka_options *kafka;
  const char *node;
  struct vc_metrics *metrics;
  struct vc_health *health;
};

struct keeping {
  /* set before start, then read-only */
  struct keeping_settings settings;
  struct vc_slots *store_slots;
  /* the relay's thread only */
  struct vc_store *store;
  struct vc_kafka_producer *producer;
  uint64_t expire_ns; // looks for what is too old then
  /* any thread, atomic */
  _Atomic int64_t stored_epoch; // the highest that the store had when it was read first; 0: none
};

int keeping_has_kafka(const struct vc_kafka_options *options);
// The longest that the relay may be at one call.
uint32_t keeping_call_max_ms(const struct vc_store_options *store,
                             const struct vc_kafka_options *kafka);
// A database or brokers that are away do not keep the node down: the health says so.
int keeping_init(struct keeping *keeping, const struct keeping_settings *settings,
                 struct vc_error *error);
void keeping_fini(struct keeping *keeping);
// Lives as long as `keeping`.
struct vc_journal_sink keeping_sink(struct keeping *keeping);
