#include "backend.h"

#include <verbacast/base/clock.h>

const char store_why_conflict[] = "another text has its place";
const char store_why_partial[] = "isFinal is false: it is no final";

static const struct store_backend *const backends[] = {&store_sqlite, &store_postgres};

static const struct store_backend *backend_of(const char *url)
{
  for (size_t i = 0; i < sizeof backends / sizeof *backends; i++) {
    if (backends[i]->is_mine(url)) {
      return backends[i];
    }
  }
  return NULL;
}

int vc_store_check_url(const char *url, struct vc_error *error)
{
  const struct store_backend *backend = backend_of(url);
  const char *why = url[0] == '\0'    ? NULL
                    : backend == NULL ? "is no store"
                                      : backend->check_url(url);
  return why == NULL ? 0
                     : vc_error_set(error,
                                    "%s; allowed: sqlite:PATH, postgresql://USER@HOST/DATABASE, or "
                                    "empty for none",
                                    why);
}

int vc_store_exists(const char *url)
{
  const struct store_backend *backend = backend_of(url);
  return backend != NULL && (backend->exists == NULL || backend->exists(url));
}

int vc_store_is_file(const char *url)
{
  return backend_of(url) == &store_sqlite;
}

// A partial has the utteranceId of the final that comes after it: kept, it would have its place.
int store_parse(struct vc_store_row *row, struct vc_record_parsed *record)
{
  if (vc_record_parse(row->value, row->size, record, &row->why) != 0) {
    return -1;
  }
  const struct vc_record_fields *fields = &record->fields;
  if (fields->type != VC_RECORD_TYPE_TRANSCRIPT || fields->is_final) {
    return 0;
  }
  row->epoch = fields->epoch; // an erasure of an older one does not keep it out
  row->why = store_why_partial;
  vc_record_parsed_fini(record);
  return -1;
}

uint32_t vc_store_call_max_ms(const char *url)
{
  const struct store_backend *backend = backend_of(url);
  return backend != NULL ? backend->call_max_ms : 0;
}

static int open_store(struct vc_store **store, const char *url, enum store_opening opening,
                      struct vc_error *error)
{
  struct vc_error why = {.text = "is no store"};
  *store = NULL;
  if (url[0] == '\0' || vc_store_check_url(url, &why) != 0) {
    return vc_error_set(error, "store: the URL of the database %s", why.text);
  }
  return backend_of(url)->open(store, url, opening, error);
}

int vc_store_open(struct vc_store **store, const char *url, struct vc_error *error)
{
  return open_store(store, url, STORE_CREATE, error);
}

int vc_store_open_existing(struct vc_store **store, const char *url, struct vc_error *error)
{
  return open_store(store, url, STORE_EXISTING, error);
}

void vc_store_close(struct vc_store **store)
{
  if (*store != NULL) {
    (*store)->backend->close(*store);
    *store = NULL;
  }
}

unsigned vc_store_connections(const struct vc_store *store)
{
  return store->n_connections;
}

int vc_store_write_batch(struct vc_store *store, const struct vc_store_batch *batch,
                         struct vc_error *error)
{
  return store->backend->write_batch(store, batch, error);
}

int vc_store_write(struct vc_store *store, struct vc_store_row *rows, size_t n_rows,
                   struct vc_error *error)
{
  return vc_store_write_batch(store, &(struct vc_store_batch){.rows = rows, .n_rows = n_rows},
                              error);
}

int vc_store_find_position(struct vc_store *store, const char *cluster, const char *group,
                           const char *topic, int32_t partition, int64_t *next,
                           struct vc_error *error)
{
  return store->backend->find_position(store, cluster, group, topic, partition, next, error);
}

int vc_store_find_other_cluster(struct vc_store *store, const char *cluster, const char *group,
                                char *other, size_t size, struct vc_error *error)
{
  return store->backend->find_other_cluster(store, cluster, group, other, size, error);
}

int vc_store_reset_positions(struct vc_store *store, const char *group, struct vc_error *error)
{
  return store->backend->reset_positions(store, group, error);
}

static void count_expired(struct vc_store_expiry *expiry, enum store_expired what,
                          const struct vc_error *why)
{
  expiry->n_gone += what == STORE_EXPIRED_GONE;
  expiry->has_more = what != STORE_EXPIRED_NONE;
  if (what == STORE_EXPIRED_KEPT) {
    expiry->n_kept++;
    expiry->why = *why;
  }
}

int vc_store_expire(struct vc_store *store, int64_t before_unix_ms, long most,
                    struct vc_store_expiry *expiry, struct vc_error *error)
{
  uint64_t end_ns = vc_clock_now_ns(&vc_clock_system) + VC_STORE_EXPIRE_MS * VC_NS_PER_MS;
  *expiry = (struct vc_store_expiry){.has_more = 1};
  while (expiry->has_more && expiry->n_gone + expiry->n_kept < most &&
         vc_clock_now_ns(&vc_clock_system) < end_ns) {
    int what = store->backend->expire_next(store, before_unix_ms, error);
    if (what < 0) {
      return -1;
    }
    count_expired(expiry, (enum store_expired)what, error);
  }
  return store->backend->end_expiry(store, before_unix_ms, error);
}

long vc_store_read(struct vc_store *store, const char *slug, long most,
                   void (*visit)(void *context, const struct vc_record_fields *fields),
                   void *context, struct vc_error *error)
{
  return store->backend->read(store, slug, most, visit, context, error);
}

int64_t vc_store_last_epoch(struct vc_store *store, const char *slug, struct vc_error *error)
{
  return store->backend->last_epoch(store, slug, error);
}

int64_t vc_store_highest_epoch(struct vc_store *store, struct vc_error *error)
{
  return store->backend->last_epoch(store, NULL, error);
}

long vc_store_erase(struct vc_store *store, const char *slug, int64_t epoch, int64_t now_ms,
                    struct vc_error *error)
{
  return store->backend->erase(store, slug, epoch, now_ms, error);
}
