// JSON Web Tokens: which key may verify which algorithm, what is no token, and when one is good.
#include <verbacast/wire/jwt.h>

#include <verbacast/wire/json.h>

#include <jwt.h>
#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/ui.h>
#include <openssl/x509.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "no_memory.h"

#define NOW INT64_C(1790000000)
#define GOOD "{\"session\":\"demo\",\"exp\":1790000060}"
#define PEM_MAX 4096

struct pair {
  char private_pem[PEM_MAX], public_pem[PEM_MAX];
};
static struct pair rsa, other_rsa, third_rsa, weak_rsa, p256, other_p256, third_p256, p384, ed25519;

static void read_bio(BIO *bio, char into[static PEM_MAX])
{
  int n = BIO_read(bio, into, PEM_MAX - 1);
  assert_true(n > 0 && n < PEM_MAX - 1);
  into[n] = '\0';
  BIO_free(bio);
}

static void make_pair(struct pair *pair, EVP_PKEY *pkey)
{
  BIO *private_bio = BIO_new(BIO_s_mem()), *public_bio = BIO_new(BIO_s_mem());
  assert_non_null(pkey);
  assert_int_equal(PEM_write_bio_PrivateKey(private_bio, pkey, NULL, NULL, 0, NULL, NULL), 1);
  assert_int_equal(PEM_write_bio_PUBKEY(public_bio, pkey), 1);
  read_bio(private_bio, pair->private_pem);
  read_bio(public_bio, pair->public_pem);
  EVP_PKEY_free(pkey);
}

static int set_up(void **state)
{
  make_pair(&rsa, EVP_RSA_gen(2048));
  make_pair(&other_rsa, EVP_RSA_gen(2048));
  make_pair(&third_rsa, EVP_RSA_gen(2048));
  make_pair(&weak_rsa, EVP_RSA_gen(1024));
  make_pair(&p256, EVP_EC_gen("P-256"));
  make_pair(&other_p256, EVP_EC_gen("P-256"));
  make_pair(&third_p256, EVP_EC_gen("P-256"));
  make_pair(&p384, EVP_EC_gen("P-384"));
  make_pair(&ed25519, EVP_PKEY_Q_keygen(NULL, NULL, "ED25519"));
  return 0;
}

// --- tokens as somebody else would make them

// Returns: a token that lives until the next but seven.
static const char *make(jwt_alg_t algorithm, const char *key, const char *claims)
{
  static char tokens[8][3 * VC_JWT_MAX];
  static unsigned n;
  jwt_t *jwt;
  assert_int_equal(jwt_new(&jwt), 0);
  assert_int_equal(jwt_add_grants_json(jwt, claims), 0);
  int size = algorithm == JWT_ALG_NONE ? 0 : (int)strlen(key);
  assert_int_equal(jwt_set_alg(jwt, algorithm, size > 0 ? (const unsigned char *)key : NULL, size),
                   0);
  char *text = jwt_encode_str(jwt);
  assert_non_null(text);
  char *into = tokens[n++ % 8];
  snprintf(into, sizeof tokens[0], "%s", text);
  free(text);
  jwt_free(jwt);
  return into;
}

static void append_base64url(char *into, const char *bytes, size_t size)
{
  char *encoded = malloc(4 * (size / 3 + 1) + 1);
  assert_non_null(encoded);
  size_t n =
      (size_t)EVP_EncodeBlock((unsigned char *)encoded, (const unsigned char *)bytes, (int)size);
  char *end = into + strlen(into);
  for (size_t i = 0; i < n && encoded[i] != '='; i++) {
    *end++ = (char)(encoded[i] == '+' ? '-' : encoded[i] == '/' ? '_' : encoded[i]);
  }
  *end = '\0';
  free(encoded);
}

static void append_dot(char *into)
{
  memcpy(into + strlen(into), ".", 2);
}

// Header and claims as given, signed with HS256 whatever they say.
static const char *sign_raw(const char *header, const char *claims, const char *secret)
{
  static char token[512 * 1024];
  unsigned char digest[EVP_MAX_MD_SIZE];
  size_t n = 0;
  token[0] = '\0';
  append_base64url(token, header, strlen(header));
  append_dot(token);
  append_base64url(token, claims, strlen(claims));
  assert_non_null(EVP_Q_mac(NULL, "HMAC", NULL, "SHA256", NULL, secret, strlen(secret),
                            (unsigned char *)token, strlen(token), digest, sizeof digest, &n));
  append_dot(token);
  append_base64url(token, (char *)digest, n);
  return token;
}

// --- what is expected

static enum vc_jwt_verdict verify_at(int64_t now_s, const char *list, const char *token)
{
  const struct vc_jwt_clock clock = {now_s * 1000, 5000};
  struct vc_error error;
  struct vc_jwt jwt;
  struct vc_jwt_keys *keys = vc_jwt_keys_create(list, &error);
  if (keys == NULL) {
    fail_msg("no keys: %s", error.text);
  }
  enum vc_jwt_verdict verdict = vc_jwt_verify(keys, token, &clock, &jwt);
  assert_int_equal(jwt.claims != NULL, verdict == VC_JWT_GOOD || verdict == VC_JWT_EXPIRED);
  json_decref(jwt.claims);
  vc_jwt_keys_destroy(&keys);
  assert_null(keys);
  return verdict;
}

#define EXPECT(verdict, list, token) assert_int_equal(verify_at(NOW, list, token), verdict)

static const char *list_of(const char *a, const char *b)
{
  static char list[2 * PEM_MAX];
  snprintf(list, sizeof list, "%s,%s", a, b);
  return list;
}

// --- keys

static void test_each_algorithm_by_its_key(void **state)
{
  EXPECT(VC_JWT_GOOD, "secret", make(JWT_ALG_HS256, "secret", GOOD));
  EXPECT(VC_JWT_GOOD, rsa.public_pem, make(JWT_ALG_RS256, rsa.private_pem, GOOD));
  EXPECT(VC_JWT_GOOD, p256.public_pem, make(JWT_ALG_ES256, p256.private_pem, GOOD));
}

static void test_another_key(void **state)
{
  EXPECT(VC_JWT_SIGNATURE, "secret", make(JWT_ALG_HS256, "guess", GOOD));
  EXPECT(VC_JWT_SIGNATURE, rsa.public_pem, make(JWT_ALG_RS256, other_rsa.private_pem, GOOD));
  EXPECT(VC_JWT_SIGNATURE, p256.public_pem, make(JWT_ALG_ES256, other_p256.private_pem, GOOD));
}

