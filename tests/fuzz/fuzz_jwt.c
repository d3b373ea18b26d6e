// Tokens, their parts and lists of keys: the same input is read as a token, as "header NUL claims"
// of one that is rightly signed, and as a secret.
#include <verbacast/wire/json.h>
#include <verbacast/wire/jwt.h>

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define CLOCK (&(const struct vc_jwt_clock){INT64_C(1790000000000), 5000})

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char all_keys[] = "secret,"
                               "-----BEGIN PUBLIC KEY-----\n"
                               "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA7CcFAAd95EXuH5q2oGbl\n"
                               "hVrBwE4GX4928tfqQ6kRJ3khXu2ZrPKxiwJEV62LUfLhMHh5IdG8CCmIAkIky8U2\n"
                               "ptpj7/do+xwouyoJ7mFmx4jTRC4NHFArSNheAM9u2OrfJTCgAwiNh7nKhLtlzwEB\n"
                               "dtXl6KupQ15kVn0gGGzO2xMYuPGdpB+rcJ0yZ4BPSjlsvgqfGUT/qQY2ya/5YFhZ\n"
                               "Wdicu6Et+RXOTV/FVdyAguK/WllEd1LMTsEolwH3SI9yBX/sPrpQUCCC1FYAO0sI\n"
                               "8whVdO90fF1Pzs62t9NIemn08tE1InIQDVEAkGaBxHZ6JcjlEOjdnRhyvnrlZsT2\n"
                               "iQIDAQAB\n"
                               "-----END PUBLIC KEY-----\n"
                               "-----BEGIN PUBLIC KEY-----\n"
                               "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEEl0Purkd0IgLuKZq/OsnoRV/CDkS\n"
                               "wjeaqGUHVxR3mJozxtwZSlTyQFBGYfaYMJzXdSGZ1HSxtuTWIZd+Tm6aJQ==\n"
                               "-----END PUBLIC KEY-----\n";

static enum vc_jwt_verdict verify(const char *list, const char *token, const json_t *claims)
{
  struct vc_jwt jwt;
  struct vc_jwt_keys *keys = vc_jwt_keys_create(list, NULL);
  assert(keys != NULL);
  enum vc_jwt_verdict verdict = vc_jwt_verify(keys, token, CLOCK, &jwt);
  assert(verdict < VC_JWT_VERDICTS && verdict != VC_JWT_NO_MEMORY);
  int is_signed = verdict == VC_JWT_GOOD || verdict == VC_JWT_EXPIRED;
  assert((jwt.claims != NULL) == is_signed);
  assert(!is_signed || json_is_object(jwt.claims));
  assert(!is_signed || (CLOCK->now_ms < jwt.expires_ms) == (verdict == VC_JWT_GOOD));
  assert(!is_signed || claims == NULL || json_equal(jwt.claims, claims));
  json_decref(jwt.claims);
  vc_jwt_keys_destroy(&keys);
  return verdict;
}

// Nobody without a key makes one: what was found by chance is no token.
static void look_at_token(const char *text)
{
  enum vc_jwt_verdict verdict = verify(all_keys, text, NULL);
  assert(verdict == VC_JWT_TOO_LONG || verdict == VC_JWT_MALFORMED || verdict == VC_JWT_ALGORITHM ||
         verdict == VC_JWT_SIGNATURE);
}

static void append(char *into, const void *bytes, size_t size)
{
  char *end = into + strlen(into);
  size_t n = (size_t)EVP_EncodeBlock((unsigned char *)end, bytes, (int)size);
  for (size_t i = 0; i < n; i++) {
    end[i] = (char)(end[i] == '+' ? '-' : end[i] == '/' ? '_' : end[i] == '=' ? '\0' : end[i]);
  }
}

static void append_dot(char *into)
{
  memcpy(into + strlen(into), ".", 2);
}

static void look_at_parts(const char *bytes, size_t size)
{
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned n = 0;
  size_t header_size = strnlen(bytes, size);
  size_t claims_at = header_size < size ? header_size + 1 : size;
  char *token = calloc(1, 2 * size + 200);
  assert(token != NULL);
  append(token, bytes, header_size);
  append_dot(token);
  append(token, bytes + claims_at, size - claims_at);
  HMAC(EVP_sha256(), "secret", 6, (unsigned char *)token, strlen(token), digest, &n);
  append_dot(token);
  append(token, digest, n);
  json_t *claims = vc_json_parse(bytes + claims_at, size - claims_at, NULL);
  enum vc_jwt_verdict verdict = verify("secret", token, claims);
  assert(verdict != VC_JWT_GOOD || json_is_object(claims));
  json_decref(claims);
  free(token);
}

static void look_at_claims(const char *bytes, size_t size)
{
  struct vc_jwt_keys *keys = vc_jwt_keys_create("secret", NULL);
  json_t *claims = vc_json_parse(bytes, size, NULL);
  char *token = vc_jwt_print(keys, claims);
  assert(token == NULL || json_is_object(claims));
  if (token != NULL) {
    enum vc_jwt_verdict verdict = verify("secret", token, NULL);
    assert(verdict != VC_JWT_SIGNATURE && verdict != VC_JWT_ALGORITHM);
  }
  free(token);
  json_decref(claims);
  vc_jwt_keys_destroy(&keys);
}

static void look_at_secret(const char *text)
{
  struct vc_error error = {.text = ""};
  struct vc_jwt_keys *keys = vc_jwt_keys_create(text, &error);
  assert((keys != NULL) == (vc_jwt_check_secret(text, NULL) == 0));
  assert(keys != NULL || error.text[0] != '\0');
  vc_jwt_keys_destroy(&keys);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  char *text = malloc(size + 1);
  assert(text != NULL);
  memcpy(text, data, size);
  text[size] = '\0';
  look_at_token(text);
  look_at_parts(text, size);
  look_at_claims(text, size);
  look_at_secret(text);
  free(text);
  return 0;
}
