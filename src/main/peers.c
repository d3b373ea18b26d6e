#include "peers.h"

#include <verbacast/base/log.h>
#include <verbacast/flow/ask.h>

#define ASK_MS 1000

int peers_has_redis(const struct vc_redis_options *options)
{
  return options->redis_url[0] != '\0';
}

// --- what is asked of this node

// Returns: 0, or 1: there is no room, or no memory, now.
static int close_here(const struct peers *peers, const char *slug, enum vc_query_kind kind)
{
  uint32_t worker = vc_ask_worker(peers->ingest, slug);
  return vc_ask_put(peers->putter, worker, vc_query_create(kind, slug)) != 0;
}

static void end_here(const struct peers *peers, const char *slug)
{
  if (close_here(peers, slug, VC_QUERY_END_SESSION) != 0) { // it ends when its publisher goes
    vc_log(VC_LOG_WARN, VC_EVENT("peers.not_closed"), VC_STR("session", slug));
  }
}

static void end_session(void *context, const char *slug)
{
  end_here(context, slug);
}

int peers_take_over(const struct peers *peers, const char *slug)
{
  return close_here(peers, slug, VC_QUERY_TAKE_OVER);
}

int peers_ask_began(const struct peers *peers, struct vc_query *query)
{
  uint32_t worker = vc_ask_worker(peers->ingest, vc_query_slug(query));
  return vc_ask_back(peers->publisher, 0, query, peers->putter, worker);
}

static struct vc_buffer *sessions(void *context)
{
  const struct peers *peers = context;
  return vc_control_sessions(peers->control);
}

// --- what is asked of all

// Returns: the status of the answer, 503: none.
static int ask(const struct peers *peers, enum vc_query_kind kind, const char *name, int64_t number)
{
  struct vc_query *query = vc_query_create(kind, name);
  if (query != NULL) {
    vc_query_set_number(query, number);
  }
  query = vc_ask_wait(peers->publisher, 0, query, ASK_MS);
  int status = query != NULL ? vc_query_status(query) : 503;
  vc_query_unref(query);
  return status;
}

void peers_end_session(const struct peers *peers, const char *slug)
{
  end_here(peers, slug);
  int status = peers->redis != NULL ? ask(peers, VC_QUERY_FLEET_END, slug, 0) : 404;
  if (status != 200 && status != 404) { // it ends by itself, after SESSION_RESUME_MS
    vc_log(VC_LOG_WARN, VC_EVENT("peers.not_ended"), VC_STR("session", slug));
  }
}

int peers_claim(const struct peers *peers, const char *key, int64_t ttl_ms)
{
  int status = peers->redis != NULL ? ask(peers, VC_QUERY_FLEET_CLAIM, key, ttl_ms) : 503;
  return status == 200 ? 0 : status == 409 ? 1 : -1;
}

// --- life

int peers_init(struct peers *peers, const struct peers_settings *settings, struct vc_error *error)
{
  if (!peers_has_redis(settings->options)) {
    return vc_metrics_slots_create(settings->metrics, vc_redis_metrics) != NULL
               ? 0
               : vc_error_set(error, "no memory for metrics");
  }
  return vc_redis_create(
      &peers->redis,
      &(struct vc_redis_settings){.options = settings->options,
                                  .node = settings->node,
                                  .history_finals = settings->ledger->history_finals,
                                  .session_keep_ms = settings->ledger->session_keep_ms,
                                  .clock = &vc_clock_system,
                                  .metrics = settings->metrics,
                                  .health = settings->health,
                                  .end_session = end_session,
                                  .sessions = sessions,
                                  .context = peers},
      error);
}

struct vc_stage *peers_publisher(const struct peers *peers)
{
  return peers->redis != NULL ? vc_redis_publisher(peers->redis) : NULL;
}

struct vc_stage *peers_watcher(const struct peers *peers)
{
  return peers->redis != NULL ? vc_redis_watcher(peers->redis) : NULL;
}

int peers_open(struct peers *peers, struct vc_stage *ledger, struct vc_stage *ingest,
               struct vc_error *error)
{
  peers->ingest = ingest;
  peers->putter = vc_shared_putter_create(ingest);
  if (peers->putter == NULL) {
    return vc_error_set(error, "no lane to the ingest");
  }
  if (peers->redis == NULL) {
    return 0;
  }
  peers->publisher = vc_shared_putter_create(peers_publisher(peers));
  return peers->publisher != NULL ? vc_redis_set_ledger(peers->redis, ledger, error)
                                  : vc_error_set(error, "no memory");
}

int peers_start(struct peers *peers, struct vc_control *control, struct vc_error *error)
{
  peers->control = control;
  return peers->redis != NULL ? vc_redis_start(peers->redis, error) : 0;
}

int peers_stop(struct peers *peers, uint32_t timeout_ms)
{
  return peers->redis != NULL ? vc_redis_stop(peers->redis, timeout_ms) : 0;
}

void peers_fini(struct peers *peers)
{
  vc_shared_putter_destroy(&peers->putter);
  vc_shared_putter_destroy(&peers->publisher);
  vc_redis_destroy(&peers->redis);
}
