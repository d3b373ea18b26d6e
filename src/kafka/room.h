// What the files of this room know of each other.
#pragma once

#include <librdkafka/rdkafka.h>

#include <pthread.h>

#include <verbacast/base/log.h>
#include <verbacast/kafka.h>

// --- config.c

struct kafka_setting {
  const char *key, *value;
};
// `ours` give way to KAFKA_CONFIG, `fixed` do not; both end with a NULL key. NULL brokers: none.
// Gives: a configuration for rd_kafka_new, or NULL and the error.
rd_kafka_conf_t *kafka_conf_create(const struct vc_kafka_options *options, const char *brokers,
                                   const struct kafka_setting *ours,
                                   const struct kafka_setting *fixed, struct vc_error *error);
int kafka_conf_set(rd_kafka_conf_t *conf, const char *key, const char *value,
                   struct vc_error *error);
// Takes the configuration. The threads of the client get no signals.
rd_kafka_t *kafka_new(rd_kafka_type_t type, rd_kafka_conf_t *conf, struct vc_error *error);
// Returns: what librdkafka said, without the one setting that it quotes and that may be a secret.
const char *kafka_shown(const char *reason);
int kafka_topic_print(char into[VC_KAFKA_TOPIC_MAX + 1], const struct vc_kafka_options *options,
                      enum vc_kafka_topic topic);

extern const struct kafka_setting kafka_producer_ours[], kafka_producer_fixed[];
extern const struct kafka_setting kafka_partials_ours[], kafka_partials_fixed[];
extern const struct kafka_setting kafka_consumer_ours[], kafka_consumer_fixed[];

// --- metrics that each kind of client has, the first rows of its table

enum {
  SENT, // or received
  SENT_BYTES,
  QUEUED,
  QUEUED_BYTES,
  OUTSTANDING,
  RTT_AVG,
  RTT_MAX,
  CONNECTS,
  DISCONNECTS,
  BROKERS,
  BROKERS_UP,
  TRANSPORT_ERRORS,
  BROKERS_DOWN,
  AUTHENTICATION_ERRORS,
  AUTHORIZATION_ERRORS,
  UNKNOWN_TOPICS,
  FATAL_ERRORS,
  N_CLIENT_METRICS,
};
#define KAFKA_CLIENT_METRICS(of, moved)                                                            \
  [SENT] = {of "messages_total", VC_METRIC_COUNTER, "messages",                                    \
            "Messages " moved " the brokers."},                                                    \
  [SENT_BYTES] = {of "bytes_total", VC_METRIC_COUNTER, "bytes",                                    \
                  "Bytes of messages " moved " the brokers, before compression."},                 \
  [QUEUED] = {of "queued", VC_METRIC_GAUGE, "messages", "Messages in the client's queue."},        \
  [QUEUED_BYTES] = {of "queued_bytes", VC_METRIC_GAUGE, "bytes",                                   \
                    "Bytes of the messages in the client's queue."},                               \
  [OUTSTANDING] = {of "outstanding", VC_METRIC_GAUGE, "requests",                                  \
                   "Requests to the brokers without an answer yet."},                              \
  [RTT_AVG] = {of "rtt_avg_us", VC_METRIC_GAUGE_MAX, "us",                                         \
               "Mean time from request to answer, of the slowest broker."},                        \
  [RTT_MAX] = {of "rtt_max_us", VC_METRIC_GAUGE_MAX, "us",                                         \
               "Longest time from request to answer, of the slowest broker."},                     \
  [CONNECTS] = {of "connects_total", VC_METRIC_COUNTER, "connections",                             \
                "Connections to brokers, those that failed too."},                                 \
  [DISCONNECTS] = {of "disconnects_total", VC_METRIC_COUNTER, "connections",                       \
                   "Connections to brokers that ended."},                                          \
  [BROKERS] = {of "brokers", VC_METRIC_GAUGE, "brokers", "Brokers that the client knows."},        \
  [BROKERS_UP] = {of "brokers_up", VC_METRIC_GAUGE, "brokers",                                     \
                  "Brokers that the client is connected to."},                                     \
  [TRANSPORT_ERRORS] = {of "transport_errors_total", VC_METRIC_COUNTER, "errors",                  \
                        "Connections to a broker that broke or could not be made."},               \
  [BROKERS_DOWN] = {of "brokers_down_total", VC_METRIC_COUNTER, "times",                           \
                    "Times that no broker at all could be reached."},                              \
  [AUTHENTICATION_ERRORS] = {of "authentication_errors_total", VC_METRIC_COUNTER, "errors",        \
                             "Times that a broker refused who we say we are, or TLS failed."},     \
  [AUTHORIZATION_ERRORS] = {of "authorization_errors_total", VC_METRIC_COUNTER, "errors",          \
                            "Times that the brokers refused us a topic, a group or the cluster."}, \
  [UNKNOWN_TOPICS] = {of "unknown_topic_total", VC_METRIC_COUNTER, "errors",                       \
                      "Times that the brokers did not know a topic or a partition."},              \
  [FATAL_ERRORS] = {of "fatal_errors_total", VC_METRIC_COUNTER, "errors",                          \
                    "Errors after which a client cannot go on."}

