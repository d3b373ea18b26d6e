#include "hand_stage.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <utlist.h>

#define DRAIN_TURNS_MAX 1000
#define EVENTS_PER_TURN 64

int hand_is_turning;
uint64_t hand_n_events;
void (*hand_before_turn)(void *context);
void *hand_context;

struct entry {
  struct entry *prev, *next; // in vc_worker.inbox
  struct vc_item *item;
};

struct slot {
  struct slot *prev, *next; // in vc_worker.watched
  uint32_t number;          // never used again
  struct vc_watch *watch;
};

struct vc_worker {
  struct vc_stage *stage;
  uint32_t index;
  void *state;
  struct vc_slots *slots;
  struct entry *inbox;
  size_t n_items, capacity;
  uint64_t next_tick_ns, wake_at_ns;
  int epoll_fd; // -1: nothing was ever watched
  struct slot *watched;
  uint32_t next_slot;
};

struct vc_putter {
  struct vc_putter *next; // in vc_stage.putters
  struct vc_stage *stage;
};

struct vc_stage {
  struct vc_stage_settings settings;
  struct vc_putter *putters;
  int is_running;
  void *config;
  struct vc_worker workers[];
};

int vc_stage_create(struct vc_stage **stage_out, const struct vc_stage_settings *settings,
                    struct vc_error *error)
{
  (void)error;
  struct vc_stage *stage =
      calloc(1, sizeof *stage + settings->n_workers * sizeof stage->workers[0]);
  assert(stage != NULL);
  stage->settings = *settings;
  stage->config = malloc(settings->config_size + 1);
  assert(stage->config != NULL);
  if (settings->config_size > 0) {
    memcpy(stage->config, settings->config, settings->config_size);
  }
  for (uint32_t i = 0; i < settings->n_workers; i++) {
    struct vc_worker *worker = &stage->workers[i];
    worker->stage = stage;
    worker->index = i;
    worker->capacity = HAND_UNBOUNDED;
    worker->epoll_fd = -1;
    if (settings->metrics != NULL && settings->metric_rows != NULL) {
      worker->slots = vc_metrics_slots_create(settings->metrics, settings->metric_rows);
    }
  }
  *stage_out = stage;
  return 0;
}

int vc_stage_start(struct vc_stage *stage, struct vc_error *error)
{
  for (uint32_t i = 0; i < stage->settings.n_workers; i++) {
    if (stage->settings.ops->enter(&stage->workers[i], stage->config, error) != 0) {
      return -1;
    }
  }
  stage->is_running = 1;
  return 0;
}

static struct slot *find_slot(const struct vc_worker *worker, uint32_t number)
{
  struct slot *slot;
  DL_SEARCH_SCALAR(worker->watched, slot, number, number);
  return slot;
}

static void serve_events(struct vc_worker *worker)
{
  struct epoll_event events[EVENTS_PER_TURN];
  int n = worker->epoll_fd >= 0 ? epoll_wait(worker->epoll_fd, events, EVENTS_PER_TURN, 0) : 0;
  for (int i = 0; i < n; i++) {
    struct slot *slot = find_slot(worker, events[i].data.u32);
    if (slot != NULL) {
      hand_n_events++;
      slot->watch->ready(worker, slot->watch, events[i].events);
    }
  }
}

static void turn(struct vc_worker *worker)
{
  const struct vc_stage_settings *settings = &worker->stage->settings;
  struct vc_item *item;
  while ((item = hand_take(worker->stage, worker->index)) != NULL) {
    settings->ops->handle(worker, item);
  }
  int is_wake_due =
      worker->wake_at_ns != 0 && vc_clock_now_ns(settings->clock) >= worker->wake_at_ns;
  if (is_wake_due) {
    worker->wake_at_ns = 0; // what is asked for from here on is another turn
  }
  serve_events(worker);
  if (settings->ops->turned != NULL) {
    settings->ops->turned(worker);
  }
  uint64_t now = vc_clock_now_ns(settings->clock);
  int is_tick_due = settings->tick_ms > 0 && now >= worker->next_tick_ns;
  if (settings->ops->tick != NULL && (is_tick_due || is_wake_due)) {
    worker->next_tick_ns = now + settings->tick_ms * VC_NS_PER_MS;
    settings->ops->tick(worker);
  }
}

