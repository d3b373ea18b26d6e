// libcurl's multi on a worker's epoll.
//
// The multi's callbacks must not say that they failed: since 7.82 one -1 from them ends every
// transfer of the multi for ever. So a descriptor that cannot be watched marks its transfer, which
// is ended alone once libcurl has returned; and should the multi itself report a failure all its
// transfers are ended and the next one gets a new multi.
//
// Its timer is a timerfd of our own: libcurl counts by the system's clock whatever clock the stage
// was given, and the stage's tick stays the room's.
//
// Names are looked up by a thread of libcurl's. A transfer that ends meanwhile leaves that thread
// to itself (QUICK_EXIT), which cleans up once the resolver has let it go: waiting for it, as
// libcurl does otherwise, would keep the worker as long as the resolver is silent.
//
// Connections are never used twice (a POST each some minutes): libcurl, before it uses one again,
// looks through all idle ones of the multi and closes those that are old or readable, which a
// CONNECT_ONLY socket may be. Ours are out of its reach because curl_easy_send attaches the
// connection to its handle, and socket_connected sends at once.
#include "client_private.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/timerfd.h>
#include <unistd.h>
#include <utlist.h>

struct vc_post {
  struct transfer transfer; // first
  struct curl_slist *headers;
  void (*done)(void *context, const struct vc_post_answer *answer);
  void *context;
  char *body;
  size_t size, capacity;
  size_t answer_max;
  int is_too_big;
};

// A descriptor that libcurl wants watched.
struct curl_watch {
  struct vc_watch watch; // first
  struct vc_client *client;
};

static pthread_once_t global_once = PTHREAD_ONCE_INIT;
static CURLcode global_status;

static void init_global(void)
{
  global_status = curl_global_init(CURL_GLOBAL_DEFAULT);
}

// --- which addresses

static int ipv4_is_private(uint32_t address)
{
  static const struct {
    uint32_t net, mask;
  } nets[] = {
      {0x00000000, 0xff000000}, // 0/8 this host
      {0x0a000000, 0xff000000}, // 10/8
      {0x7f000000, 0xff000000}, // 127/8
      {0x64400000, 0xffc00000}, // 100.64/10 shared by carriers
      {0xa9fe0000, 0xffff0000}, // 169.254/16 link-local, cloud metadata
      {0xac100000, 0xfff00000}, // 172.16/12
      {0xc0a80000, 0xffff0000}, // 192.168/16
      {0xc0000000, 0xffffff00}, // 192.0.0/24
      {0xc6120000, 0xfffe0000}, // 198.18/15 benchmarks
      {0xe0000000, 0xe0000000}, // 224/3 multicast and reserved
  };
  for (size_t i = 0; i < sizeof nets / sizeof *nets; i++) {
    if ((address & nets[i].mask) == nets[i].net) {
      return 1;
    }
  }
  return 0;
}

