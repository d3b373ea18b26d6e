#include <string.h>

#include "room.h"

#define PREFIX_MAX 64

static int check_url(const char *value, struct vc_error *error)
{
  struct redis_address address;
  return value[0] == '\0' ? 0 : redis_address_parse(value, &address, error);
}

static int check_prefix(const char *value, struct vc_error *error)
{
  for (const char *c = value; *c != '\0'; c++) {
    if (*c <= ' ' || *c > '~') {
      return vc_error_set(error, "has a byte that is no printable ASCII");
    }
  }
  return strlen(value) <= PREFIX_MAX ? 0
                                     : vc_error_set(error, "is longer than %d bytes", PREFIX_MAX);
}

#define FIELD(name) offsetof(struct vc_redis_options, name)
const struct vc_option vc_redis_option_rows[] = {
    {"REDIS_URL", VC_OPTION_HIDDEN, FIELD(redis_url), "",
     "redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE], unix:PATH, @file with one of them, or "
     "empty "
     "for none",
     .check = check_url,
     .help = "Set: nodes share sessions, so that any serves the viewers of any (docs/fleet.md)."},
    {"REDIS_PREFIX", VC_OPTION_TEXT, FIELD(redis_prefix), "vc:", "at most 64 bytes of ASCII",
     .check = check_prefix,
     .help = "What all keys and channels begin with: a fleet each, where several share a Redis."},
    VC_OPTION_ROWS_END,
};

