// /metrics as JSON, shaped as the node's.
#include "room.h"

#include <verbacast/wire/figures.h>

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
  vc_text_add(text, "{");
  vc_figures_print(room->settings.metrics, text);
  vc_text_add(text, ",\"sessions\":{");
  print_sessions(room, text);
  int64_t up_ms = vc_clock_unix_ms(room->settings.clock) - room->started_ms;
  vc_text_format(text,
                 "},\"node\":{\"engine\":\"%s\",\"sessions_max\":%u,\"uptime_s\":%.3f,"
                 "\"degraded\":",
                 room->engine->name, room->sessions_max, (double)up_ms / 1000);
  metrics_print_degraded(room, text);
  vc_text_add(text, "}}");
}
