// Options: one row makes the flag, the environment variable, the range check, a line of --help and
// a row of docs/configuration.md. Flags win over environment; the flag is the name in lower case
// with dashes: PCM_CHUNK_SIZE_MS -> --pcm-chunk-size-ms (both `--flag value` and `--flag=value`).
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <verbacast/base/error.h>

enum vc_option_kind {
  VC_OPTION_INTEGER, // int64_t field
  VC_OPTION_BYTES,   // int64_t field; "256MiB", "1GiB", "64KiB" or plain bytes
  VC_OPTION_REAL,    // double field
  VC_OPTION_SWITCH,  // int field, 0 or 1; a bare flag means 1
  VC_OPTION_TEXT,    // const char * field, never NULL ("" when unset)
  VC_OPTION_HIDDEN,  // a TEXT that may have secrets in it: shown as set or not set
  VC_OPTION_CHOICE,  // int field, the index in `choices`
  VC_OPTION_SECRET,  // struct vc_secret field; a text or @file, or "new,old" of these while rotated
                     // (or a longer comma list, where several parties have one each); a file may
                     // hold such a list, too; VC_SECRET_MAX bytes together
};

struct vc_option {
  const char *name; // of the environment variable
  enum vc_option_kind kind;
  size_t offset;       // of the field in the target struct
  const char *initial; // default, as one would write it; NULL: "" or 0
  const char *unit;    // "ms", "bytes", … or NULL
  double min, max;     // INTEGER, BYTES, REAL
  const char *choices; // CHOICE: "auto,sherpa,pocketsphinx"
  const char *help;    // one line
  int (*check)(const char *value, struct vc_error *error); // further demands on a text, or on
                                                           // a secret's list, or NULL
};
#define VC_OPTION_ROWS_END                                                                         \
  {                                                                                                \
    .name = NULL                                                                                   \
  }

struct vc_option_group {
  const char *title;            // heading in --help and the docs: "Ingest"
  const struct vc_option *rows; // ended by VC_OPTION_ROWS_END
  void *target;                 // the struct that the offsets are of
};

struct vc_option_set {
  const char *program; // "verbacast"
  const char *summary; // one sentence for --help
  const struct vc_option_group *groups;
  size_t n_groups;
  struct vc_option_values *values; // set by vc_options_parse, freed by vc_options_free
};

// A secret that may be rotated while the program runs.
struct vc_secret;
#define VC_SECRET_MAX 16384 // bytes of a secret with those before it
// Thread: any. Returns: 1 when `text` equals one of the secrets (constant time), else 0; 0 when
// none is set.
int vc_secret_matches(const struct vc_secret *secret, const char *text, size_t size);
int vc_secret_is_set(const struct vc_secret *secret);
// Copies the newest secret. Returns: its length, 0 when none is set, -1 when it does not fit.
int vc_secret_copy(const struct vc_secret *secret, char *into, size_t size);
// The same of all that is taken, "new,old", as it is at one moment.
int vc_secret_copy_list(const struct vc_secret *secret, char *into, size_t size);

enum vc_options_outcome {
  VC_OPTIONS_RUN,     // go on
  VC_OPTIONS_CHECK,   // --check-config was given: resolve, say what would run, exit 0 or 1
  VC_OPTIONS_PRINTED, // --help or --version was printed: exit 0
  VC_OPTIONS_USAGE,   // error->text names the option, its value and what is allowed: exit 2
};

// Every program has --help, --version and --check-config without rows of their own.
// `environment` is environ or a test's list of NAME=value.
enum vc_options_outcome vc_options_parse(struct vc_option_set *set, int argc, char **argv,
                                         char *const *environment, FILE *out,
                                         struct vc_error *error);
void vc_options_free(struct vc_option_set *set);
// Reads the files behind @file secrets again (SIGHUP). Returns 0, or -1: those that could not be
// read, or are none, stay as they were.
int vc_options_reload_secrets(struct vc_option_set *set, struct vc_error *error);
// What is in force and where each value came from; secrets and hidden texts are shown as set or not
// set, the password in a URL as ***.
void vc_options_print_effective(const struct vc_option_set *set, FILE *out);
// For other documents: "--pcm-chunk-size-ms"; "10 to 200 ms".
void vc_option_print_flag(const struct vc_option *row, FILE *out);
void vc_option_print_allowed(const struct vc_option *row, FILE *out);
// The table for docs/configuration.md.
void vc_options_print_markdown(const struct vc_option_set *set, FILE *out);
