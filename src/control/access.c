#include "room.h"

#include <verbacast/wire/http.h>
#include <verbacast/wire/json.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

// Protected mode: without its secret a door serves this machine only, whatever stands before it.
int access_admit(const struct call *call, const char **why)
{
  const struct vc_control_options *options = call->control->settings.options;
  const struct vc_secret *secret =
      call->door == ADMIN_DOOR ? options->admin_token : options->viewer_secret;
  if (options->insecure || vc_secret_is_set(secret)) {
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
  int is_open = call->door == ADMIN_DOOR || !vc_secret_is_set(options->viewer_secret);
  *why = "this needs ADMIN_TOKEN as a Bearer token";
  return is_open && (!changes || vc_request_is_near(call->request)) ? 0 : 401;
}

const char *access_shown(const struct call *call)
{
  const char *token = vc_request_bearer(call->request);
  const struct vc_secret *secret = call->control->settings.options->admin_token;
  return token != NULL && vc_secret_is_set(secret) ? "token" : "this_machine";
}

// The viewers' door was not opened to strangers then; the operators' may have been, with its token.
static int without_viewer_secret(const struct call *call, const char **why)
{
  const struct vc_control_options *options = call->control->settings.options;
  const char *token = vc_request_bearer(call->request);
  *why = "this needs ADMIN_TOKEN as a Bearer token";
  return call->door == VIEWERS_DOOR || options->insecure || vc_request_is_near(call->request) ||
                 (token != NULL && vc_secret_matches(options->admin_token, token, strlen(token)))
             ? 0
             : 401;
}

// Unix time in ms, 0: the slug's session is not on, or the ledger does not say.
static int64_t ask_session_began(const struct call *call)
{
  struct vc_query *query = ask_worker(call->control->ledger, call->control->settings.ledger,
                                      VC_QUERY_BEGAN, call->slug, 0);
  struct vc_buffer *reply =
      query != NULL && vc_query_status(query) == 200 ? vc_query_reply(query) : NULL;
  json_t *list = reply != NULL ? vc_json_parse((const char *)reply->data, reply->size, NULL) : NULL;
  int64_t began_ms = json_integer_value(json_array_get(list, 0));
  json_decref(list);
  vc_query_unref(query);
  return began_ms;
}

static enum token_verdict check_viewers_token(struct call *call, const char *token)
{
  const struct vc_control_settings *settings = &call->control->settings;
  const struct vc_secret *secret = settings->options->viewer_secret;
  int64_t now_ms = vc_clock_unix_ms(settings->clock);
  struct token_life life = {.session_began_ms = 0};
  enum token_verdict verdict = token_check(secret, token, call->slug, now_ms, &life);
  if (verdict == TOKEN_EXPIRED) {
    life.session_began_ms = ask_session_began(call);
    verdict = token_check(secret, token, call->slug, now_ms, &life);
  }
  call->request->expires_ms = life.expires_ms;
  return verdict;
}

int access_viewer(struct call *call, const char **why)
{
  const struct vc_control *control = call->control;
  const struct vc_secret *secret = control->settings.options->viewer_secret;
  const char *bearer = vc_request_bearer(call->request);
  char token[TOKEN_MAX];
  if (!vc_secret_is_set(secret)) {
    return without_viewer_secret(call, why);
  }
  int found = vc_request_query(call->request, "token", token, sizeof token);
  if (found != 1 && bearer != NULL && strlen(bearer) < sizeof token) {
    memcpy(token, bearer, strlen(bearer) + 1);
    found = 1;
  }
  if (found != 1) {
    *why = "a token is needed: ?token= or a Bearer token";
    return 401;
  }
  switch (check_viewers_token(call, token)) {
  case TOKEN_GOOD:
    return 0;
  case TOKEN_EXPIRED:
    *why = "the token has expired";
    return 401;
  case TOKEN_OTHER_SESSION:
    *why = "the token is for another session";
    return 403;
  default:
    *why = "the token is not valid";
    return 401;
  }
}

int vc_control_authorize_publisher(const struct vc_control_options *options, const char *slug,
                                   const char *query, struct vc_publisher_times times,
                                   const char **why)
{
  char token[TOKEN_MAX];
  struct token_life life = {.session_began_ms = times.session_began_ms};
  if (!vc_secret_is_set(options->publish_secret)) {
    return 0;
  }
  if (vc_query_find(query, "token", token, sizeof token) != 1) {
    *why = "a token is needed: rtmp://…/NAME?token=";
    return 1;
  }
  switch (token_check(options->publish_secret, token, slug, times.now_ms, &life)) {
  case TOKEN_GOOD:
    return 0;
  case TOKEN_EXPIRED:
    *why = "the token has expired";
    return 1;
  case TOKEN_OTHER_SESSION:
    *why = "the token is for another session";
    return 1;
  default:
    *why = "the token is not valid";
    return 1;
  }
}

static int check_door(const char *name, const char *listen, const struct vc_secret *secret,
                      const char *secret_name, struct vc_error *error)
{
  struct vc_address address;
  struct vc_error why;
  if (vc_listen_parse(listen, &address, &why) != 0) {
    return vc_error_set(error, "%s: '%s' %s", name, listen, why.text);
  }
  if (vc_address_is_loopback(&address) || vc_secret_is_set(secret)) {
    return 0;
  }
  return vc_error_set(error,
                      "%s=%s is not loopback and %s is not set: set it, or say --insecure if "
                      "everybody may",
                      name, listen, secret_name);
}

int vc_control_check(const struct vc_control_options *options, const char *rtmp_listen,
                     const char *trusted_proxies, struct vc_error *error)
{
  if (options->insecure) {
    return 0;
  }
  if (check_door("HTTP_LISTEN", options->http_listen, options->viewer_secret, "VIEWER_SECRET",
                 error) != 0 ||
      check_door("ADMIN_LISTEN", options->admin_listen, options->admin_token, "ADMIN_TOKEN",
                 error) != 0 ||
      check_door("RTMP_LISTEN", rtmp_listen, options->publish_secret, "PUBLISH_SECRET", error) !=
          0) {
    return -1;
  }
  if (trusted_proxies[0] != '\0' && !vc_secret_is_set(options->publish_secret)) {
    return vc_error_set(error, "TRUSTED_PROXIES is set and PUBLISH_SECRET is not: a proxy would "
                               "make RTMP public; set it, or say --insecure if everybody may");
  }
  return 0;
}
