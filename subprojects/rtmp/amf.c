#include "rtmp.h"

#include <string.h>

enum marker {
  NUMBER = 0x00,
  BOOLEAN = 0x01,
  STRING = 0x02,
  OBJECT = 0x03,
  NULL_VALUE = 0x05,
  UNDEFINED = 0x06,
  REFERENCE = 0x07,
  ECMA_ARRAY = 0x08,
  OBJECT_END = 0x09,
  STRICT_ARRAY = 0x0a,
  DATE = 0x0b,
  LONG_STRING = 0x0c,
  UNSUPPORTED = 0x0d,
  XML = 0x0f,
  TYPED_OBJECT = 0x10,
};

static size_t left_of(const struct rtmp_amf *amf)
{
  return (size_t)(amf->end - amf->at);
}

static size_t read_u16(const uint8_t *bytes)
{
  return (size_t)bytes[0] << 8 | bytes[1];
}

static double read_double(const uint8_t *bytes)
{
  uint64_t bits = (uint64_t)rtmp_read_u32(bytes) << 32 | rtmp_read_u32(bytes + 4);
  double number;
  memcpy(&number, &bits, sizeof number);
  return number;
}

// A length of 2 or 4 bytes, then as many bytes. Returns 1 or -1.
static int read_text(struct rtmp_amf *amf, size_t length_size, struct rtmp_amf_value *value)
{
  if (left_of(amf) < length_size) {
    return -1;
  }
  size_t size = length_size == 2 ? read_u16(amf->at) : rtmp_read_u32(amf->at);
  amf->at += length_size;
  if (left_of(amf) < size) {
    return -1;
  }
  value->kind = RTMP_AMF_STRING;
  value->string = (const char *)amf->at;
  value->size = size;
  amf->at += size;
  return 1;
}

static int next_value(struct rtmp_amf *amf, int depth, struct rtmp_amf_value *value);

static int is_object_end(const struct rtmp_amf *amf)
{
  return left_of(amf) >= 3 && amf->at[0] == 0 && amf->at[1] == 0 && amf->at[2] == OBJECT_END;
}

// Passes over key-value pairs up to the end marker. An ECMA array of some encoders ends with the
// message instead.
static int read_members(struct rtmp_amf *amf, int depth, int may_lack_end,
                        struct rtmp_amf_value *value)
{
  value->kind = RTMP_AMF_OBJECT;
  value->members = amf->at;
  while (!is_object_end(amf)) {
    struct rtmp_amf_value key, member;
    if (left_of(amf) == 0 && may_lack_end) {
      value->size = (size_t)(amf->at - value->members);
      return 1;
    }
    if (read_text(amf, 2, &key) < 0 || next_value(amf, depth + 1, &member) <= 0) {
      return -1;
    }
  }
  value->size = (size_t)(amf->at - value->members);
  amf->at += 3;
  return 1;
}

static int read_strict_array(struct rtmp_amf *amf, int depth, struct rtmp_amf_value *value)
{
  if (left_of(amf) < 4) {
    return -1;
  }
  uint32_t n = rtmp_read_u32(amf->at);
  amf->at += 4;
  for (uint32_t i = 0; i < n; i++) {
    struct rtmp_amf_value element;
    if (next_value(amf, depth + 1, &element) <= 0) {
      return -1;
    }
  }
  value->kind = RTMP_AMF_OTHER;
  return 1;
}

static int read_fixed(struct rtmp_amf *amf, size_t size, struct rtmp_amf_value *value)
{
  value->kind = RTMP_AMF_OTHER;
  if (left_of(amf) < size) {
    return -1;
  }
  amf->at += size;
  return 1;
}

static int read_number(struct rtmp_amf *amf, struct rtmp_amf_value *value)
{
  const uint8_t *at = amf->at;
  int status = read_fixed(amf, 8, value);
  if (status > 0) {
    value->kind = RTMP_AMF_NUMBER;
    value->number = read_double(at);
  }
  return status;
}

static int read_boolean(struct rtmp_amf *amf, struct rtmp_amf_value *value)
{
  const uint8_t *at = amf->at;
  int status = read_fixed(amf, 1, value);
  if (status > 0) {
    value->kind = RTMP_AMF_BOOLEAN;
    value->number = at[0] != 0;
  }
  return status;
}

