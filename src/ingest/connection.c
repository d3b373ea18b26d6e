#include <verbacast/base/log.h>
#include <verbacast/wire/proxy.h>

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <unistd.h>

#include "room.h"

static void ready(struct vc_worker *worker, struct vc_watch *watch, uint32_t events);

static void set_options(int fd)
{
  int one = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
}

// A publisher that writes in small pieces has the next one wait for our ACK: a delayed one would
// cost 40 ms, at each step of the set-up and at each frame.
static void acknowledge_quickly(const struct connection *connection)
{
  int one = 1;
  setsockopt(connection->watch.fd, IPPROTO_TCP, TCP_QUICKACK, &one, sizeof one);
}

static int watch_connection(struct vc_worker *worker, struct connection *connection)
{
  struct worker_state *state = vc_worker_state(worker);
  connection->watch.ready = ready;
  connection->is_full = 0;
  if (vc_worker_watch(worker, &connection->watch, EPOLLIN | EPOLLRDHUP) != 0) {
    return -1;
  }
  DL_APPEND(state->connections, connection);
  vc_metric_add(vc_worker_slots(worker), CONNECTIONS, 1);
  return 0;
}

static void unwatch_connection(struct vc_worker *worker, struct connection *connection)
{
  struct worker_state *state = vc_worker_state(worker);
  if (connection->stage == ASKING) {
    comeback_forget(worker, connection);
  }
  vc_worker_unwatch(worker, &connection->watch);
  DL_DELETE(state->connections, connection);
  vc_metric_add(vc_worker_slots(worker), CONNECTIONS, (uint64_t)-1);
}

void connection_destroy(struct room *room, struct connection *connection)
{
  if (connection->is_counted) {
    vc_limits_leave(room->limits, &connection->address, connection->is_exempt);
  }
  close(connection->watch.fd);
  rtmp_bytes_fini(&connection->rest);
  rtmp_bytes_fini(&connection->unsent);
  rtmp_reader_fini(&connection->reader);
  free(connection->slug);
  free(connection->query);
  free(connection);
}

// Counts the client in. Returns: 0, or 1 refused (logged and counted).
static int count_in(struct vc_worker *worker, struct connection *connection)
{
  struct room *room = ((struct worker_state *)vc_worker_state(worker))->room;
  connection->is_exempt = vc_limits_exempt(&room->proxies, &connection->address);
  int status = vc_limits_enter(room->limits, &connection->address, connection->is_exempt);
  connection->is_counted = status == 0;
  if (status != 0) {
    vc_metric_add(vc_worker_slots(worker), status == 1 ? REFUSED_ADDRESS : REFUSED_FULL, 1);
    refuse_log(&connection->address,
               status == 1 ? "too many connections from this address" : "too many connections", "");
  }
  return status != 0;
}

void connection_accept(struct vc_worker *worker, int fd, const struct sockaddr *from)
{
  struct worker_state *state = vc_worker_state(worker);
  struct connection *connection = calloc(1, sizeof *connection);
  if (connection == NULL) {
    close(fd);
    return;
  }
  vc_metric_add(vc_worker_slots(worker), CONNECTIONS_TOTAL, 1);
  connection->watch.fd = fd;
  vc_address_from_socket(from, &connection->address);
  rtmp_reader_init(&connection->reader, MESSAGE_MAX, UNFINISHED_MAX);
  connection->accepted_ns = connection->heard_ns = vc_worker_now_ns(worker);
  int is_behind_proxy = vc_networks_have(&state->room->proxies, &connection->address);
  connection->stage = is_behind_proxy ? PROXY_HEADER : HANDSHAKE_C1;
  set_options(fd);
  acknowledge_quickly(connection);
  if (count_in(worker, connection) != 0 || watch_connection(worker, connection) != 0) {
    connection_destroy(state->room, connection);
  }
}

void connection_close(struct vc_worker *worker, struct connection *connection)
{
  struct worker_state *state = vc_worker_state(worker);
  assert(connection->session == NULL);
  unwatch_connection(worker, connection);
  connection_destroy(state->room, connection);
}

