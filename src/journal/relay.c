// The relay reads rows in the order of their ids and gives them to the sink; that they are there is
// told to the stage, whose next commit deletes them. A crash between the two sends them again,
// which the sink's unique keys take for what it is.
#include <verbacast/base/backoff.h>
#include <verbacast/base/log.h>

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <utlist.h>

#include "room.h"

#define BACKOFF_FIRST_MS 100
#define BACKOFF_MAX_MS 5000 // when the sink does not say
#define IDLE_MS 500         // looks anew even if no commit was told

struct relay {
  struct vc_journal *journal;
  struct outbox *outbox;
  struct outbox_row *rows;
  struct vc_journal_row *shown;
  int most;
  int64_t sent_upto;
  int is_unreadable; // the last read failed
  uint64_t idle_ns;  // since when the sink was given nothing
  int is_unproven;   // the sink was away before the first row: it is asked without one
};

static uint64_t now_ns(void)
{
  return vc_clock_now_ns(&vc_clock_system);
}

// Waits for a commit beyond `seen` or an offer, the stop, or the time. Returns: 1 when the relay
// has to end.
static int wait_changed(struct vc_journal *journal, uint64_t seen, uint64_t wait_ms,
                        int also_commits)
{
  struct timespec limit;
  clock_gettime(CLOCK_MONOTONIC, &limit);
  uint64_t ns = (uint64_t)limit.tv_nsec + wait_ms * VC_NS_PER_MS;
  limit.tv_sec += (time_t)(ns / VC_NS_PER_S);
  limit.tv_nsec = (long)(ns % VC_NS_PER_S);
  int status = 0;
  pthread_mutex_lock(&journal->mutex);
  while (status == 0 && !journal->is_stopping &&
         !(also_commits && (journal->n_commits != seen || past_is_offered(journal)))) {
    status = pthread_cond_timedwait(&journal->changed, &journal->mutex, &limit);
  }
  int is_over = journal->is_stopping && now_ns() >= journal->stop_ns;
  pthread_mutex_unlock(&journal->mutex);
  return is_over;
}

static int is_stopping(struct vc_journal *journal)
{
  pthread_mutex_lock(&journal->mutex);
  int stopping = journal->is_stopping;
  pthread_mutex_unlock(&journal->mutex);
  return stopping;
}

// Before a call that may block, and behind the last.
static void begin_call(struct vc_journal *journal)
{
  atomic_store_explicit(&journal->relay_call_ns, now_ns(), memory_order_relaxed);
}

static void end_call(struct vc_journal *journal)
{
  atomic_store_explicit(&journal->relay_call_ns, 0, memory_order_relaxed);
}

static int send_rows(struct relay *relay, int n, struct vc_error *error)
{
  const struct vc_journal_sink *sink = &relay->journal->settings.sink;
  for (int i = 0; i < n; i++) {
    relay->shown[i] = (struct vc_journal_row){.id = relay->rows[i].id,
                                              .kind = relay->rows[i].kind,
                                              .key = relay->rows[i].key,
                                              .epoch = relay->rows[i].epoch,
                                              .value = relay->rows[i].value,
                                              .size = relay->rows[i].size};
  }
  return sink->write == NULL ? 0 : sink->write(sink->context, relay->shown, (size_t)n, error);
}

static void set_oldest(struct relay *relay, int n)
{
  atomic_store_explicit(&relay->journal->oldest_unix_ms, n > 0 ? relay->rows[0].added_ms : 0,
                        memory_order_relaxed);
}

// Its connection is made when it is first needed and as often as it takes: the disk may be too full
// for it. Returns: how many, or -1.
static int read_rows(struct relay *relay, struct vc_error *error)
{
  const char *path = relay->journal->settings.options->journal_path;
  struct vc_error why;
  int n = relay->outbox == NULL ? outbox_open_reader(&relay->outbox, path, &why) : 0;
  if (n == 0) {
    n = outbox_read(relay->outbox, relay->sent_upto, relay->rows, relay->most, &why);
  }
  return n < 0 ? vc_error_set(error, "the journal cannot be read: %.400s", why.text) : n;
}

// Rows that the sink will never take are no longer in the way of those behind them. Returns: how
// many, or -1: the batch is to be given again.
static int find_graves(struct relay *relay, int n)
{
  struct vc_journal *journal = relay->journal;
  struct outbox_grave *found = NULL, *grave, *next;
  int n_found = 0;
  for (int i = 0; i < n; i++) {
    const struct vc_journal_row *row = &relay->shown[i];
    if (row->hopeless == NULL) {
      continue;
    }
    grave = calloc(1, sizeof *grave);
    if (grave == NULL) {
      DL_FOREACH_SAFE(found, grave, next)
      {
        free(grave);
      }
      return -1;
    }
    *grave = (struct outbox_grave){.id = row->id, .reason = row->hopeless};
    DL_APPEND(found, grave);
    n_found++;
    vc_log(VC_LOG_ERROR, VC_EVENT("journal.dead"), VC_STR("session", row->key),
           VC_INT("epoch", row->epoch), VC_STR("why", row->hopeless), VC_INT("bytes", row->size));
  }
  pthread_mutex_lock(&journal->mutex);
  DL_CONCAT(journal->found, found);
  pthread_mutex_unlock(&journal->mutex);
  return n_found;
}

