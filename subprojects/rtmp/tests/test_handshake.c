// The digests are checked as a Flash client checks them; HMAC-SHA-256 itself against RFC 4231.
#include <rtmp.h>
#include <sha256.h>

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static const char player_key[] = "Genuine Adobe Flash Player 001";
static const uint8_t server_key[] =
    "Genuine Adobe Flash Media Server 001"
    "\xf0\xee\xc2\x4a\x80\x68\xbe\xe8\x2e\x00\xd0\xd1\x02\x9e\x7e\x57"
    "\x6e\xec\x5d\x2d\x29\x80\x6f\xab\x93\xb8\xe6\x36\xcf\xeb\x31\xae";

struct handshake {
  uint8_t random[2 * RTMP_HANDSHAKE_SIZE];
  uint8_t c0c1[RTMP_C0C1_SIZE];
  uint8_t answer[RTMP_S0S1S2_SIZE];
};

static void fill(uint8_t *bytes, size_t size, unsigned seed)
{
  for (size_t i = 0; i < size; i++) {
    seed = seed * 1103515245 + 12345;
    bytes[i] = (uint8_t)(seed >> 16);
  }
}

static void begin(struct handshake *handshake, unsigned seed)
{
  fill(handshake->random, sizeof handshake->random, seed);
  fill(handshake->c0c1, sizeof handshake->c0c1, seed + 1);
  handshake->c0c1[0] = 3;
  memset(handshake->c0c1 + 1, 0, 8);
  memset(handshake->answer, 0xee, sizeof handshake->answer);
}

static void hmac_of(const char *key, size_t key_size, const char *text, uint8_t digest[SHA256_SIZE])
{
  size_t half = strlen(text) / 2;
  hmac_sha256((const uint8_t *)key, key_size, (const uint8_t *)text, half,
              (const uint8_t *)text + half, strlen(text) - half, digest);
}

static void test_hmac_sha256(void **state)
{
  uint8_t digest[SHA256_SIZE];
  char long_key[131];
  memset(long_key, 0xaa, sizeof long_key);
  hmac_of("Jefe", 4, "what do ya want for nothing?", digest);
  assert_memory_equal(digest,
                      "\x5b\xdc\xc1\x46\xbf\x60\x75\x4e\x6a\x04\x24\x26\x08\x95\x75\xc7"
                      "\x5a\x00\x3f\x08\x9d\x27\x39\x83\x9d\xec\x58\xb9\x64\xec\x38\x43",
                      SHA256_SIZE);
  hmac_of(long_key, sizeof long_key, "Test Using Larger Than Block-Size Key - Hash Key First",
          digest);
  assert_memory_equal(digest,
                      "\x60\xe4\x31\x59\x1e\xe0\xb6\x7f\x0d\x8a\x26\xaa\xcb\xf5\xb7\x7f"
                      "\x8e\x0b\xc6\x21\x37\x28\xc5\x14\x05\x46\x04\x0f\x0e\xe3\x7f\x54",
                      SHA256_SIZE);
}

static void check_simple(const struct handshake *handshake)
{
  static const uint8_t zeros[8];
  const uint8_t *s1 = handshake->answer + 1, *s2 = s1 + RTMP_HANDSHAKE_SIZE;
  assert_int_equal(handshake->answer[0], 3);
  assert_memory_equal(s1, zeros, 8);
  assert_memory_equal(s1 + 8, handshake->random + 8, RTMP_HANDSHAKE_SIZE - 8);
  assert_memory_equal(s2, handshake->c0c1 + 1, RTMP_HANDSHAKE_SIZE);
}

static void test_simple(void **state)
{
  struct handshake handshake;
  begin(&handshake, 1);
  assert_int_equal(rtmp_handshake_answer(handshake.c0c1, handshake.random, handshake.answer), 0);
  check_simple(&handshake);
}

static void test_version_without_digest_is_simple(void **state)
{
  struct handshake handshake;
  begin(&handshake, 2);
  memcpy(handshake.c0c1 + 5, "\x80\x00\x07\x02", 4);
  assert_int_equal(rtmp_handshake_answer(handshake.c0c1, handshake.random, handshake.answer), 0);
  check_simple(&handshake);
}

static void test_other_versions_are_refused(void **state)
{
  struct handshake handshake;
  for (int version = 0; version < 256; version++) {
    begin(&handshake, 3);
    handshake.c0c1[0] = (uint8_t)version;
    assert_int_equal(rtmp_handshake_answer(handshake.c0c1, handshake.random, handshake.answer),
                     version == 3 ? 0 : -1);
  }
}

