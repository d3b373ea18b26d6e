// Prints docs/configuration.md, docs/metrics.md and the manual pages from the rows.
#include <stdio.h>
#include <string.h>

#include <verbacast/sttd.h>

#include <bench_options.h>

#include "node_options.h"
#include "print_man.h"
#include "sink_options.h"

struct sets {
  struct node_options node_options;
  struct vc_sttd_options stt_options;
  struct sink_options sink_options;
  struct vc_program_settings program;
  struct bench_options bench_options;
  struct vc_option_group node_groups[NODE_GROUPS], stt_groups[2];
  struct vc_option_group sink_groups[SINK_GROUPS], bench_groups[1];
  struct vc_option_set node, stt, sink, bench;
};

static void make_sets(struct sets *sets)
{
  memset(sets, 0, sizeof *sets);
  node_option_groups(sets->node_groups, &sets->node_options, &sets->program);
  sets->stt_groups[0] =
      (struct vc_option_group){"Speech to text", vc_sttd_option_rows, &sets->stt_options};
  sets->stt_groups[1] = (struct vc_option_group){"Log", vc_program_options, &sets->program};
  sets->node = (struct vc_option_set){.program = "verbacast",
                                      .summary = NODE_SUMMARY,
                                      .groups = sets->node_groups,
                                      .n_groups = NODE_GROUPS};
  sets->stt = (struct vc_option_set){.program = "verbacast-stt",
                                     .summary = VC_STTD_SUMMARY,
                                     .groups = sets->stt_groups,
                                     .n_groups = 2};
  sink_option_groups(sets->sink_groups, &sets->sink_options, &sets->program);
  sets->sink = (struct vc_option_set){.program = "verbacast-sink",
                                      .summary = SINK_SUMMARY,
                                      .groups = sets->sink_groups,
                                      .n_groups = SINK_GROUPS};
  sets->bench_groups[0] =
      (struct vc_option_group){"Bench", bench_option_rows, &sets->bench_options};
  sets->bench = (struct vc_option_set){.program = "verbacast-bench",
                                       .summary = BENCH_SUMMARY,
                                       .groups = sets->bench_groups,
                                       .n_groups = 1};
}

static void print_configuration(const struct sets *sets)
{
  printf(
      "# Configuration\n\nMade from the option tables; every option is a flag and an environment "
      "variable, the flag wins. A systemd `EnvironmentFile` is the configuration file. A secret "
      "is a text, `@FILE`, or `NEW,OLD` while it is rotated; SIGHUP reads the files again.\n\n");
  vc_options_print_markdown(&sets->node, stdout);
  printf("\n");
  vc_options_print_markdown(&sets->stt, stdout);
  printf("\n");
  vc_options_print_markdown(&sets->sink, stdout);
  printf("\n");
  vc_options_print_markdown(&sets->bench, stdout);
}

static void print_metrics(const struct sets *sets)
{
  printf(
      "# Metrics\n\nMade from the metric tables. In `/metrics` distributions stand under "
      "`latency`, counters under `counters`, gauges under `gauges`; in Prometheus' text the names "
      "begin with `verbacast_` and have `_` for `.`. Distributions slide over 60 s; "
      "`count_total`, and Prometheus' `_sum` and "
      "`_count`, are since start. Besides: `verbacast_info{node,version}`, "
      "`verbacast_degraded{what}`, `verbacast_stuck{worker}`, `verbacast_draining` and, with "
      "METRICS_PER_SESSION, "
      "`verbacast_session_clients{session}` and `verbacast_session_broadcast_lag_ms{session}`: "
      "these two are left out when a worker does not answer in time, where the JSON is refused "
      "with 503. "
      "The JSON's form is [schemas/metrics.v1.json](schemas/metrics.v1.json).\n\n");
  vc_metrics_print_markdown(node_metric_tables, n_node_metric_tables, stdout);
  const struct vc_metric *const stt_tables[] = {vc_sttd_metrics, vc_sttd_pool_metrics};
  printf("\n## verbacast-stt\n\n");
  vc_metrics_print_markdown(stt_tables, 2, stdout);
  printf("\n## verbacast-sink\n\n");
  vc_metrics_print_markdown(sink_metric_tables, n_sink_metric_tables, stdout);
}

static void print_node_man(const struct sets *sets)
{
  static const char *const about[] = {
      "Publishers send sound by RTMP to rtmp://HOST:1937/live/{session}; it is decoded and sent to "
      "a speech-to-text service that speaks the Gladia Live v2 protocol. Viewers read the words by "
      "WebSocket at ws://HOST:3000/live/{session}, or on the page at http://HOST:3000/.",
      "Finals go through a durable journal into a database and can be asked for at "
      "/sessions/{session}/transcript.json, .txt, .srt and .vtt. /healthz, /readyz and /metrics "
      "tell how the node is.",
      "A listener off loopback needs its secret, or --insecure.",
      NULL,
  };
  static const char *const files[] = {
      "/etc/verbacast/verbacast.env",
      "The configuration, NAME=value, when systemd starts it.",
      "/var/lib/verbacast",
      "Journal and database, when systemd starts it.",
      NULL,
  };
  const struct man_page page = {
      .set = &sets->node,
      .name = "live-transcription node",
      .about = about,
      .file_rows = files,
      .example = "STT_URL=https://api.gladia.io/v2/live GLADIA_API_KEY=@/etc/verbacast/gladia-key "
                 "verbacast --stt-languages en,de",
      .see_also = "verbacast-stt",
      .is_server = 1,
  };
  print_man(&page, stdout);
}

