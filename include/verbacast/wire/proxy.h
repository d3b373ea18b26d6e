// The PROXY protocol's header, versions 1 and 2, by which a balancer tells at the beginning of a
// TCP connection whose it is (HAProxy's proxy-protocol.txt). Pure.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <verbacast/base/address.h>

// Bytes of a header; one that says more of itself is refused. Version 2 has room for further
// fields (TLVs), which are passed over.
#define VC_PROXY_HEADER_MAX 2064

// Looks for a header at the beginning of `bytes`. Where the balancer speaks for itself (LOCAL), or
// does not know or has no address of the Internet (UNKNOWN, AF_UNSPEC, AF_UNIX), `client` stays as
// it is; so it does unless there is a whole header.
// Returns: > 0 the header's length, 0 more bytes are needed, -1 no such header, or malformed.
int vc_proxy_parse(const uint8_t *bytes, size_t size, struct vc_address *client);
