#include <verbacast/net/front.h>

#include <verbacast/base/clock.h>
#include <verbacast/base/log.h>
#include <verbacast/wire/http.h>
#include <verbacast/wire/jwt.h>
#include <verbacast/wire/text.h>
#include <verbacast/wire/ws.h>

#include <civetweb.h>

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "takeover.h"

#define REQUEST_TIMEOUT_MS "2500"
#define REQUEST_SIZE 8192
#define LINK_SIZE (REQUEST_SIZE + 128)
#define CONNECTION_QUEUE "256"
#define BACKLOG "4096"
#define BODY_FIRST 4096
#define LINGER_MS 1000
#define STOP_WAIT_S 1
#define BODY_TOO_LARGE "the body is too large"
#define LOST_LOG_INTERVAL_MS 10000
#define PATH_SHOWN_MAX (VC_FRONT_PATH_MAX + 4)
#define MESSAGE_SHOWN_MAX 256
#define SEND_BUFFER (48 * 1024) // more would hide a slow viewer in the kernel

struct vc_front {
  /* set before start, then read-only */
  struct vc_front_settings settings;
  struct mg_context *civetweb;
  struct vc_address bound;
  /* any thread, atomic */
  _Atomic uint64_t n_lost_sockets, n_bad_requests;
  _Atomic int is_stopping;
  /* guarded by its mutex */
  pthread_mutex_t mutex;
  pthread_cond_t answered;
  unsigned n_busy; // requests whose handlers run
  /* guarded by library_mutex */
  struct vc_log_limit lost_limit;
};

static pthread_mutex_t library_mutex = PTHREAD_MUTEX_INITIALIZER;
static int n_fronts; // guarded by the mutex: Civetweb is set up with the first

// --- requests

static struct mg_connection *connection_of(const struct vc_request *request)
{
  return request->connection;
}

const char *vc_request_header(const struct vc_request *request, const char *name)
{
  return mg_get_header(connection_of(request), name);
}

int vc_request_query(const struct vc_request *request, const char *name, char *value, size_t size)
{
  return vc_query_find(request->query, name, value, size);
}

// NAME[:PORT], or [ADDRESS][:PORT]; HTTP/1.1 allows an empty one, which names nobody.
static int is_loopback_host(const char *host)
{
  char name[256];
  struct vc_address address;
  int is_bracketed = host[0] == '[';
  const char *from = host + is_bracketed;
  size_t n = strcspn(from, is_bracketed ? "]" : ":");
  if (n >= sizeof name || (is_bracketed && from[n] == '\0')) {
    return 0;
  }
  const char *port = from + n + is_bracketed;
  if (port[0] != '\0' && (port[0] != ':' || port[1 + strspn(port + 1, "0123456789")] != '\0')) {
    return 0;
  }
  memcpy(name, from, n);
  name[n] = '\0';
  int is_loopback = vc_address_parse(name, &address) == 0 && vc_address_is_loopback(&address);
  return is_bracketed ? is_loopback
                      : host[0] == '\0' || is_loopback || strcasecmp(name, "localhost") == 0;
}

int vc_request_is_near(const struct vc_request *request)
{
  const char *host = vc_request_header(request, "Host");
  return vc_address_is_loopback(&request->client) && !request->is_forwarded &&
         (host == NULL || is_loopback_host(host));
}

const char *vc_request_bearer(const struct vc_request *request)
{
  const char *header = vc_request_header(request, "Authorization");
  return header != NULL && strncasecmp(header, "Bearer ", 7) == 0 ? header + 7 : NULL;
}

int vc_request_wants_prometheus(const struct vc_request *request)
{
  char format[32];
  if (vc_request_query(request, "format", format, sizeof format) == 1) {
    return strcmp(format, "prometheus") == 0;
  }
  const char *accept = vc_request_header(request, "Accept");
  return accept != NULL && strcasestr(accept, "application/json") == NULL &&
         (strcasestr(accept, "text/plain") != NULL ||
          strcasestr(accept, "application/openmetrics-text") != NULL);
}

