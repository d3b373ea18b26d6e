// Lines are read from the other end of a pipe.
#include <verbacast/base/log.h>

#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

struct rig {
  int ends[2];
  FILE *reader;
  char *line;
  size_t capacity;
};

static int set_up(void **state)
{
  struct rig *rig = calloc(1, sizeof *rig);
  *state = rig;
  return rig == NULL || pipe(rig->ends) != 0 || (rig->reader = fdopen(rig->ends[0], "r")) == NULL;
}

static int tear_down(void **state)
{
  struct rig *rig = *state;
  vc_log_stop();
  fclose(rig->reader);
  close(rig->ends[1]);
  free(rig->line);
  free(rig);
  return 0;
}

static void start(struct rig *rig, int is_json, enum vc_log_level level)
{
  struct vc_error error;
  const struct vc_log_settings settings = {rig->ends[1], is_json, level};
  assert_int_equal(vc_log_start(&settings, &error), 0);
}

// The next line without its end.
static char *read_line(struct rig *rig)
{
  ssize_t n = getline(&rig->line, &rig->capacity, rig->reader);
  assert_true(n > 0 && rig->line[n - 1] == '\n');
  rig->line[n - 1] = '\0';
  return rig->line;
}

// What stands behind the time.
static const char *read_rest(struct rig *rig)
{
  const char *line = read_line(rig);
  int parts[7], end = 0;
  int n = sscanf(line, "ts=%4d-%2d-%2dT%2d:%2d:%2d.%3dZ %n", parts, parts + 1, parts + 2, parts + 3,
                 parts + 4, parts + 5, parts + 6, &end);
  assert_int_equal(n, 7);
  assert_int_equal(end, strlen("ts=2026-01-02T03:04:05.678Z "));
  return line + end;
}

static void test_fields(void **state)
{
  struct rig *rig = *state;
  start(rig, 0, VC_LOG_INFO);
  vc_log(VC_LOG_INFO, VC_EVENT("test.fields"), VC_STR("slug", "room-1"), VC_INT("port", -42),
         VC_REAL("share", 0.25), VC_STR("none", NULL), VC_STR("empty", ""));
  assert_string_equal(
      read_rest(rig),
      "level=info event=test.fields slug=room-1 port=-42 share=0.25 none= empty=\"\"");
}

static void test_levels(void **state)
{
  struct rig *rig = *state;
  start(rig, 0, VC_LOG_WARN);
  vc_log(VC_LOG_INFO, VC_EVENT("test.quiet"));
  vc_log(VC_LOG_ERROR, VC_EVENT("test.loud"));
  assert_string_equal(read_rest(rig), "level=error event=test.loud");
  vc_log_level_set(VC_LOG_DEBUG);
  assert_int_equal(vc_log_level_get(), VC_LOG_DEBUG);
  vc_log(VC_LOG_DEBUG, VC_EVENT("test.detail"));
  assert_string_equal(read_rest(rig), "level=debug event=test.detail");
}

static void test_nothing_is_forged(void **state)
{
  struct rig *rig = *state;
  start(rig, 0, VC_LOG_INFO);
  vc_log(VC_LOG_INFO, VC_EVENT("test.forged"), VC_STR("a", "x\nlevel=error event=y"),
         VC_STR("b", "say \"no\" \\"), VC_STR("c", "a=b"), VC_STR("d", "\x1b[31m\x7f"),
         VC_STR("e", "\xff\xc0\xaf\xed\xa0\x80"), VC_STR("f", "gr\xc3\xbc\xc3\x9f dich"));
  assert_string_equal(read_rest(rig),
                      "level=info event=test.forged a=\"x\\u000alevel=error event=y\" "
                      "b=\"say \\\"no\\\" \\\\\" c=\"a=b\" d=\"\\u001b[31m\\u007f\" "
                      "e=\"\\u00ff\\u00c0\\u00af\\u00ed\\u00a0\\u0080\" "
                      "f=\"gr\xc3\xbc\xc3\x9f dich\"");
}

static void test_json(void **state)
{
  struct rig *rig = *state;
  char all[256];
  for (int i = 1; i < 256; i++) {
    all[i - 1] = (char)i;
  }
  all[255] = '\0';
  start(rig, 1, VC_LOG_INFO);
  vc_log(VC_LOG_WARN, VC_EVENT("test.json"), VC_STR("all", all), VC_INT("least", INT64_MIN),
         VC_REAL("nan", NAN), VC_REAL("huge", 1e300), VC_STR("none", NULL),
         VC_STR("text", "a \"b\"\n\xc3\xbc"));
  json_error_t error;
  json_t *line = json_loads(read_line(rig), 0, &error);
  assert_non_null(line);
  assert_string_equal(json_string_value(json_object_get(line, "event")), "test.json");
  assert_string_equal(json_string_value(json_object_get(line, "level")), "warn");
  assert_int_equal(strlen(json_string_value(json_object_get(line, "ts"))), 24);
  assert_true(json_integer_value(json_object_get(line, "least")) == INT64_MIN);
  assert_true(json_is_null(json_object_get(line, "nan")));
  assert_true(json_is_null(json_object_get(line, "none")));
  assert_true(json_real_value(json_object_get(line, "huge")) > 9e299);
  assert_string_equal(json_string_value(json_object_get(line, "text")), "a \"b\"\n\xc3\xbc");
  assert_non_null(json_object_get(line, "all"));
  json_decref(line);
}

