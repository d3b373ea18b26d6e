#include "room.h"

#include <verbacast/wire/http.h>
#include <verbacast/wire/jwt.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define KEY_MAX 256

static int is_scheme(const struct vc_url *url, const char *plain, const char *secure)
{
  return strcmp(url->scheme, plain) == 0 || strcmp(url->scheme, secure) == 0;
}

static int check_url(const char *value, struct vc_error *error)
{
  struct vc_url url;
  if (value[0] == '\0') {
    return 0;
  }
  if (vc_url_parse(value, &url) != 0 || url.host[0] == '\0' || url.query[0] != '\0' ||
      strlen(value) >= URL_MAX / 2 ||
      !(is_scheme(&url, "http", "https") || is_scheme(&url, "ws", "wss"))) {
    return vc_error_set(error, "is no address of LiveKit's: https://, http://, wss:// or ws://");
  }
  return 0;
}

static int check_address(const char *value, struct vc_error *error)
{
  struct vc_url url;
  if (value[0] == '\0') {
    return 0;
  }
  if (vc_url_parse(value, &url) != 0 || !is_scheme(&url, "rtmp", "rtmps") || url.host[0] == '\0' ||
      url.path[0] == '\0' || strcmp(url.path, "/") == 0 || url.query[0] != '\0' ||
      strchr(value, ' ') != NULL || strlen(value) >= URL_MAX / 2) {
    return vc_error_set(error, "is no rtmp://HOST:PORT/live");
  }
  return 0;
}

static int check_key(const char *value, struct vc_error *error)
{
  char key[KEY_MAX];
  return value[0] == '\0' || vc_livekit_first_key(value, key, sizeof key) > 0
             ? 0
             : vc_error_set(error, "is no key, or one of more than %d bytes", KEY_MAX - 1);
}

// Whether the first of them signs: it is a secret, and no public key.
static int can_sign(const struct vc_jwt_keys *keys)
{
  json_t *claims = json_pack("{s:s,s:i}", "session", "s", "exp", 1);
  char *token = vc_jwt_print(keys, claims);
  int signs = token != NULL;
  free(token);
  json_decref(claims);
  return signs;
}

static int check_secret(const char *value, struct vc_error *error)
{
  struct vc_jwt_keys *keys = vc_jwt_keys_create(value, error);
  int status = keys == NULL     ? -1
               : can_sign(keys) ? 0
                                : vc_error_set(error, "is a public key: the node cannot sign its "
                                                      "calls with it; give LiveKit's own");
  vc_jwt_keys_destroy(&keys);
  return status;
}

static int check_ca_file(const char *value, struct vc_error *error)
{
  return value[0] == '\0' || access(value, R_OK) == 0 ? 0 : vc_error_set(error, "cannot be read");
}

#define FIELD(name) offsetof(struct vc_livekit_options, name)
const struct vc_option vc_livekit_option_rows[] = {
    {"LIVEKIT_URL", VC_OPTION_TEXT, FIELD(livekit_url), "", "a URL", .check = check_url,
     .help = "LiveKit's server, to start egresses: https://HOST (wss:// is taken for it)."},
    {"LIVEKIT_API_KEY", VC_OPTION_TEXT, FIELD(livekit_api_key), "", "a key, or new,old",
     .check = check_key,
     .help = "One of LiveKit's API keys: webhooks must be signed with it, calls are; its tokens to "
             "join a room let viewers to the room's session."},
    {"LIVEKIT_API_SECRET", VC_OPTION_SECRET, FIELD(livekit_api_secret), .check = check_secret,
     .help = "Its secret."},
    {"LIVEKIT_AUTO_EGRESS", VC_OPTION_TEXT, FIELD(livekit_auto_egress), "", "rtmp://HOST:PORT/live",
     .check = check_address,
     .help = "Each room that starts is sent there: RTMP_LISTEN as LiveKit's egress reaches it, the "
             "same on all nodes."},
    {"LIVEKIT_POLL_MS", VC_OPTION_INTEGER, FIELD(livekit_poll_ms), "30000", "ms", 0, 3600000,
     .help = "How often one node lists LiveKit's rooms for webhooks that were lost; 0: never."},
    {"LIVEKIT_CA_FILE", VC_OPTION_TEXT, FIELD(livekit_ca_file), "", "a PEM file",
     .check = check_ca_file,
     .help = "Authorities trusted for LiveKit's certificate; empty: the system's."},
    VC_OPTION_ROWS_END,
};

