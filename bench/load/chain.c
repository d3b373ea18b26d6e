#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "chain.h"

#define START_TIMEOUT_S 60
#define FINALS_A_SESSION 100 // a second, at most: who speaks faster is no load of ours
#define STILL_S 20           // nothing comes any more
#define POLL_S 0.1
#define FILL_POLL_S 0.02
#define FILL_STILL_NS VC_NS_PER_S
#define FILL_AHEAD 2000 // finals that the node has not given on yet

double chain_now_s(void)
{
  return (double)vc_clock_unix_us(&vc_clock_system) / 1e6;
}

// A row's number, 0 when there is none or no table yet.
static double newest_id(const struct chain *chain)
{
  double figure;
  database_ask(chain->database, &figure, 1, "SELECT (to_regclass('transcripts') IS NOT NULL)::int");
  if (figure > 0) {
    database_ask(chain->database, &figure, 1, "SELECT coalesce(max(id), 0) FROM transcripts");
  }
  return figure;
}

void chain_begin(struct chain *chain, struct plan *plan, struct database *database)
{
  *chain = (struct chain){.plan = plan,
                          .database = database,
                          .node = &plan->systems[0],
                          .sink = &plan->sink,
                          .began_s = chain_now_s() - 0.001}; // rows have milliseconds
  chain->base_id = newest_id(chain);
}

void chain_start_node(struct chain *chain)
{
  size_t n = (size_t)chain->plan->n_sessions;
  while ((double)n * FINALS_A_SESSION < chain->finals_per_s) {
    n++;
  }
  chain->pace.rate_hz = chain->finals_per_s / (double)n;
  chain->pace.burst = 1;
  chain->speech.pace = &chain->pace;
  chain->speech.messages_per_final = 1;
  chain->speech.has_words = 1;
  chain->publishing.sound = chain->sound;
  chain->publishing.way = &rtmp_way;
  atomic_store(&chain->speech.is_silent, 1);
  speech_init(&chain->speech, n * 2);
  publishing_init(&chain->publishing, n);
  chain->peer = load_start(&speech_ops, &chain->speech);
  chain->node->environment = chain->node_environment;
  system_start(chain->node, &chain->speech.address);
  chain->publishing.to = chain->node->rtmp;
  chain->publishers = load_start(&publishing_ops, &chain->publishing);
  load_wait(&chain->speech.n_live, n, START_TIMEOUT_S, "sessions are live");
  atomic_store(&chain->speech.is_silent, 0);
}

void chain_start_viewers(struct chain *chain)
{
  size_t n = chain->publishing.n;
  chain->viewing.to = chain->node->http;
  chain->viewing.pace = &chain->pace;
  chain->viewing.watch_path = chain->node->watch_path;
  chain->viewing.n = n;
  chain->viewing.n_sessions = n;
  viewing_init(&chain->viewing);
  chain->viewers = load_start(&viewing_ops, &chain->viewing);
  load_wait(&chain->viewing.n_open, n, START_TIMEOUT_S, "viewers are in");
}

void chain_start_sink(struct chain *chain)
{
  chain->sink->environment = chain->sink_environment;
  system_start(chain->sink, &chain->speech.address);
}

// --- what the programs say of themselves

static json_t *own_figures(const struct vc_address *address)
{
  char *text = system_get(address, "/metrics");
  json_t *root = text != NULL ? json_loads(text, 0, NULL) : NULL;
  free(text);
  return root;
}

// Returns: 0 for one that it does not say.
static double own_figure(const struct vc_address *address, const char *kind, const char *name)
{
  json_t *root = own_figures(address);
  double figure = json_number_value(json_object_get(json_object_get(root, kind), name));
  json_decref(root);
  return figure;
}

double chain_own_latency_ms(const struct chain *chain, const char *name)
{
  json_t *root = own_figures(&chain->node->admin);
  const json_t *average =
      json_object_get(json_object_get(json_object_get(root, "latency"), name), "avg");
  double ms = json_is_number(average) ? json_number_value(average) : NAN;
  json_decref(root);
  return ms;
}

