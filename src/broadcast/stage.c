#include <verbacast/base/log.h>
#include <verbacast/flow/query.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "room.h"

#define TICK_MS 50
#define LANE_CAPACITY 8192
#define CLOSE_SPREAD_MS 1000 // a drain's closes: not all come back to the balancer at once

#define FIELD(name) offsetof(struct vc_broadcast_options, name)
const struct vc_option vc_broadcast_option_rows[] = {
    {"MAX_BROADCAST_QUEUE_SIZE", VC_OPTION_INTEGER, FIELD(max_broadcast_queue_size), "500",
     "messages", 16, 65536,
     .help = "How far a viewer may lag in its session before it leaves the live queue for the "
             "history."},
    {"PING_INTERVAL_MS", VC_OPTION_INTEGER, FIELD(ping_interval_ms), "15000", "ms", 100, 3600000,
     .help = "Between two pings to a viewer."},
    {"PONG_TIMEOUT", VC_OPTION_INTEGER, FIELD(pong_timeout), "3", "pings", 1, 100,
     .help = "After so many pings without a pong the viewer is closed with 4009."},
    {"SLOW_VIEWER_TIMEOUT_MS", VC_OPTION_INTEGER, FIELD(slow_viewer_timeout_ms), "30000", "ms", 100,
     3600000, .help = "A viewer that takes nothing for this long is closed with 4008."},
    {"MAX_VIEWERS", VC_OPTION_INTEGER, FIELD(max_viewers), "0", "viewers", 0, 10000000,
     .help = "More are refused with 503; 0: as many as the descriptor limit allows."},
    {"BROADCAST_THREADS", VC_OPTION_INTEGER, FIELD(broadcast_threads), "0", "threads", 0, 256,
     .help = "Workers that write to viewers; 0: by cores."},
    {"BROADCAST_IO", VC_OPTION_CHOICE, FIELD(broadcast_io), "auto", .choices = "auto,send,uring",
     .help = "How a message is written to a session's viewers: a send() for each, or many at once "
             "by io_uring; auto: by io_uring where the kernel allows it."},
    VC_OPTION_ROWS_END,
};

const struct vc_metric vc_broadcast_metrics[] = {
    [VIEWERS] = {"ws.viewers", VC_METRIC_GAUGE, "viewers", "Viewers that are connected."},
    [VIEWERS_TOTAL] = {"ws.viewers_total", VC_METRIC_COUNTER, "viewers", "Viewers that came."},
    [DELIVERED] = {"ws.delivered_total", VC_METRIC_COUNTER, "messages",
                   "Messages handed to the kernel, one for each viewer."},
    [DELIVERED_BYTES] = {"ws.delivered_bytes_total", VC_METRIC_COUNTER, "bytes",
                         "Bytes handed to the kernel."},
    [ERRORS] = {"ws.broadcast_errors_total", VC_METRIC_COUNTER, "errors",
                "Writes to a viewer that failed; the viewer is gone."},
    [HEARTBEAT_TIMEOUTS] = {"ws.heartbeat_timeouts_total", VC_METRIC_COUNTER, "viewers",
                            "Viewers closed because they answered no pings."},
    [QUEUE_DROPS] = {"ws.queue_drops_total", VC_METRIC_COUNTER, "gaps",
                     "Gaps announced to viewers: what history no longer held."},
    [PARTIALS_SKIPPED] =
        {"ws.partials_skipped_total", VC_METRIC_COUNTER, "messages",
         "Partials that viewers who lagged were not given: they were overtaken, or had left the "
         "queue."},
    [CATCH_UPS] = {"ws.catch_ups_total", VC_METRIC_COUNTER, "requests",
                   "Times that a viewer had to be given finals from history."},
    [SLOW_CLOSED] = {"ws.slow_closed_total", VC_METRIC_COUNTER, "viewers",
                     "Viewers closed because they took nothing for SLOW_VIEWER_TIMEOUT_MS."},
    [EXPIRED_CLOSED] = {"ws.expired_closed_total", VC_METRIC_COUNTER, "viewers",
                        "Viewers closed because their token had expired."},
    [PROTOCOL_ERRORS] = {"ws.protocol_errors_total", VC_METRIC_COUNTER, "viewers",
                         "Viewers closed for what they sent."},
    [REFUSED] = {"ws.refused_total", VC_METRIC_COUNTER, "viewers",
                 "Viewers refused after their handshake: no room for them or their session."},
    [SESSION_LAG] = {"ws.session_broadcast_lag_ms", VC_METRIC_DISTRIBUTION, "ms",
                     "From a message being queued to the first worker that takes it beginning to "
                     "send it; by session with its name behind a dot, and then count_total is "
                     "since its viewers came."},
    [FANOUT] = {"ws.fanout_ms", VC_METRIC_DISTRIBUTION, "ms",
                "From a message being queued to the send to a worker's last writable viewer."},
    [BROADCAST_LATENCY] = {"ingest.broadcast_latency_ms", VC_METRIC_DISTRIBUTION, "ms",
                           "From a transcript's arrival to its first byte handed to the kernel for "
                           "the first viewer."},
    VC_METRIC_ROWS_END,
};

