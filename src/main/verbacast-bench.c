// verbacast-bench: drives load at the node and its peers, and prints a table.
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "program.h"

#include <bench.h>
#include <bench_options.h>

#define PATH_SIZE 4096
#define DESCRIPTORS_MAX 131072

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
  struct sigaction hangup;
  pthread_t thread;
  sigemptyset(&ends);
  sigaddset(&ends, SIGINT);
  sigaddset(&ends, SIGTERM);
  sigaddset(&ends, SIGQUIT);
  if (sigaction(SIGHUP, NULL, &hangup) == 0 && hangup.sa_handler != SIG_IGN) {
    sigaddset(&ends, SIGHUP); // but under nohup
  }
  pthread_sigmask(SIG_BLOCK, &ends, NULL);
  if (pthread_create(&thread, NULL, wait_signal, &ends) != 0) {
    die("no thread waits for signals");
  }
  pthread_detach(thread);
}

static void add_system(struct plan *plan, const char *name, const char *command, int is_node)
{
  if (plan->n_systems == SYSTEMS_MAX) {
    refuse("more than %d systems", SYSTEMS_MAX);
  }
  plan->systems[plan->n_systems++] = (struct system){.name = name,
                                                     .command = command,
                                                     .is_node = is_node,
                                                     .cores = plan->cores,
                                                     .watch_path = "/live/{session}",
                                                     .publish_path = "/publish/{session}"};
}

// The programs lie beside this one, in a build folder and where all are installed. `path`: for it.
static const char *find_program(const char *given, const char *name, const char *option, char *path)
{
  char own[PATH_SIZE - 64];
  if (given[0] != '\0') {
    return given;
  }
  ssize_t n = readlink("/proc/self/exe", own, sizeof own - 1);
  own[n > 0 ? n : 0] = '\0';
  char *slash = strrchr(own, '/');
  snprintf(path, PATH_SIZE, "%.*s/%s", slash != NULL ? (int)(slash - own) : 0, own, name);
  if (access(path, X_OK) != 0) {
    die("%s: there is no %s; name one", option, path);
  }
  return path;
}

static void add_peers(struct plan *plan, char *list)
{
  char *rest = NULL;
  for (char *peer = strtok_r(list, ";", &rest); peer != NULL; peer = strtok_r(NULL, ";", &rest)) {
    char *equals = strchr(peer, '=');
    if (equals == NULL || equals == peer || equals[1] == '\0') {
      refuse("BENCH_PEERS: '%s' is not of the form name=command", peer);
    }
    *equals = '\0';
    add_system(plan, peer, equals + 1, 0);
  }
}

// Cuts "ws://ADDRESS:PORT/PATH" behind the address. Returns: the path.
static const char *read_url(char *url, struct vc_address *address)
{
  struct vc_error error;
  char *host = strncmp(url, "ws://", 5) == 0 ? url + 5 : NULL;
  char *slash = host != NULL ? strchr(host, '/') : NULL;
  const char *path = slash != NULL ? strdup(slash) : "/live/{session}";
  if (slash != NULL) {
    *slash = '\0';
  }
  if (host == NULL || path == NULL || vc_listen_parse(host, address, &error) != 0) {
    refuse("BENCH_PEER names '%s': ws://ADDRESS:PORT/PATH with an IPv4 address", url);
  }
  return path;
}

static pid_t read_pid(const char *text)
{
  char *end;
  long pid = strtol(text, &end, 10);
  if (text[0] < '0' || text[0] > '9' || *end != '\0' || pid < 1 || pid > INT32_MAX) {
    refuse("BENCH_PEER: 'pid=%s' is not of the form pid=ID of a process", text);
  }
  return (pid_t)pid;
}

