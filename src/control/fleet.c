// What other nodes know, through Redis. Without it a node is a fleet of one.
#include "room.h"

#include <verbacast/wire/json.h>

#include <stdlib.h>
#include <string.h>

// --- sessions

static int is_published(const json_t *row)
{
  return json_is_object(json_object_get(row, "publisher"));
}

// Of two rows of a slug, whether `a` tells more: who publishes it, else who knows the newer epoch,
// else who has the smaller name, so that it looks alike wherever it is asked.
static int tells_more(const json_t *a, const json_t *b)
{
  if (is_published(a) != is_published(b)) {
    return is_published(a);
  }
  int64_t epoch_a = vc_json_integer(a, "epoch", 0), epoch_b = vc_json_integer(b, "epoch", 0);
  return epoch_a != epoch_b
             ? epoch_a > epoch_b
             : strcmp(vc_json_string(a, "node", ""), vc_json_string(b, "node", "")) < 0;
}

// The row that tells more, with the viewers of both.
static void merge_row(json_t *by_slug, json_t *row)
{
  const char *slug = vc_json_string(row, "slug", NULL);
  json_t *held = slug != NULL ? json_object_get(by_slug, slug) : NULL;
  if (slug == NULL) {
    return;
  }
  long long n_viewers = vc_json_integer(row, "viewers", 0);
  json_t *kept = row;
  if (held != NULL) {
    n_viewers += vc_json_integer(held, "viewers", 0);
    kept = tells_more(row, held) ? row : held;
  }
  json_object_set_new(kept, "viewers", json_integer(n_viewers));
  json_object_set(by_slug, slug, kept);
}

static void merge_ours(json_t *by_slug, json_t *rows, const char *node)
{
  size_t i;
  json_t *row;
  json_array_foreach(rows, i, row)
  {
    json_object_set_new(row, "node", json_string(node));
    merge_row(by_slug, row);
  }
}

// The rows of others, without those that we said ourselves a moment ago.
static void merge_others(json_t *by_slug, json_t *rows, const char *node)
{
  size_t i;
  json_t *row;
  json_array_foreach(rows, i, row)
  {
    if (strcmp(vc_json_string(row, "node", ""), node) != 0) {
      merge_row(by_slug, row);
    }
  }
}

// In the order of the slugs, so that it looks alike wherever it is asked.
static int compare_slugs(const void *a, const void *b)
{
  return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static json_t *list_by_slug(json_t *by_slug)
{
  size_t n = json_object_size(by_slug), i = 0;
  const char **slugs = calloc(n + 1, sizeof *slugs);
  json_t *list = slugs != NULL ? json_array() : NULL;
  const char *slug;
  json_t *row;
  if (list != NULL) {
    json_object_foreach(by_slug, slug, row)
    {
      slugs[i++] = slug;
    }
    qsort(slugs, n, sizeof *slugs, compare_slugs);
    for (i = 0; i < n; i++) {
      json_array_append(list, json_object_get(by_slug, slugs[i]));
    }
  }
  free(slugs);
  return list;
}

// A list that some nodes are missing from is none.
static json_t *ask_others(struct vc_control *control, const char **why)
{
  *why = "Redis does not answer: /sessions tells what is on this node";
  if (control->publisher == NULL) {
    return json_array();
  }
  struct vc_query *query = ask_one(control->publisher, 0, VC_QUERY_FLEET_SESSIONS, "");
  struct vc_buffer *reply =
      query != NULL && vc_query_status(query) == 200 ? vc_query_reply(query) : NULL;
  json_t *rows = NULL;
  if (reply != NULL && !vc_query_is_complete(query)) {
    *why = "the sessions of all nodes are more than 16 MiB, or one's are more than 4 MiB: each "
           "node's /sessions tells its own";
    vc_metric_add(control->slots, FLEET_REFUSED, 1);
  } else if (reply != NULL) {
    rows = vc_json_parse((const char *)reply->data, reply->size, NULL);
  }
  vc_query_unref(query);
  return rows;
}

json_t *fleet_sessions(struct vc_control *control, json_t *ours, const char **why)
{
  json_t *others = ask_others(control, why);
  json_t *by_slug = others != NULL ? json_object() : NULL;
  json_t *list = NULL;
  if (by_slug != NULL) {
    merge_ours(by_slug, ours, control->settings.node);
    merge_others(by_slug, others, control->settings.node);
    list = list_by_slug(by_slug);
  }
  json_decref(by_slug);
  json_decref(others);
  json_decref(ours);
  return list;
}

// --- one session

int64_t fleet_began(struct vc_control *control, const char *slug)
{
  if (control->publisher == NULL) {
    return 0;
  }
  struct vc_query *query =
      ask_worker(control->publisher, control->settings.publisher, VC_QUERY_FLEET_BEGAN, slug, 0);
  int status = query != NULL ? vc_query_status(query) : 503;
  int64_t began_ms = status == 200 ? vc_query_number(query) : status == 404 ? 0 : -1;
  vc_query_unref(query);
  return began_ms;
}

struct vc_query *fleet_transcript(struct vc_control *control, const char *slug)
{
  return ask_one(control->watcher, 0, VC_QUERY_FLEET_TRANSCRIPT, slug);
}

const char *fleet_erase(struct vc_control *control, const char *slug, int64_t epoch)
{
  if (control->publisher == NULL) {
    return NULL;
  }
  struct vc_query *query = ask_worker(control->publisher, control->settings.publisher,
                                      VC_QUERY_FLEET_ERASE, slug, epoch);
  int status = query != NULL ? vc_query_status(query) : 503;
  vc_query_unref(query);
  return status == 409                    ? FLEET_LIVE
         : status == 200 || status == 404 ? NULL
                                          : "Redis did not delete it, nor did the other nodes";
}
