// A client of verbacast-stt for tests: one request or one WebSocket a connection, waits bounded.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include <verbacast/base/address.h>
#include <verbacast/wire/ws.h>

struct client {
  int fd;
  struct vc_ws_parser parser;
  uint8_t bytes[65536];
  size_t begin, end; // read and not parsed
};

struct reply {
  int status;
  char *text; // head and body
  const char *body;
};

// Returns: a connected socket, whose reads give up after a minute.
int client_connect(const struct vc_address *address);
void client_send(int fd, const void *bytes, size_t size);
// Sends the text as it stands, reads to the end of the connection.
struct reply client_ask(const struct vc_address *address, const char *request);
// A request with these lines ("POST /v2/live", further header lines with their ends) and this body.
struct reply client_request(const struct vc_address *address, const char *line, const char *headers,
                            const char *body);
void reply_free(struct reply *reply);

// POST /v2/live with this body. Gives: id and token. Returns: the status.
int client_init(const struct vc_address *address, const char *body, char id[64], char token[128]);
// The handshake for the token. Returns: the status, 101 for success (then client_close it).
int client_open(struct client *client, const struct vc_address *address, const char *token);
void client_close(struct client *client);
void client_say(struct client *client, enum vc_ws_opcode opcode, const void *payload, size_t size);
// Returns: the next JSON message (the caller's); NULL when the server closed: then *close_code is
// its code (1006: without a word).
json_t *client_hear(struct client *client, int *close_code);
// Reads on to a message of this type; those before are passed over. NULL: the server closed.
json_t *client_hear_type(struct client *client, const char *type);
// Reads to the end. Returns: the close code.
int client_hear_close(struct client *client);
