// How long a sound takes through a system's ingest: from the last byte of the RTMP message that
// completes a piece of PCM being handed to the kernel, to that piece's arrival at the speech peer.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

#define LATE_MAX_MS 5.0 // of the publishers' own sends, 99 of 100: else they are the bottleneck
#define START_TIMEOUT_S 60
#define LOOP_S 1.0           // of CPU time
#define FULL_STEP 1.25       // more streams each time
#define FULL_LATENCY_MS 50.0 // sound that is older than a chunk is long piles up
#define FULL_PART 0.98       // of the chunks that are due

struct outcome {
  double p99_ms, chunks_per_s, cpu_s; // cpu_s: of the system, a second
  int is_late;                        // the load
};

static struct outcome add_figures(struct plan *plan, const char *row,
                                  const struct publishing *publishing, const struct speech *speech,
                                  const struct window *window, double idle_bytes)
{
  struct samples latency = {0}, first = {0};
  for (size_t i = 0; i < speech->n_heard; i++) {
    const struct heard *heard = &speech->heard[i];
    const struct publisher *publisher = hearing_publisher(publishing, heard->slug);
    const struct hearing hearing = {heard, publisher, publishing->sound, window->from_ns,
                                    window->to_ns};
    hearing_measure(&hearing, hearing_delay_s(&hearing), &latency);
    if (heard->n_pieces > 0) {
      samples_add(&first,
                  (double)(heard->pieces[0].at_ns - publisher->publish_ns) / (double)VC_NS_PER_MS);
    }
  }
  samples_sort(&latency);
  samples_sort(&first);
  double n = (double)publishing->n;
  double seconds = window_s(window);
  const struct outcome outcome = {.p99_ms = samples_part(&latency, 0.99),
                                  .chunks_per_s = (double)latency.n / seconds,
                                  .cpu_s = window_cpu_s(window) / seconds,
                                  .is_late = window_load_part(window) > LOAD_BUSY_MAX};
  report_add(plan->report, row, "latency p50", FIGURE_MS, samples_part(&latency, 0.5));
  report_add(plan->report, row, "p99", FIGURE_MS, outcome.p99_ms);
  report_add(plan->report, row, "max", FIGURE_MS, samples_part(&latency, 1));
  report_add(plan->report, row, "publish to first PCM p50", FIGURE_MS, samples_part(&first, 0.5));
  report_add(plan->report, row, "max ", FIGURE_MS, samples_part(&first, 1));
  report_add(plan->report, row, "CPU a stream", FIGURE_PERCENT, outcome.cpu_s / n * 100);
  report_add(plan->report, row, "memory a stream", FIGURE_MIB,
             (window->memory_after - idle_bytes) / n / 1048576);
  report_add(plan->report, row, "chunks/s", FIGURE_PER_S, outcome.chunks_per_s);
  report_add(plan->report, row, "short pieces", FIGURE_PERCENT, hearing_short_part(speech));
  report_add_latency(plan->report, row, &latency);
  samples_fini(&latency);
  samples_fini(&first);
  return outcome;
}

