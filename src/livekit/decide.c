#include "decide.h"

#include <string.h>

struct found {
  int is_on, is_going;
  const struct vc_livekit_egress *first, *surplus; // of those on that nodes begin
  const struct vc_livekit_egress *last;
};

static int is_own(const struct known *known, const struct vc_livekit_egress *egress)
{
  return strcmp(egress->id, known->own) == 0;
}

// Of this room, in this life of it, and sent to us.
static int concerns(const struct known *known, const struct vc_livekit_egress *egress)
{
  int is_of_room = strcmp(egress->room.name, known->room) == 0;
  int is_of_life = known->sid[0] == '\0' || egress->room.sid[0] == '\0' ||
                   strcmp(egress->room.sid, known->sid) == 0;
  return (egress->is_ours || is_own(known, egress)) && is_of_room && is_of_life;
}

static int is_on(const struct vc_livekit_egress *egress)
{
  return egress->status == VC_LIVEKIT_STARTING || egress->status == VC_LIVEKIT_ACTIVE;
}

// One that was stopped because it was too many may have begun after the one that stayed.
static int64_t end_of(const struct vc_livekit_egress *egress)
{
  return egress->ended_ns != 0 ? egress->ended_ns : egress->started_ns;
}

static const struct vc_livekit_egress *later(const struct vc_livekit_egress *a,
                                             const struct vc_livekit_egress *b)
{
  return a == NULL || end_of(b) >= end_of(a) ? b : a;
}

// The first by id stays: all nodes agree on it, so that however many of them stop others at once
// one is left.
static void note_begun(struct found *found, const struct vc_livekit_egress *egress)
{
  int order = found->first != NULL ? strcmp(egress->id, found->first->id) : 0;
  if (found->first == NULL) {
    found->first = egress;
  } else if (order != 0) {
    found->surplus = order < 0 ? found->first : egress;
    found->first = order < 0 ? egress : found->first;
  }
}

static void note(struct found *found, const struct known *known,
                 const struct vc_livekit_egress *egress)
{
  if (is_on(egress)) {
    found->is_on = 1;
    if (egress->is_mix || is_own(known, egress)) {
      note_begun(found, egress);
    }
  } else if (egress->status == VC_LIVEKIT_ENDING) {
    found->is_going = 1;
  } else if (strcmp(egress->id, known->surplus) != 0) {
    found->last = later(found->last, egress);
  }
}

enum verdict decide(const struct known *known, const struct vc_livekit_egress **which)
{
  struct found found = {0};
  for (size_t i = 0; i < known->egresses->n; i++) {
    if (concerns(known, &known->egresses->items[i])) {
      note(&found, known, &known->egresses->items[i]);
    }
  }
  *which = found.surplus != NULL ? found.surplus : found.last;
  if (found.surplus != NULL) {
    return VERDICT_STOP;
  }
  if (found.is_on) {
    return VERDICT_REST;
  }
  if (found.is_going) {
    return VERDICT_WAIT;
  }
  int was_wanted = found.last != NULL && (found.last->status == VC_LIVEKIT_COMPLETE ||
                                          found.last->status == VC_LIVEKIT_LIMIT_REACHED);
  return was_wanted ? VERDICT_LEAVE : VERDICT_START;
}
