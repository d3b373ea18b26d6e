#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "publish.h"

#define SHOW_TTL_MS 10000
#define SHOWN_MAX (LINK_UNSENT_MAX / 2) // bytes; of a longer list it is shown that there is one
#define LOG_INTERVAL_MS 10000

void publisher_count(const struct publisher *publisher, enum metric metric, uint64_t n)
{
  if (n > 0) {
    vc_metric_add(vc_worker_slots(publisher->worker), metric, n);
  }
}

int publisher_take_error(struct publisher *publisher, const redisReply *reply)
{
  if (link_take_error(&publisher->link, reply) != ERROR_NOSCRIPT) {
    return 0;
  }
  link_load_scripts(&publisher->link);
  return 1;
}

void publisher_malformed(struct publisher *publisher, const char *slug, const char *reason)
{
  uint64_t n_left_out, now = vc_worker_now_ns(publisher->worker);
  publisher_count(publisher, MALFORMED, 1);
  if (vc_log_limit_pass(&publisher->malformed_limit, now, LOG_INTERVAL_MS, &n_left_out)) {
    vc_log(VC_LOG_WARN, VC_EVENT("redis.malformed"), VC_STR("session", slug),
           VC_STR("reason", reason), VC_INT("left_out", n_left_out));
  }
}

// --- messages

int message_is_kept(const struct vc_message *message)
{
  return message->kind == VC_MESSAGE_HELLO || vc_message_is_kept(message);
}

// A hello tells the last number that was given out; the one that begins an epoch is number 0.
struct vc_position message_position(const struct vc_message *message)
{
  return (struct vc_position){message->epoch, message->kind == VC_MESSAGE_HELLO ? 0 : message->seq};
}

int publisher_print(struct publisher *publisher, const struct vc_message *message,
                    int64_t started_unix_ms)
{
  struct vc_text *text = &publisher->text;
  if (text->has_failed) {
    vc_text_fini(text);
  }
  text->size = 0;
  const struct vc_envelope envelope = {
      .node = publisher->redis->settings.node,
      .epoch = message->epoch,
      .seq = message_position(message).seq,
      .prev_final = message->kind == VC_MESSAGE_HELLO ? 0 : message->prev_final,
      .started_at_ms = started_unix_ms,
      .received_at_us = message->received_unix_us,
      .is_after_loss = message->is_after_loss,
      .frame = (const char *)message->frame->data + message->json_offset,
      .frame_size = message->frame->size - message->json_offset,
  };
  vc_envelope_print(text, &envelope);
  return text->has_failed ? -1 : 0;
}

// --- claims

// The watching worker always gets its claim back.
static void give_back_claim(struct publisher *publisher, struct redis_claim *claim)
{
  struct vc_item *item = &claim->item.owned.item;
  if (publisher->claims != NULL ||
      vc_putter_put(publisher->redis->publish_to_watch, 0, item) != 0) {
    DL_APPEND(publisher->claims, item);
  }
}

static void give_back_waiting(struct publisher *publisher)
{
  while (publisher->claims != NULL) {
    struct vc_item *item = publisher->claims;
    DL_DELETE(publisher->claims, item);
    if (vc_putter_put(publisher->redis->publish_to_watch, 0, item) != 0) {
      DL_PREPEND(publisher->claims, item);
      return;
    }
  }
}

static void claim(struct publisher *publisher, struct redis_claim *wanted);

// Without an epoch that can be ours the claim goes back as one that Redis did not answer.
static void take_claim(struct publisher *publisher, struct redis_claim *wanted,
                       const redisReply *reply)
{
  int64_t epoch = reply_number(reply, 0), floor = wanted->epoch_floor;
  int is_ours = epoch > 0 && epoch >= floor && epoch <= VC_EPOCH_MAX;
  wanted->previous.epoch = reply_number(reply, 2);
  if (!is_ours || !redis_is_number(wanted->previous.epoch) ||
      reply_position(reply, 3, epoch, &wanted->last) != 0) {
    publisher_malformed(publisher, wanted->slug, "the slug's epochs leave none for a claim");
    return;
  }
  snprintf(wanted->previous.node, sizeof wanted->previous.node, "%s", reply_text(reply, 1));
  wanted->epoch = epoch;
  publisher_count(publisher, CLAIMS, 1);
  owned_claimed(publisher, wanted);
}

static void claimed(struct redis_link *link, const struct redis_call *call, const redisReply *reply)
{
  struct publisher *publisher = link->owner;
  struct redis_claim *wanted = call->subject;
  if (reply != NULL && reply->type == REDIS_REPLY_ERROR && publisher_take_error(publisher, reply) &&
      !wanted->is_retry) {
    wanted->is_retry = 1;
    claim(publisher, wanted);
    return;
  }
  if (reply != NULL && reply->type != REDIS_REPLY_ERROR) {
    take_claim(publisher, wanted, reply);
  }
  give_back_claim(publisher, wanted);
}

