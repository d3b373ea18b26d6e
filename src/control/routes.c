#include "room.h"

#include <verbacast/wire/viewer.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum method { GET = 1, POST = 2, DELETE = 4 };
enum asks { NOTHING, ADMIN, VIEWER };
enum depth { SHALLOW, DEEP, SLOW }; // SLOW: deep, and it may wait for the store

struct route {
  const char *path; // "*" stands for a slug
  unsigned methods;
  enum asks asks;
  enum depth depth;
  void (*handle)(struct call *call);
  size_t body_max; // 0: VC_FRONT_BODY_MAX
  // Before the body is read. Returns: 0, or an HTTP status and `why`. NULL: whoever came so far
  // may.
  int (*check)(const struct call *call, const char **why);
};

// A webhook about a room carries what the room is described with: LiveKit allows half a megabyte
// of that, and such a description is mostly JSON, whose quotes are escaped.
#define WEBHOOK_BODY_MAX ((size_t)1024 * 1024)

static void healthz_page(struct call *call);
static void readyz_page(struct call *call);
static int check_webhook(const struct call *call, const char **why);
static void webhook_page(struct call *call);

static const struct route routes[] = {
    {"/", GET, NOTHING, SHALLOW, static_page},
    {"/pages/", GET, NOTHING, SHALLOW, static_page},
    {"/dashboard", GET, ADMIN, SHALLOW, static_page},
    {"/healthz", GET, NOTHING, SHALLOW, healthz_page},
    {"/readyz", GET, NOTHING, DEEP, readyz_page},
    {"/metrics", GET, ADMIN, DEEP, metrics_page},
    {"/sessions", GET, ADMIN, DEEP, sessions_page},
    {"/sessions/*", DELETE, ADMIN, SLOW, erase_page},
    {"/sessions/*/", GET, VIEWER, SLOW, transcript_page},
    {"/admin/kick", POST, ADMIN, DEEP, kick_page},
    {"/livekit/webhook", POST, NOTHING, DEEP, webhook_page, WEBHOOK_BODY_MAX, check_webhook},
};

#define SILENT_MS 5000
#define STUCK_WHY_MAX (STUCK_NAME_MAX + 64)

static int find_among(const struct vc_stage *const *stages, size_t n, char name[STUCK_NAME_MAX])
{
  for (size_t i = 0; i < n; i++) {
    int stuck = stages[i] != NULL ? vc_stage_stuck_worker(stages[i], SILENT_MS) : -1;
    if (stuck >= 0) {
      snprintf(name, STUCK_NAME_MAX, "%s-%d", vc_stage_name(stages[i]), stuck);
      return 1;
    }
  }
  return 0;
}

static int find_another(const struct vc_control *control, char name[STUCK_NAME_MAX])
{
  const char *found = control->settings.stuck(control->settings.context, SILENT_MS);
  snprintf(name, STUCK_NAME_MAX, "%s", found != NULL ? found : "");
  return found != NULL;
}

static void say_stuck(char why[STUCK_WHY_MAX], const struct stuck *stuck)
{
  snprintf(why, STUCK_WHY_MAX, "worker %s has been silent for more than 5 s", stuck->name);
}

void find_stuck(struct vc_control *control, struct stuck *stuck)
{
  const struct vc_control_settings *settings = &control->settings;
  // Those of Redis never wait for it: where one hangs it is this node's own fault.
  const struct vc_stage *const serving[] = {
      settings->ingest,    settings->decode,    settings->stt,    settings->ledger,
      settings->broadcast, settings->publisher, settings->watcher};
  const struct vc_stage *const journal = settings->journal;
  char why[STUCK_WHY_MAX];
  stuck->is_in_the_way = find_among(serving, sizeof serving / sizeof *serving, stuck->name);
  if (!stuck->is_in_the_way && !find_among(&journal, 1, stuck->name) &&
      !find_another(control, stuck->name)) {
    vc_health_clear(settings->health, "stuck");
    return;
  }
  say_stuck(why, stuck);
  vc_health_set(settings->health, "stuck", why);
}

