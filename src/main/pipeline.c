// The way of the sound, from top to bottom: a publisher's bytes become packets, chunks, results,
// messages, and the messages go to viewers and into the journal. Stages are made from the end to
// the beginning, since each is given the one it puts to; they are stopped from the beginning to the
// end, so that each handles what was put to it before it goes.
#include "pipeline.h"

#include <verbacast/base/cores.h>
#include <verbacast/base/log.h>
#include <verbacast/net/front.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "hosting.h"
#include "keeping.h"
#include "peers.h"
#include "program.h"

#define FRONTS_STOP_MS 4000 // Civetweb's own end, 2 s for each door
#define JOURNAL_FLUSH_MS 2000
#define STAGE_STOP_MS 1000     // of the stages that have nothing to wait for
#define BROADCAST_STOP_MS 3500 // closes are spread over 1 s, and the peers' own are waited for
#define KAFKA_STOP_MS 1000     // of a client's threads
#define DESCRIPTORS_KEPT 1536  // for all that is no viewer

#define INGEST_LANES_MORE 3 // from the doors: questions, streams; and from the peers
#define LEDGER_LANES_MORE 3 // from the doors and the two of the redis room

#define CORES_MAX 128 // more workers by themselves would have too few lanes

struct workers {
  uint32_t ingest, decode, stt, broadcast;
};

struct pipeline {
  const struct node_options *options;
  struct workers workers;
  char node[96];
  struct vc_networks proxies;
  struct vc_metrics *metrics;
  struct vc_health *health;
  struct vc_limits *viewers, *publishers; // by address
  struct keeping keeping;
  struct vc_stage *partials; // NULL: they are not sent
  struct vc_stage *ingest, *decode, *stt, *ledger;
  struct vc_ingest_door *tracks;
  struct vc_broadcast *broadcast;
  struct vc_journal *journal;
  struct hosting hosting;
  struct peers peers;
  struct vc_control *control;
  _Atomic uint32_t n_sessions; // that the ledger holds
};

// --- what the stages ask

static const char *refusal(void *context)
{
  const struct pipeline *pipeline = context;
  return vc_journal_refusal(pipeline->journal);
}

static enum vc_ingest_verdict authorize(void *context, const struct vc_ingest_claim *claim,
                                        const char **why)
{
  const struct pipeline *pipeline = context;
  const struct vc_publisher_times times = {.now_ms = vc_clock_unix_ms(&vc_clock_system),
                                           .session_began_ms = claim->session_began_ms};
  struct vc_publisher_answer answer =
      vc_control_authorize_publisher(&pipeline->options->control, claim->slug, claim->query, times);
  *why = answer.why;
  return answer.status == 0  ? VC_INGEST_MAY
         : answer.is_expired ? VC_INGEST_EXPIRED
                             : VC_INGEST_MAY_NOT;
}

static int ask_began(void *context, struct vc_query *query)
{
  const struct pipeline *pipeline = context;
  return peers_ask_began(&pipeline->peers, query);
}

// Of whatever name: a clock that was set back since makes all begin behind what there was. Thread:
// the ledger's.
static int64_t epoch_floor(void *context, const char *slug)
{
  const struct pipeline *pipeline = context;
  int64_t stored = atomic_load_explicit(&pipeline->keeping.stored_epoch, memory_order_relaxed);
  int64_t journaled = vc_journal_highest_epoch(pipeline->journal);
  return stored > journaled ? stored : journaled;
}

// Thread: the ledger's.
static int take_over(void *context, const char *slug)
{
  struct pipeline *pipeline = context;
  return peers_take_over(&pipeline->peers, slug);
}

static const char *stuck(void *context, uint32_t silent_ms)
{
  const struct pipeline *pipeline = context;
  if (pipeline->partials != NULL && vc_stage_stuck_worker(pipeline->partials, silent_ms) >= 0) {
    return "partials";
  }
  const char *hosting = hosting_stuck(&pipeline->hosting, silent_ms);
  if (hosting != NULL) {
    return hosting;
  }
  // A database that is silent is given up by the store itself.
  uint32_t call_ms = keeping_call_max_ms(&pipeline->options->store, &pipeline->options->kafka);
  return vc_journal_is_relay_stuck(pipeline->journal, silent_ms + call_ms) ? "journal-relay" : NULL;
}

