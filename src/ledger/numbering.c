// What is said gets its number here, and is printed and framed once, for all viewers.
#include "ledger.h"

#include <verbacast/wire/record.h>
#include <verbacast/wire/viewer.h>
#include <verbacast/wire/ws.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// --- building

// A clean text to print into; its memory is used again and again.
static struct vc_text *clean_text(struct ledger *ledger)
{
  if (ledger->text.has_failed) {
    vc_text_fini(&ledger->text);
  }
  ledger->text.size = 0;
  return &ledger->text;
}

static int frame(struct ledger *ledger, struct vc_message *message)
{
  const struct vc_text *text = &ledger->text;
  if (!text->has_failed) {
    message->frame = vc_ws_frame_create(VC_WS_TEXT, text->at, text->size, &message->json_offset);
  }
  return message->frame != NULL ? 0 : -1;
}

static struct vc_message *give_up(struct ledger *ledger, struct vc_message *message)
{
  vc_message_unref(message);
  ledger_out_of_memory(ledger);
  return NULL;
}

// The next of the newest epoch; its number is given out by `say`.
static struct vc_message *begin(struct ledger *ledger, const struct session *session,
                                enum vc_message_kind kind)
{
  const struct epoch *epoch = session_newest(session);
  struct vc_message *message = vc_message_create(kind, session->slug);
  if (message == NULL) {
    return give_up(ledger, NULL);
  }
  message->epoch = epoch->number;
  message->seq = epoch->last_seq + 1;
  message->prev_final = epoch->last_kept;
  return message;
}

static void set_utterance(struct vc_message *message, const struct open *open)
{
  snprintf(message->utterance_id, sizeof message->utterance_id, "%s", open->id);
  message->utterance_hash = open->key;
}

static void set_received(struct vc_message *message, const struct vc_result *heard)
{
  message->received_ns = heard->received_ns;
  message->received_unix_us = heard->received_unix_us;
}

// --- saying

void epoch_number(struct session *session, struct epoch *epoch, const struct vc_message *message)
{
  epoch->last_seq = message->seq;
  if (message->kind == VC_MESSAGE_FINAL) {
    epoch->last_final = message->seq;
  }
  if (vc_message_is_kept(message)) {
    epoch->last_kept = message->seq;
  }
  vc_message_unref(session->hello); // it would tell an old number
  session->hello = NULL;
}

// Numbers, keeps and sends. The caller's reference stays the caller's.
static void say(struct ledger *ledger, struct session *session, struct vc_message *message)
{
  epoch_number(session, session_newest(session), message);
  live_send(ledger, session, message);
  fleet_send(ledger, session, message);
  if (message->kind != VC_MESSAGE_PARTIAL) {
    session_keep(ledger, session, message);
  }
}

static struct vc_message *build_transcript(struct ledger *ledger, struct session *session,
                                           const struct open *open,
                                           const struct vc_utterance *utterance)
{
  struct vc_message *message =
      begin(ledger, session, utterance->is_final ? VC_MESSAGE_FINAL : VC_MESSAGE_PARTIAL);
  if (message == NULL) {
    return NULL;
  }
  set_utterance(message, open);
  vc_viewer_print_transcript(
      clean_text(ledger),
      &(struct vc_viewer_transcript){.session = session->slug,
                                     .epoch = message->epoch,
                                     .seq = message->seq,
                                     .utterance_id = message->utterance_id,
                                     .utterance = utterance,
                                     .sent_at_us = vc_clock_unix_us(ledger->settings->clock)});
  return frame(ledger, message) == 0 ? message : give_up(ledger, message);
}

// NULL without memory.
static struct vc_buffer *print_record(struct ledger *ledger, const struct session *session,
                                      const struct vc_message *message,
                                      const struct vc_utterance *utterance)
{
  struct vc_text *text = clean_text(ledger);
  vc_record_print(
      text, &(struct vc_record_fields){.type = VC_RECORD_TYPE_TRANSCRIPT,
                                       .session = session->slug,
                                       .epoch = message->epoch,
                                       .node = ledger->node,
                                       .started_at_ms = session_newest(session)->started_unix_ms,
                                       .seq = message->seq,
                                       .utterance_id = message->utterance_id,
                                       .utterance = utterance,
                                       .received_at_us = message->received_unix_us});
  return text->has_failed ? NULL : vc_buffer_copy(text->at, text->size);
}

static void show(struct ledger *ledger, struct session *session, struct open *open,
                 struct vc_message *message)
{
  vc_message_unref(open->message);
  open->message = message;
  say(ledger, session, message);
}

static struct vc_message *build_partial(struct ledger *ledger, struct session *session,
                                        const struct open *open, struct vc_utterance *utterance)
{
  // What was shown of it stays where it began and never ends before that.
  *utterance = *open->utterance;
  utterance->start_s = open->start_s;
  if (utterance->end_s < utterance->start_s) {
    utterance->end_s = utterance->start_s;
  }
  return build_transcript(ledger, session, open, utterance);
}

