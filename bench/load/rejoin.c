// A node has died, and all of its viewers come to another one at once, each with the position that
// it had: how long until every one of them is live again, and what the others' viewers feel.
#include <stdio.h>

#include "bench.h"

#define START_TIMEOUT_S 120
#define REJOIN_TIMEOUT_S 60
#define LATE_MAX_MS 50.0

// The last session is that of the crowd; the others have viewers who stay.
struct run {
  struct plan *plan;
  struct system *system;
  size_t n_crowd, n_others;
  struct sound sound;
  struct pace pace;
  struct speech speech;
  struct publishing publishing;
  struct viewing others, witness, crowd; // the witness learns a position
  struct vc_stage *peer, *publishers, *others_stage, *witness_stage, *crowd_stage;
  struct window window; // until all are live again
  double all_open_s;
  uint64_t calm_ns;
};

static struct vc_stage *start_viewing(struct run *run, struct viewing *viewing)
{
  viewing->to = run->system->http;
  viewing->pace = &run->pace;
  viewing_init(viewing);
  return load_start(&viewing_ops, viewing);
}

static void start(struct run *run)
{
  size_t n_sessions = run->n_others + 1;
  run->pace.rate_hz = run->plan->rate_hz;
  run->pace.burst = 1;
  run->speech.pace = &run->pace;
  run->speech.messages_per_final = (uint32_t)run->plan->messages_per_final;
  run->publishing.sound = &run->sound;
  run->publishing.way = &rtmp_way;
  sound_read_adts(&run->sound, run->plan->audio);
  speech_init(&run->speech, n_sessions * 2);
  publishing_init(&run->publishing, n_sessions);
  run->peer = load_start(&speech_ops, &run->speech);
  system_start(run->system, &run->speech.address);
  run->publishing.to = run->system->rtmp;
  run->publishers = load_start(&publishing_ops, &run->publishing);
  load_wait(&run->speech.n_live, n_sessions, START_TIMEOUT_S, "sessions are live");
  run->others = (struct viewing){.watch_path = run->system->watch_path,
                                 .n = run->n_others * (size_t)run->plan->n_viewers,
                                 .n_sessions = run->n_others,
                                 .keeps_receipts = 1};
  run->witness = (struct viewing){.watch_path = run->system->watch_path,
                                  .n = 1,
                                  .first_session = run->n_others,
                                  .n_sessions = 1};
  run->others_stage = start_viewing(run, &run->others);
  run->witness_stage = start_viewing(run, &run->witness);
  load_wait(&run->others.n_open, run->others.n, START_TIMEOUT_S, "viewers are in");
  load_wait(&run->witness.n_live, 1, START_TIMEOUT_S, "positions are known");
}

static double since(uint64_t began_ns)
{
  return (double)(vc_clock_now_ns(&vc_clock_system) - began_ns) / (double)VC_NS_PER_S;
}

static void rejoin(struct run *run)
{
  char path[256];
  snprintf(path, sizeof path, "%s?since=%llu.%llu", run->system->watch_path,
           (unsigned long long)atomic_load(&run->witness.epoch),
           (unsigned long long)atomic_load(&run->witness.seq));
  run->crowd = (struct viewing){.watch_path = path,
                                .n = run->n_crowd,
                                .first_session = run->n_others,
                                .n_sessions = 1,
                                .opening_max = run->n_crowd};
  window_begin(&run->window, run->system);
  pace_measure(&run->pace, run->window.from_ns, UINT64_MAX);
  run->crowd.live_from_ns = run->window.from_ns;
  run->crowd_stage = start_viewing(run, &run->crowd);
  load_wait(&run->crowd.n_open, run->n_crowd, REJOIN_TIMEOUT_S, "viewers are in again");
  run->all_open_s = since(run->window.from_ns);
  load_wait(&run->crowd.n_live, run->n_crowd, REJOIN_TIMEOUT_S, "viewers are live again");
  window_end(&run->window);
  pace_measure(&run->pace, run->window.from_ns, run->window.to_ns);
  load_sleep(0.5); // what is under way arrives
}

