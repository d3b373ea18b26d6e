// The sink's options: for the program and for the documents made from them.
#pragma once

#include <verbacast/base/options.h>
#include <verbacast/kafka.h>
#include <verbacast/store.h>

#include "program.h"

struct sink_options {
  struct vc_kafka_options kafka;
  struct vc_store_options store;
  const char *kafka_group;
  int reset_offsets;
  const char *sink_listen;
  struct vc_secret *admin_token;
  int insecure;
};

#define SINK_GROUPS 6
#define SINK_SUMMARY                                                                               \
  "Writes what the nodes have sent to Kafka into the database, each record once, in batches."

extern const struct vc_option sink_consumer_rows[]; // beside the Kafka room's
extern const struct vc_option sink_database_rows[]; // beside the store room's batches
extern const struct vc_option sink_door_rows[];
// `groups` get pointers into the two structs.
void sink_option_groups(struct vc_option_group groups[SINK_GROUPS], struct sink_options *options,
                        struct vc_program_settings *program);
extern const struct vc_metric *const sink_metric_tables[];
extern const size_t n_sink_metric_tables;

// What must be said and has no default. Returns: 0, or -1 and the error names it.
int sink_options_demand(const struct sink_options *options, struct vc_error *error);
// What would fail at the start. Returns: 0, or -1 and the error.
int sink_options_check(const struct sink_options *options, struct vc_error *error);
