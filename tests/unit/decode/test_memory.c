// Every allocation of the room fails once, and a run of them from each one on: nothing breaks or
// leaks, and a session that the stt stage has heard of is closed there.
#include "no_memory.h"
#include "rig.h"

#include <verbacast/base/log.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../ledger/hand_stage.h"

static struct sound exact;
static struct rig rig;

// Sound, a hole, sound that is held back for it, a mute.
static void play_raw(void)
{
  rig_say(&rig, 1, VC_TURN_OPEN);
  rig_send_pcm(&rig, 1, 48000, 2, 20);
  rig_pass_ms(&rig, 500);
  rig_send_pcm(&rig, 1, 48000, 2, 20);
  rig_send_pcm(&rig, 1, 48000, 2, 20);
  rig_pass_ms(&rig, 300);
  rig_say(&rig, 1, VC_TURN_MUTED);
  rig_pass_ms(&rig, 300);
  rig_say(&rig, 1, VC_TURN_CLOSE);
}

static void expect_closed(int session)
{
  const struct heard *heard = &rig.heard[session];
  assert_int_equal(rig_count(&rig, session, 'C'), heard->n_story > 0);
  assert_true(heard->n_story == 0 || heard->story[heard->n_story - 1] == 'C');
}

// Returns: how many allocations there were where `length` of them fail after `after`.
static size_t play(int is_stalled, size_t after, size_t length)
{
  rig_start(&rig, 25);
  memory_fail(after, length);
  rig_open(&rig, 0, &exact);
  hand_set_capacity(rig.stt, 0, is_stalled ? 0 : HAND_UNBOUNDED);
  rig_play(&rig, 0, VC_CODEC_AAC, &exact, 0, 3, 0);
  rig_say(&rig, 0, VC_TURN_LOST);
  rig_say(&rig, 0, VC_TURN_BACK);
  rig_play(&rig, 0, VC_CODEC_AAC, &exact, 3, 5, 3 * RIG_FRAME_MS + 500); // and silence between
  rig_say(&rig, 0, VC_TURN_CLOSE);
  play_raw();
  hand_set_capacity(rig.stt, 0, HAND_UNBOUNDED);
  size_t n = memory_n_allocations();
  memory_fail(0, 0);
  rig_pass_ms(&rig, 2);
  assert_int_equal(rig_counter(&rig, "decode.sessions"), 0);
  expect_closed(0);
  expect_closed(1);
  rig_stop(&rig);
  return n;
}

static void check_run(int is_stalled, size_t length)
{
  size_t n = play(is_stalled, 0, 0);
  assert_in_range(n, 20, 5000);
  for (size_t after = 0; after < n; after++) {
    play(is_stalled, after, length);
  }
}

static void test_one_fails(void **state)
{
  check_run(0, 1);
  check_run(1, 1);
}

static void test_several_fail(void **state)
{
  check_run(1, 4);
}

static void test_all_fail_from_one_on(void **state)
{
  check_run(0, SIZE_MAX);
  check_run(1, SIZE_MAX);
}

int main(void)
{
  memory_count_while(&hand_is_turning);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_one_fails),
      cmocka_unit_test(test_several_fail),
      cmocka_unit_test(test_all_fail_from_one_on),
  };
  rig_exact_sound(&exact, 5);
  vc_log_level_set(VC_LOG_ERROR);
  int status = cmocka_run_group_tests(tests, NULL, NULL);
  sound_fini(&exact);
  return status;
}
