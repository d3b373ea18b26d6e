// Documents of a session's finals, byte by byte.
#include <verbacast/wire/transcript.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "no_memory.h"

static struct vc_record_fields said(double start_s, double end_s, const char *speaker,
                                    const char *text)
{
  return (struct vc_record_fields){.epoch = 100,
                                   .seq = 3,
                                   .utterance_id = "1-0-a",
                                   .text = text,
                                   .language = "en",
                                   .speaker = speaker,
                                   .confidence = 0.5,
                                   .start_s = start_s,
                                   .end_s = end_s};
}

static void print(struct vc_text *text, enum vc_transcript_format format,
                  const struct vc_record_fields *fields, size_t n)
{
  struct vc_transcript_printer printer;
  *text = (struct vc_text){0};
  vc_transcript_begin(&printer, text, format, "de\"mo");
  for (size_t i = 0; i < n; i++) {
    vc_transcript_add(&printer, &fields[i]);
  }
  vc_transcript_end(&printer);
}

static void check(enum vc_transcript_format format, const struct vc_record_fields *fields, size_t n,
                  const char *expected)
{
  struct vc_text text;
  print(&text, format, fields, n);
  assert_false(text.has_failed);
  assert_int_equal(text.size, strlen(expected));
  if (text.size > 0) {
    assert_string_equal(text.at, expected);
  }
  vc_text_fini(&text);
}

static void test_formats(void **state)
{
  (void)state;
  static const char *const names[] = {"json", "txt", "srt", "vtt"};
  static const char *const bad[] = {"", "JSON", "jso", "jsonx", "html", ".srt"};
  static const enum vc_transcript_format formats[] = {VC_TRANSCRIPT_JSON, VC_TRANSCRIPT_TXT,
                                                      VC_TRANSCRIPT_SRT, VC_TRANSCRIPT_VTT};
  enum vc_transcript_format format;
  for (size_t i = 0; i < 4; i++) {
    assert_int_equal(vc_transcript_parse_format(names[i], &format), 0);
    assert_int_equal(format, formats[i]);
  }
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    assert_int_equal(vc_transcript_parse_format(bad[i], &format), -1);
  }
  assert_string_equal(vc_transcript_content_type(VC_TRANSCRIPT_JSON), "application/json");
  assert_string_equal(vc_transcript_content_type(VC_TRANSCRIPT_TXT), "text/plain; charset=utf-8");
  assert_string_equal(vc_transcript_content_type(VC_TRANSCRIPT_SRT),
                      "application/x-subrip; charset=utf-8");
  assert_string_equal(vc_transcript_content_type(VC_TRANSCRIPT_VTT), "text/vtt; charset=utf-8");
}

static void test_nothing_said(void **state)
{
  (void)state;
  check(VC_TRANSCRIPT_JSON, NULL, 0, "{\"session\":\"de\\\"mo\",\"transcripts\":[]}\n");
  check(VC_TRANSCRIPT_TXT, NULL, 0, "");
  check(VC_TRANSCRIPT_SRT, NULL, 0, "");
  check(VC_TRANSCRIPT_VTT, NULL, 0, "WEBVTT\n\n");
}

static void test_json(void **state)
{
  (void)state;
  struct vc_record_fields fields[] = {said(12.48, 13, "A\"nn", "Good\n\"day\""),
                                      said(14, 15.5, NULL, "")};
  json_t *words = json_loads("[ {\"word\": \"Good\", \"start\": 12.48, \"end\": 13.0, "
                             "\"confidence\": null} ]",
                             0, NULL);
  assert_non_null(words);
  fields[0].words = words;
  fields[0].is_approximate = 1;
  fields[1].language = "";
  fields[1].confidence = NAN;
  fields[1].seq = 5;
  check(VC_TRANSCRIPT_JSON, fields, 2,
        "{\"session\":\"de\\\"mo\",\"transcripts\":["
        "{\"epoch\":100,\"seq\":3,\"utteranceId\":\"1-0-a\",\"text\":\"Good\\n\\\"day\\\"\","
        "\"language\":\"en\",\"speaker\":\"A\\\"nn\",\"confidence\":0.500,\"start\":12.480,"
        "\"end\":13.000,\"words\":[{\"word\":\"Good\",\"start\":12.48,\"end\":13.0,"
        "\"confidence\":null}],\"approximate\":true},"
        "{\"epoch\":100,\"seq\":5,\"utteranceId\":\"1-0-a\",\"text\":\"\",\"language\":null,"
        "\"speaker\":null,\"confidence\":null,\"start\":14.000,\"end\":15.500,\"words\":null}"
        "]}\n");
  json_decref(words);
}

