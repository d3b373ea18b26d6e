#include <verbacast/base/address.h>

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const uint8_t mapped_prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

static void set_ipv6(struct vc_address *address, const uint8_t bytes[16])
{
  if (memcmp(bytes, mapped_prefix, 12) == 0) {
    address->n_bytes = 4;
    memcpy(address->bytes, bytes + 12, 4);
  } else {
    address->n_bytes = 16;
    memcpy(address->bytes, bytes, 16);
  }
}

void vc_address_from_socket(const struct sockaddr *from, struct vc_address *address)
{
  *address = (struct vc_address){0};
  if (from->sa_family == AF_INET) {
    const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)from;
    address->n_bytes = 4;
    memcpy(address->bytes, &in->sin_addr, 4);
    address->port = ntohs(in->sin_port);
  } else if (from->sa_family == AF_INET6) {
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)from;
    set_ipv6(address, in6->sin6_addr.s6_addr);
    address->port = ntohs(in6->sin6_port);
  }
}

int vc_address_parse(const char *text, struct vc_address *address)
{
  uint8_t bytes[16];
  *address = (struct vc_address){0};
  if (inet_pton(AF_INET, text, address->bytes) == 1) {
    address->n_bytes = 4;
    return 0;
  }
  if (inet_pton(AF_INET6, text, bytes) == 1) {
    set_ipv6(address, bytes);
    return 0;
  }
  return -1;
}

void vc_address_print(const struct vc_address *address, char text[VC_ADDRESS_TEXT_MAX])
{
  int family = address->n_bytes == 16 ? AF_INET6 : AF_INET;
  if (address->n_bytes == 0 ||
      inet_ntop(family, address->bytes, text, VC_ADDRESS_TEXT_MAX) == NULL) {
    snprintf(text, VC_ADDRESS_TEXT_MAX, "unknown");
  }
}

void vc_address_print_port(const struct vc_address *address, char text[VC_ADDRESS_TEXT_MAX])
{
  char host[VC_ADDRESS_TEXT_MAX];
  vc_address_print(address, host);
  snprintf(text, VC_ADDRESS_TEXT_MAX, address->n_bytes == 16 ? "[%.46s]:%u" : "%.46s:%u", host,
           address->port);
}

int vc_address_is_loopback(const struct vc_address *address)
{
  static const uint8_t one[16] = {[15] = 1};
  return address->n_bytes == 4 ? address->bytes[0] == 127
                               : address->n_bytes == 16 && memcmp(address->bytes, one, 16) == 0;
}

int vc_address_equal(const struct vc_address *a, const struct vc_address *b)
{
  return a->n_bytes == b->n_bytes && memcmp(a->bytes, b->bytes, a->n_bytes) == 0;
}

static int parse_network(const char *text, size_t size, struct vc_networks *networks)
{
  char copy[VC_ADDRESS_TEXT_MAX];
  if (size == 0 || size >= sizeof copy || networks->n == VC_NETWORKS_MAX) {
    return -1;
  }
  memcpy(copy, text, size);
  copy[size] = '\0';
  char *slash = strchr(copy, '/');
  if (slash != NULL) {
    *slash = '\0';
  }
  struct vc_address *address = &networks->rows[networks->n].address;
  if (vc_address_parse(copy, address) != 0) {
    return -1;
  }
  long most = address->n_bytes * 8;
  long n_bits = most;
  if (slash != NULL) {
    char *end;
    n_bits = strtol(slash + 1, &end, 10);
    if (!isdigit((unsigned char)slash[1]) || *end != '\0' || n_bits < 0 || n_bits > most) {
      return -1;
    }
  }
  networks->rows[networks->n++].n_bits = (uint8_t)n_bits;
  return 0;
}

