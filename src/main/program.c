#include "program.h"

#include <verbacast/base/log.h>

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

const struct vc_option program_option_rows[] = {
    {"LOG_LEVEL", VC_OPTION_CHOICE, offsetof(struct program_options, log_level), "info",
     .choices = "error,warn,info,debug",
     .help = "What is logged; SIGUSR1 raises it, SIGUSR2 lowers it."},
    {"LOG_FORMAT", VC_OPTION_CHOICE, offsetof(struct program_options, log_format), "logfmt",
     .choices = "logfmt,json", .help = "How lines on stderr look."},
    VC_OPTION_ROWS_END,
};

int program_parse(struct vc_option_set *set, int argc, char **argv)
{
  struct vc_error error;
  switch (vc_options_parse(set, argc, argv, environ, stdout, &error)) {
  case VC_OPTIONS_RUN:
    return -1;
  case VC_OPTIONS_CHECK:
    return -2;
  case VC_OPTIONS_PRINTED:
    return PROGRAM_OK;
  case VC_OPTIONS_USAGE:
    break;
  }
  fprintf(stderr, "%s: %s\n", set->program, error.text);
  return PROGRAM_USAGE;
}

static void awaited(sigset_t *signals)
{
  static const int numbers[] = {SIGTERM, SIGINT, SIGUSR1, SIGUSR2, SIGHUP};
  sigemptyset(signals);
  for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
    sigaddset(signals, numbers[i]);
  }
}

static void raise_descriptor_limit(void)
{
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
  }
  vc_log(VC_LOG_INFO, VC_EVENT("program.descriptors"),
         VC_INT("limit", program_descriptor_limit()));
}

int program_begin(const struct program_options *options, struct vc_error *error)
{
  sigset_t signals;
  awaited(&signals);
  pthread_sigmask(SIG_BLOCK, &signals, NULL);
  signal(SIGPIPE, SIG_IGN);
  const struct vc_log_settings settings = {.fd = STDERR_FILENO,
                                           .is_json = options->log_format,
                                           .level = (enum vc_log_level)options->log_level};
  if (vc_log_start(&settings, error) != 0) {
    return -1;
  }
  raise_descriptor_limit();
  return 0;
}

int program_fail(const char *program, const struct vc_error *error)
{
  vc_log(VC_LOG_ERROR, VC_EVENT("program.failed"), VC_STR("program", program),
         VC_STR("why", error->text));
  vc_log_stop();
  return PROGRAM_FAILED;
}

void program_say_ready(const char *addresses)
{
  printf("ready %s\n", addresses);
  fflush(stdout);
}

static void change_level(int by)
{
  int level = (int)vc_log_level_get() + by;
  if (level >= VC_LOG_ERROR && level <= VC_LOG_DEBUG) {
    vc_log_level_set((enum vc_log_level)level);
  }
  static const char *const names[] = {"error", "warn", "info", "debug"};
  vc_log(VC_LOG_ERROR, VC_EVENT("log.level"), VC_STR("now", names[vc_log_level_get()]));
}

static void reload(struct vc_option_set *set)
{
  struct vc_error error = {.text = ""};
  int status = vc_options_reload_secrets(set, &error);
  vc_log(status == 0 ? VC_LOG_INFO : VC_LOG_ERROR, VC_EVENT("secrets.reload"),
         VC_STR("trouble", error.text));
}

void program_wait(struct vc_option_set *set)
{
  sigset_t signals;
  awaited(&signals);
  for (;;) {
    int number = sigwaitinfo(&signals, NULL);
    switch (number) {
    case SIGUSR1:
      change_level(1);
      break;
    case SIGUSR2:
      change_level(-1);
      break;
    case SIGHUP:
      reload(set);
      break;
    case SIGTERM:
    case SIGINT:
      vc_log(VC_LOG_INFO, VC_EVENT("program.signal"), VC_STR("signal", strsignal(number)));
      // A second one ends the program at once, by itself.
      signal(SIGTERM, SIG_DFL);
      signal(SIGINT, SIG_DFL);
      sigemptyset(&signals);
      sigaddset(&signals, SIGTERM);
      sigaddset(&signals, SIGINT);
      pthread_sigmask(SIG_UNBLOCK, &signals, NULL);
      return;
    default:
      break; // interrupted
    }
  }
}

void program_pause(uint32_t ms)
{
  struct timespec left = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
  while (nanosleep(&left, &left) != 0 && errno == EINTR) {
  }
}

void program_end(void)
{
  vc_log_stop();
}

long program_descriptor_limit(void)
{
  struct rlimit limit;
  return getrlimit(RLIMIT_NOFILE, &limit) == 0 ? (long)limit.rlim_cur : 1024;
}

uint32_t program_cores(void)
{
  cpu_set_t set;
  CPU_ZERO(&set);
  int n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
  return n > 0 ? (uint32_t)n : 1;
}