static void claim(struct publisher *publisher, struct redis_claim *wanted)
{
  const struct vc_redis *redis = publisher->redis;
  const struct redis_call call = {.answered = claimed, .subject = wanted};
  struct redis_run run;
  run_init_owner(&run, redis, SCRIPT_CLAIM, wanted->slug);
  run_number(&run, wanted->epoch_floor);
  run_number(&run, OWNER_TTL_MS);
  run_number(&run, redis->settings.session_keep_ms);
  if (link_run(&publisher->link, &call, &run) != 0) {
    give_back_claim(publisher, wanted); // with epoch 0
  }
}

// --- what is said for a node that is gone

static void orphan(struct publisher *publisher, struct vc_fleet *fleet, uint64_t is_retry);

static void orphaned(struct redis_link *link, const struct redis_call *call,
                     const redisReply *reply)
{
  struct publisher *publisher = link->owner;
  struct vc_fleet *fleet = call->subject;
  if (reply != NULL && reply->type == REDIS_REPLY_ERROR && publisher_take_error(publisher, reply) &&
      call->number == 0) {
    orphan(publisher, fleet, 1);
    return;
  }
  int is_said = reply != NULL && reply->type == REDIS_REPLY_INTEGER && reply->integer == 1;
  publisher_count(publisher, ORPHANS, (uint64_t)is_said);
  if (is_said) {
    owned_orphaned(publisher, fleet->messages[0]);
  }
  vc_item_destroy(&fleet->item);
}

static void orphan(struct publisher *publisher, struct vc_fleet *fleet, uint64_t is_retry)
{
  const struct vc_redis *redis = publisher->redis;
  const struct vc_message *message = fleet->messages[0];
  const struct redis_call call = {.answered = orphaned, .subject = fleet, .number = is_retry};
  struct redis_run run;
  run_init(&run, redis, SCRIPT_ORPHAN);
  run_key(&run, "owner", message->slug);
  run_key(&run, "history", message->slug);
  run_key(&run, "live", message->slug);
  run_number(&run, message->epoch);
  run_number(&run, (int64_t)message->seq);
  run_number(&run, (int64_t)fleet->position.seq);
  int status = publisher_print(publisher, message, fleet->started_unix_ms);
  if (status == 0) {
    run_text(&run, publisher->text.at, publisher->text.size);
    run_number(&run, redis->settings.history_finals);
    run_number(&run, redis->settings.session_keep_ms);
    status = link_run(&publisher->link, &call, &run);
  }
  if (status != 0) {
    publisher_count(publisher, DROPPED, 1);
    vc_item_destroy(&fleet->item);
  }
}

// --- the node's sessions, for others

#define RENEWED_MS 1000 // what is more than rounding

// A process that is gone has the name for SHOW_TTL_MS; one that is there renews it.
static void take_namesake(struct publisher *publisher, int64_t ends_ms)
{
  const char *node = publisher->redis->settings.node;
  int64_t before_ms = publisher->namesake_ms;
  publisher->namesake_ms = ends_ms;
  if (ends_ms == 0) {
    publisher->has_namesake = 0;
    redis_trouble_clear(publisher->redis, TROUBLE_NAMESAKE);
  } else if (before_ms > 0 && ends_ms > before_ms + RENEWED_MS && !publisher->has_namesake) {
    publisher->has_namesake = 1;
    redis_trouble(publisher->redis, TROUBLE_NAMESAKE, "another node has the NODE_ID %.80s", node);
    vc_log(VC_LOG_ERROR, VC_EVENT("redis.namesake"), VC_STR("node", node));
  }
}

static void shown(struct redis_link *link, const struct redis_call *call, const redisReply *reply)
{
  struct publisher *publisher = link->owner;
  if (reply != NULL && reply->type == REDIS_REPLY_ERROR) {
    publisher_take_error(publisher, reply);
  } else if (reply != NULL) {
    redis_trouble_clear(publisher->redis, TROUBLE_REFUSED); // it takes writes
    take_namesake(publisher, reply->type == REDIS_REPLY_INTEGER ? reply->integer : 0);
  }
}

static void hidden(struct redis_link *link, const struct redis_call *call, const redisReply *reply)
{
  if (reply != NULL && reply->type == REDIS_REPLY_ERROR) {
    publisher_take_error(link->owner, reply);
  }
}

static void show(struct publisher *publisher, const struct vc_buffer *sessions)
{
  const struct vc_redis *redis = publisher->redis;
  const struct redis_call call = {.answered = shown};
  struct redis_run run;
  char nodes[REDIS_KEY_MAX];
  snprintf(nodes, sizeof nodes, "%snodes", redis->settings.options->redis_prefix);
  run_init(&run, redis, SCRIPT_SHOW);
  run_key(&run, "node", redis->settings.node);
  run_text(&run, nodes, strlen(nodes));
  run.n_keys++;
  run_key(&run, "name", redis->settings.node);
  run_text(&run, redis->settings.node, strlen(redis->settings.node));
  run_text(&run, (const char *)sessions->data, sessions->size <= SHOWN_MAX ? sessions->size : 0);
  run_number(&run, SHOW_TTL_MS);
  run_text(&run, redis->process, strlen(redis->process));
  link_run(&publisher->link, &call, &run); // else the next time
}

