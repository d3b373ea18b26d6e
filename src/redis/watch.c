// The watching worker: what other nodes say comes in here.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <verbacast/base/backoff.h>

#include "watch.h"

#define LOG_INTERVAL_MS 10000

uint64_t watcher_now(const struct watcher *watcher)
{
  return vc_worker_now_ns(watcher->worker);
}

void watcher_count(const struct watcher *watcher, enum metric metric, uint64_t n)
{
  vc_metric_add(vc_worker_slots(watcher->worker), metric, n);
}

void watcher_out_of_memory(struct watcher *watcher)
{
  uint64_t n_left_out;
  watcher_count(watcher, WATCH_OUT_OF_MEMORY, 1);
  if (vc_log_limit_pass(&watcher->memory_limit, watcher_now(watcher), LOG_INTERVAL_MS,
                        &n_left_out)) {
    vc_log(VC_LOG_ERROR, VC_EVENT("redis.out_of_memory"), VC_INT("left_out", n_left_out));
  }
}

void watcher_malformed(struct watcher *watcher, const char *slug, const struct vc_error *error)
{
  uint64_t n_left_out;
  watcher_count(watcher, MALFORMED, 1);
  if (vc_log_limit_pass(&watcher->malformed_limit, watcher_now(watcher), LOG_INTERVAL_MS,
                        &n_left_out)) {
    vc_log(VC_LOG_WARN, VC_EVENT("redis.malformed"), VC_STR("session", slug),
           VC_STR("reason", error->text), VC_INT("left_out", n_left_out));
  }
}

void watcher_take_error(struct redis_link *link, const redisReply *reply)
{
  if (link_take_error(link, reply) == ERROR_NOSCRIPT) {
    link_load_scripts(link);
  }
}

// --- to the ledger

static void pause_links(struct watcher *watcher, int is_paused)
{
  link_pause(&watcher->subscriber, is_paused);
  link_pause(&watcher->commander, is_paused);
}

static int put(struct watcher *watcher, uint32_t ledger, struct vc_item *item)
{
  return vc_putter_put(watcher->redis->watch_to_ledger, ledger, item);
}

// In their order. Nothing is read meanwhile.
static void keep(struct watcher *watcher, uint32_t ledger, struct vc_item *item)
{
  if (watcher->n_unput++ == 0) {
    watcher_count(watcher, LEDGER_FULL, 1);
    pause_links(watcher, 1);
  }
  DL_APPEND(watcher->unput[ledger], item);
}

static void fill_spares(struct watcher *watcher)
{
  while (watcher->n_spares < SPARES) {
    struct vc_remote *spare = vc_remote_create(VC_REMOTE_GAP, "");
    if (spare == NULL) {
      break;
    }
    DL_APPEND(watcher->spares, &spare->item);
    watcher->n_spares++;
  }
}

struct vc_remote *watcher_make(struct watcher *watcher, enum vc_remote_kind kind, const char *slug)
{
  struct vc_remote *remote = vc_remote_create(kind, slug);
  if (remote == NULL && watcher->spares != NULL) {
    struct vc_item *spare = watcher->spares;
    DL_DELETE(watcher->spares, spare);
    watcher->n_spares--;
    remote = (struct vc_remote *)spare;
    remote->kind = kind;
    snprintf(remote->slug, sizeof remote->slug, "%s", slug);
  }
  return remote;
}

void watcher_tell(struct watcher *watcher, uint32_t ledger, struct vc_remote *remote)
{
  if (remote == NULL) {
    watcher_out_of_memory(watcher);
  } else if (watcher->is_draining) {
    vc_item_destroy(&remote->item); // nobody listens any more
  } else if (watcher->unput[ledger] != NULL || put(watcher, ledger, &remote->item) != 0) {
    keep(watcher, ledger, &remote->item);
  }
}

static void put_kept(struct watcher *watcher, uint32_t ledger)
{
  struct vc_item *item;
  while ((item = watcher->unput[ledger]) != NULL) {
    DL_DELETE(watcher->unput[ledger], item);
    if (put(watcher, ledger, item) != 0) {
      DL_PREPEND(watcher->unput[ledger], item);
      return;
    }
    watcher->n_unput--;
  }
}

