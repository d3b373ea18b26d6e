// HTTP/1.1 message heads and URLs, from bytes to structs. Pure.
// (The node's front door is Civetweb; this serves verbacast-stt's server and the clients.)
#pragma once

#include <stddef.h>
#include <stdint.h>

#define VC_HTTP_HEAD_MAX 8192
#define VC_HTTP_HEADERS_MAX 64

struct vc_http_header {
  const char *name;
  const char *value; // trimmed
};

// Points into the caller's bytes, which the parser changes (it puts NULs in).
struct vc_http_head {
  /* request */
  const char *method;
  const char *target; // "/v2/live?token=…", as it came
  /* response */
  int status;
  const char *reason;
  /* both */
  size_t size; // of the head with its empty line
  size_t n_headers;
  struct vc_http_header headers[VC_HTTP_HEADERS_MAX];
};

enum vc_http_kind { VC_HTTP_REQUEST, VC_HTTP_RESPONSE };

// Looks for a whole head at the beginning of `bytes`.
// Returns: 0 a head was parsed, 1 more bytes are needed (nothing was changed), -1 malformed or
// larger than VC_HTTP_HEAD_MAX.
int vc_http_parse_head(char *bytes, size_t size, enum vc_http_kind kind, struct vc_http_head *head);
// Returns: the first header of that name (case-insensitive), or NULL.
const char *vc_http_find(const struct vc_http_head *head, const char *name);
// Returns: 1 when the header's comma list holds the token (case-insensitive).
int vc_http_has_token(const struct vc_http_head *head, const char *name, const char *token);
// Returns: 0 and the length; 1 no such header; -1 not a number, out of range, or two that differ.
int vc_http_content_length(const struct vc_http_head *head, uint64_t *length);

#define VC_URL_MAX 2048

struct vc_url {
  char scheme[16];        // lower case
  char user[128];         // percent-decoded, "" none
  char password[256];     // percent-decoded, "" none
  char host[256];         // lower case, without the brackets of IPv6
  uint16_t port;          // 0: not given
  char path[VC_URL_MAX];  // "/" at least, as it came
  char query[VC_URL_MAX]; // without '?', "" none
};

// Absolute URLs with an authority only. Returns: 0, or -1 malformed or too long.
int vc_url_parse(const char *text, struct vc_url *url);
// Decodes %XX (and '+' not). Returns: the length, or -1 when it does not fit or is malformed or
// holds a NUL.
int vc_percent_decode(const char *from, size_t size, char *into, size_t into_size);
// Looks `name` up in "a=1&b=2". Returns: 1 found and decoded into `value`, 0 not there, -1 it does
// not fit or is malformed.
int vc_query_find(const char *query, const char *name, char *value, size_t value_size);
