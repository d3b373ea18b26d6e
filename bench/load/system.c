#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <netinet/in.h>

#include "bench.h"

#define READY_TIMEOUT_MS 60000
#define STOP_TIMEOUT_MS 20000
#define POLL_MS 20
#define WORDS_MAX 32
#define PIDS_MAX 4096
#define ANSWER_MAX (16 << 20)

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; // of `running` and the pids in it
static struct system *running[SYSTEMS_MAX];

// --- starting and stopping

static int split(char *command, char **words)
{
  int n = 0;
  char *rest = NULL;
  for (char *word = strtok_r(command, " ", &rest); word != NULL && n + 1 < WORDS_MAX;
       word = strtok_r(NULL, " ", &rest)) {
    words[n++] = word;
  }
  words[n] = NULL;
  return n;
}

// --- cores

static int read_cores(const char *text, cpu_set_t *cores)
{
  char *end;
  CPU_ZERO(cores);
  for (const char *at = text;; at = end + 1) {
    long core = strtol(at, &end, 10);
    if (end == at || core < 0 || core >= sysconf(_SC_NPROCESSORS_CONF) ||
        (*end != ',' && *end != '\0')) {
      return -1;
    }
    CPU_SET((size_t)core, cores);
    if (*end == '\0') {
      return 0;
    }
  }
}

void load_avoid_cores(const char *text)
{
  cpu_set_t cores, own;
  if (read_cores(text, &cores) != 0 || sched_getaffinity(0, sizeof own, &own) != 0) {
    refuse("BENCH_CORES is '%s': a comma list of cores from 0 to %ld", text,
           sysconf(_SC_NPROCESSORS_CONF) - 1);
  }
  CPU_XOR(&cores, &cores, &own); // those that are not named, of those that there are
  CPU_AND(&cores, &cores, &own);
  if (CPU_COUNT(&cores) > 0) {
    sched_setaffinity(0, sizeof cores, &cores);
  }
}

// In the child: only what may be called between fork and exec.
static void become(char **words, char **environment, const char *folder, int out,
                   const cpu_set_t *cores)
{
  if (cores != NULL) {
    sched_setaffinity(0, sizeof *cores, cores);
  }
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  setsid();
  dup2(out, STDOUT_FILENO);
  if (chdir(folder) == 0) {
    execvpe(words[0], words, environment);
  }
  _exit(127);
}

static size_t count_texts(const char *const *texts)
{
  size_t n = 0;
  while (texts != NULL && texts[n] != NULL) {
    n++;
  }
  return n;
}

// What this system and what every kind of system is told comes first: the first of a name counts.
static char **make_environment(const struct system *system, const char *stt_url)
{
  const char *ours[] = {stt_url,
                        "RTMP_LISTEN=127.0.0.1:0",
                        "HTTP_LISTEN=127.0.0.1:0",
                        "ADMIN_LISTEN=127.0.0.1:0",
                        "RTMP_PORT=0",
                        "HTTP_PORT=0",
                        "LOG_LEVEL=error",
                        "DRAIN_DELAY_MS=0"};
  size_t n_own = count_texts(system->environment), n_ours = sizeof ours / sizeof *ours;
  size_t n = count_texts((const char *const *)environ);
  char **all = grow(NULL, n_own + n_ours + n + 1, sizeof *all);
  if (n_own > 0) {
    memcpy(all, system->environment, n_own * sizeof *all);
  }
  memcpy(all + n_own, ours, sizeof ours);
  memcpy(all + n_own + n_ours, environ, (n + 1) * sizeof *all);
  return all;
}

static void find_address(const char *line, const char *key, struct vc_address *address)
{
  char pattern[32], text[64];
  struct vc_error error;
  *address = (struct vc_address){0};
  snprintf(pattern, sizeof pattern, " %s=", key);
  const char *at = strstr(line, pattern);
  if (at == NULL) {
    return;
  }
  snprintf(text, sizeof text, "%.*s", (int)strcspn(at + strlen(pattern), " \n"),
           at + strlen(pattern));
  if (vc_listen_parse(text, address, &error) != 0) {
    die("the ready line is '%s': %s", line, error.text);
  }
}

static void wait_ready(struct system *system, int out)
{
  char line[512];
  size_t n = 0;
  struct pollfd poll_fd = {.fd = out, .events = POLLIN};
  while (n + 1 < sizeof line && (n == 0 || line[n - 1] != '\n')) {
    ssize_t got = poll(&poll_fd, 1, READY_TIMEOUT_MS) == 1 ? read(out, line + n, 1) : -1;
    if (got != 1) {
      die("%s did not say that it is ready", system->name);
    }
    n++;
  }
  line[n] = '\0';
  if (strncmp(line, "ready ", 6) != 0) {
    die("%s said '%s' instead of its ready line", system->name, line);
  }
  find_address(line, "rtmp", &system->rtmp);
  find_address(line, "http", &system->http);
  find_address(line, "admin", &system->admin);
  find_address(line, "sink", &system->sink);
}