static void test_long_values(void **state)
{
  struct rig *rig = *state;
  char *text = malloc(5001);
  assert_non_null(text);
  memset(text, 'x', 5000);
  text[5000] = '\0';
  start(rig, 1, VC_LOG_INFO);
  vc_log(VC_LOG_INFO, VC_EVENT("test.long"), VC_STR("text", text));
  json_error_t error;
  json_t *line = json_loads(read_line(rig), 0, &error);
  assert_non_null(line);
  assert_string_equal(json_string_value(json_object_get(line, "event")), "test.long");
  assert_non_null(json_object_get(line, "left_out"));
  json_decref(line);
  free(text);
}

// Nobody reads: the caller goes on, and later the log says how many lines are missing.
static void test_full_pipe(void **state)
{
  enum { N = 20000 };
  struct rig *rig = *state;
  uint64_t dropped_before = vc_log_dropped();
  start(rig, 0, VC_LOG_INFO);
  for (int i = 0; i < N; i++) {
    vc_log(VC_LOG_INFO, VC_EVENT("test.flood"), VC_INT("i", i));
  }
  uint64_t n_dropped = vc_log_dropped() - dropped_before;
  assert_true(n_dropped > 0 && n_dropped < N);
  int n_read = 0, last = -1, n_told = 0;
  while (n_read < N - (int)n_dropped || n_told == 0) {
    const char *rest = read_rest(rig);
    int i, lines;
    if (sscanf(rest, "level=info event=test.flood i=%d", &i) == 1) {
      assert_true(i > last);
      last = i;
      n_read++;
    } else if (sscanf(rest, "level=warn event=log.dropped lines=%d", &lines) == 1) {
      n_told += lines;
    } else {
      fail_msg("%s", rest);
    }
  }
  assert_int_equal(n_read, N - (int)n_dropped);
}

// A reader that has gone to sleep for good does not hold the end up.
static void test_stop_with_full_pipe(void **state)
{
  struct rig *rig = *state;
  start(rig, 0, VC_LOG_INFO);
  for (int i = 0; i < 8000; i++) {
    vc_log(VC_LOG_INFO, VC_EVENT("test.flood"), VC_INT("i", i));
  }
  vc_log_stop();
}

static void test_stop_writes_what_is_left(void **state)
{
  struct rig *rig = *state;
  start(rig, 0, VC_LOG_INFO);
  for (int i = 0; i < 100; i++) {
    vc_log(VC_LOG_INFO, VC_EVENT("test.left"), VC_INT("i", i));
  }
  vc_log_stop();
  for (int i = 0; i < 100; i++) {
    char expected[64];
    snprintf(expected, sizeof expected, "level=info event=test.left i=%d", i);
    assert_string_equal(read_rest(rig), expected);
  }
}

static void *write_lines(void *context)
{
  for (int i = 0; i < 200; i++) {
    vc_log(VC_LOG_INFO, VC_EVENT("test.threads"), VC_INT("i", i));
  }
  return NULL;
}

static void test_many_threads(void **state)
{
  struct rig *rig = *state;
  pthread_t threads[4];
  start(rig, 0, VC_LOG_INFO);
  for (size_t i = 0; i < 4; i++) {
    assert_int_equal(pthread_create(&threads[i], NULL, write_lines, NULL), 0);
  }
  for (int i = 0; i < 800; i++) {
    assert_memory_equal(read_rest(rig), "level=info event=test.threads i=", 32);
  }
  for (size_t i = 0; i < 4; i++) {
    pthread_join(threads[i], NULL);
  }
}

static void test_limit(void **state)
{
  struct vc_log_limit limit = {0};
  uint64_t n_left_out = 99;
  uint64_t second = UINT64_C(1000000000);
  assert_int_equal(vc_log_limit_pass(&limit, 5 * second, 1000, &n_left_out), 1);
  assert_int_equal(n_left_out, 0);
  assert_int_equal(vc_log_limit_pass(&limit, 5 * second + 1, 1000, &n_left_out), 0);
  assert_int_equal(vc_log_limit_pass(&limit, 6 * second - 1, 1000, &n_left_out), 0);
  assert_int_equal(vc_log_limit_pass(&limit, 6 * second, 1000, &n_left_out), 1);
  assert_int_equal(n_left_out, 2);
  assert_int_equal(vc_log_limit_pass(&limit, 9 * second, 1000, &n_left_out), 1);
  assert_int_equal(n_left_out, 0);
}

#define LOG_TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
  const struct CMUnitTest tests[] = {
      LOG_TEST(test_fields),
      LOG_TEST(test_levels),
      LOG_TEST(test_json),
      LOG_TEST(test_nothing_is_forged),
      LOG_TEST(test_long_values),
      LOG_TEST(test_full_pipe),
      LOG_TEST(test_many_threads),
      LOG_TEST(test_stop_writes_what_is_left),
      LOG_TEST(test_stop_with_full_pipe),
      cmocka_unit_test(test_limit),
  };
  return cmocka_run_group_tests_name("base/log", tests, NULL, NULL);
}
