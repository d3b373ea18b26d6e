#include "ledger.h"

#include <stdlib.h>

// uthash keeps the order of insertion: its head is the oldest.
struct seen {
  UT_hash_handle hh;
  uint64_t key;
};

static struct seen *find(const struct dedup *dedup, uint64_t key)
{
  struct seen *seen;
  HASH_FIND(hh, dedup->seen, &key, sizeof key, seen);
  return seen;
}

int dedup_has(const struct dedup *dedup, uint64_t key)
{
  return find(dedup, key) != NULL;
}

// The oldest gives its memory when the window is full.
static struct seen *room_for_one(struct dedup *dedup)
{
  struct seen *oldest = dedup->seen;
  if (oldest != NULL && HASH_COUNT(dedup->seen) >= dedup->window) {
    HASH_DEL(dedup->seen, oldest);
    return oldest;
  }
  return malloc(sizeof *oldest);
}

int dedup_add(struct dedup *dedup, uint64_t key)
{
  if (find(dedup, key) != NULL) {
    return 0;
  }
  struct seen *seen = room_for_one(dedup);
  if (seen == NULL) {
    return -1;
  }
  *seen = (struct seen){.key = key};
  HASH_ADD(hh, dedup->seen, key, sizeof seen->key, seen);
  if (seen->hh.tbl == NULL) {
    free(seen);
    return -1;
  }
  return 0;
}

void dedup_fini(struct dedup *dedup)
{
  struct seen *seen, *next;
  HASH_ITER(hh, dedup->seen, seen, next)
  {
    HASH_DEL(dedup->seen, seen);
    free(seen);
  }
}
