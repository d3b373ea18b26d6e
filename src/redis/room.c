#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include <verbacast/base/thread.h>

#include "room.h"

#define LANE_CAPACITY 8192
#define TICK_MS 100
#define KEEP_MIN_MS 10000 // a stream that is renewed every 3 s must not go meanwhile

// --- the condition

// Under the mutex. The reason is the first that stands.
static void tell(struct vc_redis *redis)
{
  for (size_t i = 0; i < N_TROUBLES; i++) {
    if (redis->troubles[i][0] != '\0') {
      vc_health_set(redis->settings.health, "redis", redis->troubles[i]);
      return;
    }
  }
  vc_health_clear(redis->settings.health, "redis");
}

void redis_trouble(struct vc_redis *redis, enum redis_trouble trouble, const char *format, ...)
{
  va_list arguments;
  va_start(arguments, format);
  pthread_mutex_lock(&redis->mutex);
  vsnprintf(redis->troubles[trouble], sizeof redis->troubles[trouble], format, arguments);
  tell(redis);
  pthread_mutex_unlock(&redis->mutex);
  va_end(arguments);
}

void redis_trouble_clear(struct vc_redis *redis, enum redis_trouble trouble)
{
  pthread_mutex_lock(&redis->mutex);
  if (redis->troubles[trouble][0] != '\0') {
    redis->troubles[trouble][0] = '\0';
    tell(redis);
  }
  pthread_mutex_unlock(&redis->mutex);
}

const char *redis_key(const struct vc_redis *redis, char into[REDIS_KEY_MAX], const char *kind,
                      const char *slug)
{
  snprintf(into, REDIS_KEY_MAX, "%s%s:%s", redis->settings.options->redis_prefix, kind, slug);
  return into;
}

// --- what travels within

static void *item_create(size_t size, enum redis_item_kind kind,
                         void (*destroy)(struct vc_item *item))
{
  struct redis_item *item = calloc(1, size);
  if (item != NULL) {
    item->owned = (struct vc_owned_item){.item.kind = VC_ITEM_OWNED, .destroy = destroy};
    item->kind = kind;
  }
  return item;
}

struct redis_item *redis_item_of(struct vc_item *item)
{
  return (struct redis_item *)item; // its first member's first member
}

static void free_plain(struct vc_item *item)
{
  free(item);
}

static void free_connection(struct vc_item *item)
{
  struct redis_connection *connection = (struct redis_connection *)item;
  if (connection->context != NULL) {
    redisFree(connection->context);
  }
  free(connection);
}

static void free_shown(struct vc_item *item)
{
  vc_buffer_unref(((struct redis_shown *)item)->sessions);
  free(item);
}

struct redis_connection *redis_connection_create(enum redis_role role)
{
  struct redis_connection *connection =
      item_create(sizeof *connection, REDIS_CONNECTION, free_connection);
  if (connection != NULL) {
    connection->role = role;
  }
  return connection;
}

struct redis_shown *redis_shown_create(struct vc_buffer *sessions)
{
  struct redis_shown *shown = item_create(sizeof *shown, REDIS_SHOWN, free_shown);
  if (shown == NULL) {
    vc_buffer_unref(sessions);
    return NULL;
  }
  shown->sessions = sessions;
  return shown;
}

struct redis_claim *redis_claim_create(const char *slug, int64_t epoch_floor)
{
  struct redis_claim *claim = item_create(sizeof *claim, REDIS_CLAIM, free_plain);
  if (claim != NULL) {
    snprintf(claim->slug, sizeof claim->slug, "%s", slug);
    claim->epoch_floor = epoch_floor;
  }
  return claim;
}

struct redis_released *redis_released_create(const char *slug, int64_t epoch)
{
  struct redis_released *released = item_create(sizeof *released, REDIS_RELEASED, free_plain);
  if (released != NULL) {
    snprintf(released->slug, sizeof released->slug, "%s", slug);
    released->epoch = epoch;
  }
  return released;
}

// --- the room

static int create_stage(struct vc_redis *redis, struct vc_stage **stage,
                        const struct vc_stage_ops *ops, struct vc_error *error)
{
  const struct vc_stage_settings settings = {
      .ops = ops,
      .config = &redis,
      .config_size = sizeof(struct vc_redis *),
      .n_workers = 1,
      .tick_ms = TICK_MS,
      .lane_capacity = LANE_CAPACITY,
      .clock = redis->settings.clock,
      .metrics = redis->settings.metrics,
      .metric_rows = vc_redis_metrics,
  };
  return vc_stage_create(stage, &settings, error);
}

static int create_putters(struct vc_redis *redis)
{
  redis->publish_to_watch = vc_putter_create(redis->watcher);
  redis->watch_to_publish = vc_putter_create(redis->publisher);
  redis->connect_to[0] = vc_putter_create(redis->publisher);
  redis->connect_to[1] = vc_putter_create(redis->watcher);
  return redis->publish_to_watch == NULL || redis->watch_to_publish == NULL ||
                 redis->connect_to[0] == NULL || redis->connect_to[1] == NULL
             ? -1
             : 0;
}

