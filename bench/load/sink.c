// How many finals a second go into PostgreSQL through Kafka, and with what lag: from the time that
// the node received a final to the commit of its row, as PostgreSQL itself has it.
//
//   speech peer ──finals──▶ node ──▶ journal ──▶ Kafka ──▶ sink ──▶ PostgreSQL
//
// At each rate the same is said to a node whose journal's rows are wanted nowhere: what lies
// between the two is what Kafka costs it. A drain begins with a topic that a node has filled while
// no sink was there.
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "chain.h"

#define LATE_MAX_MS 50.0
#define FILL_PER_S 5000
#define SETTINGS_MAX 8
#define QUEUE_MIN 1000 // rows, BATCH_MAX_QUEUE

struct settings { // of a process's environment
  const char *at[SETTINGS_MAX];
  size_t n;
};

struct ground {
  struct plan *plan;
  struct database *database;
  struct sound sound;
  struct settings node, alone, sink;
};

struct span {
  struct window node;
  double sink_cpu_s;   // 0 without one
  double from_s, to_s; // since 1970
  size_t said_from, said_to;
  double own_latency_ms, own_lag_ms;
};

// --- what the processes are told

__attribute__((format(printf, 2, 3))) static void set(struct settings *settings, const char *format,
                                                      ...)
{
  char *text = NULL;
  va_list arguments;
  va_start(arguments, format);
  if (settings->n + 1 == SETTINGS_MAX || vasprintf(&text, format, arguments) < 0) {
    die("out of memory");
  }
  va_end(arguments);
  settings->at[settings->n++] = text;
  settings->at[settings->n] = NULL;
}

static void settings_fini(struct settings *settings)
{
  for (size_t i = 0; i < settings->n; i++) {
    free((char *)settings->at[i]);
  }
  settings->n = 0;
}

static void set_chain(struct settings *settings, const struct plan *plan)
{
  set(settings, "KAFKA_BROKERS=%s", plan->brokers);
  set(settings, "KAFKA_TOPIC=%s", plan->topic);
  set(settings, "DATABASE_URL=%s", plan->database);
}

static void set_sink(struct settings *settings, const struct plan *plan)
{
  set_chain(settings, plan);
  set(settings, "KAFKA_GROUP=verbacast-bench");
  set(settings, "SINK_LISTEN=127.0.0.1:0");
}

static void check_database(struct database *database)
{
  double is_on;
  database_ask(database, &is_on, 1,
               "SELECT (current_setting('track_commit_timestamp') = 'on')::int");
  if (is_on <= 0) {
    die("BENCH_DATABASE: track_commit_timestamp is off, and without it no row says when it was "
        "committed; set it to on in postgresql.conf and start PostgreSQL anew");
  }
}

// --- a rate

static void observe(struct chain *chain, struct span *span, int has_sink)
{
  uint64_t from_ns = vc_clock_now_ns(&vc_clock_system);
  pace_measure(&chain->pace, from_ns, from_ns + (uint64_t)chain->plan->seconds * VC_NS_PER_S);
  span->from_s = chain_now_s();
  span->said_from = atomic_load(&chain->speech.n_said);
  double before_s = has_sink ? system_cpu_s(chain->sink) : 0;
  window_begin(&span->node, chain->node);
  load_sleep((double)chain->plan->seconds);
  window_end(&span->node);
  span->sink_cpu_s = has_sink ? system_cpu_s(chain->sink) - before_s : 0;
  span->said_to = atomic_load(&chain->speech.n_said);
  span->to_s = chain_now_s();
  span->own_latency_ms = chain_own_latency_ms(chain, "ingest.broadcast_latency_ms");
  span->own_lag_ms = chain_own_latency_ms(chain, "ws.session_broadcast_lag_ms");
}

