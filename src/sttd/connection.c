// Sockets: bytes in, bytes out, deadlines. What the bytes mean is http.c's and live.c's.
#include "room.h"

#include <verbacast/base/log.h>

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
#include <utlist.h>

#define REQUEST_MS 10000
#define SILENCE_MS 30000
#define FLUSH_MS 10000
#define LINGER_MS 2000
#define READS_PER_EVENT 4
#define SEND_BUFFER 131072 // what the kernel holds cannot be left out any more

static void set_deadline(struct connection *connection, uint64_t ms)
{
  connection->deadline_ns = room_now_ns(connection->room) + ms * VC_NS_PER_MS;
}

static int is_open(const struct connection *connection)
{
  return connection->state != CONNECTION_DEAD;
}

// --- coming and going

static void serve_ready(struct vc_worker *worker, struct vc_watch *watch, uint32_t events);

static void refuse_full(struct room *room, int fd)
{
  static const char answer[] = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n"
                               "Content-Length: 0\r\nConnection: close\r\n\r\n";
  ssize_t n = send(fd, answer, sizeof answer - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
  (void)n;
  close(fd);
  room_count(room, CONNECTIONS_REFUSED, 1);
}

void connection_accept(struct room *room, int fd)
{
  struct connection *connection = NULL;
  room_count(room, CONNECTIONS_TOTAL, 1);
  if (room->n_connections >= room->connections_max ||
      (connection = calloc(1, sizeof *connection)) == NULL ||
      (connection->request = calloc(1, sizeof *connection->request)) == NULL) {
    free(connection);
    refuse_full(room, fd);
    return;
  }
  int one = 1, send_buffer = SEND_BUFFER;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &send_buffer, sizeof send_buffer);
  connection->room = room;
  connection->watch = (struct vc_watch){.fd = fd, .ready = serve_ready};
  connection->events = EPOLLIN;
  if (vc_worker_watch(room->worker, &connection->watch, connection->events) != 0) {
    free(connection->request);
    free(connection);
    refuse_full(room, fd);
    return;
  }
  set_deadline(connection, REQUEST_MS);
  DL_APPEND(room->connections, connection);
  vc_metric_set(room->slots, CONNECTIONS, ++room->n_connections);
}

void connection_kill(struct connection *connection)
{
  struct room *room = connection->room;
  if (!is_open(connection)) {
    return;
  }
  connection->state = CONNECTION_DEAD;
  vc_worker_unwatch(room->worker, &connection->watch);
  close(connection->watch.fd);
  DL_DELETE(room->connections, connection);
  DL_APPEND(room->dead, connection);
  vc_metric_set(room->slots, CONNECTIONS, --room->n_connections);
  struct session *session = connection->session;
  connection->session = NULL;
  if (session != NULL) {
    session_detached(session);
  }
}

static void request_free(struct connection *connection)
{
  if (connection->request != NULL) {
    free(connection->request->body);
    free(connection->request);
    connection->request = NULL;
  }
}

static void free_dead(struct room *room)
{
  struct connection *connection, *next;
  DL_FOREACH_SAFE(room->dead, connection, next)
  {
    DL_DELETE(room->dead, connection);
    request_free(connection);
    vc_ws_parser_fini(&connection->parser);
    free(connection->pending);
    free(connection->rest);
    free(connection->out);
    free(connection);
  }
}

// --- out

size_t connection_unsent(const struct connection *connection)
{
  return connection->out_end - connection->out_begin;
}

static int reserve_out(struct connection *connection, size_t size)
{
  if (connection->out_begin > 0) {
    memmove(connection->out, connection->out + connection->out_begin,
            connection_unsent(connection));
    connection->out_end -= connection->out_begin;
    connection->out_begin = 0;
  }
  size_t capacity = connection->out_capacity > 0 ? connection->out_capacity : 1024;
  while (capacity < connection->out_end + size) {
    capacity *= 2;
  }
  if (capacity > connection->out_capacity) {
    uint8_t *out = realloc(connection->out, capacity);
    if (out == NULL) {
      return -1;
    }
    connection->out = out;
    connection->out_capacity = capacity;
  }
  return 0;
}

