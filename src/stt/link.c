// The STT session of a session: asked for by POST, connected to, and what to do when that fails.
//
//   waiting -> asking -> connecting -> live -> waiting …
//
// A connection that breaks is taken up at the same url; a url that is refused (44xx, 401, 403, …),
// fails five times or is too old is given up for a new STT session, which is fed from shortly
// before the end of the last final. What is tried again waits longer each time, with jitter.
#include "room.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ASK_TIMEOUT_MS 10000
#define CONNECT_TIMEOUT_MS 10000
#define BACKOFF_FIRST_MS 300
#define BACKOFF_MAX_MS 30000
#define RETRY_AFTER_MAX_S 600
#define CONNECT_FAILURES_MAX 5
#define ENDING_FAILURES_MAX 3
#define MESSAGE_MAX (1 << 20)
#define UNANSWERED_MS 15000
#define PROBE_WAIT_MS 2000
#define OWED_EXTRA_MS 5000
#define MUTE_SAMPLES (5 * VC_SAMPLE_RATE_HZ)   // a service is believed to acknowledge for so long
#define REPLAY_SAMPLES (VC_SAMPLE_RATE_HZ / 2) // before what is to be heard
// A provider ends a session after 3 h; the change is made while nobody speaks, if it can be.
#define AGE_SOFT_NS (165 * 60 * VC_NS_PER_S)
#define AGE_HARD_NS (175 * 60 * VC_NS_PER_S)

enum next { SAME_SESSION, NEW_SESSION };

static void ask(struct session *session);
static void connect_socket(struct session *session);

static uint64_t after_ms(const struct session *session, uint64_t ms)
{
  return stt_room_now(session->room) + ms * VC_NS_PER_MS;
}

static void wake_at(struct session *session, uint64_t at_ns)
{
  vc_worker_wake_at(session->room->worker, at_ns);
}

static uint64_t backoff_ms(struct session *session)
{
  uint64_t ms = BACKOFF_FIRST_MS;
  for (uint32_t i = 1; i < session->n_failures && ms < BACKOFF_MAX_MS; i++) {
    ms *= 2;
  }
  ms = ms > BACKOFF_MAX_MS ? BACKOFF_MAX_MS : ms;
  return ms / 2 + stt_room_random(session->room, ms / 2 + 1);
}

// --- what is to be sent next

static void count_dropped(struct session *session, uint64_t from, uint64_t to)
{
  if (to > from) {
    stt_room_count(session->room, AUDIO_DROPPED_MS, (to - from) * 1000 / VC_SAMPLE_RATE_HZ);
  }
}

static void rewind_to(struct session *session, uint64_t sample)
{
  if (sample < session->ring.tail) {
    count_dropped(session, sample, session->ring.tail);
    sample = session->ring.tail;
  }
  if (sample < session->send_at) {
    stt_room_count(session->room, AUDIO_RESENT_MS,
                   (session->send_at - sample) * 1000 / VC_SAMPLE_RATE_HZ);
  }
  session->send_at = sample;
}

static void replay(struct session *session)
{
  uint64_t from = session->told_to > REPLAY_SAMPLES ? session->told_to - REPLAY_SAMPLES : 0;
  rewind_to(session, from > session->ring.tail ? from : session->ring.tail);
  stt_trail_begin(&session->trail, session->sent_high);
  session->owed_stream = 0;
}

// --- the end of something

static void let_url_go(struct session *session)
{
  if (session->url != NULL) {
    explicit_bzero(session->url, strlen(session->url));
    free(session->url);
    session->url = NULL;
  }
}

static void let_connection_go(struct session *session)
{
  vc_socket_close(&session->socket, 1000);
  session->has_heard = 0;
  session->has_stopped = session->has_ended = 0;
  session->last_transcript_ns = 0;
}

void stt_link_end(struct session *session)
{
  vc_post_cancel(&session->post);
  let_connection_go(session);
  let_url_go(session);
}

static void give_url_up(struct session *session)
{
  let_url_go(session);
  stt_hear_give_owed_up(session);
  stt_hear_retract_all(session);
  session->n_connect_failures = 0;
  session->has_acknowledged = 0;
  replay(session);
}

static void wait_until(struct session *session, uint64_t at_ns)
{
  session->phase = PHASE_WAITING;
  session->retry_at_ns = at_ns;
  wake_at(session, at_ns);
}