static void test_an_algorithm_of_another_key(void **state)
{
  const char *const of_rsa = make(JWT_ALG_RS256, rsa.private_pem, GOOD);
  EXPECT(VC_JWT_ALGORITHM, "secret", of_rsa);
  EXPECT(VC_JWT_ALGORITHM, p256.public_pem, of_rsa);
  EXPECT(VC_JWT_ALGORITHM, rsa.public_pem, make(JWT_ALG_ES256, p256.private_pem, GOOD));
  EXPECT(VC_JWT_ALGORITHM, rsa.public_pem, make(JWT_ALG_HS256, "secret", GOOD));
}

static void test_algorithms_that_nobody_has(void **state)
{
  static const jwt_alg_t hmac[] = {JWT_ALG_HS384, JWT_ALG_HS512};
  static const jwt_alg_t of_rsa[] = {JWT_ALG_RS384, JWT_ALG_RS512};
  for (size_t i = 0; i < 2; i++) {
    EXPECT(VC_JWT_ALGORITHM, "secret", make(hmac[i], "secret", GOOD));
    EXPECT(VC_JWT_ALGORITHM, rsa.public_pem, make(of_rsa[i], rsa.private_pem, GOOD));
  }
  EXPECT(VC_JWT_ALGORITHM, "secret", make(JWT_ALG_NONE, "", GOOD));
  EXPECT(VC_JWT_ALGORITHM, rsa.public_pem, make(JWT_ALG_NONE, "", GOOD));
  static const char *const headers[] = {
      "{\"alg\":\"none\"}", "{\"alg\":\"None\"}", "{\"alg\":\"hs256\"}",   "{\"alg\":\"HS256 \"}",
      "{\"alg\":\"\"}",     "{\"alg\":null}",     "{\"alg\":[\"HS256\"]}", "{}",
      "{\"typ\":\"JWT\"}"};
  for (size_t i = 0; i < sizeof headers / sizeof *headers; i++) {
    EXPECT(VC_JWT_ALGORITHM, "secret", sign_raw(headers[i], GOOD, "secret"));
  }
}

// What everybody may read must not sign: a token of HS256 whose secret is the public key's PEM.
static void test_a_public_key_is_no_secret(void **state)
{
  const char *const pems[] = {rsa.public_pem, p256.public_pem};
  for (size_t i = 0; i < 2; i++) {
    char trimmed[PEM_MAX];
    snprintf(trimmed, sizeof trimmed, "%.*s", (int)strlen(pems[i]) - 1, pems[i]);
    EXPECT(VC_JWT_ALGORITHM, pems[i], make(JWT_ALG_HS256, pems[i], GOOD));
    EXPECT(VC_JWT_ALGORITHM, trimmed, make(JWT_ALG_HS256, trimmed, GOOD));
    EXPECT(VC_JWT_ALGORITHM, pems[i], make(JWT_ALG_HS256, trimmed, GOOD));
    EXPECT(VC_JWT_SIGNATURE, list_of(pems[i], "secret"), make(JWT_ALG_HS256, trimmed, GOOD));
    EXPECT(VC_JWT_SIGNATURE, list_of("secret", pems[i]), make(JWT_ALG_HS256, trimmed, GOOD));
  }
}

static void test_keys_while_they_are_rotated(void **state)
{
  const char *const of_secret = make(JWT_ALG_HS256, "old", GOOD);
  const char *const of_rsa = make(JWT_ALG_RS256, rsa.private_pem, GOOD);
  const char *const of_p256 = make(JWT_ALG_ES256, p256.private_pem, GOOD);
  EXPECT(VC_JWT_GOOD, "new,old", of_secret);
  EXPECT(VC_JWT_GOOD, "newest,new,old", of_secret);
  EXPECT(VC_JWT_GOOD, list_of(rsa.public_pem, "old"), of_rsa);
  EXPECT(VC_JWT_GOOD, list_of(rsa.public_pem, "old"), of_secret);
  EXPECT(VC_JWT_GOOD, list_of("new", p256.public_pem), of_p256);
  EXPECT(VC_JWT_GOOD, list_of(p256.public_pem, rsa.public_pem), of_rsa);
  EXPECT(VC_JWT_GOOD, list_of(other_rsa.public_pem, rsa.public_pem), of_rsa);
  EXPECT(VC_JWT_ALGORITHM, list_of(p256.public_pem, rsa.public_pem), of_secret);
}

// As `cat new.pem old.pem` writes them.
static void test_keys_one_behind_the_other(void **state)
{
  char both[3 * PEM_MAX];
  snprintf(both, sizeof both, "\n%s\r\n%s\n", p256.public_pem, rsa.public_pem);
  EXPECT(VC_JWT_GOOD, both, make(JWT_ALG_RS256, rsa.private_pem, GOOD));
  EXPECT(VC_JWT_GOOD, both, make(JWT_ALG_ES256, p256.private_pem, GOOD));
}

static void expect_no_keys(const char *list, const char *why)
{
  struct vc_error error;
  assert_null(vc_jwt_keys_create(list, &error));
  if (strstr(error.text, why) == NULL) {
    fail_msg("'%s', not '%s'", error.text, why);
  }
  assert_int_equal(vc_jwt_check_secret(list, NULL), -1);
}

