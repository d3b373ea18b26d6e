#include <verbacast/wire/http.h>

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static int is_token(const char *s, size_t size)
{
  for (size_t i = 0; i < size; i++) {
    if (!isalnum((unsigned char)s[i]) && strchr("!#$%&'*+-.^_`|~", s[i]) == NULL) {
      return 0;
    }
  }
  return size > 0;
}

// Returns: the length of the head with its empty line, 0 when it is not whole.
static size_t find_end(const char *bytes, size_t size)
{
  const char *end = memmem(bytes, size, "\r\n\r\n", 4);
  return end != NULL ? (size_t)(end - bytes) + 4 : 0;
}

static int parse_request_line(char *line, struct vc_http_head *head)
{
  char *space = strchr(line, ' ');
  char *second = space != NULL ? strchr(space + 1, ' ') : NULL;
  if (second == NULL || strncmp(second + 1, "HTTP/1.", 7) != 0 || strlen(second + 1) != 8 ||
      !isdigit((unsigned char)second[8])) {
    return -1;
  }
  *space = *second = '\0';
  head->method = line;
  head->target = space + 1;
  if (!is_token(line, strlen(line)) || head->target[0] == '\0') {
    return -1;
  }
  for (const char *s = head->target; *s != '\0'; s++) {
    if ((unsigned char)*s <= ' ' || (unsigned char)*s == 0x7f) {
      return -1;
    }
  }
  return 0;
}

// Text as it may stand in a header's value, in a reason and in a log's line.
static int is_printable(const char *s)
{
  for (; *s != '\0'; s++) {
    if (((unsigned char)*s < ' ' && *s != '\t') || *s == 0x7f) {
      return 0;
    }
  }
  return 1;
}

static int parse_status_line(char *line, struct vc_http_head *head)
{
  if (strncmp(line, "HTTP/1.", 7) != 0 || strlen(line) < 12 || line[8] != ' ') {
    return -1;
  }
  for (size_t i = 9; i < 12; i++) {
    if (!isdigit((unsigned char)line[i])) {
      return -1;
    }
  }
  if (line[12] != '\0' && line[12] != ' ') {
    return -1;
  }
  head->status = (line[9] - '0') * 100 + (line[10] - '0') * 10 + (line[11] - '0');
  head->reason = line[12] == ' ' ? line + 13 : "";
  return is_printable(head->reason) ? 0 : -1;
}

static int parse_header(char *line, struct vc_http_head *head)
{
  char *colon = strchr(line, ':');
  if (colon == NULL || !is_token(line, (size_t)(colon - line)) ||
      head->n_headers == VC_HTTP_HEADERS_MAX) {
    return -1;
  }
  *colon = '\0';
  char *value = colon + 1;
  value += strspn(value, " \t");
  size_t n = strlen(value);
  while (n > 0 && (value[n - 1] == ' ' || value[n - 1] == '\t')) {
    value[--n] = '\0';
  }
  if (!is_printable(value)) {
    return -1;
  }
  head->headers[head->n_headers++] = (struct vc_http_header){line, value};
  return 0;
}

int vc_http_parse_head(char *bytes, size_t size, enum vc_http_kind kind, struct vc_http_head *head)
{
  size_t seen = size < VC_HTTP_HEAD_MAX ? size : VC_HTTP_HEAD_MAX;
  size_t end = find_end(bytes, seen);
  if (end == 0) {
    return size >= VC_HTTP_HEAD_MAX ? -1 : 1;
  }
  if (memchr(bytes, '\0', end) != NULL) {
    return -1;
  }
  *head = (struct vc_http_head){.size = end};
  char *line = bytes;
  for (int is_first = 1;; is_first = 0) {
    char *line_end = memmem(line, end - (size_t)(line - bytes), "\r\n", 2);
    *line_end = '\0';
    if (line_end == line) {
      return is_first ? -1 : 0;
    }
    int status = !is_first                 ? parse_header(line, head)
                 : kind == VC_HTTP_REQUEST ? parse_request_line(line, head)
                                           : parse_status_line(line, head);
    if (status != 0) {
      return -1;
    }
    line = line_end + 2;
  }
}

