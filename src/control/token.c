#include "room.h"

#include <jwt.h>

#include <stdlib.h>
#include <string.h>

#define TOKEN_MAX 4096
#define SECRET_MAX 16384
#define LEEWAY_S 5 // of the clocks

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

enum token_verdict token_check(const struct vc_secret *secret, const char *token, const char *slug,
                               int64_t now_s)
{
  jwt_t *jwt = strlen(token) <= TOKEN_MAX ? decode(secret, token) : NULL;
  if (jwt == NULL) {
    return TOKEN_BAD;
  }
  enum token_verdict verdict = TOKEN_GOOD;
  const char *session = jwt_get_grant(jwt, "session");
  long expires_s = jwt_get_grant_int(jwt, "exp");
  long begins_s = jwt_get_grant_int(jwt, "nbf");
  if (session == NULL || expires_s <= 0 || begins_s > now_s + LEEWAY_S) {
    verdict = TOKEN_BAD;
  } else if (now_s > expires_s + LEEWAY_S) {
    verdict = TOKEN_EXPIRED;
  } else if (strcmp(session, "*") != 0 && strcmp(session, slug) != 0) {
    verdict = TOKEN_OTHER_SESSION;
  }
  jwt_free(jwt);
  return verdict;
}
