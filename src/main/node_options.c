#include "node_options.h"

const struct vc_option node_drain_rows[] = {
    {"DRAIN_DELAY_MS", VC_OPTION_INTEGER, offsetof(struct node_options, drain_delay_ms), "2000",
     "ms", 0, 600000,
     .help = "After SIGTERM: how long /readyz answers 404 before publishers are closed."},
    {"DRAIN_TIMEOUT_MS", VC_OPTION_INTEGER, offsetof(struct node_options, drain_timeout_ms), "5000",
     "ms", 0, 600000, .help = "How long the last finals are waited for."},
    VC_OPTION_ROWS_END,
};

void node_option_groups(struct vc_option_group groups[NODE_GROUPS], struct node_options *options,
                        struct vc_program_settings *program)
{
  const struct vc_option_group all[NODE_GROUPS] = {
      {"Publishers", vc_ingest_option_rows, &options->ingest},
      {"Decoding", vc_decode_option_rows, &options->decode},
      {"Speech to text", vc_stt_option_rows, &options->stt},
      {"Sessions and history", vc_ledger_option_rows, &options->ledger},
      {"Viewers", vc_broadcast_option_rows, &options->broadcast},
      {"What is kept", vc_journal_option_rows, &options->journal},
      {"The database", vc_store_option_rows, &options->store},
      {"Batches for the database", vc_store_batch_option_rows, &options->store},
      {"Kafka", vc_kafka_option_rows, &options->kafka},
      {"Partials for Kafka", vc_kafka_partials_option_rows, &options->kafka},
      {"Other nodes", vc_redis_option_rows, &options->redis},
      {"LiveKit", vc_livekit_option_rows, &options->livekit},
      {"HTTP and who may ask", vc_control_option_rows, &options->control},
      {"Shutdown", node_drain_rows, options},
      {"Log", vc_program_options, program},
  };
  for (size_t i = 0; i < NODE_GROUPS; i++) {
    groups[i] = all[i];
  }
}

const struct vc_metric *const node_metric_tables[] = {
    vc_ingest_metrics,         vc_decode_metrics,         vc_stt_metrics,
    vc_ledger_metrics,         vc_broadcast_metrics,      vc_journal_metrics,
    vc_store_metrics,          vc_control_metrics,        vc_stage_metrics,
    vc_kafka_producer_metrics, vc_kafka_partials_metrics, vc_livekit_metrics,
    vc_redis_metrics,
};
const size_t n_node_metric_tables = sizeof node_metric_tables / sizeof *node_metric_tables;