void connection_write(struct connection *connection, const void *bytes, size_t size)
{
  if (!is_open(connection) || size == 0) {
    return;
  }
  // One message may be larger than the bound, a heap of them may not.
  size_t unsent = connection_unsent(connection);
  if ((unsent > 0 && unsent + size > 2 * OUTPUT_MAX) || unsent > OUTPUT_MAX ||
      (connection->out_end + size > connection->out_capacity &&
       reserve_out(connection, size) != 0)) {
    connection_kill(connection);
    return;
  }
  memcpy(connection->out + connection->out_end, bytes, size);
  connection->out_end += size;
}

static void flush(struct connection *connection)
{
  while (connection_unsent(connection) > 0) {
    ssize_t n = send(connection->watch.fd, connection->out + connection->out_begin,
                     connection_unsent(connection), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n < 0 && errno != EAGAIN) {
      connection_kill(connection);
    }
    if (n < 0) {
      return;
    }
    connection->out_begin += (size_t)n;
  }
  connection->out_begin = connection->out_end = 0;
  if (connection->out_capacity > OUTPUT_PARTIALS) {
    free(connection->out);
    connection->out = NULL;
    connection->out_capacity = 0;
  }
}

void connection_finish(struct connection *connection)
{
  if (connection->state < CONNECTION_FLUSH) {
    connection->state = CONNECTION_FLUSH;
    set_deadline(connection, FLUSH_MS);
  }
}

// --- in

static void read_body(struct connection *connection, const char *bytes, size_t size)
{
  struct request *request = connection->request;
  size_t left = request->body_size - request->n_body;
  size_t n = size < left ? size : left; // what follows a body is nobody's
  memcpy(request->body + request->n_body, bytes, n);
  request->n_body += n;
  if (request->n_body == request->body_size) {
    http_serve(connection);
  }
}

static void begin_body(struct connection *connection)
{
  struct request *request = connection->request;
  uint64_t size = 0;
  int status = vc_http_content_length(&request->head, &size);
  if (status < 0) {
    http_refuse(connection, 400, "Content-Length is malformed");
    return;
  }
  if (vc_http_find(&request->head, "transfer-encoding") != NULL) {
    http_refuse(connection, 411, "a body needs a Content-Length");
    return;
  }
  if (size > BODY_MAX) {
    http_refuse(connection, 413, "the body is larger than 64 KiB");
    return;
  }
  request->body = calloc(1, (size_t)size + 1);
  if (request->body == NULL) {
    connection_kill(connection);
    return;
  }
  request->body_size = (size_t)size;
  connection->state = CONNECTION_BODY;
  const char *expect = vc_http_find(&request->head, "expect");
  if (size > 0 && expect != NULL && strcmp(expect, "100-continue") == 0) {
    static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
    connection_write(connection, go_on, sizeof go_on - 1);
  }
}

// Bytes behind the head are the body's, or frames.
static void read_head(struct connection *connection, const uint8_t *bytes, size_t size)
{
  struct request *request = connection->request;
  size_t room = sizeof request->bytes - request->n_bytes;
  size_t n = size < room ? size : room;
  memcpy(request->bytes + request->n_bytes, bytes, n);
  request->n_bytes += n;
  int status =
      vc_http_parse_head(request->bytes, request->n_bytes, VC_HTTP_REQUEST, &request->head);
  if (status < 0) {
    http_refuse(connection, request->n_bytes == sizeof request->bytes ? 431 : 400,
                "no HTTP request with a head of at most 8 KiB");
    return;
  }
  if (status > 0) {
    return;
  }
  size_t n_behind = request->n_bytes - request->head.size + (size - n);
  const uint8_t *behind = bytes + (size - n_behind);
  begin_body(connection);
  if (connection->state == CONNECTION_BODY) {
    read_body(connection, (const char *)behind, n_behind);
  }
  if (connection->state == CONNECTION_LIVE) {
    request_free(connection);
    live_bytes(connection, behind, n_behind);
  }
}

