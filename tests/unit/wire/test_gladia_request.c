// What a client asks of verbacast-stt and sends it: defaults, bounds, and the reasons of refusals.
#include <verbacast/wire/gladia_server.h>

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

// The caller ends it.
static struct vc_gladia_request asked(const char *text)
{
  struct vc_gladia_request request;
  char why[256] = "";
  assert_int_equal(vc_gladia_parse_request(text, strlen(text), &request, why, sizeof why), 0);
  assert_string_equal(why, "");
  return request;
}

static void test_defaults(void **state)
{
  (void)state;
  static const char *const bare[] = {
      "{}",
      "{\"encoding\":null,\"bit_depth\":null,\"sample_rate\":null,\"channels\":null,"
      "\"endpointing\":null,\"maximum_duration_without_endpointing\":null,\"custom_metadata\":null,"
      "\"language_config\":null,\"messages_config\":null}",
      ("{\"language_config\":{\"languages\":null,\"code_switching\":true},\"messages_config\":{},"
       "\"model\":\"solaria-1\",\"later\":[1]}"),
  };
  for (size_t i = 0; i < sizeof bare / sizeof *bare; i++) {
    struct vc_gladia_request request = asked(bare[i]);
    assert_int_equal(request.sample_rate_hz, 16000);
    assert_true(request.endpointing_s == 0.4 && request.max_utterance_s == 5);
    assert_int_equal(request.n_languages, 0);
    assert_null(request.metadata);
    assert_false(request.wants_partials);
    assert_true(request.wants_finals && request.wants_speech && request.wants_acks);
    assert_true(request.wants_lifecycle && request.wants_post && request.wants_errors);
    vc_gladia_request_fini(&request);
  }
}

static void test_all_is_read(void **state)
{
  (void)state;
  struct vc_gladia_request request =
      asked("{\"encoding\":\"wav/pcm\",\"bit_depth\":16,\"sample_rate\":8000,\"channels\":1,"
            "\"endpointing\":0.01,\"maximum_duration_without_endpointing\":60,"
            "\"custom_metadata\":{\"session\": \"room-7\", \"n\": [1]},"
            "\"language_config\":{\"languages\":[\"en\",\"fifteen-letters\"]},"
            "\"messages_config\":{\"receive_partial_transcripts\":true,"
            "\"receive_final_transcripts\":false,\"receive_speech_events\":false,"
            "\"receive_post_processing_events\":false,\"receive_acknowledgments\":false,"
            "\"receive_errors\":false,\"receive_lifecycle_events\":false}}");
  assert_int_equal(request.sample_rate_hz, 8000);
  assert_true(request.endpointing_s == 0.01 && request.max_utterance_s == 60);
  assert_int_equal(request.n_languages, 2);
  assert_string_equal(request.languages[0], "en");
  assert_string_equal(request.languages[1], "fifteen-letters");
  assert_string_equal(request.metadata, "{\"session\":\"room-7\",\"n\":[1]}");
  assert_true(request.wants_partials);
  assert_false(request.wants_finals || request.wants_speech || request.wants_acks);
  assert_false(request.wants_lifecycle || request.wants_post || request.wants_errors);
  vc_gladia_request_fini(&request);
  assert_null(request.metadata);
}

static void test_a_request_is_printed_whole(void **state)
{
  (void)state;
  struct vc_gladia_request request =
      asked("{\"sample_rate\":8000,\"endpointing\":0.25,\"custom_metadata\":{\"a\":1},"
            "\"language_config\":{\"languages\":[\"en\",\"e\\\"n\"]},"
            "\"messages_config\":{\"receive_partial_transcripts\":true,\"receive_errors\":false}}");
  struct vc_text text = {0};
  vc_gladia_print_request(&text, &request);
  vc_gladia_request_fini(&request);
  static const char whole[] =
      "{\"encoding\":\"wav/pcm\",\"bit_depth\":16,\"sample_rate\":8000,\"channels\":1,"
      "\"endpointing\":0.25,\"maximum_duration_without_endpointing\":5,"
      "\"language_config\":{\"languages\":[\"en\",\"e\\\"n\"]},"
      "\"messages_config\":{\"receive_partial_transcripts\":true,"
      "\"receive_final_transcripts\":true,\"receive_speech_events\":true,"
      "\"receive_acknowledgments\":true,\"receive_lifecycle_events\":true,"
      "\"receive_post_processing_events\":true,\"receive_errors\":false}}";
  assert_string_equal(text.at, whole);
  request = asked(text.at);
  text.size = 0;
  vc_gladia_print_request(&text, &request);
  assert_string_equal(text.at, whole);
  vc_gladia_request_fini(&request);
  vc_text_fini(&text);
}

