// Records: what is printed, byte by byte, is what is read; what is no record is refused with a
// reason.
#include <verbacast/wire/record.h>

#include <verbacast/wire/json.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "good_day.h"
#include "no_memory.h"

#define E INT64_C(1790000000000)

static const struct vc_record_fields final = {.type = VC_RECORD_TYPE_TRANSCRIPT,
                                              .session = "demo",
                                              .epoch = E,
                                              .node = "a1",
                                              .started_at_ms = E + 7,
                                              .seq = 42,
                                              .utterance_id = "1-0-00-4",
                                              .utterance = &good_day,
                                              .received_at_us = (E + 13123) * 1000 + 999};

#define FINAL                                                                                      \
  "{\"v\":1,\"type\":\"transcript\",\"session\":\"demo\",\"epoch\":1790000000000,\"seq\":42,"      \
  "\"utteranceId\":\"1-0-00-4\",\"isFinal\":true,\"text\":\"Good\\n\\\"day\\\" \\u007f\","         \
  "\"language\":\"en\",\"speaker\":\"Ann \xc3\xa9\",\"confidence\":0.915,\"start\":12.480,"        \
  "\"end\":13.000,\"words\":[{\"word\":\"Good\",\"start\":12.480,\"end\":12.710,"                  \
  "\"confidence\":0.970},{\"word\":\"\\\"day\\\"\",\"start\":12.710,\"end\":13.000,"               \
  "\"confidence\":null}]"
#define FINAL_TAIL ",\"startedAt\":1790000000.007,\"receivedAt\":1790000013.123,\"node\":\"a1\"}"

static void check_printed(const struct vc_record_fields *fields, const char *expected)
{
  struct vc_text text = {0};
  vc_record_print(&text, fields);
  assert_false(text.has_failed);
  assert_string_equal(text.at, expected);
  vc_text_fini(&text);
}

static void test_a_transcript_is_printed(void **state)
{
  (void)state;
  check_printed(&final, FINAL FINAL_TAIL);
}

static void test_spread_words_say_so(void **state)
{
  (void)state;
  struct vc_utterance utterance = good_day;
  struct vc_record_fields fields = final;
  utterance.is_approximate = 1;
  fields.utterance = &utterance;
  check_printed(&fields, FINAL ",\"approximate\":true" FINAL_TAIL);
}

static void test_what_is_unknown_is_null(void **state)
{
  (void)state;
  const struct vc_utterance utterance = {.text = "", .language = "", .confidence = NAN};
  const struct vc_record_fields fields = {.type = VC_RECORD_TYPE_TRANSCRIPT,
                                          .session = "d",
                                          .epoch = 1,
                                          .node = "n",
                                          .seq = 1,
                                          .utterance_id = "u",
                                          .utterance = &utterance};
  check_printed(&fields, "{\"v\":1,\"type\":\"transcript\",\"session\":\"d\",\"epoch\":1,"
                         "\"seq\":1,\"utteranceId\":\"u\",\"isFinal\":false,\"text\":\"\","
                         "\"language\":null,\"speaker\":null,\"confidence\":null,"
                         "\"start\":0.000,\"end\":0.000,\"words\":null,\"startedAt\":0.000,"
                         "\"receivedAt\":0.000,\"node\":\"n\"}");
}

static void test_sessions_are_printed(void **state)
{
  (void)state;
  struct vc_record_fields fields = {.type = VC_RECORD_TYPE_SESSION_STARTED,
                                    .session = "demo",
                                    .epoch = E,
                                    .node = "a\"1",
                                    .started_at_ms = E + 7};
  check_printed(&fields, "{\"v\":1,\"type\":\"session_started\",\"session\":\"demo\","
                         "\"epoch\":1790000000000,\"startedAt\":1790000000.007,"
                         "\"node\":\"a\\\"1\"}");
  fields.type = VC_RECORD_TYPE_SESSION_ENDED;
  fields.ended_at_ms = E + 60000;
  fields.reason = "publisher_left";
  check_printed(&fields, "{\"v\":1,\"type\":\"session_ended\",\"session\":\"demo\","
                         "\"epoch\":1790000000000,\"startedAt\":1790000000.007,"
                         "\"endedAt\":1790000060.000,\"reason\":\"publisher_left\","
                         "\"node\":\"a\\\"1\"}");
  fields.type = VC_RECORD_TYPE_SESSION_ERASED;
  fields.erased_at_ms = E + 90001;
  check_printed(&fields, "{\"v\":1,\"type\":\"session_erased\",\"session\":\"demo\","
                         "\"epoch\":1790000000000,\"erasedAt\":1790000090.001,"
                         "\"node\":\"a\\\"1\"}");
}

