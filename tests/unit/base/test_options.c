#include <verbacast/base/options.h>

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#define ARGUMENTS_MAX 16

struct target {
  int64_t chunk_ms, bytes;
  double share;
  int is_on, engine;
  const char *url, *config;
  struct vc_secret *token;
};

static int check_url(const char *value, struct vc_error *error)
{
  if (value[0] != '\0' && strstr(value, "://") == NULL) {
    return vc_error_set(error, "is no URL");
  }
  return strstr(value, "forbidden") != NULL ? vc_error_set(error, "is forbidden") : 0;
}

static int check_config(const char *value, struct vc_error *error)
{
  return strchr(value, '=') != NULL || value[0] == '\0' ? 0 : vc_error_set(error, "has no key");
}

static int check_token(const char *list, struct vc_error *error)
{
  return strstr(list, "weak") == NULL ? 0 : vc_error_set(error, "is weak");
}

static const struct vc_option rows[] = {
    {"PCM_CHUNK_SIZE_MS", VC_OPTION_INTEGER, offsetof(struct target, chunk_ms), "50", "ms", 10, 200,
     .help = "Chunk."},
    {"JOURNAL_MAX_BYTES", VC_OPTION_BYTES, offsetof(struct target, bytes), "1GiB", "bytes", 1024,
     1099511627776.0, .help = "Journal."},
    {"SHARE", VC_OPTION_REAL, offsetof(struct target, share), "0.5", NULL, 0, 1, .help = "Share."},
    {"IS_ON", VC_OPTION_SWITCH, offsetof(struct target, is_on), .help = "Switch."},
    {"ENGINE", VC_OPTION_CHOICE, offsetof(struct target, engine), "auto",
     .choices = "auto,sherpa,pocketsphinx",
     .help = "What hears: auto takes sherpa where its models are found, and pocketsphinx, which "
             "hears English only, where they are not."},
    {"DATABASE_URL", VC_OPTION_TEXT, offsetof(struct target, url), .check = check_url,
     .help = "Database."},
    {"ADMIN_TOKEN", VC_OPTION_SECRET, offsetof(struct target, token), .check = check_token,
     .help = "Token."},
    {"CLIENT_CONFIG", VC_OPTION_HIDDEN, offsetof(struct target, config), .check = check_config,
     .help = "Settings."},
    VC_OPTION_ROWS_END,
};

struct rig {
  struct target target;
  struct vc_option_group group;
  struct vc_option_set set;
  struct vc_error error;
  char *out;
  size_t out_size;
};

static int set_up(void **state)
{
  struct rig *rig = calloc(1, sizeof *rig);
  if (rig == NULL) {
    return -1;
  }
  rig->group = (struct vc_option_group){"Everything", rows, &rig->target};
  rig->set = (struct vc_option_set){"verbacast", "Says what it hears.", &rig->group, 1, NULL};
  *state = rig;
  return 0;
}

static int tear_down(void **state)
{
  struct rig *rig = *state;
  vc_options_free(&rig->set);
  free(rig->out);
  free(rig);
  return 0;
}

// `words`: arguments, separated by blanks. Environment: NAME=value, or NULL.
static enum vc_options_outcome parse(struct rig *rig, const char *words, const char *variable)
{
  char program[] = "verbacast", *arguments[ARGUMENTS_MAX] = {program}, *rest = NULL;
  char *text = strdup(words), *name = variable != NULL ? strdup(variable) : NULL;
  char *environment[] = {name, NULL};
  int n = 1;
  vc_options_free(&rig->set);
  free(rig->out);
  rig->out = NULL;
  rig->error.text[0] = '\0';
  for (char *word = strtok_r(text, " ", &rest); word != NULL; word = strtok_r(NULL, " ", &rest)) {
    assert_in_range(n, 1, ARGUMENTS_MAX - 1);
    arguments[n++] = word;
  }
  FILE *out = open_memstream(&rig->out, &rig->out_size);
  enum vc_options_outcome outcome =
      vc_options_parse(&rig->set, n, arguments, environment, out, &rig->error);
  fclose(out);
  free(text);
  free(name);
  return outcome;
}

static void refuse(struct rig *rig, const char *words, const char *variable, const char *why)
{
  if (parse(rig, words, variable) != VC_OPTIONS_USAGE || strstr(rig->error.text, why) == NULL) {
    fail_msg("'%s' with %s: \"%s\" does not say \"%s\"", words, variable != NULL ? variable : "-",
             rig->error.text, why);
  }
}

