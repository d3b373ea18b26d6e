// What counts as due, as given up, and as late.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <bench.h>

#include <math.h>

static const uint32_t readers_of[] = {3, 2, 0};

static struct pace a_pace(double rate_hz)
{
  return (struct pace){
      .rate_hz = rate_hz, .burst = 2, .n_readers = 5, .readers_of = readers_of, .n_sessions = 3};
}

static void test_each_session_has_its_own_readers(void **state)
{
  struct pace pace = a_pace(5);
  (void)state;
  pace_measure(&pace, 100, 200);
  pace_said(&pace, 0, 99);
  pace_said(&pace, 0, 100);
  pace_said(&pace, 1, 150);
  pace_said(&pace, 2, 150);
  pace_said(&pace, 1, 199);
  pace_said(&pace, 0, 200);
  assert_int_equal(atomic_load(&pace.n_due), 3 + 2 + 0 + 2);
}

// Who has not got the last after a second is given the next all the same; counted is only what
// happens in the measured time.
static void test_given_up_is_of_the_measured_time(void **state)
{
  struct pace pace = a_pace(0);
  uint64_t now_ns = 10 * VC_NS_PER_S;
  (void)state;
  atomic_store(&pace.speaker, (struct vc_stage *)&pace); // it is never woken: nobody receives all
  pace_measure(&pace, now_ns + 2 * VC_NS_PER_S, now_ns + 4 * VC_NS_PER_S);
  assert_true(pace_is_due(&pace, now_ns));
  assert_false(pace_is_due(&pace, now_ns + VC_NS_PER_S - 1));
  for (int i = 1; i <= 5; i++) {
    assert_true(pace_is_due(&pace, now_ns + (uint64_t)i * VC_NS_PER_S));
  }
  assert_int_equal(pace.n_given_up, 2);
  assert_int_equal(atomic_load(&pace.last_number), 6 * 2);
}

static void test_lateness_is_of_the_measured_time(void **state)
{
  struct sound sound = {.sample_rate_hz = 1000, .frame_samples = 10}; // 10 ms
  uint64_t sent_ns[] = {500 * VC_NS_PER_MS, 510 * VC_NS_PER_MS, 523 * VC_NS_PER_MS,
                        531 * VC_NS_PER_MS};
  struct publisher publisher = {.first_ns = 400 * VC_NS_PER_MS, .sent_ns = sent_ns, .n_sent = 4};
  const struct publishing publishing = {.sound = &sound, .n = 1, .publishers = &publisher};
  (void)state;
  const struct {
    uint64_t from_ms, to_ms;
    double late_ms;
  } cases[] = {
      {0, 440, 103}, {430, 440, 101}, {0, 420, 100}, {440, 600, 160}}; // not sent: the last
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    assert_float_equal(publishing_late_ms(&publishing, cases[i].from_ms * VC_NS_PER_MS,
                                          cases[i].to_ms * VC_NS_PER_MS),
                       cases[i].late_ms, 1e-6);
  }
  assert_true(isnan(publishing_late_ms(&publishing, 0, 400 * VC_NS_PER_MS)));
}

// What was due in it and is said behind it has been late all the same.
static void test_a_speaker_is_late_with_what_was_due_in_the_measured_time(void **state)
{
  struct pace pace = a_pace(5);
  struct samples late_ms = {0};
  (void)state;
  pace_measure(&pace, 100 * VC_NS_PER_MS, 200 * VC_NS_PER_MS);
  pace_late(&pace, &late_ms, 99 * VC_NS_PER_MS, 150 * VC_NS_PER_MS);
  pace_late(&pace, &late_ms, 100 * VC_NS_PER_MS, 103 * VC_NS_PER_MS);
  pace_late(&pace, &late_ms, 199 * VC_NS_PER_MS, 900 * VC_NS_PER_MS);
  pace_late(&pace, &late_ms, 200 * VC_NS_PER_MS, 950 * VC_NS_PER_MS);
  samples_sort(&late_ms);
  assert_int_equal(late_ms.n, 2);
  assert_float_equal(samples_part(&late_ms, 0), 3, 1e-6);
  assert_float_equal(samples_part(&late_ms, 1), 701, 1e-6);
  samples_fini(&late_ms);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_each_session_has_its_own_readers),
      cmocka_unit_test(test_given_up_is_of_the_measured_time),
      cmocka_unit_test(test_lateness_is_of_the_measured_time),
      cmocka_unit_test(test_a_speaker_is_late_with_what_was_due_in_the_measured_time),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
