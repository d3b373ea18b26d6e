// Why one lane per putter, and why the flag: see docs/architecture.md, "Threads and queues".
#include <verbacast/flow/stage.h>

#include <verbacast/base/lane.h>
#include <verbacast/base/log.h>
#include <verbacast/base/thread.h>

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define EVENTS_PER_TURN 256
#define SLEEP_MAX_MS 1000 // a worker shows itself alive at least so often
#define STACK_BYTES (1024 * 1024)
#define INBOX_MARK UINT64_MAX // what epoll says for the inbox's eventfd

enum { ITEMS, WAKEUPS, LANE_FULL };
const struct vc_metric vc_stage_metrics[] = {
    [ITEMS] = {"stage.items_total", VC_METRIC_COUNTER, "items", "Items that workers took."},
    [WAKEUPS] = {"stage.wakeups_total", VC_METRIC_COUNTER, "wakeups",
                 "Sleeping workers that a put woke."},
    [LANE_FULL] = {"stage.lane_full_total", VC_METRIC_COUNTER, "puts",
                   "Puts that found their lane full; what then happens is the putter's policy."},
    VC_METRIC_ROWS_END,
};

struct inbox {
  /* set before start, then read-only */
  int event_fd;
  /* any thread, atomic */
  _Atomic size_t n_lanes; // release: a lane is visible before it is counted
  _Atomic int is_asleep;  // the taker is about to wait; pairs with the fences in put and sleep
  struct vc_lane *lanes[VC_STAGE_LANES_MAX]; // [0, n_lanes) never change
};

struct watch_slot {
  struct vc_watch *watch; // NULL: free
  uint32_t generation;    // grows when the slot is let go: events of before are not delivered
  uint32_t next_free;
};

struct vc_worker {
  /* set before start, then read-only */
  struct vc_stage *stage;
  uint32_t index;
  struct vc_slots *slots;
  struct vc_slots *stage_slots;
  int epoll_fd;
  struct inbox inbox;
  pthread_t thread;
  /* the worker's thread only */
  void *state;
  uint64_t now_ns;
  uint64_t next_tick_ns;
  uint64_t wake_at_ns; // 0: none
  int is_draining;     // it knows of the stop and may sleep again
  size_t next_lane;
  struct watch_slot *watches;
  uint32_t n_watches, first_free;
  /* any thread, atomic */
  _Atomic uint64_t turn_ns; // when its last turn began
};

struct vc_stage {
  /* set before start, then read-only */
  struct vc_stage_settings settings;
  void *config; // a copy of the room's
  char name[32];
  uint32_t n_workers;
  /* any thread, atomic */
  _Atomic int is_stopping; // release: all puts before vc_stage_stop are visible
  _Atomic uint64_t stop_at_ns;
  _Atomic int n_undrained;
  /* guarded by the mutex */
  pthread_mutex_t mutex;
  pthread_cond_t entered;
  uint32_t n_entered;
  int has_failed;
  int is_running;
  struct vc_error enter_error;
  struct vc_putter *putters; // all that were made
  struct vc_worker *workers[];
};

struct vc_putter {
  struct vc_stage *stage;
  struct vc_putter *next;  // in vc_stage.putters
  struct vc_lane *lanes[]; // one for each worker
};

struct vc_shared_putter {
  pthread_mutex_t mutex; // makes the threads that share it one putter
  struct vc_putter *putter;
};

static _Thread_local const struct vc_worker *this_worker;

// --- inbox

static void inbox_wake(struct inbox *inbox)
{
  uint64_t one = 1;
  ssize_t n = write(inbox->event_fd, &one, sizeof one);
  assert(n == sizeof one || errno == EAGAIN); // EAGAIN: it is awake many times over
  (void)n;
}

static int inbox_is_empty(const struct inbox *inbox)
{
  size_t n = atomic_load_explicit(&inbox->n_lanes, memory_order_acquire);
  for (size_t i = 0; i < n; i++) {
    if (vc_lane_count(inbox->lanes[i]) > 0) {
      return 0;
    }
  }
  return 1;
}

// --- a worker's turn

