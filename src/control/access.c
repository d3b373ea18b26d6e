#include "room.h"

#include <verbacast/wire/http.h>
#include <verbacast/wire/json.h>
#include <verbacast/wire/jwt.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const char unread_token[] = "the token is not valid: it is longer than 8192 bytes, or not "
                                   "percent-encoded as it should be";

static int has_livekit(const struct vc_control_livekit *livekit)
{
  return livekit->api_key != NULL && livekit->api_key[0] != '\0' &&
         vc_secret_is_set(livekit->api_secret);
}

int access_asks_viewers(const struct vc_control *control)
{
  return vc_secret_is_set(control->settings.options->viewer_secret) ||
         has_livekit(&control->settings.livekit);
}

// Protected mode: without its secret a door serves this machine only, whatever stands before it.
int access_admit(const struct call *call, const char **why)
{
  const struct vc_control_options *options = call->control->settings.options;
  int is_protected = call->door == ADMIN_DOOR ? vc_secret_is_set(options->admin_token)
                                              : access_asks_viewers(call->control);
  if (options->insecure || is_protected) {
    return 0;
  }
  if (!vc_request_is_near(call->request)) {
    *why = call->door == ADMIN_DOOR
               ? "this node is not protected: behind a proxy or under a public name it needs "
                 "ADMIN_TOKEN, or --insecure"
               : "this node is not protected: behind a proxy or under a public name it needs "
                 "VIEWER_SECRET, or --insecure";
    return 403;
  }
  return 0;
}

static int is_listed(const char *list, const char *origin)
{
  size_t size = strlen(origin);
  for (const char *at = list; *at != '\0';) {
    at += strspn(at, ", ");
    size_t n = strcspn(at, ", ");
    if (n > 0 && n == size && strncasecmp(at, origin, n) == 0) {
      return 1;
    }
    at += n;
  }
  return 0;
}

int access_origin(const struct call *call, const char **why)
{
  const char *origin = vc_request_header(call->request, "Origin");
  const char *host = vc_request_header(call->request, "Host");
  if (origin == NULL || is_listed(call->control->settings.options->allowed_origins, origin)) {
    return 0;
  }
  const char *named = strstr(origin, "://");
  if (named != NULL && host != NULL && strcasecmp(named + 3, host) == 0) {
    return 0;
  }
  *why = "the Origin is foreign; ALLOWED_ORIGINS lists those that may";
  return 403;
}

// Whether the viewers' door asks this caller for nothing. LiveKit's keys alone, which a node may
// have for its webhooks, close it to others than this machine.
static int is_open_to(const struct call *call)
{
  const struct vc_control_options *options = call->control->settings.options;
  return !vc_secret_is_set(options->viewer_secret) &&
         (options->insecure || !has_livekit(&call->control->settings.livekit) ||
          vc_request_is_near(call->request));
}

int access_admin(const struct call *call, const char **why)
{
  const struct vc_control_options *options = call->control->settings.options;
  const char *token = vc_request_bearer(call->request);
  if (token != NULL && vc_secret_is_set(options->admin_token)) {
    int is_right = vc_secret_matches(options->admin_token, token, strlen(token));
    *why = "the Bearer token is not ADMIN_TOKEN";
    return is_right ? 0 : 401;
  }
  int changes = strncmp(call->request->path, "/admin/", 7) == 0 ||
                strcmp(call->request->method, "DELETE") == 0;
  int is_open = call->door == ADMIN_DOOR || is_open_to(call);
  *why = "this needs ADMIN_TOKEN as a Bearer token";
  return is_open && (!changes || vc_request_is_near(call->request)) ? 0 : 401;
}

const char *access_shown(const struct call *call)
{
  const char *token = vc_request_bearer(call->request);
  const struct vc_secret *secret = call->control->settings.options->admin_token;
  return token != NULL && vc_secret_is_set(secret) ? "token" : "this_machine";
}

// Without VIEWER_SECRET the viewers' door was not opened to strangers; the operators' may have
// been, with its token.
static int needs_no_token(const struct call *call)
{
  const struct vc_control_options *options = call->control->settings.options;
  const char *token = vc_request_bearer(call->request);
  if (vc_secret_is_set(options->viewer_secret) || call->door == VIEWERS_DOOR) {
    return is_open_to(call);
  }
  return options->insecure || vc_request_is_near(call->request) ||
         (token != NULL && vc_secret_matches(options->admin_token, token, strlen(token)));
}

int64_t access_ledger_began(struct vc_control *control, const char *slug)
{
  struct vc_query *query =
      ask_worker(control->ledger, control->settings.ledger, VC_QUERY_BEGAN, slug, 0);
  int status = query != NULL ? vc_query_status(query) : 503;
  struct vc_buffer *reply = status == 200 ? vc_query_reply(query) : NULL;
  json_t *list = reply != NULL ? vc_json_parse((const char *)reply->data, reply->size, NULL) : NULL;
  int64_t began_ms = json_integer_value(json_array_get(list, 0));
  int is_known = status != 503 && (reply == NULL || list != NULL);
  json_decref(list);
  vc_query_unref(query);
  return is_known ? began_ms : -1;
}

// The ledger knows of other nodes' sessions only what is watched here.
static int64_t ask_session_began(const struct call *call)
{
  int64_t began_ms = access_ledger_began(call->control, call->slug);
  int64_t fleet_ms = began_ms <= 0 ? fleet_began(call->control, call->slug) : 0;
  return fleet_ms != 0 ? fleet_ms : began_ms;
}

