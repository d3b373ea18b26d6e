// A slug that is watched: subscribe, then read, then follow. What must be told apart is in order.c.
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "watch.h"

// --- lists

// Where it stands by what is to become of its channel; while Redis has not answered nothing is
// asked.
static struct slug **list_of(const struct slug *slug)
{
  struct watcher *watcher = slug->watcher;
  if (slug->channel == CHANNEL_ASKED) {
    return &watcher->asked;
  }
  if (slug->is_watched == (slug->channel == CHANNEL_ON)) {
    return NULL;
  }
  return slug->refusal.again_ns > watcher_now(watcher) ? &watcher->refused : &watcher->changed;
}

static void list_by_channel(struct slug *slug)
{
  struct slug **list = list_of(slug);
  if (slug->list == list) {
    return;
  }
  if (slug->list != NULL) {
    DL_DELETE2(*slug->list, slug, change_prev, change_next);
  }
  slug->list = list;
  if (list != NULL) {
    DL_APPEND2(*list, slug, change_prev, change_next);
  }
}

static int may_read(const struct slug *slug)
{
  int is_refused = slug->refusal.again_ms > 0;
  return slug->claim != NULL ? slug->claim->phase == CLAIM_READING
                             : slug->is_watched && (slug->channel == CHANNEL_ON || is_refused);
}

void slug_look(struct slug *slug)
{
  if (!slug->is_in_to_read && may_read(slug) && order_wakes_ns(&slug->order) != ORDER_NEVER) {
    slug->is_in_to_read = 1;
    DL_APPEND2(slug->watcher->to_read, slug, read_prev, read_next);
  }
}

static void look_away(struct slug *slug)
{
  if (slug->is_in_to_read) {
    slug->is_in_to_read = 0;
    DL_DELETE2(slug->watcher->to_read, slug, read_prev, read_next);
  }
}

static void stop_owing(struct slug *slug)
{
  slug->watcher->n_owing -= slug->owes_fill != 0;
  slug->owes_fill = 0;
}

// --- the order

static void give(void *context, struct vc_remote *remote)
{
  const struct slug *slug = context;
  watcher_tell(slug->watcher, slug->ledger, remote);
}

static void give_gap(void *context, int64_t epoch, uint64_t from, uint64_t to)
{
  const struct slug *slug = context;
  struct vc_remote *remote = watcher_make(slug->watcher, VC_REMOTE_GAP, slug->name);
  watcher_count(slug->watcher, GAPS, 1);
  if (remote != NULL) {
    remote->epoch = epoch;
    remote->seq = from;
    remote->to = to;
  }
  watcher_tell(slug->watcher, slug->ledger, remote);
}

static const struct order_ops to_ledger = {.give = give, .gap = give_gap};

void slug_order_begin(struct slug *slug, struct vc_position after, int is_over)
{
  slug_order_end(slug);
  order_init(&slug->order, &to_ledger, slug, &slug->watcher->counts, after, is_over);
  slug->fill_ns = watcher_now(slug->watcher);
}

void slug_order_end(struct slug *slug)
{
  look_away(slug);
  order_fini(&slug->order);
  slug->order.is_behind = slug->order.is_reading = 0;
  slug->serial++;
}

// --- its owner

void watched_owner(struct slug *slug, const struct vc_owner *owner)
{
  struct watcher *watcher = slug->watcher;
  if (!slug->is_filled ||
      (owner->epoch == slug->owner.epoch && strcmp(owner->node, slug->owner.node) == 0)) {
    return;
  }
  struct vc_remote *remote = watcher_make(watcher, VC_REMOTE_OWNER, slug->name);
  if (remote != NULL) {
    slug->owner = *owner;
    remote->epoch = owner->epoch;
    snprintf(remote->node, sizeof remote->node, "%s", owner->node);
  }
  watcher_tell(watcher, slug->ledger, remote);
}

// Returns: 0 and the owner, epoch 0 for none; or -1: it cannot be known.
static int parse_owner(const struct slug *slug, const char *text, size_t size,
                       struct vc_owner *owner)
{
  struct vc_error error;
  *owner = (struct vc_owner){.epoch = 0};
  int status = size == 0 ? 0 : vc_owner_parse(text, size, owner, &error);
  if (status == VC_FLEET_NO_MEMORY) {
    watcher_out_of_memory(slug->watcher);
  } else if (status != 0) {
    watcher_malformed(slug->watcher, slug->name, &error);
  }
  return status == 0 ? 0 : -1;
}

