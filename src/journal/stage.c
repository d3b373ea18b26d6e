#include <verbacast/base/backoff.h>
#include <verbacast/base/log.h>
#include <verbacast/base/thread.h>
#include <verbacast/wire/record.h>
#include <verbacast/wire/text.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "room.h"

#define LANE_CAPACITY 8192
#define TICK_MS 250
#define BACKOFF_FIRST_MS 50
#define BACKOFF_MAX_MS 1000
#define LOG_INTERVAL_MS 10000
#define CALM_MS 3000    // without a failure, and the disk is well
#define LOOK_MS 1000    // between two looks whether somebody has cleared the dead
#define ROW_OVERHEAD 64 // of a record in memory, and of a row in the file

// SQLite keeps a database of these names in memory, or in a file that is gone with the process.
static int check_path(const char *value, struct vc_error *error)
{
  return value[0] != '\0' && strcmp(value, ":memory:") != 0
             ? 0
             : vc_error_set(error, "is no file that outlives the node");
}

#define FIELD(name) offsetof(struct vc_journal_options, name)
const struct vc_option vc_journal_option_rows[] = {
    {"JOURNAL_PATH", VC_OPTION_TEXT, FIELD(journal_path), "verbacast-journal.db", "a path",
     .check = check_path,
     .help = "The node's durable outbox; on a persistent volume, not shared with another node."},
    {"JOURNAL_COMMIT_MS", VC_OPTION_INTEGER, FIELD(journal_commit_ms), "25", "ms", 1, 10000,
     .help = "Finals that come within this time are one commit to the disk."},
    {"JOURNAL_MAX_BYTES", VC_OPTION_BYTES, FIELD(journal_max_bytes), "1GiB", "bytes", 65536, 1e15,
     .help = "Rows not relayed yet; at this bound new sessions are refused."},
    VC_OPTION_ROWS_END,
};

const struct vc_metric vc_journal_metrics[] = {
    [COMMITTED] = {"journal.committed_total", VC_METRIC_COUNTER, "records",
                   "Records whose commit to the disk has returned."},
    [COMMIT_ERRORS] = {"journal.commit_errors_total", VC_METRIC_COUNTER, "commits",
                       "Commits that failed and are tried again."},
    [LOST] = {"journal.lost_total", VC_METRIC_COUNTER, "records",
              "Records that no restart will bring back: the disk took nothing for too long."},
    [PAST_DISK] = {"journal.past_disk_total", VC_METRIC_COUNTER, "records",
                   "Records that the brokers have taken because the disk did not."},
    [RELAYED] = {"journal.relayed_total", VC_METRIC_COUNTER, "records",
                 "Rows that the database, or Kafka, has taken."},
    [RELAY_ERRORS] = {"journal.relay_errors_total", VC_METRIC_COUNTER, "batches",
                      "Batches that were not taken, or not in time, and that are tried again."},
    [ROWS] = {"journal.rows", VC_METRIC_GAUGE, "rows", "Rows in the outbox."},
    [BYTES] = {"journal.bytes", VC_METRIC_GAUGE, "bytes", "Bytes of the rows in the outbox."},
    [BYTES_MAX] = {"journal.max_bytes", VC_METRIC_GAUGE, "bytes",
                   "JOURNAL_MAX_BYTES: at so many bytes of rows new publishers are refused."},
    [PENDING_BYTES] = {"journal.backlog_bytes", VC_METRIC_GAUGE, "bytes",
                       "Records in memory that wait for the journal's disk."},
    [DEAD] = {"journal.dead_total", VC_METRIC_COUNTER, "records",
              "Records that no broker will ever take; they lie in the journal's table dead."},
    [OLDEST_UNSENT] = {"journal.oldest_unsent_s", VC_METRIC_GAUGE_MAX, "s",
                       "Age of the oldest record that neither the database nor Kafka has yet."},
    [COMMIT_MS] = {"journal.commit_ms", VC_METRIC_DISTRIBUTION, "ms",
                   "One commit to the disk, with its fsync."},
    VC_METRIC_ROWS_END,
};

static struct vc_journal *journal_of(struct vc_worker *worker)
{
  return vc_worker_state(worker);
}

size_t record_cost(const struct vc_record *record)
{
  return record->value->size + ROW_OVERHEAD;
}