// "192.0.2.1" or "2001:db8::1"; some proxies add the port: "192.0.2.1:51234",
// "[2001:db8::1]:51234".
static int parse_hop(char *text, struct vc_address *hop)
{
  char *end = strchr(text, text[0] == '[' ? ']' : ':');
  if (end != NULL && (text[0] == '[' || strchr(end + 1, ':') == NULL)) {
    *end = '\0';
  }
  return vc_address_parse(text + (text[0] == '['), hop);
}

// Takes one hop. Returns: 1 when it is a proxy of ours, so that the hop before it is to be
// believed.
static int take_hop(const struct vc_front *front, struct vc_request *request, const char *at,
                    size_t n)
{
  char text[VC_ADDRESS_TEXT_MAX];
  struct vc_address hop;
  while (n > 0 && (*at == ' ' || *at == '\t')) {
    at++;
    n--;
  }
  while (n > 0 && (at[n - 1] == ' ' || at[n - 1] == '\t')) {
    n--;
  }
  if (n == 0 || n >= sizeof text) {
    return 0;
  }
  memcpy(text, at, n);
  text[n] = '\0';
  if (parse_hop(text, &hop) != 0) {
    return 0;
  }
  request->client = hop;
  return vc_networks_have(front->settings.proxies, &hop);
}

// One line of the header, from its end. Returns: 1 when all of its hops are proxies of ours.
static int take_hops(const struct vc_front *front, struct vc_request *request, const char *value)
{
  size_t end = strlen(value);
  for (;;) {
    size_t begin = end;
    while (begin > 0 && value[begin - 1] != ',') {
      begin--;
    }
    if (!take_hop(front, request, value + begin, end - begin)) {
      return 0;
    }
    if (begin == 0) {
      return 1;
    }
    end = begin - 1;
  }
}

// Civetweb passes over the headers for which it has no room. A proxy adds its own behind the
// client's, so that what it says of the client may be among them.
static int has_unread_headers(const struct vc_request *request)
{
  return mg_get_request_info(connection_of(request))->num_headers >= MG_MAX_HEADERS;
}

// X-Forwarded-For's last hop that is no proxy of ours; what lies before it anybody can write. A
// proxy may add a line of its own behind the client's instead of lengthening it (HAProxy does): the
// lines are one list, read from its end.
static void resolve_client(const struct vc_front *front, struct vc_request *request)
{
  const struct mg_request_info *info = mg_get_request_info(connection_of(request));
  if (!vc_networks_have(front->settings.proxies, &request->client) || has_unread_headers(request)) {
    return;
  }
  for (int i = info->num_headers - 1; i >= 0; i--) {
    if (strcasecmp(info->http_headers[i].name, "X-Forwarded-For") == 0 &&
        !take_hops(front, request, info->http_headers[i].value)) {
      return;
    }
  }
}

// A link-local address has its link's name behind a '%'.
static struct vc_address peer_of(const struct mg_connection *connection)
{
  const struct mg_request_info *info = mg_get_request_info(connection);
  char ip[VC_ADDRESS_TEXT_MAX];
  struct vc_address peer;
  snprintf(ip, sizeof ip, "%.*s", (int)strcspn(info->remote_addr, "%"), info->remote_addr);
  vc_address_parse(ip, &peer);
  peer.port = (uint16_t)info->remote_port;
  return peer;
}

// Civetweb tells our address only as part of a link to what was asked for:
// ws://[2001:db8::1]:3000/…
// Returns: 0, or -1 without memory.
static int get_own_end(const struct mg_connection *connection, struct vc_address *own)
{
  char *link =
      malloc(LINK_SIZE); // a crowd has each of the threads here, whose stacks stay as large
  *own = (struct vc_address){0};
  if (link == NULL) {
    return -1;
  }
  if (mg_get_request_link(connection, link, LINK_SIZE) == 0) {
    char *host = strstr(link, "://") + 3;
    host[strcspn(host, "/%")] = '\0';
    parse_hop(host, own);
  }
  free(link);
  own->port = (uint16_t)mg_get_request_info(connection)->server_port;
  return 0;
}

static int begin_takeover(struct takeover *takeover, const struct mg_connection *connection,
                          enum takeover_effort effort)
{
  struct vc_address peer = peer_of(connection), own;
  return get_own_end(connection, &own) == 0 ? takeover_begin(takeover, &peer, &own, effort)
                                            : TAKEOVER_NO_MEMORY;
}

