#include <verbacast/wire/http.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "room.h"

#define PORT 6379
#define TEXT_MAX 2048
static const char unix_scheme[] = "unix:";

static int set_path(struct redis_address *address, const char *path, struct vc_error *error)
{
  size_t size = strlen(path);
  if (path[0] != '/') {
    return vc_error_set(error, "names no socket by its whole path, as unix:/run/redis.sock does");
  }
  if (size >= sizeof address->path) {
    return vc_error_set(error, "names a socket of %zu bytes, of which a path can have %zu", size,
                        sizeof address->path - 1);
  }
  memcpy(address->path, path, size + 1);
  snprintf(address->shown, sizeof address->shown, "unix:%s", address->path);
  return 0;
}

static int set_database(struct redis_address *address, const char *path, struct vc_error *error)
{
  const char *digits = path + (path[0] == '/');
  size_t n = strlen(digits);
  long database = n > 0 ? strtol(digits, NULL, 10) : 0;
  if (n > 4 || strspn(digits, "0123456789") != n || database > REDIS_DATABASE_MAX) {
    return vc_error_set(error, "has no database of 0 to %d behind its '/'", REDIS_DATABASE_MAX);
  }
  address->database = (int)database;
  return 0;
}

static int set_host(struct redis_address *address, const struct vc_url *url, struct vc_error *error)
{
  if (url->host[0] == '\0') {
    return vc_error_set(error, "names no host");
  }
  if (url->query[0] != '\0') {
    return vc_error_set(error, "has a '?', behind which nothing is known");
  }
  memcpy(address->host, url->host, sizeof address->host);
  memcpy(address->user, url->user, sizeof address->user);
  memcpy(address->password, url->password, sizeof address->password);
  address->port = url->port != 0 ? url->port : PORT;
  if (address->user[0] != '\0' && address->password[0] == '\0') {
    return vc_error_set(error, "has a user without a password: redis://user:password@host");
  }
  int is_v6 = strchr(address->host, ':') != NULL;
  snprintf(address->shown, sizeof address->shown, "%s%s%s:%u", is_v6 ? "[" : "", address->host,
           is_v6 ? "]" : "", address->port);
  return set_database(address, url->path, error);
}

static int parse(const char *text, struct redis_address *address, struct vc_error *error)
{
  struct vc_url *url;
  *address = (struct redis_address){.database = 0};
  if (strncmp(text, unix_scheme, sizeof unix_scheme - 1) == 0) {
    return set_path(address, text + sizeof unix_scheme - 1, error);
  }
  url = malloc(sizeof *url);
  if (url == NULL) {
    return vc_error_set(error, "no memory");
  }
  int status = vc_url_parse(text, url);
  if (status != 0) {
    status = vc_error_set(error, "is no URL");
  } else if (strcmp(url->scheme, "rediss") == 0) {
    status = vc_error_set(error, "asks for TLS, which the client library of this build does not "
                                 "have: let stunnel or the like speak it (docs/operating.md)");
  } else if (strcmp(url->scheme, "redis") != 0) {
    status = vc_error_set(error, "is of no scheme that is known");
  } else {
    status = set_host(address, url, error);
  }
  free(url);
  return status;
}

// The first line of the file.
static int read_file(const char *path, char text[TEXT_MAX], struct vc_error *error)
{
  FILE *file = fopen(path, "re");
  if (file == NULL) {
    return vc_error_set(error, "names a file that cannot be read: %s", strerror(errno));
  }
  int is_read = fgets(text, TEXT_MAX, file) != NULL;
  fclose(file);
  size_t size = is_read ? strcspn(text, "\r\n") : 0;
  text[size] = '\0';
  return size > 0 ? 0 : vc_error_set(error, "names a file without a first line");
}

int redis_address_parse(const char *text, struct redis_address *address, struct vc_error *error)
{
  char line[TEXT_MAX] = "";
  if (text[0] != '@') {
    return parse(text, address, error);
  }
  return read_file(text + 1, line, error) != 0 ? -1 : parse(line, address, error);
}