void hand_turn(struct vc_stage *stage)
{
  hand_is_turning = 1;
  for (uint32_t i = 0; i < stage->settings.n_workers; i++) {
    turn(&stage->workers[i]);
  }
  hand_is_turning = 0;
}

void hand_ready(struct vc_stage *stage, int fd, uint32_t events)
{
  for (uint32_t i = 0; i < stage->settings.n_workers; i++) {
    struct slot *slot, *next;
    DL_FOREACH_SAFE(stage->workers[i].watched, slot, next)
    {
      if (slot->watch->fd == fd) {
        slot->watch->ready(&stage->workers[i], slot->watch, events);
        return;
      }
    }
  }
}

struct vc_item *hand_take(struct vc_stage *stage, uint32_t worker_index)
{
  struct vc_worker *worker = &stage->workers[worker_index];
  struct entry *entry = worker->inbox;
  if (entry == NULL) {
    return NULL;
  }
  struct vc_item *item = entry->item;
  DL_DELETE(worker->inbox, entry);
  worker->n_items--;
  free(entry);
  return item;
}

size_t hand_count(struct vc_stage *stage, uint32_t worker)
{
  return stage->workers[worker].n_items;
}

uint64_t hand_wake_at_ns(struct vc_stage *stage, uint32_t worker)
{
  return stage->workers[worker].wake_at_ns;
}

void hand_set_capacity(struct vc_stage *stage, uint32_t worker, size_t capacity)
{
  stage->workers[worker].capacity = capacity;
}

static int drain(struct vc_worker *worker)
{
  const struct vc_stage_ops *ops = worker->stage->settings.ops;
  turn(worker);
  if (ops->drain != NULL) {
    ops->drain(worker);
  }
  for (int i = 0; ops->is_drained != NULL && !ops->is_drained(worker); i++) {
    if (i == DRAIN_TURNS_MAX) {
      return 1;
    }
    if (hand_before_turn != NULL) {
      hand_before_turn(hand_context);
    }
    turn(worker);
  }
  return 0;
}

int vc_stage_stop(struct vc_stage *stage, uint32_t timeout_ms)
{
  (void)timeout_ms;
  int is_left = 0;
  for (uint32_t i = 0; stage->is_running && i < stage->settings.n_workers; i++) {
    is_left |= drain(&stage->workers[i]);
    stage->settings.ops->leave(&stage->workers[i]);
  }
  stage->is_running = 0;
  return is_left;
}

void vc_stage_destroy(struct vc_stage **stage)
{
  if (*stage == NULL) {
    return;
  }
  for (uint32_t i = 0; i < (*stage)->settings.n_workers; i++) {
    struct vc_item *item;
    while ((item = hand_take(*stage, i)) != NULL) {
      vc_item_destroy(item);
    }
    assert((*stage)->workers[i].watched == NULL);
    if ((*stage)->workers[i].epoll_fd >= 0) {
      close((*stage)->workers[i].epoll_fd);
    }
  }
  for (struct vc_putter *putter = (*stage)->putters; putter != NULL;) {
    struct vc_putter *next = putter->next;
    free(putter);
    putter = next;
  }
  if ((*stage)->settings.ops->destroy_config != NULL) {
    (*stage)->settings.ops->destroy_config((*stage)->config);
  }
  free((*stage)->config);
  free(*stage);
  *stage = NULL;
}

const void *vc_stage_config(const struct vc_stage *stage)
{
  return stage->config;
}

uint32_t vc_stage_n_workers(const struct vc_stage *stage)
{
  return stage->settings.n_workers;
}

struct vc_putter *vc_putter_create(struct vc_stage *stage)
{
  struct vc_putter *putter = calloc(1, sizeof *putter);
  assert(putter != NULL);
  putter->stage = stage;
  putter->next = stage->putters;
  stage->putters = putter;
  return putter;
}

