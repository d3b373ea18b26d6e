// Reading in order, and erasing for good.
#include "place.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static struct place place;
static struct vc_store *store;

static int set_up(void **state)
{
  return place_open(&place, &store);
}

static int tear_down(void **state)
{
  return place_close(&place, &store);
}

static enum vc_store_outcome put(const char *slug, int64_t epoch, uint64_t seq, const char *text)
{
  char id[32];
  struct vc_error error;
  snprintf(id, sizeof id, "1-0-%d", (int)seq);
  char *value = record_final(slug, epoch, seq, id, text);
  struct vc_store_row row = {.value = value, .size = strlen(value)};
  assert_int_equal(vc_store_write(store, &row, 1, &error), 0);
  free(value);
  return row.outcome;
}

struct seen {
  char places[512];
  long n;
};

static void see(void *context, const struct vc_record_fields *fields)
{
  struct seen *seen = context;
  char at[64];
  snprintf(at, sizeof at, "%s%d.%d", seen->n > 0 ? " " : "", (int)fields->epoch, (int)fields->seq);
  strncat(seen->places, at, sizeof seen->places - strlen(seen->places) - 1);
  seen->n++;
}

static const char *places(const char *slug, long most)
{
  static struct seen seen;
  struct vc_error error;
  seen = (struct seen){.n = 0};
  long n = vc_store_read(store, slug, most, see, &seen, &error);
  assert_int_equal(n, seen.n);
  return seen.places;
}

static void test_in_order_and_bounded(void **state)
{
  put("demo", 200, 2, "d");
  put("demo", 100, 7, "b");
  put("demo", 200, 1, "c");
  put("demo", 100, 5, "a");
  put("other", 150, 1, "x");
  assert_string_equal(places("demo", 100), "100.5 100.7 200.1 200.2");
  assert_string_equal(places("demo", 3), "100.5 100.7 200.1");
  assert_string_equal(places("demo", 0), "");
  assert_string_equal(places("nobody", 100), "");
}

static void check_whole(void *context, const struct vc_record_fields *fields)
{
  assert_int_equal(fields->type, VC_RECORD_TYPE_TRANSCRIPT);
  assert_string_equal(fields->session, "demo");
  assert_string_equal(fields->utterance_id, "1-0-3");
  assert_string_equal(fields->text, "Grüße 😀 \"and\" more");
  assert_string_equal(fields->language, "en");
  assert_null(fields->speaker);
  assert_float_equal(fields->confidence, 0.875, 1e-9);
  assert_float_equal(fields->start_s, 1.25, 1e-9);
  assert_float_equal(fields->end_s, 2, 1e-9);
  assert_int_equal(json_array_size(fields->words), 2);
  json_t *word = json_array_get(fields->words, 0);
  assert_string_equal(json_string_value(json_object_get(word, "word")), "Good");
  assert_float_equal(json_number_value(json_object_get(word, "start")), 1.25, 1e-9);
  assert_false(fields->is_approximate);
}

static void test_what_comes_back(void **state)
{
  struct vc_error error;
  put("demo", 100, 3, "Grüße 😀 \"and\" more");
  assert_int_equal(vc_store_read(store, "demo", 10, check_whole, NULL, &error), 1);
}

static void check_spread(void *context, const struct vc_record_fields *fields)
{
  assert_true(fields->is_approximate);
  assert_int_equal(json_array_size(fields->words), 2);
}

static void test_spread_words_come_back(void **state)
{
  struct vc_error error;
  char *value = record_spread("demo", 100, 1);
  struct vc_store_row row = {.value = value, .size = strlen(value)};
  assert_int_equal(vc_store_write(store, &row, 1, &error), 0);
  assert_int_equal(vc_store_read(store, "demo", 10, check_spread, NULL, &error), 1);
  free(value);
}

static void test_last_epoch(void **state)
{
  struct vc_error error;
  assert_int_equal(vc_store_last_epoch(store, "demo", &error), 0);
  assert_int_equal(vc_store_highest_epoch(store, &error), 0);
  put("demo", 200, 1, "x");
  put("demo", 100, 1, "x");
  assert_int_equal(vc_store_last_epoch(store, "demo", &error), 200);
  assert_int_equal(vc_store_erase(store, "demo", 300, 1, &error), 2);
  assert_int_equal(vc_store_last_epoch(store, "demo", &error), 300); // never used again
  assert_int_equal(vc_store_highest_epoch(store, &error), 300);
  put("other", 400, 1, "x");
  assert_int_equal(vc_store_last_epoch(store, "demo", &error), 300);
  assert_int_equal(vc_store_highest_epoch(store, &error), 400);
}

