// Memory that gives out: allocations fail as the test says, those of jansson too. For programs that
// depend on `no_memory_dep`. One thread arms it; those of any fail.
#pragma once

#include <stdatomic.h>
#include <stddef.h>

// Of the allocations from now on, `n` fail after `after` went well; n 0: none.
void memory_fail(size_t after, size_t n);
// Returns: allocations since the last memory_fail.
size_t memory_n_allocations(void);
// Those made while it is 0 go well and are not counted; NULL: all count.
void memory_count_while(const int *is_counting);

// Whether an allocation has failed since the last memory_fail.
extern atomic_int memory_has_failed;

// Calls `attempt` with its first allocation failing, then its second, and so on until it needs no
// more. Returns: how many times one failed.
size_t memory_fail_each(void (*attempt)(void));