const char *vc_http_find(const struct vc_http_head *head, const char *name)
{
  for (size_t i = 0; i < head->n_headers; i++) {
    if (strcasecmp(head->headers[i].name, name) == 0) {
      return head->headers[i].value;
    }
  }
  return NULL;
}

int vc_http_has_token(const struct vc_http_head *head, const char *name, const char *token)
{
  size_t size = strlen(token);
  for (size_t i = 0; i < head->n_headers; i++) {
    if (strcasecmp(head->headers[i].name, name) != 0) {
      continue;
    }
    const char *at = head->headers[i].value;
    while (*at != '\0') {
      at += strspn(at, ", \t");
      size_t n = strcspn(at, ", \t");
      if (n == size && strncasecmp(at, token, n) == 0) {
        return 1;
      }
      at += n;
    }
  }
  return 0;
}

static int parse_length(const char *text, uint64_t *length)
{
  size_t n = strlen(text);
  if (n == 0 || n > 15 || strspn(text, "0123456789") != n) {
    return -1;
  }
  *length = strtoull(text, NULL, 10);
  return 0;
}

int vc_http_content_length(const struct vc_http_head *head, uint64_t *length)
{
  int status = 1;
  for (size_t i = 0; i < head->n_headers; i++) {
    uint64_t value;
    if (strcasecmp(head->headers[i].name, "content-length") != 0) {
      continue;
    }
    if (parse_length(head->headers[i].value, &value) != 0 || (status == 0 && value != *length)) {
      return -1;
    }
    *length = value;
    status = 0;
  }
  return status;
}

// --- URLs

static int digit_of(char c)
{
  return c >= '0' && c <= '9'   ? c - '0'
         : c >= 'a' && c <= 'f' ? c - 'a' + 10
         : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                : -1;
}

int vc_percent_decode(const char *from, size_t size, char *into, size_t into_size)
{
  size_t n = 0;
  for (size_t i = 0; i < size; i++) {
    char c = from[i];
    if (c == '%') {
      int high = i + 2 < size ? digit_of(from[i + 1]) : -1;
      int low = i + 2 < size ? digit_of(from[i + 2]) : -1;
      if (high < 0 || low < 0) {
        return -1;
      }
      c = (char)(high * 16 + low);
      i += 2;
    }
    if (c == '\0' || n + 1 >= into_size) {
      return -1;
    }
    into[n++] = c;
  }
  if (n >= into_size) {
    return -1;
  }
  into[n] = '\0';
  return (int)n;
}

int vc_query_find(const char *query, const char *name, char *value, size_t value_size)
{
  size_t size = strlen(name);
  for (const char *at = query; *at != '\0';) {
    size_t n = strcspn(at, "&");
    size_t key = strcspn(at, "=&");
    if (key == size && memcmp(at, name, size) == 0) {
      const char *from = key < n ? at + key + 1 : at + n;
      return vc_percent_decode(from, (size_t)(at + n - from), value, value_size) < 0 ? -1 : 1;
    }
    at += n + (at[n] == '&');
  }
  return 0;
}

static int copy(char *into, size_t into_size, const char *from, size_t size)
{
  if (size >= into_size) {
    return -1;
  }
  memcpy(into, from, size);
  into[size] = '\0';
  return 0;
}

static int copy_lower(char *into, size_t into_size, const char *from, size_t size)
{
  if (copy(into, into_size, from, size) != 0) {
    return -1;
  }
  for (char *s = into; *s != '\0'; s++) {
    *s = (char)tolower((unsigned char)*s);
  }
  return 0;
}

