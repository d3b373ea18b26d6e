// Everything at once: from the sound that is sent to the words that a viewer has.
//
// The scripted speech peer answers pieces of sound as they arrive, with their numbers. So each of a
// viewer's messages has the message that completed its piece, and what lies between the two is the
// system's own: the chunk's length is not in it, and the peer's answer takes no time that is
// counted (its receipt of the piece to its stamp is left out).
//
// A real one says itself where in the sound its words end. What is measured then is from the
// message that had this sound: the chunk, the recogniser and the system, together.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

#define START_TIMEOUT_S 120
#define LATE_MAX_MS 5.0

struct run {
  struct plan *plan;
  struct system *system;
  size_t n;
  struct pace pace; // nobody asks it
  struct speech speech;
  struct publishing publishing;
  struct viewing viewing;
  struct vc_stage *peer, *publishers, *viewers;
  double idle_bytes; // without streams
  struct window window;
};

static void start(struct run *run, const struct sound *sound)
{
  size_t n = run->n, n_viewers = n * (size_t)run->plan->n_viewers;
  run->speech.echo_hz = run->plan->rate_hz;
  run->speech.messages_per_final = (uint32_t)run->plan->messages_per_final;
  run->publishing.sound = sound;
  run->publishing.way = &rtmp_way;
  run->pace.rate_hz = 1;
  run->viewing.pace = &run->pace;
  run->viewing.keeps_receipts = 1;
  run->viewing.n = n_viewers;
  run->viewing.n_sessions = n;
  run->viewing.watch_path = run->system->watch_path;
  speech_init(&run->speech, n * 2);
  publishing_init(&run->publishing, n);
  viewing_init(&run->viewing);
  run->peer = load_start(&speech_ops, &run->speech);
  system_start(run->system, &run->speech.address);
  load_sleep(1); // what a start costs is over
  run->idle_bytes = system_memory_bytes(run->system);
  run->viewing.to = run->system->http;
  run->viewers = load_start(&viewing_ops, &run->viewing);
  load_wait(&run->viewing.n_open, n_viewers, START_TIMEOUT_S, "viewers are in");
  run->publishing.to = run->system->rtmp;
  run->publishers = load_start(&publishing_ops, &run->publishing);
  load_wait(&run->publishing.n_live, n, START_TIMEOUT_S, "publishers are live");
  if (run->plan->stt == NULL) {
    load_wait(&run->speech.n_live, n, START_TIMEOUT_S, "sessions came to the speech peer");
  }
}

static void observe(struct run *run)
{
  load_sleep((double)run->plan->warm_up_s);
  window_begin(&run->window, run->system);
  load_sleep((double)run->plan->seconds);
  window_end(&run->window);
  load_sleep(0.5); // what is under way arrives
}

static void stop(struct run *run)
{
  size_t n_lost = atomic_load(&run->viewing.n_lost) + atomic_load(&run->publishing.n_lost);
  load_stop(&run->viewers);
  load_stop(&run->publishers);
  load_stop(&run->peer);
  system_stop(run->system);
  if (n_lost > 0) {
    die("%s lost %zu publishers and viewers", run->system->name, n_lost);
  }
}

static void add_quantiles(struct report *report, const char *row, const char *what,
                          struct samples *samples)
{
  char column[64];
  samples_sort(samples);
  snprintf(column, sizeof column, "%s p50", what);
  report_add(report, row, column, FIGURE_MS, samples_part(samples, 0.5));
  snprintf(column, sizeof column, "%s p99", what);
  report_add(report, row, column, FIGURE_MS, samples_part(samples, 0.99));
  snprintf(column, sizeof column, "%s max", what);
  report_add(report, row, column, FIGURE_MS, samples_part(samples, 1));
}

// --- the scripted peer

// What was heard of each session, by the number in its name.
static void find_hearings(const struct run *run, struct hearing *hearings, double *delays_s)
{
  for (size_t i = 0; i < run->speech.n_heard; i++) {
    const struct heard *heard = &run->speech.heard[i];
    const struct publisher *publisher = hearing_publisher(&run->publishing, heard->slug);
    size_t session = (size_t)(publisher - run->publishing.publishers);
    hearings[session] = (struct hearing){heard, publisher, run->publishing.sound,
                                         run->window.from_ns, run->window.to_ns};
    delays_s[session] = hearing_delay_s(&hearings[session]);
  }
}

