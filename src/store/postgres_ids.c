#include "postgres.h"

#include <stdlib.h>
#include <string.h>

struct key {
  size_t size;
  char bytes[sizeof(int64_t) + PG_KEY_BYTES_MAX];
};

static void print_key(struct key *key, int64_t number, const char *text)
{
  size_t size = strnlen(text, PG_KEY_BYTES_MAX);
  key->size = sizeof number + size;
  memcpy(key->bytes, &number, sizeof number);
  memcpy(key->bytes + sizeof number, text, size);
}

static struct pg_id *find(const struct pg_ids *ids, const struct key *key)
{
  struct pg_id *id;
  HASH_FIND(hh, ids->first, key->bytes, key->size, id);
  return id;
}

struct pg_id *pg_ids_find(const struct pg_ids *ids, int64_t number, const char *text)
{
  struct key key;
  print_key(&key, number, text);
  return find(ids, &key);
}

struct pg_id *pg_ids_add(struct pg_ids *ids, int64_t number, const char *text)
{
  struct key key;
  print_key(&key, number, text);
  struct pg_id *id = find(ids, &key);
  if (id != NULL) {
    return id;
  }
  id = calloc(1, sizeof *id + key.size);
  if (id == NULL) {
    return NULL;
  }
  id->number = number;
  memcpy(id->key, key.bytes, key.size);
  HASH_ADD_KEYPTR(hh, ids->first, id->key, key.size, id);
  if (id->hh.tbl == NULL) {
    free(id);
    return NULL;
  }
  return id;
}

void pg_ids_remember(struct pg_ids *ids, int64_t number, const char *text, int64_t id)
{
  struct pg_id *added = pg_ids_add(ids, number, text);
  if (added != NULL) {
    added->id = id;
  }
  if (HASH_COUNT(ids->first) > PG_IDS_MAX) {
    struct pg_id *oldest = ids->first;
    HASH_DEL(ids->first, oldest);
    free(oldest);
  }
}

void pg_ids_fini(struct pg_ids *ids)
{
  struct pg_id *id, *next;
  HASH_ITER(hh, ids->first, id, next)
  {
    HASH_DEL(ids->first, id);
    free(id);
  }
}
