#include "rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <utlist.h>

#include <verbacast/wire/ws.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "shown.h"

// --- boxes

static void box_put(struct rig_box *box, struct vc_item *item)
{
  pthread_mutex_lock(&box->mutex);
  DL_APPEND(box->items, item);
  pthread_mutex_unlock(&box->mutex);
}

static struct vc_item *box_take(struct rig_box *box)
{
  pthread_mutex_lock(&box->mutex);
  struct vc_item *item = box->items;
  if (item != NULL) {
    DL_DELETE(box->items, item);
  }
  pthread_mutex_unlock(&box->mutex);
  return item;
}

static void box_empty(struct rig_box *box)
{
  struct vc_item *item;
  while ((item = box_take(box)) != NULL) {
    vc_item_destroy(item);
  }
  pthread_mutex_destroy(&box->mutex);
}

// What is asked again and again.
static struct vc_item *box_wait(struct rig_box *box, const char *what)
{
  uint64_t until = shown_patience_ns();
  struct vc_item *item;
  while ((item = box_take(box)) == NULL) {
    if (!shown_wait_more(until)) {
      fail_msg("%s did not come", what);
    }
  }
  return item;
}

// --- the stages beside the publishing worker

static int enter_ledger(struct vc_worker *worker, void *config, struct vc_error *error)
{
  vc_worker_set_state(worker, *(struct rig **)config);
  return 0;
}

static void handle_remote(struct vc_worker *worker, struct vc_item *item)
{
  struct rig *rig = vc_worker_state(worker);
  assert_int_equal(item->kind, VC_ITEM_REMOTE);
  box_put(&rig->remotes, item);
}

static void leave(struct vc_worker *worker) {}

static const struct vc_stage_ops ledger_ops = {
    .name = "ledger", .enter = enter_ledger, .handle = handle_remote, .leave = leave};

// In place of the room's: it needs no connections.
static int enter_watch(struct vc_worker *worker, void *config, struct vc_error *error)
{
  struct vc_redis *redis = *(struct vc_redis **)config;
  vc_worker_set_state(worker, redis->settings.context);
  redis_connect_up(redis, ROLE_WATCH);
  redis_connect_up(redis, ROLE_SUBSCRIBE);
  return 0;
}

static void handle_owned(struct vc_worker *worker, struct vc_item *item)
{
  struct rig *rig = vc_worker_state(worker);
  box_put(&rig->owned, item);
}

const struct vc_stage_ops redis_watch_ops = {
    .name = "redis-watch", .enter = enter_watch, .handle = handle_owned, .leave = leave};

static struct vc_buffer *tell_sessions(void *context)
{
  struct rig *rig = context;
  if (rig->sessions_size > 0) {
    struct vc_buffer *list = vc_buffer_create(rig->sessions_size);
    memset(list->data, ' ', rig->sessions_size);
    list->data[0] = '[';
    list->data[rig->sessions_size - 1] = ']';
    list->size = rig->sessions_size;
    return list;
  }
  return rig->sessions[0] != '\0' ? vc_buffer_copy(rig->sessions, strlen(rig->sessions)) : NULL;
}

// --- the room

static void start_ledger(struct rig *rig)
{
  struct vc_error error;
  const struct vc_stage_settings settings = {.ops = &ledger_ops,
                                             .config = &rig,
                                             .config_size = sizeof rig,
                                             .n_workers = 2,
                                             .lane_capacity = 4096,
                                             .clock = &vc_clock_system};
  assert_int_equal(vc_stage_create(&rig->ledger, &settings, &error), 0);
  assert_int_equal(vc_stage_start(rig->ledger, &error), 0);
}

struct vc_redis_settings rig_settings(struct rig *rig, const char *node)
{
  return (struct vc_redis_settings){.options = &rig->options,
                                    .node = node,
                                    .history_finals = 1000,
                                    .session_keep_ms = rig->keeps_nothing ? 0 : RIG_KEEP_MS,
                                    .clock = &vc_clock_system,
                                    .metrics = rig->metrics,
                                    .health = rig->health,
                                    .sessions = tell_sessions,
                                    .context = rig};
}

void rig_start(struct rig *rig, struct server *server, const char *node, const char *url)
{
  struct vc_error error = {.text = ""};
  rig->server = server;
  rig->options = (struct vc_redis_options){.redis_url = url, .redis_prefix = "vc:"};
  pthread_mutex_init(&rig->remotes.mutex, NULL);
  pthread_mutex_init(&rig->owned.mutex, NULL);
  rig->metrics = vc_metrics_create(&vc_clock_system);
  rig->health = vc_health_create(&vc_clock_system);
  start_ledger(rig);
  const struct vc_redis_settings settings = rig_settings(rig, node);
  vc_redis_create(&rig->redis, &settings, &error);
  assert_string_equal(error.text, "");
  assert_int_equal(vc_redis_set_ledger(rig->redis, rig->ledger, &error), 0);
  rig->to_publisher = vc_putter_create(vc_redis_publisher(rig->redis));
  assert_int_equal(vc_redis_start(rig->redis, &error), 0);
}