static void add_running_peer(struct plan *plan, char *text)
{
  struct vc_address address;
  char *rest = NULL, *url = strtok_r(text, " ", &rest);
  if (url == NULL) {
    return;
  }
  const char *path = read_url(url, &address);
  add_system(plan, url + strlen("ws://"), NULL, 0);
  struct system *system = &plan->systems[plan->n_systems - 1];
  system->watch_path = path;
  system->http = address;
  for (char *word = strtok_r(NULL, " ", &rest); word != NULL; word = strtok_r(NULL, " ", &rest)) {
    if (strncmp(word, "pid=", 4) == 0) {
      system->pid = read_pid(word + 4);
      continue;
    }
    system->publish_path = read_url(word, &address);
    if (address.port != system->http.port || !vc_address_equal(&address, &system->http)) {
      refuse("BENCH_PEER: messages are said to it at '%s', which is not where it is watched", word);
    }
  }
}

// Returns: how many numbers the comma list has.
static size_t read_list(const char *name, const char *text, long least, long most, size_t *numbers)
{
  char *end;
  size_t n = 0;
  for (const char *at = text; n < COUNTS_MAX; at = end + 1) {
    long number = strtol(at, &end, 10);
    if (end == at || number < least || number > most || (*end != ',' && *end != '\0')) {
      refuse("%s is '%s': a comma list of at most %d numbers from %ld to %ld", name, text,
             COUNTS_MAX, least, most);
    }
    numbers[n++] = (size_t)number;
    if (*end == '\0') {
      return n;
    }
  }
  refuse("%s is '%s': more than %d numbers", name, text, COUNTS_MAX);
}

// For itself and, since they inherit it, for the systems.
static void raise_descriptor_limit(void)
{
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) {
    return;
  }
  struct rlimit most = {.rlim_cur =
                            limit.rlim_max > DESCRIPTORS_MAX ? limit.rlim_max : DESCRIPTORS_MAX};
  most.rlim_max = most.rlim_cur;
  if (setrlimit(RLIMIT_NOFILE, &most) != 0) { // more than the limit is for root alone
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
  }
}

enum kind { INGEST, FANOUT, PIPELINE, REJOIN, SINK, N_KINDS };
static const struct {
  const char *name, *what;
  int (*run)(struct plan *plan);
} kinds[] = {
    [INGEST] = {"ingest", "ingest: RTMP message to PCM at the STT", ingest_run},
    [FANOUT] = {"fanout", "fanout: said to received", fanout_run},
    [PIPELINE] = {"pipeline", "pipeline: sound sent to words received", pipeline_run},
    [REJOIN] = {"rejoin", "rejoin: all of a session's viewers come back at once", rejoin_run},
    [SINK] = {"sink", "sink: final received to row committed", sink_run},
};

static void plan_sink(struct plan *plan, const struct bench_options *options)
{
  static char path[PATH_SIZE];
  if (options->brokers[0] == '\0' || options->database[0] == '\0') {
    refuse("BENCH_BROKERS or BENCH_DATABASE is not set: sink needs a Kafka and a PostgreSQL");
  }
  if (strncmp(options->database, "postgresql://", 13) != 0) {
    refuse("BENCH_DATABASE is none: postgresql://USER@HOST/DATABASE");
  }
  if (strcmp(options->node, "none") == 0 || options->peers[0] != '\0') {
    refuse("sink measures the node alone: no BENCH_PEERS, and BENCH_NODE is not none");
  }
  plan->brokers = options->brokers;
  plan->topic = options->topic;
  plan->database = options->database;
  plan->n_drain = options->drain;
  plan->n_batches = read_list("BENCH_BATCHES", options->batches, 1, 10000, plan->batches);
  plan->sink =
      (struct system){.name = "verbacast-sink",
                      .command = find_program(options->sink, "verbacast-sink", "BENCH_SINK", path),
                      .cores = plan->cores};
}