static int rewatch(struct vc_worker *worker, struct connection *connection)
{
  uint32_t events = connection->is_full ? EPOLLOUT : 0;
  // What is not read must not wake the worker either.
  if (connection->stage != CLOSING) {
    events |= connection->stage == ASKING ? EPOLLRDHUP : EPOLLIN | EPOLLRDHUP;
  }
  return vc_worker_rewatch(worker, &connection->watch, events);
}

// The socket takes no more. Returns: 0, or -1 the peer does not read.
static int await_room(struct vc_worker *worker, struct connection *connection, size_t sent)
{
  struct rtmp_bytes *unsent = &connection->unsent;
  unsent->size -= sent;
  memmove(unsent->at, unsent->at + sent, unsent->size);
  if (unsent->size > UNSENT_MAX) {
    return -1;
  }
  connection->is_full = 1;
  return rewatch(worker, connection);
}

int connection_send(struct vc_worker *worker, struct connection *connection)
{
  struct rtmp_bytes *unsent = &connection->unsent;
  size_t sent = 0;
  if (unsent->has_failed) {
    return -1;
  }
  while (sent < unsent->size) {
    ssize_t n = send(connection->watch.fd, unsent->at + sent, unsent->size - sent,
                     MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n < 0 && (errno == EPIPE || errno == ECONNRESET)) {
      break; // it is gone; what it said before is read until the socket has no more
    }
    if (n < 0) {
      return errno == EAGAIN ? await_room(worker, connection, sent) : -1;
    }
    sent += (size_t)n;
  }
  unsent->size = 0;
  if (connection->stage == PUBLISHING) {
    rtmp_bytes_fini(unsent); // from now on there is an acknowledgement now and then
  }
  if (!connection->is_full) {
    return 0;
  }
  connection->is_full = 0;
  return rewatch(worker, connection);
}

// All is sent. A close with bytes of the peer's unread would be a reset, in which what was said
// last may be lost.
static void linger(struct vc_worker *worker, struct connection *connection)
{
  connection->stage = LINGERING;
  if (shutdown(connection->watch.fd, SHUT_WR) != 0 ||
      vc_worker_rewatch(worker, &connection->watch, EPOLLIN) != 0) {
    connection_close(worker, connection);
  }
}

static void send_last(struct vc_worker *worker, struct connection *connection)
{
  if (connection_send(worker, connection) != 0) {
    connection_close(worker, connection);
  } else if (connection->unsent.size == 0) {
    linger(worker, connection);
  }
}

static void discard(struct vc_worker *worker, struct connection *connection)
{
  struct worker_state *state = vc_worker_state(worker);
  ssize_t n = recv(connection->watch.fd, state->scratch, SCRATCH_SIZE, MSG_DONTWAIT);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
    return;
  }
  connection->n_discarded += n > 0 ? (size_t)n : 0;
  if (n <= 0 || connection->n_discarded > DISCARDED_MAX) {
    connection_close(worker, connection);
  }
}

void connection_finish(struct vc_worker *worker, struct connection *connection)
{
  if (connection->session != NULL) {
    ingest_session_lose(worker, connection->session);
  }
  connection->stage = CLOSING;
  connection->closing_ns = vc_worker_now_ns(worker);
  send_last(worker, connection);
}

// The publisher is gone without a word, or broke something.
static void lose(struct vc_worker *worker, struct connection *connection)
{
  if (connection->session != NULL) {
    ingest_session_lose(worker, connection->session);
  }
  connection_close(worker, connection);
}

static void break_protocol(struct vc_worker *worker, struct connection *connection,
                           const char *what)
{
  vc_metric_add(vc_worker_slots(worker), REFUSED_PROTOCOL, 1);
  refuse_log(&connection->address, "broken protocol", what);
  lose(worker, connection);
}

static int take_proxy_header(struct vc_worker *worker, struct connection *connection,
                             const uint8_t *bytes, size_t size)
{
  struct worker_state *state = vc_worker_state(worker);
  struct vc_address client = connection->address;
  int n = vc_proxy_parse(bytes, size, &client);
  if (n <= 0) {
    return n;
  }
  vc_limits_leave(state->room->limits, &connection->address, connection->is_exempt);
  connection->is_counted = 0;
  connection->address = client;
  if (count_in(worker, connection) != 0) {
    return -2;
  }
  connection->stage = HANDSHAKE_C1;
  return n;
}

