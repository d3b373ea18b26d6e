#include "no_memory.h"

#include <errno.h>
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

atomic_int memory_has_failed;
static const int *counting;
static atomic_size_t n_allocations, fail_after, n_failing;

static int must_fail(void)
{
  if (counting != NULL && !*counting) {
    return 0;
  }
  size_t at = atomic_fetch_add(&n_allocations, 1);
  int fails = at >= fail_after && at - fail_after < n_failing;
  atomic_fetch_or(&memory_has_failed, fails);
  errno = fails ? ENOMEM : errno;
  return fails;
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

void memory_fail(size_t after, size_t n)
{
  memory_has_failed = 0;
  n_allocations = 0;
  fail_after = after;
  n_failing = n;
}

size_t memory_n_allocations(void)
{
  return n_allocations;
}

void memory_count_while(const int *is_counting)
{
  counting = is_counting;
}

size_t memory_fail_each(void (*attempt)(void))
{
  size_t n = 0;
  for (;; n++) {
    memory_fail(n, 1);
    attempt();
    n_failing = 0;
    if (!memory_has_failed) {
      return n;
    }
  }
}