// Prints and reads again; the caller ends the record.
static void go_round(const struct vc_record_fields *fields, struct vc_record_parsed *record)
{
  struct vc_text text = {0};
  const char *why = "not looked at";
  vc_record_print(&text, fields);
  assert_int_equal(vc_record_parse(text.at, text.size, record, &why), 0);
  assert_null(why);
  vc_text_fini(&text);
  assert_int_equal(record->fields.type, fields->type);
  assert_string_equal(record->fields.session, fields->session);
  assert_int_equal(record->fields.epoch, fields->epoch);
  assert_string_equal(record->fields.node, fields->node);
  assert_int_equal(record->fields.started_at_ms, fields->started_at_ms);
}

static void test_a_transcript_comes_back(void **state)
{
  (void)state;
  struct vc_record_parsed record;
  go_round(&final, &record);
  const struct vc_record_fields *fields = &record.fields;
  assert_int_equal(fields->seq, 42);
  assert_string_equal(fields->utterance_id, "1-0-00-4");
  assert_int_equal(fields->received_at_us, (E + 13123) * 1000); // whole milliseconds
  assert_string_equal(fields->text, good_day.text);
  assert_string_equal(fields->language, "en");
  assert_string_equal(fields->speaker, good_day.speaker);
  assert_true(fields->confidence == 0.915 && fields->start_s == 12.48 && fields->end_s == 13);
  assert_int_equal(json_array_size(fields->words), 2);
  const json_t *word = json_array_get(fields->words, 1);
  assert_string_equal(json_string_value(json_object_get(word, "word")), "\"day\"");
  assert_true(json_is_null(json_object_get(word, "confidence")));
  assert_false(fields->is_approximate);
  assert_true(fields->is_final);
  vc_record_parsed_fini(&record);
  assert_null(record.root);
}

static void test_spread_words_come_back(void **state)
{
  (void)state;
  struct vc_utterance utterance = good_day;
  struct vc_record_fields fields = final;
  struct vc_record_parsed record;
  utterance.is_approximate = 1;
  fields.utterance = &utterance;
  go_round(&fields, &record);
  assert_true(record.fields.is_approximate);
  vc_record_parsed_fini(&record);
}

static void test_a_partial_comes_back(void **state)
{
  (void)state;
  struct vc_utterance utterance = good_day;
  struct vc_record_fields fields = final;
  struct vc_record_parsed record;
  utterance.is_final = 0;
  fields.utterance = &utterance;
  go_round(&fields, &record);
  assert_false(record.fields.is_final);
  vc_record_parsed_fini(&record);
}

static void test_unknowns_come_back(void **state)
{
  (void)state;
  const struct vc_utterance utterance = {.text = "", .language = "", .confidence = NAN};
  struct vc_record_fields fields = final;
  struct vc_record_parsed record;
  fields.utterance = &utterance;
  go_round(&fields, &record);
  assert_string_equal(record.fields.text, "");
  assert_string_equal(record.fields.language, "");
  assert_null(record.fields.speaker);
  assert_null(record.fields.words);
  assert_true(isnan(record.fields.confidence));
  vc_record_parsed_fini(&record);
}

