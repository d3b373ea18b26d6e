#include <rtmp.h>

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "wire.h"

static struct rtmp_amf amf_of(const struct rtmp_bytes *bytes)
{
  return (struct rtmp_amf){bytes->at, bytes->at + bytes->size};
}

static void assert_text(const struct rtmp_amf_value *value, const char *text)
{
  assert_int_equal(value->kind, RTMP_AMF_STRING);
  assert_int_equal(value->size, strlen(text));
  assert_memory_equal(value->string, text, value->size);
}

static void test_written_is_read(void **state)
{
  static const double numbers[] = {0, -0.0, 1, -1.5, 1e300, INFINITY};
  struct rtmp_bytes out = {0};
  struct rtmp_amf_value value;
  for (size_t i = 0; i < 6; i++) {
    rtmp_amf_write_number(&out, numbers[i]);
  }
  rtmp_amf_write_boolean(&out, 0);
  rtmp_amf_write_boolean(&out, 7);
  rtmp_amf_write_string(&out, "");
  rtmp_amf_write_string(&out, "connect");
  rtmp_amf_write_null(&out);
  struct rtmp_amf amf = amf_of(&out);
  for (size_t i = 0; i < 6; i++) {
    assert_int_equal(rtmp_amf_next(&amf, &value), 1);
    assert_int_equal(value.kind, RTMP_AMF_NUMBER);
    assert_memory_equal(&value.number, &numbers[i], sizeof value.number);
  }
  for (int i = 0; i < 2; i++) {
    assert_int_equal(rtmp_amf_next(&amf, &value), 1);
    assert_int_equal(value.kind, RTMP_AMF_BOOLEAN);
    assert_true(value.number == i);
  }
  assert_int_equal(rtmp_amf_next(&amf, &value), 1);
  assert_text(&value, "");
  assert_int_equal(rtmp_amf_next(&amf, &value), 1);
  assert_text(&value, "connect");
  assert_int_equal(rtmp_amf_next(&amf, &value), 1);
  assert_int_equal(value.kind, RTMP_AMF_NULL);
  assert_int_equal(rtmp_amf_next(&amf, &value), 0);
  rtmp_bytes_fini(&out);
}

static void test_string_of_every_size(void **state)
{
  char *text = malloc(70001);
  assert_non_null(text);
  memset(text, 'x', 70000);
  text[70000] = 0;
  struct rtmp_bytes out = {0};
  struct rtmp_amf_value value;
  rtmp_amf_write_string(&out, text); // cut at what two bytes can say
  rtmp_amf_write_string(&out, "after");
  struct rtmp_amf amf = amf_of(&out);
  assert_int_equal(rtmp_amf_next(&amf, &value), 1);
  assert_int_equal(value.size, 65535);
  assert_int_equal(rtmp_amf_next(&amf, &value), 1);
  assert_text(&value, "after");
  rtmp_bytes_fini(&out);
  free(text);
}

// --- one value of every type, followed by the number 42

struct sample {
  const char *name;
  const char *bytes;
  size_t size;
  enum rtmp_amf_kind kind;
  int may_end_early; // an ECMA array may end with the message
};
#define SAMPLE(name, bytes, ...)                                                                   \
  {                                                                                                \
    name, bytes, sizeof(bytes) - 1, __VA_ARGS__                                                    \
  }
static const struct sample samples[] = {
    SAMPLE("number", "\x00\x40\x45\0\0\0\0\0\0", RTMP_AMF_NUMBER),
    SAMPLE("boolean", "\x01\x01", RTMP_AMF_BOOLEAN),
    SAMPLE("string", "\x02\0\3abc", RTMP_AMF_STRING),
    SAMPLE("object", "\x03\0\1a\5\0\1b\x01\x01\0\0\x09", RTMP_AMF_OBJECT),
    SAMPLE("empty object", "\x03\0\0\x09", RTMP_AMF_OBJECT),
    SAMPLE("null", "\x05", RTMP_AMF_NULL),
    SAMPLE("undefined", "\x06", RTMP_AMF_NULL),
    SAMPLE("reference", "\x07\0\1", RTMP_AMF_OTHER),
    SAMPLE("ECMA array", "\x08\0\0\0\1\0\1a\5\0\0\x09", RTMP_AMF_OBJECT, 1),
    SAMPLE("strict array", "\x0a\0\0\0\2\5\1\0", RTMP_AMF_OTHER),
    SAMPLE("date", "\x0b\0\0\0\0\0\0\0\0\0\0", RTMP_AMF_OTHER),
    SAMPLE("long string", "\x0c\0\0\0\3abc", RTMP_AMF_STRING),
    SAMPLE("unsupported", "\x0d", RTMP_AMF_NULL),
    SAMPLE("XML", "\x0f\0\0\0\4<a/>", RTMP_AMF_STRING),
    SAMPLE("typed object", "\x10\0\1T\0\1a\2\0\1v\0\0\x09", RTMP_AMF_OBJECT),
};
#define N_SAMPLES (sizeof samples / sizeof *samples)

