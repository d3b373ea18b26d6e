#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "room.h"

static struct part *batch_add(struct batch *batch, void *bytes, size_t size,
                              struct vc_message *message)
{
  struct part *part = &batch->parts[batch->n];
  batch->iovecs[batch->n++] = (struct iovec){bytes, size};
  *part = (struct part){.message = message};
  return part;
}

static void ask_again(struct vc_worker *worker, struct viewer *viewer)
{
  vc_metric_add(vc_worker_slots(worker), CATCH_UPS, 1);
  viewer->has_left = 1;
  viewer_ask(worker, viewer);
}

static void stand_in_ring(struct viewer *viewer, uint64_t place)
{
  viewer->cursor = place;
  viewer->n_partials = ring_partials_before(viewer->session, place);
}

// What a viewer must have before an entry that stands behind a loss: a hello says how far all is
// known.
static struct vc_position reached_before(const struct vc_message *message)
{
  return (struct vc_position){message->epoch, message->seq};
}

// Returns: 1 when what it needs next left the ring, or never came.
static int is_out_of_ring(struct viewer *viewer)
{
  struct session *session = viewer->session;
  if (viewer->cursor < session->begin) {
    if (position_is_before(viewer->position, session->evicted)) {
      return 1;
    }
    stand_in_ring(viewer, session->begin);
  }
  if (viewer->cursor == session->end) {
    return position_is_before(viewer->position, session->evicted);
  }
  const struct entry *entry = ring_at(session, viewer->cursor);
  return entry->is_after_loss &&
         position_is_before(viewer->position, reached_before(entry->message));
}

// Returns: 1 when the viewer has the entry's message already.
static int has_it(const struct viewer *viewer, const struct entry *entry)
{
  struct vc_position position = position_of(entry->message);
  // A hello has no number of its own, nor has the status of a session that nobody has published.
  int has_number = entry->message->kind != VC_MESSAGE_HELLO && position.epoch != 0;
  return has_number ? !position_is_before(viewer->position, position)
                    : position_is_before(position, viewer->position);
}

// They count when the viewer stands behind them: what is gathered may be gathered again.
static void count_skipped(struct vc_worker *worker, struct batch *batch, size_t n)
{
  vc_metric_add(vc_worker_slots(worker), PARTIALS_SKIPPED, n - batch->n_counted);
  batch->n_counted = n;
}

static void gather_live(const struct viewer *viewer, struct batch *batch)
{
  const struct session *session = viewer->session;
  uint64_t cursor = viewer->cursor;
  while (cursor < session->end && batch->n < IOVECS_MAX) {
    const struct entry *entry = ring_at(session, cursor);
    if (entry->is_after_loss && cursor != viewer->cursor) {
      break; // looked at when the cursor is there
    }
    cursor++;
    if (has_it(viewer, entry)) {
      continue;
    }
    if (entry->is_overtaken && viewer->is_behind) {
      batch->n_skipped++;
      continue;
    }
    struct part *part =
        batch_add(batch, entry->message->frame->data, entry->message->frame->size, entry->message);
    part->after = cursor;
    part->n_skipped_before = batch->n_skipped;
  }
  batch->end = cursor;
}

static void gather_answer(struct viewer *viewer, struct batch *batch)
{
  const struct vc_answer *answer = viewer->answer;
  size_t at = viewer->answer_at;
  while (at < answer->n_messages && batch->n < IOVECS_MAX) {
    struct vc_message *message = answer->messages[at++];
    batch_add(batch, message->frame->data, message->frame->size, message)->after = at;
  }
  batch->end = at;
}

static void stand_at(struct viewer *viewer, uint64_t place)
{
  if (viewer->stage == TAKING) {
    viewer->answer_at = (size_t)place;
  } else if (viewer->stage == LIVE) {
    stand_in_ring(viewer, place);
  }
}

static void answer_done(struct vc_worker *worker, struct viewer *viewer)
{
  struct vc_answer *answer = viewer->answer;
  viewer->answer = NULL;
  if (answer->is_last) {
    struct vc_position reached = answer->live_from;
    reached.seq -= reached.seq > 0;
    if (position_is_before(viewer->position, reached)) {
      viewer->position = reached;
    }
    viewer->stage = LIVE;
    if (position_is_before(viewer->position, viewer->session->evicted)) {
      // It took the answer so slowly that what comes behind has left the ring meanwhile.
      ask_again(worker, viewer);
    }
  } else {
    viewer_ask(worker, viewer);
  }
  vc_item_destroy(&answer->item);
}

