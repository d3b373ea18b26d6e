// pocketsphinx: what Debian itself has. It hears as the sound comes, so an ear remembers how much
// of a segment it was given and goes on from there; the voice detector is a plain one on loudness.
// It proves the pipeline where the better engine cannot be had; about every fourth word is wrong.
#include "engine.h"

#include <pocketsphinx.h>
#include <sphinxbase/err.h>

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PATH_SIZE 1024
#define FRAMES_PER_S 100
#define FEED_SAMPLES 1600

// Loudness: a voice is so much louder than the quietest of the last seconds.
#define VOICE_ON 4.0f
#define VOICE_OFF 2.5f
#define FLOOR_MIN 0.0008f // -62 dB: below it there is no voice
#define FLOOR_RISE 1.004f // a window: twice as loud after 5.5 s
#define ONSET_WINDOWS 3
#define OFFSET_WINDOWS 4

struct sphinx {
  struct engine engine;
  pthread_mutex_t mutex; // around the making of decoders
  char acoustic[PATH_SIZE], language_model[PATH_SIZE], dictionary[PATH_SIZE];
};

struct sphinx_ear {
  struct ear ear;
  cmd_ln_t *config;
  ps_decoder_t *decoder;
  uint64_t segment; // whose words the decoder holds, while is_open
  size_t n_given;   // of its samples
  int is_open;
  float floor;
  int is_voice;
  uint32_t n_loud, n_quiet; // windows in a row
};

// --- loudness

static float loudness(const float samples[ENGINE_WINDOW])
{
  float sum = 0;
  for (size_t i = 0; i < ENGINE_WINDOW; i++) {
    sum += samples[i] * samples[i];
  }
  return sqrtf(sum / ENGINE_WINDOW);
}

static int ear_hear(struct ear *base, const float samples[ENGINE_WINDOW])
{
  struct sphinx_ear *ear = (struct sphinx_ear *)base;
  float level = loudness(samples);
  ear->floor = fmaxf(fminf(ear->floor * FLOOR_RISE, level), FLOOR_MIN);
  ear->n_loud = level > ear->floor * VOICE_ON ? ear->n_loud + 1 : 0;
  ear->n_quiet = level < ear->floor * VOICE_OFF ? ear->n_quiet + 1 : 0;
  if (!ear->is_voice && ear->n_loud >= ONSET_WINDOWS) {
    ear->is_voice = 1;
  } else if (ear->is_voice && ear->n_quiet >= OFFSET_WINDOWS) {
    ear->is_voice = 0;
  }
  return ear->is_voice;
}

// --- an ear

static void ear_close(struct ear *base)
{
  struct sphinx_ear *ear = (struct sphinx_ear *)base;
  if (ear->decoder != NULL) {
    ps_free(ear->decoder);
  }
  if (ear->config != NULL) {
    cmd_ln_free_r(ear->config);
  }
  free(ear);
}

static struct ear *ear_open(struct engine *engine)
{
  struct sphinx *sphinx = (struct sphinx *)engine;
  struct sphinx_ear *ear = calloc(1, sizeof *ear);
  if (ear == NULL) {
    return NULL;
  }
  ear->ear.engine = engine;
  ear->floor = 1;
  pthread_mutex_lock(&sphinx->mutex);
  ear->config =
      cmd_ln_init(NULL, ps_args(), TRUE, "-hmm", sphinx->acoustic, "-lm", sphinx->language_model,
                  "-dict", sphinx->dictionary, "-remove_silence", "no", NULL);
  ear->decoder = ear->config != NULL ? ps_init(ear->config) : NULL;
  pthread_mutex_unlock(&sphinx->mutex);
  if (ear->decoder == NULL) {
    ear_close(&ear->ear);
    return NULL;
  }
  return &ear->ear;
}

static void end_segment(struct sphinx_ear *ear)
{
  if (ear->is_open) {
    ps_end_utt(ear->decoder);
    ear->is_open = 0;
  }
}

static void ear_reset(struct ear *base)
{
  struct sphinx_ear *ear = (struct sphinx_ear *)base;
  end_segment(ear);
  ear->floor = 1;
  ear->is_voice = 0;
  ear->n_loud = ear->n_quiet = 0;
}

static int begin_segment(struct sphinx_ear *ear, uint64_t id)
{
  end_segment(ear);
  if (ps_start_utt(ear->decoder) < 0) {
    return -1;
  }
  ear->is_open = 1;
  ear->segment = id;
  ear->n_given = 0;
  return 0;
}

