#include "engine.h"

#include <verbacast/base/log.h>

#include <ctype.h>
#include <string.h>

#ifndef VC_HAVE_SHERPA
struct engine *engine_sherpa_open(const char *model, struct vc_error *error)
{
  vc_error_set(error, "engine sherpa is not in this build (meson option stt_root)");
  return NULL;
}
#endif

#ifndef VC_HAVE_POCKETSPHINX
struct engine *engine_pocketsphinx_open(const char *model, struct vc_error *error)
{
  vc_error_set(error, "engine pocketsphinx is not in this build (libpocketsphinx-dev)");
  return NULL;
}
#endif

static struct engine *open_best(const char *model, struct vc_error *error)
{
  struct vc_error first, second;
  struct engine *engine = engine_sherpa_open(model, &first);
  if (engine != NULL) {
    return engine;
  }
  engine = engine_pocketsphinx_open(model, &second);
  if (engine != NULL) {
    vc_log(VC_LOG_WARN, VC_EVENT("sttd.engine_skipped"), VC_STR("why", first.text));
  } else {
    vc_error_set(error, "no speech engine: %.200s; %.200s", first.text, second.text);
  }
  return engine;
}

struct engine *engine_open(enum engine_choice choice, const char *model, struct vc_error *error)
{
  switch (choice) {
  case ENGINE_SHERPA:
    return engine_sherpa_open(model, error);
  case ENGINE_POCKETSPHINX:
    return engine_pocketsphinx_open(model, error);
  case ENGINE_AUTO:
    break;
  }
  return open_best(model, error);
}

void engine_close(struct engine **engine)
{
  if (*engine != NULL) {
    (*engine)->ops->close(*engine);
    *engine = NULL;
  }
}

int engine_has_language(const struct engine *engine, const char *code)
{
  size_t size = strcspn(code, "-_");
  for (size_t i = 0; i < engine->n_languages; i++) {
    const char *own = engine->languages[i];
    size_t same = 0;
    while (same < size && tolower((unsigned char)code[same]) == own[same]) {
      same++;
    }
    if (same == size && own[same] == '\0') {
      return 1;
    }
  }
  return 0;
}
