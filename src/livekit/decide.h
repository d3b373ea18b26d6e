// What is to be done about a room that is on, from what LiveKit lists of its egresses. Pure.
#pragma once

#include <verbacast/wire/livekit.h>

enum verdict {
  VERDICT_START, // none of ours is there, or the last one failed
  VERDICT_REST,  // one of ours is there
  VERDICT_WAIT,  // one of ours is going
  VERDICT_LEAVE, // ours was stopped, or reached a limit: that was wanted
  VERDICT_STOP,  // there are two or more of those that nodes begin
};

struct known {
  const char *room;
  const char *sid;     // "" not known
  const char *own;     // id of the egress that this node has just started, "" none
  const char *surplus; // id of one that was too many, whose end says nothing, "" none
  const struct vc_livekit_egresses *egresses;
};

// `which`: of VERDICT_STOP the one to be stopped, else the newest of ours that has ended in this
// life of the room, NULL: none.
enum verdict decide(const struct known *known, const struct vc_livekit_egress **which);