void system_start(struct system *system, const struct vc_address *stt)
{
  if (system->command == NULL) {
    return;
  }
  char stt_url[256], *words[WORDS_MAX], *command = strdup(system->command);
  int out[2];
  size_t slot = 0;
  cpu_set_t cores;
  int is_bound = system->cores != NULL && read_cores(system->cores, &cores) == 0;
  const char *place = getenv("TMPDIR"); // on a disk, as what a journal commits to should be
  snprintf(system->folder, sizeof system->folder, "%s/verbacast-bench-XXXXXX",
           place != NULL && place[0] != '\0' ? place : "/var/tmp");
  if (command == NULL || split(command, words) == 0 || mkdtemp(system->folder) == NULL ||
      pipe2(out, O_CLOEXEC) != 0) {
    die("%s cannot be started: %s", system->name, strerror(errno));
  }
  if (system->stt_url != NULL) {
    snprintf(stt_url, sizeof stt_url, "STT_URL=%s", system->stt_url);
  } else {
    snprintf(stt_url, sizeof stt_url, "STT_URL=http://127.0.0.1:%u/v2/live", stt->port);
  }
  char **environment = make_environment(system, stt_url);
  pthread_mutex_lock(&mutex);
  system->pid = fork();
  if (system->pid == 0) {
    become(words, environment, system->folder, out[1], is_bound ? &cores : NULL);
  }
  while (slot + 1 < SYSTEMS_MAX && running[slot] != NULL) {
    slot++;
  }
  running[slot] = system;
  pthread_mutex_unlock(&mutex);
  close(out[1]);
  free(environment);
  free(command);
  wait_ready(system, out[0]);
  close(out[0]); // it says nothing more there
}

static int remove_entry(const char *path, const struct stat *status, int kind, struct FTW *where)
{
  return remove(path);
}

int system_has_ended(const struct system *system)
{
  siginfo_t about = {0};
  return system->command != NULL &&
         waitid(P_PID, (id_t)system->pid, &about, WEXITED | WNOHANG | WNOWAIT) == 0 &&
         about.si_pid != 0;
}

