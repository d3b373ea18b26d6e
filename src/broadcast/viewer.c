#include <errno.h>
#include <linux/sockios.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "room.h"

static void ready(struct vc_worker *worker, struct vc_watch *watch, uint32_t events);

// --- requests to the ledger

static int put_to_ledger(struct worker_state *state, const char *slug, struct vc_item *item)
{
  uint32_t ledger = vc_slug_hash(slug, strlen(slug)) % state->n_ledger;
  return vc_putter_put(state->ledger, ledger, item);
}

static struct vc_item *make_request(struct vc_worker *worker, const struct viewer *viewer)
{
  if (!viewer->has_joined) {
    struct vc_join *join = vc_join_create(viewer->session->slug);
    if (join == NULL) {
      return NULL;
    }
    join->worker = vc_worker_index(worker);
    join->viewer_id = viewer->id;
    join->since = viewer->since;
    return &join->item;
  }
  struct vc_catch_up *catch_up = vc_catch_up_create(viewer->session->slug);
  if (catch_up == NULL) {
    return NULL;
  }
  catch_up->worker = vc_worker_index(worker);
  catch_up->viewer_id = viewer->id;
  catch_up->position = viewer->position;
  return &catch_up->item;
}

// Joins or catches up. When the lane is full it is tried again at the next tick.
void viewer_ask(struct vc_worker *worker, struct viewer *viewer)
{
  struct worker_state *state = vc_worker_state(worker);
  if (viewer->stage != ASKING) {
    viewer->stage = ASKING;
    state->n_asking++;
  }
  // Whatever comes live from now on may be needed after the answer.
  viewer->cursor = viewer->session->end;
  struct vc_item *item = make_request(worker, viewer);
  if (item == NULL || put_to_ledger(state, viewer->session->slug, item) != 0) {
    vc_item_destroy(item);
    return;
  }
  state->n_asking--;
  viewer->has_joined = 1;
  viewer->stage = WAITING;
}

static void say_leave(struct vc_worker *worker, const struct viewer *viewer)
{
  struct worker_state *state = vc_worker_state(worker);
  struct vc_leave *leave = vc_leave_create(viewer->session->slug);
  if (leave == NULL) {
    return; // the ledger keeps a viewer that is none until the session goes
  }
  leave->worker = vc_worker_index(worker);
  leave->viewer_id = viewer->id;
  if (state->n_leaves == 0 && put_to_ledger(state, leave->slug, &leave->item) == 0) {
    return;
  }
  struct vc_leave **leaves =
      state->n_leaves == state->leaves_capacity
          ? realloc(state->leaves, (state->leaves_capacity * 2 + 16) * sizeof(struct vc_leave *))
          : state->leaves;
  if (leaves == NULL) {
    vc_item_destroy(&leave->item);
    return;
  }
  if (state->n_leaves == state->leaves_capacity) {
    state->leaves_capacity = state->leaves_capacity * 2 + 16;
  }
  state->leaves = leaves;
  state->leaves[state->n_leaves++] = leave;
}

void viewer_leave_retry(struct vc_worker *worker)
{
  struct worker_state *state = vc_worker_state(worker);
  size_t n = 0;
  while (n < state->n_leaves &&
         put_to_ledger(state, state->leaves[n]->slug, &state->leaves[n]->item) == 0) {
    n++;
  }
  state->n_leaves -= n;
  if (n > 0 && state->n_leaves > 0) {
    memmove(state->leaves, state->leaves + n, state->n_leaves * sizeof(struct vc_leave *));
  }
}

// --- life

static struct session *find_session(struct worker_state *state, const char *slug, int may_create)
{
  struct session *session;
  HASH_FIND_STR(state->sessions, slug, session);
  if (session == NULL && may_create) {
    session = calloc(1, sizeof *session);
    if (session != NULL) {
      memcpy(session->slug, slug, strlen(slug) + 1);
      HASH_ADD_STR(state->sessions, slug, session);
      if (session->hh.tbl == NULL) {
        free(session);
        session = NULL;
      }
    }
  }
  return session;
}

void broadcast_session_release(struct vc_worker *worker, struct session *session)
{
  struct worker_state *state = vc_worker_state(worker);
  if (session->n_viewers > 0) {
    return;
  }
  if (session->is_dirty) {
    DL_DELETE2(state->dirty, session, prev_dirty, next_dirty);
  }
  HASH_DEL(state->sessions, session);
  ring_fini(session);
  free(session);
}

