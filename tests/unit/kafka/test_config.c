// What KAFKA_CONFIG takes, what it refuses and how, and what is shown of it.
#include <verbacast/kafka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static struct vc_error error;

static int check(const char *config)
{
  struct vc_kafka_options options = {
      .kafka_brokers = "127.0.0.1:9", .kafka_topic = "transcripts", .kafka_config = config};
  error.text[0] = '\0';
  return vc_kafka_check(&options, &error);
}

static void refuses(const char *config, const char *part)
{
  assert_int_equal(check(config), -1);
  if (strstr(error.text, part) == NULL) {
    fail_msg("'%s' is not in '%s'", part, error.text);
  }
}

static void test_takes(void **state)
{
  (void)state;
  static const char *const taken[] = {
      "",
      "linger.ms=20",
      "linger.ms=20,compression.codec=zstd",
      " linger.ms = 20 \n\n# a comment\ncompression.codec=zstd\n",
      "security.protocol=sasl_plaintext,sasl.mechanism=PLAIN,sasl.username=u,sasl.password=p",
      "sasl.password=a,b,c,linger.ms=20", // pieces without = belong to the value
      "sasl.password=a,b=c\nlinger.ms=20",
      "partitioner=murmur2_random",
      "debug=broker,topic",
  };
  for (size_t i = 0; i < sizeof taken / sizeof *taken; i++) {
    if (check(taken[i]) != 0) {
      fail_msg("'%s': %s", taken[i], error.text);
    }
  }
}

static void test_refuses_what_is_ours(void **state)
{
  (void)state;
  static const char *const ours[] = {
      "enable.idempotence=false",
      "acks=1",
      "enable.auto.commit=true",
      "group.id=x",
      "retries=3",
      "isolation.level=read_uncommitted",
      "message.timeout.ms=1000",
      "partitioner=random",
      "bootstrap.servers=x:1",
      "auto.offset.reset=latest",
  };
  for (size_t i = 0; i < sizeof ours / sizeof *ours; i++) {
    char key[64];
    snprintf(key, sizeof key, "KAFKA_CONFIG: %.*s", (int)strcspn(ours[i], "="), ours[i]);
    refuses(ours[i], key);
  }
}

static void test_refuses_what_librdkafka_does(void **state)
{
  (void)state;
  refuses("lingerms=20", "No such configuration property");
  refuses("linger.ms=abc", "linger.ms='abc'");
  refuses("linger.ms=-5", "outside allowed range");
  refuses("max.in.flight=50", "max.in.flight");
  refuses("security.protocol=ssl,ssl.ca.location=/nonexistent/ca.pem", "ca");
  refuses("20", "begin with KEY=");
  refuses("=20", "begin with KEY=");
  refuses("@/nonexistent/kafka.conf", "cannot read '/nonexistent/kafka.conf'");
}

static void test_shows_no_secret(void **state)
{
  (void)state;
  refuses("sasl.password=one,hunter2=x", "behind sasl.password");
  assert_null(strstr(error.text, "hunter2"));
  refuses("hunter2", "begin with KEY=");
  assert_null(strstr(error.text, "hunter2"));
  refuses("security.protocol=ssl\nssl.key.pem=-----BEGIN hunter2\nhunter2==\n-----END hunter2", "");
  assert_null(strstr(error.text, "hunter2"));
}

static void test_reads_a_file(void **state)
{
  (void)state;
  char path[] = "/tmp/verbacast-kafka-XXXXXX", config[64];
  int fd = mkstemp(path);
  assert_true(fd >= 0);
  assert_int_equal(dprintf(fd, "# settings\nlinger.ms=20\nacks=1\n"), 31);
  close(fd);
  snprintf(config, sizeof config, "@%s", path);
  refuses(config, "KAFKA_CONFIG: acks");
  unlink(path);
}

// --- the rows

static struct vc_kafka_options options;
static const struct vc_option_group group = {"Kafka", vc_kafka_option_rows, &options};

static enum vc_options_outcome parse(struct vc_option_set *set, const char *setting)
{
  *set = (struct vc_option_set){
      .program = "test", .summary = "Tests.", .groups = &group, .n_groups = 1};
  char *environment[] = {(char *)setting, NULL};
  char *argv[] = {(char *)"test", NULL};
  return vc_options_parse(set, 1, argv, environment, stdout, &error);
}

static int is_taken(const char *setting)
{
  struct vc_option_set set;
  int taken = parse(&set, setting) == VC_OPTIONS_RUN;
  vc_options_free(&set);
  return taken;
}

static void test_brokers(void **state)
{
  (void)state;
  assert_true(is_taken("KAFKA_BROKERS="));
  assert_true(is_taken("KAFKA_BROKERS=a"));
  assert_true(is_taken("KAFKA_BROKERS=a:9092,10.0.0.1:9093,[::1]:9094,[::1],ssl://b:1"));
  assert_false(is_taken("KAFKA_BROKERS=a:9092,"));
  assert_false(is_taken("KAFKA_BROKERS=,a"));
  assert_false(is_taken("KAFKA_BROKERS=a:0"));
  assert_false(is_taken("KAFKA_BROKERS=a:65536"));
  assert_false(is_taken("KAFKA_BROKERS=a:x"));
  assert_false(is_taken("KAFKA_BROKERS=:9092"));
  assert_false(is_taken("KAFKA_BROKERS=a b:9092"));
}

static void test_topic(void **state)
{
  (void)state;
  char longest[256] = "KAFKA_TOPIC=", longer[256];
  size_t begin = strlen(longest);
  memset(longest + begin, 'a', VC_KAFKA_TOPIC_MAX - strlen(".sessions"));
  assert_true(is_taken(longest));
  snprintf(longer, sizeof longer, "%.252sa", longest);
  assert_false(is_taken(longer));
  assert_true(is_taken("KAFKA_TOPIC=a.B_c-1"));
  assert_false(is_taken("KAFKA_TOPIC="));
  assert_false(is_taken("KAFKA_TOPIC=."));
  assert_false(is_taken("KAFKA_TOPIC=.."));
  assert_false(is_taken("KAFKA_TOPIC=a b"));
  assert_false(is_taken("KAFKA_TOPIC=a/b"));
}

static void test_config_is_hidden(void **state)
{
  (void)state;
  struct vc_option_set set;
  char *shown = NULL;
  size_t size = 0;
  assert_int_equal(parse(&set, "KAFKA_CONFIG=sasl.password=hunter2"), VC_OPTIONS_RUN);
  FILE *out = open_memstream(&shown, &size);
  assert_non_null(out);
  vc_options_print_effective(&set, out);
  fclose(out);
  assert_non_null(strstr(shown, "KAFKA_CONFIG=(set) (environment)"));
  assert_null(strstr(shown, "hunter2"));
  free(shown);
  vc_options_free(&set);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_takes),
      cmocka_unit_test(test_refuses_what_is_ours),
      cmocka_unit_test(test_refuses_what_librdkafka_does),
      cmocka_unit_test(test_shows_no_secret),
      cmocka_unit_test(test_reads_a_file),
      cmocka_unit_test(test_brokers),
      cmocka_unit_test(test_topic),
      cmocka_unit_test(test_config_is_hidden),
  };
  return cmocka_run_group_tests_name("kafka/config", tests, NULL, NULL);
}
