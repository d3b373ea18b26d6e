// /metrics as JSON, shaped as the node's.
#include "room.h"

#include <math.h>
#include <stdio.h>

enum group { DISTRIBUTIONS, COUNTERS, GAUGES };

struct printing {
  struct vc_text *text;
  enum group wanted;
  int n;
};

static void print_distribution(struct vc_text *text, const struct vc_distribution *d)
{
  const struct {
    const char *name;
    double value;
  } rows[] = {{"avg", d->avg}, {"min", d->min}, {"max", d->max},
              {"p50", d->p50}, {"p95", d->p95}, {"p99", d->p99}};
  vc_text_format(text, "{\"count\":%llu,\"count_total\":%llu", (unsigned long long)d->count,
                 (unsigned long long)d->count_total);
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    vc_text_format(text, ",\"%s\":", rows[i].name);
    vc_text_json_number(text, rows[i].value, 3);
  }
  vc_text_add(text, "}");
}

static enum group group_of(enum vc_metric_kind kind)
{
  return kind == VC_METRIC_DISTRIBUTION ? DISTRIBUTIONS
         : kind == VC_METRIC_COUNTER    ? COUNTERS
                                        : GAUGES;
}

static void print_value(void *context, const struct vc_metric_value *value)
{
  struct printing *printing = context;
  enum group group = group_of(value->row->kind);
  if (group != printing->wanted) {
    return;
  }
  vc_text_add(printing->text, printing->n++ > 0 ? "," : "");
  vc_text_json_string(printing->text, value->row->name);
  vc_text_add(printing->text, ":");
  if (group == DISTRIBUTIONS) {
    print_distribution(printing->text, &value->distribution);
  } else {
    vc_text_format(printing->text, "%lld", (long long)value->number);
  }
}

static void print_group(struct room *room, struct vc_text *text, enum group wanted)
{
  struct printing printing = {.text = text, .wanted = wanted};
  vc_metrics_each(room->settings.metrics, print_value, &printing);
}

static void print_sessions(struct room *room, struct vc_text *text)
{
  int n = 0;
  for (struct session *session = room->sessions; session != NULL; session = session->hh.next) {
    if (session->stream != NULL) {
      vc_text_format(text,
                     "%s\"%s\":{\"connected\":%s,\"audio_s\":%.3f,\"backlog_s\":%.3f,"
                     "\"finals\":%u}",
                     n++ > 0 ? "," : "", session->id,
                     session->connection != NULL ? "true" : "false", session_duration_s(session),
                     stream_backlog_s(session->stream), session->n_finals);
    }
  }
}

void metrics_print_degraded(const struct room *room, struct vc_text *text)
{
  vc_text_add(text, "[");
  if (room->engine->is_fallback) {
    vc_text_format(text,
                   "{\"what\":\"engine\",\"since\":%lld.%03d,"
                   "\"reason\":\"the fallback engine makes many errors\"}",
                   (long long)(room->started_ms / 1000), (int)(room->started_ms % 1000));
  }
  vc_text_add(text, "]");
}

void metrics_print_json(struct room *room, struct vc_text *text)
{
  vc_text_add(text, "{\"latency\":{");
  print_group(room, text, DISTRIBUTIONS);
  vc_text_add(text, "},\"counters\":{");
  print_group(room, text, COUNTERS);
  vc_text_add(text, "},\"gauges\":{");
  print_group(room, text, GAUGES);
  vc_text_add(text, "},\"sessions\":{");
  print_sessions(room, text);
  int64_t up_ms = vc_clock_unix_ms(room->settings.clock) - room->started_ms;
  vc_text_format(text,
                 "},\"node\":{\"engine\":\"%s\",\"sessions_max\":%u,\"uptime_s\":%.3f,"
                 "\"degraded\":",
                 room->engine->name, room->sessions_max, (double)up_ms / 1000);
  metrics_print_degraded(room, text);
  vc_text_add(text, "}}");
}