static void given(struct vc_worker *worker, struct viewer *viewer, const struct vc_message *message)
{
  if (message->kind == VC_MESSAGE_GAP) {
    vc_metric_add(vc_worker_slots(worker), QUEUE_DROPS, 1);
  }
  if (message->kind != VC_MESSAGE_HELLO) {
    viewer->position = position_of(message);
  }
}

// An idle viewer keeps no memory for its next ping.
static void control_sent(struct viewer *viewer)
{
  if (viewer->ping_end == UINT64_MAX) {
    viewer->ping_end = viewer->n_sent;
  }
  free(viewer->control);
  viewer->control = NULL;
  viewer->n_control = viewer->control_from = 0;
}

// Accounts for `sent` bytes of the batch.
static void account(struct vc_worker *worker, struct viewer *viewer, struct batch *batch,
                    size_t sent)
{
  struct vc_message *old_head = viewer->head;
  uint32_t old_from = viewer->head_from;
  viewer->head = NULL;
  viewer->blocked_ns = 0;
  vc_metric_add(vc_worker_slots(worker), DELIVERED_BYTES, sent);
  for (size_t i = 0; i < batch->n; i++) {
    const struct part *part = &batch->parts[i];
    struct vc_message *message = part->message;
    int is_old_head = i == 0 && old_head != NULL;
    size_t size = batch->iovecs[i].iov_len;
    size_t taken = sent < size ? sent : size;
    sent -= taken;
    viewer->n_sent += taken;
    if (message == NULL) {
      viewer->control_from = (uint16_t)(viewer->control_from + taken);
      if (viewer->control_from == viewer->n_control) {
        control_sent(viewer);
      }
      continue;
    }
    if (taken == 0 && !is_old_head) {
      break;
    }
    vc_metric_add(vc_worker_slots(worker), DELIVERED, taken == size);
    if (!is_old_head) {
      given(worker, viewer, message);
      count_skipped(worker, batch, i + 1 == batch->n ? batch->n_skipped : part->n_skipped_before);
      stand_at(viewer, i + 1 == batch->n ? batch->end : part->after);
    }
    if (taken < size) {
      viewer->head = vc_message_ref(message);
      viewer->head_from = (uint32_t)taken + (is_old_head ? old_from : 0);
    }
  }
  vc_message_unref(old_head);
}

static void block(struct vc_worker *worker, struct viewer *viewer)
{
  viewer->is_blocked = 1;
  viewer->blocked_ns = viewer->blocked_ns != 0 ? viewer->blocked_ns : vc_worker_now_ns(worker);
  viewer->is_behind = 1;
}

