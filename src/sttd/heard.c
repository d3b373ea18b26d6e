#include "heard.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BLANKS " \t\r\n"

struct draft {
  struct vc_word *words;
  size_t n_words;
  char *text; // the words' texts, NUL between them
};

static double seconds(uint64_t samples)
{
  return (double)samples / ENGINE_RATE_HZ;
}

static double within(double value, double low, double high)
{
  return fmin(fmax(value, low), high);
}

// --- words whose times are known

static void place_known(const struct heard *heard, const struct engine_words *words,
                        struct draft *draft)
{
  double begin = seconds(heard->segment->begin);
  double low = seconds(heard->segment->voice_begin);
  double high = fmax(low, seconds(heard->segment->end));
  for (size_t i = 0; i < words->n_words; i++) {
    const struct engine_word *word = &words->words[i];
    draft->text[word->at + word->size] = '\0';
    double start = within(begin + word->start_s, low, high);
    draft->words[draft->n_words++] = (struct vc_word){
        .text = draft->text + word->at,
        .start_s = start,
        .end_s = within(begin + word->end_s, start, high),
        .confidence = word->confidence,
    };
  }
}

// --- words whose times are not

// The position at which `wanted` samples of voice have gone by.
static uint64_t after_voice(const struct heard *heard, uint64_t wanted)
{
  uint64_t at = heard->segment->voice_begin;
  uint64_t end = heard->segment->voice_end;
  for (uint64_t gone = 0; at < end; at += ENGINE_WINDOW) {
    if (segmenter_is_voiced(heard->segmenter, at)) {
      if (gone + ENGINE_WINDOW > wanted) {
        at += wanted - gone;
        break;
      }
      gone += ENGINE_WINDOW;
    }
  }
  return at < end ? at : end;
}

static uint64_t total_voice(const struct heard *heard)
{
  uint64_t total = 0;
  for (uint64_t at = heard->segment->voice_begin; at < heard->segment->voice_end;
       at += ENGINE_WINDOW) {
    total += segmenter_is_voiced(heard->segmenter, at) ? ENGINE_WINDOW : 0;
  }
  return total;
}

static void split(struct draft *draft, size_t size)
{
  for (size_t at = 0; at < size && draft->n_words < ENGINE_WORDS_MAX;) {
    at += strspn(draft->text + at, BLANKS);
    size_t n = strcspn(draft->text + at, BLANKS);
    if (n > 0) {
      draft->words[draft->n_words++] =
          (struct vc_word){.text = draft->text + at, .confidence = NAN};
    }
    if (draft->text[at + n] == '\0') {
      break;
    }
    draft->text[at + n] = '\0';
    at += n + 1;
  }
}

static void place_spread(const struct heard *heard, struct draft *draft)
{
  size_t letters = 0, so_far = 0;
  for (size_t i = 0; i < draft->n_words; i++) {
    letters += strlen(draft->words[i].text) + 1;
  }
  uint64_t voice = total_voice(heard);
  uint64_t at = heard->segment->voice_begin;
  for (size_t i = 0; i < draft->n_words; i++) {
    so_far += strlen(draft->words[i].text) + 1;
    uint64_t next = after_voice(heard, voice * so_far / letters);
    draft->words[i].start_s = seconds(at);
    draft->words[i].end_s = seconds(next);
    at = next;
  }
}

// --- the utterance

static const char *trim(struct vc_text *text)
{
  while (text->size > 0 && (unsigned char)text->at[text->size - 1] <= ' ') {
    text->at[--text->size] = '\0';
  }
  return text->at + strspn(text->at, BLANKS);
}

static int draft_init(struct draft *draft, const struct engine_words *words)
{
  draft->n_words = 0;
  draft->words = calloc(ENGINE_WORDS_MAX, sizeof *draft->words);
  draft->text = strdup(words->text.at);
  return draft->words != NULL && draft->text != NULL ? 0 : -1;
}

static void draft_fini(struct draft *draft)
{
  free(draft->words);
  free(draft->text);
}

static void place(const struct heard *heard, const struct engine_words *words, struct draft *draft)
{
  if (words->n_words > 0) {
    place_known(heard, words, draft);
  } else {
    split(draft, words->text.size);
    place_spread(heard, draft);
  }
}

int heard_utterance(const struct heard *heard, const struct engine_words *words,
                    struct vc_utterance **utterance)
{
  struct vc_text copy = {0};
  struct draft draft = {0};
  if (words->text.has_failed) {
    return -1;
  }
  if (words->text.size == 0 || words->text.at[strspn(words->text.at, BLANKS)] == '\0') {
    return 1;
  }
  vc_text_append(&copy, words->text.at, words->text.size);
  if (copy.has_failed || draft_init(&draft, words) != 0) {
    vc_text_fini(&copy);
    draft_fini(&draft);
    return -1;
  }
  place(heard, words, &draft);
  char id[32];
  snprintf(id, sizeof id, "00-%08llu", (unsigned long long)heard->segment->id);
  const struct vc_utterance made = {
      .id = id,
      .text = trim(&copy),
      .language = heard->language,
      .start_s = seconds(heard->segment->voice_begin),
      .end_s = seconds(heard->segment->voice_end),
      .confidence = NAN,
      .is_final = heard->is_final,
      .is_approximate = words->n_words == 0,
      .words = draft.words,
      .n_words = draft.n_words,
  };
  *utterance = vc_utterance_create(&made);
  draft_fini(&draft);
  vc_text_fini(&copy);
  return *utterance != NULL ? 0 : -1;
}