const struct vc_metric vc_redis_metrics[] = {
    [KEPT] = {"redis.kept_total", VC_METRIC_COUNTER, "messages",
              "Messages written into a session's stream and published."},
    [FLEETING] = {"redis.partials_total", VC_METRIC_COUNTER, "messages",
                  "Partials and retracts published, which no stream keeps."},
    [REPEATED] = {"redis.repeated_total", VC_METRIC_COUNTER, "messages",
                  "Messages given again that the stream had already."},
    [DROPPED] =
        {"redis.dropped_total", VC_METRIC_COUNTER, "messages",
         "Messages not published when they came: Redis is away, refuses or is behind. Those "
         "that are kept are asked for afterwards."},
    [HOLES] = {"redis.holes_total", VC_METRIC_COUNTER, "times",
               "Times that a stream lacked what comes before a message."},
    [ASKED] = {"redis.asked_total", VC_METRIC_COUNTER, "times",
               "Times that the ledger was asked for what a stream lacks."},
    [FENCED] = {"redis.fenced_total", VC_METRIC_COUNTER, "times",
                "Times that an epoch of ours was refused for a newer one, or for others' word."},
    [GIVEN_UP] =
        {"redis.given_up_total", VC_METRIC_COUNTER, "sessions",
         "Sessions that ended here while others spoke for us, and lack what we said last."},
    [TAKEN] = {"redis.taken_total", VC_METRIC_COUNTER, "times",
               "Times that a session of ours was found to be another node's."},
    [CLAIMS] = {"redis.claims_total", VC_METRIC_COUNTER, "claims",
                "Sessions claimed for this node."},
    [ORPHANS] = {"redis.orphans_total", VC_METRIC_COUNTER, "messages",
                 "Statuses and ends said for a node that is gone, or by it when it is back."},
    [OWNED] = {"redis.owned", VC_METRIC_GAUGE, "sessions",
               "Sessions that this node publishes, or has not yet let go."},
    [BEHIND] = {"redis.behind", VC_METRIC_GAUGE, "sessions",
                "Sessions whose stream lacks something that is known here."},
    [PUBLISH_MS] = {"redis.publish_ms", VC_METRIC_DISTRIBUTION, "ms",
                    "From a message that is kept to the answer that Redis has it."},
    [CONNECTS] = {"redis.connects_total", VC_METRIC_COUNTER, "connections",
                  "Connections made; three are in use at a time."},
    [CONNECT_ERRORS] = {"redis.connect_errors_total", VC_METRIC_COUNTER, "tries",
                        "Connections that could not be made, or to a Redis that refused us."},
    [DISCONNECTS] = {"redis.disconnects_total", VC_METRIC_COUNTER, "connections",
                     "Connections that broke or were given up."},
    [UP] = {"redis.connections", VC_METRIC_GAUGE, "connections", "Connections in use."},
    [UNANSWERED] = {"redis.unanswered", VC_METRIC_GAUGE, "commands",
                    "Commands of the publishing connection without an answer yet."},
    [UNSENT_BYTES] = {"redis.unsent_bytes", VC_METRIC_GAUGE, "bytes",
                      "Commands of the publishing connection that its socket did not take yet."},
    [LINK_FULL] = {"redis.full_total", VC_METRIC_COUNTER, "commands",
                   "Commands not given to a connection, because too much waits there."},
    [PING_MS] = {"redis.ping_ms", VC_METRIC_DISTRIBUTION, "ms",
                 "From a PING, each 0.5 s on every connection, to its answer."},
    [ERRORS_OOM] = {"redis.errors_oom_total", VC_METRIC_COUNTER, "errors",
                    "Commands refused because Redis' maxmemory is used up."},
    [ERRORS_READONLY] = {"redis.errors_readonly_total", VC_METRIC_COUNTER, "errors",
                         "Commands refused because this Redis is a replica."},
    [ERRORS_LOADING] = {"redis.errors_loading_total", VC_METRIC_COUNTER, "errors",
                        "Commands refused because Redis still loads its data."},
    [ERRORS_MISCONF] = {"redis.errors_misconf_total", VC_METRIC_COUNTER, "errors",
                        "Commands refused because Redis cannot save to its disk."},
    [ERRORS_AUTH] = {"redis.errors_auth_total", VC_METRIC_COUNTER, "errors",
                     "Commands refused for want of a password or a permission."},
    [ERRORS_BUSY] = {"redis.errors_busy_total", VC_METRIC_COUNTER, "errors",
                     "Commands refused because a script runs for too long."},
    [ERRORS_NOSCRIPT] = {"redis.errors_noscript_total", VC_METRIC_COUNTER, "errors",
                         "Scripts that Redis had forgotten; they are loaded again."},
    [ERRORS_OTHER] = {"redis.errors_other_total", VC_METRIC_COUNTER, "errors",
                      "Commands refused for another reason."},
    [WATCHED] = {"redis.watched", VC_METRIC_GAUGE, "sessions",
                 "Sessions of other nodes that viewers of this one watch."},
    [SUBSCRIPTIONS] = {"redis.subscriptions", VC_METRIC_GAUGE, "channels",
                       "Channels of sessions that Redis has confirmed."},
    [SUBSCRIPTIONS_REFUSED] = {"redis.subscriptions_refused_total", VC_METRIC_COUNTER, "times",
                               "Times that Redis refused a channel; it is asked for again."},
    [RECEIVED] = {"redis.received_total", VC_METRIC_COUNTER, "messages",
                  "Messages of watched sessions that came live."},
    [READS] =
        {"redis.reads_total", VC_METRIC_COUNTER, "reads",
         "Streams read: to begin with, after a connection was lost, and for what is missing."},
    [READ_ENTRIES] = {"redis.read_entries_total", VC_METRIC_COUNTER, "messages",
                      "Messages that came from streams."},
    [FILL_MS] = {"redis.fill_ms", VC_METRIC_DISTRIBUTION, "ms",
                 "From a session being watched to all that its stream holds being given."},
    [HELD] = {"redis.held_total", VC_METRIC_COUNTER, "messages",
              "Live messages held because something before them was missing."},
    [CUT] = {"redis.held_dropped_total", VC_METRIC_COUNTER, "messages",
             "Held messages dropped because 500 were held; those that are kept are read again."},
    [GAPS] = {"redis.gaps_total", VC_METRIC_COUNTER, "gaps",
              "Times that messages of another node were lost for good, which viewers are told."},
    [OVERLAPS] = {"redis.overlaps_total", VC_METRIC_COUNTER, "messages",
                  "Messages that had come before: channel and stream overlap."},
    [STALE] = {"redis.stale_total", VC_METRIC_COUNTER, "messages",
               "Messages of an older epoch than the one that is shown."},
    [UNKNOWN_TYPES] =
        {"redis.newer_total", VC_METRIC_COUNTER, "messages",
         "Messages of a version or type that this program does not know, passed over."},
    [MALFORMED] = {"redis.malformed_total", VC_METRIC_COUNTER, "messages",
                   "What was found in Redis and is none of ours, passed over."},
    [CLAIM_TIME_MS] = {"redis.claim_ms", VC_METRIC_DISTRIBUTION, "ms",
                       "From a session being claimed to the epoch it goes on in."},
    [CLAIMS_LATE] = {"redis.claims_late_total", VC_METRIC_COUNTER, "claims",
                     "Claims that Redis did not answer in time: the node went on by itself."},
    [LEDGER_FULL] = {"redis.ledger_full_total", VC_METRIC_COUNTER, "times",
                     "Times that nothing was read from Redis because the ledger was behind."},
    [WATCH_OUT_OF_MEMORY] = {"redis.out_of_memory_total", VC_METRIC_COUNTER, "failures",
                             "Allocations that failed while other nodes were heard."},
    VC_METRIC_ROWS_END,
};

int vc_redis_check(const struct vc_redis_options *options, struct vc_error *error)
{
  struct vc_error why;
  if (check_url(options->redis_url, &why) != 0) {
    return vc_error_set(error, "REDIS_URL %s", why.text);
  }
  return 0;
}