// Returns: bytes that were taken, or -errno.
static ssize_t send_batch(const struct viewer *viewer, struct batch *batch)
{
  struct msghdr header = {.msg_iov = batch->iovecs, .msg_iovlen = batch->n};
  ssize_t sent;
  do {
    sent = batch->n == 1 ? send(viewer->watch.fd, batch->iovecs[0].iov_base,
                                batch->iovecs[0].iov_len, MSG_DONTWAIT | MSG_NOSIGNAL)
                         : sendmsg(viewer->watch.fd, &header, MSG_DONTWAIT | MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  return sent < 0 ? -errno : sent;
}

static size_t total_of(const struct batch *batch)
{
  size_t total = 0;
  for (size_t i = 0; i < batch->n; i++) {
    total += batch->iovecs[i].iov_len;
  }
  return total;
}

void viewer_gather(struct vc_worker *worker, struct viewer *viewer, struct batch *batch)
{
  batch->n = batch->n_skipped = batch->n_counted = 0;
  batch->end = 0;
  if (viewer->head != NULL) {
    batch_add(batch, viewer->head->frame->data + viewer->head_from,
              viewer->head->frame->size - viewer->head_from, viewer->head);
  }
  if (viewer->n_control > 0) {
    batch_add(batch, viewer->control + viewer->control_from,
              (size_t)(viewer->n_control - viewer->control_from), NULL);
  }
  if (viewer->stage == TAKING) {
    gather_answer(viewer, batch);
  } else if (viewer->stage == LIVE && is_out_of_ring(viewer)) {
    ask_again(worker, viewer);
  } else if (viewer->stage == LIVE) {
    gather_live(viewer, batch);
  }
}

// Nothing is left to be sent. Returns: 1 when there may be more at once.
static int rest(struct vc_worker *worker, struct viewer *viewer, struct batch *batch)
{
  if (viewer->stage == TAKING) {
    answer_done(worker, viewer);
    return 1;
  }
  if (viewer->stage == CLOSING) {
    shutdown(viewer->watch.fd, SHUT_WR);
    viewer->stage = CLOSED;
  } else if (viewer->stage == LIVE) {
    stand_in_ring(viewer, batch->end);
    count_skipped(worker, batch, batch->n_skipped);
    viewer->is_behind = viewer->cursor < viewer->session->end;
    return viewer->is_behind;
  }
  return 0;
}

int viewer_sent(struct vc_worker *worker, struct viewer *viewer, struct batch *batch,
                ssize_t result)
{
  if (result < 0 && result != -EAGAIN) {
    vc_metric_add(vc_worker_slots(worker), ERRORS, 1);
    viewer_destroy(worker, viewer);
    return -1;
  }
  if (result >= 0) {
    account(worker, viewer, batch, (size_t)result);
  }
  if (result < 0 || (size_t)result < total_of(batch)) {
    block(worker, viewer);
  }
  return 0;
}

int viewer_flush(struct vc_worker *worker, struct viewer *viewer)
{
  while (!viewer->is_blocked) {
    struct batch batch;
    viewer_gather(worker, viewer, &batch);
    if (batch.n == 0) {
      if (rest(worker, viewer, &batch)) {
        continue;
      }
      return 0;
    }
    if (viewer_sent(worker, viewer, &batch, send_batch(viewer, &batch)) != 0) {
      return -1;
    }
  }
  return 0;
}

size_t session_flush(struct vc_worker *worker, struct session *session, size_t share)
{
  const struct worker_state *state = vc_worker_state(worker);
  // One of them is the walk itself.
  struct uring *uring = session->n_viewers > state->uring_viewers_min ? state->uring : NULL;
  size_t n = 0;
  for (; n < share && session->walk != NULL; n++) {
    struct viewer *viewer = session->walk;
    session->walk = viewer->next;
    if (viewer->stage != LIVE || viewer->is_blocked) {
      continue;
    }
    if (uring != NULL) {
      uring_add(worker, uring, viewer);
    } else {
      viewer_flush(worker, viewer);
    }
  }
  if (uring != NULL) {
    uring_send(worker, uring);
  }
  return n;
}

// Of the partials that came since it left, all but those in the answers are lost to it.
static void come_back(struct vc_worker *worker, struct viewer *viewer,
                      const struct vc_answer *answer)
{
  for (size_t i = 0; i < answer->n_messages; i++) {
    viewer->n_partials += answer->messages[i]->kind == VC_MESSAGE_PARTIAL;
  }
  if (!answer->is_last) {
    return;
  }
  uint64_t place = ring_find(viewer->session, answer->live_from);
  uint64_t n_partials = ring_partials_before(viewer->session, place);
  if (viewer->has_left && n_partials > viewer->n_partials) {
    vc_metric_add(vc_worker_slots(worker), PARTIALS_SKIPPED, n_partials - viewer->n_partials);
  }
  viewer->has_left = 0;
  stand_in_ring(viewer, place);
}

void viewer_answer(struct vc_worker *worker, struct vc_answer *answer)
{
  struct worker_state *state = vc_worker_state(worker);
  struct viewer *viewer;
  HASH_FIND(hh, state->viewers, &answer->viewer_id, sizeof answer->viewer_id, viewer);
  if (viewer != NULL && answer->is_refused) {
    viewer->has_joined = 0;
  }
  if (viewer == NULL || viewer->stage != WAITING) {
    vc_item_destroy(&answer->item);
    return;
  }
  if (answer->is_refused) {
    vc_item_destroy(&answer->item);
    vc_metric_add(vc_worker_slots(worker), REFUSED, 1);
    viewer_close(worker, viewer, 1013, "too many sessions");
    return;
  }
  viewer->session->began_ms = answer->began_ms;
  viewer->stage = TAKING;
  viewer->answer = answer;
  viewer->answer_at = 0;
  come_back(worker, viewer, answer);
  viewer_flush(worker, viewer);
}