enum io { IO_AUTO, IO_SEND, IO_URING }; // as BROADCAST_IO's choices

struct adopt {
  struct vc_owned_item owned;
  struct vc_broadcast *broadcast;
  struct vc_newcomer newcomer;
};

static void count_out(struct vc_broadcast *broadcast, const struct vc_newcomer *newcomer)
{
  if (broadcast->settings.limits != NULL) {
    vc_limits_leave(broadcast->settings.limits, &newcomer->address, newcomer->is_exempt);
  }
  atomic_fetch_sub_explicit(&broadcast->n_viewers, 1, memory_order_relaxed);
}

static void adopt_destroy(struct vc_item *item)
{
  struct adopt *adopt = (struct adopt *)item;
  close(adopt->newcomer.fd);
  count_out(adopt->broadcast, &adopt->newcomer);
  free(adopt);
}

// --- live messages

static void handle_live(struct vc_worker *worker, struct vc_live *live)
{
  struct worker_state *state = vc_worker_state(worker);
  struct session *session;
  HASH_FIND_STR(state->sessions, live->message->slug, session);
  if (session == NULL) {
    return; // its last viewer here has just left
  }
  session->began_ms = live->message->kind == VC_MESSAGE_END ? 0 : live->began_ms;
  ring_add(worker, session, live);
  if (!session->is_dirty) {
    session->is_dirty = 1;
    DL_APPEND2(state->dirty, session, prev_dirty, next_dirty);
  }
}

static double ms_since(uint64_t now_ns, uint64_t then_ns)
{
  return now_ns > then_ns ? (double)(now_ns - then_ns) / (double)VC_NS_PER_MS : 0;
}

// Of the messages that no other worker has begun before: before the first send.
static void measure_begin(struct vc_worker *worker, struct session *session, uint64_t now_ns)
{
  uint64_t from = session->measured > session->begin ? session->measured : session->begin;
  for (uint64_t at = from; at < session->end; at++) {
    const struct entry *entry = ring_at(session, at);
    if (!vc_message_begin(entry->message)) {
      continue;
    }
    double lag_ms = ms_since(now_ns, entry->queued_ns);
    vc_lag_record(&session->lag, lag_ms, now_ns);
    vc_metric_record(vc_worker_slots(worker), SESSION_LAG, lag_ms, now_ns);
    if (entry->message->received_ns != 0) {
      vc_metric_record(vc_worker_slots(worker), BROADCAST_LATENCY,
                       ms_since(now_ns, entry->message->received_ns), now_ns);
    }
  }
}

