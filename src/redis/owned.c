#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include <verbacast/base/backoff.h>

#include "publish.h"

#define RETRY_FIRST_MS 1000 // after an error
#define RETRY_MAX_MS 10000

static uint64_t now_of(const struct publisher *publisher)
{
  return vc_worker_now_ns(publisher->worker);
}

static int64_t keep_ms_of(const struct publisher *publisher)
{
  return publisher->redis->settings.session_keep_ms;
}

int position_compare(const struct vc_position *a, const struct vc_position *b)
{
  if (a->epoch != b->epoch) {
    return a->epoch < b->epoch ? -1 : 1;
  }
  return a->seq < b->seq ? -1 : a->seq > b->seq;
}

static int is_complete(const struct owned *owned)
{
  return position_compare(&owned->done, &owned->wanted) >= 0;
}

// The stream ends within the epoch of our last word, behind what we have said of it.
static int is_behind_ours(const struct owned *owned, struct vc_position last)
{
  return last.epoch == owned->wanted.epoch && last.seq > owned->wanted.seq;
}

// --- the table

struct owned *owned_find(const struct publisher *publisher, const char *slug)
{
  struct owned *owned;
  HASH_FIND_STR(publisher->slugs, slug, owned);
  return owned;
}

static int is_free_to_go(const struct owned *owned)
{
  return owned->is_let_go && owned->n_unanswered == 0 && !owned->is_renewing;
}

static int make_room(struct publisher *publisher)
{
  struct owned *owned;
  if (HASH_COUNT(publisher->slugs) < OWNED_MAX) {
    return 0;
  }
  DL_FOREACH(publisher->order, owned)
  {
    if (is_free_to_go(owned)) {
      owned_free(publisher, owned);
      return 0;
    }
  }
  return 1;
}

struct owned *owned_add(struct publisher *publisher, const char *slug)
{
  struct owned *owned = make_room(publisher) == 0 ? calloc(1, sizeof *owned) : NULL;
  if (owned == NULL) {
    return NULL;
  }
  snprintf(owned->slug, sizeof owned->slug, "%s", slug);
  HASH_ADD_STR(publisher->slugs, slug, owned);
  if (owned->hh.tbl == NULL) {
    free(owned);
    return NULL;
  }
  DL_PREPEND(publisher->order, owned); // it is renewed first
  owned->renew_ns = now_of(publisher);
  return owned;
}

static void stand(struct publisher *publisher, struct owned *owned, enum standing standing)
{
  publisher->n_asking -= owned->standing == STANDING_ASKING;
  publisher->n_asking += standing == STANDING_ASKING;
  owned->standing = standing;
}

void owned_free(struct publisher *publisher, struct owned *owned)
{
  stand(publisher, owned, STANDING_UNKNOWN);
  HASH_DEL(publisher->slugs, owned);
  DL_DELETE(publisher->order, owned);
  free(owned);
}

// --- telling

// Takes the item, which may be NULL.
static int put_to_ledger(struct publisher *publisher, const struct owned *owned,
                         struct vc_remote *remote)
{
  const struct vc_redis *redis = publisher->redis;
  if (remote == NULL) {
    return 1;
  }
  uint32_t worker =
      vc_slug_hash(owned->slug, strlen(owned->slug)) % vc_stage_n_workers(redis->ledger);
  if (vc_putter_put(redis->publish_to_ledger, worker, &remote->item) != 0) {
    vc_item_destroy(&remote->item);
    return 1;
  }
  return 0;
}

static int tell_ledger(struct publisher *publisher, const struct owned *owned,
                       enum vc_remote_kind kind, const char *node, int64_t epoch, uint64_t seq)
{
  struct vc_remote *remote = vc_remote_create(kind, owned->slug);
  if (remote != NULL) {
    snprintf(remote->node, sizeof remote->node, "%s", node);
    remote->epoch = epoch;
    remote->seq = seq;
  }
  return put_to_ledger(publisher, owned, remote);
}

static int tell_given_up(struct publisher *publisher, const struct owned *owned)
{
  struct vc_remote *remote = vc_remote_create(VC_REMOTE_GIVEN_UP, owned->slug);
  if (remote != NULL) {
    remote->epoch = owned->wanted.epoch;
    remote->seq = owned->given_up_seq;
    remote->to = owned->given_up_ours;
  }
  return put_to_ledger(publisher, owned, remote);
}

