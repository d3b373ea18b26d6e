// A slug that becomes this node's, step by step:
//
//   CONNECTING -- Redis is there and ctl is heard --> ASKING
//   ASKING     -- the publishing worker has set the owner's key; another node had it --> RELEASING
//                 nobody had it, or we --> READING
//   RELEASING  -- it says that it let go, or 2 s; or it does not say that it is there --> READING
//                 (and who was there and did not let go in time may say more, in vain)
//   READING    -- all that the stream holds was given --> the slug is ours
//
// A step without an answer of Redis for ANSWER_MS ends the claim: the ledger is told what is known,
// and that it may not be all.
// What others say meanwhile may come before what it belongs to, because it comes on another
// connection: it is kept, and looked at when the step comes.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "watch.h"

static void wait_ms(struct claim *claim, uint64_t ms)
{
  claim->until_ns = watcher_now(claim->slug->watcher) + ms * VC_NS_PER_MS;
}

static void enter(struct claim *claim, enum claim_phase phase, uint64_t ms)
{
  claim->phase = phase;
  wait_ms(claim, ms);
}

static int is_us(const struct watcher *watcher, const char *node)
{
  return strcmp(node, watcher->redis->settings.node) == 0;
}

// --- what is said to who claims it next

static void said(struct redis_link *link, const struct redis_call *call, const redisReply *reply)
{
  if (reply != NULL && reply->type == REDIS_REPLY_ERROR) {
    link_take_error(link, reply);
  }
}

// Whoever has claimed it waits for our last words, now that it knows that there is somebody to say
// them. What is lost on the way costs them.
static void say_leaving(const struct slug *slug, int64_t epoch)
{
  struct watcher *watcher = slug->watcher;
  const struct redis_call call = {.answered = said};
  struct vc_text text = {0};
  char channel[REDIS_KEY_MAX];
  vc_ctl_print(&text, VC_CTL_LEAVING, watcher->redis->settings.node, epoch);
  if (!text.has_failed) {
    const char *const arguments[] = {
        "PUBLISH", redis_key(watcher->redis, channel, "ctl", slug->name), text.at};
    const size_t sizes[] = {strlen("PUBLISH"), strlen(channel), text.size};
    link_send(&watcher->commander, &call, 3, arguments, sizes);
  }
  vc_text_fini(&text);
}

// --- the end

static void tell_taken(struct slug *slug, const struct vc_owner *taken)
{
  struct vc_remote *remote = watcher_make(slug->watcher, VC_REMOTE_TAKEN, slug->name);
  if (remote != NULL) {
    remote->epoch = taken->epoch;
    snprintf(remote->node, sizeof remote->node, "%s", taken->node);
  }
  watcher_tell(slug->watcher, slug->ledger, remote);
}

static void forget_claim(struct slug *slug)
{
  struct claim *claim = slug->claim;
  DL_DELETE(slug->watcher->claims, claim);
  slug->claim = NULL;
  slug_order_end(slug);
  free(claim);
}

// The slug is the ledger's, with the epoch that Redis gave, or with one of its own.
static void answer(struct claim *claim)
{
  struct slug *slug = claim->slug;
  struct watcher *watcher = slug->watcher;
  const struct vc_owner taken = claim->taken;
  uint64_t now = watcher_now(watcher);
  struct vc_remote *remote = watcher_make(watcher, VC_REMOTE_OWNED, slug->name);
  if (remote != NULL) {
    remote->epoch = claim->epoch;
    remote->is_after_loss = claim->is_after_loss;
  }
  slug->is_owned = 1;
  slug->own_epoch = claim->epoch;
  vc_metric_record(vc_worker_slots(watcher->worker), CLAIM_TIME_MS,
                   (double)(now - claim->began_ns) / (double)VC_NS_PER_MS, now);
  forget_claim(slug);
  watcher_tell(watcher, slug->ledger, remote);
  if (taken.epoch > slug->own_epoch && slug->own_epoch > 0) {
    say_leaving(slug, slug->own_epoch); // they begin only now
    tell_taken(slug, &taken);
  }
}

static void answer_late(struct claim *claim)
{
  watcher_count(claim->slug->watcher, CLAIMS_LATE, 1);
  claim->is_after_loss = 1;
  answer(claim);
}

void claim_cancel(struct slug *slug)
{
  if (slug->claim != NULL) {
    forget_claim(slug);
  }
}

void claims_fini(struct watcher *watcher)
{
  while (watcher->claims != NULL) {
    forget_claim(watcher->claims->slug);
  }
}

// --- its steps

