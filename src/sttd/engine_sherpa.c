// sherpa-onnx: Moonshine hears, Silero tells voices from silence. One copy of the weights serves
// all threads. A moonshine model hears a whole segment anew at each look, so nothing is kept
// between two looks; it knows no word times.
#include "engine.h"

#include <sherpa-onnx/c-api/c-api.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PATH_SIZE 1024
#define VOICE_THRESHOLD 0.5f
#define VOICE_MIN_S 0.10f
#define SILENCE_MIN_S 0.10f
#define VOICE_BUFFER_S 12
// The detector keeps the sound of a voice that goes on: it is told to let go of it so often.
#define VOICE_FLUSH_WINDOWS 250
// It counts samples in 31 bits: in a silence after so many windows (9 hours) it begins anew.
#define VOICE_RESET_WINDOWS 1000000u
#define TAIL_SAMPLES 4800

struct sherpa {
  struct engine engine;
  const SherpaOnnxOfflineRecognizer *recognizer;
  char voice_model[PATH_SIZE];
};

struct sherpa_ear {
  struct ear ear;
  const SherpaOnnxVoiceActivityDetector *voice;
  uint32_t n_windows;       // since it was reset
  uint32_t n_voice_windows; // since a voice began or was flushed
};

// --- an ear

static const SherpaOnnxVoiceActivityDetector *voice_create(const char *model)
{
  SherpaOnnxVadModelConfig config;
  memset(&config, 0, sizeof config);
  config.silero_vad.model = model;
  config.silero_vad.threshold = VOICE_THRESHOLD;
  config.silero_vad.min_silence_duration = SILENCE_MIN_S;
  config.silero_vad.min_speech_duration = VOICE_MIN_S;
  config.silero_vad.max_speech_duration = 3600;
  config.silero_vad.window_size = ENGINE_WINDOW;
  config.sample_rate = ENGINE_RATE_HZ;
  config.num_threads = 1;
  config.provider = "cpu";
  return SherpaOnnxCreateVoiceActivityDetector(&config, VOICE_BUFFER_S);
}

static struct ear *ear_open(struct engine *engine)
{
  struct sherpa *sherpa = (struct sherpa *)engine;
  struct sherpa_ear *ear = calloc(1, sizeof *ear);
  if (ear == NULL) {
    return NULL;
  }
  ear->ear.engine = engine;
  ear->voice = voice_create(sherpa->voice_model);
  if (ear->voice == NULL) {
    free(ear);
    return NULL;
  }
  return &ear->ear;
}

static void ear_close(struct ear *base)
{
  struct sherpa_ear *ear = (struct sherpa_ear *)base;
  SherpaOnnxDestroyVoiceActivityDetector(ear->voice);
  free(ear);
}

static void ear_reset(struct ear *base)
{
  struct sherpa_ear *ear = (struct sherpa_ear *)base;
  SherpaOnnxVoiceActivityDetectorReset(ear->voice);
  SherpaOnnxVoiceActivityDetectorClear(ear->voice);
  ear->n_windows = ear->n_voice_windows = 0;
}

static int ear_hear(struct ear *base, const float samples[ENGINE_WINDOW])
{
  struct sherpa_ear *ear = (struct sherpa_ear *)base;
  SherpaOnnxVoiceActivityDetectorAcceptWaveform(ear->voice, samples, ENGINE_WINDOW);
  int is_voice = SherpaOnnxVoiceActivityDetectorDetected(ear->voice);
  ear->n_windows++;
  ear->n_voice_windows = is_voice ? ear->n_voice_windows + 1 : 0;
  if (ear->n_voice_windows >= VOICE_FLUSH_WINDOWS) {
    SherpaOnnxVoiceActivityDetectorFlush(ear->voice);
    ear->n_voice_windows = 0;
  }
  while (!SherpaOnnxVoiceActivityDetectorEmpty(ear->voice)) {
    SherpaOnnxVoiceActivityDetectorPop(ear->voice);
  }
  if (!is_voice && ear->n_windows >= VOICE_RESET_WINDOWS) {
    ear_reset(base);
  }
  return is_voice;
}

// A tenth of the errors go when the last word is followed by silence.
static const float tail[TAIL_SAMPLES];

static int ear_decode(struct ear *base, const struct engine_segment *segment,
                      struct engine_words *words)
{
  const struct sherpa *sherpa = (const struct sherpa *)base->engine;
  const SherpaOnnxOfflineStream *stream = SherpaOnnxCreateOfflineStream(sherpa->recognizer);
  if (stream == NULL) {
    return -1;
  }
  SherpaOnnxAcceptWaveformOffline(stream, ENGINE_RATE_HZ, segment->samples,
                                  (int32_t)segment->n_samples);
  if (segment->is_last) {
    SherpaOnnxAcceptWaveformOffline(stream, ENGINE_RATE_HZ, tail, TAIL_SAMPLES);
  }
  SherpaOnnxDecodeOfflineStream(sherpa->recognizer, stream);
  const SherpaOnnxOfflineRecognizerResult *result = SherpaOnnxGetOfflineStreamResult(stream);
  words->n_words = 0;
  if (result != NULL && result->text != NULL) {
    vc_text_add(&words->text, result->text);
  }
  int status = result != NULL ? 0 : -1;
  SherpaOnnxDestroyOfflineRecognizerResult(result);
  SherpaOnnxDestroyOfflineStream(stream);
  return status;
}

