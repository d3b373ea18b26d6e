#include "memory.h"

#include <stdlib.h>
#include <string.h>

// The linker puts these in the place of the real ones.
void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *old, size_t size);
char *__real_strndup(const char *text, size_t most);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *old, size_t size);
char *__wrap_strndup(const char *text, size_t most);

int memory_has_failed;
static size_t n_until_failure; // 0: none is to fail

static int must_fail(void)
{
  if (n_until_failure == 0 || --n_until_failure > 0) {
    return 0;
  }
  memory_has_failed = 1;
  return 1;
}

void *__wrap_malloc(size_t size)
{
  return must_fail() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
  return must_fail() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *old, size_t size)
{
  return must_fail() ? NULL : __real_realloc(old, size);
}

char *__wrap_strndup(const char *text, size_t most)
{
  return must_fail() ? NULL : __real_strndup(text, most);
}

size_t memory_fail_each(void (*attempt)(void))
{
  size_t n = 0;
  do {
    memory_has_failed = 0;
    n_until_failure = ++n;
    attempt();
    n_until_failure = 0;
  } while (memory_has_failed);
  return n - 1;
}
