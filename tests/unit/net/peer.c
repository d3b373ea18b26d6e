#include "peer.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

// --- certificates, made by the openssl program

static int run(const char *folder, const char *const *arguments)
{
  pid_t pid = fork();
  if (pid == 0) {
    if (chdir(folder) != 0 || freopen("log", "a", stdout) == NULL ||
        freopen("log", "a", stderr) == NULL) {
      _exit(126);
    }
    execvp(arguments[0], (char *const *)(uintptr_t)arguments);
    _exit(127);
  }
  int status = -1;
  while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  return status == 0 ? 0 : -1;
}

static int make_authority(const char *folder, const char *key, const char *certificate)
{
  return run(folder, (const char *const[]){"openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                                           "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                                           "-subj", "/CN=test authority", "-keyout", key, "-out",
                                           certificate, NULL});
}

static int make_certificate(const char *folder)
{
  char path[128];
  snprintf(path, sizeof path, "%s/san", folder);
  FILE *file = fopen(path, "w");
  if (file == NULL) {
    return -1;
  }
  fputs("subjectAltName=IP:127.0.0.1\n", file);
  fclose(file);
  if (run(folder,
          (const char *const[]){"openssl", "req", "-new", "-newkey", "ec", "-pkeyopt",
                                "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=test",
                                "-keyout", "key.pem", "-out", "request", NULL}) != 0) {
    return -1;
  }
  return run(folder,
             (const char *const[]){"openssl", "x509", "-req", "-in", "request", "-CA", "ca.pem",
                                   "-CAkey", "ca-key.pem", "-CAcreateserial", "-days", "2",
                                   "-extfile", "san", "-out", "cert.pem", NULL});
}

static int load(struct peer_tls *tls)
{
  char key[128], certificate[128];
  snprintf(key, sizeof key, "%s/key.pem", tls->folder);
  snprintf(certificate, sizeof certificate, "%s/cert.pem", tls->folder);
  tls->context = SSL_CTX_new(TLS_server_method());
  return tls->context != NULL &&
                 SSL_CTX_use_certificate_file(tls->context, certificate, SSL_FILETYPE_PEM) == 1 &&
                 SSL_CTX_use_PrivateKey_file(tls->context, key, SSL_FILETYPE_PEM) == 1
             ? 0
             : -1;
}

int peer_tls_init(struct peer_tls *tls)
{
  *tls = (struct peer_tls){0};
  snprintf(tls->folder, sizeof tls->folder, "/tmp/vc-tls-XXXXXX");
  if (mkdtemp(tls->folder) == NULL) {
    return -1;
  }
  snprintf(tls->ca_file, sizeof tls->ca_file, "%s/ca.pem", tls->folder);
  snprintf(tls->other_ca_file, sizeof tls->other_ca_file, "%s/other.pem", tls->folder);
  return make_authority(tls->folder, "ca-key.pem", "ca.pem") == 0 &&
                 make_authority(tls->folder, "other-key.pem", "other.pem") == 0 &&
                 make_certificate(tls->folder) == 0
             ? load(tls)
             : -1;
}

void peer_tls_fini(struct peer_tls *tls)
{
  static const char *const names[] = {"ca.pem",  "ca-key.pem", "other.pem", "other-key.pem",
                                      "key.pem", "cert.pem",   "request",   "san",
                                      "log",     "ca.srl"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    char path[128];
    snprintf(path, sizeof path, "%s/%s", tls->folder, names[i]);
    unlink(path);
  }
  rmdir(tls->folder);
  SSL_CTX_free(tls->context);
}

// --- connections

int peer_listen(uint16_t *port)
{
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof address;
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0 || bind(fd, (struct sockaddr *)&address, size) != 0 || listen(fd, 64) != 0 ||
      getsockname(fd, (struct sockaddr *)&address, &size) != 0) {
    perror("peer_listen");
    abort();
  }
  *port = ntohs(address.sin_port);
  return fd;
}

static void set_timeouts(int fd)
{
  struct timeval wait = {.tv_sec = PEER_WAIT_S};
  int one = 1;
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait);
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

int peer_adopt(struct peer *peer, int fd, const struct peer_tls *tls)
{
  *peer = (struct peer){.fd = fd};
  vc_ws_parser_init(&peer->parser, VC_WS_SERVER, 4 << 20);
  set_timeouts(fd);
  if (tls == NULL) {
    return 0;
  }
  peer->ssl = SSL_new(tls->context);
  if (peer->ssl == NULL || SSL_set_fd(peer->ssl, fd) != 1 || SSL_accept(peer->ssl) != 1) {
    peer_close(peer, 0);
    return -1;
  }
  return 0;
}

int peer_accept(struct peer *peer, int listener, const struct peer_tls *tls)
{
  *peer = (struct peer){.fd = -1};
  set_timeouts(listener);
  int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
  return fd >= 0 ? peer_adopt(peer, fd, tls) : -1;
}