static void test_sessions_come_back(void **state)
{
  (void)state;
  struct vc_record_fields fields = {.type = VC_RECORD_TYPE_SESSION_STARTED,
                                    .session = "demo",
                                    .epoch = E,
                                    .node = "a1",
                                    .started_at_ms = E + 999};
  struct vc_record_parsed record;
  go_round(&fields, &record);
  vc_record_parsed_fini(&record);
  fields.type = VC_RECORD_TYPE_SESSION_ENDED;
  fields.ended_at_ms = E + 1001;
  fields.reason = "crash";
  go_round(&fields, &record);
  assert_int_equal(record.fields.ended_at_ms, E + 1001);
  assert_string_equal(record.fields.reason, "crash");
  vc_record_parsed_fini(&record);
  fields.type = VC_RECORD_TYPE_SESSION_ERASED;
  fields.started_at_ms = 0;
  fields.erased_at_ms = E + 1002;
  go_round(&fields, &record);
  assert_int_equal(record.fields.erased_at_ms, E + 1002);
  vc_record_parsed_fini(&record);
}

// Any millisecond is the same after it was a fraction of seconds.
static void test_milliseconds_are_kept(void **state)
{
  (void)state;
  struct vc_record_fields fields = {
      .type = VC_RECORD_TYPE_SESSION_STARTED, .session = "demo", .epoch = E, .node = "a1"};
  for (int64_t ms = 0; ms < 1000; ms++) {
    struct vc_record_parsed record;
    fields.started_at_ms = E + ms * 1237;
    go_round(&fields, &record);
    vc_record_parsed_fini(&record);
  }
}

// A sound transcript of which one member is replaced, or left out where `value` is NULL.
static json_t *changed(const char *key, const char *value)
{
  json_t *root = json_loads(FINAL FINAL_TAIL, 0, NULL);
  assert_non_null(root);
  if (value == NULL) {
    assert_int_equal(json_object_del(root, key), 0);
  } else {
    json_t *given = json_loads(value, JSON_DECODE_ANY, NULL);
    assert_non_null(given);
    assert_int_equal(json_object_set_new(root, key, given), 0);
  }
  return root;
}

struct change {
  const char *key, *value, *why;
};

static void check_changes(const struct change *changes, size_t n)
{
  for (size_t i = 0; i < n; i++) {
    struct vc_record_fields fields;
    json_t *root = changed(changes[i].key, changes[i].value);
    const char *why = vc_record_read(root, &fields);
    if (changes[i].why == NULL) {
      assert_null(why);
    } else {
      assert_non_null(why);
      assert_string_equal(why, changes[i].why);
    }
    json_decref(root);
  }
}

static void test_refused_heads(void **state)
{
  (void)state;
  static const char version[] = "v is missing or newer than this program knows";
  static const char type[] = "type is missing or unknown";
  static const char session[] = "session or epoch is missing or out of range";
  static const struct change changes[] = {
      {"v", NULL, version},
      {"v", "0", version},
      {"v", "2", version},
      {"v", "\"1\"", version},
      {"v", "1.0", version},
      {"type", NULL, type},
      {"type", "\"\"", type},
      {"type", "1", type},
      {"type", "\"retract\"", type},
      {"session", NULL, session},
      {"session", "\"\"", session},
      {"session", "7", session},
      {"epoch", NULL, session},
      {"epoch", "0", session},
      {"epoch", "-1", session},
      {"epoch", "\"1\"", session},
      {"epoch", "1.5", session},
      {"epoch", "null", session},
      {"epoch", "9007199254740993", session},
      {"epoch", "9223372036854775807", session},
  };
  check_changes(changes, sizeof changes / sizeof *changes);
}

static void test_refused_transcripts(void **state)
{
  (void)state;
  static const char seq[] = "seq is missing or no positive whole number";
  static const char id[] = "utteranceId is missing";
  static const char text[] = "text is missing or no string";
  static const char span[] = "start or end is missing or no time";
  static const char flag[] = "isFinal is neither true nor false";
  static const char types[] = "words, language, speaker or confidence has the wrong type";
  static const struct change changes[] = {
      {"seq", NULL, seq},          {"seq", "0", seq},         {"seq", "-1", seq},
      {"seq", "1.0", seq},         {"seq", "\"1\"", seq},     {"utteranceId", NULL, id},
      {"utteranceId", "\"\"", id}, {"utteranceId", "4", id},  {"text", NULL, text},
      {"text", "null", text},      {"text", "[\"a\"]", text}, {"start", NULL, span},
      {"start", "null", span},     {"start", "\"1\"", span},  {"start", "-0.001", span},
      {"start", "13.001", span},   {"end", NULL, span},       {"end", "12.479", span},
      {"end", "1e9", span},        {"end", "true", span},     {"words", "\"Good\"", types},
      {"words", "{}", types},      {"words", "false", types}, {"language", "1", types},
      {"speaker", "1", types},     {"speaker", "[]", types},  {"confidence", "\"1\"", types},
      {"isFinal", "\"no\"", flag}, {"isFinal", "0", flag},
  };
  check_changes(changes, sizeof changes / sizeof *changes);
}