static void put_all_kept(struct watcher *watcher)
{
  if (watcher->n_unput == 0) {
    return;
  }
  for (uint32_t i = 0; i < watcher->n_ledgers; i++) {
    put_kept(watcher, i);
  }
  if (watcher->n_unput == 0) {
    pause_links(watcher, 0);
  } else {
    vc_worker_wake_at(watcher->worker, watcher_now(watcher) + RETRY_LANE_MS * VC_NS_PER_MS);
  }
}

static void drop_all(struct vc_item **items)
{
  while (*items != NULL) {
    struct vc_item *item = *items;
    DL_DELETE(*items, item);
    vc_item_destroy(item);
  }
}

static void drop_kept(struct watcher *watcher)
{
  for (uint32_t i = 0; i < watcher->n_ledgers && watcher->unput != NULL; i++) {
    drop_all(&watcher->unput[i]);
  }
  watcher->n_unput = 0;
}

// --- the table

struct slug *slug_find(const struct watcher *watcher, const char *name)
{
  struct slug *slug;
  HASH_FIND_STR(watcher->slugs, name, slug);
  return slug;
}

struct slug *slug_get(struct watcher *watcher, const char *name)
{
  struct slug *slug = slug_find(watcher, name);
  if (slug != NULL) {
    return slug;
  }
  slug = calloc(1, sizeof *slug);
  if (slug == NULL) {
    return NULL;
  }
  slug->watcher = watcher;
  slug->ledger = vc_slug_hash(name, strlen(name)) % watcher->n_ledgers;
  snprintf(slug->name, sizeof slug->name, "%s", name);
  HASH_ADD_STR(watcher->slugs, name, slug);
  if (slug->hh.tbl == NULL) {
    free(slug);
    return NULL;
  }
  return slug;
}

static void slug_free(struct slug *slug)
{
  HASH_DEL(slug->watcher->slugs, slug);
  order_fini(&slug->order);
  free(slug);
}

void slug_release(struct slug *slug)
{
  if (!slug->is_watched && !slug->is_owned && slug->claim == NULL && slug->n_calls == 0 &&
      slug->n_claims == 0 && slug->channel == CHANNEL_OFF && slug->list == NULL) {
    slug_free(slug);
  }
}

// --- whether Redis is there

int watcher_is_ready(const struct watcher *watcher)
{
  return watcher->ctl == CHANNEL_ON && link_is_up(&watcher->subscriber) &&
         link_is_up(&watcher->commander);
}

int watcher_is_long_away(const struct watcher *watcher)
{
  return watcher->is_away && watcher_now(watcher) - watcher->away_ns >= ANSWER_MS * VC_NS_PER_MS;
}

static void tell_all(struct watcher *watcher, enum vc_remote_kind kind)
{
  for (uint32_t i = 0; i < watcher->n_ledgers; i++) {
    watcher_tell(watcher, i, watcher_make(watcher, kind, ""));
  }
}

static void go_away(struct watcher *watcher)
{
  if (!watcher->is_away) {
    watcher->is_away = 1;
    watcher->away_ns = watcher_now(watcher);
    tell_all(watcher, VC_REMOTE_AWAY);
  }
}

// When what was watched is whole again.
static void come_back(struct watcher *watcher)
{
  if (watcher->is_away && watcher->n_owing == 0 && watcher_is_ready(watcher)) {
    watcher->is_away = 0;
    tell_all(watcher, VC_REMOTE_BACK);
  }
}

static void miss_redis(struct watcher *watcher)
{
  if (!watcher_is_ready(watcher) &&
      watcher_now(watcher) - watcher->started_ns >= COME_UP_MS * VC_NS_PER_MS) {
    go_away(watcher);
  }
}

static void commander_up(struct redis_link *link)
{
  struct watcher *watcher = link->owner;
  link_pause(link, watcher->n_unput > 0);
}

static void commander_down(struct redis_link *link)
{
  struct watcher *watcher = link->owner;
  go_away(watcher);
}

// --- what Redis lets this node hear

static void ask_for_ctl(struct watcher *watcher)
{
  const char *const arguments[] = {"PSUBSCRIBE", watcher->ctl_pattern};
  if (link_send(&watcher->subscriber, NULL, 2, arguments, NULL) == 0) {
    watcher->ctl = CHANNEL_ASKED;
    watcher->ctl_command = ++watcher->n_commands;
  } else {
    link_break(&watcher->subscriber, "no room to subscribe");
  }
}