int wants(const struct call *call, const char *name)
{
  char value[8];
  return vc_request_query(call->request, name, value, sizeof value) == 1 && strcmp(value, "1") == 0;
}

static void healthz_page(struct call *call)
{
  struct stuck stuck;
  char why[STUCK_WHY_MAX];
  find_stuck(call->control, &stuck);
  if (stuck.name[0] != '\0') {
    say_stuck(why, &stuck);
    vc_respond_error(call->request, 503, why);
    return;
  }
  static const char ok[] = "{\"status\":\"ok\"}\n";
  vc_respond(call->request, 200, "application/json", "", ok, sizeof ok - 1);
}

// A balancer asks this page alone: a worker without which nobody is served is told here too, while
// what keeps the words degrades: its trouble may be that of all nodes. ?publish=1 is of those who
// would begin a session.
static void readyz_page(struct call *call)
{
  enum { DRAINING, STUCK, FULL, SERVING } what = SERVING;
  static const char *const texts[] = {"draining", "stuck", "full", "serving"};
  static const int statuses[] = {404, 503, 404, 200};
  const struct vc_control_settings *settings = &call->control->settings;
  const char *why = NULL;
  struct stuck stuck;
  find_stuck(call->control, &stuck);
  if (atomic_load_explicit(&call->control->is_draining, memory_order_relaxed)) {
    what = DRAINING;
  } else if (stuck.is_in_the_way) {
    what = STUCK;
  } else if (wants(call, "publish") &&
             (why = settings->publisher_refusal(settings->context)) != NULL) {
    what = FULL;
  }
  respond_json(call, statuses[what],
               json_pack("{s:s,s:s*,s:s*,s:o}", "status", texts[what], "worker",
                         what == STUCK ? stuck.name : NULL, "reason", why, "degraded",
                         degraded_list(call->control)));
}

// It is signed: nobody waits for the body of one who has not LiveKit's key, nor keeps it.
static int check_webhook(const struct call *call, const char **why)
{
  const struct vc_control_settings *settings = &call->control->settings;
  if (vc_request_is_larger(call->request, WEBHOOK_BODY_MAX)) {
    *why = "the body is too large";
    return 413;
  }
  if (settings->take_webhook == NULL) {
    *why = "webhooks cannot be verified: LIVEKIT_API_KEY and LIVEKIT_API_SECRET are not set";
    return 404;
  }
  const char *authorization = vc_request_header(call->request, "Authorization");
  int status = settings->take_webhook(settings->context, authorization, NULL, 0, why);
  return status != 200 ? status : 0;
}

// Its bytes are verified here, and understood elsewhere.
static void webhook_page(struct call *call)
{
  const struct vc_control_settings *settings = &call->control->settings;
  const char *authorization = vc_request_header(call->request, "Authorization");
  const char *why = "";
  int status =
      settings->take_webhook(settings->context, authorization, call->body, call->body_size, &why);
  if (status != 200) {
    vc_respond_error(call->request, status, why);
    return;
  }
  static const char ok[] = "{\"status\":\"ok\"}\n";
  vc_respond(call->request, 200, "application/json", "", ok, sizeof ok - 1);
}

// Returns: 1 when the path fits; then the call has the slug and what is behind it.
static int fits(const struct route *route, const char *path, struct call *call)
{
  const char *star = strchr(route->path, '*');
  size_t n = strlen(route->path);
  if (star == NULL) {
    // "/pages/" stands for all below it.
    return n > 1 && route->path[n - 1] == '/' ? strncmp(path, route->path, n) == 0
                                              : strcmp(path, route->path) == 0;
  }
  size_t before = (size_t)(star - route->path);
  if (strncmp(path, route->path, before) != 0) {
    return 0;
  }
  const char *slug = path + before;
  size_t size = strcspn(slug, "/");
  int has_rest = star[1] == '/';
  if ((slug[size] == '/') != has_rest || size == 0 || size > VC_SLUG_MAX) {
    return 0;
  }
  memcpy(call->slug, slug, size);
  call->slug[size] = '\0';
  call->rest = slug + size;
  return 1;
}