static void test_defaults(void **state)
{
  struct rig *rig = *state;
  assert_int_equal(parse(rig, "", NULL), VC_OPTIONS_RUN);
  assert_int_equal(rig->target.chunk_ms, 50);
  assert_int_equal(rig->target.bytes, INT64_C(1) << 30);
  assert_true(rig->target.share == 0.5);
  assert_int_equal(rig->target.is_on, 0);
  assert_int_equal(rig->target.engine, 0);
  assert_string_equal(rig->target.url, "");
  assert_false(vc_secret_is_set(rig->target.token));
}

static void test_both_ways_to_write(void **state)
{
  struct rig *rig = *state;
  assert_int_equal(parse(rig,
                         "--pcm-chunk-size-ms 20 --journal-max-bytes=64KiB --share 0.25 --is-on "
                         "--engine=pocketsphinx --database-url sqlite://x=y",
                         NULL),
                   VC_OPTIONS_RUN);
  assert_int_equal(rig->target.chunk_ms, 20);
  assert_int_equal(rig->target.bytes, 65536);
  assert_true(rig->target.share == 0.25);
  assert_int_equal(rig->target.is_on, 1);
  assert_int_equal(rig->target.engine, 2);
  assert_string_equal(rig->target.url, "sqlite://x=y");
}

static void test_flag_wins(void **state)
{
  struct rig *rig = *state;
  parse(rig, "", "PCM_CHUNK_SIZE_MS=30");
  assert_int_equal(rig->target.chunk_ms, 30);
  parse(rig, "--pcm-chunk-size-ms=40", "PCM_CHUNK_SIZE_MS=30");
  assert_int_equal(rig->target.chunk_ms, 40);
  parse(rig, "--pcm-chunk-size-ms=40 --pcm-chunk-size-ms=60", NULL);
  assert_int_equal(rig->target.chunk_ms, 60);
  assert_int_equal(parse(rig, "", "PCM_CHUNK_SIZE=1"), VC_OPTIONS_RUN); // not ours
  assert_int_equal(rig->target.chunk_ms, 50);
}

static void test_switches(void **state)
{
  struct rig *rig = *state;
  parse(rig, "--is-on 0", NULL);
  assert_int_equal(rig->target.is_on, 0);
  parse(rig, "--is-on=1", NULL);
  assert_int_equal(rig->target.is_on, 1);
  parse(rig, "--is-on --share 1", NULL);
  assert_int_equal(rig->target.is_on, 1);
  assert_true(rig->target.share == 1);
  refuse(rig, "", "IS_ON=yes", "IS_ON (--is-on): 'yes'");
}

static void test_ranges(void **state)
{
  struct rig *rig = *state;
  refuse(rig, "--pcm-chunk-size-ms 5", NULL,
         "PCM_CHUNK_SIZE_MS (--pcm-chunk-size-ms): '5' is out of range; allowed: 10 to 200 ms");
  refuse(rig, "--pcm-chunk-size-ms 201", NULL, "out of range");
  refuse(rig, "--pcm-chunk-size-ms -50", NULL, "out of range");
  refuse(rig, "--pcm-chunk-size-ms 99999999999999999999", NULL, "out of range");
  refuse(rig, "--journal-max-bytes 9999999999GiB", NULL, "out of range");
  refuse(rig, "--journal-max-bytes 1023", NULL, "allowed: 1 KiB to 1024 GiB");
  refuse(rig, "--share 1.01", NULL, "out of range");
  assert_int_equal(parse(rig, "--pcm-chunk-size-ms 10", NULL), VC_OPTIONS_RUN);
  assert_int_equal(parse(rig, "--pcm-chunk-size-ms 200", NULL), VC_OPTIONS_RUN);
}

static void test_junk(void **state)
{
  struct rig *rig = *state;
  refuse(rig, "", "PCM_CHUNK_SIZE_MS=50ms", "'50ms' is not a whole number");
  refuse(rig, "--pcm-chunk-size-ms=", NULL, "'' is not a whole number");
  refuse(rig, "", "PCM_CHUNK_SIZE_MS= 50", "not a whole number");
  refuse(rig, "--pcm-chunk-size-ms 5e1", NULL, "not a whole number");
  refuse(rig, "--journal-max-bytes 1MB", NULL, "not a number of bytes");
  refuse(rig, "--share nan", NULL, "not a number");
  refuse(rig, "--share 0x0.8", NULL, "not a number");
  refuse(rig, "--share 0.5.1", NULL, "not a number");
  refuse(rig, "--engine whisper", NULL, "allowed: one of auto,sherpa,pocketsphinx");
  refuse(rig, "--engine auto,sherpa", NULL, "one of");
  refuse(rig, "--engine=", NULL, "one of");
  refuse(rig, "--database-url nowhere", NULL, "DATABASE_URL (--database-url): 'nowhere' is no URL");
}