static void count_out(struct worker_state *state, const struct vc_address *address, int is_exempt)
{
  struct vc_limits *limits = state->broadcast->settings.limits;
  if (limits != NULL) {
    vc_limits_leave(limits, address, is_exempt);
  }
  atomic_fetch_sub_explicit(&state->broadcast->n_viewers, 1, memory_order_relaxed);
}

void newcomer_turn_away(const struct vc_newcomer *newcomer, int code, const char *reason)
{
  uint8_t frame[VC_WS_HEADER_MAX + VC_WS_CONTROL_MAX];
  size_t size = vc_ws_print_close_frame(frame, code, reason);
  ssize_t sent = send(newcomer->fd, frame, size, MSG_DONTWAIT | MSG_NOSIGNAL);
  (void)sent; // it is closed either way
  close(newcomer->fd);
}

static void time_ping(struct vc_worker *worker, struct viewer *viewer)
{
  struct worker_state *state = vc_worker_state(worker);
  uint64_t interval_ms = (uint64_t)state->broadcast->settings.options->ping_interval_ms;
  viewer->deadline_ns = vc_worker_now_ns(worker) + interval_ms * VC_NS_PER_MS;
  DL_APPEND2(state->pings, viewer, prev_timed, next_timed);
}

// Returns NULL without memory. The descriptor is still the newcomer's.
static struct viewer *viewer_create(struct vc_worker *worker, const struct vc_newcomer *newcomer)
{
  struct worker_state *state = vc_worker_state(worker);
  struct viewer *viewer = calloc(1, sizeof *viewer);
  struct session *session = viewer != NULL ? find_session(state, newcomer->slug, 1) : NULL;
  if (session == NULL) {
    free(viewer);
    return NULL;
  }
  viewer->watch = (struct vc_watch){.fd = newcomer->fd, .ready = ready};
  viewer->id =
      atomic_fetch_add_explicit(&state->broadcast->next_viewer_id, 1, memory_order_relaxed);
  viewer->session = session;
  viewer->since = newcomer->since;
  viewer->begins_ms = newcomer->begins_ms;
  viewer->expires_ms = newcomer->expires_ms;
  viewer->address = newcomer->address;
  viewer->is_exempt = newcomer->is_exempt != 0;
  vc_ws_parser_init(&viewer->parser, VC_WS_SERVER, MESSAGE_MAX);
  HASH_ADD(hh, state->viewers, id, sizeof viewer->id, viewer);
  int has_row = viewer->hh.tbl != NULL;
  if (!has_row ||
      vc_worker_watch(worker, &viewer->watch, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET) != 0) {
    if (has_row) {
      HASH_DEL(state->viewers, viewer);
    }
    free(viewer);
    broadcast_session_release(worker, session);
    return NULL;
  }
  return viewer;
}

void viewer_adopt(struct vc_worker *worker, const struct vc_newcomer *newcomer)
{
  struct worker_state *state = vc_worker_state(worker);
  struct viewer *viewer = state->is_draining ? NULL : viewer_create(worker, newcomer);
  if (viewer == NULL) {
    vc_metric_add(vc_worker_slots(worker), REFUSED, 1);
    newcomer_turn_away(newcomer, state->is_draining ? 1001 : 1013,
                       state->is_draining ? "shutdown" : "no room for a viewer");
    count_out(state, &newcomer->address, newcomer->is_exempt);
    return;
  }
  DL_APPEND(viewer->session->viewers, viewer);
  viewer->session->n_viewers++;
  vc_metric_add(vc_worker_slots(worker), VIEWERS, 1);
  vc_metric_add(vc_worker_slots(worker), VIEWERS_TOTAL, 1);
  time_ping(worker, viewer);
  viewer->stage = LIVE; // nothing is asked yet
  viewer_ask(worker, viewer);
}

