// verbacast-sink: from Kafka into the database. Main waits for signals, a thread does the work.
#include <verbacast/base/log.h>
#include <verbacast/base/thread.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

#include "sink.h"
#include "sink_door.h"

#define WATCH_MS 200  // how soon main sees that the work cannot go on
#define LEAVE_MS 5000 // the group, what the producer has under way
#define CLOSE_MS 2000 // Civetweb's own end
#define NODE_MAX 96

struct service {
  /* set before start, then read-only */
  const struct sink_options *options;
  char node[NODE_MAX];
  struct vc_metrics *metrics;
  struct vc_health *health;
  struct sink *sink; // the thread's while it runs
  struct sink_door *door;
  pthread_t thread;
  /* any thread, atomic */
  _Atomic int is_stopping;
  _Atomic int has_failed; // release, with `error` before it; acquire
  /* the thread's, then main's */
  struct vc_error error;
};

static void *work(void *context)
{
  struct service *service = context;
  struct vc_error error;
  while (!atomic_load_explicit(&service->is_stopping, memory_order_relaxed)) {
    if (sink_turn(service->sink, &error) != 0) {
      service->error = error;
      atomic_store_explicit(&service->has_failed, 1, memory_order_release);
      return NULL;
    }
  }
  size_t n_rows = sink_finish(service->sink);
  if (n_rows > 0) {
    vc_log(VC_LOG_WARN, VC_EVENT("program.drain"), VC_INT("rows", n_rows),
           VC_STR("why", "not written in time; they are read again from Kafka"));
  }
  return NULL;
}

static int has_failed(const struct service *service)
{
  return atomic_load_explicit(&service->has_failed, memory_order_acquire);
}

static void wait_for_stop(const struct service *service, struct vc_option_set *set)
{
  while (!has_failed(service)) {
    switch (vc_program_wait(WATCH_MS)) {
    case VC_PROGRAM_STOP:
      return;
    case VC_PROGRAM_RELOAD:
      vc_program_reload(set);
      break;
    case VC_PROGRAM_NONE:
      break;
    }
  }
}

static int start(struct service *service, struct vc_address *bound, struct vc_error *error)
{
  const struct sink_settings sink = {.options = service->options,
                                     .node = service->node,
                                     .clock = &vc_clock_system,
                                     .metrics = service->metrics,
                                     .health = service->health};
  if (sink_create(&service->sink, &sink, error) != 0) {
    return -1;
  }
  const struct sink_door_settings door = {.options = service->options,
                                          .sink = service->sink,
                                          .node = service->node,
                                          .clock = &vc_clock_system,
                                          .metrics = service->metrics,
                                          .health = service->health};
  if (sink_door_open(&service->door, bound, &door, error) != 0) {
    return -1;
  }
  return vc_thread_start(&service->thread, "vc-sink", 0, work, service) == 0
             ? 0
             : vc_error_set(error, "no thread for the sink");
}

static int serve(struct service *service, struct vc_option_set *set, struct vc_error *error)
{
  struct vc_address bound;
  if (start(service, &bound, error) != 0) {
    return -1;
  }
  const struct vc_program_address address = {"sink", bound};
  vc_program_ready(&address, 1);
  wait_for_stop(service, set);
  sink_door_drain(service->door);
  atomic_store_explicit(&service->is_stopping, 1, memory_order_relaxed);
  pthread_join(service->thread, NULL);
  *error = service->error;
  return has_failed(service) ? -1 : 0;
}

static int run(struct vc_option_set *set, const struct sink_options *options,
               struct vc_error *error)
{
  struct service service = {.options = options,
                            .metrics = vc_metrics_create(&vc_clock_system),
                            .health = vc_health_create(&vc_clock_system)};
  vc_program_make_name(service.node, sizeof service.node);
  int status = service.metrics != NULL && service.health != NULL ? serve(&service, set, error)
                                                                 : vc_error_set(error, "no memory");
  sink_door_close(&service.door);
  sink_destroy(&service.sink);
  vc_health_destroy(&service.health);
  vc_metrics_destroy(&service.metrics);
  return status;
}

static int check(struct vc_option_set *set, const struct sink_options *options)
{
  struct vc_error error;
  if (sink_options_check(options, &error) != 0) {
    fprintf(stderr, "%s: %s\n", set->program, error.text);
    return VC_EXIT_FAILED;
  }
  vc_options_print_effective(set, stdout);
  printf("would write %s and %s.sessions into the database, operators on %s\n"
         "a drain may take up to %d ms\n",
         options->kafka.kafka_topic, options->kafka.kafka_topic, options->sink_listen,
         SINK_FINISH_MS + SINK_CALL_MAX_MS + LEAVE_MS + CLOSE_MS);
  return VC_EXIT_OK;
}

static int start_and_run(struct vc_option_set *set, const struct sink_options *options,
                         const struct vc_program_settings *program)
{
  struct vc_error error;
  if (vc_program_start(program, set->program, &error) != 0 ||
      sink_options_check(options, &error) != 0 || run(set, options, &error) != 0) {
    return vc_program_fail(&error);
  }
  vc_program_end(VC_EXIT_OK);
  return VC_EXIT_OK;
}

int main(int argc, char **argv)
{
  struct sink_options options = {.reset_offsets = 0};
  struct vc_program_settings program = {.log_level = 0};
  struct vc_option_group groups[SINK_GROUPS];
  sink_option_groups(groups, &options, &program);
  struct vc_option_set set = {.program = "verbacast-sink",
                              .summary = SINK_SUMMARY,
                              .groups = groups,
                              .n_groups = SINK_GROUPS};
  struct vc_error error;
  int status = VC_EXIT_OK;
  enum vc_program_step step = vc_program_parse(&set, argc, argv, &status);
  if (step != VC_PROGRAM_EXIT && sink_options_demand(&options, &error) != 0) {
    fprintf(stderr, "%s: %s\n", set.program, error.text);
    step = VC_PROGRAM_EXIT;
    status = VC_EXIT_USAGE;
  }
  switch (step) {
  case VC_PROGRAM_RUN:
    status = start_and_run(&set, &options, &program);
    break;
  case VC_PROGRAM_CHECK:
    status = check(&set, &options);
    break;
  case VC_PROGRAM_EXIT:
    break;
  }
  vc_options_free(&set);
  return status;
}
