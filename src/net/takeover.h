// Takes a TCP connection out of Civetweb's hands; see takeover.c.
#pragma once

#include <verbacast/base/address.h>
#include <verbacast/base/error.h>

// Once a process, after the descriptor limit was raised and before any front starts.
// Proves on loopback that it works. Returns: 0, or -1 and the error.
int takeover_prepare(struct vc_error *error);
enum {
  TAKEOVER_NOT_FOUND = -1,     // the peer has reset it meanwhile
  TAKEOVER_AMBIGUOUS = -2,     // two connections fit, which differ in our address
  TAKEOVER_NO_DESCRIPTOR = -3, // for another number
};
// Thread: any. Waits for one look at the low descriptors, or for the end of another's and one more.
// Returns: a descriptor of ours for the connection between these two, or one of the above and
// nothing has changed. The descriptor that Civetweb has reads end of file from now on.
int takeover_steal(const struct vc_address *peer, uint16_t local_port);
// Thread: any, with the same wait. Ends the connection; where two fit both, as whose is which
// cannot be told.
void takeover_end(const struct vc_address *peer, uint16_t local_port);
// Returns: what the status means, a constant that fits into a close's reason.
const char *takeover_trouble(int status);
// Nothing is accepted at that address any more, and who waits for its connections does so no more:
// Civetweb would look for its own end only every 2 s.
void takeover_close_door(const struct vc_address *bound);