void rig_begin(struct rig *rig, struct server *server, const char *node, const char *sessions)
{
  memset(rig, 0, sizeof *rig);
  snprintf(rig->sessions, sizeof rig->sessions, "%s", sessions);
  rig_start(rig, server, node, server->url);
  rig_wait_gauge(rig, "redis.connections", 3);
}

void rig_stop(struct rig *rig)
{
  vc_redis_stop(rig->redis, 5000);
  vc_stage_stop(rig->ledger, 1000);
  vc_redis_destroy(&rig->redis);
  vc_stage_destroy(&rig->ledger);
  box_empty(&rig->remotes);
  box_empty(&rig->owned);
  vc_health_destroy(&rig->health);
  vc_metrics_destroy(&rig->metrics);
}

// --- what it shows

uint64_t rig_metric(struct rig *rig, const char *name)
{
  return shown_counter(rig->metrics, name);
}

void rig_wait_metric(struct rig *rig, const char *name, uint64_t value)
{
  shown_await_counter(rig->metrics, name, value);
}

int64_t rig_gauge(struct rig *rig, const char *name)
{
  return shown_gauge(rig->metrics, name);
}

void rig_wait_gauge(struct rig *rig, const char *name, int64_t value)
{
  shown_await_gauge(rig->metrics, name, value);
}

void rig_wait_health(struct rig *rig, const char *text)
{
  struct vc_condition conditions[VC_HEALTH_MAX];
  uint64_t until = shown_patience_ns();
  for (;;) {
    size_t n = vc_health_list(rig->health, conditions);
    if (text[0] == '\0' ? n == 0 : n == 1 && strstr(conditions[0].reason, text) != NULL) {
      return;
    }
    if (!shown_wait_more(until)) {
      fail_msg("not '%s' but '%s'", text, n > 0 ? conditions[0].reason : "");
    }
  }
}

// --- the ledger's side

struct vc_remote *rig_remote(struct rig *rig, enum vc_remote_kind kind)
{
  struct vc_remote *remote = (struct vc_remote *)box_wait(&rig->remotes, "a remote");
  assert_int_equal(remote->kind, kind);
  return remote;
}

void rig_expect_ask(struct rig *rig, const char *slug, int64_t epoch, uint64_t seq)
{
  struct vc_remote *remote = rig_remote(rig, VC_REMOTE_ASK);
  assert_string_equal(remote->slug, slug);
  assert_int_equal(remote->epoch, epoch);
  assert_int_equal(remote->seq, seq);
  vc_item_destroy(&remote->item);
}

struct vc_remote *rig_take_remote(struct rig *rig)
{
  return (struct vc_remote *)box_take(&rig->remotes);
}

struct vc_item *rig_take_owned(struct rig *rig)
{
  return box_take(&rig->owned);
}

void rig_expect_no_remote(struct rig *rig)
{
  assert_null(box_take(&rig->remotes));
}

struct redis_claim *rig_claim_begin(struct rig *rig, const char *slug, int64_t floor)
{
  struct redis_claim *claim = redis_claim_create(slug, floor);
  assert_int_equal(vc_putter_put(rig->redis->watch_to_publish, 0, &claim->item.owned.item), 0);
  return claim;
}

void rig_claim_await(struct rig *rig, const struct redis_claim *claim)
{
  struct vc_item *item = box_wait(&rig->owned, "a claim");
  assert_ptr_equal(item, &claim->item.owned.item);
}

struct redis_claim *rig_claim_whole(struct rig *rig, const char *slug, int64_t floor)
{
  struct redis_claim *claim = rig_claim_begin(rig, slug, floor);
  rig_claim_await(rig, claim);
  return claim;
}

int64_t rig_claim(struct rig *rig, const char *slug, int64_t floor)
{
  struct redis_claim *claim = rig_claim_whole(rig, slug, floor);
  int64_t epoch = claim->epoch;
  vc_item_destroy(&claim->item.owned.item);
  return epoch;
}

void rig_expect_released(struct rig *rig, const char *slug)
{
  struct vc_item *item = box_wait(&rig->owned, "a release");
  assert_int_equal(redis_item_of(item)->kind, REDIS_RELEASED);
  assert_string_equal(((struct redis_released *)item)->slug, slug);
  vc_item_destroy(item);
}

static struct vc_message *make(const char *slug, int64_t epoch, struct rig_said said)
{
  char json[256];
  struct vc_message *message = vc_message_create(said.kind, slug);
  int n = snprintf(json, sizeof json, "{\"session\":\"%s\",\"epoch\":%lld,\"seq\":%llu}", slug,
                   (long long)epoch, (unsigned long long)said.seq);
  message->epoch = epoch;
  message->seq = said.seq;
  message->prev_final = said.prev;
  message->received_unix_us = 1790000000123000;
  message->frame = vc_ws_frame_create(VC_WS_TEXT, json, (size_t)n, &message->json_offset);
  return message;
}