static uint32_t take_batch(struct vc_worker *worker)
{
  struct inbox *inbox = &worker->inbox;
  size_t n_lanes = atomic_load_explicit(&inbox->n_lanes, memory_order_acquire);
  uint32_t taken = 0;
  size_t empty_in_a_row = 0;
  while (taken < worker->stage->settings.batch && empty_in_a_row < n_lanes) {
    if (worker->next_lane >= n_lanes) {
      worker->next_lane = 0;
    }
    struct vc_item *item = vc_lane_take(inbox->lanes[worker->next_lane++]);
    if (item == NULL) {
      empty_in_a_row++;
      continue;
    }
    empty_in_a_row = 0;
    taken++;
    worker->stage->settings.ops->handle(worker, item);
  }
  if (taken > 0) {
    vc_metric_add(worker->stage_slots, ITEMS, taken);
  }
  return taken;
}

static void read_clock(struct vc_worker *worker)
{
  worker->now_ns = vc_clock_now_ns(worker->stage->settings.clock);
}

static int sleep_ms(const struct vc_worker *worker)
{
  uint64_t until = worker->now_ns + SLEEP_MAX_MS * VC_NS_PER_MS;
  const struct vc_stage_settings *settings = &worker->stage->settings;
  if (settings->ops->tick != NULL && settings->tick_ms > 0 && worker->next_tick_ns < until) {
    until = worker->next_tick_ns;
  }
  if (worker->wake_at_ns != 0 && worker->wake_at_ns < until) {
    until = worker->wake_at_ns;
  }
  return until <= worker->now_ns
             ? 0
             : (int)((until - worker->now_ns + VC_NS_PER_MS - 1) / VC_NS_PER_MS);
}

// Waits for descriptors, for the inbox, or for the time; not at all when there is something to do.
static int wait_events(struct vc_worker *worker, struct epoll_event *events, int may_sleep)
{
  struct inbox *inbox = &worker->inbox;
  int timeout = may_sleep && inbox_is_empty(inbox) ? sleep_ms(worker) : 0;
  if (timeout > 0) {
    atomic_store_explicit(&inbox->is_asleep, 1, memory_order_relaxed);
    // Pairs with the fence in vc_putter_put: either we see the item or the putter sees the flag.
    atomic_thread_fence(memory_order_seq_cst);
    if (!inbox_is_empty(inbox) ||
        (!worker->is_draining &&
         atomic_load_explicit(&worker->stage->is_stopping, memory_order_relaxed))) {
      timeout = 0;
    }
  }
  int n = epoll_wait(worker->epoll_fd, events, EVENTS_PER_TURN, timeout);
  atomic_store_explicit(&inbox->is_asleep, 0, memory_order_relaxed);
  return n;
}

static void serve_events(struct vc_worker *worker, const struct epoll_event *events, int n)
{
  for (int i = 0; i < n; i++) {
    uint64_t mark = events[i].data.u64;
    if (mark == INBOX_MARK) {
      continue; // every write to it is an edge, also of one that is never read
    }
    uint32_t slot = (uint32_t)mark;
    const struct watch_slot *found = &worker->watches[slot];
    if (found->watch != NULL && found->generation == (uint32_t)(mark >> 32)) {
      read_clock(worker);
      found->watch->ready(worker, found->watch, events[i].events);
    }
  }
}

// Before events and `turned`: what they ask for, be it due at once, is another turn.
static void use_wake_up(struct vc_worker *worker)
{
  if (worker->wake_at_ns != 0 && worker->wake_at_ns <= worker->now_ns) {
    worker->wake_at_ns = 0;
    worker->next_tick_ns = worker->now_ns;
  }
}

static void tick_when_due(struct vc_worker *worker)
{
  const struct vc_stage_settings *settings = &worker->stage->settings;
  if (settings->ops->tick == NULL || worker->now_ns < worker->next_tick_ns ||
      (settings->tick_ms == 0 && worker->next_tick_ns == 0)) {
    return;
  }
  worker->next_tick_ns =
      settings->tick_ms == 0 ? UINT64_MAX : worker->now_ns + settings->tick_ms * VC_NS_PER_MS;
  settings->ops->tick(worker);
}

