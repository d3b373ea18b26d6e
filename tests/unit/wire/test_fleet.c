// What nodes say to each other: what is printed, byte by byte, is what is read; the record of a
// final is the one that its owner made; what is no message is refused by name.
#include <verbacast/wire/fleet.h>

#include <verbacast/wire/json.h>
#include <verbacast/wire/record.h>
#include <verbacast/wire/viewer.h>

#include <math.h>
#include <stdio.h>
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

static void print_final(struct vc_text *text, const struct vc_utterance *utterance)
{
  vc_viewer_print_transcript(text,
                             &(struct vc_viewer_transcript){.session = "demo",
                                                            .epoch = E,
                                                            .seq = 42,
                                                            .utterance_id = "1-0-00-4",
                                                            .utterance = utterance,
                                                            .sent_at_us = (E + 13200) * 1000});
}

// Takes the frame.
static void wrap(struct vc_text *text, struct vc_text *frame, uint64_t seq, uint64_t prev_final)
{
  vc_envelope_print(text, &(struct vc_envelope){.node = "a1",
                                                .epoch = E,
                                                .seq = seq,
                                                .prev_final = prev_final,
                                                .started_at_ms = E + 7,
                                                .received_at_us = (E + 13123) * 1000 + 999,
                                                .frame = frame->at,
                                                .frame_size = frame->size});
  assert_false(text->has_failed);
  vc_text_fini(frame);
}

static void parse(const struct vc_text *text, struct vc_envelope_parsed *envelope)
{
  struct vc_error error = {.text = ""};
  int status = vc_envelope_parse(text->at, text->size, "demo", envelope, &error);
  assert_string_equal(error.text, "");
  assert_int_equal(status, 0);
}

// --- printing

static void test_a_message_is_printed(void **state)
{
  (void)state;
  struct vc_text text = {0}, frame = {0};
  vc_viewer_print_retract(&frame, "demo", E, 43, "1-0-00-5");
  vc_envelope_print(&text, &(struct vc_envelope){.node = "a\"1",
                                                 .epoch = E,
                                                 .seq = 43,
                                                 .prev_final = 42,
                                                 .started_at_ms = E + 7,
                                                 .frame = frame.at,
                                                 .frame_size = frame.size});
  assert_string_equal(
      text.at, "{\"v\":1,\"node\":\"a\\\"1\",\"epoch\":1790000000000,\"seq\":43,\"prevFinal\":42,"
               "\"startedAt\":1790000000.007,\"receivedAt\":null,\"frame\":{\"type\":\"retract\","
               "\"session\":\"demo\",\"epoch\":1790000000000,\"seq\":43,"
               "\"utteranceId\":\"1-0-00-5\"}}");
  vc_text_fini(&frame);
  vc_text_fini(&text);
}

static void test_a_loss_is_told(void **state)
{
  (void)state;
  struct vc_text text = {0}, frame = {0};
  struct vc_envelope_parsed envelope;
  vc_viewer_print_hello(&frame, &(struct vc_viewer_hello){
                                    .session = "demo", .epoch = E, .state = "live", .node = "a1"});
  for (int is_after_loss = 0; is_after_loss <= 1; is_after_loss++) {
    text.size = 0;
    vc_envelope_print(&text, &(struct vc_envelope){.node = "a1",
                                                   .epoch = E,
                                                   .started_at_ms = E,
                                                   .is_after_loss = is_after_loss,
                                                   .frame = frame.at,
                                                   .frame_size = frame.size});
    const char *said = strstr(text.at, "\"receivedAt\":null,\"afterLoss\":true,\"frame\":{");
    assert_int_equal(said != NULL, is_after_loss);
    parse(&text, &envelope);
    assert_int_equal(envelope.fields.is_after_loss, is_after_loss);
    vc_envelope_parsed_fini(&envelope);
  }
  vc_text_fini(&frame);
  vc_text_fini(&text);
}

static void test_a_final_comes_back(void **state)
{
  (void)state;
  struct vc_text text = {0}, frame = {0}, before = {0};
  struct vc_envelope_parsed envelope;
  print_final(&frame, &good_day);
  print_final(&before, &good_day);
  wrap(&text, &frame, 42, 40);
  parse(&text, &envelope);
  assert_int_equal(envelope.kind, VC_ENVELOPE_FINAL);
  assert_string_equal(envelope.fields.node, "a1");
  assert_int_equal(envelope.fields.epoch, E);
  assert_int_equal(envelope.fields.seq, 42);
  assert_int_equal(envelope.fields.prev_final, 40);
  assert_int_equal(envelope.fields.started_at_ms, E + 7);
  assert_int_equal(envelope.fields.received_at_us, (E + 13123) * 1000);
  assert_string_equal(envelope.utterance_id, "1-0-00-4");
  assert_int_equal(envelope.fields.frame_size, before.size);
  assert_memory_equal(envelope.fields.frame, before.at, before.size);
  vc_envelope_parsed_fini(&envelope);
  vc_text_fini(&before);
  vc_text_fini(&text);
}

