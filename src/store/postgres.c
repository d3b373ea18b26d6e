#include "postgres.h"

#include <stdlib.h>
#include <string.h>

static int is_mine(const char *url)
{
  return strncmp(url, "postgresql://", 13) == 0 || strncmp(url, "postgres://", 11) == 0;
}

static const char *value_of(const PQconninfoOption *options, const char *key)
{
  for (; options->keyword != NULL; options++) {
    if (strcmp(options->keyword, key) == 0 && options->val != NULL) {
      return options->val;
    }
  }
  return "";
}

// A password stands where everything that prints URLs looks for it.
static const char *check_password(const char *url, const PQconninfoOption *options)
{
  const char *host = strstr(url, "://") + 3;
  const char *end = host + strcspn(host, "/?");
  const char *at = memchr(host, '@', (size_t)(end - host));
  int has_password = at != NULL && memchr(host, ':', (size_t)(at - host)) != NULL;
  return (has_password || value_of(options, "password")[0] == '\0') &&
                 value_of(options, "sslpassword")[0] == '\0'
             ? NULL
             : "has a password behind its '?': it stands before the host, USER:PASSWORD@HOST";
}

static const char *check_url(const char *url)
{
  PQconninfoOption *options = PQconninfoParse(url, NULL); // its message would quote the password
  if (options == NULL) {
    return "is none that PostgreSQL understands";
  }
  const char *why = check_password(url, options);
  PQconninfoFree(options);
  return why;
}

static void close_store(struct vc_store *base)
{
  struct pg_store *store = (struct pg_store *)base;
  pg_drop_connection(store);
  free(store->url);
  free(store);
}

static int open_store(struct vc_store **store_out, const char *url, enum store_opening opening,
                      struct vc_error *error)
{
  struct pg_store *store = calloc(1, sizeof *store);
  char *copy = strdup(url);
  if (store == NULL || copy == NULL) {
    free(store);
    free(copy);
    return vc_error_set(error, "store: no memory");
  }
  store->base.backend = &store_postgres;
  store->url = copy;
  if (pg_begin_call(store, error) != 0 ||
      (opening == STORE_CREATE && pg_migrate(store, error) != 0)) {
    close_store(&store->base);
    return -1;
  }
  *store_out = &store->base;
  return 0;
}

const struct store_backend store_postgres = {
    .call_max_ms = VC_STORE_CALL_MAX_MS,
    .is_mine = is_mine,
    .check_url = check_url,
    .open = open_store,
    .close = close_store,
    .write_batch = pg_write_batch,
    .find_position = pg_find_position,
    .find_other_cluster = pg_find_other_cluster,
    .reset_positions = pg_reset_positions,
    .expire_next = pg_expire_next,
    .end_expiry = pg_end_expiry,
    .read = pg_read,
    .last_epoch = pg_last_epoch,
    .erase = pg_erase_session,
};
