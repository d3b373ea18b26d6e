// verbacast-bench: drives load at the node and its peers, and prints a table.
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <verbacast/base/options.h>

#include "bench.h"
#include "options.h"
#include "program.h"

#define PATH_SIZE 4096

const struct vc_option bench_option_rows[] = {
    {"BENCH_COUNTS", VC_OPTION_TEXT, offsetof(struct bench_options, counts), .initial = "1,25,100",
     .help = "Streams (ingest) or viewers (fanout) of one measurement after the other."},
    {"BENCH_SECONDS", VC_OPTION_INTEGER, offsetof(struct bench_options, seconds), .initial = "15",
     .unit = "s", .min = 1, .max = 3600,
     .help = "Time that is measured, of each system and count."},
    {"BENCH_WARM_UP_S", VC_OPTION_INTEGER, offsetof(struct bench_options, warm_up_s),
     .initial = "3", .unit = "s", .min = 0, .max = 600, .help = "Time under load before it."},
    {"BENCH_ROUNDS", VC_OPTION_INTEGER, offsetof(struct bench_options, rounds), .initial = "3",
     .min = 1, .max = 64, .help = "Rounds; the systems take turns in each."},
    {"BENCH_SESSIONS", VC_OPTION_INTEGER, offsetof(struct bench_options, n_sessions),
     .initial = "1", .min = 1, .max = 1000, .help = "fanout: sessions that share the viewers."},
    {"BENCH_RATE_HZ", VC_OPTION_REAL, offsetof(struct bench_options, rate_hz), .initial = "5",
     .unit = "1/s", .min = 0.01, .max = 10000, .help = "fanout: messages a second and session."},
    {"BENCH_BURST", VC_OPTION_INTEGER, offsetof(struct bench_options, burst), .initial = "1",
     .min = 1, .max = 1000, .help = "fanout: messages that are said at once."},
    {"BENCH_AUDIO", VC_OPTION_TEXT, offsetof(struct bench_options, audio), .initial = "",
     .help = "ADTS file that publishers play; bench/load/make-audio makes one (needed)."},
    {"BENCH_NODE", VC_OPTION_TEXT, offsetof(struct bench_options, node), .initial = "",
     .help = "The node's program; empty: the verbacast that was built with this; none: no node."},
    {"BENCH_PEERS", VC_OPTION_TEXT, offsetof(struct bench_options, peers), .initial = "",
     .help = "Other systems to measure in turn: name=command with blanks; the next behind a "
             "semicolon. See bench/README.md for what such a command must do."},
    {"BENCH_JSON", VC_OPTION_TEXT, offsetof(struct bench_options, json), .initial = "",
     .help = "File for the figures as JSON."},
    VC_OPTION_ROWS_END,
};

static void end_by_signal(int number)
{
  static const char text[] = "verbacast-bench: ended by a signal\n";
  ssize_t n = write(STDERR_FILENO, text, sizeof text - 1);
  (void)n;
  system_stop_all();
  _exit(1);
}

static void add_system(struct plan *plan, const char *name, const char *command, int is_node)
{
  if (plan->n_systems == SYSTEMS_MAX) {
    die("more than %d systems", SYSTEMS_MAX);
  }
  plan->systems[plan->n_systems++] =
      (struct system){.name = name, .command = command, .is_node = is_node};
}

// The node lies in the build folder beside this program's, or beside it where both are installed.
static const char *find_node(const char *given, char *path)
{
  static const char *const places[] = {"/../../src/main/verbacast", "/verbacast"};
  char own[PATH_SIZE - 64];
  struct stat status;
  if (given[0] != '\0') {
    return given;
  }
  ssize_t n = readlink("/proc/self/exe", own, sizeof own - 1);
  own[n > 0 ? n : 0] = '\0';
  *strrchr(own, '/') = '\0';
  for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
    snprintf(path, PATH_SIZE, "%s%s", own, places[i]);
    if (stat(path, &status) == 0) {
      return path;
    }
  }
  die("BENCH_NODE: no verbacast beside this program; name one");
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
                      .rate_hz = options->rate_hz,
                      .audio = options->audio,
                      .report = report_create(is_ingest ? "ingest: RTMP message to PCM at the STT"
                                                        : "fanout: said to received")};
  char *peers = strdup(options->peers);
  if (plan.audio[0] == '\0') {
    die("BENCH_AUDIO is not set: bench/load/make-audio makes an audio file");
  }
  read_counts(&plan, options->counts);
  if (strcmp(options->node, "none") != 0) {
    add_system(&plan, "verbacast", find_node(options->node, path), 1);
  }
  add_peers(&plan, peers);
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
    fprintf(stderr, "verbacast-bench: BENCH_AUDIO is '%s': a readable ADTS file is needed\n",
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
  signal(SIGINT, end_by_signal);
  signal(SIGTERM, end_by_signal);
  if (strcmp(mode, "ingest") == 0 || strcmp(mode, "fanout") == 0) {
    return parse_and_measure(mode, argc - 1, argv + 1);
  }
  if (mode[0] == '-') {
    return parse_and_measure("ingest", argc, argv); // --help, --version
  }
  fprintf(stderr, "verbacast-bench: '%s' is no mode; ingest, fanout and send-loop are\n", mode);
  return VC_EXIT_USAGE;
}