// What a sleeper was woken for is taken at once, before events and the tick.
// Returns: how many items were taken.
static uint32_t turn(struct vc_worker *worker, int may_sleep)
{
  struct epoll_event events[EVENTS_PER_TURN];
  const struct vc_stage_ops *ops = worker->stage->settings.ops;
  read_clock(worker);
  atomic_store_explicit(&worker->turn_ns, worker->now_ns, memory_order_relaxed);
  int n = wait_events(worker, events, may_sleep);
  read_clock(worker);
  atomic_store_explicit(&worker->turn_ns, worker->now_ns, memory_order_relaxed);
  uint32_t taken = take_batch(worker);
  use_wake_up(worker);
  serve_events(worker, events, n);
  if (ops->turned != NULL) {
    ops->turned(worker);
  }
  read_clock(worker);
  tick_when_due(worker);
  return taken;
}

// --- a worker's life

static void report_entered(struct vc_stage *stage, int status, const struct vc_error *error)
{
  pthread_mutex_lock(&stage->mutex);
  stage->n_entered++;
  if (status < 0 && !stage->has_failed) {
    stage->has_failed = 1;
    stage->enter_error = *error;
  }
  pthread_cond_signal(&stage->entered);
  pthread_mutex_unlock(&stage->mutex);
}

static void drain(struct vc_worker *worker)
{
  struct vc_stage *stage = worker->stage;
  const struct vc_stage_ops *ops = stage->settings.ops;
  while (turn(worker, 0) > 0 || !inbox_is_empty(&worker->inbox)) {
  }
  if (ops->drain != NULL) {
    ops->drain(worker);
  }
  worker->is_draining = 1;
  uint64_t stop_at = atomic_load_explicit(&stage->stop_at_ns, memory_order_relaxed);
  int is_drained = 0;
  while (ops->is_drained != NULL && !(is_drained = ops->is_drained(worker))) {
    if (vc_clock_now_ns(&vc_clock_system) >= stop_at) {
      break;
    }
    vc_worker_wake_at(worker, vc_clock_now_ns(stage->settings.clock) + 5 * VC_NS_PER_MS);
    turn(worker, 1);
  }
  if (ops->is_drained == NULL || is_drained) {
    atomic_fetch_sub_explicit(&stage->n_undrained, 1, memory_order_relaxed);
  }
}

static void *run_worker(void *context)
{
  struct vc_worker *worker = context;
  struct vc_stage *stage = worker->stage;
  const struct vc_stage_ops *ops = stage->settings.ops;
  struct vc_error error = {.text = ""};
  this_worker = worker;
  read_clock(worker);
  atomic_store_explicit(&worker->turn_ns, worker->now_ns, memory_order_relaxed);
  int status = ops->enter(worker, stage->config, &error);
  report_entered(stage, status, &error);
  if (status >= 0) {
    while (!atomic_load_explicit(&stage->is_stopping, memory_order_acquire)) {
      turn(worker, 1);
    }
    drain(worker);
    ops->leave(worker);
  }
  atomic_store_explicit(&worker->turn_ns, 0, memory_order_relaxed); // gone is not stuck
  this_worker = NULL;
  return NULL;
}

// --- making and ending a stage

static void worker_destroy(struct vc_worker *worker)
{
  if (worker == NULL) {
    return;
  }
  size_t n = atomic_load_explicit(&worker->inbox.n_lanes, memory_order_relaxed);
  for (size_t i = 0; i < n; i++) {
    struct vc_item *item;
    while ((item = vc_lane_take(worker->inbox.lanes[i])) != NULL) {
      vc_item_destroy(item);
    }
    vc_lane_destroy(&worker->inbox.lanes[i]);
  }
  if (worker->inbox.event_fd >= 0) {
    close(worker->inbox.event_fd);
  }
  if (worker->epoll_fd >= 0) {
    close(worker->epoll_fd);
  }
  free(worker->watches);
  free(worker);
}

static int make_slots(struct vc_worker *worker, const struct vc_stage_settings *settings)
{
  if (settings->metrics == NULL) {
    return 0;
  }
  worker->stage_slots = vc_metrics_slots_create(settings->metrics, vc_stage_metrics);
  if (settings->metric_rows != NULL) {
    worker->slots = vc_metrics_slots_create(settings->metrics, settings->metric_rows);
  }
  return worker->stage_slots == NULL || (settings->metric_rows != NULL && worker->slots == NULL);
}

