#include <verbacast/base/limits.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

// Without the port, and without padding: the bytes are hashed and compared as they lie.
struct key {
  uint8_t n_bytes;
  uint8_t bytes[16];
};

struct row {
  struct key key;
  size_t n;
  UT_hash_handle hh; // in limits.rows
};

struct vc_limits {
  size_t connections_max, per_address_max;
  pthread_mutex_t mutex; // guards what follows
  size_t n;
  struct row *rows;
};

struct vc_limits *vc_limits_create(size_t connections_max, size_t per_address_max)
{
  struct vc_limits *limits = calloc(1, sizeof *limits);
  if (limits != NULL) {
    limits->connections_max = connections_max;
    limits->per_address_max = per_address_max;
    pthread_mutex_init(&limits->mutex, NULL);
  }
  return limits;
}

void vc_limits_destroy(struct vc_limits **limits)
{
  if (*limits == NULL) {
    return;
  }
  struct row *row, *next;
  HASH_ITER(hh, (*limits)->rows, row, next)
  {
    HASH_DEL((*limits)->rows, row);
    free(row);
  }
  pthread_mutex_destroy(&(*limits)->mutex);
  free(*limits);
  *limits = NULL;
}

static struct key key_of(const struct vc_address *address)
{
  struct key key = {.n_bytes = address->n_bytes};
  memcpy(key.bytes, address->bytes, address->n_bytes);
  return key;
}

static struct row *find_row(struct vc_limits *limits, const struct key *key, int may_create)
{
  struct row *row;
  HASH_FIND(hh, limits->rows, key, sizeof *key, row);
  if (row == NULL && may_create) {
    row = calloc(1, sizeof *row);
    if (row != NULL) {
      row->key = *key;
      HASH_ADD(hh, limits->rows, key, sizeof row->key, row);
      if (row->hh.tbl == NULL) { // no memory for the table
        free(row);
        row = NULL;
      }
    }
  }
  return row;
}

int vc_limits_exempt(const struct vc_networks *proxies, const struct vc_address *address)
{
  return vc_address_is_loopback(address) || vc_networks_have(proxies, address);
}

int vc_limits_enter(struct vc_limits *limits, const struct vc_address *address, int is_exempt)
{
  struct key key = key_of(address);
  int status = 0;
  pthread_mutex_lock(&limits->mutex);
  if (limits->n >= limits->connections_max) {
    status = 2;
  } else if (!is_exempt) {
    struct row *row = find_row(limits, &key, 1);
    status = row == NULL || row->n >= limits->per_address_max;
    if (status == 0) {
      row->n++;
    }
  }
  limits->n += status == 0;
  pthread_mutex_unlock(&limits->mutex);
  return status;
}

void vc_limits_leave(struct vc_limits *limits, const struct vc_address *address, int is_exempt)
{
  struct key key = key_of(address);
  pthread_mutex_lock(&limits->mutex);
  assert(limits->n > 0);
  limits->n--;
  struct row *row = is_exempt ? NULL : find_row(limits, &key, 0);
  if (row != NULL && --row->n == 0) {
    HASH_DEL(limits->rows, row);
    free(row);
  }
  pthread_mutex_unlock(&limits->mutex);
}

int vc_limits_ask(struct vc_limits *limits, const struct vc_address *address, int is_exempt)
{
  struct key key = key_of(address);
  pthread_mutex_lock(&limits->mutex);
  const struct row *row = is_exempt ? NULL : find_row(limits, &key, 0);
  int status = limits->n >= limits->connections_max               ? 2
               : row != NULL && row->n >= limits->per_address_max ? 1
                                                                  : 0;
  pthread_mutex_unlock(&limits->mutex);
  return status;
}

size_t vc_limits_count(struct vc_limits *limits)
{
  pthread_mutex_lock(&limits->mutex);
  size_t n = limits->n;
  pthread_mutex_unlock(&limits->mutex);
  return n;
}