static void stop(struct run *run)
{
  size_t n_lost = atomic_load(&run->others.n_lost) + atomic_load(&run->crowd.n_lost);
  load_stop(&run->others_stage);
  load_stop(&run->witness_stage);
  load_stop(&run->crowd_stage);
  load_stop(&run->publishers);
  load_stop(&run->peer);
  system_stop(run->system);
  if (n_lost > 0) {
    die("%s lost %zu viewers", run->system->name, n_lost);
  }
}

// Of what was said to the others in [from, to).
static void find_delays(const struct run *run, uint64_t from_ns, uint64_t to_ns, struct samples *ms)
{
  for (size_t i = 0; i < run->others.receipts.n; i++) {
    const struct receipt *receipt = &run->others.receipts.at[i];
    if (receipt->said_ns >= from_ns && receipt->said_ns < to_ns) {
      samples_add(ms, (double)(receipt->at_ns - receipt->said_ns) / (double)VC_NS_PER_MS);
    }
  }
  samples_sort(ms);
}

// Returns: 1 when the load was the bottleneck.
static int add_figures(struct run *run, const char *row)
{
  struct report *report = run->plan->report;
  struct samples calm = {0}, meanwhile = {0};
  const struct window *window = &run->window;
  double load_part = window_load_part(window);
  find_delays(run, run->calm_ns, window->from_ns, &calm);
  find_delays(run, window->from_ns, window->to_ns, &meanwhile);
  report_add(report, row, "all in after", FIGURE_MS, run->all_open_s * 1e3);
  report_add(report, row, "all live after", FIGURE_MS, window_s(window) * 1e3);
  report_add(report, row, "finals each missed", FIGURE_COUNT,
             (double)run->crowd.n_before / (double)run->n_crowd);
  report_add(report, row, "others p50 before", FIGURE_MS, samples_part(&calm, 0.5));
  report_add(report, row, "p99 before", FIGURE_MS, samples_part(&calm, 0.99));
  report_add(report, row, "p50 meanwhile", FIGURE_MS, samples_part(&meanwhile, 0.5));
  report_add(report, row, "p99 meanwhile", FIGURE_MS, samples_part(&meanwhile, 0.99));
  report_add(report, row, "max meanwhile", FIGURE_MS, samples_part(&meanwhile, 1));
  report_add(report, row, "CPU a viewer", FIGURE_US,
             window_cpu_s(window) * 1e6 / (double)run->n_crowd);
  samples_sort(&run->speech.lateness_ms);
  double late_ms = samples_part(&run->speech.lateness_ms, 0.99);
  report_add(report, row, "speaker late p99", FIGURE_MS, late_ms);
  report_add(report, row, "busiest load thread", FIGURE_PERCENT, load_part * 100);
  report_add_latency(report, row, &meanwhile);
  samples_fini(&calm);
  samples_fini(&meanwhile);
  return late_ms > LATE_MAX_MS || load_part > LOAD_BUSY_MAX;
}

static int run_one(struct plan *plan, struct system *system, size_t n)
{
  char row[96];
  static struct run run;
  run = (struct run){
      .plan = plan, .system = system, .n_crowd = n, .n_others = (size_t)plan->n_sessions};
  start(&run);
  load_sleep((double)plan->warm_up_s);
  run.calm_ns = vc_clock_now_ns(&vc_clock_system);
  load_sleep((double)plan->seconds);
  rejoin(&run);
  stop(&run);
  snprintf(row, sizeof row, "%s, %zu viewers come back", system->name, n);
  int is_late = add_figures(&run, row);
  viewing_fini(&run.others);
  viewing_fini(&run.witness);
  viewing_fini(&run.crowd);
  publishing_fini(&run.publishing);
  speech_fini(&run.speech);
  sound_fini(&run.sound);
  return is_late;
}

int rejoin_run(struct plan *plan)
{
  int is_late = 0;
  for (int64_t round = 0; round < plan->rounds; round++) {
    for (size_t i = 0; i < plan->n_counts; i++) {
      is_late |= run_one(plan, &plan->systems[0], plan->counts[i]);
    }
  }
  return is_late;
}
