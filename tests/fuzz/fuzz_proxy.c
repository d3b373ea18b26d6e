// PROXY headers: whole and byte by byte they are read as the same, and an address comes only with a
// whole one.
#include <verbacast/wire/proxy.h>

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct vc_address proxy = {.n_bytes = 4, .bytes = {127, 0, 0, 1}, .port = 1};

// In an allocation of exactly that size, so that a sanitizer sees a read past it.
static int parse_first(const uint8_t *data, size_t size, struct vc_address *client)
{
  uint8_t *bytes = malloc(size + (size == 0));
  assert(bytes != NULL);
  memcpy(bytes, data, size);
  *client = proxy;
  int n = vc_proxy_parse(bytes, size, client);
  free(bytes);
  return n;
}

static int is_proxy(const struct vc_address *client)
{
  return vc_address_equal(client, &proxy) && client->port == proxy.port;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  struct vc_address client, in_pieces;
  int n = parse_first(data, size, &client), n_in_pieces = 0;
  assert(n >= -1 && n <= VC_PROXY_HEADER_MAX && (n <= 0 || (size_t)n <= size));
  assert(n > 0 ? client.n_bytes == 4 || client.n_bytes == 16 : is_proxy(&client));
  assert(n != 0 || size < VC_PROXY_HEADER_MAX);
  for (size_t i = 0; i <= size && n_in_pieces == 0; i++) {
    n_in_pieces = parse_first(data, i, &in_pieces);
  }
  assert(n == n_in_pieces && vc_address_equal(&client, &in_pieces));
  return 0;
}