static struct vc_worker *worker_create(struct vc_stage *stage, uint32_t index)
{
  struct vc_worker *worker = calloc(1, sizeof *worker);
  if (worker == NULL) {
    return NULL;
  }
  worker->stage = stage;
  worker->index = index;
  worker->first_free = UINT32_MAX;
  worker->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  worker->inbox.event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.u64 = INBOX_MARK};
  if (worker->epoll_fd < 0 || worker->inbox.event_fd < 0 ||
      epoll_ctl(worker->epoll_fd, EPOLL_CTL_ADD, worker->inbox.event_fd, &event) != 0 ||
      make_slots(worker, &stage->settings) != 0) {
    worker_destroy(worker);
    return NULL;
  }
  return worker;
}

static const struct vc_stage_ops no_ops;

int vc_stage_create(struct vc_stage **stage_out, const struct vc_stage_settings *settings,
                    struct vc_error *error)
{
  assert(settings->n_workers >= 1);
  struct vc_stage *stage =
      calloc(1, sizeof *stage + settings->n_workers * sizeof stage->workers[0]);
  if (stage == NULL) {
    return vc_error_set(error, "%s: no memory", settings->ops->name);
  }
  stage->settings = *settings;
  stage->settings.batch = settings->batch != 0 ? settings->batch : VC_STAGE_BATCH;
  stage->config = calloc(1, settings->config_size + 1);
  if (stage->config == NULL) {
    free(stage);
    return vc_error_set(error, "%s: no memory", settings->ops->name);
  }
  if (settings->config_size > 0) {
    memcpy(stage->config, settings->config, settings->config_size);
  }
  snprintf(stage->name, sizeof stage->name, "%s", settings->ops->name);
  pthread_mutex_init(&stage->mutex, NULL);
  pthread_cond_init(&stage->entered, NULL);
  for (; stage->n_workers < settings->n_workers; stage->n_workers++) {
    stage->workers[stage->n_workers] = worker_create(stage, stage->n_workers);
    if (stage->workers[stage->n_workers] == NULL) {
      vc_error_set(error, "%s: no memory or descriptors for worker %u of %u", stage->name,
                   stage->n_workers + 1, settings->n_workers);
      stage->settings.ops = &no_ops; // the config stays the caller's
      vc_stage_destroy(&stage);
      return -1;
    }
  }
  *stage_out = stage;
  return 0;
}

static int start_thread(struct vc_worker *worker)
{
  char name[16];
  snprintf(name, sizeof name, "vc-%.8s-%u", worker->stage->name, worker->index % 100);
  return vc_thread_start(&worker->thread, name, STACK_BYTES, run_worker, worker);
}

static void join_workers(struct vc_stage *stage, uint32_t n)
{
  for (uint32_t i = 0; i < n; i++) {
    pthread_join(stage->workers[i]->thread, NULL);
  }
}

int vc_stage_start(struct vc_stage *stage, struct vc_error *error)
{
  uint32_t n = 0;
  int status = 0;
  atomic_store_explicit(&stage->n_undrained, (int)stage->n_workers, memory_order_relaxed);
  for (; n < stage->n_workers && (status = start_thread(stage->workers[n])) == 0; n++) {
  }
  pthread_mutex_lock(&stage->mutex);
  while (stage->n_entered < n) {
    pthread_cond_wait(&stage->entered, &stage->mutex);
  }
  int has_failed = stage->has_failed;
  pthread_mutex_unlock(&stage->mutex);
  if (status == 0 && !has_failed) {
    stage->is_running = 1;
    return 0;
  }
  atomic_store_explicit(&stage->is_stopping, 1, memory_order_release);
  vc_stage_wake(stage);
  join_workers(stage, n);
  return has_failed ? vc_error_set(error, "%s: %s", stage->name, stage->enter_error.text)
                    : vc_error_set(error, "%s: no thread for worker %u: %s", stage->name, n + 1,
                                   strerror(status));
}

int vc_stage_stop(struct vc_stage *stage, uint32_t timeout_ms)
{
  if (!stage->is_running) {
    return 0;
  }
  stage->is_running = 0;
  atomic_store_explicit(&stage->stop_at_ns,
                        vc_clock_now_ns(&vc_clock_system) + timeout_ms * VC_NS_PER_MS,
                        memory_order_relaxed);
  atomic_store_explicit(&stage->is_stopping, 1, memory_order_release);
  vc_stage_wake(stage);
  join_workers(stage, stage->n_workers);
  return atomic_load_explicit(&stage->n_undrained, memory_order_relaxed) > 0;
}