static void ask_for_ctl_again(struct watcher *watcher)
{
  if (watcher->ctl == CHANNEL_OFF && link_is_up(&watcher->subscriber) &&
      watcher_now(watcher) >= watcher->ctl_refusal.again_ns) {
    ask_for_ctl(watcher);
  }
}

static void subscriber_up(struct redis_link *link)
{
  struct watcher *watcher = link->owner;
  ask_for_ctl(watcher);
  link_pause(link, watcher->n_unput > 0);
}

static void subscriber_down(struct redis_link *link)
{
  struct watcher *watcher = link->owner;
  watcher->ctl = CHANNEL_OFF;
  watched_deaf(watcher);
  watcher_not_refused(watcher, &watcher->ctl_refusal);
  go_away(watcher);
}

void watcher_refused(struct watcher *watcher, struct refusal *refusal, const char *channel,
                     const char *reason)
{
  refusal->again_ms =
      vc_backoff_next(refusal->again_ms, CHANNEL_AGAIN_FIRST_MS, CHANNEL_AGAIN_MAX_MS);
  refusal->again_ns = watcher_now(watcher) + refusal->again_ms * VC_NS_PER_MS;
  watcher_count(watcher, SUBSCRIPTIONS_REFUSED, 1);
  redis_trouble(watcher->redis, TROUBLE_DEAF, "a subscription is refused: %.90s", reason);
  if (!watcher->is_deaf) {
    watcher->is_deaf = 1;
    vc_log(VC_LOG_WARN, VC_EVENT("redis.subscription_refused"), VC_STR("channel", channel),
           VC_STR("reason", reason));
  }
}

void watcher_not_refused(struct watcher *watcher, struct refusal *refusal)
{
  *refusal = (struct refusal){0};
  if (watcher->is_deaf && watcher->n_refused == 0 && watcher->ctl_refusal.again_ms == 0) {
    watcher->is_deaf = 0;
    redis_trouble_clear(watcher->redis, TROUBLE_DEAF);
  }
}

// Of the first command that Redis has not answered: it answers in their order.
static void take_refusal(struct redis_link *link, const redisReply *reply)
{
  struct watcher *watcher = link->owner;
  const struct slug *asked = watcher->asked;
  int is_ctl =
      watcher->ctl == CHANNEL_ASKED && (asked == NULL || watcher->ctl_command < asked->command);
  int is_final;
  if (!is_ctl && asked == NULL) {
    watcher_take_error(link, reply);
    return;
  }
  watcher_count(watcher, redis_error_metric(reply->str, &is_final), 1);
  if (is_final) {
    link_break(link, "%.100s", reply->str);
  } else if (is_ctl) {
    watcher->ctl = CHANNEL_OFF;
    watcher_refused(watcher, &watcher->ctl_refusal, watcher->ctl_pattern, reply->str);
  } else {
    watched_refused(watcher, reply->str);
  }
}

// --- what comes by itself

// What follows the prefix, when it is a slug.
static const char *slug_in(const redisReply *channel, const char *prefix)
{
  size_t size = strlen(prefix), length = (size_t)channel->len;
  return length > size && memcmp(channel->str, prefix, size) == 0 &&
                 vc_slug_is_valid(channel->str + size, length - size)
             ? channel->str + size
             : NULL;
}

static struct slug *find_live(const struct watcher *watcher, const redisReply *channel)
{
  const char *name = slug_in(channel, watcher->live_prefix);
  return name != NULL ? slug_find(watcher, name) : NULL;
}

static int is_text(const redisReply *reply, size_t i)
{
  return i < reply->elements && reply->element[i]->type == REDIS_REPLY_STRING;
}

static void take_message(struct watcher *watcher, const redisReply *channel, const redisReply *text)
{
  struct slug *slug = find_live(watcher, channel);
  if (slug != NULL) {
    watched_live(slug, text->str, (size_t)text->len);
  }
}

static void take_ctl(struct watcher *watcher, const redisReply *channel, const redisReply *text)
{
  const char *name = slug_in(channel, watcher->ctl_prefix);
  if (name != NULL) {
    ctl_handle(watcher, name, text->str, (size_t)text->len);
  }
}

static void take_confirmation(struct watcher *watcher, const char *what, const redisReply *channel)
{
  if (strcmp(what, "psubscribe") == 0) {
    watcher->ctl = CHANNEL_ON;
    watcher_not_refused(watcher, &watcher->ctl_refusal);
    claims_step(watcher);
  } else if (strcmp(what, "subscribe") == 0) {
    struct slug *slug = find_live(watcher, channel);
    if (slug != NULL) {
      watched_confirm(slug);
    }
  }
}

