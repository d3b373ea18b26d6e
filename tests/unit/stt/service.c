#include "service.h"

#include <verbacast/wire/gladia_server.h>

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define RATE_HZ 16000.0
#define LAG_MAX 64

struct service_connection {
  struct service *service;
  int fd; // -1: closed; guarded by the service's mutex
  struct peer peer;
  pthread_t thread;
  struct service_session *session;
  char name[16]; // of the session
  struct {
    uint64_t begin, end; // bytes
  } lagging[LAG_MAX];    // acknowledgments that are owed
  size_t n_lagging;
  int n_frames;
  int close_code; // of its drop
  int is_mute;    // what it says gets lost
};

static void lock(struct service *service)
{
  pthread_mutex_lock(&service->mutex);
}

static void unlock(struct service *service)
{
  pthread_cond_broadcast(&service->changed);
  pthread_mutex_unlock(&service->mutex);
}

static unsigned roll(struct service *service)
{
  service->random = service->random * 1103515245U + 12345U;
  return service->random >> 16;
}

// --- what it says

static int say(struct service_connection *connection, struct vc_text *text)
{
  int status = connection->is_mute
                   ? 0
                   : peer_send_frame(&connection->peer, VC_WS_TEXT, text->at, text->size);
  vc_text_fini(text);
  return status;
}

static void acknowledge(struct service_connection *connection, size_t keep)
{
  while (connection->n_lagging > keep) {
    struct vc_gladia_envelope envelope = {.session_id = connection->name};
    struct vc_text text = {0};
    vc_gladia_print_ack(&text, &envelope, connection->lagging[0].begin, connection->lagging[0].end,
                        32000);
    say(connection, &text);
    connection->n_lagging--;
    memmove(connection->lagging, connection->lagging + 1,
            connection->n_lagging * sizeof connection->lagging[0]);
  }
}

static void tell(struct service_connection *connection, int is_final)
{
  struct service_session *session = connection->session;
  struct vc_gladia_envelope envelope = {.session_id = connection->name};
  struct vc_word words[UTTERANCE_WORDS + 1];
  char texts[UTTERANCE_WORDS + 1][16], id[24], all[256] = "";
  struct vc_text text = {0};
  for (size_t i = 0; i < session->n_words; i++) {
    snprintf(texts[i], sizeof texts[i], "w%d", session->words[i].value - 1);
    strcat(all, i > 0 ? " " : "");
    strcat(all, texts[i]);
    words[i] = (struct vc_word){.text = texts[i],
                                .start_s = (double)session->words[i].start / RATE_HZ,
                                .end_s = (double)session->words[i].end / RATE_HZ,
                                .confidence = 0.5};
  }
  snprintf(id, sizeof id, "00-%08d", session->n_utterances);
  struct vc_utterance utterance = {.id = id,
                                   .text = all,
                                   .language = "en",
                                   .start_s = words[0].start_s,
                                   .end_s = words[session->n_words - 1].end_s,
                                   .confidence = 0.5,
                                   .is_final = is_final,
                                   .words = words,
                                   .n_words = session->n_words};
  vc_gladia_print_transcript(&text, &envelope, &utterance);
  say(connection, &text);
}

// --- what it hears

static void end_utterance(struct service_connection *connection)
{
  struct service_session *session = connection->session;
  if (session->n_words > 0) {
    tell(connection, 1);
    session->n_utterances++;
    session->n_words = 0;
  }
  session->has_partial = 0;
}

static void end_run(struct service_connection *connection, uint64_t at)
{
  struct service_session *session = connection->session;
  if (session->value != 0) {
    session->words[session->n_words].value = session->value;
    session->words[session->n_words].start = session->run_start;
    session->words[session->n_words++].end = at;
  }
  if (session->n_words == UTTERANCE_WORDS) {
    end_utterance(connection);
  } else if (session->n_words == UTTERANCE_WORDS / 2 && !session->has_partial) {
    session->has_partial = 1;
    tell(connection, 0);
  }
}

static void hear(struct service_connection *connection, const uint8_t *pcm, size_t n, int is_deaf)
{
  struct service_session *session = connection->session;
  for (size_t i = 0; i < n; i++) {
    int value = pcm[2 * i] | pcm[2 * i + 1] << 8;
    if (value != session->value) {
      if (!is_deaf) {
        end_run(connection, session->n_samples);
      }
      session->value = value;
      session->run_start = session->n_samples;
    }
    session->n_samples++;
  }
}

