// The connection of one participant's stream: PCM in binary messages, cut anywhere, and now and
// then a text that says whether it is muted. Its handshake was the front door's.
#include <verbacast/base/log.h>
#include <verbacast/wire/track.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "room.h"

#define PINGS_PER_TIMEOUT 3

static void ready(struct vc_worker *worker, struct vc_watch *watch, uint32_t events);

// --- the way in

struct vc_ingest_door {
  /* set before it is shared, then read-only */
  struct vc_shared_putter *putter;
  struct vc_limits *limits;
  uint32_t n_workers;
};

struct adoption {
  struct room_item item;
  struct vc_limits *limits;
  struct vc_track_newcomer newcomer;
};

int vc_ingest_door_create(struct vc_ingest_door **door_out, struct vc_stage *ingest,
                          struct vc_limits *limits, struct vc_error *error)
{
  struct vc_ingest_door *door = calloc(1, sizeof *door);
  if (door == NULL) {
    return vc_error_set(error, "ingest: no memory");
  }
  door->limits = limits;
  door->n_workers = vc_stage_n_workers(ingest);
  door->putter = vc_shared_putter_create(ingest);
  if (door->putter == NULL) {
    free(door);
    return vc_error_set(error, "ingest: no memory or lane for tracks");
  }
  *door_out = door;
  return 0;
}

void vc_ingest_door_destroy(struct vc_ingest_door **door)
{
  if (*door != NULL) {
    vc_shared_putter_destroy(&(*door)->putter);
    free(*door);
    *door = NULL;
  }
}

static void turn_away(const struct vc_track_newcomer *newcomer, int code, const char *why)
{
  uint8_t frame[VC_WS_HEADER_MAX + VC_WS_CONTROL_MAX];
  size_t size = vc_ws_print_close_frame(frame, code, why);
  ssize_t sent = send(newcomer->fd, frame, size, MSG_DONTWAIT | MSG_NOSIGNAL);
  (void)sent; // it is closed either way
  close(newcomer->fd);
}

static void adoption_destroy(struct vc_item *item)
{
  struct adoption *adoption = (struct adoption *)item;
  turn_away(&adoption->newcomer, 1001, "shutdown");
  vc_limits_leave(adoption->limits, &adoption->newcomer.address, adoption->newcomer.is_exempt);
  free(adoption);
}

void vc_ingest_adopt(struct vc_ingest_door *door, const struct vc_track_newcomer *newcomer)
{
  struct adoption *adoption = calloc(1, sizeof *adoption);
  if (adoption == NULL ||
      vc_limits_enter(door->limits, &newcomer->address, newcomer->is_exempt) != 0) {
    turn_away(newcomer, 1013, "too many connections");
    free(adoption);
    return;
  }
  *adoption =
      (struct adoption){.item = {.owned = {.item.kind = VC_ITEM_OWNED, .destroy = adoption_destroy},
                                 .take = track_take},
                        .limits = door->limits,
                        .newcomer = *newcomer};
  uint32_t worker = vc_slug_hash(newcomer->slug, strlen(newcomer->slug)) % door->n_workers;
  if (vc_shared_putter_put(door->putter, worker, &adoption->item.owned.item) != 0) {
    turn_away(newcomer, 1013, "the node is overloaded");
    vc_limits_leave(door->limits, &newcomer->address, newcomer->is_exempt);
    free(adoption);
  }
}

static void time_ping(struct vc_worker *worker, struct track *track)
{
  const struct worker_state *state = vc_worker_state(worker);
  uint64_t idle_ms = (uint64_t)state->room->settings.options->ingest_idle_timeout_ms;
  track->ping_ns = vc_worker_now_ns(worker) + idle_ms * VC_NS_PER_MS / PINGS_PER_TIMEOUT;
}

// Returns NULL without memory. The descriptor is still the newcomer's.
static struct track *track_create(struct vc_worker *worker,
                                  const struct vc_track_newcomer *newcomer)
{
  struct worker_state *state = vc_worker_state(worker);
  struct track *track = calloc(1, sizeof *track);
  if (track == NULL) {
    return NULL;
  }
  track->is = *newcomer;
  track->watch = (struct vc_watch){.fd = newcomer->fd, .ready = ready};
  track->heard_ns = track->paced_ns = vc_worker_now_ns(worker);
  vc_ws_parser_init(&track->parser, VC_WS_SERVER, TRACK_MESSAGE_MAX);
  if (vc_worker_watch(worker, &track->watch, EPOLLIN | EPOLLRDHUP) != 0) {
    free(track);
    return NULL;
  }
  DL_APPEND(state->tracks, track);
  vc_metric_add(vc_worker_slots(worker), CONNECTIONS, 1);
  vc_metric_add(vc_worker_slots(worker), CONNECTIONS_TOTAL, 1);
  vc_metric_add(vc_worker_slots(worker), TRACKS, 1);
  time_ping(worker, track);
  return track;
}