void chain_wait_sink(const struct chain *chain)
{
  uint64_t end_ns = vc_clock_now_ns(&vc_clock_system) + START_TIMEOUT_S * VC_NS_PER_S;
  while (own_figure(&chain->sink->sink, "gauges", "kafka.consumer_partitions") <= 0) {
    if (vc_clock_now_ns(&vc_clock_system) > end_ns) {
      die("the sink has no partition of %s at %s after %d s: see BENCH_BROKERS and BENCH_TOPIC",
          chain->plan->topic, chain->plan->brokers, START_TIMEOUT_S);
    }
    load_sleep(POLL_S);
  }
}

size_t chain_fill(struct chain *chain, size_t n)
{
  double before = 0, n_relayed = 0, n_kept = 0;
  uint64_t come_ns = vc_clock_now_ns(&vc_clock_system), still_ns = 0;
  size_t n_said = 0;
  while (still_ns < STILL_S * VC_NS_PER_S) {
    n_said = atomic_load(&chain->speech.n_said);
    n_relayed = own_figure(&chain->node->admin, "counters", "journal.relayed_total");
    n_kept = own_figure(&chain->node->admin, "counters", "journal.committed_total");
    // No faster than the node gives them on: what is too much for it would be lost.
    atomic_store(&chain->speech.is_silent, n_said >= n || (double)n_said > n_relayed + FILL_AHEAD);
    uint64_t now_ns = vc_clock_now_ns(&vc_clock_system);
    come_ns = n_relayed > before ? now_ns : come_ns;
    before = n_relayed;
    still_ns = now_ns - come_ns;
    // Begins of sessions are relayed, too: that nothing more comes tells the end.
    if (n_said >= n && n_relayed >= (double)n_said && n_relayed >= n_kept &&
        still_ns > FILL_STILL_NS) {
      return n_said;
    }
    load_sleep(FILL_POLL_S);
  }
  if (n_said < n || n_relayed < n_kept) {
    die("the node gave %.0f of %zu finals to Kafka at %s, and no more in %d s: see BENCH_BROKERS "
        "and BENCH_TOPIC",
        n_relayed, n, chain->plan->brokers, STILL_S);
  }
  return n_said; // some were lost before the journal
}

// --- the end

size_t chain_hush(struct chain *chain)
{
  atomic_store(&chain->speech.is_silent, 1);
  load_sleep(0.5); // what is under way arrives
  return atomic_load(&chain->speech.n_said);
}

static double count_rows(const struct chain *chain)
{
  double n;
  database_ask(chain->database, &n, 1,
               "SELECT count(*) FROM transcripts WHERE id > %.0f AND received_at >= "
               "to_timestamp(%.6f)",
               chain->base_id, chain->began_s);
  return n;
}

double chain_wait_rows(const struct chain *chain, size_t n)
{
  double newest = chain->base_id, n_rows = 0;
  uint64_t come_ns = vc_clock_now_ns(&vc_clock_system);
  for (;;) {
    double now = newest_id(chain);
    n_rows = now >= chain->base_id + (double)n ? count_rows(chain) : 0;
    if (n_rows >= (double)n) {
      return n_rows;
    }
    uint64_t now_ns = vc_clock_now_ns(&vc_clock_system);
    if (now <= newest && now_ns > come_ns + STILL_S * VC_NS_PER_S) {
      break;
    }
    come_ns = now > newest ? now_ns : come_ns;
    newest = now;
    load_sleep(POLL_S);
  }
  if (newest <= chain->base_id) {
    die("no row came in %d s: the sink reads %s at %s", STILL_S, chain->plan->topic,
        chain->plan->brokers);
  }
  return count_rows(chain);
}

void chain_stop_node(struct chain *chain)
{
  int has_ended = system_has_ended(chain->node);
  size_t n_lost = atomic_load(&chain->viewing.n_lost) + atomic_load(&chain->publishing.n_lost);
  if (chain->viewers != NULL) {
    load_stop(&chain->viewers);
  }
  load_stop(&chain->publishers);
  load_stop(&chain->peer);
  system_stop(chain->node);
  if (n_lost > 0 || has_ended) {
    die("%s lost %zu publishers and viewers%s", chain->node->name, n_lost,
        has_ended ? ": it ended by itself" : "");
  }
}

void chain_stop_sink(struct chain *chain)
{
  if (system_has_ended(chain->sink)) {
    die("%s ended by itself", chain->sink->name);
  }
  system_stop(chain->sink);
}

void chain_fini(struct chain *chain)
{
  viewing_fini(&chain->viewing);
  publishing_fini(&chain->publishing);
  speech_fini(&chain->speech);
}
