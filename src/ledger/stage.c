// The ledger as a stage: one thread owns a session and all that is known of it, so that numbers,
// history and joins need no lock and no order but that of its inbox.
#include "ledger.h"

#include <stdlib.h>

#define LANE_CAPACITY 4096
#define TICK_MS 250
#define LOG_INTERVAL_MS 10000

const struct vc_option vc_ledger_option_rows[] = {
    {"DEDUP_WINDOW", VC_OPTION_INTEGER, offsetof(struct vc_ledger_options, dedup_window),
     .initial = "1000", .unit = "utterances", .min = 1, .max = 1000000,
     .help = "utterance ids remembered per session"},
    {"HISTORY_FINALS", VC_OPTION_INTEGER, offsetof(struct vc_ledger_options, history_finals),
     .initial = "10000", .unit = "finals", .min = 1, .max = 1000000,
     .help = "finals kept in memory per session"},
    {"HISTORY_ON_JOIN", VC_OPTION_INTEGER, offsetof(struct vc_ledger_options, history_on_join),
     .initial = "50", .unit = "finals", .min = 0, .max = 10000,
     .help = "finals given to a viewer who comes without a position"},
    {"HISTORY_MAX_BYTES", VC_OPTION_BYTES, offsetof(struct vc_ledger_options, history_max_bytes),
     .initial = "256MiB", .unit = "bytes", .min = 1048576, .max = 1099511627776.0,
     .help = "memory for the history of all sessions; ended sessions give way first"},
    {"SESSION_KEEP_MS", VC_OPTION_INTEGER, offsetof(struct vc_ledger_options, session_keep_ms),
     .initial = "600000", .unit = "ms", .min = 0, .max = 604800000,
     .help = "how long an ended session's history is held in memory"},
    {"MAX_SESSIONS", VC_OPTION_INTEGER, offsetof(struct vc_ledger_options, max_sessions),
     .initial = "10000", .unit = "sessions", .min = 1, .max = 1000000,
     .help =
         "sessions held, published or only watched; publishers and viewers of more are refused"},
    VC_OPTION_ROWS_END,
};

