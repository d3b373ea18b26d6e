// What producers and consumers have in common: what librdkafka tells besides records.
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "room.h"

#define LOG_INTERVAL_MS 10000
#define LOG_IMPORTANT 2 // of syslog's levels: those below name what error_cb tells as well

static struct client *client_of(void *opaque)
{
  return opaque;
}

int client_init(struct client *client, const char *name, const struct vc_kafka_options *options,
                const struct vc_clock *clock, struct vc_metrics *metrics,
                const struct vc_metric *rows, struct vc_error *error)
{
  *client = (struct client){.name = name, .options = options, .clock = clock};
  if (metrics != NULL) {
    client->slots = vc_metrics_slots_create(metrics, rows);
    if (client->slots == NULL) {
      return vc_error_set(error, "kafka: no memory");
    }
  }
  pthread_mutex_init(&client->mutex, NULL);
  return 0;
}

void client_fini(struct client *client)
{
  pthread_mutex_destroy(&client->mutex);
}

void client_renewed(struct client *client)
{
  memset(client->counters, 0, sizeof client->counters);
}

// --- what is in the way

void client_trouble(struct client *client, enum trouble trouble, const char *format, ...)
{
  char text[sizeof client->troubles[0].text];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  pthread_mutex_lock(&client->mutex);
  int is_new = client->troubles[trouble].since_ms == 0;
  memcpy(client->troubles[trouble].text, text, sizeof text);
  if (is_new) {
    client->troubles[trouble].since_ms = vc_clock_unix_ms(client->clock);
  }
  uint64_t n_left_out = 0;
  int is_told = is_new && vc_log_limit_pass(&client->limit, vc_clock_now_ns(client->clock),
                                            LOG_INTERVAL_MS, &n_left_out);
  pthread_mutex_unlock(&client->mutex);
  if (is_told) {
    vc_log(VC_LOG_WARN, VC_EVENT("kafka.trouble"), VC_STR("client", client->name),
           VC_STR("reason", text), VC_INT("left_out", n_left_out));
  }
}

void client_clear(struct client *client, enum trouble from, enum trouble to)
{
  pthread_mutex_lock(&client->mutex);
  for (enum trouble trouble = from; trouble <= to; trouble++) {
    client->troubles[trouble].since_ms = 0;
  }
  pthread_mutex_unlock(&client->mutex);
}

int client_print_trouble(struct client *client, char *into, size_t size)
{
  pthread_mutex_lock(&client->mutex);
  enum trouble at = 0;
  while (at < N_TROUBLES && client->troubles[at].since_ms == 0) {
    at++;
  }
  int is_any = at < N_TROUBLES;
  if (is_any) {
    time_t since = (time_t)(client->troubles[at].since_ms / 1000);
    struct tm utc;
    char shown[32];
    strftime(shown, sizeof shown, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&since, &utc));
    snprintf(into, size, "%s (since %s)", client->troubles[at].text, shown);
  }
  pthread_mutex_unlock(&client->mutex);
  return is_any;
}

static enum trouble topic_trouble(const struct client *client, const char *topic)
{
  char own[VC_KAFKA_TOPIC_MAX + 1];
  kafka_topic_print(own, client->options, VC_KAFKA_SESSIONS);
  return topic == NULL                                      ? TROUBLE_TOPIC
         : strcmp(topic, client->options->kafka_topic) == 0 ? TROUBLE_TRANSCRIPTS
         : strcmp(topic, own) == 0                          ? TROUBLE_SESSIONS
                                                            : TROUBLE_TOPIC;
}

void client_topic_works(struct client *client, const char *topic)
{
  enum trouble own = topic_trouble(client, topic);
  client_clear(client, 0, TROUBLE_AUTHORIZATION);
  client_clear(client, own, own);
  client_clear(client, TROUBLE_AUTHENTICATION, N_TROUBLES - 1);
}

static void count(const struct client *client, size_t metric)
{
  vc_metric_add(client->slots, metric, 1);
}