static void test_all_types(void **state)
{
  for (size_t i = 0; i < N_SAMPLES; i++) {
    struct rtmp_bytes out = {0};
    struct rtmp_amf_value value;
    rtmp_bytes_add(&out, samples[i].bytes, samples[i].size);
    rtmp_amf_write_number(&out, 42);
    struct rtmp_amf amf = amf_of(&out);
    assert_int_equal(rtmp_amf_next(&amf, &value), 1);
    if (value.kind != samples[i].kind) {
      fail_msg("%s is read as %d", samples[i].name, (int)value.kind);
    }
    assert_int_equal(rtmp_amf_next(&amf, &value), 1);
    assert_true(value.kind == RTMP_AMF_NUMBER && value.number == 42);
    assert_int_equal(rtmp_amf_next(&amf, &value), 0);
    rtmp_bytes_fini(&out);
  }
}

static void test_truncated(void **state)
{
  for (size_t i = 0; i < N_SAMPLES; i++) {
    for (size_t size = 1; size < samples[i].size; size++) {
      uint8_t *copy = malloc(size); // of its size, for the sanitizer
      assert_non_null(copy);
      memcpy(copy, samples[i].bytes, size);
      struct rtmp_amf amf = {copy, copy + size};
      struct rtmp_amf_value value;
      int status = rtmp_amf_next(&amf, &value);
      // The array has its count and whole members.
      int may_end = samples[i].may_end_early && (size == 5 || size == 9);
      if (status != (may_end ? 1 : -1)) {
        fail_msg("%s of %zu bytes: %d", samples[i].name, size, status);
      }
      free(copy);
    }
  }
}

static void test_unknown_markers(void **state)
{
  static const uint8_t markers[] = {0x04, 0x0e, 0x09, 0x11, 0x12, 0xff};
  for (size_t i = 0; i < sizeof markers; i++) {
    uint8_t bytes[16] = {markers[i]};
    struct rtmp_amf amf = {bytes, bytes + sizeof bytes};
    struct rtmp_amf_value value;
    assert_int_equal(rtmp_amf_next(&amf, &value), -1);
  }
}

static void test_lengths_that_lie(void **state)
{
  static const struct {
    const char *bytes;
    size_t size;
  } lies[] = {{"\x02\xff\xff"
               "abc",
               6},
              {"\x0c\xff\xff\xff\xff"
               "abc",
               8},
              {"\x0a\xff\xff\xff\xff\5\5\5", 8}, // elements that are not there
              {"\x03\xff\xff"
               "a\5\0\0\x09",
               8},
              {"\x08\0\0\0\1\0\7a\5\0\0\x09", 11}};
  for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
    struct rtmp_amf amf = {(const uint8_t *)lies[i].bytes,
                           (const uint8_t *)lies[i].bytes + lies[i].size};
    struct rtmp_amf_value value;
    assert_int_equal(rtmp_amf_next(&amf, &value), -1);
  }
}

// --- depth

enum nesting { OBJECTS, ECMA_ARRAYS, STRICT_ARRAYS, TYPED_OBJECTS, N_NESTINGS };

// A null within `depth` of them.
static void put_nested(struct rtmp_bytes *out, enum nesting nesting, int depth)
{
  static const struct {
    const char *bytes;
    size_t size;
  } begin[] = {
      {"\x03\0\1a", 4}, {"\x08\0\0\0\1\0\1a", 8}, {"\x0a\0\0\0\1", 5}, {"\x10\0\1T\0\1a", 7}};
  for (int i = 0; i < depth; i++) {
    rtmp_bytes_add(out, begin[nesting].bytes, begin[nesting].size);
  }
  put_byte(out, 5);
  for (int i = 0; i < depth && nesting != STRICT_ARRAYS; i++) {
    put_u24(out, 9);
  }
}