static unsigned method_of(const char *name)
{
  return strcmp(name, "GET") == 0 || strcmp(name, "HEAD") == 0 ? GET
         : strcmp(name, "POST") == 0                           ? POST
         : strcmp(name, "DELETE") == 0                         ? DELETE
                                                               : 0;
}

static int may_ask(const struct route *route, struct call *call, const char **why)
{
  if (route->asks == ADMIN) {
    return access_admin(call, why);
  }
  if (route->asks == VIEWER) {
    return access_viewer(call, why);
  }
  return route->check != NULL ? route->check(call, why) : 0;
}

static size_t body_max(const struct route *route)
{
  return route->body_max != 0 ? route->body_max : VC_FRONT_BODY_MAX;
}

static int read_body(struct call *call)
{
  return vc_request_body(call->request, body_max(call->route), &call->body, &call->body_size);
}

static void refuse_method(struct call *call, unsigned methods)
{
  char headers[64];
  snprintf(headers, sizeof headers, "Allow: %s%s%s%s%s\r\n", methods & GET ? "GET, HEAD" : "",
           methods & GET && methods & (POST | DELETE) ? ", " : "", methods & POST ? "POST" : "",
           methods & POST && methods & DELETE ? ", " : "", methods & DELETE ? "DELETE" : "");
  static const char body[] = "{\"error\":\"this method is not for this path\"}\n";
  vc_respond(call->request, 405, "application/json", headers, body, sizeof body - 1);
}

// What needs a deep stack: the token's check and the handler.
static void handle_deep(struct call *call)
{
  const struct route *found = call->route;
  const char *why = "";
  int status = may_ask(found, call, &why);
  if (status != 0) {
    vc_respond_error(call->request, status, why);
    return;
  }
  if (call->slug[0] != '\0' && !vc_slug_is_valid(call->slug, strlen(call->slug))) {
    vc_respond_error(call->request, 404, "this is no session's name");
    return;
  }
  if (method_of(call->request->method) != POST || read_body(call) == 0) {
    found->handle(call);
  }
  free(call->body);
}

// The operators' door has few workers, and a store that hangs must not have them all.
static int begin_slow(struct vc_control *control)
{
  pthread_mutex_lock(&control->mutex);
  int has_place = control->n_slow_at_admin < SLOW_AT_ADMIN_MAX;
  control->n_slow_at_admin += has_place;
  pthread_mutex_unlock(&control->mutex);
  if (!has_place) {
    vc_metric_add(control->slots, SLOW_REFUSED, 1);
  }
  return has_place ? 0 : -1;
}

static void end_slow(struct vc_control *control)
{
  pthread_mutex_lock(&control->mutex);
  control->n_slow_at_admin--;
  pthread_mutex_unlock(&control->mutex);
}

static void handle_on_thread(struct call *call)
{
  if (run_deep(handle_deep, call) != 0) {
    vc_respond_error(call->request, 503, "no thread for this request");
  }
}

static void handle_slow(struct call *call)
{
  if (call->door != ADMIN_DOOR) {
    handle_on_thread(call);
  } else if (begin_slow(call->control) == 0) {
    handle_on_thread(call);
    end_slow(call->control);
  } else {
    vc_respond_error(call->request, 503, "two transcripts or erasures are under way at this door");
  }
}

static void handle_call(struct call *call, const struct route *found)
{
  const char *why = "";
  unsigned method = method_of(call->request->method);
  int status = (method & (POST | DELETE)) != 0 ? access_origin(call, &why) : 0;
  if (status != 0) {
    vc_respond_error(call->request, status, why);
    return;
  }
  call->route = found;
  if (found->depth == SHALLOW && found->asks != VIEWER) {
    handle_deep(call); // it is not deep after all: no JSON, no token
  } else if (found->depth == SLOW) {
    handle_slow(call);
  } else {
    handle_on_thread(call);
  }
}

