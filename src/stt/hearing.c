// What the service says: acknowledgments, utterances, its end. A final that was on its way when a
// connection broke may never come: its partial was shown, the reconnected session says nothing more
// of it and goes on to the next utterance. Then its sound is sent again, and what is heard in it
// that was not told yet is told.
#include "room.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define BEGINNING_S 0.08
#define LINGER_MS 1000 // after end_recording, for finals that come behind it

static uint64_t to_samples(double seconds)
{
  return seconds > 0 ? (uint64_t)(seconds * VC_SAMPLE_RATE_HZ + 0.5) : 0;
}

// --- partials that are owed a final

static struct open_partial *find_open(struct session *session, const char *id, int channel)
{
  for (size_t i = 0; i < session->n_open; i++) {
    if (session->open[i].channel == channel && strcmp(session->open[i].id, id) == 0) {
      return &session->open[i];
    }
  }
  return NULL;
}

static void close_open(struct session *session, struct open_partial *open)
{
  size_t at = (size_t)(open - session->open);
  memmove(open, open + 1, (session->n_open - at - 1) * sizeof *open);
  session->n_open--;
}

static void retract(struct session *session, struct open_partial *open)
{
  struct vc_result *result = vc_result_create(session->session, VC_RESULT_RETRACT);
  if (result != NULL) {
    result->stt_ordinal = session->ordinal;
    result->channel = open->channel;
    snprintf(result->utterance_id, sizeof result->utterance_id, "%s", open->id);
  }
  stt_room_count(session->room, RETRACTS, 1);
  close_open(session, open);
  stt_outbox_say(session, result);
}

void stt_hear_retract_all(struct session *session)
{
  while (session->n_open > 0) {
    retract(session, &session->open[0]);
  }
}

static void note_open(struct session *session, const struct vc_utterance *utterance)
{
  struct open_partial *open = find_open(session, utterance->id, utterance->channel);
  if (open == NULL) {
    if (session->n_open == OPEN_MAX) {
      retract(session, &session->open[0]);
    }
    open = &session->open[session->n_open++];
    snprintf(open->id, sizeof open->id, "%s", utterance->id);
    open->channel = utterance->channel;
    open->start_s = utterance->start_s;
  }
  open->end_s = utterance->end_s;
  open->is_from_before = 0;
}

// --- finals that were lost on their way

void stt_hear_reconnect(struct session *session)
{
  for (size_t i = 0; i < session->n_open; i++) {
    session->open[i].is_from_before = 1;
  }
}

int stt_hear_is_owed(const struct session *session)
{
  for (size_t i = 0; i < session->n_open; i++) {
    if (session->open[i].is_from_before) {
      return 1;
    }
  }
  return 0;
}

// The first that is owed and begins before that moment, or NULL.
static struct open_partial *find_owed(struct session *session, double before_s)
{
  struct open_partial *found = NULL;
  for (size_t i = 0; i < session->n_open; i++) {
    struct open_partial *open = &session->open[i];
    if (open->is_from_before && open->start_s < before_s &&
        (found == NULL || open->start_s < found->start_s)) {
      found = open;
    }
  }
  return found;
}

// Other finals may have told it meanwhile, from its beginning on.
static int is_told(const struct session *session, const struct open_partial *open)
{
  return stt_told_holds(&session->told, open->start_s, open->end_s) &&
         stt_told_holds(&session->told, open->start_s, open->start_s + BEGINNING_S);
}

static void give_up(struct session *session, struct open_partial *open)
{
  uint64_t start = to_samples(open->start_s);
  if (!is_told(session, open) && start < session->told_to) {
    session->told_to = start;
  }
  retract(session, open);
}

void stt_hear_give_owed_up(struct session *session)
{
  struct open_partial *open;
  while ((open = find_owed(session, INFINITY)) != NULL) {
    give_up(session, open);
  }
}

// What is owed from before that moment does not come any more.
static void recover(struct session *session, double before_s)
{
  struct open_partial *open;
  if (!session->trail.is_placed || session->has_stopped) {
    return; // later, or by a new STT session
  }
  double from_s = INFINITY;
  while ((open = find_owed(session, before_s)) != NULL) {
    if (!is_told(session, open)) {
      from_s = fmin(from_s, open->start_s);
    }
    give_up(session, open);
  }
  if (isfinite(from_s)) {
    session->owed_stream = session->trail.end;
    stt_link_send_again(session, to_samples(from_s));
  }
}

void stt_hear_tick(struct session *session)
{
  if (stt_hear_is_owed(session) && stt_room_now(session->room) >= session->owed_by_ns) {
    recover(session, INFINITY);
  }
}

// --- utterances

static void measure(struct session *session, const struct vc_utterance *told)
{
  struct room *room = session->room;
  int is_final = told->is_final;
  if (session->last_audio_ns != 0) {
    double since = stt_room_since_ms(room, session->last_audio_ns);
    stt_room_record(room, END_TO_TRANSCRIPT, since);
    stt_room_record(room, is_final ? END_TO_TRANSCRIPT_FINAL : END_TO_TRANSCRIPT_PARTIAL, since);
  }
  uint64_t end = to_samples(told->end_s);
  uint64_t arrival = end >= 1 ? stt_ring_arrival(&session->ring, end - 1) : 0;
  if (arrival != 0) {
    double latency = stt_room_since_ms(room, arrival);
    stt_room_record(room, LATENCY, latency);
    stt_room_record(room, is_final ? LATENCY_FINAL : LATENCY_PARTIAL, latency);
  }
  if (session->last_transcript_ns != 0 && session->was_partial) { // speech goes on
    stt_room_record(room, MESSAGE_GAP, stt_room_since_ms(room, session->last_transcript_ns));
  }
  session->last_transcript_ns = stt_room_now(room);
  session->was_partial = !is_final;
}

