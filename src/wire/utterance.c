#include <verbacast/wire/utterance.h>

#include <stdlib.h>
#include <string.h>

// The strings and words are laid behind the struct, in one allocation.
struct layout {
  char *at;
};

static size_t size_of_text(const char *text)
{
  return text != NULL ? strlen(text) + 1 : 0;
}

static const char *lay(struct layout *layout, const char *text)
{
  if (text == NULL) {
    return NULL;
  }
  size_t size = strlen(text) + 1;
  char *copy = layout->at;
  memcpy(copy, text, size);
  layout->at += size;
  return copy;
}

struct vc_utterance *vc_utterance_create(const struct vc_utterance *from)
{
  return vc_utterance_place(from, 0, NULL);
}

struct vc_utterance *vc_utterance_place(const struct vc_utterance *from, double by_s,
                                        const char *speaker)
{
  speaker = speaker != NULL ? speaker : from->speaker;
  size_t words_size = from->n_words * sizeof(struct vc_word);
  size_t size = sizeof(struct vc_utterance) + words_size + size_of_text(from->id) +
                size_of_text(from->text) + size_of_text(from->language) + size_of_text(speaker);
  for (size_t i = 0; i < from->n_words; i++) {
    size += size_of_text(from->words[i].text);
  }
  struct vc_utterance *utterance = malloc(size);
  if (utterance == NULL) {
    return NULL;
  }
  *utterance = *from;
  struct vc_word *words = (struct vc_word *)(utterance + 1);
  struct layout layout = {.at = (char *)words + words_size};
  for (size_t i = 0; i < from->n_words; i++) {
    words[i] = from->words[i];
    words[i].text = lay(&layout, from->words[i].text);
    words[i].start_s += by_s;
    words[i].end_s += by_s;
  }
  utterance->start_s += by_s;
  utterance->end_s += by_s;
  utterance->words = words;
  utterance->id = lay(&layout, from->id);
  utterance->text = lay(&layout, from->text);
  utterance->language = lay(&layout, from->language);
  utterance->speaker = lay(&layout, speaker);
  return utterance;
}

void vc_utterance_destroy(struct vc_utterance **utterance)
{
  free(*utterance);
  *utterance = NULL;
}
