#include <stdlib.h>

#include "room.h"

static void entry_destroy(struct audio *audio, struct audio_entry *entry)
{
  DL_DELETE(audio->entries, entry);
  audio->n_kept -= entry->n;
  vc_buffer_unref(entry->pcm);
  free(entry);
}

void audio_add(struct audio *audio, struct audio_entry *entry)
{
  DL_APPEND(audio->entries, entry);
  audio->n_kept += entry->n;
}

uint64_t audio_begin(const struct audio *audio)
{
  return audio->entries != NULL ? audio->entries->first : 0;
}

uint64_t audio_end(const struct audio *audio)
{
  const struct audio_entry *last = audio->entries != NULL ? audio->entries->prev : NULL;
  return last != NULL ? last->first + last->n : 0;
}

void audio_release(struct audio *audio, uint64_t sample)
{
  while (audio->entries != NULL && audio->entries->first + audio->entries->n <= sample) {
    entry_destroy(audio, audio->entries);
  }
}

uint64_t audio_bound(struct audio *audio, uint64_t most)
{
  uint64_t n_lost = 0;
  while (audio->n_kept > most) {
    const struct audio_entry *oldest = audio->entries;
    uint64_t end = oldest->first + oldest->n;
    if (audio->next_sent < end) {
      n_lost += end - (audio->next_sent > oldest->first ? audio->next_sent : oldest->first);
      audio->next_sent = end;
    }
    entry_destroy(audio, audio->entries);
  }
  return n_lost;
}

struct audio_entry *audio_find(const struct audio *audio, uint64_t sample)
{
  // What is asked for is near the end.
  struct audio_entry *entry = audio->entries != NULL ? audio->entries->prev : NULL;
  if (entry == NULL || entry->first + entry->n <= sample) {
    return NULL;
  }
  while (entry != audio->entries && entry->prev->first + entry->prev->n > sample) {
    entry = entry->prev;
  }
  return entry;
}

void audio_advance(const struct audio *audio, uint64_t *position, uint64_t n)
{
  while (n > 0) {
    const struct audio_entry *entry = audio_find(audio, *position);
    if (entry == NULL) {
      *position += n;
      return;
    }
    if (*position < entry->first) {
      *position = entry->first;
    }
    uint64_t left = entry->first + entry->n - *position;
    uint64_t taken = n < left ? n : left;
    *position += taken;
    n -= taken;
  }
}

void audio_fini(struct audio *audio)
{
  while (audio->entries != NULL) {
    entry_destroy(audio, audio->entries);
  }
}