static char *print_node(const char *node)
{
  struct vc_text text = {0};
  vc_text_json_string(&text, node);
  if (text.has_failed) {
    vc_text_fini(&text);
    return NULL;
  }
  return text.at;
}

static int name_process(struct vc_redis *redis)
{
  uint64_t random;
  ssize_t n = getrandom(&random, sizeof random, 0);
  snprintf(redis->process, sizeof redis->process, "%016" PRIx64, random);
  return n == (ssize_t)sizeof random ? 0 : -1;
}

static int fill(struct vc_redis *redis, struct vc_error *error)
{
  const struct vc_redis_settings *settings = &redis->settings;
  struct vc_error why;
  if (redis_address_parse(settings->options->redis_url, &redis->address, &why) != 0) {
    return vc_error_set(error, "REDIS_URL %s", why.text);
  }
  if (name_process(redis) != 0) {
    return vc_error_set(error, "redis: no random numbers");
  }
  if (create_stage(redis, &redis->publisher, &redis_publish_ops, error) != 0 ||
      create_stage(redis, &redis->watcher, &redis_watch_ops, error) != 0) {
    return -1;
  }
  redis->node_json = print_node(settings->node);
  if (settings->metrics != NULL) {
    redis->connect_slots = vc_metrics_slots_create(settings->metrics, vc_redis_metrics);
  }
  return redis->node_json == NULL || create_putters(redis) != 0 ||
                 (settings->metrics != NULL && redis->connect_slots == NULL)
             ? vc_error_set(error, "redis: no memory")
             : 0;
}

int vc_redis_create(struct vc_redis **redis_out, const struct vc_redis_settings *settings,
                    struct vc_error *error)
{
  struct vc_redis *redis = calloc(1, sizeof *redis);
  if (redis == NULL) {
    return vc_error_set(error, "redis: no memory");
  }
  redis->settings = *settings;
  if (redis->settings.session_keep_ms < KEEP_MIN_MS) {
    redis->settings.session_keep_ms = KEEP_MIN_MS;
  }
  redis->dialing_fd = -1;
  pthread_condattr_t attributes;
  pthread_condattr_init(&attributes);
  pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
  pthread_mutex_init(&redis->mutex, NULL);
  pthread_cond_init(&redis->changed, &attributes);
  pthread_condattr_destroy(&attributes);
  if (fill(redis, error) != 0) {
    vc_redis_destroy(&redis);
    return -1;
  }
  *redis_out = redis;
  return 0;
}

struct vc_stage *vc_redis_publisher(struct vc_redis *redis)
{
  return redis->publisher;
}

struct vc_stage *vc_redis_watcher(struct vc_redis *redis)
{
  return redis->watcher;
}

int vc_redis_set_ledger(struct vc_redis *redis, struct vc_stage *ledger, struct vc_error *error)
{
  redis->ledger = ledger;
  redis->publish_to_ledger = vc_putter_create(ledger);
  redis->watch_to_ledger = vc_putter_create(ledger);
  return redis->publish_to_ledger != NULL && redis->watch_to_ledger != NULL
             ? 0
             : vc_error_set(error, "redis: no memory");
}

int vc_redis_start(struct vc_redis *redis, struct vc_error *error)
{
  if (vc_stage_start(redis->publisher, error) != 0) {
    return -1;
  }
  if (vc_stage_start(redis->watcher, error) != 0) {
    vc_stage_stop(redis->publisher, 0);
    return -1;
  }
  int status = vc_thread_start(&redis->connector, "vc-redis-conn", 0, redis_connect_run, redis);
  if (status != 0) {
    vc_stage_stop(redis->watcher, 0);
    vc_stage_stop(redis->publisher, 0);
    return vc_error_set(error, "redis: no thread: %s", strerror(status));
  }
  redis->has_connector = 1;
  return 0;
}

// What the watching worker puts to the publishing one is handled after it has stopped.
int vc_redis_stop(struct vc_redis *redis, uint32_t timeout_ms)
{
  if (!redis->has_connector) {
    return 0;
  }
  redis->has_connector = 0;
  redis_connect_stop(redis);
  int is_late = vc_stage_stop(redis->watcher, timeout_ms);
  is_late |= vc_stage_stop(redis->publisher, timeout_ms);
  return is_late;
}

void vc_redis_destroy(struct vc_redis **redis_in)
{
  struct vc_redis *redis = *redis_in;
  if (redis != NULL) {
    vc_stage_destroy(&redis->watcher);
    vc_stage_destroy(&redis->publisher);
    pthread_mutex_destroy(&redis->mutex);
    pthread_cond_destroy(&redis->changed);
    free(redis->node_json);
    free(redis);
    *redis_in = NULL;
  }
}
