// KAFKA_CONFIG, and the settings that are ours: those on which the promises of docs/kept.md stand.
#include <ctype.h>
#include <errno.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "room.h"

#define FILE_MAX 65536
#define SHOWN_MAX 60
#define UNFIT " \t\r\n\"'" // for a host
#define PEM_BEGIN "-----BEGIN"
#define PEM_END "-----END"

static const char *const suffixes[] = {[VC_KAFKA_TRANSCRIPTS] = "",
                                       [VC_KAFKA_SESSIONS] = ".sessions",
                                       [VC_KAFKA_PARTIAL] = ".partial",
                                       [VC_KAFKA_DEAD] = ".dead"};
#define SUFFIX_MAX 9

#define COMMON                                                                                     \
  {"client.id", "verbacast"}, {"reconnect.backoff.ms", "50"},                                      \
      {"reconnect.backoff.max.ms", "1000"}, {"retry.backoff.ms", "100"},                           \
      {"socket.keepalive.enable", "true"}, {"log.connection.close", "false"},                      \
  {                                                                                                \
    "topic.metadata.refresh.interval.ms", "10000"                                                  \
  }
#define COMMON_FIXED                                                                               \
  {                                                                                                \
    "statistics.interval.ms", "1000"                                                               \
  }

// Without a time-out no record is given up while those behind it go; and where the brokers refuse
// one for good, gapless makes the error fatal, so that those behind it are not stored before it.
const struct kafka_setting kafka_producer_ours[] = {COMMON,
                                                    {"compression.codec", "lz4"},
                                                    {"linger.ms", "5"},
                                                    {"topic.metadata.propagation.max.ms", "2000"},
                                                    {NULL, NULL}};
const struct kafka_setting kafka_producer_fixed[] = {
    COMMON_FIXED,    {"enable.idempotence", "true"}, {"enable.gapless.guarantee", "true"},
    {"acks", "all"}, {"message.timeout.ms", "0"},    {NULL, NULL}};

// A partial is worth something for a moment only; one request at a time keeps their order.
const struct kafka_setting kafka_partials_ours[] = {
    COMMON, {"compression.codec", "lz4"}, {"linger.ms", "5"}, {NULL, NULL}};
const struct kafka_setting kafka_partials_fixed[] = {COMMON_FIXED,
                                                     {"enable.idempotence", "false"},
                                                     {"acks", "1"},
                                                     {"max.in.flight", "1"},
                                                     {"message.timeout.ms", "5000"},
                                                     {"queue.buffering.max.kbytes", "16384"},
                                                     {NULL, NULL}};

// Positions are read from the table at every assignment. All partitions are given up and assigned
// anew when the group changes (range is eager), so that none goes on at a position that another
// member has moved meanwhile; and range gives one member the same partitions of both topics, so
// that a session's begin and its finals meet in one writer.
const struct kafka_setting kafka_consumer_ours[] = {
    COMMON, {"queued.max.messages.kbytes", "16384"}, {"fetch.max.bytes", "8388608"}, {NULL, NULL}};
const struct kafka_setting kafka_consumer_fixed[] = {COMMON_FIXED,
                                                     {"enable.auto.commit", "false"},
                                                     {"enable.auto.offset.store", "false"},
                                                     {"auto.offset.reset", "error"},
                                                     {"isolation.level", "read_committed"},
                                                     {"partition.assignment.strategy", "range"},
                                                     {NULL, NULL}};

static const char *const refused[] = {
    "bootstrap.servers",
    "metadata.broker.list",
    "enable.idempotence",
    "enable.gapless.guarantee",
    "transactional.id",
    "acks",
    "request.required.acks",
    "message.timeout.ms",
    "delivery.timeout.ms",
    "message.send.max.retries",
    "retries",
    "queuing.strategy",
    "enable.auto.commit",
    "auto.commit.enable",
    "enable.auto.offset.store",
    "auto.offset.reset",
    "group.id",
    "isolation.level",
    "partition.assignment.strategy",
    "enable.partition.eof",
    "statistics.interval.ms",
    "plugin.library.paths",
};

