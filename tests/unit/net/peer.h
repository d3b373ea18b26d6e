// The other end of a connection, for tests: plain blocking sockets (or TLS), HTTP heads by
// wire/http, WebSocket frames by wire/ws. Every wait ends after PEER_WAIT_S and fails the call.
#pragma once

#include <verbacast/wire/http.h>
#include <verbacast/wire/ws.h>

#include <openssl/ssl.h>
#include <stddef.h>
#include <stdint.h>

#define PEER_WAIT_S 30

// A throw-away authority and a certificate for 127.0.0.1, not for localhost, in a folder of its
// own.
struct peer_tls {
  char folder[64];
  char ca_file[96];       // trusted
  char other_ca_file[96]; // an authority that signed nothing
  SSL_CTX *context;
};
int peer_tls_init(struct peer_tls *tls); // Returns 0 or -1
void peer_tls_fini(struct peer_tls *tls);

// Returns: a listening socket on a free port of 127.0.0.1.
int peer_listen(uint16_t *port);

struct peer {
  int fd; // -1: none
  SSL *ssl;
  char bytes[VC_HTTP_HEAD_MAX + 1];
  size_t n_bytes; // read, not used
  struct vc_http_head head;
  struct vc_ws_parser parser;
};

// All return 0, or -1 when the connection ended or took too long.
int peer_accept(struct peer *peer, int listener, const struct peer_tls *tls);
int peer_adopt(struct peer *peer, int fd, const struct peer_tls *tls);
// Closes; `is_reset` with an RST.
void peer_close(struct peer *peer, int is_reset);
int peer_write(struct peer *peer, const void *bytes, size_t size);
int peer_say(struct peer *peer, const char *text);
// Reads a request's head into peer->head; what follows stays in `bytes`.
int peer_read_head(struct peer *peer);
// Reads the body that the head announces. Returns: malloc'ed, NUL-terminated, or NULL.
char *peer_read_body(struct peer *peer, size_t *size);
// Reads an upgrade request and accepts it.
int peer_upgrade(struct peer *peer);
int peer_accept_upgrade(struct peer *peer); // the head was read already
int peer_send_frame(struct peer *peer, enum vc_ws_opcode opcode, const void *payload, size_t size);
int peer_send_text(struct peer *peer, const char *text);
int peer_send_close(struct peer *peer, int code);
// Returns: 0 and an event whose payload is malloc'ed (may be NULL when empty), or -1.
int peer_receive(struct peer *peer, struct vc_ws_event *event, uint8_t **payload);