static void test_what_is_no_key(void **state)
{
  char text[2 * PEM_MAX];
  expect_no_keys("", "no key");
  expect_no_keys(",", "no key");
  expect_no_keys(weak_rsa.public_pem, "1024 bits; 2048 or more");
  expect_no_keys(p384.public_pem, "'secp384r1'; P-256");
  expect_no_keys(ed25519.public_pem, "neither");
  expect_no_keys(rsa.private_pem, "private key");
  expect_no_keys(p256.private_pem, "private key");
  expect_no_keys(list_of("secret", rsa.private_pem), "private key");
  expect_no_keys("-----BEGIN PUBLIC KEY-----", "without its end");
  expect_no_keys("-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n", "no public key");
  snprintf(text, sizeof text, "%.*s", (int)strlen(rsa.public_pem) / 2, rsa.public_pem);
  expect_no_keys(text, "without its end");
  snprintf(text, sizeof text, "%ssecret", rsa.public_pem);
  expect_no_keys(text, "beside a PEM");
  snprintf(text, sizeof text, "secret %s", rsa.public_pem);
  expect_no_keys(text, "beside a PEM");
  expect_no_keys("1,2,3,4,5,6,7,8,9", "more than 8");
  text[0] = '\0';
  for (int i = 0; i <= VC_JWT_KEYS_MAX; i++) {
    memcpy(text + strlen(text), p256.public_pem, strlen(p256.public_pem) + 1);
  }
  expect_no_keys(text, "more than 8");
  assert_int_equal(vc_jwt_check_secret("1,2,3,4,5,6,7,8", NULL), 0);
  assert_int_equal(vc_jwt_check_secret(rsa.public_pem, NULL), 0);
}

// It has the public key in it, and is none.
static void test_a_certificate_is_no_key(void **state)
{
  char certificate[PEM_MAX];
  BIO *in = BIO_new_mem_buf(rsa.private_pem, -1), *out = BIO_new(BIO_s_mem());
  EVP_PKEY *pkey = PEM_read_bio_PrivateKey(in, NULL, NULL, NULL);
  X509 *x509 = X509_new();
  X509_gmtime_adj(X509_getm_notBefore(x509), 0);
  X509_gmtime_adj(X509_getm_notAfter(x509), 3600);
  X509_set_pubkey(x509, pkey);
  assert_true(X509_sign(x509, pkey, EVP_sha256()) > 0);
  assert_int_equal(PEM_write_bio_X509(out, x509), 1);
  read_bio(out, certificate);
  expect_no_keys(certificate, "a certificate is none");
  X509_free(x509);
  EVP_PKEY_free(pkey);
  BIO_free(in);
}

static int n_asked; // for a passphrase

static int answer_terminal(UI *ui, UI_STRING *string)
{
  n_asked++;
  return UI_set_result(ui, string, "a passphrase") == 0;
}

// A program that starts, or reads its secrets again, has nobody to ask.
static void test_an_encrypted_private_key_is_no_key(void **state)
{
  char encrypted[PEM_MAX];
  BIO *in = BIO_new_mem_buf(p256.private_pem, -1), *out = BIO_new(BIO_s_mem());
  EVP_PKEY *pkey = PEM_read_bio_PrivateKey(in, NULL, NULL, NULL);
  assert_int_equal(
      PEM_write_bio_PKCS8PrivateKey(out, pkey, EVP_aes_128_cbc(), "a passphrase", 12, NULL, NULL),
      1);
  read_bio(out, encrypted);
  EVP_PKEY_free(pkey);
  BIO_free(in);
  UI_METHOD *terminal = UI_create_method("a terminal");
  UI_method_set_reader(terminal, answer_terminal);
  UI_set_default_method(terminal);
  expect_no_keys(encrypted, "private key");
  UI_set_default_method(NULL);
  UI_destroy_method(terminal);
  assert_int_equal(n_asked, 0);
}

static void test_no_keys(void **state)
{
  const struct vc_jwt_clock clock = {NOW * 1000, 0};
  struct vc_jwt jwt;
  struct vc_jwt_keys *keys = vc_jwt_keys_of_secret(NULL, NULL);
  assert_null(keys);
  vc_jwt_keys_destroy(&keys);
  assert_int_equal(vc_jwt_verify(NULL, make(JWT_ALG_HS256, "secret", GOOD), &clock, &jwt),
                   VC_JWT_ALGORITHM);
  assert_null(jwt.claims);
}

struct options {
  struct vc_secret *secret;
};

static void test_the_keys_of_an_option(void **state)
{
  static const struct vc_option rows[] = {
      {"SECRET", VC_OPTION_SECRET, offsetof(struct options, secret)}, VC_OPTION_ROWS_END};
  struct options options = {NULL};
  const struct vc_option_group group = {"Test", rows, &options};
  struct vc_option_set set = {"test", "A test.", &group, 1, NULL};
  const struct vc_jwt_clock clock = {NOW * 1000, 0};
  static const char *const secrets[] = {"SECRET=new,old,oldest", "SECRET=new,oldest,old",
                                        "SECRET=old"};
  for (size_t i = 0; i < sizeof secrets / sizeof *secrets; i++) {
    char program[] = "test";
    char *arguments[] = {program, NULL}, *environment[] = {(char *)secrets[i], NULL};
    struct vc_error error;
    struct vc_jwt jwt;
    assert_int_equal(vc_options_parse(&set, 1, arguments, environment, stdout, &error),
                     VC_OPTIONS_RUN);
    struct vc_jwt_keys *keys = vc_jwt_keys_of_secret(options.secret, &error);
    assert_non_null(keys);
    assert_int_equal(vc_jwt_verify(keys, make(JWT_ALG_HS256, "old", GOOD), &clock, &jwt),
                     VC_JWT_GOOD);
    json_decref(jwt.claims);
    vc_jwt_keys_destroy(&keys);
    vc_options_free(&set);
  }
}

static void write_list(const char *path, const char *list)
{
  FILE *file = fopen(path, "w");
  assert_non_null(file);
  assert_true(fputs(list, file) >= 0);
  assert_int_equal(fclose(file), 0);
}

struct reader {
  const struct vc_secret *secret;
  const char *token;
  _Atomic int is_over;
  int n_wrong;
};

static void *verify_often(void *context)
{
  const struct vc_jwt_clock clock = {NOW * 1000, 0};
  struct reader *reader = context;
  while (!reader->is_over) {
    struct vc_jwt jwt;
    struct vc_jwt_keys *keys = vc_jwt_keys_of_secret(reader->secret, NULL);
    reader->n_wrong += vc_jwt_verify(keys, reader->token, &clock, &jwt) != VC_JWT_GOOD;
    json_decref(jwt.claims);
    vc_jwt_keys_destroy(&keys);
  }
  return NULL;
}

