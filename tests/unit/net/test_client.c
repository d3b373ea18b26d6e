#include <verbacast/net/client.h>

#include "peer.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

// --- a worker that does what the test asks for, and notes what the client says

struct host {
  struct vc_stage *stage;
  struct vc_putter *putter;
  struct vc_client_settings settings;
  /* the worker's */
  struct vc_client *client;
  struct vc_post *post;
  struct vc_socket *socket;
  /* guarded by the mutex */
  pthread_mutex_t mutex;
  pthread_cond_t changed;
  int n_done, n_opened, n_writable, n_closed, n_tasks;
  size_t n_messages, n_message_bytes;
  int is_ordered;
  struct vc_post_answer answer;
  char body[256];
  struct vc_socket_end end;
  char last[256];
};

struct task {
  struct vc_owned_item owned;
  struct host *host;
  void (*run)(struct host *host, void *context);
  void *context;
};

static void note(struct host *host, int *count)
{
  pthread_mutex_lock(&host->mutex);
  (*count)++;
  pthread_cond_broadcast(&host->changed);
  pthread_mutex_unlock(&host->mutex);
}

// Waits until *count is at least `n`.
static void await(struct host *host, const int *count, int n)
{
  struct timespec until;
  clock_gettime(CLOCK_REALTIME, &until);
  until.tv_sec += PEER_WAIT_S;
  pthread_mutex_lock(&host->mutex);
  while (*count < n && pthread_cond_timedwait(&host->changed, &host->mutex, &until) == 0) {
  }
  int seen = *count;
  pthread_mutex_unlock(&host->mutex);
  assert_in_range(seen, n, 1000000);
}

static void task_destroy(struct vc_item *item)
{
  free(item);
}

static void on_worker(struct host *host, void (*run)(struct host *, void *), void *context)
{
  struct task *task = malloc(sizeof *task);
  assert_non_null(task);
  *task = (struct task){{{VC_ITEM_OWNED}, task_destroy}, host, run, context};
  pthread_mutex_lock(&host->mutex);
  int n = host->n_tasks;
  pthread_mutex_unlock(&host->mutex);
  assert_int_equal(vc_putter_put(host->putter, 0, &task->owned.item), 0);
  await(host, &host->n_tasks, n + 1);
}

static int enter(struct vc_worker *worker, void *config, struct vc_error *error)
{
  struct host *host = *(struct host **)config;
  vc_worker_set_state(worker, host);
  return vc_client_create(&host->client, worker, &host->settings, error);
}

static void handle(struct vc_worker *worker, struct vc_item *item)
{
  struct task *task = (struct task *)item;
  task->run(task->host, task->context);
  note(task->host, &task->host->n_tasks);
  free(task);
}

static void leave(struct vc_worker *worker)
{
  struct host *host = vc_worker_state(worker);
  vc_client_destroy(&host->client);
  host->post = NULL;
  host->socket = NULL;
}

static const struct vc_stage_ops host_ops = {
    .name = "host", .enter = enter, .handle = handle, .leave = leave};

static void host_start(struct host *host, const char *ca_file)
{
  *host = (struct host){.settings = {.ca_file = ca_file, .user_agent = "test/1"}, .is_ordered = 1};
  pthread_mutex_init(&host->mutex, NULL);
  pthread_cond_init(&host->changed, NULL);
  struct vc_error error;
  struct vc_stage_settings settings = {.ops = &host_ops,
                                       .config = &host,
                                       .config_size = sizeof host,
                                       .n_workers = 1,
                                       .lane_capacity = 16,
                                       .clock = &vc_clock_system};
  assert_int_equal(vc_stage_create(&host->stage, &settings, &error), 0);
  host->putter = vc_putter_create(host->stage);
  assert_non_null(host->putter);
  assert_int_equal(vc_stage_start(host->stage, &error), 0);
}

static void host_stop(struct host *host)
{
  vc_stage_stop(host->stage, 1000);
  vc_stage_destroy(&host->stage);
  pthread_mutex_destroy(&host->mutex);
  pthread_cond_destroy(&host->changed);
}

// --- what the client says

static void post_done(void *context, const struct vc_post_answer *answer)
{
  struct host *host = context;
  vc_post_cancel(&host->post); // its own: allowed
  pthread_mutex_lock(&host->mutex);
  host->answer = *answer;
  host->answer.body = NULL;
  snprintf(host->body, sizeof host->body, "%.*s", (int)(answer->size < 200 ? answer->size : 200),
           answer->body);
  pthread_mutex_unlock(&host->mutex);
  note(host, &host->n_done);
}