static void hide(struct publisher *publisher)
{
  const struct vc_redis *redis = publisher->redis;
  const struct redis_call call = {.answered = hidden};
  char key[REDIS_KEY_MAX], nodes[REDIS_KEY_MAX];
  snprintf(nodes, sizeof nodes, "%snodes", redis->settings.options->redis_prefix);
  redis_key(redis, key, "node", redis->settings.node);
  const char *const forget[] = {"DEL", key};
  const char *const leave[] = {"ZREM", nodes, redis->settings.node};
  link_send(&publisher->link, &call, 2, forget, NULL);
  link_send(&publisher->link, &call, 3, leave, NULL);
}

// --- the stage

static void handle_own(struct publisher *publisher, struct vc_item *item)
{
  struct redis_item *own = redis_item_of(item);
  switch (own->kind) {
  case REDIS_CONNECTION:
    link_take(&publisher->link, (struct redis_connection *)own);
    return;
  case REDIS_CLAIM:
    claim(publisher, (struct redis_claim *)own);
    return;
  case REDIS_SHOWN:
    show(publisher, ((struct redis_shown *)own)->sessions);
    break;
  case REDIS_RELEASED: // the watching worker's
    break;
  }
  vc_item_destroy(item);
}

static void handle_fleet(struct publisher *publisher, struct vc_fleet *fleet)
{
  switch (fleet->kind) {
  case VC_FLEET_MESSAGE:
    owned_message(publisher, fleet);
    break;
  case VC_FLEET_HISTORY:
    owned_history(publisher, fleet);
    break;
  case VC_FLEET_RELEASE:
    owned_release(publisher, fleet);
    break;
  case VC_FLEET_ORPHAN:
    orphan(publisher, fleet, 0);
    return;
  default: // the watching worker's
    break;
  }
  vc_item_destroy(&fleet->item);
}

static void handle(struct vc_worker *worker, struct vc_item *item)
{
  struct publisher *publisher = publisher_of(worker);
  if (item->kind == VC_ITEM_FLEET) {
    handle_fleet(publisher, (struct vc_fleet *)item);
  } else if (item->kind == VC_ITEM_QUERY) {
    question_handle(publisher, vc_query_of(item));
  } else if (item->kind == VC_ITEM_OWNED) {
    handle_own(publisher, item);
  } else {
    vc_item_destroy(item);
  }
}

static void up(struct redis_link *link)
{
  owned_link_up(link->owner);
}

static void down(struct redis_link *link)
{
  owned_link_down(link->owner);
}

static const struct redis_link_ops link_ops = {.role = ROLE_PUBLISH, .up = up, .down = down};

static int enter(struct vc_worker *worker, void *config, struct vc_error *error)
{
  struct publisher *publisher = calloc(1, sizeof *publisher);
  if (publisher == NULL) {
    return vc_error_set(error, "no memory");
  }
  publisher->redis = *(struct vc_redis **)config;
  publisher->worker = worker;
  if (link_init(&publisher->link, publisher->redis, worker, &link_ops, publisher) != 0) {
    free(publisher);
    return vc_error_set(error, "no memory");
  }
  vc_worker_set_state(worker, publisher);
  return 0;
}

static void turned(struct vc_worker *worker)
{
  link_turned(&publisher_of(worker)->link);
}

static void tick(struct vc_worker *worker)
{
  struct publisher *publisher = publisher_of(worker);
  give_back_waiting(publisher);
  owned_tick(publisher);
  link_tick(&publisher->link);
  link_turned(&publisher->link);
}

static void drain(struct vc_worker *worker)
{
  struct publisher *publisher = publisher_of(worker);
  publisher->is_draining = 1;
  hide(publisher);
}

static int is_drained(struct vc_worker *worker)
{
  struct publisher *publisher = publisher_of(worker);
  int are_let_go = owned_drain(publisher);
  link_turned(&publisher->link);
  return !link_is_up(&publisher->link) || (are_let_go && publisher->link.n_calls == 0 &&
                                           publisher->link.out_begin == publisher->link.out_end);
}

static void leave(struct vc_worker *worker)
{
  struct publisher *publisher = publisher_of(worker);
  link_close(&publisher->link);
  struct owned *owned, *next;
  DL_FOREACH_SAFE(publisher->order, owned, next)
  {
    owned_free(publisher, owned);
  }
  struct vc_item *item, *next_item;
  DL_FOREACH_SAFE(publisher->claims, item, next_item)
  {
    DL_DELETE(publisher->claims, item);
    vc_item_destroy(item);
  }
  link_fini(&publisher->link);
  vc_text_fini(&publisher->text);
  free(publisher);
}

const struct vc_stage_ops redis_publish_ops = {
    .name = "redis-publish",
    .enter = enter,
    .handle = handle,
    .turned = turned,
    .tick = tick,
    .drain = drain,
    .is_drained = is_drained,
    .leave = leave,
};