static void test_what_may_be_missing(void **state)
{
  (void)state;
  static const struct change changes[] = {
      {"language", NULL, NULL},     {"speaker", NULL, NULL},    {"confidence", NULL, NULL},
      {"words", NULL, NULL},        {"language", "null", NULL}, {"speaker", "null", NULL},
      {"confidence", "null", NULL}, {"words", "null", NULL},    {"words", "[]", NULL},
      {"confidence", "1", NULL},    {"start", "13", NULL},      {"start", "0", NULL},
      {"node", NULL, NULL},         {"startedAt", NULL, NULL},  {"receivedAt", NULL, NULL},
      {"isFinal", NULL, NULL},      {"isFinal", "null", NULL},  {"later", "{\"v\":2}", NULL},
  };
  check_changes(changes, sizeof changes / sizeof *changes);
}

static void check_refused(const char *text, const char *expected)
{
  struct vc_record_parsed record;
  const char *why = NULL;
  assert_int_equal(vc_record_parse(text, strlen(text), &record, &why), -1);
  assert_string_equal(why, expected);
  assert_null(record.root);
  vc_record_parsed_fini(&record);
}

static void test_refused_texts(void **state)
{
  (void)state;
#define ENDED "{\"v\":1,\"type\":\"session_ended\",\"session\":\"demo\",\"epoch\":1"
  check_refused("", "not a JSON object or array");
  check_refused("{\"v\":1,", "not a JSON object or array");
  check_refused("[]", "v is missing or newer than this program knows");
  check_refused(ENDED "}", "endedAt is missing or no time");
  check_refused(ENDED ",\"endedAt\":0}", "endedAt is missing or no time");
  check_refused(ENDED ",\"endedAt\":-1.5}", "endedAt is missing or no time");
  check_refused(ENDED ",\"endedAt\":1e11}", "endedAt is missing or no time");
  check_refused(ENDED ",\"endedAt\":\"1790000000\"}", "endedAt is missing or no time");
}

static void print(void)
{
  struct vc_text text = {0};
  vc_record_print(&text, &final);
  assert_int_equal(text.has_failed, memory_has_failed);
  vc_text_fini(&text);
}

static void parse(void)
{
  struct vc_record_parsed record;
  const char *why = NULL;
  int status = vc_record_parse(FINAL FINAL_TAIL, strlen(FINAL FINAL_TAIL), &record, &why);
  assert_int_equal(status, memory_has_failed ? -1 : 0);
  assert_ptr_equal(why, memory_has_failed ? vc_json_no_memory : NULL);
  assert_int_equal(record.root != NULL, status == 0);
  vc_record_parsed_fini(&record);
}

static void test_without_memory(void **state)
{
  (void)state;
  assert_true(memory_fail_each(print) >= 2);
  assert_true(memory_fail_each(parse) > 10);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_a_transcript_is_printed), cmocka_unit_test(test_spread_words_say_so),
      cmocka_unit_test(test_what_is_unknown_is_null), cmocka_unit_test(test_sessions_are_printed),
      cmocka_unit_test(test_a_transcript_comes_back), cmocka_unit_test(test_spread_words_come_back),
      cmocka_unit_test(test_a_partial_comes_back),    cmocka_unit_test(test_unknowns_come_back),
      cmocka_unit_test(test_sessions_come_back),      cmocka_unit_test(test_milliseconds_are_kept),
      cmocka_unit_test(test_refused_heads),           cmocka_unit_test(test_refused_transcripts),
      cmocka_unit_test(test_what_may_be_missing),     cmocka_unit_test(test_refused_texts),
      cmocka_unit_test(test_without_memory),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
