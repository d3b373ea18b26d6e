// Flash's publishers put a digest of C1 into C1 and want one back; all others take the simple
// handshake: S1 of any bytes, S2 a copy of C1.
#include "rtmp.h"

#include <string.h>

#include "sha256.h"

#define VERSION 3
#define PLAYER_KEY "Genuine Adobe Flash Player 001"
#define SERVER_KEY_SIZE 36 // of server_key, without the constant behind it

static const uint8_t server_key[] =
    "Genuine Adobe Flash Media Server 001"
    "\xf0\xee\xc2\x4a\x80\x68\xbe\xe8\x2e\x00\xd0\xd1\x02\x9e\x7e\x57"
    "\x6e\xec\x5d\x2d\x29\x80\x6f\xab\x93\xb8\xe6\x36\xcf\xeb\x31\xae";

// Where the digest stands: `base` is the place of the four bytes that say it.
static size_t digest_offset(const uint8_t *c1, size_t base)
{
  size_t sum = (size_t)c1[base] + c1[base + 1] + c1[base + 2] + c1[base + 3];
  return sum % 728 + base + 4;
}

static void make_digest(const uint8_t *bytes, size_t offset, const uint8_t *key, size_t key_size,
                        uint8_t digest[SHA256_SIZE])
{
  size_t after = offset + SHA256_SIZE;
  hmac_sha256(key, key_size, bytes, offset, bytes + after, RTMP_HANDSHAKE_SIZE - after, digest);
}

// Returns: 0 no digest, else where it begins; *base says which of the two layouts C1 has.
static size_t find_digest(const uint8_t *c1, size_t *base)
{
  static const size_t bases[] = {8, 772};
  for (size_t i = 0; i < 2; i++) {
    uint8_t digest[SHA256_SIZE];
    size_t offset = digest_offset(c1, bases[i]);
    make_digest(c1, offset, (const uint8_t *)PLAYER_KEY, sizeof PLAYER_KEY - 1, digest);
    if (memcmp(digest, c1 + offset, SHA256_SIZE) == 0) {
      *base = bases[i];
      return offset;
    }
  }
  return 0;
}

static void answer_digest(const uint8_t *c1, size_t c1_digest, size_t base, uint8_t *s1,
                          uint8_t *s2)
{
  static const uint8_t version[4] = {4, 5, 0, 1};
  uint8_t key[SHA256_SIZE];
  memcpy(s1 + 4, version, 4);
  size_t offset = digest_offset(s1, base);
  uint8_t digest[SHA256_SIZE];
  make_digest(s1, offset, server_key, SERVER_KEY_SIZE, digest);
  memcpy(s1 + offset, digest, SHA256_SIZE);
  hmac_sha256(server_key, sizeof server_key - 1, c1 + c1_digest, SHA256_SIZE, NULL, 0, key);
  size_t body = RTMP_HANDSHAKE_SIZE - SHA256_SIZE;
  hmac_sha256(key, sizeof key, s2, body, NULL, 0, s2 + body);
}

int rtmp_handshake_answer(const uint8_t c0c1[RTMP_C0C1_SIZE], const uint8_t *random,
                          uint8_t s0s1s2[RTMP_S0S1S2_SIZE])
{
  const uint8_t *c1 = c0c1 + 1;
  uint8_t *s1 = s0s1s2 + 1, *s2 = s1 + RTMP_HANDSHAKE_SIZE;
  size_t base = 0, offset = 0;
  if (c0c1[0] != VERSION) {
    return -1;
  }
  s0s1s2[0] = VERSION;
  memcpy(s1, random, (size_t)2 * RTMP_HANDSHAKE_SIZE);
  memset(s1, 0, 8); // time and version
  if (rtmp_read_u32(c1 + 4) != 0) {
    offset = find_digest(c1, &base);
  }
  if (offset != 0) {
    answer_digest(c1, offset, base, s1, s2);
  } else {
    memcpy(s2, c1, RTMP_HANDSHAKE_SIZE);
  }
  return 0;
}

void rtmp_handshake_begin(const uint8_t random[RTMP_HANDSHAKE_SIZE], uint8_t c0c1[RTMP_C0C1_SIZE])
{
  c0c1[0] = VERSION;
  memcpy(c0c1 + 1, random, RTMP_HANDSHAKE_SIZE);
  memset(c0c1 + 1, 0, 8);
}
