#include "sha256.h"

#include <string.h>

#define BLOCK 64

struct state {
  uint32_t h[8];
  uint64_t n_bytes;
  uint8_t block[BLOCK];
};

static const uint32_t k[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static uint32_t rotate(uint32_t x, int n)
{
  return x >> n | x << (32 - n);
}

static void add_block(struct state *state)
{
  uint32_t w[64], v[8];
  for (int i = 0; i < 16; i++) {
    const uint8_t *b = state->block + 4 * i;
    w[i] = (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
  }
  for (int i = 16; i < 64; i++) {
    uint32_t s0 = rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ w[i - 15] >> 3;
    uint32_t s1 = rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ w[i - 2] >> 10;
    w[i] = w[i - 16] + s0 + w[i - 7] + s1;
  }
  memcpy(v, state->h, sizeof v);
  for (int i = 0; i < 64; i++) {
    uint32_t s1 = rotate(v[4], 6) ^ rotate(v[4], 11) ^ rotate(v[4], 25);
    uint32_t t1 = v[7] + s1 + ((v[4] & v[5]) ^ (~v[4] & v[6])) + k[i] + w[i];
    uint32_t s0 = rotate(v[0], 2) ^ rotate(v[0], 13) ^ rotate(v[0], 22);
    uint32_t t2 = s0 + ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));
    memmove(v + 1, v, 7 * sizeof *v);
    v[4] += t1;
    v[0] = t1 + t2;
  }
  for (int i = 0; i < 8; i++) {
    state->h[i] += v[i];
  }
}

static void begin(struct state *state)
{
  static const uint32_t initial[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  memcpy(state->h, initial, sizeof initial);
  state->n_bytes = 0;
}

static void add(struct state *state, const uint8_t *bytes, size_t size)
{
  for (size_t i = 0; i < size; i++) {
    state->block[state->n_bytes++ % BLOCK] = bytes[i];
    if (state->n_bytes % BLOCK == 0) {
      add_block(state);
    }
  }
}

static void end(struct state *state, uint8_t digest[SHA256_SIZE])
{
  uint64_t n_bits = state->n_bytes * 8;
  const uint8_t one = 0x80, zero = 0;
  uint8_t length[8];
  add(state, &one, 1);
  while (state->n_bytes % BLOCK != BLOCK - 8) {
    add(state, &zero, 1);
  }
  for (int i = 0; i < 8; i++) {
    length[i] = (uint8_t)(n_bits >> (56 - 8 * i));
  }
  add(state, length, 8);
  for (int i = 0; i < SHA256_SIZE; i++) {
    digest[i] = (uint8_t)(state->h[i / 4] >> (24 - 8 * (i % 4)));
  }
}

void hmac_sha256(const uint8_t *key, size_t key_size, const uint8_t *a, size_t a_size,
                 const uint8_t *b, size_t b_size, uint8_t digest[SHA256_SIZE])
{
  struct state state;
  uint8_t pad[BLOCK] = {0}, inner[SHA256_SIZE];
  if (key_size > BLOCK) {
    begin(&state);
    add(&state, key, key_size);
    end(&state, pad);
  } else {
    memcpy(pad, key, key_size);
  }
  for (int i = 0; i < BLOCK; i++) {
    pad[i] ^= 0x36;
  }
  begin(&state);
  add(&state, pad, BLOCK);
  add(&state, a, a_size);
  add(&state, b, b_size);
  end(&state, inner);
  for (int i = 0; i < BLOCK; i++) {
    pad[i] ^= 0x36 ^ 0x5c;
  }
  begin(&state);
  add(&state, pad, BLOCK);
  add(&state, inner, SHA256_SIZE);
  end(&state, digest);
}