static void print_stt_man(const struct sets *sets)
{
  static const char *const about[] = {
      "A speech-to-text server for one machine that speaks the Gladia Live v2 protocol, so that "
      "verbacast needs no cloud key: POST /v2/live opens a session, its WebSocket takes PCM sound "
      "and gives partials and finals.",
      "/healthz, /readyz and /metrics tell how it is.",
      NULL,
  };
  static const char *const files[] = {
      "/etc/verbacast/verbacast-stt.env",
      "The configuration, NAME=value, when systemd starts it.",
      NULL,
  };
  const struct man_page page = {
      .set = &sets->stt,
      .name = "local speech-to-text server",
      .about = about,
      .file_rows = files,
      .example = "verbacast-stt --stt-listen 127.0.0.1:4100 --stt-max-sessions 8",
      .see_also = "verbacast",
      .is_server = 1,
  };
  print_man(&page, stdout);
}

static void print_sink_man(const struct sets *sets)
{
  static const char *const about[] = {
      "Reads the topics that the nodes write, KAFKA_TOPIC and KAFKA_TOPIC.sessions, as a member of "
      "a consumer group, and writes the records into the database in batches. Rows and the "
      "positions that they lead to are one transaction, and consuming begins at the positions in "
      "the database: whatever dies, each record is there once. Any number of sinks may share the "
      "work.",
      "What the database cannot keep goes to KAFKA_TOPIC.dead with the reason. While the database "
      "is away nothing is consumed, and nothing is lost.",
      "/healthz, /readyz and /metrics at SINK_LISTEN tell how it is. A listener off loopback needs "
      "ADMIN_TOKEN, or --insecure.",
      NULL,
  };
  static const char *const files[] = {
      "/etc/verbacast/verbacast-sink.env",
      "The configuration, NAME=value, when systemd starts it.",
      "/var/lib/verbacast-sink",
      "The database, when systemd starts it and DATABASE_URL names a file there.",
      NULL,
  };
  const struct man_page page = {
      .set = &sets->sink,
      .name = "from Kafka into the database, each record once",
      .about = about,
      .file_rows = files,
      .example = "verbacast-sink --kafka-brokers kafka:9092 --database-url "
                 "postgresql://verbacast@db/verbacast",
      .see_also = "verbacast",
      .is_server = 1,
  };
  print_man(&page, stdout);
}

static void print_bench_man(const struct sets *sets)
{
  static const char *const about[] = {
      "Drives real load at a node and at other systems in turn, measures both ends with one clock "
      "and prints medians over rounds with their spread. It exits with 1 when the load itself was "
      "late, for then the figures cannot be believed.",
      "The first argument is the mode. ingest: publishers of real AAC, from the RTMP message to "
      "the PCM at the speech-to-text service. fanout: viewers, from a message being said to its "
      "receipt. pipeline: both at once, from sound to words. rejoin: all viewers of a session come "
      "back at once. sink: finals through Kafka into PostgreSQL. send-loop: a server that calls "
      "send() in a loop, as a peer of fanout. gather-loop: the same, with one send() a viewer for "
      "all messages that came together.",
      NULL,
  };
  static const char *const files[] = {NULL};
  const struct man_page page = {
      .set = &sets->bench,
      .name = "load and latency of a live-transcription node",
      .argument = "MODE",
      .about = about,
      .file_rows = files,
      .example = "verbacast-bench ingest --bench-audio speech.aac --bench-counts 1,25,100",
      .see_also = "verbacast",
  };
  print_man(&page, stdout);
}

int main(int argc, char **argv)
{
  static const struct {
    const char *name;
    void (*print)(const struct sets *sets);
  } documents[] = {{"configuration", print_configuration}, {"metrics", print_metrics},
                   {"verbacast.8", print_node_man},        {"verbacast-stt.8", print_stt_man},
                   {"verbacast-sink.8", print_sink_man},   {"verbacast-bench.8", print_bench_man}};
  struct sets sets;
  make_sets(&sets);
  for (size_t i = 0; i < sizeof documents / sizeof *documents; i++) {
    if (argc == 2 && strcmp(argv[1], documents[i].name) == 0) {
      documents[i].print(&sets);
      return VC_EXIT_OK;
    }
  }
  fprintf(stderr, "print-docs: configuration, metrics, verbacast.8, verbacast-stt.8, "
                  "verbacast-sink.8 or verbacast-bench.8\n");
  return VC_EXIT_USAGE;
}