// --- the options

// [PROTOCOL://]HOST[:PORT], the host perhaps an address in brackets.
static int check_broker(const char *piece, size_t size)
{
  char text[NI_MAXHOST + 32];
  if (size >= sizeof text) {
    return -1;
  }
  memcpy(text, piece, size);
  text[size] = '\0';
  char *host = strstr(text, "://");
  host = host != NULL ? host + 3 : text;
  char *colon = strrchr(host, ':');
  if (colon == NULL || strchr(colon, ']') != NULL) {
    return host[0] != '\0' && strpbrk(host, UNFIT) == NULL ? 0 : -1;
  }
  *colon = '\0';
  char *end;
  long port = strtol(colon + 1, &end, 10);
  int is_port = isdigit((unsigned char)colon[1]) && *end == '\0' && port >= 1 && port <= 65535;
  return is_port && host[0] != '\0' && strpbrk(host, UNFIT) == NULL ? 0 : -1;
}

static int check_brokers(const char *value, struct vc_error *error)
{
  for (const char *at = value; *value != '\0'; at++) {
    size_t size = strcspn(at, ",");
    if (size == 0 || check_broker(at, size) != 0) {
      return vc_error_set(error, "is no list of brokers");
    }
    at += size;
    if (*at == '\0') {
      break;
    }
  }
  return 0;
}

static int check_topic(const char *value, struct vc_error *error)
{
  static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
  size_t size = strlen(value);
  if (size == 0 || strspn(value, allowed) != size || strcmp(value, ".") == 0 ||
      strcmp(value, "..") == 0) {
    return vc_error_set(error, "is no name of a Kafka topic");
  }
  if (size > VC_KAFKA_TOPIC_MAX - SUFFIX_MAX) {
    return vc_error_set(error, "is too long: with .sessions behind it Kafka takes %d characters",
                        VC_KAFKA_TOPIC_MAX);
  }
  return 0;
}

#define FIELD(name) offsetof(struct vc_kafka_options, name)
const struct vc_option vc_kafka_option_rows[] = {
    {"KAFKA_BROKERS", VC_OPTION_TEXT, FIELD(kafka_brokers), NULL,
     "HOST:PORT, a comma between; empty for none", .check = check_brokers,
     .help = "The brokers asked first for those that there are."},
    {"KAFKA_TOPIC", VC_OPTION_TEXT, FIELD(kafka_topic), "transcripts",
     "a topic's name of letters, digits, '.', '_' and '-', at most 240", .check = check_topic,
     .help = "Topic of the finals; beside it {topic}.sessions, .partial and .dead."},
    {"KAFKA_CONFIG", VC_OPTION_HIDDEN, FIELD(kafka_config), NULL,
     "KEY=VALUE of librdkafka, a comma between or a line each, or @FILE",
     .help = "Further settings of the Kafka client: security.protocol, sasl.*, ssl.*, "
             "compression.codec; what delivery depends on is not to be set. A value with a comma "
             "in it needs lines."},
    VC_OPTION_ROWS_END,
};
const struct vc_option vc_kafka_partials_option_rows[] = {
    {"KAFKA_PARTIALS", VC_OPTION_SWITCH, FIELD(kafka_partials), "0",
     .help = "Partials go to {topic}.partial, as far as the brokers keep up."},
    VC_OPTION_ROWS_END,
};

int kafka_topic_print(char into[VC_KAFKA_TOPIC_MAX + 1], const struct vc_kafka_options *options,
                      enum vc_kafka_topic topic)
{
  return snprintf(into, VC_KAFKA_TOPIC_MAX + 1, "%s%s", options->kafka_topic, suffixes[topic]);
}

// --- KAFKA_CONFIG

static int is_secret(const char *key)
{
  static const char *const marks[] = {"password", "secret", "pem", "oauthbearer.config"};
  for (size_t i = 0; i < sizeof marks / sizeof *marks; i++) {
    if (strstr(key, marks[i]) != NULL) {
      return 1;
    }
  }
  return 0;
}

