// What verbacast-stt says, byte by byte, and that our own client understands it.
#include <verbacast/wire/gladia_server.h>

#include <verbacast/wire/gladia.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "no_memory.h"

static const struct vc_gladia_envelope envelope = {.session_id = "7c1e\"",
                                                   .created_at_ms = INT64_C(1795330801123)};

#define HEAD(type)                                                                                 \
  "{\"type\":\"" type "\",\"session_id\":\"7c1e\\\"\",\"created_at\":\"2026-11-22T07:00:01.123Z\""

static const struct vc_word words[] = {{"Good", 0.44, 1, 0.9}, {"\"day\"", 1.1, 1.9, NAN}};
static const struct vc_utterance good_day = {.id = "00-4",
                                             .text = "Good \"day\"",
                                             .language = "en",
                                             .start_s = 0.44,
                                             .end_s = 1.9,
                                             .confidence = 0.87,
                                             .channel = 1,
                                             .is_final = 1,
                                             .words = words,
                                             .n_words = 2};

#define GOOD_DAY                                                                                   \
  "{\"start\":0.440,\"end\":1.900,\"confidence\":0.870,\"channel\":1,\"language\":\"en\","         \
  "\"text\":\"Good \\\"day\\\"\",\"words\":[{\"word\":\"Good\",\"start\":0.440,\"end\":1.000,"     \
  "\"confidence\":0.900},{\"word\":\"\\\"day\\\"\",\"start\":1.100,\"end\":1.900,"                 \
  "\"confidence\":null}]"

// Takes the text.
static void expect(struct vc_text *text, const char *expected)
{
  assert_false(text->has_failed);
  assert_string_equal(text->at, expected);
  vc_text_fini(text);
}

// The same, and what the client makes of it; the caller destroys its utterance.
static struct vc_gladia_message understood(struct vc_text *text, const char *expected)
{
  struct vc_gladia_message message;
  assert_false(text->has_failed);
  assert_int_equal(vc_gladia_parse(text->at, text->size, &message), 0);
  expect(text, expected);
  return message;
}

static void test_time(void **state)
{
  (void)state;
  struct vc_text text = {0};
  vc_gladia_print_time(&text, 0);
  vc_text_add(&text, " ");
  vc_gladia_print_time(&text, INT64_C(1709164799999)); // the day before a leap day
  vc_text_add(&text, " ");
  vc_gladia_print_time(&text, INT64_C(1709164800007));
  expect(&text, "1970-01-01T00:00:00.000Z 2024-02-28T23:59:59.999Z 2024-02-29T00:00:00.007Z");
}

static void test_init_answer(void **state)
{
  (void)state;
  struct vc_text text = {0};
  struct vc_gladia_session session;
  const char *why;
  vc_gladia_print_init_answer(&text, &envelope, "ws://127.0.0.1:4100/v2/live?token=a\"b");
  assert_int_equal(vc_gladia_parse_init_answer(text.at, text.size, &session, &why), 0);
  assert_string_equal(session.id, "7c1e\"");
  assert_string_equal(session.url, "ws://127.0.0.1:4100/v2/live?token=a\"b");
  expect(&text, "{\"id\":\"7c1e\\\"\",\"created_at\":\"2026-11-22T07:00:01.123Z\","
                "\"url\":\"ws://127.0.0.1:4100/v2/live?token=a\\\"b\"}");
}

static void test_lifecycle(void **state)
{
  (void)state;
  struct vc_text text = {0};
  vc_gladia_print_lifecycle(&text, &envelope, "start_session");
  assert_int_equal(understood(&text, HEAD("start_session") "}").kind, VC_GLADIA_IGNORED);
  vc_gladia_print_lifecycle(&text, &envelope, "start_recording");
  assert_int_equal(understood(&text, HEAD("start_recording") "}").kind, VC_GLADIA_IGNORED);
  vc_gladia_print_lifecycle(&text, &envelope, "end_session");
  assert_int_equal(understood(&text, HEAD("end_session") "}").kind, VC_GLADIA_END_SESSION);
}

static void test_acknowledgment(void **state)
{
  (void)state;
  struct vc_text text = {0};
  vc_gladia_print_ack(&text, &envelope, 3200, 4800, 32000);
  struct vc_gladia_message message =
      understood(&text, HEAD("audio_chunk") ",\"acknowledged\":true,\"error\":null,\"data\":{"
                                            "\"byte_range\":[3200,4800],"
                                            "\"time_range\":[0.1000,0.1500]}}");
  assert_int_equal(message.kind, VC_GLADIA_AUDIO_ACK);
  assert_int_equal(message.byte_begin, 3200);
  assert_int_equal(message.byte_end, 4800);
}

static void test_audio_error(void **state)
{
  (void)state;
  struct vc_text text = {0};
  vc_gladia_print_audio_error(&text, &envelope, "no \"base64\"");
  struct vc_gladia_message message =
      understood(&text, HEAD("audio_chunk") ",\"acknowledged\":false,\"error\":{"
                                            "\"message\":\"no \\\"base64\\\"\"},\"data\":null}");
  assert_int_equal(message.kind, VC_GLADIA_AUDIO_REFUSED);
  assert_string_equal(message.error_text, "no \"base64\"");
}

static void test_speech(void **state)
{
  (void)state;
  struct vc_text text = {0};
  vc_gladia_print_speech(&text, &envelope, "speech_start", 0.41);
  struct vc_gladia_message message =
      understood(&text, HEAD("speech_start") ",\"data\":{\"time\":0.410,\"channel\":0}}");
  assert_int_equal(message.kind, VC_GLADIA_SPEECH_START);
  assert_true(message.time_s == 0.41);
  vc_gladia_print_speech(&text, &envelope, "speech_end", 12);
  message = understood(&text, HEAD("speech_end") ",\"data\":{\"time\":12.000,\"channel\":0}}");
  assert_int_equal(message.kind, VC_GLADIA_SPEECH_END);
  assert_true(message.time_s == 12);
}