const struct vc_metric vc_ledger_metrics[] = {
    [PARTIALS] = {"ledger.partials_total", VC_METRIC_COUNTER, "messages", "Partials shown."},
    [FINALS] = {"ledger.finals_total", VC_METRIC_COUNTER, "messages", "Finals shown."},
    [RETRACTS] = {"ledger.retracts_total", VC_METRIC_COUNTER, "messages",
                  "Partials taken back because they get no final."},
    [STATUSES] = {"ledger.statuses_total", VC_METRIC_COUNTER, "messages",
                  "Changes of a session's state."},
    [EPOCHS] = {"ledger.epochs_total", VC_METRIC_COUNTER, "epochs", "Publishings begun."},
    [DUPLICATES] = {"ledger.duplicates_total", VC_METRIC_COUNTER, "results",
                    "Finals of utterances whose final was shown already."},
    [LATE_PARTIALS] = {"ledger.late_partials_total", VC_METRIC_COUNTER, "results",
                       "Partials that came after their final."},
    [SAME_PARTIALS] = {"ledger.same_partials_total", VC_METRIC_COUNTER, "results",
                       "Partials equal to what was last shown of their utterance."},
    [EMPTY_UTTERANCES] = {"ledger.empty_utterances_total", VC_METRIC_COUNTER, "results",
                          "Partials and finals without text."},
    [INVALID_UTTERANCES] = {"ledger.invalid_utterances_total", VC_METRIC_COUNTER, "results",
                            "Utterances whose times are no times."},
    [OPEN_OVERFLOWS] = {"ledger.open_overflows_total", VC_METRIC_COUNTER, "utterances",
                        "Utterances retracted because too many were open at once."},
    [STRAY_RESULTS] = {"ledger.stray_results_total", VC_METRIC_COUNTER, "results",
                       "Results of publishings that are over or make no sense."},
    [STRAY_VIEWERS] = {"ledger.stray_viewers_total", VC_METRIC_COUNTER, "items",
                       "Leaves of viewers that are not known."},
    [OUT_OF_MEMORY] = {"ledger.out_of_memory_total", VC_METRIC_COUNTER, "failures",
                       "Allocations that failed."},
    [DELAY_MS] = {"ledger.delay_ms", VC_METRIC_DISTRIBUTION, "ms",
                  "From an utterance read off the STT's socket to the ledger taking it."},
    [SESSIONS] = {"ledger.sessions", VC_METRIC_GAUGE, "sessions",
                  "Sessions held: live, ended or only watched."},
    [VIEWERS] = {"ledger.viewers", VC_METRIC_GAUGE, "viewers", "Viewers that joined."},
    [HISTORY_BYTES] = {"ledger.history_bytes", VC_METRIC_GAUGE, "bytes",
                       "Memory of the history of all sessions."},
    [HISTORY_FINALS] = {"ledger.history_finals", VC_METRIC_GAUGE, "finals",
                        "Finals in the history of all sessions."},
    [HISTORY_DROPPED] = {"ledger.history_dropped_total", VC_METRIC_COUNTER, "finals",
                         "Finals that left the history: its bounds, or its time was over."},
    [JOINS] = {"ledger.joins_total", VC_METRIC_COUNTER, "viewers", "Viewers that joined."},
    [JOINS_REFUSED] = {"ledger.joins_refused_total", VC_METRIC_COUNTER, "viewers",
                       "Viewers refused because MAX_SESSIONS are held."},
    [CATCH_UPS] = {"ledger.catch_ups_total", VC_METRIC_COUNTER, "requests",
                   "Requests for what a viewer missed."},
    [GAPS] = {"ledger.gaps_total", VC_METRIC_COUNTER, "messages",
              "Gaps announced because history no longer holds what a viewer missed."},
    [LIVE_DROPPED] = {"ledger.live_dropped_total", VC_METRIC_COUNTER, "messages",
                      "Live messages that did not fit a lane; their viewers catch up."},
    [REQUESTS_WAITING] = {"ledger.requests_waiting", VC_METRIC_GAUGE, "requests",
                          "Joins and catch-ups that wait for room in a lane."},
    [REQUESTS_LOST] = {"ledger.requests_lost_total", VC_METRIC_COUNTER, "requests",
                       "Joins and catch-ups given up because too many waited."},
    [BACKLOG_BYTES] = {"journal.backlog_bytes", VC_METRIC_GAUGE, "bytes",
                       "Records that wait in memory for room in the journal's lane."},
    [RECORDS_LOST] = {"journal.lost_total", VC_METRIC_COUNTER, "records",
                      "Records that no restart will bring back."},
    [PARTIALS_DROPPED] = {"ledger.partials_dropped_total", VC_METRIC_COUNTER, "messages",
                          "Partials for Kafka that found its lane full."},
    [REMOTE_MESSAGES] = {"ledger.remote_messages_total", VC_METRIC_COUNTER, "messages",
                         "Messages of other nodes' sessions, for viewers here."},
    [REMOTE_STRAYS] = {"ledger.remote_strays_total", VC_METRIC_COUNTER, "messages",
                       "Messages of other nodes that came twice or of no session that is watched."},
    [REMOTE_GAPS] = {"ledger.remote_gaps_total", VC_METRIC_COUNTER, "gaps",
                     "Messages of other nodes that are lost for good, by the run."},
    [FLEET_DROPPED] = {"ledger.fleet_dropped_total", VC_METRIC_COUNTER, "messages",
                       "Messages for other nodes that found the lane full; finals are asked for."},
    [CLAIMS_LATE] = {"ledger.claims_late_total", VC_METRIC_COUNTER, "sessions",
                     "Sessions begun before other nodes were known to agree."},
    [EPOCHS_FENCED] = {"ledger.epochs_fenced_total", VC_METRIC_COUNTER, "epochs",
                       "Epochs that had to go on as a new one: another node had given them up."},
    [EPOCHS_TAKEN] = {"ledger.epochs_taken_total", VC_METRIC_COUNTER, "epochs",
                      "Sessions that went on at another node."},
    [CLOSES_LATE] = {"ledger.closes_late_total", VC_METRIC_COUNTER, "sessions",
                     "Those of them whose publisher was not told at once: its lane was full."},
    [ORPHANS] = {"ledger.orphans_total", VC_METRIC_COUNTER, "messages",
                 "Statuses and ends said for sessions whose node is lost."},
    [JOINS_UNFILLED] = {"ledger.joins_unfilled_total", VC_METRIC_COUNTER, "viewers",
                        "Viewers told `unknown`: Redis did not say in time what it holds."},
    VC_METRIC_ROWS_END,
};

