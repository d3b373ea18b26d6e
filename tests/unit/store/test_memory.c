// Where memory gives out a batch is not written; no record of it is taken for a poisoned one.
#include "no_memory.h"
#include "place.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define E1 INT64_C(1790000000000)

static struct vc_store *store;
static char *final;

static void write_final(void)
{
  struct vc_store_row row = {.value = final, .size = strlen(final)};
  struct vc_error error;
  int status = vc_store_write(store, &row, 1, &error);
  if (status == 0) {
    assert_true(row.outcome == VC_STORE_STORED || row.outcome == VC_STORE_REPEATED);
  } else {
    assert_true(memory_has_failed);
    assert_non_null(strstr(error.text, "no memory"));
  }
}

static void test_no_final_is_lost(void **state)
{
  (void)state;
  struct place place;
  struct vc_error error;
  place_make(&place);
  assert_int_equal(vc_store_open(&store, place.url, &error), 0);
  final = record_final("demo", E1, 1, "a", "Good day to everybody.");
  assert_true(memory_fail_each(write_final) > 5);
  free(final);
  vc_store_close(&store);
  place_remove(&place);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_no_final_is_lost),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
