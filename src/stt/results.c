#include <verbacast/base/log.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "room.h"

// --- to the ledger

static int put_now(struct session *session, struct vc_result *result)
{
  struct worker_state *state = vc_worker_state(session->worker);
  return vc_putter_put(state->ledger, session->session->hash % state->n_ledger, &result->item);
}

static int is_partial_of(const struct vc_result *result, const struct vc_utterance *utterance)
{
  return result->kind == VC_RESULT_UTTERANCE && !result->utterance->is_final &&
         result->utterance->channel == utterance->channel &&
         strcmp(result->utterance->id, utterance->id) == 0;
}

// A partial that waits is replaced by the next message of its utterance.
static int replace_waiting(struct session *session, struct vc_result *result)
{
  struct waiting *waiting;
  if (result->kind != VC_RESULT_UTTERANCE) {
    return 0;
  }
  DL_FOREACH(session->waiting, waiting)
  {
    if (is_partial_of(waiting->result, result->utterance)) {
      vc_result_destroy(&waiting->result);
      waiting->result = result;
      vc_metric_add(vc_worker_slots(session->worker), PARTIALS_MERGED, 1);
      return 1;
    }
  }
  return 0;
}

// Takes the result.
static void give(struct session *session, struct vc_result *result)
{
  if (session->waiting == NULL && put_now(session, result) == 0) {
    return;
  }
  if (replace_waiting(session, result)) {
    return;
  }
  struct waiting *waiting = calloc(1, sizeof *waiting);
  if (waiting == NULL) {
    vc_log(VC_LOG_ERROR, VC_EVENT("stt.no_memory"), VC_STR("slug", session->session->slug));
    vc_result_destroy(&result);
    return;
  }
  waiting->result = result;
  DL_APPEND(session->waiting, waiting);
  session->n_waiting++;
  if (session->n_waiting > FINALS_WAITING_MAX && session->socket != NULL && !session->is_paused) {
    vc_socket_pause(session->socket);
    session->is_paused = 1;
  }
}

int results_flush(struct session *session)
{
  while (session->waiting != NULL) {
    struct waiting *first = session->waiting;
    if (put_now(session, first->result) != 0) {
      return 0;
    }
    DL_DELETE(session->waiting, first);
    session->n_waiting--;
    free(first);
  }
  if (session->is_paused) {
    session->is_paused = 0;
    vc_socket_resume(session->socket);
  }
  return 1;
}

static struct vc_result *make(struct session *session, enum vc_result_kind kind)
{
  struct vc_result *result = vc_result_create(session->session, kind);
  if (result == NULL) {
    vc_log(VC_LOG_ERROR, VC_EVENT("stt.no_memory"), VC_STR("slug", session->session->slug));
    return NULL;
  }
  const struct vc_clock *clock = vc_worker_clock(session->worker);
  result->stt_ordinal = session->ordinal;
  result->received_ns = vc_clock_now_ns(clock);
  result->received_unix_us = vc_clock_unix_us(clock);
  result->close_reason = session->close_reason;
  return result;
}

void results_turn(struct session *session, enum vc_result_kind kind)
{
  struct vc_result *result = make(session, kind);
  if (result != NULL) {
    give(session, result);
  }
}

void results_state(struct session *session, enum vc_state state, const char *reason)
{
  struct worker_state *worker = vc_worker_state(session->worker);
  struct room *room = worker->room;
  int is_trouble = state == VC_STATE_STT_DOWN;
  if (is_trouble != session->is_in_trouble) {
    session->is_in_trouble = is_trouble;
    int n =
        atomic_fetch_add_explicit(&room->n_in_trouble, is_trouble ? 1 : -1, memory_order_relaxed);
    if (!is_trouble && n == 1) {
      vc_health_clear(room->settings.health, "stt");
    }
  }
  if (is_trouble) {
    vc_health_set(room->settings.health, "stt", reason);
  }
  if (session->state == state) {
    return;
  }
  session->state = state;
  struct vc_result *result = make(session, VC_RESULT_STATE);
  if (result != NULL) {
    result->state = state;
    snprintf(result->reason, sizeof result->reason, "%s", reason);
    give(session, result);
  }
}

