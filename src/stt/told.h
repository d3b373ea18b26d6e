// Which parts of a session's audio have been told by finals: the newest TOLD_MAX of them, in
// seconds of its audio clock. Sound that the service hears again is told again only where it is not
// in here.
#pragma once

#include <stddef.h>

#define TOLD_MAX 256

struct told_part {
  double from_s, to_s;
};

struct told {
  struct told_part parts[TOLD_MAX]; // the oldest first; none overlaps another
  size_t n;
};

// What is told already counts once: parts that overlap become one.
void stt_told_add(struct told *told, double from_s, double to_s);
// Returns: 1 when more than half of it was told; of a moment: when that was.
int stt_told_holds(const struct told *told, double from_s, double to_s);
// Returns: the end of the part that holds this moment, or the moment itself.
double stt_told_end(const struct told *told, double at_s);