static void test_unknown(void **state)
{
  struct rig *rig = *state;
  refuse(rig, "--pcm-chunk-sise-ms=20", NULL, "did you mean --pcm-chunk-size-ms?");
  refuse(rig, "--whatever", NULL, "unknown option '--whatever': see --help");
  refuse(rig, "-h", NULL, "unexpected argument '-h'");
  refuse(rig, "run", NULL, "unexpected argument 'run'");
  refuse(rig, "--", NULL, "unknown option");
  refuse(rig, "--=5", NULL, "unknown option");
}

static void test_missing_value(void **state)
{
  struct rig *rig = *state;
  refuse(rig, "--pcm-chunk-size-ms", NULL, "PCM_CHUNK_SIZE_MS (--pcm-chunk-size-ms): a value is");
  refuse(rig, "--database-url --check-config", NULL, "DATABASE_URL (--database-url): a value is");
}

static void test_nothing_secret_is_printed(void **state)
{
  struct rig *rig = *state;
  refuse(rig, "--database-url postgres://user:hunter2@forbidden/db", NULL,
         "'postgres://user:***@forbidden/db' is forbidden");
  refuse(rig, "--database-url postgres://user:hun/ter2@forbidden/db", NULL,
         "'postgres://user:***@forbidden/db' is forbidden");
  refuse(rig, "--database-url postgres://user@forbidden/db?password=hunter2", NULL,
         "'postgres://user@forbidden/db?***' is forbidden");
  refuse(rig, "--database-url postgres://forbidden/db?%70assword=hunter2", NULL,
         "'postgres://forbidden/db?***' is forbidden");
  refuse(rig, "--client-config hunter2", NULL, "'***' has no key");
  refuse(rig, "--admin-tokn=hunter2", NULL, "unknown option '--admin-tokn': did you mean");
  assert_null(strstr(rig->error.text, "hunter2"));
  assert_int_equal(parse(rig, "--admin-token=hunter2 --database-url=pg://u:hunter2@h/d?a=b@c",
                         "CLIENT_CONFIG=password=hunter2"),
                   VC_OPTIONS_RUN);
  char *text = NULL;
  size_t size;
  FILE *out = open_memstream(&text, &size);
  vc_options_print_effective(&rig->set, out);
  fclose(out);
  assert_null(strstr(text, "hunter2"));
  assert_non_null(strstr(text, "ADMIN_TOKEN=(set) (flag)\n"));
  assert_non_null(strstr(text, "DATABASE_URL=pg://u:***@h/d?a=b@c (flag)\n"));
  assert_non_null(strstr(text, "CLIENT_CONFIG=(set) (environment)\n"));
  assert_non_null(strstr(text, "SHARE=0.5 (default)\n"));
  free(text);
}

static void test_help_and_version(void **state)
{
  struct rig *rig = *state;
  assert_int_equal(parse(rig, "--help", NULL), VC_OPTIONS_PRINTED);
  for (const struct vc_option *row = rows; row->name != NULL; row++) {
    assert_non_null(strstr(rig->out, row->name));
    assert_non_null(strstr(rig->out, row->kind == VC_OPTION_CHOICE ? "What hears:" : row->help));
  }
  for (const char *line = rig->out; *line != '\0'; line += strcspn(line, "\n") + 1) {
    assert_in_range(strcspn(line, "\n"), 0, 80);
  }
  assert_non_null(strstr(rig->out, " found, and\n      pocketsphinx, which hears English only"));
  assert_non_null(strstr(rig->out, "--pcm-chunk-size-ms"));
  assert_non_null(strstr(rig->out, "Default: 50 ms. Allowed: 10 to 200 ms."));
  assert_non_null(strstr(rig->out, "\nEverything\n"));
  assert_int_equal(parse(rig, "--version", NULL), VC_OPTIONS_PRINTED);
  assert_memory_equal(rig->out, "verbacast ", 10);
  assert_int_equal(parse(rig, "--check-config --share 1", NULL), VC_OPTIONS_CHECK);
  assert_true(rig->target.share == 1);
  assert_int_equal(parse(rig, "--check-config --share 2", NULL), VC_OPTIONS_USAGE);
}

