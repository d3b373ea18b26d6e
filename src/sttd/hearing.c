#include "hearing.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "rows.h"
#include "wording.h"

#define CIRCLE_TRIES 3
#define CIRCLE_STEP (ENGINE_RATE_HZ * 3 / 100) // so much later begins the next try

static int copy_samples(struct hearing *hearing, const struct hearing_sound *sound, uint64_t begin,
                        size_t n)
{
  if (n > hearing->samples_size) {
    float *samples = realloc(hearing->samples, n * sizeof *samples);
    if (samples == NULL) {
      return -1;
    }
    hearing->samples = samples;
    hearing->samples_size = n;
  }
  for (size_t i = 0; i < n; i++) {
    hearing->samples[i] = (float)sound->ring[(begin + i) & (sound->ring_size - 1)] / 32768.0f;
  }
  return 0;
}

static void clear_words(struct engine_words *words)
{
  if (words->text.has_failed) {
    vc_text_fini(&words->text);
  }
  words->text.size = 0;
  words->n_words = 0;
}

int hearing_has_words(const struct hearing *hearing)
{
  const struct vc_text *text = &hearing->words.text;
  return text->size > 0 && text->at[strspn(text->at, " \t\r\n")] != '\0';
}

static void run_engine(struct hearing *hearing, const struct hearing_sound *sound, uint64_t begin)
{
  size_t n = (size_t)(sound->segment->end - begin);
  clear_words(&hearing->words);
  int status = copy_samples(hearing, sound, begin, n);
  if (status == 0) {
    const struct engine_segment segment = {
        .id = sound->segment->id,
        .samples = hearing->samples,
        .n_samples = n,
        .is_last = sound->is_final,
    };
    status = sound->ear->engine->ops->ear_decode(sound->ear, &segment, &hearing->words);
  }
  if (status != 0) {
    vc_metric_add(hearing->slots, FAILURES, 1);
    clear_words(&hearing->words);
  }
}

// A decoder that goes round in circles finds its way from another begin. A partial is not worth it.
// Returns: 0, or 1 it went round to the last.
static int hear_from(struct hearing *hearing, const struct hearing_sound *sound, uint64_t begin,
                     struct wording_circle *circle)
{
  int n_tries = sound->is_final ? CIRCLE_TRIES : 1;
  assert(begin < sound->segment->end);
  for (int i = 0; i < n_tries && begin < sound->segment->end; i++, begin += CIRCLE_STEP) {
    run_engine(hearing, sound, begin);
    if (!hearing_has_words(hearing) || !wording_is_circular(hearing->words.text.at, circle)) {
      return 0;
    }
    vc_metric_add(hearing->slots, CIRCLES, 1);
  }
  return 1;
}

// Hears the segment with the one that it was cut off from, and keeps what that one did not tell.
// Returns: 0, or 1 what is heard now begins otherwise.
static int hear_after(struct hearing *hearing, const struct hearing_sound *sound)
{
  struct vc_text *text = &hearing->words.text;
  size_t offset;
  struct wording_circle circle;
  int is_circular = hear_from(hearing, sound, sound->segment->context, &circle);
  if (is_circular || !hearing_has_words(hearing) ||
      wording_after(sound->told, text->at, &offset) != 0) {
    vc_metric_add(hearing->slots, CONTEXTS_LOST, 1);
    return 1;
  }
  memmove(text->at, text->at + offset, text->size - offset + 1);
  text->size -= offset;
  hearing->words.n_words = 0;
  return 0;
}

// Takes out what the circle is longer than it need be.
static void shorten(struct engine_words *words, const struct wording_circle *circle)
{
  struct vc_text *text = &words->text;
  size_t n = 0, taken = circle->left - circle->end;
  for (size_t i = 0; i < words->n_words; i++) {
    struct engine_word word = words->words[i];
    if (word.at < circle->end) {
      size_t most = circle->end - word.at;
      word.size = word.size < most ? word.size : (uint32_t)most;
      words->words[n++] = word;
    } else if (word.at >= circle->left) {
      word.at -= (uint32_t)taken;
      words->words[n++] = word;
    }
  }
  words->n_words = n;
  memmove(text->at + circle->end, text->at + circle->left, text->size - circle->left + 1);
  text->size -= taken;
}

// Somebody may say one thing eight times: then every try goes round, and that much is told.
static void hear_alone(struct hearing *hearing, const struct hearing_sound *sound)
{
  struct wording_circle circle;
  if (hear_from(hearing, sound, sound->segment->begin, &circle) == 0) {
    return;
  }
  if (sound->is_final) {
    shorten(&hearing->words, &circle);
  } else {
    clear_words(&hearing->words);
  }
}

void hearing_hear(struct hearing *hearing, const struct hearing_sound *sound)
{
  const struct segment *segment = sound->segment;
  int has_context = sound->is_final && segment->context < segment->begin && sound->told != NULL;
  if (!has_context || hear_after(hearing, sound) != 0) {
    hear_alone(hearing, sound);
  }
}

void hearing_fini(struct hearing *hearing)
{
  vc_text_fini(&hearing->words.text);
  free(hearing->samples);
}