static void add_rows(const struct chain *chain, const struct span *span, const char *row)
{
  struct report *report = chain->plan->report;
  struct samples lag_ms = {0};
  double n, cpu_s = span->sink_cpu_s;
  database_ask(chain->database, &n, 1,
               "SELECT count(*) FROM transcripts WHERE id > %.0f AND received_at >= "
               "to_timestamp(%.6f) AND pg_xact_commit_timestamp(xmin) BETWEEN to_timestamp(%.6f) "
               "AND to_timestamp(%.6f)",
               chain->base_id, chain->began_s, span->from_s, span->to_s);
  database_ask_column(chain->database, &lag_ms,
                      "SELECT 1000 * extract(epoch FROM pg_xact_commit_timestamp(xmin) - "
                      "received_at) FROM transcripts WHERE id > %.0f AND received_at BETWEEN "
                      "to_timestamp(%.6f) AND to_timestamp(%.6f)",
                      chain->base_id, span->from_s, span->to_s);
  samples_sort(&lag_ms);
  report_add(report, row, "rows/s", FIGURE_PER_S, n / (span->to_s - span->from_s));
  report_add(report, row, "lag p50", FIGURE_MS, samples_part(&lag_ms, 0.5));
  report_add(report, row, "lag p99", FIGURE_MS, samples_part(&lag_ms, 0.99));
  report_add(report, row, "lag max", FIGURE_MS, samples_part(&lag_ms, 1));
  report_add(report, row, "CPU of the sink a row", FIGURE_US, n > 0 ? cpu_s * 1e6 / n : NAN);
  report_add_latency(report, row, &lag_ms);
  samples_fini(&lag_ms);
}

// Of the node. Returns: 1 when the load was late.
static int add_load(struct chain *chain, const struct span *span, const char *row)
{
  struct report *report = chain->plan->report;
  struct samples *delay_ms = &chain->viewing.delay_ms, *late = &chain->speech.lateness_ms;
  double n = (double)(span->said_to - span->said_from);
  double cpu_s = window_cpu_s(&span->node);
  double busy = window_load_part(&span->node);
  samples_sort(delay_ms);
  samples_sort(late);
  double late_ms = samples_part(late, 0.99);
  report_add(report, row, "finals/s", FIGURE_PER_S, n / (span->to_s - span->from_s));
  report_add(report, row, "CPU of the node a final", FIGURE_US, n > 0 ? cpu_s * 1e6 / n : NAN);
  report_add(report, row, "said to viewer p50", FIGURE_MS, samples_part(delay_ms, 0.5));
  report_add(report, row, "said to viewer p99", FIGURE_MS, samples_part(delay_ms, 0.99));
  report_add(report, row, "latency (own)", FIGURE_MS, span->own_latency_ms);
  report_add(report, row, "lag (own)", FIGURE_MS, span->own_lag_ms);
  report_add(report, row, "speaker late p99", FIGURE_MS, late_ms);
  report_add(report, row, "busiest load thread", FIGURE_PERCENT, busy * 100);
  return late_ms > LATE_MAX_MS || busy > LOAD_BUSY_MAX;
}

static int run_rate(struct ground *ground, size_t rate, int has_sink)
{
  char row[64];
  static struct chain chain;
  static struct span span;
  snprintf(row, sizeof row, "%zu finals/s%s", rate, has_sink ? "" : ", journal alone");
  chain_begin(&chain, ground->plan, ground->database);
  chain.sound = &ground->sound;
  chain.finals_per_s = (double)rate;
  chain.node_environment = has_sink ? ground->node.at : ground->alone.at;
  chain.sink_environment = ground->sink.at;
  if (has_sink) {
    chain_start_sink(&chain);
    chain_wait_sink(&chain);
  }
  chain_start_node(&chain);
  chain_start_viewers(&chain);
  load_sleep((double)ground->plan->warm_up_s);
  observe(&chain, &span, has_sink);
  size_t n_said = chain_hush(&chain);
  double n_rows = has_sink ? chain_wait_rows(&chain, n_said) : 0;
  chain_stop_node(&chain);
  if (has_sink) {
    chain_stop_sink(&chain);
    add_rows(&chain, &span, row);
    report_add(ground->plan->report, row, "rows missing", FIGURE_COUNT, (double)n_said - n_rows);
  }
  int is_late = add_load(&chain, &span, row);
  chain_fini(&chain);
  return is_late;
}

