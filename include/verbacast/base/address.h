// Addresses: of peers, of listeners, and lists of networks. Numbers only: nothing here asks a name
// server. IPv4-mapped IPv6 addresses are IPv4 addresses everywhere.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include <verbacast/base/error.h>

struct vc_address {
  uint8_t n_bytes; // 4 or 16; 0: unknown (a socket without one)
  uint8_t bytes[16];
  uint16_t port;
};

#define VC_ADDRESS_TEXT_MAX 64

void vc_address_from_socket(const struct sockaddr *from, struct vc_address *address);
// "192.0.2.1" or "2001:db8::1", without brackets and port. Returns: 0 or -1.
int vc_address_parse(const char *text, struct vc_address *address);
void vc_address_print(const struct vc_address *address, char text[VC_ADDRESS_TEXT_MAX]);
// With the port: "192.0.2.1:1937", "[2001:db8::1]:1937".
void vc_address_print_port(const struct vc_address *address, char text[VC_ADDRESS_TEXT_MAX]);
int vc_address_is_loopback(const struct vc_address *address);
int vc_address_equal(const struct vc_address *a, const struct vc_address *b); // without the port

#define VC_NETWORKS_MAX 64
struct vc_networks {
  size_t n;
  struct {
    struct vc_address address;
    uint8_t n_bits;
  } rows[VC_NETWORKS_MAX];
};
// "10.0.0.0/8, 2001:db8::/32, 192.0.2.7". Returns: 0, or -1 and the error names the bad one.
int vc_networks_parse(const char *text, struct vc_networks *networks, struct vc_error *error);
int vc_networks_have(const struct vc_networks *networks, const struct vc_address *address);

// "HOST:PORT" where HOST is a number, "localhost", or "*" (all IPv4). Returns: 0 or -1.
int vc_listen_parse(const char *text, struct vc_address *address, struct vc_error *error);
// A listening, non-blocking socket; port 0 takes a free one. `bound` gets what was taken.
// Returns: the descriptor, or -1 and the error.
int vc_listen(const char *text, int backlog, struct vc_address *bound, struct vc_error *error);