static int tell_watcher(struct publisher *publisher, const struct owned *owned)
{
  struct redis_released *released = redis_released_create(owned->slug, owned->epoch);
  if (released == NULL) {
    return 1;
  }
  if (vc_putter_put(publisher->redis->publish_to_watch, 0, &released->item.owned.item) != 0) {
    vc_item_destroy(&released->item.owned.item);
    return 1;
  }
  return 0;
}

// What a full lane did not take is told at a later tick.
static void tell(struct publisher *publisher, struct owned *owned)
{
  if (owned->must_tell_fenced) {
    uint64_t written = owned->done.epoch == owned->epoch ? owned->done.seq : 0;
    owned->must_tell_fenced =
        tell_ledger(publisher, owned, VC_REMOTE_FENCED, owned->other.node, owned->epoch, written);
  }
  if (owned->must_tell_taken) {
    owned->must_tell_taken =
        tell_ledger(publisher, owned, VC_REMOTE_TAKEN, owned->other.node, owned->other.epoch, 0);
  }
  if (owned->must_tell_given_up) {
    owned->must_tell_given_up = tell_given_up(publisher, owned);
  }
  if (owned->must_tell_released) {
    owned->must_tell_released = tell_watcher(publisher, owned);
  }
}

// --- being behind

static void fall_behind(struct publisher *publisher, struct owned *owned, uint64_t wait_ms)
{
  if (owned->standing != STANDING_UNKNOWN) {
    stand(publisher, owned, STANDING_BEHIND);
    owned->retry_ns = now_of(publisher) + wait_ms * VC_NS_PER_MS;
  }
}

static void fall_behind_by_error(struct publisher *publisher, struct owned *owned)
{
  owned->retry_ms = vc_backoff_next(owned->retry_ms, RETRY_FIRST_MS, RETRY_MAX_MS);
  fall_behind(publisher, owned, owned->retry_ms);
}

static void take_away(struct publisher *publisher, struct owned *owned)
{
  if (!owned->is_taken) {
    publisher_count(publisher, TAKEN, 1);
    vc_log(VC_LOG_INFO, VC_EVENT("redis.taken"), VC_STR("session", owned->slug),
           VC_INT("epoch", owned->epoch), VC_STR("owner", owned->other.node),
           VC_INT("owner_epoch", owned->other.epoch));
  }
  owned->is_taken = 1;
  owned->must_tell_taken = !owned->is_released;
}

static void renew_at_once(struct publisher *publisher, struct owned *owned);

// What was released has nobody to go on where it is fenced: whether the stream has all of it is
// looked at.
static void look_at_rest(struct publisher *publisher, struct owned *owned)
{
  owned->must_tell_released |= !owned->is_let_go;
  owned->is_let_go = 1; // the key is nobody's, or expires
  renew_at_once(publisher, owned);
}

// The stream ends with `last`: with a larger epoch, which wins, or with ours by another's hand.
static void fence(struct publisher *publisher, struct owned *owned, struct vc_position last)
{
  if (owned->is_fenced) {
    return;
  }
  if (owned->is_released && last.epoch <= owned->epoch) {
    look_at_rest(publisher, owned);
    return;
  }
  publisher_count(publisher, FENCED, 1);
  vc_log(VC_LOG_WARN, VC_EVENT("redis.fenced"), VC_STR("session", owned->slug),
         VC_INT("epoch", owned->epoch), VC_INT("by_epoch", last.epoch));
  owned->is_fenced = 1;
  if (last.epoch > owned->epoch) {
    owned->other = (struct vc_owner){.epoch = last.epoch}; // whose it is the key may not tell yet
    take_away(publisher, owned);
  } else {
    owned->must_tell_fenced = 1;
  }
  stand(publisher, owned, STANDING_UNKNOWN);
}

// What an answer says that the stream ends with; whatever its seq is where that is `anothers`, of
// whom nothing is gone on from. Returns: 0, or -1: it is no place to go on from.
static int read_end(const redisReply *reply, size_t i, int anothers, struct publisher *publisher,
                    struct owned *owned, struct vc_position *last)
{
  int status = reply_position(reply, i, anothers ? -1 : owned->epoch, last);
  owned->is_alone = status != 0;
  if (owned->is_alone) {
    publisher_malformed(publisher, owned->slug, "the stream ends with what no node has numbered");
  }
  return status;
}