static void check_kind(struct vc_text *frame, uint64_t seq, enum vc_envelope_kind kind,
                       const char *state, const char *reason)
{
  struct vc_text text = {0};
  struct vc_envelope_parsed envelope;
  wrap(&text, frame, seq, 0);
  parse(&text, &envelope);
  assert_int_equal(envelope.kind, kind);
  assert_int_equal(vc_envelope_is_kept(kind),
                   kind != VC_ENVELOPE_PARTIAL && kind != VC_ENVELOPE_RETRACT);
  assert_string_equal(envelope.state, state);
  assert_string_equal(envelope.reason, reason);
  vc_envelope_parsed_fini(&envelope);
  vc_text_fini(&text);
}

static void test_all_kinds_come_back(void **state)
{
  (void)state;
  struct vc_text frame = {0};
  struct vc_utterance partial = good_day;
  partial.is_final = 0;
  partial.speaker = NULL;
  vc_viewer_print_hello(&frame, &(struct vc_viewer_hello){.session = "demo",
                                                          .epoch = E,
                                                          .seq = 41, // of when it was printed
                                                          .state = "stt_down",
                                                          .reason = "HTTP \"401\"",
                                                          .node = "a1"});
  check_kind(&frame, 0, VC_ENVELOPE_HELLO, "stt_down", "HTTP \"401\"");
  print_final(&frame, &partial);
  check_kind(&frame, 42, VC_ENVELOPE_PARTIAL, "", "");
  vc_viewer_print_retract(&frame, "demo", E, 43, "1-0-00-5");
  check_kind(&frame, 43, VC_ENVELOPE_RETRACT, "", "");
  vc_viewer_print_status(&frame, "demo", E, 44, "live", NULL);
  check_kind(&frame, 44, VC_ENVELOPE_STATUS, "live", "");
  vc_viewer_print_end(&frame, "demo", E, 45, "publisher_left");
  check_kind(&frame, 45, VC_ENVELOPE_END, "", "publisher_left");
}

// Another program's JSON: blanks, another order, members that are not known.
static void test_what_another_wrote_is_read(void **state)
{
  (void)state;
  static const char frame[] = "{ \"type\":\"end\",\"session\":\"demo\",\"x\":[\"}\\\"\",{}],"
                              "\"epoch\":7,\"seq\":3 ,\"reason\":null }";
  char text[512];
  struct vc_envelope_parsed envelope;
  snprintf(text, sizeof text,
           " { \"frame2\" : \"{\\\"\" , \"frame\" : %s , \"later\":[{\"frame\":1}], \"v\":1,"
           "\"node\":\"b\",\"epoch\":7,\n\"seq\":3,\"prevFinal\":2,\"startedAt\":1.5 } ",
           frame);
  parse(&(struct vc_text){.at = text, .size = strlen(text)}, &envelope);
  assert_int_equal(envelope.kind, VC_ENVELOPE_END);
  assert_int_equal(envelope.fields.started_at_ms, 1500);
  assert_int_equal(envelope.fields.received_at_us, 0);
  assert_int_equal(envelope.fields.frame_size, strlen(frame));
  assert_memory_equal(envelope.fields.frame, frame, strlen(frame));
  vc_envelope_parsed_fini(&envelope);
}

// --- records

static void check_record(const struct vc_utterance *utterance)
{
  struct vc_text text = {0}, frame = {0}, owners = {0}, ours = {0};
  struct vc_envelope_parsed envelope;
  vc_record_print(&owners, &(struct vc_record_fields){.type = VC_RECORD_TYPE_TRANSCRIPT,
                                                      .session = "demo",
                                                      .epoch = E,
                                                      .node = "a1",
                                                      .started_at_ms = E + 7,
                                                      .seq = 42,
                                                      .utterance_id = "1-0-00-4",
                                                      .utterance = utterance,
                                                      .received_at_us = (E + 13123) * 1000 + 999});
  print_final(&frame, utterance);
  wrap(&text, &frame, 42, 40);
  parse(&text, &envelope);
  assert_int_equal(vc_envelope_print_record(&ours, &envelope), 0);
  assert_string_equal(ours.at, owners.at);
  vc_envelope_parsed_fini(&envelope);
  vc_text_fini(&text);
  vc_text_fini(&owners);
  vc_text_fini(&ours);
}

