// librdkafka's statistics, a JSON text each second, as metrics. Its counters are those of a handle:
// what is added is what they grew by.
#include <string.h>

#include <jansson.h>

#include "room.h"

static int64_t integer_of(const json_t *object, const char *name)
{
  return json_integer_value(json_object_get(object, name));
}

static void count_up_to(struct client *client, size_t metric, int64_t value)
{
  if (value > client->counters[metric]) {
    vc_metric_add(client->slots, metric, (uint64_t)(value - client->counters[metric]));
    client->counters[metric] = value;
  }
}

struct brokers {
  int64_t n, n_up, outstanding, connects, disconnects, rtt_avg, rtt_max;
};

static void add_broker(struct brokers *brokers, const json_t *broker)
{
  const char *state = json_string_value(json_object_get(broker, "state"));
  const json_t *rtt = json_object_get(broker, "rtt");
  int64_t avg = integer_of(rtt, "avg"), max = integer_of(rtt, "max");
  int is_up = state != NULL && strcmp(state, "UP") == 0;
  brokers->connects += integer_of(broker, "connects");
  brokers->disconnects += integer_of(broker, "disconnects");
  brokers->outstanding += integer_of(broker, "waitresp_cnt");
  brokers->rtt_avg = avg > brokers->rtt_avg ? avg : brokers->rtt_avg;
  brokers->rtt_max = max > brokers->rtt_max ? max : brokers->rtt_max;
  // What is known by its address only, and the group's coordinator, are others' doubles.
  const char *source = json_string_value(json_object_get(broker, "source"));
  if (integer_of(broker, "nodeid") >= 0 && source != NULL && strcmp(source, "logical") != 0) {
    brokers->n++;
    brokers->n_up += is_up;
  }
}

static void take_brokers(struct client *client, json_t *root)
{
  struct brokers brokers = {0};
  const char *name;
  json_t *broker;
  json_object_foreach(json_object_get(root, "brokers"), name, broker)
  {
    add_broker(&brokers, broker);
  }
  vc_metric_set(client->slots, BROKERS, brokers.n);
  vc_metric_set(client->slots, BROKERS_UP, brokers.n_up);
  vc_metric_set(client->slots, OUTSTANDING, brokers.outstanding);
  vc_metric_set(client->slots, RTT_AVG, brokers.rtt_avg);
  vc_metric_set(client->slots, RTT_MAX, brokers.rtt_max);
  count_up_to(client, CONNECTS, brokers.connects);
  count_up_to(client, DISCONNECTS, brokers.disconnects);
  if (brokers.n_up > 0) {
    client_clear(client, TROUBLE_AUTHENTICATION, TROUBLE_BROKERS);
    // One that nobody needs is not connected to again.
    client_clear(client, TROUBLE_TRANSPORT, TROUBLE_TRANSPORT);
  }
}

void statistics_take(struct client *client, const char *json, size_t size)
{
  json_t *root = json_loadb(json, size, 0, NULL);
  if (root == NULL) {
    return; // no memory: the next one is a second away
  }
  const char *type = json_string_value(json_object_get(root, "type"));
  int is_consumer = type != NULL && strcmp(type, "consumer") == 0;
  count_up_to(client, SENT, integer_of(root, is_consumer ? "rxmsgs" : "txmsgs"));
  count_up_to(client, SENT_BYTES, integer_of(root, is_consumer ? "rxmsg_bytes" : "txmsg_bytes"));
  if (!is_consumer) {
    vc_metric_set(client->slots, QUEUED, integer_of(root, "msg_cnt"));
    vc_metric_set(client->slots, QUEUED_BYTES, integer_of(root, "msg_size"));
  }
  take_brokers(client, root);
  if (client->counted != NULL) {
    client->counted(client, root);
  }
  json_decref(root);
}