static void request_init(const struct vc_front *front, struct vc_request *request,
                         const struct mg_connection *connection)
{
  const struct mg_request_info *info = mg_get_request_info(connection);
  *request = (struct vc_request){
      .method = info->request_method,
      .path = request->path_bytes,
      .query = info->query_string != NULL ? info->query_string : "",
      .connection = (struct mg_connection *)connection,
  };
  // As it was sent, like whoever stands before the node reads it: Civetweb would end the path at a
  // %00, and make another one of it where there are dots and slashes.
  const char *path = info->local_uri_raw != NULL ? info->local_uri_raw : "";
  if (vc_percent_decode(path, strlen(path), request->path_bytes, sizeof request->path_bytes) < 0) {
    request->path_bytes[0] = '\0';
  }
  request->client = peer_of(connection);
  request->is_forwarded = vc_request_header(request, "X-Forwarded-For") != NULL ||
                          vc_request_header(request, "Forwarded") != NULL;
  resolve_client(front, request);
}

static int refuse_body(struct vc_request *request, int status, const char *why)
{
  vc_respond_error(request, status, why);
  return -1;
}

// Up to `max`, so that nobody is given more than about twice of what he has sent. Returns: 0, or -1
// without memory.
static int grow(char **bytes, size_t *capacity, size_t max)
{
  size_t more = *capacity == 0 ? BODY_FIRST : *capacity * 2;
  more = more < max ? more : max;
  char *grown = realloc(*bytes, more);
  if (grown == NULL) {
    return -1;
  }
  *bytes = grown;
  *capacity = more;
  return 0;
}

// One byte more than `max` shows that it is too large. Returns: 0, or -1 (answered).
static int read_body(struct vc_request *request, size_t max, char **body, size_t *size)
{
  size_t capacity = 0;
  int got;
  do {
    if (*size == capacity && grow(body, &capacity, max + 1) != 0) {
      return refuse_body(request, 503, "no memory");
    }
    got = mg_read(connection_of(request), *body + *size, capacity - *size);
    *size += got > 0 ? (size_t)got : 0;
  } while (got > 0 && *size <= max);
  return *size > max ? refuse_body(request, 413, BODY_TOO_LARGE) : 0;
}

int vc_request_is_larger(const struct vc_request *request, size_t max)
{
  return mg_get_request_info(connection_of(request))->content_length > (long long)max;
}

int vc_request_body(struct vc_request *request, size_t max, char **body, size_t *size)
{
  *body = NULL;
  *size = 0;
  if (vc_request_is_larger(request, max)) {
    return refuse_body(request, 413, BODY_TOO_LARGE);
  }
  int status = read_body(request, max, body, size);
  if (status == 0 && vc_request_is_larger(request, *size)) {
    status = refuse_body(request, 400, "the body did not come whole");
  }
  if (status != 0) {
    free(*body);
    *body = NULL;
  }
  request->has_body = status == 0;
  return status;
}

static int has_unread_body(const struct vc_request *request)
{
  return !request->has_body && (vc_request_is_larger(request, 0) ||
                                vc_request_header(request, "Transfer-Encoding") != NULL);
}

void vc_respond(struct vc_request *request, int status, const char *content_type,
                const char *headers, const void *body, size_t size)
{
  assert(request->status == 0);
  request->status = status;
  struct takeover *rest = request->rest;
  if (rest != NULL && has_unread_body(request)) {
    begin_takeover(rest, connection_of(request), TAKEOVER_NEARBY);
  }
  const char *text = mg_get_response_code_text(connection_of(request), status);
  int written = mg_printf(connection_of(request),
                          "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n"
                          "Connection: close\r\nCache-Control: no-store\r\n"
                          "X-Content-Type-Options: nosniff\r\n%s\r\n",
                          status, text, content_type, size, headers);
  if (size > 0 && strcmp(request->method, "HEAD") != 0) {
    mg_write(connection_of(request), body, size);
  }
  if (written <= 0 && rest != NULL && rest->ours >= 0) {
    takeover_cancel(rest);
    rest->ours = -1;
  }
}

