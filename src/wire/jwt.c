// libjwt verifies by the algorithm that the token's own header names, with whatever key it is
// given; it parses header and claims before it looks at the signature, as deep as they are nested;
// its base64 leaves out what is none; and it copies a token to the stack. So here a token is looked
// through first, and libjwt is handed nothing but what it is good at: a text of bounded size and
// depth, in the letters of base64url, whose algorithm is that of the key.
#include <verbacast/wire/jwt.h>

#include <verbacast/wire/json.h>
#include <verbacast/wire/text.h>

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>

#include <jwt.h>

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define PEM_BEGIN "-----BEGIN "
#define PEM_END "-----END "

struct key {
  jwt_alg_t algorithm;
  const unsigned char *bytes; // within the keys' text
  int size;
};

struct vc_jwt_keys {
  size_t n;
  struct key list[VC_JWT_KEYS_MAX];
  size_t text_size;
  char text[];
};

static const struct {
  const char *name;
  jwt_alg_t algorithm;
} algorithms[] = {{"HS256", JWT_ALG_HS256}, {"RS256", JWT_ALG_RS256}, {"ES256", JWT_ALG_ES256}};

// --- keys

static int add_key(struct vc_jwt_keys *keys, struct key key, struct vc_error *error)
{
  if (keys->n == VC_JWT_KEYS_MAX) {
    return vc_error_set(error, "has more than %d keys", VC_JWT_KEYS_MAX);
  }
  keys->list[keys->n++] = key;
  return 0;
}

// Returns: 0 and what the key verifies, or -1 and why it is none.
static int read_kind(const EVP_PKEY *pkey, jwt_alg_t *algorithm, struct vc_error *error)
{
  char group[32] = "";
  int bits = EVP_PKEY_get_bits(pkey);
  switch (EVP_PKEY_get_base_id(pkey)) {
  case EVP_PKEY_RSA:
    *algorithm = JWT_ALG_RS256;
    return bits >= VC_JWT_RSA_BITS_MIN
               ? 0
               : vc_error_set(error, "has an RSA key of %d bits; %d or more are allowed", bits,
                              VC_JWT_RSA_BITS_MIN);
  case EVP_PKEY_EC:
    *algorithm = JWT_ALG_ES256;
    EVP_PKEY_get_group_name(pkey, group, sizeof group, NULL);
    return strcmp(group, "prime256v1") == 0
               ? 0
               : vc_error_set(error, "has a key on the curve '%s'; P-256 (prime256v1) is allowed",
                              group);
  default:
    return vc_error_set(error, "has a PEM that is neither an RSA nor a P-256 public key");
  }
}

// Without it OpenSSL asks the terminal for the passphrase of a PEM that is encrypted.
static int know_no_passphrase(char *into, int size, int is_writing, void *context)
{
  return -1;
}

static int add_pem(struct vc_jwt_keys *keys, const char *text, size_t size, struct vc_error *error)
{
  struct key key = {JWT_ALG_NONE, (const unsigned char *)text, (int)size};
  BIO *bio = BIO_new_mem_buf(text, (int)size);
  EVP_PKEY *pkey = bio != NULL ? PEM_read_bio_PUBKEY(bio, NULL, know_no_passphrase, NULL) : NULL;
  int status = pkey != NULL ? read_kind(pkey, &key.algorithm, error)
                            : vc_error_set(error, "has a PEM that is no public key (a private key "
                                                  "or a certificate is none)");
  EVP_PKEY_free(pkey);
  BIO_free(bio);
  ERR_clear_error();
  return status == 0 ? add_key(keys, key, error) : -1;
}

static size_t skip_blanks(const char *text, size_t size)
{
  size_t n = 0;
  while (n < size && isspace((unsigned char)text[n])) {
    n++;
  }
  return n;
}

// Returns: the size of the PEM block that `text` begins with, 0: it begins with none.
static size_t measure_block(const char *text, size_t size)
{
  if (size < strlen(PEM_BEGIN) || memcmp(text, PEM_BEGIN, strlen(PEM_BEGIN)) != 0) {
    return 0;
  }
  const char *end = memmem(text, size, PEM_END, strlen(PEM_END));
  const char *rest = end != NULL ? end + strlen(PEM_END) : NULL;
  const char *dashes = rest != NULL ? memmem(rest, (size_t)(text + size - rest), "-----", 5) : NULL;
  return dashes != NULL ? (size_t)(dashes + 5 - text) : 0;
}

// Blocks and blanks only: what stands beside them would be a secret that nobody is asked for.
static int add_blocks(struct vc_jwt_keys *keys, const char *text, size_t size,
                      struct vc_error *error)
{
  for (size_t at = skip_blanks(text, size); at < size; at += skip_blanks(text + at, size - at)) {
    size_t n = measure_block(text + at, size - at);
    if (n == 0) {
      return vc_error_set(error, "has a text beside a PEM, or a PEM without its end");
    }
    if (add_pem(keys, text + at, n, error) != 0) {
      return -1;
    }
    at += n;
  }
  return 0;
}

