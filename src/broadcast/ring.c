#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "room.h"

#define CAPACITY_FIRST 16

int position_is_before(struct vc_position a, struct vc_position b)
{
  return a.epoch != b.epoch ? a.epoch < b.epoch : a.seq < b.seq;
}

// A hello stands before its epoch's first number; where it comes live that is number 0.
struct vc_position position_of(const struct vc_message *message)
{
  return (struct vc_position){message->epoch, message->kind == VC_MESSAGE_HELLO ? 0 : message->seq};
}

struct entry *ring_at(const struct session *session, uint64_t position)
{
  assert(session->capacity > 0);
  return &session->ring[position % session->capacity];
}

uint64_t ring_find(const struct session *session, struct vc_position from)
{
  uint64_t at = session->end;
  while (at > session->begin &&
         !position_is_before(position_of(ring_at(session, at - 1)->message), from)) {
    at--;
  }
  return at;
}

uint64_t ring_partials_before(const struct session *session, uint64_t place)
{
  return place < session->end ? ring_at(session, place)->n_partials_before : session->n_partials;
}

static void drop_first(struct session *session)
{
  vc_message_unref(ring_at(session, session->begin)->message);
  session->begin++;
}

// Lets go of what every viewer has.
static void trim(struct session *session)
{
  uint64_t least = session->end;
  const struct viewer *viewer;
  DL_FOREACH(session->viewers, viewer)
  {
    least = viewer->cursor < least ? viewer->cursor : least;
  }
  while (session->begin < least) {
    drop_first(session);
  }
}

static int grow(struct session *session, size_t most)
{
  size_t capacity = session->capacity == 0 ? CAPACITY_FIRST : session->capacity * 2;
  capacity = capacity < most ? capacity : most;
  struct entry *ring = capacity > session->capacity ? calloc(capacity, sizeof *ring) : NULL;
  if (ring == NULL) {
    return -1;
  }
  for (uint64_t i = session->begin; i < session->end; i++) {
    ring[i % capacity] = *ring_at(session, i);
  }
  free(session->ring);
  session->ring = ring;
  session->capacity = capacity;
  return 0;
}

static void make_room(struct session *session, size_t most)
{
  if (session->end - session->begin < session->capacity) {
    return;
  }
  trim(session);
  if (session->end - session->begin < session->capacity || grow(session, most) == 0 ||
      session->capacity == 0) {
    return;
  }
  session->evicted = position_of(ring_at(session, session->begin)->message);
  drop_first(session);
}

static void mark_overtaken(struct session *session, const struct vc_message *message)
{
  if (message->kind != VC_MESSAGE_PARTIAL && message->kind != VC_MESSAGE_FINAL &&
      message->kind != VC_MESSAGE_RETRACT) {
    return;
  }
  // The one before it is near the end: partials of an utterance follow each other closely.
  for (uint64_t at = session->end; at > session->begin && session->end - at < 64; at--) {
    struct entry *entry = ring_at(session, at - 1);
    if (entry->message->kind == VC_MESSAGE_PARTIAL &&
        entry->message->utterance_hash == message->utterance_hash) {
      entry->is_overtaken = 1;
      return;
    }
  }
}

void ring_add(struct vc_worker *worker, struct session *session, struct vc_live *live)
{
  const struct worker_state *state = vc_worker_state(worker);
  size_t most = (size_t)state->broadcast->settings.options->max_broadcast_queue_size;
  uint64_t n_partials_before = session->n_partials;
  session->n_partials += live->message->kind == VC_MESSAGE_PARTIAL;
  make_room(session, most);
  if (session->capacity == 0) {
    // Without memory: to everybody as if it had left the ring already.
    session->evicted = position_of(live->message);
    return;
  }
  mark_overtaken(session, live->message);
  *ring_at(session, session->end) = (struct entry){.message = vc_message_ref(live->message),
                                                   .queued_ns = live->queued_ns,
                                                   .n_partials_before = n_partials_before,
                                                   .is_after_loss = live->is_after_loss};
  session->end++;
}

void ring_fini(struct session *session)
{
  while (session->begin < session->end) {
    drop_first(session);
  }
  free(session->ring);
  session->ring = NULL;
}
