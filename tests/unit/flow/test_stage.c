// Stages with real threads. Nothing here waits for a time: it waits for a condition, at most
// PATIENCE_S. Asserts of the test run in its own thread only.
#include <verbacast/flow/stage.h>

#include <verbacast/flow/query.h>

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#define PATIENCE_S 90
#define PUTTERS_MAX 8
#define N_WORKERS 3

// --- what the workers of a test note

struct rig {
  struct vc_stage *stage;
  struct vc_metrics *metrics;
  struct vc_clock clock;
  uint32_t batch;
  uint32_t failing_worker;                                 // whose enter fails; UINT32_MAX: none
  void (*play)(struct vc_worker *worker, struct rig *rig); // what a PLAY item does
  /* any thread, atomic */
  _Atomic uint64_t hand_ns; // what the clock adds
  _Atomic int n_handled, n_entered, n_left, n_ticks, n_turned, n_drains, n_wrong;
  _Atomic int n_ready, is_gate_open, is_at_gate, left_to_drain;
  _Atomic int turns_to_ask; // for another one, by `turned`
  _Atomic int ticks_seen;   // by the last item that noted them
  /* each worker's own */
  int last[N_WORKERS][PUTTERS_MAX];
  /* the playing worker's */
  struct vc_watch *watches[2];
};

enum errand { COUNT, GATE, PLAY };

struct task {
  struct vc_owned_item owned;
  enum errand errand;
  int putter, number;
};

static _Atomic int n_tasks_alive;

static void task_destroy(struct vc_item *item)
{
  atomic_fetch_sub(&n_tasks_alive, 1);
  free(item);
}

static struct vc_item *task_create(enum errand errand, int putter, int number)
{
  struct task *task = malloc(sizeof *task);
  if (task == NULL) {
    abort();
  }
  *task = (struct task){{{VC_ITEM_OWNED}, task_destroy}, errand, putter, number};
  atomic_fetch_add(&n_tasks_alive, 1);
  return &task->owned.item;
}

// Returns: 1 when *count came to `n` in time.
static int await(const _Atomic int *count, int n)
{
  for (time_t until = time(NULL) + PATIENCE_S; atomic_load(count) < n;) {
    if (time(NULL) > until) {
      return 0;
    }
    nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
  }
  return 1;
}

static int enter(struct vc_worker *worker, void *config, struct vc_error *error)
{
  struct rig *rig = *(struct rig **)config;
  if (vc_worker_index(worker) == rig->failing_worker) {
    return vc_error_set(error, "no device for worker %u", vc_worker_index(worker));
  }
  vc_worker_set_state(worker, rig);
  atomic_fetch_add(&rig->n_entered, 1);
  return 0;
}

static void handle(struct vc_worker *worker, struct vc_item *item)
{
  struct rig *rig = vc_worker_state(worker);
  struct task *task = (struct task *)item;
  vc_worker_assert_here(worker);
  if (task->errand == GATE) {
    atomic_store(&rig->is_at_gate, 1);
    if (!await(&rig->is_gate_open, 1)) {
      atomic_fetch_add(&rig->n_wrong, 1);
    }
  } else if (task->errand == PLAY) {
    rig->play(worker, rig);
  } else {
    int *last = &rig->last[vc_worker_index(worker)][task->putter];
    if (task->number != *last + 1) {
      atomic_fetch_add(&rig->n_wrong, 1);
    }
    *last = task->number;
  }
  vc_item_destroy(item);
  atomic_fetch_add(&rig->n_handled, 1);
}

static void turned(struct vc_worker *worker)
{
  struct rig *rig = vc_worker_state(worker);
  atomic_fetch_add(&rig->n_turned, 1);
  if (atomic_load(&rig->turns_to_ask) > 0) {
    atomic_fetch_sub(&rig->turns_to_ask, 1);
    vc_worker_wake_at(worker, vc_worker_now_ns(worker));
  }
}

static void tick(struct vc_worker *worker)
{
  struct rig *rig = vc_worker_state(worker);
  atomic_fetch_add(&rig->n_ticks, 1);
}

static void drain(struct vc_worker *worker)
{
  struct rig *rig = vc_worker_state(worker);
  atomic_fetch_add(&rig->n_drains, 1);
}