// --- a full topic

static void run_drain(struct ground *ground, size_t batch)
{
  char row[64];
  static struct chain chain;
  struct report *report = ground->plan->report;
  struct settings sink = {0};
  size_t n = (size_t)ground->plan->n_drain;
  snprintf(row, sizeof row, "drain of %zu, batches of %zu", n, batch);
  set_sink(&sink, ground->plan);
  set(&sink, "BATCH_MAX_SIZE=%zu", batch);
  set(&sink, "BATCH_MAX_QUEUE=%zu", batch * 10 > QUEUE_MIN ? batch * 10 : QUEUE_MIN);
  chain_begin(&chain, ground->plan, ground->database);
  chain.sound = &ground->sound;
  chain.node_environment = ground->node.at;
  chain.sink_environment = sink.at;
  chain.finals_per_s = FILL_PER_S;
  chain_start_node(&chain);
  size_t n_said = chain_fill(&chain, n);
  chain_stop_node(&chain);
  chain_start_sink(&chain);
  double before_s = system_cpu_s(chain.sink);
  double n_rows = chain_wait_rows(&chain, n_said), figures[2];
  double cpu_s = system_cpu_s(chain.sink) - before_s;
  chain_stop_sink(&chain);
  // The first transaction's rows have no time that they took.
  database_ask(chain.database, figures, 2,
               "WITH own AS (SELECT pg_xact_commit_timestamp(xmin) AS t FROM transcripts WHERE "
               "id > %.0f AND received_at >= to_timestamp(%.6f)) SELECT count(*) FILTER (WHERE t > "
               "(SELECT min(t) FROM own)), extract(epoch FROM max(t) - min(t)) FROM own",
               chain.base_id, chain.began_s);
  report_add(report, row, "rows/s", FIGURE_PER_S, figures[1] > 0 ? figures[0] / figures[1] : NAN);
  report_add(report, row, "CPU of the sink a row", FIGURE_US,
             n_rows > 0 ? cpu_s * 1e6 / n_rows : NAN);
  report_add(report, row, "rows missing", FIGURE_COUNT, (double)n_said - n_rows);
  chain_fini(&chain);
  settings_fini(&sink);
}

static int run_round(struct ground *ground)
{
  const struct plan *plan = ground->plan;
  int is_late = 0;
  for (size_t i = 0; i < plan->n_counts; i++) {
    if (plan->counts[i] > 0) {
      is_late |= run_rate(ground, plan->counts[i], 1);
      is_late |= run_rate(ground, plan->counts[i], 0);
    }
  }
  for (size_t i = 0; i < plan->n_batches && plan->n_drain > 0; i++) {
    run_drain(ground, plan->batches[i]);
  }
  return is_late;
}

int sink_run(struct plan *plan)
{
  struct ground ground = {.plan = plan, .database = database_open(plan->database)};
  int is_late = 0;
  check_database(ground.database);
  set_chain(&ground.node, plan);
  set(&ground.alone, "KAFKA_BROKERS=");
  set(&ground.alone, "DATABASE_URL=");
  set_sink(&ground.sink, plan);
  sound_read_adts(&ground.sound, plan->audio);
  for (int64_t round = 0; round < plan->rounds; round++) {
    is_late |= run_round(&ground);
  }
  sound_fini(&ground.sound);
  settings_fini(&ground.node);
  settings_fini(&ground.alone);
  settings_fini(&ground.sink);
  database_close(&ground.database);
  return is_late;
}
