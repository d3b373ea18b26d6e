// A listener: how a worker takes connections. When the process or the system has no descriptor (or
// memory) for one more, the kernel would report the same connection for ever: the listener rests
// for VC_LISTENER_REST_MS instead, and the connections wait in the backlog. Each rest is counted; a
// shortage is logged once, until all that waited were taken.
#pragma once

#include <sys/socket.h>

#include <verbacast/flow/stage.h>

#define VC_LISTENER_REST_MS 100

// Embedded in the room's own object, one for each worker; workers may share the socket.
struct vc_listener {
  struct vc_watch watch;
  /* set by the room before vc_listener_start */
  int fd;            // listening and non-blocking; stays the room's
  const char *event; // what a shortage is logged as
  size_t rests;      // the place of their counter in the room's metric rows
  // Takes the descriptor, which is non-blocking.
  void (*take)(struct vc_worker *worker, int fd, const struct sockaddr *from);
  /* the worker's */
  int is_listening;
  int is_short; // the shortage has been logged
  uint64_t rests_until_ns;
};

// Thread: the worker's own, as for what follows. Returns: 0, or -1 with errno.
int vc_listener_start(struct vc_worker *worker, struct vc_listener *listener);
// At every tick of the room: listens again when the rest is over.
void vc_listener_tick(struct vc_worker *worker, struct vc_listener *listener);
// No more connections are taken. Stopped or resting ones are allowed.
void vc_listener_stop(struct vc_worker *worker, struct vc_listener *listener);