static void measure_fanout(struct vc_worker *worker, struct session *session)
{
  uint64_t now_ns = vc_clock_now_ns(vc_worker_clock(worker));
  uint64_t from = session->measured > session->begin ? session->measured : session->begin;
  for (uint64_t at = from; at < session->walk_to; at++) {
    vc_metric_record(vc_worker_slots(worker), FANOUT,
                     ms_since(now_ns, ring_at(session, at)->queued_ns), now_ns);
  }
  session->measured = session->walk_to;
}

// Returns: 1 when all of its viewers were given what had come.
static int send_share(struct vc_worker *worker, struct session *session, size_t *share)
{
  if (!session->is_walked) {
    session->is_walked = 1;
    session->walk = session->viewers;
    session->walk_to = session->end;
  }
  measure_begin(worker, session, vc_clock_now_ns(vc_worker_clock(worker)));
  session->n_viewers++; // it stays while its viewers are walked, whoever goes
  *share -= session_flush(worker, session, *share);
  session->n_viewers--;
  if (session->walk != NULL) {
    return 0;
  }
  session->is_walked = 0;
  if (session->walk_to > session->measured) {
    measure_fanout(worker, session);
  }
  return session->walk_to == session->end;
}

// A session of many viewers does not hold up the others: they take turns.
static void turned(struct vc_worker *worker)
{
  struct worker_state *state = vc_worker_state(worker);
  size_t share = TURN_SHARE;
  while (state->dirty != NULL && share > 0) {
    struct session *session = state->dirty;
    DL_DELETE2(state->dirty, session, prev_dirty, next_dirty);
    session->is_dirty = !send_share(worker, session, &share);
    if (session->is_dirty) {
      DL_APPEND2(state->dirty, session, prev_dirty, next_dirty);
    }
    broadcast_session_release(worker, session);
  }
  if (state->dirty != NULL) {
    vc_worker_wake_at(worker, vc_worker_now_ns(worker));
  }
}

// --- queries

static uint64_t largest_lag(const struct session *session)
{
  uint64_t largest = 0;
  const struct viewer *viewer;
  DL_FOREACH(session->viewers, viewer)
  {
    uint64_t lag = viewer->stage <= LIVE ? session->end - viewer->cursor : 0;
    largest = lag > largest ? lag : largest;
  }
  return largest;
}

static void answer_viewers(struct vc_worker *worker, struct vc_query *query)
{
  const struct worker_state *state = vc_worker_state(worker);
  struct vc_text text = {0};
  vc_text_add(&text, "{");
  for (const struct session *session = state->sessions; session != NULL;
       session = session->hh.next) {
    vc_text_format(&text, "%s\"%s\":{\"clients\":%zu,\"queue_size\":%" PRIu64 ",\"lag\":",
                   session == state->sessions ? "" : ",", session->slug, session->n_viewers,
                   largest_lag(session));
    vc_lag_print(&session->lag, vc_worker_now_ns(worker), &text);
    vc_text_add(&text, "}");
  }
  vc_text_add(&text, "}");
  struct vc_buffer *reply = vc_text_take(&text);
  vc_query_answer(query, reply != NULL ? 200 : 503, reply);
}

static void answer_kick(struct vc_worker *worker, struct vc_query *query)
{
  struct worker_state *state = vc_worker_state(worker);
  struct session *session;
  HASH_FIND_STR(state->sessions, vc_query_slug(query), session);
  if (session != NULL) {
    struct viewer *viewer, *next;
    session->n_viewers++;
    DL_FOREACH_SAFE(session->viewers, viewer, next)
    {
      viewer_close(worker, viewer, 1001, "closed by the operator");
    }
    session->n_viewers--;
    broadcast_session_release(worker, session);
  }
  vc_query_answer(query, session != NULL ? 200 : 404, NULL);
}

// --- the stage