static int is_drained(struct vc_worker *worker)
{
  struct rig *rig = vc_worker_state(worker);
  return atomic_fetch_sub(&rig->left_to_drain, 1) <= 0;
}

static void leave(struct vc_worker *worker)
{
  struct rig *rig = vc_worker_state(worker);
  atomic_fetch_add(&rig->n_left, 1);
}

static const struct vc_stage_ops ops = {
    .name = "test",
    .enter = enter,
    .handle = handle,
    .turned = turned,
    .tick = tick,
    .drain = drain,
    .is_drained = is_drained,
    .leave = leave,
};

static uint64_t rig_monotonic_ns(void *context)
{
  struct rig *rig = context;
  return vc_clock_now_ns(&vc_clock_system) + atomic_load(&rig->hand_ns);
}

static int64_t rig_unix_us(void *context)
{
  return 0;
}

static int set_up(void **state)
{
  struct rig *rig = calloc(1, sizeof *rig);
  if (rig == NULL) {
    return -1;
  }
  rig->clock = (struct vc_clock){rig_monotonic_ns, rig_unix_us, rig};
  rig->failing_worker = UINT32_MAX;
  rig->metrics = vc_metrics_create(&rig->clock);
  *state = rig;
  return 0;
}

static int tear_down(void **state)
{
  struct rig *rig = *state;
  atomic_store(&rig->is_gate_open, 1);
  if (rig->stage != NULL) {
    vc_stage_stop(rig->stage, 0);
    vc_stage_destroy(&rig->stage);
  }
  int is_clean = atomic_load(&n_tasks_alive) == 0 && atomic_load(&rig->n_wrong) == 0;
  vc_metrics_destroy(&rig->metrics);
  free(rig);
  return is_clean ? 0 : -1;
}

static void make_stage(struct rig *rig, uint32_t n_workers, uint32_t tick_ms, size_t lane_capacity)
{
  struct vc_error error;
  const struct vc_stage_settings settings = {
      .ops = &ops,
      .config = &rig,
      .config_size = sizeof rig,
      .n_workers = n_workers,
      .tick_ms = tick_ms,
      .lane_capacity = lane_capacity,
      .batch = rig->batch,
      .clock = &rig->clock,
      .metrics = rig->metrics,
  };
  assert_int_equal(vc_stage_create(&rig->stage, &settings, &error), 0);
}

static void start_stage(struct rig *rig)
{
  struct vc_error error;
  assert_int_equal(vc_stage_start(rig->stage, &error), 0);
  assert_int_equal(atomic_load(&rig->n_entered), vc_stage_n_workers(rig->stage));
}

static uint64_t metric(struct rig *rig, const char *name)
{
  uint64_t value = 0;
  assert_int_equal(vc_metrics_counter(rig->metrics, name, &value), 0);
  return value;
}

static void put(struct vc_putter *putter, uint32_t worker, struct vc_item *item)
{
  while (vc_putter_put(putter, worker, item) != 0) {
    sched_yield();
  }
}

// --- order and completeness

struct putting {
  struct rig *rig;
  struct vc_putter *putter;
  int index, n_items;
  pthread_t thread;
};

static void *put_numbers(void *context)
{
  struct putting *putting = context;
  for (int i = 1; i <= putting->n_items; i++) {
    for (uint32_t worker = 0; worker < N_WORKERS; worker++) {
      put(putting->putter, worker, task_create(COUNT, putting->index, i));
    }
  }
  return NULL;
}

// More threads than this machine has cores; lanes are full most of the time.
static void test_order_of_each_putter(void **state)
{
  enum { N_PUTTERS = 7, N = 3000 };
  struct rig *rig = *state;
  struct putting puttings[N_PUTTERS];
  make_stage(rig, N_WORKERS, 10, 31);
  for (int i = 0; i < N_PUTTERS; i++) {
    puttings[i] = (struct putting){rig, vc_putter_create(rig->stage), i, N, 0};
    assert_non_null(puttings[i].putter);
  }
  start_stage(rig);
  for (int i = 0; i < N_PUTTERS; i++) {
    assert_int_equal(pthread_create(&puttings[i].thread, NULL, put_numbers, &puttings[i]), 0);
  }
  for (int i = 0; i < N_PUTTERS; i++) {
    pthread_join(puttings[i].thread, NULL);
  }
  assert_int_equal(vc_stage_stop(rig->stage, 1000 * PATIENCE_S), 0);
  assert_int_equal(atomic_load(&rig->n_handled), N_PUTTERS * N * N_WORKERS);
  assert_int_equal(atomic_load(&rig->n_wrong), 0);
  assert_int_equal(metric(rig, "stage.items_total"), N_PUTTERS * N * N_WORKERS);
}

