// The stage: webhooks are verified on the thread that brings them and understood on the worker's.
#include "room.h"

#include <verbacast/wire/jwt.h>

#include <verbacast/wire/json.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TICK_MS 100
#define LEEWAY_MS 30000 // of LiveKit's clock, as call.c allows it to be behind
#define LOG_INTERVAL_MS 1000
#define EVENT_CLAIM_MS 600000 // LiveKit has given up sending it again long before
#define FAILED_WAIT_MS 1000   // for the room to be over, which ends egresses too

// A verified webhook on its way to the worker.
struct webhook {
  struct vc_owned_item owned; // first
  size_t size;
  char body[];
};

// --- what the other files ask

uint64_t room_now(const struct vc_livekit *livekit)
{
  return vc_worker_now_ns(livekit->worker);
}

enum vc_livekit_claim room_claim(struct vc_livekit *livekit, const char *key, int64_t ttl_ms)
{
  const struct vc_livekit_settings *settings = &livekit->settings;
  enum vc_livekit_claim claim = settings->claim(settings->context, key, ttl_ms);
  vc_worker_beat(livekit->worker);
  return claim;
}

void room_count(struct vc_livekit *livekit, size_t metric)
{
  vc_metric_add(livekit->slots, metric, 1);
}

void room_is_ill(struct vc_livekit *livekit, int *is_failing, const char *reason)
{
  livekit->n_failing += *is_failing == 0;
  *is_failing = 1;
  vc_health_set(livekit->settings.health, "livekit", reason);
}

void room_is_well(struct vc_livekit *livekit, int *is_failing)
{
  livekit->n_failing -= *is_failing != 0;
  if (*is_failing && livekit->n_failing == 0) {
    vc_health_clear(livekit->settings.health, "livekit");
  }
  *is_failing = 0;
}

int room_starts_egresses(const struct vc_livekit *livekit)
{
  return livekit->ours[0] != '\0';
}

// --- webhooks in. Thread: any.

static void free_webhook(struct vc_item *item)
{
  free(item);
}

static int refuse(struct vc_livekit *livekit, const char *reason, const char **why)
{
  uint64_t left_out;
  *why = reason;
  vc_metric_add(livekit->door, WEBHOOKS_REFUSED, 1);
  pthread_mutex_lock(&livekit->mutex);
  if (vc_log_limit_pass(&livekit->refusals, vc_clock_now_ns(livekit->settings.clock),
                        LOG_INTERVAL_MS, &left_out)) {
    vc_log(VC_LOG_WARN, VC_EVENT("livekit.webhook_refused"), VC_STR("why", reason),
           VC_INT("left_out", left_out));
  }
  pthread_mutex_unlock(&livekit->mutex);
  return 401;
}

// Returns: as verify.
static const char *judge(const struct vc_livekit *livekit, const json_t *claims, const char *body,
                         size_t size)
{
  const char *key = vc_json_string(claims, "iss", "");
  const char *hash = vc_json_string(claims, "sha256", "");
  if (!vc_livekit_knows_key(livekit->settings.options->livekit_api_key, key)) {
    return "the token is of another API key";
  }
  int is_of_body = body != NULL ? vc_livekit_hash_matches(hash, body, size) : 1;
  return is_of_body > 0   ? NULL
         : is_of_body < 0 ? vc_jwt_why(VC_JWT_NO_MEMORY)
                          : "the body is not what the token was made for";
}

// Returns: NULL, or why it is not LiveKit's; vc_jwt_why(VC_JWT_NO_MEMORY): that is not known.
static const char *verify(const struct vc_livekit *livekit, const char *authorization,
                          const char *body, size_t size)
{
  const struct vc_livekit_settings *settings = &livekit->settings;
  const struct vc_jwt_clock clock = {vc_clock_unix_ms(settings->clock), LEEWAY_MS};
  struct vc_jwt jwt = {.claims = NULL};
  if (authorization == NULL) {
    return "there is no Authorization";
  }
  enum vc_jwt_verdict verdict =
      vc_jwt_verify_by(settings->options->livekit_api_secret, authorization, &clock, &jwt);
  const char *why =
      verdict == VC_JWT_GOOD ? judge(livekit, jwt.claims, body, size) : vc_jwt_why(verdict);
  json_decref(jwt.claims);
  return why;
}

static int put(struct vc_livekit *livekit, struct webhook *webhook)
{
  pthread_mutex_lock(&livekit->mutex);
  int status =
      livekit->is_stopping ? 1 : vc_shared_putter_put(livekit->putter, 0, &webhook->owned.item);
  pthread_mutex_unlock(&livekit->mutex);
  return status;
}

