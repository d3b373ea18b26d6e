// How many messages reach how many viewers how soon: from the message being said (by the speech
// peer to the node, by a speaker to a broadcaster) to its receipt by each viewer.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

#define START_TIMEOUT_S 120
#define LATE_MAX_MS 50.0
#define THREADS_MAX 16
#define LATE_WAIT_S 5     // for what is under way: what comes later counts as missed
#define AHEAD_NS 20000000 // the measured time is told so long before it begins

struct crowd { // how many watch, and how
  size_t n, slow_part, stalled_part;
};

struct run {
  struct plan *plan;
  struct system *system;
  struct crowd crowd;
  struct sound sound;
  struct pace pace;
  uint32_t *readers_of; // of each session
  struct speech speech;
  struct publishing publishing;
  struct viewing viewings[THREADS_MAX];
  struct vc_stage *peer, *publishers, *viewers[THREADS_MAX];
  size_t n_threads;
  double handshakes_s;
  double idle_bytes; // without viewers
  struct window window;
  uint64_t measured_to_ns;
  double n_received; // until LATE_WAIT_S after it
};

static void start_viewers(struct run *run)
{
  size_t n_left = run->crowd.n;
  run->n_threads = (size_t)run->plan->n_threads < n_left ? (size_t)run->plan->n_threads : n_left;
  for (size_t i = 0; i < run->n_threads; i++) {
    struct viewing *viewing = &run->viewings[i];
    *viewing = (struct viewing){.to = run->system->http,
                                .pace = &run->pace,
                                .watch_path = run->system->watch_path,
                                .publish_path = run->system->publish_path,
                                .first = run->crowd.n - n_left,
                                .n = n_left / (run->n_threads - i),
                                .n_sessions = (size_t)run->plan->n_sessions,
                                .has_speakers = i == 0 && !run->system->is_node,
                                .slow_part = (uint32_t)run->crowd.slow_part,
                                .stalled_part = (uint32_t)run->crowd.stalled_part};
    viewing_init(viewing);
    n_left -= viewing->n;
    run->viewers[i] = load_start(&viewing_ops, viewing);
  }
  for (size_t i = 0; i < run->n_threads; i++) {
    struct viewing *viewing = &run->viewings[i];
    load_wait(&viewing->n_open, viewing->n + (viewing->has_speakers ? viewing->n_sessions : 0),
              START_TIMEOUT_S, "viewers are in");
  }
}

static void start(struct run *run)
{
  size_t n_sessions = (size_t)run->plan->n_sessions;
  speech_init(&run->speech, n_sessions * 2);
  publishing_init(&run->publishing, n_sessions);
  run->peer = load_start(&speech_ops, &run->speech);
  system_start(run->system, &run->speech.address);
  if (run->system->is_node) {
    run->publishing.to = run->system->rtmp;
    run->publishers = load_start(&publishing_ops, &run->publishing);
    load_wait(&run->speech.n_live, n_sessions, START_TIMEOUT_S, "sessions are live");
  }
  load_sleep(1); // what a start costs is over
  run->idle_bytes = system_memory_bytes(run->system);
  uint64_t begin_ns = vc_clock_now_ns(&vc_clock_system);
  start_viewers(run);
  run->handshakes_s = (double)(vc_clock_now_ns(&vc_clock_system) - begin_ns) / VC_NS_PER_S;
  pace_begin(&run->pace, run->system->is_node ? run->peer : run->viewers[0]);
}

static void stop(struct run *run)
{
  pace_end(&run->pace);
  for (size_t i = 0; i < run->n_threads; i++) {
    load_stop(&run->viewers[i]);
  }
  if (run->publishers != NULL) {
    load_stop(&run->publishers);
  }
  load_stop(&run->peer);
  system_stop(run->system);
}

static void destroy(struct run *run)
{
  for (size_t i = 0; i < run->n_threads; i++) {
    viewing_fini(&run->viewings[i]);
  }
  publishing_fini(&run->publishing);
  speech_fini(&run->speech);
  sound_fini(&run->sound);
  free(run->readers_of);
}

static void sleep_until(uint64_t at_ns)
{
  uint64_t now_ns = vc_clock_now_ns(&vc_clock_system);
  if (now_ns < at_ns) {
    load_sleep((double)(at_ns - now_ns) / (double)VC_NS_PER_S);
  }
}

