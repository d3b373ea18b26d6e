// The batch writer: what goes in, what is told of each row, and the cache of ids.
#include "place.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define E1 INT64_C(1790000000000)

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

static const char *ask(const char *sqlite, const char *postgres)
{
  return place_ask(&place, sqlite, postgres);
}

// Takes the value.
static struct vc_store_row write_one(char *value)
{
  struct vc_error error = {.text = ""};
  struct vc_store_row row = {.value = value, .size = strlen(value)};
  assert_int_equal(vc_store_write(store, &row, 1, &error), 0);
  free(value);
  row.value = NULL;
  return row;
}

static void test_a_final(void **state)
{
  assert_int_equal(write_one(record_final("demo", E1, 42, "1-0-4", "Good morning.")).outcome,
                   VC_STORE_STORED);
  assert_string_equal(
      ask("SELECT s.slug || ' ' || s.epoch || ' ' || s.node || ' ' || cast(s.started_at AS INT)"
          " || ' ' || t.seq || ' ' || t.utterance_id || ' ' || t.text || ' ' || t.language || ' '"
          " || t.confidence || ' ' || t.start_s || ' ' || (t.end_s * 100) || ' ' ||"
          " (t.received_at * 10) FROM transcripts t JOIN sessions s ON s.id = t.session_id",
          "SELECT concat_ws(' ', s.slug, s.epoch, s.node, extract(epoch FROM s.started_at)::bigint,"
          " t.seq, t.utterance_id, t.text, t.language, t.confidence, t.start_s, t.end_s * 100 ||"
          " '.0', round(extract(epoch FROM t.received_at) * 10, 1))"
          " FROM transcripts t JOIN sessions s ON s.id = t.session_id"),
      "demo 1790000000000 a1 1790000000 42 1-0-4 Good morning. en 0.875 1.25 200.0 17900000020.0");
  assert_string_equal(ask("SELECT json_extract(words, '$[1].word') FROM transcripts",
                          "SELECT words->1->>'word' FROM transcripts"),
                      "morning.");
  assert_string_equal(ask("SELECT participant_id FROM transcripts", NULL), "NULL");
  assert_string_equal(ask("SELECT ended_at FROM sessions", NULL), "NULL");
}

static void test_unknown_is_null(void **state)
{
  write_one(strdup("{\"v\":1,\"type\":\"transcript\",\"session\":\"demo\",\"epoch\":7,\"seq\":1,"
                   "\"utteranceId\":\"a\",\"text\":\"\",\"language\":null,\"speaker\":null,"
                   "\"confidence\":null,\"start\":0,\"end\":0,\"words\":null}"));
  assert_string_equal(ask("SELECT coalesce(language, cast(confidence AS TEXT), cast(words AS TEXT),"
                          " cast(received_at AS TEXT), cast(participant_id AS TEXT))"
                          " FROM transcripts WHERE text = '' AND start_s = 0 AND end_s = 0",
                          NULL),
                      "NULL");
}

static void test_speakers_are_participants(void **state)
{
  static const char *const speakers[] = {"Ann", "Bob", "Ann"};
  for (int i = 0; i < 3; i++) {
    char *value;
    assert_true(asprintf(&value,
                         "{\"v\":1,\"type\":\"transcript\",\"session\":\"demo\",\"epoch\":7,"
                         "\"seq\":%d,\"utteranceId\":\"%d\",\"text\":\"x\",\"speaker\":\"%s\","
                         "\"start\":0,\"end\":1}",
                         i + 1, i, speakers[i]) > 0);
    assert_int_equal(write_one(value).outcome, VC_STORE_STORED);
  }
  assert_string_equal(ask("SELECT count(*) FROM participants", NULL), "2");
  assert_string_equal(ask("SELECT group_concat(label) FROM (SELECT p.label FROM transcripts t JOIN"
                          " participants p ON p.id = t.participant_id ORDER BY t.seq)",
                          "SELECT string_agg(p.label, ',' ORDER BY t.seq) FROM transcripts t JOIN"
                          " participants p ON p.id = t.participant_id"),
                      "Ann,Bob,Ann");
}

// A session is made by whichever record comes first, and nothing that is known gets lost.
static void test_sessions_from_either_kind(void **state)
{
  static const char whole[] = "1790000000 1790000060 a1";
  static const char sqlite[] = "SELECT cast(started_at AS INT) || ' ' || cast(ended_at AS INT) ||"
                               " ' ' || node FROM sessions";
  static const char postgres[] = "SELECT extract(epoch FROM started_at)::bigint || ' ' ||"
                                 " extract(epoch FROM ended_at)::bigint || ' ' || node"
                                 " FROM sessions";
  write_one(record_ended("demo", E1, "publisher_left"));
  assert_string_equal(ask(sqlite, postgres), whole);
  write_one(record_final("demo", E1, 1, "a", "x"));
  write_one(record_started("demo", E1));
  assert_string_equal(ask(sqlite, postgres), whole);
  assert_string_equal(ask("SELECT count(*) FROM sessions", NULL), "1");
}

