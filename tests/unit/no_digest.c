#include "no_verdict.h"

#include <stdatomic.h>

#include <openssl/evp.h>

int __real_EVP_Digest(const void *bytes, size_t size, unsigned char *digest, unsigned int *n,
                      const EVP_MD *type, ENGINE *engine);
int __wrap_EVP_Digest(const void *bytes, size_t size, unsigned char *digest, unsigned int *n,
                      const EVP_MD *type, ENGINE *engine);

static atomic_int n_left;

void no_memory_for_digest(int n)
{
  n_left = n;
}

int __wrap_EVP_Digest(const void *bytes, size_t size, unsigned char *digest, unsigned int *n,
                      const EVP_MD *type, ENGINE *engine)
{
  int is_lacking = n_left > 0 && --n_left == 0;
  return is_lacking ? 0 : __real_EVP_Digest(bytes, size, digest, n, type, engine);
}
