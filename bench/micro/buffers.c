// What a buffer costs that one thread makes and another lets go of, from the allocator and from a
// pool: a chunk of 50 ms, in bursts as a second of 20 sessions comes. Prints for each the median,
// least and most of RUNS runs.
#include <verbacast/base/clock.h>
#include <verbacast/base/pool.h>

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RUNS 7
#define BURSTS 5000
#define BURST 400
#define CAPACITY 1600
#define KEPT 1024

static struct vc_buffer *burst[BURST];
static _Atomic int is_full;

static void *let_go(void *context)
{
  for (int i = 0; i < BURSTS; i++) {
    while (!atomic_load_explicit(&is_full, memory_order_acquire)) {
      sched_yield();
    }
    for (size_t n = 0; n < BURST; n++) {
      vc_buffer_unref(burst[n]);
    }
    atomic_store_explicit(&is_full, 0, memory_order_release);
  }
  return NULL;
}

static void die(const char *what)
{
  fprintf(stderr, "buffers: %s\n", what);
  exit(1);
}

// Returns: ns a buffer.
static double run(struct vc_pool *pool)
{
  pthread_t thread;
  if (pthread_create(&thread, NULL, let_go, NULL) != 0) {
    die("no thread");
  }
  uint64_t begin_ns = vc_clock_now_ns(&vc_clock_system);
  for (int i = 0; i < BURSTS; i++) {
    while (atomic_load_explicit(&is_full, memory_order_acquire)) {
      sched_yield();
    }
    for (size_t n = 0; n < BURST; n++) {
      burst[n] = pool != NULL ? vc_pool_take(pool) : vc_buffer_create(CAPACITY);
      if (burst[n] == NULL) {
        die("no memory");
      }
      memset(burst[n]->data, (int)n, CAPACITY);
    }
    atomic_store_explicit(&is_full, 1, memory_order_release);
  }
  pthread_join(thread, NULL);
  return (double)(vc_clock_now_ns(&vc_clock_system) - begin_ns) / ((double)BURSTS * BURST);
}

static int compare(const void *a, const void *b)
{
  const double *x = a, *y = b;
  return (*x > *y) - (*x < *y);
}

static void show(const char *name, double took_ns[RUNS])
{
  qsort(took_ns, RUNS, sizeof *took_ns, compare);
  printf("| %s | %.0f | %.0f | %.0f |\n", name, took_ns[RUNS / 2], took_ns[0], took_ns[RUNS - 1]);
}

int main(void)
{
  double allocator_ns[RUNS], pool_ns[RUNS];
  struct vc_pool *pool = vc_pool_create(CAPACITY, KEPT);
  if (pool == NULL) {
    die("no memory");
  }
  for (int i = 0; i < RUNS; i++) {
    allocator_ns[i] = run(NULL);
    pool_ns[i] = run(pool);
  }
  vc_pool_destroy(&pool);
  printf("| from | ns a buffer, median | least | most |\n| --- | --- | --- | --- |\n");
  show("the allocator", allocator_ns);
  show("a pool", pool_ns);
  return 0;
}