void vc_stage_destroy(struct vc_stage **stage)
{
  if (*stage == NULL) {
    return;
  }
  assert(!(*stage)->is_running);
  for (uint32_t i = 0; i < (*stage)->n_workers; i++) {
    worker_destroy((*stage)->workers[i]);
  }
  for (struct vc_putter *putter = (*stage)->putters; putter != NULL;) {
    struct vc_putter *next = putter->next;
    free(putter);
    putter = next;
  }
  pthread_mutex_destroy(&(*stage)->mutex);
  pthread_cond_destroy(&(*stage)->entered);
  if ((*stage)->settings.ops->destroy_config != NULL) {
    (*stage)->settings.ops->destroy_config((*stage)->config);
  }
  free((*stage)->config);
  free(*stage);
  *stage = NULL;
}

uint32_t vc_stage_n_workers(const struct vc_stage *stage)
{
  return stage->n_workers;
}

const char *vc_stage_name(const struct vc_stage *stage)
{
  return stage->name;
}

const void *vc_stage_config(const struct vc_stage *stage)
{
  return stage->config;
}

void vc_stage_wake(struct vc_stage *stage)
{
  for (uint32_t i = 0; i < stage->n_workers; i++) {
    inbox_wake(&stage->workers[i]->inbox);
  }
}

int vc_stage_stuck_worker(const struct vc_stage *stage, uint32_t silent_ms)
{
  uint64_t now = vc_clock_now_ns(stage->settings.clock);
  for (uint32_t i = 0; i < stage->n_workers; i++) {
    uint64_t turn_ns = atomic_load_explicit(&stage->workers[i]->turn_ns, memory_order_relaxed);
    if (turn_ns != 0 && now > turn_ns && now - turn_ns > silent_ms * VC_NS_PER_MS) {
      return (int)i;
    }
  }
  return -1;
}

// --- putters

struct vc_putter *vc_putter_create(struct vc_stage *stage)
{
  struct vc_putter *putter = calloc(1, sizeof *putter + stage->n_workers * sizeof putter->lanes[0]);
  if (putter == NULL) {
    return NULL;
  }
  putter->stage = stage;
  pthread_mutex_lock(&stage->mutex);
  size_t at = atomic_load_explicit(&stage->workers[0]->inbox.n_lanes, memory_order_relaxed);
  uint32_t n = 0;
  for (; at < VC_STAGE_LANES_MAX && n < stage->n_workers; n++) {
    putter->lanes[n] = vc_lane_create(stage->settings.lane_capacity);
    if (putter->lanes[n] == NULL) {
      break;
    }
  }
  if (n < stage->n_workers) {
    while (n > 0) {
      vc_lane_destroy(&putter->lanes[--n]);
    }
    pthread_mutex_unlock(&stage->mutex);
    free(putter);
    return NULL;
  }
  for (uint32_t i = 0; i < n; i++) {
    struct inbox *inbox = &stage->workers[i]->inbox;
    inbox->lanes[at] = putter->lanes[i];
    // Release: pairs with the acquire of the taker.
    atomic_store_explicit(&inbox->n_lanes, at + 1, memory_order_release);
  }
  putter->next = stage->putters;
  stage->putters = putter;
  pthread_mutex_unlock(&stage->mutex);
  return putter;
}

int vc_putter_put(struct vc_putter *putter, uint32_t worker_index, struct vc_item *item)
{
  assert(worker_index < putter->stage->n_workers);
  struct vc_worker *worker = putter->stage->workers[worker_index];
  if (vc_lane_put(putter->lanes[worker_index], item) != 0) {
    vc_metric_add(worker->stage_slots, LANE_FULL, 1);
    return 1;
  }
  // Pairs with the fence in wait_events: either we see the flag or the taker sees the item.
  atomic_thread_fence(memory_order_seq_cst);
  if (atomic_load_explicit(&worker->inbox.is_asleep, memory_order_relaxed) &&
      atomic_exchange_explicit(&worker->inbox.is_asleep, 0, memory_order_relaxed)) {
    vc_metric_add(worker->stage_slots, WAKEUPS, 1);
    inbox_wake(&worker->inbox);
  }
  return 0;
}

struct vc_shared_putter *vc_shared_putter_create(struct vc_stage *stage)
{
  struct vc_shared_putter *shared = calloc(1, sizeof *shared);
  if (shared == NULL) {
    return NULL;
  }
  shared->putter = vc_putter_create(stage);
  if (shared->putter == NULL) {
    free(shared);
    return NULL;
  }
  pthread_mutex_init(&shared->mutex, NULL);
  return shared;
}