void viewer_destroy(struct vc_worker *worker, struct viewer *viewer)
{
  struct worker_state *state = vc_worker_state(worker);
  struct session *session = viewer->session;
  if (viewer->has_joined) {
    say_leave(worker, viewer);
  }
  state->n_asking -= viewer->stage == ASKING;
  vc_worker_unwatch(worker, &viewer->watch);
  close(viewer->watch.fd);
  if (viewer->is_closing) {
    DL_DELETE2(state->closing, viewer, prev_timed, next_timed);
  } else {
    DL_DELETE2(state->pings, viewer, prev_timed, next_timed);
  }
  HASH_DEL(state->viewers, viewer);
  if (session->walk == viewer) {
    session->walk = viewer->next;
  }
  DL_DELETE(session->viewers, viewer);
  session->n_viewers--;
  count_out(state, &viewer->address, viewer->is_exempt);
  vc_metric_add(vc_worker_slots(worker), VIEWERS, (uint64_t)-1);
  vc_message_unref(viewer->head);
  if (viewer->answer != NULL) {
    vc_item_destroy(&viewer->answer->item);
  }
  vc_ws_parser_fini(&viewer->parser);
  free(viewer->control);
  free(viewer);
  broadcast_session_release(worker, session);
}

int viewer_has_unsent(const struct viewer *viewer)
{
  return viewer->head != NULL || viewer->stage == TAKING ||
         (viewer->stage == LIVE && viewer->cursor < viewer->session->end);
}

// Forgets all control frames but the one that is partly sent.
static void control_keep_begun(struct viewer *viewer)
{
  uint16_t at = 0, next = 0;
  while (next <= viewer->control_from && next < viewer->n_control) {
    at = next;
    next = (uint16_t)(next + 2 + viewer->control[next + 1]); // ours: bare, at most 125 bytes
  }
  viewer->n_control = viewer->control_from > at ? (uint16_t)(next - at) : 0;
  viewer->control_from = (uint16_t)(viewer->control_from - at);
  if (viewer->n_control > 0) {
    memmove(viewer->control, viewer->control + at, viewer->n_control);
  }
}

int viewer_control(struct viewer *viewer, enum vc_ws_opcode opcode, const void *payload,
                   size_t size)
{
  if (viewer->control == NULL) {
    viewer->control = malloc(CONTROL_MAX);
  }
  if (viewer->control == NULL || viewer->n_control + 2 + size > CONTROL_MAX) {
    return -1; // it sends pings and does not read the answers
  }
  uint8_t *to = viewer->control + viewer->n_control;
  size_t n = vc_ws_print_header(to, opcode, size, NULL);
  if (size > 0) {
    memcpy(to + n, payload, size);
  }
  viewer->n_control = (uint16_t)(viewer->n_control + n + size);
  return 0;
}

// What a viewer that takes nothing has begun to receive and the close frame behind it find room in
// the kernel, so that it learns why when it takes up reading again.
static void make_way(struct viewer *viewer)
{
  int size = CLOSING_SEND_BUFFER;
  if (viewer->is_blocked &&
      setsockopt(viewer->watch.fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size) == 0) {
    viewer->is_blocked = 0;
  }
}

void viewer_close(struct vc_worker *worker, struct viewer *viewer, int code, const char *reason)
{
  struct worker_state *state = vc_worker_state(worker);
  uint8_t payload[VC_WS_CONTROL_MAX];
  if (viewer->stage == CLOSING || viewer->stage == CLOSED) {
    return;
  }
  state->n_asking -= viewer->stage == ASKING;
  viewer->stage = CLOSING;
  if (viewer->answer != NULL) {
    vc_item_destroy(&viewer->answer->item);
    viewer->answer = NULL;
  }
  DL_DELETE2(state->pings, viewer, prev_timed, next_timed);
  viewer->is_closing = 1;
  viewer->deadline_ns = vc_worker_now_ns(worker) + CLOSE_TIMEOUT_MS * VC_NS_PER_MS;
  DL_APPEND2(state->closing, viewer, prev_timed, next_timed);
  control_keep_begun(viewer);
  make_way(viewer);
  viewer_control(viewer, VC_WS_CLOSE, payload, vc_ws_print_close(payload, code, reason));
  viewer_flush(worker, viewer);
}

// --- reading