// --- utterances that have no final yet

static void note_open(struct session *session, const struct vc_utterance *utterance)
{
  for (size_t i = 0; i < session->n_open; i++) {
    struct open_utterance *open = &session->open[i];
    if (open->channel == utterance->channel && strcmp(open->id, utterance->id) == 0) {
      if (utterance->is_final) {
        *open = session->open[--session->n_open];
      }
      return;
    }
  }
  if (!utterance->is_final && session->n_open < OPEN_MAX) {
    struct open_utterance *open = &session->open[session->n_open++];
    snprintf(open->id, sizeof open->id, "%s", utterance->id);
    open->channel = utterance->channel;
  }
}

void results_retract(struct session *session)
{
  for (size_t i = 0; i < session->n_open; i++) {
    struct vc_result *result = make(session, VC_RESULT_RETRACT);
    if (result != NULL) {
      snprintf(result->utterance_id, sizeof result->utterance_id, "%s", session->open[i].id);
      result->channel = session->open[i].channel;
      give(session, result);
    }
  }
  session->n_open = 0;
}

// --- times

// The provider counts what it was sent; we count the session's sound.
static double session_time(const struct session *session, double time_s)
{
  uint64_t offset = (uint64_t)(time_s * VC_SAMPLE_RATE_HZ);
  for (size_t i = session->n_segments; i > 0; i--) {
    const struct segment *segment = &session->segments[i - 1];
    if (segment->offset <= offset || i == 1) {
      double since = time_s - (double)segment->offset / VC_SAMPLE_RATE_HZ;
      double time = (double)segment->sample / VC_SAMPLE_RATE_HZ + since;
      return time > 0 ? time : 0;
    }
  }
  return time_s;
}

static void rebase(const struct session *session, struct vc_utterance *utterance)
{
  utterance->start_s = session_time(session, utterance->start_s);
  utterance->end_s = session_time(session, utterance->end_s);
  if (utterance->end_s < utterance->start_s) {
    utterance->end_s = utterance->start_s;
  }
  struct vc_word *words = (struct vc_word *)utterance->words;
  for (size_t i = 0; i < utterance->n_words; i++) {
    words[i].start_s = session_time(session, words[i].start_s);
    words[i].end_s = session_time(session, words[i].end_s);
  }
}

static double overlap(double a_start, double a_end, double b_start, double b_end)
{
  double start = a_start > b_start ? a_start : b_start;
  double end = a_end < b_end ? a_end : b_end;
  return end > start ? end - start : 0;
}

// Told already, by another STT session or from sound that was sent twice.
static int is_told(const struct session *session, const struct vc_utterance *utterance)
{
  double length = utterance->end_s - utterance->start_s, told = 0;
  for (size_t i = 0; i < session->n_ranges; i++) {
    told += overlap(utterance->start_s, utterance->end_s, session->ranges[i].start_s,
                    session->ranges[i].end_s);
  }
  return length > 0 && told > length / 2;
}

static void note_final(struct session *session, const struct vc_utterance *utterance)
{
  size_t at = session->next_range++ % RANGES_MAX;
  session->ranges[at].start_s = utterance->start_s;
  session->ranges[at].end_s = utterance->end_s;
  session->n_ranges += session->n_ranges < RANGES_MAX;
  uint64_t end = (uint64_t)(utterance->end_s * VC_SAMPLE_RATE_HZ);
  session->final_end = end > session->final_end ? end : session->final_end;
}

// --- figures

static void record(struct session *session, enum metric all, enum metric part, double ms,
                   uint64_t now_ns)
{
  vc_metric_record(vc_worker_slots(session->worker), all, ms, now_ns);
  vc_metric_record(vc_worker_slots(session->worker), part, ms, now_ns);
}

static double ms_between(uint64_t later_ns, uint64_t earlier_ns)
{
  return later_ns > earlier_ns ? (double)(later_ns - earlier_ns) / (double)VC_NS_PER_MS : 0;
}