static const char *publisher_refusal(void *context)
{
  const struct pipeline *pipeline = context;
  return vc_ingest_refusal(pipeline->ingest);
}

static int take_webhook(void *context, const char *authorization, const char *body, size_t size,
                        const char **why)
{
  struct pipeline *pipeline = context;
  return hosting_take_webhook(&pipeline->hosting, authorization, body, size, why);
}

static int has_room(void *context)
{
  const struct pipeline *pipeline = context;
  return vc_broadcast_has_room(pipeline->broadcast);
}

static int has_room_for_session(void *context)
{
  const struct pipeline *pipeline = context;
  return atomic_load_explicit(&pipeline->n_sessions, memory_order_relaxed) <
         pipeline->options->ledger.max_sessions;
}

static void adopt(void *context, const struct vc_control_newcomer *from)
{
  struct pipeline *pipeline = context;
  struct vc_newcomer newcomer = {.fd = from->fd,
                                 .since = from->since,
                                 .address = from->address,
                                 .is_exempt = from->is_exempt,
                                 .begins_ms = from->begins_ms,
                                 .expires_ms = from->expires_ms};
  snprintf(newcomer.slug, sizeof newcomer.slug, "%s", from->slug);
  vc_broadcast_adopt(pipeline->broadcast, &newcomer);
}

static void adopt_track(void *context, const struct vc_control_track *from)
{
  struct pipeline *pipeline = context;
  struct vc_track_newcomer newcomer = {.fd = from->fd,
                                       .rate_hz = from->rate_hz,
                                       .n_channels = from->n_channels,
                                       .address = from->address,
                                       .is_exempt = from->is_exempt,
                                       .identity = from->identity,
                                       .began_ms = from->session_began_ms};
  snprintf(newcomer.slug, sizeof newcomer.slug, "%s", from->slug);
  snprintf(newcomer.participant, sizeof newcomer.participant, "%s", from->participant);
  vc_ingest_adopt(pipeline->tracks, &newcomer);
}

// --- making

static uint32_t cores_of_process(void)
{
  uint32_t n = vc_cores();
  return n > CORES_MAX ? CORES_MAX : n;
}

static void pause_ms(int64_t ms)
{
  struct timespec left = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
  while (nanosleep(&left, &left) != 0 && errno == EINTR) {
  }
}

static uint32_t threads(int64_t wished, uint32_t by_cores)
{
  return wished > 0 ? (uint32_t)wished : by_cores;
}

static struct workers count_workers(const struct node_options *options)
{
  uint32_t cores = cores_of_process();
  return (struct workers){
      .ingest = threads(options->ingest.ingest_threads, (cores + 1) / 2),
      .decode = threads(options->decode.decode_threads, cores),
      .stt = threads(options->stt.stt_threads, cores > 4 ? cores / 4 : 1),
      .broadcast = threads(options->broadcast.broadcast_threads, cores),
  };
}

// Each worker that puts to a stage has a lane of its own there, and the HTTP handlers have one.
static int check_lanes(const struct workers *workers, struct vc_error *error)
{
  const struct {
    const char *stage;
    uint32_t n_lanes;
    const char *options;
  } rows[] = {
      {"ingest", workers->ingest + INGEST_LANES_MORE, "INGEST_THREADS"},
      {"decode", workers->ingest, "INGEST_THREADS"},
      {"stt", workers->decode, "DECODE_THREADS"},
      {"ledger", workers->stt + workers->broadcast + LEDGER_LANES_MORE,
       "STT_THREADS or BROADCAST_THREADS"},
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    if (rows[i].n_lanes > VC_STAGE_LANES_MAX) {
      return vc_error_set(error, "the %s stage would need %u lanes and has %d: lower %s",
                          rows[i].stage, rows[i].n_lanes, VC_STAGE_LANES_MAX, rows[i].options);
    }
  }
  return 0;
}

static void name_node(struct pipeline *pipeline)
{
  if (pipeline->options->control.node_id[0] != '\0') {
    snprintf(pipeline->node, sizeof pipeline->node, "%.90s", pipeline->options->control.node_id);
  } else {
    vc_program_make_name(pipeline->node, sizeof pipeline->node);
  }
}

