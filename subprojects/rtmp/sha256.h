// HMAC-SHA-256 (FIPS 180-4, RFC 2104), for the digests in RTMP's handshake only.
#pragma once

#include <stddef.h>
#include <stdint.h>

#define SHA256_SIZE 32

// The message is given in two pieces, so that a digest in its middle can be left out.
void hmac_sha256(const uint8_t *key, size_t key_size, const uint8_t *a, size_t a_size,
                 const uint8_t *b, size_t b_size, uint8_t digest[SHA256_SIZE]);
