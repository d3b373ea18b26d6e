// Past the disk: what the file does not take goes to the brokers all the same.
//
// The second commit in a row that fails offers the oldest of what is pending to the relay, at most
// a batch at a time. The relay takes it only when the file had no row left to be sent and no commit
// has come since it looked, so that first occurrences keep their order. What the brokers have
// acknowledged needs no row any more.
//
// Commits go on being tried with all that is pending, the offered too. One that goes well withdraws
// the offer: what the relay may have sent of it by then is sent again from the file, behind
// its first occurrence. Nobody has to wait for anybody, and nothing is in memory alone for longer
// than the disk is full.
//
// Two things are left for the file: the turns of sessions, without which the next start would end
// what has ended (one that began and ended past the disk leaves nothing, so that there are at most
// as many as sessions); and records that are hopeless, which become rows, and dead ones, when there
// is room. A file that cannot be read lets nothing past: it may hold what comes before. One that is
// corrupt is moved aside at the next start, and is waited for by nobody.
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "room.h"

#define FAILED_MIN 2 // one that fails once may go well a moment later

int past_init(struct past *past, uint32_t most, struct vc_error *error)
{
  past->next_id = -1;
  past->most = most > 0 ? most : VC_JOURNAL_MOST;
  past->hopeless = calloc(past->most, sizeof *past->hopeless);
  return past->hopeless != NULL ? 0 : vc_error_set(error, "journal: no memory");
}

void past_forget_turns(struct past *past)
{
  struct vc_record *record, *next;
  DL_FOREACH_SAFE(past->turns, record, next)
  {
    DL_DELETE(past->turns, record);
    vc_record_destroy(&record);
  }
}

void past_fini(struct past *past)
{
  past_forget_turns(past);
  free(past->hopeless);
}

void past_take_back(struct vc_journal *journal)
{
  struct past *past = &journal->past;
  pthread_mutex_lock(&journal->mutex);
  struct vc_record *offered = past->offered;
  past->offered = NULL;
  past->is_sent = 0;
  pthread_mutex_unlock(&journal->mutex);
  DL_CONCAT(offered, journal->pending);
  DL_CONCAT(past->refused, offered);
  journal->pending = past->refused;
  past->refused = NULL;
}

void past_offer(struct vc_journal *journal)
{
  struct past *past = &journal->past;
  if (!journal->settings.sink.is_past_disk || journal->n_failed < FAILED_MIN ||
      journal->pending == NULL || past->offered != NULL) {
    return;
  }
  struct vc_record *offered = NULL;
  size_t n = 0;
  while (journal->pending != NULL && n < past->most) {
    struct vc_record *record = journal->pending;
    DL_DELETE(journal->pending, record);
    DL_APPEND(offered, record);
    n++;
  }
  pthread_mutex_lock(&journal->mutex);
  past->offered = offered;
  past->first_id = past->next_id;
  past->next_id -= (int64_t)n;
  memset(past->hopeless, 0, past->most * sizeof *past->hopeless);
  pthread_cond_signal(&journal->changed);
  pthread_mutex_unlock(&journal->mutex);
}

// --- what the relay says of it

static void keep_turn(struct past *past, struct vc_record *turn)
{
  struct vc_record *begun;
  DL_FOREACH(past->turns, begun)
  {
    if (turn->kind == VC_RECORD_SESSION_ENDED && begun->kind == VC_RECORD_SESSION_STARTED &&
        begun->epoch == turn->epoch && strcmp(begun->slug, turn->slug) == 0) {
      DL_DELETE(past->turns, begun);
      vc_record_destroy(&begun);
      vc_record_destroy(&turn);
      return;
    }
  }
  DL_APPEND(past->turns, turn);
}

static void settle_one(struct vc_worker *worker, struct vc_record *record)
{
  struct vc_journal *journal = vc_worker_state(worker);
  vc_metric_add(vc_worker_slots(worker), PAST_DISK, 1);
  journal->n_pending--;
  journal->pending_bytes -= record_cost(record);
  if (record->epoch > journal->past.epoch) {
    journal->past.epoch = record->epoch;
  }
  if (record->kind == VC_RECORD_SESSION_STARTED || record->kind == VC_RECORD_SESSION_ENDED) {
    keep_turn(&journal->past, record);
    return;
  }
  if (record->kind == VC_RECORD_FINAL && vc_log_level_get() >= VC_LOG_DEBUG) {
    vc_log(VC_LOG_DEBUG, VC_EVENT("journal_past_disk"), VC_STR("session", record->slug),
           VC_INT("epoch", record->epoch), VC_INT("seq", record->seq));
  }
  vc_record_destroy(&record);
}

void past_settle(struct vc_worker *worker)
{
  struct vc_journal *journal = vc_worker_state(worker);
  struct past *past = &journal->past;
  struct vc_record *sent = NULL, *record, *next;
  pthread_mutex_lock(&journal->mutex);
  if (past->is_sent) {
    sent = past->offered;
    past->offered = NULL;
    past->is_sent = 0;
  }
  pthread_mutex_unlock(&journal->mutex);
  if (sent == NULL) {
    return;
  }
  size_t i = 0;
  DL_FOREACH_SAFE(sent, record, next)
  {
    DL_DELETE(sent, record);
    if (past->hopeless[i++] != NULL) {
      DL_APPEND(past->refused, record);
    } else {
      settle_one(worker, record);
    }
  }
  journal->oldest_ns = vc_worker_now_ns(worker);
}

// --- the relay's side

static int copy_record(const struct vc_record *record, int64_t id, struct outbox_row *row)
{
  size_t size = record->value->size, slug_size = strlen(record->slug);
  char *value = malloc(size + 1 + slug_size + 1);
  if (value == NULL) {
    return -1;
  }
  memcpy(value, record->value->data, size);
  value[size] = '\0';
  memcpy(value + size + 1, record->slug, slug_size + 1);
  *row = (struct outbox_row){.id = id,
                             .kind = record->kind,
                             .epoch = record->epoch,
                             .value = value,
                             .size = size,
                             .key = value + size + 1};
  return 0;
}

int past_take(struct vc_journal *journal, uint64_t seen, struct outbox_row *rows)
{
  struct past *past = &journal->past;
  const struct vc_record *record;
  int n = 0;
  pthread_mutex_lock(&journal->mutex);
  if (journal->n_commits == seen && !past->is_sent) {
    DL_FOREACH(past->offered, record)
    {
      if (copy_record(record, past->first_id - n, &rows[n]) != 0) {
        break;
      }
      n++;
    }
    if (record != NULL) {
      while (n > 0) {
        free(rows[--n].value);
      }
      n = -1;
    }
  }
  pthread_mutex_unlock(&journal->mutex);
  return n;
}

void past_report(struct vc_journal *journal, const struct vc_journal_row *rows, size_t n)
{
  struct past *past = &journal->past;
  pthread_mutex_lock(&journal->mutex);
  if (past->offered != NULL && past->first_id == rows[0].id) { // else it was withdrawn
    for (size_t i = 0; i < n; i++) {
      past->hopeless[i] = rows[i].hopeless;
    }
    past->is_sent = 1;
  }
  pthread_mutex_unlock(&journal->mutex);
}

int past_is_offered(const struct vc_journal *journal)
{
  return journal->past.offered != NULL && !journal->past.is_sent;
}
