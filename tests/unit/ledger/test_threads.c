// The ledger between real stages with small lanes: two workers of broadcast with a viewer each,
// one journal, and a publisher that is faster than all of them.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <verbacast/base/log.h>
#include <verbacast/flow/query.h>
#include <verbacast/flow/record.h>
#include <verbacast/flow/result.h>
#include <verbacast/flow/viewer.h>
#include <verbacast/ledger.h>

#define N_WORKERS 2
#define N_FINALS 3000
#define LANE 8
#define PATIENCE_S 50

// A worker of broadcast with one viewer that never lags.
struct reader {
  /* set before start, then read-only */
  struct vc_putter *ledger;
  /* the worker's */
  struct vc_position position;
  int is_live, wants_more;
  int64_t epoch;
  uint64_t n_finals, n_wrong;
};

struct bench {
  struct vc_stage *broadcast, *journal, *ledger;
  struct reader readers[N_WORKERS];
  uint64_t n_records; // the journal's worker
  _Atomic int n_done; // readers that saw the end
};

static struct bench *bench_of(struct vc_worker *worker)
{
  return vc_worker_state(worker);
}

static int enter(struct vc_worker *worker, void *config, struct vc_error *error)
{
  (void)error;
  vc_worker_set_state(worker, *(struct bench **)config);
  return 0;
}

static void leave(struct vc_worker *worker)
{
  (void)worker;
}

// --- broadcast

static void give(struct bench *bench, struct reader *reader, const struct vc_message *message)
{
  if (message->kind == VC_MESSAGE_HELLO || message->seq <= reader->position.seq) {
    return;
  }
  reader->position = (struct vc_position){message->epoch, message->seq};
  if (message->kind == VC_MESSAGE_FINAL) { // its provider's id is its number
    reader->n_finals++;
    reader->n_wrong += strtoull(message->utterance_id + 4, NULL, 10) != reader->n_finals;
  }
  reader->n_wrong += message->kind == VC_MESSAGE_GAP;
  if (message->kind == VC_MESSAGE_END) {
    atomic_fetch_add_explicit(&bench->n_done, 1, memory_order_release);
  }
}

static void ask_on(struct vc_worker *worker, struct reader *reader)
{
  struct vc_catch_up *catch_up = vc_catch_up_create("demo");
  catch_up->worker = vc_worker_index(worker);
  catch_up->viewer_id = vc_worker_index(worker);
  catch_up->position = reader->position;
  reader->is_live = 0;
  reader->wants_more = vc_putter_put(reader->ledger, 0, &catch_up->item) != 0;
  if (reader->wants_more) {
    vc_item_destroy(&catch_up->item);
    vc_worker_wake_at(worker, vc_worker_now_ns(worker) + VC_NS_PER_MS);
  }
}

static void take_answer(struct vc_worker *worker, struct reader *reader,
                        const struct vc_answer *answer)
{
  for (size_t i = 0; i < answer->n_messages; i++) {
    give(bench_of(worker), reader, answer->messages[i]);
  }
  reader->is_live = answer->is_last;
  if (!answer->is_last) {
    ask_on(worker, reader);
  }
}

static void handle_broadcast(struct vc_worker *worker, struct vc_item *item)
{
  struct reader *reader = &bench_of(worker)->readers[vc_worker_index(worker)];
  if (item->kind == VC_ITEM_ANSWER) {
    take_answer(worker, reader, (struct vc_answer *)item);
  } else if (reader->is_live) {
    const struct vc_live *live = (struct vc_live *)item;
    if (live->is_after_loss) {
      ask_on(worker, reader);
    } else {
      give(bench_of(worker), reader, live->message);
    }
  }
  vc_item_destroy(item);
}

static void turned_broadcast(struct vc_worker *worker)
{
  struct reader *reader = &bench_of(worker)->readers[vc_worker_index(worker)];
  if (reader->wants_more) {
    ask_on(worker, reader);
  }
}

static const struct vc_stage_ops broadcast_ops = {.name = "broadcast",
                                                  .enter = enter,
                                                  .handle = handle_broadcast,
                                                  .turned = turned_broadcast,
                                                  .leave = leave};

// --- journal

static void handle_journal(struct vc_worker *worker, struct vc_item *item)
{
  bench_of(worker)->n_records += item->kind == VC_ITEM_RECORD;
  vc_item_destroy(item);
}

static const struct vc_stage_ops journal_ops = {
    .name = "journal", .enter = enter, .handle = handle_journal, .leave = leave};

// --- stt

static void put(struct vc_putter *putter, struct vc_item *item)
{
  while (vc_putter_put(putter, 0, item) != 0) {
    sched_yield();
  }
}

