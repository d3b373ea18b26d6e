#include "decide.h"

#include <string.h>

// Of this room, in this life of it, and sent to us.
static int concerns(const struct known *known, const struct vc_livekit_egress *egress)
{
  int is_of_room = strcmp(egress->room.name, known->room) == 0;
  int is_of_life = known->sid[0] == '\0' || egress->room.sid[0] == '\0' ||
                   strcmp(egress->room.sid, known->sid) == 0;
  return egress->is_ours && is_of_room && is_of_life;
}

static int is_on(const struct vc_livekit_egress *egress)
{
  return egress->status == VC_LIVEKIT_STARTING || egress->status == VC_LIVEKIT_ACTIVE;
}

static const struct vc_livekit_egress *later(const struct vc_livekit_egress *a,
                                             const struct vc_livekit_egress *b)
{
  return a == NULL || b->started_ns >= a->started_ns ? b : a;
}

enum verdict decide(const struct known *known, const struct vc_livekit_egress **last)
{
  const struct vc_livekit_egress *first = NULL; // by id: all nodes agree on it
  int own_is_on = 0, is_going = 0;
  *last = NULL;
  for (size_t i = 0; i < known->egresses->n; i++) {
    const struct vc_livekit_egress *egress = &known->egresses->items[i];
    if (!concerns(known, egress)) {
      continue;
    }
    if (is_on(egress)) {
      first = first == NULL || strcmp(egress->id, first->id) < 0 ? egress : first;
      own_is_on |= strcmp(egress->id, known->own) == 0;
    } else if (egress->status == VC_LIVEKIT_ENDING) {
      is_going = 1;
    } else {
      *last = later(*last, egress);
    }
  }
  if (first != NULL) {
    return own_is_on && strcmp(first->id, known->own) != 0 ? VERDICT_STOP : VERDICT_REST;
  }
  if (is_going) {
    return VERDICT_WAIT;
  }
  int was_wanted = *last != NULL && ((*last)->status == VC_LIVEKIT_COMPLETE ||
                                     (*last)->status == VC_LIVEKIT_LIMIT_REACHED);
  return was_wanted ? VERDICT_LEAVE : VERDICT_START;
}