void say_partial(struct ledger *ledger, struct session *session, struct open *open,
                 const struct vc_result *heard)
{
  struct vc_utterance utterance;
  struct vc_message *message = build_partial(ledger, session, open, &utterance);
  if (message != NULL) {
    set_received(message, heard);
    ledger_count(ledger, PARTIALS);
    if (ledger->partials != NULL) {
      record_partial(ledger, message, print_record(ledger, session, message, &utterance));
    }
    show(ledger, session, open, message);
  }
}

void say_again(struct ledger *ledger, struct session *session, struct open *open)
{
  struct vc_utterance utterance;
  struct vc_message *message = build_partial(ledger, session, open, &utterance);
  if (message != NULL) {
    show(ledger, session, open, message);
  }
}

int say_final(struct ledger *ledger, struct session *session, const struct open *shown,
              const struct vc_utterance *utterance, const struct vc_result *heard)
{
  struct vc_message *message = build_transcript(ledger, session, shown, utterance);
  if (message == NULL) {
    return -1;
  }
  set_received(message, heard);
  message->record = print_record(ledger, session, message, utterance);
  if (message->record == NULL) {
    give_up(ledger, message);
    return -1;
  }
  ledger_count(ledger, FINALS);
  record_final(ledger, session, message);
  say(ledger, session, message);
  vc_message_unref(message);
  return 0;
}

// Takes the message, which may be NULL.
static void say_and_unref(struct ledger *ledger, struct session *session,
                          struct vc_message *message)
{
  if (message != NULL) {
    say(ledger, session, message);
    vc_message_unref(message);
  }
}

// For what is printed in one line.
static struct vc_message *framed(struct ledger *ledger, struct vc_message *message)
{
  return frame(ledger, message) == 0 ? message : give_up(ledger, message);
}

void say_retract(struct ledger *ledger, struct session *session, const struct open *open)
{
  struct vc_message *message = begin(ledger, session, VC_MESSAGE_RETRACT);
  if (message != NULL) {
    set_utterance(message, open);
    vc_viewer_print_retract(clean_text(ledger), session->slug, message->epoch, message->seq,
                            message->utterance_id);
    ledger_count(ledger, RETRACTS);
    say_and_unref(ledger, session, framed(ledger, message));
  }
}

void epoch_set_state(struct session *session, struct epoch *epoch, enum vc_state state,
                     const char *reason)
{
  epoch->state = state;
  snprintf(epoch->reason, sizeof epoch->reason, "%s", reason);
  vc_message_unref(session->hello);
  session->hello = NULL;
}

struct vc_message *status_create(struct ledger *ledger, const struct session *session, uint64_t seq,
                                 enum vc_state state, const char *reason)
{
  struct vc_message *message = begin(ledger, session, VC_MESSAGE_STATUS);
  if (message == NULL) {
    return NULL;
  }
  message->seq = seq;
  vc_viewer_print_status(clean_text(ledger), session->slug, message->epoch, message->seq,
                         vc_state_text(state), reason[0] != '\0' ? reason : NULL);
  return framed(ledger, message);
}

struct vc_message *end_create(struct ledger *ledger, const struct session *session, uint64_t seq,
                              const char *reason)
{
  struct vc_message *message = begin(ledger, session, VC_MESSAGE_END);
  if (message == NULL) {
    return NULL;
  }
  message->seq = seq;
  vc_viewer_print_end(clean_text(ledger), session->slug, message->epoch, message->seq, reason);
  return framed(ledger, message);
}

void say_status(struct ledger *ledger, struct session *session, enum vc_state state,
                const char *reason)
{
  struct epoch *epoch = session_newest(session);
  epoch_set_state(session, epoch, state, reason);
  ledger_count(ledger, STATUSES);
  say_and_unref(ledger, session,
                status_create(ledger, session, epoch->last_seq + 1, state, reason));
}

void say_end(struct ledger *ledger, struct session *session, const char *reason)
{
  struct epoch *epoch = session_newest(session);
  epoch_set_state(session, epoch, VC_STATE_ENDED, reason);
  say_and_unref(ledger, session, end_create(ledger, session, epoch->last_seq + 1, reason));
}

// --- epochs

int64_t next_epoch(const struct ledger *ledger, const struct session *session)
{
  const struct vc_ledger_settings *settings = ledger->settings;
  const struct epoch *newest = session_newest(session);
  int64_t claimed = session->fleet.claimed_epoch; // it is what other nodes were told
  int64_t number = claimed > 0 ? claimed : vc_clock_unix_ms(settings->clock);
  if (claimed == 0 && number < ledger->epoch_floor) {
    number = ledger->epoch_floor; // the clock was put back
  }
  if (newest != NULL && number <= newest->number) {
    number = newest->number + 1;
  }
  if (settings->epoch_floor != NULL) {
    int64_t known = settings->epoch_floor(settings->context, session->slug);
    number = number <= known ? known + 1 : number;
  }
  return number;
}

