#include "sink_door.h"

#include <verbacast/base/log.h>
#include <verbacast/net/front.h>
#include <verbacast/wire/figures.h>

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WORKERS 4
#define SILENT_MS 5000

enum { BAD_REQUESTS, LOG_DROPPED };
const struct vc_metric sink_door_metrics[] = {
    [BAD_REQUESTS] = {"http.bad_requests_total", VC_METRIC_COUNTER, "requests",
                      "Requests with a malformed or too large head."},
    [LOG_DROPPED] = {"log.dropped_total", VC_METRIC_COUNTER, "lines",
                     "Log lines that nobody took in time."},
    VC_METRIC_ROWS_END,
};

struct sink_door {
  /* set before start, then read-only */
  struct sink_door_settings settings;
  struct vc_networks proxies; // none
  struct vc_slots *slots;
  int64_t started_ms;
  struct vc_front *front;
  /* any thread, atomic */
  _Atomic int is_draining; // a flag that nothing else depends on
};

// --- pages

static void respond_json(struct vc_request *request, int status, struct vc_text *text)
{
  if (text->has_failed) {
    vc_respond_error(request, 503, "no memory");
  } else {
    vc_respond(request, status, "application/json", "", text->at, text->size);
  }
  vc_text_fini(text);
}

static void healthz_page(struct sink_door *door, struct vc_request *request)
{
  static const char ok[] = "{\"status\":\"ok\"}\n";
  if (sink_is_stuck(door->settings.sink, SILENT_MS)) {
    vc_respond_error(request, 503, "thread sink has been silent for more than 5 s");
  } else {
    vc_respond(request, 200, "application/json", "", ok, sizeof ok - 1);
  }
}

static void readyz_page(struct sink_door *door, struct vc_request *request)
{
  struct vc_text text = {0};
  int is_draining = atomic_load_explicit(&door->is_draining, memory_order_relaxed);
  vc_text_format(&text, "{\"status\":\"%s\",\"degraded\":", is_draining ? "draining" : "serving");
  vc_health_print(door->settings.health, &text);
  vc_text_add(&text, "}\n");
  respond_json(request, is_draining ? 404 : 200, &text);
}

static void json_page(struct sink_door *door, struct vc_request *request)
{
  const struct sink_door_settings *settings = &door->settings;
  struct vc_text text = {0};
  int64_t up_ms = vc_clock_unix_ms(settings->clock) - door->started_ms;
  vc_text_add(&text, "{");
  vc_figures_print(settings->metrics, &text);
  vc_text_add(&text, ",\"node\":{\"id\":");
  vc_text_json_string(&text, settings->node);
  vc_text_format(&text, ",\"version\":\"%s\",\"uptime_s\":%.3f,\"degraded\":", VC_VERSION,
                 (double)up_ms / 1000);
  vc_health_print(settings->health, &text);
  vc_text_add(&text, "}}\n");
  respond_json(request, 200, &text);
}

static void prometheus_page(struct sink_door *door, struct vc_request *request)
{
  char *text = NULL;
  size_t size = 0;
  FILE *out = open_memstream(&text, &size);
  if (out == NULL) {
    vc_respond_error(request, 503, "no memory");
    return;
  }
  vc_metrics_print_prometheus(door->settings.metrics, out);
  vc_health_print_prometheus(door->settings.health, out);
  vc_program_state_print_prometheus(
      &(struct vc_program_state){
          .stuck = sink_is_stuck(door->settings.sink, SILENT_MS) ? "sink" : NULL,
          .is_draining = atomic_load_explicit(&door->is_draining, memory_order_relaxed),
          .node = door->settings.node,
          .version = VC_VERSION},
      out);
  if (fclose(out) == 0) {
    vc_respond(request, 200, "text/plain; version=0.0.4; charset=utf-8", "", text, size);
  } else {
    vc_respond_error(request, 503, "no memory");
  }
  free(text);
}

