// What a track says besides sound: one JSON object a text message, as LiveKit's Track Egress does.
// Pure.
#pragma once

#include <stddef.h>

enum vc_track_text {
  VC_TRACK_MUTED,   // {"muted":true}
  VC_TRACK_UNMUTED, // {"muted":false}
  VC_TRACK_OTHER,   // an object that says nothing of it
  VC_TRACK_NONE,    // no JSON object
};
enum vc_track_text vc_track_parse(const char *text, size_t size);
