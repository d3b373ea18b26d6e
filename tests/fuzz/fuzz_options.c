// Command lines and environments: the input's lines are arguments, those after an empty line are
// environment variables. Whatever comes, a refusal says why and a run stays within the ranges.
#include <verbacast/base/options.h>

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define WORDS_MAX 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct target {
  int64_t chunk_ms, bytes;
  double share;
  int is_on, engine;
  const char *text;
  struct vc_secret *secret;
};

static const struct vc_option rows[] = {
    {"PCM_CHUNK_SIZE_MS", VC_OPTION_INTEGER, offsetof(struct target, chunk_ms), "50", "ms", 10, 200,
     .help = "Chunk."},
    {"JOURNAL_MAX_BYTES", VC_OPTION_BYTES, offsetof(struct target, bytes), "1GiB", "bytes", 1024,
     1099511627776.0, .help = "Journal."},
    {"SHARE", VC_OPTION_REAL, offsetof(struct target, share), "0.5", NULL, 0, 1, .help = "Share."},
    {"SWITCH", VC_OPTION_SWITCH, offsetof(struct target, is_on), .help = "Switch."},
    {"ENGINE", VC_OPTION_CHOICE, offsetof(struct target, engine), "auto",
     .choices = "auto,sherpa,pocketsphinx", .help = "Engine."},
    {"TEXT", VC_OPTION_TEXT, offsetof(struct target, text), .help = "Text."},
    VC_OPTION_ROWS_END,
};

// Cuts `text` into lines. Returns: how many.
static size_t cut_lines(char *text, char *lines[static WORDS_MAX])
{
  size_t n = 0;
  for (char *at = text; *at != '\0' && n < WORDS_MAX - 1;) {
    lines[n++] = at;
    at += strcspn(at, "\n");
    if (*at == '\n') {
      *at++ = '\0';
    }
  }
  lines[n] = NULL;
  return n;
}

static void check(const struct target *target)
{
  assert(target->chunk_ms >= 10 && target->chunk_ms <= 200);
  assert(target->bytes >= 1024 && target->bytes <= INT64_C(1099511627776));
  assert(target->share >= 0 && target->share <= 1);
  assert(target->is_on == 0 || target->is_on == 1);
  assert(target->engine >= 0 && target->engine <= 2);
  assert(target->text != NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  char program[] = "fuzz";
  char *arguments[WORDS_MAX + 1] = {program}, *environment[WORDS_MAX];
  char *text = malloc(size + 1);
  FILE *out = fopen("/dev/null", "w");
  assert(text != NULL && out != NULL);
  memcpy(text, data, size);
  text[size] = '\0';
  char *second = strstr(text, "\n\n");
  if (second != NULL) {
    *second = '\0';
    second += 2;
  }
  size_t n = cut_lines(text, arguments + 1);
  cut_lines(second != NULL ? second : text + strlen(text), environment);
  struct target target = {0};
  struct vc_option_group group = {"Group", rows, &target};
  struct vc_option_set set = {"fuzz", "Takes anything.", &group, 1, NULL};
  struct vc_error error = {.text = ""};
  enum vc_options_outcome outcome =
      vc_options_parse(&set, (int)n + 1, arguments, environment, out, &error);
  if (outcome == VC_OPTIONS_USAGE) {
    assert(error.text[0] != '\0');
  } else if (outcome != VC_OPTIONS_PRINTED) {
    check(&target);
    vc_options_print_effective(&set, out);
  }
  vc_options_free(&set);
  fclose(out);
  free(text);
  return 0;
}
