// A WebSocket over a connection that libcurl made (CONNECT_ONLY) and that only curl_easy_send and
// curl_easy_recv touch from then on.
//
// The descriptor is registered once, edge-triggered: every event writes what waits and reads until
// there is nothing more. Who stops earlier (paused, or its share of the turn is used up) is put on
// the client's list of the hungry, which the client's timer serves. OpenSSL wants an unfinished
// write repeated from the same address, so what waits stays in a buffer of the socket's own.
#include "client_private.h"

#include <verbacast/wire/http.h>

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <utlist.h>

#define READ_MAX 262144     // bytes of one socket in one go
#define OUT_KEEP_BYTES 4096 // a buffer of at most this stays with an idle socket

enum socket_state {
  SOCKET_CONNECTING, // libcurl's
  SOCKET_UPGRADING,  // the request is sent, the answer's head is awaited
  SOCKET_OPEN,
  SOCKET_ENDED, // `closed` was called or the owner closed it
};

struct vc_socket {
  struct transfer transfer; // first
  struct vc_watch watch;    // fd < 0: not watched
  const struct vc_socket_ops *ops;
  void *context;
  enum socket_state state;
  int n_busy;    // within a callback: it is freed by who called it
  int is_paused; // by the owner
  int is_hungry; // in vc_client.hungry
  struct vc_socket *next_hungry, *prev_hungry;
  char *request; // of the upgrade, until it is open
  char accept[VC_WS_ACCEPT_SIZE];
  char *head; // the answer so far, until it is open
  size_t head_size;
  struct vc_ws_parser parser;
  uint8_t *rest; // read but not parsed, while paused
  size_t rest_size, rest_at;
  uint8_t *out; // what waits for the kernel
  size_t out_capacity, out_size, out_at;
  uint8_t control[VC_WS_HEADER_MAX + VC_WS_CONTROL_MAX]; // goes after it
  size_t control_size, control_at;
  int has_taken; // the owner's message is in `out`: `writable` is owed
};

struct vc_socket *socket_of(struct transfer *transfer)
{
  assert(transfer->kind == TRANSFER_SOCKET);
  return (struct vc_socket *)transfer;
}

// --- its end

static void let_hunger_go(struct vc_socket *socket)
{
  if (socket->is_hungry) {
    DL_DELETE2(socket->transfer.client->hungry, socket, prev_hungry, next_hungry);
    socket->is_hungry = 0;
  }
}

static void make_hungry(struct vc_socket *socket)
{
  if (!socket->is_hungry) {
    DL_APPEND2(socket->transfer.client->hungry, socket, prev_hungry, next_hungry);
    socket->is_hungry = 1;
  }
  client_ring(socket->transfer.client);
}

static void socket_destroy(struct vc_socket *socket)
{
  let_hunger_go(socket);
  if (socket->watch.fd >= 0) {
    vc_worker_unwatch(socket->transfer.client->worker, &socket->watch);
  }
  transfer_fini(&socket->transfer);
  vc_ws_parser_fini(&socket->parser);
  free(socket->request);
  free(socket->head);
  free(socket->rest);
  free(socket->out);
  free(socket);
}

static void enter(struct vc_socket *socket)
{
  socket->n_busy++;
}

// Returns: 1 when it is gone.
static int leave(struct vc_socket *socket)
{
  if (--socket->n_busy > 0 || socket->state != SOCKET_ENDED) {
    return socket->state == SOCKET_ENDED;
  }
  socket_destroy(socket);
  return 1;
}

static void end(struct vc_socket *socket, const struct vc_socket_end *how)
{
  if (socket->state == SOCKET_ENDED) {
    return;
  }
  enter(socket);
  socket->state = SOCKET_ENDED;
  socket->ops->closed(socket->context, how);
  leave(socket);
}

void socket_fail(struct vc_socket *socket, enum vc_trouble trouble)
{
  end(socket, &(struct vc_socket_end){.trouble = trouble, .retry_after_s = -1});
}