// A list is read whole: a key that is in the one before and in the one behind is never missing.
static void test_keys_that_are_read_while_they_change(void **state)
{
  static const struct vc_option rows[] = {
      {"SECRET", VC_OPTION_SECRET, offsetof(struct options, secret)}, VC_OPTION_ROWS_END};
  struct options options = {NULL};
  const struct vc_option_group group = {"Test", rows, &options};
  struct vc_option_set set = {"test", "A test.", &group, 1, NULL};
  char path[] = "/tmp/vc-keys-XXXXXX", variable[64], program[] = "test";
  int fd = mkstemp(path);
  assert_true(fd >= 0 && close(fd) == 0);
  snprintf(variable, sizeof variable, "SECRET=@%s", path);
  char *arguments[] = {program, NULL}, *environment[] = {variable, NULL};
  struct vc_error error;
  write_list(path, "one,other");
  assert_int_equal(vc_options_parse(&set, 1, arguments, environment, stdout, &error),
                   VC_OPTIONS_RUN);
  struct reader reader = {options.secret, make(JWT_ALG_HS256, "one", GOOD), 0, 0};
  pthread_t thread;
  assert_int_equal(pthread_create(&thread, NULL, verify_often, &reader), 0);
  for (int i = 0; i < 1500; i++) {
    write_list(path, i % 2 != 0 ? "one,other" : "other,one");
    assert_int_equal(vc_options_reload_secrets(&set, &error), 0);
  }
  reader.is_over = 1;
  pthread_join(thread, NULL);
  unlink(path);
  vc_options_free(&set);
  assert_int_equal(reader.n_wrong, 0);
}

// --- what is no token

static void test_what_is_no_token(void **state)
{
  static const char *const texts[] = {"",
                                      ".",
                                      "..",
                                      "...",
                                      "a.b.c",
                                      "e30",
                                      "e30.e30",
                                      "e30.e30.e30.e30",
                                      "W10.W10.W10",
                                      "bnVsbA.bnVsbA.bnVsbA",
                                      "Bearer eyJhbGciOiJIUzI1NiJ9.e30.e30",
                                      "eyJhbGciOiJIUzI1NiJ9",
                                      "eyJhbGciOiJIUzI1NiJ9..",
                                      "eyJhbGciOiJIUzI1NiJ9.W10.e30",
                                      "eyJhbGciOiJIUzI1NiJ9=.e30.e30"};
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
    EXPECT(VC_JWT_MALFORMED, "secret", texts[i]);
  }
}

// libjwt's base64 passes over what is none of its letters.
static void test_letters(void **state)
{
  static const char letters[] = " \n\t+/=!~%\x80\xff,:";
  const char *good = make(JWT_ALG_HS256, "secret", GOOD);
  for (size_t i = 0; letters[i] != '\0'; i++) {
    char token[1024];
    snprintf(token, sizeof token, "%s%c", good, letters[i]);
    EXPECT(VC_JWT_MALFORMED, "secret", token);
    snprintf(token, sizeof token, "%c%s", letters[i], good);
    EXPECT(VC_JWT_MALFORMED, "secret", token);
    snprintf(token, sizeof token, "%s", good);
    token[strlen(token) / 2] = letters[i];
    EXPECT(VC_JWT_MALFORMED, "secret", token);
  }
}

static void test_headers(void **state)
{
  EXPECT(VC_JWT_GOOD, "secret", sign_raw("{\"alg\":\"HS256\"}", GOOD, "secret"));
  EXPECT(VC_JWT_GOOD, "secret",
         sign_raw("{\"kid\":\"../../etc/passwd\",\"alg\":\"HS256\",\"jku\":\"http://a\"}", GOOD,
                  "secret"));
  EXPECT(VC_JWT_GOOD, "secret",
         sign_raw("{\"kid\":{\"a\":1},\"alg\":\"HS256\",\"typ\":\"jwt\"}", GOOD, "secret"));
  EXPECT(VC_JWT_MALFORMED, "secret",
         sign_raw("{\"alg\":\"HS256\",\"crit\":[\"b64\"],\"b64\":false}", GOOD, "secret"));
  EXPECT(VC_JWT_MALFORMED, "secret",
         sign_raw("{\"alg\":\"none\",\"alg\":\"HS256\"}", GOOD, "secret"));
  EXPECT(VC_JWT_MALFORMED, "secret", sign_raw("[\"HS256\"]", GOOD, "secret"));
  static const char *const types[] = {"at+jwt", "JOSE", "", "JW"};
  for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
    char header[64];
    snprintf(header, sizeof header, "{\"alg\":\"HS256\",\"typ\":\"%s\"}", types[i]);
    EXPECT(VC_JWT_SIGNATURE, "secret", sign_raw(header, GOOD, "secret"));
  }
}

static void test_claims(void **state)
{
  static const char header[] = "{\"alg\":\"HS256\"}";
  static const char *const bad[] = {"[]",         "1",           "null", "\"a\"",
                                    "{\"exp\":1", "{}x",         "",     "{\"exp\":1,\"exp\":2}",
                                    "{a:1}",      "{\"\xff\":1}"};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    EXPECT(VC_JWT_MALFORMED, "secret", sign_raw(header, bad[i], "secret"));
  }
  static const char passed_over[] = "{\"exp\":1790000060,\"iat\":1990000000,\"iss\":7,\"aud\":[1],"
                                    "\"sub\":{},\"jti\":null,\"alg\":\"none\"}";
  EXPECT(VC_JWT_GOOD, "secret", sign_raw(header, passed_over, "secret"));
}

// Every byte of it counts.
static void check_each_byte(const char *list, const char *good)
{
  char token[2048];
  snprintf(token, sizeof token, "%s", good);
  size_t n = strlen(token);
  for (size_t i = 0; i + 1 < n; i++) { // the last digit has bits that mean nothing
    char was = token[i];
    token[i] = was == 'A' ? 'B' : 'A';
    assert_int_not_equal(verify_at(NOW, list, token), VC_JWT_GOOD);
    token[i] = was;
  }
  EXPECT(VC_JWT_GOOD, list, token);
}

static void test_a_changed_token_is_none(void **state)
{
  check_each_byte("secret", make(JWT_ALG_HS256, "secret", GOOD));
  check_each_byte(p256.public_pem, make(JWT_ALG_ES256, p256.private_pem, GOOD));
}

// Returns: what is before the signature of `token`, with another one.
static const char *sign_again(const char *token, const char *signature, size_t size)
{
  static char text[2048];
  size_t n = (size_t)(strrchr(token, '.') + 1 - token);
  snprintf(text, sizeof text, "%.*s", (int)n, token);
  append_base64url(text, signature, size);
  return text;
}