// As of the answers that have come.
static void learn(struct publisher *publisher, struct owned *owned, struct vc_position last)
{
  int has_moved = position_compare(&last, &owned->done) != 0;
  owned->done = last;
  if (owned->standing == STANDING_UNKNOWN) {
    owned->put = last;
    stand(publisher, owned, STANDING_LEVEL);
    has_moved = 1;
  }
  if (has_moved && !is_complete(owned)) {
    publisher_count(publisher, HOLES, 1);
    fall_behind(publisher, owned, 0);
  }
}

static void ask_ledger(struct publisher *publisher, struct owned *owned)
{
  if (publisher->n_asking < ASKING_MAX && link_has_room(&publisher->link) &&
      tell_ledger(publisher, owned, VC_REMOTE_ASK, "", owned->done.epoch, owned->done.seq) == 0) {
    publisher_count(publisher, ASKED, 1);
    stand(publisher, owned, STANDING_ASKING);
    owned->put = owned->done;
    owned->asked_ns = now_of(publisher);
  }
}

static void ask_when_due(struct publisher *publisher, struct owned *owned)
{
  uint64_t now = now_of(publisher);
  if (owned->standing == STANDING_ASKING && owned->n_unanswered == 0 &&
      now - owned->asked_ns >= ASK_PATIENCE_MS * VC_NS_PER_MS) {
    fall_behind(publisher, owned, 0);
  }
  if (owned->standing == STANDING_BEHIND && owned->n_unanswered == 0 && now >= owned->retry_ns &&
      !owned->is_fenced && !publisher->is_draining) {
    ask_ledger(publisher, owned);
  }
}

static int let_go_when_due(struct publisher *publisher, struct owned *owned);

// What an answer leads to. The last that is done with it: it may be gone.
static void settle(struct publisher *publisher, struct owned *owned)
{
  tell(publisher, owned);
  ask_when_due(publisher, owned);
  let_go_when_due(publisher, owned);
}

// --- letting go

static void released(struct redis_link *link, const struct redis_call *call,
                     const redisReply *reply)
{
  struct publisher *publisher = link->owner;
  struct owned *owned = call->subject;
  owned->n_unanswered--;
  if (reply != NULL && reply->type == REDIS_REPLY_ERROR && publisher_take_error(publisher, reply)) {
    owned->is_let_go = 0; // once more, with the script
  }
  settle(publisher, owned);
}

static void let_go(struct publisher *publisher, struct owned *owned)
{
  const struct vc_redis *redis = publisher->redis;
  const struct redis_call call = {.answered = released, .subject = owned};
  struct redis_run run;
  run_init_owner(&run, redis, SCRIPT_RELEASE, owned->slug);
  run_number(&run, owned->epoch);
  run_text(&run, redis->settings.node, strlen(redis->settings.node));
  run_number(&run, keep_ms_of(publisher));
  run_number(&run, owned->has_said_last && is_complete(owned));
  if (link_run(&publisher->link, &call, &run) == 0) {
    owned->n_unanswered++;
    owned->is_let_go = 1;
  }
}

static int is_time_to_let_go(const struct publisher *publisher, const struct owned *owned)
{
  int is_late = now_of(publisher) - owned->released_ns >= LET_GO_MS * VC_NS_PER_MS;
  return is_complete(owned) || owned->is_fenced ||
         (publisher->is_draining ? owned->n_unanswered == 0 : is_late);
}

// Returns: 1 when it is gone.
static int let_go_when_due(struct publisher *publisher, struct owned *owned)
{
  if (!owned->is_released) {
    return 0;
  }
  if (!owned->is_let_go && is_time_to_let_go(publisher, owned)) {
    if (link_is_up(&publisher->link)) {
      let_go(publisher, owned);
    } else {
      owned->is_let_go = 1; // the key expires
    }
    owned->must_tell_released = owned->is_let_go;
    tell(publisher, owned);
  }
  uint64_t keep_ns = (uint64_t)keep_ms_of(publisher) * VC_NS_PER_MS;
  int is_over =
      is_complete(owned) || owned->is_fenced || now_of(publisher) - owned->released_ns >= keep_ns;
  if (is_over && is_free_to_go(owned) && !owned->must_tell_released) {
    owned_free(publisher, owned);
    return 1;
  }
  return 0;
}