int vc_networks_parse(const char *text, struct vc_networks *networks, struct vc_error *error)
{
  *networks = (struct vc_networks){0};
  for (const char *at = text; *at != '\0';) {
    at += strspn(at, ", ");
    size_t n = strcspn(at, ", ");
    if (n > 0 && parse_network(at, n, networks) != 0) {
      return vc_error_set(error, "'%.*s' is no network such as 10.0.0.0/8 (at most %d of them)",
                          (int)n, at, VC_NETWORKS_MAX);
    }
    at += n;
  }
  return 0;
}

int vc_networks_have(const struct vc_networks *networks, const struct vc_address *address)
{
  for (size_t i = 0; i < networks->n; i++) {
    const struct vc_address *row = &networks->rows[i].address;
    size_t n_bits = networks->rows[i].n_bits;
    if (row->n_bytes != address->n_bytes || address->n_bytes == 0) {
      continue;
    }
    uint8_t last = n_bits % 8 == 0 ? 0 : (uint8_t)(0xff << (8 - n_bits % 8));
    if (memcmp(row->bytes, address->bytes, n_bits / 8) == 0 &&
        (last == 0 || ((row->bytes[n_bits / 8] ^ address->bytes[n_bits / 8]) & last) == 0)) {
      return 1;
    }
  }
  return 0;
}

int vc_listen_parse(const char *text, struct vc_address *address, struct vc_error *error)
{
  char host[VC_ADDRESS_TEXT_MAX];
  const char *colon = strrchr(text, ':');
  char *end = NULL;
  long port = colon != NULL ? strtol(colon + 1, &end, 10) : -1;
  size_t n = colon != NULL ? (size_t)(colon - text) : 0;
  if (n == 0 || n >= sizeof host || !isdigit((unsigned char)colon[1]) || *end != '\0' || port < 0 ||
      port > UINT16_MAX) {
    return vc_error_set(error, "is no HOST:PORT");
  }
  memcpy(host, text, n);
  host[n] = '\0';
  char *start = host;
  if (host[0] == '[' && host[n - 1] == ']') {
    host[n - 1] = '\0';
    start++;
  }
  const char *number = strcmp(start, "localhost") == 0 ? "127.0.0.1"
                       : strcmp(start, "*") == 0       ? "0.0.0.0"
                                                       : start;
  if (vc_address_parse(number, address) != 0) {
    return vc_error_set(error, "has a HOST that is neither a number, nor localhost, nor *");
  }
  address->port = (uint16_t)port;
  return 0;
}

static socklen_t to_socket(const struct vc_address *address, struct sockaddr_storage *to)
{
  *to = (struct sockaddr_storage){0};
  if (address->n_bytes == 4) {
    struct sockaddr_in *in = (struct sockaddr_in *)(void *)to;
    in->sin_family = AF_INET;
    in->sin_port = htons(address->port);
    memcpy(&in->sin_addr, address->bytes, 4);
    return sizeof *in;
  }
  struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)(void *)to;
  in6->sin6_family = AF_INET6;
  in6->sin6_port = htons(address->port);
  memcpy(&in6->sin6_addr, address->bytes, 16);
  return sizeof *in6;
}

int vc_listen(const char *text, int backlog, struct vc_address *bound, struct vc_error *error)
{
  struct vc_address address = {0};
  struct sockaddr_storage socket_address;
  struct vc_error why;
  if (vc_listen_parse(text, &address, &why) != 0) {
    return vc_error_set(error, "'%s' %s", text, why.text);
  }
  socklen_t size = to_socket(&address, &socket_address);
  int fd = socket(socket_address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  int one = 1;
  if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) != 0 ||
      bind(fd, (struct sockaddr *)&socket_address, size) != 0 || listen(fd, backlog) != 0 ||
      getsockname(fd, (struct sockaddr *)&socket_address, &size) != 0) {
    vc_error_set(error, "cannot listen on %s: %s", text, strerror(errno));
    if (fd >= 0) {
      close(fd);
    }
    return -1;
  }
  vc_address_from_socket((struct sockaddr *)&socket_address, bound);
  return fd;
}