static int add_element(struct vc_jwt_keys *keys, const char *text, size_t size,
                       struct vc_error *error)
{
  const struct key secret = {JWT_ALG_HS256, (const unsigned char *)text, (int)size};
  if (memmem(text, size, PEM_BEGIN, strlen(PEM_BEGIN)) != NULL) {
    return add_blocks(keys, text, size, error);
  }
  return size > 0 ? add_key(keys, secret, error) : 0; // "new," is a list of one
}

static int read_list(struct vc_jwt_keys *keys, struct vc_error *error)
{
  for (const char *at = keys->text; at != NULL;) {
    size_t size = strcspn(at, ",");
    if (add_element(keys, at, size, error) != 0) {
      return -1;
    }
    at = at[size] == ',' ? at + size + 1 : NULL;
  }
  return keys->n > 0 ? 0 : vc_error_set(error, "has no key");
}

struct vc_jwt_keys *vc_jwt_keys_create(const char *list, struct vc_error *error)
{
  size_t size = strlen(list);
  if (size > 2 * VC_SECRET_MAX + 1) {
    vc_error_set(error, "is longer than %d bytes", 2 * VC_SECRET_MAX);
    return NULL;
  }
  struct vc_jwt_keys *keys = calloc(1, sizeof *keys + size + 1);
  if (keys == NULL) {
    vc_error_set(error, "no memory for the keys");
    return NULL;
  }
  keys->text_size = size;
  memcpy(keys->text, list, size + 1);
  if (read_list(keys, error) != 0) {
    vc_jwt_keys_destroy(&keys);
  }
  return keys;
}

struct vc_jwt_keys *vc_jwt_keys_of_secret(const struct vc_secret *secret, struct vc_error *error)
{
  size_t size = VC_SECRET_MAX + 1;
  char *list = malloc(size);
  if (list == NULL) {
    vc_error_set(error, "no memory for the keys");
    return NULL;
  }
  struct vc_jwt_keys *keys = NULL;
  if (vc_secret_copy_list(secret, list, size) > 0) {
    keys = vc_jwt_keys_create(list, error);
  } else {
    vc_error_set(error, "is not set");
  }
  OPENSSL_cleanse(list, size);
  free(list);
  return keys;
}

void vc_jwt_keys_destroy(struct vc_jwt_keys **keys)
{
  if (*keys != NULL) {
    OPENSSL_cleanse((*keys)->text, (*keys)->text_size);
    free(*keys);
    *keys = NULL;
  }
}

int vc_jwt_check_secret(const char *list, struct vc_error *error)
{
  struct vc_jwt_keys *keys = vc_jwt_keys_create(list, error);
  int status = keys != NULL ? 0 : -1;
  vc_jwt_keys_destroy(&keys);
  return status;
}

// --- what a token says

static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

// Base64url without padding. Returns: 0, or -1: it is none.
static int decode(const char *text, size_t size, char *into, size_t *n)
{
  unsigned bits = 0;
  int n_bits = 0;
  *n = 0;
  for (size_t i = 0; i < size; i++) {
    const char *letter = memchr(letters, text[i], sizeof letters - 1);
    if (letter == NULL) {
      return -1;
    }
    bits = (bits << 6 | (unsigned)(letter - letters)) & 0xffff;
    n_bits += 6;
    if (n_bits >= 8) {
      n_bits -= 8;
      into[(*n)++] = (char)(bits >> n_bits & 0xff);
    }
  }
  return size % 4 == 1 ? -1 : 0;
}

// Returns: good and an object of its own, or malformed, or no memory.
static enum vc_jwt_verdict read_part(const char *text, size_t size, json_t **object)
{
  const char *why = NULL;
  size_t n = 0;
  char *decoded = malloc(size + 1);
  if (decoded == NULL) {
    return VC_JWT_NO_MEMORY;
  }
  *object = decode(text, size, decoded, &n) == 0 ? vc_json_parse(decoded, n, &why) : NULL;
  free(decoded);
  if (*object == NULL) {
    return why == vc_json_no_memory ? VC_JWT_NO_MEMORY : VC_JWT_MALFORMED;
  }
  if (!json_is_object(*object)) {
    json_decref(*object);
    *object = NULL;
    return VC_JWT_MALFORMED;
  }
  return VC_JWT_GOOD;
}

struct parts {
  const char *at[3];
  size_t size[3];
};

