// JSON Web Tokens (RFC 7519) in their compact, signed form, by libjwt. Pure: keys and time are
// given. Nothing here logs, and no text that it gives holds a part of a token or of a key.
//
// Thread: any, one with a small stack too (64 KiB are enough): what nests is refused before
// anything recurses, and what is long before anything copies it.
//
// The key says what it verifies, never the token's header: a secret is for HS256, an RSA key for
// RS256, a P-256 key for ES256, and a PEM is never a secret. `kid` is not read: each key of the
// token's algorithm is tried. `crit` is refused, because nothing that it could name is known.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include <verbacast/base/error.h>
#include <verbacast/base/options.h>

#define VC_JWT_MAX 8192        // bytes of a token
#define VC_JWT_CLAIMS_MAX 4096 // bytes of what is signed here, as JSON
#define VC_JWT_KEYS_MAX 8      // of one secret
#define VC_JWT_RSA_BITS_MIN 2048

// Keys that a token may be signed with, never changed once made; their memory is wiped at the end.
struct vc_jwt_keys;

// Reads "new,old": each element a secret, or public keys in PEM, one behind the other. An RSA key
// has 2048 bits or more, an elliptic one is on P-256. A PEM that is none of these makes no keys.
// Returns: the keys, or NULL and why.
struct vc_jwt_keys *vc_jwt_keys_create(const char *list, struct vc_error *error);
// The same of what an option holds now; NULL too when it is not set.
struct vc_jwt_keys *vc_jwt_keys_of_secret(const struct vc_secret *secret, struct vc_error *error);
void vc_jwt_keys_destroy(struct vc_jwt_keys **keys);
// For an option's row: whether its secret makes keys.
int vc_jwt_check_secret(const char *list, struct vc_error *error);

struct vc_jwt_clock {
  int64_t now_ms;    // Unix time
  int64_t leeway_ms; // how far the clock of who made the token may differ from ours
};

enum vc_jwt_verdict {
  VC_JWT_GOOD,
  VC_JWT_TOO_LONG,
  VC_JWT_MALFORMED, // not three parts of base64url, or header or claims no JSON object, or `crit`
  VC_JWT_ALGORITHM, // not that of a key; "none" and all that is neither HS256, RS256 nor ES256
  VC_JWT_SIGNATURE, // of none of the keys
  VC_JWT_NO_EXPIRY, // no `exp`, or `exp` or `nbf` is no time
  VC_JWT_NOT_YET,   // `nbf` lies ahead by more than the leeway
  VC_JWT_EXPIRED,   // `exp` lies back by the leeway or more
  VC_JWT_NO_MEMORY,
  VC_JWT_VERDICTS
};
// A constant text for who is refused: "the token has expired".
const char *vc_jwt_why(enum vc_jwt_verdict verdict);

struct vc_jwt {
  json_t *claims; // an object; NULL unless the verdict is good or expired
  // Unix time, the leeway included: from when on it is taken (far back without `nbf`), and refused.
  int64_t begins_ms, expires_ms;
};

// `keys` may be NULL: there are none.
// Gives: jwt->claims, for the caller to release. They are to be trusted when the verdict is good;
// when it is expired the signature is good, too, and the time is past.
enum vc_jwt_verdict vc_jwt_verify(const struct vc_jwt_keys *keys, const char *token,
                                  const struct vc_jwt_clock *clock, struct vc_jwt *jwt);
// The same with the keys of an option that was checked by vc_jwt_check_secret: one that is set and
// makes none now has no memory for them.
enum vc_jwt_verdict vc_jwt_verify_by(const struct vc_secret *secret, const char *token,
                                     const struct vc_jwt_clock *clock, struct vc_jwt *jwt);

// Signs with the first of the keys, which must be a secret: HS256.
// Returns: malloc'ed text, or NULL: the key is none for that, the claims are no object or longer
// than VC_JWT_CLAIMS_MAX, or there was no memory.
char *vc_jwt_print(const struct vc_jwt_keys *keys, const json_t *claims);

// How much of a name or a path may be shown in a log: up to where a token seems to begin, which
// stands there where somebody took it for a name.
size_t vc_jwt_cut(const char *text);
