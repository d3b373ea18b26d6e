#include "room.h"

#include <verbacast/base/log.h>
#include <verbacast/wire/json.h>
#include <verbacast/wire/lag.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SESSIONS_MAX 1000

const struct vc_metric vc_control_metrics[] = {
    [LOST_SOCKETS] = {"http.lost_sockets_total", VC_METRIC_COUNTER, "connections",
                      "WebSockets whose connection could not be taken over from the front."},
    [BAD_REQUESTS] = {"http.bad_requests_total", VC_METRIC_COUNTER, "requests",
                      "Requests with a malformed or too large head."},
    [TOKENS_REFUSED] = {"http.token_refused_total", VC_METRIC_COUNTER, "requests",
                        "Viewers and requests for transcripts without a token, or with one that "
                        "does not fit."},
    [TRANSCRIPTS_REFUSED] = {"http.transcripts_refused_total", VC_METRIC_COUNTER, "requests",
                             "Transcripts not given because too many were asked for at once."},
    [SLOW_REFUSED] = {"http.slow_refused_total", VC_METRIC_COUNTER, "requests",
                      "Transcripts and erasures refused at ADMIN_LISTEN because two of them were "
                      "under way there."},
    [FLEET_REFUSED] =
        {"http.fleet_refused_total", VC_METRIC_COUNTER, "requests",
         "Lists of all nodes' sessions not given because they are more than 16 MiB, or "
         "one node's more than 4 MiB."},
    [LOG_DROPPED] = {"log.dropped_total", VC_METRIC_COUNTER, "lines",
                     "Log lines that nobody took in time."},
    VC_METRIC_ROWS_END,
};

struct page {
  json_t *latency, *counters, *gauges;
};

static json_t *number_or_null(double number)
{
  return isfinite(number) ? json_real(number) : json_null();
}

static json_t *distribution_json(const struct vc_distribution *d)
{
  return json_pack("{s:I,s:o,s:o,s:o,s:o,s:o,s:o,s:I}", "count", (json_int_t)d->count, "avg",
                   number_or_null(d->avg), "min", number_or_null(d->min), "max",
                   number_or_null(d->max), "p50", number_or_null(d->p50), "p95",
                   number_or_null(d->p95), "p99", number_or_null(d->p99), "count_total",
                   (json_int_t)d->count_total);
}

static void add_metric(void *context, const struct vc_metric_value *value)
{
  struct page *page = context;
  if (value->row->kind == VC_METRIC_DISTRIBUTION) {
    json_object_set_new(page->latency, value->row->name, distribution_json(&value->distribution));
  } else {
    json_object_set_new(value->row->kind == VC_METRIC_COUNTER ? page->counters : page->gauges,
                        value->row->name, json_integer(value->number));
  }
}

// What the workers say of a session, added up.
static void add_session(json_t *sessions, json_t *latency, const char *slug, const json_t *parts,
                        const char *state)
{
  struct vc_lag_sum sum = {0};
  struct vc_distribution lag;
  long long clients = 0, queue_size = 0;
  size_t i;
  json_t *part;
  json_array_foreach((json_t *)parts, i, part)
  {
    long long largest = vc_json_integer(part, "queue_size", 0);
    clients += vc_json_integer(part, "clients", 0);
    queue_size = largest > queue_size ? largest : queue_size;
    vc_lag_sum_add(&sum, json_object_get(part, "lag"));
  }
  vc_lag_sum_get(&sum, &lag);
  json_object_set_new(sessions, slug,
                      json_pack("{s:I,s:I,s:o,s:s}", "clients", (json_int_t)clients, "queue_size",
                                (json_int_t)queue_size, "broadcast_lag_ms", number_or_null(lag.avg),
                                "state", state));
  if (lag.count_total > 0) {
    char name[VC_SLUG_MAX + 40];
    snprintf(name, sizeof name, "ws.session_broadcast_lag_ms.%s", slug);
    json_object_set_new(latency, name, distribution_json(&lag));
  }
}

static int is_live(const char *state)
{
  return strcmp(state, "live") == 0 || strcmp(state, "reconnecting") == 0 ||
         strcmp(state, "stt_down") == 0;
}

// The live ones, at most SESSIONS_MAX. Returns NULL when the stages did not answer.
static json_t *sessions_json(struct vc_control *control, json_t *latency)
{
  struct vc_query *query =
      ask_worker(control->ledger, control->settings.ledger, VC_QUERY_SESSIONS, "", 0);
  struct vc_buffer *reply = query != NULL ? vc_query_reply(query) : NULL;
  json_t *list = reply != NULL ? vc_json_parse((const char *)reply->data, reply->size, NULL) : NULL;
  json_t *viewers = ask_all(control->broadcast, control->settings.broadcast, VC_QUERY_VIEWERS);
  json_t *sessions = list != NULL && viewers != NULL ? json_object() : NULL;
  size_t i;
  json_t *row;
  json_array_foreach(list, i, row)
  {
    const char *slug = vc_json_string(row, "slug", "");
    const char *state = vc_json_string(row, "state", "");
    if (sessions != NULL && is_live(state) && json_object_size(sessions) < SESSIONS_MAX) {
      add_session(sessions, latency, slug, json_object_get(viewers, slug), state);
    }
  }
  json_decref(list);
  json_decref(viewers);
  vc_query_unref(query);
  return sessions;
}

