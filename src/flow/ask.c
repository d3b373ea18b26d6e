#include <verbacast/flow/ask.h>

#include <string.h>

uint32_t vc_ask_worker(const struct vc_stage *stage, const char *slug)
{
  return vc_slug_hash(slug, strlen(slug)) % vc_stage_n_workers(stage);
}

// Borrows the query. Returns: 0 asked, 1 not.
static int put(struct vc_shared_putter *putter, uint32_t worker, struct vc_query *query)
{
  if (query == NULL) {
    return 1;
  }
  struct vc_item *item = vc_query_item(query);
  if (vc_shared_putter_put(putter, worker, item) != 0) {
    vc_item_destroy(item); // answers itself
    return 1;
  }
  return 0;
}

struct vc_query *vc_ask_wait(struct vc_shared_putter *putter, uint32_t worker,
                             struct vc_query *query, uint32_t timeout_ms)
{
  if (put(putter, worker, query) != 0 || vc_query_wait(query, timeout_ms) != 0) {
    vc_query_unref(query);
    return NULL;
  }
  return query;
}

int vc_ask_put(struct vc_shared_putter *putter, uint32_t worker, struct vc_query *query)
{
  int status = put(putter, worker, query);
  vc_query_unref(query);
  return status;
}

int vc_ask_back(struct vc_shared_putter *putter, uint32_t worker, struct vc_query *query,
                struct vc_shared_putter *back, uint32_t back_worker)
{
  struct vc_item *item = vc_query_item(query);
  vc_query_set_back(query, back, back_worker);
  if (vc_shared_putter_put(putter, worker, item) == 0) {
    return 0;
  }
  vc_query_set_back(query, NULL, 0);
  vc_item_destroy(item); // answers itself
  return 1;
}
