// A Kafka cluster in this process, librdkafka's mock, and what tests ask of it. Every wait is for a
// condition and bounded by RIG_PATIENCE_MS.
#pragma once

#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>

#include <verbacast/kafka.h>

#define RIG_PATIENCE_MS 60000
#define RIG_TOPIC "transcripts"
#define RIG_BROKERS 3
#define RIG_PRODUCE 0 // request types of Kafka's protocol
#define RIG_FETCH 1
#define RIG_INIT_PRODUCER_ID 22

struct rig {
  rd_kafka_t *host; // of the cluster
  rd_kafka_mock_cluster_t *cluster;
  struct vc_kafka_options options;
  struct vc_metrics *metrics;
};

// Topics have `n_partitions`; 0: none is made.
void rig_init(struct rig *rig, int n_partitions);
void rig_fini(struct rig *rig);
void rig_down(struct rig *rig);
void rig_up(struct rig *rig);
struct vc_kafka_producer *rig_producer(struct rig *rig);
uint64_t rig_metric(struct rig *rig, const char *name);

// Waits. Returns: 1, or 0: RIG_PATIENCE_MS are over.
struct rig_wait {
  uint64_t until_ns;
};
struct rig_wait rig_wait(void);
int rig_is_late(const struct rig_wait *wait);

// A record of the topic, its texts cut at their room.
struct rig_seen {
  int32_t partition;
  int64_t offset;
  char key[32], value[64], headers[256]; // "name=value;" each
};
// Reads a topic from its first record on until there are no more. Returns: how many there are.
size_t rig_read(struct rig *rig, const char *topic, struct rig_seen *seen, size_t most);
