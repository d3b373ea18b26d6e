// The life that all programs share, looked at from outside: a child process runs it, the test sends
// the signals and reads what it prints.
#include "program.h"

#include <verbacast/base/log.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

struct child {
  pid_t pid;
  FILE *out;
};

static void say(const char *text)
{
  printf("%s\n", text);
  fflush(stdout);
}

static void live(void)
{
  const struct vc_program_settings settings = {.log_level = VC_LOG_INFO};
  const struct vc_program_address addresses[] = {
      {"http", {.n_bytes = 4, .bytes = {127, 0, 0, 1}, .port = 3000}},
      {"rtmp", {.n_bytes = 4, .bytes = {127, 0, 0, 1}, .port = 1937}},
  };
  struct vc_error error;
  if (vc_program_start(&settings, "child", &error) != 0) {
    _exit(9);
  }
  vc_program_ready(addresses, 2);
  int level = vc_log_level_get();
  for (;;) {
    enum vc_program_signal signal = vc_program_wait(60000);
    if (signal == VC_PROGRAM_STOP) {
      break;
    }
    if (signal == VC_PROGRAM_RELOAD) {
      say("reload");
    } else if ((int)vc_log_level_get() != level) {
      say((int)vc_log_level_get() > level ? "more" : "less");
      level = vc_log_level_get();
    }
  }
  say("draining");
}

static struct child begin(void (*afterwards)(void))
{
  int ends[2];
  assert_int_equal(pipe(ends), 0);
  pid_t pid = fork();
  if (pid == 0) {
    alarm(60);
    dup2(ends[1], STDOUT_FILENO);
    close(ends[0]);
    close(ends[1]);
    live();
    afterwards();
    vc_program_end(0);
    _exit(0);
  }
  close(ends[1]);
  return (struct child){.pid = pid, .out = fdopen(ends[0], "r")};
}

static void expect_line(struct child *child, const char *expected)
{
  char line[256] = "";
  assert_non_null(fgets(line, sizeof line, child->out));
  line[strcspn(line, "\n")] = '\0';
  assert_string_equal(line, expected);
}

static int end_of(struct child *child)
{
  int status;
  fclose(child->out);
  assert_int_equal(waitpid(child->pid, &status, 0), child->pid);
  assert_true(WIFEXITED(status));
  return WEXITSTATUS(status);
}

static void end_soon(void) {}

static void never_end(void)
{
  for (;;) {
    pause();
  }
}

static void test_stops_in_order(void **state)
{
  struct child child = begin(end_soon);
  expect_line(&child, "ready http=127.0.0.1:3000 rtmp=127.0.0.1:1937");
  kill(child.pid, SIGTERM);
  expect_line(&child, "draining");
  assert_int_equal(end_of(&child), 0);
}

static void test_second_signal_ends_at_once(void **state)
{
  struct child child = begin(never_end);
  expect_line(&child, "ready http=127.0.0.1:3000 rtmp=127.0.0.1:1937");
  kill(child.pid, SIGINT);
  expect_line(&child, "draining");
  kill(child.pid, SIGTERM);
  assert_int_equal(end_of(&child), VC_EXIT_FAILED);
}

static void test_level_and_reload(void **state)
{
  struct child child = begin(end_soon);
  expect_line(&child, "ready http=127.0.0.1:3000 rtmp=127.0.0.1:1937");
  kill(child.pid, SIGUSR1);
  expect_line(&child, "more");
  kill(child.pid, SIGUSR2);
  expect_line(&child, "less");
  kill(child.pid, SIGHUP);
  expect_line(&child, "reload");
  kill(child.pid, SIGTERM);
  expect_line(&child, "draining");
  assert_int_equal(end_of(&child), 0);
}

static enum vc_program_step parse(struct vc_program_settings *settings, const char *flag,
                                  int *status)
{
  char program[] = "child";
  char *copy = strdup(flag);
  char *arguments[] = {program, copy, NULL};
  const struct vc_option_group groups[] = {{"Log", vc_program_options, settings}};
  struct vc_option_set set = {"child", "A child.", groups, 1, NULL};
  enum vc_program_step step = vc_program_parse(&set, 2, arguments, status);
  vc_options_free(&set);
  free(copy);
  return step;
}

static void test_usage(void **state)
{
  struct vc_program_settings settings = {0};
  int status = -1;
  assert_int_equal(parse(&settings, "--log-level=loud", &status), VC_PROGRAM_EXIT);
  assert_int_equal(status, VC_EXIT_USAGE);
  assert_int_equal(parse(&settings, "--log-format=json", &status), VC_PROGRAM_RUN);
  assert_int_equal(settings.log_format, 1);
  assert_int_equal(parse(&settings, "--check-config", &status), VC_PROGRAM_CHECK);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_stops_in_order),
      cmocka_unit_test(test_second_signal_ends_at_once),
      cmocka_unit_test(test_level_and_reload),
      cmocka_unit_test(test_usage),
  };
  return cmocka_run_group_tests_name("main/program", tests, NULL, NULL);
}