static void measure(struct run *run)
{
  uint64_t from_ns = vc_clock_now_ns(&vc_clock_system) + AHEAD_NS;
  run->measured_to_ns = from_ns + (uint64_t)run->plan->seconds * VC_NS_PER_S;
  pace_measure(&run->pace, from_ns, run->measured_to_ns);
  window_begin(&run->window, run->system);
  sleep_until(run->measured_to_ns);
  window_end(&run->window);
}

struct counts { // of all threads
  uint64_t n_received, n_arrived;
};

static struct counts count(struct run *run)
{
  struct counts counts = {0};
  for (size_t i = 0; i < run->n_threads; i++) {
    counts.n_received += atomic_load(&run->viewings[i].n_received);
    counts.n_arrived += atomic_load(&run->viewings[i].n_arrived);
  }
  return counts;
}

static void wait_for_the_late(struct run *run)
{
  uint64_t end_ns = run->measured_to_ns + LATE_WAIT_S * VC_NS_PER_S;
  while (count(run).n_received < atomic_load(&run->pace.n_due) &&
         vc_clock_now_ns(&vc_clock_system) < end_ns) {
    load_sleep(0.02);
  }
}

// What the system says of itself.
static void add_own_figures(struct run *run, const char *row, const char *metrics)
{
  static const struct {
    const char *name, *column;
  } own[] = {{"ws.session_broadcast_lag_ms", "lag (own)"},
             {"ws.fanout_ms", "fanout (own)"},
             {"ingest.broadcast_latency_ms", "latency (own)"}};
  for (size_t i = 0; i < sizeof own / sizeof *own; i++) {
    report_add_own(run->plan->report, row, own[i].column, metrics, own[i].name, "avg");
  }
}

static void merge(struct samples *all, struct samples *part)
{
  for (size_t i = 0; i < part->n; i++) {
    samples_add(all, part->at[i]);
  }
  samples_fini(part);
}

static void add_figures(struct run *run, const char *row)
{
  struct report *report = run->plan->report;
  struct samples delay_ms = {0};
  double seconds = (double)run->plan->seconds, n_disordered = 0;
  double n = (double)count(run).n_arrived, n_due = (double)atomic_load(&run->pace.n_due);
  double cpu_part = window_cpu_s(&run->window) / window_s(&run->window);
  for (size_t i = 0; i < run->n_threads; i++) {
    struct viewing *viewing = &run->viewings[i];
    n_disordered += (double)viewing->n_disordered;
    merge(&delay_ms, &viewing->delay_ms);
  }
  samples_sort(&delay_ms);
  report_add(report, row, "delivered/s", FIGURE_PER_S, n / seconds);
  report_add(report, row, "p50", FIGURE_MS, samples_part(&delay_ms, 0.5));
  report_add(report, row, "p99", FIGURE_MS, samples_part(&delay_ms, 0.99));
  report_add(report, row, "max", FIGURE_MS, samples_part(&delay_ms, 1));
  report_add(report, row, "missed", FIGURE_COUNT, n_due - run->n_received);
  report_add(report, row, "out of order", FIGURE_COUNT, n_disordered);
  report_add(report, row, "CPU a delivery", FIGURE_US, n > 0 ? cpu_part * seconds * 1e6 / n : NAN);
  report_add(report, row, "memory a viewer, KiB", FIGURE_COUNT,
             (run->window.memory_before - run->idle_bytes) / (double)run->crowd.n / 1024);
  report_add(report, row, "handshakes/s", FIGURE_PER_S, (double)run->crowd.n / run->handshakes_s);
  report_add_latency(report, row, &delay_ms);
  samples_fini(&delay_ms);
}

// Of the load itself. Returns: 1 it was the bottleneck.
static int add_load_figures(struct run *run, const char *row)
{
  struct report *report = run->plan->report;
  struct samples *lateness =
      run->system->is_node ? &run->speech.lateness_ms : &run->viewings[0].lateness_ms;
  samples_sort(lateness);
  double late_ms = samples_part(lateness, 0.99);
  double load_part = window_load_part(&run->window);
  report_add(report, row, "speaker late p99", FIGURE_MS, late_ms);
  report_add(report, row, "busiest load thread", FIGURE_PERCENT, load_part * 100);
  return late_ms > LATE_MAX_MS || load_part > LOAD_BUSY_MAX;
}

