// From an engine's words to an utterance as it goes over the wire.
#pragma once

#include <verbacast/wire/utterance.h>

#include "engine.h"
#include "segmenter.h"

struct heard {
  const struct segmenter *segmenter; // whose voiced windows the words are spread over
  const struct segment *segment;
  const char *language;
  int is_final;
};

// Blanks at the ends are taken off. When the engine knows no word times, the words are spread over
// the voiced parts of the segment by their letters, and the utterance says so (is_approximate).
// Gives: *utterance. Returns: 0, 1 nothing was heard, -1 no memory.
int heard_utterance(const struct heard *heard, const struct engine_words *words,
                    struct vc_utterance **utterance);