void rig_put(struct rig *rig, struct vc_fleet *fleet)
{
  uint64_t until = shown_patience_ns();
  while (vc_putter_put(rig->to_publisher, 0, &fleet->item) != 0) {
    assert_true(shown_wait_more(until));
  }
}

static void add(struct vc_fleet *fleet, int64_t epoch, struct rig_said said)
{
  struct vc_message *message = make(fleet->slug, epoch, said);
  fleet->started_unix_ms = 1790000000000;
  vc_fleet_add(fleet, message);
  vc_message_unref(message);
}

struct vc_fleet *rig_message(const char *slug, int64_t epoch, struct rig_said said)
{
  struct vc_fleet *fleet = vc_fleet_create(VC_FLEET_MESSAGE, slug, 1);
  add(fleet, epoch, said);
  return fleet;
}

void rig_say(struct rig *rig, const char *slug, int64_t epoch, struct rig_said said)
{
  rig_put(rig, rig_message(slug, epoch, said));
}

void rig_orphan(struct rig *rig, const char *slug, int64_t epoch, struct rig_said said)
{
  rig_orphan_behind(rig, slug, (struct vc_position){epoch, said.prev}, said);
}

void rig_orphan_behind(struct rig *rig, const char *slug, struct vc_position last,
                       struct rig_said said)
{
  struct vc_fleet *fleet = vc_fleet_create(VC_FLEET_ORPHAN, slug, 1);
  add(fleet, last.epoch, said);
  fleet->position = last;
  rig_put(rig, fleet);
}

void rig_give(struct rig *rig, const char *slug, struct vc_position after, int is_last,
              int64_t epoch, const struct rig_said *said, size_t n)
{
  struct vc_fleet *fleet = vc_fleet_create(VC_FLEET_HISTORY, slug, n);
  fleet->position = after;
  fleet->is_last = is_last;
  for (size_t i = 0; i < n; i++) {
    add(fleet, epoch, said[i]);
  }
  rig_put(rig, fleet);
}

void rig_release(struct rig *rig, const char *slug, int64_t epoch, uint64_t seq)
{
  struct vc_fleet *fleet = vc_fleet_create(VC_FLEET_RELEASE, slug, 0);
  fleet->position = (struct vc_position){epoch, seq};
  fleet->is_last = 1;
  rig_put(rig, fleet);
}

int rig_query(struct rig *rig, enum vc_query_kind kind, const char *slug, int64_t *number,
              struct vc_buffer **reply)
{
  struct vc_query *query = vc_query_create(kind, slug);
  vc_query_set_number(query, number != NULL ? *number : 0);
  assert_int_equal(vc_putter_put(rig->to_publisher, 0, vc_query_item(query)), 0);
  assert_int_equal(vc_query_wait(query, SERVER_PATIENCE_MS), 0);
  int status = vc_query_status(query);
  if (number != NULL) {
    *number = vc_query_number(query);
  }
  if (reply != NULL) {
    *reply = vc_buffer_ref(vc_query_reply(query));
  }
  vc_query_unref(query);
  return status;
}

// --- what lies in Redis

const char *rig_stream(struct server *server, const char *slug)
{
  static char ids[1024];
  size_t at = 0;
  redisReply *reply = server_ask(server, "XRANGE vc:history:%s - +", slug);
  ids[0] = '\0';
  for (size_t i = 0; i < reply->elements; i++) {
    at += (size_t)snprintf(ids + at, sizeof ids - at, "%s%s", i > 0 ? " " : "",
                           reply->element[i]->element[0]->str);
    assert_true(at < sizeof ids);
  }
  freeReplyObject(reply);
  return ids;
}

void rig_wait_stream(struct server *server, const char *slug, const char *ids)
{
  uint64_t until = shown_patience_ns();
  while (strcmp(rig_stream(server, slug), ids) != 0) {
    if (!shown_wait_more(until)) {
      fail_msg("%s is %s, not %s", slug, rig_stream(server, slug), ids);
    }
  }
}

void rig_wait_shown(struct server *server, const char *node)
{
  uint64_t until = shown_patience_ns();
  while (server_number(server, "EXISTS vc:node:%s", node) == 0) {
    assert_true(shown_wait_more(until));
  }
}

void rig_wait_no_owner(struct server *server, const char *slug)
{
  uint64_t until = shown_patience_ns();
  while (server_number(server, "EXISTS vc:owner:%s", slug) > 0) {
    assert_true(shown_wait_more(until));
  }
}

void rig_wait_owner(struct server *server, const char *slug, const char *node, int64_t epoch)
{
  char wanted[128];
  uint64_t until = shown_patience_ns();
  snprintf(wanted, sizeof wanted, "{\"node\":\"%s\",\"epoch\":%lld}", node, (long long)epoch);
  for (int is_it = 0; !is_it;) {
    redisReply *reply = server_ask(server, "GET vc:owner:%s", slug);
    is_it = reply->type == REDIS_REPLY_STRING && strcmp(reply->str, wanted) == 0;
    if (!is_it && !shown_wait_more(until)) {
      fail_msg("%s is of %s, not %s", slug, reply->str, wanted);
    }
    freeReplyObject(reply);
  }
}