// The link does not work, for `reason`; it is tried again.
static void fail(struct session *session, const char *reason, enum next next, int64_t retry_after_s)
{
  vc_post_cancel(&session->post);
  let_connection_go(session);
  session->n_failures++;
  if (next == NEW_SESSION && session->url != NULL) {
    give_url_up(session);
  }
  uint64_t wait_ms = backoff_ms(session);
  session->not_before_ns = 0;
  if (retry_after_s >= 0) {
    int64_t seconds = retry_after_s < RETRY_AFTER_MAX_S ? retry_after_s : RETRY_AFTER_MAX_S;
    session->not_before_ns = after_ms(session, (uint64_t)seconds * 1000);
    wait_ms = (uint64_t)seconds * 1000 > wait_ms ? (uint64_t)seconds * 1000 : wait_ms;
  }
  snprintf(session->trouble, sizeof session->trouble, "%s", reason);
  wait_until(session, after_ms(session, wait_ms));
  if (session->is_ending && session->n_failures >= ENDING_FAILURES_MAX) {
    stt_session_finish(session);
    return;
  }
  stt_session_show_state(session);
}

// It cannot be reached or does not want us: the service is down, as far as this session can tell.
static void fail_down(struct session *session, const char *reason, enum next next,
                      int64_t retry_after_s)
{
  stt_room_log(session, "stt.down", reason, 0);
  session->is_broken = 0;
  stt_room_stand(session, STANDING_DOWN, reason);
  fail(session, reason, next, retry_after_s);
}

// A connection that worked broke.
static void fail_broken(struct session *session, int close_code, enum next next)
{
  stt_room_count(session->room, RECONNECTS, 1);
  stt_room_log(session, "stt.connection_lost", "", close_code);
  session->is_broken = 1;
  uint64_t from = stt_session_unacknowledged(session);
  if (!session->has_acknowledged && session->send_at - from > MUTE_SAMPLES) {
    next = NEW_SESSION; // it does not acknowledge: what it received cannot be known
  }
  if (next == SAME_SESSION) {
    rewind_to(session, from);
  }
  fail(session, "stt connection lost", next, -1);
}

void stt_link_send_again(struct session *session, uint64_t from)
{
  from = from > REPLAY_SAMPLES ? from - REPLAY_SAMPLES : 0;
  from = from > session->ring.tail ? from : session->ring.tail;
  if (from < session->send_at) {
    rewind_to(session, from);
    stt_session_feed(session);
  }
}

void stt_link_renew(struct session *session)
{
  fail_broken(session, 0, NEW_SESSION);
}

void stt_link_worked(struct session *session)
{
  session->n_failures = session->n_connect_failures = 0;
}

// --- POST

// Says what is wrong with the answer, or NULL.
static const char *read_answer(struct session *session, const struct vc_post_answer *answer)
{
  struct vc_gladia_session got;
  const char *why = "";
  if (vc_gladia_parse_init_answer(answer->body, answer->size, &got, &why) != 0) {
    return "stt answer not understood";
  }
  int is_secure = strncmp(got.url, "wss://", 6) == 0;
  const char *wrong = NULL;
  if (!is_secure && (session->room->shared->wants_tls || strncmp(got.url, "ws://", 5) != 0)) {
    wrong = "stt answer has no usable url";
  } else if ((session->url = strdup(got.url)) == NULL) {
    stt_room_count(session->room, OUT_OF_MEMORY, 1);
    wrong = "no memory";
  }
  explicit_bzero(&got, sizeof got);
  return wrong;
}

static void take_answer(struct session *session, const struct vc_post_answer *answer)
{
  const char *wrong = read_answer(session, answer);
  if (wrong != NULL) {
    fail_down(session, wrong, NEW_SESSION, -1);
    return;
  }
  session->ordinal++;
  session->began_ns = stt_room_now(session->room);
  session->scope = answer->is_peer_private ? VC_SCOPE_ANY : VC_SCOPE_PUBLIC;
  session->has_acknowledged = 0;
  stt_room_count(session->room, STT_SESSIONS, 1);
  replay(session);
  connect_socket(session);
}

static void asked(void *context, const struct vc_post_answer *answer)
{
  struct session *session = context;
  char reason[96];
  session->post = NULL;
  if (answer->trouble == VC_TROUBLE_NONE && answer->status / 100 == 2) {
    take_answer(session, answer);
    return;
  }
  stt_room_count(session->room, REFUSALS, 1);
  if (answer->trouble == VC_TROUBLE_NONE) {
    snprintf(reason, sizeof reason, "stt refused: %d", answer->status);
  } else if (answer->trouble == VC_TROUBLE_UNREACHABLE) {
    snprintf(reason, sizeof reason, "stt unreachable");
  } else {
    snprintf(reason, sizeof reason, "stt unreachable: %s", vc_trouble_text(answer->trouble));
  }
  fail_down(session, reason, NEW_SESSION, answer->retry_after_s);
}

