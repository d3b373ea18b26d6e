// A Kafka cluster as a process of its own, librdkafka's mock, for scenarios where no real broker
// can be had: kafka_mock [BROKERS]. It prints `brokers=HOST:PORT,…`, then does what lines on its
// standard input say and answers each with `ok` or `error: …`:
//
//   topic NAME PARTITIONS      makes a topic
//   down [ID]  up [ID]         a broker, or all
//   rtt MS [ID]                how long answers take
//   fail API CODE [N]          the next N answers to such requests, by Kafka's numbers: API 0 is
//                              produce, 1 fetch
//   heal API                   no more of them
//   topic-error NAME CODE      what is said of the topic; 0: nothing
//   quit                       and the end of the input does the same
//
// It keeps the newest records only (5 MB a partition) and forgets all with its end.
#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BROKERS_MAX 9
#define LINE_MAX_BYTES 512
#define ERRORS_MAX 100000

struct mock {
  rd_kafka_mock_cluster_t *cluster;
  int n_brokers;
};

// Does it to one broker, or to all when `id` is 0. Returns: 0 or an error.
static rd_kafka_resp_err_t each(const struct mock *mock, int id,
                                rd_kafka_resp_err_t (*change)(rd_kafka_mock_cluster_t *, int32_t))
{
  rd_kafka_resp_err_t code = RD_KAFKA_RESP_ERR_NO_ERROR;
  for (int i = id > 0 ? id : 1; i <= (id > 0 ? id : mock->n_brokers); i++) {
    rd_kafka_resp_err_t one = change(mock->cluster, i);
    code = one != RD_KAFKA_RESP_ERR_NO_ERROR ? one : code;
  }
  return code;
}

static rd_kafka_resp_err_t set_rtt(const struct mock *mock, int id, int rtt_ms)
{
  rd_kafka_resp_err_t code = RD_KAFKA_RESP_ERR_NO_ERROR;
  for (int i = id > 0 ? id : 1; i <= (id > 0 ? id : mock->n_brokers); i++) {
    rd_kafka_resp_err_t one = rd_kafka_mock_broker_set_rtt(mock->cluster, i, rtt_ms);
    code = one != RD_KAFKA_RESP_ERR_NO_ERROR ? one : code;
  }
  return code;
}

static rd_kafka_resp_err_t push_errors(const struct mock *mock, int api, int code, int n)
{
  if (n < 1 || n > ERRORS_MAX) {
    return RD_KAFKA_RESP_ERR__INVALID_ARG;
  }
  for (int i = 0; i < n; i++) {
    rd_kafka_mock_push_request_errors(mock->cluster, (int16_t)api, 1, (rd_kafka_resp_err_t)code);
  }
  return RD_KAFKA_RESP_ERR_NO_ERROR;
}

// Words of one line. A number that is missing is 0.
struct command {
  const char *words[4];
  int numbers[4];
  int n;
};

static struct command read_command(char *line)
{
  struct command command = {.n = 0};
  char *rest = NULL;
  for (char *word = strtok_r(line, " \n", &rest); word != NULL && command.n < 4;
       word = strtok_r(NULL, " \n", &rest)) {
    command.words[command.n] = word;
    command.numbers[command.n++] = (int)strtol(word, NULL, 10);
  }
  return command;
}

static rd_kafka_resp_err_t run(const struct mock *mock, const struct command *command)
{
  const int *numbers = command->numbers;
  const char *what = command->n > 0 ? command->words[0] : "";
  if (strcmp(what, "topic") == 0 && command->n == 3) {
    return rd_kafka_mock_topic_create(mock->cluster, command->words[1], numbers[2],
                                      mock->n_brokers);
  }
  if (strcmp(what, "down") == 0) {
    return each(mock, numbers[1], rd_kafka_mock_broker_set_down);
  }
  if (strcmp(what, "up") == 0) {
    return each(mock, numbers[1], rd_kafka_mock_broker_set_up);
  }
  if (strcmp(what, "rtt") == 0 && command->n > 1) {
    return set_rtt(mock, numbers[2], numbers[1]);
  }
  if (strcmp(what, "fail") == 0 && command->n > 2) {
    return push_errors(mock, numbers[1], numbers[2], command->n > 3 ? numbers[3] : 1);
  }
  if (strcmp(what, "heal") == 0 && command->n > 1) {
    rd_kafka_mock_clear_request_errors(mock->cluster, (int16_t)numbers[1]);
    return RD_KAFKA_RESP_ERR_NO_ERROR;
  }
  if (strcmp(what, "topic-error") == 0 && command->n == 3) {
    rd_kafka_mock_topic_set_error(mock->cluster, command->words[1],
                                  (rd_kafka_resp_err_t)numbers[2]);
    return RD_KAFKA_RESP_ERR_NO_ERROR;
  }
  return RD_KAFKA_RESP_ERR__INVALID_ARG;
}

static void serve(const struct mock *mock)
{
  char line[LINE_MAX_BYTES];
  while (fgets(line, sizeof line, stdin) != NULL && strcmp(line, "quit\n") != 0) {
    struct command command = read_command(line);
    rd_kafka_resp_err_t code = run(mock, &command);
    if (code == RD_KAFKA_RESP_ERR_NO_ERROR) {
      puts("ok");
    } else {
      puts(rd_kafka_err2str(code));
    }
    fflush(stdout);
  }
}

int main(int argc, char **argv)
{
  char why[256] = "1 to 9 brokers";
  struct mock mock = {.n_brokers = argc > 1 ? (int)strtol(argv[1], NULL, 10) : 1};
  rd_kafka_t *host = NULL;
  if (mock.n_brokers >= 1 && mock.n_brokers <= BROKERS_MAX) {
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_conf_set_log_cb(conf, NULL);
    host = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof why);
  }
  mock.cluster = host != NULL ? rd_kafka_mock_cluster_new(host, mock.n_brokers) : NULL;
  if (mock.cluster == NULL) {
    fprintf(stderr, "kafka_mock: %s\n", host == NULL ? why : "no cluster");
    return EXIT_FAILURE;
  }
  printf("BROKERS=%s\n", rd_kafka_mock_cluster_bootstraps(mock.cluster));
  fflush(stdout);
  serve(&mock);
  rd_kafka_mock_cluster_destroy(mock.cluster);
  rd_kafka_destroy(host);
  return EXIT_SUCCESS;
}