static int has_uncommitted(const struct vc_journal *journal)
{
  return journal->n_pending > 0 || journal->past.turns != NULL;
}

// It grows while the relay waits for its sink.
static int64_t oldest_s(struct vc_worker *worker)
{
  const struct vc_journal *journal = journal_of(worker);
  int64_t since = atomic_load_explicit(&journal->oldest_unix_ms, memory_order_relaxed);
  int64_t row_ms = since > 0 ? vc_clock_unix_ms(vc_worker_clock(worker)) - since : 0;
  uint64_t now = vc_worker_now_ns(worker);
  int64_t pending_ms = journal->n_pending > 0 && now > journal->oldest_ns
                           ? (int64_t)((now - journal->oldest_ns) / VC_NS_PER_MS)
                           : 0;
  int64_t oldest_ms = row_ms > pending_ms ? row_ms : pending_ms;
  return oldest_ms > 0 ? oldest_ms / 1000 : 0;
}

static void tell_sizes(struct vc_worker *worker)
{
  const struct vc_journal *journal = journal_of(worker);
  struct vc_slots *slots = vc_worker_slots(worker);
  vc_metric_set(slots, PENDING_BYTES, (int64_t)journal->pending_bytes);
  vc_metric_set(slots, ROWS, atomic_load_explicit(&journal->rows, memory_order_relaxed));
  vc_metric_set(slots, BYTES, atomic_load_explicit(&journal->bytes, memory_order_relaxed));
  vc_metric_set(slots, OLDEST_UNSENT, oldest_s(worker));
}

static void forget(struct vc_journal *journal, struct vc_record *record)
{
  DL_DELETE(journal->pending, record);
  journal->n_pending--;
  journal->pending_bytes -= record_cost(record);
  vc_record_destroy(&record);
}

static void lose_oldest(struct vc_worker *worker)
{
  struct vc_journal *journal = journal_of(worker);
  uint64_t n_left_out;
  if (journal->pending == NULL) {
    past_take_back(journal);
  }
  const struct vc_record *record = journal->pending;
  vc_metric_add(vc_worker_slots(worker), LOST, 1);
  if (vc_log_limit_pass(&journal->lost_limit, vc_worker_now_ns(worker), LOG_INTERVAL_MS,
                        &n_left_out)) {
    vc_log(VC_LOG_ERROR, VC_EVENT("journal.lost"), VC_STR("session", record->slug),
           VC_INT("epoch", record->epoch), VC_INT("seq", record->seq),
           VC_INT("left_out", n_left_out));
  }
  forget(journal, journal->pending);
}

// Those that no later one has told of.
static void tell_rest_of_lost(struct vc_worker *worker)
{
  struct vc_journal *journal = journal_of(worker);
  uint64_t n_left_out, now = vc_worker_now_ns(worker);
  // One that does not pass is counted as another: it is asked only when it passes.
  if (journal->lost_limit.n_left_out > 0 && now >= journal->lost_limit.next_ns &&
      vc_log_limit_pass(&journal->lost_limit, now, LOG_INTERVAL_MS, &n_left_out)) {
    vc_log(VC_LOG_ERROR, VC_EVENT("journal.lost"), VC_INT("left_out", n_left_out));
  }
}

// --- committing

static void trace(const struct vc_journal *journal)
{
  if (vc_log_level_get() < VC_LOG_DEBUG) {
    return;
  }
  const struct vc_record *record;
  DL_FOREACH(journal->pending, record)
  {
    if (record->kind == VC_RECORD_FINAL) {
      vc_log(VC_LOG_DEBUG, VC_EVENT("journal_committed"), VC_STR("session", record->slug),
             VC_INT("epoch", record->epoch), VC_INT("seq", record->seq));
    }
  }
}

static void count_size(struct vc_worker *worker)
{
  struct vc_journal *journal = journal_of(worker);
  struct vc_error error;
  int64_t rows, bytes;
  if (outbox_size(journal->outbox, &rows, &bytes, &error) == 0) {
    atomic_store_explicit(&journal->rows, rows, memory_order_relaxed);
    atomic_store_explicit(&journal->bytes, bytes + rows * ROW_OVERHEAD, memory_order_relaxed);
  }
}