static void make_plan(struct plan *plan, enum kind kind, const struct bench_options *options)
{
  int is_pcm = kind == INGEST && options->publish;
  *plan = (struct plan){
      .seconds = options->seconds,
      .rounds = options->rounds,
      .warm_up_s = options->warm_up_s,
      .n_sessions = options->n_sessions,
      .burst = options->burst,
      .messages_per_final = options->messages_per_final,
      .n_threads = options->n_threads,
      .n_viewers = options->n_viewers,
      .rate_hz = options->rate_hz,
      .audio = options->audio,
      .cores = options->cores[0] != '\0' ? options->cores : NULL,
      .stt = options->stt[0] != '\0' ? options->stt : NULL,
      .is_pcm = is_pcm,
      .is_until_full = options->until_full,
      .report = report_create(is_pcm ? "ingest: PCM message to PCM at the STT" : kinds[kind].what)};
  if (plan->audio[0] == '\0') {
    refuse("BENCH_AUDIO is not set: bench/load/make-audio makes an audio file");
  }
  if ((kind == PIPELINE || kind == REJOIN) && plan->rate_hz <= 0) {
    refuse("BENCH_RATE_HZ is 0: %s needs a rate", kinds[kind].name);
  }
  plan->n_counts =
      read_list("BENCH_COUNTS", options->counts, kind == SINK ? 0 : 1, 60000, plan->counts);
  plan->n_stalled = read_list("BENCH_STALLED", options->stalled, 0, 50, plan->stalled);
  plan->n_slow = read_list("BENCH_SLOW", options->slow, 0, 49, plan->slow);
  if (kind == SINK) {
    plan_sink(plan, options);
  } else if (kind == FANOUT) {
    fanout_check(plan);
  }
}

// Until the end: names and commands lie in it.
static char *copy(const char *text)
{
  static char *copies[2];
  static size_t n;
  copies[n] = strdup(text);
  if (copies[n] == NULL) {
    die("out of memory");
  }
  return copies[n++];
}

static void add_systems(struct plan *plan, enum kind kind, const struct bench_options *options,
                        char *path)
{
  char *peers = copy(options->peers), *peer = copy(options->peer);
  if (strcmp(options->node, "none") != 0) {
    add_system(plan, "verbacast", find_program(options->node, "verbacast", "BENCH_NODE", path), 1);
  }
  if (kind == REJOIN && (plan->n_systems == 0 || peers[0] != '\0')) {
    refuse("rejoin is of the node alone: no BENCH_PEERS, and BENCH_NODE not none");
  }
  add_peers(plan, peers);
  add_running_peer(plan, peer);
  if (plan->n_systems == 0) {
    refuse("BENCH_NODE is none, and no BENCH_PEERS are named: there is nothing to measure");
  }
  for (size_t i = 0; i < plan->n_systems; i++) {
    plan->systems[i].stt_url = plan->stt;
  }
  if (plan->is_pcm && options->peers[0] != '\0') {
    refuse("BENCH_PUBLISH is pcm, which BENCH_PEERS do not take");
  }
  if (kind != FANOUT && options->peer[0] != '\0') {
    refuse("BENCH_PEER is for fanout");
  }
}

static void prepare(struct plan *plan, enum kind kind, const struct bench_options *options)
{
  static char path[PATH_SIZE];
  make_plan(plan, kind, options);
  add_systems(plan, kind, options, path);
  if (plan->cores != NULL) {
    load_avoid_cores(plan->cores);
  }
}

static int measure(enum kind kind, const struct bench_options *options)
{
  char note[160];
  struct plan plan;
  prepare(&plan, kind, options);
  raise_descriptor_limit();
  double stolen_s = machine_stolen_s(), load = machine_load();
  int is_late = kinds[kind].run(&plan);
  snprintf(note, sizeof note, "%ld cores, load %.2f before and %.2f after, %.1f s stolen meanwhile",
           sysconf(_SC_NPROCESSORS_ONLN), load, machine_load(), machine_stolen_s() - stolen_s);
  report_note(plan.report, note);
  if (is_late) {
    report_note(
        plan.report,
        "NOT TO BE BELIEVED: the load generator itself was the bottleneck: late, or a thread "
        "of its had no rest; use fewer, more threads or more cores");
  }
  size_t n_empty = report_n_empty(plan.report);
  if (n_empty > 0) {
    snprintf(note, sizeof note, "NOT TO BE BELIEVED: nothing was measured in %zu rows and rounds",
             n_empty);
    report_note(plan.report, note);
  }
  report_print(plan.report);
  if (options->json[0] != '\0') {
    report_write_json(plan.report, options->json);
  }
  if (options->plot[0] != '\0') {
    report_write_plot(plan.report, options->plot);
  }
  report_destroy(&plan.report);
  return is_late || n_empty > 0 ? VC_EXIT_FAILED : VC_EXIT_OK;
}