static size_t offset_in(const uint8_t *bytes, size_t base)
{
  return (size_t)(bytes[base] + bytes[base + 1] + bytes[base + 2] + bytes[base + 3]) % 728 + base +
         4;
}

// Puts the digest where the layout says, as a player does. Returns: where.
static size_t sign(uint8_t *c1, size_t base)
{
  size_t at = offset_in(c1, base), after = at + SHA256_SIZE;
  uint8_t digest[SHA256_SIZE];
  hmac_sha256((const uint8_t *)player_key, sizeof player_key - 1, c1, at, c1 + after,
              RTMP_HANDSHAKE_SIZE - after, digest);
  memcpy(c1 + at, digest, SHA256_SIZE);
  return at;
}

static void check_digests(const struct handshake *handshake, size_t base, const uint8_t *c1_digest)
{
  const uint8_t *s1 = handshake->answer + 1, *s2 = s1 + RTMP_HANDSHAKE_SIZE;
  size_t at = offset_in(s1, base), after = at + SHA256_SIZE;
  size_t body = RTMP_HANDSHAKE_SIZE - SHA256_SIZE;
  uint8_t digest[SHA256_SIZE], key[SHA256_SIZE];
  assert_int_equal(handshake->answer[0], 3);
  assert_true(rtmp_read_u32(s1 + 4) != 0); // a version: the client looks for a digest
  hmac_sha256(server_key, 36, s1, at, s1 + after, RTMP_HANDSHAKE_SIZE - after, digest);
  assert_memory_equal(s1 + at, digest, SHA256_SIZE);
  hmac_sha256(server_key, sizeof server_key - 1, c1_digest, SHA256_SIZE, NULL, 0, key);
  hmac_sha256(key, sizeof key, s2, body, NULL, 0, digest);
  assert_memory_equal(s2 + body, digest, SHA256_SIZE);
}

// With the place of the digest at both ends of its range, in C1 and in S1, and in between.
static void test_digest_in_both_layouts(void **state)
{
  static const size_t bases[] = {8, 772};
  static const char *const places[] = {"\0\0\0\0", "\xff\xff\xd9\0", "\xff\xff\xff\xff",
                                       "\1\2\3\4"};
  struct handshake handshake;
  for (size_t i = 0; i < 2; i++) {
    for (size_t j = 0; j < 16; j++) {
      begin(&handshake, (unsigned)(10 + j));
      uint8_t *c1 = handshake.c0c1 + 1;
      memcpy(c1 + 4, "\x80\x00\x07\x02", 4);
      memcpy(c1 + bases[i], places[j % 4], 4);
      memcpy(handshake.random + bases[i], places[j / 4], 4);
      size_t at = sign(c1, bases[i]);
      assert_int_equal(rtmp_handshake_answer(handshake.c0c1, handshake.random, handshake.answer),
                       0);
      check_digests(&handshake, bases[i], c1 + at);
    }
  }
}

static void test_a_broken_digest_is_simple(void **state)
{
  struct handshake handshake;
  begin(&handshake, 20);
  uint8_t *c1 = handshake.c0c1 + 1;
  memcpy(c1 + 4, "\x80\x00\x07\x02", 4);
  size_t at = sign(c1, 8);
  c1[at + 31] ^= 1;
  assert_int_equal(rtmp_handshake_answer(handshake.c0c1, handshake.random, handshake.answer), 0);
  check_simple(&handshake);
}

static void test_client_begins(void **state)
{
  struct handshake handshake;
  begin(&handshake, 30);
  rtmp_handshake_begin(handshake.random, handshake.c0c1);
  assert_int_equal(handshake.c0c1[0], 3);
  assert_int_equal(rtmp_read_u32(handshake.c0c1 + 5), 0);
  assert_memory_equal(handshake.c0c1 + 9, handshake.random + 8, RTMP_HANDSHAKE_SIZE - 8);
  assert_int_equal(rtmp_handshake_answer(handshake.c0c1, handshake.random, handshake.answer), 0);
  check_simple(&handshake);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_hmac_sha256),
      cmocka_unit_test(test_simple),
      cmocka_unit_test(test_version_without_digest_is_simple),
      cmocka_unit_test(test_other_versions_are_refused),
      cmocka_unit_test(test_digest_in_both_layouts),
      cmocka_unit_test(test_a_broken_digest_is_simple),
      cmocka_unit_test(test_client_begins),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