// --- writing

// Returns: 0 all went, 1 the kernel takes no more now, -1 the connection is broken.
static int push(struct vc_socket *socket, const uint8_t *bytes, size_t size, size_t *at)
{
  while (*at < size) {
    size_t n = 0;
    CURLcode code = curl_easy_send(socket->transfer.easy, bytes + *at, size - *at, &n);
    if (code == CURLE_AGAIN) {
      return 1;
    }
    if (code != CURLE_OK) {
      return -1;
    }
    *at += n;
  }
  return 0;
}

static void release_out(struct vc_socket *socket)
{
  socket->out_size = socket->out_at = 0;
  if (socket->out_capacity > OUT_KEEP_BYTES) {
    free(socket->out);
    socket->out = NULL;
    socket->out_capacity = 0;
  }
}

// Returns as push does.
static int flush(struct vc_socket *socket)
{
  int status = push(socket, socket->out, socket->out_size, &socket->out_at);
  if (status == 0) {
    release_out(socket);
    status = push(socket, socket->control, socket->control_size, &socket->control_at);
  }
  if (status == 0) {
    socket->control_size = socket->control_at = 0;
  }
  return status;
}

static size_t frame(struct vc_client *client, uint8_t *into, enum vc_ws_opcode opcode,
                    const void *payload, size_t size)
{
  uint8_t mask[4];
  client_random(client, mask, sizeof mask);
  size_t n = vc_ws_print_header(into, opcode, size, mask);
  if (size > 0) {
    memcpy(into + n, payload, size);
    vc_ws_mask(into + n, size, mask);
  }
  return n + size;
}

// One at a time: what OpenSSL has not finished must not change.
static void say_control(struct vc_socket *socket, enum vc_ws_opcode opcode, const void *payload,
                        size_t size)
{
  if (socket->control_size == 0) {
    socket->control_size = frame(socket->transfer.client, socket->control, opcode, payload, size);
    flush(socket); // what breaks here is found by the next read
  }
}

static int reserve_out(struct vc_socket *socket, size_t size)
{
  if (size <= socket->out_capacity) {
    return 0;
  }
  uint8_t *out = malloc(size);
  if (out == NULL) {
    return -1;
  }
  free(socket->out);
  socket->out = out;
  socket->out_capacity = size;
  return 0;
}

int vc_socket_send(struct vc_socket *socket, enum vc_ws_opcode opcode, const void *payload,
                   size_t size)
{
  vc_worker_assert_here(socket->transfer.client->worker);
  if (socket->state != SOCKET_OPEN) {
    return -1;
  }
  if (socket->out_size > 0 || socket->control_size > 0) {
    socket->has_taken = 1; // `writable` is owed, whatever it was that waited
    return 1;
  }
  if (reserve_out(socket, size + VC_WS_HEADER_MAX) != 0) {
    return -1;
  }
  socket->out_size = frame(socket->transfer.client, socket->out, opcode, payload, size);
  socket->out_at = 0;
  // A broken connection is reported by the read that follows its event, not from here.
  socket->has_taken = flush(socket) != 0;
  return 0;
}

// --- the upgrade

static int print_request(struct vc_socket *socket, const struct vc_url *url)
{
  struct vc_text text = {0};
  uint8_t random[16];
  char key[VC_WS_KEY_SIZE];
  client_random(socket->transfer.client, random, sizeof random);
  vc_ws_print_key(random, key);
  int status = vc_ws_print_accept(key, socket->accept);
  int is_ipv6 = strchr(url->host, ':') != NULL;
  vc_text_format(&text, "GET %s%s%s HTTP/1.1\r\nHost: %s%s%s", url->path,
                 url->query[0] != '\0' ? "?" : "", url->query, is_ipv6 ? "[" : "", url->host,
                 is_ipv6 ? "]" : "");
  if (url->port != 0) {
    vc_text_format(&text, ":%u", url->port);
  }
  vc_text_format(&text,
                 "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: %s\r\n"
                 "Sec-WebSocket-Version: 13\r\nUser-Agent: %s\r\n\r\n",
                 key, socket->transfer.client->user_agent);
  if (status != 0 || text.has_failed) {
    vc_text_fini(&text);
    return -1;
  }
  socket->request = text.at;
  return 0;
}

