// What verbacast-bench may be told.
#pragma once

#include <stdint.h>

#include <verbacast/base/options.h>

#define BENCH_SUMMARY                                                                              \
  "Drives load at a node and its peers and prints what it measured. Modes, before the flags: "     \
  "ingest (RTMP to PCM), fanout (transcripts to viewers), pipeline (sound to words at a viewer), " \
  "rejoin (many viewers come back at once), sink (finals through Kafka into PostgreSQL), "         \
  "send-loop (the bound of a fanout, as a peer), gather-loop (that of bursts). Flags may be "      \
  "written without their bench-."

struct bench_options {
  const char *counts, *stalled, *slow, *audio, *node, *peers, *peer, *cores, *stt, *json, *plot;
  int64_t seconds, warm_up_s, rounds, n_sessions, burst, messages_per_final, n_threads, n_viewers;
  double rate_hz;
  int publish; // 0 rtmp, 1 pcm
  int until_full;
  const char *brokers, *topic, *database, *sink, *batches;
  int64_t drain;
};
extern const struct vc_option bench_option_rows[];