static void test_repeated_and_conflicting(void **state)
{
  write_one(record_final("demo", E1, 1, "a", "one"));
  assert_int_equal(write_one(record_final("demo", E1, 1, "a", "one")).outcome, VC_STORE_REPEATED);
  assert_int_equal(write_one(record_final("demo", E1, 1, "a", "two")).outcome, VC_STORE_CONFLICT);
  assert_int_equal(write_one(record_final("demo", E1, 1, "b", "one")).outcome, VC_STORE_CONFLICT);
  assert_int_equal(write_one(record_final("demo", E1, 2, "a", "one")).outcome, VC_STORE_CONFLICT);
  assert_string_equal(ask("SELECT group_concat(seq || utterance_id || text) FROM transcripts",
                          "SELECT string_agg(seq || utterance_id || text, ',') FROM transcripts"),
                      "1aone");
  assert_int_equal(write_one(record_final("demo", E1 + 1, 1, "a", "two")).outcome, VC_STORE_STORED);
  assert_int_equal(write_one(record_final("other", E1, 1, "a", "two")).outcome, VC_STORE_STORED);
}

static int n_dead(void)
{
  return atoi(ask("SELECT count(*) FROM dead", NULL));
}

// What has no place is not lost, and sent again it is not there twice.
static void test_conflicts_are_kept_aside(void **state)
{
  write_one(record_final("demo", E1, 1, "a", "one"));
  write_one(record_final("demo", E1, 1, "a", "one"));
  assert_int_equal(n_dead(), 0);
  for (int i = 0; i < 2; i++) {
    assert_int_equal(write_one(record_final("demo", E1, 1, "a", "two")).outcome, VC_STORE_CONFLICT);
  }
  write_one(record_final("other", E1, 1, "a", "one"));
  assert_string_equal(ask("SELECT count(*) || reason || ' ' || key || ' ' || epoch || ' ' ||"
                          " json_extract(value, '$.text') FROM dead GROUP BY reason, key, epoch",
                          "SELECT count(*) || reason || ' ' || key || ' ' || epoch || ' ' ||"
                          " min(convert_from(value, 'UTF8')::json->>'text') FROM dead"
                          " GROUP BY reason, key, epoch"),
                      "1another text has its place demo 1790000000000 two");
  assert_string_equal(ask("SELECT abs(at - strftime('%s', 'now')) < 3600 FROM dead",
                          "SELECT (now() - at < interval '1 hour')::int FROM dead"),
                      "1");
}

static void test_poison_is_kept_aside(void **state)
{
  struct vc_error error;
  struct vc_store_row row = {
      .topic = "journal", .key = "demo", .epoch = E1, .value = "no \0JSON", .size = 8};
  for (int i = 0; i < 2; i++) {
    assert_int_equal(vc_store_write(store, &row, 1, &error), 0);
    assert_int_equal(row.outcome, VC_STORE_POISONED);
  }
  assert_string_equal(ask("SELECT count(*) || ' ' || topic || ' ' || key || ' ' || epoch || ' ' ||"
                          " hex(value) || ' ' || reason FROM dead",
                          "SELECT count(*) || ' ' || min(topic) || ' ' || min(key) || ' ' ||"
                          " min(epoch) || ' ' || min(upper(encode(value, 'hex'))) || ' ' ||"
                          " min(reason) FROM dead"),
                      "1 journal demo 1790000000000 6E6F20004A534F4E not a JSON object or array");
}

// A partial has the utteranceId of its final: as a row it would take that one's place.
static void test_a_partial_takes_no_finals_place(void **state)
{
  struct vc_error error;
  char *partial = record_partial("demo", E1 + 1, 1, "a");
  struct vc_store_row row = {.key = "demo", .value = partial, .size = strlen(partial)};
  write_one(record_erased("demo", E1)); // of an older epoch
  assert_int_equal(vc_store_write(store, &row, 1, &error), 0);
  assert_int_equal(row.outcome, VC_STORE_POISONED);
  assert_string_equal(row.why, "isFinal is false: it is no final");
  assert_string_equal(ask("SELECT count(*) || key || epoch || reason FROM dead",
                          "SELECT count(*) || min(key) || min(epoch) || min(reason) FROM dead"),
                      "1demo1790000000001isFinal is false: it is no final");
  assert_int_equal(write_one(record_final("demo", E1 + 1, 2, "a", "one")).outcome, VC_STORE_STORED);
  assert_int_equal(vc_store_erase(store, "demo", E1 + 1, E1 + 5, &error), 1);
  assert_int_equal(n_dead(), 0);
  assert_int_equal(vc_store_write(store, &row, 1, &error), 0);
  assert_int_equal(row.outcome, VC_STORE_ERASED);
  free(partial);
}