// As long as `size`; a signature of zeros is what broken verifiers of ES256 take.
static void check_zeros(const char *list, const char *good, size_t size)
{
  static const char zeros[1024];
  EXPECT(VC_JWT_SIGNATURE, list, sign_again(good, zeros, size));
}

static void test_signatures_of_another_size(void **state)
{
  static const size_t sizes[] = {0, 1, 16, 31, 32, 33, 63, 64, 65, 66, 96, 128, 255, 256, 257, 512};
  const char *const good[] = {make(JWT_ALG_HS256, "secret", GOOD),
                              make(JWT_ALG_RS256, rsa.private_pem, GOOD),
                              make(JWT_ALG_ES256, p256.private_pem, GOOD)};
  const char *const lists[] = {"secret", rsa.public_pem, p256.public_pem};
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    for (size_t j = 0; j < 3; j++) {
      check_zeros(lists[j], good[j], sizes[i]);
    }
  }
}

// As OpenSSL signs: right, and not as RFC 7518 writes it.
static void test_a_signature_in_der(void **state)
{
  const char *good = make(JWT_ALG_ES256, p256.private_pem, GOOD);
  unsigned char der[128];
  size_t size = sizeof der;
  BIO *bio = BIO_new_mem_buf(p256.private_pem, -1);
  EVP_PKEY *pkey = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);
  EVP_MD_CTX *digest = EVP_MD_CTX_new();
  assert_int_equal(EVP_DigestSignInit(digest, NULL, EVP_sha256(), NULL, pkey), 1);
  assert_int_equal(EVP_DigestSign(digest, der, &size, (const unsigned char *)good,
                                  (size_t)(strrchr(good, '.') - good)),
                   1);
  EXPECT(VC_JWT_SIGNATURE, p256.public_pem, sign_again(good, (const char *)der, size));
  EXPECT(VC_JWT_GOOD, p256.public_pem, good);
  EVP_MD_CTX_free(digest);
  EVP_PKEY_free(pkey);
  BIO_free(bio);
}

static void test_size(void **state)
{
  static char claims[2 * VC_JWT_MAX];
  for (size_t n = 5000; n < 7000; n++) {
    snprintf(claims, sizeof claims, "{\"exp\":1790000060,\"a\":\"%0*d\"}", (int)n, 0);
    const char *token = sign_raw("{\"alg\":\"HS256\"}", claims, "secret");
    size_t size = strlen(token);
    if (size + 4 >= VC_JWT_MAX && size < VC_JWT_MAX + 4) {
      EXPECT(size <= VC_JWT_MAX ? VC_JWT_GOOD : VC_JWT_TOO_LONG, "secret", token);
    }
  }
}

// --- when it is good

static void expect_claims_at(int64_t now_s, const char *claims, enum vc_jwt_verdict verdict)
{
  assert_int_equal(verify_at(now_s, "secret", make(JWT_ALG_HS256, "secret", claims)), verdict);
}

static void test_expiry(void **state)
{
  expect_claims_at(NOW + 59, GOOD, VC_JWT_GOOD);
  expect_claims_at(NOW + 64, GOOD, VC_JWT_GOOD); // the leeway
  expect_claims_at(NOW + 65, GOOD, VC_JWT_EXPIRED);
  expect_claims_at(NOW, "{\"exp\":9223372036854775807}", VC_JWT_GOOD);
  expect_claims_at(NOW, "{\"exp\":1e300}", VC_JWT_GOOD);
  expect_claims_at(NOW, "{\"exp\":1789999995.5}", VC_JWT_GOOD);
  expect_claims_at(NOW, "{\"exp\":1789999994.5}", VC_JWT_EXPIRED);
  static const char *const none[] = {"{}",
                                     "{\"exp\":0}",
                                     "{\"exp\":-1}",
                                     "{\"exp\":null}",
                                     "{\"exp\":\"1790000060\"}",
                                     "{\"exp\":[1790000060]}",
                                     "{\"exp\":true}",
                                     "{\"exp\":1790000060,\"nbf\":\"1\"}"};
  for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
    expect_claims_at(NOW, none[i], VC_JWT_NO_EXPIRY);
  }
}

static void test_not_before(void **state)
{
  static const char later[] = "{\"exp\":1790000060,\"nbf\":1790000010}";
  expect_claims_at(NOW, later, VC_JWT_NOT_YET);
  expect_claims_at(NOW + 4, later, VC_JWT_NOT_YET);
  expect_claims_at(NOW + 5, later, VC_JWT_GOOD); // the leeway
  expect_claims_at(NOW, "{\"exp\":1790000060,\"nbf\":9223372036854775807}", VC_JWT_NOT_YET);
  expect_claims_at(NOW, "{\"exp\":1790000060,\"nbf\":-1e300}", VC_JWT_GOOD);
}

static void test_what_is_given(void **state)
{
  const struct vc_jwt_clock clock = {NOW * 1000, 5000};
  struct vc_jwt jwt;
  struct vc_jwt_keys *keys = vc_jwt_keys_create("secret", NULL);
  const char *token = make(JWT_ALG_HS256, "secret", GOOD);
  assert_int_equal(vc_jwt_verify(keys, token, &clock, &jwt), VC_JWT_GOOD);
  assert_string_equal(vc_json_string(jwt.claims, "session", ""), "demo");
  assert_int_equal(jwt.expires_ms, (NOW + 65) * 1000);
  assert_true(jwt.begins_ms < 0);
  json_decref(jwt.claims);
  token = make(JWT_ALG_HS256, "secret", "{\"exp\":1789999000,\"nbf\":1789998000.5}");
  assert_int_equal(vc_jwt_verify(keys, token, &clock, &jwt), VC_JWT_EXPIRED);
  assert_int_equal(jwt.begins_ms, INT64_C(1789998000500) - 5000);
  json_decref(jwt.claims);
  vc_jwt_keys_destroy(&keys);
}

static void test_each_verdict_has_its_words(void **state)
{
  for (int i = 0; i < VC_JWT_VERDICTS; i++) {
    for (int j = 0; j < i; j++) {
      assert_string_not_equal(vc_jwt_why(i), vc_jwt_why(j));
    }
  }
}