static void metrics_page(struct sink_door *door, struct vc_request *request)
{
  vc_metric_set(door->slots, LOG_DROPPED, (int64_t)vc_log_dropped());
  vc_metric_set(door->slots, BAD_REQUESTS, (int64_t)vc_front_bad_requests(door->front));
  if (vc_request_wants_prometheus(request)) {
    prometheus_page(door, request);
  } else {
    json_page(door, request);
  }
}

// --- who may ask

static const struct page {
  const char *path;
  int is_open; // for whoever gets as far as the door
  void (*show)(struct sink_door *door, struct vc_request *request);
} pages[] = {
    {"/healthz", 1, healthz_page},
    {"/readyz", 1, readyz_page},
    {"/metrics", 0, metrics_page},
};

// Protected mode: without its token the door serves this machine only, whatever stands before it.
static int admit(const struct sink_options *options, const struct vc_request *request)
{
  return options->insecure || vc_secret_is_set(options->admin_token) || vc_request_is_near(request);
}

// Returns: NULL, or what to say to who may not.
static const char *refusal(const struct sink_options *options, const struct vc_request *request)
{
  const char *token = vc_request_bearer(request);
  if (token != NULL && vc_secret_is_set(options->admin_token)) {
    return vc_secret_matches(options->admin_token, token, strlen(token))
               ? NULL
               : "the Bearer token is not ADMIN_TOKEN";
  }
  return options->insecure || vc_request_is_near(request)
             ? NULL
             : "this needs ADMIN_TOKEN as a Bearer token";
}

static void show(struct sink_door *door, const struct page *page, struct vc_request *request)
{
  static const char body[] = "{\"error\":\"this method is not for this path\"}\n";
  if (strcmp(request->method, "GET") != 0 && strcmp(request->method, "HEAD") != 0) {
    vc_respond(request, 405, "application/json", "Allow: GET, HEAD\r\n", body, sizeof body - 1);
    return;
  }
  const char *why = page->is_open ? NULL : refusal(door->settings.options, request);
  if (why != NULL) {
    vc_respond_error(request, 401, why);
  } else {
    page->show(door, request);
  }
}

static void handle(void *context, struct vc_request *request)
{
  struct sink_door *door = context;
  if (!admit(door->settings.options, request)) {
    vc_respond_error(request, 403,
                     "this sink is not protected: behind a proxy or under a public name it needs "
                     "ADMIN_TOKEN, or --insecure");
    return;
  }
  for (size_t i = 0; i < sizeof pages / sizeof *pages; i++) {
    if (strcmp(request->path, pages[i].path) == 0) {
      show(door, &pages[i], request);
      return;
    }
  }
  vc_respond_error(request, 404, "there is nothing at this path");
}

// --- life

int sink_door_open(struct sink_door **door_out, struct vc_address *bound,
                   const struct sink_door_settings *settings, struct vc_error *error)
{
  struct sink_door *door = calloc(1, sizeof *door);
  if (door == NULL) {
    return vc_error_set(error, "no memory");
  }
  door->settings = *settings;
  door->started_ms = vc_clock_unix_ms(settings->clock);
  door->slots = vc_metrics_slots_create(settings->metrics, sink_door_metrics);
  const struct vc_front_settings front = {.listen = settings->options->sink_listen,
                                          .n_workers = WORKERS,
                                          .proxies = &door->proxies,
                                          .handle = handle,
                                          .context = door};
  if (vc_front_start(&door->front, bound, &front, error) != 0) {
    sink_door_close(&door);
    return -1;
  }
  *door_out = door;
  return 0;
}

void sink_door_drain(struct sink_door *door)
{
  atomic_store_explicit(&door->is_draining, 1, memory_order_relaxed);
}

void sink_door_close(struct sink_door **door)
{
  if (*door != NULL) {
    if ((*door)->front != NULL) {
      vc_front_stop(&(*door)->front);
    }
    free(*door);
    *door = NULL;
  }
}