// --- rows that are dead

static void free_graves(struct outbox_grave **graves)
{
  struct outbox_grave *grave, *next;
  DL_FOREACH_SAFE(*graves, grave, next)
  {
    DL_DELETE(*graves, grave);
    free(grave);
  }
}

// What the relay has found of rows up to that one; a commit that fails leaves them to the next.
static void take_graves(struct vc_journal *journal, int64_t upto)
{
  pthread_mutex_lock(&journal->mutex);
  while (journal->found != NULL && journal->found->id <= upto) {
    struct outbox_grave *grave = journal->found;
    DL_DELETE(journal->found, grave);
    DL_APPEND(journal->graves, grave);
  }
  pthread_mutex_unlock(&journal->mutex);
}

static void look_at_dead(struct vc_worker *worker)
{
  struct vc_journal *journal = journal_of(worker);
  struct vc_error error;
  int64_t n;
  journal->look_ns = vc_worker_now_ns(worker) + LOOK_MS * VC_NS_PER_MS;
  if (outbox_count_dead(journal->outbox, &n, &error) != 0) {
    return; // looked at again
  }
  if (n > 0) {
    char reason[96];
    snprintf(reason, sizeof reason, "%lld records that no broker takes lie in its table dead",
             (long long)n);
    vc_health_set(journal->settings.health, "journal_dead", reason);
  } else if (journal->has_dead) {
    vc_health_clear(journal->settings.health, "journal_dead");
  }
  journal->has_dead = n > 0;
}

static void tell_relay(struct vc_journal *journal)
{
  pthread_mutex_lock(&journal->mutex);
  journal->n_commits++;
  pthread_cond_signal(&journal->changed);
  pthread_mutex_unlock(&journal->mutex);
}

static void take_off(struct vc_journal *journal, const struct outbox_deleted *deleted)
{
  atomic_fetch_sub_explicit(&journal->rows, deleted->rows, memory_order_relaxed);
  atomic_fetch_sub_explicit(&journal->bytes, deleted->bytes + deleted->rows * ROW_OVERHEAD,
                            memory_order_relaxed);
}

static void committed(struct vc_worker *worker, int64_t deleted_upto,
                      const struct outbox_deleted *deleted)
{
  struct vc_journal *journal = journal_of(worker);
  past_take_back(journal);
  vc_metric_add(vc_worker_slots(worker), COMMITTED, journal->n_pending);
  trace(journal);
  free_graves(&journal->graves);
  if (deleted->buried > 0) {
    vc_metric_add(vc_worker_slots(worker), DEAD, (uint64_t)deleted->buried);
    look_at_dead(worker);
  }
  atomic_fetch_add_explicit(&journal->rows, (int64_t)journal->n_pending, memory_order_relaxed);
  atomic_fetch_add_explicit(&journal->bytes, (int64_t)journal->pending_bytes, memory_order_relaxed);
  take_off(journal, deleted);
  while (journal->pending != NULL) {
    forget(journal, journal->pending);
  }
  past_forget_turns(&journal->past);
  journal->n_failed = 0;
  if (deleted_upto > journal->deleted_upto) {
    journal->deleted_upto = deleted_upto;
  }
  journal->backoff_ms = 0;
  tell_relay(journal);
}

static void commit_failed(struct vc_worker *worker, const struct vc_error *error)
{
  struct vc_journal *journal = journal_of(worker);
  vc_metric_add(vc_worker_slots(worker), COMMIT_ERRORS, 1);
  journal->n_failed++;
  journal->backoff_ms = vc_backoff_next(journal->backoff_ms, BACKOFF_FIRST_MS, BACKOFF_MAX_MS);
  journal->retry_ns = vc_worker_now_ns(worker) + journal->backoff_ms * VC_NS_PER_MS;
  journal->calm_ns = vc_worker_now_ns(worker) + CALM_MS * VC_NS_PER_MS;
  journal->is_degraded = 1;
  vc_health_set(journal->settings.health, "journal", error->text);
  past_offer(journal);
}