static void polled(struct redis_link *link, const struct redis_call *call, const redisReply *reply)
{
  struct slug *slug = call->subject;
  struct vc_owner owner;
  slug->n_calls--;
  if (reply != NULL && reply->type == REDIS_REPLY_ERROR) {
    watcher_take_error(link, reply);
  } else if (reply != NULL && slug->is_watched && call->number == slug->serial &&
             (reply->type == REDIS_REPLY_NIL || reply->type == REDIS_REPLY_STRING) &&
             parse_owner(slug, reply->str, reply->type == REDIS_REPLY_NIL ? 0 : (size_t)reply->len,
                         &owner) == 0) {
    watched_owner(slug, &owner);
  }
  slug_release(slug);
}

static int poll_one(struct watcher *watcher, struct slug *slug)
{
  const struct redis_call call = {.answered = polled, .subject = slug, .number = slug->serial};
  char key[REDIS_KEY_MAX];
  const char *const arguments[] = {"GET", redis_key(watcher->redis, key, "owner", slug->name)};
  int status = link_send(&watcher->commander, &call, 2, arguments, NULL);
  slug->n_calls += status == 0;
  return status;
}

// Each in its turn: of n slugs so many as the time that has gone by is of POLL_MS.
void watched_poll(struct watcher *watcher)
{
  uint64_t now = watcher_now(watcher), period = POLL_MS * VC_NS_PER_MS;
  uint64_t gone = now - watcher->polled_ns < period ? now - watcher->polled_ns : period;
  uint64_t n = watcher->n_watched * gone / period;
  if (n == 0) {
    watcher->polled_ns = watcher->n_watched > 0 ? watcher->polled_ns : now;
    return;
  }
  watcher->polled_ns = gone == period ? now : watcher->polled_ns + n * period / watcher->n_watched;
  for (; n > 0; n--) {
    struct slug *slug = watcher->polled;
    DL_DELETE(watcher->polled, slug);
    DL_APPEND(watcher->polled, slug);
    if (slug->is_filled && poll_one(watcher, slug) != 0) {
      break;
    }
  }
}

// --- the stream

int stream_read(struct watcher *watcher, const struct redis_call *call, const char *slug,
                struct vc_position after)
{
  struct redis_run run;
  char from[64] = "-";
  if (after.epoch > 0) {
    snprintf(from, sizeof from, "(%" PRId64 "-%" PRIu64, after.epoch, after.seq);
  }
  run_init(&run, watcher->redis, SCRIPT_READ);
  run_key(&run, "history", slug);
  run_key(&run, "owner", slug);
  run_text(&run, from, strlen(from));
  run_number(&run, READ_ENTRIES_MAX);
  run_number(&run, READ_BYTES_MAX);
  return link_run(&watcher->commander, call, &run);
}

#define PIECE_HEAD 3 // what stands before the entries

int stream_parse(const redisReply *reply, struct piece *piece)
{
  if (reply->type != REDIS_REPLY_ARRAY || reply->elements < PIECE_HEAD ||
      (reply->elements - PIECE_HEAD) % 2 != 0) {
    return -1;
  }
  for (size_t i = 0; i < reply->elements; i++) {
    if (reply->element[i]->type != (i == 1 ? REDIS_REPLY_INTEGER : REDIS_REPLY_STRING)) {
      return -1;
    }
  }
  const redisReply *first = reply->element[0], *owner = reply->element[2];
  *piece = (struct piece){.is_last = reply->element[1]->integer == 0,
                          .owner = owner->str,
                          .owner_size = (size_t)owner->len,
                          .n = (reply->elements - PIECE_HEAD) / 2,
                          .at = reply->element + PIECE_HEAD};
  if (vc_envelope_parse_id(first->str, (size_t)first->len, &piece->begins.epoch,
                           &piece->begins.seq) != 0) {
    piece->begins = (struct vc_position){0, 0};
  }
  return 0;
}

