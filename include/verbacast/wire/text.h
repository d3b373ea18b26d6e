// Text that grows while it is printed, and what UTF-8 is. Pure; no locale.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <verbacast/base/buffer.h>

// A growing text. The first failed allocation marks it: later appends do nothing, and the end asks
// `has_failed` once.
struct vc_text {
  char *at; // NUL-terminated whenever size > 0
  size_t size;
  size_t capacity;
  int has_failed;
};

void vc_text_fini(struct vc_text *text);
// Gives: what was printed, NULL when there was no memory for it. The text is empty then.
struct vc_buffer *vc_text_take(struct vc_text *text);
void vc_text_append(struct vc_text *text, const char *bytes, size_t size);
void vc_text_add(struct vc_text *text, const char *string);
__attribute__((format(printf, 2, 3))) void vc_text_format(struct vc_text *text, const char *format,
                                                          ...);
// A JSON string with its quotes; NULL is printed as null. Bytes that are no UTF-8 become U+FFFD.
void vc_text_json_string(struct vc_text *text, const char *string);
// A JSON number with `digits` digits after the point; NAN and infinities are printed as null.
void vc_text_json_number(struct vc_text *text, double number, int digits);

// Returns: the length (1-4) of the well-formed sequence at `s`, 0 when there is none within `size`.
size_t vc_utf8_sequence(const char *s, size_t size);
int vc_utf8_is_valid(const char *s, size_t size);
// Returns: the largest length <= most at which `s` may be cut without cutting a character.
size_t vc_utf8_cut(const char *s, size_t size, size_t most);

// UTF-8 that arrives in pieces. Zero it to begin.
struct vc_utf8_state {
  uint8_t n_left;
  uint8_t low, high; // what the next byte may be while n_left > 0
};
// Returns: 0 well-formed so far, -1 never again.
int vc_utf8_feed(struct vc_utf8_state *state, const uint8_t *bytes, size_t size);
