#include "room.h"

#include <verbacast/base/cores.h>
#include <verbacast/base/log.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
#include <utlist.h>

#define TICK_MS 250
#define BACKLOG 512
#define SESSIONS_PER_CORE 4 // of speech at once without finals growing late
#define OUTCOMES_PER_TURN 256

struct vc_sttd {
  struct room room;
  struct vc_stage *stage;
};

// --- the network's thread

static void take_connection(struct vc_worker *worker, int fd, const struct sockaddr *from)
{
  connection_accept(vc_worker_state(worker), fd);
}

static void outcomes_ready(struct vc_worker *worker, struct vc_watch *watch, uint32_t events)
{
  struct room *room = vc_worker_state(worker);
  struct stream *stream;
  for (int i = 0; i < OUTCOMES_PER_TURN && (stream = pool_take_ready(room->pool)) != NULL; i++) {
    session_outcomes(stream_owner(stream));
  }
}

static int room_enter(struct vc_worker *worker, void *config, struct vc_error *error)
{
  struct room *room = *(struct room **)config;
  vc_worker_set_state(worker, room);
  room->worker = worker;
  room->slots = vc_worker_slots(worker);
  room->listener = (struct vc_listener){.fd = room->listen_fd,
                                        .event = "sttd.accept",
                                        .rests = ACCEPT_RESTS,
                                        .take = take_connection};
  room->outcomes = (struct vc_watch){.fd = pool_event_fd(room->pool), .ready = outcomes_ready};
  if (vc_worker_watch(worker, &room->outcomes, EPOLLIN) != 0 ||
      vc_listener_start(worker, &room->listener) != 0) {
    return vc_error_set(error, "cannot wait for connections: %s", strerror(errno));
  }
  return 0;
}

static void room_handle(struct vc_worker *worker, struct vc_item *item)
{
  vc_item_destroy(item); // nobody puts anything here
}

static void room_turned(struct vc_worker *worker)
{
  connections_turned(vc_worker_state(worker));
}

static void room_tick(struct vc_worker *worker)
{
  struct room *room = vc_worker_state(worker);
  vc_listener_tick(worker, &room->listener);
  connections_tick(room);
  sessions_tick(room);
  connections_turned(room);
}

static void room_drain(struct vc_worker *worker)
{
  struct room *room = vc_worker_state(worker);
  room->is_draining = 1;
  sessions_drain(room);
  connections_turned(room);
}

static int room_is_drained(struct vc_worker *worker)
{
  const struct room *room = vc_worker_state(worker);
  const struct connection *connection;
  DL_FOREACH(room->connections, connection)
  {
    if (connection->state == CONNECTION_FLUSH) {
      return 0;
    }
  }
  return room->n_active == 0;
}

static void room_leave(struct vc_worker *worker)
{
  struct room *room = vc_worker_state(worker);
  sessions_destroy(room);
  connections_destroy(room);
  vc_listener_stop(worker, &room->listener);
  vc_worker_unwatch(worker, &room->outcomes);
}

static const struct vc_stage_ops room_ops = {
    .name = "sttd",
    .enter = room_enter,
    .handle = room_handle,
    .turned = room_turned,
    .tick = room_tick,
    .drain = room_drain,
    .is_drained = room_is_drained,
    .leave = room_leave,
};

// --- making and ending

static uint32_t sessions_max(const struct vc_sttd_options *options)
{
  return options->max_sessions > 0 ? (uint32_t)options->max_sessions
                                   : vc_cores() * SESSIONS_PER_CORE;
}

// Without keys only this machine may come in.
static int check_keys(const struct vc_sttd_options *options, struct vc_error *error)
{
  struct vc_address address;
  if (vc_listen_parse(options->listen, &address, error) != 0) {
    return -1;
  }
  if (!vc_address_is_loopback(&address) && !vc_secret_is_set(options->api_keys)) {
    return vc_error_set(error,
                        "STT_LISTEN is %s, which is not loopback: set STT_API_KEYS, or listen on "
                        "127.0.0.1",
                        options->listen);
  }
  return 0;
}

static int make_pool(struct room *room, struct vc_error *error)
{
  const struct pool_settings settings = {
      .engine = room->engine,
      .n_threads = vc_cores(),
      .clock = room->settings.clock,
      .metrics = room->settings.metrics,
  };
  return pool_create(&room->pool, &settings, error);
}