static int parse_user(const char *from, size_t size, struct vc_url *url)
{
  const char *colon = memchr(from, ':', size);
  size_t n = colon != NULL ? (size_t)(colon - from) : size;
  if (vc_percent_decode(from, n, url->user, sizeof url->user) < 0) {
    return -1;
  }
  return colon == NULL ? 0
                       : -(vc_percent_decode(colon + 1, size - n - 1, url->password,
                                             sizeof url->password) < 0);
}

static int parse_port(const char *from, size_t size, struct vc_url *url)
{
  char text[6];
  uint64_t port;
  if (copy(text, sizeof text, from, size) != 0 || parse_length(text, &port) != 0 || port == 0 ||
      port > UINT16_MAX) {
    return -1;
  }
  url->port = (uint16_t)port;
  return 0;
}

// An address in brackets has a colon; a name has neither, nor what would end it in a URL.
static int is_host(const char *host, int is_bracketed)
{
  const char *marks = is_bracketed ? ":.%-_~" : ".-_";
  for (const char *s = host; *s != '\0'; s++) {
    unsigned char c = (unsigned char)*s;
    if (!isalnum(c) && strchr(marks, c) == NULL && (is_bracketed || c < 0x80)) {
      return 0;
    }
  }
  return !is_bracketed || strchr(host, ':') != NULL;
}

static int is_scheme(const char *scheme)
{
  for (const char *s = scheme; *s != '\0'; s++) {
    if (!isalnum((unsigned char)*s) && strchr("+-.", *s) == NULL) {
      return 0;
    }
  }
  return isalpha((unsigned char)scheme[0]) != 0;
}

static int parse_authority(const char *from, size_t size, struct vc_url *url)
{
  const char *at = memrchr(from, '@', size);
  if (at != NULL) {
    if (parse_user(from, (size_t)(at - from), url) != 0) {
      return -1;
    }
    size -= (size_t)(at + 1 - from);
    from = at + 1;
  }
  const char *bracket = size > 0 && from[0] == '[' ? memchr(from, ']', size) : NULL;
  if (size > 0 && from[0] == '[' && bracket == NULL) {
    return -1;
  }
  const char *rest = bracket != NULL ? bracket + 1 : from;
  const char *colon = memchr(rest, ':', size - (size_t)(rest - from));
  const char *host = bracket != NULL ? from + 1 : from;
  const char *host_end = bracket != NULL ? bracket : colon != NULL ? colon : from + size;
  if (bracket != NULL && rest != from + size && rest != colon) {
    return -1;
  }
  if (copy_lower(url->host, sizeof url->host, host, (size_t)(host_end - host)) != 0 ||
      !is_host(url->host, bracket != NULL)) {
    return -1;
  }
  return colon == NULL ? 0 : parse_port(colon + 1, size - (size_t)(colon + 1 - from), url);
}

int vc_url_parse(const char *text, struct vc_url *url)
{
  *url = (struct vc_url){0};
  for (const char *s = text; *s != '\0'; s++) {
    if ((unsigned char)*s <= ' ' || *s == 0x7f) {
      return -1;
    }
  }
  const char *colon = strstr(text, "://");
  if (colon == NULL || colon == text ||
      copy_lower(url->scheme, sizeof url->scheme, text, (size_t)(colon - text)) != 0 ||
      !is_scheme(url->scheme)) {
    return -1;
  }
  const char *authority = colon + 3;
  size_t n = strcspn(authority, "/?#");
  if (parse_authority(authority, n, url) != 0) {
    return -1;
  }
  const char *path = authority + n;
  size_t path_size = strcspn(path, "?#");
  int status = path_size == 0 || path[0] != '/'
                   ? copy(url->path, sizeof url->path, "/", 1)
                   : copy(url->path, sizeof url->path, path, path_size);
  if (status == 0 && path[path_size] == '?') {
    const char *query = path + path_size + 1;
    status = copy(url->query, sizeof url->query, query, strcspn(query, "#"));
  }
  return status;
}