static void note_told_to(struct session *session, double end_s, double stream_end_s)
{
  uint64_t end = to_samples(end_s);
  if (session->owed_stream > 0 && to_samples(stream_end_s) <= session->owed_stream) {
    return;
  }
  session->owed_stream = 0;
  if (end > session->ring.end) { // a provider that rounds up
    end = session->ring.end;
  }
  if (end > session->told_to) {
    session->told_to = end;
  }
}

static void note_parts(struct told *told, const struct vc_utterance *utterance)
{
  for (size_t i = 0; i < utterance->n_words; i++) {
    stt_told_add(told, utterance->words[i].start_s, utterance->words[i].end_s);
  }
}

// A final closes its partial, whatever becomes of it.
static void note_final(struct session *session, const struct vc_utterance *told,
                       enum placing placing)
{
  struct open_partial *open = find_open(session, told->id, told->channel);
  if (open != NULL) {
    close_open(session, open);
  }
  if (placing == PLACED_IN_PARTS) { // what lies between them may be owed
    note_parts(&session->told, told);
  } else {
    stt_told_add(&session->told, told->start_s, told->end_s);
  }
}

static void tell(struct session *session, struct vc_utterance *told)
{
  struct room *room = session->room;
  struct vc_result *result = vc_result_create(session->session, VC_RESULT_UTTERANCE);
  if (result == NULL) {
    vc_utterance_destroy(&told);
  } else {
    result->stt_ordinal = session->ordinal;
    result->utterance = told;
    result->received_ns = stt_room_now(room);
    result->received_unix_us = vc_clock_unix_us(vc_worker_clock(room->worker));
  }
  stt_outbox_say(session, result);
}

static void hear_placed(struct session *session, const struct vc_utterance *utterance,
                        struct vc_utterance *told, enum placing placing)
{
  measure(session, told);
  if (told->is_final) {
    note_final(session, told, placing);
    note_told_to(session, told->end_s, utterance->end_s);
  } else {
    note_open(session, told);
  }
  tell(session, told);
}

static void hear_known(struct session *session, const struct vc_utterance *utterance)
{
  struct open_partial *open = find_open(session, utterance->id, utterance->channel);
  stt_room_count(session->room, DUPLICATES, 1);
  if (utterance->is_final) {
    note_told_to(session, 0, utterance->end_s);
    if (open != NULL) {
      retract(session, open);
    }
  }
}

static void hear_utterance(struct session *session, const struct vc_utterance *utterance)
{
  struct vc_utterance *told = NULL;
  enum placing placing = stt_place_utterance(session, utterance, &told);
  switch (placing) {
  case PLACED:
  case PLACED_IN_PARTS:
    hear_placed(session, utterance, told, placing);
    break;
  case KNOWN:
    hear_known(session, utterance);
    break;
  case NO_MEMORY:
    stt_room_count(session->room, OUT_OF_MEMORY, 1);
    break;
  }
  if (utterance->is_final) { // finals come in order
    recover(session, stt_place(session, utterance->start_s));
  }
  stt_session_trim(session);
}

// --- all else

static void hear_acknowledgment(struct session *session, const struct vc_gladia_message *message)
{
  session->has_acknowledged = 1;
  stt_trail_acknowledge(&session->trail, message->byte_begin / 2, message->byte_end / 2);
  stt_session_trim(session);
  stt_session_feed(session);
}

static void hear_end(struct session *session)
{
  session->has_ended = 1;
  session->linger_until_ns = stt_room_now(session->room) + LINGER_MS * VC_NS_PER_MS;
}

static void take(struct session *session, struct vc_gladia_message *message)
{
  switch (message->kind) {
  case VC_GLADIA_TRANSCRIPT:
    stt_link_worked(session);
    hear_utterance(session, message->utterance);
    vc_utterance_destroy(&message->utterance);
    break;
  case VC_GLADIA_AUDIO_ACK:
    stt_link_worked(session);
    hear_acknowledgment(session, message);
    break;
  case VC_GLADIA_AUDIO_REFUSED:
    stt_room_count(session->room, AUDIO_REFUSED, 1);
    stt_trail_drop_oldest(&session->trail);
    break;
  case VC_GLADIA_END_RECORDING:
    hear_end(session);
    break;
  case VC_GLADIA_END_SESSION:
    if (session->is_ending && session->has_stopped) {
      stt_session_conclude(session);
    }
    break;
  case VC_GLADIA_ERROR:
    stt_room_count(session->room, ERRORS, 1);
    stt_room_log(session, "stt.error", message->error_text, message->status_code);
    break;
  case VC_GLADIA_IGNORED:
  case VC_GLADIA_SPEECH_START:
  case VC_GLADIA_SPEECH_END:
  case VC_GLADIA_STOP_ACK:
    break;
  }
}

void stt_hear_message(struct session *session, const uint8_t *text, size_t size)
{
  struct vc_gladia_message message;
  int status = vc_gladia_parse((const char *)text, size, &message);
  if (status != 0) {
    stt_room_count(session->room, status > 0 ? MALFORMED : OUT_OF_MEMORY, 1);
    return;
  }
  take(session, &message);
}