static void opened(void *context)
{
  struct host *host = context;
  note(host, &host->n_opened);
}

// Messages of the flood begin with their number.
static void message(void *context, enum vc_ws_opcode opcode, const uint8_t *payload, size_t size)
{
  struct host *host = context;
  pthread_mutex_lock(&host->mutex);
  snprintf(host->last, sizeof host->last, "%.*s", (int)(size < 200 ? size : 200),
           size > 0 ? (const char *)payload : "");
  if (opcode == VC_WS_BINARY && size >= sizeof(uint32_t)) {
    uint32_t number;
    memcpy(&number, payload, sizeof number);
    host->is_ordered &= number == host->n_messages;
  }
  host->n_messages++;
  host->n_message_bytes += size;
  pthread_cond_broadcast(&host->changed);
  pthread_mutex_unlock(&host->mutex);
}

static void await_messages(struct host *host, size_t n)
{
  struct timespec until;
  clock_gettime(CLOCK_REALTIME, &until);
  until.tv_sec += PEER_WAIT_S;
  pthread_mutex_lock(&host->mutex);
  while (host->n_messages < n &&
         pthread_cond_timedwait(&host->changed, &host->mutex, &until) == 0) {
  }
  size_t seen = host->n_messages;
  pthread_mutex_unlock(&host->mutex);
  assert_int_equal(seen, n);
}

static void writable(void *context)
{
  struct host *host = context;
  note(host, &host->n_writable);
}

static void closed(void *context, const struct vc_socket_end *end)
{
  struct host *host = context;
  vc_socket_close(&host->socket, 1000); // its own: allowed
  pthread_mutex_lock(&host->mutex);
  host->end = *end;
  pthread_mutex_unlock(&host->mutex);
  note(host, &host->n_closed);
}

static const struct vc_socket_ops socket_ops = {opened, message, writable, closed};

// --- what the test asks for

struct posting {
  char url[128];
  uint32_t timeout_ms;
  size_t answer_max;
};

static void do_post(struct host *host, void *context)
{
  const struct posting *posting = context;
  static const char *const headers[] = {"x-gladia-key: secret", "content-type: application/json",
                                        NULL};
  struct vc_post_request request = {.url = posting->url,
                                    .headers = headers,
                                    .body = "{\"a\":1}",
                                    .size = 7,
                                    .timeout_ms =
                                        posting->timeout_ms != 0 ? posting->timeout_ms : 30000,
                                    .answer_max = posting->answer_max,
                                    .done = post_done,
                                    .context = host};
  if (vc_post_start(&host->post, host->client, &request) != 0) {
    abort();
  }
}

static void do_cancel(struct host *host, void *context)
{
  vc_post_cancel(&host->post);
}

struct opening {
  char url[128];
  enum vc_scope scope;
  size_t message_max;
  int status;
};

static void do_open(struct host *host, void *context)
{
  struct opening *opening = context;
  struct vc_socket_request request = {
      .url = opening->url,
      .scope = opening->scope,
      .message_max = opening->message_max != 0 ? opening->message_max : 1 << 20,
      .connect_timeout_ms = 30000,
      .ops = &socket_ops,
      .context = host};
  opening->status = vc_socket_open(&host->socket, host->client, &request);
}

static void do_open_paused(struct host *host, void *context)
{
  do_open(host, context);
  vc_socket_pause(host->socket);
}

static void do_open_and_resume(struct host *host, void *context)
{
  do_open_paused(host, context);
  vc_socket_resume(host->socket);
}

struct sending {
  enum vc_ws_opcode opcode;
  const void *payload;
  size_t size;
  int status;
};

static void do_send(struct host *host, void *context)
{
  struct sending *sending = context;
  sending->status = vc_socket_send(host->socket, sending->opcode, sending->payload, sending->size);
}

static void do_pause(struct host *host, void *context)
{
  vc_socket_pause(host->socket);
}

static void do_resume(struct host *host, void *context)
{
  vc_socket_resume(host->socket);
}

static void do_close(struct host *host, void *context)
{
  vc_socket_close(&host->socket, 1000);
}

// --- a peer that reads one request and answers it with a given text

struct answerer {
  int listener;
  uint16_t port;
  const char *answer; // NULL: none, the connection is held until the client lets go
  const struct peer_tls *tls;
  pthread_t thread;
  char *body;
  char key[64], expect[64], method[16];
};

