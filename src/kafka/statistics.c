// librdkafka's statistics, a JSON text each second, as metrics. Its counters are those of a handle:
// what is added is what they grew by.
#include <string.h>

#include <jansson.h>

#include <verbacast/wire/json.h>

#include "room.h"

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
  const char *state = vc_json_string(broker, "state", "");
  const json_t *rtt = json_object_get(broker, "rtt");
  int64_t avg = vc_json_integer(rtt, "avg", 0), max = vc_json_integer(rtt, "max", 0);
  int is_up = strcmp(state, "UP") == 0;
  brokers->connects += vc_json_integer(broker, "connects", 0);
  brokers->disconnects += vc_json_integer(broker, "disconnects", 0);
  brokers->outstanding += vc_json_integer(broker, "waitresp_cnt", 0);
  brokers->rtt_avg = avg > brokers->rtt_avg ? avg : brokers->rtt_avg;
  brokers->rtt_max = max > brokers->rtt_max ? max : brokers->rtt_max;
  // What is known by its address only, and the group's coordinator, are others' doubles.
  const char *source = vc_json_string(broker, "source", NULL);
  if (vc_json_integer(broker, "nodeid", 0) >= 0 && source != NULL &&
      strcmp(source, "logical") != 0) {
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
  const char *type = vc_json_string(root, "type", "");
  int is_consumer = strcmp(type, "consumer") == 0;
  count_up_to(client, SENT, vc_json_integer(root, is_consumer ? "rxmsgs" : "txmsgs", 0));
  count_up_to(client, SENT_BYTES,
              vc_json_integer(root, is_consumer ? "rxmsg_bytes" : "txmsg_bytes", 0));
  if (!is_consumer) {
    vc_metric_set(client->slots, QUEUED, vc_json_integer(root, "msg_cnt", 0));
    vc_metric_set(client->slots, QUEUED_BYTES, vc_json_integer(root, "msg_size", 0));
  }
  take_brokers(client, root);
  if (client->counted != NULL) {
    client->counted(client, root);
  }
  json_decref(root);
}