static uint32_t max_viewers(const struct node_options *options)
{
  if (options->broadcast.max_viewers > 0) {
    return (uint32_t)options->broadcast.max_viewers;
  }
  long limit = (long)vc_program_descriptor_limit() - DESCRIPTORS_KEPT;
  limit -= (long)options->ingest.max_publishers * 2;
  return limit > 64 ? (uint32_t)limit : 64;
}

static int make_ground(struct pipeline *pipeline, struct vc_error *error)
{
  const struct node_options *options = pipeline->options;
  name_node(pipeline);
  pipeline->metrics = vc_metrics_create(&vc_clock_system);
  pipeline->health = vc_health_create(&vc_clock_system);
  pipeline->viewers =
      vc_limits_create(max_viewers(options), (size_t)options->ingest.max_connections_per_address);
  pipeline->publishers = vc_limits_create(vc_ingest_connections_max(&options->ingest),
                                          (size_t)options->ingest.max_connections_per_address);
  if (pipeline->metrics == NULL || pipeline->health == NULL || pipeline->viewers == NULL ||
      pipeline->publishers == NULL) {
    return vc_error_set(error, "no memory");
  }
  return vc_networks_parse(options->ingest.trusted_proxies, &pipeline->proxies, error);
}

static int make_journal(struct pipeline *pipeline, struct vc_error *error)
{
  const struct node_options *options = pipeline->options;
  if (keeping_init(&pipeline->keeping,
                   &(struct keeping_settings){.store = &options->store,
                                              .kafka = &options->kafka,
                                              .node = pipeline->node,
                                              .metrics = pipeline->metrics,
                                              .health = pipeline->health},
                   error) != 0) {
    return -1;
  }
  return vc_journal_create(&pipeline->journal,
                           &(struct vc_journal_settings){
                               .options = &options->journal,
                               .sink = keeping_sink(&pipeline->keeping),
                               .clock = &vc_clock_system,
                               .metrics = pipeline->metrics,
                               .health = pipeline->health,
                           },
                           error);
}

static int make_partials(struct pipeline *pipeline, struct vc_error *error)
{
  const struct vc_kafka_options *options = &pipeline->options->kafka;
  if (!keeping_has_kafka(options) || !options->kafka_partials) {
    return 0;
  }
  return vc_kafka_partials_create(
      &pipeline->partials,
      &(struct vc_kafka_producer_settings){.options = options,
                                           .node = pipeline->node,
                                           .clock = &vc_clock_system,
                                           .metrics = pipeline->metrics},
      error);
}

static int make_peers(struct pipeline *pipeline, struct vc_error *error)
{
  return peers_init(&pipeline->peers,
                    &(struct peers_settings){.options = &pipeline->options->redis,
                                             .ledger = &pipeline->options->ledger,
                                             .node = pipeline->node,
                                             .metrics = pipeline->metrics,
                                             .health = pipeline->health},
                    error);
}

static int make_broadcast(struct pipeline *pipeline, struct vc_error *error)
{
  const struct vc_broadcast_options *options = &pipeline->options->broadcast;
  return vc_broadcast_create(&pipeline->broadcast,
                             &(struct vc_broadcast_settings){
                                 .options = options,
                                 .n_workers = pipeline->workers.broadcast,
                                 .max_viewers = max_viewers(pipeline->options),
                                 .limits = pipeline->viewers,
                                 .clock = &vc_clock_system,
                                 .metrics = pipeline->metrics,
                             },
                             error);
}

static int make_ledger(struct pipeline *pipeline, struct vc_error *error)
{
  int status =
      vc_ledger_create(&pipeline->ledger,
                       &(struct vc_ledger_settings){
                           .options = &pipeline->options->ledger,
                           .n_workers = 1,
                           .max_viewers = max_viewers(pipeline->options),
                           .node = pipeline->node,
                           .broadcast = vc_broadcast_stage(pipeline->broadcast),
                           .journal = vc_journal_stage(pipeline->journal),
                           .partials = pipeline->partials,
                           .publisher = peers_publisher(&pipeline->peers),
                           .watcher = peers_watcher(&pipeline->peers),
                           .session_resume_ms = pipeline->options->ingest.session_resume_ms,
                           .take_over = take_over,
                           .clock = &vc_clock_system,
                           .metrics = pipeline->metrics,
                           .health = pipeline->health,
                           .n_sessions = &pipeline->n_sessions,
                           .epoch_floor = epoch_floor,
                           .context = pipeline,
                       },
                       error);
  if (status == 0) {
    vc_broadcast_set_ledger(pipeline->broadcast, pipeline->ledger);
  }
  return status;
}

