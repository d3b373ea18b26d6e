#include "room.h"

#include <pthread.h>

#define STACK_BYTES ((size_t)1024 * 1024)

struct deep {
  void (*function)(struct call *call);
  struct call *call;
};

static void *run(void *context)
{
  struct deep *deep = context;
  deep->function(deep->call);
  return NULL;
}

int run_deep(void (*function)(struct call *call), struct call *call)
{
  struct deep deep = {function, call};
  pthread_attr_t attributes;
  pthread_t thread;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, STACK_BYTES);
  int status = pthread_create(&thread, &attributes, run, &deep);
  pthread_attr_destroy(&attributes);
  if (status != 0) {
    return -1;
  }
  pthread_join(thread, NULL);
  return 0;
}
