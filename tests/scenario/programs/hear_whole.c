// What the engine of verbacast-stt hears in whole recordings, a line each: the best it can do,
// beside which the live words are held. hear_whole FILE..., raw samples of 16 bit at 16 kHz.
#include "engine.h"

#include <stdio.h>
#include <stdlib.h>

#define SAMPLES_MAX ((size_t)ENGINE_RATE_HZ * 300)

static int16_t raw[SAMPLES_MAX];
static float samples[SAMPLES_MAX];

static int read_samples(const char *path, size_t *n)
{
  FILE *file = fopen(path, "rbe");
  if (file == NULL) {
    return -1;
  }
  *n = fread(raw, sizeof raw[0], SAMPLES_MAX, file);
  fclose(file);
  for (size_t i = 0; i < *n; i++) {
    samples[i] = (float)raw[i] / 32768;
  }
  return 0;
}

static int hear(struct ear *ear, const char *path, uint64_t id, struct engine_words *words)
{
  struct engine_segment segment = {.id = id, .samples = samples, .is_last = 1};
  words->text.size = 0;
  if (read_samples(path, &segment.n_samples) != 0 ||
      ear->engine->ops->ear_decode(ear, &segment, words) != 0) {
    fprintf(stderr, "%s cannot be heard\n", path);
    return -1;
  }
  printf("%.*s\n", (int)words->text.size, words->text.size > 0 ? words->text.at : "");
  return 0;
}

int main(int argc, char **argv)
{
  static struct engine_words words;
  struct vc_error error = {.text = ""};
  struct engine *engine = engine_open(ENGINE_AUTO, "", &error);
  struct ear *ear = engine != NULL ? engine->ops->ear_open(engine) : NULL;
  if (ear == NULL) {
    fprintf(stderr, "%s\n", error.text);
    engine_close(&engine);
    return EXIT_FAILURE;
  }
  int status = 0;
  for (int i = 1; i < argc && status == 0; i++) {
    status = hear(ear, argv[i], (uint64_t)i, &words);
  }
  vc_text_fini(&words.text);
  engine->ops->ear_close(ear);
  engine_close(&engine);
  return status == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
