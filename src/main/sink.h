// The sink's work: records of Kafka become rows of the database, each once.
//
//   consumer --> batch --> one transaction: rows, and how far each partition is
//                    \--> producer --> {topic}.dead      what the database cannot keep
//
// The positions stand in the database: on assignment they are read there and consuming begins
// there. They are compared and set with the rows: whose partition was taken by another sink writes
// nothing, reads them again and goes on from them.
//
// The database away: the batch is kept and tried again, with a back-off, and the consumer is paused
// meanwhile, but polled, so that the group keeps us.
//
// Bounds: one batch of BATCH_MAX_SIZE rows, BATCH_MAX_QUEUE if that is less, and what the consumer
// has fetched ahead: 16 MiB. (A bound of few records would let librdkafka, which looks at it once a
// second, sleep through most of a backlog.) Every call waits for a bounded time: see
// SINK_CALL_MAX_MS.
//
// Thread: one for all of it, which may block.
#pragma once

#include <stdint.h>

#include <verbacast/base/clock.h>
#include <verbacast/base/metrics.h>
#include <verbacast/flow/health.h>

#include "sink_options.h"

#define SINK_LETTER_WAIT_MS 3000 // for the delivery of dead letters, in the transaction
// What takes longer hangs: opening, forgetting positions, writing, to the dead letters and behind
// them. Reading positions is a call for each partition.
#define SINK_CALL_MAX_MS (4 * VC_STORE_CALL_MAX_MS + SINK_LETTER_WAIT_MS)
#define SINK_FINISH_MS 5000 // for the last batch

extern const struct vc_metric sink_metrics[];

struct sink_settings {
  const struct sink_options *options; // lives as long as the sink
  const char *node;
  const struct vc_clock *clock;
  struct vc_metrics *metrics;
  struct vc_health *health;
};

struct sink;

// Connects in the background. Returns: 0, or -1: the configuration is wrong.
int sink_create(struct sink **sink, const struct sink_settings *settings, struct vc_error *error);
// Waits a little for a record, writes the batch when it is due. Returns: 0, or -1: it cannot go on.
int sink_turn(struct sink *sink, struct vc_error *error);
// Takes no more, writes what is held within SINK_FINISH_MS, and leaves the group. Returns: rows
// that are not written: they are read again by whoever is next.
size_t sink_finish(struct sink *sink);
void sink_destroy(struct sink **sink);

// Thread: any. Returns: 1 while it has not turned for longer than silent_ms, or has been at one
// call of the database for longer than SINK_CALL_MAX_MS.
int sink_is_stuck(const struct sink *sink, uint32_t silent_ms);
