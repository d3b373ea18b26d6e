#include <verbacast/flow/waiting.h>

#include <utlist.h>

static void take_out(struct vc_waiting *waiting, struct vc_item *item)
{
  DL_DELETE(waiting->items, item);
  waiting->n--;
}

static void ask_for_tick(struct vc_worker *worker)
{
  vc_worker_wake_at(worker, vc_worker_now_ns(worker) + VC_WAITING_RETRY_MS * VC_NS_PER_MS);
}

static void drop_oldest(struct vc_waiting *waiting, const struct vc_waiting_rules *rules,
                        struct vc_worker *worker, void *owner)
{
  struct vc_item *item = rules->find_droppable(waiting);
  if (item != NULL) {
    rules->dropping(worker, owner, item);
    take_out(waiting, item);
    vc_item_destroy(item);
  }
}

void vc_waiting_give(struct vc_waiting *waiting, const struct vc_waiting_rules *rules,
                     struct vc_worker *worker, void *owner, struct vc_item *item)
{
  if (waiting->n == 0 && rules->put(worker, item) == 0) {
    return;
  }
  DL_APPEND(waiting->items, item);
  waiting->n++;
  if (waiting->n > rules->max) {
    drop_oldest(waiting, rules, worker, owner);
  }
  ask_for_tick(worker);
}

int vc_waiting_flush(struct vc_waiting *waiting, const struct vc_waiting_rules *rules,
                     struct vc_worker *worker)
{
  while (waiting->n > 0) {
    struct vc_item *first = waiting->items;
    take_out(waiting, first); // before it is another thread's
    if (rules->put(worker, first) != 0) {
      DL_PREPEND(waiting->items, first);
      waiting->n++;
      ask_for_tick(worker);
      return 1;
    }
  }
  return 0;
}

void vc_waiting_fini(struct vc_waiting *waiting)
{
  struct vc_item *item, *next;
  DL_FOREACH_SAFE(waiting->items, item, next)
  {
    take_out(waiting, item);
    vc_item_destroy(item);
  }
}
