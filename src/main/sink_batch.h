// What the sink has consumed and not written yet: rows, and how far each partition is. Pure but for
// the records that it lets go of.
//
// Bounds: `most` rows; a row's record is Kafka's own memory. As many positions as partitions are
// ours.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <verbacast/flow/session.h>
#include <verbacast/kafka.h>
#include <verbacast/store.h>

struct sink_row {
  struct vc_kafka_consumed consumed;
  int64_t id;                // by which its dead letter is known while the batch is tried again
  char key[VC_SLUG_MAX + 1]; // "" none, or no session's name
};

struct sink_position {
  char topic[VC_KAFKA_TOPIC_MAX + 1];
  int32_t partition;
  int64_t from;  // what the table says, -1: nothing yet
  int64_t next;  // what it is to say with this batch
  int64_t found; // what it says when it is read anew
};

struct sink_batch {
  size_t most;
  struct sink_row *rows;
  size_t n_rows;
  struct sink_position *positions;
  size_t n_positions, positions_capacity;
  uint64_t first_ns; // when the first of what is held came
  int64_t last_id;
  /* what the store is shown of it, made by sink_batch_show */
  struct vc_store_row *shown;
  struct vc_store_position *moved; // as many as there are positions
  size_t n_moved;
};

// Returns: 0, or -1 without memory.
int sink_batch_init(struct sink_batch *batch, size_t most);
void sink_batch_fini(struct sink_batch *batch);

// The partition is ours, its next record is `next` (-1: the first). What was held of it is let go
// of. Returns: 0, or -1 without memory.
int sink_batch_assign(struct sink_batch *batch, const char *topic, int32_t partition, int64_t next);
// It is ours no more. Returns: rows let go of.
size_t sink_batch_revoke(struct sink_batch *batch, const char *topic, int32_t partition);

// Takes the record; there must be room for it. A record without a value only moves its position.
// Returns: 0, or 1: its partition is not ours, or it lies before the position.
int sink_batch_put(struct sink_batch *batch, struct vc_kafka_consumed *consumed, uint64_t now_ns);
int sink_batch_is_empty(const struct sink_batch *batch); // no position has moved
int sink_batch_is_full(const struct sink_batch *batch);
// Fills `shown`, row by row, and `moved`.
void sink_batch_show(struct sink_batch *batch);
// It is written.
void sink_batch_settle(struct sink_batch *batch);
// It is thrown away: the positions are what was found. Returns: rows let go of.
size_t sink_batch_rewind(struct sink_batch *batch);
