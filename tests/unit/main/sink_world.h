// A Kafka and a database that the sink's test turns by hand, in the place of the rooms' functions.
// Time goes on when the sink waits.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <verbacast/base/clock.h>
#include <verbacast/kafka.h>

#define WORLD_PARTITIONS 3
#define WORLD_RECORDS 1000 // of a partition, at most

struct world_partition {
  const char *topic;
  int32_t number;
  int64_t n_records;
  int64_t next;   // that the consumer gives
  int64_t stored; // what the table says, -1: nothing
  int is_ours;
  int n_written[WORLD_RECORDS];
  char values[WORLD_RECORDS][32];
};

struct world {
  uint64_t now_ns;
  struct world_partition partitions[WORLD_PARTITIONS];
  /* the brokers */
  int is_unplaced; // the group has assigned, and positions are wanted
  int is_paused;
  int is_cluster_unknown;
  const char *trouble; // NULL: none
  const char *cannot;  // set: the consumer cannot go on
  int n_closed;
  /* the dead letters' topic */
  int letters_are_away;
  const char *hopeless; // set: why it takes none
  size_t n_letters, n_letter_tries;
  int64_t letter_id;
  struct vc_kafka_source letter; // the last
  /* the database */
  int is_away;
  unsigned n_reconnects; // that no call has failed for
  int n_lost_answers;    // so many transactions are committed, and then the connection breaks
  const char *other_cluster;
  int n_mistaken; // writes that find another position than is read afterwards
  int n_resets, n_batches, n_opened, n_expired_calls;
  size_t n_last_rows;
  long n_to_expire;
  int64_t expire_before_ms;
};
extern struct world world;
extern const struct vc_clock world_clock;

// Nothing is assigned, every partition has `n_records`; those at the places that the two tell of
// are poison or have no value.
void world_init(int64_t n_records);
int world_is_poison(int64_t offset);
int world_is_tombstone(int64_t offset);
// The group gives us the first n partitions, and takes back what was ours before.
void world_assign(size_t n);
// Another sink writes what is there, up to `upto`.
void world_write(struct world_partition *partition, int64_t upto);
