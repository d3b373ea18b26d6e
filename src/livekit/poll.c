// All rooms of LiveKit's and all egresses that are on, listed by one node of all from time to time:
// rooms whose webhook was lost, that began while no node was there, or whose egress failed.
#include "room.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void wait_for_next(struct vc_livekit *livekit)
{
  uint64_t ms = (uint64_t)livekit->settings.options->livekit_poll_ms;
  livekit->poll.due_ns = room_now(livekit) + ms * VC_NS_PER_MS;
}

static void finish(struct vc_livekit *livekit)
{
  free(livekit->poll.rooms.items);
  livekit->poll.rooms = (struct vc_livekit_rooms){0};
  wait_for_next(livekit);
  room_count(livekit, POLLS);
}

static void fail(struct vc_livekit *livekit, const char *reason)
{
  room_count(livekit, POLL_FAILURES);
  room_is_ill(livekit, &livekit->poll.is_failing, reason);
  finish(livekit);
}

static int by_room(const void *a, const void *b)
{
  return strcmp(((const struct vc_livekit_egress *)a)->room.name,
                ((const struct vc_livekit_egress *)b)->room.name);
}

// Of egresses that are sorted by_room. Returns: the first that is not before `name`, n: none.
static size_t find_room(const struct vc_livekit_egresses *egresses, const char *name)
{
  size_t from = 0, to = egresses->n;
  while (from < to) {
    size_t middle = from + (to - from) / 2;
    if (strcmp(egresses->items[middle].room.name, name) < 0) {
      from = middle + 1;
    } else {
      to = middle;
    }
  }
  return from;
}

// One of ours is there, and of those that nodes begin no second.
static int is_served(const struct vc_livekit_room *room, const struct vc_livekit_egresses *egresses)
{
  size_t n_on = 0, n_mixes = 0;
  for (size_t i = find_room(egresses, room->name);
       i < egresses->n && strcmp(egresses->items[i].room.name, room->name) == 0; i++) {
    const struct vc_livekit_egress *egress = &egresses->items[i];
    int is_of_life = egress->room.sid[0] == '\0' || strcmp(egress->room.sid, room->sid) == 0;
    int is_on = egress->is_ours && is_of_life && egress->status <= VC_LIVEKIT_ACTIVE;
    n_on += is_on != 0;
    n_mixes += is_on && egress->is_mix;
  }
  return n_on > 0 && n_mixes < 2;
}

static void egresses_listed(void *context, const struct vc_post_answer *answer)
{
  struct vc_livekit *livekit = context;
  struct vc_livekit_egresses egresses;
  char reason[REASON_MAX];
  const char *why = "";
  if (call_end(livekit, &livekit->poll.post, answer, reason) != 0) {
    fail(livekit, reason);
    return;
  }
  if (vc_livekit_parse_egresses(answer->body, answer->size, livekit->ours, &egresses, &why) != 0) {
    fail(livekit, why);
    return;
  }
  const struct vc_livekit_rooms *rooms = &livekit->poll.rooms;
  qsort(egresses.items, egresses.n, sizeof *egresses.items, by_room);
  for (size_t i = 0; i < rooms->n; i++) {
    if (!is_served(&rooms->items[i], &egresses)) {
      meeting_wake(livekit, &rooms->items[i], room_now(livekit), 0);
    }
  }
  free(egresses.items);
  room_is_well(livekit, &livekit->poll.is_failing);
  finish(livekit);
}

static void rooms_listed(void *context, const struct vc_post_answer *answer)
{
  struct vc_livekit *livekit = context;
  struct vc_text text = {0};
  char reason[REASON_MAX];
  const char *why = "";
  if (call_end(livekit, &livekit->poll.post, answer, reason) != 0) {
    fail(livekit, reason);
    return;
  }
  if (vc_livekit_parse_rooms(answer->body, answer->size, &livekit->poll.rooms, &why) != 0) {
    fail(livekit, why);
    return;
  }
  vc_livekit_print_list_egress(&text, NULL, 1);
  if (call_start(livekit, &livekit->poll.post, LIST_EGRESS, &text, egresses_listed, livekit) != 0) {
    fail(livekit, "no memory");
  }
}

static void begin(struct vc_livekit *livekit)
{
  int64_t interval_ms = livekit->settings.options->livekit_poll_ms;
  struct vc_text text = {0};
  // A little less: whoever polled may do so again.
  if (room_claim(livekit, "lk:poll", interval_ms - interval_ms / 10) == VC_LIVEKIT_OTHERS) {
    wait_for_next(livekit);
    return;
  }
  livekit->poll.due_ns = 0;
  vc_livekit_print_list_rooms(&text, NULL);
  if (call_start(livekit, &livekit->poll.post, LIST_ROOMS, &text, rooms_listed, livekit) != 0) {
    fail(livekit, "no memory");
  }
}

void poll_init(struct vc_livekit *livekit)
{
  if (room_starts_egresses(livekit) && livekit->settings.options->livekit_poll_ms > 0) {
    livekit->poll.due_ns = 1; // at once: what began while the node was not there
  }
}

void poll_tick(struct vc_livekit *livekit)
{
  uint64_t due_ns = livekit->poll.due_ns;
  if (due_ns != 0 && due_ns <= room_now(livekit) && livekit->n_calls < VC_LIVEKIT_CALLS_MAX) {
    begin(livekit);
  }
}

void poll_fini(struct vc_livekit *livekit)
{
  call_cancel(livekit, &livekit->poll.post);
  free(livekit->poll.rooms.items);
  livekit->poll.rooms = (struct vc_livekit_rooms){0};
}