void track_take(struct vc_worker *worker, struct vc_item *item)
{
  struct adoption *adoption = (struct adoption *)item;
  struct refusal refusal;
  struct track *track = track_create(worker, &adoption->newcomer);
  if (track == NULL) {
    turn_away(&adoption->newcomer, 1013, "no memory");
    vc_limits_leave(adoption->limits, &adoption->newcomer.address, adoption->newcomer.is_exempt);
  } else if (ingest_session_join(worker, track, &refusal) != 0) {
    vc_metric_add(vc_worker_slots(worker), refusal.metric, 1);
    refuse_log(&track->is.address, refusal.why, track->is.slug);
    track_finish(worker, track, 1013, refusal.why);
  }
  free(adoption);
}

// --- its end

void track_close(struct vc_worker *worker, struct track *track)
{
  struct worker_state *state = vc_worker_state(worker);
  vc_worker_unwatch(worker, &track->watch);
  close(track->watch.fd);
  DL_DELETE(state->tracks, track);
  vc_limits_leave(state->room->limits, &track->is.address, track->is.is_exempt);
  vc_metric_add(vc_worker_slots(worker), CONNECTIONS, (uint64_t)-1);
  vc_metric_add(vc_worker_slots(worker), TRACKS, (uint64_t)-1);
  vc_ws_parser_fini(&track->parser);
  free(track);
}

// It is gone without a word.
static void lose(struct vc_worker *worker, struct track *track)
{
  if (track->session != NULL) {
    ingest_session_lose(worker, track->session);
  }
  track_close(worker, track);
}

// --- writing

// One that is held back says only that it is gone.
static uint32_t events_of(const struct track *track)
{
  return (track->is_held_back ? 0 : EPOLLIN | EPOLLRDHUP) | (track->n_control > 0 ? EPOLLOUT : 0);
}

// Sends what there is; what the socket does not take waits for room. Returns: 0, or -1 it is gone.
static int flush(struct vc_worker *worker, struct track *track)
{
  while (track->n_control > 0) {
    ssize_t n =
        send(track->watch.fd, track->control, track->n_control, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n < 0) {
      return errno == EAGAIN ? vc_worker_rewatch(worker, &track->watch, events_of(track)) : -1;
    }
    track->n_control -= (size_t)n;
    memmove(track->control, track->control + n, track->n_control);
  }
  if (track->has_closed) {
    shutdown(track->watch.fd, SHUT_WR); // a browser waits for our end
  }
  return vc_worker_rewatch(worker, &track->watch, events_of(track));
}

// Returns: 0, or -1: it does not take what it asks for, or is gone.
static int say(struct vc_worker *worker, struct track *track, enum vc_ws_opcode opcode,
               const void *payload, size_t size)
{
  if (track->n_control + 2 + size > TRACK_CONTROL_MAX) {
    return -1;
  }
  uint8_t *to = track->control + track->n_control;
  size_t n = vc_ws_print_header(to, opcode, size, NULL);
  if (size > 0) {
    memcpy(to + n, payload, size);
  }
  track->n_control += n + size;
  return flush(worker, track);
}

void track_finish(struct vc_worker *worker, struct track *track, int code, const char *reason)
{
  uint8_t payload[VC_WS_CONTROL_MAX];
  if (track->session != NULL) {
    ingest_session_lose(worker, track->session);
  }
  track->has_closed = 1;
  track->is_held_back = 0; // what it still says is read away
  track->closing_ns = vc_worker_now_ns(worker);
  if (say(worker, track, VC_WS_CLOSE, payload, vc_ws_print_close(payload, code, reason)) != 0) {
    track_close(worker, track);
  }
}

// --- reading. Each returns 0, or -1: it is closing or gone.

