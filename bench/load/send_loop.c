// The bounds of a fan-out: a server of one thread that calls send() once a viewer and message, or
// once a viewer for all messages that came together, and does nothing else: no numbering, no
// history, no slow viewers. `verbacast-bench send-loop`, `verbacast-bench gather-loop`.
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <verbacast/wire/http.h>

#include "bench.h"

#define MESSAGE_MAX 65536
#define BACKLOG 4096

struct client {
  struct link link;    // first
  struct client *next; // in server.clients
  char slug[SLUG_MAX];
  int is_open, is_speaker;
  struct pile in;
  struct vc_ws_parser parser;
  struct pile out; // frames to be sent together
};

struct server {
  int gathers;
  struct vc_watch door;
  struct client *clients;
  struct vc_address address;
  double spent_ms;
  uint64_t n_rounds;
};

static struct server *server_of(const struct vc_worker *worker)
{
  return vc_worker_state(worker);
}

static void send_to_all(struct server *server, const char *slug, struct pile *frames)
{
  uint64_t begin_ns = vc_clock_now_ns(&vc_clock_system);
  for (const struct client *client = server->clients; client != NULL; client = client->next) {
    if (client->is_open && !client->is_speaker && strcmp(client->slug, slug) == 0) {
      ssize_t n = send(client->link.watch.fd, frames->at, frames->n, MSG_DONTWAIT | MSG_NOSIGNAL);
      (void)n; // one that is full misses it
    }
  }
  server->spent_ms += (double)(vc_clock_now_ns(&vc_clock_system) - begin_ns) / (double)VC_NS_PER_MS;
  server->n_rounds++;
  frames->n = 0;
}

static void add_frame(struct pile *frames, const struct vc_ws_event *message)
{
  struct vc_buffer *frame = vc_ws_frame_create(VC_WS_TEXT, message->payload, message->size, NULL);
  if (frame == NULL) {
    die("out of memory");
  }
  pile_add(frames, frame->data, frame->size);
  vc_buffer_unref(frame);
}

static void take_frames(struct vc_worker *worker, struct client *client, const uint8_t *bytes,
                        size_t size)
{
  struct server *server = server_of(worker);
  struct vc_ws_event event;
  size_t used;
  while (vc_ws_parse(&client->parser, bytes, size, &used, &event) == 1) {
    bytes += used;
    size -= used;
    if (event.opcode == VC_WS_TEXT) {
      add_frame(&client->out, &event);
    }
    if (client->out.n > 0 && !server->gathers) {
      send_to_all(server, client->slug, &client->out);
    }
  }
  if (client->out.n > 0) {
    send_to_all(server, client->slug, &client->out);
  }
}

static void say_metrics(struct vc_worker *worker, struct client *client)
{
  const struct server *server = server_of(worker);
  char body[128], text[256];
  int n = snprintf(
      body, sizeof body, "{\"latency\":{\"ws.fanout_ms\":{\"avg\":%.6f,\"count\":%" PRIu64 "}}}",
      server->n_rounds > 0 ? server->spent_ms / (double)server->n_rounds : 0, server->n_rounds);
  n = snprintf(text, sizeof text, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", n, body);
  link_send(worker, &client->link, text, (size_t)n);
  shutdown(client->link.watch.fd, SHUT_WR);
}

static void upgrade(struct vc_worker *worker, struct client *client,
                    const struct vc_http_head *head)
{
  char accept[VC_WS_ACCEPT_SIZE], text[256];
  const char *slug = strrchr(head->target, '/');
  vc_ws_print_accept(vc_http_find(head, "Sec-WebSocket-Key"), accept);
  int n = snprintf(text, sizeof text,
                   "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                   "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
                   accept);
  link_send(worker, &client->link, text, (size_t)n);
  snprintf(client->slug, sizeof client->slug, "%.*s", SLUG_MAX - 1, slug != NULL ? slug + 1 : "");
  client->is_speaker = strncmp(head->target, "/publish/", 9) == 0;
  client->is_open = 1;
  vc_ws_parser_init(&client->parser, VC_WS_SERVER, MESSAGE_MAX);
}

static void take(struct vc_worker *worker, struct link *link, uint8_t *bytes, size_t size)
{
  struct client *client = (struct client *)link;
  struct vc_http_head head;
  if (client->is_open) {
    take_frames(worker, client, bytes, size);
    return;
  }
  pile_add(&client->in, bytes, size);
  if (vc_http_parse_head(client->in.at, client->in.n, VC_HTTP_REQUEST, &head) != 0) {
    return;
  }
  if (vc_http_find(&head, "Sec-WebSocket-Key") != NULL) {
    upgrade(worker, client, &head);
  } else {
    say_metrics(worker, client);
  }
}

static void closed(struct vc_worker *worker, struct link *link)
{
  ((struct client *)link)->is_open = 0;
}

static void door_ready(struct vc_worker *worker, struct vc_watch *watch, uint32_t events)
{
  struct server *server = server_of(worker);
  int fd;
  while ((fd = accept4(watch->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
    struct client *client = grow(NULL, 1, sizeof *client);
    *client = (struct client){.link = {.take = take, .closed = closed}, .next = server->clients};
    server->clients = client;
    link_adopt(worker, &client->link, fd);
  }
}

static int enter(struct vc_worker *worker, void *config, struct vc_error *error)
{
  struct server *server = *(struct server **)config;
  int fd = vc_listen("127.0.0.1:0", BACKLOG, &server->address, error);
  server->door = (struct vc_watch){.fd = fd, .ready = door_ready};
  vc_worker_set_state(worker, server);
  return fd < 0 || vc_worker_watch(worker, &server->door, EPOLLIN) != 0 ? -1 : 0;
}

static void leave(struct vc_worker *worker)
{
  struct server *server = server_of(worker);
  for (struct client *client = server->clients, *next; client != NULL; client = next) {
    next = client->next;
    link_close(worker, &client->link);
    vc_ws_parser_fini(&client->parser);
    free(client->in.at);
    free(client->out.at);
    free(client);
  }
  vc_worker_unwatch(worker, &server->door);
  close(server->door.fd);
}

int send_loop_main(int gathers)
{
  static const struct vc_stage_ops ops = {
      .name = "loop", .enter = enter, .handle = load_handle_nothing, .leave = leave};
  struct server server = {.gathers = gathers};
  sigset_t ends;
  int signal;
  sigemptyset(&ends);
  sigaddset(&ends, SIGTERM);
  sigaddset(&ends, SIGINT);
  sigprocmask(SIG_BLOCK, &ends, NULL);
  struct vc_stage *stage = load_start(&ops, &server);
  printf("ready http=127.0.0.1:%u\n", server.address.port);
  fflush(stdout);
  sigwait(&ends, &signal);
  load_stop(&stage);
  return 0;
}