static void name_row(const struct run *run, char *row, size_t size)
{
  int n = snprintf(row, size, "%s, %zu viewers", run->system->name, run->crowd.n);
  if (run->crowd.stalled_part > 0) {
    n += snprintf(row + n, size - (size_t)n, ", %zu %% stalled", run->crowd.stalled_part);
  }
  if (run->crowd.slow_part > 0) {
    snprintf(row + n, size - (size_t)n, ", %zu %% slow", run->crowd.slow_part);
  }
}

static int is_reader(const struct crowd *crowd, size_t i)
{
  return viewer_kind_of(i, (uint32_t)crowd->slow_part, (uint32_t)crowd->stalled_part) == READER;
}

// Of each session, and in all.
static void count_readers(struct run *run)
{
  const struct crowd *crowd = &run->crowd;
  size_t n_sessions = (size_t)run->plan->n_sessions;
  run->readers_of = grow(NULL, n_sessions, sizeof *run->readers_of);
  memset(run->readers_of, 0, n_sessions * sizeof *run->readers_of);
  for (size_t i = 0; i < crowd->n; i++) {
    if (is_reader(crowd, i)) {
      run->readers_of[i % n_sessions]++;
      run->pace.n_readers++;
    }
  }
  run->pace.readers_of = run->readers_of;
  run->pace.n_sessions = n_sessions;
}

static int run_one(struct plan *plan, struct system *system, const struct crowd *crowd)
{
  char row[96];
  static struct run run;
  size_t n_lost = 0;
  run = (struct run){.plan = plan, .system = system, .crowd = *crowd};
  run.pace.rate_hz = plan->rate_hz;
  run.pace.burst = (uint32_t)plan->burst;
  count_readers(&run);
  run.speech.pace = &run.pace;
  run.speech.messages_per_final = (uint32_t)plan->messages_per_final;
  sound_read_adts(&run.sound, plan->audio);
  run.publishing.sound = &run.sound;
  run.publishing.way = &rtmp_way;
  start(&run);
  load_sleep((double)plan->warm_up_s);
  measure(&run);
  wait_for_the_late(&run);
  run.n_received = (double)count(&run).n_received;
  const struct vc_address *admin = system->is_node ? &system->admin : &system->http;
  char *metrics = system->command != NULL ? system_get(admin, "/metrics") : NULL;
  for (size_t i = 0; i < run.n_threads; i++) {
    n_lost += atomic_load(&run.viewings[i].n_lost);
  }
  stop(&run);
  if (n_lost > 0) {
    die("%s lost %zu of %zu viewers", system->name, n_lost, crowd->n);
  }
  name_row(&run, row, sizeof row);
  add_figures(&run, row);
  add_own_figures(&run, row, metrics);
  free(metrics);
  int is_late = add_load_figures(&run, row);
  if (run.pace.rate_hz <= 0) {
    report_add(plan->report, row, "given up", FIGURE_COUNT, (double)run.pace.n_given_up);
  }
  destroy(&run);
  return is_late;
}

static int run_crowd(struct plan *plan, const struct crowd *crowd)
{
  int is_late = 0;
  for (size_t i = 0; i < plan->n_systems; i++) {
    is_late |= run_one(plan, &plan->systems[i], crowd);
  }
  return is_late;
}

static size_t count_crowds(const struct plan *plan)
{
  return plan->n_counts * plan->n_stalled * plan->n_slow;
}

static struct crowd crowd_of(const struct plan *plan, size_t i)
{
  return (struct crowd){.n = plan->counts[i / plan->n_stalled / plan->n_slow],
                        .stalled_part = plan->stalled[i / plan->n_slow % plan->n_stalled],
                        .slow_part = plan->slow[i % plan->n_slow]};
}

void fanout_check(const struct plan *plan)
{
  for (size_t i = 0; i < count_crowds(plan); i++) {
    const struct crowd crowd = crowd_of(plan, i);
    size_t n = 0;
    while (n < crowd.n && !is_reader(&crowd, n)) {
      n++;
    }
    if (n == crowd.n) {
      refuse("BENCH_COUNTS has %zu, BENCH_STALLED %zu, BENCH_SLOW %zu: no viewer is left that "
             "reads",
             crowd.n, crowd.stalled_part, crowd.slow_part);
    }
  }
}

int fanout_run(struct plan *plan)
{
  int is_late = 0;
  for (int64_t round = 0; round < plan->rounds; round++) {
    for (size_t i = 0; i < count_crowds(plan); i++) {
      const struct crowd crowd = crowd_of(plan, i);
      is_late |= run_crowd(plan, &crowd);
    }
  }
  return is_late;
}