// One item at a time: a taker that overslept one would never be woken by another.
static void test_a_sleeper_is_woken(void **state)
{
  struct rig *rig = *state;
  make_stage(rig, 1, 0, 7);
  struct vc_putter *putter = vc_putter_create(rig->stage);
  start_stage(rig);
  for (int i = 1; i <= 300; i++) {
    assert_int_equal(vc_putter_put(putter, 0, task_create(COUNT, 0, i)), 0);
    assert_true(await(&rig->n_handled, i));
  }
  assert_true(metric(rig, "stage.wakeups_total") <= 300);
}

static void test_putters_at_any_time(void **state)
{
  struct rig *rig = *state;
  make_stage(rig, 2, 0, 7);
  start_stage(rig);
  for (int i = 0; i < PUTTERS_MAX; i++) {
    struct vc_putter *putter = vc_putter_create(rig->stage);
    assert_non_null(putter);
    assert_int_equal(vc_putter_put(putter, 1, task_create(COUNT, i, 1)), 0);
    assert_true(await(&rig->n_handled, i + 1));
  }
}

static void test_no_more_putters(void **state)
{
  struct rig *rig = *state;
  make_stage(rig, 2, 0, 1);
  for (int i = 0; i < VC_STAGE_LANES_MAX; i++) {
    assert_non_null(vc_putter_create(rig->stage));
  }
  assert_null(vc_putter_create(rig->stage));
  assert_null(vc_shared_putter_create(rig->stage));
}

static void test_full_lane(void **state)
{
  struct rig *rig = *state;
  make_stage(rig, 1, 0, 7);
  struct vc_putter *putter = vc_putter_create(rig->stage);
  int n = 0;
  struct vc_item *item = task_create(COUNT, 0, 1);
  while (vc_putter_put(putter, 0, item) == 0) {
    n++;
    item = task_create(COUNT, 0, n + 1);
  }
  vc_item_destroy(item); // still ours
  assert_in_range(n, 7, 16);
  assert_int_equal(metric(rig, "stage.lane_full_total"), 1);
  start_stage(rig);
  assert_true(await(&rig->n_handled, n));
}

struct sharing {
  struct vc_shared_putter *putter;
  pthread_t thread;
};

static void *put_shared(void *context)
{
  struct sharing *sharing = context;
  for (int i = 0; i < 500; i++) {
    struct vc_query *query = vc_query_create(VC_QUERY_SESSIONS, NULL);
    struct vc_item *item = vc_query_item(query);
    vc_query_unref(query);
    while (vc_shared_putter_put(sharing->putter, 0, item) != 0) {
      sched_yield();
    }
  }
  return NULL;
}

static void handle_any(struct vc_worker *worker, struct vc_item *item)
{
  struct rig *rig = vc_worker_state(worker);
  atomic_fetch_add(&rig->n_handled, 1);
  vc_item_destroy(item);
}

static void test_shared_putter(void **state)
{
  struct rig *rig = *state;
  struct sharing sharings[3];
  struct vc_error error;
  struct vc_stage_ops any = ops;
  any.handle = handle_any;
  const struct vc_stage_settings settings = {.ops = &any,
                                             .config = &rig,
                                             .config_size = sizeof rig,
                                             .n_workers = 1,
                                             .lane_capacity = 15,
                                             .clock = &vc_clock_system};
  assert_int_equal(vc_stage_create(&rig->stage, &settings, &error), 0);
  start_stage(rig);
  struct vc_shared_putter *putter = vc_shared_putter_create(rig->stage);
  assert_non_null(putter);
  for (int i = 0; i < 3; i++) {
    sharings[i].putter = putter;
    assert_int_equal(pthread_create(&sharings[i].thread, NULL, put_shared, &sharings[i]), 0);
  }
  for (int i = 0; i < 3; i++) {
    pthread_join(sharings[i].thread, NULL);
  }
  assert_true(await(&rig->n_handled, 1500));
  vc_shared_putter_destroy(&putter);
  assert_null(putter);
  assert_int_equal(vc_stage_stop(rig->stage, 1000 * PATIENCE_S), 0);
  vc_stage_destroy(&rig->stage); // `any` ends with this function
}