static int make_stt(struct pipeline *pipeline, struct vc_error *error)
{
  const struct vc_stt_options *options = &pipeline->options->stt;
  return vc_stt_create(&pipeline->stt,
                       &(struct vc_stt_settings){
                           .options = options,
                           .ledger = pipeline->ledger,
                           .n_workers = pipeline->workers.stt,
                           .clock = &vc_clock_system,
                           .metrics = pipeline->metrics,
                           .health = pipeline->health,
                       },
                       error);
}

static int make_decode(struct pipeline *pipeline, struct vc_error *error)
{
  const struct vc_decode_options *options = &pipeline->options->decode;
  return vc_decode_create(&pipeline->decode,
                          &(struct vc_decode_settings){
                              .options = options,
                              .stt = pipeline->stt,
                              .n_workers = pipeline->workers.decode,
                              .clock = &vc_clock_system,
                              .metrics = pipeline->metrics,
                          },
                          error);
}

static int make_ingest(struct pipeline *pipeline, struct vc_address *bound, struct vc_error *error)
{
  const struct vc_ingest_options *options = &pipeline->options->ingest;
  int has_peers = peers_has_redis(&pipeline->options->redis);
  int status = vc_ingest_create(&pipeline->ingest, bound,
                                &(struct vc_ingest_settings){
                                    .options = options,
                                    .limits = pipeline->publishers,
                                    .decode = pipeline->decode,
                                    .n_workers = pipeline->workers.ingest,
                                    .clock = &vc_clock_system,
                                    .metrics = pipeline->metrics,
                                    .max_sessions = pipeline->options->ledger.max_sessions,
                                    .refusal = refusal,
                                    .authorize = authorize,
                                    .ask_began = has_peers ? ask_began : NULL,
                                    .context = pipeline,
                                },
                                error);
  return status == 0 ? vc_ingest_door_create(&pipeline->tracks, pipeline->ingest,
                                             pipeline->publishers, error)
                     : status;
}

static int make_hosting(struct pipeline *pipeline, struct vc_error *error)
{
  const struct node_options *options = pipeline->options;
  return hosting_init(&pipeline->hosting,
                      &(struct hosting_settings){.options = &options->livekit,
                                                 .publish_secret = options->control.publish_secret,
                                                 .peers = &pipeline->peers,
                                                 .metrics = pipeline->metrics,
                                                 .health = pipeline->health},
                      error);
}

static int make_control(struct pipeline *pipeline, struct vc_address *http,
                        struct vc_address *admin, struct vc_error *error)
{
  int has_livekit = pipeline->hosting.livekit != NULL;
  return vc_control_start(&pipeline->control, http, admin,
                          &(struct vc_control_settings){
                              .options = &pipeline->options->control,
                              .livekit = {pipeline->options->livekit.livekit_api_key,
                                          pipeline->options->livekit.livekit_api_secret},
                              .database_url = pipeline->options->store.database_url,
                              .kafka_topic = keeping_has_kafka(&pipeline->options->kafka)
                                                 ? pipeline->options->kafka.kafka_topic
                                                 : NULL,
                              .node = pipeline->node,
                              .version = VC_VERSION,
                              .proxies = &pipeline->proxies,
                              .limits = pipeline->viewers,
                              .publisher_limits = pipeline->publishers,
                              .ingest = pipeline->ingest,
                              .decode = pipeline->decode,
                              .stt = pipeline->stt,
                              .ledger = pipeline->ledger,
                              .broadcast = vc_broadcast_stage(pipeline->broadcast),
                              .journal = vc_journal_stage(pipeline->journal),
                              .publisher = peers_publisher(&pipeline->peers),
                              .watcher = peers_watcher(&pipeline->peers),
                              .clock = &vc_clock_system,
                              .metrics = pipeline->metrics,
                              .health = pipeline->health,
                              .stuck = stuck,
                              .publisher_refusal = publisher_refusal,
                              .has_room = has_room,
                              .has_room_for_session = has_room_for_session,
                              .adopt = adopt,
                              .adopt_track = adopt_track,
                              .take_webhook = has_livekit ? take_webhook : NULL,
                              .context = pipeline,
                          },
                          error);
}

