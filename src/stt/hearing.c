// What the service says. Utterances come with times of the STT session's stream; they are told with
// times of the session's audio clock, and without what was heard or told before: the stream holds
// some audio twice after a drop, and a new STT session is fed a little of what the one before it
// had told. Words are dropped by where they lie; an utterance without words by whether
// more than half of it is known.
#include "room.h"

#include <verbacast/wire/text.h>

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINGER_MS 1000 // after end_recording, for finals that come behind it

static double to_samples(double seconds)
{
  return seconds * VC_SAMPLE_RATE_HZ;
}

static double to_seconds(double samples)
{
  return samples / VC_SAMPLE_RATE_HZ;
}

static double place(const struct session *session, double stream_s)
{
  double heard_to;
  return to_seconds(stt_trail_find(&session->trail, to_samples(stream_s), &heard_to));
}

// An end is where its last sample is: at a seam the next one is elsewhere.
static double place_end(const struct session *session, double stream_s)
{
  double sample_s = to_seconds(1);
  return stream_s > sample_s ? place(session, stream_s - sample_s) + sample_s : stream_s;
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
  if (find_open(session, utterance->id, utterance->channel) != NULL) {
    return;
  }
  if (session->n_open == OPEN_MAX) {
    retract(session, &session->open[0]);
  }
  struct open_partial *open = &session->open[session->n_open++];
  snprintf(open->id, sizeof open->id, "%s", utterance->id);
  open->channel = utterance->channel;
  open->start_s = utterance->start_s;
}

// --- from the stream's times to the session's

// Returns: 1 when the audio at that place of the stream was heard before.
static int is_known(const struct session *session, double stream_s)
{
  double heard_to;
  return stt_trail_find(&session->trail, to_samples(stream_s), &heard_to) < heard_to;
}

// Places a word. Returns: 1, or 0 when it was heard before: its beginning (what begins before the
// seam and goes on after it is new) and its middle (what was cut off at the seam is told whole).
static int place_word(const struct session *session, struct vc_word *word)
{
  if (is_known(session, word->start_s) && is_known(session, (word->start_s + word->end_s) / 2)) {
    return 0;
  }
  word->start_s = place(session, word->start_s);
  word->end_s = fmax(place_end(session, word->end_s), word->start_s);
  return 1;
}

static size_t place_words(const struct session *session, const struct vc_utterance *utterance,
                          struct vc_word *words)
{
  size_t n = 0;
  for (size_t i = 0; i < utterance->n_words; i++) {
    words[n] = utterance->words[i];
    n += (size_t)place_word(session, &words[n]);
  }
  return n;
}

static void join_words(struct vc_text *text, const struct vc_word *words, size_t n)
{
  for (size_t i = 0; i < n; i++) {
    vc_text_add(text, i > 0 ? " " : "");
    vc_text_add(text, words[i].text);
  }
}

// Returns: 1, or 0 when more than half of it was heard before.
static int place_wordless(const struct session *session, struct vc_utterance *placed)
{
  double heard_to;
  double middle = to_samples((placed->start_s + placed->end_s) / 2);
  stt_trail_find(&session->trail, middle, &heard_to);
  double start = place(session, placed->start_s), end = place_end(session, placed->end_s);
  double known = to_seconds(heard_to) - start;
  if (known > (end - start) / 2) {
    return 0;
  }
  placed->start_s = known > 0 ? start + known : start;
  placed->end_s = fmax(end, placed->start_s);
  return 1;
}

static void place_whole(const struct session *session, struct vc_utterance *placed)
{
  const struct vc_word *first = &placed->words[0], *last = &placed->words[placed->n_words - 1];
  placed->start_s = fmin(place(session, placed->start_s), first->start_s);
  placed->end_s = fmax(place_end(session, placed->end_s), last->end_s);
}

enum placing { PLACED, KNOWN, NO_MEMORY };

// Gives: the utterance as it is to be told, when PLACED.
static enum placing place_utterance(const struct session *session,
                                    const struct vc_utterance *utterance,
                                    struct vc_utterance **told)
{
  struct vc_utterance placed = *utterance;
  struct vc_text text = {0};
  struct vc_word *words = malloc((utterance->n_words + 1) * sizeof *words);
  if (words == NULL) {
    return NO_MEMORY;
  }
  int is_new;
  placed.words = words;
  placed.n_words = place_words(session, utterance, words);
  if (utterance->n_words == 0) {
    is_new = place_wordless(session, &placed);
  } else if (placed.n_words == utterance->n_words) {
    is_new = 1;
    place_whole(session, &placed);
  } else {
    is_new = placed.n_words > 0;
    join_words(&text, words, placed.n_words);
    placed.text = text.at != NULL ? text.at : "";
    placed.start_s = is_new ? words[0].start_s : 0;
    placed.end_s = is_new ? fmax(words[placed.n_words - 1].end_s, placed.start_s) : 0;
  }
  *told = is_new && !text.has_failed ? vc_utterance_create(&placed) : NULL;
  vc_text_fini(&text);
  free(words);
  return !is_new ? KNOWN : *told != NULL ? PLACED : NO_MEMORY;
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
  double end = to_samples(told->end_s);
  uint64_t arrival = end >= 1 ? stt_ring_arrival(&session->ring, (uint64_t)end - 1) : 0;
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

// A final closes its partial, whatever becomes of it.
static void note_told(struct session *session, const struct vc_utterance *told)
{
  struct open_partial *open = find_open(session, told->id, told->channel);
  if (!told->is_final) {
    note_open(session, told);
    return;
  }
  if (open != NULL) {
    close_open(session, open);
  }
  uint64_t end = (uint64_t)(to_samples(told->end_s) + 0.5);
  if (end > session->ring.end) { // a provider that rounds up
    end = session->ring.end;
  }
  if (end > session->told_to) {
    session->told_to = end;
  }
}

static void tell(struct session *session, struct vc_utterance *told)
{
  struct room *room = session->room;
  struct vc_result *result = vc_result_create(session->session, VC_RESULT_UTTERANCE);
  note_told(session, told);
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

static void hear_utterance(struct session *session, const struct vc_utterance *utterance)
{
  struct vc_utterance *told = NULL;
  switch (place_utterance(session, utterance, &told)) {
  case PLACED:
    measure(session, told);
    tell(session, told);
    stt_session_trim(session);
    break;
  case KNOWN: {
    struct open_partial *open = find_open(session, utterance->id, utterance->channel);
    stt_room_count(session->room, DUPLICATES, 1);
    if (utterance->is_final && open != NULL) {
      retract(session, open);
    }
    break;
  }
  case NO_MEMORY:
    stt_room_count(session->room, OUT_OF_MEMORY, 1);
    break;
  }
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
      stt_session_finish(session);
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