// --- time

static _Atomic int is_flood_over;

static void *flood(void *context)
{
  struct putting *putting = context;
  for (int i = 1; !atomic_load(&is_flood_over); i++) {
    put(putting->putter, 0, task_create(COUNT, putting->index, i));
  }
  return NULL;
}

static void test_tick_under_load(void **state)
{
  struct rig *rig = *state;
  make_stage(rig, 1, 1, 1023);
  struct putting putting = {rig, vc_putter_create(rig->stage), 0, 0, 0};
  start_stage(rig);
  atomic_store(&is_flood_over, 0);
  assert_int_equal(pthread_create(&putting.thread, NULL, flood, &putting), 0);
  int has_ticked = await(&rig->n_ticks, 20);
  atomic_store(&is_flood_over, 1);
  pthread_join(putting.thread, NULL);
  assert_true(has_ticked);
}

// One that floods does not keep out one that says little.
static void test_lanes_are_fair(void **state)
{
  struct rig *rig = *state;
  make_stage(rig, 1, 0, 4095);
  struct vc_putter *loud = vc_putter_create(rig->stage), *quiet = vc_putter_create(rig->stage);
  assert_int_equal(vc_putter_put(loud, 0, task_create(GATE, 0, 0)), 0);
  for (int i = 1; i <= 3000; i++) {
    assert_int_equal(vc_putter_put(loud, 0, task_create(COUNT, 0, i)), 0);
  }
  start_stage(rig);
  assert_true(await(&rig->is_at_gate, 1));
  assert_int_equal(vc_putter_put(quiet, 0, task_create(GATE, 1, 0)), 0);
  atomic_store(&rig->is_at_gate, 0);
  atomic_store(&rig->is_gate_open, 1);
  assert_true(await(&rig->is_at_gate, 1));
  assert_true(await(&rig->n_handled, 3002));
}

static void ask_for_a_turn(struct vc_worker *worker, struct rig *rig)
{
  vc_worker_wake_at(worker, vc_worker_now_ns(worker) + VC_NS_PER_S * 3600);
  vc_worker_wake_at(worker, vc_worker_now_ns(worker) + VC_NS_PER_MS);
  vc_worker_wake_at(worker, vc_worker_now_ns(worker) + VC_NS_PER_S * 1800);
}

static void test_wake_at(void **state)
{
  struct rig *rig = *state;
  make_stage(rig, 1, 0, 7); // no tick of its own
  struct vc_putter *putter = vc_putter_create(rig->stage);
  rig->play = ask_for_a_turn;
  start_stage(rig);
  assert_int_equal(atomic_load(&rig->n_ticks), 0);
  assert_int_equal(vc_putter_put(putter, 0, task_create(PLAY, 0, 0)), 0);
  assert_true(await(&rig->n_ticks, 1));
}

// A turn for each that was asked for: without them the worker would turn once a second.
static void test_wake_asked_for_at_the_end_of_a_turn(void **state)
{
  enum { N = 1000 };
  struct rig *rig = *state;
  make_stage(rig, 1, 3600000, 7);
  atomic_store(&rig->turns_to_ask, N);
  start_stage(rig);
  assert_true(await(&rig->n_turned, N + 1));
}

static void test_wake_all(void **state)
{
  struct rig *rig = *state;
  make_stage(rig, 2, 3600000, 7);
  start_stage(rig);
  assert_true(await(&rig->n_ticks, 2)); // the first tick is due at once
  atomic_fetch_add(&rig->hand_ns, 3601 * VC_NS_PER_S);
  vc_stage_wake(rig->stage);
  assert_true(await(&rig->n_ticks, 4));
}