// --- the engine

static void sherpa_close(struct engine *engine)
{
  struct sherpa *sherpa = (struct sherpa *)engine;
  SherpaOnnxDestroyOfflineRecognizer(sherpa->recognizer);
  free(sherpa);
}

static const struct engine_ops sherpa_ops = {
    .close = sherpa_close,
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
    return vc_error_set(error, "the model's folder %.300s has no readable %s", folder, name);
  }
  return 0;
}

static int load(struct sherpa *sherpa, const char *folder, struct vc_error *error)
{
  char encoder[PATH_SIZE], decoder[PATH_SIZE], tokens[PATH_SIZE];
  if (find_file(folder, "encoder_model.ort", encoder, error) != 0 ||
      find_file(folder, "decoder_model_merged.ort", decoder, error) != 0 ||
      find_file(folder, "tokens.txt", tokens, error) != 0 ||
      find_file(folder, "silero_vad_16k_op15.onnx", sherpa->voice_model, error) != 0) {
    return -1;
  }
  SherpaOnnxOfflineRecognizerConfig config;
  memset(&config, 0, sizeof config);
  config.feat_config.sample_rate = ENGINE_RATE_HZ;
  config.feat_config.feature_dim = 80;
  config.model_config.moonshine.encoder = encoder;
  config.model_config.moonshine.merged_decoder = decoder;
  config.model_config.tokens = tokens;
  config.model_config.num_threads = 1; // two cost 2.2 times the CPU
  config.model_config.provider = "cpu";
  config.decoding_method = "greedy_search";
  sherpa->recognizer = SherpaOnnxCreateOfflineRecognizer(&config);
  if (sherpa->recognizer == NULL) {
    return vc_error_set(error, "the model in %.300s does not load", folder);
  }
  return 0;
}

// A file `languages` in the model's folder says what it understands ("en" or "es,pt"); else
// English.
static void read_languages(struct engine *engine, const char *folder)
{
  char path[PATH_SIZE], line[128] = "en";
  snprintf(path, sizeof path, "%s/languages", folder);
  FILE *file = fopen(path, "re");
  if (file != NULL) {
    if (fgets(line, sizeof line, file) == NULL) {
      snprintf(line, sizeof line, "en");
    }
    fclose(file);
  }
  char *rest = line;
  for (char *code; (code = strsep(&rest, ", \t\n")) != NULL;) {
    if (code[0] != '\0' && engine->n_languages < ENGINE_LANGUAGES_MAX) {
      snprintf(engine->languages[engine->n_languages++], sizeof engine->languages[0], "%s", code);
    }
  }
}

// An ear at once: what does not load shows at the start, not at the first caller.
static int try_ear(struct sherpa *sherpa, struct vc_error *error)
{
  struct ear *ear = ear_open(&sherpa->engine);
  if (ear == NULL) {
    return vc_error_set(error, "the voice detector %.300s does not load", sherpa->voice_model);
  }
  ear_close(ear);
  return 0;
}

// Where the model lies: as configured, where it was installed, where it was fetched to.
static const char *model_folder(const char *model)
{
  if (model[0] != '\0') {
    return model;
  }
  char path[PATH_SIZE];
  struct vc_error ignored;
  return find_file(VC_STT_MODEL_INSTALLED, "tokens.txt", path, &ignored) == 0
             ? VC_STT_MODEL_INSTALLED
             : VC_STT_MODEL_BUILD;
}

struct engine *engine_sherpa_open(const char *model, struct vc_error *error)
{
  const char *folder = model_folder(model);
  struct sherpa *sherpa = calloc(1, sizeof *sherpa);
  if (sherpa == NULL) {
    vc_error_set(error, "no memory for the speech engine");
    return NULL;
  }
  sherpa->engine = (struct engine){
      .ops = &sherpa_ops,
      .name = "sherpa",
      .endpointing_min_s = 0.4,
      .utterance_max_s = 10,
      .context_max_s = 10,
  };
  snprintf(sherpa->engine.about, sizeof sherpa->engine.about, "sherpa-onnx %s, model %.200s",
           SherpaOnnxGetVersionStr(), folder);
  read_languages(&sherpa->engine, folder);
  int status = load(sherpa, folder, error);
  if (status == 0) {
    status = try_ear(sherpa, error);
  }
  if (status != 0) {
    SherpaOnnxDestroyOfflineRecognizer(sherpa->recognizer);
    free(sherpa);
    return NULL;
  }
  return &sherpa->engine;
}