static int start_post(struct session *session, const char *body)
{
  const struct vc_stt_options *options = session->room->shared->settings.options;
  char key[1024 + 16] = "x-gladia-key: ";
  size_t at = strlen(key);
  const char *headers[] = {"content-type: application/json", NULL, NULL};
  if (options->gladia_api_key != NULL &&
      vc_secret_copy(options->gladia_api_key, key + at, sizeof key - at) > 0) {
    headers[1] = key;
  }
  struct vc_post_request request = {.url = options->stt_url,
                                    .headers = headers,
                                    .body = body,
                                    .size = strlen(body),
                                    .timeout_ms = ASK_TIMEOUT_MS,
                                    .done = asked,
                                    .context = session};
  int status = vc_post_start(&session->post, session->room->client, &request);
  explicit_bzero(key, sizeof key);
  return status;
}

static void ask(struct session *session)
{
  const struct shared *shared = session->room->shared;
  struct vc_gladia_init init = {.session = session->session->slug,
                                .languages = shared->languages,
                                .n_languages = shared->n_languages,
                                .endpointing_s = shared->settings.options->stt_endpointing_s,
                                .max_utterance_s = shared->settings.options->stt_max_utterance_s};
  char *body = vc_gladia_print_init(&init);
  session->phase = PHASE_ASKING;
  session->deadline_ns = after_ms(session, ASK_TIMEOUT_MS);
  wake_at(session, session->deadline_ns);
  if (body == NULL || start_post(session, body) != 0) {
    stt_room_count(session->room, OUT_OF_MEMORY, 1);
    fail_down(session, "no memory", NEW_SESSION, -1);
  }
  free(body);
}

// --- the connection

// How long a final may take that is owed from before the connection: the longest utterance, and
// some time to hear it.
static uint64_t owed_ms(const struct session *session)
{
  const struct vc_stt_options *options = session->room->shared->settings.options;
  return (uint64_t)(options->stt_max_utterance_s * 1000) + OWED_EXTRA_MS;
}

static void opened(void *context)
{
  struct session *session = context;
  uint64_t now = stt_room_now(session->room);
  session->phase = PHASE_LIVE;
  session->last_sent_ns = session->unanswered_ns = now;
  session->probe_until_ns = now + PROBE_WAIT_MS * VC_NS_PER_MS;
  session->owed_by_ns = now + owed_ms(session) * VC_NS_PER_MS;
  stt_session_feed(session);
}

static void heard(void *context, enum vc_ws_opcode opcode, const uint8_t *payload, size_t size)
{
  struct session *session = context;
  session->unanswered_ns = stt_room_now(session->room);
  if (!session->has_heard) { // only now: one that accepts and hangs up is no service
    session->has_heard = 1;
    session->is_broken = 0;
    session->trouble[0] = '\0';
    stt_room_stand(session, STANDING_UP, NULL);
    stt_session_show_state(session);
  }
  if (opcode == VC_WS_TEXT) {
    stt_hear_message(session, payload, size);
  } else {
    stt_room_count(session->room, MALFORMED, 1);
  }
}

static void writable(void *context)
{
  stt_session_feed(context);
}

static int is_session_gone(const struct vc_socket_end *end)
{
  switch (end->trouble) {
  case VC_TROUBLE_NONE: // 1000, 1001: over for the peer; 44xx: dead
    return end->close_code == 1000 || end->close_code == 1001 || end->close_code == 1005 ||
           (end->close_code >= 4400 && end->close_code <= 4499);
  case VC_TROUBLE_REFUSED:
    return end->status >= 400 && end->status < 500 && end->status != 408 && end->status != 429;
  case VC_TROUBLE_FORBIDDEN:
  case VC_TROUBLE_UNTRUSTED:
    return 1;
  default:
    return 0;
  }
}

