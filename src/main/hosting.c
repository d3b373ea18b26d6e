#include "hosting.h"

static void end_session(void *context, const char *slug)
{
  const struct hosting *hosting = context;
  peers_end_session(hosting->peers, slug);
}

// Without other nodes LiveKit's own lists say what was begun.
static enum vc_livekit_claim claim(void *context, const char *key, int64_t ttl_ms)
{
  const struct hosting *hosting = context;
  int status = peers_claim(hosting->peers, key, ttl_ms);
  return status == 0 ? VC_LIVEKIT_OURS : status == 1 ? VC_LIVEKIT_OTHERS : VC_LIVEKIT_UNASKED;
}

static int make(struct hosting *hosting, const struct hosting_settings *settings,
                struct vc_error *error)
{
  if (vc_livekit_create(&hosting->livekit,
                        &(struct vc_livekit_settings){.options = settings->options,
                                                      .publish_secret = settings->publish_secret,
                                                      .clock = &vc_clock_system,
                                                      .metrics = settings->metrics,
                                                      .health = settings->health,
                                                      .end_session = end_session,
                                                      .claim = claim,
                                                      .context = hosting},
                        error) != 0) {
    return -1;
  }
  return vc_stage_start(vc_livekit_stage(hosting->livekit), error);
}

int hosting_init(struct hosting *hosting, const struct hosting_settings *settings,
                 struct vc_error *error)
{
  hosting->peers = settings->peers;
  if (vc_livekit_is_set(settings->options)) {
    return make(hosting, settings, error);
  }
  return vc_metrics_slots_create(settings->metrics, vc_livekit_metrics) != NULL
             ? 0
             : vc_error_set(error, "no memory for metrics");
}

int hosting_take_webhook(struct hosting *hosting, const char *authorization, const char *body,
                         size_t size, const char **why)
{
  return vc_livekit_take_webhook(hosting->livekit, authorization, body, size, why);
}

const char *hosting_stuck(const struct hosting *hosting, uint32_t silent_ms)
{
  return hosting->livekit != NULL &&
                 vc_stage_stuck_worker(vc_livekit_stage(hosting->livekit), silent_ms) >= 0
             ? "livekit-0"
             : NULL;
}

void hosting_stop(struct hosting *hosting)
{
  if (hosting->livekit != NULL) {
    vc_livekit_stop(hosting->livekit);
  }
}

void hosting_fini(struct hosting *hosting)
{
  vc_livekit_destroy(&hosting->livekit);
}