// What the node posts is what this server takes.
static void test_our_own_client_is_served(void **state)
{
  (void)state;
  static const char *const languages[] = {"ru", "en"};
  const struct vc_gladia_init init = {.session = "demo",
                                      .languages = languages,
                                      .n_languages = 2,
                                      .endpointing_s = 0.3,
                                      .max_utterance_s = 7};
  char *text = vc_gladia_print_init(&init);
  assert_non_null(text);
  struct vc_gladia_request request = asked(text);
  assert_true(request.endpointing_s == 0.3 && request.max_utterance_s == 7);
  assert_int_equal(request.n_languages, 2);
  assert_string_equal(request.metadata, "{\"session\":\"demo\"}");
  assert_true(request.wants_partials && request.wants_finals && request.wants_acks);
  assert_false(request.wants_post);
  vc_gladia_request_fini(&request);
  free(text);
}

static void check_refused_with(int status, const char *text, const char *expected)
{
  struct vc_gladia_request request;
  char why[256] = "";
  assert_int_equal(vc_gladia_parse_request(text, strlen(text), &request, why, sizeof why), status);
  assert_string_equal(why, expected);
  assert_null(request.metadata);
}

static void check_refused(const char *text, const char *expected)
{
  check_refused_with(422, text, expected);
}

static void test_bodies_that_are_none(void **state)
{
  (void)state;
  check_refused_with(400, "", "the body is not a JSON object or array");
  check_refused_with(400, "{\"a\":", "the body is not a JSON object or array");
  check_refused_with(400, "[]", "the body is no JSON object");
}

static void test_refused_audio(void **state)
{
  (void)state;
  check_refused("{\"encoding\":\"wav/alaw\"}",
                "encoding is \"wav/alaw\"; this server takes wav/pcm");
  check_refused("{\"encoding\":1}", "encoding is 1; this server takes wav/pcm");
  check_refused("{\"bit_depth\":24}", "bit_depth is 24; this server takes 16");
  check_refused("{\"bit_depth\":\"16\"}", "bit_depth is \"16\"; this server takes 16");
  check_refused("{\"sample_rate\":44100}", "sample_rate is 44100; this server takes 16000 or 8000");
  check_refused("{\"sample_rate\":16000.0}",
                "sample_rate is 16000.0; this server takes 16000 or 8000");
  check_refused("{\"sample_rate\":4294983296}", // 16000 in the lower 32 bits
                "sample_rate is 4294983296; this server takes 16000 or 8000");
  check_refused("{\"channels\":2}", "channels is 2; this server takes 1");
  check_refused("{\"channels\":[1]}", "channels is [1]; this server takes 1");
}

static void test_refused_messages(void **state)
{
  (void)state;
  check_refused("{\"messages_config\":[]}", "messages_config is []; allowed: an object");
  check_refused("{\"messages_config\":{\"receive_partial_transcripts\":\"yes\"}}",
                "messages_config.receive_partial_transcripts is \"yes\"; allowed: true or false");
  check_refused("{\"messages_config\":{\"receive_errors\":0}}",
                "messages_config.receive_errors is 0; allowed: true or false");
  struct vc_gladia_request request =
      asked("{\"messages_config\":{\"receive_acknowledgments\":null,\"later\":3}}");
  assert_true(request.wants_acks);
  vc_gladia_request_fini(&request);
}