static int read_typed(struct rtmp_amf *amf, int depth, struct rtmp_amf_value *value)
{
  struct rtmp_amf_value name;
  return read_text(amf, 2, &name) < 0 ? -1 : read_members(amf, depth, 0, value);
}

static int read_ecma(struct rtmp_amf *amf, int depth, struct rtmp_amf_value *value)
{
  struct rtmp_amf_value count;
  return read_fixed(amf, 4, &count) < 0 ? -1 : read_members(amf, depth, 1, value);
}

static int next_value(struct rtmp_amf *amf, int depth, struct rtmp_amf_value *value)
{
  *value = (struct rtmp_amf_value){.kind = RTMP_AMF_OTHER};
  if (left_of(amf) == 0) {
    return 0;
  }
  if (depth > RTMP_AMF_DEPTH_MAX) {
    return -1;
  }
  switch (*amf->at++) {
  case NUMBER:
    return read_number(amf, value);
  case BOOLEAN:
    return read_boolean(amf, value);
  case STRING:
    return read_text(amf, 2, value);
  case OBJECT:
    return read_members(amf, depth, 0, value);
  case TYPED_OBJECT:
    return read_typed(amf, depth, value);
  case ECMA_ARRAY:
    return read_ecma(amf, depth, value);
  case NULL_VALUE:
  case UNDEFINED:
  case UNSUPPORTED:
    value->kind = RTMP_AMF_NULL;
    return 1;
  case REFERENCE:
    return read_fixed(amf, 2, value);
  case STRICT_ARRAY:
    return read_strict_array(amf, depth, value);
  case DATE:
    return read_fixed(amf, 10, value);
  case LONG_STRING:
  case XML:
    return read_text(amf, 4, value);
  default:
    return -1;
  }
}

int rtmp_amf_next(struct rtmp_amf *amf, struct rtmp_amf_value *value)
{
  return next_value(amf, 0, value);
}

int rtmp_amf_find(const struct rtmp_amf_value *object, const char *key,
                  struct rtmp_amf_value *value)
{
  if (object->kind != RTMP_AMF_OBJECT) {
    return 0;
  }
  struct rtmp_amf amf = {object->members, object->members + object->size};
  size_t size = strlen(key);
  while (left_of(&amf) > 0) {
    struct rtmp_amf_value name;
    if (read_text(&amf, 2, &name) < 0 || next_value(&amf, 0, value) <= 0) {
      return -1;
    }
    if (name.size == size && memcmp(name.string, key, size) == 0) {
      return 1;
    }
  }
  return 0;
}

static void write_u16(struct rtmp_bytes *out, size_t value)
{
  uint8_t bytes[2] = {(uint8_t)(value >> 8), (uint8_t)value};
  rtmp_bytes_add(out, bytes, 2);
}

void rtmp_amf_write_number(struct rtmp_bytes *out, double number)
{
  uint8_t bytes[9] = {NUMBER};
  uint64_t bits;
  memcpy(&bits, &number, sizeof bits);
  for (int i = 0; i < 8; i++) {
    bytes[1 + i] = (uint8_t)(bits >> (56 - 8 * i));
  }
  rtmp_bytes_add(out, bytes, sizeof bytes);
}

void rtmp_amf_write_boolean(struct rtmp_bytes *out, int value)
{
  uint8_t bytes[2] = {BOOLEAN, value != 0};
  rtmp_bytes_add(out, bytes, sizeof bytes);
}

void rtmp_amf_write_string(struct rtmp_bytes *out, const char *string)
{
  uint8_t marker = STRING;
  rtmp_bytes_add(out, &marker, 1);
  rtmp_amf_write_key(out, string);
}

void rtmp_amf_write_null(struct rtmp_bytes *out)
{
  uint8_t marker = NULL_VALUE;
  rtmp_bytes_add(out, &marker, 1);
}

void rtmp_amf_begin_object(struct rtmp_bytes *out)
{
  uint8_t marker = OBJECT;
  rtmp_bytes_add(out, &marker, 1);
}

void rtmp_amf_write_key(struct rtmp_bytes *out, const char *key)
{
  size_t size = strlen(key);
  size = size > UINT16_MAX ? UINT16_MAX : size;
  write_u16(out, size);
  rtmp_bytes_add(out, key, size);
}

void rtmp_amf_end_object(struct rtmp_bytes *out)
{
  static const uint8_t end[3] = {0, 0, OBJECT_END};
  rtmp_bytes_add(out, end, sizeof end);
}