static void test_markdown(void **state)
{
  struct rig *rig = *state;
  char *text = NULL;
  size_t size;
  FILE *out = open_memstream(&text, &size);
  vc_options_print_markdown(&rig->set, out);
  fclose(out);
  assert_non_null(strstr(
      text, "| `PCM_CHUNK_SIZE_MS` | `--pcm-chunk-size-ms` | `50` | 10 to 200 ms | Chunk. |\n"));
  free(text);
}

static int matches(const struct rig *rig, const char *text)
{
  return vc_secret_matches(rig->target.token, text, strlen(text));
}

static void test_secrets(void **state)
{
  struct rig *rig = *state;
  char copy[16];
  assert_int_equal(parse(rig, "--admin-token=new,old", NULL), VC_OPTIONS_RUN);
  assert_true(matches(rig, "new") && matches(rig, "old"));
  assert_false(matches(rig, "") || matches(rig, "new,old") || matches(rig, "ne") ||
               matches(rig, "newnew") || matches(rig, "other"));
  assert_int_equal(vc_secret_copy(rig->target.token, copy, sizeof copy), 3);
  assert_string_equal(copy, "new");
  assert_int_equal(vc_secret_copy_list(rig->target.token, copy, sizeof copy), 7);
  assert_string_equal(copy, "new,old");
  assert_int_equal(vc_secret_copy(rig->target.token, copy, 3), -1);
  assert_int_equal(vc_secret_copy_list(rig->target.token, copy, 7), -1);
  assert_int_equal(parse(rig, "--admin-token=new,", NULL), VC_OPTIONS_RUN);
  assert_int_equal(vc_secret_copy_list(rig->target.token, copy, sizeof copy), 3);
  assert_int_equal(parse(rig, "", "ADMIN_TOKEN="), VC_OPTIONS_RUN);
  assert_false(vc_secret_is_set(rig->target.token));
  assert_false(matches(rig, ""));
  assert_int_equal(vc_secret_copy(rig->target.token, copy, sizeof copy), 0);
  assert_false(vc_secret_matches(NULL, "x", 1));
  refuse(rig, "--admin-token=,old", NULL, "ADMIN_TOKEN: the secret is empty");
}

static void write_file(const char *path, const char *text)
{
  FILE *file = fopen(path, "w");
  assert_non_null(file);
  fputs(text, file);
  fclose(file);
}

static void test_secret_file(void **state)
{
  struct rig *rig = *state;
  char path[] = "/tmp/vc-secret-XXXXXX", flag[64];
  int fd = mkstemp(path);
  assert_true(fd >= 0);
  close(fd);
  snprintf(flag, sizeof flag, "--admin-token=@%s", path);
  write_file(path, "first\n");
  assert_int_equal(parse(rig, flag, NULL), VC_OPTIONS_RUN);
  assert_true(matches(rig, "first"));
  write_file(path, "second,first\r\n");
  assert_int_equal(vc_options_reload_secrets(&rig->set, &rig->error), 0);
  assert_true(matches(rig, "second") && matches(rig, "first"));
  write_file(path, "\n");
  assert_int_equal(vc_options_reload_secrets(&rig->set, &rig->error), -1);
  assert_true(matches(rig, "second")); // the old ones stay
  unlink(path);
  assert_int_equal(vc_options_reload_secrets(&rig->set, &rig->error), -1);
  assert_non_null(strstr(rig->error.text, path));
  assert_true(matches(rig, "second"));
  refuse(rig, flag, NULL, "ADMIN_TOKEN: cannot read the secret's file");
  refuse(rig, "--admin-token=@/tmp", NULL,
         "ADMIN_TOKEN: cannot read the secret's file '/tmp': Is a directory");
}

static void make_file(char path[], const char *text)
{
  int fd = mkstemp(path);
  assert_true(fd >= 0);
  close(fd);
  write_file(path, text);
}

