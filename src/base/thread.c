#include <verbacast/base/thread.h>

#include <signal.h>
#include <stdio.h>

#define NAME_SIZE 16 // the kernel's, with the end

int vc_thread_start(pthread_t *thread, const char *name, size_t stack_bytes,
                    void *(*run)(void *context), void *context)
{
  pthread_attr_t attributes;
  sigset_t all, before;
  pthread_attr_init(&attributes);
  if (stack_bytes > 0) {
    pthread_attr_setstacksize(&attributes, stack_bytes);
  }
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int status = pthread_create(thread, &attributes, run, context);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  pthread_attr_destroy(&attributes);
  if (status == 0) {
    char shown[NAME_SIZE];
    snprintf(shown, sizeof shown, "%s", name);
    pthread_setname_np(*thread, shown);
  }
  return status;
}