void vc_respond_error(struct vc_request *request, int status, const char *why)
{
  struct vc_text text = {0};
  vc_text_add(&text, "{\"error\":");
  vc_text_json_string(&text, why);
  vc_text_add(&text, "}\n");
  const char *headers = status == 401   ? "WWW-Authenticate: Bearer\r\n"
                        : status == 426 ? "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                        : status == 503 || status == 429 ? "Retry-After: 2\r\n"
                                                         : "";
  vc_respond(request, status, "application/json", headers, text.has_failed ? "" : text.at,
             text.has_failed ? 0 : text.size);
  vc_text_fini(&text);
}

static int is_probe(const char *path)
{
  return strcmp(path, "/healthz") == 0 || strcmp(path, "/readyz") == 0 ||
         strcmp(path, "/metrics") == 0;
}

// A query is not in the path; one whose '?' a client has escaped or forgotten is, with its token,
// and so is a token that was taken for a name.
static const char *print_path(const char *path, char shown[static PATH_SHOWN_MAX])
{
  size_t n = strcspn(path, "?&;"), cut = vc_jwt_cut(path);
  n = n < cut ? n : cut;
  snprintf(shown, PATH_SHOWN_MAX, "%.*s%s", (int)n, path, path[n] != '\0' ? "***" : "");
  return shown;
}

static void log_access(const struct vc_request *request)
{
  char address[VC_ADDRESS_TEXT_MAX], path[PATH_SHOWN_MAX];
  vc_address_print(&request->client, address);
  vc_log(is_probe(request->path) ? VC_LOG_DEBUG : VC_LOG_INFO, VC_EVENT("http.request"),
         VC_STR("address", address), VC_STR("method", request->method),
         VC_STR("path", print_path(request->path, path)), VC_INT("status", request->status));
}

// Returns: 1 when it was answered.
static int refuse_malformed(struct vc_front *front, struct vc_request *request)
{
  if (request->path[0] != '\0' && !has_unread_headers(request)) {
    return 0;
  }
  atomic_fetch_add_explicit(&front->n_bad_requests, 1, memory_order_relaxed);
  if (request->path[0] == '\0') {
    vc_respond_error(request, 400, "the path is malformed or too long");
  } else {
    vc_respond_error(request, 431, "the request has too many headers");
  }
  return 1;
}

// Who is still sending a body would not see the answer if the connection were closed: what comes is
// read away for a while. Civetweb would do that for as long as a byte comes now and then.
static void read_rest(const struct takeover *rest)
{
  char away[BODY_FIRST];
  if (rest->ours < 0) {
    return;
  }
  int fd = takeover_finish(rest);
  shutdown(fd, SHUT_WR);
  uint64_t now_ns = vc_clock_now_ns(&vc_clock_system), end_ns = now_ns + LINGER_MS * VC_NS_PER_MS;
  ssize_t n = 1;
  while (n > 0 && now_ns < end_ns) {
    struct pollfd watched = {.fd = fd, .events = POLLIN};
    int is_ready = poll(&watched, 1, (int)((end_ns - now_ns) / VC_NS_PER_MS) + 1) > 0;
    n = is_ready ? recv(fd, away, sizeof away, MSG_DONTWAIT) : 0;
    now_ns = vc_clock_now_ns(&vc_clock_system);
  }
  close(fd);
}

static void become_busy(struct vc_front *front)
{
  pthread_mutex_lock(&front->mutex);
  front->n_busy++;
  pthread_mutex_unlock(&front->mutex);
}

static void become_free(struct vc_front *front)
{
  pthread_mutex_lock(&front->mutex);
  if (--front->n_busy == 0) {
    pthread_cond_signal(&front->answered);
  }
  pthread_mutex_unlock(&front->mutex);
}

// Civetweb sends nothing any more as soon as it is told to stop.
static void wait_answered(struct vc_front *front)
{
  struct timespec until;
  clock_gettime(CLOCK_MONOTONIC, &until);
  until.tv_sec += STOP_WAIT_S;
  pthread_mutex_lock(&front->mutex);
  while (front->n_busy > 0 &&
         pthread_cond_timedwait(&front->answered, &front->mutex, &until) == 0) {
  }
  pthread_mutex_unlock(&front->mutex);
}

