// Heads of requests and responses, and URLs: the same input is read as each of them.
#include <verbacast/wire/http.h>

#include <assert.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// A string of the head lies within its bytes and holds nothing that could end a line of a log.
static void check_string(const char *string, const char *bytes, size_t size)
{
  assert(string >= bytes && string < bytes + size);
  for (; *string != '\0'; string++) {
    assert((unsigned char)*string >= ' ' || *string == '\t');
    assert(*string != 0x7f);
  }
  assert(string < bytes + size);
}

static void check_head(const struct vc_http_head *head, const char *bytes, enum vc_http_kind kind)
{
  uint64_t length = 0;
  assert(head->n_headers <= VC_HTTP_HEADERS_MAX && head->size <= VC_HTTP_HEAD_MAX);
  if (kind == VC_HTTP_REQUEST) {
    check_string(head->method, bytes, head->size);
    check_string(head->target, bytes, head->size);
    assert(head->method[0] != '\0' && head->target[0] != '\0');
  } else {
    assert(head->status >= 0 && head->status <= 999 && head->reason != NULL);
  }
  if (kind == VC_HTTP_RESPONSE && head->reason[0] != '\0') {
    check_string(head->reason, bytes, head->size);
  }
  for (size_t i = 0; i < head->n_headers; i++) {
    check_string(head->headers[i].name, bytes, head->size);
    check_string(head->headers[i].value, bytes, head->size);
    assert(vc_http_find(head, head->headers[i].name) != NULL);
  }
  int status = vc_http_content_length(head, &length);
  assert(status != 0 || length < UINT64_C(1000000000000000));
  assert(!vc_http_has_token(head, "connection", "upgrade") ||
         vc_http_find(head, "connection") != NULL);
}

static void look_at_head(const uint8_t *data, size_t size, enum vc_http_kind kind)
{
  struct vc_http_head head;
  char *bytes = malloc(size + 1); // never empty
  assert(bytes != NULL);
  memcpy(bytes, data, size);
  int status = vc_http_parse_head(bytes, size, kind, &head);
  if (status == 0) {
    assert(head.size <= size);
    check_head(&head, bytes, kind);
  } else if (status == 1) {
    assert(size == 0 || memcmp(bytes, data, size) == 0);
  }
  free(bytes);
}

static void read_again(const struct vc_url *url)
{
  struct vc_url again;
  char port[8] = "";
  size_t size = 2 * VC_URL_MAX + 512;
  char *text = malloc(size);
  assert(text != NULL);
  int is_bracketed = strchr(url->host, ':') != NULL;
  if (url->port != 0) {
    snprintf(port, sizeof port, ":%u", url->port);
  }
  snprintf(text, size, "%s://%s%s%s%s%s%s%s", url->scheme, is_bracketed ? "[" : "", url->host,
           is_bracketed ? "]" : "", port, url->path, url->query[0] != '\0' ? "?" : "", url->query);
  assert(vc_url_parse(text, &again) == 0);
  assert(strcmp(again.scheme, url->scheme) == 0 && strcmp(again.host, url->host) == 0);
  assert(strcmp(again.path, url->path) == 0 && strcmp(again.query, url->query) == 0);
  assert(again.port == url->port && again.user[0] == '\0' && again.password[0] == '\0');
  free(text);
}

static void look_at_url(const char *text)
{
  struct vc_url url;
  char value[32];
  if (vc_url_parse(text, &url) == 0) {
    assert(url.path[0] == '/' && strpbrk(url.scheme, "/?#@:") == NULL);
    assert(strpbrk(url.host, "/?#@[]\\\"") == NULL);
    read_again(&url);
    if (vc_query_find(url.query, "token", value, sizeof value) == 1) {
      assert(strlen(value) < sizeof value);
    }
  }
  int n = vc_percent_decode(text, strlen(text), value, sizeof value);
  assert(n == -1 || ((size_t)n == strlen(value) && (size_t)n < sizeof value));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  look_at_head(data, size, VC_HTTP_REQUEST);
  look_at_head(data, size, VC_HTTP_RESPONSE);
  char *text = malloc(size + 1);
  assert(text != NULL);
  memcpy(text, data, size);
  text[size] = '\0';
  look_at_url(text);
  free(text);
  return 0;
}