static void *answer_once(void *context)
{
  struct answerer *answerer = context;
  struct peer peer;
  char end;
  size_t size;
  if (peer_accept(&peer, answerer->listener, answerer->tls) != 0) {
    return NULL;
  }
  if (peer_read_head(&peer) == 0) {
    const char *key = vc_http_find(&peer.head, "x-gladia-key");
    const char *expect = vc_http_find(&peer.head, "expect");
    snprintf(answerer->method, sizeof answerer->method, "%s", peer.head.method);
    snprintf(answerer->key, sizeof answerer->key, "%s", key != NULL ? key : "");
    snprintf(answerer->expect, sizeof answerer->expect, "%s", expect != NULL ? expect : "");
    answerer->body = peer_read_body(&peer, &size);
    if (answerer->answer != NULL) {
      peer_say(&peer, answerer->answer);
    } else {
      recv(peer.fd, &end, 1, 0);
    }
  }
  peer_close(&peer, 0);
  return NULL;
}

static void answerer_start(struct answerer *answerer, const char *answer,
                           const struct peer_tls *tls)
{
  *answerer = (struct answerer){.answer = answer, .tls = tls};
  answerer->listener = peer_listen(&answerer->port);
  assert_int_equal(pthread_create(&answerer->thread, NULL, answer_once, answerer), 0);
}

static void answerer_stop(struct answerer *answerer)
{
  pthread_join(answerer->thread, NULL);
  close(answerer->listener);
  free(answerer->body);
}

static struct vc_post_answer ask(struct host *host, const char *scheme, const char *name,
                                 uint16_t port)
{
  struct posting posting = {0};
  snprintf(posting.url, sizeof posting.url, "%s://%s:%u/v2/live", scheme, name, port);
  int n = host->n_done;
  on_worker(host, do_post, &posting);
  await(host, &host->n_done, n + 1);
  return host->answer;
}

// --- POST

static void test_post_is_answered(void **state)
{
  struct host host;
  struct answerer answerer;
  host_start(&host, NULL);
  answerer_start(
      &answerer,
      "HTTP/1.1 201 Created\r\nContent-Length: 9\r\nConnection: close\r\n\r\n{\"id\":1}\n", NULL);
  struct vc_post_answer answer = ask(&host, "http", "127.0.0.1", answerer.port);
  assert_int_equal(answer.trouble, VC_TROUBLE_NONE);
  assert_int_equal(answer.status, 201);
  assert_int_equal(answer.retry_after_s, -1);
  assert_int_equal(answer.is_peer_private, 1);
  assert_string_equal(host.body, "{\"id\":1}\n");
  answerer_stop(&answerer);
  assert_string_equal(answerer.method, "POST");
  assert_string_equal(answerer.key, "secret");
  assert_string_equal(answerer.expect, "");
  host_stop(&host);
}

static void test_post_refusals_are_answers(void **state)
{
  struct host host;
  struct answerer answerer;
  host_start(&host, NULL);
  answerer_start(&answerer, "HTTP/1.1 429 Busy\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n",
                 NULL);
  struct vc_post_answer answer = ask(&host, "http", "127.0.0.1", answerer.port);
  assert_int_equal(answer.trouble, VC_TROUBLE_NONE);
  assert_int_equal(answer.status, 429);
  assert_int_equal(answer.retry_after_s, 7);
  answerer_stop(&answerer);
  answerer_start(&answerer,
                 "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: "
                 "0\r\n\r\n",
                 NULL);
  answer = ask(&host, "http", "127.0.0.1", answerer.port);
  assert_int_equal(answer.status, 302); // not followed
  answerer_stop(&answerer);
  host_stop(&host);
}