void route(struct vc_control *control, struct vc_request *request, enum door door)
{
  struct call call = {.control = control, .request = request, .door = door, .rest = ""};
  const char *why = "";
  unsigned method = method_of(request->method), allowed = 0;
  int status = access_admit(&call, &why);
  if (status != 0) {
    vc_respond_error(request, status, why);
    return;
  }
  for (size_t i = 0; i < sizeof routes / sizeof *routes; i++) {
    if (!fits(&routes[i], request->path, &call)) {
      continue;
    }
    if ((routes[i].methods & method) != 0) {
      handle_call(&call, &routes[i]);
      return;
    }
    allowed |= routes[i].methods;
  }
  if (allowed != 0) {
    refuse_method(&call, allowed);
  } else if (door == VIEWERS_DOOR && tracks_are_at(request->path)) {
    // A page asks here why its WebSocket was refused: it is told no other way.
    if (tracks_open(control, request) == 0) {
      vc_respond_error(request, 426, "this path is for WebSockets");
    }
  } else if (strncmp(request->path, "/live/", 6) == 0) {
    vc_respond_error(request, 426, "this path is for WebSockets");
  } else {
    vc_respond_error(request, 404, "there is nothing at this path");
  }
}

// --- WebSockets: /live/{slug}?since=

static void check_viewer(struct call *call)
{
  const char *why = "";
  int status = access_viewer(call, &why);
  if (status != 0) {
    vc_respond_error(call->request, status, why);
  }
}

static int parse_since(struct call *call, struct vc_position *since)
{
  char text[64];
  int found = vc_request_query(call->request, "since", text, sizeof text);
  *since = (struct vc_position){0};
  if (found == 0 || (found == 1 && text[0] == '\0')) {
    return 0;
  }
  return found == 1 ? vc_viewer_parse_since(text, &since->epoch, &since->seq) : -1;
}

// Answers where another session does not fit and this is one.
static void check_room_for_session(struct call *call)
{
  struct vc_query *query = ask_worker(call->control->ledger, call->control->settings.ledger,
                                      VC_QUERY_BEGAN, call->slug, 0);
  if (query == NULL || vc_query_status(query) != 200) {
    vc_respond_error(call->request, 503, "the node is full: too many sessions");
  }
  vc_query_unref(query);
}

static int refuse_socket(struct call *call, int status, const char *why)
{
  vc_respond_error(call->request, status, why);
  return 1;
}

int route_socket(struct vc_control *control, struct vc_request *request, char slug[],
                 struct vc_position *since)
{
  struct call call = {.control = control, .request = request, .door = VIEWERS_DOOR, .rest = ""};
  const char *why = "";
  static const struct route live = {"/live/*", GET, VIEWER, DEEP, NULL};
  int status = access_admit(&call, &why);
  if (status != 0) {
    return refuse_socket(&call, status, why);
  }
  if (!fits(&live, request->path, &call) || !vc_slug_is_valid(call.slug, strlen(call.slug))) {
    return refuse_socket(&call, 404, "WebSockets are served at /live/{session}");
  }
  status = access_origin(&call, &why);
  if (status != 0) {
    return refuse_socket(&call, status, why);
  }
  if (parse_since(&call, since) != 0) {
    return refuse_socket(&call, 400, "since is EPOCH.SEQ, two whole numbers");
  }
  if (access_asks_viewers(control)) {
    if (run_deep(check_viewer, &call) != 0) {
      return refuse_socket(&call, 503, "no thread for this request");
    }
    if (request->status != 0) {
      return 1;
    }
  }
  if (atomic_load_explicit(&control->refuses_viewers, memory_order_relaxed)) {
    return refuse_socket(&call, 503, "the node is draining");
  }
  int is_exempt = vc_limits_exempt(control->settings.proxies, &request->client);
  if (vc_limits_ask(control->settings.limits, &request->client, is_exempt) == 1) {
    return refuse_socket(&call, 503, "too many connections from this address");
  }
  if (!control->settings.has_room(control->settings.context)) {
    return refuse_socket(&call, 503, "the node is full");
  }
  if (!control->settings.has_room_for_session(control->settings.context)) {
    check_room_for_session(&call);
    if (request->status != 0) {
      return 1;
    }
  }
  memcpy(slug, call.slug, sizeof call.slug);
  return 0;
}