// What the sink has taken. Returns: 0, or -1: the batch is to be given again.
static int let_go(struct relay *relay, int n, struct vc_error *error)
{
  struct vc_journal *journal = relay->journal;
  if (relay->rows[0].id < 0) {
    past_report(journal, relay->shown, (size_t)n);
    return 0;
  }
  int n_dead = find_graves(relay, n);
  if (n_dead < 0) {
    return vc_error_set(error, "no memory for rows that are dead");
  }
  relay->sent_upto = relay->rows[n - 1].id;
  if (n < relay->most) {
    set_oldest(relay, 0);
  }
  vc_metric_add(journal->relay_slots, RELAYED, (uint64_t)(n - n_dead));
  // Release: whoever deletes the rows sees that they were written.
  atomic_store_explicit(&journal->relayed_upto, relay->sent_upto, memory_order_release);
  return 0;
}

// Of a file that is corrupt nobody reads in this life what may come before: it holds nothing up.
static int is_corrupt(const struct relay *relay)
{
  return relay->outbox != NULL && outbox_is_corrupt(relay->outbox);
}

// Rows of the file; where it has none, what goes past it. Returns: how many, or -1.
static int find_rows(struct relay *relay, uint64_t seen, struct vc_error *error)
{
  int n = read_rows(relay, error);
  relay->is_unreadable |= n < 0;
  if (n >= 0) {
    set_oldest(relay, n);
  }
  if (n > 0 || (n < 0 && !is_corrupt(relay))) {
    return n;
  }
  int n_past = past_take(relay->journal, seen, relay->rows);
  if (n_past < 0) {
    return vc_error_set(error, "no memory for what goes past the disk");
  }
  return n_past > 0 ? n_past : n;
}

static int is_idle(const struct relay *relay)
{
  uint64_t idle_ms = relay->journal->settings.sink.idle_ms;
  return idle_ms > 0 && now_ns() - relay->idle_ns >= idle_ms * VC_NS_PER_MS;
}

// One batch; `seen`: commits before it. Returns: rows sent, or -1: it failed.
static int relay_batch(struct relay *relay, uint64_t seen)
{
  struct vc_journal *journal = relay->journal;
  const char *what = journal->settings.sink.what;
  struct vc_error error;
  int was_unreadable = relay->is_unreadable;
  relay->is_unreadable = 0;
  begin_call(journal);
  int n = find_rows(relay, seen, &error);
  int is_probe = n == 0 && (relay->is_unproven || is_idle(relay));
  begin_call(journal);
  int status = n > 0 || is_probe ? send_rows(relay, n, &error) : n;
  end_call(journal);
  relay->idle_ns = n > 0 || is_probe ? now_ns() : relay->idle_ns;
  if (status >= 0 && n > 0) {
    status = let_go(relay, n, &error);
    vc_stage_wake(journal->stage);
  }
  if (status < 0) {
    vc_metric_add(journal->relay_slots, RELAY_ERRORS, 1);
    vc_health_set(journal->settings.health, what, error.text);
  } else if (!relay->is_unreadable && (n > 0 || is_probe || was_unreadable)) {
    vc_health_clear(journal->settings.health, what);
    relay->is_unproven = 0;
  }
  for (int i = 0; i < n; i++) {
    free(relay->rows[i].value);
  }
  return status < 0 ? -1 : n;
}

static void relay_until_stop(struct relay *relay)
{
  struct vc_journal *journal = relay->journal;
  uint64_t interval_ms = journal->settings.sink.gather_ms;
  uint64_t backoff_max_ms = journal->settings.sink.backoff_max_ms > 0
                                ? journal->settings.sink.backoff_max_ms
                                : BACKOFF_MAX_MS;
  uint64_t backoff_ms = 0;
  for (;;) {
    pthread_mutex_lock(&journal->mutex);
    uint64_t seen = journal->n_commits;
    pthread_mutex_unlock(&journal->mutex);
    int stopping = is_stopping(journal);
    relay->is_unproven &= !stopping;
    int n = relay_batch(relay, seen);
    if (n == relay->most) {
      backoff_ms = 0;
      if (stopping && wait_changed(journal, seen, 0, 0)) {
        return;
      }
      continue; // more is there
    }
    if (n >= 0 && stopping) {
      return; // all of it was sent
    }
    backoff_ms = n >= 0 ? 0 : vc_backoff_next(backoff_ms, BACKOFF_FIRST_MS, backoff_max_ms);
    if (n < 0) {
      if (wait_changed(journal, seen, stopping ? BACKOFF_FIRST_MS : backoff_ms, 0)) {
        return;
      }
      if (stopping) {
        nanosleep(&(struct timespec){.tv_nsec = BACKOFF_FIRST_MS * 1000000L}, NULL);
      }
      continue;
    }
    // A batch gathers for an interval after the commit that begins it.
    if (wait_changed(journal, seen, IDLE_MS, 1) || wait_changed(journal, seen, interval_ms, 0)) {
      return;
    }
  }
}

static int is_degraded(struct vc_health *health, const char *what)
{
  struct vc_condition conditions[VC_HEALTH_MAX];
  size_t n = health != NULL ? vc_health_list(health, conditions) : 0;
  while (n > 0 && strcmp(conditions[n - 1].what, what) != 0) {
    n--;
  }
  return n > 0;
}

void *relay_run(void *context)
{
  struct vc_journal *journal = context;
  struct relay relay = {.journal = journal, .most = (int)journal->past.most};
  const struct vc_journal_sink *sink = &journal->settings.sink;
  relay.is_unproven = sink->write != NULL && is_degraded(journal->settings.health, sink->what);
  relay.rows = calloc((size_t)relay.most, sizeof *relay.rows);
  relay.shown = calloc((size_t)relay.most, sizeof *relay.shown);
  if (relay.rows == NULL || relay.shown == NULL) {
    vc_health_set(journal->settings.health, "journal", "no memory for the relay");
  } else {
    relay_until_stop(&relay);
  }
  outbox_close(&relay.outbox);
  free(relay.rows);
  free(relay.shown);
  return NULL;
}
