// A speech engine: whatever turns sound into words. The rest of the room knows nothing of models.
//
// An engine is loaded once and shared by all threads. An ear is what one stream has of it: a voice
// detector, and whatever the decoder keeps between two looks at the same segment. One thread at a
// time uses an ear.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <verbacast/base/error.h>
#include <verbacast/wire/text.h>

#define ENGINE_RATE_HZ 16000
#define ENGINE_WINDOW 512 // samples that the voice detector takes at once: 32 ms
#define ENGINE_LANGUAGES_MAX 8
#define ENGINE_WORDS_MAX 512

// Times are seconds since the first sample of the segment.
struct engine_word {
  uint32_t at, size; // in `text`
  float start_s, end_s;
  float confidence; // NAN: unknown
};

// What was heard in a segment. The caller keeps one for many calls; its text grows to what is
// needed.
struct engine_words {
  struct vc_text text;
  size_t n_words; // 0 with a text: the engine does not know when its words were said
  struct engine_word words[ENGINE_WORDS_MAX];
};

struct engine_segment {
  uint64_t id;          // the same for all looks at one segment
  const float *samples; // from its first sample on, -1…1
  size_t n_samples;
  int is_last; // nothing of this id follows
};

struct ear {
  const struct engine *engine;
};

struct engine {
  const struct engine_ops *ops;
  /* set by the engine when it opens, then read-only */
  const char *name;
  char about[256]; // for the log and --check-config: model, version
  size_t n_languages;
  char languages[ENGINE_LANGUAGES_MAX][8];
  double endpointing_min_s; // a shorter silence would cut words apart
  double utterance_max_s;   // a longer segment costs too much or is heard badly
  double context_max_s;     // a segment that was cut off is heard better after the one before it:
                            // the longest of both; 0: never. Such words have no times.
  int is_fallback;          // it proves the pipeline, its words are not to be relied on
};

struct engine_ops {
  void (*close)(struct engine *engine);
  // Thread: any, and may take its time. Returns: NULL without memory or when the model does not
  // load.
  struct ear *(*ear_open)(struct engine *engine);
  void (*ear_close)(struct ear *ear);
  // Thread: one at a time. Makes an ear as good as new.
  void (*ear_reset)(struct ear *ear);
  // Returns: 1 there is a voice, 0 there is none. It says so about 0.1 s after a voice began and
  // 0.1 s after it ended.
  int (*ear_hear)(struct ear *ear, const float samples[ENGINE_WINDOW]);
  // Returns: 0, or -1 it could not.
  int (*ear_decode)(struct ear *ear, const struct engine_segment *segment,
                    struct engine_words *words);
};

enum engine_choice { ENGINE_AUTO, ENGINE_SHERPA, ENGINE_POCKETSPHINX };

// `model` "": the folder that the build or the installation knows. ENGINE_AUTO takes the best one
// that was built in and whose model is there. Returns: NULL and the error says what is missing.
struct engine *engine_open(enum engine_choice choice, const char *model, struct vc_error *error);
void engine_close(struct engine **engine);
int engine_has_language(const struct engine *engine, const char *code); // "en", "en-US"

// Those that were built in; NULL and the error otherwise.
struct engine *engine_sherpa_open(const char *model, struct vc_error *error);
struct engine *engine_pocketsphinx_open(const char *model, struct vc_error *error);