static struct outcome run_one(struct plan *plan, struct system *system, const struct sound *sound,
                              size_t n)
{
  char row[64];
  struct speech speech = {0};
  struct publishing publishing = {.sound = sound, .way = plan->is_pcm ? &track_way : &rtmp_way};
  static struct window window;
  speech_init(&speech, n * 2);
  publishing_init(&publishing, n);
  struct vc_stage *peer = load_start(&speech_ops, &speech);
  system_start(system, &speech.address);
  load_sleep(1); // what a start costs is over
  double idle_bytes = system_memory_bytes(system);
  publishing.to = plan->is_pcm ? system->http : system->rtmp;
  struct vc_stage *publishers = load_start(&publishing_ops, &publishing);
  load_wait(&publishing.n_live, n, START_TIMEOUT_S, "publishers are live");
  load_wait(&speech.n_live, n, START_TIMEOUT_S, "sessions came to the speech peer");
  load_sleep((double)plan->warm_up_s);
  window_begin(&window, system);
  load_sleep((double)plan->seconds);
  window_end(&window);
  size_t n_lost = atomic_load(&publishing.n_lost);
  char *metrics = system->is_node ? system_get(&system->admin, "/metrics") : NULL;
  load_stop(&publishers);
  load_stop(&peer);
  system_stop(system);
  if (n_lost > 0) {
    die("%s lost %zu of %zu publishers", system->name, n_lost, n);
  }
  snprintf(row, sizeof row, "%s, %zu streams", system->name, n);
  struct outcome outcome = add_figures(plan, row, &publishing, &speech, &window, idle_bytes);
  if (system->is_node) {
    report_add_own(plan->report, row, "to the stt lane p50 (own)", metrics,
                   "decode.chunk_latency_ms", "p50");
  }
  free(metrics);
  double late_ms = publishing_late_ms(&publishing, window.from_ns, window.to_ns);
  report_add(plan->report, row, "publishers late p99", FIGURE_MS, late_ms);
  report_add(plan->report, row, "busiest load thread", FIGURE_PERCENT,
             window_load_part(&window) * 100);
  outcome.is_late |= late_ms > LATE_MAX_MS;
  publishing_fini(&publishing);
  speech_fini(&speech);
  return outcome;
}

static int keeps_up(const struct outcome *outcome, size_t n)
{
  return outcome->p99_ms <= FULL_LATENCY_MS &&
         outcome->chunks_per_s >= FULL_PART * (double)n * CHUNKS_PER_S;
}

// Returns: 1 when it was the load that could not keep up.
static int run_until_full(struct plan *plan, struct system *system, const struct sound *sound)
{
  char row[64];
  double held = NAN, cpu_s = NAN;
  size_t n = plan->counts[plan->n_counts - 1];
  struct outcome outcome;
  for (;; n = (size_t)((double)n * FULL_STEP) + 1) {
    outcome = run_one(plan, system, sound, n);
    if (outcome.is_late || !keeps_up(&outcome, n)) {
      break;
    }
    held = (double)n;
    cpu_s = outcome.cpu_s;
  }
  snprintf(row, sizeof row, "%s, until full", system->name);
  report_add(plan->report, row, "streams", FIGURE_COUNT, held);
  report_add(plan->report, row, "CPU a stream", FIGURE_PERCENT, cpu_s / held * 100);
  return outcome.is_late;
}

static void run_bound(struct plan *plan, const struct sound *sound, size_t n)
{
  char row[64];
  snprintf(row, sizeof row, "libavcodec + swresample, %zu streams", n);
  struct loop_cost cost = decode_loop(sound, n, LOOP_S);
  report_add(plan->report, row, "CPU a stream", FIGURE_PERCENT, cost.cpu_s * 100);
  report_add(plan->report, row, "memory a stream", FIGURE_MIB, cost.bytes / 1048576);
}

static int run_count(struct plan *plan, const struct sound *sound, size_t n)
{
  int is_late = 0;
  for (size_t i = 0; i < plan->n_systems; i++) {
    is_late |= run_one(plan, &plan->systems[i], sound, n).is_late;
  }
  if (!plan->is_pcm) {
    run_bound(plan, sound, n);
  }
  return is_late;
}

int ingest_run(struct plan *plan)
{
  struct sound sound = {0};
  int is_late = 0;
  plan->is_pcm ? sound_read_pcm(&sound, plan->audio) : sound_read_adts(&sound, plan->audio);
  for (int64_t round = 0; round < plan->rounds; round++) {
    for (size_t i = 0; i < plan->n_counts; i++) {
      is_late |= run_count(plan, &sound, plan->counts[i]);
    }
    for (size_t i = 0; i < plan->n_systems && plan->is_until_full; i++) {
      is_late |= run_until_full(plan, &plan->systems[i], &sound);
    }
  }
  sound_fini(&sound);
  return is_late;
}