// By VIEWER_SECRET, else by LiveKit's; who has neither is told what the nearer of them said.
static struct token_answer check_viewers_token(const struct call *call, const char *token)
{
  const struct vc_control_settings *settings = &call->control->settings;
  const struct vc_control_options *options = settings->options;
  const struct token_ask ask = {call->slug, vc_clock_unix_ms(settings->clock),
                                options->token_leeway_ms};
  struct token_answer own = token_check(options->viewer_secret, token, &ask);
  if (own.is_ours || !has_livekit(&settings->livekit)) {
    return own;
  }
  struct token_answer join = token_check_join(&settings->livekit, token, &ask);
  int is_nearer =
      join.is_signed || own.verdict == VC_JWT_ALGORITHM || join.verdict == VC_JWT_NO_MEMORY;
  return is_nearer || !vc_secret_is_set(options->viewer_secret) ? join : own;
}

// Returns: 1 it was found, 0 there is none, -1 it does not fit or is malformed.
static int find_token(const struct call *call, char *token, size_t size)
{
  const char *bearer = vc_request_bearer(call->request);
  int found = vc_request_query(call->request, "token", token, size);
  if (found == 1 || bearer == NULL) {
    return found;
  }
  if (strlen(bearer) >= size) {
    return -1;
  }
  memcpy(token, bearer, strlen(bearer) + 1);
  return 1;
}

static int judge_viewer(struct call *call, const char **why)
{
  char token[VC_JWT_MAX + 1];
  if (!access_asks_viewers(call->control)) {
    *why = "this needs ADMIN_TOKEN as a Bearer token";
    return 401;
  }
  int found = find_token(call, token, sizeof token);
  if (found != 1) {
    *why = found == 0 ? "a token is needed: ?token= or a Bearer token" : unread_token;
    return 401;
  }
  struct token_answer answer = check_viewers_token(call, token);
  if (answer.is_expired) {
    int64_t began_ms = ask_session_began(call);
    if (began_ms < 0) {
      *why = SESSION_UNKNOWN;
      return 503;
    }
    token_forgive(&answer, began_ms);
  }
  call->request->begins_ms = answer.begins_ms;
  call->request->expires_ms = answer.expires_ms;
  *why = answer.why;
  return answer.status;
}

int access_viewer(struct call *call, const char **why)
{
  int status = needs_no_token(call) ? 0 : judge_viewer(call, why);
  if (status != 0 && status != 503) {
    vc_metric_add(call->control->slots, TOKENS_REFUSED, 1);
  }
  return status;
}

struct vc_publisher_answer vc_control_authorize_publisher(const struct vc_control_options *options,
                                                          const char *slug, const char *query,
                                                          struct vc_publisher_times times)
{
  char token[VC_JWT_MAX + 1];
  const struct token_ask ask = {slug, times.now_ms, options->token_leeway_ms};
  if (!vc_secret_is_set(options->publish_secret)) {
    return (struct vc_publisher_answer){.status = 0};
  }
  int found = vc_query_find(query, "token", token, sizeof token);
  if (found != 1) {
    const char *why = found == 0 ? "a token is needed: ?token=" : unread_token;
    return (struct vc_publisher_answer){.status = 401, .why = why};
  }
  struct token_answer answer = token_check(options->publish_secret, token, &ask);
  token_forgive(&answer, times.session_began_ms);
  return (struct vc_publisher_answer){.status = answer.status,
                                      .why = answer.why,
                                      .is_expired = answer.is_expired && answer.status != 0};
}

static int check_door(const char *name, const char *listen, int is_protected,
                      const char *secret_name, struct vc_error *error)
{
  struct vc_address address;
  struct vc_error why;
  if (vc_listen_parse(listen, &address, &why) != 0) {
    return vc_error_set(error, "%s: '%s' %s", name, listen, why.text);
  }
  if (vc_address_is_loopback(&address) || is_protected) {
    return 0;
  }
  return vc_error_set(error,
                      "%s=%s is not loopback and %s is not set: set it, or say --insecure if "
                      "everybody may",
                      name, listen, secret_name);
}

int vc_control_check(const struct vc_control_options *options,
                     const struct vc_control_beside *beside, struct vc_error *error)
{
  int has_publish_secret = vc_secret_is_set(options->publish_secret);
  int asks_viewers = vc_secret_is_set(options->viewer_secret) || has_livekit(&beside->livekit);
  if (options->insecure) {
    return 0;
  }
  if (check_door("HTTP_LISTEN", options->http_listen, asks_viewers, "VIEWER_SECRET", error) != 0 ||
      check_door("ADMIN_LISTEN", options->admin_listen, vc_secret_is_set(options->admin_token),
                 "ADMIN_TOKEN", error) != 0 ||
      check_door("RTMP_LISTEN", beside->rtmp_listen, has_publish_secret, "PUBLISH_SECRET", error) !=
          0) {
    return -1;
  }
  if (beside->trusted_proxies[0] != '\0' && !has_publish_secret) {
    return vc_error_set(error, "TRUSTED_PROXIES is set and PUBLISH_SECRET is not: a proxy would "
                               "make RTMP public; set it, or say --insecure if everybody may");
  }
  return 0;
}
