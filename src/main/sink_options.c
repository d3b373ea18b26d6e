#include "sink_options.h"

#include <verbacast/base/address.h>
#include <verbacast/net/front.h>

#include <string.h>

#include "sink.h"
#include "sink_door.h"

#define GROUP_MAX 249

static int check_listen(const char *value, struct vc_error *error)
{
  struct vc_address address;
  return vc_listen_parse(value, &address, error);
}

static int check_group(const char *value, struct vc_error *error)
{
  size_t n = strlen(value);
  return n > 0 && n <= GROUP_MAX ? 0 : vc_error_set(error, "is empty or too long");
}

#define FIELD(name) offsetof(struct sink_options, name)
const struct vc_option sink_consumer_rows[] = {
    {"KAFKA_GROUP", VC_OPTION_TEXT, FIELD(kafka_group), "verbacast-sink", "1 to 249 characters",
     .check = check_group,
     .help = "The consumer group, among whose sinks the partitions are shared out; its positions "
             "stand in the database."},
    {"RESET_OFFSETS", VC_OPTION_SWITCH, FIELD(reset_offsets), "0",
     .help = "At the start, forget the group's positions and begin at the first records there are: "
             "after the brokers have lost records, or for another cluster."},
    VC_OPTION_ROWS_END,
};

const struct vc_option sink_database_rows[] = {
    {"DATABASE_URL", VC_OPTION_TEXT, FIELD(store.database_url), "", "sqlite:PATH or postgresql://…",
     .check = vc_store_check_url, .help = "Where the records go; needed."},
    VC_OPTION_ROWS_END,
};

const struct vc_option sink_door_rows[] = {
    {"SINK_LISTEN", VC_OPTION_TEXT, FIELD(sink_listen), "127.0.0.1:3001", "HOST:PORT",
     .check = check_listen, .help = "HTTP for operators: /healthz, /readyz and /metrics."},
    {"ADMIN_TOKEN", VC_OPTION_SECRET, FIELD(admin_token),
     .help = "Bearer token for /metrics from anywhere but this machine."},
    {"INSECURE", VC_OPTION_SWITCH, FIELD(insecure), "0",
     .help = "Serve off loopback, or behind a proxy, without ADMIN_TOKEN: everybody may read."},
    VC_OPTION_ROWS_END,
};

void sink_option_groups(struct vc_option_group groups[SINK_GROUPS], struct sink_options *options,
                        struct vc_program_settings *program)
{
  groups[0] = (struct vc_option_group){"Kafka", vc_kafka_option_rows, &options->kafka};
  groups[1] = (struct vc_option_group){"The group", sink_consumer_rows, options};
  groups[2] = (struct vc_option_group){"The database", sink_database_rows, options};
  groups[3] = (struct vc_option_group){"Batches for the database", vc_store_batch_option_rows,
                                       &options->store};
  groups[4] = (struct vc_option_group){"HTTP and who may ask", sink_door_rows, options};
  groups[5] = (struct vc_option_group){"Log", vc_program_options, program};
}

const struct vc_metric *const sink_metric_tables[] = {
    sink_metrics,      vc_store_metrics, vc_kafka_consumer_metrics, vc_kafka_producer_metrics,
    sink_door_metrics,
};
const size_t n_sink_metric_tables = sizeof sink_metric_tables / sizeof *sink_metric_tables;

int sink_options_demand(const struct sink_options *options, struct vc_error *error)
{
  if (options->kafka.kafka_brokers[0] == '\0') {
    return vc_error_set(error, "KAFKA_BROKERS (--kafka-brokers) is not set; allowed: HOST:PORT, or "
                               "a comma list of them");
  }
  if (options->store.database_url[0] == '\0') {
    return vc_error_set(error, "DATABASE_URL (--database-url) is not set; allowed: sqlite:PATH or "
                               "postgresql://…");
  }
  return 0;
}

static int check_door(const struct sink_options *options, struct vc_error *error)
{
  struct vc_address address;
  struct vc_error why;
  if (vc_front_check(options->sink_listen, &why) != 0 ||
      vc_listen_parse(options->sink_listen, &address, &why) != 0) {
    return vc_error_set(error, "SINK_LISTEN: %s", why.text);
  }
  return vc_address_is_loopback(&address) || options->insecure ||
                 vc_secret_is_set(options->admin_token)
             ? 0
             : vc_error_set(error,
                            "SINK_LISTEN=%s is not loopback and ADMIN_TOKEN is not set: set it, or "
                            "say --insecure if everybody may",
                            options->sink_listen);
}

int sink_options_check(const struct sink_options *options, struct vc_error *error)
{
  return vc_kafka_check(&options->kafka, error) != 0 ? -1 : check_door(options, error);
}