int vc_putter_put(struct vc_putter *putter, uint32_t worker_index, struct vc_item *item)
{
  assert(worker_index < putter->stage->settings.n_workers);
  struct vc_worker *worker = &putter->stage->workers[worker_index];
  if (worker->n_items >= worker->capacity) {
    return 1;
  }
  struct entry *entry = calloc(1, sizeof *entry);
  if (entry == NULL) {
    return 1;
  }
  entry->item = item;
  DL_APPEND(worker->inbox, entry);
  worker->n_items++;
  return 0;
}

struct vc_shared_putter *vc_shared_putter_create(struct vc_stage *stage)
{
  return (struct vc_shared_putter *)vc_putter_create(stage);
}

void vc_shared_putter_destroy(struct vc_shared_putter **putter)
{
  *putter = NULL; // the stage's
}

int vc_shared_putter_put(struct vc_shared_putter *putter, uint32_t worker, struct vc_item *item)
{
  return vc_putter_put((struct vc_putter *)putter, worker, item);
}

void vc_worker_set_state(struct vc_worker *worker, void *state)
{
  worker->state = state;
}

void *vc_worker_state(const struct vc_worker *worker)
{
  return worker->state;
}

uint64_t vc_worker_now_ns(const struct vc_worker *worker)
{
  return vc_clock_now_ns(worker->stage->settings.clock);
}

struct vc_slots *vc_worker_slots(const struct vc_worker *worker)
{
  return worker->slots;
}

void vc_worker_wake_at(struct vc_worker *worker, uint64_t at_ns)
{
  if (worker->wake_at_ns == 0 || at_ns < worker->wake_at_ns) {
    worker->wake_at_ns = at_ns;
  }
}

uint32_t vc_worker_index(const struct vc_worker *worker)
{
  return worker->index;
}

const struct vc_clock *vc_worker_clock(const struct vc_worker *worker)
{
  return worker->stage->settings.clock;
}

int vc_worker_watch(struct vc_worker *worker, struct vc_watch *watch, uint32_t events)
{
  struct slot *slot = calloc(1, sizeof *slot);
  if (worker->epoll_fd < 0) {
    worker->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  }
  struct epoll_event event = {.events = events, .data.u32 = worker->next_slot};
  if (slot == NULL || epoll_ctl(worker->epoll_fd, EPOLL_CTL_ADD, watch->fd, &event) != 0) {
    free(slot);
    return -1;
  }
  slot->watch = watch;
  slot->number = watch->slot = worker->next_slot++;
  DL_APPEND(worker->watched, slot);
  return 0;
}

int vc_worker_rewatch(struct vc_worker *worker, struct vc_watch *watch, uint32_t events)
{
  struct epoll_event event = {.events = events, .data.u32 = watch->slot};
  return epoll_ctl(worker->epoll_fd, EPOLL_CTL_MOD, watch->fd, &event);
}

void vc_worker_unwatch(struct vc_worker *worker, struct vc_watch *watch)
{
  struct slot *slot = find_slot(worker, watch->slot);
  assert(slot != NULL && slot->watch == watch);
  epoll_ctl(worker->epoll_fd, EPOLL_CTL_DEL, watch->fd, NULL);
  DL_DELETE(worker->watched, slot);
  free(slot);
}

// --- what stands beside the stage under test

static int enter_nothing(struct vc_worker *worker, void *config, struct vc_error *error)
{
  return 0;
}

static void handle_nothing(struct vc_worker *worker, struct vc_item *item)
{
  vc_item_destroy(item);
}

static void leave_nothing(struct vc_worker *worker) {}

const struct vc_stage_ops hand_inbox = {
    .name = "hand", .enter = enter_nothing, .handle = handle_nothing, .leave = leave_nothing};

static uint64_t shown_ns(void *context)
{
  return *(const uint64_t *)context;
}

static int64_t shown_unix_us(void *context)
{
  return (int64_t)(*(const uint64_t *)context / 1000);
}

struct vc_clock hand_clock(uint64_t *now_ns)
{
  return (struct vc_clock){shown_ns, shown_unix_us, now_ns};
}
