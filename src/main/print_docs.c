// Prints docs/configuration.md and docs/metrics.md from the rows.
#include <stdio.h>
#include <string.h>

#include <verbacast/sttd.h>

#include "node_options.h"

static void print_stt_configuration(void)
{
  struct vc_sttd_options options = {.listen = NULL};
  struct vc_program_settings program = {.log_level = 0};
  const struct vc_option_group groups[] = {
      {"Speech to text", vc_sttd_option_rows, &options},
      {"Log", vc_program_options, &program},
  };
  const struct vc_option_set set = {
      .program = "verbacast-stt", .summary = VC_STTD_SUMMARY, .groups = groups, .n_groups = 2};
  printf("\n");
  vc_options_print_markdown(&set, stdout);
}

static void print_configuration(void)
{
  struct node_options options = {.drain_delay_ms = 0};
  struct vc_program_settings program = {.log_level = 0};
  struct vc_option_group groups[NODE_GROUPS];
  node_option_groups(groups, &options, &program);
  const struct vc_option_set set = {
      .program = "verbacast", .summary = NODE_SUMMARY, .groups = groups, .n_groups = NODE_GROUPS};
  printf(
      "# Configuration\n\nMade from the option tables; every option is a flag and an environment "
      "variable, the flag wins. A systemd `EnvironmentFile` is the configuration file. A secret "
      "is a text, `@FILE`, or `NEW,OLD` while it is rotated; SIGHUP reads the files again.\n\n");
  vc_options_print_markdown(&set, stdout);
  print_stt_configuration();
}

static void print_metrics(void)
{
  printf(
      "# Metrics\n\nMade from the metric tables. In `/metrics` distributions stand under "
      "`latency`, counters under `counters`, gauges under `gauges`; in Prometheus' text the names "
      "begin with `verbacast_` and have `_` for `.`. Distributions slide over 60 s; `count_total`, "
      "and Prometheus' `_sum` and "
      "`_count`, are since start. Besides: `verbacast_info{node,version}`, "
      "`verbacast_degraded{what}` and, with METRICS_PER_SESSION, "
      "`verbacast_session_clients{session}` and `verbacast_session_broadcast_lag_ms{session}`. "
      "The JSON's form is [schemas/metrics.v1.json](schemas/metrics.v1.json).\n\n");
  vc_metrics_print_markdown(node_metric_tables, n_node_metric_tables, stdout);
  const struct vc_metric *const stt_tables[] = {vc_sttd_metrics, vc_sttd_pool_metrics};
  printf("\n## verbacast-stt\n\n");
  vc_metrics_print_markdown(stt_tables, 2, stdout);
}

int main(int argc, char **argv)
{
  if (argc == 2 && strcmp(argv[1], "configuration") == 0) {
    print_configuration();
  } else if (argc == 2 && strcmp(argv[1], "metrics") == 0) {
    print_metrics();
  } else {
    fprintf(stderr, "print-docs: configuration or metrics\n");
    return VC_EXIT_USAGE;
  }
  return VC_EXIT_OK;
}