static int64_t read_retry_after(const struct vc_http_head *head)
{
  const char *text = vc_http_find(head, "retry-after");
  char *after;
  long long seconds = text != NULL ? strtoll(text, &after, 10) : -1;
  return text != NULL && after != text && seconds >= 0 ? seconds : -1;
}

static int is_accepted(const struct vc_socket *socket, const struct vc_http_head *head)
{
  const char *accept = vc_http_find(head, "sec-websocket-accept");
  return socket->accept[0] != '\0' && accept != NULL && strcmp(accept, socket->accept) == 0 &&
         vc_http_has_token(head, "upgrade", "websocket") &&
         vc_http_has_token(head, "connection", "upgrade") &&
         vc_http_find(head, "sec-websocket-extensions") == NULL &&
         vc_http_find(head, "sec-websocket-protocol") == NULL;
}

static void become_open(struct vc_socket *socket)
{
  free(socket->request);
  free(socket->head);
  socket->request = socket->head = NULL;
  socket->state = SOCKET_OPEN;
  socket->ops->opened(socket->context);
}

// Takes bytes of the answer's head. Returns: how many were the head's, when it is whole and good;
// else all (the head goes on, or the socket has ended).
static size_t take_head(struct vc_socket *socket, const uint8_t *bytes, size_t size)
{
  struct vc_http_head head;
  size_t before = socket->head_size;
  size_t n = size < VC_HTTP_HEAD_MAX - before ? size : VC_HTTP_HEAD_MAX - before;
  char *grown = realloc(socket->head, before + n);
  if (grown == NULL) {
    socket_fail(socket, VC_TROUBLE_MEMORY);
    return size;
  }
  socket->head = grown;
  memcpy(grown + before, bytes, n);
  socket->head_size += n;
  int status = vc_http_parse_head(grown, socket->head_size, VC_HTTP_RESPONSE, &head);
  if (status == 1) {
    return size;
  }
  if (status == 0 && head.status == 101 && is_accepted(socket, &head)) {
    size_t used = head.size - before;
    become_open(socket);
    return used;
  }
  if (status == 0 && head.status != 101) {
    end(socket, &(struct vc_socket_end){.trouble = VC_TROUBLE_REFUSED,
                                        .status = head.status,
                                        .retry_after_s = read_retry_after(&head)});
  } else {
    socket_fail(socket, VC_TROUBLE_PROTOCOL);
  }
  return size;
}

// --- reading

static void say_close(struct vc_socket *socket, int code)
{
  uint8_t payload[VC_WS_CONTROL_MAX];
  size_t n = vc_ws_close_code_is_valid(code) ? vc_ws_print_close(payload, code, NULL) : 0;
  say_control(socket, VC_WS_CLOSE, payload, n);
}

static void take_event(struct vc_socket *socket, const struct vc_ws_event *event)
{
  switch (event->opcode) {
  case VC_WS_PING:
    say_control(socket, VC_WS_PONG, event->payload, event->size);
    break;
  case VC_WS_CLOSE:
    say_close(socket, event->close_code);
    end(socket, &(struct vc_socket_end){.close_code = event->close_code, .retry_after_s = -1});
    break;
  case VC_WS_TEXT:
  case VC_WS_BINARY:
    socket->ops->message(socket->context, event->opcode, event->payload, event->size);
    break;
  case VC_WS_PONG:
  case VC_WS_CONTINUATION:
    break;
  }
}

static void refuse(struct vc_socket *socket, int code)
{
  say_close(socket, code);
  socket_fail(socket, code == 1009   ? VC_TROUBLE_TOO_BIG
                      : code == 1011 ? VC_TROUBLE_MEMORY
                                     : VC_TROUBLE_PROTOCOL);
}