static void note_ticks(struct vc_worker *worker, struct rig *rig)
{
  atomic_store(&rig->ticks_seen, atomic_load(&rig->n_ticks));
}

// A tick that is due does not keep a woken worker from what it was woken for. It may have ticked
// by itself before the put: then once more.
static void test_what_a_sleeper_is_woken_for_comes_first(void **state)
{
  struct rig *rig = *state;
  make_stage(rig, 1, 3600000, 7);
  struct vc_putter *putter = vc_putter_create(rig->stage);
  rig->play = note_ticks;
  start_stage(rig);
  assert_true(await(&rig->n_ticks, 1));
  time_t until = time(NULL) + PATIENCE_S;
  int n = 0;
  do {
    n++;
    assert_true(time(NULL) <= until);
    atomic_fetch_add(&rig->hand_ns, 3601 * VC_NS_PER_S);
    assert_int_equal(vc_putter_put(putter, 0, task_create(PLAY, 0, 0)), 0);
    assert_true(await(&rig->n_handled, n));
    assert_true(await(&rig->n_ticks, n + 1));
  } while (atomic_load(&rig->ticks_seen) != n);
}

static void test_stuck_worker(void **state)
{
  struct rig *rig = *state;
  make_stage(rig, 2, 0, 7);
  struct vc_putter *putter = vc_putter_create(rig->stage);
  assert_int_equal(vc_stage_stuck_worker(rig->stage, 5000), -1); // never began
  start_stage(rig);
  assert_int_equal(vc_putter_put(putter, 1, task_create(GATE, 0, 0)), 0);
  assert_true(await(&rig->is_at_gate, 1));
  // The other worker shows itself alive whenever it is woken.
  atomic_fetch_add(&rig->hand_ns, 3600 * VC_NS_PER_S);
  int seen = -1;
  for (time_t until = time(NULL) + PATIENCE_S; seen != 1 && time(NULL) <= until;) {
    vc_stage_wake(rig->stage);
    seen = vc_stage_stuck_worker(rig->stage, 1800 * 1000);
  }
  assert_int_equal(seen, 1);
  atomic_store(&rig->is_gate_open, 1);
  assert_true(await(&rig->n_handled, 1));
  assert_int_equal(vc_stage_stop(rig->stage, 1000 * PATIENCE_S), 0);
  atomic_fetch_add(&rig->hand_ns, 3600 * VC_NS_PER_S);
  assert_int_equal(vc_stage_stuck_worker(rig->stage, 5000), -1); // gone is not stuck
}

// Each is a wait of an hour, in one turn.
static void wait_for_long(struct vc_worker *worker, struct rig *rig)
{
  atomic_fetch_add(&rig->hand_ns, 3600 * VC_NS_PER_S);
  atomic_fetch_add(&rig->n_wrong, vc_stage_stuck_worker(rig->stage, 3600 * 1000 + 5000) != -1);
  vc_worker_beat(worker);
}

static void test_worker_of_many_waits(void **state)
{
  struct rig *rig = *state;
  make_stage(rig, 1, 0, 7);
  struct vc_putter *putter = vc_putter_create(rig->stage);
  rig->play = wait_for_long;
  for (int i = 0; i < 5; i++) {
    put(putter, 0, task_create(PLAY, 0, i));
  }
  start_stage(rig);
  assert_true(await(&rig->n_handled, 5));
  assert_int_equal(atomic_load(&rig->n_wrong), 0);
}

static void note_turns(struct vc_worker *worker, struct rig *rig)
{
  (void)worker;
  atomic_store(&rig->ticks_seen, atomic_load(&rig->n_turned));
}

static void test_batch_of_a_stage(void **state)
{
  struct rig *rig = *state;
  rig->batch = 2;
  make_stage(rig, 1, 0, 7);
  struct vc_putter *putter = vc_putter_create(rig->stage);
  rig->play = note_turns;
  for (int i = 0; i < 5; i++) {
    put(putter, 0, task_create(PLAY, 0, i));
  }
  start_stage(rig);
  assert_true(await(&rig->n_handled, 5));
  assert_int_equal(atomic_load(&rig->ticks_seen), 2); // over when the fifth was taken
}

// --- start and stop