const struct vc_metric vc_livekit_metrics[] = {
    [WEBHOOKS_TAKEN] = {"livekit.webhooks_total", VC_METRIC_COUNTER, "webhooks",
                        "Webhooks of LiveKit that were verified and queued."},
    [WEBHOOKS_REPEATED] = {"livekit.webhooks_repeated_total", VC_METRIC_COUNTER, "webhooks",
                           "Of these, passed over: this node or another has had them."},
    [WEBHOOKS_REFUSED] = {"livekit.webhooks_refused_total", VC_METRIC_COUNTER, "webhooks",
                          "Webhooks that no key of ours has signed as they came: 401."},
    [WEBHOOKS_UNQUEUED] = {"livekit.webhooks_unqueued_total", VC_METRIC_COUNTER, "webhooks",
                           "Webhooks that were answered 503: too many waited, the node drains, or "
                           "there was no memory to verify or take them."},
    [WEBHOOKS_MALFORMED] = {"livekit.webhooks_malformed_total", VC_METRIC_COUNTER, "webhooks",
                            "Verified webhooks that were not understood."},
    [EGRESS_STARTS] = {"livekit.egress_starts_total", VC_METRIC_COUNTER, "egresses",
                       "Egresses that LiveKit began because we asked."},
    [EGRESS_FAILURES] = {"livekit.egress_failures_total", VC_METRIC_COUNTER, "egresses",
                         "Egresses that LiveKit did not begin, or said to have failed."},
    [EGRESS_STOPS] = {"livekit.egress_stops_total", VC_METRIC_COUNTER, "egresses",
                      "Egresses that we stopped because their room had another one of ours."},
    [POLLS] = {"livekit.polls_total", VC_METRIC_COUNTER, "polls",
               "Times that this node listed all rooms and egresses."},
    [POLL_FAILURES] = {"livekit.poll_failures_total", VC_METRIC_COUNTER, "polls",
                       "Of these, not answered, or not understood."},
    [CALL_FAILURES] = {"livekit.call_failures_total", VC_METRIC_COUNTER, "calls",
                       "Calls of LiveKit that were refused, not answered, or not understood."},
    [MEETINGS] = {"livekit.rooms", VC_METRIC_GAUGE, "rooms",
                  "Rooms that wait for their egress, and some that are to be left alone."},
    [MEETINGS_REFUSED] = {"livekit.rooms_refused_total", VC_METRIC_COUNTER, "rooms",
                          "Rooms that were passed over because too many waited."},
    [OUT_OF_MEMORY] = {"livekit.out_of_memory_total", VC_METRIC_COUNTER, "failures",
                       "Allocations that failed."},
    VC_METRIC_ROWS_END,
};

int vc_livekit_is_set(const struct vc_livekit_options *options)
{
  return options->livekit_api_key[0] != '\0' && vc_secret_is_set(options->livekit_api_secret);
}

// An egress publishes with a token of ours: PUBLISH_SECRET must be one that signs.
static int check_publish_secret(const struct vc_secret *secret, struct vc_error *error)
{
  struct vc_error why;
  if (!vc_secret_is_set(secret)) {
    return 0;
  }
  struct vc_jwt_keys *keys = vc_jwt_keys_of_secret(secret, &why);
  int signs = can_sign(keys);
  vc_jwt_keys_destroy(&keys);
  return signs ? 0
               : vc_error_set(error, "LIVEKIT_AUTO_EGRESS is set and PUBLISH_SECRET is a public "
                                     "key: the node cannot sign what its egresses publish "
                                     "with; give a secret, also as \"SECRET,PEM\"");
}

int vc_livekit_check(const struct vc_livekit_options *options,
                     const struct vc_secret *publish_secret, struct vc_error *error)
{
  int has_key = options->livekit_api_key[0] != '\0';
  int has_secret = vc_secret_is_set(options->livekit_api_secret);
  if (has_key != has_secret) {
    return vc_error_set(error, "%s is set and %s is not: LiveKit needs both",
                        has_key ? "LIVEKIT_API_KEY" : "LIVEKIT_API_SECRET",
                        has_key ? "LIVEKIT_API_SECRET" : "LIVEKIT_API_KEY");
  }
  if (options->livekit_auto_egress[0] == '\0') {
    return 0;
  }
  if (options->livekit_url[0] == '\0' || !has_key) {
    return vc_error_set(error, "LIVEKIT_AUTO_EGRESS is set and %s is not: egresses cannot be begun",
                        has_key ? "LIVEKIT_URL" : "LIVEKIT_API_KEY");
  }
  return check_publish_secret(publish_secret, error);
}