static void test_what_of_a_name_is_shown(void **state)
{
  assert_int_equal(vc_jwt_cut(""), 0);
  assert_int_equal(vc_jwt_cut("/live/demo"), 10);
  assert_int_equal(vc_jwt_cut(make(JWT_ALG_HS256, "secret", GOOD)), 0);
  assert_int_equal(vc_jwt_cut("/live/eyJhbGciOiJIUzI1NiJ9.e30.x"), 6);
  static const char *const headers[] = {"{\"alg\":\"HS256\"}", "{ \"alg\": \"HS256\" }",
                                        "{\n\"alg\":\"HS256\"\n}", "{\n  \"alg\": \"HS256\"}",
                                        "{\r\n\t\"alg\":\"HS256\"}"};
  for (size_t i = 0; i < sizeof headers / sizeof *headers; i++) {
    char path[1024];
    snprintf(path, sizeof path, "/live/demo-%s", sign_raw(headers[i], GOOD, "secret"));
    assert_int_equal(vc_jwt_cut(path), 11);
  }
  static const char *const names[] = {
      "/live/homework", "ewok", "HeyAlex", "eyA", "ey", "e", "eyIa"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    assert_int_equal(vc_jwt_cut(names[i]), strlen(names[i]));
  }
  assert_int_equal(vc_jwt_cut("a.eyJ"), 2); // what begins so has been cut off
  assert_int_equal(vc_jwt_cut("a.eyJ%20"), 2);
}

// One that looked at all that follows each letter would be at it for minutes.
static void test_a_long_name_is_shown(void **state)
{
  enum { SIZE = 1 << 20 };
  char *text = malloc(SIZE + 1);
  assert_non_null(text);
  memset(text, 'A', SIZE);
  text[SIZE] = '\0';
  assert_int_equal(vc_jwt_cut(text), SIZE);
  memcpy(text + SIZE - 5, ".eyJh", 5);
  assert_int_equal(vc_jwt_cut(text), SIZE - 4);
  free(text);
}

// --- a small stack

struct deep {
  const char *list, *token;
  enum vc_jwt_verdict verdict;
};

static void *verify_deep(void *context)
{
  const struct vc_jwt_clock clock = {NOW * 1000, 0};
  struct deep *deep = context;
  struct vc_jwt jwt;
  struct vc_jwt_keys *keys = vc_jwt_keys_create(deep->list, NULL);
  deep->verdict = vc_jwt_verify(keys, deep->token, &clock, &jwt);
  json_decref(jwt.claims);
  vc_jwt_keys_destroy(&keys);
  return NULL;
}

static void expect_on_a_small_stack(const char *list, const char *token,
                                    enum vc_jwt_verdict verdict)
{
  struct deep deep = {list, token, VC_JWT_VERDICTS};
  pthread_attr_t attributes;
  pthread_t thread;
  pthread_attr_init(&attributes);
  assert_int_equal(pthread_attr_setstacksize(&attributes, (size_t)64 * 1024), 0);
  assert_int_equal(pthread_create(&thread, &attributes, verify_deep, &deep), 0);
  pthread_attr_destroy(&attributes);
  assert_int_equal(pthread_join(thread, NULL), 0);
  assert_int_equal(deep.verdict, verdict);
}

// `open` and `close` n times about nothing, within {"exp":1790000060,"a":…}.
static const char *nest(size_t n, const char *open, const char *close)
{
  static char claims[64 * 1024];
  char *at = claims + snprintf(claims, sizeof claims, "{\"exp\":1790000060,\"a\":");
  for (size_t i = 0; i < n; i++) {
    at = stpcpy(at, open);
  }
  at = stpcpy(at, "0");
  for (size_t i = 0; i < n; i++) {
    at = stpcpy(at, close);
  }
  stpcpy(at, "}");
  return claims;
}

static void test_what_nests_on_a_small_stack(void **state)
{
  static const char header[] = "{\"alg\":\"HS256\"}";
  const char *deep = sign_raw(header, nest(2000, "[", "]"), "secret");
  expect_on_a_small_stack("secret", deep, VC_JWT_MALFORMED);
  deep = sign_raw(header, nest(1000, "{\"\":", "}"), "secret");
  expect_on_a_small_stack("secret", deep, VC_JWT_MALFORMED);
  deep = sign_raw(nest(2000, "[", "]"), "{}", "secret");
  expect_on_a_small_stack("secret", deep, VC_JWT_MALFORMED);
  deep = sign_raw(header, nest(VC_JSON_DEPTH_MAX - 1, "[", "]"), "secret");
  expect_on_a_small_stack("secret", deep, VC_JWT_GOOD);
  deep = sign_raw(header, nest(VC_JSON_DEPTH_MAX - 1, "{\"a\":", "}"), "secret");
  expect_on_a_small_stack("secret", deep, VC_JWT_GOOD);
}

static void test_what_is_long_on_a_small_stack(void **state)
{
  static char text[1 << 20];
  memset(text, 'e', sizeof text - 1);
  text[1000] = text[2000] = '.';
  expect_on_a_small_stack("secret", text, VC_JWT_TOO_LONG);
  char claims[6100];
  snprintf(claims, sizeof claims, "{\"exp\":1790000060,\"a\":\"%05800d\"}", 0);
  expect_on_a_small_stack("secret", make(JWT_ALG_HS256, "secret", claims), VC_JWT_GOOD);
  expect_on_a_small_stack(rsa.public_pem, make(JWT_ALG_RS256, rsa.private_pem, claims),
                          VC_JWT_GOOD);
  expect_on_a_small_stack(p256.public_pem, make(JWT_ALG_ES256, p256.private_pem, claims),
                          VC_JWT_GOOD);
}

// --- many at once

#define TURNS 20

struct many {
  const char *list, *tokens[3];
  size_t n_good;
};

static void *verify_all(void *context)
{
  const struct vc_jwt_clock clock = {NOW * 1000, 0};
  struct many *many = context;
  for (size_t i = 0; i < (size_t)3 * TURNS; i++) {
    struct vc_jwt jwt;
    struct vc_jwt_keys *keys = vc_jwt_keys_create(many->list, NULL);
    many->n_good += vc_jwt_verify(keys, many->tokens[i % 3], &clock, &jwt) == VC_JWT_GOOD;
    json_decref(jwt.claims);
    vc_jwt_keys_destroy(&keys);
  }
  return NULL;
}

