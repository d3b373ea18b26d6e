// A stage: a pool of workers that do one kind of work. A worker is a thread with an inbox, an epoll
// set and a state of its own; nothing of it is touched by another thread.
//
// The inbox is one bounded lane (base/lane.h) per putter and one eventfd. A put wakes only a
// sleeping taker. `put` never blocks: when the lane is full the item is still the putter's, whose
// written policy applies. Items of one putter arrive in order; between putters there is no order.
//
// A worker's turn: sleep when there is nothing to do; take a batch of items at most and hand each
// to `handle`; serve what epoll has ready; call `turned` (so that a room can send what a batch
// gathered in one go); call `tick` when it is due, under load too.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <verbacast/base/clock.h>
#include <verbacast/base/error.h>
#include <verbacast/base/metrics.h>
#include <verbacast/flow/item.h>

#define VC_STAGE_BATCH 256
#define VC_STAGE_LANES_MAX 256 // putters of one inbox

struct vc_stage;
struct vc_worker;
struct vc_putter;

struct vc_stage_ops {
  const char *name; // "ingest"; worker threads are called "vc-ingest-0"
  // Thread: the worker's for all but `drop`.
  // Sets the worker's state. Returns <0 with the error set: the start of the stage fails.
  int (*enter)(struct vc_worker *worker, void *config, struct vc_error *error);
  // Takes the item.
  void (*handle)(struct vc_worker *worker, struct vc_item *item);
  void (*turned)(struct vc_worker *worker); // may be NULL
  void (*tick)(struct vc_worker *worker);   // may be NULL
  // The drain has begun: nothing new is put from now on (all putters are gone), all that was put
  // has been handled. Called once; begin to end what is open. May be NULL.
  void (*drain)(struct vc_worker *worker);
  // During a drain, after each turn: 1 when nothing is left to do. May be NULL: at once.
  int (*is_drained)(struct vc_worker *worker);
  // Frees the state.
  void (*leave)(struct vc_worker *worker);
  // Thread: the one that destroys the stage. Frees what the config points to; after everything
  // else. May be NULL.
  void (*destroy_config)(void *config);
};

struct vc_stage_settings {
  const struct vc_stage_ops *ops;
  const void *config; // given to `enter`: a copy that lives as long as the stage
  size_t config_size;
  uint32_t n_workers;   // >= 1
  uint32_t tick_ms;     // 0: no tick
  size_t lane_capacity; // items per lane
  uint32_t batch;       // items a turn takes at most, 0: VC_STAGE_BATCH
  const struct vc_clock *clock;
  struct vc_metrics *metrics;          // may be NULL
  const struct vc_metric *metric_rows; // the room's; each worker gets slots of its own; may be NULL
};

// Rows that every stage has, labelled by its name: items taken, wake-ups, lane full.
extern const struct vc_metric vc_stage_metrics[];

int vc_stage_create(struct vc_stage **stage, const struct vc_stage_settings *settings,
                    struct vc_error *error);
// Starts all workers and waits until each `enter` returned. On failure none runs.
int vc_stage_start(struct vc_stage *stage, struct vc_error *error);
// Thread: the one that started it. All putters must have stopped putting. Handles what lies in the
// inboxes, calls `drain`, turns until `is_drained` or timeout_ms, calls `leave`, joins.
// Returns: 0 drained, 1 the time was over (what was left was dropped by `leave`).
int vc_stage_stop(struct vc_stage *stage, uint32_t timeout_ms);
// Stopped or never started. Items still in lanes are freed by vc_item_destroy.
void vc_stage_destroy(struct vc_stage **stage);

uint32_t vc_stage_n_workers(const struct vc_stage *stage);
const char *vc_stage_name(const struct vc_stage *stage);
// Thread: any. Returns: the config that `enter` is given.
const void *vc_stage_config(const struct vc_stage *stage);
// Thread: any. Every worker begins a turn now (a test that turned the clock; a drain).
void vc_stage_wake(struct vc_stage *stage);
// Thread: any. Returns: the index of a worker that has not begun a turn for longer than silent_ms
// although it should (a worker wakes at least once a second), or -1.
int vc_stage_stuck_worker(const struct vc_stage *stage, uint32_t silent_ms);

// A putter: one thread's lanes into all workers of a stage. May be made before or after the start,
// by the thread that will use it or before that thread begins. Lives until the stage is destroyed.
// Returns NULL without memory or when VC_STAGE_LANES_MAX are taken.
struct vc_putter *vc_putter_create(struct vc_stage *stage);
// Thread: the putter's only. Returns: 0 and the item has moved, 1 full and it is still the
// caller's.
int vc_putter_put(struct vc_putter *putter, uint32_t worker, struct vc_item *item);
// The same behind a mutex, for threads that are not ours (HTTP handlers).
struct vc_shared_putter;
struct vc_shared_putter *vc_shared_putter_create(struct vc_stage *stage);
void vc_shared_putter_destroy(struct vc_shared_putter **putter);
int vc_shared_putter_put(struct vc_shared_putter *putter, uint32_t worker, struct vc_item *item);

// What a worker has. Thread: the worker's own (asserted).
void vc_worker_set_state(struct vc_worker *worker, void *state);
void *vc_worker_state(const struct vc_worker *worker);
uint32_t vc_worker_index(const struct vc_worker *worker);
uint64_t
vc_worker_now_ns(const struct vc_worker *worker); // read once a turn and before each handler
const struct vc_clock *vc_worker_clock(const struct vc_worker *worker);
struct vc_slots *vc_worker_slots(const struct vc_worker *worker); // of the room's rows, may be NULL
void vc_worker_assert_here(const struct vc_worker *worker);
// After a wait that was bounded: a turn of several is not one that hangs. Reads the clock, too.
void vc_worker_beat(struct vc_worker *worker);

// Descriptors of a room. A watch is embedded in the room's own object; it may be unwatched and
// freed inside any handler: events of the same batch that are for it are not delivered any more.
struct vc_watch {
  /* set by the room before vc_worker_watch */
  int fd;
  void (*ready)(struct vc_worker *worker, struct vc_watch *watch, uint32_t events);
  /* the worker's */
  uint32_t slot;
};
// `events` are epoll's (EPOLLIN | EPOLLET …). Returns 0, or -1 with errno.
int vc_worker_watch(struct vc_worker *worker, struct vc_watch *watch, uint32_t events);
int vc_worker_rewatch(struct vc_worker *worker, struct vc_watch *watch, uint32_t events);
void vc_worker_unwatch(struct vc_worker *worker, struct vc_watch *watch);
// Asks for a tick no later than `at_ns`. A worker has one such wish, the earliest, which is used up
// by the tick that it leads to: a room with several asks again in every tick for what is still to
// come, or takes it when the next tick of tick_ms comes.
void vc_worker_wake_at(struct vc_worker *worker, uint64_t at_ns);