// What becomes of the connection with this frame. Returns: -1 goes on, else the kind of drop.
static int decide(struct service_connection *connection)
{
  struct service *service = connection->service;
  int kind = -1;
  if (service->drop_after > 0 && connection->n_frames >= service->drop_after) {
    service->drop_after = 0;
    kind = service->drop_kind;
    connection->close_code = service->close_code;
    connection->session->is_dead |= service->kills;
    service->n_kills += service->kills;
  } else if (service->chance > 0 && roll(service) % 1000 < service->chance) {
    kind = (int)(roll(service) % 3);
    if (roll(service) % 1000 < service->kill_chance) {
      connection->session->is_dead = 1;
      service->n_kills++;
    }
  }
  service->n_drops += kind >= 0;
  return kind;
}

// Returns: 0, or -1 when the connection is to end.
static int take_audio(struct service_connection *connection, const uint8_t *pcm, size_t size)
{
  struct service *service = connection->service;
  lock(service);
  if (connection->session->owner != connection) { // it was cut, or another one goes on
    unlock(service);
    return -1;
  }
  connection->n_frames++;
  service->n_frames++;
  service->frame_max = size > service->frame_max ? size : service->frame_max;
  int kind = decide(connection), is_silent = service->is_silent, is_deaf = service->is_deaf;
  int says_rubbish = service->says_rubbish;
  size_t lag = (size_t)service->ack_lag;
  uint64_t begin = connection->session->n_samples * 2;
  connection->is_mute = kind >= 0 && service->loses_words;
  if (kind != 0) {
    hear(connection, pcm, size / 2, is_deaf || is_silent);
  }
  unlock(service);
  connection->is_mute = 0;
  if (kind != 0 && !is_silent && connection->n_lagging < LAG_MAX) {
    connection->lagging[connection->n_lagging].begin = begin;
    connection->lagging[connection->n_lagging++].end = begin + size;
  }
  if (says_rubbish) {
    peer_send_text(&connection->peer, "{\"type\":\"transcript\",\"data\":{\"id\":7}}");
    peer_send_text(&connection->peer, "[[[[");
    peer_send_text(&connection->peer, "{\"type\":\"unheard_of\",\"data\":null}");
    peer_send_frame(&connection->peer, VC_WS_BINARY, "x", 1);
  }
  if (kind < 0 || kind == 2) {
    acknowledge(connection, lag);
  }
  return kind < 0 ? 0 : -1;
}

static void end_recording(struct service_connection *connection)
{
  struct service *service = connection->service;
  struct vc_gladia_envelope envelope = {.session_id = connection->name};
  struct vc_text text = {0};
  acknowledge(connection, 0);
  lock(service);
  service->n_stops++;
  pthread_cond_broadcast(&service->changed);
  while (service->holds_end && !service->is_stopping) {
    pthread_cond_wait(&service->changed, &service->mutex);
  }
  int has_late_final = service->has_late_final;
  if (!has_late_final) {
    end_run(connection, connection->session->n_samples);
    end_utterance(connection);
  }
  vc_gladia_print_end_recording(&text, &envelope, 1);
  say(connection, &text);
  if (has_late_final) {
    end_run(connection, connection->session->n_samples);
    end_utterance(connection);
  }
  connection->session->is_dead = 1;
  unlock(service);
  text = (struct vc_text){0};
  vc_gladia_print_lifecycle(&text, &envelope, "end_session");
  say(connection, &text);
  peer_send_close(&connection->peer, 1000);
}

// Returns: 0, or -1 when the connection is to end.
static int take_text(struct service_connection *connection, const uint8_t *text, size_t size)
{
  struct vc_gladia_client_message message;
  const char *why;
  if (vc_gladia_parse_client((const char *)text, size, &message, &why) != 0) {
    return -1;
  }
  free(message.audio);
  if (message.kind == VC_GLADIA_CLIENT_STOP) {
    end_recording(connection);
    return -1;
  }
  lock(connection->service);
  connection->service->n_keep_alives++;
  unlock(connection->service);
  return 0;
}

// --- connections