void vc_shared_putter_destroy(struct vc_shared_putter **putter)
{
  if (*putter != NULL) {
    pthread_mutex_destroy(&(*putter)->mutex);
    free(*putter); // the lanes are the stage's
    *putter = NULL;
  }
}

int vc_shared_putter_put(struct vc_shared_putter *putter, uint32_t worker, struct vc_item *item)
{
  pthread_mutex_lock(&putter->mutex);
  int status = vc_putter_put(putter->putter, worker, item);
  pthread_mutex_unlock(&putter->mutex);
  return status;
}

// --- what a worker has

void vc_worker_assert_here(const struct vc_worker *worker)
{
  assert(this_worker == worker);
  (void)worker;
}

void vc_worker_beat(struct vc_worker *worker)
{
  vc_worker_assert_here(worker);
  read_clock(worker);
  atomic_store_explicit(&worker->turn_ns, worker->now_ns, memory_order_relaxed);
}

void vc_worker_set_state(struct vc_worker *worker, void *state)
{
  vc_worker_assert_here(worker);
  worker->state = state;
}

void *vc_worker_state(const struct vc_worker *worker)
{
  vc_worker_assert_here(worker);
  return worker->state;
}

uint32_t vc_worker_index(const struct vc_worker *worker)
{
  return worker->index;
}

uint64_t vc_worker_now_ns(const struct vc_worker *worker)
{
  vc_worker_assert_here(worker);
  return worker->now_ns;
}

const struct vc_clock *vc_worker_clock(const struct vc_worker *worker)
{
  return worker->stage->settings.clock;
}

struct vc_slots *vc_worker_slots(const struct vc_worker *worker)
{
  return worker->slots;
}

static int grow_watches(struct vc_worker *worker)
{
  uint32_t n = worker->n_watches == 0 ? 16 : worker->n_watches * 2;
  struct watch_slot *watches = realloc(worker->watches, n * sizeof *watches);
  if (watches == NULL) {
    errno = ENOMEM;
    return -1;
  }
  for (uint32_t i = worker->n_watches; i < n; i++) {
    watches[i] = (struct watch_slot){.next_free = i + 1 < n ? i + 1 : UINT32_MAX};
  }
  worker->first_free = worker->n_watches;
  worker->watches = watches;
  worker->n_watches = n;
  return 0;
}

static int control(struct vc_worker *worker, int operation, const struct vc_watch *watch,
                   uint32_t events)
{
  uint64_t generation = worker->watches[watch->slot].generation;
  struct epoll_event event = {.events = events, .data.u64 = generation << 32 | watch->slot};
  return epoll_ctl(worker->epoll_fd, operation, watch->fd, &event);
}

int vc_worker_watch(struct vc_worker *worker, struct vc_watch *watch, uint32_t events)
{
  vc_worker_assert_here(worker);
  if (worker->first_free == UINT32_MAX && grow_watches(worker) != 0) {
    return -1;
  }
  watch->slot = worker->first_free;
  struct watch_slot *slot = &worker->watches[watch->slot];
  if (control(worker, EPOLL_CTL_ADD, watch, events) != 0) {
    return -1;
  }
  worker->first_free = slot->next_free;
  slot->watch = watch;
  return 0;
}

int vc_worker_rewatch(struct vc_worker *worker, struct vc_watch *watch, uint32_t events)
{
  vc_worker_assert_here(worker);
  assert(worker->watches[watch->slot].watch == watch);
  return control(worker, EPOLL_CTL_MOD, watch, events);
}

void vc_worker_unwatch(struct vc_worker *worker, struct vc_watch *watch)
{
  vc_worker_assert_here(worker);
  struct watch_slot *slot = &worker->watches[watch->slot];
  assert(slot->watch == watch);
  control(worker, EPOLL_CTL_DEL, watch, 0);
  slot->watch = NULL;
  slot->generation++;
  slot->next_free = worker->first_free;
  worker->first_free = watch->slot;
}

void vc_worker_wake_at(struct vc_worker *worker, uint64_t at_ns)
{
  vc_worker_assert_here(worker);
  if (worker->wake_at_ns == 0 || at_ns < worker->wake_at_ns) {
    worker->wake_at_ns = at_ns;
  }
}