// Returns: how many bytes were used; fewer when it is paused.
static size_t take_frames(struct vc_socket *socket, const uint8_t *bytes, size_t size)
{
  size_t at = 0;
  while (at < size && socket->state == SOCKET_OPEN && !socket->is_paused) {
    struct vc_ws_event event;
    size_t used = 0;
    int status = vc_ws_parse(&socket->parser, bytes + at, size - at, &used, &event);
    at += used;
    if (status < 0) {
      refuse(socket, event.close_code);
    } else if (status == 1) {
      take_event(socket, &event);
    }
  }
  return at;
}

static void keep_rest(struct vc_socket *socket, const uint8_t *bytes, size_t size)
{
  socket->rest = malloc(size);
  if (socket->rest == NULL) {
    socket_fail(socket, VC_TROUBLE_MEMORY);
    return;
  }
  memcpy(socket->rest, bytes, size);
  socket->rest_size = size;
  socket->rest_at = 0;
}

static void take_bytes(struct vc_socket *socket, const uint8_t *bytes, size_t size)
{
  size_t at = socket->state == SOCKET_UPGRADING ? take_head(socket, bytes, size) : 0;
  at += take_frames(socket, bytes + at, size - at);
  if (at < size && socket->state == SOCKET_OPEN) {
    keep_rest(socket, bytes + at, size - at);
  }
}

static void take_rest(struct vc_socket *socket)
{
  socket->rest_at +=
      take_frames(socket, socket->rest + socket->rest_at, socket->rest_size - socket->rest_at);
  if (socket->rest_at == socket->rest_size) {
    free(socket->rest);
    socket->rest = NULL;
    socket->rest_size = socket->rest_at = 0;
  }
}

static void read_all(struct vc_socket *socket)
{
  struct vc_client *client = socket->transfer.client;
  size_t total = 0;
  if (socket->rest != NULL && !socket->is_paused) {
    take_rest(socket);
  }
  // The upgrade is not what the owner paused.
  while (socket->state == SOCKET_UPGRADING ||
         (socket->state == SOCKET_OPEN && !socket->is_paused)) {
    size_t n = 0;
    CURLcode code =
        curl_easy_recv(socket->transfer.easy, client->read_buffer, sizeof client->read_buffer, &n);
    if (code == CURLE_AGAIN) {
      return;
    }
    if (code != CURLE_OK || n == 0) {
      socket_fail(socket, VC_TROUBLE_UNREACHABLE);
      return;
    }
    take_bytes(socket, client->read_buffer, n);
    total += n;
    if (total >= READ_MAX && socket->state != SOCKET_ENDED) {
      make_hungry(socket);
      return;
    }
  }
}

static void write_waiting(struct vc_socket *socket)
{
  if (flush(socket) == 0 && socket->has_taken && socket->state == SOCKET_OPEN) {
    socket->has_taken = 0;
    socket->ops->writable(socket->context);
  }
}

static void serve(struct vc_socket *socket)
{
  if (socket->state == SOCKET_CONNECTING) { // paused and resumed before it is ours
    return;
  }
  enter(socket);
  write_waiting(socket);
  read_all(socket);
  leave(socket);
}

static void socket_ready(struct vc_worker *worker, struct vc_watch *watch, uint32_t events)
{
  serve((struct vc_socket *)((char *)watch - offsetof(struct vc_socket, watch)));
}

// Those that get hungry meanwhile are served by the next ring.
void socket_serve_hungry(struct vc_client *client)
{
  size_t n = 0;
  struct vc_socket *socket;
  DL_COUNT2(client->hungry, socket, n, next_hungry);
  for (; n > 0 && client->hungry != NULL; n--) {
    socket = client->hungry;
    let_hunger_go(socket);
    serve(socket);
  }
}

// --- its beginning

