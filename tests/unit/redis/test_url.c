// Which texts name a Redis, and what they are refused for.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <verbacast/redis.h>

#include "room.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static void test_accepted(void **state)
{
  static const struct {
    const char *text, *host, *user, *password, *shown;
    int port, database;
  } rows[] = {
      {"redis://localhost", "localhost", "", "", "localhost:6379", 6379, 0},
      {"redis://Redis.example:6380/", "redis.example", "", "", "redis.example:6380", 6380, 0},
      {"redis://:s3cret@h/3", "h", "", "s3cret", "h:6379", 6379, 3},
      {"redis://anna:a%40b%3Ac@h:1/1023", "h", "anna", "a@b:c", "h:1", 1, 1023},
      {"redis://[::1]:7000/0", "::1", "", "", "[::1]:7000", 7000, 0},
      {"REDIS://h", "h", "", "", "h:6379", 6379, 0},
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    struct redis_address address;
    assert_int_equal(redis_address_parse(rows[i].text, &address, NULL), 0);
    assert_string_equal(address.host, rows[i].host);
    assert_int_equal(address.port, rows[i].port);
    assert_string_equal(address.user, rows[i].user);
    assert_string_equal(address.password, rows[i].password);
    assert_int_equal(address.database, rows[i].database);
    assert_string_equal(address.shown, rows[i].shown);
    assert_string_equal(address.path, "");
  }
}

static void test_socket(void **state)
{
  struct redis_address address;
  assert_int_equal(redis_address_parse("unix:/run/redis/redis.sock", &address, NULL), 0);
  assert_string_equal(address.path, "/run/redis/redis.sock");
  assert_string_equal(address.host, "");
  assert_string_equal(address.shown, "unix:/run/redis/redis.sock");
}

static void test_refused(void **state)
{
  static const struct {
    const char *text, *why;
  } rows[] = {
      {"localhost:6379", "is no URL"},
      {"redis://", "names no host"},
      {"redis:///1", "names no host"},
      {"redis://h:0", "is no URL"},
      {"redis://h:65536", "is no URL"},
      {"redis://h:6379x", "is no URL"},
      {"redis://h/1024", "no database of 0 to 1023"},
      {"redis://h/-1", "no database of 0 to 1023"},
      {"redis://h/1/2", "no database of 0 to 1023"},
      {"redis://h/one", "no database of 0 to 1023"},
      {"redis://h/00001", "no database of 0 to 1023"},
      {"redis://h/?db=1", "has a '?'"},
      {"redis://anna@h", "a user without a password"},
      {"redis://h%00", "is no URL"},
      {"redis://h ", "is no URL"},
      {"rediss://:hunter2@h", "stunnel"},
      {"http://:hunter2@h", "no scheme that is known"},
      {"unix:redis.sock", "by its whole path"},
      {"unix:", "by its whole path"},
      {"unix:/0123456789012345678901234567890123456789012345678901234567890123456789012345678901234"
       "56789012345678901234567890123",
       "of which a path can have 107"},
      {"@/nowhere/at/all", "cannot be read"},
      {"@/dev/null", "without a first line"},
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    struct redis_address address;
    struct vc_error error = {.text = ""};
    assert_int_equal(redis_address_parse(rows[i].text, &address, &error), -1);
    if (strstr(error.text, rows[i].why) == NULL) {
      fail_msg("%s: %s", rows[i].text, error.text);
    }
    assert_null(strstr(error.text, "hunter2"));
  }
}

static void test_file(void **state)
{
  char path[] = "/tmp/vc-redis-XXXXXX", text[64];
  int fd = mkstemp(path);
  assert_true(fd >= 0);
  static const char line[] = "redis://:hunter2@h/2\r\nnot this\n";
  assert_int_equal(write(fd, line, sizeof line - 1), sizeof line - 1);
  close(fd);
  snprintf(text, sizeof text, "@%s", path);
  struct redis_address address;
  assert_int_equal(redis_address_parse(text, &address, NULL), 0);
  unlink(path);
  assert_string_equal(address.password, "hunter2");
  assert_int_equal(address.database, 2);
  assert_null(strstr(address.shown, "hunter2"));
}

static enum vc_options_outcome parse_option(const char *flag, const char *value,
                                            struct vc_error *error)
{
  char program[] = "verbacast", name[32], text[128];
  snprintf(name, sizeof name, "%s", flag);
  snprintf(text, sizeof text, "%s", value);
  char *argv[] = {program, name, text, NULL};
  char *const environment[] = {NULL};
  struct vc_redis_options options;
  struct vc_option_group group = {"Redis", vc_redis_option_rows, &options};
  struct vc_option_set set = {"verbacast", "", &group, 1, NULL};
  enum vc_options_outcome outcome = vc_options_parse(&set, 3, argv, environment, stderr, error);
  vc_options_free(&set);
  return outcome;
}

// What an operator sees of a URL that is refused names the option, and no password.
static void test_option(void **state)
{
  struct vc_error error = {.text = ""};
  assert_int_equal(parse_option("--redis-url", "redis://:hunter2@h/x", &error), VC_OPTIONS_USAGE);
  assert_non_null(strstr(error.text, "REDIS_URL"));
  assert_non_null(strstr(error.text, "no database"));
  assert_null(strstr(error.text, "hunter2"));
}

static void test_prefix(void **state)
{
  static const struct {
    const char *text;
    int is_good;
  } rows[] = {{"", 1},
              {"vc:", 1},
              {"0123456789012345678901234567890123456789012345678901234567890123", 1},
              {"01234567890123456789012345678901234567890123456789012345678901234", 0},
              {"a b", 0},
              {"\xc3\xa4:", 0}};
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    struct vc_error error;
    assert_int_equal(parse_option("--redis-prefix", rows[i].text, &error),
                     rows[i].is_good ? VC_OPTIONS_RUN : VC_OPTIONS_USAGE);
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_accepted), cmocka_unit_test(test_socket),
      cmocka_unit_test(test_refused),  cmocka_unit_test(test_file),
      cmocka_unit_test(test_option),   cmocka_unit_test(test_prefix),
  };
  return cmocka_run_group_tests_name("redis/url", tests, NULL, NULL);
}
