#include "room.h"

#include <verbacast/flow/ask.h>
#include <verbacast/wire/json.h>

struct vc_query *ask_one(struct vc_shared_putter *putter, uint32_t worker, enum vc_query_kind kind,
                         const char *slug)
{
  return vc_ask_wait(putter, worker, vc_query_create(kind, slug), QUERY_TIMEOUT_MS);
}

struct vc_query *ask_worker(struct vc_shared_putter *putter, struct vc_stage *stage,
                            enum vc_query_kind kind, const char *slug, int64_t number)
{
  struct vc_query *query = vc_query_create(kind, slug);
  if (query != NULL) {
    vc_query_set_number(query, number);
  }
  return vc_ask_wait(putter, vc_ask_worker(stage, slug), query, QUERY_TIMEOUT_MS);
}

struct vc_query *ask_ingest_of(struct vc_control *control, enum vc_query_kind kind,
                               const char *slug, const char *participant)
{
  struct vc_query *query = vc_query_create(kind, slug);
  if (query != NULL) {
    vc_query_set_participant(query, participant);
  }
  uint32_t worker = vc_ask_worker(control->settings.ingest, slug);
  return vc_ask_wait(control->ingest, worker, query, QUERY_TIMEOUT_MS);
}

// Values that several workers have are collected in a list under their key.
static void merge(json_t *into, const json_t *from)
{
  const char *key;
  json_t *value;
  json_object_foreach((json_t *)from, key, value)
  {
    json_t *list = json_object_get(into, key);
    if (list == NULL) {
      list = json_array();
      json_object_set_new(into, key, list);
    }
    json_array_append(list, value);
  }
}

json_t *ask_all(struct vc_shared_putter *putter, struct vc_stage *stage, enum vc_query_kind kind)
{
  json_t *all = json_object();
  for (uint32_t i = 0; all != NULL && i < vc_stage_n_workers(stage); i++) {
    struct vc_query *query = ask_one(putter, i, kind, "");
    struct vc_buffer *reply = query != NULL ? vc_query_reply(query) : NULL;
    json_t *part =
        reply != NULL ? vc_json_parse((const char *)reply->data, reply->size, NULL) : NULL;
    vc_query_unref(query);
    if (part == NULL) {
      json_decref(all);
      return NULL;
    }
    merge(all, part);
    json_decref(part);
  }
  return all;
}