static void test_failing_enter(void **state)
{
  struct rig *rig = *state;
  struct vc_error error;
  rig->failing_worker = 1;
  make_stage(rig, N_WORKERS, 10, 7);
  struct vc_putter *putter = vc_putter_create(rig->stage);
  assert_int_equal(vc_putter_put(putter, 1, task_create(COUNT, 0, 1)), 0);
  assert_int_equal(vc_stage_start(rig->stage, &error), -1);
  assert_string_equal(error.text, "test: no device for worker 1");
  assert_int_equal(atomic_load(&rig->n_entered), N_WORKERS - 1);
  assert_int_equal(atomic_load(&rig->n_left), N_WORKERS - 1);
}

static void test_drain_handles_all(void **state)
{
  struct rig *rig = *state;
  make_stage(rig, N_WORKERS, 0, 1023);
  struct putting putting = {rig, vc_putter_create(rig->stage), 0, 1000, 0};
  start_stage(rig);
  atomic_store(&rig->left_to_drain, 5);
  put_numbers(&putting);
  assert_int_equal(vc_stage_stop(rig->stage, 1000 * PATIENCE_S), 0);
  assert_int_equal(atomic_load(&rig->n_handled), 1000 * N_WORKERS);
  assert_int_equal(atomic_load(&rig->n_drains), N_WORKERS);
  assert_int_equal(atomic_load(&rig->n_left), N_WORKERS);
  assert_int_equal(vc_stage_stop(rig->stage, 0), 0); // a second time: nothing
}

static void test_drain_out_of_time(void **state)
{
  struct rig *rig = *state;
  make_stage(rig, 1, 0, 7);
  start_stage(rig);
  atomic_store(&rig->left_to_drain, 1000000000);
  assert_int_equal(vc_stage_stop(rig->stage, 20), 1);
  assert_int_equal(atomic_load(&rig->n_left), 1);
}

static void count_destroyed(void *config)
{
  struct rig *rig = *(struct rig **)config;
  atomic_fetch_add(&rig->n_ready, 1);
}

static void test_never_started(void **state)
{
  struct rig *rig = *state;
  struct vc_error error;
  struct vc_stage_ops with_config = ops;
  with_config.destroy_config = count_destroyed;
  const struct vc_stage_settings settings = {.ops = &with_config,
                                             .config = &rig,
                                             .config_size = sizeof rig,
                                             .n_workers = 1,
                                             .lane_capacity = 7,
                                             .clock = &vc_clock_system};
  assert_int_equal(vc_stage_create(&rig->stage, &settings, &error), 0);
  assert_string_equal(vc_stage_name(rig->stage), "test");
  struct vc_putter *putter = vc_putter_create(rig->stage);
  assert_int_equal(vc_putter_put(putter, 0, task_create(COUNT, 0, 1)), 0);
  vc_stage_destroy(&rig->stage);
  assert_int_equal(atomic_load(&n_tasks_alive), 0);
  assert_int_equal(atomic_load(&rig->n_ready), 1);
  vc_stage_destroy(&rig->stage);
}

// --- descriptors

static struct vc_watch *watch_create(struct vc_worker *worker,
                                     void (*ready)(struct vc_worker *, struct vc_watch *, uint32_t))
{
  struct vc_watch *watch = calloc(1, sizeof *watch);
  if (watch == NULL) {
    abort();
  }
  watch->fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK); // readable from the start
  watch->ready = ready;
  if (watch->fd < 0 || vc_worker_watch(worker, watch, EPOLLIN) != 0) {
    abort();
  }
  return watch;
}

static void watch_destroy(struct vc_worker *worker, struct vc_watch *watch)
{
  vc_worker_unwatch(worker, watch);
  close(watch->fd);
  free(watch);
}

// Both are ready in one batch: the first to be served ends both.
static void end_both(struct vc_worker *worker, struct vc_watch *watch, uint32_t events)
{
  struct rig *rig = vc_worker_state(worker);
  if ((events & EPOLLIN) == 0) {
    atomic_fetch_add(&rig->n_wrong, 1);
  }
  watch_destroy(worker, rig->watches[0]);
  watch_destroy(worker, rig->watches[1]);
  atomic_fetch_add(&rig->n_ready, 1);
}