static void pushed(struct redis_link *link, const redisReply *reply)
{
  struct watcher *watcher = link->owner;
  if (reply->type == REDIS_REPLY_ERROR) {
    take_refusal(link, reply);
    return;
  }
  if (reply->type != REDIS_REPLY_ARRAY || !is_text(reply, 0) || !is_text(reply, 1)) {
    link_break(link, "a reply that nobody subscribed to");
    return;
  }
  const char *what = reply->element[0]->str;
  if (strcmp(what, "message") == 0 && is_text(reply, 2)) {
    take_message(watcher, reply->element[1], reply->element[2]);
  } else if (strcmp(what, "pmessage") == 0 && is_text(reply, 2) && is_text(reply, 3)) {
    take_ctl(watcher, reply->element[2], reply->element[3]);
  } else {
    take_confirmation(watcher, what, reply->element[1]);
  }
}

static const struct redis_link_ops subscriber_ops = {
    .role = ROLE_SUBSCRIBE, .up = subscriber_up, .down = subscriber_down, .pushed = pushed};
static const struct redis_link_ops commander_ops = {
    .role = ROLE_WATCH, .up = commander_up, .down = commander_down};

// --- the stage

// What a pattern takes for itself stands behind a backslash.
static void set_pattern(struct watcher *watcher)
{
  char *to = watcher->ctl_pattern;
  for (const char *from = watcher->ctl_prefix; *from != '\0'; from++) {
    if (strchr("*?[]\\", *from) != NULL) {
      *to++ = '\\';
    }
    *to++ = *from;
  }
  *to++ = '*';
  *to = '\0';
}

static void watcher_destroy(struct watcher *watcher)
{
  struct slug *slug, *next;
  link_fini(&watcher->subscriber);
  link_fini(&watcher->commander);
  claims_fini(watcher);
  transcripts_fini(watcher);
  HASH_ITER(hh, watcher->slugs, slug, next)
  {
    slug_free(slug);
  }
  drop_kept(watcher);
  drop_all(&watcher->spares);
  drop_all(&watcher->postponed);
  free(watcher->unput);
  free(watcher);
}

static int watcher_fill(struct watcher *watcher)
{
  redis_key(watcher->redis, watcher->live_prefix, "live", "");
  redis_key(watcher->redis, watcher->ctl_prefix, "ctl", "");
  set_pattern(watcher);
  watcher->n_ledgers = vc_stage_n_workers(watcher->redis->ledger);
  watcher->unput = calloc(watcher->n_ledgers, sizeof *watcher->unput);
  watcher->started_ns = watcher->polled_ns = watcher_now(watcher);
  return watcher->unput == NULL ||
                 link_init(&watcher->subscriber, watcher->redis, watcher->worker, &subscriber_ops,
                           watcher) != 0 ||
                 link_init(&watcher->commander, watcher->redis, watcher->worker, &commander_ops,
                           watcher) != 0
             ? -1
             : 0;
}

static int enter(struct vc_worker *worker, void *config, struct vc_error *error)
{
  struct watcher *watcher = calloc(1, sizeof *watcher);
  if (watcher == NULL) {
    return vc_error_set(error, "no memory");
  }
  watcher->redis = *(struct vc_redis **)config;
  watcher->worker = worker;
  if (watcher_fill(watcher) != 0) {
    watcher_destroy(watcher);
    return vc_error_set(error, "no memory");
  }
  vc_worker_set_state(worker, watcher);
  return 0;
}

// Returns: 0, or -1 no memory: it is still to be done.
static int do_fleet(struct watcher *watcher, const struct vc_fleet *fleet)
{
  struct slug *slug;
  if (fleet->kind == VC_FLEET_WATCH) {
    return watched_begin(watcher, fleet);
  }
  if (fleet->kind == VC_FLEET_CLAIM) {
    return claim_begin(watcher, fleet);
  }
  if (fleet->kind == VC_FLEET_UNWATCH && (slug = slug_find(watcher, fleet->slug)) != NULL) {
    watched_end(slug);
    slug_release(slug);
  }
  return 0;
}