// --- renewing

static void renew_later(struct publisher *publisher, struct owned *owned)
{
  owned->renew_ns = now_of(publisher) + RENEW_MS * VC_NS_PER_MS;
  DL_DELETE(publisher->order, owned);
  DL_APPEND(publisher->order, owned);
}

static void renew_at_once(struct publisher *publisher, struct owned *owned)
{
  owned->renew_ns = now_of(publisher);
  DL_DELETE(publisher->order, owned);
  DL_PREPEND(publisher->order, owned);
  vc_worker_wake_at(publisher->worker, owned->renew_ns);
}

static void renewed(struct redis_link *link, const struct redis_call *call, const redisReply *reply)
{
  enum { OURS, ANOTHERS, NEWER };
  struct publisher *publisher = link->owner;
  struct owned *owned = call->subject;
  owned->is_renewing = 0;
  if (reply == NULL || owned->is_fenced) {
    return;
  }
  int is_error = reply->type == REDIS_REPLY_ERROR;
  if ((is_error && publisher_take_error(publisher, reply)) ||
      call->position.epoch != owned->epoch) {
    renew_at_once(publisher, owned); // the scripts are there again; another epoch has begun
    return;
  }
  if (is_error) {
    return;
  }
  int64_t what = reply_number(reply, 0);
  struct vc_position last;
  int is_odd = read_end(reply, 3, what == NEWER, publisher, owned, &last) != 0;
  if (is_odd && what != ANOTHERS) {
    return; // nobody has it, and it is asked again
  }
  // Behind the last of all numbers none can be claimed: who has that one is left alone, too.
  int64_t epoch = reply_number(reply, 2);
  if (!redis_is_number(epoch) || (what != OURS && epoch == VC_EPOCH_MAX)) {
    publisher_malformed(publisher, owned->slug,
                        "its owner has an epoch that no node has given out");
    return;
  }
  snprintf(owned->other.node, sizeof owned->other.node, "%s", reply_text(reply, 1));
  owned->other.epoch = epoch;
  if (what == NEWER) {
    fence(publisher, owned, last);
  } else {
    // What stands behind ours there is not of ours, and tells nothing of what is missing before it.
    if (!is_odd && (what == OURS || !is_behind_ours(owned, last))) {
      learn(publisher, owned, last);
    }
    if (what == ANOTHERS) {
      take_away(publisher, owned);
    }
  }
  settle(publisher, owned);
}

// Others took us for lost while we were cut off, and what they said stands where the last words of
// what was released belong: those cannot be written any more. Told at each look, until it is said.
static void give_up(struct publisher *publisher, struct owned *owned, struct vc_position last,
                    int64_t ours)
{
  if (!owned->is_given_up) {
    publisher_count(publisher, GIVEN_UP, 1);
    vc_log(VC_LOG_WARN, VC_EVENT("redis.given_up"), VC_STR("session", owned->slug),
           VC_INT("epoch", owned->wanted.epoch));
  }
  owned->is_given_up = 1;
  owned->given_up_seq = last.seq;
  owned->given_up_ours = ours > 0 ? (uint64_t)ours : 0;
  owned->must_tell_given_up = 1;
  stand(publisher, owned, STANDING_UNKNOWN);
}

static void looked(struct redis_link *link, const struct redis_call *call, const redisReply *reply)
{
  struct publisher *publisher = link->owner;
  struct owned *owned = call->subject;
  owned->is_renewing = 0;
  if (reply == NULL || owned->is_fenced) {
    return;
  }
  if (reply->type == REDIS_REPLY_ERROR) {
    publisher_take_error(publisher, reply);
    return;
  }
  if (!owned->is_let_go || call->position.epoch != owned->epoch) {
    renew_at_once(publisher, owned); // it was claimed meanwhile
    return;
  }
  struct vc_position last;
  int is_known = read_end(reply, 0, 0, publisher, owned, &last) == 0;
  int is_ours = reply_number(reply, 2) == 1;
  int64_t ours = reply_number(reply, 3);
  if (is_known && last.epoch > owned->epoch) {
    fence(publisher, owned, last);
  } else if (is_known && !is_ours && last.epoch > 0 && last.epoch == owned->wanted.epoch &&
             ours < (int64_t)owned->wanted.seq) {
    give_up(publisher, owned, last, ours);
  } else if (is_known) {
    learn(publisher, owned, last);
  }
  settle(publisher, owned);
}

