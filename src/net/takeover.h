// Takes a TCP connection out of Civetweb's hands; see takeover.c.
#pragma once

#include <verbacast/base/address.h>
#include <verbacast/base/error.h>

// Before the first front starts and after the descriptor limit was raised, one thread at a time.
// Proves on loopback that it works. Returns: 0, or -1 and the error.
int takeover_prepare(struct vc_error *error);

struct takeover {
  int theirs; // Civetweb's number
  int ours;   // another one for the same connection
};
enum {
  TAKEOVER_NOT_FOUND = -1,     // the peer has reset it meanwhile
  TAKEOVER_NO_DESCRIPTOR = -2, // for another number
  TAKEOVER_NO_MEMORY = -3,     // of who wants it
};
enum takeover_effort {
  TAKEOVER_EVERYWHERE,
  TAKEOVER_NEARBY, // not among viewers' descriptors while there are many numbers below them
};
// Thread: the one of Civetweb's that has the connection, as for the two after it. Waits for one
// look at the low descriptors, or for the end of another's and one more.
// Finds the connection between these two ends; Civetweb has it still. If Civetweb's next write to
// it succeeds, then it is the one that was found: finish; else cancel.
// Returns: 0 or one of the above.
int takeover_begin(struct takeover *takeover, const struct vc_address *peer,
                   const struct vc_address *own, enum takeover_effort effort);
// Civetweb's descriptor reads end of file from now on. Returns: ours.
int takeover_finish(const struct takeover *takeover);
void takeover_cancel(const struct takeover *takeover);
// Returns: what the status means, a constant.
const char *takeover_trouble(int status);
// Nothing is accepted at that address any more. Who waits for its connections is woken until he
// stops, and uses a core: Civetweb, which else would look for its own end only every 2 s. (A number
// that is given another meaning wakes nobody who waits for it already.)
void takeover_close_door(const struct vc_address *bound);