static int start_stages(struct pipeline *pipeline, struct vc_error *error)
{
  return vc_journal_start(pipeline->journal, error) != 0 ||
                 (pipeline->partials != NULL && vc_stage_start(pipeline->partials, error) != 0) ||
                 vc_stage_start(vc_broadcast_stage(pipeline->broadcast), error) != 0 ||
                 vc_stage_start(pipeline->ledger, error) != 0 ||
                 vc_stage_start(pipeline->stt, error) != 0 ||
                 vc_stage_start(pipeline->decode, error) != 0
             ? -1
             : 0;
}

// The way out: whatever there is, in an order in which nobody is asked who has gone.
static void destroy(struct pipeline **pipeline_in)
{
  struct pipeline *pipeline = *pipeline_in;
  vc_control_stop(&pipeline->control);
  vc_ingest_door_destroy(&pipeline->tracks);
  hosting_fini(&pipeline->hosting);
  vc_stage_destroy(&pipeline->ingest);
  vc_stage_destroy(&pipeline->decode);
  vc_stage_destroy(&pipeline->stt);
  vc_stage_destroy(&pipeline->ledger);
  vc_broadcast_destroy(&pipeline->broadcast);
  vc_stage_destroy(&pipeline->partials);
  peers_fini(&pipeline->peers);
  vc_journal_destroy(&pipeline->journal);
  keeping_fini(&pipeline->keeping);
  vc_limits_destroy(&pipeline->viewers);
  vc_limits_destroy(&pipeline->publishers);
  vc_health_destroy(&pipeline->health);
  vc_metrics_destroy(&pipeline->metrics);
  free(pipeline);
  *pipeline_in = NULL;
}

static void stop_stages(struct pipeline *pipeline)
{
  hosting_stop(&pipeline->hosting);
  if (pipeline->ingest != NULL) {
    vc_stage_stop(pipeline->ingest, 0);
  }
  if (pipeline->decode != NULL) {
    vc_stage_stop(pipeline->decode, 0);
  }
  if (pipeline->stt != NULL) {
    vc_stage_stop(pipeline->stt, 0);
  }
  if (pipeline->ledger != NULL) {
    vc_stage_stop(pipeline->ledger, 0);
  }
  if (pipeline->broadcast != NULL) {
    vc_stage_stop(vc_broadcast_stage(pipeline->broadcast), 0);
  }
  if (pipeline->partials != NULL) {
    vc_stage_stop(pipeline->partials, 0);
  }
  if (pipeline->journal != NULL) {
    vc_journal_stop(pipeline->journal, 0);
  }
}

static int start(struct pipeline *pipeline, struct pipeline_addresses *addresses,
                 struct vc_error *error)
{
  if (make_ground(pipeline, error) != 0 || make_journal(pipeline, error) != 0 ||
      make_partials(pipeline, error) != 0 || make_peers(pipeline, error) != 0 ||
      make_broadcast(pipeline, error) != 0 || make_ledger(pipeline, error) != 0 ||
      make_stt(pipeline, error) != 0 || make_decode(pipeline, error) != 0 ||
      make_ingest(pipeline, &addresses->rtmp, error) != 0 || start_stages(pipeline, error) != 0 ||
      peers_open(&pipeline->peers, pipeline->ledger, pipeline->ingest, error) != 0 ||
      make_hosting(pipeline, error) != 0 ||
      make_control(pipeline, &addresses->http, &addresses->admin, error) != 0 ||
      peers_start(&pipeline->peers, pipeline->control, error) != 0 ||
      vc_stage_start(pipeline->ingest, error) != 0) {
    return -1;
  }
  return 0;
}

int pipeline_start(struct pipeline **pipeline_out, const struct node_options *options,
                   struct pipeline_addresses *addresses, struct vc_error *error)
{
  struct pipeline *pipeline = calloc(1, sizeof *pipeline);
  if (pipeline == NULL) {
    return vc_error_set(error, "no memory");
  }
  pipeline->options = options;
  pipeline->workers = count_workers(options);
  if (start(pipeline, addresses, error) != 0) {
    peers_stop(&pipeline->peers, 0); // it asks the control
    vc_control_stop(&pipeline->control);
    stop_stages(pipeline);
    destroy(&pipeline);
    return -1;
  }
  *pipeline_out = pipeline;
  return 0;
}