static int break_off(struct vc_worker *worker, struct track *track, int code, const char *why)
{
  vc_metric_add(vc_worker_slots(worker), REFUSED_PROTOCOL, code != 1011);
  refuse_log(&track->is.address, why, track->is.slug);
  track_finish(worker, track, code, why);
  return -1;
}

// What has come whole goes on; what is left of a sample waits for the rest.
static void give_gathered(struct vc_worker *worker, struct track *track, size_t *n)
{
  const struct worker_state *state = vc_worker_state(worker);
  size_t sample = (size_t)2 * track->is.n_channels, whole = *n - *n % sample;
  if (whole > 0) {
    ingest_session_pcm(worker, track, state->pcm, whole);
  }
  *n -= whole;
  memmove(state->pcm, state->pcm + whole, *n);
}

static uint64_t length_ns(const struct track *track, size_t size)
{
  return (uint64_t)size / (2 * track->is.n_channels) * VC_NS_PER_S / track->is.rate_hz;
}

// Moves on by the time that has passed, and by sound that came.
static void pace(struct track *track, uint64_t now_ns, uint64_t sound_ns)
{
  uint64_t made_good_ns = (now_ns - track->paced_ns) * TRACK_PACE;
  track->ahead_ns = track->ahead_ns > made_good_ns ? track->ahead_ns - made_good_ns : 0;
  track->ahead_ns += sound_ns;
  track->paced_ns = now_ns;
}

static int is_silence(const uint8_t *bytes, size_t size)
{
  return size == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, size - 1) == 0);
}

static void take_sound(struct vc_worker *worker, struct track *track, const uint8_t *bytes,
                       size_t size, size_t *n)
{
  struct worker_state *state = vc_worker_state(worker);
  vc_metric_add(vc_worker_slots(worker), PACKETS, 1);
  uint64_t sound_ns = length_ns(track, *n + size);
  if (sound_ns > 0) { // else it holds no whole sample
    ingest_session_begin_sound(track->session,
                               track->read_ns > sound_ns ? track->read_ns - sound_ns : 1);
    track->is_muted = track->is_muted && is_silence(bytes, size);
    track->has_said_so = 0;
  }
  pace(track, track->read_ns, length_ns(track, size));
  while (size > 0) {
    size_t room = FRAME_MAX - *n, part = size < room ? size : room;
    memcpy(state->pcm + *n, bytes, part);
    *n += part;
    bytes += part;
    size -= part;
    if (*n == FRAME_MAX) {
      give_gathered(worker, track, n);
    }
  }
}

static int take_text(struct vc_worker *worker, struct track *track, const struct vc_ws_event *event)
{
  if (event->size > TRACK_TEXT_MAX) {
    return break_off(worker, track, 1009, "a text of more than 4096 bytes");
  }
  switch (vc_track_parse((const char *)event->payload, event->size)) {
  case VC_TRACK_MUTED:
    if (!track->has_said_so) {
      ingest_session_mute(worker, track->session);
    }
    track->is_muted = track->has_said_so = 1;
    return 0;
  case VC_TRACK_UNMUTED:
    track->is_muted = track->has_said_so = 0;
    return 0;
  case VC_TRACK_OTHER:
    return 0;
  case VC_TRACK_NONE:
    break;
  }
  return break_off(worker, track, 1003, "a text that is no JSON object");
}

// One that says why it goes has left; one that had trouble may come back.
static int take_close(struct vc_worker *worker, struct track *track, int code)
{
  int has_left = code == 1000 || code == 1001 || code == 1005;
  if (has_left) {
    ingest_session_end(worker, track->session, VC_CLOSE_PUBLISHER_LEFT);
  }
  track_finish(worker, track, code == 1005 ? 1000 : code, NULL);
  return -1;
}

static int take_event(struct vc_worker *worker, struct track *track,
                      const struct vc_ws_event *event, size_t *n)
{
  switch (event->opcode) {
  case VC_WS_BINARY:
    take_sound(worker, track, event->payload, event->size, n);
    return 0;
  case VC_WS_TEXT:
    give_gathered(worker, track, n);
    return take_text(worker, track, event);
  case VC_WS_PING:
    if (say(worker, track, VC_WS_PONG, event->payload, event->size) != 0) {
      lose(worker, track);
      return -1;
    }
    return 0;
  case VC_WS_CLOSE:
    give_gathered(worker, track, n);
    return take_close(worker, track, event->close_code);
  default:
    return 0; // a pong: it was heard
  }
}