// One that was let go is looked at only.
static int renew(struct publisher *publisher, struct owned *owned)
{
  const struct vc_redis *redis = publisher->redis;
  const struct redis_call call = {.answered = owned->is_let_go ? looked : renewed,
                                  .subject = owned,
                                  .position.epoch = owned->epoch};
  struct redis_run run;
  if (owned->is_let_go) {
    run_init(&run, redis, SCRIPT_LOOK);
    run_key(&run, "history", owned->slug);
    run_number(&run, owned->wanted.epoch);
    run_number(&run, (int64_t)owned->wanted.seq);
    run_text(&run, redis->node_json, strlen(redis->node_json));
  } else {
    run_init_owner(&run, redis, SCRIPT_RENEW, owned->slug);
    run_number(&run, owned->epoch);
    run_number(&run, OWNER_TTL_MS);
    run_number(&run, keep_ms_of(publisher));
    run_text(&run, redis->settings.node, strlen(redis->settings.node));
  }
  if (link_run(&publisher->link, &call, &run) != 0) {
    return 1;
  }
  owned->is_renewing = 1;
  return 0;
}

// Not all at once, that others get their turn.
static void renew_due(struct publisher *publisher)
{
  uint64_t now = now_of(publisher);
  for (size_t n = 0; n < RENEWS_PER_TICK && link_is_up(&publisher->link); n++) {
    struct owned *owned = publisher->order;
    if (owned == NULL || owned->renew_ns > now) {
      return;
    }
    if (!owned->is_renewing && !owned->is_fenced && renew(publisher, owned) != 0) {
      return;
    }
    renew_later(publisher, owned);
  }
}

// --- writing

static void write_failed(struct publisher *publisher, struct owned *owned, const redisReply *reply)
{
  if (publisher_take_error(publisher, reply)) {
    fall_behind(publisher, owned, 0);
  } else {
    fall_behind_by_error(publisher, owned);
  }
}

static void count_written(struct publisher *publisher, const struct redis_call *call)
{
  uint64_t now = now_of(publisher);
  publisher_count(publisher, KEPT, 1);
  vc_metric_record(vc_worker_slots(publisher->worker), PUBLISH_MS,
                   (double)(now - call->sent_ns) / (double)VC_NS_PER_MS, now);
  redis_trouble_clear(publisher->redis, TROUBLE_REFUSED);
}

static void written(struct redis_link *link, const struct redis_call *call, const redisReply *reply)
{
  enum { WRITTEN, REPEAT, HOLE, NEWER };
  struct publisher *publisher = link->owner;
  struct owned *owned = call->subject;
  owned->n_unanswered--;
  if (reply == NULL) {
    return; // what became of it the next renewal tells
  }
  if (reply->type == REDIS_REPLY_ERROR) {
    write_failed(publisher, owned, reply);
    return;
  }
  struct vc_position last;
  int64_t what = reply_number(reply, 0);
  if (read_end(reply, 1, what == NEWER, publisher, owned, &last) != 0) {
    fall_behind_by_error(publisher, owned);
    return;
  }
  switch (what) {
  case WRITTEN:
    count_written(publisher, call);
    owned->done = call->position;
    owned->retry_ms = 0;
    break;
  case REPEAT:
    publisher_count(publisher, REPEATED, 1);
    owned->done = last;
    break;
  case HOLE:
    publisher_count(publisher, HOLES, owned->standing != STANDING_BEHIND);
    owned->done = last;
    fall_behind(publisher, owned, 0);
    break;
  default:
    if ((int64_t)call->number == owned->epoch) {
      fence(publisher, owned, last);
    }
    break;
  }
  settle(publisher, owned);
}