// Returns: 0 nothing is pending any more, -1 the disk did not take it.
static int commit(struct vc_worker *worker)
{
  struct vc_journal *journal = journal_of(worker);
  // Acquire: pairs with the relay's release.
  int64_t upto = atomic_load_explicit(&journal->relayed_upto, memory_order_acquire);
  int64_t delete_upto = upto > journal->deleted_upto ? upto : 0;
  struct vc_error error;
  if (!has_uncommitted(journal) && delete_upto == 0 && journal->backoff_ms == 0) {
    return 0;
  }
  const struct vc_clock *clock = vc_worker_clock(worker);
  uint64_t begun = vc_clock_now_ns(clock);
  int was_ready = outbox_is_ready(journal->outbox);
  struct outbox_deleted deleted;
  take_graves(journal, delete_upto);
  const struct outbox_batch batch = {
      .lists = {journal->past.refused, journal->past.offered, journal->pending},
      .turns = journal->past.turns,
      .epoch = journal->past.epoch,
      .graves = journal->graves,
      .delete_upto = delete_upto};
  int status = outbox_commit(journal->outbox, &batch, vc_clock_unix_ms(clock), &deleted, &error);
  uint64_t ended = vc_clock_now_ns(clock);
  vc_metric_record(vc_worker_slots(worker), COMMIT_MS,
                   (double)(ended - begun) / (double)VC_NS_PER_MS, ended);
  if (status == 0) {
    committed(worker, upto, &deleted);
    if (!was_ready) {
      count_size(worker); // with what was there before
      look_at_dead(worker);
      atomic_store_explicit(&journal->highest_epoch, outbox_highest_epoch(journal->outbox),
                            memory_order_relaxed);
    }
  } else {
    take_off(journal, &deleted);
    commit_failed(worker, &error);
  }
  tell_sizes(worker);
  return status;
}

static void commit_when_due(struct vc_worker *worker)
{
  struct vc_journal *journal = journal_of(worker);
  uint64_t now = vc_worker_now_ns(worker);
  uint64_t commit_ns = (uint64_t)journal->settings.options->journal_commit_ms * VC_NS_PER_MS;
  if (now < journal->retry_ns) {
    vc_worker_wake_at(worker, journal->retry_ns);
    return;
  }
  int is_due = has_uncommitted(journal) && now >= journal->oldest_ns + commit_ns;
  int has_relayed =
      atomic_load_explicit(&journal->relayed_upto, memory_order_relaxed) > journal->deleted_upto;
  // A disk that did not take the last is asked with nothing too.
  if (is_due || (has_relayed && !has_uncommitted(journal)) || journal->backoff_ms != 0) {
    commit(worker);
  }
  if (has_uncommitted(journal)) {
    vc_worker_wake_at(worker,
                      journal->retry_ns > now ? journal->retry_ns : journal->oldest_ns + commit_ns);
  }
}

// --- the stage

static void handle_record(struct vc_worker *worker, struct vc_record *record)
{
  struct vc_journal *journal = journal_of(worker);
  if (journal->n_pending == 0) {
    journal->oldest_ns = vc_worker_now_ns(worker);
    vc_worker_wake_at(worker,
                      journal->oldest_ns +
                          (uint64_t)journal->settings.options->journal_commit_ms * VC_NS_PER_MS);
  }
  DL_APPEND(journal->pending, record);
  journal->n_pending++;
  journal->pending_bytes += record_cost(record);
  while (journal->pending_bytes > journal->settings.pending_max_bytes) {
    lose_oldest(worker);
  }
}

static int is_erased(const struct vc_record *record, const struct vc_query *query)
{
  return strcmp(record->slug, vc_query_slug(query)) == 0 && record->epoch <= vc_query_number(query);
}

static void erase_pending(struct vc_journal *journal, const struct vc_query *query)
{
  struct vc_record *record, *next;
  past_take_back(journal);
  DL_FOREACH_SAFE(journal->pending, record, next)
  {
    if (is_erased(record, query)) {
      forget(journal, record);
    }
  }
  DL_FOREACH_SAFE(journal->past.turns, record, next)
  {
    if (is_erased(record, query)) {
      DL_DELETE(journal->past.turns, record);
      vc_record_destroy(&record);
    }
  }
}