void begin_behind(struct ledger *ledger, int64_t number)
{
  if (ledger->epoch_floor <= number && number <= VC_EPOCH_MAX / 2) {
    ledger->epoch_floor = number + 1;
  }
}

void say_hello(struct ledger *ledger, struct session *session, const struct epoch *epoch,
               struct vc_message *hello)
{
  if (session->fleet.is_unsure || (epoch->prev != epoch && epoch->prev->is_cut)) {
    live_send_after_loss(ledger, session, hello);
  } else {
    live_send(ledger, session, hello);
  }
  session->fleet.is_unsure = 0;
}

int say_begin(struct ledger *ledger, struct session *session, int64_t started_unix_ms)
{
  struct epoch *epoch = session_add_epoch(ledger, session, next_epoch(ledger, session));
  if (epoch == NULL) {
    ledger_out_of_memory(ledger);
    return -1;
  }
  epoch->started_unix_ms = started_unix_ms;
  epoch->is_after_loss = session->fleet.is_after_loss;
  session->fleet.is_after_loss = 0;
  begin_behind(ledger, epoch->number - 1);
  ledger_count(ledger, EPOCHS);
  vc_message_unref(session->hello);
  session->hello = NULL;
  struct vc_message *hello = hello_get(ledger, session, epoch);
  if (hello != NULL) {
    say_hello(ledger, session, epoch, hello);
    fleet_send(ledger, session, hello);
    vc_message_unref(hello);
  }
  return 0;
}

// --- what is not numbered

static struct vc_message *hello_create(struct ledger *ledger, const struct session *session,
                                       const struct epoch *epoch)
{
  struct vc_message *message = vc_message_create(VC_MESSAGE_HELLO, session->slug);
  if (message == NULL) {
    return give_up(ledger, NULL);
  }
  struct vc_viewer_hello hello = {
      .session = session->slug, .state = vc_state_text(VC_STATE_IDLE), .node = ledger->node};
  if (epoch != NULL) {
    hello.epoch = message->epoch = epoch->number;
    hello.seq = message->seq = epoch->last_seq;
    hello.state = vc_state_text(epoch->state);
    hello.reason = epoch->reason[0] != '\0' ? epoch->reason : NULL;
    message->is_after_loss = epoch->is_after_loss;
  }
  if (epoch == session_newest(session) && !fleet_is_known(ledger, session)) {
    hello.state = vc_state_text(VC_STATE_UNKNOWN);
    hello.reason = NULL;
  }
  vc_viewer_print_hello(clean_text(ledger), &hello);
  return frame(ledger, message) == 0 ? message : give_up(ledger, message);
}

struct vc_message *present_status_create(struct ledger *ledger, const struct session *session)
{
  const struct epoch *epoch = session_newest(session);
  struct vc_message *message = vc_message_create(VC_MESSAGE_STATUS, session->slug);
  if (message == NULL) {
    return give_up(ledger, NULL);
  }
  enum vc_state state = epoch != NULL ? epoch->state : VC_STATE_IDLE;
  const char *reason = epoch != NULL && epoch->reason[0] != '\0' ? epoch->reason : NULL;
  message->epoch = epoch != NULL ? epoch->number : 0;
  message->seq = epoch != NULL ? epoch->last_seq : 0;
  vc_viewer_print_status(clean_text(ledger), session->slug, message->epoch, message->seq,
                         vc_state_text(state), reason);
  return framed(ledger, message);
}

struct vc_message *beginning_create(struct ledger *ledger, const struct session *session,
                                    const struct epoch *epoch)
{
  struct vc_message *message = vc_message_create(VC_MESSAGE_HELLO, session->slug);
  if (message == NULL) {
    return give_up(ledger, NULL);
  }
  message->epoch = epoch->number;
  message->is_after_loss = epoch->is_after_loss;
  vc_viewer_print_hello(clean_text(ledger),
                        &(struct vc_viewer_hello){.session = session->slug,
                                                  .epoch = epoch->number,
                                                  .state = vc_state_text(VC_STATE_LIVE),
                                                  .node = ledger->node});
  return framed(ledger, message);
}

struct vc_message *hello_get(struct ledger *ledger, struct session *session, struct epoch *epoch)
{
  if (epoch != session_newest(session)) {
    return hello_create(ledger, session, epoch);
  }
  if (session->hello == NULL) {
    session->hello = hello_create(ledger, session, epoch);
  }
  return vc_message_ref(session->hello);
}

struct vc_message *gap_create(struct ledger *ledger, const struct session *session, int64_t epoch,
                              uint64_t from, uint64_t to, struct vc_position after)
{
  struct vc_message *message = vc_message_create(VC_MESSAGE_GAP, session->slug);
  if (message == NULL) {
    return give_up(ledger, NULL);
  }
  message->epoch = after.epoch;
  message->seq = after.seq;
  vc_viewer_print_gap(clean_text(ledger), session->slug, epoch, from, to);
  return frame(ledger, message) == 0 ? message : give_up(ledger, message);
}