// `after`: what it must follow; NULL: anything of an older epoch, and something where it is known
// that there was something. Returns: 0, or 1: no room.
static int put_kept(struct publisher *publisher, struct owned *owned,
                    const struct vc_message *message, int64_t started_unix_ms,
                    const struct vc_position *after)
{
  const struct vc_redis *redis = publisher->redis;
  const struct redis_call call = {.answered = written,
                                  .subject = owned,
                                  .position = message_position(message),
                                  .number = (uint64_t)owned->epoch};
  struct redis_run run;
  if (publisher_print(publisher, message, started_unix_ms) != 0) {
    return 1;
  }
  run_init(&run, redis, SCRIPT_WRITE);
  run_key(&run, "history", owned->slug);
  run_key(&run, "live", owned->slug);
  run_number(&run, call.position.epoch);
  run_number(&run, (int64_t)call.position.seq);
  run_number(&run, after != NULL ? after->epoch : -1);
  run_number(&run, after != NULL ? (int64_t)after->seq : owned->put.epoch > 0);
  run_number(&run, owned->epoch);
  run_text(&run, publisher->text.at, publisher->text.size);
  run_number(&run, redis->settings.history_finals);
  run_number(&run, keep_ms_of(publisher));
  if (link_run(&publisher->link, &call, &run) != 0) {
    return 1;
  }
  owned->n_unanswered++;
  owned->put = call.position;
  return 0;
}

static void published(struct redis_link *link, const struct redis_call *call,
                      const redisReply *reply)
{
  if (reply != NULL && reply->type == REDIS_REPLY_ERROR) {
    publisher_take_error(link->owner, reply);
  } else if (reply != NULL) {
    publisher_count(link->owner, FLEETING, 1);
  }
}

// A partial or retract: it may be lost.
static int put_fleeting(struct publisher *publisher, const struct vc_message *message,
                        int64_t started_unix_ms)
{
  const struct redis_call call = {.answered = published};
  char channel[REDIS_KEY_MAX];
  if (publisher_print(publisher, message, started_unix_ms) != 0) {
    return 1;
  }
  redis_key(publisher->redis, channel, "live", message->slug);
  const char *const arguments[] = {"PUBLISH", channel, publisher->text.at};
  const size_t sizes[] = {7, strlen(channel), publisher->text.size};
  return link_send(&publisher->link, &call, 3, arguments, sizes);
}

// Live: what it must follow is known, so that what a full lane lost is missed here already.
static int put_live(struct publisher *publisher, struct owned *owned,
                    const struct vc_message *message, int64_t started_unix_ms)
{
  const struct vc_position before = {message->epoch, message->prev_final};
  int is_hello = message->kind == VC_MESSAGE_HELLO;
  if (!is_hello && position_compare(&before, &owned->put) != 0) {
    publisher_count(publisher, HOLES, 1);
    fall_behind(publisher, owned, 0);
    return 1;
  }
  if (put_kept(publisher, owned, message, started_unix_ms, is_hello ? NULL : &before) != 0) {
    fall_behind_by_error(publisher, owned);
    return 1;
  }
  return 0;
}

// --- what the ledger says

static void begin_epoch(struct publisher *publisher, struct owned *owned, int64_t epoch)
{
  owned->epoch = epoch;
  owned->is_fenced = owned->is_taken = owned->is_given_up = owned->is_let_go = 0;
  owned->is_released = owned->has_said_last = 0;
  owned->must_tell_fenced = owned->must_tell_taken = owned->must_tell_given_up = 0;
  owned->must_tell_released = 0;
}

// The answer came so late that the ledger had gone on without it, and is done: the key goes.
static void let_go_again(struct publisher *publisher, struct owned *owned, int64_t epoch)
{
  owned->epoch = epoch;
  owned->is_let_go = 0;
  let_go_when_due(publisher, owned);
}

// Answers in flight were of the older epoch: what the stream ends with is as they left it.
void owned_claimed(struct publisher *publisher, struct redis_claim *claim)
{
  struct owned *owned = owned_find(publisher, claim->slug);
  owned = owned != NULL ? owned : owned_add(publisher, claim->slug);
  if (owned == NULL || claim->epoch < owned->epoch) {
    return;
  }
  if (owned->is_released && owned->epoch >= claim->epoch_floor) {
    let_go_again(publisher, owned, claim->epoch);
    return;
  }
  claim->is_after_loss =
      is_behind_ours(owned, claim->last) && position_compare(&owned->done, &owned->last_final) < 0;
  begin_epoch(publisher, owned, claim->epoch);
  owned->floor = claim->epoch_floor;
  stand(publisher, owned, STANDING_UNKNOWN);
  if (owned->n_unanswered > 0) {
    renew_at_once(publisher, owned);
    return;
  }
  learn(publisher, owned, claim->last);
  renew_later(publisher, owned);
}

