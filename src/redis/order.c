#include "order.h"

#include <assert.h>
#include <stdlib.h>

#include <utlist.h>

#include <verbacast/base/clock.h>
#include <verbacast/flow/packet.h>

struct order_held {
  struct order_held *prev, *next; // in order.held
  struct vc_remote *remote;
  uint64_t since_ns;
};

static struct vc_position number_of(const struct vc_remote *remote)
{
  return (struct vc_position){.epoch = remote->message->epoch, .seq = remote->message->seq};
}

// <0, 0, >0: a comes before b, is the same, comes after.
static int compare(struct vc_position a, struct vc_position b)
{
  if (a.epoch != b.epoch) {
    return a.epoch < b.epoch ? -1 : 1;
  }
  return a.seq == b.seq ? 0 : a.seq < b.seq ? -1 : 1;
}

void order_init(struct order *order, const struct order_ops *ops, void *context,
                struct order_counts *counts, struct vc_position given, int is_over)
{
  *order = (struct order){.ops = ops,
                          .context = context,
                          .counts = counts,
                          .given = given,
                          .ending = is_over ? ORDER_GIVEN_UP : ORDER_GOES_ON,
                          .is_behind = 1};
}

static void let_go(struct order *order, struct order_held *held)
{
  DL_DELETE(order->held, held);
  order->n_held--;
  free(held);
}

static void drop(struct order *order, struct order_held *held)
{
  vc_item_destroy(&held->remote->item);
  let_go(order, held);
}

void order_fini(struct order *order)
{
  while (order->held != NULL) {
    drop(order, order->held);
  }
}

// --- giving

static void announce(struct order *order, int64_t epoch, uint64_t from, uint64_t to)
{
  order->ops->gap(order->context, epoch, from, to);
}

static int reaches_back(const struct order *order)
{
  return order->begins.epoch > 0 && compare(order->begins, order->given) <= 0;
}

static enum order_ending ending_of(const struct vc_remote *remote)
{
  if (remote->message->kind != VC_MESSAGE_END) {
    return ORDER_GOES_ON;
  }
  return vc_close_reason_is_owner_lost(remote->reason) ? ORDER_GIVEN_UP : ORDER_ENDED;
}

// Whether what may follow in the epoch that was given last is lost, now that another begins. One
// whose owner was given up ends in the stream, or the next one's owner says what that did not tell.
static int is_rest_lost(const struct order *order, int is_after_loss)
{
  switch (order->ending) {
  case ORDER_ENDED:
    return 0;
  case ORDER_GIVEN_UP:
    return is_after_loss;
  case ORDER_GOES_ON:
    break;
  }
  return is_after_loss || !reaches_back(order);
}

// The next number of those that are kept is this, and `prev_final` the one before it: what lies
// between is lost. So may be the rest of an epoch, where the stream begins after what was given of
// it: it was trimmed, or flushed; or where the next one's owner did not hear that it was all.
static void move_on(struct order *order, struct vc_position number, uint64_t prev_final,
                    int is_after_loss)
{
  const struct vc_position given = order->given;
  uint64_t from = given.epoch == number.epoch ? given.seq : 0;
  if (given.epoch > 0 && given.epoch < number.epoch && is_rest_lost(order, is_after_loss)) {
    announce(order, given.epoch, given.seq, 0);
  }
  if (prev_final > from) {
    announce(order, number.epoch, from, prev_final);
  }
  order->given = number;
  order->ending = ORDER_GOES_ON;
}

// Takes the message.
static void give(struct order *order, struct vc_remote *remote)
{
  const struct vc_message *message = remote->message;
  move_on(order, number_of(remote), message->prev_final, message->is_after_loss);
  order->ending = ending_of(remote);
  order->ops->give(order->context, remote);
}

static void drop_repeat(struct order *order, struct vc_remote *remote)
{
  int is_stale = remote->message->epoch < order->given.epoch;
  *(is_stale ? &order->counts->stale : &order->counts->repeats) += 1;
  vc_item_destroy(&remote->item);
}

static int is_repeat(const struct order *order, const struct vc_remote *remote)
{
  return order->given.epoch > 0 && compare(number_of(remote), order->given) <= 0;
}

// Nothing kept is missing between what was given and it, as its number tells.
static int follows(const struct order *order, const struct vc_remote *remote)
{
  const struct vc_message *message = remote->message;
  return message->epoch == order->given.epoch && message->prev_final <= order->given.seq;
}

// --- holding

// A complete read began when the message had come: whatever was written before it was given, the
// rest of an older epoch too.
static int is_covered(const struct order *order, const struct order_held *held)
{
  return order->looked_ns >= held->since_ns;
}

static int is_given_up(const struct order *order, const struct order_held *held)
{
  return order->looked_ns >= held->since_ns + ORDER_PATIENCE_MS * VC_NS_PER_MS;
}

static int may_go(const struct order *order, const struct order_held *held)
{
  int is_begin = held->remote->message->kind == VC_MESSAGE_HELLO;
  return follows(order, held->remote) || (is_begin && is_covered(order, held));
}

static void give_first(struct order *order)
{
  struct order_held *first = order->held;
  struct vc_remote *remote = first->remote;
  let_go(order, first);
  if (is_repeat(order, remote)) {
    drop_repeat(order, remote);
  } else {
    give(order, remote);
  }
}

