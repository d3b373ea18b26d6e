// A client of HTTP and WebSocket servers on a worker's epoll: `POST` and `ws(s)://`, many at a
// time, nothing blocks. libcurl looks names up, connects and does TLS; the WebSocket is wire/ws.
//
// One client a worker; everything here is called, and calls back, on that worker's thread. A
// transfer belongs to the client until its last callback (`done`, `closed`) or until its owner
// cancels it; the callbacks may start and cancel transfers, their own too.
//
// Bounds: an answer to a POST 64 KiB, or what its request says; what a socket has taken but not yet
// handed to the kernel: one message, one control frame; what it has read but not yet given: 16 KiB
// and one message of at most `message_max`. Certificates are always verified, redirects never
// followed, proxies of the environment not used. A transfer for which memory or a descriptor is
// refused fails alone.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include <verbacast/base/error.h>
#include <verbacast/flow/stage.h>
#include <verbacast/wire/ws.h>

struct vc_client;
struct vc_post;
struct vc_socket;

#define VC_POST_ANSWER_MAX 65536

struct vc_client_settings {
  const char *ca_file;    // PEM of the authorities that are trusted; NULL or "": the system's
  const char *user_agent; // "verbacast/0.1.0"
};

int vc_client_create(struct vc_client **client, struct vc_worker *worker,
                     const struct vc_client_settings *settings, struct vc_error *error);
// Ends what is open without a callback. All owners must have let go of their transfers.
void vc_client_destroy(struct vc_client **client);

enum vc_trouble {
  VC_TROUBLE_NONE,
  VC_TROUBLE_UNREACHABLE, // no such name, no connection, or it broke
  VC_TROUBLE_TIMEOUT,
  VC_TROUBLE_UNTRUSTED, // TLS: no certificate that we trust for this host
  VC_TROUBLE_FORBIDDEN, // a private address where only public ones are allowed
  VC_TROUBLE_TOO_BIG,
  VC_TROUBLE_PROTOCOL, // the peer does not speak as agreed
  VC_TROUBLE_REFUSED,  // it answered the upgrade with `status`
  VC_TROUBLE_MEMORY,   // ours: no memory or descriptors
};
const char *vc_trouble_text(enum vc_trouble trouble);

// Returns: 1 for loopback, private, link-local, shared, unspecified and multicast addresses (IPv4,
// IPv6 and IPv4 within IPv6) and for what is no Internet address, else 0.
int vc_address_is_private(const struct sockaddr *address);

// --- POST

struct vc_post_answer {
  enum vc_trouble trouble; // NONE: whatever the status, there is an answer
  int status;              // HTTP
  int64_t retry_after_s;   // -1: not said
  int is_peer_private;     // the address that answered
  const char *body;        // valid during the call
  size_t size;
};

struct vc_post_request {
  const char *url;            // http:// or https://
  const char *const *headers; // "name: value", ended by NULL; may be NULL
  const void *body;
  size_t size;
  uint32_t timeout_ms; // for all of it, by the system's clock
  size_t answer_max;   // bytes; 0: VC_POST_ANSWER_MAX
  void (*done)(void *context, const struct vc_post_answer *answer);
  void *context;
};

// Copies the request. Returns: 0, or -1 it could not be begun (no memory): `done` is not called.
int vc_post_start(struct vc_post **post, struct vc_client *client,
                  const struct vc_post_request *request);
// Ends it without `done`. NULL is allowed; sets NULL.
void vc_post_cancel(struct vc_post **post);

// --- WebSocket

struct vc_socket_end {
  enum vc_trouble trouble; // NONE: the peer said goodbye with `close_code`
  int status;              // REFUSED: HTTP
  int64_t retry_after_s;   // REFUSED: -1 not said
  int close_code;          // 1005: a close frame without a code
};

struct vc_socket_ops {
  void (*opened)(void *context);
  void (*message)(void *context, enum vc_ws_opcode opcode, const uint8_t *payload, size_t size);
  // The message that vc_socket_send took has gone to the kernel: the next one may be given.
  void (*writable)(void *context);
  // The last call; the socket is gone.
  void (*closed)(void *context, const struct vc_socket_end *end);
};

enum vc_scope { VC_SCOPE_PUBLIC, VC_SCOPE_ANY }; // which addresses may be connected to

struct vc_socket_request {
  const char *url; // ws:// or wss://; never logged, never given to libcurl but for its host
  enum vc_scope scope;
  size_t message_max;
  uint32_t connect_timeout_ms; // DNS, TCP and TLS, by the system's clock; the owner has its own
                               // timer for the answer to the upgrade
  const struct vc_socket_ops *ops;
  void *context;
};

// Returns: 0, or -1 it could not be begun (a malformed URL, no memory): no callback is called.
int vc_socket_open(struct vc_socket **socket, struct vc_client *client,
                   const struct vc_socket_request *request);
// Returns: 0 taken; 1 the message before is still with us, try again when `writable` is called;
// -1 no memory, or it is not open.
int vc_socket_send(struct vc_socket *socket, enum vc_ws_opcode opcode, const void *payload,
                   size_t size);
// No `message` and no `closed` is called until it is resumed.
void vc_socket_pause(struct vc_socket *socket);
void vc_socket_resume(struct vc_socket *socket);
// Says goodbye if it can without waiting, and frees it without `closed`. NULL is allowed; sets
// NULL.
void vc_socket_close(struct vc_socket **socket, int close_code);
