#include "room.h"

#include <verbacast/wire/json.h>

#include <jwt.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define SECRET_MAX 16384
#define LEEWAY_MS 5000 // of the clocks

// Returns: the decoded token, or NULL: it is none, or not signed by a secret of ours.
static jwt_t *decode(const struct vc_secret *secret, const char *token)
{
  char keys[2][SECRET_MAX];
  int sizes[2];
  sizes[0] = vc_secret_copy(secret, keys[0], sizeof keys[0]);
  sizes[1] = vc_secret_copy_previous(secret, keys[1], sizeof keys[1]);
  for (int i = 0; i < 2; i++) {
    jwt_t *jwt = NULL;
    if (sizes[i] > 0 && jwt_decode(&jwt, token, (const unsigned char *)keys[i], sizes[i]) == 0) {
      // "none" and all that is not what we sign with is no signature.
      if (jwt_get_alg(jwt) == JWT_ALG_HS256) {
        return jwt;
      }
      jwt_free(jwt);
    }
  }
  return NULL;
}

// A NumericDate of RFC 7519, with a fraction or without. Returns: 0, or -1: it is no number.
static int read_time(const json_t *claims, const char *name, double fallback_s, double *time_s)
{
  const json_t *claim = json_object_get(claims, name);
  *time_s = claim != NULL ? json_number_value(claim) : fallback_s;
  return claim == NULL || json_is_number(claim) ? 0 : -1;
}

// Rounded up; what does not fit is as far away as can be said.
static int64_t to_ms(double seconds)
{
  return (int64_t)ceil(fmax(fmin(seconds, 1e15), -1e15) * 1000);
}

static enum token_verdict judge(const json_t *claims, const char *slug, int64_t now_ms,
                                struct token_life *life)
{
  const char *session = vc_json_string(claims, "session", NULL);
  double expires_s, begins_s;
  if (session == NULL || read_time(claims, "exp", 0, &expires_s) != 0 || expires_s <= 0 ||
      read_time(claims, "nbf", 0, &begins_s) != 0 || to_ms(begins_s) > now_ms + LEEWAY_MS) {
    return TOKEN_BAD;
  }
  life->expires_ms = to_ms(expires_s);
  int has_begun_with_it = life->session_began_ms != 0 && life->session_began_ms < life->expires_ms;
  if (now_ms >= life->expires_ms && !has_begun_with_it) {
    return TOKEN_EXPIRED;
  }
  return strcmp(session, "*") == 0 || strcmp(session, slug) == 0 ? TOKEN_GOOD : TOKEN_OTHER_SESSION;
}

enum token_verdict token_check(const struct vc_secret *secret, const char *token, const char *slug,
                               int64_t now_ms, struct token_life *life)
{
  jwt_t *jwt = strlen(token) <= TOKEN_MAX ? decode(secret, token) : NULL;
  char *text = jwt != NULL ? jwt_get_grants_json(jwt, NULL) : NULL;
  json_t *claims = text != NULL ? vc_json_parse(text, strlen(text), NULL) : NULL;
  enum token_verdict verdict = claims != NULL ? judge(claims, slug, now_ms, life) : TOKEN_BAD;
  json_decref(claims);
  free(text);
  jwt_free(jwt);
  return verdict;
}