json_t *degraded_list(struct vc_control *control)
{
  struct vc_condition conditions[VC_HEALTH_MAX];
  size_t n = vc_health_list(control->settings.health, conditions);
  json_t *list = json_array();
  for (size_t i = 0; i < n; i++) {
    json_array_append_new(list, json_pack("{s:s,s:f,s:s}", "what", conditions[i].what, "since",
                                          (double)conditions[i].since_unix_ms / 1000, "reason",
                                          conditions[i].reason));
  }
  return list;
}

static json_t *node_json(struct vc_control *control)
{
  const struct vc_control_settings *settings = &control->settings;
  double up_s = (double)(vc_clock_unix_ms(settings->clock) - control->started_ms) / 1000;
  return json_pack("{s:s,s:s,s:f,s:o}", "id", settings->node, "version", settings->version,
                   "uptime_s", up_s, "degraded", degraded_list(control));
}

static void take_doors(const struct vc_control *control)
{
  uint64_t n_bad = vc_front_bad_requests(control->viewers) + vc_front_bad_requests(control->admin);
  vc_metric_set(control->slots, BAD_REQUESTS, (int64_t)n_bad);
  vc_metric_set(control->slots, LOST_SOCKETS, (int64_t)vc_front_lost_sockets(control->viewers));
}

// What the doors and the log count by themselves goes into the table before it is read.
static void take_counts(struct vc_control *control)
{
  vc_metric_set(control->slots, LOG_DROPPED, (int64_t)vc_log_dropped());
  pthread_mutex_lock(&control->mutex);
  if (control->viewers != NULL && control->admin != NULL) {
    take_doors(control);
  }
  pthread_mutex_unlock(&control->mutex);
}

static void json_page(struct call *call)
{
  struct vc_control *control = call->control;
  struct page page = {json_object(), json_object(), json_object()};
  vc_metrics_each(control->settings.metrics, add_metric, &page);
  json_t *sessions = sessions_json(control, page.latency);
  if (sessions == NULL) {
    json_decref(page.latency);
    json_decref(page.counters);
    json_decref(page.gauges);
    vc_respond_error(call->request, 503, TOO_BUSY);
    return;
  }
  respond_json(call, 200,
               json_pack("{s:o,s:o,s:o,s:o,s:o}", "latency", page.latency, "counters",
                         page.counters, "gauges", page.gauges, "sessions", sessions, "node",
                         node_json(control)));
}

static void print_sessions(struct vc_control *control, FILE *out)
{
  json_t *latency = json_object();
  json_t *sessions = sessions_json(control, latency);
  const char *slug;
  json_t *session;
  fputs("# HELP verbacast_session_clients Viewers of a live session.\n"
        "# TYPE verbacast_session_clients gauge\n",
        out);
  json_object_foreach(sessions, slug, session)
  {
    fprintf(out, "verbacast_session_clients{session=\"%s\"} %lld\n", slug,
            vc_json_integer(session, "clients", 0));
  }
  fputs("# HELP verbacast_session_broadcast_lag_ms Average wait of a message before it is sent.\n"
        "# TYPE verbacast_session_broadcast_lag_ms gauge\n",
        out);
  json_object_foreach(sessions, slug, session)
  {
    const json_t *lag = json_object_get(session, "broadcast_lag_ms");
    if (json_is_number(lag)) {
      fprintf(out, "verbacast_session_broadcast_lag_ms{session=\"%s\"} %g\n", slug,
              json_number_value(lag));
    }
  }
  json_decref(sessions);
  json_decref(latency);
}

static void print_state(const struct vc_control *control, const struct stuck *stuck, FILE *out)
{
  vc_program_state_print_prometheus(
      &(struct vc_program_state){
          .stuck = stuck->name[0] != '\0' ? stuck->name : NULL,
          .is_draining = atomic_load_explicit(&control->is_draining, memory_order_relaxed),
          .node = control->settings.node,
          .version = control->settings.version},
      out);
}

static void prometheus_page(struct call *call, const struct stuck *stuck)
{
  struct vc_control *control = call->control;
  char *text = NULL;
  size_t size = 0;
  FILE *out = open_memstream(&text, &size);
  if (out == NULL) {
    vc_respond_error(call->request, 503, "no memory");
    return;
  }
  vc_metrics_print_prometheus(control->settings.metrics, out);
  vc_health_print_prometheus(control->settings.health, out);
  print_state(control, stuck, out);
  if (control->settings.options->metrics_per_session) {
    print_sessions(control, out);
  }
  if (fclose(out) == 0) {
    vc_respond(call->request, 200, "text/plain; version=0.0.4; charset=utf-8", "", text, size);
  } else {
    vc_respond_error(call->request, 503, "no memory");
  }
  free(text);
}

void metrics_page(struct call *call)
{
  struct stuck stuck;
  take_counts(call->control);
  find_stuck(call->control, &stuck);
  if (vc_request_wants_prometheus(call->request)) {
    prometheus_page(call, &stuck);
  } else {
    json_page(call);
  }
}