static int give(struct sphinx_ear *ear, const struct engine_segment *segment)
{
  int16_t samples[FEED_SAMPLES];
  while (ear->n_given < segment->n_samples) {
    size_t n = segment->n_samples - ear->n_given;
    n = n < FEED_SAMPLES ? n : FEED_SAMPLES;
    for (size_t i = 0; i < n; i++) {
      samples[i] = (int16_t)lrintf(segment->samples[ear->n_given + i] * 32767);
    }
    if (ps_process_raw(ear->decoder, samples, n, FALSE, FALSE) < 0) {
      return -1;
    }
    ear->n_given += n;
  }
  return 0;
}

// Pauses and noises stand in < > and [ ]; a second pronunciation is marked "word(2)".
static void take_word(ps_seg_t *seg, struct engine_words *words)
{
  const char *text = ps_seg_word(seg);
  size_t size = strcspn(text, "(");
  if (text[0] == '<' || text[0] == '[' || text[0] == '+' || size == 0 ||
      words->n_words == ENGINE_WORDS_MAX) {
    return;
  }
  int first, last;
  ps_seg_frames(seg, &first, &last);
  if (words->n_words > 0) {
    vc_text_add(&words->text, " ");
  }
  words->words[words->n_words++] = (struct engine_word){
      .at = (uint32_t)words->text.size,
      .size = (uint32_t)size,
      .start_s = (float)first / FRAMES_PER_S,
      .end_s = (float)(last + 1) / FRAMES_PER_S,
      .confidence = NAN,
  };
  vc_text_append(&words->text, text, size);
}

static int ear_decode(struct ear *base, const struct engine_segment *segment,
                      struct engine_words *words)
{
  struct sphinx_ear *ear = (struct sphinx_ear *)base;
  int goes_on = ear->is_open && ear->segment == segment->id && ear->n_given <= segment->n_samples;
  if ((!goes_on && begin_segment(ear, segment->id) != 0) || give(ear, segment) != 0) {
    return -1;
  }
  if (segment->is_last) {
    end_segment(ear);
  }
  words->n_words = 0;
  for (ps_seg_t *seg = ps_seg_iter(ear->decoder); seg != NULL; seg = ps_seg_next(seg)) {
    take_word(seg, words);
  }
  return 0;
}

// --- the engine

static void sphinx_close(struct engine *engine)
{
  struct sphinx *sphinx = (struct sphinx *)engine;
  pthread_mutex_destroy(&sphinx->mutex);
  free(sphinx);
}

static const struct engine_ops sphinx_ops = {
    .close = sphinx_close,
    .ear_open = ear_open,
    .ear_close = ear_close,
    .ear_reset = ear_reset,
    .ear_hear = ear_hear,
    .ear_decode = ear_decode,
};

static int find_file(const char *folder, const char *name, char path[PATH_SIZE],
                     struct vc_error *error)
{
  int n = snprintf(path, PATH_SIZE, "%s/%s", folder, name);
  if (n >= PATH_SIZE || access(path, R_OK) != 0) {
    return vc_error_set(error, "pocketsphinx's model folder %.300s has no readable %s", folder,
                        name);
  }
  return 0;
}

static int load(struct sphinx *sphinx, const char *folder, struct vc_error *error)
{
  if (find_file(folder, "en-us", sphinx->acoustic, error) != 0 ||
      find_file(folder, "en-us.lm.bin", sphinx->language_model, error) != 0 ||
      find_file(folder, "cmudict-en-us.dict", sphinx->dictionary, error) != 0) {
    return -1;
  }
  struct ear *ear = ear_open(&sphinx->engine);
  if (ear == NULL) {
    return vc_error_set(error, "pocketsphinx does not load the model in %.300s", folder);
  }
  ear_close(ear);
  return 0;
}

struct engine *engine_pocketsphinx_open(const char *model, struct vc_error *error)
{
  const char *folder = model[0] != '\0' ? model : VC_POCKETSPHINX_MODEL;
  struct sphinx *sphinx = calloc(1, sizeof *sphinx);
  if (sphinx == NULL) {
    vc_error_set(error, "no memory for the speech engine");
    return NULL;
  }
  sphinx->engine = (struct engine){
      .ops = &sphinx_ops,
      .name = "pocketsphinx",
      .n_languages = 1,
      .languages = {"en"},
      .endpointing_min_s = 0.2,
      .utterance_max_s = 30,
      .is_fallback = 1,
  };
  snprintf(sphinx->engine.about, sizeof sphinx->engine.about, "pocketsphinx, model %.200s", folder);
  pthread_mutex_init(&sphinx->mutex, NULL);
  err_set_logfp(NULL);
  if (load(sphinx, folder, error) != 0) {
    sphinx_close(&sphinx->engine);
    return NULL;
  }
  return &sphinx->engine;
}