static void begin_request(struct vc_front *front, struct vc_request *request, struct takeover *rest,
                          const struct mg_connection *connection)
{
  become_busy(front);
  request_init(front, request, connection);
  *rest = (struct takeover){.ours = -1};
  request->rest = rest;
}

static void end_request(struct vc_front *front, const struct takeover *rest)
{
  read_rest(rest);
  become_free(front);
}

static int handle_request(struct mg_connection *connection, void *context)
{
  struct vc_front *front = context;
  struct takeover rest;
  struct vc_request request;
  begin_request(front, &request, &rest, connection);
  if (!refuse_malformed(front, &request)) {
    front->settings.handle(front->settings.context, &request);
  }
  if (request.status == 0) {
    vc_respond_error(&request, 404, "there is nothing at this path");
  }
  log_access(&request);
  end_request(front, &rest);
  return request.status;
}

// Requests that Civetweb itself refuses.
static int handle_error(struct mg_connection *connection, int status, const char *why)
{
  const struct mg_request_info *info = mg_get_request_info(connection);
  struct vc_front *front = info != NULL ? info->user_data : NULL;
  if (front != NULL) {
    atomic_fetch_add_explicit(&front->n_bad_requests, 1, memory_order_relaxed);
  }
  int has_method = info != NULL && info->request_method != NULL;
  struct vc_request request = {.method = has_method ? info->request_method : "GET",
                               .path = "",
                               .query = "",
                               .connection = connection};
  vc_respond_error(&request, status,
                   status == 431 || status == 413 ? "the head of the request is too large"
                   : status == 426                ? "the Sec-WebSocket-Version is not 13"
                                                  : "the request is malformed");
  (void)why;
  return 0;
}

// What it quotes in brackets is a client's, who may have put a token there.
static int log_message(const struct mg_connection *connection, const char *message)
{
  char shown[MESSAGE_SHOWN_MAX];
  (void)connection;
  snprintf(shown, sizeof shown, "%.*s", (int)strcspn(message, "["), message);
  vc_log(VC_LOG_DEBUG, VC_EVENT("http.civetweb"), VC_STR("message", shown));
  return 1;
}

// --- WebSockets

static void set_options(int fd)
{
  int one = 1, size = SEND_BUFFER;
  fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
}

// A client that resets its connection meanwhile is not found either: a storm of them is one line.
static void log_lost(struct vc_front *front, const struct vc_request *request, const char *why)
{
  uint64_t n_left_out;
  char path[PATH_SHOWN_MAX];
  pthread_mutex_lock(&library_mutex);
  int passes = vc_log_limit_pass(&front->lost_limit, vc_clock_now_ns(&vc_clock_system),
                                 LOST_LOG_INTERVAL_MS, &n_left_out);
  pthread_mutex_unlock(&library_mutex);
  if (passes) {
    vc_log(VC_LOG_ERROR, VC_EVENT("http.lost_socket"),
           VC_STR("path", print_path(request->path, path)), VC_STR("why", why),
           VC_INT("left_out", n_left_out));
  }
}

static void refuse_lost(struct vc_front *front, struct vc_request *request, const char *why)
{
  if (!atomic_load_explicit(&front->is_stopping, memory_order_relaxed)) { // it writes nothing then
    atomic_fetch_add_explicit(&front->n_lost_sockets, 1, memory_order_relaxed);
    log_lost(front, request, why);
  }
  vc_respond_error(request, request->lost_status != 0 ? request->lost_status : 503, why);
}

// A client that offers protocols wants one back: the last. Civetweb's acceptedWebSocketSubprotocol
// may still point to what the thread's request before had.
// Returns: it, empty where there is none.
static const char *find_protocol(const struct mg_connection *connection)
{
  const char *list = mg_get_header(connection, "Sec-WebSocket-Protocol");
  const char *comma = list != NULL ? strrchr(list, ',') : NULL;
  const char *last = comma != NULL ? comma + 1 : list != NULL ? list : "";
  return last + strspn(last, " ");
}

