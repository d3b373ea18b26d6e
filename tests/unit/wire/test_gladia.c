// What a Gladia server may say, and what is made of it; what is posted to one, byte by byte.
#include <verbacast/wire/gladia.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "no_memory.h"

// --- what a client says

static void check_init(const struct vc_gladia_init *init, const char *expected)
{
  char *text = vc_gladia_print_init(init);
  assert_non_null(text);
  assert_string_equal(text, expected);
  free(text);
}

#define INIT_AUDIO                                                                                 \
  "{\"encoding\":\"wav/pcm\",\"bit_depth\":16,\"sample_rate\":16000,\"channels\":1,"               \
  "\"model\":\"solaria-1\""
#define INIT_MESSAGES                                                                              \
  ",\"messages_config\":{\"receive_partial_transcripts\":true,"                                    \
  "\"receive_final_transcripts\":true,\"receive_speech_events\":true,"                             \
  "\"receive_pre_processing_events\":false,\"receive_realtime_processing_events\":false,"          \
  "\"receive_post_processing_events\":false,\"receive_acknowledgments\":true,"                     \
  "\"receive_errors\":true,\"receive_lifecycle_events\":true}}"

static void test_init(void **state)
{
  (void)state;
  static const char *const languages[] = {"ru", "en"};
  struct vc_gladia_init init = {.session = "ro\"om",
                                .languages = languages,
                                .n_languages = 2,
                                .endpointing_s = 0.3,
                                .max_utterance_s = 5};
  check_init(&init, INIT_AUDIO
             ",\"endpointing\":0.300,\"maximum_duration_without_endpointing\":5.000,"
             "\"custom_metadata\":{\"session\":\"ro\\\"om\"},\"language_config\":{\"languages\":"
             "[\"ru\",\"en\"],\"code_switching\":true}" INIT_MESSAGES);
  init.n_languages = 1;
  init.session = NULL;
  init.endpointing_s = 0.01;
  init.max_utterance_s = 60;
  check_init(&init, INIT_AUDIO
             ",\"endpointing\":0.010,\"maximum_duration_without_endpointing\":60.000,"
             "\"language_config\":{\"languages\":[\"ru\"],\"code_switching\":false}" INIT_MESSAGES);
}

// The provider warns of code_switching with an empty list.
static void test_init_with_detection(void **state)
{
  (void)state;
  const struct vc_gladia_init init = {.endpointing_s = 1, .max_utterance_s = 5};
  check_init(&init, INIT_AUDIO
             ",\"endpointing\":1.000,\"maximum_duration_without_endpointing\":5.000,"
             "\"language_config\":{\"languages\":[],\"code_switching\":false}" INIT_MESSAGES);
}

static void test_texts_of_a_client(void **state)
{
  (void)state;
  assert_string_equal(vc_gladia_stop_recording, "{\"type\":\"stop_recording\"}");
  assert_string_equal(vc_gladia_keep_alive, "{\"type\":\"audio_chunk\",\"data\":{\"chunk\":\"\"}}");
}

static int parse_answer(const char *text, struct vc_gladia_session *session, const char **why)
{
  *why = NULL;
  return vc_gladia_parse_init_answer(text, strlen(text), session, why);
}

static void test_init_answer(void **state)
{
  (void)state;
  struct vc_gladia_session session;
  const char *why;
  assert_int_equal(parse_answer("{\"id\":\"7c1e\",\"created_at\":\"2026-11-22T07:00:01.123Z\","
                                "\"url\":\"wss://api.gladia.io/v2/live?token=7c1e\",\"x\":[1]}",
                                &session, &why),
                   0);
  assert_string_equal(session.id, "7c1e");
  assert_string_equal(session.url, "wss://api.gladia.io/v2/live?token=7c1e");
}

static void test_refused_init_answers(void **state)
{
  (void)state;
  static const char *const bad[] = {
      "[]",
      "{\"id\":\"a\"}",
      "{\"url\":\"b\"}",
      "{\"id\":\"\",\"url\":\"b\"}",
      "{\"id\":\"a\",\"url\":\"\"}",
      "{\"id\":7,\"url\":\"b\"}",
      "{\"id\":\"a\",\"url\":null}",
      "{\"id\":\"a\",\"url\":[\"b\"]}",
  };
  struct vc_gladia_session session;
  const char *why;
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    assert_int_equal(parse_answer(bad[i], &session, &why), -1);
    assert_string_equal(why, "the answer has no usable id and url");
  }
  assert_int_equal(parse_answer("<html>", &session, &why), -1);
  assert_string_equal(why, "not a JSON object or array");
}

static int answer_of_lengths(int id, int url, struct vc_gladia_session *session)
{
  static char text[4096];
  const char *why;
  snprintf(text, sizeof text, "{\"id\":\"%0*d\",\"url\":\"%0*d\"}", id, 1, url, 1);
  return parse_answer(text, session, &why);
}