static void test_transcript(void **state)
{
  (void)state;
  struct vc_text text = {0};
  vc_gladia_print_transcript(&text, &envelope, &good_day);
  struct vc_gladia_message message =
      understood(&text, HEAD("transcript") ",\"data\":{\"id\":\"00-4\",\"is_final\":true,"
                                           "\"utterance\":" GOOD_DAY "}}}");
  const struct vc_utterance *heard = message.utterance;
  assert_non_null(heard);
  assert_string_equal(heard->id, "00-4");
  assert_string_equal(heard->text, good_day.text);
  assert_string_equal(heard->language, "en");
  assert_true(heard->start_s == 0.44 && heard->end_s == 1.9 && heard->confidence == 0.87);
  assert_int_equal(heard->channel, 1);
  assert_true(heard->is_final);
  assert_false(heard->is_approximate);
  assert_int_equal(heard->n_words, 2);
  assert_string_equal(heard->words[1].text, "\"day\"");
  assert_true(heard->words[1].start_s == 1.1 && heard->words[1].end_s == 1.9);
  assert_true(isnan(heard->words[1].confidence));
  vc_utterance_destroy(&message.utterance);
}

static void test_spread_words_say_so(void **state)
{
  (void)state;
  struct vc_text text = {0};
  struct vc_utterance utterance = good_day;
  utterance.is_approximate = 1;
  utterance.is_final = 0;
  vc_gladia_print_transcript(&text, &envelope, &utterance);
  struct vc_gladia_message message =
      understood(&text, HEAD("transcript") ",\"data\":{\"id\":\"00-4\",\"is_final\":false,"
                                           "\"utterance\":" GOOD_DAY ",\"approximate\":true}}}");
  assert_true(message.utterance->is_approximate);
  assert_false(message.utterance->is_final);
  vc_utterance_destroy(&message.utterance);
}

static void test_what_is_unknown_is_null(void **state)
{
  (void)state;
  struct vc_text text = {0};
  const struct vc_utterance utterance = {.text = "", .language = "", .confidence = NAN};
  vc_gladia_print_utterance(&text, &utterance);
  expect(&text, "{\"start\":0.000,\"end\":0.000,\"confidence\":null,\"channel\":0,"
                "\"language\":null,\"text\":\"\",\"words\":[]}");
}

static void test_the_end_of_a_recording(void **state)
{
  (void)state;
  struct vc_text text = {0};
  vc_gladia_print_stop_ack(&text, &envelope, 61.2, 0.4);
  assert_int_equal(
      understood(&text, HEAD("stop_recording") ",\"acknowledged\":true,\"error\":null,\"data\":{"
                                               "\"recording_duration\":61.200,"
                                               "\"recording_left_to_process\":0.400}}")
          .kind,
      VC_GLADIA_STOP_ACK);
  vc_gladia_print_end_recording(&text, &envelope, 61.2);
  assert_int_equal(
      understood(&text, HEAD("end_recording") ",\"data\":{\"recording_duration\":61.200}}").kind,
      VC_GLADIA_END_RECORDING);
}

static void test_post_transcript(void **state)
{
  (void)state;
  struct vc_text text = {0};
  vc_gladia_print_post_transcript(&text, &envelope, "en", "Good \"day\"", "{},{}");
  assert_int_equal(understood(&text, HEAD("post_transcript") ",\"data\":{\"full_transcript\":"
                                                             "\"Good \\\"day\\\"\",\"languages\":"
                                                             "[\"en\"],\"utterances\":[{},{}]}}")
                       .kind,
                   VC_GLADIA_IGNORED);
  vc_gladia_print_post_transcript(&text, &envelope, "en", "", "");
  assert_int_equal(understood(&text, HEAD("post_transcript") ",\"data\":{\"full_transcript\":\"\","
                                                             "\"languages\":[\"en\"],"
                                                             "\"utterances\":[]}}")
                       .kind,
                   VC_GLADIA_IGNORED);
}

static void test_error(void **state)
{
  (void)state;
  struct vc_text text = {0};
  vc_gladia_print_error(&text, &envelope, 400, "a\nb");
  struct vc_gladia_message message =
      understood(&text, HEAD("error") ",\"error\":{\"status_code\":400,\"message\":\"a\\nb\"},"
                                      "\"data\":null}");
  assert_int_equal(message.kind, VC_GLADIA_ERROR);
  assert_int_equal(message.status_code, 400);
  assert_string_equal(message.error_text, "a\nb");
}

static void print_transcript(void)
{
  struct vc_text text = {0};
  vc_gladia_print_transcript(&text, &envelope, &good_day);
  assert_int_equal(text.has_failed, memory_has_failed);
  vc_text_fini(&text);
}

static void test_without_memory(void **state)
{
  (void)state;
  assert_true(memory_fail_each(print_transcript) >= 2);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_time),
      cmocka_unit_test(test_init_answer),
      cmocka_unit_test(test_lifecycle),
      cmocka_unit_test(test_acknowledgment),
      cmocka_unit_test(test_audio_error),
      cmocka_unit_test(test_speech),
      cmocka_unit_test(test_transcript),
      cmocka_unit_test(test_spread_words_say_so),
      cmocka_unit_test(test_what_is_unknown_is_null),
      cmocka_unit_test(test_the_end_of_a_recording),
      cmocka_unit_test(test_post_transcript),
      cmocka_unit_test(test_error),
      cmocka_unit_test(test_without_memory),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
