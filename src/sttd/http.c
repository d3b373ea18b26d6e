// What is asked by HTTP. Every answer ends its connection; a WebSocket is what lasts here.
#include "room.h"

#include <verbacast/base/log.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define STUCK_MS 20000 // the longest decode takes a second or two on a busy machine
#define RETRY_AFTER_S 2

struct answer {
  int status;
  const char *type;
  const char *headers; // further ones, each with its end of line
  const char *body;
  size_t size;
};

static const char *reason_of(int status)
{
  static const struct {
    int status;
    const char *reason;
  } rows[] = {
      {200, "OK"},
      {201, "Created"},
      {202, "Accepted"},
      {400, "Bad Request"},
      {401, "Unauthorized"},
      {403, "Forbidden"},
      {404, "Not Found"},
      {405, "Method Not Allowed"},
      {408, "Request Timeout"},
      {411, "Length Required"},
      {413, "Content Too Large"},
      {422, "Unprocessable Content"},
      {426, "Upgrade Required"},
      {429, "Too Many Requests"},
      {431, "Request Header Fields Too Large"},
      {503, "Service Unavailable"},
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    if (rows[i].status == status) {
      return rows[i].reason;
    }
  }
  return "Error";
}

// --- answers

static void respond(struct connection *connection, const struct answer *answer)
{
  struct vc_text head = {0};
  vc_text_format(&head,
                 "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n"
                 "Cache-Control: no-store\r\nConnection: close\r\n%s\r\n",
                 answer->status, reason_of(answer->status), answer->type, answer->size,
                 answer->headers != NULL ? answer->headers : "");
  if (head.has_failed) {
    connection_kill(connection);
    return;
  }
  connection_write(connection, head.at, head.size);
  vc_text_fini(&head);
  int is_head = connection->request->head.method != NULL &&
                strcmp(connection->request->head.method, "HEAD") == 0;
  connection_write(connection, answer->body, is_head ? 0 : answer->size);
  connection_finish(connection);
}

// Takes the text.
static void respond_json(struct connection *connection, int status, struct vc_text *text)
{
  if (text->has_failed) {
    connection_kill(connection);
  } else {
    const struct answer answer = {
        .status = status, .type = "application/json", .body = text->at, .size = text->size};
    respond(connection, &answer);
  }
  vc_text_fini(text);
}

static void refuse(struct connection *connection, int status, const char *why, const char *headers)
{
  struct vc_text text = {0};
  room_count(connection->room, REQUESTS_REFUSED, 1);
  vc_text_format(&text, "{\"statusCode\":%d,\"error\":", status);
  vc_text_json_string(&text, why);
  vc_text_add(&text, ",\"message\":");
  vc_text_json_string(&text, why);
  vc_text_add(&text, "}");
  if (text.has_failed) {
    connection_kill(connection);
  } else {
    const struct answer answer = {.status = status,
                                  .type = "application/json",
                                  .headers = headers,
                                  .body = text.at,
                                  .size = text.size};
    respond(connection, &answer);
  }
  vc_text_fini(&text);
}

void http_refuse(struct connection *connection, int status, const char *why)
{
  refuse(connection, status, why, NULL);
}

// --- who may ask

// Without keys the server is this machine's: not for a proxy in front of it, nor for a web page
// that rebinds its name.
static int is_loopback_host(const char *host)
{
  char name[256];
  if (host == NULL) {
    return 1;
  }
  snprintf(name, sizeof name, "%s", host[0] == '[' ? host + 1 : host);
  name[host[0] == '[' ? strcspn(name, "]") : strcspn(name, ":")] = '\0';
  struct vc_address address;
  return strcasecmp(name, "localhost") == 0 ||
         (vc_address_parse(name, &address) == 0 && vc_address_is_loopback(&address));
}

static int check_protected(struct connection *connection)
{
  const struct vc_http_head *head = &connection->request->head;
  if (vc_secret_is_set(connection->room->settings.options->api_keys)) {
    return 0;
  }
  if (vc_http_find(head, "x-forwarded-for") != NULL || vc_http_find(head, "forwarded") != NULL ||
      !is_loopback_host(vc_http_find(head, "host"))) {
    http_refuse(connection, 403, "without STT_API_KEYS this server answers on loopback only");
    return -1;
  }
  return 0;
}