int vc_livekit_take_webhook(struct vc_livekit *livekit, const char *authorization, const char *body,
                            size_t size, const char **why)
{
  const char *wrong = verify(livekit, authorization, body, size);
  if (wrong == vc_jwt_why(VC_JWT_NO_MEMORY)) {
    vc_metric_add(livekit->door, WEBHOOKS_UNQUEUED, 1);
    *why = wrong;
    return 503;
  }
  if (wrong != NULL) {
    return refuse(livekit, wrong, why);
  }
  if (body == NULL) {
    return 200;
  }
  struct webhook *webhook = malloc(sizeof *webhook + size);
  if (webhook != NULL) {
    webhook->owned = (struct vc_owned_item){{.kind = VC_ITEM_OWNED}, free_webhook};
    webhook->size = size;
    memcpy(webhook->body, body, size);
  }
  if (webhook == NULL || put(livekit, webhook) != 0) {
    free(webhook);
    vc_metric_add(livekit->door, WEBHOOKS_UNQUEUED, 1);
    *why = "too many webhooks wait, or the node drains";
    return 503;
  }
  vc_metric_add(livekit->door, WEBHOOKS_TAKEN, 1);
  return 200;
}

// --- what they mean. Thread: the worker's.

// Remembers it. Returns: 1 when it was there.
static int is_repeated(struct vc_livekit *livekit, const char *id)
{
  char key[VC_LIVEKIT_ID_MAX + 16];
  struct event *event;
  HASH_FIND_STR(livekit->events, id, event);
  if (event != NULL) {
    return 1;
  }
  event = calloc(1, sizeof *event);
  if (event != NULL) {
    memcpy(event->id, id, strlen(id) + 1);
    HASH_ADD_STR(livekit->events, id, event);
  }
  if (event == NULL || event->hh.tbl == NULL) {
    room_count(livekit, OUT_OF_MEMORY);
    free(event);
  } else if (HASH_COUNT(livekit->events) > VC_LIVEKIT_EVENTS_MAX) {
    struct event *oldest = livekit->events;
    HASH_DEL(livekit->events, oldest);
    free(oldest);
  }
  snprintf(key, sizeof key, "lk:event:%s", id);
  return room_claim(livekit, key, EVENT_CLAIM_MS) == VC_LIVEKIT_OTHERS;
}

static void room_started(struct vc_livekit *livekit, const struct vc_livekit_webhook *webhook)
{
  int64_t age_s = vc_clock_unix_ms(livekit->settings.clock) / 1000 - webhook->created_s;
  int is_new = age_s < 10; // one that was late may be of a room that is over
  if (room_starts_egresses(livekit)) {
    meeting_wake(livekit, &webhook->room, is_new ? room_now(livekit) : 0, 0);
  }
}

static void room_finished(struct vc_livekit *livekit, const struct vc_livekit_room *room)
{
  char slug[VC_SLUG_MAX + 1];
  struct meeting *meeting = meeting_find(livekit, room->name);
  if (meeting != NULL && meeting->room.sid[0] != '\0' && room->sid[0] != '\0' &&
      strcmp(meeting->room.sid, room->sid) != 0) {
    return; // it has begun anew meanwhile
  }
  if (meeting != NULL) {
    meeting_forget(meeting);
  }
  if (vc_slug_of_room(room->name, slug) < 0) { // what publishes it leaves all the same
    room_count(livekit, OUT_OF_MEMORY);
    return;
  }
  vc_log(VC_LOG_INFO, VC_EVENT("livekit.room_finished"), VC_STR("room", room->name),
         VC_STR("session", slug));
  livekit->settings.end_session(livekit->settings.context, slug);
  vc_worker_beat(livekit->worker);
}

static void egress_ended(struct vc_livekit *livekit, const struct vc_livekit_egress *egress)
{
  int was_wanted =
      egress->status == VC_LIVEKIT_COMPLETE || egress->status == VC_LIVEKIT_LIMIT_REACHED;
  if (!egress->is_ours || was_wanted || egress->room.name[0] == '\0') {
    return;
  }
  room_count(livekit, EGRESS_FAILURES);
  vc_log(VC_LOG_WARN, VC_EVENT("livekit.egress_failed"), VC_STR("room", egress->room.name),
         VC_STR("egress", egress->id), VC_STR("reason", egress->error));
  meeting_wake(livekit, &egress->room, 0, FAILED_WAIT_MS);
}

static void take_event(struct vc_livekit *livekit, const struct vc_livekit_webhook *webhook)
{
  switch (webhook->event) {
  case VC_LIVEKIT_ROOM_STARTED:
    room_started(livekit, webhook);
    break;
  case VC_LIVEKIT_ROOM_FINISHED:
    room_finished(livekit, &webhook->room);
    break;
  case VC_LIVEKIT_EGRESS_ENDED:
    egress_ended(livekit, &webhook->egress);
    break;
  default:
    break; // an egress that goes well
  }
}

static void handle(struct vc_worker *worker, struct vc_item *item)
{
  struct vc_livekit *livekit = vc_worker_state(worker);
  const struct webhook *taken = (const struct webhook *)item;
  struct vc_livekit_webhook webhook;
  const char *why = "";
  if (vc_livekit_parse_webhook(taken->body, taken->size, livekit->ours, &webhook, &why) != 0) {
    room_count(livekit, WEBHOOKS_MALFORMED);
    vc_log(VC_LOG_WARN, VC_EVENT("livekit.webhook_malformed"), VC_STR("why", why));
  } else if (webhook.event != VC_LIVEKIT_OTHER) {
    if (webhook.id[0] != '\0' && is_repeated(livekit, webhook.id)) {
      room_count(livekit, WEBHOOKS_REPEATED);
    } else {
      take_event(livekit, &webhook);
    }
  }
  vc_item_destroy(item);
}

