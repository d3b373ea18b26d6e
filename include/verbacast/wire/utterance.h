// What an STT says it heard: one utterance, partial or final, with its words.
#pragma once

#include <stddef.h>
#include <stdint.h>

struct vc_word {
  const char *text; // without leading space
  double start_s, end_s;
  double confidence; // NAN: unknown
};

// Immutable once made; strings and words live in the same allocation as the struct.
struct vc_utterance {
  const char *id;        // the provider's, opaque
  const char *text;      // trimmed, valid UTF-8
  const char *language;  // "" unknown
  const char *speaker;   // NULL unknown
  double start_s, end_s; // since the STT session's first sample as the provider counts it
  double confidence;     // NAN unknown
  int channel;
  int is_final;
  int is_approximate; // word times were spread, not heard
  const struct vc_word *words;
  size_t n_words;
};

// Copies everything `from` points to into one allocation. Returns NULL without memory.
struct vc_utterance *vc_utterance_create(const struct vc_utterance *from);
// The same, with all its times later by `by_s`, of `speaker` (NULL: of whom it says itself).
struct vc_utterance *vc_utterance_place(const struct vc_utterance *from, double by_s,
                                        const char *speaker);
void vc_utterance_destroy(struct vc_utterance **utterance);