// Returns: 0, or -1: the viewer is gone or being closed.
static int take_event(struct vc_worker *worker, struct viewer *viewer,
                      const struct vc_ws_event *event)
{
  switch (event->opcode) {
  case VC_WS_BINARY:
    vc_metric_add(vc_worker_slots(worker), PROTOCOL_ERRORS, 1);
    viewer_close(worker, viewer, 1003, "viewers send no binary");
    return -1;
  case VC_WS_PING:
    viewer_control(viewer, VC_WS_PONG, event->payload, event->size);
    return viewer_flush(worker, viewer);
  case VC_WS_PONG:
    viewer->n_missed_pongs = 0;
    return 0;
  case VC_WS_CLOSE:
    viewer_close(worker, viewer, event->close_code == 1005 ? 1000 : event->close_code, NULL);
    return -1;
  default:
    return 0; // text: viewers have nothing to say
  }
}

static int parse(struct vc_worker *worker, struct viewer *viewer, const uint8_t *bytes, size_t size)
{
  while (size > 0) {
    struct vc_ws_event event;
    size_t used;
    int status = vc_ws_parse(&viewer->parser, bytes, size, &used, &event);
    bytes += used;
    size -= used;
    if (status < 0) {
      int is_ours = event.close_code == 1011;
      vc_metric_add(vc_worker_slots(worker), PROTOCOL_ERRORS, !is_ours);
      viewer_close(worker, viewer, event.close_code, is_ours ? "no memory" : "protocol error");
      return -1;
    }
    if (status > 0 && take_event(worker, viewer, &event) != 0) {
      return -1;
    }
  }
  return 0;
}

void viewer_read(struct vc_worker *worker, struct viewer *viewer)
{
  struct worker_state *state = vc_worker_state(worker);
  viewer->must_read = 0;
  for (int i = 0; i < READS_PER_TURN; i++) {
    ssize_t n = recv(viewer->watch.fd, state->scratch, READ_SIZE, MSG_DONTWAIT);
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n < 0 && errno == EAGAIN) {
      return;
    }
    if (n <= 0) {
      viewer_destroy(worker, viewer);
      return;
    }
    uint64_t id = viewer->id;
    if (viewer->stage < CLOSING && parse(worker, viewer, state->scratch, (size_t)n) != 0) {
      // It may be gone, or it only waits for its end now.
      HASH_FIND(hh, state->viewers, &id, sizeof id, viewer);
      if (viewer == NULL) {
        return;
      }
    }
  }
  viewer->must_read = 1;
  state->must_read = 1;
  vc_worker_wake_at(worker, vc_worker_now_ns(worker));
}

static void ready(struct vc_worker *worker, struct vc_watch *watch, uint32_t events)
{
  struct viewer *viewer = (struct viewer *)watch; // its first member
  if ((events & EPOLLOUT) != 0 && viewer->is_blocked) {
    viewer->is_blocked = 0;
    if (viewer_flush(worker, viewer) != 0) {
      return;
    }
  }
  if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLERR | EPOLLHUP)) != 0) {
    viewer_read(worker, viewer);
  }
}

// --- time

static void close_slow(struct vc_worker *worker, struct viewer *viewer)
{
  vc_metric_add(vc_worker_slots(worker), SLOW_CLOSED, 1);
  viewer_close(worker, viewer, 4008, "too slow");
}

static int is_over(const struct vc_worker *worker, uint64_t since_ns)
{
  const struct worker_state *state = vc_worker_state(worker);
  uint64_t limit_ms = (uint64_t)state->broadcast->settings.options->slow_viewer_timeout_ms;
  return vc_worker_now_ns(worker) >= since_ns + limit_ms * VC_NS_PER_MS;
}

// What was handed to the kernel and has left it: the rest waits for the viewer to take more.
static uint64_t count_gone(const struct viewer *viewer)
{
  int n_unsent = 0;
  int status = ioctl(viewer->watch.fd, SIOCOUTQNSD, &n_unsent);
  return status == 0 && n_unsent > 0 && (uint64_t)n_unsent < viewer->n_sent
             ? viewer->n_sent - (uint64_t)n_unsent
             : viewer->n_sent;
}

enum due { PING, LATE_PING, NO_PONG, TOO_SLOW };

