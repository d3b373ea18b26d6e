// kafka: records to the brokers and from them. The only room that knows librdkafka, whose threads
// are its own; no call of ours waits for a broker longer than it is told to.
//
//   journal's relay --> producer --> {topic}, {topic}.sessions     each record acknowledged by all
//   ledger -- RECORD (PARTIAL) --> partials --> {topic}.partial    what does not go is dropped
//   {topic}, {topic}.sessions --> consumer --> the sink
//   the sink --> producer --> {topic}.dead
//
// Record: key = slug; value = JSON (docs/schemas); headers content-type: application/json, schema:
// verbacast.transcript.v1 or verbacast.sessions.v1, node: NODE_ID; dead letters besides: reason and
// the topic, partition and offset that they come from.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <verbacast/base/clock.h>
#include <verbacast/base/error.h>
#include <verbacast/base/metrics.h>
#include <verbacast/base/options.h>
#include <verbacast/flow/stage.h>

#define VC_KAFKA_TOPIC_MAX 249      // Kafka's own bound on a topic's name
#define VC_KAFKA_PARTIALS_MAX 10000 // partials that wait for the brokers, at most 16 MiB of them

struct vc_kafka_options {
  const char *kafka_brokers; // "": none
  const char *kafka_topic;
  const char *kafka_config; // KEY=VALUE, comma list or a line each, or @FILE; never shown
  int kafka_partials;
};
extern const struct vc_option vc_kafka_option_rows[];          // all but the partials
extern const struct vc_option vc_kafka_partials_option_rows[]; // KAFKA_PARTIALS
extern const struct vc_metric vc_kafka_producer_metrics[];
extern const struct vc_metric vc_kafka_partials_metrics[];
extern const struct vc_metric vc_kafka_consumer_metrics[];

// What librdkafka would refuse of KAFKA_CONFIG, and what is ours to set. Returns: 0, or -1 and the
// key, its value (unless it is a secret) and what is allowed.
int vc_kafka_check(const struct vc_kafka_options *options, struct vc_error *error);

enum vc_kafka_topic {
  VC_KAFKA_TRANSCRIPTS, // KAFKA_TOPIC
  VC_KAFKA_SESSIONS,    // .sessions
  VC_KAFKA_PARTIAL,     // .partial
  VC_KAFKA_DEAD,        // .dead
};

// --- the producer: idempotent, acks=all

struct vc_kafka_producer;

struct vc_kafka_producer_settings {
  const struct vc_kafka_options *options; // lives as long as the producer
  const char *node;
  const struct vc_clock *clock;
  struct vc_metrics *metrics; // may be NULL
};
// Connects in the background. Returns: 0, or -1: the configuration is wrong.
int vc_kafka_producer_create(struct vc_kafka_producer **producer,
                             const struct vc_kafka_producer_settings *settings,
                             struct vc_error *error);
// Waits at most flush_ms for what is under way.
void vc_kafka_producer_destroy(struct vc_kafka_producer **producer, uint32_t flush_ms);

struct vc_kafka_source { // of a dead letter
  const char *topic;
  int32_t partition;
  int64_t offset;
  const char *reason;
};
struct vc_kafka_record {
  int64_t id; // by which a record that is given again is known
  enum vc_kafka_topic topic;
  const char *key;
  size_t key_size;
  const char *value;
  size_t size;
  const struct vc_kafka_source *source; // DEAD only
  const char *hopeless; // set: a constant, why no broker will ever take it (too large); else NULL
};
// Sends in their order those of the records that are not under way yet and waits at most wait_ms
// until the brokers have acknowledged all. Thread: one at a time. Returns: 0: each is stored or
// hopeless; 1: some are not, the error says what is in the way: call again with the same records,
// nothing is sent twice for that; -1: no memory. A producer that is broken for good (fatal error,
// authorization) is replaced by a new one within, and what was not acknowledged is sent anew.
// No records: asks whether the brokers can be reached.
int vc_kafka_producer_send(struct vc_kafka_producer *producer, struct vc_kafka_record *records,
                           size_t n_records, uint32_t wait_ms, struct vc_error *error);

// --- partials: a stage of one worker that takes RECORDs of kind PARTIAL and never waits; what its
// queue (VC_KAFKA_PARTIALS_MAX) does not take is dropped and counted

int vc_kafka_partials_create(struct vc_stage **stage,
                             const struct vc_kafka_producer_settings *settings,
                             struct vc_error *error);

// --- the consumer: a member of a group whose positions somebody else keeps
// Thread: one for all of it.

struct vc_kafka_consumer;

struct vc_kafka_position {
  const char *topic;
  int32_t partition;
  int64_t next; // offset of the next record; -1: the first that there is
};

struct vc_kafka_consumer_settings {
  const struct vc_kafka_options *options;
  const char *group;
  uint32_t queue_max;         // records fetched ahead
  struct vc_metrics *metrics; // may be NULL
  // Called within poll and close. `assigned` fills in `next`; -1 and the error: they cannot be told
  // now: called again at the next poll, nothing is consumed meanwhile.
  int (*assigned)(void *context, struct vc_kafka_position *positions, size_t n,
                  struct vc_error *error);
  void (*revoked)(void *context, const struct vc_kafka_position *positions, size_t n);
  void *context;
};
// Subscribes to {topic} and {topic}.sessions. Returns: 0, or -1: the configuration is wrong.
int vc_kafka_consumer_create(struct vc_kafka_consumer **consumer,
                             const struct vc_kafka_consumer_settings *settings,
                             struct vc_error *error);
// Leaves the group.
void vc_kafka_consumer_destroy(struct vc_kafka_consumer **consumer);

struct vc_kafka_consumed {
  const char *topic;
  int32_t partition;
  int64_t offset;
  const char *key; // NULL: none
  size_t key_size;
  const char *value; // NULL: a tombstone of the topic
  size_t size;
  int64_t produced_ms; // Unix time, -1 unknown
  void *message;       // librdkafka's
};
// Returns: 1 a record, for vc_kafka_consumed_fini; 0 none within wait_ms; -1 and the error: it
// cannot go on: the brokers no longer have the next record (the error names
// topic, partition and offset), or another fatal error. What passes by itself (a broker away) is
// counted and said by vc_kafka_consumer_trouble.
int vc_kafka_consumer_poll(struct vc_kafka_consumer *consumer, uint32_t wait_ms,
                           struct vc_kafka_consumed *consumed, struct vc_error *error);
void vc_kafka_consumed_fini(struct vc_kafka_consumed *consumed);
// Nothing is given until it is resumed; poll goes on being called, so that the group keeps us.
void vc_kafka_consumer_pause(struct vc_kafka_consumer *consumer);
void vc_kafka_consumer_resume(struct vc_kafka_consumer *consumer);
// Goes on at that record. Returns: 0, or -1: the partition is not ours any more.
int vc_kafka_consumer_seek(struct vc_kafka_consumer *consumer,
                           const struct vc_kafka_position *position);
// Gives the cluster's id, NULL while it is not known.
const char *vc_kafka_consumer_cluster(struct vc_kafka_consumer *consumer);
// Returns: what is in the way of consuming, NULL: nothing is.
const char *vc_kafka_consumer_trouble(struct vc_kafka_consumer *consumer);
