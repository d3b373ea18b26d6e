// JSON from outside, guarded: jansson recurses, so depth and size are bounded before it sees a
// text.
#pragma once

#include <stddef.h>

#include <jansson.h>

#define VC_JSON_DEPTH_MAX 64

extern const char vc_json_no_memory[];

// Returns: a new reference, or NULL: no JSON object or array, deeper than VC_JSON_DEPTH_MAX, or no
// memory. `why` (may be NULL) is set to a constant text, vc_json_no_memory in the last case.
json_t *vc_json_parse(const char *text, size_t size, const char **why);
// The same where strings may hold U+0000, which ends the text that json_string_value gives: that is
// whole only if json_string_length says so.
json_t *vc_json_parse_zeros(const char *text, size_t size, const char **why);
// Compact, UTF-8. Returns: malloc'ed text, or NULL without memory.
char *vc_json_print(const json_t *value);

// Readers that do not complain: the member if it has the type, else the fallback.
const char *vc_json_string(const json_t *object, const char *key, const char *fallback);
double vc_json_real(const json_t *object, const char *key, double fallback);
long long vc_json_integer(const json_t *object, const char *key, long long fallback);
int vc_json_true(const json_t *object, const char *key); // 1 when the member is true