static uint32_t read_ipv4(const uint8_t *bytes)
{
  return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

static int ipv6_is_private(const struct in6_addr *address)
{
  const uint8_t *bytes = address->s6_addr;
  static const uint8_t nat64[12] = {0x00, 0x64, 0xff, 0x9b};
  if (IN6_IS_ADDR_UNSPECIFIED(address) || IN6_IS_ADDR_LOOPBACK(address)) {
    return 1;
  }
  if (IN6_IS_ADDR_V4MAPPED(address) || IN6_IS_ADDR_V4COMPAT(address) ||
      memcmp(bytes, nat64, sizeof nat64) == 0) {
    return ipv4_is_private(read_ipv4(bytes + 12));
  }
  if (bytes[0] == 0x20 && bytes[1] == 0x02) { // 6to4
    return ipv4_is_private(read_ipv4(bytes + 2));
  }
  return (bytes[0] & 0xfe) == 0xfc || bytes[0] == 0xff || // unique local, multicast
         (bytes[0] == 0xfe && (bytes[1] & 0x80) == 0x80); // link-local, site-local
}

int vc_address_is_private(const struct sockaddr *address)
{
  if (address->sa_family == AF_INET) {
    struct sockaddr_in ipv4;
    memcpy(&ipv4, address, sizeof ipv4);
    return ipv4_is_private(ntohl(ipv4.sin_addr.s_addr));
  }
  if (address->sa_family == AF_INET6) {
    struct sockaddr_in6 ipv6;
    memcpy(&ipv6, address, sizeof ipv6);
    return ipv6_is_private(&ipv6.sin6_addr);
  }
  return 1;
}

static int text_is_private(const char *text)
{
  struct sockaddr_in ipv4 = {.sin_family = AF_INET};
  struct sockaddr_in6 ipv6 = {.sin6_family = AF_INET6};
  if (inet_pton(AF_INET, text, &ipv4.sin_addr) == 1) {
    return vc_address_is_private((const struct sockaddr *)&ipv4);
  }
  return inet_pton(AF_INET6, text, &ipv6.sin6_addr) == 1 &&
         vc_address_is_private((const struct sockaddr *)&ipv6);
}

const char *vc_trouble_text(enum vc_trouble trouble)
{
  static const char *const texts[] = {
      [VC_TROUBLE_NONE] = "none",
      [VC_TROUBLE_UNREACHABLE] = "unreachable",
      [VC_TROUBLE_TIMEOUT] = "timed out",
      [VC_TROUBLE_UNTRUSTED] = "certificate not trusted",
      [VC_TROUBLE_FORBIDDEN] = "private address not allowed",
      [VC_TROUBLE_TOO_BIG] = "answer too big",
      [VC_TROUBLE_PROTOCOL] = "protocol error",
      [VC_TROUBLE_REFUSED] = "refused",
      [VC_TROUBLE_MEMORY] = "no memory or descriptors",
  };
  return texts[trouble];
}

// --- what libcurl asks for

static curl_socket_t open_socket(void *context, curlsocktype purpose, struct curl_sockaddr *address)
{
  struct transfer *transfer = context;
  if (transfer->scope == VC_SCOPE_PUBLIC && vc_address_is_private(&address->addr)) {
    transfer->is_forbidden = 1;
    return CURL_SOCKET_BAD;
  }
  int fd = socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
  if (fd < 0) {
    transfer->is_short |= errno != EAFNOSUPPORT;
    return CURL_SOCKET_BAD;
  }
  return fd;
}

static void turn_multi(struct vc_client *client, curl_socket_t fd, int flags);

static void fd_ready(struct vc_worker *worker, struct vc_watch *watch, uint32_t events)
{
  struct curl_watch *found = (struct curl_watch *)watch;
  int flags = (events & (EPOLLIN | EPOLLHUP | EPOLLRDHUP) ? CURL_CSELECT_IN : 0) |
              (events & (EPOLLOUT | EPOLLHUP) ? CURL_CSELECT_OUT : 0) |
              (events & EPOLLERR ? CURL_CSELECT_ERR : 0);
  turn_multi(found->client, watch->fd, flags);
}

static void starve(CURL *easy)
{
  struct transfer *transfer = NULL;
  curl_easy_getinfo(easy, CURLINFO_PRIVATE, &transfer);
  if (transfer != NULL) {
    transfer->is_starved = transfer->client->is_starved = 1;
    client_ring(transfer->client);
  }
}

static void watch_fd(struct vc_client *client, CURL *easy, curl_socket_t fd, uint32_t events)
{
  struct curl_watch *watch = calloc(1, sizeof *watch);
  if (watch == NULL) {
    starve(easy);
    return;
  }
  *watch = (struct curl_watch){.watch = {.fd = fd, .ready = fd_ready}, .client = client};
  if (vc_worker_watch(client->worker, &watch->watch, events) != 0) {
    free(watch);
    starve(easy);
    return;
  }
  curl_multi_assign(client->multi, fd, watch);
}

// Always returns 0, see above.
static int socket_wanted(CURL *easy, curl_socket_t fd, int what, void *context, void *fd_context)
{
  struct vc_client *client = context;
  struct curl_watch *watch = fd_context;
  uint32_t events =
      (what & CURL_POLL_IN ? EPOLLIN | EPOLLRDHUP : 0U) | (what & CURL_POLL_OUT ? EPOLLOUT : 0U);
  if (what == CURL_POLL_REMOVE) {
    if (watch != NULL) {
      vc_worker_unwatch(client->worker, &watch->watch);
      curl_multi_assign(client->multi, fd, NULL);
      free(watch);
    }
  } else if (watch == NULL) {
    watch_fd(client, easy, fd, events);
  } else if (vc_worker_rewatch(client->worker, &watch->watch, events) != 0) {
    starve(easy);
  }
  return 0;
}

static void set_timer(const struct vc_client *client)
{
  uint64_t at_ns = client->is_rung ? 1 : client->curl_due_ns; // long ago: at once; 0: never
  struct itimerspec at = {.it_value = {.tv_sec = (time_t)(at_ns / VC_NS_PER_S),
                                       .tv_nsec = (long)(at_ns % VC_NS_PER_S)}};
  int status = timerfd_settime(client->timer.fd, TFD_TIMER_ABSTIME, &at, NULL);
  assert(status == 0);
  (void)status;
}

static int timer_wanted(CURLM *multi, long timeout_ms, void *context)
{
  struct vc_client *client = context;
  // One more: called a little early libcurl would find nothing to do and not ask again.
  uint64_t in_ms = timeout_ms > 0 ? (uint64_t)timeout_ms + 1 : 0;
  client->curl_due_ns =
      timeout_ms < 0 ? 0 : vc_clock_now_ns(&vc_clock_system) + in_ms * VC_NS_PER_MS;
  set_timer(client);
  return 0;
}

void client_ring(struct vc_client *client)
{
  client->is_rung = 1;
  set_timer(client);
}

// --- the multi

static int make_multi(struct vc_client *client)
{
  if (client->multi != NULL) {
    return client->is_broken ? -1 : 0;
  }
  CURLM *multi = curl_multi_init();
  if (multi == NULL || curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, socket_wanted) != 0 ||
      curl_multi_setopt(multi, CURLMOPT_SOCKETDATA, client) != 0 ||
      curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, timer_wanted) != 0 ||
      curl_multi_setopt(multi, CURLMOPT_TIMERDATA, client) != 0 ||
      curl_multi_setopt(multi, CURLMOPT_PIPELINING, (long)CURLPIPE_NOTHING) != 0) {
    curl_multi_cleanup(multi);
    return -1;
  }
  client->multi = multi;
  return 0;
}