static void test_a_record_is_as_its_owner_made_it(void **state)
{
  (void)state;
  struct vc_utterance utterance = good_day;
  check_record(&utterance);
  utterance.is_approximate = 1;
  check_record(&utterance);
  utterance = (struct vc_utterance){.text = "", .language = "", .confidence = NAN, .is_final = 1};
  check_record(&utterance);
  utterance.text = "not \xff UTF-8, \xf0\x9f\x98\x80, a \"tab\"\t";
  check_record(&utterance);
}

// Times of any millisecond, and what lies between them.
static void test_any_time_is_the_same_in_the_record(void **state)
{
  (void)state;
  for (int i = 0; i < 3000; i++) {
    struct vc_word word = {"a", i * 7.0007 + 0.0005, i * 7.0007 + 1, i / 3001.0};
    struct vc_utterance utterance = good_day;
    utterance.words = &word;
    utterance.n_words = 1;
    utterance.start_s = word.start_s;
    utterance.end_s = i * 31.337 + 5;
    utterance.confidence = i / 2999.5;
    check_record(&utterance);
  }
}

// --- what is refused

#define HEAD "{\"v\":1,\"node\":\"a1\",\"epoch\":7,\"seq\":3,\"prevFinal\":2,\"startedAt\":1,"
#define FRAME(type, rest)                                                                          \
  HEAD "\"frame\":{\"type\":" type ",\"session\":\"demo\",\"epoch\":7,\"seq\":3," rest "}}"
#define FINAL(rest) FRAME("\"transcript\"", "\"isFinal\":true,\"utteranceId\":\"u\"," rest)
#define TIMES "\"text\":\"x\",\"start\":1,\"end\":2"

static const struct {
  const char *text;
  int status;
  const char *error;
} refusals[] = {
    {"", -1, "not a JSON object or array"},
    {"[]", -1, "a JSON array, not an object"},
    {"{}", -1, "v is missing, not a whole number from 1 to 2^53"},
    {"{\"v\":\"1\"}", -1, "v is \"1\", not a whole number from 1 to 2^53"},
    {"{\"v\":2}", VC_FLEET_NEWER, "v is 2, not 1, which is what this program knows"},
    {"{\"v\":1}", -1, "node is missing, not a string of 1 to 95 bytes"},
    {"{\"v\":1,\"node\":\"a\",\"epoch\":0}", -1, "epoch is 0, not a whole number from 1 to 2^52"},
    {"{\"v\":1,\"node\":\"a\",\"epoch\":4503599627370497}", -1,
     "epoch is 4503599627370497, not a whole number from 1 to 2^52"},
    {"{\"v\":1,\"node\":\"a\",\"epoch\":1,\"seq\":-1}", -1, "seq is -1, not one from 0 to 2^53"},
    {"{\"v\":1,\"node\":\"a\",\"epoch\":1,\"seq\":3,\"prevFinal\":3,\"startedAt\":1}", -1,
     "prevFinal is 3, not a number before seq"},
    {"{\"v\":1,\"node\":\"a\",\"epoch\":1,\"seq\":3,\"prevFinal\":2,\"startedAt\":\"1\"}", -1,
     "startedAt is \"1\", not seconds of Unix time"},
    {HEAD "\"afterLoss\":1,\"frame\":{}}", -1, "afterLoss is 1, not true or false"},
    {HEAD "\"frame\":[]}", -1, "frame is [], not an object"},
    {HEAD "\"fr\\u0061me\":{}}", -1, "frame is not written as such"},
    {HEAD "\"frame\":{\"type\":1}}", -1, "type is 1, not a string of 1 to 64 bytes"},
    {FRAME("\"gap\"", "\"to\":1"), VC_FLEET_NEWER,
     "type is \"gap\", not one that this program knows"},
    {FRAME("\"status\"", "\"state\":\"\""), -1, "state is \"\", not a string of 1 to 31 bytes"},
    {FRAME("\"end\"", "\"reason\":1"), -1, "reason is 1, not a string of 1 to 95 bytes"},
    {FRAME("\"hello\"", "\"state\":\"live\""), -1, "seq is 3, not 0, as of any hello"},
    {FRAME("\"retract\"", "\"utteranceId\":null"), -1,
     "utteranceId is null, not a string of 1 to 95 bytes"},
    {FRAME("\"transcript\"", "\"isFinal\":1"), -1, "isFinal is 1, not true or false"},
    {FINAL("\"text\":1"), -1, "text is 1, not a string"},
    {FINAL("\"text\":\"x\",\"start\":2,\"end\":1"), -1, "end is 1, not a time after start"},
    {FINAL(TIMES ",\"speaker\":1"), -1, "speaker is 1, not of its type or null"},
    {FINAL(TIMES ",\"confidence\":\"1\""), -1, "confidence is \"1\", not of its type or null"},
    {FINAL(TIMES ",\"words\":{}"), -1, "words is {}, not an array or null"},
    {FINAL(TIMES ",\"words\":[{\"word\":\"x\",\"start\":1,\"end\":2},{\"word\":\"x\"}]"), -1,
     "word 1 has no word, start, end and confidence"},
    {HEAD "\"frame\":{\"type\":\"end\",\"session\":\"other\",\"epoch\":7,\"seq\":3}}", -1,
     "session is \"other\", not demo"},
    {HEAD "\"frame\":{\"type\":\"end\",\"session\":\"demo\",\"epoch\":8,\"seq\":3}}", -1,
     "epoch is 8, not that of the envelope"},
    {HEAD "\"frame\":{\"type\":\"end\",\"session\":\"demo\",\"epoch\":7,\"seq\":4}}", -1,
     "seq is 4, not that of the envelope, from 1"},
};