void peer_close(struct peer *peer, int is_reset)
{
  if (peer->fd < 0) {
    return;
  }
  SSL_free(peer->ssl);
  if (is_reset) {
    struct linger linger = {.l_onoff = 1};
    setsockopt(peer->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
  }
  close(peer->fd);
  vc_ws_parser_fini(&peer->parser);
  peer->fd = -1;
  peer->ssl = NULL;
}

int peer_write(struct peer *peer, const void *bytes, size_t size)
{
  const char *at = bytes;
  while (size > 0) {
    ssize_t n = peer->ssl != NULL ? SSL_write(peer->ssl, at, (int)size)
                                  : send(peer->fd, at, size, MSG_NOSIGNAL);
    if (n <= 0) {
      return -1;
    }
    at += n;
    size -= (size_t)n;
  }
  return 0;
}

int peer_say(struct peer *peer, const char *text)
{
  return peer_write(peer, text, strlen(text));
}

// Returns: how many bytes, 0 at the end.
static size_t read_some(struct peer *peer, void *into, size_t size)
{
  ssize_t n =
      peer->ssl != NULL ? SSL_read(peer->ssl, into, (int)size) : recv(peer->fd, into, size, 0);
  return n > 0 ? (size_t)n : 0;
}

static void use(struct peer *peer, size_t n)
{
  memmove(peer->bytes, peer->bytes + n, peer->n_bytes - n);
  peer->n_bytes -= n;
}

int peer_read_head(struct peer *peer)
{
  int status;
  static _Thread_local char head[VC_HTTP_HEAD_MAX + 1]; // where peer->head points into
  for (;;) {
    memcpy(head, peer->bytes, peer->n_bytes);
    status = vc_http_parse_head(head, peer->n_bytes, VC_HTTP_REQUEST, &peer->head);
    size_t n = status == 1
                   ? read_some(peer, peer->bytes + peer->n_bytes, VC_HTTP_HEAD_MAX - peer->n_bytes)
                   : 0;
    if (n == 0) {
      break;
    }
    peer->n_bytes += n;
  }
  if (status == 0) {
    use(peer, peer->head.size);
  }
  return status == 0 ? 0 : -1;
}

char *peer_read_body(struct peer *peer, size_t *size)
{
  uint64_t length = 0;
  vc_http_content_length(&peer->head, &length);
  char *body = calloc(1, length + 1);
  size_t have = peer->n_bytes < length ? peer->n_bytes : (size_t)length;
  if (body == NULL) {
    return NULL;
  }
  memcpy(body, peer->bytes, have);
  use(peer, have);
  while (have < length) {
    size_t n = read_some(peer, body + have, (size_t)length - have);
    if (n == 0) {
      free(body);
      return NULL;
    }
    have += n;
  }
  *size = have;
  return body;
}

int peer_accept_upgrade(struct peer *peer)
{
  char accept[VC_WS_ACCEPT_SIZE], answer[256];
  const char *key = vc_http_find(&peer->head, "sec-websocket-key");
  if (key == NULL) {
    return -1;
  }
  vc_ws_print_accept(key, accept);
  snprintf(answer, sizeof answer,
           "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
           "Sec-WebSocket-Accept: %s\r\n\r\n",
           accept);
  return peer_say(peer, answer);
}

int peer_upgrade(struct peer *peer)
{
  return peer_read_head(peer) == 0 ? peer_accept_upgrade(peer) : -1;
}

int peer_send_frame(struct peer *peer, enum vc_ws_opcode opcode, const void *payload, size_t size)
{
  struct vc_buffer *frame = vc_ws_frame_create(opcode, payload, size, NULL);
  int status = frame != NULL ? peer_write(peer, frame->data, frame->size) : -1;
  vc_buffer_unref(frame);
  return status;
}

int peer_send_text(struct peer *peer, const char *text)
{
  return peer_send_frame(peer, VC_WS_TEXT, text, strlen(text));
}

int peer_send_close(struct peer *peer, int code)
{
  uint8_t payload[VC_WS_CONTROL_MAX];
  size_t size = vc_ws_print_close(payload, code, NULL);
  return peer_send_frame(peer, VC_WS_CLOSE, payload, size);
}

int peer_receive(struct peer *peer, struct vc_ws_event *event, uint8_t **payload)
{
  for (;;) {
    size_t used = 0;
    int status =
        vc_ws_parse(&peer->parser, (const uint8_t *)peer->bytes, peer->n_bytes, &used, event);
    use(peer, used);
    if (status != 0) {
      *payload = status == 1 && event->size > 0 ? malloc(event->size) : NULL;
      if (*payload != NULL) {
        memcpy(*payload, event->payload, event->size);
      }
      return status == 1 ? 0 : -1;
    }
    size_t n = read_some(peer, peer->bytes + peer->n_bytes, VC_HTTP_HEAD_MAX - peer->n_bytes);
    if (n == 0) {
      return -1;
    }
    peer->n_bytes += n;
  }
}
