#include <verbacast/base/thread.h>

#include <signal.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define STACK_BYTES (1024 * 1024)

struct seen {
  sigset_t blocked;
  size_t stack_bytes;
};

static void *look(void *context)
{
  struct seen *seen = context;
  pthread_attr_t attributes;
  pthread_sigmask(SIG_SETMASK, NULL, &seen->blocked);
  pthread_getattr_np(pthread_self(), &attributes);
  pthread_attr_getstacksize(&attributes, &seen->stack_bytes);
  pthread_attr_destroy(&attributes);
  return NULL;
}

static void test_signals_are_mains(void **state)
{
  struct seen seen;
  pthread_t thread;
  sigset_t mine;
  assert_int_equal(vc_thread_start(&thread, "vc-test", STACK_BYTES, look, &seen), 0);
  pthread_join(thread, NULL);
  assert_int_equal(sigismember(&seen.blocked, SIGTERM), 1);
  assert_int_equal(sigismember(&seen.blocked, SIGUSR1), 1);
  assert_true(seen.stack_bytes >= STACK_BYTES);
  pthread_sigmask(SIG_SETMASK, NULL, &mine);
  assert_int_equal(sigismember(&mine, SIGTERM), 0);
}

static void *wait_for_end(void *context)
{
  pthread_mutex_lock(context);
  pthread_mutex_unlock(context);
  return NULL;
}

static void test_names(void **state)
{
  static const char *const names[][2] = {{"vc-test", "vc-test"},
                                         {"vc-a-name-too-long", "vc-a-name-too-l"}};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    pthread_t thread;
    char name[16];
    pthread_mutex_lock(&mutex);
    assert_int_equal(vc_thread_start(&thread, names[i][0], 0, wait_for_end, &mutex), 0);
    assert_int_equal(pthread_getname_np(thread, name, sizeof name), 0);
    pthread_mutex_unlock(&mutex);
    pthread_join(thread, NULL);
    assert_string_equal(name, names[i][1]);
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_signals_are_mains),
      cmocka_unit_test(test_names),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