// NULL without memory.
static struct vc_record *notice_create(const struct vc_journal *journal,
                                       const struct vc_query *query, int64_t now_ms)
{
  struct vc_record *record = vc_record_create(VC_RECORD_SESSION_ERASED, vc_query_slug(query));
  struct vc_text text = {0};
  vc_record_print(&text, &(struct vc_record_fields){.type = VC_RECORD_TYPE_SESSION_ERASED,
                                                    .session = vc_query_slug(query),
                                                    .epoch = vc_query_number(query),
                                                    .node = journal->settings.sink.erased_by,
                                                    .erased_at_ms = now_ms});
  struct vc_buffer *value = vc_text_take(&text);
  if (record == NULL || value == NULL) {
    vc_buffer_unref(value);
    vc_record_destroy(&record);
    return NULL;
  }
  record->epoch = vc_query_number(query);
  record->value = value;
  return record;
}

static int erase(struct vc_journal *journal, const struct vc_query *query, struct vc_error *error)
{
  int64_t now_ms = vc_clock_unix_ms(journal->settings.clock);
  int is_told = journal->settings.sink.erased_by != NULL;
  struct vc_record *notice = is_told ? notice_create(journal, query, now_ms) : NULL;
  int status = is_told && notice == NULL
                   ? vc_error_set(error, "no memory")
                   : outbox_erase(journal->outbox, vc_query_slug(query), vc_query_number(query),
                                  notice, now_ms, error);
  vc_record_destroy(&notice);
  return status;
}

static void handle_erase(struct vc_worker *worker, struct vc_query *query)
{
  struct vc_journal *journal = journal_of(worker);
  struct vc_error error;
  erase_pending(journal, query);
  int status = erase(journal, query, &error);
  if (status != 0) {
    vc_log(VC_LOG_ERROR, VC_EVENT("journal.erase_failed"), VC_STR("why", error.text));
  }
  count_size(worker);
  look_at_dead(worker);
  tell_relay(journal);
  vc_query_answer(query, status == 0 ? 200 : 503, NULL);
}

struct list {
  struct vc_text text;
  int is_cut;
};

static int add_to_list(void *context, const void *value, size_t size)
{
  struct list *list = context;
  list->is_cut = list->text.size + size + 2 > VC_JOURNAL_ANSWER_MAX;
  if (!list->is_cut) {
    vc_text_add(&list->text, list->text.size > 0 ? "," : "[");
    vc_text_append(&list->text, value, size);
  }
  return list->is_cut || list->text.has_failed;
}

static void add_pending(const struct vc_journal *journal, const char *slug, struct list *list)
{
  const struct vc_record *const lists[] = {journal->past.refused, journal->past.offered,
                                           journal->pending};
  const struct vc_record *record;
  for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
    DL_FOREACH(lists[i], record)
    {
      if (strcmp(record->slug, slug) == 0 &&
          add_to_list(list, record->value->data, record->value->size) != 0) {
        return;
      }
    }
  }
}

static void answer_with(struct vc_query *query, struct list *list)
{
  if (list->is_cut) {
    vc_query_mark_incomplete(query);
  }
  if (list->text.size == 0 && !list->text.has_failed && !list->is_cut) {
    vc_query_answer(query, 404, NULL);
    return;
  }
  vc_text_add(&list->text, list->text.size > 0 ? "]" : "[]");
  struct vc_buffer *reply = vc_text_take(&list->text);
  vc_query_answer(query, reply != NULL ? 200 : 503, reply);
}

static void handle_unrelayed(struct vc_worker *worker, struct vc_query *query)
{
  struct vc_journal *journal = journal_of(worker);
  struct list list = {.is_cut = 0};
  struct vc_error error;
  const char *slug = vc_query_slug(query);
  if (outbox_visit(journal->outbox, slug, add_to_list, &list, &error) != 0) {
    vc_log(VC_LOG_WARN, VC_EVENT("journal.unreadable"), VC_STR("why", error.text));
    vc_query_answer(query, 503, NULL);
  } else {
    if (!list.is_cut) {
      add_pending(journal, slug, &list);
    }
    answer_with(query, &list);
  }
  vc_text_fini(&list.text);
}

static void handle_query(struct vc_worker *worker, struct vc_query *query)
{
  switch (vc_query_kind(query)) {
  case VC_QUERY_ERASE:
    handle_erase(worker, query);
    break;
  case VC_QUERY_UNRELAYED:
    handle_unrelayed(worker, query);
    break;
  default: // another room's
    vc_query_answer(query, 501, NULL);
    break;
  }
}

