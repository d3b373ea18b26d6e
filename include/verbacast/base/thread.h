// Threads of ours: they have a name, and leave signals to main.
#pragma once

#include <pthread.h>
#include <stddef.h>

// `name`: at most 15 bytes, the rest is cut off. stack_bytes 0: the system's. Returns: 0, or an
// errno.
int vc_thread_start(pthread_t *thread, const char *name, size_t stack_bytes,
                    void *(*run)(void *context), void *context);
