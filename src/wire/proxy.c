// HAProxy's proxy-protocol.txt: version 1 is one line of text, section 2.1; version 2 is binary,
// section 2.2.
#include <verbacast/wire/proxy.h>

#include <ctype.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#define V1_SIZE_MAX 107 // with its CRLF
#define V2_HEAD_SIZE 16

enum { LOCAL = 0, PROXY = 1 };

// What `bytes` begins with, as far as they have come.
static int begins_with(const uint8_t *bytes, size_t size, const void *what, size_t n)
{
  return memcmp(bytes, what, size < n ? size : n) == 0;
}

// --- version 1: "PROXY TCP4 192.0.2.1 10.0.0.1 51234 1937\r\n"

// Takes the next of the words that single spaces part. Returns: 0, or -1 when there is none.
static int take_word(char **line, char **word)
{
  if (*line == NULL || **line == '\0' || **line == ' ') {
    return -1;
  }
  *word = *line;
  *line = strchr(*word, ' ');
  if (*line != NULL) {
    *(*line)++ = '\0';
  }
  return 0;
}

static int parse_port(const char *text, uint16_t *port)
{
  size_t n = strspn(text, "0123456789");
  unsigned long number = n > 0 && n <= 5 ? strtoul(text, NULL, 10) : UINT16_MAX + 1UL;
  if (text[n] != '\0' || (n > 1 && text[0] == '0') || number > UINT16_MAX) {
    return -1;
  }
  *port = (uint16_t)number;
  return 0;
}

// An address as of a socket of that family. Returns: 0 or -1.
static int parse_host(const char *text, int is_ipv6, struct vc_address *address)
{
  return (strchr(text, ':') != NULL) == is_ipv6 ? vc_address_parse(text, address) : -1;
}

static int parse_v1_line(char *line, struct vc_address *client)
{
  char *word, *family, *from, *to, *from_port, *to_port;
  struct vc_address found, unused;
  if (take_word(&line, &word) != 0 || strcmp(word, "PROXY") != 0 ||
      take_word(&line, &family) != 0) {
    return -1;
  }
  if (strcmp(family, "UNKNOWN") == 0) {
    return 0; // whatever stands behind it
  }
  int is_ipv6 = strcmp(family, "TCP6") == 0;
  if ((!is_ipv6 && strcmp(family, "TCP4") != 0) || take_word(&line, &from) != 0 ||
      take_word(&line, &to) != 0 || take_word(&line, &from_port) != 0 ||
      take_word(&line, &to_port) != 0 || line != NULL) {
    return -1;
  }
  if (parse_host(from, is_ipv6, &found) != 0 || parse_host(to, is_ipv6, &unused) != 0 ||
      parse_port(from_port, &found.port) != 0 || parse_port(to_port, &unused.port) != 0) {
    return -1;
  }
  *client = found;
  return 0;
}

static int parse_v1(const uint8_t *bytes, size_t size, struct vc_address *client)
{
  char line[V1_SIZE_MAX];
  size_t seen = size < V1_SIZE_MAX ? size : V1_SIZE_MAX;
  const uint8_t *end = memchr(bytes, '\n', seen);
  if (end == NULL) {
    return size < V1_SIZE_MAX ? 0 : -1;
  }
  size_t n = (size_t)(end - bytes);
  if (n == 0 || bytes[n - 1] != '\r' || memchr(bytes, '\0', n) != NULL) {
    return -1;
  }
  memcpy(line, bytes, n - 1);
  line[n - 1] = '\0';
  return parse_v1_line(line, client) == 0 ? (int)(n + 1) : -1;
}

// --- version 2: signature, version and command, family, length; addresses; TLVs

static void take_ipv4(const uint8_t *from, struct vc_address *client)
{
  *client = (struct vc_address){.n_bytes = 4, .port = (uint16_t)(from[8] << 8 | from[9])};
  memcpy(client->bytes, from, 4);
}

// Told as of a socket, so that a mapped IPv4 address is the IPv4 address here too.
static void take_ipv6(const uint8_t *from, struct vc_address *client)
{
  struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
  memcpy(&in6.sin6_addr, from, 16);
  memcpy(&in6.sin6_port, from + 32, 2);
  vc_address_from_socket((const struct sockaddr *)&in6, client);
}

// Returns: 0, or -1 when there are fewer bytes than an address of the family has.
static int take_address(uint8_t family, const uint8_t *from, size_t length,
                        struct vc_address *client)
{
  switch (family) {
  case 0x11: // TCP over IPv4
    if (length < 12) {
      return -1;
    }
    take_ipv4(from, client);
    return 0;
  case 0x21: // TCP over IPv6
    if (length < 36) {
      return -1;
    }
    take_ipv6(from, client);
    return 0;
  default: // the standard leaves it to the receiver: the connection's own address stays
    return 0;
  }
}

static int parse_v2(const uint8_t *bytes, size_t size, struct vc_address *client)
{
  if (size < V2_HEAD_SIZE) {
    return 0;
  }
  uint8_t version = bytes[12] >> 4, command = bytes[12] & 0x0f, family = bytes[13];
  size_t length = (size_t)bytes[14] << 8 | bytes[15];
  if (version != 2 || command > PROXY || length > VC_PROXY_HEADER_MAX - V2_HEAD_SIZE) {
    return -1;
  }
  if (size < V2_HEAD_SIZE + length) {
    return 0;
  }
  if (command == PROXY && take_address(family, bytes + V2_HEAD_SIZE, length, client) != 0) {
    return -1;
  }
  return (int)(V2_HEAD_SIZE + length);
}

int vc_proxy_parse(const uint8_t *bytes, size_t size, struct vc_address *client)
{
  static const uint8_t signature[12] = "\r\n\r\n\0\r\nQUIT\n";
  if (size == 0) {
    return 0;
  }
  if (begins_with(bytes, size, signature, sizeof signature)) {
    return parse_v2(bytes, size, client);
  }
  return begins_with(bytes, size, "PROXY ", 6) ? parse_v1(bytes, size, client) : -1;
}
