// Asking: a query is put on a lane of a stage, and its answer waited for, not longer than the asker
// says. When the lane is full, nothing is asked: the asker hears of it at once.
//
// Thread: any that shares the putter; one that waits is no stage's. A stage's worker, which may
// not, has the answer put back to it.
#pragma once

#include <stdint.h>

#include <verbacast/flow/query.h>
#include <verbacast/flow/stage.h>

// Returns: the worker that has the slug.
uint32_t vc_ask_worker(const struct vc_stage *stage, const char *slug);
// Takes the query, which may be NULL: there was no memory for it.
// Returns: the answered query, a reference of the caller's, or NULL: not asked, or not in time.
struct vc_query *vc_ask_wait(struct vc_shared_putter *putter, uint32_t worker,
                             struct vc_query *query, uint32_t timeout_ms);
// Takes the query, which may be NULL; nobody waits for its answer. Returns: 0 asked, 1 not.
int vc_ask_put(struct vc_shared_putter *putter, uint32_t worker, struct vc_query *query);
// Borrows the query, which comes back, answered, on a lane of `back`; not where that is full.
// Returns: 0 asked, 1 not: it does not come.
int vc_ask_back(struct vc_shared_putter *putter, uint32_t worker, struct vc_query *query,
                struct vc_shared_putter *back, uint32_t back_worker);