static void join(struct vc_putter *putter, uint32_t worker)
{
  struct vc_join *join = vc_join_create("demo");
  join->worker = worker;
  join->viewer_id = worker;
  put(putter, &join->item);
}

static void hear(struct vc_putter *putter, struct vc_session *session, int n, int is_final)
{
  char id[16];
  snprintf(id, sizeof id, "%d", n);
  struct vc_result *result = vc_result_create(session, VC_RESULT_UTTERANCE);
  result->stt_ordinal = 1;
  result->utterance = vc_utterance_create(&(struct vc_utterance){.id = id,
                                                                 .text = "words",
                                                                 .language = "en",
                                                                 .end_s = 1,
                                                                 .confidence = NAN,
                                                                 .is_final = is_final});
  put(putter, &result->item);
}

static void publish(struct vc_putter *putter, struct vc_session *session)
{
  put(putter, &vc_result_create(session, VC_RESULT_OPEN)->item);
  for (int i = 1; i <= N_FINALS; i++) {
    hear(putter, session, i, 0);
    hear(putter, session, i, 1);
  }
  put(putter, &vc_result_create(session, VC_RESULT_CLOSE)->item);
}

static void wait_until_done(struct bench *bench)
{
  struct timespec begin, now;
  clock_gettime(CLOCK_MONOTONIC, &begin);
  do {
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    clock_gettime(CLOCK_MONOTONIC, &now);
  } while (atomic_load_explicit(&bench->n_done, memory_order_acquire) < N_WORKERS &&
           now.tv_sec - begin.tv_sec < PATIENCE_S);
}

static struct vc_stage *make_stage(struct bench **bench, const struct vc_stage_ops *ops,
                                   uint32_t n_workers)
{
  struct vc_stage *stage;
  assert_int_equal(vc_stage_create(&stage,
                                   &(struct vc_stage_settings){.ops = ops,
                                                               .config = bench,
                                                               .config_size = sizeof *bench,
                                                               .n_workers = n_workers,
                                                               .lane_capacity = LANE,
                                                               .clock = &vc_clock_system},
                                   NULL),
                   0);
  return stage;
}

static void test_every_final_once_through_small_lanes(void **state)
{
  (void)state;
  struct bench *bench = calloc(1, sizeof *bench);
  struct vc_ledger_options options = {.dedup_window = 1000,
                                      .history_finals = 2 * N_FINALS,
                                      .history_on_join = 50,
                                      .history_max_bytes = 256 * 1024 * 1024,
                                      .session_keep_ms = 600000,
                                      .max_sessions = 10};
  bench->broadcast = make_stage(&bench, &broadcast_ops, N_WORKERS);
  bench->journal = make_stage(&bench, &journal_ops, 1);
  assert_int_equal(vc_ledger_create(&bench->ledger,
                                    &(struct vc_ledger_settings){.options = &options,
                                                                 .lane_capacity = LANE,
                                                                 .max_viewers = 100,
                                                                 .node = "a1",
                                                                 .broadcast = bench->broadcast,
                                                                 .journal = bench->journal,
                                                                 .clock = &vc_clock_system},
                                    NULL),
                   0);
  for (int i = 0; i < N_WORKERS; i++) {
    bench->readers[i].ledger = vc_putter_create(bench->ledger);
  }
  struct vc_putter *putter = vc_putter_create(bench->ledger);
  assert_int_equal(vc_stage_start(bench->journal, NULL), 0);
  assert_int_equal(vc_stage_start(bench->broadcast, NULL), 0);
  assert_int_equal(vc_stage_start(bench->ledger, NULL), 0);

  struct vc_session *session = vc_session_create("demo", 1, 1790000000000);
  for (uint32_t i = 0; i < N_WORKERS; i++) {
    join(putter, i);
  }
  publish(putter, session);
  wait_until_done(bench);

  assert_int_equal(vc_stage_stop(bench->ledger, PATIENCE_S * 1000), 0);
  assert_int_equal(vc_stage_stop(bench->broadcast, PATIENCE_S * 1000), 0);
  assert_int_equal(vc_stage_stop(bench->journal, PATIENCE_S * 1000), 0);
  for (int i = 0; i < N_WORKERS; i++) {
    assert_int_equal(bench->readers[i].n_finals, N_FINALS);
    assert_int_equal(bench->readers[i].n_wrong, 0);
  }
  assert_int_equal(bench->n_records, N_FINALS + 2);
  vc_session_unref(session);
  vc_stage_destroy(&bench->ledger);
  vc_stage_destroy(&bench->broadcast);
  vc_stage_destroy(&bench->journal);
  free(bench);
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_final_once_through_small_lanes)};
  vc_log_level_set(VC_LOG_WARN);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