static void measure(struct session *session, const struct vc_utterance *utterance, uint64_t now_ns)
{
  int is_final = utterance->is_final;
  if (session->last_sent_ns != 0) {
    record(session, END_TO_TRANSCRIPT, is_final ? END_TO_FINAL : END_TO_PARTIAL,
           ms_between(now_ns, session->last_sent_ns), now_ns);
  }
  uint64_t sample = (uint64_t)(utterance->end_s * VC_SAMPLE_RATE_HZ);
  const struct audio_entry *entry = audio_find(&session->audio, sample > 0 ? sample - 1 : 0);
  if (entry != NULL && entry->arrival_ns != 0 && sample >= entry->first) {
    record(session, LATENCY, is_final ? LATENCY_FINAL : LATENCY_PARTIAL,
           ms_between(now_ns, entry->arrival_ns), now_ns);
  }
  if (session->was_partial && session->last_transcript_ns != 0) {
    vc_metric_record(vc_worker_slots(session->worker), MESSAGE_GAP,
                     ms_between(now_ns, session->last_transcript_ns), now_ns);
  }
  session->last_transcript_ns = now_ns;
  session->was_partial = !is_final;
}

// --- messages

// Takes the utterance.
static void transcript(struct session *session, struct vc_utterance *utterance)
{
  uint64_t now_ns = vc_clock_now_ns(vc_worker_clock(session->worker));
  rebase(session, utterance);
  measure(session, utterance, now_ns);
  if (is_told(session, utterance)) {
    vc_metric_add(vc_worker_slots(session->worker), DUPLICATES, 1);
    vc_utterance_destroy(&utterance);
    return;
  }
  note_open(session, utterance);
  if (utterance->is_final) {
    note_final(session, utterance);
  }
  struct vc_result *result = make(session, VC_RESULT_UTTERANCE);
  if (result == NULL) {
    vc_utterance_destroy(&utterance);
    return;
  }
  result->utterance = utterance;
  give(session, result);
}

static void add_segment(struct session *session, uint64_t offset, uint64_t sample)
{
  if (session->n_segments == SEGMENTS_MAX) {
    memmove(session->segments, session->segments + 1,
            (SEGMENTS_MAX - 1) * sizeof session->segments[0]);
    session->n_segments--;
  }
  session->segments[session->n_segments++] = (struct segment){offset, sample};
}

// Acknowledgments retire what was sent by order and length. The first one of a connection says
// where the server believes that it begins: what it had received beyond what it had acknowledged is
// doubled, and all later times with it.
void results_acked(struct session *session, uint64_t byte_begin, uint64_t byte_end)
{
  if (!session->has_first_ack) {
    session->has_first_ack = 1;
    struct segment *last = &session->segments[session->n_segments - 1];
    if (last->sample == session->connection_first) {
      last->offset = byte_begin / 2;
    } else {
      add_segment(session, byte_begin / 2, session->connection_first);
    }
  }
  session->has_acks = 1;
  audio_advance(&session->audio, &session->audio.acked, (byte_end - byte_begin) / 2);
}

void results_message(struct session *session, const uint8_t *text, size_t size)
{
  struct vc_gladia_message message;
  int status = vc_gladia_parse((const char *)text, size, &message);
  if (status != 0) {
    vc_metric_add(vc_worker_slots(session->worker), MALFORMED, 1);
    return;
  }
  switch (message.kind) {
  case VC_GLADIA_TRANSCRIPT:
    transcript(session, message.utterance);
    break;
  case VC_GLADIA_AUDIO_ACK:
    results_acked(session, message.byte_begin, message.byte_end);
    break;
  case VC_GLADIA_SPEECH_END:
    session->was_partial = 0;
    break;
  case VC_GLADIA_AUDIO_REFUSED:
  case VC_GLADIA_ERROR:
    vc_metric_add(vc_worker_slots(session->worker), ERRORS, 1);
    vc_log(VC_LOG_WARN, VC_EVENT("stt.error"), VC_STR("slug", session->session->slug),
           VC_INT("status", message.status_code), VC_STR("message", message.error_text));
    break;
  default:
    break;
  }
}
