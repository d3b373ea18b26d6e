#include "rig.h"

#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <utlist.h>

#include <verbacast/base/log.h>
#include <verbacast/flow/ask.h>

// --- the rig

static const char *refusal(void *context)
{
  return ((struct rig *)context)->refusal;
}

static enum vc_ingest_verdict authorize(void *context, const struct vc_ingest_claim *claim,
                                        const char **why)
{
  const struct rig *rig = context;
  *why = "wrong password";
  if (rig->expired != NULL && strcmp(claim->query, rig->expired) == 0) {
    int is_forgiven = claim->session_began_ms != 0 && claim->session_began_ms < RIG_EXPIRED_MS;
    return is_forgiven ? VC_INGEST_MAY : VC_INGEST_EXPIRED;
  }
  return rig->password == NULL || strcmp(claim->query, rig->password) == 0 ? VC_INGEST_MAY
                                                                           : VC_INGEST_MAY_NOT;
}

static int ask_began(void *context, struct vc_query *query)
{
  const struct rig *rig = context;
  uint32_t worker = vc_ask_worker(rig->ingest, vc_query_slug(query));
  return vc_ask_back(rig->to_fleet, 0, query, rig->back, worker);
}

void rig_init(struct rig *rig)
{
  *rig = (struct rig){.n_workers = 2, .now_ns = 1000 * VC_NS_PER_S};
  rig->clock = hand_clock(&rig->now_ns);
  rig->options = (struct vc_ingest_options){.rtmp_listen = "127.0.0.1:0",
                                            .session_resume_ms = 30000,
                                            .ingest_idle_timeout_ms = 15000,
                                            .max_publishers = 100,
                                            .max_connections_per_address = 64,
                                            .trusted_proxies = ""};
  vc_log_level_set(getenv("RIG_LOG") != NULL ? VC_LOG_DEBUG : VC_LOG_ERROR);
  signal(SIGPIPE, SIG_IGN);
}

void rig_start(struct rig *rig)
{
  struct vc_error error = {.text = ""};
  rig->metrics = vc_metrics_create(&rig->clock);
  assert_int_equal(vc_stage_create(&rig->decode,
                                   &(struct vc_stage_settings){
                                       .ops = &hand_inbox, .n_workers = 1, .clock = &rig->clock},
                                   &error),
                   0);
  assert_int_equal(vc_stage_create(&rig->fleet,
                                   &(struct vc_stage_settings){
                                       .ops = &hand_inbox, .n_workers = 1, .clock = &rig->clock},
                                   &error),
                   0);
  rig->to_fleet = vc_shared_putter_create(rig->fleet);
  rig->limits = vc_limits_create(vc_ingest_connections_max(&rig->options),
                                 (size_t)rig->options.max_connections_per_address);
  struct vc_ingest_settings settings = {.options = &rig->options,
                                        .decode = rig->decode,
                                        .n_workers = rig->n_workers,
                                        .clock = &rig->clock,
                                        .metrics = rig->metrics,
                                        .limits = rig->limits,
                                        .refusal = refusal,
                                        .authorize = authorize,
                                        .ask_began = rig->has_fleet ? ask_began : NULL,
                                        .context = rig};
  if (vc_ingest_create(&rig->ingest, &rig->bound, &settings, &error) != 0) {
    fail_msg("%s", error.text);
  }
  assert_int_equal(vc_ingest_door_create(&rig->door, rig->ingest, rig->limits, &error), 0);
  rig->asker = vc_putter_create(rig->ingest);
  rig->back = vc_shared_putter_create(rig->ingest);
  assert_int_equal(vc_stage_start(rig->ingest, &error), 0);
}

void rig_stop(struct rig *rig)
{
  assert_int_equal(vc_stage_stop(rig->ingest, 0), 0);
  assert_int_equal(rig_counter(rig, "ingest.connections"), 0);
  assert_int_equal(rig_counter(rig, "ingest.publishers"), 0);
  while (rig->publishers != NULL) {
    publisher_close(rig->publishers);
  }
  vc_ingest_door_destroy(&rig->door);
  vc_shared_putter_destroy(&rig->to_fleet);
  vc_stage_destroy(&rig->fleet); // answers what it was asked
  vc_shared_putter_destroy(&rig->back);
  vc_stage_destroy(&rig->ingest);
  assert_int_equal(vc_limits_count(rig->limits), 0);
  vc_limits_destroy(&rig->limits);
  vc_stage_destroy(&rig->decode);
  vc_metrics_destroy(&rig->metrics);
}

static void take(struct rig *rig, struct vc_packet *packet)
{
  assert_true(rig->n_taken < RIG_TAKEN_MAX);
  struct taken *taken = &rig->taken[rig->n_taken++];
  *taken = (struct taken){.turn = packet->turn,
                          .codec = packet->codec,
                          .reason = packet->reason,
                          .is_discontinuity = packet->is_discontinuity,
                          .session_id = packet->session->id,
                          .timestamp_ms = packet->timestamp_ms,
                          .rate_hz = packet->sample_rate_hint_hz,
                          .channels = packet->channels_hint,
                          .arrival_ns = packet->arrival_ns,
                          .first_audio_ns = packet->session->first_audio_ns};
  if (packet->data != NULL) {
    taken->size = packet->data->size;
    taken->first = packet->data->size > 0 ? packet->data->data[0] : 0;
    taken->last = packet->data->size > 0 ? packet->data->data[packet->data->size - 1] : 0;
  }
  snprintf(taken->slug, sizeof taken->slug, "%s", packet->session->slug);
  snprintf(taken->participant, sizeof taken->participant, "%s", packet->session->participant);
  vc_packet_destroy(&packet);
}

void rig_turn(struct rig *rig)
{
  struct publisher *publisher;
  struct vc_item *item;
  uint64_t n_before = hand_n_events;
  hand_turn(rig->ingest);
  while ((item = hand_take(rig->decode, 0)) != NULL) {
    take(rig, (struct vc_packet *)item);
  }
  DL_FOREACH(rig->publishers, publisher)
  {
    publisher_read(publisher);
  }
  if (hand_n_events == n_before) {
    poll(NULL, 0, 1); // what the kernel has on its way
  }
}

void rig_pass(struct rig *rig, uint64_t ms)
{
  rig->now_ns += ms * VC_NS_PER_MS;
  rig_turn(rig);
}

void rig_forget(struct rig *rig)
{
  rig->n_taken = 0;
}

uint64_t rig_counter(struct rig *rig, const char *name)
{
  uint64_t value = 0;
  assert_int_equal(vc_metrics_counter(rig->metrics, name, &value), 0);
  return value;
}

const struct taken *rig_taken(struct rig *rig, size_t index, enum vc_turn turn)
{
  AWAIT(rig, rig->n_taken > index);
  assert_int_equal(rig->taken[index].turn, turn);
  return &rig->taken[index];
}

struct vc_query *rig_ask(struct rig *rig, enum vc_query_kind kind, const char *slug,
                         const char *participant)
{
  struct vc_query *query = vc_query_create(kind, slug);
  assert_non_null(query);
  vc_query_set_participant(query, participant);
  uint32_t worker = vc_slug_hash(slug, strlen(slug)) % rig->n_workers;
  assert_int_equal(vc_putter_put(rig->asker, worker, vc_query_item(query)), 0);
  AWAIT(rig, vc_query_wait(query, 0) == 0);
  return query;
}