static struct owned *owned_of_message(struct publisher *publisher, const struct vc_message *message)
{
  struct owned *owned = owned_find(publisher, message->slug);
  if (message->epoch > VC_EPOCH_MAX) { // of a clock that is beyond all measure
    return NULL;
  }
  owned = owned != NULL ? owned : owned_add(publisher, message->slug);
  if (owned != NULL && message->epoch > owned->epoch) { // one that was not claimed
    if (owned->is_fenced) {
      stand(publisher, owned, STANDING_UNKNOWN);
    }
    begin_epoch(publisher, owned, message->epoch);
    owned->floor = message->epoch;
    renew_at_once(publisher, owned); // the key is to tell it
  }
  return owned;
}

// The ledger did not wait for the answer to its claim and numbers from an epoch of its own, which
// is before what the stream ends with: nothing of it will ever be written. The next message says so
// again where the lane was full.
static int is_overtaken(const struct owned *owned, const struct vc_message *message)
{
  return message->epoch < owned->put.epoch && message->epoch < owned->epoch &&
         !owned->is_released && !owned->is_fenced;
}

// It is the last now. What a full lane has lost before it may have been a final.
static void want(struct owned *owned, const struct vc_message *message)
{
  const struct vc_position position = message_position(message);
  const struct vc_position before = {position.epoch, message->prev_final};
  if (message->kind == VC_MESSAGE_FINAL) {
    owned->last_final = position;
  } else if (message->kind != VC_MESSAGE_HELLO && position_compare(&before, &owned->wanted) > 0) {
    owned->last_final = before;
  }
  owned->wanted = position;
}

void owned_message(struct publisher *publisher, const struct vc_fleet *fleet)
{
  const struct vc_message *message = fleet->messages[0];
  const struct vc_position position = message_position(message);
  int is_kept = message_is_kept(message);
  struct owned *owned = owned_of_message(publisher, message);
  if (owned == NULL) {
    publisher_count(publisher, DROPPED, 1);
    return;
  }
  if (is_kept && is_overtaken(owned, message)) {
    tell_ledger(publisher, owned, VC_REMOTE_FENCED, owned->other.node, message->epoch, 0);
  }
  if (is_kept && position_compare(&position, &owned->wanted) > 0) {
    want(owned, message);
  }
  if (owned->standing == STANDING_LEVEL && is_kept &&
      position_compare(&position, &owned->put) <= 0) {
    return; // history had it
  }
  int is_put = owned->standing == STANDING_LEVEL && !owned->is_fenced &&
               message->epoch <= owned->epoch &&
               (is_kept ? put_live(publisher, owned, message, fleet->started_unix_ms)
                        : put_fleeting(publisher, message, fleet->started_unix_ms)) == 0;
  publisher_count(publisher, DROPPED, !is_put);
  ask_when_due(publisher, owned);
}

static int put_piece(struct publisher *publisher, struct owned *owned, const struct vc_fleet *fleet)
{
  for (size_t i = 0; i < fleet->n_messages; i++) {
    const struct vc_message *message = fleet->messages[i];
    const struct vc_position position = message_position(message), before = owned->put;
    if (message_is_kept(message) && position_compare(&position, &before) > 0 &&
        put_kept(publisher, owned, message, fleet->started_unix_ms, &before) != 0) {
      publisher_count(publisher, DROPPED, fleet->n_messages - i);
      return 1;
    }
  }
  return 0;
}

void owned_history(struct publisher *publisher, const struct vc_fleet *fleet)
{
  struct owned *owned = owned_find(publisher, fleet->slug);
  int order = owned != NULL ? position_compare(&fleet->position, &owned->put) : 0;
  if (owned == NULL || owned->standing != STANDING_ASKING || order < 0) {
    return; // of an answer that was given up
  }
  owned->asked_ns = now_of(publisher);
  if (order > 0) { // a piece before it was lost
    publisher_count(publisher, DROPPED, fleet->n_messages);
    fall_behind(publisher, owned, 0);
  } else if (put_piece(publisher, owned, fleet) != 0) {
    fall_behind_by_error(publisher, owned);
  } else if (fleet->is_last) {
    owned->wanted = owned->put; // more is not to be had
    stand(publisher, owned, STANDING_LEVEL);
  }
  ask_when_due(publisher, owned);
}

