// One call of a Twirp service of LiveKit's: a POST of JSON, with a token of ours that lives shortly
// and may do this one thing.
#include "room.h"

#include <verbacast/wire/jwt.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TOKEN_LIFE_S 600
#define CLOCK_SKEW_S 30 // LiveKit's clock may be behind ours
#define ANSWER_MAX ((size_t)16 * 1024 * 1024)
#define KEY_MAX 256

static const struct {
  const char *path, *grant;
  uint32_t timeout_ms;
} methods[] = {
    [LIST_ROOMS] = {"/twirp/livekit.RoomService/ListRooms", "roomList", 5000},
    [LIST_EGRESS] = {"/twirp/livekit.Egress/ListEgress", "roomRecord", 5000},
    // It waits until an egress server has taken it.
    [START_EGRESS] = {"/twirp/livekit.Egress/StartRoomCompositeEgress", "roomRecord", 15000},
    [STOP_EGRESS] = {"/twirp/livekit.Egress/StopEgress", "roomRecord", 15000},
};

// Returns: malloc'ed, or NULL.
static char *make_token(const struct vc_livekit *livekit, const char *grant)
{
  const struct vc_livekit_options *options = livekit->settings.options;
  char key[KEY_MAX];
  struct vc_livekit_caller caller = {.api_key = key, .life_s = TOKEN_LIFE_S};
  caller.now_s = vc_clock_unix_ms(livekit->settings.clock) / 1000 - CLOCK_SKEW_S;
  vc_livekit_first_key(options->livekit_api_key, key, sizeof key);
  struct vc_jwt_keys *keys = vc_jwt_keys_of_secret(options->livekit_api_secret, NULL);
  json_t *claims = vc_livekit_make_claims(&caller, grant);
  char *token = claims != NULL ? vc_jwt_print(keys, claims) : NULL;
  json_decref(claims);
  vc_jwt_keys_destroy(&keys);
  return token;
}

static int post(struct vc_livekit *livekit, struct vc_post **post, enum method method,
                const struct vc_post_request *what)
{
  char url[URL_MAX + 64], authorization[VC_JWT_MAX + 32];
  char *token = make_token(livekit, methods[method].grant);
  if (token == NULL) {
    return -1;
  }
  snprintf(url, sizeof url, "%s%s", livekit->host, methods[method].path);
  snprintf(authorization, sizeof authorization, "authorization: Bearer %s", token);
  const char *const headers[] = {"content-type: application/json", authorization, NULL};
  struct vc_post_request request = *what;
  request.url = url;
  request.headers = headers;
  request.timeout_ms = methods[method].timeout_ms;
  request.answer_max = ANSWER_MAX;
  free(token);
  return vc_post_start(post, livekit->client, &request);
}

int call_start(struct vc_livekit *livekit, struct vc_post **post_out, enum method method,
               struct vc_text *text, void (*done)(void *context, const struct vc_post_answer *),
               void *context)
{
  int status = -1;
  if (!text->has_failed) {
    status = post(livekit, post_out, method,
                  &(struct vc_post_request){
                      .body = text->at, .size = text->size, .done = done, .context = context});
  }
  vc_text_fini(text);
  if (status == 0) {
    livekit->n_calls++;
  } else {
    room_count(livekit, OUT_OF_MEMORY);
  }
  return status;
}

void call_cancel(struct vc_livekit *livekit, struct vc_post **post_in)
{
  livekit->n_calls -= *post_in != NULL;
  vc_post_cancel(post_in);
}

int call_end(struct vc_livekit *livekit, struct vc_post **post_in,
             const struct vc_post_answer *answer, char reason[REASON_MAX])
{
  char said[VC_LIVEKIT_ERROR_MAX + 1];
  *post_in = NULL;
  livekit->n_calls--;
  vc_worker_wake_at(livekit->worker, room_now(livekit)); // there is place for the next
  if (answer->trouble == VC_TROUBLE_NONE && answer->status / 100 == 2) {
    return 0;
  }
  room_count(livekit, CALL_FAILURES);
  vc_livekit_parse_error(answer->body, answer->size, said);
  if (answer->trouble == VC_TROUBLE_NONE) {
    snprintf(reason, REASON_MAX, "livekit refused: %d%s%.90s", answer->status,
             said[0] != '\0' ? " " : "", said);
  } else if (answer->trouble == VC_TROUBLE_UNREACHABLE) {
    snprintf(reason, REASON_MAX, "livekit unreachable");
  } else {
    snprintf(reason, REASON_MAX, "livekit unreachable: %s", vc_trouble_text(answer->trouble));
  }
  return -1;
}

static int says(const struct vc_post_answer *answer, const char *code)
{
  char said[VC_LIVEKIT_ERROR_MAX + 1];
  vc_livekit_parse_error(answer->body, answer->size, said);
  return answer->trouble == VC_TROUBLE_NONE && strncmp(said, code, strlen(code)) == 0;
}

int call_says_not_found(const struct vc_post_answer *answer)
{
  return says(answer, "not_found:");
}

int call_says_ended(const struct vc_post_answer *answer)
{
  return says(answer, "not_found:") || says(answer, "failed_precondition:");
}