static void test_refused_times(void **state)
{
  (void)state;
  check_refused("{\"endpointing\":0.009}", "endpointing is 0.009; allowed: 0.01 to 10");
  check_refused("{\"endpointing\":10.5}", "endpointing is 10.5; allowed: 0.01 to 10");
  check_refused("{\"endpointing\":\"0.3\"}", "endpointing is \"0.3\"; allowed: 0.01 to 10");
  check_refused("{\"maximum_duration_without_endpointing\":4}",
                "maximum_duration_without_endpointing is 4; allowed: 5 to 60");
  check_refused("{\"maximum_duration_without_endpointing\":true}",
                "maximum_duration_without_endpointing is true; allowed: 5 to 60");
}

static void test_refused_languages(void **state)
{
  (void)state;
#define LANGUAGES(list) "{\"language_config\":{\"languages\":" list "}}"
  check_refused("{\"language_config\":\"en\"}", "language_config is \"en\"; allowed: an object");
  check_refused(LANGUAGES("\"en\""),
                "language_config.languages is \"en\"; allowed: a list of at most 16 codes");
  check_refused(LANGUAGES("[\"en\",\"e\"]"),
                "language_config.languages[1] is \"e\"; allowed: a code such as \"en\"");
  check_refused(LANGUAGES("[7]"),
                "language_config.languages[0] is 7; allowed: a code such as \"en\"");
  check_refused(LANGUAGES("[\"sixteen--letters\"]"),
                "language_config.languages[0] is \"sixteen--letters\"; allowed: a code such as "
                "\"en\"");
  check_refused(LANGUAGES("[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17]"),
                "language_config.languages is [1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,; allowed: a "
                "list of at most 16 codes");
  struct vc_gladia_request request = asked(LANGUAGES("[\"aa\",\"aa\",\"aa\",\"aa\",\"aa\",\"aa\","
                                                     "\"aa\",\"aa\",\"aa\",\"aa\",\"aa\",\"aa\","
                                                     "\"aa\",\"aa\",\"aa\",\"aa\"]"));
  assert_int_equal(request.n_languages, VC_GLADIA_LANGUAGES_MAX);
  vc_gladia_request_fini(&request);
}

static void test_refused_flags(void **state)
{
  (void)state;
#define MESSAGES(member) "{\"messages_config\":{" member "}}"
  static const char *const read[] = {"receive_partial_transcripts",
                                     "receive_final_transcripts",
                                     "receive_speech_events",
                                     "receive_acknowledgments",
                                     "receive_lifecycle_events",
                                     "receive_post_processing_events",
                                     "receive_errors",
                                     "receive_pre_processing_events",
                                     "receive_realtime_processing_events"};
  for (size_t i = 0; i < sizeof read / sizeof *read; i++) {
    char text[128], why[128];
    snprintf(text, sizeof text, MESSAGES("\"%s\":\"true\""), read[i]);
    snprintf(why, sizeof why, "messages_config.%s is \"true\"; allowed: true or false", read[i]);
    check_refused(text, why);
  }
  check_refused(MESSAGES("\"receive_errors\":0"),
                "messages_config.receive_errors is 0; allowed: true or false");
  check_refused("{\"messages_config\":[true]}", "messages_config is [true]; allowed: an object");
  check_refused("{\"messages_config\":true}", "messages_config is true; allowed: an object");
  check_refused("{\"language_config\":{\"code_switching\":1}}",
                "language_config.code_switching is 1; allowed: true or false");
  check_refused("{\"realtime_processing\":{\"translation\":\"no\"}}",
                "realtime_processing.translation is \"no\"; allowed: true or false");
  check_refused("{\"post_processing\":false}", "post_processing is false; allowed: an object");
  check_refused("{\"callback\":\"http://h\"}", "callback is \"http://h\"; allowed: true or false");
  struct vc_gladia_request request = asked(MESSAGES("\"receive_final_transcripts\":null"));
  assert_true(request.wants_finals);
  vc_gladia_request_fini(&request);
}

// A value of more than fits is cut between characters.
static void test_long_values_are_cut(void **state)
{
  (void)state;
#define TEN "\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9"
#define NINE "\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9"
  check_refused("{\"encoding\":\"" TEN TEN TEN "\"}",
                "encoding is \"" TEN NINE "; this server takes wav/pcm");
}