static int make_stage(struct vc_sttd *sttd, struct vc_error *error)
{
  struct room *room = &sttd->room;
  const struct vc_stage_settings settings = {
      .ops = &room_ops,
      .config = &room,
      .config_size = sizeof room,
      .n_workers = 1,
      .tick_ms = TICK_MS,
      .lane_capacity = 8,
      .clock = room->settings.clock,
      .metrics = room->settings.metrics,
      .metric_rows = vc_sttd_metrics,
  };
  return vc_stage_create(&sttd->stage, &settings, error);
}

static uint32_t connections_max(const struct room *room)
{
  uint64_t wanted = (uint64_t)room->sessions_max * 4 + 64;
  uint64_t most = room->settings.descriptors_max / 2;
  return (uint32_t)(most > 0 && most < wanted ? most : wanted);
}

int room_create(struct vc_sttd **sttd_out, struct engine *engine,
                const struct vc_sttd_settings *settings, struct vc_address *bound,
                struct vc_error *error)
{
  struct vc_sttd *sttd = calloc(1, sizeof *sttd);
  if (sttd == NULL) {
    engine_close(&engine);
    return vc_error_set(error, "no memory");
  }
  struct room *room = &sttd->room;
  room->settings = *settings;
  room->engine = engine;
  room->sessions_max = sessions_max(settings->options);
  room->connections_max = connections_max(room);
  room->listen_fd = -1;
  room->started_ms = vc_clock_unix_ms(settings->clock);
  int status = check_keys(settings->options, error);
  if (status == 0) {
    room->listen_fd = vc_listen(settings->options->listen, BACKLOG, &room->bound, error);
    status = room->listen_fd < 0 ? -1 : 0;
  }
  if (status != 0 || make_pool(room, error) != 0 || make_stage(sttd, error) != 0) {
    vc_sttd_destroy(&sttd);
    return -1;
  }
  *bound = room->bound;
  *sttd_out = sttd;
  return 0;
}

void room_wake(struct vc_sttd *sttd)
{
  vc_stage_wake(sttd->stage);
}

static void say_engine(const struct engine *engine, uint32_t n_sessions)
{
  vc_log(VC_LOG_INFO, VC_EVENT("sttd.engine"), VC_STR("engine", engine->name),
         VC_STR("about", engine->about), VC_INT("sessions_max", n_sessions));
  if (engine->is_fallback) {
    vc_log(VC_LOG_WARN, VC_EVENT("sttd.engine_fallback"), VC_STR("engine", engine->name),
           VC_STR("why", "it makes many errors; deploy/fetch-stt gets the better one"));
  }
}

int vc_sttd_create(struct vc_sttd **sttd, const struct vc_sttd_settings *settings,
                   struct vc_address *bound, struct vc_error *error)
{
  if (check_keys(settings->options, error) != 0) {
    return -1; // before the engine is loaded, which takes its time
  }
  struct engine *engine =
      engine_open((enum engine_choice)settings->options->engine, settings->options->model, error);
  if (engine == NULL) {
    return -1;
  }
  say_engine(engine, sessions_max(settings->options));
  return room_create(sttd, engine, settings, bound, error);
}

int vc_sttd_start(struct vc_sttd *sttd, struct vc_error *error)
{
  return vc_stage_start(sttd->stage, error);
}

int vc_sttd_stop(struct vc_sttd *sttd, uint32_t timeout_ms)
{
  return vc_stage_stop(sttd->stage, timeout_ms);
}

void vc_sttd_destroy(struct vc_sttd **sttd_in)
{
  struct vc_sttd *sttd = *sttd_in;
  if (sttd == NULL) {
    return;
  }
  vc_stage_destroy(&sttd->stage);
  pool_destroy(&sttd->room.pool);
  engine_close(&sttd->room.engine);
  if (sttd->room.listen_fd >= 0) {
    close(sttd->room.listen_fd);
  }
  free(sttd);
  *sttd_in = NULL;
}

int vc_sttd_check(const struct vc_sttd_options *options, FILE *out, struct vc_error *error)
{
  if (check_keys(options, error) != 0) {
    return -1;
  }
  struct engine *engine = engine_open((enum engine_choice)options->engine, options->model, error);
  if (engine == NULL) {
    return -1;
  }
  fprintf(out, "engine: %s (%s)\nlanguages:", engine->name, engine->about);
  for (size_t i = 0; i < engine->n_languages; i++) {
    fprintf(out, " %s", engine->languages[i]);
  }
  fprintf(out, "\nsessions: %u on %u recognisers\nAPI keys: %s\n", sessions_max(options),
          vc_cores(), vc_secret_is_set(options->api_keys) ? "set" : "none, loopback only");
  engine_close(&engine);
  return 0;
}