// In one write, whose success tells whose connection was found.
// Returns: 0, TAKEOVER_NOT_FOUND or TAKEOVER_NO_MEMORY.
static int write_handshake(struct mg_connection *connection)
{
  const char *protocol = find_protocol(connection);
  char accept[VC_WS_ACCEPT_SIZE];
  struct vc_text text = {0};
  if (vc_ws_print_accept(mg_get_header(connection, "Sec-WebSocket-Key"), accept) != 0) {
    return TAKEOVER_NO_MEMORY;
  }
  vc_text_format(&text,
                 "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                 "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n%s%s%s\r\n",
                 accept, protocol[0] != '\0' ? "Sec-WebSocket-Protocol: " : "", protocol,
                 protocol[0] != '\0' ? "\r\n" : "");
  int status = text.has_failed                                              ? TAKEOVER_NO_MEMORY
               : mg_write(connection, text.at, text.size) == (int)text.size ? 0
                                                                            : TAKEOVER_NOT_FOUND;
  vc_text_fini(&text);
  return status;
}

static void hand_over(struct vc_front *front, struct mg_connection *connection,
                      struct vc_request *request)
{
  struct takeover takeover;
  int status = begin_takeover(&takeover, connection, TAKEOVER_EVERYWHERE);
  if (status != 0) {
    refuse_lost(front, request, takeover_trouble(status));
    return;
  }
  status = write_handshake(connection);
  if (status != 0) {
    takeover_cancel(&takeover);
    refuse_lost(front, request, takeover_trouble(status));
    return;
  }
  int fd = takeover_finish(&takeover);
  set_options(fd);
  request->status = 101;
  log_access(request);
  front->settings.adopt(front->settings.context, request, fd);
}

// Civetweb has seen the version, and that there is a key. Returns: 1 when it was answered.
static int refuse_odd_upgrade(struct vc_request *request)
{
  const struct mg_connection *connection = connection_of(request);
  const char *version = mg_get_request_info(connection)->http_version;
  const char *why = strcmp(request->method, "GET") != 0 ? "an upgrade is a GET"
                    : strcmp(version, "1.1") != 0       ? "an upgrade is of HTTP/1.1"
                    : !vc_ws_key_is_valid(vc_request_header(request, "Sec-WebSocket-Key"))
                        ? "the Sec-WebSocket-Key is no 16 bytes in base64"
                        : NULL;
  if (why != NULL) {
    vc_respond_error(request, 400, why);
  }
  return why != NULL;
}

// Returns: 1, so that Civetweb does no handshake of its own and goes on to the next request.
static int handle_upgrade(const struct mg_connection *connection, void *context)
{
  struct vc_front *front = context;
  struct takeover rest;
  struct vc_request request;
  begin_request(front, &request, &rest, connection);
  int is_let_in = 0;
  if (!refuse_malformed(front, &request) && !refuse_odd_upgrade(&request)) {
    is_let_in = front->settings.takes_sockets
                    ? front->settings.open(front->settings.context, &request) == 0
                    : (vc_respond_error(&request, 404, "no WebSocket is served here"), 0);
  }
  if (is_let_in) {
    hand_over(front, connection_of(&request), &request);
  }
  if (request.status != 101) {
    log_access(&request);
  }
  end_request(front, &rest);
  return 1;
}

// --- life

static void print_ports(const struct vc_address *address, char ports[VC_ADDRESS_TEXT_MAX])
{
  vc_address_print_port(address, ports);
}

static int library_enter(struct vc_error *error)
{
  int status = 0;
  pthread_mutex_lock(&library_mutex);
  if (n_fronts == 0) {
    mg_init_library(0);
    status = takeover_prepare(error);
  }
  if (status == 0) {
    n_fronts++;
  } else {
    mg_exit_library();
  }
  pthread_mutex_unlock(&library_mutex);
  return status;
}

static void library_leave(void)
{
  pthread_mutex_lock(&library_mutex);
  if (--n_fronts == 0) {
    mg_exit_library();
  }
  pthread_mutex_unlock(&library_mutex);
}

