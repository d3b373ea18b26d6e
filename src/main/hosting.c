#include "hosting.h"

#include <verbacast/base/log.h>
#include <verbacast/flow/query.h>

#include <string.h>

// Nobody waits for the answer: a session that is not here is another node's.
static void end_session(void *context, const char *slug)
{
  struct hosting *hosting = context;
  struct vc_query *query = vc_query_create(VC_QUERY_END_SESSION, slug);
  struct vc_item *item = query != NULL ? vc_query_item(query) : NULL;
  uint32_t worker = vc_slug_hash(slug, strlen(slug)) % vc_stage_n_workers(hosting->ingest);
  if (item == NULL || vc_shared_putter_put(hosting->putter, worker, item) != 0) {
    // It ends by itself, after SESSION_RESUME_MS.
    vc_log(VC_LOG_WARN, VC_EVENT("livekit.not_ended"), VC_STR("session", slug));
    vc_item_destroy(item);
  }
  vc_query_unref(query);
}

// This node alone: LiveKit's own lists say what others have begun.
static enum vc_livekit_claim claim(void *context, const char *key, int64_t ttl_ms)
{
  return VC_LIVEKIT_UNASKED;
}

static int make(struct hosting *hosting, const struct hosting_settings *settings,
                struct vc_error *error)
{
  hosting->putter = vc_shared_putter_create(settings->ingest);
  if (hosting->putter == NULL) {
    return vc_error_set(error, "livekit: no lane to the ingest");
  }
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
  hosting->ingest = settings->ingest;
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
  if (hosting->livekit == NULL) {
    *why = "webhooks cannot be verified: LIVEKIT_API_KEY and LIVEKIT_API_SECRET are not set";
    return 404;
  }
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
  vc_shared_putter_destroy(&hosting->putter);
}