static void listen_on(struct service_connection *connection)
{
  struct vc_ws_event event;
  uint8_t *payload;
  int status = 0;
  while (status == 0) {
    struct pollfd idle = {.fd = connection->peer.fd, .events = POLLIN};
    if (connection->peer.n_bytes == 0 && connection->n_lagging > 0 && poll(&idle, 1, 20) == 0) {
      acknowledge(connection, 0);
    }
    if (peer_receive(&connection->peer, &event, &payload) != 0) {
      return;
    }
    const uint8_t *bytes = payload != NULL ? payload : (const uint8_t *)"";
    status = event.opcode == VC_WS_BINARY  ? take_audio(connection, bytes, event.size)
             : event.opcode == VC_WS_TEXT  ? take_text(connection, bytes, event.size)
             : event.opcode == VC_WS_CLOSE ? -1
                                           : 0;
    free(payload);
  }
  if (connection->close_code != 0) {
    peer_send_close(&connection->peer, connection->close_code);
  }
}

static void wait_for_stop(struct service *service)
{
  lock(service);
  while (!service->is_stopping && service->takes_nothing) {
    pthread_cond_wait(&service->changed, &service->mutex);
  }
  unlock(service);
}

static void answer(struct service_connection *connection, int status, const char *headers,
                   const char *body)
{
  char text[1024];
  snprintf(text, sizeof text, "HTTP/1.1 %d x\r\n%sContent-Length: %zu\r\n\r\n%s", status, headers,
           strlen(body), body);
  peer_say(&connection->peer, text);
}

static void answer_post(struct service_connection *connection)
{
  struct service *service = connection->service;
  char body[512], headers[64] = "";
  size_t size;
  const char *key = vc_http_find(&connection->peer.head, "x-gladia-key");
  char *asked = peer_read_body(&connection->peer, &size);
  lock(service);
  snprintf(service->key, sizeof service->key, "%s", key != NULL ? key : "");
  snprintf(service->body, sizeof service->body, "%s", asked != NULL ? asked : "");
  free(asked);
  int status = service->refuse_post != 0 ? service->refuse_post : 201;
  if (service->retry_after_s > 0) {
    snprintf(headers, sizeof headers, "Retry-After: %d\r\n", service->retry_after_s);
  }
  if (status != 201) {
    snprintf(body, sizeof body, "{\"message\":\"no\"}");
  } else if (service->url != NULL) {
    snprintf(body, sizeof body, "{\"id\":\"x\",\"url\":\"%s\"}", service->url);
  } else {
    size_t n = service->n_sessions++;
    if (n >= SERVICE_SESSIONS_MAX) {
      abort();
    }
    snprintf(body, sizeof body, "{\"id\":\"s%zu\",\"url\":\"%s://127.0.0.1:%u/live?token=%zu\"}", n,
             service->tls != NULL ? "wss" : "ws", service->port, n);
  }
  service->n_posts++;
  unlock(service);
  answer(connection, status, headers, body);
}

static void serve_socket(struct service_connection *connection)
{
  struct service *service = connection->service;
  const char *token = strstr(connection->peer.head.target, "token=");
  size_t n = token != NULL ? strtoul(token + 6, NULL, 10) : 0;
  struct vc_text text = {0};
  lock(service);
  connection->session = &service->sessions[n];
  snprintf(connection->name, sizeof connection->name, "s%zu", n);
  service->n_upgrades++;
  int status = service->refuse_upgrade != 0        ? service->refuse_upgrade
               : connection->session->is_dead != 0 ? 403
                                                   : 101;
  int takes_nothing = service->takes_nothing, is_silent = service->is_silent;
  unlock(service);
  if (status != 101) {
    answer(connection, status, "", "");
    return;
  }
  if (peer_accept_upgrade(&connection->peer) != 0) {
    return;
  }
  lock(service);
  service->n_open++;
  connection->session->owner = connection;
  unlock(service);
  if (!is_silent) {
    struct vc_gladia_envelope envelope = {.session_id = connection->name};
    vc_gladia_print_lifecycle(&text, &envelope, "start_session");
    say(connection, &text);
  }
  if (takes_nothing) {
    wait_for_stop(service);
  }
  listen_on(connection);
}

// Says all and then ends, so that what was said arrives whatever the client is still sending.
static void end_connection(struct service_connection *connection)
{
  char rest[4096];
  shutdown(connection->peer.fd, SHUT_WR);
  if (connection->peer.ssl == NULL) {
    while (recv(connection->peer.fd, rest, sizeof rest, 0) > 0) {
    }
  }
}

