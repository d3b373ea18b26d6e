// Options and metrics: in a file of their own, so that the program that prints the documents needs
// no more of the room.
#include "rows.h"

#include <verbacast/sttd.h>

#include <stddef.h>

static int check_listen(const char *value, struct vc_error *error)
{
  struct vc_address address;
  return vc_listen_parse(value, &address, error);
}

#define FIELD(name) offsetof(struct vc_sttd_options, name)
const struct vc_option vc_sttd_option_rows[] = {
    {"STT_LISTEN", VC_OPTION_TEXT, FIELD(listen), "127.0.0.1:4100", "HOST:PORT",
     .check = check_listen, .help = "Where clients connect: http://HOST:PORT/v2/live."},
    {"STT_ENGINE", VC_OPTION_CHOICE, FIELD(engine), "auto", .choices = "auto,sherpa,pocketsphinx",
     .help = "The speech engine; auto takes the best one that is there."},
    {"STT_MODEL", VC_OPTION_TEXT, FIELD(model), "", "a folder",
     .help = "The engine's model; empty: the one that was fetched or installed."},
    {"STT_MAX_SESSIONS", VC_OPTION_INTEGER, FIELD(max_sessions), "0", "sessions", 0, 10000,
     .help = "Sessions at a time, more are refused with 429; 0: 4 a core."},
    {"STT_API_KEYS", VC_OPTION_SECRET, FIELD(api_keys),
     .help =
         "Comma list of the keys that are taken as x-gladia-key; empty: any, on loopback only."},
    VC_OPTION_ROWS_END,
};

#define COUNTER(name, unit, help)                                                                  \
  {                                                                                                \
    name, VC_METRIC_COUNTER, unit, help                                                            \
  }
const struct vc_metric vc_sttd_metrics[] = {
    [CONNECTIONS_TOTAL] = COUNTER("sttd.connections_total", "connections", "Connections accepted."),
    [CONNECTIONS] = {"sttd.connections", VC_METRIC_GAUGE, "connections", "Connections open."},
    [CONNECTIONS_REFUSED] = COUNTER("sttd.connections_refused_total", "connections",
                                    "Connections refused because too many were open."),
    [REQUESTS] = COUNTER("sttd.requests_total", "requests", "HTTP requests."),
    [REQUESTS_REFUSED] =
        COUNTER("sttd.requests_refused_total", "requests", "HTTP requests answered with an error."),
    [TIMEOUTS] = COUNTER("sttd.timeouts_total", "connections",
                         "Connections whose request or input did not come in time."),
    [PROTOCOL_ERRORS] = COUNTER("sttd.protocol_errors_total", "messages",
                                "WebSocket frames and messages that were malformed or unexpected."),
    [SESSIONS_TOTAL] = COUNTER("sttd.sessions_total", "sessions", "Sessions begun."),
    [SESSIONS] = {"sttd.sessions", VC_METRIC_GAUGE, "sessions", "Sessions that are not over."},
    [SESSIONS_REFUSED] =
        COUNTER("sttd.sessions_refused_total", "sessions", "Sessions refused at STT_MAX_SESSIONS."),
    [SESSIONS_RESUMED] = COUNTER("sttd.sessions_resumed_total", "sessions",
                                 "Connections that took a session up again."),
    [SESSIONS_EXPIRED] = COUNTER("sttd.sessions_expired_total", "sessions",
                                 "Sessions that ended because no connection came in 60 s."),
    [AUDIO_BYTES] = COUNTER("sttd.audio_bytes_total", "bytes", "Sound taken."),
    [PAUSES] = COUNTER("sttd.pauses_total", "messages",
                       "Audio messages that waited for room: sent faster than they were heard."),
    [MESSAGES] = COUNTER("sttd.messages_total", "messages", "WebSocket messages sent."),
    [PARTIALS_DROPPED] = COUNTER("sttd.partials_dropped_total", "messages",
                                 "Partials left out because the client did not read."),
    [HELD_DROPPED] = COUNTER("sttd.held_dropped_total", "messages",
                             "Finals lost: more than 1 MiB for a client that was away, or no "
                             "memory."),
    [RESULTS_CUT] = COUNTER("sttd.results_cut_total", "utterances",
                            "Finals left out of a session's result beyond 1 MiB."),
    [ACCEPT_RESTS] =
        COUNTER("sttd.accept_rests_total", "rests",
                "Times no connection was taken for 100 ms: there was no descriptor for one."),
    VC_METRIC_ROWS_END,
};

const struct vc_metric vc_sttd_pool_metrics[] = {
    [PARTIALS] = {"sttd.partials_total", VC_METRIC_COUNTER, "utterances", "Partials decoded."},
    [FINALS] = {"sttd.finals_total", VC_METRIC_COUNTER, "utterances", "Finals decoded."},
    [COALESCED] = {"sttd.partials_coalesced_total", VC_METRIC_COUNTER, "utterances",
                   "Partials replaced by a later one before they were sent."},
    [EMPTY] = {"sttd.empty_total", VC_METRIC_COUNTER, "decodes",
               "Decodes of a voice in which no words were found."},
    [CIRCLES] = {"sttd.circles_total", VC_METRIC_COUNTER, "decodes",
                 "Decodes in which the model said one phrase again and again: another took "
                 "its place, or the final tells it four times."},
    [CONTEXTS_LOST] = {"sttd.contexts_lost_total", VC_METRIC_COUNTER, "decodes",
                       "Finals after a cut that were heard without what was said before the cut, "
                       "because with it that was heard otherwise than it had been told."},
    [FAILURES] = {"sttd.engine_failures_total", VC_METRIC_COUNTER, "failures",
                  "Decodes or streams that the engine failed."},
    [PARTIAL_MS] = {"sttd.decode_ms.partial", VC_METRIC_DISTRIBUTION, "ms",
                    "Time that the decoding of a partial took."},
    [FINAL_MS] = {"sttd.decode_ms.final", VC_METRIC_DISTRIBUTION, "ms",
                  "Time that the decoding of a final took."},
    [PARTIAL_DELAY_MS] = {"sttd.delay_ms.partial", VC_METRIC_DISTRIBUTION, "ms",
                          "From the arrival of the last sample of a partial to its words."},
    [FINAL_DELAY_MS] = {"sttd.delay_ms.final", VC_METRIC_DISTRIBUTION, "ms",
                        "From the arrival of the voice's last sample to the final's words; the "
                        "silence that ends an utterance is part of it."},
    [HEARD_MS] = {"sttd.heard_ms_total", VC_METRIC_COUNTER, "ms", "Sound that was heard."},
    VC_METRIC_ROWS_END,
};