static void test_bounds_of_init_answers(void **state)
{
  (void)state;
  struct vc_gladia_session session;
  assert_int_equal(answer_of_lengths(127, 2047, &session), 0);
  assert_int_equal(strlen(session.id), 127);
  assert_int_equal(strlen(session.url), 2047);
  assert_int_equal(answer_of_lengths(128, 2047, &session), -1);
  assert_int_equal(answer_of_lengths(127, 2048, &session), -1);
}

// --- what a server says

static int parse(const char *text, struct vc_gladia_message *message)
{
  return vc_gladia_parse(text, strlen(text), message);
}

// A message that carries no utterance.
static struct vc_gladia_message parsed(const char *text)
{
  struct vc_gladia_message message;
  assert_int_equal(parse(text, &message), 0);
  assert_null(message.utterance);
  return message;
}

static void check_malformed(const char *text)
{
  struct vc_gladia_message message;
  assert_int_equal(parse(text, &message), 1);
  assert_null(message.utterance);
}

static void test_no_messages(void **state)
{
  (void)state;
  static const char *const bad[] = {"",
                                    "hello",
                                    "[]",
                                    "{}",
                                    "7",
                                    "{\"type\":7}",
                                    "{\"type\":null}",
                                    "{\"data\":{\"type\":\"transcript\"}}",
                                    "{\"type\":\"end_session\""};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    check_malformed(bad[i]);
  }
}

// Each type that the protocol's description knows, and some that it does not.
static void test_plain_messages(void **state)
{
  (void)state;
  static const struct {
    const char *type;
    enum vc_gladia_kind kind;
  } known[] = {
      {"start_session", VC_GLADIA_IGNORED},
      {"start_recording", VC_GLADIA_IGNORED},
      {"end_session", VC_GLADIA_END_SESSION},
      {"speech_start", VC_GLADIA_SPEECH_START},
      {"speech_end", VC_GLADIA_SPEECH_END},
      {"stop_recording", VC_GLADIA_STOP_ACK},
      {"end_recording", VC_GLADIA_END_RECORDING},
      {"translation", VC_GLADIA_IGNORED},
      {"named_entity_recognition", VC_GLADIA_IGNORED},
      {"sentiment_analysis", VC_GLADIA_IGNORED},
      {"post_transcript", VC_GLADIA_IGNORED},
      {"post_summarization", VC_GLADIA_IGNORED},
      {"post_final_transcript", VC_GLADIA_IGNORED},
      {"post_chapterization", VC_GLADIA_IGNORED},
      {"Transcript", VC_GLADIA_IGNORED},
      {"", VC_GLADIA_IGNORED},
  };
  for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
    char text[256];
    snprintf(text, sizeof text,
             "{\"type\":\"%s\",\"session_id\":\"7c1e\",\"created_at\":\"Z\",\"error\":null,"
             "\"data\":{\"recording_duration\":61.2,\"later\":[{}]}}",
             known[i].type);
    assert_int_equal(parsed(text).kind, known[i].kind);
  }
}

static void test_speech(void **state)
{
  (void)state;
  struct vc_gladia_message message =
      parsed("{\"type\":\"speech_start\",\"data\":{\"time\":0.41,\"channel\":0}}");
  assert_int_equal(message.kind, VC_GLADIA_SPEECH_START);
  assert_true(message.time_s == 0.41);
  message = parsed("{\"type\":\"speech_end\",\"data\":{\"time\":7}}");
  assert_int_equal(message.kind, VC_GLADIA_SPEECH_END);
  assert_true(message.time_s == 7);
  static const char *const unknown[] = {"null", "{}", "{\"time\":null}", "{\"time\":-1}",
                                        "{\"time\":1e7}"};
  for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++) {
    char text[128];
    snprintf(text, sizeof text, "{\"type\":\"speech_end\",\"data\":%s}", unknown[i]);
    assert_true(parsed(text).time_s == 0);
  }
  check_malformed("{\"type\":\"speech_start\",\"data\":{\"time\":\"0.41\"}}");
  check_malformed("{\"type\":\"speech_end\",\"data\":{\"time\":[]}}");
}

static void check_range(const char *range, uint64_t begin, uint64_t end)
{
  char text[256];
  snprintf(text, sizeof text,
           "{\"type\":\"audio_chunk\",\"acknowledged\":true,\"error\":null,"
           "\"data\":{\"byte_range\":%s,\"time_range\":[0.1,0.15]}}",
           range);
  struct vc_gladia_message message = parsed(text);
  assert_int_equal(message.kind, VC_GLADIA_AUDIO_ACK);
  assert_int_equal(message.byte_begin, begin);
  assert_int_equal(message.byte_end, end);
}

static void test_acknowledgments(void **state)
{
  (void)state;
  check_range("[3200,4800]", 3200, 4800);
  check_range("[0,4095]", 0, 4096); // an inclusive end
  check_range("[4096,4097]", 4096, 4098);
  check_range("[0,0]", 0, 0);
  check_range("[0,9223372036854775807]", 0, UINT64_C(9223372036854775808));
}