static void post_finish(struct vc_post *post, CURLcode code);

static void transfer_fail(struct transfer *transfer)
{
  if (transfer->kind == TRANSFER_POST) {
    post_finish((struct vc_post *)transfer, CURLE_OUT_OF_MEMORY);
  } else {
    socket_fail(socket_of(transfer), VC_TROUBLE_MEMORY);
  }
}

// A callback may end any other transfer: the list is looked through from its beginning each time.
static void end_starved(struct vc_client *client)
{
  struct transfer *transfer = client->transfers;
  client->is_starved = 0;
  while (transfer != NULL) {
    if (transfer->is_starved) {
      transfer_fail(transfer);
      transfer = client->transfers;
    } else {
      transfer = transfer->next;
    }
  }
}

static void rebuild(struct vc_client *client)
{
  while (client->transfers != NULL) {
    transfer_fail(client->transfers);
  }
  curl_multi_cleanup(client->multi);
  client->multi = NULL;
  client->curl_due_ns = 0;
  client->is_broken = 0;
}

static void finish_transfers(struct vc_client *client)
{
  CURLMsg *message;
  int n_left;
  while (client->multi != NULL &&
         (message = curl_multi_info_read(client->multi, &n_left)) != NULL) {
    struct transfer *transfer = NULL;
    if (message->msg != CURLMSG_DONE) {
      continue;
    }
    CURLcode code = message->data.result;
    curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &transfer);
    if (transfer->kind == TRANSFER_POST) {
      post_finish((struct vc_post *)transfer, code);
    } else {
      socket_connected(socket_of(transfer), code);
    }
  }
}

