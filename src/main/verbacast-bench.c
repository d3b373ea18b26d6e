// verbacast-bench: drives load at the node and its peers, and prints a table.
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "program.h"

#include <bench.h>
#include <bench_options.h>

#define PATH_SIZE 4096

// Waits in a thread of its own, since what is to be done is nothing for a signal handler: processes
// are waited for, folders are removed.
static void *wait_signal(void *ends)
{
  int number = 0;
  sigwait(ends, &number);
  die("ended by signal %d", number);
}

// Before the first thread, so that all of them have it blocked.
static void watch_signals(void)
{
  static sigset_t ends;
  pthread_t thread;
  sigemptyset(&ends);
  sigaddset(&ends, SIGINT);
  sigaddset(&ends, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &ends, NULL);
  if (pthread_create(&thread, NULL, wait_signal, &ends) != 0) {
    die("no thread waits for signals");
  }
  pthread_detach(thread);
}

static void add_system(struct plan *plan, const char *name, const char *command, int is_node)
{
  if (plan->n_systems == SYSTEMS_MAX) {
    die("more than %d systems", SYSTEMS_MAX);
  }
  plan->systems[plan->n_systems++] =
      (struct system){.name = name, .command = command, .is_node = is_node};
}

// The node lies beside this program, in a build folder and where both are installed.
static const char *find_node(const char *given, char *path)
{
  char own[PATH_SIZE - 64];
  if (given[0] != '\0') {
    return given;
  }
  ssize_t n = readlink("/proc/self/exe", own, sizeof own - 1);
  own[n > 0 ? n : 0] = '\0';
  char *slash = strrchr(own, '/');
  snprintf(path, PATH_SIZE, "%.*s/verbacast", slash != NULL ? (int)(slash - own) : 0, own);
  if (access(path, X_OK) != 0) {
    die("BENCH_NODE: there is no %s; name one", path);
  }
  return path;
}

static void add_peers(struct plan *plan, char *list)
{
  char *rest = NULL;
  for (char *peer = strtok_r(list, ";", &rest); peer != NULL; peer = strtok_r(NULL, ";", &rest)) {
    char *equals = strchr(peer, '=');
    if (equals == NULL || equals == peer || equals[1] == '\0') {
      die("BENCH_PEERS: '%s' is not of the form name=command", peer);
    }
    *equals = '\0';
    add_system(plan, peer, equals + 1, 0);
  }
}

static void read_counts(struct plan *plan, const char *text)
{
  char *end;
  for (const char *at = text; plan->n_counts < COUNTS_MAX; at = end + 1) {
    long n = strtol(at, &end, 10);
    if (end == at || n < 1 || n > 60000 || (*end != ',' && *end != '\0')) {
      die("BENCH_COUNTS is '%s': a comma list of at most %d numbers from 1 to 60000", text,
          COUNTS_MAX);
    }
    plan->counts[plan->n_counts++] = (size_t)n;
    if (*end == '\0') {
      return;
    }
  }
  die("BENCH_COUNTS is '%s': more than %d numbers", text, COUNTS_MAX);
}

static int measure(const char *mode, const struct bench_options *options)
{
  char note[160], path[PATH_SIZE];
  int is_ingest = strcmp(mode, "ingest") == 0;
  struct plan plan = {.seconds = options->seconds,
                      .rounds = options->rounds,
                      .warm_up_s = options->warm_up_s,
                      .n_sessions = options->n_sessions,
                      .burst = options->burst,
                      .messages_per_final = options->messages_per_final,
                      .rate_hz = options->rate_hz,
                      .audio = options->audio,
                      .is_pcm = is_ingest && options->publish,
                      .report = report_create(!is_ingest ? "fanout: said to received"
                                              : options->publish
                                                  ? "ingest: PCM message to PCM at the STT"
                                                  : "ingest: RTMP message to PCM at the STT")};
  char *peers = strdup(options->peers);
  if (plan.audio[0] == '\0') {
    die("BENCH_AUDIO is not set: bench/load/make-audio makes an audio file");
  }
  read_counts(&plan, options->counts);
  if (strcmp(options->node, "none") != 0) {
    add_system(&plan, "verbacast", find_node(options->node, path), 1);
  }
  add_peers(&plan, peers);
  if (plan.is_pcm && options->peers[0] != '\0') {
    die("BENCH_PUBLISH is pcm, which BENCH_PEERS do not take");
  }
  double stolen_s = machine_stolen_s(), load = machine_load();
  int is_late = is_ingest ? ingest_run(&plan) : fanout_run(&plan);
  snprintf(note, sizeof note, "%ld cores, load %.2f before and %.2f after, %.1f s stolen meanwhile",
           sysconf(_SC_NPROCESSORS_ONLN), load, machine_load(), machine_stolen_s() - stolen_s);
  report_note(plan.report, note);
  if (is_late) {
    report_note(plan.report,
                "NOT TO BE BELIEVED: the load generator itself was late; use fewer or more cores");
  }
  report_print(plan.report);
  if (options->json[0] != '\0') {
    report_write_json(plan.report, options->json);
  }
  report_destroy(&plan.report);
  free(peers);
  return is_late ? VC_EXIT_FAILED : VC_EXIT_OK;
}

static int check(struct vc_option_set *set, const char *mode, const struct bench_options *options)
{
  vc_options_print_effective(set, stdout);
  printf("would measure %s\n", mode);
  if (options->audio[0] == '\0' || access(options->audio, R_OK) != 0) {
    fprintf(stderr, "verbacast-bench: BENCH_AUDIO is '%s': a readable file of sound is needed\n",
            options->audio);
    return VC_EXIT_FAILED;
  }
  return VC_EXIT_OK;
}

static int parse_and_measure(const char *mode, int argc, char **argv)
{
  struct bench_options options = {0};
  int status = VC_EXIT_OK;
  const struct vc_option_group groups[] = {{"Bench", bench_option_rows, &options}};
  struct vc_option_set set = {
      .program = "verbacast-bench", .summary = BENCH_SUMMARY, .groups = groups, .n_groups = 1};
  switch (vc_program_parse(&set, argc, argv, &status)) {
  case VC_PROGRAM_RUN:
    status = measure(mode, &options);
    break;
  case VC_PROGRAM_CHECK:
    status = check(&set, mode, &options);
    break;
  case VC_PROGRAM_EXIT:
    break;
  }
  vc_options_free(&set);
  return status;
}

int main(int argc, char **argv)
{
  const char *mode = argc > 1 ? argv[1] : "";
  signal(SIGPIPE, SIG_IGN);
  if (strcmp(mode, "send-loop") == 0) {
    return send_loop_main();
  }
  watch_signals();
  if (strcmp(mode, "ingest") == 0 || strcmp(mode, "fanout") == 0) {
    return parse_and_measure(mode, argc - 1, argv + 1);
  }
  if (mode[0] == '-') {
    return parse_and_measure("ingest", argc, argv); // --help, --version
  }
  fprintf(stderr, "verbacast-bench: '%s' is no mode; ingest, fanout and send-loop are\n", mode);
  return VC_EXIT_USAGE;
}