static void handle(struct vc_worker *worker, struct vc_item *item)
{
  if (item->kind == VC_ITEM_RECORD) {
    handle_record(worker, (struct vc_record *)item);
  } else if (item->kind == VC_ITEM_QUERY) {
    handle_query(worker, vc_query_of(item));
  } else {
    vc_item_destroy(item);
  }
}

// What the disk has against it goes first; that it is full is told when the disk is well. A disk
// without room takes a commit now and then, where the file has some left: that is not well yet.
static void tell_health(struct vc_worker *worker)
{
  struct vc_journal *journal = journal_of(worker);
  if (journal->backoff_ms != 0) {
    return;
  }
  if (vc_journal_refusal(journal) != NULL) {
    journal->is_degraded = 1;
    vc_health_set(journal->settings.health, "journal",
                  "journal is full (JOURNAL_MAX_BYTES): new publishers are refused");
  } else if (journal->is_degraded && vc_worker_now_ns(worker) >= journal->calm_ns) {
    journal->is_degraded = 0;
    vc_health_clear(journal->settings.health, "journal");
  }
}

static void tick(struct vc_worker *worker)
{
  past_settle(worker);
  past_offer(journal_of(worker));
  commit_when_due(worker);
  tell_health(worker);
  tell_rest_of_lost(worker);
  tell_sizes(worker);
  if (journal_of(worker)->has_dead && vc_worker_now_ns(worker) >= journal_of(worker)->look_ns) {
    look_at_dead(worker);
  }
}

static int is_drained(struct vc_worker *worker)
{
  struct vc_journal *journal = journal_of(worker);
  past_settle(worker);
  past_offer(journal);
  if (has_uncommitted(journal) && vc_worker_now_ns(worker) >= journal->retry_ns) {
    commit(worker);
  }
  return !has_uncommitted(journal);
}

static int enter(struct vc_worker *worker, void *config, struct vc_error *error)
{
  vc_worker_set_state(worker, *(struct vc_journal **)config);
  count_size(worker);
  look_at_dead(worker);
  tell_sizes(worker);
  vc_metric_set(vc_worker_slots(worker), BYTES_MAX,
                journal_of(worker)->settings.options->journal_max_bytes);
  return 0;
}

static void leave(struct vc_worker *worker)
{
  struct vc_journal *journal = journal_of(worker);
  past_settle(worker);
  past_take_back(journal);
  journal->n_uncommitted = journal->n_pending;
  while (journal->pending != NULL) {
    lose_oldest(worker);
  }
}

static const struct vc_stage_ops ops = {
    .name = "journal",
    .enter = enter,
    .handle = handle,
    .tick = tick,
    .is_drained = is_drained,
    .leave = leave,
};

static int open_outbox(struct vc_journal *journal, struct vc_error *error)
{
  const struct vc_journal_settings *settings = &journal->settings;
  int status = outbox_open(&journal->outbox, settings->options->journal_path,
                           vc_clock_unix_ms(settings->clock), error);
  if (status > 0) {
    journal->backoff_ms = BACKOFF_FIRST_MS; // until the first commit that goes well
    journal->is_degraded = 1;
    vc_health_set(settings->health, "journal", error->text);
  }
  if (status == 0) {
    atomic_store_explicit(&journal->highest_epoch, outbox_highest_epoch(journal->outbox),
                          memory_order_relaxed);
  }
  return status < 0 ? -1 : 0;
}