static void read_stream(struct claim *claim)
{
  enter(claim, CLAIM_READING, ANSWER_MS);
  slug_order_begin(claim->slug, claim->position, claim->is_over);
  slug_look(claim->slug);
}

void claim_is_reading(struct slug *slug)
{
  wait_ms(slug->claim, ANSWER_MS);
}

void claim_has_read(struct slug *slug)
{
  answer(slug->claim);
}

// The lane may be full: the next turn tries again.
static void ask(struct claim *claim)
{
  struct slug *slug = claim->slug;
  struct redis_claim *request = redis_claim_create(slug->name, claim->epoch_floor);
  if (request == NULL) {
    watcher_out_of_memory(slug->watcher);
    return;
  }
  if (vc_putter_put(slug->watcher->redis->watch_to_publish, 0, &request->item.owned.item) != 0) {
    vc_item_destroy(&request->item.owned.item);
    return;
  }
  slug->n_claims++;
  enter(claim, CLAIM_ASKING, ANSWER_MS);
}

static int is_previous(const struct claim *claim, const char *node)
{
  return strcmp(node, claim->previous.node) == 0;
}

// Whether the node that had it may have more to say. What it let go of before is not this.
static int must_wait(const struct claim *claim)
{
  int has_released =
      is_previous(claim, claim->released.node) && claim->released.epoch >= claim->previous.epoch;
  return claim->previous.epoch > 0 && !is_us(claim->slug->watcher, claim->previous.node) &&
         !has_released;
}

// A node that was killed says nothing; its key lives on for some seconds.
static int is_leaving(const struct claim *claim)
{
  return is_previous(claim, claim->leaving.node);
}

void claim_answered(struct watcher *watcher, const struct redis_claim *answered)
{
  struct slug *slug = slug_find(watcher, answered->slug);
  if (slug == NULL) {
    return;
  }
  slug->n_claims--;
  struct claim *claim = slug->claim;
  if (slug->n_claims > 0 || claim == NULL || claim->phase != CLAIM_ASKING) {
    slug_release(slug); // it came too late
    return;
  }
  claim->epoch = answered->epoch;
  claim->previous = answered->previous;
  claim->is_after_loss |= answered->is_after_loss;
  if (claim->epoch > 0 && claim->taken.epoch > claim->epoch) {
    say_leaving(slug, claim->epoch); // to who has claimed it already
  }
  if (claim->epoch == 0) {
    answer_late(claim);
  } else if (must_wait(claim)) {
    enter(claim, CLAIM_RELEASING, is_leaving(claim) ? RELEASE_MS : LEAVING_MS);
  } else {
    read_stream(claim);
  }
}

// It is not waited for any longer than leaves time to read.
static int is_release_late(const struct claim *claim, uint64_t now)
{
  return now >= claim->until_ns ||
         now - claim->began_ns >= (uint64_t)(CLAIM_MS - ANSWER_MS) * VC_NS_PER_MS;
}

static void step(struct watcher *watcher, struct claim *claim)
{
  uint64_t now = watcher_now(watcher);
  if (claim->phase == CLAIM_CONNECTING && watcher_is_ready(watcher)) {
    ask(claim);
  }
  if (claim->phase == CLAIM_RELEASING && is_release_late(claim, now)) {
    claim->is_after_loss |= is_leaving(claim);
    read_stream(claim);
  } else if (now >= claim->until_ns || now - claim->began_ns >= CLAIM_MS * VC_NS_PER_MS ||
             (claim->phase == CLAIM_CONNECTING && watcher_is_long_away(watcher))) {
    answer_late(claim);
  }
}

void claims_step(struct watcher *watcher)
{
  struct claim *claim, *next;
  DL_FOREACH_SAFE(watcher->claims, claim, next)
  {
    step(watcher, claim);
  }
}

// Returns: NULL without memory.
static struct claim *claim_create(struct slug *slug, const struct vc_fleet *fleet)
{
  struct claim *claim = calloc(1, sizeof *claim);
  if (claim != NULL) {
    claim->slug = slug;
    claim->position = fleet->position;
    claim->is_over = fleet->is_over;
    claim->epoch_floor = fleet->epoch_floor;
    claim->began_ns = watcher_now(slug->watcher);
    enter(claim, CLAIM_CONNECTING, ANSWER_MS);
  }
  return claim;
}

