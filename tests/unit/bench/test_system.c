// What the load itself uses of the machine.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <bench.h>

#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void test_the_busiest_thread_counts(void **state)
{
  const struct load_usage before = {.n = 2, .threads = {{1, 5}, {2, 1}}};
  const struct load_usage after = {.n = 2, .threads = {{2, 1.75}, {1, 5.5}}};
  (void)state;
  assert_float_equal(load_usage_most(&before, &after), 0.75, 1e-9);
}

static void test_threads_that_come_and_go(void **state)
{
  const struct load_usage before = {.n = 2, .threads = {{1, 5}, {2, 100}}};
  const struct load_usage after = {.n = 2, .threads = {{1, 5.5}, {3, 0.75}}};
  (void)state;
  assert_float_equal(load_usage_most(&before, &after), 0.75, 1e-9);
}

static double cpu_s(void)
{
  struct timespec time;
  assert_int_equal(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time), 0);
  return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void *work(void *usage)
{
  while (cpu_s() < 0.2) {
  }
  load_usage(usage);
  return NULL;
}

static void test_a_thread_that_works_is_seen(void **state)
{
  static struct load_usage before, after;
  pthread_t thread;
  (void)state;
  load_usage(&before);
  assert_int_equal(pthread_create(&thread, NULL, work, &after), 0);
  assert_int_equal(pthread_join(thread, NULL), 0);
  assert_true(load_usage_most(&before, &after) > 0.15); // the kernel's figure has steps of 10 ms
}

// What a system used that has ended meanwhile is no load's.
static void test_children_that_ended_are_not_the_load(void **state)
{
  static struct load_usage before, after;
  int status;
  (void)state;
  load_usage(&before);
  pid_t child = fork();
  if (child == 0) {
    while (cpu_s() < 0.3) {
    }
    _exit(0);
  }
  assert_int_equal(waitpid(child, &status, 0), child);
  load_usage(&after);
  assert_int_equal(status, 0);
  assert_true(load_usage_most(&before, &after) < 0.2);
}

// A system is its session: what it used, and what those did who were its children.
static void test_a_system_with_a_child(void **state)
{
  int told[2];
  char byte;
  (void)state;
  assert_int_equal(pipe(told), 0);
  pid_t pid = fork();
  if (pid == 0) {
    setsid();
    if (fork() == 0) {
      while (cpu_s() < 0.2) {
      }
      _exit(0);
    }
    wait(NULL);
    (void)!write(told[1], "x", 1);
    pause();
  }
  const struct system system = {.command = "a system", .pid = pid};
  assert_int_equal(read(told[0], &byte, 1), 1);
  assert_true(system_cpu_s(&system) > 0.15);
  assert_true(system_memory_bytes(&system) > 0);
  assert_int_equal(kill(pid, SIGKILL), 0);
  assert_int_equal(waitpid(pid, NULL, 0), pid);
  assert_true(isnan(system_cpu_s(&system)) && isnan(system_memory_bytes(&system)));
  close(told[0]);
  close(told[1]);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_the_busiest_thread_counts),
      cmocka_unit_test(test_threads_that_come_and_go),
      cmocka_unit_test(test_a_thread_that_works_is_seen),
      cmocka_unit_test(test_children_that_ended_are_not_the_load),
      cmocka_unit_test(test_a_system_with_a_child),
  };
  return cmocka_run_group_tests_name("bench/system", tests, NULL, NULL);
}