static void watch_two(struct vc_worker *worker, struct rig *rig)
{
  rig->watches[0] = watch_create(worker, end_both);
  rig->watches[1] = watch_create(worker, end_both);
}

static void test_unwatch_in_handler(void **state)
{
  struct rig *rig = *state;
  make_stage(rig, 1, 0, 7);
  struct vc_putter *putter = vc_putter_create(rig->stage);
  rig->play = watch_two;
  start_stage(rig);
  for (int i = 1; i <= 50; i++) {
    assert_int_equal(vc_putter_put(putter, 0, task_create(PLAY, 0, 0)), 0);
    assert_true(await(&rig->n_ready, i));
  }
  assert_int_equal(vc_stage_stop(rig->stage, 1000 * PATIENCE_S), 0);
  assert_int_equal(atomic_load(&rig->n_ready), 50);
}

static void count_ready(struct vc_worker *worker, struct vc_watch *watch, uint32_t events)
{
  struct rig *rig = vc_worker_state(worker);
  uint64_t count;
  if (read(watch->fd, &count, sizeof count) != sizeof count) {
    atomic_fetch_add(&rig->n_wrong, 1);
  }
  if (atomic_fetch_add(&rig->n_ready, 1) == 0) {
    // Now writability too; then it is told again.
    if (vc_worker_rewatch(worker, watch, EPOLLOUT) != 0) {
      abort();
    }
    uint64_t one = 1;
    if (write(watch->fd, &one, sizeof one) != sizeof one) {
      abort();
    }
    return;
  }
  if (events != EPOLLOUT) {
    atomic_fetch_add(&rig->n_wrong, 1);
  }
  watch_destroy(worker, watch);
}

// More watches than the first table holds.
static void watch_many(struct vc_worker *worker, struct rig *rig)
{
  struct vc_watch *watches[40];
  for (size_t i = 0; i < 40; i++) {
    watches[i] = watch_create(worker, end_both);
  }
  struct vc_watch bad = {.fd = -1, .ready = end_both};
  if (vc_worker_watch(worker, &bad, EPOLLIN) != -1) {
    atomic_fetch_add(&rig->n_wrong, 1);
  }
  for (size_t i = 0; i < 40; i++) {
    watch_destroy(worker, watches[i]);
  }
  watch_create(worker, count_ready);
}

static void test_many_watches_and_rewatch(void **state)
{
  struct rig *rig = *state;
  make_stage(rig, 1, 0, 7);
  struct vc_putter *putter = vc_putter_create(rig->stage);
  rig->play = watch_many;
  start_stage(rig);
  assert_int_equal(vc_putter_put(putter, 0, task_create(PLAY, 0, 0)), 0);
  assert_true(await(&rig->n_ready, 2));
  assert_int_equal(vc_stage_stop(rig->stage, 1000 * PATIENCE_S), 0);
  assert_int_equal(atomic_load(&rig->n_ready), 2);
}

#define STAGE_TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
  const struct CMUnitTest tests[] = {
      STAGE_TEST(test_order_of_each_putter),
      STAGE_TEST(test_a_sleeper_is_woken),
      STAGE_TEST(test_putters_at_any_time),
      STAGE_TEST(test_no_more_putters),
      STAGE_TEST(test_full_lane),
      STAGE_TEST(test_shared_putter),
      STAGE_TEST(test_tick_under_load),
      STAGE_TEST(test_lanes_are_fair),
      STAGE_TEST(test_wake_at),
      STAGE_TEST(test_wake_asked_for_at_the_end_of_a_turn),
      STAGE_TEST(test_wake_all),
      STAGE_TEST(test_what_a_sleeper_is_woken_for_comes_first),
      STAGE_TEST(test_stuck_worker),
      STAGE_TEST(test_worker_of_many_waits),
      STAGE_TEST(test_batch_of_a_stage),
      STAGE_TEST(test_failing_enter),
      STAGE_TEST(test_drain_handles_all),
      STAGE_TEST(test_drain_out_of_time),
      STAGE_TEST(test_never_started),
      STAGE_TEST(test_unwatch_in_handler),
      STAGE_TEST(test_many_watches_and_rewatch),
  };
  return cmocka_run_group_tests_name("flow/stage", tests, NULL, NULL);
}