static void stop_locked(struct system *system)
{
  if (system->pid <= 0 || system->command == NULL) {
    return;
  }
  kill(system->pid, SIGTERM);
  for (int waited = 0; waitpid(system->pid, NULL, WNOHANG) == 0; waited += POLL_MS) {
    if (waited == STOP_TIMEOUT_MS) {
      kill(-system->pid, SIGKILL); // its children too
    }
    load_sleep(POLL_MS / 1e3);
  }
  kill(-system->pid, SIGKILL); // children that it left behind
  system->pid = 0;
  nftw(system->folder, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
  for (size_t i = 0; i < SYSTEMS_MAX; i++) {
    running[i] = running[i] == system ? NULL : running[i];
  }
}

void system_stop(struct system *system)
{
  pthread_mutex_lock(&mutex);
  stop_locked(system);
  pthread_mutex_unlock(&mutex);
}

void system_stop_all(void)
{
  pthread_mutex_lock(&mutex);
  for (size_t i = 0; i < SYSTEMS_MAX; i++) {
    if (running[i] != NULL) {
      stop_locked(running[i]);
    }
  }
  pthread_mutex_unlock(&mutex);
}

// --- what it uses: all processes of its session (setsid above)

static int read_text(const char *path, char *text, size_t size)
{
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  ssize_t n = fd >= 0 ? read(fd, text, size - 1) : -1;
  if (fd >= 0) {
    close(fd);
  }
  text[n > 0 ? n : 0] = '\0';
  return n > 0 ? 0 : -1;
}

struct stat_line {
  int session;
  double own_s;    // of CPU
  double waited_s; // of children that have ended, the same in the lines of all threads
};

// Fields of /proc/PID/stat after the name: state ppid pgrp session … utime is the 12th, stime 13th,
// cutime and cstime follow.
static int read_stat(const char *pid, struct stat_line *stat)
{
  char path[64], text[1024];
  long long fields[16] = {0};
  snprintf(path, sizeof path, "/proc/%s/stat", pid);
  if (read_text(path, text, sizeof text) != 0 || strrchr(text, ')') == NULL) {
    return -1;
  }
  char *at = strrchr(text, ')') + 3; // behind the state
  for (int i = 0; i < 15; i++) {
    fields[i] = strtoll(at, &at, 10);
  }
  double ticks_s = (double)sysconf(_SC_CLK_TCK);
  stat->session = (int)fields[2];
  stat->own_s = (double)(fields[10] + fields[11]) / ticks_s;
  stat->waited_s = (double)(fields[12] + fields[13]) / ticks_s;
  return 0;
}

static double read_pss(const char *pid)
{
  char path[64], text[4096];
  snprintf(path, sizeof path, "/proc/%s/smaps_rollup", pid);
  const char *at = read_text(path, text, sizeof text) == 0 ? strstr(text, "\nPss:") : NULL;
  return at != NULL ? strtod(at + strlen("\nPss:"), NULL) * 1024 : 0;
}

static int is_of(const struct system *system, const char *pid, const struct stat_line *stat)
{
  return (system->command != NULL ? stat->session : strtol(pid, NULL, 10)) == system->pid;
}

// The process ids of a system. Returns: how many.
static size_t find_processes(const struct system *system, long pids[static PIDS_MAX], double *cpu_s)
{
  DIR *folder = opendir("/proc");
  const struct dirent *entry;
  size_t n = 0;
  *cpu_s = 0;
  while (folder != NULL && n < PIDS_MAX && (entry = readdir(folder)) != NULL) {
    struct stat_line stat;
    if (entry->d_name[0] >= '0' && entry->d_name[0] <= '9' &&
        read_stat(entry->d_name, &stat) == 0 && is_of(system, entry->d_name, &stat)) {
      *cpu_s += stat.own_s + stat.waited_s;
      pids[n++] = strtol(entry->d_name, NULL, 10);
    }
  }
  if (folder != NULL) {
    closedir(folder);
  }
  *cpu_s = n > 0 ? *cpu_s : NAN;
  return n;
}

double system_cpu_s(const struct system *system)
{
  long pids[PIDS_MAX];
  double cpu_s;
  find_processes(system, pids, &cpu_s);
  return cpu_s;
}

double system_memory_bytes(const struct system *system)
{
  long pids[PIDS_MAX];
  double cpu_s, bytes = 0;
  size_t n = find_processes(system, pids, &cpu_s);
  for (size_t i = 0; i < n; i++) {
    char pid[24];
    snprintf(pid, sizeof pid, "%ld", pids[i]);
    bytes += read_pss(pid);
  }
  return n > 0 ? bytes : NAN;
}

void load_usage(struct load_usage *usage)
{
  DIR *folder = opendir("/proc/self/task");
  const struct dirent *entry;
  usage->n = 0;
  while (folder != NULL && usage->n < sizeof usage->threads / sizeof *usage->threads &&
         (entry = readdir(folder)) != NULL) {
    char name[32];
    struct stat_line stat;
    snprintf(name, sizeof name, "self/task/%.16s", entry->d_name);
    if (entry->d_name[0] != '.' && read_stat(name, &stat) == 0) {
      usage->threads[usage->n].cpu_s = stat.own_s;
      usage->threads[usage->n++].id = strtol(entry->d_name, NULL, 10);
    }
  }
  if (folder != NULL) {
    closedir(folder);
  }
}

static double cpu_of(const struct load_usage *usage, long id)
{
  for (size_t i = 0; i < usage->n; i++) {
    if (usage->threads[i].id == id) {
      return usage->threads[i].cpu_s;
    }
  }
  return 0; // it has begun since
}

double load_usage_most(const struct load_usage *before, const struct load_usage *after)
{
  double most = 0;
  for (size_t i = 0; i < after->n; i++) {
    double cpu_s = after->threads[i].cpu_s - cpu_of(before, after->threads[i].id);
    most = cpu_s > most ? cpu_s : most;
  }
  return most;
}

double machine_stolen_s(void)
{
  char text[512];
  long long fields[8] = {0};
  if (read_text("/proc/stat", text, sizeof text) == 0) {
    char *at = text + strlen("cpu");
    for (int i = 0; i < 8; i++) {
      fields[i] = strtoll(at, &at, 10);
    }
  }
  return (double)fields[7] / (double)sysconf(_SC_CLK_TCK);
}

double machine_load(void)
{
  double load = 0;
  return getloadavg(&load, 1) == 1 ? load : 0;
}

// --- one HTTP request

static int connect_to(const struct vc_address *address)
{
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(address->port)};
  const struct timeval limit = {.tv_sec = 10};
  memcpy(&to.sin_addr, address->bytes, sizeof to.sin_addr);
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  if (fd >= 0 && connect(fd, (const struct sockaddr *)&to, sizeof to) != 0) {
    close(fd);
    return -1;
  }
  return fd;
}

char *system_get(const struct vc_address *address, const char *path)
{
  char request[512];
  struct pile answer = {0};
  int fd = connect_to(address);
  int n = snprintf(request, sizeof request,
                   "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n", path);
  if (fd >= 0 && send(fd, request, (size_t)n, MSG_NOSIGNAL) == n) {
    char bytes[65536];
    ssize_t got;
    while (answer.n < ANSWER_MAX && (got = recv(fd, bytes, sizeof bytes, 0)) > 0) {
      pile_add(&answer, bytes, (size_t)got);
    }
  }
  if (fd >= 0) {
    close(fd);
  }
  pile_add(&answer, "", 1);
  char *body = strstr(answer.at, "\r\n\r\n");
  char *copy = body != NULL ? strdup(body + 4) : NULL;
  free(answer.at);
  return copy;
}
