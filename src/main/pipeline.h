// The node's stages, wired in the order of the sound.
#pragma once

#include <verbacast/broadcast.h>
#include <verbacast/control.h>
#include <verbacast/decode.h>
#include <verbacast/ingest.h>
#include <verbacast/journal.h>
#include <verbacast/kafka.h>
#include <verbacast/ledger.h>
#include <verbacast/livekit.h>
#include <verbacast/redis.h>
#include <verbacast/store.h>
#include <verbacast/stt.h>

struct node_options {
  struct vc_ingest_options ingest;
  struct vc_decode_options decode;
  struct vc_stt_options stt;
  struct vc_ledger_options ledger;
  struct vc_broadcast_options broadcast;
  struct vc_journal_options journal;
  struct vc_store_options store;
  struct vc_kafka_options kafka;
  struct vc_redis_options redis;
  struct vc_livekit_options livekit;
  struct vc_control_options control;
  int64_t drain_delay_ms;
  int64_t drain_timeout_ms;
};

struct pipeline;

struct pipeline_addresses {
  struct vc_address http, rtmp, admin;
};

// Makes and starts everything; the addresses are what was bound.
int pipeline_start(struct pipeline **pipeline, const struct node_options *options,
                   struct pipeline_addresses *addresses, struct vc_error *error);
// The drain of the contract, then the end. Returns: 0, or 1: something was not done in time.
int pipeline_stop(struct pipeline **pipeline);
// The longest that pipeline_stop may take.
int64_t pipeline_stop_ms(const struct node_options *options);
// What would run: for --check-config. Returns: 0, or -1 and the error.
int pipeline_check(const struct node_options *options, struct vc_error *error);