static void test_secret_files_and_texts(void **state)
{
  struct rig *rig = *state;
  char path_a[] = "/tmp/vc-secret-XXXXXX", path_b[] = "/tmp/vc-secret-XXXXXX", flag[128];
  make_file(path_a, "one\n");
  make_file(path_b, "two,three\n");
  snprintf(flag, sizeof flag, "--admin-token=@%s,@%s,four", path_a, path_b);
  assert_int_equal(parse(rig, flag, NULL), VC_OPTIONS_RUN);
  assert_true(matches(rig, "one") && matches(rig, "two") && matches(rig, "three"));
  assert_true(matches(rig, "four"));
  assert_false(matches(rig, path_a) || matches(rig, flag));
  snprintf(flag, sizeof flag, "--admin-token=zero,@%s", path_b);
  assert_int_equal(parse(rig, flag, NULL), VC_OPTIONS_RUN);
  write_file(path_b, "five");
  assert_int_equal(vc_options_reload_secrets(&rig->set, &rig->error), 0);
  assert_true(matches(rig, "zero") && matches(rig, "five"));
  assert_false(matches(rig, "two"));
  unlink(path_b);
  refuse(rig, flag, NULL, "ADMIN_TOKEN: cannot read the secret's file");
  unlink(path_a);
}

static void test_a_secret_that_is_none(void **state)
{
  struct rig *rig = *state;
  char path[] = "/tmp/vc-secret-XXXXXX", flag[64];
  refuse(rig, "--admin-token=weak", NULL, "ADMIN_TOKEN: the secret is weak");
  refuse(rig, "--admin-token=strong,weak", NULL, "ADMIN_TOKEN: the secret is weak");
  make_file(path, "strong");
  snprintf(flag, sizeof flag, "--admin-token=@%s", path);
  assert_int_equal(parse(rig, flag, NULL), VC_OPTIONS_RUN);
  write_file(path, "weak");
  assert_int_equal(vc_options_reload_secrets(&rig->set, &rig->error), -1);
  assert_string_equal(rig->error.text, "ADMIN_TOKEN: the secret is weak");
  assert_true(matches(rig, "strong") && !matches(rig, "weak"));
  unlink(path);
}

static void test_how_long_a_secret_may_be(void **state)
{
  struct rig *rig = *state;
  static char flag[20000];
  const size_t begin = (size_t)snprintf(flag, sizeof flag, "--admin-token=");
  memset(flag + begin, 'x', 16384);
  memcpy(flag + begin + 8000, ",", 1);
  assert_int_equal(parse(rig, flag, NULL), VC_OPTIONS_RUN);
  static char copy[16384 + 1];
  assert_int_equal(vc_secret_copy_list(rig->target.token, copy, sizeof copy), 16384);
  flag[begin + 16384] = 'x';
  refuse(rig, flag, NULL, "ADMIN_TOKEN: the secret is longer than 16384 bytes");
}

static void *match_often(void *context)
{
  intptr_t n_wrong = 0;
  for (int i = 0; i < 5000; i++) {
    n_wrong += !matches(context, "steady");
  }
  return (void *)n_wrong;
}

static void test_reload_beside_readers(void **state)
{
  struct rig *rig = *state;
  char path[] = "/tmp/vc-secret-XXXXXX", flag[64];
  pthread_t reader;
  void *n_wrong;
  int fd = mkstemp(path);
  assert_true(fd >= 0);
  close(fd);
  snprintf(flag, sizeof flag, "--admin-token=@%s", path);
  write_file(path, "other,steady");
  assert_int_equal(parse(rig, flag, NULL), VC_OPTIONS_RUN);
  assert_int_equal(pthread_create(&reader, NULL, match_often, rig), 0);
  for (int i = 0; i < 100; i++) {
    assert_int_equal(vc_options_reload_secrets(&rig->set, &rig->error), 0);
  }
  pthread_join(reader, &n_wrong);
  assert_null(n_wrong);
  unlink(path);
}

#define OPTIONS_TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
  const struct CMUnitTest tests[] = {
      OPTIONS_TEST(test_defaults),
      OPTIONS_TEST(test_both_ways_to_write),
      OPTIONS_TEST(test_flag_wins),
      OPTIONS_TEST(test_switches),
      OPTIONS_TEST(test_ranges),
      OPTIONS_TEST(test_junk),
      OPTIONS_TEST(test_unknown),
      OPTIONS_TEST(test_missing_value),
      OPTIONS_TEST(test_nothing_secret_is_printed),
      OPTIONS_TEST(test_help_and_version),
      OPTIONS_TEST(test_markdown),
      OPTIONS_TEST(test_secrets),
      OPTIONS_TEST(test_secret_file),
      OPTIONS_TEST(test_secret_files_and_texts),
      OPTIONS_TEST(test_a_secret_that_is_none),
      OPTIONS_TEST(test_how_long_a_secret_may_be),
      OPTIONS_TEST(test_reload_beside_readers),
  };
  return cmocka_run_group_tests_name("base/options", tests, NULL, NULL);
}
