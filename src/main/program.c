#include "program.h"

#include <verbacast/base/log.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define WAIT_MS 60000 // for a signal; it is then waited for again

const struct vc_option vc_program_options[] = {
    {"LOG_LEVEL", VC_OPTION_CHOICE, offsetof(struct vc_program_settings, log_level),
     .initial = "info", .choices = "error,warn,info,debug",
     .help = "What is logged; SIGUSR1 raises it and SIGUSR2 lowers it while the program runs."},
    {"LOG_FORMAT", VC_OPTION_CHOICE, offsetof(struct vc_program_settings, log_format),
     .initial = "logfmt", .choices = "logfmt,json", .help = "How a log line on stderr is written."},
    VC_OPTION_ROWS_END,
};

static const char *const level_names[] = {"error", "warn", "info", "debug"};

enum vc_program_step vc_program_parse(struct vc_option_set *set, int argc, char **argv, int *status)
{
  struct vc_error error = {.text = ""};
  *status = VC_EXIT_OK;
  switch (vc_options_parse(set, argc, argv, environ, stdout, &error)) {
  case VC_OPTIONS_RUN:
    return VC_PROGRAM_RUN;
  case VC_OPTIONS_CHECK:
    return VC_PROGRAM_CHECK;
  case VC_OPTIONS_PRINTED:
    return VC_PROGRAM_EXIT;
  case VC_OPTIONS_USAGE:
    break;
  }
  fprintf(stderr, "%s: %s\n", set->program, error.text);
  *status = VC_EXIT_USAGE;
  return VC_PROGRAM_EXIT;
}

// --- signals

static void fill_set(sigset_t *set)
{
  sigemptyset(set);
  sigaddset(set, SIGTERM);
  sigaddset(set, SIGINT);
  sigaddset(set, SIGHUP);
  sigaddset(set, SIGUSR1);
  sigaddset(set, SIGUSR2);
}

static void end_at_once(int number)
{
  static const char text[] = "second signal: ended at once\n";
  ssize_t n = write(STDERR_FILENO, text, sizeof text - 1);
  (void)n;
  (void)number;
  _exit(VC_EXIT_FAILED);
}

// The drain has begun: who asks again does not want to wait.
static void arm_second_signal(void)
{
  struct sigaction action = {.sa_handler = end_at_once};
  sigset_t set;
  sigemptyset(&action.sa_mask);
  sigaction(SIGTERM, &action, NULL);
  sigaction(SIGINT, &action, NULL);
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

static void change_level(int by)
{
  int level = (int)vc_log_level_get() + by;
  if (level >= VC_LOG_ERROR && level <= VC_LOG_DEBUG) {
    vc_log_level_set((enum vc_log_level)level);
  }
  level = (int)vc_log_level_get();
  // At the level itself, so that it is seen whatever the level is.
  vc_log((enum vc_log_level)level, VC_EVENT("log.level"), VC_STR("level", level_names[level]));
}

static int wait_signal(uint32_t timeout_ms)
{
  sigset_t set;
  fill_set(&set);
  struct timespec time = {.tv_sec = timeout_ms / 1000,
                          .tv_nsec = (long)(timeout_ms % 1000) * 1000000};
  return sigtimedwait(&set, NULL, &time);
}

enum vc_program_signal vc_program_wait(uint32_t timeout_ms)
{
  int number = wait_signal(timeout_ms);
  switch (number) {
  case SIGTERM:
  case SIGINT:
    arm_second_signal();
    vc_log(VC_LOG_INFO, VC_EVENT("program.stop"),
           VC_STR("signal", number == SIGTERM ? "SIGTERM" : "SIGINT"));
    return VC_PROGRAM_STOP;
  case SIGHUP:
    return VC_PROGRAM_RELOAD;
  case SIGUSR1:
    change_level(+1);
    return VC_PROGRAM_NONE;
  case SIGUSR2:
    change_level(-1);
    return VC_PROGRAM_NONE;
  default:
    return VC_PROGRAM_NONE;
  }
}

void vc_program_reload(struct vc_option_set *set)
{
  struct vc_error error;
  if (vc_options_reload_secrets(set, &error) == 0) {
    vc_log(VC_LOG_INFO, VC_EVENT("secrets.reload"));
  } else {
    vc_log(VC_LOG_ERROR, VC_EVENT("secrets.reload"), VC_STR("error", error.text));
  }
}

void vc_program_wait_for_stop(struct vc_option_set *set)
{
  enum vc_program_signal signal;
  while ((signal = vc_program_wait(WAIT_MS)) != VC_PROGRAM_STOP) {
    if (signal == VC_PROGRAM_RELOAD) {
      vc_program_reload(set);
    }
  }
}

// --- start and end

static void raise_descriptor_limit(void)
{
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0) {
      vc_log(VC_LOG_WARN, VC_EVENT("program.descriptor_limit"), VC_STR("error", strerror(errno)));
    }
  }
}

size_t vc_program_descriptor_limit(void)
{
  struct rlimit limit;
  return getrlimit(RLIMIT_NOFILE, &limit) == 0 ? (size_t)limit.rlim_cur : 1024;
}

void vc_program_make_name(char *name, size_t size)
{
  char host[64] = "node";
  uint32_t random = 0;
  gethostname(host, sizeof host - 1);
  ssize_t n = getrandom(&random, sizeof random, 0);
  (void)n; // a zero is a name too
  snprintf(name, size, "%s-%08x", host, random);
}

int vc_program_start(const struct vc_program_settings *settings, const char *program,
                     struct vc_error *error)
{
  sigset_t set;
  fill_set(&set);
  pthread_sigmask(SIG_BLOCK, &set, NULL);
  signal(SIGPIPE, SIG_IGN);
  const struct vc_log_settings log = {.fd = STDERR_FILENO,
                                      .is_json = settings->log_format,
                                      .level = (enum vc_log_level)settings->log_level};
  if (vc_log_start(&log, error) != 0) {
    return -1;
  }
  raise_descriptor_limit();
  vc_log(VC_LOG_INFO, VC_EVENT("program.start"), VC_STR("program", program),
         VC_STR("version", VC_VERSION), VC_INT("descriptors", vc_program_descriptor_limit()));
  return 0;
}

void vc_program_ready(const struct vc_program_address *addresses, size_t n)
{
  char line[1024] = "ready";
  size_t size = strlen(line);
  for (size_t i = 0; i < n && size < sizeof line; i++) {
    char text[VC_ADDRESS_TEXT_MAX];
    vc_address_print_port(&addresses[i].address, text);
    size += (size_t)snprintf(line + size, sizeof line - size, " %s=%s", addresses[i].name, text);
  }
  vc_log(VC_LOG_INFO, VC_EVENT("program.ready"),
         VC_STR("addresses", n > 0 ? line + strlen("ready ") : ""));
  puts(line);
  fflush(stdout);
}

void vc_program_end(int status)
{
  vc_log(VC_LOG_INFO, VC_EVENT("program.end"), VC_INT("status", status));
  vc_log_stop();
}

int vc_program_fail(const struct vc_error *error)
{
  vc_log(VC_LOG_ERROR, VC_EVENT("program.failed"), VC_STR("error", error->text));
  vc_log_stop(); // what went wrong is said before the program is gone
  return VC_EXIT_FAILED;
}
