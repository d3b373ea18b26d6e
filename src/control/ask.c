#include "room.h"

#include <verbacast/wire/json.h>

#include <string.h>

static struct vc_query *create(enum vc_query_kind kind, const char *slug, int64_t number)
{
  struct vc_query *query = vc_query_create(kind, slug);
  if (query != NULL) {
    vc_query_set_number(query, number);
  }
  return query;
}

// Takes the query, which may be NULL. Returns it, or NULL.
static struct vc_query *put(struct vc_shared_putter *putter, uint32_t worker,
                            struct vc_query *query)
{
  if (query == NULL) {
    return NULL;
  }
  struct vc_item *item = vc_query_item(query);
  if (vc_shared_putter_put(putter, worker, item) != 0) {
    vc_item_destroy(item); // answers itself; nobody waits
    vc_query_unref(query);
    return NULL;
  }
  return query;
}

static struct vc_query *wait_for(struct vc_query *query)
{
  if (query != NULL && vc_query_wait(query, QUERY_TIMEOUT_MS) != 0) {
    vc_query_unref(query);
    return NULL;
  }
  return query;
}

struct vc_query *ask_one(struct vc_shared_putter *putter, uint32_t worker, enum vc_query_kind kind,
                         const char *slug)
{
  return wait_for(put(putter, worker, create(kind, slug, 0)));
}

struct vc_query *ask_worker(struct vc_shared_putter *putter, struct vc_stage *stage,
                            enum vc_query_kind kind, const char *slug, int64_t number)
{
  uint32_t worker = vc_slug_hash(slug, strlen(slug)) % vc_stage_n_workers(stage);
  return wait_for(put(putter, worker, create(kind, slug, number)));
}

struct vc_query *ask_ingest_of(struct vc_control *control, enum vc_query_kind kind,
                               const char *slug, const char *participant)
{
  struct vc_stage *ingest = control->settings.ingest;
  uint32_t worker = vc_slug_hash(slug, strlen(slug)) % vc_stage_n_workers(ingest);
  struct vc_query *query = vc_query_create(kind, slug);
  if (query != NULL) {
    vc_query_set_participant(query, participant);
  }
  return wait_for(put(control->ingest, worker, query));
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
    struct vc_query *query = wait_for(put(putter, i, create(kind, "", 0)));
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