static int check_key(struct connection *connection)
{
  const struct vc_secret *keys = connection->room->settings.options->api_keys;
  const char *key = vc_http_find(&connection->request->head, "x-gladia-key");
  if (vc_secret_is_set(keys) && (key == NULL || !vc_secret_matches(keys, key, strlen(key)))) {
    http_refuse(connection, 401, "x-gladia-key is missing or not one of STT_API_KEYS");
    return -1;
  }
  return 0;
}

// A page of another origin may not use up this server's sessions.
static int check_origin(struct connection *connection)
{
  const struct vc_http_head *head = &connection->request->head;
  const char *origin = vc_http_find(head, "origin");
  const char *host = vc_http_find(head, "host");
  const char *at = origin != NULL ? strstr(origin, "://") : NULL;
  if (origin != NULL && (at == NULL || host == NULL || strcasecmp(at + 3, host) != 0)) {
    http_refuse(connection, 403, "a foreign Origin");
    return -1;
  }
  return 0;
}

// --- POST /v2/live

static int is_plain_host(const char *host)
{
  size_t n = strlen(host);
  return n > 0 && n < 256 &&
         strspn(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-:[]") == n;
}

// By the name that the client used, so that it gets through what it came through.
static void print_url(const struct connection *connection, const struct session *session,
                      struct vc_text *url)
{
  const struct vc_http_head *head = &connection->request->head;
  const char *host = vc_http_find(head, "host");
  const char *protocol = vc_http_find(head, "x-forwarded-proto");
  char own[VC_ADDRESS_TEXT_MAX];
  vc_address_print_port(&connection->room->bound, own);
  vc_text_format(url, "%s://%s/v2/live?token=%s",
                 protocol != NULL && strcasecmp(protocol, "https") == 0 ? "wss" : "ws",
                 host != NULL && is_plain_host(host) ? host : own, session->token);
}

static int check_languages(struct connection *connection, const struct vc_gladia_request *request)
{
  const struct engine *engine = connection->room->engine;
  for (size_t i = 0; i < request->n_languages; i++) {
    if (!engine_has_language(engine, request->languages[i])) {
      char why[256];
      snprintf(why, sizeof why,
               "language_config.languages has '%s', which the model lacks; it understands: %s",
               request->languages[i], engine->languages[0]);
      http_refuse(connection, 422, why);
      return -1;
    }
  }
  return 0;
}

static int check_room(struct connection *connection)
{
  struct room *room = connection->room;
  if (room->is_draining) {
    refuse(connection, 503, "the server shuts down", "Retry-After: 5\r\n");
    return -1;
  }
  if (room->n_active >= room->sessions_max) {
    char header[64], why[128];
    snprintf(header, sizeof header, "Retry-After: %d\r\n", RETRY_AFTER_S);
    snprintf(why, sizeof why, "all %u sessions (STT_MAX_SESSIONS) are in use", room->sessions_max);
    room_count(room, SESSIONS_REFUSED, 1);
    refuse(connection, 429, why, header);
    return -1;
  }
  return 0;
}

static void answer_created(struct connection *connection, const struct session *session)
{
  struct vc_text url = {0}, text = {0};
  print_url(connection, session, &url);
  const struct vc_gladia_envelope envelope = {.session_id = session->id,
                                              .created_at_ms = session->created_ms};
  vc_gladia_print_init_answer(&text, &envelope, url.at != NULL ? url.at : "");
  text.has_failed |= url.has_failed;
  vc_text_fini(&url);
  respond_json(connection, 201, &text);
}

static void serve_init(struct connection *connection)
{
  struct room *room = connection->room;
  struct vc_gladia_request asked;
  char why[256] = "";
  if (check_key(connection) != 0 || check_origin(connection) != 0) {
    return;
  }
  int status = vc_gladia_parse_request(connection->request->body, connection->request->body_size,
                                       &asked, why, sizeof why);
  if (status != 0) {
    refuse(connection, status, why, status == 503 ? "Retry-After: 5\r\n" : "");
    return;
  }
  if (check_languages(connection, &asked) == 0 && check_room(connection) == 0) {
    struct session *session = session_create(room, &asked);
    if (session == NULL) {
      refuse(connection, 503, "no memory", "Retry-After: 5\r\n");
    } else {
      answer_created(connection, session);
    }
  }
  vc_gladia_request_fini(&asked);
}

// --- GET /v2/live?token=…

static int is_upgrade(const struct vc_http_head *head)
{
  const char *key = vc_http_find(head, "sec-websocket-key");
  const char *version = vc_http_find(head, "sec-websocket-version");
  return vc_http_has_token(head, "upgrade", "websocket") &&
         vc_http_has_token(head, "connection", "upgrade") && key != NULL && strlen(key) == 24 &&
         version != NULL && strcmp(version, "13") == 0;
}

static void serve_upgrade(struct connection *connection, const char *query)
{
  struct room *room = connection->room;
  char token[TOKEN_SIZE];
  if (!is_upgrade(&connection->request->head) || connection->request->body_size > 0) {
    refuse(connection, 426, "this is a WebSocket's address",
           "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n");
    return;
  }
  struct session *session = vc_query_find(query, "token", token, sizeof token) == 1
                                ? session_find_token(room, token)
                                : NULL;
  if (session == NULL) {
    http_refuse(connection, 403, "the token is none of a session, or its session is over");
    return;
  }
  live_attach(connection, session);
}

// --- GET and DELETE /v2/live/{id}

static const char *status_name(const struct session *session)
{
  switch (session->state) {
  case SESSION_WAITING:
    return "queued";
  case SESSION_LIVE:
  case SESSION_STOPPING:
    return "processing";
  case SESSION_DONE:
    break;
  }
  return session->has_failed ? "error" : "done";
}

static void print_session(const struct session *session, struct vc_text *text)
{
  vc_text_format(text,
                 "{\"id\":\"%s\",\"request_id\":\"%.8s\",\"version\":2,\"kind\":\"live\","
                 "\"status\":\"%s\",\"created_at\":\"",
                 session->id, session->id, status_name(session));
  vc_gladia_print_time(text, session->created_ms);
  vc_text_add(text, "\",\"completed_at\":");
  if (session->state == SESSION_DONE) {
    vc_text_add(text, "\"");
    vc_gladia_print_time(text, session->completed_ms);
    vc_text_add(text, "\"");
  } else {
    vc_text_add(text, "null");
  }
  vc_text_add(text, ",\"custom_metadata\":");
  vc_text_add(text, session->request.metadata != NULL ? session->request.metadata : "null");
  vc_text_format(text, ",\"error_code\":%s,\"file\":null,\"request_params\":",
                 session->has_failed ? "500" : "null");
  vc_gladia_print_request(text, &session->request);
  vc_text_add(text, ",\"result\":");
  session_print_result(session, text);
  vc_text_add(text, "}");
}

static void serve_result(struct connection *connection, struct session *session)
{
  struct vc_text text = {0};
  print_session(session, &text);
  respond_json(connection, 200, &text);
}

static void serve_delete(struct connection *connection, struct session *session)
{
  struct vc_text text = {0};
  if (check_origin(connection) != 0) {
    return;
  }
  vc_text_format(&text, "{\"id\":\"%s\"}", session->id);
  session_destroy(session);
  respond_json(connection, 202, &text);
}

static void serve_session(struct connection *connection, const char *id)
{
  const char *method = connection->request->head.method;
  if (check_key(connection) != 0) {
    return;
  }
  struct session *session = session_find(connection->room, id);
  if (session == NULL) {
    http_refuse(connection, 404, "no such session (results are kept for 10 minutes)");
  } else if (strcmp(method, "GET") == 0) {
    serve_result(connection, session);
  } else if (strcmp(method, "DELETE") == 0) {
    serve_delete(connection, session);
  } else {
    refuse(connection, 405, "GET or DELETE", "Allow: GET, DELETE\r\n");
  }
}

// --- health and figures

static void serve_health(struct connection *connection)
{
  struct vc_text text = {0};
  uint64_t busy_ms = pool_busy_ms(connection->room->pool);
  int is_stuck = busy_ms > STUCK_MS;
  vc_text_format(&text, "{\"status\":\"%s\",\"busy_ms\":%llu}",
                 is_stuck ? "recogniser stuck" : "ok", (unsigned long long)busy_ms);
  respond_json(connection, is_stuck ? 503 : 200, &text);
}

static void serve_readiness(struct connection *connection)
{
  const struct room *room = connection->room;
  struct vc_text text = {0};
  vc_text_format(&text,
                 "{\"status\":\"%s\",\"engine\":\"%s\",\"sessions\":%u,\"sessions_max\":%u,"
                 "\"degraded\":",
                 room->is_draining ? "draining" : "ready", room->engine->name, room->n_active,
                 room->sessions_max);
  metrics_print_degraded(room, &text);
  vc_text_add(&text, "}");
  respond_json(connection, room->is_draining ? 404 : 200, &text);
}

static void serve_prometheus(struct connection *connection)
{
  char *text = NULL;
  size_t size = 0;
  FILE *out = open_memstream(&text, &size);
  if (out == NULL) {
    connection_kill(connection);
    return;
  }
  vc_metrics_print_prometheus(connection->room->settings.metrics, out);
  fprintf(out,
          "# HELP verbacast_degraded 1 for each thing that is degraded.\n"
          "# TYPE verbacast_degraded gauge\n%s",
          connection->room->engine->is_fallback ? "verbacast_degraded{what=\"engine\"} 1\n" : "");
  fclose(out);
  const struct answer answer = {.status = 200,
                                .type = "text/plain; version=0.0.4; charset=utf-8",
                                .body = text,
                                .size = size};
  respond(connection, &answer);
  free(text);
}

static void serve_metrics(struct connection *connection, const char *query)
{
  char format[16];
  const char *accept = vc_http_find(&connection->request->head, "accept");
  int is_asked = vc_query_find(query, "format", format, sizeof format) == 1;
  if (is_asked ? strcmp(format, "prometheus") == 0
               : accept != NULL && (strstr(accept, "text/plain") != NULL ||
                                    strstr(accept, "openmetrics") != NULL)) {
    serve_prometheus(connection);
    return;
  }
  struct vc_text text = {0};
  metrics_print_json(connection->room, &text);
  respond_json(connection, 200, &text);
}

// --- routes

static void serve_live(struct connection *connection, const char *query)
{
  const char *method = connection->request->head.method;
  if (strcmp(method, "POST") == 0) {
    serve_init(connection);
  } else if (strcmp(method, "GET") == 0) {
    serve_upgrade(connection, query);
  } else {
    refuse(connection, 405, "POST, or GET for a WebSocket", "Allow: GET, POST\r\n");
  }
}

static void serve_plain(struct connection *connection, const char *path, const char *query)
{
  const char *method = connection->request->head.method;
  if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0) {
    refuse(connection, 405, "GET", "Allow: GET, HEAD\r\n");
  } else if (strcmp(path, "/healthz") == 0) {
    serve_health(connection);
  } else if (strcmp(path, "/readyz") == 0) {
    serve_readiness(connection);
  } else {
    serve_metrics(connection, query);
  }
}

static int is_one_of(const char *path, const char *a, const char *b, const char *c)
{
  return strcmp(path, a) == 0 || strcmp(path, b) == 0 || strcmp(path, c) == 0;
}

void http_serve(struct connection *connection)
{
  static const char sessions[] = "/v2/live/";
  char path[VC_HTTP_HEAD_MAX];
  const char *target = connection->request->head.target;
  size_t n = strcspn(target, "?");
  const char *query = target[n] == '?' ? target + n + 1 : "";
  memcpy(path, target, n);
  path[n] = '\0';
  room_count(connection->room, REQUESTS, 1);
  if (check_protected(connection) != 0) {
    return;
  }
  if (is_one_of(path, "/v2/live", "/v2/live/", "/v2/live")) {
    serve_live(connection, query);
  } else if (strncmp(path, sessions, sizeof sessions - 1) == 0) {
    serve_session(connection, path + sizeof sessions - 1);
  } else if (is_one_of(path, "/healthz", "/readyz", "/metrics")) {
    serve_plain(connection, path, query);
  } else {
    http_refuse(connection, 404, "no such path");
  }
}
