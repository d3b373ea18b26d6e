#include <verbacast/flow/query.h>

#include <verbacast/flow/stage.h>

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct vc_query {
  struct vc_item item;
  /* set before it is put, then read-only */
  enum vc_query_kind kind;
  char slug[VC_SLUG_MAX + 1];
  char participant[VC_PARTICIPANT_MAX + 1];
  struct vc_shared_putter *back; // NULL: the asker waits
  uint32_t back_worker;
  /* any thread, atomic */
  _Atomic uint32_t n_refs;
  /* guarded by the mutex until is_answered, then read-only */
  pthread_mutex_t mutex;
  pthread_cond_t answered;
  int is_answered;
  int status;
  struct vc_buffer *reply;
  /* the asker's until it is put, then the stage's until it answers, then read-only */
  int64_t number;
  int is_incomplete;
};

struct vc_query *vc_query_create(enum vc_query_kind kind, const char *slug)
{
  struct vc_query *query = calloc(1, sizeof *query);
  if (query == NULL) {
    return NULL;
  }
  query->item.kind = VC_ITEM_QUERY;
  query->kind = kind;
  if (slug != NULL) {
    size_t size = strlen(slug);
    assert(size <= VC_SLUG_MAX);
    memcpy(query->slug, slug, size + 1);
  }
  atomic_init(&query->n_refs, 1);
  pthread_condattr_t attributes;
  pthread_condattr_init(&attributes);
  pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
  pthread_mutex_init(&query->mutex, NULL);
  pthread_cond_init(&query->answered, &attributes);
  pthread_condattr_destroy(&attributes);
  return query;
}

int vc_query_wait(struct vc_query *query, uint32_t timeout_ms)
{
  struct timespec limit;
  clock_gettime(CLOCK_MONOTONIC, &limit);
  limit.tv_sec += timeout_ms / 1000;
  limit.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
  if (limit.tv_nsec >= 1000000000) {
    limit.tv_sec++;
    limit.tv_nsec -= 1000000000;
  }
  int status = 0;
  pthread_mutex_lock(&query->mutex);
  while (!query->is_answered && status == 0) {
    status = pthread_cond_timedwait(&query->answered, &query->mutex, &limit);
  }
  int is_late = !query->is_answered;
  pthread_mutex_unlock(&query->mutex);
  return is_late;
}

int vc_query_status(const struct vc_query *query)
{
  return query->status;
}

struct vc_buffer *vc_query_reply(const struct vc_query *query)
{
  return query->reply;
}

int vc_query_is_complete(const struct vc_query *query)
{
  return !query->is_incomplete;
}

void vc_query_mark_incomplete(struct vc_query *query)
{
  query->is_incomplete = 1;
}

void vc_query_unref(struct vc_query *query)
{
  if (query != NULL && atomic_fetch_sub_explicit(&query->n_refs, 1, memory_order_acq_rel) == 1) {
    pthread_mutex_destroy(&query->mutex);
    pthread_cond_destroy(&query->answered);
    vc_buffer_unref(query->reply);
    free(query);
  }
}

struct vc_item *vc_query_item(struct vc_query *query)
{
  atomic_fetch_add_explicit(&query->n_refs, 1, memory_order_relaxed);
  return &query->item;
}

struct vc_query *vc_query_of(struct vc_item *item)
{
  assert(item->kind == VC_ITEM_QUERY);
  return (struct vc_query *)item;
}

void vc_query_set_participant(struct vc_query *query, const char *participant)
{
  size_t size = strlen(participant);
  assert(size <= VC_PARTICIPANT_MAX);
  memcpy(query->participant, participant, size + 1);
}

const char *vc_query_participant(const struct vc_query *query)
{
  return query->participant;
}

void vc_query_set_number(struct vc_query *query, int64_t number)
{
  query->number = number;
}

int64_t vc_query_number(const struct vc_query *query)
{
  return query->number;
}

enum vc_query_kind vc_query_kind(const struct vc_query *query)
{
  return query->kind;
}

const char *vc_query_slug(const struct vc_query *query)
{
  return query->slug;
}

void vc_query_answer(struct vc_query *query, int status, struct vc_buffer *reply)
{
  pthread_mutex_lock(&query->mutex);
  query->status = status;
  query->reply = reply;
  query->is_answered = 1;
  pthread_cond_signal(&query->answered);
  pthread_mutex_unlock(&query->mutex);
  if (query->back == NULL ||
      vc_shared_putter_put(query->back, query->back_worker, &query->item) != 0) {
    vc_query_unref(query);
  }
}

void vc_query_drop(struct vc_query *query)
{
  if (vc_query_wait(query, 0) == 0) {
    vc_query_unref(query); // on its way back
  } else {
    vc_query_answer(query, 503, NULL);
  }
}

void vc_query_set_back(struct vc_query *query, struct vc_shared_putter *back, uint32_t worker)
{
  query->back = back;
  query->back_worker = worker;
}