static void look_after(struct vc_client *client)
{
  finish_transfers(client);
  if (client->is_starved) {
    end_starved(client);
  }
  if (client->is_broken) {
    rebuild(client);
  }
}

static void turn_multi(struct vc_client *client, curl_socket_t fd, int flags)
{
  int n_running;
  if (client->multi != NULL &&
      curl_multi_socket_action(client->multi, fd, flags, &n_running) != CURLM_OK) {
    client->is_broken = 1;
  }
  look_after(client);
}

static void turn_timer(struct vc_client *client)
{
  long timeout_ms = -1;
  client->curl_due_ns = 0;
  turn_multi(client, CURL_SOCKET_TIMEOUT, 0);
  if (client->multi != NULL && client->curl_due_ns == 0 &&
      curl_multi_timeout(client->multi, &timeout_ms) == CURLM_OK) {
    timer_wanted(client->multi, timeout_ms, client);
  }
}

static void timer_ready(struct vc_worker *worker, struct vc_watch *watch, uint32_t events)
{
  struct vc_client *client =
      (struct vc_client *)((char *)watch - offsetof(struct vc_client, timer));
  uint64_t n;
  ssize_t size = read(watch->fd, &n, sizeof n);
  (void)size;
  client->is_rung = 0;
  socket_serve_hungry(client);
  if (client->curl_due_ns != 0 && vc_clock_now_ns(&vc_clock_system) >= client->curl_due_ns) {
    turn_timer(client);
  } else {
    look_after(client);
  }
  set_timer(client);
}

// --- transfers

static int set_common(struct transfer *transfer)
{
  CURL *easy = transfer->easy;
  const struct vc_client *client = transfer->client;
  int status = 0;
  status |= curl_easy_setopt(easy, CURLOPT_PRIVATE, transfer);
  status |= curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
  status |= curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L); // no waiting for a resolver's thread
  status |= curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
  status |= curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
  status |= curl_easy_setopt(easy, CURLOPT_PROXY, "");
  status |= curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
  status |= curl_easy_setopt(easy, CURLOPT_SSL_ENABLE_ALPN, 0L);
  status |= curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L);
  status |= curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L);
  status |= curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
  status |= curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, 1L);
  status |= curl_easy_setopt(easy, CURLOPT_TCP_NODELAY, 1L);
  status |= curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
  status |= curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, open_socket);
  status |= curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, transfer);
  status |= curl_easy_setopt(easy, CURLOPT_USERAGENT, client->user_agent);
  if (client->ca_file != NULL) {
    status |= curl_easy_setopt(easy, CURLOPT_CAINFO, client->ca_file);
    status |= curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
  }
  return status == 0 ? 0 : -1;
}

int transfer_init(struct transfer *transfer, struct vc_client *client)
{
  vc_worker_assert_here(client->worker);
  transfer->client = client;
  transfer->easy = curl_easy_init();
  DL_APPEND(client->transfers, transfer);
  return transfer->easy != NULL ? set_common(transfer) : -1;
}

int transfer_start(struct transfer *transfer)
{
  struct vc_client *client = transfer->client;
  return make_multi(client) == 0 && curl_multi_add_handle(client->multi, transfer->easy) == CURLM_OK
             ? 0
             : -1;
}

void transfer_fini(struct transfer *transfer)
{
  struct vc_client *client = transfer->client;
  vc_worker_assert_here(client->worker);
  if (transfer->easy != NULL) {
    if (client->multi != NULL) {
      curl_multi_remove_handle(client->multi, transfer->easy); // fine when it is not in it
    }
    curl_easy_cleanup(transfer->easy);
  }
  DL_DELETE(client->transfers, transfer);
}