static void test_metadata(void **state)
{
  (void)state;
  static char text[8192];
  check_refused("{\"custom_metadata\":[1]}",
                "custom_metadata is [1]; allowed: an object of at most 4096 bytes");
  snprintf(text, sizeof text, "{\"custom_metadata\":{\"a\":\"%0*d\"}}", 4096 - 8, 0);
  struct vc_gladia_request request = asked(text);
  assert_int_equal(strlen(request.metadata), 4096);
  vc_gladia_request_fini(&request);
  snprintf(text, sizeof text, "{\"custom_metadata\":{\"a\":\"%0*d\"}}", 4096 - 7, 0);
  check_refused(text, "custom_metadata is {\"a\":\"0000000000000000000000000000000000; allowed: an "
                      "object of at most 4096 bytes");
}

// The first reason is the one that is told, and a small room for it is kept to.
static void test_one_reason(void **state)
{
  (void)state;
  static const char text[] = "{\"channels\":2,\"endpointing\":99,\"custom_metadata\":{}}";
  struct vc_gladia_request request;
  char why[12] = "";
  check_refused(text, "channels is 2; this server takes 1");
  assert_int_equal(vc_gladia_parse_request(text, strlen(text), &request, why, sizeof why), 422);
  assert_string_equal(why, "channels is");
}

// --- messages of a client

// The caller frees the audio.
static struct vc_gladia_client_message sent(const char *text)
{
  struct vc_gladia_client_message message;
  const char *why;
  assert_int_equal(vc_gladia_parse_client(text, strlen(text), &message, &why), 0);
  return message;
}

static void check_audio(const char *chunk, const char *expected, size_t size)
{
  char text[256];
  snprintf(text, sizeof text, "{\"type\":\"audio_chunk\",\"data\":{\"chunk\":\"%s\"}}", chunk);
  struct vc_gladia_client_message message = sent(text);
  assert_int_equal(message.kind, VC_GLADIA_CLIENT_AUDIO);
  assert_non_null(message.audio);
  assert_int_equal(message.audio_size, size);
  assert_memory_equal(message.audio, expected, size);
  free(message.audio);
}

static void test_audio(void **state)
{
  (void)state;
  check_audio("AQIDBA==", "\x01\x02\x03\x04", 4);
  check_audio("AQIDBAU=", "\x01\x02\x03\x04\x05", 5);
  check_audio("AQIDBAUG", "\x01\x02\x03\x04\x05\x06", 6);
  check_audio("\\/+\\/+", "\xff\xef\xfe", 3);
  check_audio("", "", 0);
}

static void test_other_messages(void **state)
{
  (void)state;
  assert_int_equal(sent(vc_gladia_stop_recording).kind, VC_GLADIA_CLIENT_STOP);
  struct vc_gladia_client_message message = sent(vc_gladia_keep_alive);
  assert_int_equal(message.kind, VC_GLADIA_CLIENT_AUDIO);
  assert_int_equal(message.audio_size, 0);
  free(message.audio);
  message = sent("{\"type\":\"later\",\"data\":{\"chunk\":\"AQID\"}}");
  assert_int_equal(message.kind, VC_GLADIA_CLIENT_UNKNOWN);
  assert_null(message.audio);
}

static void check_malformed(const char *text, enum vc_gladia_client_kind kind, const char *expected)
{
  struct vc_gladia_client_message message;
  const char *why = NULL;
  assert_int_equal(vc_gladia_parse_client(text, strlen(text), &message, &why), 1);
  assert_int_equal(message.kind, kind);
  assert_string_equal(why, expected);
  assert_null(message.audio);
}