// An erased session's words stay nowhere.
static void test_what_is_aside_is_erased(void **state)
{
  struct vc_error error;
  struct vc_store_row poison = {.key = "demo", .epoch = E1, .value = "whispered", .size = 9};
  write_one(record_final("demo", E1, 1, "a", "one"));
  write_one(record_final("demo", E1, 1, "a", "two"));
  write_one(record_final("demo", E1 + 2, 1, "a", "one"));
  write_one(record_final("demo", E1 + 2, 1, "a", "later"));
  assert_int_equal(vc_store_write(store, &poison, 1, &error), 0);
  assert_int_equal(n_dead(), 3);
  assert_int_equal(vc_store_erase(store, "demo", E1 + 1, E1 + 5, &error), 1);
  assert_string_equal(ask("SELECT group_concat(json_extract(value, '$.text')) FROM dead",
                          "SELECT string_agg(convert_from(value, 'UTF8')::json->>'text', ',')"
                          " FROM dead"),
                      "later");
  assert_int_equal(vc_store_write(store, &poison, 1, &error), 0);
  assert_int_equal(poison.outcome, VC_STORE_ERASED);
  assert_int_equal(n_dead(), 1);
  vc_store_close(&store);
  assert_false(place_holds(&place, "whispered"));
}

static void test_poison_is_told_alone(void **state)
{
  static const char *const poison[] = {
      "",
      "no JSON",
      "[]",
      "{\"v\":2,\"type\":\"transcript\"}",
      "{\"v\":1,\"type\":\"elephant\",\"session\":\"demo\",\"epoch\":1}",
      "{\"v\":1,\"type\":\"session_started\",\"session\":\"\",\"epoch\":1}",
      "{\"v\":1,\"type\":\"session_ended\",\"session\":\"demo\",\"epoch\":1}",
      "{\"v\":1,\"type\":\"transcript\",\"session\":\"demo\",\"epoch\":1,\"seq\":0}",
      "{\"v\":1,\"type\":\"transcript\",\"session\":\"demo\",\"epoch\":1,\"seq\":1,"
      "\"utteranceId\":\"a\",\"text\":\"a\\u0000b\",\"start\":0,\"end\":1}",
      "{\"v\":1,\"type\":\"transcript\",\"session\":\"demo\",\"epoch\":1,\"seq\":1,"
      "\"utteranceId\":\"a\",\"text\":\"x\",\"start\":0,\"end\":null}",
      "{\"v\":1,\"type\":\"transcript\",\"session\":\"demo\",\"epoch\":1,\"seq\":1,"
      "\"utteranceId\":\"a\",\"text\":\"x\",\"start\":0,\"end\":1,\"words\":\"none\"}",
  };
  enum { N = sizeof poison / sizeof *poison };
  struct vc_store_row rows[2 * N];
  struct vc_error error;
  char *good[N];
  for (size_t i = 0; i < N; i++) {
    good[i] = record_final("demo", E1, i + 1, (char[]){(char)('a' + i), 0}, "x");
    rows[2 * i] = (struct vc_store_row){.value = poison[i], .size = strlen(poison[i])};
    rows[2 * i + 1] = (struct vc_store_row){.value = good[i], .size = strlen(good[i])};
  }
  assert_int_equal(vc_store_write(store, rows, 2 * N, &error), 0);
  for (size_t i = 0; i < N; i++) {
    assert_int_equal(rows[2 * i].outcome, VC_STORE_POISONED);
    assert_non_null(rows[2 * i].why);
    assert_int_equal(rows[2 * i + 1].outcome, VC_STORE_STORED);
    free(good[i]);
  }
  assert_int_equal(atoi(ask("SELECT count(*) FROM transcripts", NULL)), N);
}

// Those of one batch meet each other as they meet what was there before.
static void test_collisions_within_a_batch(void **state)
{
  struct vc_error error = {.text = ""};
  write_one(record_final("demo", E1, 9, "z", "old"));
  char *values[] = {
      record_final("demo", E1, 1, "a", "one"), record_final("demo", E1, 1, "a", "one"),
      record_final("demo", E1, 1, "a", "two"), record_final("demo", E1, 2, "a", "one"),
      record_final("demo", E1, 2, "b", "two"), record_final("demo", E1, 9, "z", "old"),
      record_final("demo", E1, 3, "z", "old"), record_final("demo", E1, 3, "c", "new"),
      record_final("demo", E1, 2, "b", "two"), record_final("demo", E1, 1, "c", "x")};
  enum { N = sizeof values / sizeof *values };
  static const enum vc_store_outcome expected[N] = {
      VC_STORE_STORED,   VC_STORE_REPEATED, VC_STORE_CONFLICT, VC_STORE_CONFLICT,
      VC_STORE_STORED,   VC_STORE_REPEATED, VC_STORE_CONFLICT, VC_STORE_STORED,
      VC_STORE_REPEATED, VC_STORE_CONFLICT};
  struct vc_store_row rows[N];
  for (size_t i = 0; i < N; i++) {
    rows[i] = (struct vc_store_row){.value = values[i], .size = strlen(values[i])};
  }
  assert_int_equal(vc_store_write(store, rows, N, &error), 0);
  for (size_t i = 0; i < N; i++) {
    assert_int_equal(rows[i].outcome, expected[i]);
    free(values[i]);
  }
  assert_int_equal(n_dead(), 4);
}