// One that found no room when it was claimed: only its key is to go.
static struct owned *add_released(struct publisher *publisher, const struct vc_fleet *fleet)
{
  struct owned *owned = owned_add(publisher, fleet->slug);
  if (owned != NULL) {
    owned->wanted = owned->put = owned->done = fleet->position;
    owned->standing = STANDING_LEVEL;
  }
  return owned;
}

void owned_release(struct publisher *publisher, const struct vc_fleet *fleet)
{
  struct owned *owned = owned_find(publisher, fleet->slug);
  if (owned == NULL) {
    owned = add_released(publisher, fleet);
  }
  if (owned == NULL || fleet->position.epoch < owned->floor) {
    return; // it was claimed again
  }
  if (owned->epoch < fleet->position.epoch) {
    owned->epoch = fleet->position.epoch;
  }
  if (position_compare(&fleet->position, &owned->wanted) > 0) {
    owned->wanted = owned->last_final = fleet->position;
    if (owned->standing == STANDING_LEVEL) {
      fall_behind(publisher, owned, 0); // its last was lost on the way
    }
  }
  owned->is_released = 1;
  owned->has_said_last = fleet->is_last;
  owned->released_ns = now_of(publisher);
  if (owned->is_fenced && !owned->is_taken) { // the ledger was just done when it was told
    owned->is_fenced = owned->must_tell_fenced = 0;
    look_at_rest(publisher, owned);
  }
  ask_when_due(publisher, owned);
  let_go_when_due(publisher, owned);
}

void owned_orphaned(struct publisher *publisher, const struct vc_message *message)
{
  struct owned *owned = owned_find(publisher, message->slug);
  if (owned != NULL && owned->is_given_up && owned->wanted.epoch == message->epoch) {
    owned->is_given_up = owned->must_tell_given_up = 0;
    owned->wanted = owned->done = message_position(message);
    settle(publisher, owned);
  }
}

int owned_forget(struct publisher *publisher, const char *slug)
{
  struct owned *owned = owned_find(publisher, slug);
  if (owned == NULL) {
    return 0;
  }
  if (!owned->is_released) {
    return 1;
  }
  owned->wanted = owned->done;
  stand(publisher, owned, STANDING_LEVEL);
  return 0;
}

// --- the connection, the time

void owned_link_up(struct publisher *publisher)
{
  struct owned *owned;
  DL_FOREACH(publisher->order, owned)
  {
    owned->renew_ns = now_of(publisher);
    owned->retry_ns = owned->retry_ms = 0;
  }
}

void owned_link_down(struct publisher *publisher)
{
  struct owned *owned;
  DL_FOREACH(publisher->order, owned)
  {
    stand(publisher, owned, STANDING_UNKNOWN);
  }
}

static void tell_alone(struct publisher *publisher, size_t n_alone)
{
  if (n_alone == 0) {
    redis_trouble_clear(publisher->redis, TROUBLE_ALONE);
  } else if (n_alone != publisher->n_alone) {
    redis_trouble(publisher->redis, TROUBLE_ALONE,
                  "streams of %zu sessions end with what no node has numbered", n_alone);
  }
  publisher->n_alone = n_alone;
}

void owned_tick(struct publisher *publisher)
{
  struct owned *owned, *next;
  int64_t n_behind = 0;
  size_t n_alone = 0;
  renew_due(publisher);
  DL_FOREACH_SAFE(publisher->order, owned, next)
  {
    tell(publisher, owned);
    ask_when_due(publisher, owned);
    n_behind += owned->standing != STANDING_LEVEL && !is_complete(owned) && !owned->is_fenced;
    n_alone += owned->is_alone && !owned->is_released;
    let_go_when_due(publisher, owned);
  }
  vc_metric_set(vc_worker_slots(publisher->worker), OWNED, HASH_COUNT(publisher->slugs));
  vc_metric_set(vc_worker_slots(publisher->worker), BEHIND, n_behind);
  tell_alone(publisher, n_alone);
}

int owned_drain(struct publisher *publisher)
{
  struct owned *owned, *next;
  int is_drained = 1;
  DL_FOREACH_SAFE(publisher->order, owned, next)
  {
    if (!owned->is_released) {
      owned->is_released = 1;
      owned->released_ns = now_of(publisher);
    }
    is_drained &= let_go_when_due(publisher, owned) || is_free_to_go(owned);
  }
  return is_drained;
}
