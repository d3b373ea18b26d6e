// What HTTP asks: which sessions, whose transcript, and to forget one.
#include "ledger.h"

#include <inttypes.h>
#include <stdio.h>

static void print_session(const struct ledger *ledger, struct vc_text *text,
                          const struct session *session)
{
  const struct epoch *epoch = session_newest(session);
  vc_text_add(text, "{\"slug\":");
  vc_text_json_string(text, session->slug);
  if (epoch != NULL) {
    vc_text_format(text, ",\"epoch\":%" PRId64 ",\"state\":\"%s\",\"startedAt\":%" PRId64 ".%03d",
                   epoch->number,
                   vc_state_text(fleet_is_known(ledger, session) ? epoch->state : VC_STATE_UNKNOWN),
                   epoch->started_unix_ms / 1000, (int)(epoch->started_unix_ms % 1000));
  } else {
    vc_text_format(text, ",\"epoch\":0,\"state\":\"%s\",\"startedAt\":null",
                   vc_state_text(VC_STATE_IDLE));
  }
  vc_text_format(text, ",\"viewers\":%" PRIu32 "}", session->n_viewers);
}

static void answer_sessions(struct ledger *ledger, struct vc_query *query)
{
  struct vc_text text = {0};
  struct session *session, *next;
  vc_text_add(&text, "[");
  HASH_ITER(hh, ledger->sessions, session, next)
  {
    if (text.size > 1) {
      vc_text_add(&text, ",");
    }
    print_session(ledger, &text, session);
  }
  vc_text_add(&text, "]");
  struct vc_buffer *reply = vc_text_take(&text);
  vc_query_answer(query, reply != NULL ? 200 : 503, reply);
}

static void answer_began(struct ledger *ledger, struct vc_query *query)
{
  const struct session *session = session_find(ledger, vc_query_slug(query));
  char text[32];
  if (session == NULL) {
    vc_query_answer(query, 404, NULL);
    return;
  }
  int n = snprintf(text, sizeof text, "[%" PRId64 "]", session_began_ms(session));
  struct vc_buffer *reply = vc_buffer_copy(text, (size_t)n);
  vc_query_answer(query, reply != NULL ? 200 : 503, reply);
}

// The records of all finals, and the size of their list.
static size_t list_size(const struct session *session, int *is_complete)
{
  size_t size = 2; // the brackets
  const struct epoch *epoch;
  *is_complete = !session->has_lost_epochs;
  DL_FOREACH(session->epochs, epoch)
  {
    *is_complete &= epoch->dropped_to == 0 && epoch->hole_to == 0;
    const struct vc_message *final = NULL;
    while ((final = history_after(&epoch->history, final != NULL ? final->seq : 0,
                                  HISTORY_FINALS_ONLY)) != NULL) {
      size += final->record != NULL ? final->record->size + 1 : 0;
      *is_complete &= final->record != NULL; // another node's has none here
    }
  }
  return size;
}

static void append(struct vc_buffer *buffer, const void *bytes, size_t size)
{
  memcpy(buffer->data + buffer->size, bytes, size);
  buffer->size += (uint32_t)size;
}

static void append_epoch(struct vc_buffer *reply, const struct epoch *epoch)
{
  const struct vc_message *final = NULL;
  while ((final = history_after(&epoch->history, final != NULL ? final->seq : 0,
                                HISTORY_FINALS_ONLY)) != NULL) {
    if (final->record == NULL) {
      continue;
    }
    if (reply->size > 1) {
      append(reply, ",", 1);
    }
    append(reply, final->record->data, final->record->size);
  }
}

static void answer_transcript(struct ledger *ledger, struct vc_query *query)
{
  const struct session *session = session_find(ledger, vc_query_slug(query));
  if (session == NULL || session->epochs == NULL) {
    vc_query_answer(query, 404, NULL);
    return;
  }
  int is_complete;
  struct vc_buffer *reply = vc_buffer_create(list_size(session, &is_complete));
  if (reply == NULL) {
    vc_query_answer(query, 503, NULL);
    return;
  }
  const struct epoch *epoch;
  append(reply, "[", 1);
  DL_FOREACH(session->epochs, epoch)
  {
    append_epoch(reply, epoch);
  }
  append(reply, "]", 1);
  if (!is_complete) {
    vc_query_mark_incomplete(query);
  }
  vc_query_answer(query, 200, reply);
}

// All epochs that there are, also where the clock was set back and they lie ahead of it. What
// begins from now on is not erased.
static void raise_to_all(struct ledger *ledger, struct vc_query *query)
{
  const struct vc_ledger_settings *settings = ledger->settings;
  int64_t epoch = vc_query_number(query);
  epoch = epoch < ledger->epoch_floor ? ledger->epoch_floor : epoch;
  if (settings->epoch_floor != NULL) {
    int64_t known = settings->epoch_floor(settings->context, vc_query_slug(query));
    epoch = epoch < known ? known : epoch;
  }
  vc_query_set_number(query, epoch);
  ledger->epoch_floor = epoch + 1;
}

static void answer_erase(struct ledger *ledger, struct vc_query *query)
{
  struct session *session = session_find(ledger, vc_query_slug(query));
  if (session != NULL && (session->live != NULL || session->fleet.claim != CLAIM_NONE)) {
    vc_query_answer(query, 409, NULL);
    return;
  }
  raise_to_all(ledger, query);
  records_erase(ledger, vc_query_slug(query));
  if (session == NULL || session->epochs == NULL) {
    vc_query_answer(query, 404, NULL);
    return;
  }
  vc_log(VC_LOG_INFO, VC_EVENT("ledger.erased"), VC_STR("session", session->slug));
  session_revive(ledger, session);
  session_forget(ledger, session);
  session_release(ledger, session);
  vc_query_answer(query, 200, NULL);
}

void handle_query(struct ledger *ledger, struct vc_query *query)
{
  switch (vc_query_kind(query)) {
  case VC_QUERY_SESSIONS:
    answer_sessions(ledger, query);
    break;
  case VC_QUERY_BEGAN:
    answer_began(ledger, query);
    break;
  case VC_QUERY_TRANSCRIPT:
    answer_transcript(ledger, query);
    break;
  case VC_QUERY_ERASE:
    answer_erase(ledger, query);
    break;
  default: // another room's
    vc_query_answer(query, 501, NULL);
    break;
  }
}
