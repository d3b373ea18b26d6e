// For ThreadSanitizer builds only. Debian's librdkafka makes its threads and locks by C11's
// <threads.h>, whose functions gcc's ThreadSanitizer does not know: a thread that thrd_create made
// has no state there and dies. Defined here they stand before those of the C library, for the
// library too when the program exports them, and lead to POSIX threads, which are known.
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <threads.h>

_Static_assert(sizeof(mtx_t) >= sizeof(pthread_mutex_t), "a mutex has room in C11's");
_Static_assert(sizeof(cnd_t) >= sizeof(pthread_cond_t), "a condition has room in C11's");

struct start {
  thrd_start_t run;
  void *context;
};

static void *run(void *context)
{
  struct start start = *(struct start *)context;
  free(context);
  return (void *)(intptr_t)start.run(start.context); // NOLINT(performance-no-int-to-ptr)
}

static int status_of(int code)
{
  switch (code) {
  case 0:
    return thrd_success;
  case EBUSY:
    return thrd_busy;
  case ETIMEDOUT:
    return thrd_timedout;
  case ENOMEM:
    return thrd_nomem;
  default:
    return thrd_error;
  }
}

int thrd_create(thrd_t *thread, thrd_start_t function, void *context)
{
  void *room; // not by malloc, which tests make fail: the library does not stand that
  if (posix_memalign(&room, sizeof(void *), sizeof(struct start)) != 0) {
    return thrd_nomem;
  }
  struct start *start = room;
  *start = (struct start){.run = function, .context = context};
  int status = status_of(pthread_create(thread, NULL, run, start));
  if (status != thrd_success) {
    free(start);
  }
  return status;
}

int thrd_join(thrd_t thread, int *result)
{
  void *given = NULL;
  int status = status_of(pthread_join(thread, &given));
  if (result != NULL) {
    *result = (int)(intptr_t)given;
  }
  return status;
}

int thrd_detach(thrd_t thread)
{
  return status_of(pthread_detach(thread));
}

int mtx_init(mtx_t *mutex, int type)
{
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_settype(&attributes, (type & mtx_recursive) != 0 ? PTHREAD_MUTEX_RECURSIVE
                                                                     : PTHREAD_MUTEX_NORMAL);
  int status = status_of(pthread_mutex_init((pthread_mutex_t *)mutex, &attributes));
  pthread_mutexattr_destroy(&attributes);
  return status;
}

int mtx_lock(mtx_t *mutex)
{
  return status_of(pthread_mutex_lock((pthread_mutex_t *)mutex));
}

int mtx_timedlock(mtx_t *restrict mutex, const struct timespec *restrict until)
{
  return status_of(pthread_mutex_timedlock((pthread_mutex_t *)mutex, until));
}

int mtx_trylock(mtx_t *mutex)
{
  return status_of(pthread_mutex_trylock((pthread_mutex_t *)mutex));
}

int mtx_unlock(mtx_t *mutex)
{
  return status_of(pthread_mutex_unlock((pthread_mutex_t *)mutex));
}

void mtx_destroy(mtx_t *mutex)
{
  pthread_mutex_destroy((pthread_mutex_t *)mutex);
}

int cnd_init(cnd_t *condition)
{
  return status_of(pthread_cond_init((pthread_cond_t *)condition, NULL));
}

int cnd_signal(cnd_t *condition)
{
  return status_of(pthread_cond_signal((pthread_cond_t *)condition));
}

int cnd_broadcast(cnd_t *condition)
{
  return status_of(pthread_cond_broadcast((pthread_cond_t *)condition));
}

int cnd_wait(cnd_t *condition, mtx_t *mutex)
{
  return status_of(pthread_cond_wait((pthread_cond_t *)condition, (pthread_mutex_t *)mutex));
}

int cnd_timedwait(cnd_t *restrict condition, mtx_t *restrict mutex,
                  const struct timespec *restrict until)
{
  return status_of(
      pthread_cond_timedwait((pthread_cond_t *)condition, (pthread_mutex_t *)mutex, until));
}

void cnd_destroy(cnd_t *condition)
{
  pthread_cond_destroy((pthread_cond_t *)condition);
}