enum vc_trouble transfer_trouble(const struct transfer *transfer, CURLcode code)
{
  if (code != CURLE_OK && (transfer->is_short || transfer->is_starved)) {
    return VC_TROUBLE_MEMORY;
  }
  if (code != CURLE_OK && transfer->is_forbidden) {
    return VC_TROUBLE_FORBIDDEN;
  }
  switch (code) {
  case CURLE_OK:
    return VC_TROUBLE_NONE;
  case CURLE_OPERATION_TIMEDOUT:
    return VC_TROUBLE_TIMEOUT;
  case CURLE_PEER_FAILED_VERIFICATION:
  case CURLE_SSL_CACERT_BADFILE:
  case CURLE_SSL_CONNECT_ERROR:
  case CURLE_SSL_ISSUER_ERROR:
    return VC_TROUBLE_UNTRUSTED;
  case CURLE_OUT_OF_MEMORY:
    return VC_TROUBLE_MEMORY;
  case CURLE_WEIRD_SERVER_REPLY:
  case CURLE_UNSUPPORTED_PROTOCOL:
  case CURLE_URL_MALFORMAT:
  case CURLE_BAD_CONTENT_ENCODING:
    return VC_TROUBLE_PROTOCOL;
  default:
    return VC_TROUBLE_UNREACHABLE;
  }
}

void client_random(struct vc_client *client, uint8_t *into, size_t size)
{
  assert(size <= sizeof client->random);
  if (client->n_random < size) {
    ssize_t n;
    do {
      n = getrandom(client->random, sizeof client->random, 0);
    } while (n < 0 && errno == EINTR); // 256 bytes come whole or not at all
    client->n_random = sizeof client->random;
  }
  client->n_random -= size;
  memcpy(into, client->random + client->n_random, size);
}

// --- POST

static size_t take_body(char *bytes, size_t size, size_t n, void *context)
{
  struct vc_post *post = context;
  size *= n;
  if (size > post->answer_max - post->size) {
    post->is_too_big = 1;
    return 0;
  }
  if (post->size + size > post->capacity) {
    size_t capacity = post->capacity == 0 ? 1024 : post->capacity * 2;
    capacity = capacity < post->size + size ? post->size + size : capacity;
    char *body = realloc(post->body, capacity);
    if (body == NULL) {
      post->transfer.is_short = 1;
      return 0;
    }
    post->body = body;
    post->capacity = capacity;
  }
  memcpy(post->body + post->size, bytes, size);
  post->size += size;
  return size;
}

static int add_header(struct vc_post *post, const char *header)
{
  struct curl_slist *headers = curl_slist_append(post->headers, header);
  if (headers == NULL) {
    return -1;
  }
  post->headers = headers;
  return 0;
}

static int set_post(struct vc_post *post, const struct vc_post_request *request)
{
  CURL *easy = post->transfer.easy;
  int status = 0;
  for (size_t i = 0; request->headers != NULL && request->headers[i] != NULL; i++) {
    status |= add_header(post, request->headers[i]);
  }
  status |= add_header(post, "Expect:");
  status |= curl_easy_setopt(easy, CURLOPT_URL, request->url);
  status |= curl_easy_setopt(easy, CURLOPT_HTTPHEADER, post->headers);
  status |= curl_easy_setopt(easy, CURLOPT_POST, 1L);
  status |= curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->size);
  status |= curl_easy_setopt(easy, CURLOPT_COPYPOSTFIELDS, request->body);
  status |= curl_easy_setopt(easy, CURLOPT_FORBID_REUSE, 1L);
  status |= curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)request->timeout_ms);
  status |= curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, take_body);
  status |= curl_easy_setopt(easy, CURLOPT_WRITEDATA, post);
  return status == 0 ? 0 : -1;
}

static void post_destroy(struct vc_post *post)
{
  transfer_fini(&post->transfer);
  curl_slist_free_all(post->headers);
  free(post->body);
  free(post);
}