// --- the stage

static int enter(struct vc_worker *worker, void *config, struct vc_error *error)
{
  struct vc_livekit *livekit = *(struct vc_livekit **)config;
  const struct vc_client_settings settings = {.ca_file = livekit->settings.options->livekit_ca_file,
                                              .user_agent = "verbacast"};
  livekit->worker = worker;
  livekit->slots = vc_worker_slots(worker);
  if (vc_client_create(&livekit->client, worker, &settings, error) != 0) {
    return -1;
  }
  vc_worker_set_state(worker, livekit);
  poll_init(livekit);
  return 0;
}

static void tick(struct vc_worker *worker)
{
  struct vc_livekit *livekit = vc_worker_state(worker);
  meetings_tick(livekit);
  poll_tick(livekit);
}

static void leave(struct vc_worker *worker)
{
  struct vc_livekit *livekit = vc_worker_state(worker);
  struct event *event, *next;
  while (livekit->meetings != NULL) {
    meeting_forget(livekit->meetings);
  }
  HASH_ITER(hh, livekit->events, event, next)
  {
    HASH_DEL(livekit->events, event);
    free(event);
  }
  poll_fini(livekit);
  vc_client_destroy(&livekit->client);
}

static const struct vc_stage_ops ops = {
    .name = "livekit", .enter = enter, .handle = handle, .tick = tick, .leave = leave};

// --- its life

// "wss://HOST/" is https://HOST.
static void resolve_host(struct vc_livekit *livekit)
{
  const char *url = livekit->settings.options->livekit_url;
  const char *rest = strstr(url, "://");
  int is_secure = strncmp(url, "https:", 6) == 0 || strncmp(url, "wss:", 4) == 0;
  if (rest != NULL) {
    snprintf(livekit->host, sizeof livekit->host, "%s%s", is_secure ? "https" : "http", rest);
  }
  for (size_t n = strlen(livekit->host); n > 0 && livekit->host[n - 1] == '/'; n--) {
    livekit->host[n - 1] = '\0';
  }
}

static void resolve_address(struct vc_livekit *livekit)
{
  const char *address = livekit->settings.options->livekit_auto_egress;
  size_t n = strlen(address);
  while (n > 0 && address[n - 1] == '/') {
    n--;
  }
  if (n > 0) {
    snprintf(livekit->ours, sizeof livekit->ours, "%.*s/", (int)n, address);
  }
}

int vc_livekit_create(struct vc_livekit **livekit_out, const struct vc_livekit_settings *settings,
                      struct vc_error *error)
{
  struct vc_livekit *livekit = calloc(1, sizeof *livekit);
  if (livekit == NULL) {
    return vc_error_set(error, "livekit: no memory");
  }
  livekit->settings = *settings;
  pthread_mutex_init(&livekit->mutex, NULL);
  resolve_host(livekit);
  resolve_address(livekit);
  livekit->door = vc_metrics_slots_create(settings->metrics, vc_livekit_metrics);
  int status = vc_stage_create(&livekit->stage,
                               &(struct vc_stage_settings){.ops = &ops,
                                                           .config = &livekit,
                                                           .config_size = sizeof livekit,
                                                           .n_workers = 1,
                                                           .tick_ms = TICK_MS,
                                                           .lane_capacity = VC_LIVEKIT_WEBHOOKS_MAX,
                                                           .batch = 1,
                                                           .clock = settings->clock,
                                                           .metrics = settings->metrics,
                                                           .metric_rows = vc_livekit_metrics},
                               error);
  livekit->putter = status == 0 ? vc_shared_putter_create(livekit->stage) : NULL;
  if (livekit->putter == NULL) {
    vc_livekit_destroy(&livekit);
    return status != 0 ? -1 : vc_error_set(error, "livekit: no memory");
  }
  *livekit_out = livekit;
  return 0;
}

struct vc_stage *vc_livekit_stage(struct vc_livekit *livekit)
{
  return livekit->stage;
}

void vc_livekit_stop(struct vc_livekit *livekit)
{
  pthread_mutex_lock(&livekit->mutex);
  livekit->is_stopping = 1;
  pthread_mutex_unlock(&livekit->mutex);
  vc_stage_stop(livekit->stage, 0);
}

void vc_livekit_destroy(struct vc_livekit **livekit)
{
  if (*livekit != NULL) {
    vc_shared_putter_destroy(&(*livekit)->putter);
    vc_stage_destroy(&(*livekit)->stage);
    pthread_mutex_destroy(&(*livekit)->mutex);
    free(*livekit);
    *livekit = NULL;
  }
}