int stream_entry(const struct piece *piece, size_t i, const char *slug, struct vc_position *number,
                 struct vc_remote **remote, struct vc_error *error)
{
  const redisReply *id = piece->at[2 * i], *message = piece->at[2 * i + 1];
  *remote = NULL;
  if (vc_envelope_parse_id(id->str, (size_t)id->len, &number->epoch, &number->seq) != 0) {
    vc_error_set(error, "the id %.48s in the stream is no EPOCH-SEQ", id->str);
    return PIECE_NO_NUMBER;
  }
  int status = incoming_parse(message->str, (size_t)message->len, slug, remote, error);
  if (status == 0 &&
      ((*remote)->message->epoch != number->epoch || (*remote)->message->seq != number->seq)) {
    vc_item_destroy(&(*remote)->item);
    *remote = NULL;
    return vc_error_set(error, "the entry %.48s is not the message of that number", id->str);
  }
  return status;
}

// Returns: 0, or -1: there is no memory to go on.
static int take_entry(struct slug *slug, const struct piece *piece, size_t i)
{
  struct watcher *watcher = slug->watcher;
  struct vc_position number;
  struct vc_remote *remote;
  struct vc_error error;
  int status = stream_entry(piece, i, slug->name, &number, &remote, &error);
  switch (status) {
  case 0:
    order_entry(&slug->order, remote);
    return 0;
  case VC_FLEET_NO_MEMORY:
    watcher_out_of_memory(watcher);
    return -1;
  case VC_FLEET_NEWER:
    watcher_count(watcher, UNKNOWN_TYPES, 1);
    order_pass(&slug->order, number, 0);
    return 0;
  case PIECE_NO_NUMBER:
    watcher_malformed(watcher, slug->name, &error);
    return 0;
  default:
    watcher_malformed(watcher, slug->name, &error);
    order_pass(&slug->order, number, 1);
    return 0;
  }
}

static void tell_filled(struct slug *slug, const struct vc_owner *owner)
{
  struct watcher *watcher = slug->watcher;
  uint64_t now = watcher_now(watcher);
  struct vc_remote *remote = watcher_make(watcher, VC_REMOTE_FILLED, slug->name);
  if (remote != NULL) {
    slug->is_filled = 1;
    slug->owner = *owner;
    remote->epoch = owner->epoch;
    snprintf(remote->node, sizeof remote->node, "%s", owner->node);
  } else {
    order_miss(&slug->order); // it is said after another read
  }
  vc_metric_record(vc_worker_slots(watcher->worker), FILL_MS,
                   (double)(now - slug->fill_ns) / (double)VC_NS_PER_MS, now);
  watcher_tell(watcher, slug->ledger, remote);
}

static void has_read(struct slug *slug, const struct piece *piece)
{
  struct vc_owner owner;
  order_end_read(&slug->order, watcher_now(slug->watcher));
  if (slug->claim != NULL) {
    slug->claim->is_after_loss |= order_may_lack_rest(&slug->order);
    claim_has_read(slug);
    return;
  }
  stop_owing(slug);
  int is_known = parse_owner(slug, piece->owner, piece->owner_size, &owner) == 0;
  if (!slug->is_filled) {
    tell_filled(slug, &owner);
  } else if (is_known) {
    watched_owner(slug, &owner);
  }
}

static void fail_read(struct slug *slug)
{
  order_fail_read(&slug->order, watcher_now(slug->watcher));
}

static int read_piece(struct slug *slug);

// `after`: where it was asked for.
static void take_piece(struct slug *slug, const struct piece *piece, struct vc_position after)
{
  watcher_count(slug->watcher, READ_ENTRIES, piece->n);
  order_begins_with(&slug->order, piece->begins);
  for (size_t i = 0; i < piece->n; i++) {
    if (take_entry(slug, piece, i) != 0) {
      fail_read(slug);
      return;
    }
  }
  int has_moved = slug->order.given.epoch != after.epoch || slug->order.given.seq != after.seq;
  if (piece->is_last || !has_moved) { // of ids that are none of ours there is no end
    has_read(slug, piece);
    return;
  }
  if (read_piece(slug) != 0) {
    fail_read(slug);
  }
}

