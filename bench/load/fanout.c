// How many messages reach how many viewers how soon: from the message being said (by the speech
// peer to the node, by a speaker to a broadcaster) to its receipt by each viewer.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "bench.h"

#define START_TIMEOUT_S 120
#define LATE_MAX_MS 50.0

struct run {
  struct plan *plan;
  struct system *system;
  struct sound sound;
  struct speech speech;
  struct publishing publishing;
  struct viewing viewing;
  struct vc_stage *peer, *publishers, *viewers;
  double handshakes_s;
  struct usage idle; // before the viewers came
};

static void start(struct run *run, size_t n_viewers)
{
  size_t n_sessions = (size_t)run->plan->n_sessions;
  speech_init(&run->speech, n_sessions * 2);
  publishing_init(&run->publishing, n_sessions);
  viewing_init(&run->viewing, n_viewers, n_sessions, !run->system->is_node);
  run->peer = load_start(&speech_ops, &run->speech);
  system_start(run->system, &run->speech.address);
  if (run->system->is_node) {
    run->publishing.to = run->system->rtmp;
    run->publishers = load_start(&publishing_ops, &run->publishing);
    load_wait(&run->speech.n_live, n_sessions, START_TIMEOUT_S, "sessions are live");
  }
  load_sleep(1); // what a start costs is over
  system_usage(run->system, &run->idle);
  uint64_t begin_ns = vc_clock_now_ns(&vc_clock_system);
  run->viewing.to = run->system->http;
  run->viewers = load_start(&viewing_ops, &run->viewing);
  load_wait(&run->viewing.n_open, n_viewers, START_TIMEOUT_S, "viewers are in");
  run->handshakes_s = (double)(vc_clock_now_ns(&vc_clock_system) - begin_ns) / VC_NS_PER_S;
}

static void stop(struct run *run)
{
  load_stop(&run->viewers);
  if (run->publishers != NULL) {
    load_stop(&run->publishers);
  }
  load_stop(&run->peer);
  system_stop(run->system);
}

// What the system says of itself.
static void add_own_figures(struct run *run, const char *row, const char *metrics)
{
  static const struct {
    const char *name, *column;
  } own[] = {{"ws.session_broadcast_lag_ms", "lag (own)"},
             {"ws.fanout_ms", "fanout (own)"},
             {"ingest.broadcast_latency_ms", "latency (own)"}};
  json_t *root = metrics != NULL ? json_loads(metrics, 0, NULL) : NULL;
  for (size_t i = 0; i < sizeof own / sizeof *own; i++) {
    const json_t *average =
        json_object_get(json_object_get(json_object_get(root, "latency"), own[i].name), "avg");
    report_add(run->plan->report, row, own[i].column, FIGURE_MS,
               json_is_number(average) ? json_number_value(average) : NAN);
  }
  json_decref(root);
}

static void add_figures(struct run *run, const char *row, double seconds,
                        const struct usage *before, const struct usage *after)
{
  double cpu_s = after->cpu_s - before->cpu_s;
  struct report *report = run->plan->report;
  struct viewing *viewing = &run->viewing;
  double n = (double)viewing->n_received;
  samples_sort(&viewing->delay_ms);
  report_add(report, row, "delivered/s", FIGURE_PER_S, n / seconds);
  report_add(report, row, "p50", FIGURE_MS, samples_part(&viewing->delay_ms, 0.5));
  report_add(report, row, "p99", FIGURE_MS, samples_part(&viewing->delay_ms, 0.99));
  report_add(report, row, "max", FIGURE_MS, samples_part(&viewing->delay_ms, 1));
  report_add(report, row, "missed", FIGURE_COUNT, (double)viewing->n_missed);
  report_add(report, row, "CPU a delivery", FIGURE_US, n > 0 ? cpu_s * 1e6 / n : NAN);
  report_add(report, row, "memory a viewer, KiB", FIGURE_COUNT,
             (before->memory_bytes - run->idle.memory_bytes) / (double)viewing->n / 1024);
  report_add(report, row, "handshakes/s", FIGURE_PER_S, (double)viewing->n / run->handshakes_s);
}

static int run_one(struct plan *plan, struct system *system, size_t n_viewers)
{
  char row[64];
  struct usage before, after;
  struct run run = {.plan = plan, .system = system};
  run.speech.rate_hz = run.viewing.rate_hz = plan->rate_hz;
  run.speech.messages_per_final = (uint32_t)plan->messages_per_final;
  run.speech.burst = run.viewing.burst = (uint32_t)plan->burst;
  sound_read_adts(&run.sound, plan->audio);
  run.publishing.sound = &run.sound;
  run.publishing.way = &rtmp_way;
  start(&run, n_viewers);
  load_sleep((double)plan->warm_up_s);
  system_usage(system, &before);
  uint64_t now_ns = vc_clock_now_ns(&vc_clock_system);
  atomic_store(&run.viewing.measured_to_ns, now_ns + (uint64_t)plan->seconds * VC_NS_PER_S);
  atomic_store(&run.viewing.measured_from_ns, now_ns);
  load_sleep((double)plan->seconds);
  system_usage(system, &after);
  const struct vc_address *admin = system->is_node ? &system->admin : &system->http;
  char *metrics = system_get(admin, "/metrics");
  load_sleep(0.5); // what is under way arrives
  size_t n_lost = atomic_load(&run.viewing.n_lost);
  stop(&run);
  if (n_lost > 0) {
    die("%s lost %zu of %zu viewers", system->name, n_lost, n_viewers);
  }
  snprintf(row, sizeof row, "%s, %zu viewers", system->name, n_viewers);
  add_figures(&run, row, (double)plan->seconds, &before, &after);
  add_own_figures(&run, row, metrics);
  free(metrics);
  struct samples *lateness = system->is_node ? &run.speech.lateness_ms : &run.viewing.lateness_ms;
  samples_sort(lateness);
  double late_ms = samples_part(lateness, 0.99);
  report_add(plan->report, row, "speaker late p99", FIGURE_MS, late_ms);
  viewing_fini(&run.viewing);
  publishing_fini(&run.publishing);
  speech_fini(&run.speech);
  sound_fini(&run.sound);
  return late_ms > LATE_MAX_MS;
}

int fanout_run(struct plan *plan)
{
  int is_late = 0;
  for (int64_t round = 0; round < plan->rounds; round++) {
    for (size_t c = 0; c < plan->n_counts; c++) {
      for (size_t s = 0; s < plan->n_systems; s++) {
        is_late |= run_one(plan, &plan->systems[s], plan->counts[c]);
      }
    }
  }
  return is_late;
}