// libjwt, jansson and OpenSSL by several threads, as the doors and the ingest have them.
static void test_many_threads(void **state)
{
  char list[2 * PEM_MAX + 8];
  snprintf(list, sizeof list, "%s%s,secret", rsa.public_pem, p256.public_pem);
  const struct many one = {list,
                           {make(JWT_ALG_HS256, "secret", GOOD),
                            make(JWT_ALG_RS256, rsa.private_pem, GOOD),
                            make(JWT_ALG_ES256, p256.private_pem, GOOD)},
                           0};
  struct many all[] = {one, one, one, one};
  pthread_t threads[4];
  for (size_t i = 0; i < 4; i++) {
    assert_int_equal(pthread_create(&threads[i], NULL, verify_all, &all[i]), 0);
  }
  for (size_t i = 0; i < 4; i++) {
    assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(all[i].n_good, 3 * TURNS);
  }
}

// --- making one

static char *print(const char *list, const char *claims)
{
  struct vc_jwt_keys *keys = vc_jwt_keys_create(list, NULL);
  json_t *object = json_loads(claims, JSON_DECODE_ANY, NULL);
  char *token = vc_jwt_print(keys, object);
  json_decref(object);
  vc_jwt_keys_destroy(&keys);
  return token;
}

static void test_print(void **state)
{
  static const char claims[] = "{\"exp\":1790000060,\"nbf\":1.5,\"iss\":\"APIkey\",\"video\":"
                               "{\"room\":\"r\xc3\xa9\",\"roomRecord\":true}}";
  char *token = print("new,old", claims);
  assert_non_null(token);
  EXPECT(VC_JWT_GOOD, "new", token);
  EXPECT(VC_JWT_SIGNATURE, "old", token);
  assert_int_equal(strncmp(token, "eyJ", 3), 0);
  free(token);
}

static void test_what_is_not_printed(void **state)
{
  char claims[VC_JWT_CLAIMS_MAX + 100];
  snprintf(claims, sizeof claims, "{\"a\":\"%0*d\"}", VC_JWT_CLAIMS_MAX, 0);
  assert_null(print("secret", claims));
  assert_null(print("secret", "[]"));
  assert_null(print(rsa.public_pem, GOOD));
  assert_null(vc_jwt_print(NULL, NULL));
}

// --- without memory

static const char *tried_list, *tried_token;

// Returns: the verdict. Claims come with a good one alone, and are whole. Nothing is left in
// OpenSSL's queue, where who speaks TLS would find it.
static enum vc_jwt_verdict try_token(const struct vc_jwt_keys *keys)
{
  const struct vc_jwt_clock clock = {NOW * 1000, 5000};
  struct vc_jwt jwt;
  enum vc_jwt_verdict verdict = vc_jwt_verify(keys, tried_token, &clock, &jwt);
  assert_int_equal(jwt.claims != NULL, verdict == VC_JWT_GOOD);
  if (jwt.claims != NULL) {
    assert_string_equal(vc_json_string(jwt.claims, "session", ""), "demo");
  }
  json_decref(jwt.claims);
  assert_int_equal(ERR_peek_error(), 0);
  return verdict;
}

static const struct vc_jwt_keys *tried_keys;

// Of what could not be looked at that alone is said.
static void try_good(void)
{
  enum vc_jwt_verdict verdict = try_token(tried_keys);
  assert_int_equal(verdict, memory_has_failed ? VC_JWT_NO_MEMORY : VC_JWT_GOOD);
}

static void try_forged(void)
{
  enum vc_jwt_verdict verdict = try_token(tried_keys);
  assert_int_equal(verdict, memory_has_failed ? VC_JWT_NO_MEMORY : VC_JWT_SIGNATURE);
}

// libjwt asks for a size of -1 where OpenSSL did not tell it one: malloc has none.
const char *__asan_default_options(void);
const char *__tsan_default_options(void);

const char *__asan_default_options(void)
{
  return "allocator_may_return_null=1";
}

const char *__tsan_default_options(void)
{
  return "allocator_may_return_null=1";
}

// Nor does it let go of all that it took, where OpenSSL then has no memory.
void __lsan_disable(void) __attribute__((weak));
void __lsan_enable(void) __attribute__((weak));

// Reading a key takes thousands: of more than TRIES some are left out, evenly. Returns: how many
// there are.
static size_t fail_each(void (*attempt)(void))
{
  enum { TRIES = 50 };
  if (__lsan_disable != NULL) {
    __lsan_disable();
  }
  memory_fail(0, 0);
  attempt();
  size_t n = memory_n_allocations(), n_tries = n < TRIES ? n : TRIES;
  for (size_t i = 0; i < n_tries; i++) {
    memory_fail(i * n / n_tries, 1);
    attempt();
    memory_fail(0, 0);
  }
  if (__lsan_enable != NULL) {
    __lsan_enable();
  }
  return n;
}

// OpenSSL's memory is the test's, so that it can fail too.
static void *allocate(size_t size, const char *file, int line)
{
  return malloc(size);
}

static void *reallocate(void *old, size_t size, const char *file, int line)
{
  return realloc(old, size);
}

static void let_go(void *old, const char *file, int line)
{
  free(old);
}

static void try_keys(void)
{
  struct vc_jwt_keys *keys = vc_jwt_keys_create(tried_list, NULL);
  assert_true(keys != NULL || memory_has_failed);
  enum vc_jwt_verdict verdict = keys != NULL ? try_token(keys) : VC_JWT_NO_MEMORY;
  assert_true(verdict == VC_JWT_GOOD || (verdict == VC_JWT_NO_MEMORY && memory_has_failed));
  vc_jwt_keys_destroy(&keys);
}

static json_t *tried_claims;

static void try_print(void)
{
  struct vc_jwt_keys *keys = vc_jwt_keys_create("secret", NULL);
  char *token = vc_jwt_print(keys, tried_claims);
  assert_true(token != NULL || memory_has_failed);
  vc_jwt_keys_destroy(&keys);
  if (token != NULL) {
    memory_fail(0, 0);
    EXPECT(VC_JWT_GOOD, "secret", token);
  }
  free(token);
}

static void test_without_memory(void **state)
{
  tried_list = list_of(rsa.public_pem, "secret");
  tried_token = make(JWT_ALG_HS256, "secret", GOOD);
  assert_true(fail_each(try_keys) >= 10);
  tried_token = make(JWT_ALG_RS256, rsa.private_pem, GOOD);
  assert_true(fail_each(try_keys) >= 10);
}