static void add_echoes(struct run *run, const char *row)
{
  struct hearing *hearings = grow(NULL, run->n, sizeof *hearings);
  double *delays_s = grow(NULL, run->n, sizeof *delays_s);
  struct samples own = {0}, in = {0}, out = {0};
  memset(hearings, 0, run->n * sizeof *hearings);
  find_hearings(run, hearings, delays_s);
  for (size_t i = 0; i < run->viewing.receipts.n; i++) {
    const struct receipt *receipt = &run->viewing.receipts.at[i];
    const struct hearing *hearing = &hearings[receipt->session];
    double in_ms =
        hearing->heard != NULL && receipt->number > 0
            ? hearing_latency_ms(hearing, delays_s[receipt->session], receipt->number - 1)
            : NAN;
    if (!isnan(in_ms)) {
      double out_ms = (double)(receipt->at_ns - receipt->said_ns) / (double)VC_NS_PER_MS;
      samples_add(&in, in_ms);
      samples_add(&out, out_ms);
      samples_add(&own, in_ms + out_ms);
    }
  }
  add_quantiles(run->plan->report, row, "own part", &own);
  add_quantiles(run->plan->report, row, "message to PCM", &in);
  add_quantiles(run->plan->report, row, "said to viewer", &out);
  report_add_latency(run->plan->report, row, &own);
  samples_fini(&own);
  samples_fini(&in);
  samples_fini(&out);
  free(hearings);
  free(delays_s);
}

// --- a real one

// Where it says finals alone, the plot is of these.
static void add_words(struct run *run, const char *row)
{
  const struct sound *sound = run->publishing.sound;
  double frame_s = (double)sound->frame_samples / sound->sample_rate_hz;
  struct samples ms[2] = {{0}, {0}};
  for (size_t i = 0; i < run->viewing.receipts.n; i++) {
    const struct receipt *receipt = &run->viewing.receipts.at[i];
    const struct publisher *publisher = &run->publishing.publishers[receipt->session];
    size_t message = receipt->end_s > 0 ? (size_t)(receipt->end_s / frame_s) : 0;
    if (receipt->at_ns >= run->window.from_ns && receipt->at_ns < run->window.to_ns &&
        message > 0 && message < publisher->n_sent) {
      samples_add(&ms[receipt->is_final],
                  ((double)receipt->at_ns - (double)publisher->sent_ns[message]) /
                      (double)VC_NS_PER_MS);
    }
  }
  add_quantiles(run->plan->report, row, "partial", &ms[0]);
  add_quantiles(run->plan->report, row, "final", &ms[1]);
  report_add_latency(run->plan->report, row, &ms[ms[0].n > 0 ? 0 : 1]);
  samples_fini(&ms[0]);
  samples_fini(&ms[1]);
}

static int run_one(struct plan *plan, struct system *system, const struct sound *sound, size_t n)
{
  char row[96];
  static struct run run;
  run = (struct run){.plan = plan, .system = system, .n = n};
  start(&run, sound);
  observe(&run);
  stop(&run);
  snprintf(row, sizeof row, "%s, %zu streams, %lld viewers each", system->name, n,
           (long long)plan->n_viewers);
  plan->stt == NULL ? add_echoes(&run, row) : add_words(&run, row);
  double load_part = window_load_part(&run.window);
  double late_ms = publishing_late_ms(&run.publishing, run.window.from_ns, run.window.to_ns);
  report_add(plan->report, row, "CPU", FIGURE_PERCENT,
             window_cpu_s(&run.window) / window_s(&run.window) * 100);
  report_add(plan->report, row, "memory", FIGURE_MIB,
             (run.window.memory_after - run.idle_bytes) / 1048576);
  report_add(plan->report, row, "publishers late p99", FIGURE_MS, late_ms);
  report_add(plan->report, row, "busiest load thread", FIGURE_PERCENT, load_part * 100);
  viewing_fini(&run.viewing);
  publishing_fini(&run.publishing);
  speech_fini(&run.speech);
  return late_ms > LATE_MAX_MS || load_part > LOAD_BUSY_MAX;
}

int pipeline_run(struct plan *plan)
{
  struct sound sound = {0};
  int is_late = 0;
  sound_read_adts(&sound, plan->audio);
  for (int64_t round = 0; round < plan->rounds; round++) {
    for (size_t i = 0; i < plan->n_counts * plan->n_systems; i++) {
      is_late |= run_one(plan, &plan->systems[i % plan->n_systems], &sound,
                         plan->counts[i / plan->n_systems]);
    }
  }
  sound_fini(&sound);
  return is_late;
}
