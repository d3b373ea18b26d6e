#include <verbacast/wire/json.h>

#include <verbacast/wire/text.h>

#include <stdlib.h>

const char vc_json_no_memory[] = "no memory";

// jansson's lexer drops the characters for which its buffer could not grow, and goes on: a text
// comes out with another wording, a member under another name. So its allocations are watched.
static _Thread_local int has_failed; // an allocation of this thread since it was cleared

static void *allocate(size_t size)
{
  void *at = malloc(size);
  has_failed |= at == NULL;
  return at;
}

// Before there are threads.
__attribute__((constructor)) static void watch_allocations(void)
{
  json_set_alloc_funcs(allocate, free);
}

// Brackets outside strings; a text that is no JSON is for jansson to refuse.
static int is_too_deep(const char *text, size_t size)
{
  int depth = 0;
  int in_string = 0;
  for (size_t i = 0; i < size; i++) {
    char c = text[i];
    if (in_string) {
      i += c == '\\';
      in_string = c != '"';
    } else if (c == '"') {
      in_string = 1;
    } else if (c == '[' || c == '{') {
      if (++depth > VC_JSON_DEPTH_MAX) {
        return 1;
      }
    } else if (c == ']' || c == '}') {
      depth--;
    }
  }
  return 0;
}

static json_t *parse(const char *text, size_t size, size_t flags, const char **why)
{
  const char *unused;
  why = why != NULL ? why : &unused;
  if (is_too_deep(text, size)) {
    *why = "JSON nested deeper than 64";
    return NULL;
  }
  has_failed = 0;
  json_t *value = json_loadb(text, size, JSON_REJECT_DUPLICATES | flags, NULL);
  if (has_failed) {
    json_decref(value);
    *why = vc_json_no_memory;
    return NULL;
  }
  if (value == NULL) {
    *why = "not a JSON object or array";
  }
  return value;
}

json_t *vc_json_parse(const char *text, size_t size, const char **why)
{
  return parse(text, size, 0, why);
}

json_t *vc_json_parse_zeros(const char *text, size_t size, const char **why)
{
  return parse(text, size, JSON_ALLOW_NUL, why);
}

static int append(const char *bytes, size_t size, void *text)
{
  vc_text_append(text, bytes, size);
  return ((struct vc_text *)text)->has_failed ? -1 : 0;
}

// Not json_dumps: it goes on after a key for which there was no memory and gives a text without it.
char *vc_json_print(const json_t *value)
{
  struct vc_text text = {0};
  size_t flags = JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(15);
  if (json_dump_callback(value, append, &text, flags) != 0 || text.has_failed) {
    vc_text_fini(&text);
  }
  return text.at;
}

const char *vc_json_string(const json_t *object, const char *key, const char *fallback)
{
  const char *text = json_string_value(json_object_get(object, key));
  return text != NULL ? text : fallback;
}

double vc_json_real(const json_t *object, const char *key, double fallback)
{
  const json_t *value = json_object_get(object, key);
  return json_is_number(value) ? json_number_value(value) : fallback;
}

long long vc_json_integer(const json_t *object, const char *key, long long fallback)
{
  const json_t *value = json_object_get(object, key);
  return json_is_integer(value) ? json_integer_value(value) : fallback;
}

int vc_json_true(const json_t *object, const char *key)
{
  return json_is_true(json_object_get(object, key));
}
