// Values as PostgreSQL's wire has them: big-endian, each behind its length.
#include "postgres.h"

#include <endian.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define EPOCH_US INT64_C(946684800000000) // 2000-01-01, from which PostgreSQL counts
#define AT_N 12                           // in the head of an array

static void append_32(struct vc_text *text, uint32_t number)
{
  number = htobe32(number);
  vc_text_append(text, (const char *)&number, sizeof number);
}

static void append_64(struct vc_text *text, uint64_t number)
{
  append_32(text, sizeof number);
  number = htobe64(number);
  vc_text_append(text, (const char *)&number, sizeof number);
}

void pg_array_init(struct pg_array *array, enum pg_type type)
{
  const uint32_t head[] = {1, 1, type, 0, 1}; // dimensions, NULLs, type, n, first index
  *array = (struct pg_array){.n = 0};
  for (size_t i = 0; i < sizeof head / sizeof *head; i++) {
    append_32(&array->bytes, head[i]);
  }
}

void pg_array_fini(struct pg_array *array)
{
  vc_text_fini(&array->bytes);
}

void pg_array_add_null(struct pg_array *array)
{
  array->n++;
  append_32(&array->bytes, UINT32_MAX);
}

void pg_array_add_text(struct pg_array *array, const char *text)
{
  if (text == NULL) {
    pg_array_add_null(array);
    return;
  }
  array->n++;
  append_32(&array->bytes, (uint32_t)strlen(text));
  vc_text_add(&array->bytes, text);
}

void pg_array_add_json(struct pg_array *array, const char *text)
{
  array->n++;
  append_32(&array->bytes, (uint32_t)strlen(text) + 1);
  vc_text_append(&array->bytes, "\1", 1); // the version
  vc_text_add(&array->bytes, text);
}

void pg_array_add_number(struct pg_array *array, int64_t number)
{
  array->n++;
  append_64(&array->bytes, (uint64_t)number);
}

void pg_array_add_integer(struct pg_array *array, int32_t number)
{
  array->n++;
  append_32(&array->bytes, sizeof number);
  append_32(&array->bytes, (uint32_t)number);
}

void pg_array_add_boolean(struct pg_array *array, int is_true)
{
  array->n++;
  append_32(&array->bytes, 1);
  vc_text_append(&array->bytes, is_true ? "\1" : "\0", 1);
}

void pg_array_add_real(struct pg_array *array, double number)
{
  uint64_t bits;
  if (!isfinite(number)) {
    pg_array_add_null(array);
    return;
  }
  memcpy(&bits, &number, sizeof bits);
  array->n++;
  append_64(&array->bytes, bits);
}

void pg_array_add_time(struct pg_array *array, int64_t unix_us)
{
  if (unix_us <= 0) {
    pg_array_add_null(array);
    return;
  }
  array->n++;
  append_64(&array->bytes, (uint64_t)(unix_us - EPOCH_US));
}

static void add(struct pg_params *params, const void *bytes, size_t size, int is_binary)
{
  params->values[params->n] = bytes;
  params->lengths[params->n] = (int)size;
  params->is_binary[params->n] = is_binary;
  params->n++;
}

void pg_add_array(struct pg_params *params, struct pg_array *array)
{
  uint32_t n = htobe32(array->n);
  if (!array->bytes.has_failed) {
    memcpy(array->bytes.at + AT_N, &n, sizeof n);
  }
  add(params, array->bytes.at, array->bytes.size, 1);
}

void pg_add_text(struct pg_params *params, const char *text)
{
  add(params, text, 0, 0);
}

void pg_add_bytes(struct pg_params *params, const void *bytes, size_t size)
{
  add(params, bytes, size, 1);
}

void pg_add_number(struct pg_params *params, int64_t number)
{
  uint64_t *at = &params->numbers[params->n];
  *at = htobe64((uint64_t)number);
  add(params, at, sizeof *at, 1);
}

void pg_add_time(struct pg_params *params, int64_t unix_ms)
{
  pg_add_number(params, unix_ms * 1000 - EPOCH_US);
}

int64_t pg_number_of(const PGresult *result, int row, int column)
{
  return strtoll(PQgetvalue(result, row, column), NULL, 10);
}