static void test_depth_is_bounded(void **state)
{
  static const int depths[] = {1, RTMP_AMF_DEPTH_MAX, RTMP_AMF_DEPTH_MAX + 1, 100000};
  for (enum nesting nesting = OBJECTS; nesting < N_NESTINGS; nesting++) {
    for (size_t i = 0; i < 4; i++) {
      struct rtmp_bytes out = {0};
      struct rtmp_amf_value value;
      put_nested(&out, nesting, depths[i]);
      struct rtmp_amf amf = amf_of(&out);
      assert_int_equal(rtmp_amf_next(&amf, &value), depths[i] <= RTMP_AMF_DEPTH_MAX ? 1 : -1);
      rtmp_bytes_fini(&out);
    }
  }
}

// --- members

static void put_object(struct rtmp_bytes *out)
{
  rtmp_amf_begin_object(out);
  rtmp_amf_write_key(out, "app");
  rtmp_amf_write_string(out, "live");
  rtmp_amf_write_key(out, "inner");
  rtmp_amf_begin_object(out);
  rtmp_amf_write_key(out, "tcUrl");
  rtmp_amf_write_string(out, "not this one");
  rtmp_amf_end_object(out);
  rtmp_amf_write_key(out, "tcUrl");
  rtmp_amf_write_string(out, "rtmp://host/live");
  rtmp_amf_write_key(out, "ap");
  rtmp_amf_write_number(out, 1);
  rtmp_amf_end_object(out);
}

static void test_find(void **state)
{
  struct rtmp_bytes out = {0};
  struct rtmp_amf_value object, value;
  put_object(&out);
  rtmp_amf_write_number(&out, 1);
  struct rtmp_amf amf = amf_of(&out);
  assert_int_equal(rtmp_amf_next(&amf, &object), 1);
  assert_int_equal(rtmp_amf_find(&object, "app", &value), 1);
  assert_text(&value, "live");
  assert_int_equal(rtmp_amf_find(&object, "tcUrl", &value), 1);
  assert_text(&value, "rtmp://host/live");
  assert_int_equal(rtmp_amf_find(&object, "ap", &value), 1);
  assert_true(value.kind == RTMP_AMF_NUMBER);
  assert_int_equal(rtmp_amf_find(&object, "flashVer", &value), 0);
  assert_int_equal(rtmp_amf_find(&object, "", &value), 0);
  assert_int_equal(rtmp_amf_next(&amf, &object), 1); // the number has no members
  assert_int_equal(rtmp_amf_find(&object, "app", &value), 0);
  rtmp_bytes_fini(&out);
}

// GStreamer's and others' arrays: the count is wrong, the end marker may be missing.
static void test_find_in_arrays(void **state)
{
  static const char bytes[] = "\x08\0\0\0\x63\0\3app\2\0\4live\0\1b\5";
  struct rtmp_amf amf = {(const uint8_t *)bytes, (const uint8_t *)bytes + sizeof bytes - 1};
  struct rtmp_amf_value array, value;
  assert_int_equal(rtmp_amf_next(&amf, &array), 1);
  assert_int_equal(rtmp_amf_find(&array, "app", &value), 1);
  assert_text(&value, "live");
  assert_int_equal(rtmp_amf_find(&array, "b", &value), 1);
  assert_int_equal(rtmp_amf_find(&array, "c", &value), 0);
  assert_int_equal(rtmp_amf_next(&amf, &value), 0);
}

static void test_bytes_fail_once_and_for_all(void **state)
{
  struct rtmp_bytes out = {.has_failed = 1};
  rtmp_amf_write_string(&out, "nothing of it");
  put_object(&out);
  assert_int_equal(out.size, 0);
  assert_null(out.at);
  rtmp_bytes_fini(&out);
  assert_int_equal(out.has_failed, 0);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_written_is_read),  cmocka_unit_test(test_string_of_every_size),
      cmocka_unit_test(test_all_types),        cmocka_unit_test(test_truncated),
      cmocka_unit_test(test_unknown_markers),  cmocka_unit_test(test_lengths_that_lie),
      cmocka_unit_test(test_depth_is_bounded), cmocka_unit_test(test_find),
      cmocka_unit_test(test_find_in_arrays),   cmocka_unit_test(test_bytes_fail_once_and_for_all),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
