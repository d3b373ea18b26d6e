// Echoes WebSocket messages, for a client that checks servers: the handshake, the parser and the
// frames are those that viewers meet (net/front, wire/ws). Only what is done with a message is its
// own: viewers may not speak.
//
// The front gives each socket to one thread by a pipe; it serves one after the other, blocking.
#include <verbacast/base/options.h>
#include <verbacast/net/front.h>
#include <verbacast/wire/ws.h>

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include <program.h>

#define MESSAGE_MAX (16 * 1024 * 1024)
#define READ_SIZE 8192
#define SILENCE_S 20 // of a peer

static int handed_over[2]; // a pipe of descriptors: from the front's threads, to the echo's

// --- the front's threads

static void handle(void *context, struct vc_request *request)
{
  vc_respond_error(request, 404, "only sockets are served");
}

static int open_socket(void *context, struct vc_request *request)
{
  return 0;
}

static void adopt(void *context, const struct vc_request *request, int fd)
{
  if (write(handed_over[1], &fd, sizeof fd) != sizeof fd) {
    close(fd);
  }
}

// --- the echo's thread

// Returns: 0 or -1.
static int say(int fd, enum vc_ws_opcode opcode, const void *payload, size_t size)
{
  struct vc_buffer *frame = vc_ws_frame_create(opcode, payload, size, NULL);
  size_t at = 0;
  while (frame != NULL && at < frame->size) {
    ssize_t n = send(fd, frame->data + at, frame->size - at, MSG_NOSIGNAL);
    if (n <= 0) {
      break;
    }
    at += (size_t)n;
  }
  int status = frame != NULL && at == frame->size ? 0 : -1;
  vc_buffer_unref(frame);
  return status;
}

static int say_close(int fd, int code)
{
  uint8_t payload[VC_WS_CONTROL_MAX];
  say(fd, VC_WS_CLOSE, payload, vc_ws_print_close(payload, code, NULL));
  return -1;
}

// Returns: 0, or -1: it is over.
static int take_event(int fd, const struct vc_ws_event *event)
{
  switch (event->opcode) {
  case VC_WS_PING:
    return say(fd, VC_WS_PONG, event->payload, event->size);
  case VC_WS_CLOSE:
    return say_close(fd, event->close_code == 1005 ? 1000 : event->close_code);
  case VC_WS_TEXT:
  case VC_WS_BINARY:
    return say(fd, event->opcode, event->payload, event->size);
  default:
    return 0;
  }
}

static int parse(struct vc_ws_parser *parser, int fd, const uint8_t *bytes, size_t size)
{
  int status = 0;
  while (status == 0 && size > 0) {
    struct vc_ws_event event;
    size_t used;
    int what = vc_ws_parse(parser, bytes, size, &used, &event);
    bytes += used;
    size -= used;
    status = what < 0 ? say_close(fd, event.close_code) : what > 0 ? take_event(fd, &event) : 0;
  }
  return status;
}

static void serve(int fd)
{
  struct timeval silence = {.tv_sec = SILENCE_S};
  struct vc_ws_parser parser;
  uint8_t bytes[READ_SIZE];
  ssize_t n;
  fcntl(fd, F_SETFL, 0); // blocking
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &silence, sizeof silence);
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &silence, sizeof silence);
  vc_ws_parser_init(&parser, VC_WS_SERVER, MESSAGE_MAX);
  while ((n = recv(fd, bytes, sizeof bytes, 0)) > 0 && parse(&parser, fd, bytes, (size_t)n) == 0) {
  }
  vc_ws_parser_fini(&parser);
  // What is unread would make the kernel reset the connection before the close frame is read.
  shutdown(fd, SHUT_WR);
  while (n > 0) {
    n = recv(fd, bytes, sizeof bytes, 0);
  }
  close(fd);
}

static void *echo(void *context)
{
  int fd;
  while (read(handed_over[0], &fd, sizeof fd) == sizeof fd) {
    serve(fd);
  }
  return NULL;
}

// --- main's

static int run(struct vc_error *error)
{
  struct vc_front_settings settings = {.listen = "127.0.0.1:0",
                                       .n_workers = 2,
                                       .takes_sockets = 1,
                                       .proxies = &(struct vc_networks){0},
                                       .handle = handle,
                                       .open = open_socket,
                                       .adopt = adopt};
  struct vc_program_address address = {.name = "http"};
  struct vc_front *front;
  pthread_t thread;
  if (pipe(handed_over) != 0 || pthread_create(&thread, NULL, echo, NULL) != 0) {
    return vc_error_set(error, "no pipe or no thread");
  }
  if (vc_front_start(&front, &address.address, &settings, error) != 0) {
    return -1;
  }
  vc_program_ready(&address, 1);
  while (vc_program_wait(1000) != VC_PROGRAM_STOP) {
  }
  vc_front_stop(&front);
  close(handed_over[1]);
  pthread_join(thread, NULL);
  close(handed_over[0]);
  return 0;
}

int main(void)
{
  struct vc_program_settings settings = {0};
  struct vc_error error;
  if (vc_program_start(&settings, "ws_echo_server", &error) != 0 || run(&error) != 0) {
    return vc_program_fail(&error);
  }
  vc_program_end(VC_EXIT_OK);
  return VC_EXIT_OK;
}