static int take_c1(struct connection *connection, const uint8_t *bytes, size_t size)
{
  uint8_t random[2 * RTMP_HANDSHAKE_SIZE], answer[RTMP_S0S1S2_SIZE];
  if (size > 0 && bytes[0] != 3) {
    return -1;
  }
  if (size < RTMP_C0C1_SIZE) {
    return 0;
  }
  ssize_t n = getrandom(random, sizeof random, 0);
  if (n != sizeof random || rtmp_handshake_answer(bytes, random, answer) != 0) {
    return -1;
  }
  rtmp_bytes_add(&connection->unsent, answer, sizeof answer);
  connection->stage = HANDSHAKE_C2;
  return RTMP_C0C1_SIZE;
}

static int take_c2(struct connection *connection, size_t size)
{
  if (size < RTMP_HANDSHAKE_SIZE) {
    return 0;
  }
  connection->stage = COMMANDS;
  return RTMP_HANDSHAKE_SIZE;
}

// ffmpeg looks for what we say now and then, and closes right behind its last words: where it has
// not read all, its socket drops those that wait in it, `deleteStream` among them. So not too
// often.
static void acknowledge(struct connection *connection, size_t n)
{
  connection->n_received += n;
  if (connection->n_received - connection->n_acknowledged >= ACKNOWLEDGE_BYTES &&
      connection->read_ns >= connection->acknowledge_ns) {
    connection->acknowledge_ns = connection->read_ns + ACKNOWLEDGE_PAUSE_MS * VC_NS_PER_MS;
    connection->n_acknowledged = connection->n_received;
    rtmp_write_control(&connection->unsent, RTMP_ACKNOWLEDGEMENT, (uint32_t)connection->n_received);
  }
}

static int handle_message(struct vc_worker *worker, struct connection *connection,
                          const struct rtmp_message *message)
{
  if (connection->stage == PUBLISHING) {
    ingest_session_media(worker, connection, message);
  }
  return command_handle(worker, connection, message);
}

enum outcome { GO_ON, GONE };

// Reads chunks. Returns GONE when the connection was closed or given away.
static enum outcome take_chunks(struct vc_worker *worker, struct connection *connection,
                                const uint8_t *bytes, size_t size, size_t *used)
{
  for (;;) {
    struct rtmp_message message;
    size_t n;
    int status = rtmp_reader_next(&connection->reader, bytes + *used, size - *used, &n, &message);
    *used += n;
    if (status < 0) {
      break_protocol(worker, connection, rtmp_error_text(status));
      return GONE;
    }
    if (status == 0) {
      return GO_ON;
    }
    status = handle_message(worker, connection, &message);
    if (status < 0) {
      break_protocol(worker, connection, "malformed command");
      return GONE;
    }
    if (status > 0) {
      connection_finish(worker, connection);
      return GONE;
    }
    if (connection->is_moving) {
      return GO_ON;
    }
  }
}

// One step of what the connection's stage asks for. Returns: bytes used, 0 more are needed, -1
// malformed, -2 refused; GONE in *outcome when there is no connection any more.
static int take_step(struct vc_worker *worker, struct connection *connection, const uint8_t *bytes,
                     size_t size, enum outcome *outcome)
{
  size_t used = 0;
  switch (connection->stage) {
  case PROXY_HEADER:
    return take_proxy_header(worker, connection, bytes, size);
  case HANDSHAKE_C1:
    return take_c1(connection, bytes, size);
  case HANDSHAKE_C2:
    return take_c2(connection, size);
  case COMMANDS:
  case ASKING:
  case PUBLISHING:
    *outcome = take_chunks(worker, connection, bytes, size, &used);
    return (int)used;
  case CLOSING:
  case LINGERING:
    return (int)size;
  }
  return -1;
}

struct move {
  struct room_item item;
  struct room *room;
  struct connection *connection;
};

static void move_destroy(struct vc_item *item)
{
  struct move *move = (struct move *)item;
  connection_destroy(move->room, move->connection);
  free(move);
}