static enum vc_jwt_verdict split(const char *token, struct parts *parts)
{
  if (strnlen(token, VC_JWT_MAX + 1) > VC_JWT_MAX) {
    return VC_JWT_TOO_LONG;
  }
  for (int i = 0; i < 3; i++) {
    parts->at[i] = token;
    parts->size[i] = strspn(token, letters);
    token += parts->size[i];
    if (*token != (i < 2 ? '.' : '\0')) {
      return VC_JWT_MALFORMED;
    }
    token++;
  }
  return VC_JWT_GOOD;
}

static enum vc_jwt_verdict read_algorithm(const struct parts *parts, jwt_alg_t *algorithm)
{
  json_t *header = NULL;
  enum vc_jwt_verdict verdict = read_part(parts->at[0], parts->size[0], &header);
  if (verdict != VC_JWT_GOOD) {
    return verdict;
  }
  const char *name = vc_json_string(header, "alg", "");
  verdict = json_object_get(header, "crit") != NULL ? VC_JWT_MALFORMED : VC_JWT_ALGORITHM;
  for (size_t i = 0; i < sizeof algorithms / sizeof *algorithms; i++) {
    if (verdict == VC_JWT_ALGORITHM && strcmp(algorithms[i].name, name) == 0) {
      *algorithm = algorithms[i].algorithm;
      verdict = VC_JWT_GOOD;
    }
  }
  json_decref(header);
  return verdict;
}

// --- whether it may be believed

// libjwt parses once more what is known to be JSON. Neither it nor OpenSSL tells all that it has no
// memory for from a wrong signature, and what libjwt then compares with is not to be believed;
// malloc says so (and, rarely, where it has found some after all).
static enum vc_jwt_verdict check_key(const struct key *key, const char *token)
{
  jwt_t *jwt = NULL;
  errno = 0;
  int status = jwt_decode(&jwt, token, key->bytes, key->size);
  int has_failed = errno == ENOMEM;
  int is_signed = status == 0 && jwt_get_alg(jwt) == key->algorithm;
  ERR_clear_error(); // or who speaks TLS would find it
  jwt_free(jwt);
  return has_failed ? VC_JWT_NO_MEMORY : is_signed ? VC_JWT_GOOD : VC_JWT_SIGNATURE;
}

static enum vc_jwt_verdict check_signature(const struct vc_jwt_keys *keys, const char *token,
                                           jwt_alg_t algorithm)
{
  enum vc_jwt_verdict verdict = VC_JWT_ALGORITHM;
  for (size_t i = 0; keys != NULL && i < keys->n; i++) {
    if (keys->list[i].algorithm == algorithm) {
      verdict = check_key(&keys->list[i], token);
      if (verdict != VC_JWT_SIGNATURE) {
        return verdict;
      }
    }
  }
  return verdict;
}

// A NumericDate, with a fraction or without. Returns: 0, or -1: it is no number.
static int read_time(const json_t *claims, const char *name, double *time_s)
{
  const json_t *claim = json_object_get(claims, name);
  *time_s = claim != NULL ? json_number_value(claim) : 0;
  return claim == NULL || json_is_number(claim) ? 0 : -1;
}

// Rounded up; what does not fit is as far away as can be said.
static int64_t to_ms(double seconds)
{
  return (int64_t)ceil(fmax(fmin(seconds, 1e15), -1e15) * 1000);
}

static enum vc_jwt_verdict judge_time(const struct vc_jwt_clock *clock, struct vc_jwt *jwt)
{
  double expires_s, begins_s;
  if (read_time(jwt->claims, "exp", &expires_s) != 0 || expires_s <= 0 ||
      read_time(jwt->claims, "nbf", &begins_s) != 0) {
    return VC_JWT_NO_EXPIRY;
  }
  jwt->begins_ms = to_ms(begins_s) - clock->leeway_ms;
  if (clock->now_ms < jwt->begins_ms) {
    return VC_JWT_NOT_YET;
  }
  jwt->expires_ms = to_ms(expires_s) + clock->leeway_ms;
  return clock->now_ms < jwt->expires_ms ? VC_JWT_GOOD : VC_JWT_EXPIRED;
}

enum vc_jwt_verdict vc_jwt_verify(const struct vc_jwt_keys *keys, const char *token,
                                  const struct vc_jwt_clock *clock, struct vc_jwt *jwt)
{
  struct parts parts;
  jwt_alg_t algorithm = JWT_ALG_NONE;
  *jwt = (struct vc_jwt){0};
  enum vc_jwt_verdict verdict = split(token, &parts);
  verdict = verdict == VC_JWT_GOOD ? read_algorithm(&parts, &algorithm) : verdict;
  verdict = verdict == VC_JWT_GOOD ? read_part(parts.at[1], parts.size[1], &jwt->claims) : verdict;
  verdict = verdict == VC_JWT_GOOD ? check_signature(keys, token, algorithm) : verdict;
  verdict = verdict == VC_JWT_GOOD ? judge_time(clock, jwt) : verdict;
  if (verdict != VC_JWT_GOOD && verdict != VC_JWT_EXPIRED) {
    json_decref(jwt->claims);
    *jwt = (struct vc_jwt){0};
  }
  return verdict;
}

