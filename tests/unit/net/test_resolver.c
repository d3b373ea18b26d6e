// A resolver that does not answer: this program's own getaddrinfo, which libcurl calls in a thread
// of its own, waits at a gate. The worker must not wait with it.
#include <verbacast/net/client.h>

#include <dlfcn.h>
#include <netdb.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define PATIENCE_S 30
#define NAME "silent.test"

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
/* guarded by the mutex */
static int is_open, n_at_gate, n_through, n_done;
static enum vc_trouble trouble;

// Returns: 1 when *count came to `n` in time. Holds the mutex.
static int await(const int *count, int n)
{
  struct timespec until;
  clock_gettime(CLOCK_REALTIME, &until);
  until.tv_sec += PATIENCE_S;
  while (*count < n && pthread_cond_timedwait(&changed, &mutex, &until) == 0) {
  }
  return *count >= n;
}

static void set(int *count, int by)
{
  pthread_mutex_lock(&mutex);
  *count += by;
  pthread_cond_broadcast(&changed);
  pthread_mutex_unlock(&mutex);
}

int getaddrinfo(const char *restrict name, const char *restrict service,
                const struct addrinfo *restrict hints, struct addrinfo **restrict result)
{
  if (name == NULL || strcmp(name, NAME) != 0) {
    int (*next)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    *(void **)&next = dlsym(RTLD_NEXT, "getaddrinfo");
    return next(name, service, hints, result);
  }
  set(&n_at_gate, 1);
  pthread_mutex_lock(&mutex);
  await(&is_open, 1);
  pthread_mutex_unlock(&mutex);
  set(&n_through, 1);
  return EAI_AGAIN;
}

// --- a worker with one POST: an item begins it, another cancels it

static struct vc_client *client;
static struct vc_post *post;

struct errand {
  struct vc_owned_item owned;
  uint32_t timeout_ms; // 0: cancel
};

static void errand_destroy(struct vc_item *item)
{
  free(item);
}

static void done(void *context, const struct vc_post_answer *answer)
{
  vc_post_cancel(&post);
  pthread_mutex_lock(&mutex);
  trouble = answer->trouble;
  pthread_mutex_unlock(&mutex);
  set(&n_done, 1);
}

static int enter(struct vc_worker *worker, void *config, struct vc_error *error)
{
  return vc_client_create(&client, worker, &(struct vc_client_settings){.user_agent = "test/1"},
                          error);
}

static void handle(struct vc_worker *worker, struct vc_item *item)
{
  const struct errand *errand = (struct errand *)item;
  if (errand->timeout_ms == 0) {
    vc_post_cancel(&post);
    set(&n_done, 1);
  } else if (vc_post_start(&post, client,
                           &(struct vc_post_request){.url = "http://" NAME "/",
                                                     .body = "",
                                                     .timeout_ms = errand->timeout_ms,
                                                     .done = done}) != 0) {
    abort();
  }
  vc_item_destroy(item);
}

static void leave(struct vc_worker *worker)
{
  vc_client_destroy(&client);
}

static const struct vc_stage_ops ops = {
    .name = "host", .enter = enter, .handle = handle, .leave = leave};

static void put(struct vc_putter *putter, uint32_t timeout_ms)
{
  struct errand *errand = malloc(sizeof *errand);
  assert_non_null(errand);
  *errand = (struct errand){{{VC_ITEM_OWNED}, errand_destroy}, timeout_ms};
  assert_int_equal(vc_putter_put(putter, 0, &errand->owned.item), 0);
}

static void await_locked(const int *count, int n)
{
  pthread_mutex_lock(&mutex);
  int is_there = await(count, n);
  pthread_mutex_unlock(&mutex);
  assert_true(is_there);
}

static void test_worker_waits_for_no_resolver(void **state)
{
  struct vc_stage *stage;
  struct vc_error error;
  const struct vc_stage_settings settings = {
      .ops = &ops, .n_workers = 1, .lane_capacity = 15, .clock = &vc_clock_system};
  assert_int_equal(vc_stage_create(&stage, &settings, &error), 0);
  struct vc_putter *putter = vc_putter_create(stage);
  assert_non_null(putter);
  assert_int_equal(vc_stage_start(stage, &error), 0);

  put(putter, 100); // its time is over while the name is looked up
  await_locked(&n_done, 1);
  assert_int_equal(trouble, VC_TROUBLE_TIMEOUT);
  put(putter, 60000); // given up
  await_locked(&n_at_gate, 2);
  put(putter, 0);
  await_locked(&n_done, 2);
  put(putter, 60000); // left to the client's end
  await_locked(&n_at_gate, 3);
  vc_stage_stop(stage, 1000);
  vc_stage_destroy(&stage);

  pthread_mutex_lock(&mutex);
  int n_early = n_through;
  pthread_mutex_unlock(&mutex);
  set(&is_open, 1);
  await_locked(&n_through, 3);
  assert_int_equal(n_early, 0);
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_worker_waits_for_no_resolver)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