static void give_held(struct order *order)
{
  while (order->held != NULL &&
         (is_repeat(order, order->held->remote) || may_go(order, order->held))) {
    give_first(order);
  }
}

// A read has ended: what it did not bring is not waited for any longer.
static void give_up_holes(struct order *order)
{
  give_held(order);
  while (order->held != NULL && is_given_up(order, order->held)) {
    give_first(order);
    give_held(order);
  }
}

// Returns: the last held that comes before the number, NULL: none does.
static struct order_held *find_before(const struct order *order, struct vc_position number)
{
  struct order_held *at = order->held != NULL ? order->held->prev : NULL; // the last
  while (at != NULL && compare(number_of(at->remote), number) > 0) {
    at = at != order->held ? at->prev : NULL;
  }
  return at;
}

static struct order_held *oldest_partial(const struct order *order)
{
  struct order_held *at;
  DL_FOREACH(order->held, at)
  {
    if (at->remote->message->kind == VC_MESSAGE_PARTIAL) {
      break;
    }
  }
  return at;
}

// Beyond the bound.
static void cut(struct order *order)
{
  struct order_held *partial = oldest_partial(order);
  order->counts->cut++;
  order->is_behind |= partial == NULL;
  drop(order, partial != NULL ? partial : order->held->prev);
}

static void insert(struct order *order, struct order_held *before, struct order_held *held)
{
  if (before == NULL) {
    DL_PREPEND(order->held, held);
  } else {
    DL_APPEND_ELEM(order->held, before, held);
  }
  if (++order->n_held > ORDER_HELD_MAX) {
    cut(order);
  }
}

// Takes the message.
static void hold(struct order *order, struct vc_remote *remote, uint64_t now_ns)
{
  struct order_held *before = find_before(order, number_of(remote));
  if (before != NULL && compare(number_of(before->remote), number_of(remote)) == 0) {
    order->counts->repeats++;
    vc_item_destroy(&remote->item);
    return;
  }
  struct order_held *held = calloc(1, sizeof *held);
  if (held == NULL) {
    order_miss(order);
    vc_item_destroy(&remote->item);
    return;
  }
  held->remote = remote;
  held->since_ns = now_ns;
  order->counts->held++;
  insert(order, before, held);
}

void order_live(struct order *order, struct vc_remote *remote, uint64_t now_ns)
{
  assert(remote->kind == VC_REMOTE_MESSAGE);
  if (is_repeat(order, remote)) {
    drop_repeat(order, remote);
  } else if (follows(order, remote)) {
    give(order, remote);
    give_held(order);
  } else {
    hold(order, remote, now_ns);
  }
}

void order_miss(struct order *order)
{
  order->is_behind = 1;
}

// --- reading

int order_wants_read(const struct order *order, uint64_t now_ns)
{
  return !order->is_reading && (order->is_behind || order->held != NULL) &&
         now_ns >= order->retry_ns;
}

uint64_t order_wakes_ns(const struct order *order)
{
  return !order->is_reading && (order->is_behind || order->held != NULL) ? order->retry_ns
                                                                         : ORDER_NEVER;
}

void order_begin_read(struct order *order, uint64_t now_ns)
{
  assert(!order->is_reading);
  order->is_reading = 1;
  order->is_behind = 0;
  order->began_ns = now_ns;
}

void order_begins_with(struct order *order, struct vc_position first)
{
  order->begins = first;
}

void order_entry(struct order *order, struct vc_remote *remote)
{
  assert(order->is_reading);
  if (is_repeat(order, remote)) {
    drop_repeat(order, remote);
  } else {
    give(order, remote);
    give_held(order);
  }
}

void order_pass(struct order *order, struct vc_position number, int is_lost)
{
  if (order->given.epoch > 0 && compare(number, order->given) <= 0) {
    return;
  }
  move_on(order, number, is_lost ? number.seq : 0, 0);
  give_held(order);
}

void order_end_read(struct order *order, uint64_t now_ns)
{
  assert(order->is_reading);
  order->is_reading = 0;
  order->looked_ns = order->began_ns;
  give_up_holes(order);
  // What came while it was read asks for a read at once, what it did not find for one later.
  int is_new = order->held != NULL && !is_covered(order, order->held);
  order->retry_ns = is_new || order->is_behind ? now_ns : now_ns + ORDER_RETRY_MS * VC_NS_PER_MS;
}

void order_fail_read(struct order *order, uint64_t now_ns)
{
  order->is_reading = 0;
  order->is_behind = 1;
  order->retry_ns = now_ns + ORDER_RETRY_MS * VC_NS_PER_MS;
}

int order_may_lack_rest(const struct order *order)
{
  return order->given.epoch > 0 && order->ending == ORDER_GOES_ON && !reaches_back(order);
}

void order_again(struct order *order, uint64_t now_ns)
{
  struct order_held *held;
  order->is_reading = 0;
  order->is_behind = 1;
  order->retry_ns = now_ns;
  DL_FOREACH(order->held, held)
  {
    held->since_ns = now_ns;
  }
}

void order_forget(struct order *order, int64_t epoch)
{
  if (order->given.epoch <= epoch) {
    order->given = (struct vc_position){.epoch = epoch, .seq = UINT64_MAX};
    order->ending = ORDER_ENDED; // nothing of it is to come
  }
  give_held(order); // those that it makes repeats
}