enum vc_jwt_verdict vc_jwt_verify_by(const struct vc_secret *secret, const char *token,
                                     const struct vc_jwt_clock *clock, struct vc_jwt *jwt)
{
  struct vc_jwt_keys *keys = vc_jwt_keys_of_secret(secret, NULL);
  if (keys == NULL && vc_secret_is_set(secret)) {
    *jwt = (struct vc_jwt){0};
    return VC_JWT_NO_MEMORY;
  }
  enum vc_jwt_verdict verdict = vc_jwt_verify(keys, token, clock, jwt);
  vc_jwt_keys_destroy(&keys);
  return verdict;
}

const char *vc_jwt_why(enum vc_jwt_verdict verdict)
{
  static const char *const texts[VC_JWT_VERDICTS] = {
      [VC_JWT_GOOD] = "the token is good",
      [VC_JWT_TOO_LONG] = "the token is not valid: it is longer than 8192 bytes",
      [VC_JWT_MALFORMED] = "the token is not valid: it is no JSON Web Token",
      [VC_JWT_ALGORITHM] = "the token is not valid: its algorithm is not that of a key",
      [VC_JWT_SIGNATURE] = "the token is not valid: it is not signed with a key that is known here",
      [VC_JWT_NO_EXPIRY] = "the token is not valid: exp is missing, or exp or nbf is no time",
      [VC_JWT_NOT_YET] = "the token is not valid yet",
      [VC_JWT_EXPIRED] = "the token has expired",
      [VC_JWT_NO_MEMORY] = "there is no memory to look at the token",
  };
  return texts[verdict];
}

// --- making one

static void add_base64url(struct vc_text *text, const unsigned char *bytes, size_t size)
{
  for (size_t i = 0; i < size; i += 3) {
    size_t n = size - i < 3 ? size - i : 3;
    unsigned bits = (unsigned)bytes[i] << 16;
    bits |= n > 1 ? (unsigned)bytes[i + 1] << 8 : 0;
    bits |= n > 2 ? bytes[i + 2] : 0;
    for (size_t j = 0; j <= n; j++) {
      vc_text_append(text, &letters[bits >> (18 - 6 * j) & 63], 1);
    }
  }
}

// By hand, because libjwt reads through NULL where there is no memory for what it signs.
static char *sign(const struct key *key, const char *claims)
{
  static const char header[] = "{\"alg\":\"HS256\",\"typ\":\"JWT\"}";
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned n = 0;
  struct vc_text token = {0};
  add_base64url(&token, (const unsigned char *)header, strlen(header));
  vc_text_add(&token, ".");
  add_base64url(&token, (const unsigned char *)claims, strlen(claims));
  if (token.has_failed || HMAC(EVP_sha256(), key->bytes, key->size, (unsigned char *)token.at,
                               token.size, digest, &n) == NULL) {
    vc_text_fini(&token);
    return NULL;
  }
  vc_text_add(&token, ".");
  add_base64url(&token, digest, n);
  if (token.has_failed) {
    vc_text_fini(&token);
  }
  return token.at;
}

char *vc_jwt_print(const struct vc_jwt_keys *keys, const json_t *claims)
{
  if (keys == NULL || keys->list[0].algorithm != JWT_ALG_HS256 || !json_is_object(claims)) {
    return NULL;
  }
  char *text = vc_json_print(claims);
  char *token =
      text != NULL && strlen(text) <= VC_JWT_CLAIMS_MAX ? sign(&keys->list[0], text) : NULL;
  free(text);
  return token;
}

// A header is a JSON object: {"alg", or with blanks behind the brace, as some libraries print it.
static int begins_token(const char *text)
{
  char bytes[3] = "";
  size_t n, size = 0;
  while (size < 4 && text[size] != '\0' && strchr(letters, text[size]) != NULL) {
    size++;
  }
  if (decode(text, size, bytes, &n) != 0 || n < 2 || bytes[0] != '{') {
    return 0;
  }
  return bytes[1] == '"' ? n < 3 || isalpha((unsigned char)bytes[2])
                         : isspace((unsigned char)bytes[1]) &&
                               (bytes[2] == '"' || isspace((unsigned char)bytes[2]));
}

size_t vc_jwt_cut(const char *text)
{
  size_t n = 0;
  while (text[n] != '\0' && !begins_token(text + n)) {
    n++;
  }
  return n;
}
