// Civetweb gives its threads stacks of 100 KB, which a sanitizer's redzones alone outgrow: in such
// builds no stack is smaller than 1 MiB.
#include <dlfcn.h>
#include <pthread.h>
#include <stddef.h>

#define STACK_MIN ((size_t)1024 * 1024)

int pthread_attr_setstacksize(pthread_attr_t *attributes, size_t size)
{
  static int (*next)(pthread_attr_t *, size_t);
  if (next == NULL) {
    *(void **)&next = dlsym(RTLD_NEXT, "pthread_attr_setstacksize");
  }
  return next(attributes, size < STACK_MIN ? STACK_MIN : size);
}
