#include <verbacast/wire/text.h>

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REPLACEMENT "\xef\xbf\xbd"

void vc_text_fini(struct vc_text *text)
{
  free(text->at);
  *text = (struct vc_text){0};
}

struct vc_buffer *vc_text_take(struct vc_text *text)
{
  struct vc_buffer *buffer = text->has_failed ? NULL : vc_buffer_copy(text->at, text->size);
  vc_text_fini(text);
  return buffer;
}

static int reserve(struct vc_text *text, size_t size)
{
  if (text->has_failed) {
    return -1;
  }
  if (size < text->capacity - text->size && text->capacity > 0) {
    return 0;
  }
  size_t capacity = text->capacity == 0 ? 256 : text->capacity;
  while (capacity - text->size <= size) {
    if (capacity > SIZE_MAX / 4) {
      text->has_failed = 1;
      return -1;
    }
    capacity *= 2;
  }
  char *at = realloc(text->at, capacity);
  if (at == NULL) {
    text->has_failed = 1;
    return -1;
  }
  text->at = at;
  text->capacity = capacity;
  return 0;
}

void vc_text_append(struct vc_text *text, const char *bytes, size_t size)
{
  if (reserve(text, size) == 0) {
    if (size > 0) {
      memcpy(text->at + text->size, bytes, size);
    }
    text->size += size;
    text->at[text->size] = '\0';
  }
}

void vc_text_add(struct vc_text *text, const char *string)
{
  vc_text_append(text, string, strlen(string));
}

void vc_text_format(struct vc_text *text, const char *format, ...)
{
  va_list arguments, again;
  va_start(arguments, format);
  va_copy(again, arguments);
  int n = vsnprintf(NULL, 0, format, arguments);
  va_end(arguments);
  if (n >= 0 && reserve(text, (size_t)n) == 0) {
    vsnprintf(text->at + text->size, (size_t)n + 1, format, again);
    text->size += (size_t)n;
  }
  va_end(again);
}

void vc_text_json_string(struct vc_text *text, const char *string)
{
  if (string == NULL) {
    vc_text_add(text, "null");
    return;
  }
  size_t left = strlen(string);
  vc_text_append(text, "\"", 1);
  while (left > 0) {
    // The longest run that needs no escape goes in one piece.
    size_t run = 0;
    size_t n = 0;
    while (run < left) {
      unsigned char c = (unsigned char)string[run];
      n = c < 0x80 ? 1 : vc_utf8_sequence(string + run, left - run);
      if (n == 0 || c < 0x20 || c == '"' || c == '\\' || c == 0x7f) {
        break;
      }
      run += n;
    }
    vc_text_append(text, string, run);
    string += run;
    left -= run;
    if (left == 0) {
      break;
    }
    unsigned char c = (unsigned char)*string;
    if (n == 0) {
      vc_text_add(text, REPLACEMENT);
    } else if (c == '"' || c == '\\') {
      vc_text_format(text, "\\%c", c);
    } else if (c == '\n') {
      vc_text_add(text, "\\n");
    } else {
      vc_text_format(text, "\\u%04x", c);
    }
    string++;
    left--;
  }
  vc_text_append(text, "\"", 1);
}

void vc_text_json_number(struct vc_text *text, double number, int digits)
{
  if (isfinite(number)) {
    vc_text_format(text, "%.*f", digits, number);
  } else {
    vc_text_add(text, "null");
  }
}

static int begin_sequence(struct vc_utf8_state *state, uint8_t byte)
{
  state->low = 0x80;
  state->high = 0xbf;
  if (byte < 0x80) {
    state->n_left = 0;
  } else if (byte >= 0xc2 && byte <= 0xdf) {
    state->n_left = 1;
  } else if (byte >= 0xe0 && byte <= 0xef) {
    state->n_left = 2;
    state->low = byte == 0xe0 ? 0xa0 : 0x80;  // no overlong
    state->high = byte == 0xed ? 0x9f : 0xbf; // no surrogate
  } else if (byte >= 0xf0 && byte <= 0xf4) {
    state->n_left = 3;
    state->low = byte == 0xf0 ? 0x90 : 0x80;
    state->high = byte == 0xf4 ? 0x8f : 0xbf; // nothing above U+10FFFF
  } else {
    return -1;
  }
  return 0;
}

// How many of the bytes, counted in eights, are ASCII: most of what is written on earth by
// machines.
static size_t ascii_run(const uint8_t *bytes, size_t size)
{
  size_t n = 0;
  uint64_t eight;
  while (size - n >= sizeof eight) {
    memcpy(&eight, bytes + n, sizeof eight);
    if ((eight & UINT64_C(0x8080808080808080)) != 0) {
      break;
    }
    n += sizeof eight;
  }
  return n;
}

int vc_utf8_feed(struct vc_utf8_state *state, const uint8_t *bytes, size_t size)
{
  for (size_t i = 0; i < size; i++) {
    if (state->n_left == 0) {
      i += ascii_run(bytes + i, size - i);
      if (i == size) {
        break;
      }
      if (begin_sequence(state, bytes[i]) != 0) {
        return -1;
      }
    } else if (bytes[i] < state->low || bytes[i] > state->high) {
      return -1;
    } else {
      state->n_left--;
      state->low = 0x80;
      state->high = 0xbf;
    }
  }
  return 0;
}

size_t vc_utf8_sequence(const char *s, size_t size)
{
  struct vc_utf8_state state = {0};
  for (size_t i = 0; i < size && i < 4; i++) {
    if (vc_utf8_feed(&state, (const uint8_t *)s + i, 1) != 0) {
      return 0;
    }
    if (state.n_left == 0) {
      return i + 1;
    }
  }
  return 0;
}

int vc_utf8_is_valid(const char *s, size_t size)
{
  struct vc_utf8_state state = {0};
  return vc_utf8_feed(&state, (const uint8_t *)s, size) == 0 && state.n_left == 0;
}

size_t vc_utf8_cut(const char *s, size_t size, size_t most)
{
  if (size <= most) {
    return size;
  }
  while (most > 0 && ((unsigned char)s[most] & 0xc0) == 0x80) {
    most--;
  }
  return most;
}