// `publish` came: the worker of the slug goes on. Returns GONE when it is another one.
static enum outcome move_to_owner(struct vc_worker *worker, struct connection *connection)
{
  struct worker_state *state = vc_worker_state(worker);
  uint32_t owner = vc_slug_hash(connection->slug, strlen(connection->slug)) % state->n_ingest;
  if (owner == vc_worker_index(worker)) {
    connection->is_moving = 0;
    if (ingest_session_publish(worker, connection) != 0) {
      connection_finish(worker, connection);
      return GONE;
    }
    return GO_ON;
  }
  struct move *move = calloc(1, sizeof *move);
  if (move == NULL) {
    connection_close(worker, connection);
    return GONE;
  }
  *move = (struct move){.item = {.owned = {.item.kind = VC_ITEM_OWNED, .destroy = move_destroy},
                                 .take = connection_take_move},
                        .room = state->room,
                        .connection = connection};
  unwatch_connection(worker, connection);
  if (vc_putter_put(state->self, owner, &move->item.owned.item) == 0) {
    return GONE;
  }
  free(move);
  if (watch_connection(worker, connection) != 0) {
    connection_destroy(state->room, connection);
    return GONE;
  }
  command_refuse(worker, connection, REFUSED_FULL, "NetStream.Publish.BadName",
                 "The node is overloaded.");
  connection_finish(worker, connection);
  return GONE;
}

// Keeps what could not be parsed yet.
static int keep_rest(struct connection *connection, const uint8_t *bytes, size_t size)
{
  // `bytes` may lie within the rest itself.
  struct rtmp_bytes rest = {0};
  rtmp_bytes_add(&rest, bytes, size);
  rtmp_bytes_fini(&connection->rest);
  connection->rest = rest;
  return rest.has_failed ? -1 : 0;
}

// Parses as far as it goes. Returns GONE when there is no connection any more.
static enum outcome parse(struct vc_worker *worker, struct connection *connection,
                          const uint8_t *bytes, size_t size)
{
  size_t used = 0;
  while (used < size) {
    enum outcome outcome = GO_ON;
    enum connection_stage before = connection->stage;
    int n = take_step(worker, connection, bytes + used, size - used, &outcome);
    if (outcome == GONE) {
      return GONE;
    }
    if (n < 0) {
      if (n == -2) {
        connection_close(worker, connection);
      } else {
        break_protocol(worker, connection,
                       before == PROXY_HEADER ? "no PROXY header" : "no RTMP handshake");
      }
      return GONE;
    }
    used += (size_t)n;
    if (before >= COMMANDS) {
      acknowledge(connection, (size_t)n);
    }
    if (connection->is_moving) {
      if (keep_rest(connection, bytes + used, size - used) != 0) {
        connection_close(worker, connection);
        return GONE;
      }
      if (move_to_owner(worker, connection) == GONE) {
        return GONE;
      }
      if (connection->stage == ASKING) {
        return GO_ON; // the rest waits, too
      }
      bytes = connection->rest.at;
      size = connection->rest.size;
      used = 0;
      continue;
    }
    if (n == 0 && connection->stage == before) {
      break;
    }
  }
  if (keep_rest(connection, bytes + used, size - used) != 0) {
    lose(worker, connection);
    return GONE;
  }
  return GO_ON;
}

// Puts what was left over before the new bytes. Returns the whole, or NULL without memory.
static const uint8_t *join_rest(struct connection *connection, const uint8_t *bytes, size_t *size)
{
  if (connection->rest.size == 0) {
    return bytes;
  }
  rtmp_bytes_add(&connection->rest, bytes, *size);
  *size = connection->rest.size;
  return connection->rest.has_failed ? NULL : connection->rest.at;
}

static enum outcome read_some(struct vc_worker *worker, struct connection *connection)
{
  struct worker_state *state = vc_worker_state(worker);
  ssize_t n = recv(connection->watch.fd, state->scratch, SCRATCH_SIZE, MSG_DONTWAIT);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
    return GO_ON;
  }
  if (n <= 0) {
    lose(worker, connection);
    return GONE;
  }
  vc_metric_add(vc_worker_slots(worker), BYTES, (uint64_t)n);
  connection->read_ns = vc_worker_now_ns(worker);
  connection->heard_ns = connection->read_ns;
  size_t size = (size_t)n;
  const uint8_t *bytes = join_rest(connection, state->scratch, &size);
  if (bytes == NULL) {
    lose(worker, connection);
    return GONE;
  }
  if (parse(worker, connection, bytes, size) == GONE) {
    return GONE;
  }
  acknowledge_quickly(connection);
  if (connection->unsent.size > 0 && connection_send(worker, connection) != 0) {
    lose(worker, connection);
    return GONE;
  }
  return GO_ON;
}