static void test_what_is_no_message_is_refused_by_name(void **state)
{
  (void)state;
  for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
    struct vc_envelope_parsed envelope;
    struct vc_error error = {.text = ""};
    const char *text = refusals[i].text;
    int status = vc_envelope_parse(text, strlen(text), "demo", &envelope, &error);
    assert_string_equal(error.text, refusals[i].error);
    assert_int_equal(status, refusals[i].status);
    assert_null(envelope.root);
    assert_int_equal(vc_envelope_parse(text, strlen(text), "demo", &envelope, NULL), status);
  }
}

static void test_a_long_value_is_cut_in_the_complaint(void **state)
{
  (void)state;
  char text[512];
  struct vc_envelope_parsed envelope;
  struct vc_error error = {.text = ""};
  snprintf(text, sizeof text, "{\"v\":1,\"node\":\"%0200d\"}", 0);
  assert_int_equal(vc_envelope_parse(text, strlen(text), "demo", &envelope, &error), -1);
  snprintf(text, sizeof text, "node is \"%063d..., not a string of 1 to 95 bytes", 0);
  assert_string_equal(error.text, text);
}

static void test_what_is_too_long_is_not_looked_at(void **state)
{
  (void)state;
  struct vc_envelope_parsed envelope;
  struct vc_error error = {.text = ""};
  char byte = '{'; // what follows is not there
  assert_int_equal(vc_envelope_parse(&byte, VC_ENVELOPE_MAX + 1, "demo", &envelope, &error), -1);
  assert_string_equal(error.text, "1048577 bytes, not at most 1048576");
}

// --- ids

static void test_ids(void **state)
{
  (void)state;
  static const char *const wrong[] = {"",
                                      "7",
                                      "-",
                                      "7-",
                                      "-3",
                                      "0-3",
                                      "7-3x",
                                      "7--3",
                                      "+7-3",
                                      " 7-3",
                                      "7-9007199254740993",
                                      "4503599627370497-3",
                                      "12345678901234567-1"};
  int64_t epoch;
  uint64_t seq;
  assert_int_equal(vc_envelope_parse_id("1790000000000-42", 16, &epoch, &seq), 0);
  assert_int_equal(epoch, E);
  assert_int_equal(seq, 42);
  assert_int_equal(vc_envelope_parse_id("7-0", 3, &epoch, &seq), 0);
  assert_int_equal(seq, 0);
  for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
    assert_int_equal(vc_envelope_parse_id(wrong[i], strlen(wrong[i]), &epoch, &seq), -1);
  }
}

// --- owners

static void test_owners_talk(void **state)
{
  (void)state;
  static const char *const names[] = {"take", "released", "leaving", "end", "erased"};
  for (int type = VC_CTL_TAKE; type <= VC_CTL_ERASED; type++) {
    struct vc_text text = {0};
    struct vc_ctl ctl;
    char expected[128];
    vc_ctl_print(&text, (enum vc_ctl_type)type, "a\"1", E);
    snprintf(expected, sizeof expected,
             "{\"type\":\"%s\",\"node\":\"a\\\"1\",\"epoch\":1790000000000}", names[type]);
    assert_string_equal(text.at, expected);
    assert_int_equal(vc_ctl_parse(text.at, text.size, &ctl, NULL), 0);
    assert_int_equal(ctl.type, type);
    assert_string_equal(ctl.node, "a\"1");
    assert_int_equal(ctl.epoch, E);
    vc_text_fini(&text);
  }
}

