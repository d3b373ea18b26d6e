#include "room.h"

#include <verbacast/wire/json.h>
#include <verbacast/wire/jwt.h>
#include <verbacast/wire/livekit.h>

#include <string.h>

static void refuse(struct token_answer *answer, int status, const char *why)
{
  answer->status = status;
  answer->why = why;
}

static void judge_session(const json_t *claims, const void *context, const char *slug,
                          struct token_answer *answer)
{
  (void)context;
  const char *session = vc_json_string(claims, "session", NULL);
  answer->is_ours = session != NULL;
  if (session == NULL) {
    refuse(answer, 401, "the token is not valid: it names no session");
  } else if (strcmp(session, "*") != 0 && strcmp(session, slug) != 0) {
    refuse(answer, 403, "the token is for another session");
  }
}

static int is_false(const json_t *object, const char *key)
{
  return json_is_false(json_object_get(object, key));
}

// One that may come into the room and hear what is said there may read it. LiveKit itself takes
// canSubscribe for true where it is not said.
static void judge_join(const json_t *claims, const void *context, const char *slug,
                       struct token_answer *answer)
{
  const struct vc_control_livekit *livekit = context;
  const json_t *video = json_object_get(claims, "video");
  const char *room = vc_json_string(video, "room", "");
  char session[VC_LIVEKIT_SLUG_MAX + 1];
  answer->is_ours = vc_livekit_knows_key(livekit->api_key, vc_json_string(claims, "iss", ""));
  if (!answer->is_ours) {
    refuse(answer, 401, "the token is not valid: its iss is not LIVEKIT_API_KEY");
  } else if (!vc_json_true(video, "roomJoin") || room[0] == '\0') {
    refuse(answer, 403, "the token does not let its holder join a room");
  } else if (is_false(video, "canSubscribe")) {
    refuse(answer, 403, "the token does not let its holder hear the room");
  } else if (vc_slug_of_room(room, session) < 0) {
    refuse(answer, 503, vc_jwt_why(VC_JWT_NO_MEMORY));
  } else if (strcmp(session, slug) != 0) {
    refuse(answer, 403, "the token is for another session");
  }
}

struct rule {
  const struct vc_secret *secret;
  void (*judge)(const json_t *claims, const void *context, const char *slug,
                struct token_answer *answer);
  const void *context;
};

static struct token_answer check(const struct rule *rule, const char *token,
                                 const struct token_ask *ask)
{
  const struct vc_jwt_clock clock = {ask->now_ms, ask->leeway_ms};
  struct vc_jwt jwt;
  enum vc_jwt_verdict verdict = vc_jwt_verify_by(rule->secret, token, &clock, &jwt);
  struct token_answer answer = {.verdict = verdict,
                                .begins_ms = jwt.begins_ms,
                                .expires_ms = jwt.expires_ms,
                                .is_signed = verdict == VC_JWT_GOOD || verdict == VC_JWT_EXPIRED ||
                                             verdict == VC_JWT_NOT_YET ||
                                             verdict == VC_JWT_NO_EXPIRY};
  if (jwt.claims == NULL) {
    refuse(&answer, verdict == VC_JWT_NO_MEMORY ? 503 : 401, vc_jwt_why(verdict));
  } else {
    rule->judge(jwt.claims, rule->context, ask->slug, &answer);
  }
  if (answer.status == 0 && verdict == VC_JWT_EXPIRED) {
    answer.is_expired = 1;
    refuse(&answer, 401, vc_jwt_why(verdict));
  }
  json_decref(jwt.claims);
  return answer;
}

struct token_answer token_check(const struct vc_secret *secret, const char *token,
                                const struct token_ask *ask)
{
  return check(&(const struct rule){secret, judge_session, NULL}, token, ask);
}

struct token_answer token_check_join(const struct vc_control_livekit *livekit, const char *token,
                                     const struct token_ask *ask)
{
  return check(&(const struct rule){livekit->api_secret, judge_join, livekit}, token, ask);
}

void token_forgive(struct token_answer *answer, int64_t session_began_ms)
{
  if (answer->is_expired && session_began_ms != 0 && session_began_ms >= answer->begins_ms &&
      session_began_ms < answer->expires_ms) {
    answer->status = 0;
  }
}