static void test_malformed_audio(void **state)
{
  (void)state;
  static const char *const bad[] = {"null",
                                    "{}",
                                    "{\"chunk\":null}",
                                    "{\"chunk\":7}",
                                    "\"AQID\"",
                                    "{\"chunk\":\"A\"}",
                                    "{\"chunk\":\"AQI\"}",
                                    "{\"chunk\":\"A===\"}",
                                    "{\"chunk\":\"====\"}",
                                    "{\"chunk\":\"AQ=D\"}",
                                    "{\"chunk\":\"=AQI\"}",
                                    "{\"chunk\":\" AQI\"}",
                                    "{\"chunk\":\"AQID\\n\"}",
                                    "{\"chunk\":\"AQ-_\"}",
                                    "{\"chunk\":\"AQID====\"}",
                                    "{\"chunk\":\"AQ==AQID\"}"};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    char text[128];
    snprintf(text, sizeof text, "{\"type\":\"audio_chunk\",\"data\":%s}", bad[i]);
    check_malformed(text, VC_GLADIA_CLIENT_AUDIO, "audio_chunk needs data.chunk in base64");
  }
}

static void test_malformed_messages(void **state)
{
  (void)state;
  static const char no_type[] = "the message is no JSON object with a type";
  check_malformed("{}", VC_GLADIA_CLIENT_UNKNOWN, no_type);
  check_malformed("[]", VC_GLADIA_CLIENT_UNKNOWN, no_type);
  check_malformed("{\"type\":7}", VC_GLADIA_CLIENT_UNKNOWN, no_type);
  check_malformed("hello", VC_GLADIA_CLIENT_UNKNOWN, "not a JSON object or array");
}

// --- without memory

static void parse_request(void)
{
  static const char text[] = "{\"custom_metadata\":{\"a\":\"b\"},\"endpointing\":0.5,"
                             "\"language_config\":{\"languages\":[\"en\"]}}";
  struct vc_gladia_request request;
  char why[256] = "";
  int status = vc_gladia_parse_request(text, sizeof text - 1, &request, why, sizeof why);
  assert_int_equal(status, memory_has_failed ? 503 : 0);
  assert_string_equal(why, memory_has_failed ? "no memory" : "");
  assert_int_equal(request.metadata != NULL, status == 0);
  vc_gladia_request_fini(&request);
}

static void refuse_request(void)
{
  static const char text[] = "{\"encoding\":\"wav/alaw\"}";
  struct vc_gladia_request request;
  char why[256] = "";
  int status = vc_gladia_parse_request(text, sizeof text - 1, &request, why, sizeof why);
  assert_true(status == 422 || (memory_has_failed && status == 503));
  assert_true(memory_has_failed || strstr(why, "wav/alaw") != NULL);
  assert_true(why[0] != '\0');
}

static void parse_client(void)
{
  static const char text[] = "{\"type\":\"audio_chunk\",\"data\":{\"chunk\":\"AQID\"}}";
  struct vc_gladia_client_message message;
  const char *why;
  int status = vc_gladia_parse_client(text, sizeof text - 1, &message, &why);
  assert_int_equal(status, memory_has_failed ? -1 : 0);
  assert_int_equal(message.audio != NULL, status == 0);
  free(message.audio);
}

static void test_without_memory(void **state)
{
  (void)state;
  assert_true(memory_fail_each(parse_request) > 10);
  assert_true(memory_fail_each(refuse_request) > 5);
  assert_true(memory_fail_each(parse_client) > 5);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_defaults),
      cmocka_unit_test(test_all_is_read),
      cmocka_unit_test(test_a_request_is_printed_whole),
      cmocka_unit_test(test_our_own_client_is_served),
      cmocka_unit_test(test_bodies_that_are_none),
      cmocka_unit_test(test_refused_audio),
      cmocka_unit_test(test_refused_messages),
      cmocka_unit_test(test_refused_times),
      cmocka_unit_test(test_refused_languages),
      cmocka_unit_test(test_refused_flags),
      cmocka_unit_test(test_long_values_are_cut),
      cmocka_unit_test(test_metadata),
      cmocka_unit_test(test_one_reason),
      cmocka_unit_test(test_audio),
      cmocka_unit_test(test_other_messages),
      cmocka_unit_test(test_malformed_audio),
      cmocka_unit_test(test_malformed_messages),
      cmocka_unit_test(test_without_memory),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