static void test_malformed_acknowledgments(void **state)
{
  (void)state;
  static const char *const bad[] = {
      "null",
      "{}",
      "{\"byte_range\":null}",
      "{\"byte_range\":[]}",
      "{\"byte_range\":[0]}",
      "{\"byte_range\":[0,null]}",
      "{\"byte_range\":[0,1600.0]}",
      "{\"byte_range\":[\"0\",\"1600\"]}",
      "{\"byte_range\":[-2,1600]}",
      "{\"byte_range\":[1600,0]}",
      "{\"byte_range\":{\"0\":0,\"1\":2}}",
  };
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    char text[128];
    snprintf(text, sizeof text, "{\"type\":\"audio_chunk\",\"acknowledged\":true,\"data\":%s}",
             bad[i]);
    check_malformed(text);
  }
}

static void check_error(const char *text, enum vc_gladia_kind kind, int status, const char *said)
{
  struct vc_gladia_message message = parsed(text);
  assert_int_equal(message.kind, kind);
  assert_int_equal(message.status_code, status);
  assert_string_equal(message.error_text, said);
}

static void test_refused_audio(void **state)
{
  (void)state;
  check_error("{\"type\":\"audio_chunk\",\"acknowledged\":false,\"error\":{\"message\":\"odd\"},"
              "\"data\":null}",
              VC_GLADIA_AUDIO_REFUSED, 0, "odd");
  check_error("{\"type\":\"audio_chunk\",\"acknowledged\":false,\"error\":{\"status_code\":409,"
              "\"exception\":\"ConflictError\",\"message\":\"already stopped\"}}",
              VC_GLADIA_AUDIO_REFUSED, 409, "already stopped");
  check_error("{\"type\":\"audio_chunk\",\"acknowledged\":false,\"error\":null}",
              VC_GLADIA_AUDIO_REFUSED, 0, "no reason given");
  check_error("{\"type\":\"audio_chunk\"}", VC_GLADIA_AUDIO_REFUSED, 0, "no reason given");
}

static void test_errors(void **state)
{
  (void)state;
  check_error("{\"type\":\"error\",\"error\":{\"message\":\"no\"}}", VC_GLADIA_ERROR, 0, "no");
  check_error("{\"type\":\"error\",\"error\":{\"status_code\":429,\"message\":\"busy\"}}",
              VC_GLADIA_ERROR, 429, "busy");
  check_error("{\"type\":\"error\",\"error\":\"the text itself\"}", VC_GLADIA_ERROR, 0,
              "the text itself");
  check_error("{\"type\":\"error\",\"data\":{\"status_code\":500,\"message\":\"within\"}}",
              VC_GLADIA_ERROR, 500, "within");
  check_error("{\"type\":\"error\",\"error\":null,\"data\":{\"message\":\"within\"}}",
              VC_GLADIA_ERROR, 0, "within");
  check_error("{\"type\":\"error\"}", VC_GLADIA_ERROR, 0, "no reason given");
  check_error("{\"type\":\"error\",\"error\":{\"message\":7,\"status_code\":\"500\"}}",
              VC_GLADIA_ERROR, 0, "no reason given");
}

static void test_odd_status_codes(void **state)
{
  (void)state;
  static const char *const odd[] = {"-1", "1000", "4294967697", "500.0", "null"};
  for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
    char text[128];
    snprintf(text, sizeof text, "{\"type\":\"error\",\"error\":{\"status_code\":%s}}", odd[i]);
    check_error(text, VC_GLADIA_ERROR, 0, "no reason given");
  }
}

// A long reason is cut between characters.
static void test_long_errors(void **state)
{
  (void)state;
  char reason[400] = "", expected[256], text[512];
  for (int i = 0; i < 130; i++) {
    strcat(reason, "\xc3\xa9");
  }
  memcpy(expected, reason, 254);
  expected[254] = '\0';
  snprintf(text, sizeof text, "{\"type\":\"error\",\"error\":\"%s\"}", reason);
  check_error(text, VC_GLADIA_ERROR, 0, expected);
}

// --- without memory

static void print_init(void)
{
  static const char *const languages[] = {"ru", "en"};
  const struct vc_gladia_init init = {.session = "demo", .languages = languages, .n_languages = 2};
  char *text = vc_gladia_print_init(&init);
  assert_int_equal(text == NULL, memory_has_failed);
  free(text);
}

static void test_without_memory(void **state)
{
  (void)state;
  assert_true(memory_fail_each(print_init) >= 2);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_init),
      cmocka_unit_test(test_init_with_detection),
      cmocka_unit_test(test_texts_of_a_client),
      cmocka_unit_test(test_init_answer),
      cmocka_unit_test(test_refused_init_answers),
      cmocka_unit_test(test_bounds_of_init_answers),
      cmocka_unit_test(test_no_messages),
      cmocka_unit_test(test_plain_messages),
      cmocka_unit_test(test_speech),
      cmocka_unit_test(test_acknowledgments),
      cmocka_unit_test(test_malformed_acknowledgments),
      cmocka_unit_test(test_refused_audio),
      cmocka_unit_test(test_errors),
      cmocka_unit_test(test_odd_status_codes),
      cmocka_unit_test(test_long_errors),
      cmocka_unit_test(test_without_memory),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