static char *read_file(const char *path, struct vc_error *error)
{
  FILE *file = fopen(path, "re");
  if (file == NULL) {
    vc_error_set(error, "KAFKA_CONFIG: cannot read '%s': %s", path, strerror(errno));
    return NULL;
  }
  char *text = calloc(1, FILE_MAX + 1);
  size_t n = text != NULL ? fread(text, 1, FILE_MAX + 1, file) : 0;
  int is_bad = text == NULL || ferror(file) || n > FILE_MAX || memchr(text, '\0', n) != NULL;
  fclose(file);
  if (is_bad) {
    vc_error_set(error, "KAFKA_CONFIG: '%s' cannot be read, or is longer than %d bytes or no text",
                 path, FILE_MAX);
    free(text);
    return NULL;
  }
  return text;
}

static int is_open_pem(const char *value)
{
  return value != NULL && strstr(value, PEM_BEGIN) != NULL && strstr(value, PEM_END) == NULL;
}

// One setting, its value as long as the pieces behind it have no key.
struct reader {
  char *at;       // what is not read yet
  char separator; // '\n' or ','
};

static char *take_piece(struct reader *reader)
{
  if (reader->at == NULL) {
    return NULL;
  }
  char *piece = reader->at;
  char *end = strchr(piece, reader->separator);
  reader->at = end != NULL ? end + 1 : NULL;
  if (end != NULL) {
    *end = '\0';
  }
  return piece;
}

static char *trim(char *text)
{
  while (isspace((unsigned char)*text)) {
    text++;
  }
  size_t size = strlen(text);
  while (size > 0 && isspace((unsigned char)text[size - 1])) {
    text[--size] = '\0';
  }
  return text;
}

static int is_continued(const struct reader *reader, const char *value)
{
  if (reader->at == NULL) {
    return 0;
  }
  size_t size = strcspn(reader->at, reader->separator == ',' ? "," : "\n");
  return is_open_pem(value) || (memchr(reader->at, '=', size) == NULL && size > 0 &&
                                reader->at[strspn(reader->at, " \t\r")] != '#');
}

// The separator that ended the piece belongs to the value.
static void join_next(struct reader *reader, char *value)
{
  value[strlen(value)] = reader->separator;
  take_piece(reader);
}

static int is_refused(const char *key)
{
  for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
    if (strcmp(key, refused[i]) == 0) {
      return 1;
    }
  }
  return 0;
}

int kafka_conf_set(rd_kafka_conf_t *conf, const char *key, const char *value,
                   struct vc_error *error)
{
  char why[256];
  if (rd_kafka_conf_set(conf, key, value, why, sizeof why) == RD_KAFKA_CONF_OK) {
    return 0;
  }
  return vc_error_set(error, "%s='%.*s': %s", key, SHOWN_MAX, is_secret(key) ? "***" : value, why);
}

// `before`: the key of the setting before, whose value may go on behind a comma.
static int set_pair(rd_kafka_conf_t *conf, const char *key, const char *value, const char *before,
                    struct vc_error *error)
{
  struct vc_error why;
  if (is_refused(key)) {
    return vc_error_set(
        error, "KAFKA_CONFIG: %s is not to be set: it is ours, delivery depends on it", key);
  }
  // Sessions keep their order within a partition.
  if (strcmp(key, "partitioner") == 0 && strcmp(value, "random") == 0) {
    return vc_error_set(error, "KAFKA_CONFIG: partitioner=random would break a session's order");
  }
  if (kafka_conf_set(conf, key, value, &why) == 0) {
    return 0;
  }
  return before != NULL && is_secret(before)
             ? vc_error_set(error,
                            "KAFKA_CONFIG: what is behind %s is refused; a value with a "
                            "comma in it needs a line for each setting",
                            before)
             : vc_error_set(error, "KAFKA_CONFIG: %.480s", why.text);
}

