#include "room.h"

#include <verbacast/wire/json.h>
#include <verbacast/wire/jwt.h>

#include <string.h>

#define LEEWAY_MS 5000 // of the clocks

static enum token_verdict judge(const struct vc_jwt *jwt, enum vc_jwt_verdict verdict,
                                const char *slug, struct token_life *life)
{
  const char *session = vc_json_string(jwt->claims, "session", NULL);
  life->expires_ms = jwt->expires_ms;
  if (session == NULL) {
    return TOKEN_BAD;
  }
  int has_begun_with_it = life->session_began_ms != 0 && life->session_began_ms < jwt->expires_ms;
  if (verdict == VC_JWT_EXPIRED && !has_begun_with_it) {
    return TOKEN_EXPIRED;
  }
  return strcmp(session, "*") == 0 || strcmp(session, slug) == 0 ? TOKEN_GOOD : TOKEN_OTHER_SESSION;
}

enum token_verdict token_check(const struct vc_secret *secret, const char *token, const char *slug,
                               int64_t now_ms, struct token_life *life)
{
  const struct vc_jwt_clock clock = {now_ms, LEEWAY_MS};
  struct vc_jwt jwt;
  struct vc_jwt_keys *keys = vc_jwt_keys_of_secret(secret, NULL);
  enum vc_jwt_verdict verdict = vc_jwt_verify(keys, token, &clock, &jwt);
  enum token_verdict judged = jwt.claims != NULL ? judge(&jwt, verdict, slug, life) : TOKEN_BAD;
  json_decref(jwt.claims);
  vc_jwt_keys_destroy(&keys);
  return judged;
}