// The key that is right stands before another one of its kind, which says that it is wrong.
static void check_without_memory(jwt_alg_t algorithm, const char *signs, const char *forges,
                                 const char *list)
{
  struct vc_jwt_keys *keys = vc_jwt_keys_create(list, NULL);
  tried_keys = keys;
  tried_token = make(algorithm, signs, GOOD);
  try_good(); // what OpenSSL keeps is there
  assert_true(fail_each(try_good) >= 10);
  tried_token = make(algorithm, forges, GOOD);
  assert_true(fail_each(try_forged) >= 10);
  vc_jwt_keys_destroy(&keys);
}

static void test_signatures_without_memory(void **state)
{
  check_without_memory(JWT_ALG_HS256, "secret", "guess", "secret,other");
  check_without_memory(JWT_ALG_RS256, rsa.private_pem, third_rsa.private_pem,
                       list_of(rsa.public_pem, other_rsa.public_pem));
  check_without_memory(JWT_ALG_ES256, p256.private_pem, third_p256.private_pem,
                       list_of(p256.public_pem, other_p256.public_pem));
}

// A token is not judged by what there was no memory for before.
static void test_a_failure_of_before(void **state)
{
  struct vc_jwt_keys *keys = vc_jwt_keys_create(rsa.public_pem, NULL);
  tried_token = make(JWT_ALG_RS256, rsa.private_pem, GOOD);
  memory_fail(0, 1);
  assert_null(OPENSSL_malloc(1));
  memory_fail(0, 0);
  assert_int_equal(try_token(keys), VC_JWT_GOOD);
  vc_jwt_keys_destroy(&keys);
}

static const struct vc_secret *tried_secret;

static void try_secret(void)
{
  const struct vc_jwt_clock clock = {NOW * 1000, 5000};
  struct vc_jwt jwt;
  memset(&jwt, 0xff, sizeof jwt);
  enum vc_jwt_verdict verdict = vc_jwt_verify_by(tried_secret, tried_token, &clock, &jwt);
  assert_int_equal(verdict, memory_has_failed ? VC_JWT_NO_MEMORY : VC_JWT_GOOD);
  assert_int_equal(jwt.claims != NULL, verdict == VC_JWT_GOOD);
  json_decref(jwt.claims);
}

// One that is not set has no keys; one that is has them, or no memory for them.
static void test_a_secret_without_memory(void **state)
{
  static const struct vc_option rows[] = {
      {"SECRET", VC_OPTION_SECRET, offsetof(struct options, secret)}, VC_OPTION_ROWS_END};
  struct options options = {NULL};
  const struct vc_option_group group = {"Test", rows, &options};
  struct vc_option_set set = {"test", "A test.", &group, 1, NULL};
  const struct vc_jwt_clock clock = {NOW * 1000, 5000};
  struct vc_jwt jwt;
  char program[] = "test", variable[] = "SECRET=secret";
  char *arguments[] = {program, NULL}, *nothing[] = {NULL}, *environment[] = {variable, NULL};
  tried_token = make(JWT_ALG_HS256, "secret", GOOD);
  assert_int_equal(vc_options_parse(&set, 1, arguments, nothing, stdout, NULL), VC_OPTIONS_RUN);
  assert_int_equal(vc_jwt_verify_by(options.secret, tried_token, &clock, &jwt), VC_JWT_ALGORITHM);
  vc_options_free(&set);
  assert_int_equal(vc_options_parse(&set, 1, arguments, environment, stdout, NULL), VC_OPTIONS_RUN);
  tried_secret = options.secret;
  assert_true(fail_each(try_secret) >= 3);
  vc_options_free(&set);
}

static void test_printing_without_memory(void **state)
{
  tried_claims = json_loads(GOOD, 0, NULL);
  assert_true(memory_fail_each(try_print) >= 3);
  json_decref(tried_claims);
}

int main(void)
{
  if (!CRYPTO_set_mem_functions(allocate, reallocate, let_go)) {
    return 1;
  }
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_each_algorithm_by_its_key),
      cmocka_unit_test(test_another_key),
      cmocka_unit_test(test_an_algorithm_of_another_key),
      cmocka_unit_test(test_algorithms_that_nobody_has),
      cmocka_unit_test(test_a_public_key_is_no_secret),
      cmocka_unit_test(test_keys_while_they_are_rotated),
      cmocka_unit_test(test_keys_one_behind_the_other),
      cmocka_unit_test(test_what_is_no_key),
      cmocka_unit_test(test_a_certificate_is_no_key),
      cmocka_unit_test(test_an_encrypted_private_key_is_no_key),
      cmocka_unit_test(test_no_keys),
      cmocka_unit_test(test_the_keys_of_an_option),
      cmocka_unit_test(test_keys_that_are_read_while_they_change),
      cmocka_unit_test(test_what_is_no_token),
      cmocka_unit_test(test_letters),
      cmocka_unit_test(test_headers),
      cmocka_unit_test(test_claims),
      cmocka_unit_test(test_a_changed_token_is_none),
      cmocka_unit_test(test_signatures_of_another_size),
      cmocka_unit_test(test_a_signature_in_der),
      cmocka_unit_test(test_size),
      cmocka_unit_test(test_expiry),
      cmocka_unit_test(test_not_before),
      cmocka_unit_test(test_what_is_given),
      cmocka_unit_test(test_each_verdict_has_its_words),
      cmocka_unit_test(test_what_of_a_name_is_shown),
      cmocka_unit_test(test_a_long_name_is_shown),
      cmocka_unit_test(test_what_nests_on_a_small_stack),
      cmocka_unit_test(test_what_is_long_on_a_small_stack),
      cmocka_unit_test(test_many_threads),
      cmocka_unit_test(test_print),
      cmocka_unit_test(test_what_is_not_printed),
      cmocka_unit_test(test_without_memory),
      cmocka_unit_test(test_signatures_without_memory),
      cmocka_unit_test(test_a_failure_of_before),
      cmocka_unit_test(test_a_secret_without_memory),
      cmocka_unit_test(test_printing_without_memory),
  };
  return cmocka_run_group_tests(tests, set_up, NULL);
}