int vc_post_start(struct vc_post **post_out, struct vc_client *client,
                  const struct vc_post_request *request)
{
  struct vc_post *post = calloc(1, sizeof *post);
  if (post == NULL) {
    return -1;
  }
  post->transfer.kind = TRANSFER_POST;
  post->transfer.scope = VC_SCOPE_ANY;
  post->done = request->done;
  post->context = request->context;
  post->answer_max = request->answer_max > 0 ? request->answer_max : VC_POST_ANSWER_MAX;
  if (transfer_init(&post->transfer, client) != 0 || set_post(post, request) != 0 ||
      transfer_start(&post->transfer) != 0) {
    post_destroy(post);
    return -1;
  }
  *post_out = post;
  return 0;
}

void vc_post_cancel(struct vc_post **post)
{
  if (*post != NULL && (*post)->done != NULL) { // else: within its `done`, it is freed after it
    post_destroy(*post);
  }
  *post = NULL;
}

static void read_info(CURL *easy, struct vc_post_answer *answer)
{
  long status = 0;
  curl_off_t retry_after = 0;
  char *ip = NULL;
  curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
  curl_easy_getinfo(easy, CURLINFO_RETRY_AFTER, &retry_after);
  curl_easy_getinfo(easy, CURLINFO_PRIMARY_IP, &ip);
  answer->status = (int)status;
  answer->retry_after_s = retry_after > 0 ? (int64_t)retry_after : -1;
  answer->is_peer_private = ip != NULL && text_is_private(ip);
}

static void post_finish(struct vc_post *post, CURLcode code)
{
  struct vc_post_answer answer = {.trouble = transfer_trouble(&post->transfer, code),
                                  .retry_after_s = -1,
                                  .body = post->body != NULL ? post->body : "",
                                  .size = post->size};
  if (post->is_too_big) {
    answer.trouble = VC_TROUBLE_TOO_BIG;
  }
  read_info(post->transfer.easy, &answer);
  void (*done)(void *, const struct vc_post_answer *) = post->done;
  post->done = NULL;
  done(post->context, &answer);
  post_destroy(post);
}

// --- the client

int vc_client_create(struct vc_client **client_out, struct vc_worker *worker,
                     const struct vc_client_settings *settings, struct vc_error *error)
{
  pthread_once(&global_once, init_global);
  if (global_status != CURLE_OK) {
    return vc_error_set(error, "libcurl: %s", curl_easy_strerror(global_status));
  }
  struct vc_client *client = calloc(1, sizeof *client);
  if (client == NULL) {
    return vc_error_set(error, "no memory for an HTTP client");
  }
  client->worker = worker;
  client->timer.ready = timer_ready;
  client->timer.fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
  snprintf(client->user_agent, sizeof client->user_agent, "%s", settings->user_agent);
  int has_ca = settings->ca_file != NULL && settings->ca_file[0] != '\0';
  client->ca_file = has_ca ? strdup(settings->ca_file) : NULL;
  if (client->timer.fd < 0 || (has_ca && client->ca_file == NULL) ||
      vc_worker_watch(worker, &client->timer, EPOLLIN | EPOLLET) != 0) {
    if (client->timer.fd >= 0) {
      close(client->timer.fd);
    }
    free(client->ca_file);
    free(client);
    return vc_error_set(error, "no memory or descriptors for an HTTP client");
  }
  *client_out = client;
  return 0;
}

void vc_client_destroy(struct vc_client **client_in)
{
  struct vc_client *client = *client_in;
  if (client == NULL) {
    return;
  }
  while (client->transfers != NULL) {
    struct transfer *transfer = client->transfers;
    if (transfer->kind == TRANSFER_POST) {
      vc_post_cancel(&(struct vc_post *){(struct vc_post *)transfer});
    } else {
      vc_socket_close(&(struct vc_socket *){socket_of(transfer)}, 1001);
    }
  }
  curl_multi_cleanup(client->multi);
  vc_worker_unwatch(client->worker, &client->timer);
  close(client->timer.fd);
  free(client->ca_file);
  free(client);
  *client_in = NULL;
}
