// The front door: HTTP by Civetweb, and the only room that knows it. A request is answered by a
// handler on one of Civetweb's threads; so is a WebSocket's handshake, whose TCP connection is then
// taken out and given away (`adopt`), and Civetweb's thread is free again.
//
// Bounds: n_workers requests at once, 256 more wait; a head of 8 KiB; REQUEST_TIMEOUT_MS for a head
// to come; bodies of what their handler asks for, mostly VC_FRONT_BODY_MAX. Civetweb's threads have
// 100 KB stacks: a handler parses no JSON and calls nothing deep. TLS ends at the balancer
// (Civetweb 1.15 of Debian 12 crashes with it).
//
// Bytes that a client sends right behind its handshake, before it saw the answer, may be lost in
// Civetweb's buffer; RFC 6455 clients wait.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <verbacast/base/address.h>
#include <verbacast/base/error.h>

#define VC_FRONT_BODY_MAX 65536
#define VC_FRONT_PATH_MAX 1024 // a path that long is refused

struct vc_front;

// Borrowed by a handler while it runs.
struct vc_request {
  const char *method;
  const char *path;         // decoded once, without query
  const char *query;        // "" none; never logged
  struct vc_address client; // behind TRUSTED_PROXIES: theirs
  int is_forwarded;         // it carries X-Forwarded-For or Forwarded
  int status;               // what was answered, 0: nothing yet
  int has_body;             // it was read
  int64_t begins_ms;        // for `open` to set, for `adopt` to know, as is the next; 0: none
  int64_t expires_ms;       // 0: never
  int lost_status;          // for `open` to set: of who cannot be given to `adopt`; 0: 503
  void *connection;         // Civetweb's
  void *rest;               // the front's own: of a body that nobody reads
  char path_bytes[VC_FRONT_PATH_MAX];
};

// Returns: the header's value or NULL.
const char *vc_request_header(const struct vc_request *request, const char *name);
// Looks `name` up in the query, decoded. Returns: 1 found, 0 not there, -1 malformed or too long.
int vc_request_query(const struct vc_request *request, const char *name, char *value, size_t size);
// From this machine, and not through it: a proxy here says that it stands before somebody, and a
// name that was made to point here is not ours. Returns: 1 or 0.
int vc_request_is_near(const struct vc_request *request);
// Returns: what stands behind "Authorization: Bearer ", or NULL.
const char *vc_request_bearer(const struct vc_request *request);
// Of /metrics: by ?format= or, without it, by Accept. Returns: 1 Prometheus' text, 0 JSON.
int vc_request_wants_prometheus(const struct vc_request *request);
// Whether its Content-Length says so. Returns: 1 or 0.
int vc_request_is_larger(const struct vc_request *request, size_t max);
// Reads the body into memory that grows as it comes. One that nobody reads is read away behind the
// answer, for a second. Gives: it, also where it is empty, for free().
// Returns: 0, or -1: larger than `max`, it did not come, or no memory (answered).
int vc_request_body(struct vc_request *request, size_t max, char **body, size_t *size);

// Answers once. `headers`: further ones, each ended by CRLF, or "".
void vc_respond(struct vc_request *request, int status, const char *content_type,
                const char *headers, const void *body, size_t size);
// {"error":"why"}
void vc_respond_error(struct vc_request *request, int status, const char *why);

struct vc_front_settings {
  const char *listen; // HOST:PORT, the port may be 0
  uint32_t n_workers;
  int takes_sockets;                 // WebSockets: open and adopt are set
  const struct vc_networks *proxies; // lives as long as the front
  // Thread: any of Civetweb's. Must answer.
  void (*handle)(void *context, struct vc_request *request);
  // A WebSocket's upgrade. Returns: 0 let it in, or 1: it was answered.
  int (*open)(void *context, struct vc_request *request);
  // Behind it on the same thread, unless the connection cannot be taken out (`lost_status`,
  // counted): it has gone meanwhile, or there is no descriptor or memory. Takes the descriptor:
  // non-blocking, its handshake done.
  void (*adopt)(void *context, const struct vc_request *request, int fd);
  void *context;
};

// Whether a front can listen there, as far as that is known before: Civetweb may have been built
// without IPv6. Returns: 0, or -1 and why.
int vc_front_check(const char *listen, struct vc_error *error);
int vc_front_start(struct vc_front **front, struct vc_address *bound,
                   const struct vc_front_settings *settings, struct vc_error *error);
// Takes up to 2 s (Civetweb's own). Nobody is let in any more, and requests under way have a second
// more to be answered (and what they still send a second to be read away, so that they see the
// answer); what has not come to a handler yet is closed.
void vc_front_stop(struct vc_front **front);
// Sockets that could not be taken out, since start: of clients that have gone, or where descriptors
// or memory have run out.
uint64_t vc_front_lost_sockets(const struct vc_front *front);
// Requests that Civetweb refused by itself: malformed or too large heads.
uint64_t vc_front_bad_requests(const struct vc_front *front);