static void test_erased_stays_erased(void **state)
{
  struct vc_error error;
  put("demo", 100, 1, "first");
  put("demo", 200, 1, "second");
  put("demo", 300, 1, "third");
  put("other", 100, 1, "mine");
  assert_int_equal(vc_store_erase(store, "demo", 200, 1, &error), 2);
  assert_string_equal(places("demo", 10), "300.1");
  assert_string_equal(places("other", 10), "100.1");
  // What arrives late is kept out, by this connection and by a new one.
  assert_int_equal(put("demo", 200, 2, "late"), VC_STORE_ERASED);
  vc_store_close(&store);
  assert_int_equal(vc_store_open(&store, place.url, &error), 0);
  assert_int_equal(put("demo", 150, 1, "late"), VC_STORE_ERASED);
  assert_int_equal(put("demo", 300, 2, "new"), VC_STORE_STORED);
  assert_string_equal(places("demo", 10), "300.1 300.2");
  // A smaller tombstone does not shrink the larger.
  assert_int_equal(vc_store_erase(store, "demo", 50, 2, &error), 0);
  assert_int_equal(put("demo", 200, 3, "late"), VC_STORE_ERASED);
  assert_int_equal(vc_store_erase(store, "nobody", 50, 2, &error), 0);
}

static void test_session_records_are_kept_out_too(void **state)
{
  struct vc_error error;
  assert_int_equal(vc_store_erase(store, "demo", 200, 1, &error), 0);
  char *started = record_started("demo", 200), *ended = record_ended("demo", 200, "crash");
  struct vc_store_row rows[] = {{.value = started, .size = strlen(started)},
                                {.value = ended, .size = strlen(ended)}};
  assert_int_equal(vc_store_write(store, rows, 2, &error), 0);
  assert_int_equal(rows[0].outcome, VC_STORE_ERASED);
  assert_int_equal(rows[1].outcome, VC_STORE_ERASED);
  free(started);
  free(ended);
}

// Another connection erases, as an HTTP handler's does, while this one remembers ids.
static void test_erased_beside_a_writer(void **state)
{
  struct vc_store *eraser;
  struct vc_error error;
  put("demo", 100, 1, "x");
  assert_int_equal(vc_store_open_existing(&eraser, place.url, &error), 0);
  assert_int_equal(vc_store_erase(eraser, "demo", 100, 1, &error), 1);
  assert_int_equal(put("demo", 100, 2, "late"), VC_STORE_ERASED);
  assert_int_equal(put("new", 101, 1, "takes the erased one's row id"), VC_STORE_STORED);
  assert_int_equal(put("demo", 101, 1, "y"), VC_STORE_STORED);
  assert_string_equal(places("demo", 10), "101.1");
  assert_string_equal(places("new", 10), "101.1");
  vc_store_close(&eraser);
}

static void test_erased_bytes_are_gone(void **state)
{
  struct vc_error error;
  for (uint64_t i = 1; i <= 200; i++) {
    put("demo", 100, i, "The-secret-that-must-not-stay.");
  }
  put("other", 100, 1, "Something-that-stays.");
  assert_int_equal(vc_store_erase(store, "demo", 100, 1, &error), 200);
  assert_false(place_holds(&place, "The-secret-that-must-not-stay."));
  assert_true(place_holds(&place, "Something-that-stays."));
}

// A file that is no database of ours is an error; a database of PostgreSQL was made by somebody,
// and is one that holds nothing.
static void test_no_tables(void **state)
{
  struct vc_store *empty;
  struct vc_error error;
  struct place other;
  place_make(&other);
  if (other.postgres == NULL) {
    fclose(fopen(folder_file(&other.folder, "store.db"), "w"));
  }
  long expected = other.postgres == NULL ? -1 : 0;
  assert_int_equal(vc_store_open_existing(&empty, other.url, &error), 0);
  assert_int_equal(vc_store_read(empty, "demo", 10, see, NULL, &error), expected);
  assert_int_equal(vc_store_last_epoch(empty, "demo", &error), expected);
  assert_int_equal(vc_store_highest_epoch(empty, &error), expected);
  assert_int_equal(vc_store_erase(empty, "demo", 1, 1, &error), -1);
  vc_store_close(&empty);
  place_remove(&other);
}

int main(void)
{
#define WITH_STORE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
  const struct CMUnitTest tests[] = {
      WITH_STORE(test_in_order_and_bounded),
      WITH_STORE(test_what_comes_back),
      WITH_STORE(test_spread_words_come_back),
      WITH_STORE(test_last_epoch),
      WITH_STORE(test_erased_stays_erased),
      WITH_STORE(test_session_records_are_kept_out_too),
      WITH_STORE(test_erased_beside_a_writer),
      WITH_STORE(test_erased_bytes_are_gone),
      WITH_STORE(test_no_tables),
  };
  return cmocka_run_group_tests_name("store/read", tests, NULL, NULL);
}