static void connect_failed(struct session *session, const struct vc_socket_end *end)
{
  char reason[96];
  // One that took audio and never said a word: what it makes of it will not be known.
  int is_mute = session->phase == PHASE_LIVE && !session->has_acknowledged;
  int is_gone =
      is_session_gone(end) || is_mute || ++session->n_connect_failures >= CONNECT_FAILURES_MAX;
  if (end->trouble == VC_TROUBLE_REFUSED) {
    snprintf(reason, sizeof reason, "stt refused: %d", end->status);
  } else if (end->trouble == VC_TROUBLE_NONE) {
    snprintf(reason, sizeof reason, "stt closed: %d", end->close_code);
  } else if (end->trouble == VC_TROUBLE_UNREACHABLE) {
    snprintf(reason, sizeof reason, "stt unreachable");
  } else {
    snprintf(reason, sizeof reason, "stt unreachable: %s", vc_trouble_text(end->trouble));
  }
  rewind_to(session, stt_session_unacknowledged(session));
  stt_room_count(session->room, REFUSALS, 1);
  // A session that the provider has forgotten is no outage: a new one is asked for first.
  if (is_gone && session->is_broken && session->n_failures < 2) {
    fail(session, reason, NEW_SESSION, end->retry_after_s);
  } else {
    fail_down(session, reason, is_gone ? NEW_SESSION : SAME_SESSION, end->retry_after_s);
  }
}

static void closed(void *context, const struct vc_socket_end *end)
{
  struct session *session = context;
  session->socket = NULL;
  int is_over = end->trouble == VC_TROUBLE_NONE && is_session_gone(end);
  int is_asked_for = session->is_ending && session->has_stopped && (is_over || session->has_ended);
  if (session->phase == PHASE_LIVE && is_asked_for) {
    stt_session_conclude(session);
  } else if (session->phase != PHASE_LIVE || !session->has_heard) {
    connect_failed(session, end);
  } else {
    fail_broken(session, end->close_code, is_session_gone(end) ? NEW_SESSION : SAME_SESSION);
  }
}

static const struct vc_socket_ops socket_ops = {opened, heard, writable, closed};

static void connect_socket(struct session *session)
{
  struct vc_socket_request request = {.url = session->url,
                                      .scope = session->scope,
                                      .message_max = MESSAGE_MAX,
                                      .connect_timeout_ms = CONNECT_TIMEOUT_MS,
                                      .ops = &socket_ops,
                                      .context = session};
  session->phase = PHASE_CONNECTING;
  session->deadline_ns = after_ms(session, CONNECT_TIMEOUT_MS);
  wake_at(session, session->deadline_ns);
  if (vc_socket_open(&session->socket, session->room->client, &request) != 0) {
    fail_down(session, "stt url not usable", NEW_SESSION, -1);
  } else if (session->outbox != NULL) {
    vc_socket_pause(session->socket);
  }
}

// --- time

void stt_link_begin(struct session *session)
{
  stt_trail_begin(&session->trail, 0);
  ask(session);
}

static void retry(struct session *session)
{
  if (session->url == NULL) {
    ask(session);
  } else {
    stt_trail_reconnect(&session->trail);
    stt_hear_reconnect(session);
    connect_socket(session);
  }
}

int stt_link_try_last(struct session *session)
{
  uint64_t now = stt_room_now(session->room);
  session->n_failures = ENDING_FAILURES_MAX - 1;
  if (session->phase == PHASE_WAITING) {
    if (session->not_before_ns > now) {
      return 1;
    }
    wait_until(session, now);
  }
  return 0;
}

static void watch_live(struct session *session, uint64_t now)
{
  uint64_t age = now - session->began_ns;
  int is_silent = session->trail.n_frames > 0 && session->outbox == NULL &&
                  (session->has_acknowledged || !session->has_heard) &&
                  now - session->unanswered_ns >= UNANSWERED_MS * VC_NS_PER_MS;
  if (is_silent) {
    vc_socket_close(&session->socket, 1001);
    closed(session, &(struct vc_socket_end){.trouble = VC_TROUBLE_TIMEOUT, .retry_after_s = -1});
  } else if (!session->is_ending &&
             (age > AGE_HARD_NS || (age > AGE_SOFT_NS && session->n_open == 0))) {
    fail_broken(session, 0, NEW_SESSION);
  }
}

void stt_link_tick(struct session *session)
{
  uint64_t now = stt_room_now(session->room);
  switch (session->phase) {
  case PHASE_WAITING:
    if (now >= session->retry_at_ns) {
      retry(session);
    }
    break;
  case PHASE_ASKING:
    if (now >= session->deadline_ns) {
      fail_down(session, "stt unreachable: timed out", NEW_SESSION, -1);
    }
    break;
  case PHASE_CONNECTING:
    if (now >= session->deadline_ns) {
      connect_failed(session,
                     &(struct vc_socket_end){.trouble = VC_TROUBLE_TIMEOUT, .retry_after_s = -1});
    }
    break;
  case PHASE_LIVE:
    watch_live(session, now);
    break;
  case PHASE_CLOSED:
    break;
  }
}