// --- client.c: what is in the way, of one producer or consumer

enum trouble { // the first that stands is told
  TROUBLE_FATAL,
  TROUBLE_AUTHORIZATION,
  TROUBLE_TRANSCRIPTS, // the topics
  TROUBLE_SESSIONS,
  TROUBLE_TOPIC, // another
  TROUBLE_AUTHENTICATION,
  TROUBLE_BROKERS, // all are away
  TROUBLE_OTHER,
  TROUBLE_TRANSPORT, // one is away
  N_TROUBLES,
};

struct client {
  /* set before start, then read-only */
  const char *name;
  const struct vc_kafka_options *options;
  const struct vc_clock *clock;
  struct vc_slots *slots;
  void *owner;
  void (*counted)(struct client *client, const void *statistics); // further figures, or NULL
  /* any thread, under the mutex */
  pthread_mutex_t mutex;
  struct {
    char text[192];
    int64_t since_ms; // 0: it does not stand
  } troubles[N_TROUBLES];
  struct vc_log_limit limit;
  /* the thread that polls */
  int64_t counters[N_CLIENT_METRICS]; // as the handle last told them
};

int client_init(struct client *client, const char *name, const struct vc_kafka_options *options,
                const struct vc_clock *clock, struct vc_metrics *metrics,
                const struct vc_metric *rows, struct vc_error *error);
void client_fini(struct client *client);
// Sets the opaque, which is the client, and where lines go.
void client_configure_log(struct client *client, rd_kafka_conf_t *conf);
// The same, and callbacks for errors and statistics.
void client_configure(struct client *client, rd_kafka_conf_t *conf);
// Another handle: its counters begin at 0.
void client_renewed(struct client *client);
// Thread: any.
__attribute__((format(printf, 3, 4))) void
client_trouble(struct client *client, enum trouble trouble, const char *format, ...);
void client_clear(struct client *client, enum trouble from, enum trouble to);
// A record of the topic went its way: nothing else than other topics is in the way.
void client_topic_works(struct client *client, const char *topic);
// Returns: 1 and the text, or 0: nothing is in the way.
int client_print_trouble(struct client *client, char *into, size_t size);
// What a broker said of a topic, or librdkafka of a connection: counted and kept.
void client_take_error(struct client *client, rd_kafka_resp_err_t code, const char *topic,
                       const char *reason);
// The same of what concerns no topic.
void client_take_failure(struct client *client, rd_kafka_t *handle, rd_kafka_resp_err_t code,
                         const char *reason);

struct kafka_message {
  const char *topic;
  const char *key;
  size_t key_size;
  const void *value;
  size_t size;
  rd_kafka_headers_t *headers; // taken
  void *opaque;                // of the report
};
// Copies key and value.
rd_kafka_resp_err_t kafka_give(rd_kafka_t *handle, const struct kafka_message *message);
rd_kafka_headers_t *kafka_headers_create(const char *schema, const char *node);

// --- statistics.c

// Thread: the one that polls.
void statistics_take(struct client *client, const char *json, size_t size);