static void *run_connection(void *context)
{
  struct service_connection *connection = context;
  struct service *service = connection->service;
  if (peer_adopt(&connection->peer, connection->fd, service->tls) == 0) {
    if (peer_read_head(&connection->peer) == 0) {
      if (strcmp(connection->peer.head.method, "POST") == 0) {
        answer_post(connection);
      } else {
        serve_socket(connection);
      }
    }
    end_connection(connection);
  }
  lock(service);
  connection->fd = -1;
  peer_close(&connection->peer, 0);
  unlock(service);
  return NULL;
}

static void *run_listener(void *context)
{
  struct service *service = context;
  int fd;
  while ((fd = accept4(service->listener, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
    struct service_connection *connection = calloc(1, sizeof *connection);
    if (connection == NULL || service->n_connections == SERVICE_CONNECTIONS_MAX) {
      abort();
    }
    connection->service = service;
    connection->fd = fd;
    lock(service);
    service->connections[service->n_connections++] = connection;
    if (service->is_stopping) {
      shutdown(fd, SHUT_RDWR);
    }
    unlock(service);
    if (pthread_create(&connection->thread, NULL, run_connection, connection) != 0) {
      abort();
    }
  }
  return NULL;
}

void service_start(struct service *service, const struct peer_tls *tls)
{
  *service = (struct service){.tls = tls, .random = 1};
  pthread_mutex_init(&service->mutex, NULL);
  pthread_cond_init(&service->changed, NULL);
  service->listener = peer_listen(&service->port);
  assert_int_equal(pthread_create(&service->thread, NULL, run_listener, service), 0);
}

static void cut_all(struct service *service)
{
  for (size_t i = 0; i < service->n_connections; i++) {
    if (service->connections[i]->fd >= 0) {
      shutdown(service->connections[i]->fd, SHUT_RDWR);
    }
  }
}

void service_stop(struct service *service)
{
  lock(service);
  service->is_stopping = 1;
  cut_all(service);
  unlock(service);
  shutdown(service->listener, SHUT_RDWR);
  pthread_join(service->thread, NULL);
  for (size_t i = 0; i < service->n_connections; i++) {
    pthread_join(service->connections[i]->thread, NULL);
    free(service->connections[i]);
  }
  close(service->listener);
  pthread_mutex_destroy(&service->mutex);
  pthread_cond_destroy(&service->changed);
}

void service_drop_all(struct service *service, int is_dead)
{
  lock(service);
  for (size_t i = 0; i < service->n_sessions; i++) {
    service->sessions[i].is_dead |= is_dead;
    service->sessions[i].owner = NULL;
  }
  cut_all(service);
  unlock(service);
}

void service_set(struct service *service, int *setting, int value)
{
  lock(service);
  *setting = value;
  unlock(service);
}

int service_get(struct service *service, const int *count)
{
  lock(service);
  int value = *count;
  unlock(service);
  return value;
}

static struct timespec patience(void)
{
  struct timespec until;
  clock_gettime(CLOCK_REALTIME, &until);
  until.tv_sec += PEER_WAIT_S;
  return until;
}

void service_await(struct service *service, const int *count, int n)
{
  struct timespec until = patience();
  lock(service);
  while (*count < n && pthread_cond_timedwait(&service->changed, &service->mutex, &until) == 0) {
  }
  int value = *count;
  unlock(service);
  assert_in_range(value, n, 1000000);
}

static uint64_t sum_heard(const struct service *service)
{
  uint64_t n = 0;
  for (size_t i = 0; i < service->n_sessions; i++) {
    n += service->sessions[i].n_samples;
  }
  return n;
}

uint64_t service_heard(struct service *service)
{
  lock(service);
  uint64_t n = sum_heard(service);
  unlock(service);
  return n;
}

void service_await_heard(struct service *service, uint64_t n)
{
  struct timespec until = patience();
  lock(service);
  while (sum_heard(service) < n &&
         pthread_cond_timedwait(&service->changed, &service->mutex, &until) == 0) {
  }
  uint64_t heard = sum_heard(service);
  unlock(service);
  assert_in_range(heard, n, UINT32_MAX);
}