static void ready(struct vc_worker *worker, struct vc_watch *watch, uint32_t events)
{
  struct connection *connection = (struct connection *)watch; // its first member
  if (connection->stage == LINGERING) {
    discard(worker, connection);
    return;
  }
  if (connection->stage == CLOSING) {
    if ((events & (EPOLLERR | EPOLLHUP)) != 0) {
      connection_close(worker, connection);
    } else {
      send_last(worker, connection);
    }
    return;
  }
  if ((events & EPOLLOUT) != 0 && connection_send(worker, connection) != 0) {
    lose(worker, connection);
    return;
  }
  if (connection->stage == ASKING) {
    if ((events & (EPOLLRDHUP | EPOLLERR | EPOLLHUP)) != 0) {
      connection_close(worker, connection); // nobody waits for the answer any more
    }
    return;
  }
  if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLERR | EPOLLHUP)) != 0) {
    read_some(worker, connection);
  }
}

// It publishes from now on; what it said behind is parsed.
static void go_on(struct vc_worker *worker, struct connection *connection)
{
  struct rtmp_bytes rest = connection->rest;
  connection->rest = (struct rtmp_bytes){0};
  enum outcome outcome = parse(worker, connection, rest.at, rest.size);
  rtmp_bytes_fini(&rest);
  if (outcome == GO_ON && connection->unsent.size > 0 && connection_send(worker, connection) != 0) {
    lose(worker, connection);
  }
}

int connection_hold(struct vc_worker *worker, struct connection *connection)
{
  enum connection_stage before = connection->stage;
  connection->stage = ASKING;
  int status = rewatch(worker, connection);
  if (status != 0) {
    connection->stage = before;
  }
  return status;
}

void connection_read_on(struct vc_worker *worker, struct connection *connection)
{
  if (rewatch(worker, connection) != 0) {
    lose(worker, connection);
  } else {
    go_on(worker, connection);
  }
}

static void connection_adopt(struct vc_worker *worker, struct connection *connection)
{
  struct worker_state *state = vc_worker_state(worker);
  if (state->is_draining || watch_connection(worker, connection) != 0) {
    connection_destroy(state->room, connection);
    return;
  }
  connection->is_moving = 0;
  if (ingest_session_publish(worker, connection) != 0) {
    connection_finish(worker, connection);
    return;
  }
  if (connection->stage != ASKING) {
    go_on(worker, connection);
  } else if (connection->unsent.size > 0 && connection_send(worker, connection) != 0) {
    lose(worker, connection);
  }
}

// The move's connection goes to its owner.
void connection_take_move(struct vc_worker *worker, struct vc_item *item)
{
  struct move *move = (struct move *)item;
  connection_adopt(worker, move->connection);
  free(move);
}

int connection_is_late(struct vc_worker *worker, struct connection *connection)
{
  struct worker_state *state = vc_worker_state(worker);
  uint64_t now = vc_worker_now_ns(worker);
  uint64_t idle_ms = (uint64_t)state->room->settings.options->ingest_idle_timeout_ms;
  if (connection->stage >= CLOSING) {
    if (now < connection->closing_ns + CLOSE_MS * VC_NS_PER_MS) {
      return 0;
    }
    connection_close(worker, connection);
    return 1;
  }
  int is_set_up = connection->stage == PUBLISHING;
  uint64_t from_ns = is_set_up ? connection->heard_ns : connection->accepted_ns;
  uint64_t limit_ms = is_set_up ? idle_ms : SET_UP_TIMEOUT_MS;
  if (now < from_ns + limit_ms * VC_NS_PER_MS) {
    return 0;
  }
  vc_metric_add(vc_worker_slots(worker), TIMEOUTS, 1);
  refuse_log(&connection->address,
             is_set_up ? "nothing was heard from it" : "it did not publish in time",
             connection->slug != NULL ? connection->slug : "");
  lose(worker, connection);
  return 1;
}