void ledger_count(struct ledger *ledger, enum ledger_metric metric)
{
  vc_metric_add(ledger->slots, metric, 1);
}

void ledger_out_of_memory(struct ledger *ledger)
{
  uint64_t n_left_out;
  ledger_count(ledger, OUT_OF_MEMORY);
  if (vc_log_limit_pass(&ledger->memory_limit, vc_worker_now_ns(ledger->worker), LOG_INTERVAL_MS,
                        &n_left_out)) {
    vc_log(VC_LOG_ERROR, VC_EVENT("ledger.out_of_memory"), VC_INT("left_out", n_left_out));
  }
}

// --- a worker's life

static int64_t share_of(int64_t whole, uint32_t n_workers)
{
  return whole / n_workers > 0 ? whole / n_workers : 1;
}

static void set_share(struct ledger *ledger, const struct vc_ledger_settings *settings)
{
  uint32_t n = settings->n_workers > 0 ? settings->n_workers : 1;
  ledger->options = *settings->options;
  ledger->options.max_sessions = share_of(settings->options->max_sessions, n);
  ledger->options.history_max_bytes = share_of(settings->options->history_max_bytes, n);
  ledger->max_waiting = settings->max_viewers; // all may be watching one session
}

static int open_lanes(struct ledger *ledger, const struct vc_ledger_settings *settings)
{
  ledger->broadcast = vc_putter_create(settings->broadcast);
  ledger->n_broadcast_workers = vc_stage_n_workers(settings->broadcast);
  ledger->waiting = calloc(ledger->n_broadcast_workers, sizeof(struct request *));
  if (settings->journal != NULL) {
    ledger->journal = vc_putter_create(settings->journal);
    ledger->n_journal_workers = vc_stage_n_workers(settings->journal);
  }
  if (settings->partials != NULL) {
    ledger->partials = vc_putter_create(settings->partials);
  }
  if (settings->publisher != NULL) {
    ledger->publisher = vc_putter_create(settings->publisher);
    ledger->watcher = vc_putter_create(settings->watcher);
  }
  return ledger->broadcast != NULL && ledger->waiting != NULL &&
                 (settings->journal == NULL || ledger->journal != NULL) &&
                 (settings->partials == NULL || ledger->partials != NULL) &&
                 (settings->publisher == NULL ||
                  (ledger->publisher != NULL && ledger->watcher != NULL))
             ? 0
             : -1;
}

static void ledger_destroy(struct ledger *ledger)
{
  sessions_fini(ledger);
  if (ledger->waiting != NULL) {
    requests_fini(ledger);
  }
  free(ledger->waiting);
  records_fini(ledger);
  vc_text_fini(&ledger->text);
  free(ledger);
}

static int enter(struct vc_worker *worker, void *config, struct vc_error *error)
{
  const struct vc_ledger_settings *settings = config;
  struct ledger *ledger = calloc(1, sizeof *ledger);
  if (ledger == NULL) {
    return vc_error_set(error, "no memory");
  }
  ledger->settings = settings;
  ledger->worker = worker;
  ledger->slots = vc_worker_slots(worker);
  ledger->node = settings->node;
  set_share(ledger, settings);
  if (open_lanes(ledger, settings) != 0) {
    ledger_destroy(ledger);
    return vc_error_set(error, "no memory, or too many lanes into another stage");
  }
  vc_worker_set_state(worker, ledger);
  return 0;
}