static void handle(struct vc_worker *worker, struct vc_item *item)
{
  switch (item->kind) {
  case VC_ITEM_LIVE:
    handle_live(worker, (struct vc_live *)item);
    vc_item_destroy(item);
    break;
  case VC_ITEM_ANSWER:
    viewer_answer(worker, (struct vc_answer *)item);
    break;
  case VC_ITEM_OWNED:
    viewer_adopt(worker, &((struct adopt *)item)->newcomer);
    free(item);
    break;
  case VC_ITEM_QUERY:
    if (vc_query_kind(vc_query_of(item)) == VC_QUERY_KICK_VIEWERS) {
      answer_kick(worker, vc_query_of(item));
    } else {
      answer_viewers(worker, vc_query_of(item));
    }
    break;
  default:
    vc_item_destroy(item);
    break;
  }
}

static void drain(struct vc_worker *worker)
{
  struct worker_state *state = vc_worker_state(worker);
  state->is_draining = 1;
  state->drain_ns = vc_worker_now_ns(worker);
  state->n_at_drain = HASH_COUNT(state->viewers);
}

// Closes as many as the time that has passed allows.
static void close_share(struct vc_worker *worker)
{
  struct worker_state *state = vc_worker_state(worker);
  uint64_t passed_ms = (vc_worker_now_ns(worker) - state->drain_ns) / VC_NS_PER_MS;
  size_t n_due = passed_ms >= CLOSE_SPREAD_MS ? state->n_at_drain
                                              : state->n_at_drain * passed_ms / CLOSE_SPREAD_MS + 1;
  struct viewer *viewer, *next;
  size_t n_seen = 0;
  size_t n_gone = state->n_at_drain - HASH_COUNT(state->viewers);
  HASH_ITER(hh, state->viewers, viewer, next)
  {
    if (n_gone + n_seen++ >= n_due) {
      return;
    }
    // One that is still taking its last messages is given the whole time for them.
    if (passed_ms >= CLOSE_SPREAD_MS || !viewer_has_unsent(viewer)) {
      viewer_close(worker, viewer, 1001, "shutdown");
    }
  }
}

static int is_drained(struct vc_worker *worker)
{
  struct worker_state *state = vc_worker_state(worker);
  close_share(worker);
  return state->viewers == NULL;
}

static int choose_io(struct vc_worker *worker, struct vc_error *error)
{
  struct worker_state *state = vc_worker_state(worker);
  int io = state->broadcast->settings.options->broadcast_io;
  struct vc_error reason;
  state->uring_viewers_min = io == IO_URING ? 1 : URING_VIEWERS_MIN;
  if (io == IO_SEND || uring_create(&state->uring, &reason) == 0) {
    return 0;
  }
  if (io == IO_URING) {
    free(state);
    return vc_error_set(error, "BROADCAST_IO=uring: %s", reason.text);
  }
  if (vc_worker_index(worker) == 0) {
    vc_log(VC_LOG_INFO, VC_EVENT("broadcast.no_uring"), VC_STR("reason", reason.text));
  }
  return 0;
}

static int enter(struct vc_worker *worker, void *config, struct vc_error *error)
{
  struct vc_broadcast *broadcast = *(struct vc_broadcast **)config;
  struct worker_state *state = calloc(1, sizeof *state);
  if (state == NULL) {
    return vc_error_set(error, "no memory");
  }
  vc_worker_set_state(worker, state);
  state->broadcast = broadcast;
  state->n_ledger = vc_stage_n_workers(broadcast->ledger);
  state->ledger = vc_putter_create(broadcast->ledger);
  if (state->ledger == NULL) {
    free(state);
    return vc_error_set(error, "no lane into the ledger");
  }
  return choose_io(worker, error);
}

static void leave(struct vc_worker *worker)
{
  struct worker_state *state = vc_worker_state(worker);
  struct viewer *viewer, *next;
  HASH_ITER(hh, state->viewers, viewer, next)
  {
    viewer_destroy(worker, viewer);
  }
  for (size_t i = 0; i < state->n_leaves; i++) {
    vc_item_destroy(&state->leaves[i]->item);
  }
  free(state->leaves);
  uring_destroy(&state->uring);
  free(state);
}