static struct mg_context *start_civetweb(struct vc_front *front, char *why, size_t why_size)
{
  char ports[VC_ADDRESS_TEXT_MAX], workers[16], request_size[16];
  print_ports(&front->bound, ports);
  snprintf(workers, sizeof workers, "%u", front->settings.n_workers);
  snprintf(request_size, sizeof request_size, "%d", REQUEST_SIZE);
  const char *options[] = {"listening_ports",
                           ports,
                           "num_threads",
                           workers,
                           "tcp_nodelay",
                           "1",
                           "request_timeout_ms",
                           REQUEST_TIMEOUT_MS,
                           "enable_keep_alive",
                           "no",
                           "connection_queue",
                           CONNECTION_QUEUE,
                           "listen_backlog",
                           BACKLOG,
                           "max_request_size",
                           request_size,
                           "decode_url",
                           "no",
                           "enable_auth_domain_check", // else a link has a domain, not our address
                           "no",
                           NULL};
  const struct mg_callbacks callbacks = {
      .log_message = log_message,
      .http_error = handle_error,
  };
  struct mg_init_data init = {
      .callbacks = &callbacks, .user_data = front, .configuration_options = options};
  struct mg_error_data error = {.text = why, .text_buffer_size = why_size};
  return mg_start2(&init, &error);
}

static int parse_listen(const char *text, struct vc_address *address, struct vc_error *error)
{
  struct vc_error why;
  if (vc_listen_parse(text, address, &why) != 0) {
    return vc_error_set(error, "'%s' %s", text, why.text);
  }
  if (address->n_bytes == 16 && !mg_check_feature(MG_FEATURES_IPV6)) {
    return vc_error_set(error, "'%s' is IPv6, without which the Civetweb of this machine was built",
                        text);
  }
  return 0;
}

int vc_front_check(const char *listen, struct vc_error *error)
{
  struct vc_address address;
  return parse_listen(listen, &address, error);
}

static void front_free(struct vc_front *front)
{
  pthread_cond_destroy(&front->answered);
  pthread_mutex_destroy(&front->mutex);
  free(front);
}

int vc_front_start(struct vc_front **front_out, struct vc_address *bound,
                   const struct vc_front_settings *settings, struct vc_error *error)
{
  struct vc_front *front = calloc(1, sizeof *front);
  char reason[256] = "";
  if (front == NULL) {
    return vc_error_set(error, "front: no memory");
  }
  front->settings = *settings;
  pthread_condattr_t attributes;
  pthread_condattr_init(&attributes);
  pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
  pthread_mutex_init(&front->mutex, NULL);
  pthread_cond_init(&front->answered, &attributes);
  pthread_condattr_destroy(&attributes);
  if (parse_listen(settings->listen, &front->bound, error) != 0 || library_enter(error) != 0) {
    front_free(front);
    return -1;
  }
  front->civetweb = start_civetweb(front, reason, sizeof reason);
  struct mg_server_port port;
  if (front->civetweb == NULL || mg_get_server_ports(front->civetweb, 1, &port) != 1) {
    vc_error_set(error, "cannot listen on %s: %s", settings->listen,
                 reason[0] != '\0' ? reason : strerror(errno));
    if (front->civetweb != NULL) {
      mg_stop(front->civetweb);
    }
    library_leave();
    front_free(front);
    return -1;
  }
  front->bound.port = (uint16_t)port.port;
  *bound = front->bound;
  *front_out = front;
  mg_set_request_handler(front->civetweb, "**", handle_request, front);
  mg_set_websocket_handler(front->civetweb, "**", handle_upgrade, NULL, NULL, NULL, front);
  return 0;
}

void vc_front_stop(struct vc_front **front)
{
  if (*front != NULL) {
    takeover_close_door(&(*front)->bound);
    wait_answered(*front);
    atomic_store_explicit(&(*front)->is_stopping, 1, memory_order_relaxed);
    mg_stop((*front)->civetweb);
    library_leave();
    front_free(*front);
    *front = NULL;
  }
}

uint64_t vc_front_lost_sockets(const struct vc_front *front)
{
  return atomic_load_explicit(&front->n_lost_sockets, memory_order_relaxed);
}

uint64_t vc_front_bad_requests(const struct vc_front *front)
{
  return atomic_load_explicit(&front->n_bad_requests, memory_order_relaxed);
}