// A ping behind what the viewer is slow to take has not been asked yet: the time for its answer
// begins when it is found to have left. A viewer that takes nothing meanwhile is too slow.
static enum due look_at_ping(const struct vc_worker *worker, struct viewer *viewer)
{
  const struct worker_state *state = vc_worker_state(worker);
  if (viewer->n_missed_pongs == 0) {
    return PING;
  }
  uint64_t n_gone = count_gone(viewer);
  int was_late = viewer->is_ping_late;
  viewer->is_ping_late = viewer->ping_end > n_gone;
  if (!viewer->is_ping_late && was_late) {
    return LATE_PING;
  }
  if (!viewer->is_ping_late) {
    int limit = (int)state->broadcast->settings.options->pong_timeout;
    return viewer->n_missed_pongs >= limit ? NO_PONG : PING;
  }
  if (!was_late || n_gone > viewer->n_gone) {
    viewer->n_gone = n_gone;
    viewer->gone_ns = vc_worker_now_ns(worker);
  }
  return is_over(worker, viewer->gone_ns) ? TOO_SLOW : LATE_PING;
}

static void look_again(struct vc_worker *worker, struct viewer *viewer)
{
  struct worker_state *state = vc_worker_state(worker);
  DL_DELETE2(state->pings, viewer, prev_timed, next_timed);
  time_ping(worker, viewer);
}

static void ping(struct vc_worker *worker, struct viewer *viewer)
{
  if (viewer_control(viewer, VC_WS_PING, NULL, 0) == 0) {
    viewer->n_missed_pongs++;
    viewer->ping_end = UINT64_MAX;
    viewer->is_ping_late = 0;
    viewer_flush(worker, viewer);
  }
}

static void ping_when_due(struct vc_worker *worker)
{
  struct worker_state *state = vc_worker_state(worker);
  while (state->pings != NULL && state->pings->deadline_ns <= vc_worker_now_ns(worker)) {
    struct viewer *viewer = state->pings;
    switch (look_at_ping(worker, viewer)) {
    case PING:
      look_again(worker, viewer);
      ping(worker, viewer);
      break;
    case LATE_PING:
      look_again(worker, viewer);
      break;
    case NO_PONG:
      vc_metric_add(vc_worker_slots(worker), HEARTBEAT_TIMEOUTS, 1);
      viewer_close(worker, viewer, 4009, "no pong");
      break;
    case TOO_SLOW:
      close_slow(worker, viewer);
      break;
    }
  }
}

static void give_up_closing(struct vc_worker *worker)
{
  struct worker_state *state = vc_worker_state(worker);
  while (state->closing != NULL && state->closing->deadline_ns <= vc_worker_now_ns(worker)) {
    viewer_destroy(worker, state->closing);
  }
}

// A token that was valid when the session began is good until its end, and for what is still to be
// sent then; never for a session that begins later.
static int has_expired(const struct viewer *viewer, int64_t now_ms)
{
  int64_t began_ms = viewer->session->began_ms;
  if (viewer->expires_ms == 0 || now_ms < viewer->expires_ms || viewer->stage >= CLOSING) {
    return 0;
  }
  return began_ms != 0 ? began_ms < viewer->begins_ms || began_ms >= viewer->expires_ms
                       : viewer->stage == LIVE && !viewer_has_unsent(viewer);
}

void viewer_tick(struct vc_worker *worker)
{
  struct worker_state *state = vc_worker_state(worker);
  struct viewer *viewer, *next;
  ping_when_due(worker);
  give_up_closing(worker);
  viewer_leave_retry(worker);
  int must_read = state->must_read;
  state->must_read = 0;
  if (!must_read && state->n_asking == 0 && vc_worker_now_ns(worker) < state->next_walk_ns) {
    return;
  }
  state->next_walk_ns = vc_worker_now_ns(worker) + 250 * VC_NS_PER_MS;
  int64_t now_ms = vc_clock_unix_ms(vc_worker_clock(worker));
  HASH_ITER(hh, state->viewers, viewer, next)
  {
    if (viewer->stage == ASKING) {
      viewer_ask(worker, viewer);
    }
    if (viewer->is_blocked && viewer->stage < CLOSING && is_over(worker, viewer->blocked_ns)) {
      close_slow(worker, viewer);
    } else if (has_expired(viewer, now_ms)) {
      vc_metric_add(vc_worker_slots(worker), EXPIRED_CLOSED, 1);
      viewer_close(worker, viewer, 4001, "the token has expired");
    } else if (viewer->must_read) {
      viewer_read(worker, viewer);
    }
  }
}
