// What must outlive the node, to the journal; and partials, to whoever wants them. The ledger never
// waits for it: what does not fit the lane waits here, and at BACKLOG_MAX_BYTES the oldest loses
// its durability.
#include "ledger.h"

#include <verbacast/wire/record.h>

#include <stdlib.h>
#include <string.h>

#define LOG_INTERVAL_MS 10000
#define CONDITION "journal_backlog" // "journal" is the journal's own to set and to clear

static size_t bytes_of(const struct vc_record *record)
{
  return sizeof *record + sizeof *record->value + record->value->capacity;
}

static void lose(struct ledger *ledger, struct vc_record *record)
{
  uint64_t n_left_out;
  ledger_count(ledger, RECORDS_LOST);
  ledger->is_journal_bad = 1;
  vc_health_set(ledger->settings->health, CONDITION, "records were lost: the journal is behind");
  if (vc_log_limit_pass(&ledger->lost_limit, vc_worker_now_ns(ledger->worker), LOG_INTERVAL_MS,
                        &n_left_out)) {
    vc_log(VC_LOG_ERROR, VC_EVENT("journal.lost"), VC_STR("session", record->slug),
           VC_INT("epoch", record->epoch), VC_INT("seq", record->seq),
           VC_INT("left_out", n_left_out));
  }
  vc_record_destroy(&record);
}

static void take(struct ledger *ledger, struct vc_record *record)
{
  DL_DELETE(ledger->backlog, record);
  ledger->backlog_bytes -= bytes_of(record);
}

static void lose_oldest(struct ledger *ledger)
{
  struct vc_record *oldest = ledger->backlog;
  take(ledger, oldest);
  lose(ledger, oldest);
}

static int put(struct ledger *ledger, struct vc_record *record)
{
  uint32_t worker = vc_slug_hash(record->slug, strlen(record->slug)) % ledger->n_journal_workers;
  return vc_putter_put(ledger->journal, worker, &record->item);
}

static void keep(struct ledger *ledger, struct vc_record *record)
{
  DL_APPEND(ledger->backlog, record);
  ledger->backlog_bytes += bytes_of(record);
  while (ledger->backlog_bytes > BACKLOG_MAX_BYTES) {
    lose_oldest(ledger);
  }
}

// Takes the record and the reference of its value, which may be NULL.
static void send(struct ledger *ledger, struct vc_record *record, struct vc_buffer *value)
{
  if (record == NULL || value == NULL) {
    ledger_out_of_memory(ledger);
    ledger_count(ledger, RECORDS_LOST);
    vc_record_destroy(&record);
    vc_buffer_unref(value);
    return;
  }
  record->value = value;
  if (ledger->backlog != NULL || put(ledger, record) != 0) {
    keep(ledger, record);
  }
}

void records_retry(struct ledger *ledger)
{
  while (ledger->backlog != NULL) {
    struct vc_record *oldest = ledger->backlog;
    take(ledger, oldest); // before the put: then its links are the journal's
    if (put(ledger, oldest) != 0) {
      DL_PREPEND(ledger->backlog, oldest);
      ledger->backlog_bytes += bytes_of(oldest);
      break;
    }
  }
  if (ledger->backlog == NULL && ledger->is_journal_bad) {
    ledger->is_journal_bad = 0;
    vc_health_clear(ledger->settings->health, CONDITION);
  }
}

static struct vc_buffer *print(const struct vc_record_fields *fields)
{
  struct vc_text text = {0};
  vc_record_print(&text, fields);
  return vc_text_take(&text);
}

static void send_turn(struct ledger *ledger, const struct session *session,
                      enum vc_record_kind kind, struct vc_record_fields *fields)
{
  const struct epoch *epoch = session_newest(session);
  if (ledger->journal == NULL) {
    return;
  }
  fields->session = session->slug;
  fields->epoch = epoch->number;
  fields->node = ledger->node;
  fields->started_at_ms = epoch->started_unix_ms;
  struct vc_record *record = vc_record_create(kind, session->slug);
  if (record != NULL) {
    record->epoch = epoch->number;
  }
  send(ledger, record, print(fields));
}

void record_started(struct ledger *ledger, const struct session *session)
{
  struct vc_record_fields fields = {.type = VC_RECORD_TYPE_SESSION_STARTED};
  send_turn(ledger, session, VC_RECORD_SESSION_STARTED, &fields);
}

void record_ended(struct ledger *ledger, const struct session *session, const char *reason)
{
  struct vc_record_fields fields = {.type = VC_RECORD_TYPE_SESSION_ENDED,
                                    .ended_at_ms = vc_clock_unix_ms(ledger->settings->clock),
                                    .reason = reason};
  send_turn(ledger, session, VC_RECORD_SESSION_ENDED, &fields);
}

void record_final(struct ledger *ledger, const struct session *session,
                  const struct vc_message *message)
{
  if (ledger->journal == NULL) {
    return;
  }
  struct vc_record *record = vc_record_create(VC_RECORD_FINAL, session->slug);
  if (record != NULL) {
    record->epoch = message->epoch;
    record->seq = message->seq;
  }
  send(ledger, record, vc_buffer_ref(message->record));
}

// For those who may do without: what does not fit the lane is not waited for.
void record_partial(struct ledger *ledger, const struct vc_message *message,
                    struct vc_buffer *value)
{
  struct vc_record *record = vc_record_create(VC_RECORD_PARTIAL, message->slug);
  if (record == NULL || value == NULL) {
    ledger_out_of_memory(ledger);
    vc_buffer_unref(value);
    vc_record_destroy(&record);
    return;
  }
  record->epoch = message->epoch;
  record->seq = message->seq;
  record->value = value;
  if (vc_putter_put(ledger->partials, 0, &record->item) != 0) {
    ledger_count(ledger, PARTIALS_DROPPED);
    vc_record_destroy(&record);
  }
}

void records_erase(struct ledger *ledger, const char *slug)
{
  struct vc_record *record, *next;
  DL_FOREACH_SAFE(ledger->backlog, record, next)
  {
    if (strcmp(record->slug, slug) == 0) {
      take(ledger, record);
      vc_record_destroy(&record);
    }
  }
}

void records_fini(struct ledger *ledger)
{
  while (ledger->backlog != NULL) {
    lose_oldest(ledger);
  }
}
