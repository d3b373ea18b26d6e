// What a track says besides sound.
#include <verbacast/wire/track.h>

#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

static void test_is_understood(void **state)
{
  static const struct {
    const char *text;
    enum vc_track_text said;
  } rows[] = {
      {"{\"muted\":true}", VC_TRACK_MUTED},
      {" {\"more\":[1], \"muted\" : true }\n", VC_TRACK_MUTED},
      {"{\"muted\":false}", VC_TRACK_UNMUTED},
      {"{\"muted\":1}", VC_TRACK_OTHER},
      {"{\"muted\":null}", VC_TRACK_OTHER},
      {"{}", VC_TRACK_OTHER},
      {"[true]", VC_TRACK_NONE},
      {"true", VC_TRACK_NONE},
      {"muted", VC_TRACK_NONE},
      {"{\"muted\":true", VC_TRACK_NONE},
      {"", VC_TRACK_NONE},
  };
  (void)state;
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    assert_int_equal(vc_track_parse(rows[i].text, strlen(rows[i].text)), rows[i].said);
  }
}

static void test_is_no_longer_than_it_says(void **state)
{
  (void)state;
  assert_int_equal(vc_track_parse("{\"muted\":true}", 13), VC_TRACK_NONE);
}

static void test_is_not_deep(void **state)
{
  char text[4096];
  (void)state;
  memset(text, '[', sizeof text);
  memcpy(text, "{\"muted\":", 9);
  assert_int_equal(vc_track_parse(text, sizeof text), VC_TRACK_NONE);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_is_understood),
      cmocka_unit_test(test_is_no_longer_than_it_says),
      cmocka_unit_test(test_is_not_deep),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