static const struct vc_stage_ops ops = {
    .name = "broadcast",
    .enter = enter,
    .handle = handle,
    .turned = turned,
    .tick = viewer_tick,
    .drain = drain,
    .is_drained = is_drained,
    .leave = leave,
};

int vc_broadcast_create(struct vc_broadcast **broadcast_out,
                        const struct vc_broadcast_settings *settings, struct vc_error *error)
{
  struct vc_broadcast *broadcast = calloc(1, sizeof *broadcast);
  if (broadcast == NULL) {
    return vc_error_set(error, "broadcast: no memory");
  }
  broadcast->settings = *settings;
  atomic_init(&broadcast->next_viewer_id, 1);
  if (vc_stage_create(&broadcast->stage,
                      &(struct vc_stage_settings){
                          .ops = &ops,
                          .config = &broadcast,
                          .config_size = sizeof(struct vc_broadcast *),
                          .n_workers = settings->n_workers,
                          .tick_ms = TICK_MS,
                          .lane_capacity = LANE_CAPACITY,
                          .clock = settings->clock,
                          .metrics = settings->metrics,
                          .metric_rows = vc_broadcast_metrics,
                      },
                      error) != 0) {
    free(broadcast);
    return -1;
  }
  broadcast->front = vc_shared_putter_create(broadcast->stage);
  if (broadcast->front == NULL) {
    vc_broadcast_destroy(&broadcast);
    return vc_error_set(error, "broadcast: no memory");
  }
  *broadcast_out = broadcast;
  return 0;
}

struct vc_stage *vc_broadcast_stage(struct vc_broadcast *broadcast)
{
  return broadcast->stage;
}

void vc_broadcast_set_ledger(struct vc_broadcast *broadcast, struct vc_stage *ledger)
{
  broadcast->ledger = ledger;
}

void vc_broadcast_destroy(struct vc_broadcast **broadcast)
{
  if (*broadcast != NULL) {
    vc_shared_putter_destroy(&(*broadcast)->front);
    vc_stage_destroy(&(*broadcast)->stage);
    free(*broadcast);
    *broadcast = NULL;
  }
}

int vc_broadcast_has_room(const struct vc_broadcast *broadcast)
{
  return atomic_load_explicit(&broadcast->n_viewers, memory_order_relaxed) <
         broadcast->settings.max_viewers;
}

void vc_broadcast_adopt(struct vc_broadcast *broadcast, const struct vc_newcomer *newcomer)
{
  struct vc_limits *limits = broadcast->settings.limits;
  uint32_t n = atomic_fetch_add_explicit(&broadcast->n_viewers, 1, memory_order_relaxed);
  if (n >= broadcast->settings.max_viewers ||
      (limits != NULL && vc_limits_enter(limits, &newcomer->address, newcomer->is_exempt) != 0)) {
    atomic_fetch_sub_explicit(&broadcast->n_viewers, 1, memory_order_relaxed);
    newcomer_turn_away(newcomer, 1013, "too many viewers");
    return;
  }
  struct adopt *adopt = calloc(1, sizeof *adopt);
  if (adopt == NULL) {
    count_out(broadcast, newcomer);
    newcomer_turn_away(newcomer, 1013, "too many viewers");
    return;
  }
  *adopt = (struct adopt){.owned = {.item.kind = VC_ITEM_OWNED, .destroy = adopt_destroy},
                          .broadcast = broadcast,
                          .newcomer = *newcomer};
  uint32_t worker = atomic_fetch_add_explicit(&broadcast->next_worker, 1, memory_order_relaxed) %
                    vc_stage_n_workers(broadcast->stage);
  if (vc_shared_putter_put(broadcast->front, worker, &adopt->owned.item) != 0) {
    count_out(broadcast, newcomer);
    newcomer_turn_away(newcomer, 1013, "too many viewers");
    free(adopt);
  }
}
