// Memory that gives out: one allocation after the other fails, those of jansson too.
#pragma once

#include <stddef.h>

// Whether an allocation has failed since the attempt began.
extern int memory_has_failed;

// Calls `attempt` with its first allocation failing, then its second, and so on until it needs no
// more. Returns: how many times one failed.
size_t memory_fail_each(void (*attempt)(void));