static void test_plain_text(void **state)
{
  (void)state;
  const struct vc_record_fields fields[] = {said(0, 1, NULL, "Good day."),
                                            said(1, 2, "Ann", "<b> & \"so\" --> on"),
                                            said(2, 3, "B\nob", "two\r\nlines\tand\x7f \xc3\xa9")};
  check(VC_TRANSCRIPT_TXT, fields, 3,
        "Good day.\n"
        "Ann: <b> & \"so\" --> on\n"
        "B ob: two  lines and  \xc3\xa9\n");
}

static void test_subrip(void **state)
{
  (void)state;
  const struct vc_record_fields fields[] = {said(0, 1.0004, NULL, "Good day."),
                                            said(59.9996, 3599.9994, "Ann", "a & b"),
                                            said(3600, 360000.5, NULL, "one\n\ntwo")};
  check(VC_TRANSCRIPT_SRT, fields, 3,
        "1\n00:00:00,000 --> 00:00:01,000\nGood day.\n\n"
        "2\n00:01:00,000 --> 00:59:59,999\nAnn: a & b\n\n"
        "3\n01:00:00,000 --> 100:00:00,500\none  two\n\n");
}

static void test_webvtt(void **state)
{
  (void)state;
  const struct vc_record_fields fields[] = {said(0.5, 61.25, NULL, "1 < 2 && 3 --> 2"),
                                            said(7200, 7201.009, "A>n\nn", "</v>\nNOTE")};
  check(VC_TRANSCRIPT_VTT, fields, 2,
        "WEBVTT\n\n"
        "00:00:00.500 --> 00:01:01.250\n1 &lt; 2 &amp;&amp; 3 --&gt; 2\n\n"
        "02:00:00.000 --> 02:00:01.009\n<v A&gt;n n>&lt;/v&gt; NOTE\n\n");
}

// A new epoch begins where the latest word of those before ended.
static void test_epochs_follow_each_other(void **state)
{
  (void)state;
  struct vc_record_fields fields[] = {said(1, 10, NULL, "a"), said(2, 5, NULL, "b"),
                                      said(0.25, 1, NULL, "c"), said(1, 2, NULL, "d"),
                                      said(0, 1, NULL, "e")};
  fields[2].epoch = fields[3].epoch = 200;
  fields[4].epoch = 300;
  check(VC_TRANSCRIPT_SRT, fields, 5,
        "1\n00:00:01,000 --> 00:00:10,000\na\n\n"
        "2\n00:00:02,000 --> 00:00:05,000\nb\n\n"
        "3\n00:00:10,250 --> 00:00:11,000\nc\n\n"
        "4\n00:00:11,000 --> 00:00:12,000\nd\n\n"
        "5\n00:00:12,000 --> 00:00:13,000\ne\n\n");
}

static json_t *many_words;

static void print_long(void)
{
  static char long_text[2000];
  memset(long_text, 'a', sizeof long_text - 1);
  for (int format = VC_TRANSCRIPT_JSON; format <= VC_TRANSCRIPT_VTT; format++) {
    struct vc_text text;
    struct vc_record_fields fields = said(0, 1, "Ann", long_text);
    int had_failed = memory_has_failed;
    fields.words = many_words;
    print(&text, (enum vc_transcript_format)format, &fields, 1);
    assert_int_equal(text.has_failed, memory_has_failed && !had_failed);
    vc_text_fini(&text);
  }
}

static void test_without_memory(void **state)
{
  (void)state;
  many_words = json_loads("[{\"word\":\"a\",\"start\":0,\"end\":1}]", 0, NULL);
  assert_non_null(many_words);
  assert_true(memory_fail_each(print_long) > 8);
  json_decref(many_words);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_formats),
      cmocka_unit_test(test_nothing_said),
      cmocka_unit_test(test_json),
      cmocka_unit_test(test_plain_text),
      cmocka_unit_test(test_subrip),
      cmocka_unit_test(test_webvtt),
      cmocka_unit_test(test_epochs_follow_each_other),
      cmocka_unit_test(test_without_memory),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
