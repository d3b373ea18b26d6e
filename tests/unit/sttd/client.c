#include "client.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define PATIENCE_S 60

int client_connect(const struct vc_address *address)
{
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(address->port)};
  struct timeval patience = {.tv_sec = PATIENCE_S};
  memcpy(&to.sin_addr, address->bytes, 4);
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  assert_true(fd >= 0);
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
  return fd;
}

void client_send(int fd, const void *bytes, size_t size)
{
  const char *at = bytes;
  while (size > 0) {
    ssize_t n = send(fd, at, size, MSG_NOSIGNAL);
    if (n <= 0) {
      return; // the peer has closed: what it said is what the test looks at
    }
    at += n;
    size -= (size_t)n;
  }
}

static struct reply read_reply(int fd)
{
  struct reply reply = {.text = NULL};
  size_t size = 0;
  for (;;) {
    reply.text = realloc(reply.text, size + 65537);
    assert_non_null(reply.text);
    ssize_t n = recv(fd, reply.text + size, 65536, 0);
    if (n <= 0) {
      break;
    }
    size += (size_t)n;
  }
  reply.text[size] = '\0';
  const char *end = strstr(reply.text, "\r\n\r\n");
  reply.status = size > 12 ? atoi(reply.text + 9) : 0;
  reply.body = end != NULL ? end + 4 : "";
  return reply;
}

struct reply client_ask(const struct vc_address *address, const char *request)
{
  int fd = client_connect(address);
  client_send(fd, request, strlen(request));
  struct reply reply = read_reply(fd);
  close(fd);
  return reply;
}

struct reply client_request(const struct vc_address *address, const char *line, const char *headers,
                            const char *body)
{
  struct vc_text text = {0};
  vc_text_format(&text, "%s HTTP/1.1\r\nHost: 127.0.0.1:%u\r\n%sContent-Length: %zu\r\n\r\n%s",
                 line, address->port, headers, strlen(body), body);
  struct reply reply = client_ask(address, text.at);
  vc_text_fini(&text);
  return reply;
}

void reply_free(struct reply *reply)
{
  free(reply->text);
  reply->text = NULL;
}

int client_init(const struct vc_address *address, const char *body, char id[64], char token[128])
{
  struct reply reply = client_request(address, "POST /v2/live?region=eu-west",
                                      "Content-Type: application/json\r\n", body);
  json_t *root = json_loads(reply.body, 0, NULL);
  const char *url = json_string_value(json_object_get(root, "url"));
  const char *at = url != NULL ? strstr(url, "token=") : NULL;
  id[0] = token[0] = '\0';
  if (at != NULL) {
    assert_true(strncmp(url, "ws://127.0.0.1:", 15) == 0);
    snprintf(id, 64, "%s", json_string_value(json_object_get(root, "id")));
    snprintf(token, 128, "%s", at + 6);
  }
  int status = reply.status;
  json_decref(root);
  reply_free(&reply);
  return status;
}

int client_open(struct client *client, const struct vc_address *address, const char *token)
{
  char request[1024];
  snprintf(request, sizeof request,
           "GET /v2/live?token=%s HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
           "Connection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\n"
           "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
           token);
  memset(client, 0, offsetof(struct client, bytes));
  client->begin = client->end = 0;
  client->fd = client_connect(address);
  vc_ws_parser_init(&client->parser, VC_WS_CLIENT, 1 << 24);
  client_send(client->fd, request, strlen(request));
  char *bytes = (char *)client->bytes;
  const char *end = NULL;
  while (end == NULL) {
    ssize_t n = recv(client->fd, bytes + client->end, sizeof client->bytes - 1 - client->end, 0);
    assert_true(n > 0);
    client->end += (size_t)n;
    bytes[client->end] = '\0';
    end = strstr(bytes, "\r\n\r\n");
  }
  int status = atoi(bytes + 9);
  assert_true(status != 101 || strstr(bytes, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=") != NULL);
  client->begin = (size_t)(end - bytes) + 4;
  return status;
}

void client_close(struct client *client)
{
  vc_ws_parser_fini(&client->parser);
  close(client->fd);
}

void client_say(struct client *client, enum vc_ws_opcode opcode, const void *payload, size_t size)
{
  static const uint8_t mask[4] = {0x11, 0x22, 0x33, 0x44};
  uint8_t header[VC_WS_HEADER_MAX];
  uint8_t *masked = malloc(size + 1);
  assert_non_null(masked);
  if (size > 0) {
    memcpy(masked, payload, size);
  }
  vc_ws_mask(masked, size, mask);
  client_send(client->fd, header, vc_ws_print_header(header, opcode, size, mask));
  client_send(client->fd, masked, size);
  free(masked);
}

// Returns: 1 there are bytes, 0 the connection has ended.
static int fill(struct client *client)
{
  if (client->begin == client->end) {
    ssize_t n = recv(client->fd, client->bytes, sizeof client->bytes, 0);
    client->begin = 0;
    client->end = n > 0 ? (size_t)n : 0;
  }
  return client->begin < client->end;
}

json_t *client_hear(struct client *client, int *close_code)
{
  *close_code = 1006;
  while (fill(client)) {
    struct vc_ws_event event = {0};
    size_t used = 0;
    int status = vc_ws_parse(&client->parser, client->bytes + client->begin,
                             client->end - client->begin, &used, &event);
    client->begin += used;
    assert_true(status >= 0);
    if (status > 0 && event.opcode == VC_WS_CLOSE) {
      *close_code = event.close_code;
      return NULL;
    }
    if (status > 0 && event.opcode == VC_WS_TEXT) {
      json_t *message = json_loadb((const char *)event.payload, event.size, 0, NULL);
      assert_non_null(message);
      return message;
    }
  }
  return NULL;
}

json_t *client_hear_type(struct client *client, const char *type)
{
  int close_code;
  json_t *message;
  while ((message = client_hear(client, &close_code)) != NULL) {
    if (strcmp(json_string_value(json_object_get(message, "type")), type) == 0) {
      return message;
    }
    json_decref(message);
  }
  return NULL;
}

int client_hear_close(struct client *client)
{
  int close_code;
  json_t *message;
  while ((message = client_hear(client, &close_code)) != NULL) {
    json_decref(message);
  }
  return close_code;
}