static void take_bytes(struct connection *connection, const uint8_t *bytes, size_t size)
{
  switch (connection->state) {
  case CONNECTION_HEAD:
    read_head(connection, bytes, size);
    break;
  case CONNECTION_BODY:
    read_body(connection, (const char *)bytes, size);
    break;
  case CONNECTION_LIVE:
    set_deadline(connection, SILENCE_MS);
    live_bytes(connection, bytes, size);
    break;
  case CONNECTION_FLUSH:
  case CONNECTION_LINGER:
  case CONNECTION_DEAD:
    break; // read away
  }
}

static int wants_input(const struct connection *connection)
{
  return !connection->has_ended &&
         (connection->state != CONNECTION_LIVE ||
          (!live_is_paused(connection) && connection_unsent(connection) < OUTPUT_PAUSE));
}

static void read_ready(struct connection *connection)
{
  struct room *room = connection->room;
  for (int i = 0; i < READS_PER_EVENT && is_open(connection) && wants_input(connection); i++) {
    ssize_t n = recv(connection->watch.fd, room->scratch, sizeof room->scratch, MSG_DONTWAIT);
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n < 0 && errno == EAGAIN) {
      return;
    }
    if (n == 0 && connection->state == CONNECTION_FLUSH) {
      connection->has_ended = 1; // it has asked, and still listens
      return;
    }
    if (n <= 0) {
      connection_kill(connection);
      return;
    }
    take_bytes(connection, room->scratch, (size_t)n);
    if ((size_t)n < sizeof room->scratch) {
      return;
    }
  }
}

static void serve_ready(struct vc_worker *worker, struct vc_watch *watch, uint32_t events)
{
  struct connection *connection = (struct connection *)watch;
  if (events & (EPOLLERR | EPOLLHUP)) {
    connection_kill(connection);
  } else if (events & EPOLLIN) {
    read_ready(connection);
  }
  // EPOLLOUT: the turn's end sends.
}

// --- a turn's end

static void shut(struct connection *connection)
{
  if (connection->state == CONNECTION_FLUSH && connection_unsent(connection) == 0) {
    if (connection->has_ended) {
      connection_kill(connection);
      return;
    }
    shutdown(connection->watch.fd, SHUT_WR);
    connection->state = CONNECTION_LINGER;
    set_deadline(connection, LINGER_MS);
  }
}

static void wait_for(struct connection *connection)
{
  uint32_t events = (wants_input(connection) ? (uint32_t)EPOLLIN : 0) |
                    (connection_unsent(connection) > 0 ? (uint32_t)EPOLLOUT : 0);
  if (events != connection->events) {
    connection->events = events;
    vc_worker_rewatch(connection->room->worker, &connection->watch, events);
  }
}

void connections_turned(struct room *room)
{
  struct connection *connection, *next;
  DL_FOREACH_SAFE(room->connections, connection, next)
  {
    flush(connection);
    if (is_open(connection)) {
      shut(connection);
    }
    if (is_open(connection)) {
      wait_for(connection);
    }
  }
  free_dead(room);
}

static void expire(struct connection *connection)
{
  switch (connection->state) {
  case CONNECTION_HEAD:
  case CONNECTION_BODY:
    room_count(connection->room, TIMEOUTS, 1);
    http_refuse(connection, 408, "the request did not come within 10 s");
    break;
  case CONNECTION_LIVE:
    if (live_is_paused(connection) ||
        (connection->session != NULL && connection->session->state == SESSION_STOPPING)) {
      set_deadline(connection, SILENCE_MS); // it waits for us
    } else {
      room_count(connection->room, TIMEOUTS, 1);
      live_close(connection, 1008, "no input for 30 s");
    }
    break;
  case CONNECTION_FLUSH:
  case CONNECTION_LINGER:
  case CONNECTION_DEAD:
    connection_kill(connection);
    break;
  }
}

void connections_tick(struct room *room)
{
  struct connection *connection, *next;
  uint64_t now = room_now_ns(room);
  DL_FOREACH_SAFE(room->connections, connection, next)
  {
    if (now >= connection->deadline_ns) {
      expire(connection);
    }
  }
}

void connections_destroy(struct room *room)
{
  struct connection *connection, *next;
  DL_FOREACH_SAFE(room->connections, connection, next)
  {
    connection_kill(connection);
  }
  free_dead(room);
}