int claim_begin(struct watcher *watcher, const struct vc_fleet *fleet)
{
  struct slug *slug = slug_get(watcher, fleet->slug);
  struct claim *claim = NULL;
  if (slug != NULL) {
    claim_cancel(slug);
    watched_end(slug);
    claim = claim_create(slug, fleet);
  }
  if (claim == NULL) {
    watcher_out_of_memory(watcher);
    if (slug != NULL) {
      slug_release(slug);
    }
    return -1;
  }
  slug->claim = claim;
  DL_APPEND(watcher->claims, claim);
  step(watcher, claim);
  return 0;
}

void claim_released(struct watcher *watcher, const struct redis_released *released)
{
  struct slug *slug = slug_find(watcher, released->slug);
  if (slug != NULL && slug->own_epoch <= released->epoch) {
    slug->is_owned = 0;
    slug_release(slug);
  }
}

// --- what owners say

static void take(struct slug *slug, const struct vc_ctl *ctl)
{
  struct vc_owner taken = {.epoch = ctl->epoch};
  memcpy(taken.node, ctl->node, sizeof taken.node);
  if (is_us(slug->watcher, ctl->node)) {
    return;
  }
  if (slug->claim != NULL) {
    if (slug->claim->epoch > 0 && ctl->epoch > slug->claim->epoch) {
      say_leaving(slug, slug->claim->epoch); // its words come when the claim has been answered
    }
    slug->claim->taken = ctl->epoch > slug->claim->taken.epoch ? taken : slug->claim->taken;
  } else if (slug->is_owned && ctl->epoch > slug->own_epoch) {
    say_leaving(slug, slug->own_epoch);
    tell_taken(slug, &taken);
  }
  if (slug->is_watched) {
    watched_owner(slug, &taken);
  }
}

// Of several that say so before it is known whose the slug was the last may be the one before us.
static void note(const struct claim *claim, const struct vc_ctl *ctl, struct vc_owner *noted)
{
  int is_known = claim->phase == CLAIM_RELEASING;
  if (is_known ? is_previous(claim, ctl->node) : ctl->epoch >= noted->epoch) {
    noted->epoch = ctl->epoch;
    memcpy(noted->node, ctl->node, sizeof noted->node);
  }
}

static void release(struct slug *slug, const struct vc_ctl *ctl)
{
  struct claim *claim = slug->claim;
  if (claim == NULL) {
    return;
  }
  note(claim, ctl, &claim->released);
  if (claim->phase == CLAIM_RELEASING && !must_wait(claim)) {
    read_stream(claim);
  }
}

static void leave(struct slug *slug, const struct vc_ctl *ctl)
{
  struct claim *claim = slug->claim;
  if (claim == NULL) {
    return;
  }
  note(claim, ctl, &claim->leaving);
  if (claim->phase == CLAIM_RELEASING && is_leaving(claim)) {
    wait_ms(claim, RELEASE_MS);
  }
}

static void erase(struct watcher *watcher, const char *name, int64_t epoch)
{
  struct slug *slug = slug_find(watcher, name);
  struct vc_remote *remote = watcher_make(watcher, VC_REMOTE_ERASED, name);
  if (slug != NULL) {
    order_forget(&slug->order, epoch);
  }
  if (remote != NULL) {
    remote->epoch = epoch;
  }
  watcher_tell(watcher, vc_slug_hash(name, strlen(name)) % watcher->n_ledgers, remote);
}

static void end(const struct slug *slug)
{
  const struct vc_redis_settings *settings = &slug->watcher->redis->settings;
  if ((slug->is_owned || slug->claim != NULL) && settings->end_session != NULL) {
    settings->end_session(settings->context, slug->name);
  }
}

void ctl_handle(struct watcher *watcher, const char *name, const char *text, size_t size)
{
  struct vc_ctl ctl;
  struct vc_error error;
  struct slug *slug = slug_find(watcher, name);
  int status = vc_ctl_parse(text, size, &ctl, &error);
  if (status == VC_FLEET_NO_MEMORY) {
    watcher_out_of_memory(watcher);
  } else if (status == VC_FLEET_NEWER) {
    watcher_count(watcher, UNKNOWN_TYPES, 1);
  } else if (status != 0) {
    watcher_malformed(watcher, name, &error);
  } else if (ctl.type == VC_CTL_ERASED) {
    erase(watcher, name, ctl.epoch);
  } else if (slug != NULL && ctl.type == VC_CTL_TAKE) {
    take(slug, &ctl);
  } else if (slug != NULL && ctl.type == VC_CTL_RELEASED) {
    release(slug, &ctl);
  } else if (slug != NULL && ctl.type == VC_CTL_LEAVING) {
    leave(slug, &ctl);
  } else if (slug != NULL) {
    end(slug);
  }
}