static void test_post_troubles(void **state)
{
  struct host host;
  struct answerer answerer;
  host_start(&host, NULL);
  uint16_t port;
  close(peer_listen(&port)); // nobody is there
  assert_int_equal(ask(&host, "http", "127.0.0.1", port).trouble, VC_TROUBLE_UNREACHABLE);

  answerer_start(&answerer, "this is no HTTP, it never was\r\n\r\n", NULL);
  assert_int_not_equal(ask(&host, "http", "127.0.0.1", answerer.port).trouble, VC_TROUBLE_NONE);
  answerer_stop(&answerer);

  char *big = malloc(VC_POST_ANSWER_MAX + 200);
  assert_non_null(big);
  int n = sprintf(big, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", VC_POST_ANSWER_MAX + 1);
  memset(big + n, 'x', VC_POST_ANSWER_MAX + 1);
  big[n + VC_POST_ANSWER_MAX + 1] = '\0';
  answerer_start(&answerer, big, NULL);
  assert_int_equal(ask(&host, "http", "127.0.0.1", answerer.port).trouble, VC_TROUBLE_TOO_BIG);
  answerer_stop(&answerer);
  answerer_start(&answerer, big, NULL);
  struct posting posting = {.answer_max = VC_POST_ANSWER_MAX + 1};
  snprintf(posting.url, sizeof posting.url, "http://127.0.0.1:%u/", answerer.port);
  int n_done = host.n_done;
  on_worker(&host, do_post, &posting);
  await(&host, &host.n_done, n_done + 1);
  assert_int_equal(host.answer.trouble, VC_TROUBLE_NONE);
  assert_int_equal(host.answer.size, VC_POST_ANSWER_MAX + 1);
  answerer_stop(&answerer);
  free(big);

  answerer_start(&answerer, NULL, NULL);
  posting = (struct posting){.timeout_ms = 100};
  snprintf(posting.url, sizeof posting.url, "http://127.0.0.1:%u/", answerer.port);
  n_done = host.n_done;
  on_worker(&host, do_post, &posting);
  await(&host, &host.n_done, n_done + 1);
  assert_int_equal(host.answer.trouble, VC_TROUBLE_TIMEOUT);
  answerer_stop(&answerer);
  host_stop(&host);
}

static void test_post_is_cancelled(void **state)
{
  struct host host;
  struct answerer answerer;
  host_start(&host, NULL);
  answerer_start(&answerer, NULL, NULL);
  struct posting posting = {0};
  snprintf(posting.url, sizeof posting.url, "http://127.0.0.1:%u/", answerer.port);
  on_worker(&host, do_post, &posting);
  on_worker(&host, do_cancel, NULL);
  answerer_stop(&answerer); // the connection was let go
  assert_int_equal(host.n_done, 0);
  uint16_t port;
  int listener = peer_listen(&port);
  snprintf(posting.url, sizeof posting.url, "http://127.0.0.1:%u/", port);
  on_worker(&host, do_post, &posting); // left to the client's end
  host_stop(&host);
  close(listener);
  assert_int_equal(host.n_done, 0);
}

static void test_one_refused_descriptor_is_not_the_end(void **state)
{
  struct host host;
  struct answerer answerer;
  host_start(&host, NULL);
  struct rlimit limit, low;
  assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
  answerer_start(&answerer, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", NULL);
  // libcurl's multi has descriptors of its own: it is there from the first POST on.
  assert_int_equal(ask(&host, "http", "127.0.0.1", answerer.port).status, 200);
  answerer_stop(&answerer);

  uint16_t port;
  int listener = peer_listen(&port);
  int next = dup(listener);
  close(next);
  low = (struct rlimit){.rlim_cur = (rlim_t)next, .rlim_max = limit.rlim_max};
  assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
  enum vc_trouble trouble = ask(&host, "http", "127.0.0.1", port).trouble;
  assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
  assert_int_equal(trouble, VC_TROUBLE_MEMORY);
  close(listener);

  answerer_start(&answerer, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", NULL);
  assert_int_equal(ask(&host, "http", "127.0.0.1", answerer.port).status, 200);
  answerer_stop(&answerer);
  host_stop(&host);
}

static void test_only_trusted_certificates(void **state)
{
  struct peer_tls tls;
  struct host host;
  struct answerer answerer;
  static const char ok[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
  assert_int_equal(peer_tls_init(&tls), 0);
  host_start(&host, tls.ca_file);
  answerer_start(&answerer, ok, &tls);
  struct vc_post_answer answer = ask(&host, "https", "127.0.0.1", answerer.port);
  assert_int_equal(answer.trouble, VC_TROUBLE_NONE);
  assert_int_equal(answer.status, 200);
  answerer_stop(&answerer);
  answerer_start(&answerer, ok, &tls);
  assert_int_equal(ask(&host, "https", "localhost", answerer.port).trouble, VC_TROUBLE_UNTRUSTED);
  answerer_stop(&answerer);
  host_stop(&host);

  host_start(&host, tls.other_ca_file);
  answerer_start(&answerer, ok, &tls);
  assert_int_equal(ask(&host, "https", "127.0.0.1", answerer.port).trouble, VC_TROUBLE_UNTRUSTED);
  answerer_stop(&answerer);
  host_stop(&host);

  host_start(&host, NULL); // the system's authorities
  answerer_start(&answerer, ok, &tls);
  assert_int_equal(ask(&host, "https", "127.0.0.1", answerer.port).trouble, VC_TROUBLE_UNTRUSTED);
  answerer_stop(&answerer);
  host_stop(&host);
  peer_tls_fini(&tls);
}

// --- WebSocket

static void open_socket(struct host *host, const char *scheme, uint16_t port)
{
  struct opening opening = {.scope = VC_SCOPE_ANY};
  snprintf(opening.url, sizeof opening.url, "%s://127.0.0.1:%u/v2/live?token=t", scheme, port);
  on_worker(host, do_open, &opening);
  assert_int_equal(opening.status, 0);
}

static void expect_message(struct peer *peer, enum vc_ws_opcode opcode, const void *payload,
                           size_t size)
{
  struct vc_ws_event event;
  uint8_t *got;
  assert_int_equal(peer_receive(peer, &event, &got), 0);
  assert_int_equal(event.opcode, opcode);
  assert_int_equal(event.size, size);
  if (size > 0) {
    assert_memory_equal(got, payload, size);
  }
  free(got);
}

struct upgrader {
  int listener;
  const struct peer_tls *tls;
  struct peer peer;
  int status;
  char target[128];
  pthread_t thread;
};

static void *upgrade(void *context)
{
  struct upgrader *upgrader = context;
  upgrader->status = peer_accept(&upgrader->peer, upgrader->listener, upgrader->tls);
  if (upgrader->status == 0 && peer_read_head(&upgrader->peer) == 0) {
    snprintf(upgrader->target, sizeof upgrader->target, "%s", upgrader->peer.head.target);
    upgrader->status = peer_accept_upgrade(&upgrader->peer);
  }
  return NULL;
}

// Opens a socket and gives the other end of it.
static void pair(struct host *host, struct upgrader *upgrader, const struct peer_tls *tls)
{
  uint16_t port;
  *upgrader = (struct upgrader){.listener = peer_listen(&port), .tls = tls};
  assert_int_equal(pthread_create(&upgrader->thread, NULL, upgrade, upgrader), 0);
  int n_opened = host->n_opened;
  open_socket(host, tls != NULL ? "wss" : "ws", port);
  await(host, &host->n_opened, n_opened + 1);
  pthread_join(upgrader->thread, NULL);
  close(upgrader->listener);
  assert_int_equal(upgrader->status, 0);
  assert_string_equal(upgrader->target, "/v2/live?token=t");
}

static void talk(const struct peer_tls *tls)
{
  struct host host;
  struct upgrader upgrader;
  host_start(&host, tls != NULL ? tls->ca_file : NULL);
  pair(&host, &upgrader, tls);
  struct sending text = {.opcode = VC_WS_TEXT, .payload = "hello", .size = 5};
  on_worker(&host, do_send, &text);
  assert_int_equal(text.status, 0);
  expect_message(&upgrader.peer, VC_WS_TEXT, "hello", 5);

  uint8_t *audio = calloc(1, 65536);
  assert_non_null(audio);
  for (size_t i = 0; i < 65536; i++) {
    audio[i] = (uint8_t)(i * 7);
  }
  struct sending binary = {.opcode = VC_WS_BINARY, .payload = audio, .size = 65536};
  on_worker(&host, do_send, &binary);
  assert_int_equal(binary.status, 0);
  expect_message(&upgrader.peer, VC_WS_BINARY, audio, 65536);
  free(audio);

  assert_int_equal(peer_send_frame(&upgrader.peer, VC_WS_PING, "are you", 7), 0);
  expect_message(&upgrader.peer, VC_WS_PONG, "are you", 7);
  assert_int_equal(peer_send_text(&upgrader.peer, "{\"type\":\"x\"}"), 0);
  await_messages(&host, 1);
  assert_string_equal(host.last, "{\"type\":\"x\"}");

  assert_int_equal(peer_send_close(&upgrader.peer, 4408), 0);
  await(&host, &host.n_closed, 1);
  assert_int_equal(host.end.trouble, VC_TROUBLE_NONE);
  assert_int_equal(host.end.close_code, 4408);
  expect_message(&upgrader.peer, VC_WS_CLOSE, "\x11\x38", 2);
  peer_close(&upgrader.peer, 0);
  host_stop(&host);
}

static void test_socket_talks(void **state)
{
  talk(NULL);
}

static void test_socket_talks_tls(void **state)
{
  struct peer_tls tls;
  assert_int_equal(peer_tls_init(&tls), 0);
  talk(&tls);

  struct host host;
  uint16_t port;
  host_start(&host, tls.other_ca_file);
  struct upgrader upgrader = {.listener = peer_listen(&port), .tls = &tls};
  assert_int_equal(pthread_create(&upgrader.thread, NULL, upgrade, &upgrader), 0);
  open_socket(&host, "wss", port);
  await(&host, &host.n_closed, 1);
  assert_int_equal(host.end.trouble, VC_TROUBLE_UNTRUSTED);
  pthread_join(upgrader.thread, NULL);
  close(upgrader.listener);
  host_stop(&host);
  peer_tls_fini(&tls);
}

static void test_socket_says_goodbye(void **state)
{
  struct host host;
  struct upgrader upgrader;
  host_start(&host, NULL);
  pair(&host, &upgrader, NULL);
  on_worker(&host, do_close, NULL);
  expect_message(&upgrader.peer, VC_WS_CLOSE, "\x03\xe8", 2);
  peer_close(&upgrader.peer, 0);
  assert_int_equal(host.n_closed, 0);
  host_stop(&host);
}

static void test_socket_breaks(void **state)
{
  struct host host;
  struct upgrader upgrader;
  host_start(&host, NULL);
  for (int is_reset = 0; is_reset < 2; is_reset++) {
    int n = host.n_closed;
    pair(&host, &upgrader, NULL);
    peer_close(&upgrader.peer, is_reset);
    await(&host, &host.n_closed, n + 1);
    assert_int_equal(host.end.trouble, VC_TROUBLE_UNREACHABLE);
  }
  pair(&host, &upgrader, NULL);
  assert_int_equal(peer_write(&upgrader.peer, "\xc1\x01x", 3), 0); // RSV1 without an extension
  await(&host, &host.n_closed, 3);
  assert_int_equal(host.end.trouble, VC_TROUBLE_PROTOCOL);
  expect_message(&upgrader.peer, VC_WS_CLOSE, "\x03\xea", 2);
  peer_close(&upgrader.peer, 0);

  pair(&host, &upgrader, NULL);
  uint8_t *big = calloc(1, (1 << 20) + 1);
  assert_non_null(big);
  peer_send_frame(&upgrader.peer, VC_WS_TEXT, big, (1 << 20) + 1);
  free(big);
  await(&host, &host.n_closed, 4);
  assert_int_equal(host.end.trouble, VC_TROUBLE_TOO_BIG);
  peer_close(&upgrader.peer, 0);
  host_stop(&host);
}

static void test_upgrade_refused(void **state)
{
  static const struct {
    const char *answer;
    enum vc_trouble trouble;
    int status;
  } rows[] = {
      {"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", VC_TROUBLE_REFUSED, 403},
      {"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", VC_TROUBLE_REFUSED, 200},
      {"HTTP/1.1 101 Yes\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
       "Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n",
       VC_TROUBLE_PROTOCOL, 0},
      {"HTTP/1.1 101 Yes\r\n\r\n", VC_TROUBLE_PROTOCOL, 0},
      {"SSH-2.0-OpenSSH_9.2\r\n\r\n", VC_TROUBLE_PROTOCOL, 0},
      {"HTTP/1.1 101 Yes", VC_TROUBLE_UNREACHABLE, 0}, // and then the end
  };
  struct host host;
  struct answerer answerer;
  host_start(&host, NULL);
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    answerer_start(&answerer, rows[i].answer, NULL);
    open_socket(&host, "ws", answerer.port);
    await(&host, &host.n_closed, (int)i + 1);
    assert_int_equal(host.end.trouble, rows[i].trouble);
    assert_int_equal(host.end.status, rows[i].status);
    answerer_stop(&answerer);
  }
  assert_int_equal(host.n_opened, 0);
  host_stop(&host);
}

// A pause holds messages back, not the upgrade.
static void test_socket_paused_from_the_beginning(void **state)
{
  struct host host;
  uint16_t port;
  host_start(&host, NULL);
  for (int is_resumed = 0; is_resumed < 2; is_resumed++) {
    struct upgrader upgrader = {.listener = peer_listen(&port)};
    struct opening opening = {.scope = VC_SCOPE_ANY};
    snprintf(opening.url, sizeof opening.url, "ws://127.0.0.1:%u/", port);
    assert_int_equal(pthread_create(&upgrader.thread, NULL, upgrade, &upgrader), 0);
    on_worker(&host, is_resumed ? do_open_and_resume : do_open_paused, &opening);
    await(&host, &host.n_opened, is_resumed + 1);
    pthread_join(upgrader.thread, NULL);
    close(upgrader.listener);
    assert_int_equal(peer_send_text(&upgrader.peer, "hello"), 0);
    if (!is_resumed) {
      on_worker(&host, do_resume, NULL);
    }
    await_messages(&host, (size_t)is_resumed + 1);
    on_worker(&host, do_close, NULL);
    peer_close(&upgrader.peer, 0);
  }
  assert_int_equal(host.n_closed, 0);
  host_stop(&host);
}

static void test_where_a_socket_may_go(void **state)
{
  struct host host;
  uint16_t port;
  host_start(&host, NULL);
  int listener = peer_listen(&port);
  struct opening opening = {.scope = VC_SCOPE_PUBLIC};
  snprintf(opening.url, sizeof opening.url, "ws://127.0.0.1:%u/", port);
  on_worker(&host, do_open, &opening);
  assert_int_equal(opening.status, 0);
  await(&host, &host.n_closed, 1);
  assert_int_equal(host.end.trouble, VC_TROUBLE_FORBIDDEN);
  close(listener);

  static const char *const urls[] = {"http://127.0.0.1/", "ws:///", "wss//x", "", "ftp://x/"};
  for (size_t i = 0; i < sizeof urls / sizeof *urls; i++) {
    snprintf(opening.url, sizeof opening.url, "%s", urls[i]);
    on_worker(&host, do_open, &opening);
    assert_int_equal(opening.status, -1);
  }
  host_stop(&host);
}

#define N_FLOOD 3000

static void *flood(void *context)
{
  struct peer *peer = context;
  static uint8_t payload[1000];
  for (uint32_t i = 0; i < N_FLOOD; i++) {
    memcpy(payload, &i, sizeof i);
    if (peer_send_frame(peer, VC_WS_BINARY, payload, sizeof payload) != 0) {
      return peer;
    }
  }
  return NULL;
}

static void test_paused_socket_loses_nothing(void **state)
{
  struct host host;
  struct upgrader upgrader;
  pthread_t thread;
  void *failed;
  host_start(&host, NULL);
  pair(&host, &upgrader, NULL);
  assert_int_equal(pthread_create(&thread, NULL, flood, &upgrader.peer), 0);
  for (int i = 0; i < 20; i++) {
    on_worker(&host, do_pause, NULL);
    pthread_mutex_lock(&host.mutex);
    size_t before = host.n_messages;
    pthread_mutex_unlock(&host.mutex);
    on_worker(&host, do_pause, NULL); // a turn of the worker
    pthread_mutex_lock(&host.mutex);
    assert_int_equal(host.n_messages, before);
    pthread_mutex_unlock(&host.mutex);
    on_worker(&host, do_resume, NULL);
  }
  await_messages(&host, N_FLOOD);
  assert_int_equal(host.is_ordered, 1);
  pthread_join(thread, &failed);
  assert_null(failed);
  peer_close(&upgrader.peer, 0);
  await(&host, &host.n_closed, 1);
  host_stop(&host);
}

static void fill(struct peer_tls *tls)
{
  struct host host;
  struct upgrader upgrader;
  host_start(&host, tls != NULL ? tls->ca_file : NULL);
  pair(&host, &upgrader, tls);
  static uint8_t payload[60000];
  uint32_t n = 0;
  struct sending sending = {.opcode = VC_WS_BINARY, .payload = payload, .size = sizeof payload};
  do {
    memcpy(payload, &n, sizeof n);
    on_worker(&host, do_send, &sending);
    assert_in_range(sending.status, 0, 1);
    n += sending.status == 0;
  } while (sending.status == 0 && n < 10000);
  assert_int_equal(sending.status, 1);
  peer_send_frame(&upgrader.peer, VC_WS_PING, "x", 1); // its pong waits behind
  int has_pong = 0;
  for (uint32_t i = 0; i < n || !has_pong;) {
    struct vc_ws_event event;
    uint8_t *got;
    uint32_t number;
    assert_int_equal(peer_receive(&upgrader.peer, &event, &got), 0);
    if (event.opcode == VC_WS_PONG) {
      has_pong = 1;
    } else {
      assert_int_equal(event.size, sizeof payload);
      memcpy(&number, got, sizeof number);
      assert_int_equal(number, i++);
    }
    free(got);
  }
  await(&host, &host.n_writable, 1);
  sending = (struct sending){.opcode = VC_WS_TEXT, .payload = "more", .size = 4};
  on_worker(&host, do_send, &sending);
  assert_int_equal(sending.status, 0);
  expect_message(&upgrader.peer, VC_WS_TEXT, "more", 4);
  peer_close(&upgrader.peer, 0);
  host_stop(&host);
}

static void test_full_socket_says_so(void **state)
{
  fill(NULL);
}

static void test_full_socket_says_so_tls(void **state)
{
  struct peer_tls tls;
  assert_int_equal(peer_tls_init(&tls), 0);
  fill(&tls);
  peer_tls_fini(&tls);
}

// libcurl closes idle connections that are readable when it makes another one, at most once a
// second by its own clock: a socket of ours is none of them.
static void test_other_connections_leave_a_socket_alone(void **state)
{
  struct host host;
  struct upgrader upgrader;
  struct answerer answerer;
  host_start(&host, NULL);
  pair(&host, &upgrader, NULL);
  on_worker(&host, do_pause, NULL);
  assert_int_equal(peer_send_text(&upgrader.peer, "still here"), 0);
  uint64_t until = vc_clock_now_ns(&vc_clock_system) + 1300 * VC_NS_PER_MS;
  do {
    answerer_start(&answerer, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", NULL);
    assert_int_equal(ask(&host, "http", "127.0.0.1", answerer.port).status, 200);
    answerer_stop(&answerer);
  } while (vc_clock_now_ns(&vc_clock_system) < until);
  on_worker(&host, do_resume, NULL);
  await_messages(&host, 1);
  assert_string_equal(host.last, "still here");
  peer_close(&upgrader.peer, 0);
  await(&host, &host.n_closed, 1);
  host_stop(&host);
}

// --- addresses

static int is_private(const char *text)
{
  struct sockaddr_in ipv4 = {.sin_family = AF_INET};
  struct sockaddr_in6 ipv6 = {.sin6_family = AF_INET6};
  if (inet_pton(AF_INET, text, &ipv4.sin_addr) == 1) {
    return vc_address_is_private((const struct sockaddr *)&ipv4);
  }
  assert_int_equal(inet_pton(AF_INET6, text, &ipv6.sin6_addr), 1);
  return vc_address_is_private((const struct sockaddr *)&ipv6);
}

static void test_private_addresses(void **state)
{
  static const char *const private[] = {
      "127.0.0.1",       "10.1.2.3",        "172.16.0.1",    "172.31.255.255",
      "192.168.1.1",     "169.254.169.254", "0.0.0.0",       "100.64.0.1",
      "224.0.0.1",       "255.255.255.255", "::1",           "::",
      "fe80::1",         "fc00::1",         "fd12::1",       "ff02::1",
      "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::",
  };
  static const char *const public[] = {"8.8.8.8",        "172.15.0.1", "172.32.0.1",
                                       "100.128.0.1",    "1.1.1.1",    "2606:4700::1111",
                                       "::ffff:8.8.8.8", "193.0.0.1"};
  for (size_t i = 0; i < sizeof private / sizeof *private; i++) {
    assert_int_equal(is_private(private[i]), 1);
  }
  for (size_t i = 0; i < sizeof public / sizeof *public; i++) {
    assert_int_equal(is_private(public[i]), 0);
  }
  assert_int_equal(vc_address_is_private(&(struct sockaddr){.sa_family = AF_UNIX}), 1);
}

int main(void)
{
  signal(SIGPIPE, SIG_IGN);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_post_is_answered),
      cmocka_unit_test(test_post_refusals_are_answers),
      cmocka_unit_test(test_post_troubles),
      cmocka_unit_test(test_post_is_cancelled),
      cmocka_unit_test(test_one_refused_descriptor_is_not_the_end),
      cmocka_unit_test(test_only_trusted_certificates),
      cmocka_unit_test(test_socket_talks),
      cmocka_unit_test(test_socket_talks_tls),
      cmocka_unit_test(test_socket_says_goodbye),
      cmocka_unit_test(test_socket_breaks),
      cmocka_unit_test(test_upgrade_refused),
      cmocka_unit_test(test_socket_paused_from_the_beginning),
      cmocka_unit_test(test_where_a_socket_may_go),
      cmocka_unit_test(test_paused_socket_loses_nothing),
      cmocka_unit_test(test_full_socket_says_so),
      cmocka_unit_test(test_full_socket_says_so_tls),
      cmocka_unit_test(test_other_connections_leave_a_socket_alone),
      cmocka_unit_test(test_private_addresses),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
