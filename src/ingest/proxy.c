// PROXY protocol version 2, as HAProxy documents it (proxy-protocol.txt, section 2.2).
#include "room.h"

#include <netinet/in.h>
#include <string.h>

#define HEADER_SIZE 16
#define LENGTH_MAX 2048

int proxy_parse(const uint8_t *bytes, size_t size, struct vc_address *address)
{
  static const uint8_t signature[12] = "\r\n\r\n\0\r\nQUIT\n";
  size_t seen = size < sizeof signature ? size : sizeof signature;
  if (memcmp(bytes, signature, seen) != 0) {
    return -1;
  }
  if (size < HEADER_SIZE) {
    return 0;
  }
  size_t length = (size_t)bytes[14] << 8 | bytes[15];
  if (bytes[12] >> 4 != 2 || (bytes[12] & 0x0f) > 1 || length > LENGTH_MAX) {
    return -1;
  }
  if (size < HEADER_SIZE + length) {
    return 0;
  }
  int is_proxied = (bytes[12] & 0x0f) == 1;
  const uint8_t *from = bytes + HEADER_SIZE;
  if (is_proxied && bytes[13] == 0x11 && length >= 12) { // TCP over IPv4
    *address = (struct vc_address){.n_bytes = 4, .port = (uint16_t)(from[8] << 8 | from[9])};
    memcpy(address->bytes, from, 4);
  } else if (is_proxied && bytes[13] == 0x21 && length >= 36) { // TCP over IPv6
    // Told as of a socket, so that a mapped IPv4 address is the IPv4 address here too.
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
    memcpy(&in6.sin6_addr, from, 16);
    memcpy(&in6.sin6_port, from + 32, 2);
    vc_address_from_socket((const struct sockaddr *)&in6, address);
  }
  return (int)(HEADER_SIZE + length);
}