static void check_ctl_refused(const char *text, int status, const char *expected)
{
  struct vc_ctl ctl;
  struct vc_error error = {.text = ""};
  assert_int_equal(vc_ctl_parse(text, strlen(text), &ctl, &error), status);
  assert_string_equal(error.text, expected);
}

static void test_what_no_owner_says_is_refused(void **state)
{
  (void)state;
  check_ctl_refused("x", -1, "not a JSON object or array");
  check_ctl_refused("{}", -1, "type is missing, not a string of 1 to 64 bytes");
  check_ctl_refused("{\"type\":\"give\"}", VC_FLEET_NEWER,
                    "type is \"give\", not take, released, leaving, end or erased");
  check_ctl_refused("{\"type\":\"take\",\"node\":\"a\",\"epoch\":1.5}", -1,
                    "epoch is 1.5, not one from 0 to 2^52");
  check_ctl_refused("{\"type\":\"take\",\"node\":\"a\",\"epoch\":4503599627370497}", -1,
                    "epoch is 4503599627370497, not one from 0 to 2^52");
  char text[2048];
  snprintf(text, sizeof text, "{\"type\":\"take\",\"x\":\"%01100d\"}", 0);
  check_ctl_refused(text, -1, "1122 bytes, not at most 1024");
}

static void test_an_owner(void **state)
{
  (void)state;
  struct vc_text text = {0};
  struct vc_owner owner;
  struct vc_error error;
  vc_owner_print(&text, "a1", E);
  assert_string_equal(text.at, "{\"node\":\"a1\",\"epoch\":1790000000000}");
  assert_int_equal(vc_owner_parse(text.at, text.size, &owner, NULL), 0);
  assert_string_equal(owner.node, "a1");
  assert_int_equal(owner.epoch, E);
  vc_text_fini(&text);
  assert_int_equal(vc_owner_parse("{\"node\":\"a\",\"epoch\":0}", 22, &owner, &error), -1);
  assert_string_equal(error.text, "epoch is 0, not a whole number from 1 to 2^52");
}

// --- without memory

static struct vc_text final_text;

// Nothing, or all of it.
static void parse_and_record(void)
{
  struct vc_envelope_parsed envelope;
  struct vc_text record = {0};
  int status = vc_envelope_parse(final_text.at, final_text.size, "demo", &envelope, NULL);
  assert_int_equal(status, memory_has_failed ? VC_FLEET_NO_MEMORY : 0);
  if (status == 0) {
    status = vc_envelope_print_record(&record, &envelope);
    assert_int_equal(status, memory_has_failed ? -1 : 0);
    vc_envelope_parsed_fini(&envelope);
    vc_text_fini(&record);
  }
}

static void test_without_memory_it_says_so(void **state)
{
  (void)state;
  struct vc_text frame = {0};
  print_final(&frame, &good_day);
  wrap(&final_text, &frame, 42, 40);
  assert_true(memory_fail_each(parse_and_record) > 20);
  vc_text_fini(&final_text);
}

static void refuse(void)
{
  struct vc_ctl ctl;
  static const char text[] = "{\"type\":\"give\"}";
  int status = vc_ctl_parse(text, strlen(text), &ctl, &(struct vc_error){.text = ""});
  assert_true(status == VC_FLEET_NEWER || (memory_has_failed && status == VC_FLEET_NO_MEMORY));
}

static void test_a_complaint_needs_no_memory(void **state)
{
  (void)state;
  assert_true(memory_fail_each(refuse) > 3);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_a_message_is_printed),
      cmocka_unit_test(test_a_loss_is_told),
      cmocka_unit_test(test_a_final_comes_back),
      cmocka_unit_test(test_all_kinds_come_back),
      cmocka_unit_test(test_what_another_wrote_is_read),
      cmocka_unit_test(test_a_record_is_as_its_owner_made_it),
      cmocka_unit_test(test_any_time_is_the_same_in_the_record),
      cmocka_unit_test(test_what_is_no_message_is_refused_by_name),
      cmocka_unit_test(test_a_long_value_is_cut_in_the_complaint),
      cmocka_unit_test(test_what_is_too_long_is_not_looked_at),
      cmocka_unit_test(test_ids),
      cmocka_unit_test(test_owners_talk),
      cmocka_unit_test(test_what_no_owner_says_is_refused),
      cmocka_unit_test(test_an_owner),
      cmocka_unit_test(test_without_memory_it_says_so),
      cmocka_unit_test(test_a_complaint_needs_no_memory),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