static int set_socket(struct vc_socket *socket, const struct vc_socket_request *request,
                      const struct vc_url *url)
{
  CURL *easy = socket->transfer.easy;
  int is_tls = strcmp(url->scheme, "wss") == 0;
  int is_ipv6 = strchr(url->host, ':') != NULL;
  char origin[sizeof url->host + 32];
  snprintf(origin, sizeof origin, "%s://%s%s%s:%u/", is_tls ? "https" : "http", is_ipv6 ? "[" : "",
           url->host, is_ipv6 ? "]" : "",
           url->port != 0 ? url->port
           : is_tls       ? 443U
                          : 80U);
  int status = 0;
  status |= curl_easy_setopt(easy, CURLOPT_URL, origin);
  status |= curl_easy_setopt(easy, CURLOPT_CONNECT_ONLY, 1L);
  status |= curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, 1024L);
  status |= curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)request->connect_timeout_ms);
  return status == 0 ? 0 : -1;
}

int vc_socket_open(struct vc_socket **socket_out, struct vc_client *client,
                   const struct vc_socket_request *request)
{
  struct vc_url url;
  if (vc_url_parse(request->url, &url) != 0 || url.host[0] == '\0' ||
      (strcmp(url.scheme, "ws") != 0 && strcmp(url.scheme, "wss") != 0)) {
    return -1;
  }
  struct vc_socket *socket = calloc(1, sizeof *socket);
  if (socket == NULL) {
    return -1;
  }
  socket->transfer.kind = TRANSFER_SOCKET;
  socket->transfer.scope = request->scope;
  socket->watch = (struct vc_watch){.fd = -1, .ready = socket_ready};
  socket->ops = request->ops;
  socket->context = request->context;
  vc_ws_parser_init(&socket->parser, VC_WS_CLIENT, request->message_max);
  if (transfer_init(&socket->transfer, client) != 0 || set_socket(socket, request, &url) != 0 ||
      print_request(socket, &url) != 0 || transfer_start(&socket->transfer) != 0) {
    socket_destroy(socket);
    return -1;
  }
  *socket_out = socket;
  return 0;
}

static int watch_connection(struct vc_socket *socket)
{
  curl_socket_t fd = CURL_SOCKET_BAD;
  if (curl_easy_getinfo(socket->transfer.easy, CURLINFO_ACTIVESOCKET, &fd) != CURLE_OK ||
      fd == CURL_SOCKET_BAD) {
    return -1;
  }
  socket->watch.fd = fd;
  if (vc_worker_watch(socket->transfer.client->worker, &socket->watch,
                      EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET) != 0) {
    socket->watch.fd = -1;
    return -1;
  }
  return 0;
}

void socket_connected(struct vc_socket *socket, CURLcode code)
{
  enum vc_trouble trouble = transfer_trouble(&socket->transfer, code);
  if (trouble != VC_TROUBLE_NONE) {
    socket_fail(socket, trouble);
    return;
  }
  size_t size = strlen(socket->request);
  if (reserve_out(socket, size) != 0 || watch_connection(socket) != 0) {
    socket_fail(socket, VC_TROUBLE_MEMORY);
    return;
  }
  memcpy(socket->out, socket->request, size);
  socket->out_size = size;
  socket->state = SOCKET_UPGRADING;
  serve(socket);
}

void vc_socket_pause(struct vc_socket *socket)
{
  socket->is_paused = 1;
}

void vc_socket_resume(struct vc_socket *socket)
{
  if (socket->is_paused) {
    socket->is_paused = 0;
    make_hungry(socket);
  }
}

void vc_socket_close(struct vc_socket **socket_in, int close_code)
{
  struct vc_socket *socket = *socket_in;
  *socket_in = NULL;
  if (socket == NULL || socket->state == SOCKET_ENDED) {
    return; // within its `closed`, or closed before
  }
  enter(socket);
  if (socket->state == SOCKET_OPEN && socket->out_at == socket->out_size) {
    say_close(socket, close_code);
  }
  socket->state = SOCKET_ENDED;
  leave(socket);
}