int vc_journal_create(struct vc_journal **journal_out, const struct vc_journal_settings *settings,
                      struct vc_error *error)
{
  struct vc_journal *journal = calloc(1, sizeof *journal);
  if (journal == NULL) {
    return vc_error_set(error, "journal: no memory");
  }
  journal->settings = *settings;
  if (settings->pending_max_bytes == 0) {
    journal->settings.pending_max_bytes = VC_JOURNAL_PENDING_MAX;
  }
  pthread_condattr_t attributes;
  pthread_condattr_init(&attributes);
  pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
  pthread_mutex_init(&journal->mutex, NULL);
  pthread_cond_init(&journal->changed, &attributes);
  pthread_condattr_destroy(&attributes);
  if (settings->metrics != NULL) {
    journal->relay_slots = vc_metrics_slots_create(settings->metrics, vc_journal_metrics);
  }
  if (past_init(&journal->past, settings->sink.most, error) != 0 ||
      open_outbox(journal, error) != 0 ||
      vc_stage_create(&journal->stage,
                      &(struct vc_stage_settings){
                          .ops = &ops,
                          .config = &journal,
                          .config_size = sizeof(struct vc_journal *),
                          .n_workers = 1,
                          .tick_ms = TICK_MS,
                          .lane_capacity = LANE_CAPACITY,
                          .clock = settings->clock,
                          .metrics = settings->metrics,
                          .metric_rows = vc_journal_metrics,
                      },
                      error) != 0) {
    vc_journal_destroy(&journal);
    return -1;
  }
  *journal_out = journal;
  return 0;
}

struct vc_stage *vc_journal_stage(struct vc_journal *journal)
{
  return journal->stage;
}

int vc_journal_start(struct vc_journal *journal, struct vc_error *error)
{
  if (vc_stage_start(journal->stage, error) != 0) {
    return -1;
  }
  int status = vc_thread_start(&journal->relay, "vc-relay", 0, relay_run, journal);
  if (status != 0) {
    vc_stage_stop(journal->stage, 0);
    return vc_error_set(error, "journal: no thread: %s", strerror(status));
  }
  journal->has_relay = 1;
  return 0;
}

size_t vc_journal_stop(struct vc_journal *journal, uint32_t flush_ms)
{
  vc_stage_stop(journal->stage, flush_ms);
  if (journal->has_relay) {
    pthread_mutex_lock(&journal->mutex);
    journal->is_stopping = 1;
    journal->stop_ns = vc_clock_now_ns(&vc_clock_system) + flush_ms * VC_NS_PER_MS;
    pthread_cond_signal(&journal->changed);
    pthread_mutex_unlock(&journal->mutex);
    pthread_join(journal->relay, NULL);
    journal->has_relay = 0;
    // The rows that went in the last moments are not sent again at the next start.
    struct vc_error error;
    struct outbox_deleted deleted;
    int64_t upto = atomic_load_explicit(&journal->relayed_upto, memory_order_acquire);
    take_graves(journal, upto);
    const struct outbox_batch batch = {.graves = journal->graves, .delete_upto = upto};
    int status = upto > journal->deleted_upto
                     ? outbox_commit(journal->outbox, &batch,
                                     vc_clock_unix_ms(journal->settings.clock), &deleted, &error)
                     : 0;
    if (status != 0) {
      vc_log(VC_LOG_WARN, VC_EVENT("journal.delete_failed"), VC_STR("why", error.text));
    } else if (upto > journal->deleted_upto) {
      vc_metric_add(journal->relay_slots, DEAD, (uint64_t)deleted.buried);
    }
  }
  return journal->n_uncommitted;
}

void vc_journal_destroy(struct vc_journal **journal)
{
  if (*journal != NULL) {
    vc_stage_destroy(&(*journal)->stage);
    free_graves(&(*journal)->graves);
    free_graves(&(*journal)->found);
    past_fini(&(*journal)->past);
    outbox_close(&(*journal)->outbox);
    pthread_mutex_destroy(&(*journal)->mutex);
    pthread_cond_destroy(&(*journal)->changed);
    free(*journal);
    *journal = NULL;
  }
}

int64_t vc_journal_highest_epoch(const struct vc_journal *journal)
{
  return atomic_load_explicit(&journal->highest_epoch, memory_order_relaxed);
}

int vc_journal_is_relay_stuck(const struct vc_journal *journal, uint32_t silent_ms)
{
  uint64_t since_ns = atomic_load_explicit(&journal->relay_call_ns, memory_order_relaxed);
  uint64_t now_ns = vc_clock_now_ns(&vc_clock_system);
  return since_ns != 0 && now_ns > since_ns && now_ns - since_ns > silent_ms * VC_NS_PER_MS;
}

const char *vc_journal_refusal(const struct vc_journal *journal)
{
  return atomic_load_explicit(&journal->bytes, memory_order_relaxed) >=
                 journal->settings.options->journal_max_bytes
             ? "The journal is full."
             : NULL;
}