static int check(struct vc_option_set *set, enum kind kind, const struct bench_options *options)
{
  struct plan plan;
  vc_options_print_effective(set, stdout);
  prepare(&plan, kind, options);
  report_destroy(&plan.report);
  printf("would measure %s\n", kinds[kind].name);
  if (access(options->audio, R_OK) != 0) {
    fprintf(stderr, "verbacast-bench: BENCH_AUDIO is '%s': a readable file of sound is needed\n",
            options->audio);
    return VC_EXIT_FAILED;
  }
  return VC_EXIT_OK;
}

static int parse_and_measure(enum kind kind, int argc, char **argv)
{
  static struct bench_options options;
  int status = VC_EXIT_OK;
  const struct vc_option_group groups[] = {{"Bench", bench_option_rows, &options}};
  struct vc_option_set set = {
      .program = "verbacast-bench", .summary = BENCH_SUMMARY, .groups = groups, .n_groups = 1};
  switch (vc_program_parse(&set, argc, argv, &status)) {
  case VC_PROGRAM_RUN:
    status = measure(kind, &options);
    break;
  case VC_PROGRAM_CHECK:
    status = check(&set, kind, &options);
    break;
  case VC_PROGRAM_EXIT:
    break;
  }
  vc_options_free(&set);
  return status;
}

// The flags may be written without their "bench-": --rounds 5 is --bench-rounds 5.
static void lengthen_flags(int argc, char **argv)
{
  for (int i = 1; i < argc; i++) {
    size_t size = strcspn(argv[i], "=");
    for (const struct vc_option *row = bench_option_rows; row->name != NULL; row++) {
      const char *name = row->name + strlen("BENCH_");
      size_t n = 0;
      while (name[n] != '\0' && n + 2 < size &&
             (name[n] == '_' ? '-' : name[n] | 0x20) == argv[i][n + 2]) {
        n++;
      }
      char *longer = NULL;
      if (strncmp(argv[i], "--", 2) == 0 && name[n] == '\0' && n + 2 == size &&
          asprintf(&longer, "--bench-%s", argv[i] + 2) > 0) {
        argv[i] = longer; // until the end
        break;
      }
    }
  }
}

int main(int argc, char **argv)
{
  const char *mode = argc > 1 ? argv[1] : "";
  signal(SIGPIPE, SIG_IGN);
  lengthen_flags(argc, argv);
  if (strcmp(mode, "send-loop") == 0 || strcmp(mode, "gather-loop") == 0) {
    return send_loop_main(mode[0] == 'g');
  }
  watch_signals();
  for (enum kind kind = 0; kind < N_KINDS; kind++) {
    if (strcmp(mode, kinds[kind].name) == 0) {
      return parse_and_measure(kind, argc - 1, argv + 1);
    }
  }
  if (strcmp(mode, "--help") == 0 || strcmp(mode, "--version") == 0 ||
      strcmp(mode, "--check-config") == 0) {
    return parse_and_measure(INGEST, argc, argv);
  }
  fprintf(stderr,
          "verbacast-bench: '%s' is no mode; ingest, fanout, pipeline, rejoin, sink, send-loop and "
          "gather-loop are\n",
          mode);
  return VC_EXIT_USAGE;
}