static int set_pairs(rd_kafka_conf_t *conf, char *text, struct vc_error *error)
{
  struct reader reader = {.at = text, .separator = strchr(text, '\n') != NULL ? '\n' : ','};
  const char *before = NULL;
  for (char *piece; (piece = take_piece(&reader)) != NULL;) {
    char *value = strchr(piece, '=');
    while (value != NULL && is_continued(&reader, value)) {
      join_next(&reader, value);
    }
    char *key = trim(piece);
    if (key[0] == '\0' || key[0] == '#') {
      continue;
    }
    if (value == NULL || value == key) {
      return vc_error_set(error, "KAFKA_CONFIG: it has to begin with KEY=");
    }
    *value = '\0';
    key = trim(key);
    if (set_pair(conf, key, trim(value + 1), before, error) != 0) {
      return -1;
    }
    before = key;
  }
  return 0;
}

static int set_config(rd_kafka_conf_t *conf, const char *config, struct vc_error *error)
{
  char *text = config[0] == '@' ? read_file(config + 1, error) : strndup(config, strlen(config));
  if (text == NULL) {
    return config[0] == '@' ? -1 : vc_error_set(error, "kafka: no memory");
  }
  int status = set_pairs(conf, text, error);
  explicit_bzero(text, strlen(text));
  free(text);
  return status;
}

static int set_ours(rd_kafka_conf_t *conf, const struct kafka_setting *settings,
                    struct vc_error *error)
{
  for (; settings->key != NULL; settings++) {
    if (kafka_conf_set(conf, settings->key, settings->value, error) != 0) {
      return -1;
    }
  }
  return 0;
}

rd_kafka_conf_t *kafka_conf_create(const struct vc_kafka_options *options, const char *brokers,
                                   const struct kafka_setting *ours,
                                   const struct kafka_setting *fixed, struct vc_error *error)
{
  rd_kafka_conf_t *conf = rd_kafka_conf_new();
  if (set_ours(conf, ours, error) != 0 || set_config(conf, options->kafka_config, error) != 0 ||
      set_ours(conf, fixed, error) != 0 ||
      (brokers != NULL && kafka_conf_set(conf, "bootstrap.servers", brokers, error) != 0)) {
    rd_kafka_conf_destroy(conf);
    return NULL;
  }
  return conf;
}

const char *kafka_shown(const char *reason)
{
  return strstr(reason, "oauthbearer.config") != NULL ? "sasl.oauthbearer.config is refused"
                                                      : reason;
}

rd_kafka_t *kafka_new(rd_kafka_type_t type, rd_kafka_conf_t *conf, struct vc_error *error)
{
  char why[400];
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  rd_kafka_t *handle = rd_kafka_new(type, conf, why, sizeof why);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  if (handle == NULL) {
    rd_kafka_conf_destroy(conf);
    vc_error_set(error, "kafka: %s", kafka_shown(why));
  }
  return handle;
}

static int check_type(const struct vc_kafka_options *options, rd_kafka_type_t type,
                      const struct kafka_setting *ours, const struct kafka_setting *fixed,
                      struct vc_error *error)
{
  rd_kafka_conf_t *conf = kafka_conf_create(options, NULL, ours, fixed, error);
  if (conf == NULL) {
    return -1;
  }
  if (type == RD_KAFKA_CONSUMER && kafka_conf_set(conf, "group.id", "verbacast", error) != 0) {
    rd_kafka_conf_destroy(conf);
    return -1;
  }
  rd_kafka_conf_set_log_cb(conf, NULL);
  rd_kafka_t *handle = kafka_new(type, conf, error);
  if (handle == NULL) {
    return -1;
  }
  rd_kafka_destroy(handle);
  return 0;
}

int vc_kafka_check(const struct vc_kafka_options *options, struct vc_error *error)
{
  return check_type(options, RD_KAFKA_PRODUCER, kafka_producer_ours, kafka_producer_fixed, error) !=
                     0 ||
                 check_type(options, RD_KAFKA_PRODUCER, kafka_partials_ours, kafka_partials_fixed,
                            error) != 0 ||
                 check_type(options, RD_KAFKA_CONSUMER, kafka_consumer_ours, kafka_consumer_fixed,
                            error) != 0
             ? -1
             : 0;
}