// Takes the item. What is postponed is done first, in its order.
static void handle_fleet(struct watcher *watcher, struct vc_item *item)
{
  if (watcher->postponed != NULL || do_fleet(watcher, (const struct vc_fleet *)item) != 0) {
    DL_APPEND(watcher->postponed, item);
  } else {
    vc_item_destroy(item);
  }
}

static void do_postponed(struct watcher *watcher)
{
  struct vc_item *item;
  while ((item = watcher->postponed) != NULL &&
         do_fleet(watcher, (const struct vc_fleet *)item) == 0) {
    DL_DELETE(watcher->postponed, item);
    vc_item_destroy(item);
  }
}

// Returns: 1 when the item was taken over.
static int handle_own(struct watcher *watcher, struct vc_item *item)
{
  switch (redis_item_of(item)->kind) {
  case REDIS_CONNECTION: {
    struct redis_connection *connection = (struct redis_connection *)item;
    link_take(connection->role == ROLE_SUBSCRIBE ? &watcher->subscriber : &watcher->commander,
              connection);
    return 1;
  }
  case REDIS_CLAIM:
    claim_answered(watcher, (const struct redis_claim *)item);
    return 0;
  case REDIS_RELEASED:
    claim_released(watcher, (const struct redis_released *)item);
    return 0;
  case REDIS_SHOWN: // the publishing worker's
    return 0;
  }
  return 0;
}

static void handle(struct vc_worker *worker, struct vc_item *item)
{
  struct watcher *watcher = vc_worker_state(worker);
  if (item->kind == VC_ITEM_QUERY) {
    transcript_begin(watcher, vc_query_of(item));
    return;
  }
  if (item->kind == VC_ITEM_OWNED && handle_own(watcher, item)) {
    return;
  }
  if (item->kind == VC_ITEM_FLEET) {
    handle_fleet(watcher, item);
  } else {
    vc_item_destroy(item);
  }
}

static void show_figures(struct watcher *watcher)
{
  struct vc_slots *slots = vc_worker_slots(watcher->worker);
  const struct order_counts *now = &watcher->counts, *told = &watcher->told_counts;
  watcher_count(watcher, HELD, now->held - told->held);
  watcher_count(watcher, CUT, now->cut - told->cut);
  watcher_count(watcher, OVERLAPS, now->repeats - told->repeats);
  watcher_count(watcher, STALE, now->stale - told->stale);
  watcher->told_counts = watcher->counts;
  vc_metric_set(slots, WATCHED, (int64_t)watcher->n_watched);
  vc_metric_set(slots, SUBSCRIPTIONS, (int64_t)watcher->n_on);
}

// What came by the channels may ask for reads, which are written in the same turn.
static void turned(struct vc_worker *worker)
{
  struct watcher *watcher = vc_worker_state(worker);
  put_all_kept(watcher);
  if (watcher->n_unput == 0) {
    watched_settle_channels(watcher);
  }
  link_turned(&watcher->subscriber);
  if (watcher->n_unput == 0) {
    watched_settle_reads(watcher);
  }
  link_turned(&watcher->commander);
  if (watcher->n_unput == 0) {
    come_back(watcher);
  }
}

static void tick(struct vc_worker *worker)
{
  struct watcher *watcher = vc_worker_state(worker);
  put_all_kept(watcher);
  fill_spares(watcher);
  do_postponed(watcher);
  link_tick(&watcher->subscriber);
  link_tick(&watcher->commander);
  miss_redis(watcher);
  ask_for_ctl_again(watcher);
  watched_ask_again(watcher);
  if (watcher->n_unput == 0) {
    watched_poll(watcher);
    watched_settle_reads(watcher);
    link_turned(&watcher->commander);
  }
  claims_step(watcher);
  show_figures(watcher);
}

static void drain(struct vc_worker *worker)
{
  struct watcher *watcher = vc_worker_state(worker);
  watcher->is_draining = 1;
  drop_kept(watcher);
  pause_links(watcher, 0);
}

static int is_drained(struct vc_worker *worker)
{
  const struct watcher *watcher = vc_worker_state(worker);
  return watcher->transcripts == NULL;
}

static void leave(struct vc_worker *worker)
{
  watcher_destroy(vc_worker_state(worker));
  vc_worker_set_state(worker, NULL);
}

const struct vc_stage_ops redis_watch_ops = {
    .name = "redis-watch",
    .enter = enter,
    .handle = handle,
    .turned = turned,
    .tick = tick,
    .drain = drain,
    .is_drained = is_drained,
    .leave = leave,
};