static void answered(struct redis_link *link, const struct redis_call *call,
                     const redisReply *reply)
{
  struct slug *slug = call->subject;
  struct watcher *watcher = slug->watcher;
  struct piece piece;
  slug->n_calls--;
  watcher->n_reading--;
  if (call->number == slug->serial && slug->order.is_reading) {
    if (reply != NULL && slug->claim != NULL) {
      claim_is_reading(slug);
    }
    if (reply == NULL) {
      fail_read(slug);
    } else if (reply->type == REDIS_REPLY_ERROR) {
      watcher_take_error(link, reply);
      fail_read(slug);
    } else if (stream_parse(reply, &piece) != 0) {
      watcher_malformed(watcher, slug->name,
                        &(struct vc_error){.text = "an answer that is no piece of a stream"});
      fail_read(slug);
    } else {
      take_piece(slug, &piece, call->position);
    }
    slug_look(slug);
  }
  slug_release(slug);
}

static int read_piece(struct slug *slug)
{
  struct watcher *watcher = slug->watcher;
  const struct redis_call call = {
      .answered = answered, .subject = slug, .position = slug->order.given, .number = slug->serial};
  int status = stream_read(watcher, &call, slug->name, slug->order.given);
  slug->n_calls += status == 0;
  watcher->n_reading += status == 0;
  return status;
}

void watched_settle_reads(struct watcher *watcher)
{
  struct slug *slug, *next;
  uint64_t now = watcher_now(watcher);
  DL_FOREACH_SAFE2(watcher->to_read, slug, next, read_next)
  {
    if (watcher->n_reading >= READING_MAX || !link_is_up(&watcher->commander)) {
      break;
    }
    if (!order_wants_read(&slug->order, now)) {
      continue;
    }
    order_begin_read(&slug->order, now);
    if (read_piece(slug) != 0) {
      fail_read(slug);
      break;
    }
    watcher_count(watcher, READS, 1);
    look_away(slug);
    if (slug->claim != NULL) {
      claim_is_reading(slug);
    }
  }
}

// --- the channel

static void stop_refusal(struct slug *slug)
{
  slug->watcher->n_refused -= slug->refusal.again_ms > 0;
  slug->asks_alone = 0;
  watcher_not_refused(slug->watcher, &slug->refusal);
}

void watched_confirm(struct slug *slug)
{
  if (slug->channel == CHANNEL_ASKED) {
    struct watcher *watcher = slug->watcher;
    slug->channel = CHANNEL_ON;
    watcher->n_asked--;
    watcher->n_on++;
    stop_refusal(slug);
    if (slug->is_watched) {
      order_again(&slug->order, watcher_now(watcher));
      slug->serial++; // a read that is under way began too early
      slug_look(slug);
    }
    list_by_channel(slug);
  }
}

// Once more, alone, where it was with others; else later.
static void refuse(struct slug *slug, int was_alone, const char *reason)
{
  struct watcher *watcher = slug->watcher;
  char channel[REDIS_KEY_MAX];
  slug->channel = CHANNEL_OFF;
  watcher->n_asked--;
  if (slug->is_watched && was_alone) {
    watcher->n_refused += slug->refusal.again_ms == 0;
    watcher_refused(watcher, &slug->refusal, redis_key(watcher->redis, channel, "live", slug->name),
                    reason);
    order_miss(&slug->order);
    slug_look(slug);
  }
  slug->asks_alone = 1;
  list_by_channel(slug);
  slug_release(slug);
}

void watched_refused(struct watcher *watcher, const char *reason)
{
  const struct slug *first = watcher->asked, *second = first->change_next;
  const uint64_t command = first->command;
  int was_alone = second == NULL || second->command != command;
  while (watcher->asked != NULL && watcher->asked->command == command) {
    refuse(watcher->asked, was_alone, reason);
  }
}

void watched_ask_again(struct watcher *watcher)
{
  struct slug *slug, *next;
  DL_FOREACH_SAFE2(watcher->refused, slug, next, change_next)
  {
    list_by_channel(slug);
  }
}

