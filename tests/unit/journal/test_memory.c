// Where memory gives out a start fails or does all that a start has to do.
#include "no_memory.h"
#include "rig.h"

#include <verbacast/base/log.h>

#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define E1 INT64_C(1790000000000)

static struct rig rig;

static int set_up(void **state)
{
  rig_init(&rig);
  return 0;
}

static int tear_down(void **state)
{
  rig_fini(&rig);
  return 0;
}

static int64_t epoch; // of the session that a crash left open last
static size_t n_tried;
static int has_failed;

static void leave_one_open(void)
{
  rig_start(&rig);
  rig_begin(&rig, "demo", ++epoch);
  rig_wait_metric(&rig, "journal.committed_total", 1);
  assert_int_equal(rig_stop(&rig, RIG_PATIENCE_MS), 0);
}

// What is open in the file has no end yet, or the end is a row of it.
static void start(void)
{
  struct vc_journal *journal = NULL;
  struct vc_error error = {.text = ""};
  int status = vc_journal_create(
      &journal, &(struct vc_journal_settings){.options = &rig.options, .clock = &vc_clock_system},
      &error);
  assert_true(status == 0 || memory_has_failed);
  assert_true(status == 0 || strstr(error.text, "no memory") != NULL);
  vc_journal_destroy(&journal);
}

static void try_a_start(void)
{
  leave_one_open();
  memory_fail(n_tried++, 1);
  start();
  has_failed = memory_has_failed;
  memory_fail(0, 0);
  rig_start(&rig);
  assert_int_equal(rig_stop(&rig, RIG_PATIENCE_MS), 0);
  assert_int_equal(rig_n_ends(&rig, "demo", epoch, "crash"), 1);
}

static void test_no_end_is_given_up(void **state)
{
  epoch = E1;
  do {
    try_a_start();
  } while (has_failed);
  assert_true(n_tried > 10);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_no_end_is_given_up, set_up, tear_down),
  };
  vc_log_level_set((enum vc_log_level) - 1);
  return cmocka_run_group_tests_name("journal/memory", tests, NULL, NULL);
}
