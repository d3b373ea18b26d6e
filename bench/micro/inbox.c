// How many items a second one worker's inbox takes from 1, 4 and 7 putters. Prints for each the
// median, least and most of RUNS runs, and how many puts had to wake the worker.
#include <verbacast/flow/stage.h>

#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#define RUNS 7
#define N_ITEMS 2000000
#define PUTTERS_MAX 7
#define LANE_CAPACITY 1023

struct putting {
  struct vc_putter *putter;
  struct vc_item *item;
  int n;
  pthread_t thread;
};

static _Atomic int n_taken;

static int enter(struct vc_worker *worker, void *config, struct vc_error *error)
{
  return 0;
}

static void handle(struct vc_worker *worker, struct vc_item *item)
{
  atomic_fetch_add_explicit(&n_taken, 1, memory_order_relaxed);
}

static void leave(struct vc_worker *worker) {}

static const struct vc_stage_ops ops = {
    .name = "bench", .enter = enter, .handle = handle, .leave = leave};

static void *put_all(void *context)
{
  struct putting *putting = context;
  for (int i = 0; i < putting->n; i++) {
    while (vc_putter_put(putting->putter, 0, putting->item) != 0) {
      sched_yield();
    }
  }
  return NULL;
}

static void die(const char *what)
{
  fprintf(stderr, "inbox: %s\n", what);
  exit(1);
}

// Returns: items a second.
static double run(int n_putters, uint64_t *n_wakeups)
{
  static struct vc_item item = {VC_ITEM_OWNED}; // never freed: nobody destroys it
  struct putting puttings[PUTTERS_MAX];
  struct vc_stage *stage = NULL;
  struct vc_error error;
  struct vc_metrics *metrics = vc_metrics_create(&vc_clock_system);
  const struct vc_stage_settings settings = {.ops = &ops,
                                             .n_workers = 1,
                                             .lane_capacity = LANE_CAPACITY,
                                             .clock = &vc_clock_system,
                                             .metrics = metrics};
  if (metrics == NULL || vc_stage_create(&stage, &settings, &error) != 0 ||
      vc_stage_start(stage, &error) != 0) {
    die("no stage");
  }
  uint64_t begin_ns = vc_clock_now_ns(&vc_clock_system);
  for (int i = 0; i < n_putters; i++) {
    puttings[i] = (struct putting){vc_putter_create(stage), &item, N_ITEMS / n_putters, 0};
    if (puttings[i].putter == NULL ||
        pthread_create(&puttings[i].thread, NULL, put_all, &puttings[i]) != 0) {
      die("no thread");
    }
  }
  for (int i = 0; i < n_putters; i++) {
    pthread_join(puttings[i].thread, NULL);
  }
  vc_stage_stop(stage, 60000); // handles what lies in the lanes
  uint64_t took_ns = vc_clock_now_ns(&vc_clock_system) - begin_ns;
  int n = atomic_exchange(&n_taken, 0);
  if (n != N_ITEMS / n_putters * n_putters) {
    die("items were lost");
  }
  vc_metrics_counter(metrics, "stage.wakeups_total", n_wakeups);
  vc_stage_destroy(&stage);
  vc_metrics_destroy(&metrics);
  return n / ((double)took_ns / (double)VC_NS_PER_S);
}

static int compare(const void *a, const void *b)
{
  const double *x = a, *y = b;
  return (*x > *y) - (*x < *y);
}

int main(void)
{
  static const int n_putters[] = {1, 4, 7};
  printf("| putters | items/s median | least | most | wake-ups of %d puts |\n", N_ITEMS);
  printf("| --- | --- | --- | --- | --- |\n");
  for (size_t p = 0; p < sizeof n_putters / sizeof *n_putters; p++) {
    double rates[RUNS];
    uint64_t n_wakeups = 0;
    for (int i = 0; i < RUNS; i++) {
      rates[i] = run(n_putters[p], &n_wakeups);
    }
    qsort(rates, RUNS, sizeof *rates, compare);
    printf("| %d | %.2f M | %.2f M | %.2f M | %" PRIu64 " |\n", n_putters[p], rates[RUNS / 2] / 1e6,
           rates[0] / 1e6, rates[RUNS - 1] / 1e6, n_wakeups);
    fflush(stdout);
  }
  return 0;
}