// --- the drain

static int stop_stage(struct vc_stage *stage, uint32_t timeout_ms)
{
  int is_late = vc_stage_stop(stage, timeout_ms);
  if (is_late) {
    vc_log(VC_LOG_WARN, VC_EVENT("drain.late"), VC_STR("stage", vc_stage_name(stage)),
           VC_INT("timeout_ms", timeout_ms));
  }
  return is_late;
}

int pipeline_stop(struct pipeline **pipeline_in)
{
  struct pipeline *pipeline = *pipeline_in;
  const struct node_options *options = pipeline->options;
  // The balancer is told first, and given the time to believe it.
  vc_control_drain(pipeline->control, 0);
  pause_ms(options->drain_delay_ms);
  vc_control_drain(pipeline->control, 1);
  hosting_stop(&pipeline->hosting);
  int is_late = stop_stage(pipeline->ingest, STAGE_STOP_MS);
  is_late |= stop_stage(pipeline->decode, STAGE_STOP_MS);
  is_late |= stop_stage(pipeline->stt, (uint32_t)options->drain_timeout_ms);
  is_late |= stop_stage(pipeline->ledger, STAGE_STOP_MS);
  is_late |= peers_stop(&pipeline->peers, STAGE_STOP_MS);
  is_late |= stop_stage(vc_broadcast_stage(pipeline->broadcast), BROADCAST_STOP_MS);
  if (pipeline->partials != NULL) {
    is_late |= stop_stage(pipeline->partials, STAGE_STOP_MS);
  }
  size_t n_lost = vc_journal_stop(pipeline->journal, JOURNAL_FLUSH_MS);
  if (n_lost > 0) {
    vc_log(VC_LOG_ERROR, VC_EVENT("drain.lost"), VC_INT("records", n_lost));
  }
  destroy(pipeline_in);
  return is_late || n_lost > 0;
}

int64_t pipeline_stop_ms(const struct node_options *options)
{
  int64_t kafka_ms = keeping_has_kafka(&options->kafka) ? KAFKA_STOP_MS : 0;
  if (kafka_ms > 0 && options->kafka.kafka_partials) {
    kafka_ms += STAGE_STOP_MS + KAFKA_STOP_MS;
  }
  // The relay may be at one call, and somebody may be reading a transcript.
  int64_t relay_ms = keeping_call_max_ms(&options->store, &options->kafka);
  int64_t read_ms = vc_store_call_max_ms(options->store.database_url);
  int64_t redis_ms = peers_has_redis(&options->redis) ? 2 * STAGE_STOP_MS : 0;
  return options->drain_delay_ms + options->drain_timeout_ms + 3 * STAGE_STOP_MS + redis_ms +
         BROADCAST_STOP_MS + 2 * JOURNAL_FLUSH_MS + 2 * VC_JOURNAL_WAIT_MS + relay_ms + kafka_ms +
         FRONTS_STOP_MS + read_ms;
}

static int check_front(const char *name, const char *listen, struct vc_error *error)
{
  struct vc_error why;
  return vc_front_check(listen, &why) == 0 ? 0 : vc_error_set(error, "%s: %s", name, why.text);
}

int pipeline_check(const struct node_options *options, struct vc_error *error)
{
  struct workers workers = count_workers(options);
  return check_lanes(&workers, error) != 0 ||
                 check_front("HTTP_LISTEN", options->control.http_listen, error) != 0 ||
                 check_front("ADMIN_LISTEN", options->control.admin_listen, error) != 0 ||
                 vc_ingest_check(&options->ingest, error) != 0 ||
                 vc_kafka_check(&options->kafka, error) != 0 ||
                 vc_livekit_check(&options->livekit, options->control.publish_secret, error) != 0 ||
                 (peers_has_redis(&options->redis) && vc_redis_check(&options->redis, error) != 0)
             ? -1
             : vc_control_check(&options->control,
                                &(const struct vc_control_beside){
                                    .rtmp_listen = options->ingest.rtmp_listen,
                                    .trusted_proxies = options->ingest.trusted_proxies,
                                    .livekit = {options->livekit.livekit_api_key,
                                                options->livekit.livekit_api_secret}},
                                error);
}