static void test_nesting_is_no_trap(void **state)
{
  char deep[4096];
  memset(deep, '[', sizeof deep);
  struct vc_store_row row = {.value = deep, .size = sizeof deep};
  struct vc_error error;
  assert_int_equal(vc_store_write(store, &row, 1, &error), 0);
  assert_int_equal(row.outcome, VC_STORE_POISONED);
}

static void test_an_empty_batch(void **state)
{
  struct vc_error error;
  assert_int_equal(vc_store_write(store, NULL, 0, &error), 0);
}

// More sessions than ids are remembered, in turn, so that each is forgotten before it comes again.
static void test_more_sessions_than_the_cache_holds(void **state)
{
  enum { N = 1500, ROUNDS = 3 };
  static struct vc_store_row rows[N];
  struct vc_error error;
  for (uint64_t round = 1; round <= ROUNDS; round++) {
    for (size_t i = 0; i < N; i++) {
      char *value = record_final("demo", E1 + (int64_t)i, round,
                                 round == 1   ? "a"
                                 : round == 2 ? "b"
                                              : "c",
                                 "x");
      rows[i] = (struct vc_store_row){.value = value, .size = strlen(value)};
    }
    assert_int_equal(vc_store_write(store, rows, N, &error), 0);
    for (size_t i = 0; i < N; i++) {
      assert_int_equal(rows[i].outcome, VC_STORE_STORED);
      free((char *)(uintptr_t)rows[i].value);
    }
  }
  assert_int_equal(atoi(ask("SELECT count(*) FROM sessions", NULL)), N);
  assert_string_equal(ask("SELECT count(*) FROM (SELECT session_id FROM transcripts GROUP BY 1"
                          " HAVING count(*) = 3) AS s",
                          NULL),
                      "1500");
}

// The largest slug and numbers that the wire lets through.
static void test_extremes(void **state)
{
  char slug[129];
  memset(slug, 's', 128);
  slug[128] = '\0';
  for (int i = 0; i < 2; i++) {
    assert_int_equal(
        write_one(record_final(slug, INT64_C(9007199254740991) - i, INT64_MAX, "a", "x")).outcome,
        VC_STORE_STORED);
  }
  assert_string_equal(ask("SELECT max(seq) FROM transcripts", NULL), "9223372036854775807");
  // No slug, but nothing here may depend on it.
  char *value, longer[600];
  memset(longer, 'l', sizeof longer - 1);
  longer[sizeof longer - 1] = '\0';
  for (int i = 1; i <= 2; i++) {
    assert_true(asprintf(&value,
                         "{\"v\":1,\"type\":\"transcript\",\"session\":\"%s%d\",\"epoch\":7,"
                         "\"seq\":1,\"utteranceId\":\"a\",\"text\":\"x\",\"start\":0,\"end\":1}",
                         longer, i) > 0);
    assert_int_equal(write_one(value).outcome, VC_STORE_STORED);
  }
}

int main(void)
{
#define WITH_STORE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
  const struct CMUnitTest tests[] = {
      WITH_STORE(test_a_final),
      WITH_STORE(test_unknown_is_null),
      WITH_STORE(test_speakers_are_participants),
      WITH_STORE(test_sessions_from_either_kind),
      WITH_STORE(test_repeated_and_conflicting),
      WITH_STORE(test_conflicts_are_kept_aside),
      WITH_STORE(test_poison_is_kept_aside),
      WITH_STORE(test_what_is_aside_is_erased),
      WITH_STORE(test_a_partial_takes_no_finals_place),
      WITH_STORE(test_poison_is_told_alone),
      WITH_STORE(test_collisions_within_a_batch),
      WITH_STORE(test_nesting_is_no_trap),
      WITH_STORE(test_an_empty_batch),
      WITH_STORE(test_more_sessions_than_the_cache_holds),
      WITH_STORE(test_extremes),
  };
  return cmocka_run_group_tests_name("store/write", tests, NULL, NULL);
}
