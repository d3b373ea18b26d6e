#include "room.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pages_data.h"

#define FILE_MAX_BYTES (1024 * 1024)
#define HEADERS                                                                                    \
  "Content-Security-Policy: default-src 'self'; connect-src 'self' ws: wss:; img-src 'self' "      \
  "data:; frame-ancestors 'none'; base-uri 'none'\r\nReferrer-Policy: no-referrer\r\n"

static const char *type_of(const char *name)
{
  const char *dot = strrchr(name, '.');
  return dot == NULL                 ? "application/octet-stream"
         : strcmp(dot, ".html") == 0 ? "text/html; charset=utf-8"
         : strcmp(dot, ".css") == 0  ? "text/css; charset=utf-8"
         : strcmp(dot, ".js") == 0   ? "text/javascript; charset=utf-8"
         : strcmp(dot, ".svg") == 0  ? "image/svg+xml"
                                     : "application/octet-stream";
}

static const struct page_data *find_page(const char *name)
{
  for (size_t i = 0; i < n_pages; i++) {
    if (strcmp(pages[i].name, name) == 0) {
      return &pages[i];
    }
  }
  return NULL;
}

// A page of PAGES_DIR in the place of the built-in one. Returns: malloc'ed bytes, or NULL.
static void *read_override(const struct call *call, const char *name, size_t *size)
{
  const char *folder = call->control->settings.options->pages_dir;
  char path[4096];
  struct stat status;
  if (folder[0] == '\0' || snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path) {
    return NULL;
  }
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  void *bytes = NULL;
  if (fd >= 0 && fstat(fd, &status) == 0 && S_ISREG(status.st_mode) &&
      status.st_size < FILE_MAX_BYTES) {
    bytes = malloc((size_t)status.st_size + 1);
    ssize_t n = bytes != NULL ? read(fd, bytes, (size_t)status.st_size) : -1;
    if (n != status.st_size) {
      free(bytes);
      bytes = NULL;
    }
    *size = (size_t)status.st_size;
  }
  if (fd >= 0) {
    close(fd);
  }
  return bytes;
}

static const char *name_of(const char *path)
{
  if (strcmp(path, "/") == 0) {
    return "index.html";
  }
  if (strcmp(path, "/dashboard") == 0) {
    return "dashboard.html";
  }
  return strncmp(path, "/pages/", 7) == 0 ? path + 7 : "";
}

void static_page(struct call *call)
{
  const char *name = name_of(call->request->path);
  const struct page_data *page = find_page(name);
  size_t size = 0;
  if (page == NULL) {
    vc_respond_error(call->request, 404, "there is no such page");
    return;
  }
  void *override = read_override(call, name, &size);
  vc_respond(call->request, 200, type_of(name), HEADERS,
             override != NULL ? override : (const void *)page->bytes,
             override != NULL ? size : page->size);
  free(override);
}
