// Whatever becomes of connections and sessions, every word is told by one final, at its place.
#include "rig.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define ROUNDS 40
#define WORDS_PER_ROUND 8

static void run(unsigned seed, unsigned chance, unsigned kill_chance, int ack_lag)
{
  struct service service;
  struct rig rig;
  print_message("# seed %u\n", seed);
  service_start(&service, NULL);
  service.random = seed;
  service.kill_chance = kill_chance;
  service.ack_lag = ack_lag;
  rig_start(&rig, &service, NULL);
  rig_begin(&rig, "demo");
  rig_speak(&rig, 3);
  service_await_heard(&service, 3 * WORD_SAMPLES);
  service_set(&service, (int *)&service.chance, (int)chance);
  for (int i = 0; i < ROUNDS; i++) {
    // Something of every round arrives before the next: connections are met in every state.
    int n = service_get(&service, &service.n_frames);
    rig_speak(&rig, WORDS_PER_ROUND);
    service_await(&service, &service.n_frames, n + 1);
  }
  service_set(&service, (int *)&service.chance, 0);
  service_set(&service, &service.ack_lag, 0);
  rig_await(&rig, &rig.n_words, (int)(rig.n_samples / WORD_SAMPLES) / 10 * 10 - 10);
  rig_say(&rig, VC_TURN_CLOSE);
  rig_await(&rig, &rig.n_closed, 1);
  print_message("# %d drops, %d of them of sessions, %d posts\n",
                service_get(&service, &service.n_drops), service_get(&service, &service.n_kills),
                service_get(&service, &service.n_posts));
  rig_check_told(&rig);
  assert_int_equal(rig_counter(&rig, "stt.audio_dropped_ms_total"), 0);
  rig_stop(&rig);
  service_stop(&service);
}

static void test_drops(void **state)
{
  for (unsigned seed = 1; seed <= 4; seed++) {
    run(seed, 60, 0, (int)seed % 3);
  }
}

static void test_drops_and_lost_sessions(void **state)
{
  for (unsigned seed = 11; seed <= 14; seed++) {
    run(seed, 60, 500, (int)seed % 3);
  }
}

int main(void)
{
  signal(SIGPIPE, SIG_IGN);
  setenv("CMOCKA_TEST_ABORT", "1", 1); // threads go on with what is on the stack of a test
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_drops),
      cmocka_unit_test(test_drops_and_lost_sessions),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
