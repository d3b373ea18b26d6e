// Utterances come with times of the STT session's stream; they are told with times of the session's
// audio clock, and without what was told before: the stream holds some audio twice after a drop,
// and a new STT session is fed a little of what the one before it had told. Of sound that was sent
// before, words are dropped that a final has told; so is an utterance without words when more than
// half of it was told.
#include "room.h"

#include <verbacast/wire/text.h>

#include <math.h>
#include <stdlib.h>

// A provider's times are of milliseconds, a word that begins or ends at a seam is meant to be on
// its side of it.
#define ROUNDED_S 0.0006

static double to_samples(double seconds)
{
  return seconds * VC_SAMPLE_RATE_HZ;
}

static double to_seconds(double samples)
{
  return samples / VC_SAMPLE_RATE_HZ;
}

double stt_place(const struct session *session, double stream_s)
{
  double sent_to;
  double audio = stt_trail_find(&session->trail, to_samples(stream_s + ROUNDED_S), &sent_to);
  return fmax(0, to_seconds(audio) - ROUNDED_S);
}

// An end is where its last sound is: at a seam the next one is elsewhere. Over a seam that goes
// back behind the start, it lasts as long as in the stream.
static double place_end(const struct session *session, double from_stream_s, double to_stream_s)
{
  double sent_to, start_s = stt_place(session, from_stream_s);
  double last = stt_trail_find(&session->trail, to_samples(to_stream_s - ROUNDED_S), &sent_to);
  double end_s = to_seconds(last) + ROUNDED_S;
  return end_s > start_s ? end_s : start_s + fmax(0, to_stream_s - from_stream_s);
}

// Returns: 1 when the audio at that place of the stream was sent before.
static int is_again(const struct session *session, double stream_s)
{
  double sent_to;
  return stt_trail_find(&session->trail, to_samples(stream_s + ROUNDED_S), &sent_to) < sent_to;
}

// Returns: 1 when a final, or the words before it in this utterance, tell that word already.
static int is_told(const struct session *session, const struct vc_word *words, size_t n,
                   const struct vc_word *word)
{
  struct told here = {0};
  for (size_t i = n > TOLD_MAX ? n - TOLD_MAX : 0; i < n; i++) {
    stt_told_add(&here, words[i].start_s, words[i].end_s);
  }
  return stt_told_holds(&session->told, word->start_s, word->end_s) ||
         stt_told_holds(&here, word->start_s, word->end_s);
}

// Places a word behind `n` others. Returns: 1, or 0 when it was told before. One that was sent
// before is so by its beginning (what begins before a seam and goes on after it is new) and by its
// middle (what was cut off at a seam is told whole).
static int place_word(const struct session *session, const struct vc_word *words, size_t n,
                      struct vc_word *word)
{
  int was_sent =
      is_again(session, word->start_s) && is_again(session, (word->start_s + word->end_s) / 2);
  word->end_s = place_end(session, word->start_s, word->end_s);
  word->start_s = stt_place(session, word->start_s);
  return !was_sent || !is_told(session, words, n, word);
}

static size_t place_words(const struct session *session, const struct vc_utterance *utterance,
                          struct vc_word *words)
{
  size_t n = 0;
  for (size_t i = 0; i < utterance->n_words; i++) {
    words[n] = utterance->words[i];
    n += (size_t)place_word(session, words, n, &words[n]);
  }
  return n;
}

static int has_seam(const struct session *session, const struct vc_utterance *utterance)
{
  size_t i = 0;
  while (i < utterance->n_words && !is_again(session, utterance->words[i].start_s)) {
    i++;
  }
  return i < utterance->n_words;
}

// Behind a seam the words go back in time. Returns: 1 when they were put in order.
static int sort_words(const struct session *session, const struct vc_utterance *utterance,
                      struct vc_word *words, size_t n)
{
  int has_moved = 0;
  if (!has_seam(session, utterance)) {
    return 0;
  }
  for (size_t i = 1; i < n; i++) {
    struct vc_word word = words[i];
    size_t at = i;
    for (; at > 0 && words[at - 1].start_s > word.start_s; at--) {
      words[at] = words[at - 1];
      has_moved = 1;
    }
    words[at] = word;
  }
  return has_moved;
}

static void join_words(struct vc_text *text, const struct vc_word *words, size_t n)
{
  for (size_t i = 0; i < n; i++) {
    vc_text_add(text, i > 0 ? " " : "");
    vc_text_add(text, words[i].text);
  }
}

// Returns: 1, or 0 when more than half of it was told before.
static int place_wordless(const struct session *session, struct vc_utterance *placed)
{
  int was_sent = is_again(session, (placed->start_s + placed->end_s) / 2);
  int has_begun = is_again(session, placed->start_s);
  double start_s = stt_place(session, placed->start_s);
  double end_s = place_end(session, placed->start_s, placed->end_s);
  if (was_sent && stt_told_holds(&session->told, start_s, end_s)) {
    return 0;
  }
  placed->start_s = has_begun ? stt_told_end(&session->told, start_s) : start_s;
  placed->end_s = fmax(end_s, placed->start_s);
  return 1;
}

static void place_whole(const struct session *session, struct vc_utterance *placed)
{
  const struct vc_word *first = &placed->words[0], *last = &placed->words[placed->n_words - 1];
  placed->end_s = fmax(place_end(session, placed->start_s, placed->end_s), last->end_s);
  placed->start_s = fmin(stt_place(session, placed->start_s), first->start_s);
}

// From the words that are left of it.
static void place_in_parts(struct vc_utterance *placed, struct vc_text *text)
{
  join_words(text, placed->words, placed->n_words);
  placed->text = text->at != NULL ? text->at : "";
  placed->start_s = placed->words[0].start_s;
  placed->end_s = placed->start_s;
  for (size_t i = 0; i < placed->n_words; i++) {
    placed->end_s = fmax(placed->end_s, placed->words[i].end_s);
  }
}

enum placing stt_place_utterance(const struct session *session,
                                 const struct vc_utterance *utterance, struct vc_utterance **told)
{
  struct vc_utterance placed = *utterance;
  struct vc_text text = {0};
  enum placing placing = PLACED;
  struct vc_word *words = malloc((utterance->n_words + 1) * sizeof *words);
  if (words == NULL) {
    return NO_MEMORY;
  }
  placed.words = words;
  placed.n_words = place_words(session, utterance, words);
  int is_moved = sort_words(session, utterance, words, placed.n_words);
  if (utterance->n_words == 0) {
    placing = place_wordless(session, &placed) ? PLACED : KNOWN;
  } else if (placed.n_words == 0) {
    placing = KNOWN;
  } else if (placed.n_words == utterance->n_words && !is_moved) {
    place_whole(session, &placed);
  } else {
    placing = PLACED_IN_PARTS;
    place_in_parts(&placed, &text);
  }
  *told = placing != KNOWN && !text.has_failed ? vc_utterance_create(&placed) : NULL;
  vc_text_fini(&text);
  free(words);
  return placing == KNOWN || *told != NULL ? placing : NO_MEMORY;
}