void client_take_error(struct client *client, rd_kafka_resp_err_t code, const char *topic,
                       const char *reason)
{
  const char *said = rd_kafka_err2str(code);
  switch (code) {
  case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
  case RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION:
  case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
    count(client, UNKNOWN_TOPICS);
    client_trouble(client, topic_trouble(client, topic),
                   "topic %s is unknown to the brokers and must be created",
                   topic != NULL ? topic : client->options->kafka_topic);
    return;
  case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
  case RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED:
  case RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED:
  case RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED:
    count(client, AUTHORIZATION_ERRORS);
    client_trouble(client, TROUBLE_AUTHORIZATION, "%s%s: %s", topic != NULL ? "topic " : "",
                   topic != NULL ? topic : reason, said);
    return;
  case RD_KAFKA_RESP_ERR__AUTHENTICATION:
  case RD_KAFKA_RESP_ERR__SSL:
  case RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED:
    count(client, AUTHENTICATION_ERRORS);
    client_trouble(client, TROUBLE_AUTHENTICATION, "%s", kafka_shown(reason));
    return;
  case RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN:
    count(client, BROKERS_DOWN);
    client_trouble(client, TROUBLE_BROKERS, "no broker of %s can be reached",
                   client->options->kafka_brokers);
    return;
  case RD_KAFKA_RESP_ERR__TRANSPORT:
  case RD_KAFKA_RESP_ERR__RESOLVE:
  case RD_KAFKA_RESP_ERR__TIMED_OUT:
    count(client, TRANSPORT_ERRORS);
    client_trouble(client, TROUBLE_TRANSPORT, "%s", reason);
    return;
  case RD_KAFKA_RESP_ERR__FATAL:
    count(client, FATAL_ERRORS);
    client_trouble(client, TROUBLE_FATAL, "%s", reason);
    return;
  default:
    client_trouble(client, TROUBLE_OTHER, "%s%s%s", topic != NULL ? topic : "",
                   topic != NULL ? ": " : "", reason != NULL && reason[0] != '\0' ? reason : said);
    return;
  }
}

// --- callbacks

void client_take_failure(struct client *client, rd_kafka_t *handle, rd_kafka_resp_err_t code,
                         const char *reason)
{
  char text[256];
  if (code == RD_KAFKA_RESP_ERR__FATAL) {
    reason = text;
    if (rd_kafka_fatal_error(handle, text, sizeof text) == RD_KAFKA_RESP_ERR__GAPLESS_GUARANTEE) {
      return; // the record's own error tells more
    }
  }
  client_take_error(client, code, NULL, reason);
}

static void take_error(rd_kafka_t *handle, int code, const char *reason, void *opaque)
{
  client_take_failure(client_of(opaque), handle, code, reason);
}

static int take_statistics(rd_kafka_t *handle, char *json, size_t size, void *opaque)
{
  statistics_take(client_of(opaque), json, size);
  return 0; // librdkafka frees it
}

// Thread: any of librdkafka's.
static void take_line(const rd_kafka_t *handle, int level, const char *facility, const char *text)
{
  const struct client *client = rd_kafka_opaque(handle);
  vc_log(level <= LOG_IMPORTANT ? VC_LOG_WARN : VC_LOG_DEBUG, VC_EVENT("kafka.log"),
         VC_STR("client", client->name), VC_STR("facility", facility),
         VC_STR("text", kafka_shown(text)));
}

void client_configure_log(struct client *client, rd_kafka_conf_t *conf)
{
  rd_kafka_conf_set_opaque(conf, client);
  rd_kafka_conf_set_log_cb(conf, take_line);
}

void client_configure(struct client *client, rd_kafka_conf_t *conf)
{
  client_configure_log(client, conf);
  rd_kafka_conf_set_error_cb(conf, take_error);
  rd_kafka_conf_set_stats_cb(conf, take_statistics);
}

// --- what producers send

rd_kafka_resp_err_t kafka_give(rd_kafka_t *handle, const struct kafka_message *message)
{
  const rd_kafka_vu_t parts[] = {
      {.vtype = RD_KAFKA_VTYPE_TOPIC, .u.cstr = message->topic},
      {.vtype = RD_KAFKA_VTYPE_KEY, .u.mem = {(void *)message->key, message->key_size}},
      {.vtype = RD_KAFKA_VTYPE_VALUE, .u.mem = {(void *)message->value, message->size}},
      {.vtype = RD_KAFKA_VTYPE_HEADERS, .u.headers = message->headers},
      {.vtype = RD_KAFKA_VTYPE_MSGFLAGS, .u.i = RD_KAFKA_MSG_F_COPY},
      {.vtype = RD_KAFKA_VTYPE_OPAQUE, .u.ptr = message->opaque},
  };
  rd_kafka_error_t *refusal = rd_kafka_produceva(handle, parts, sizeof parts / sizeof *parts);
  if (refusal == NULL) {
    return RD_KAFKA_RESP_ERR_NO_ERROR;
  }
  rd_kafka_resp_err_t code = rd_kafka_error_code(refusal);
  rd_kafka_error_destroy(refusal);
  rd_kafka_headers_destroy(message->headers);
  return code;
}

rd_kafka_headers_t *kafka_headers_create(const char *schema, const char *node)
{
  rd_kafka_headers_t *headers = rd_kafka_headers_new(8);
  rd_kafka_header_add(headers, "content-type", -1, "application/json", -1);
  rd_kafka_header_add(headers, "schema", -1, schema, -1);
  rd_kafka_header_add(headers, "node", -1, node, -1);
  return headers;
}