static const char *trouble(int code)
{
  return code == 1009   ? "a message of more than 262144 bytes"
         : code == 1011 ? "no memory"
                        : "broken WebSocket protocol";
}

static int parse(struct vc_worker *worker, struct track *track, const uint8_t *bytes, size_t size,
                 size_t *n)
{
  while (size > 0) {
    struct vc_ws_event event;
    size_t used;
    int status = vc_ws_parse(&track->parser, bytes, size, &used, &event);
    bytes += used;
    size -= used;
    if (status < 0) {
      give_gathered(worker, track, n);
      return break_off(worker, track, event.close_code, trouble(event.close_code));
    }
    if (status > 0 && take_event(worker, track, &event, n) != 0) {
      return -1;
    }
  }
  return 0;
}

// TCP tells a sender that is too fast.
static void hold_back(struct vc_worker *worker, struct track *track)
{
  if (track->ahead_ns <= TRACK_AHEAD_MAX_S * VC_NS_PER_S) {
    return;
  }
  track->is_held_back = 1;
  vc_metric_add(vc_worker_slots(worker), HELD_BACK, 1);
  if (vc_worker_rewatch(worker, &track->watch, events_of(track)) != 0) {
    lose(worker, track);
  }
}

static void read_on(struct vc_worker *worker, struct track *track)
{
  pace(track, vc_worker_now_ns(worker), 0);
  if (track->ahead_ns > TRACK_AHEAD_MAX_S * VC_NS_PER_S / 2) {
    return;
  }
  track->is_held_back = 0;
  track->heard_ns = vc_worker_now_ns(worker);
  if (vc_worker_rewatch(worker, &track->watch, events_of(track)) != 0) {
    lose(worker, track);
  }
}

static void take_bytes(struct vc_worker *worker, struct track *track, const uint8_t *bytes,
                       size_t size)
{
  struct worker_state *state = vc_worker_state(worker);
  size_t n = track->n_odd; // that are gathered
  track->heard_ns = track->read_ns = vc_worker_now_ns(worker);
  vc_metric_add(vc_worker_slots(worker), BYTES, size);
  memcpy(state->pcm, track->odd, n);
  if (parse(worker, track, bytes, size, &n) == 0) {
    give_gathered(worker, track, &n);
    memcpy(track->odd, state->pcm, n);
    track->n_odd = n;
    hold_back(worker, track);
  }
}

static void read_some(struct vc_worker *worker, struct track *track)
{
  struct worker_state *state = vc_worker_state(worker);
  ssize_t n = recv(track->watch.fd, state->scratch, SCRATCH_SIZE, MSG_DONTWAIT);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
    return;
  }
  if (n <= 0) {
    lose(worker, track);
  } else if (!track->has_closed) {
    take_bytes(worker, track, state->scratch, (size_t)n);
  } else {
    track->n_discarded += (size_t)n;
    if (track->n_discarded > DISCARDED_MAX) {
      track_close(worker, track);
    }
  }
}

static void ready(struct vc_worker *worker, struct vc_watch *watch, uint32_t events)
{
  struct track *track = (struct track *)watch; // its first member
  if ((events & EPOLLOUT) != 0 && flush(worker, track) != 0) {
    lose(worker, track);
  } else if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLERR | EPOLLHUP)) != 0) {
    read_some(worker, track);
  }
}

// --- time

void track_tick(struct vc_worker *worker, struct track *track)
{
  const struct worker_state *state = vc_worker_state(worker);
  uint64_t now = vc_worker_now_ns(worker);
  uint64_t idle_ms = (uint64_t)state->room->settings.options->ingest_idle_timeout_ms;
  if (track->has_closed) {
    if (now >= track->closing_ns + CLOSE_MS * VC_NS_PER_MS) {
      track_close(worker, track);
    }
  } else if (track->is_held_back) {
    read_on(worker, track);
  } else if (now >= track->heard_ns + idle_ms * VC_NS_PER_MS) {
    vc_metric_add(vc_worker_slots(worker), TIMEOUTS, 1);
    refuse_log(&track->is.address, "nothing was heard from it", track->is.slug);
    track_finish(worker, track, TRACK_SILENT, "nothing was heard");
  } else if (now >= track->ping_ns) {
    time_ping(worker, track);
    if (say(worker, track, VC_WS_PING, NULL, 0) != 0) {
      lose(worker, track);
    }
  }
}
