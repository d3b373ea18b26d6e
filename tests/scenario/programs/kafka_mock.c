// librdkafka's mock cluster as a process of its own: prints "BROKERS=…", then takes commands on
// stdin, a line each, and answers "ok" or what is wrong. The end of stdin ends it.
//
//   topic NAME PARTITIONS | down ID | up ID
//   fail API CODE COUNT      the next requests of that kind get that error (0 produce, 1 fetch)
//   heal API                 no more
#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static rd_kafka_resp_err_t obey(rd_kafka_mock_cluster_t *cluster, const char *line)
{
  char name[256];
  int a, b, c;
  if (sscanf(line, "topic %255s %d", name, &a) == 2) {
    return rd_kafka_mock_topic_create(cluster, name, a, 1);
  }
  if (sscanf(line, "down %d", &a) == 1) {
    return rd_kafka_mock_broker_set_down(cluster, a);
  }
  if (sscanf(line, "up %d", &a) == 1) {
    return rd_kafka_mock_broker_set_up(cluster, a);
  }
  if (sscanf(line, "fail %d %d %d", &a, &b, &c) == 3) {
    while (c-- > 0) {
      rd_kafka_mock_push_request_errors(cluster, (int16_t)a, 1, b);
    }
    return RD_KAFKA_RESP_ERR_NO_ERROR;
  }
  if (sscanf(line, "heal %d", &a) == 1) {
    rd_kafka_mock_clear_request_errors(cluster, (int16_t)a);
    return RD_KAFKA_RESP_ERR_NO_ERROR;
  }
  return RD_KAFKA_RESP_ERR__INVALID_ARG;
}

static void serve(rd_kafka_mock_cluster_t *cluster)
{
  char line[512];
  printf("BROKERS=%s\n", rd_kafka_mock_cluster_bootstraps(cluster));
  fflush(stdout);
  while (fgets(line, sizeof line, stdin) != NULL) {
    rd_kafka_resp_err_t code = obey(cluster, line);
    puts(code == RD_KAFKA_RESP_ERR_NO_ERROR ? "ok" : rd_kafka_err2str(code));
    fflush(stdout);
  }
}

int main(int argc, char **argv)
{
  char why[256];
  int n_brokers = argc > 1 ? (int)strtol(argv[1], NULL, 10) : 1;
  rd_kafka_t *handle = rd_kafka_new(RD_KAFKA_PRODUCER, rd_kafka_conf_new(), why, sizeof why);
  rd_kafka_mock_cluster_t *cluster =
      handle != NULL ? rd_kafka_mock_cluster_new(handle, n_brokers) : NULL;
  if (cluster == NULL) {
    fprintf(stderr, "kafka_mock: no cluster\n");
    return 1;
  }
  serve(cluster);
  rd_kafka_mock_cluster_destroy(cluster);
  rd_kafka_destroy(handle);
  return 0;
}