static void handle(struct vc_worker *worker, struct vc_item *item)
{
  struct ledger *ledger = vc_worker_state(worker);
  void *noun = item; // an item is the first member of its noun
  switch (item->kind) {
  case VC_ITEM_RESULT: {
    struct vc_result *result = noun;
    if (fleet_hold(ledger, result)) {
      return;
    }
    handle_result(ledger, result, &result->utterance);
    break;
  }
  case VC_ITEM_JOIN:
    handle_join(ledger, noun);
    return;
  case VC_ITEM_CATCH_UP:
    handle_catch_up(ledger, noun);
    return;
  case VC_ITEM_LEAVE:
    handle_leave(ledger, noun);
    break;
  case VC_ITEM_REMOTE:
    handle_remote(ledger, noun);
    break;
  case VC_ITEM_QUERY:
    handle_query(ledger, vc_query_of(item));
    return;
  default: // not for us
    break;
  }
  vc_item_destroy(item);
}

static void show_figures(const struct ledger *ledger)
{
  vc_metric_set(ledger->slots, SESSIONS, HASH_COUNT(ledger->sessions));
  vc_metric_set(ledger->slots, VIEWERS, ledger->n_viewers);
  vc_metric_set(ledger->slots, HISTORY_BYTES, (int64_t)ledger->n_bytes);
  vc_metric_set(ledger->slots, HISTORY_FINALS, (int64_t)ledger->n_finals);
  vc_metric_set(ledger->slots, REQUESTS_WAITING, (int64_t)ledger->n_waiting);
  vc_metric_set(ledger->slots, BACKLOG_BYTES, (int64_t)ledger->backlog_bytes);
}

static int is_waiting(const struct ledger *ledger)
{
  return ledger->behind != NULL || ledger->n_waiting > 0 || ledger->backlog != NULL ||
         fleet_is_waiting(ledger);
}

static void turned(struct vc_worker *worker)
{
  struct ledger *ledger = vc_worker_state(worker);
  fleet_retry(ledger);
  if (is_waiting(ledger)) {
    live_retry(ledger);
    requests_retry(ledger);
    records_retry(ledger);
  }
  if (is_waiting(ledger)) {
    vc_worker_wake_at(worker, vc_worker_now_ns(worker) + RETRY_MS * VC_NS_PER_MS);
  }
  show_figures(ledger);
}

static void tick(struct vc_worker *worker)
{
  sessions_expire(vc_worker_state(worker));
  show_figures(vc_worker_state(worker));
}

static void drain(struct vc_worker *worker)
{
  end_live_sessions(vc_worker_state(worker));
}

static int is_drained(struct vc_worker *worker)
{
  return !is_waiting(vc_worker_state(worker));
}

static void leave(struct vc_worker *worker)
{
  ledger_destroy(vc_worker_state(worker));
  vc_worker_set_state(worker, NULL);
}

static const struct vc_stage_ops ops = {
    .name = "ledger",
    .enter = enter,
    .handle = handle,
    .turned = turned,
    .tick = tick,
    .drain = drain,
    .is_drained = is_drained,
    .leave = leave,
};

int vc_ledger_create(struct vc_stage **stage, const struct vc_ledger_settings *settings,
                     struct vc_error *error)
{
  return vc_stage_create(
      stage,
      &(struct vc_stage_settings){
          .ops = &ops,
          .config = settings,
          .config_size = sizeof *settings,
          .n_workers = settings->n_workers > 0 ? settings->n_workers : 1,
          .tick_ms = TICK_MS,
          .lane_capacity = settings->lane_capacity > 0 ? settings->lane_capacity : LANE_CAPACITY,
          .clock = settings->clock,
          .metrics = settings->metrics,
          .metric_rows = vc_ledger_metrics},
      error);
}
