// Takes a TCP connection out of Civetweb's hands; see takeover.c.
#pragma once

#include <verbacast/base/address.h>
#include <verbacast/base/error.h>

// Once a process, after the descriptor limit was raised and before any front starts.
// Proves on loopback that it works. Returns: 0, or -1 and the error.
int takeover_prepare(struct vc_error *error);
// Returns: a descriptor of ours for the connection between these two, or -1: not found.
// The descriptor that Civetweb has reads end of file from now on.
int takeover_steal(const struct vc_address *peer, uint16_t local_port);