void watched_live(struct slug *slug, const char *text, size_t size)
{
  struct watcher *watcher = slug->watcher;
  struct vc_remote *remote;
  struct vc_error error;
  if (!slug->is_watched) {
    return;
  }
  watcher_count(watcher, RECEIVED, 1);
  switch (incoming_parse(text, size, slug->name, &remote, &error)) {
  case 0:
    order_live(&slug->order, remote, watcher_now(watcher));
    break;
  case VC_FLEET_NO_MEMORY:
    watcher_out_of_memory(watcher);
    order_miss(&slug->order);
    break;
  case VC_FLEET_NEWER:
    watcher_count(watcher, UNKNOWN_TYPES, 1);
    break;
  default:
    watcher_malformed(watcher, slug->name, &error);
    break;
  }
  slug_look(slug);
}

void watched_deaf(struct watcher *watcher)
{
  struct slug *slug, *next;
  watcher->n_asked = watcher->n_on = 0;
  HASH_ITER(hh, watcher->slugs, slug, next)
  {
    slug->channel = CHANNEL_OFF;
    stop_refusal(slug);
    list_by_channel(slug);
    if (slug->is_watched) {
      look_away(slug);
      watcher->n_owing += !slug->owes_fill;
      slug->owes_fill = 1;
    }
    slug_release(slug);
  }
}

// One command for those that want the same.
struct channels {
  const char *at[1 + CHANNELS_MAX];
  char room[CHANNELS_MAX][REDIS_KEY_MAX];
  struct slug *slugs[CHANNELS_MAX];
  size_t n;
};

static void gather(struct watcher *watcher, struct channels *channels, int is_watched)
{
  struct slug *slug;
  size_t most = is_watched ? ASKED_MAX - watcher->n_asked : CHANNELS_MAX;
  enum channel from = is_watched ? CHANNEL_OFF : CHANNEL_ON;
  int is_alone = 0;
  channels->n = 0;
  DL_FOREACH2(watcher->changed, slug, change_next)
  {
    if (channels->n == CHANNELS_MAX || channels->n >= most || is_alone) {
      break;
    }
    if (slug->is_watched == is_watched && slug->channel == from) {
      is_alone = is_watched && slug->asks_alone;
      if (is_alone && channels->n > 0) {
        break;
      }
      char *name = channels->room[channels->n];
      channels->slugs[channels->n++] = slug;
      channels->at[channels->n] = redis_key(watcher->redis, name, "live", slug->name);
    }
  }
}

// Returns: 1 when there may be more.
static int send_channels(struct watcher *watcher, int is_watched)
{
  struct channels channels;
  gather(watcher, &channels, is_watched);
  channels.at[0] = is_watched ? "SUBSCRIBE" : "UNSUBSCRIBE";
  if (channels.n == 0 ||
      link_send(&watcher->subscriber, NULL, 1 + (int)channels.n, channels.at, NULL) != 0) {
    return 0;
  }
  watcher->n_commands++;
  for (size_t i = 0; i < channels.n; i++) {
    struct slug *slug = channels.slugs[i];
    slug->channel = is_watched ? CHANNEL_ASKED : CHANNEL_OFF;
    slug->command = watcher->n_commands;
    watcher->n_asked += is_watched;
    watcher->n_on -= !is_watched;
    list_by_channel(slug);
    slug_release(slug);
  }
  return 1;
}

void watched_settle_channels(struct watcher *watcher)
{
  if (watcher->changed == NULL || !link_is_up(&watcher->subscriber)) {
    return;
  }
  while (send_channels(watcher, 0)) {
  }
  while (send_channels(watcher, 1)) {
  }
}

// --- beginning and ending

int watched_begin(struct watcher *watcher, const struct vc_fleet *fleet)
{
  struct slug *slug = slug_get(watcher, fleet->slug);
  if (slug == NULL) {
    watcher_out_of_memory(watcher);
    return -1;
  }
  claim_cancel(slug);
  if (!slug->is_watched) {
    slug->is_watched = 1;
    watcher->n_watched++;
    DL_APPEND(watcher->polled, slug);
  }
  slug->is_filled = 0;
  slug_order_begin(slug, fleet->position, fleet->is_over);
  slug_look(slug);
  list_by_channel(slug);
  return 0;
}

void watched_end(struct slug *slug)
{
  struct watcher *watcher = slug->watcher;
  if (slug->is_watched) {
    slug->is_watched = 0;
    watcher->n_watched--;
    DL_DELETE(watcher->polled, slug);
    slug_order_end(slug);
    stop_owing(slug);
    stop_refusal(slug);
    list_by_channel(slug);
  }
}
