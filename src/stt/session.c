// One session's way: POST, open, send, and again when it breaks. A connection that drops is opened
// again to the same address, where the STT session goes on; when that is refused, or fails too
// often, a new STT session is made and fed from the last final on.
#include <verbacast/base/log.h>
#include <verbacast/wire/http.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "room.h"

static void post(struct session *session);
static void open_socket(struct session *session);
static void pump(struct session *session);

static struct worker_state *state_of(const struct session *session)
{
  return vc_worker_state(session->worker);
}

static struct vc_slots *slots_of(const struct session *session)
{
  return vc_worker_slots(session->worker);
}

static uint64_t now_of(const struct session *session)
{
  return vc_clock_now_ns(vc_worker_clock(session->worker));
}

// --- the end

static void finish(struct session *session)
{
  if (session->stage == FINISHED) {
    return;
  }
  session->stage = FINISHED;
  vc_post_cancel(&session->post);
  vc_socket_close(&session->socket, 1000);
  session->is_paused = 0;
  if (audio_end(&session->audio) > session->audio.next_sent) {
    vc_metric_add(slots_of(session), UNFINISHED, 1);
    vc_log(VC_LOG_WARN, VC_EVENT("stt.unfinished"), VC_STR("slug", session->session->slug),
           VC_INT("unsent_ms", (audio_end(&session->audio) - session->audio.next_sent) / 16));
  }
  results_retract(session);
  results_turn(session, VC_RESULT_CLOSE);
  if (session->is_in_trouble) {
    // The session goes, and its trouble with it; viewers have the end.
    session->state = VC_STATE_LIVE;
    results_state(session, VC_STATE_LIVE, "");
  }
  vc_worker_wake_at(session->worker, vc_worker_now_ns(session->worker));
}

void stt_session_destroy(struct session *session)
{
  struct worker_state *state = state_of(session);
  struct waiting *waiting, *next;
  vc_post_cancel(&session->post);
  vc_socket_close(&session->socket, 1001);
  DL_FOREACH_SAFE(session->waiting, waiting, next)
  {
    DL_DELETE(session->waiting, waiting);
    vc_result_destroy(&waiting->result);
    free(waiting);
  }
  audio_fini(&session->audio);
  HASH_DEL(state->sessions, session);
  vc_metric_add(slots_of(session), SESSIONS, (uint64_t)-1);
  vc_session_unref(session->session);
  free(session->url);
  free(session);
}

// --- trying again

static uint64_t backoff_ns(uint32_t n_attempts, int64_t retry_after_s)
{
  uint64_t ms = BACKOFF_FIRST_MS;
  for (uint32_t i = 1; i < n_attempts && ms < BACKOFF_MAX_MS; i++) {
    ms *= 2;
  }
  ms = ms < BACKOFF_MAX_MS ? ms : BACKOFF_MAX_MS;
  if (retry_after_s > 0) {
    ms = retry_after_s < BACKOFF_MAX_MS / 1000 ? (uint64_t)retry_after_s * 1000 : BACKOFF_MAX_MS;
  }
  uint8_t random = 0;
  ssize_t n = getrandom(&random, 1, 0);
  (void)n;
  return (ms * (192 + random / 2) / 256) * VC_NS_PER_MS; // three quarters to one and a quarter
}

static void forget_url(struct session *session)
{
  free(session->url);
  session->url = NULL;
  session->n_url_attempts = 0;
}

static void try_later(struct session *session, int64_t retry_after_s)
{
  session->stage = WAITING;
  session->retry_ns = now_of(session) + backoff_ns(session->n_attempts, retry_after_s);
  vc_worker_wake_at(session->worker, session->retry_ns);
}

static void fail(struct session *session, const char *reason, int64_t retry_after_s)
{
  session->n_attempts++;
  vc_metric_add(slots_of(session), REFUSALS, 1);
  vc_log(VC_LOG_WARN, VC_EVENT("stt.failed"), VC_STR("slug", session->session->slug),
         VC_STR("reason", reason), VC_INT("attempts", session->n_attempts));
  results_state(session, VC_STATE_STT_DOWN, reason);
  try_later(session, retry_after_s);
}

static void try_again(struct session *session)
{
  if (session->url != NULL) {
    open_socket(session);
  } else {
    post(session);
  }
}

// --- POST

// https at first means wss: what was private stays private.
static int is_url_good(const struct session *session, const char *text)
{
  const struct vc_stt_options *options = state_of(session)->room->settings.options;
  struct vc_url first, second;
  if (vc_url_parse(options->stt_url, &first) != 0 || vc_url_parse(text, &second) != 0) {
    return 0;
  }
  int is_secure = strcmp(second.scheme, "wss") == 0;
  return is_secure || (strcmp(first.scheme, "http") == 0 && strcmp(second.scheme, "ws") == 0);
}

static void begin_stt_session(struct session *session)
{
  struct audio *audio = &session->audio;
  session->ordinal++;
  session->has_acks = 0;
  session->n_sent = 0;
  session->n_segments = 0;
  session->has_stopped = 0;
  if (session->ordinal > 1) {
    results_retract(session);
    vc_metric_add(slots_of(session), NEW_SESSIONS, 1);
    uint64_t from = session->final_end > OVERLAP_SAMPLES ? session->final_end - OVERLAP_SAMPLES : 0;
    uint64_t begin = audio_begin(audio);
    audio->next_sent = from > begin ? from : begin;
  }
}

static void posted(void *context, const struct vc_post_answer *answer)
{
  struct session *session = context;
  struct vc_gladia_session made;
  const char *why = "";
  char reason[96];
  session->post = NULL;
  if (answer->trouble != VC_TROUBLE_NONE) {
    fail(session, vc_trouble_text(answer->trouble), -1);
    return;
  }
  if (answer->status < 200 || answer->status > 299) {
    snprintf(reason, sizeof reason, "refused with %d", answer->status);
    fail(session, reason, answer->retry_after_s);
    return;
  }
  if (vc_gladia_parse_init_answer(answer->body, answer->size, &made, &why) != 0 ||
      !is_url_good(session, made.url)) {
    fail(session, why[0] != '\0' ? why : "it answered with an address that may not be used", -1);
    return;
  }
  session->url = strdup(made.url);
  session->is_peer_private = answer->is_peer_private;
  if (session->url == NULL) {
    fail(session, "no memory", -1);
    return;
  }
  begin_stt_session(session);
  open_socket(session);
}

static char *make_body(const struct session *session)
{
  const struct room *room = state_of(session)->room;
  const struct vc_gladia_init init = {.session = session->session->slug,
                                      .languages = room->languages,
                                      .n_languages = room->n_languages,
                                      .endpointing_s = room->settings.options->stt_endpointing_s,
                                      .max_utterance_s =
                                          room->settings.options->stt_max_utterance_s};
  return vc_gladia_print_init(&init);
}

static void post(struct session *session)
{
  struct worker_state *state = state_of(session);
  const struct vc_stt_options *options = state->room->settings.options;
  char key[1024] = "x-gladia-key: ";
  size_t n = strlen(key);
  int has_key = vc_secret_copy(options->gladia_api_key, key + n, sizeof key - n) > 0;
  const char *headers[] = {"content-type: application/json", has_key ? key : NULL, NULL};
  char *body = make_body(session);
  session->stage = POSTING;
  const struct vc_post_request request = {.url = options->stt_url,
                                          .headers = headers,
                                          .body = body,
                                          .size = body != NULL ? strlen(body) : 0,
                                          .timeout_ms = POST_TIMEOUT_MS,
                                          .done = posted,
                                          .context = session};
  if (body == NULL || vc_post_start(&session->post, state->client, &request) != 0) {
    fail(session, "no memory", -1);
  }
  free(body);
}

// --- the socket

static void opened(void *context)
{
  struct session *session = context;
  struct audio *audio = &session->audio;
  vc_metric_add(slots_of(session), CONNECTIONS_TOTAL, 1);
  if (session->n_sent > 0) {
    // The same STT session goes on: what was not acknowledged is sent again.
    vc_metric_add(slots_of(session), RECONNECTS, 1);
    if (session->has_acks && audio->acked < audio->next_sent) {
      audio->next_sent = audio->acked > audio_begin(audio) ? audio->acked : audio_begin(audio);
    }
  }
  session->stage = OPEN;
  session->n_attempts = 0;
  session->must_write = 0;
  session->has_first_ack = 0;
  session->has_stopped = 0;
  session->connection_first = audio->next_sent;
  audio->acked = audio->next_sent;
  // Until the first acknowledgment says better: it has received all that was sent.
  if (session->n_segments == SEGMENTS_MAX) {
    memmove(session->segments, session->segments + 1,
            (SEGMENTS_MAX - 1) * sizeof session->segments[0]);
    session->n_segments--;
  }
  session->segments[session->n_segments++] = (struct segment){session->n_sent, audio->next_sent};
  session->last_sent_ns = now_of(session);
  results_state(session, session->is_lost ? VC_STATE_RECONNECTING : VC_STATE_LIVE, "");
  pump(session);
}

static void took_message(void *context, enum vc_ws_opcode opcode, const uint8_t *payload,
                         size_t size)
{
  struct session *session = context;
  session->n_url_attempts = 0; // it serves this session
  if (opcode == VC_WS_TEXT) {
    results_message(session, payload, size);
  }
}

static void writable(void *context)
{
  struct session *session = context;
  session->must_write = 0;
  pump(session);
}

// Returns: 1 when the STT session itself is over: another has to be made.
static int is_over(const struct session *session, const struct vc_socket_end *end)
{
  if (end->trouble == VC_TROUBLE_REFUSED) {
    return end->status >= 400 && end->status < 500 && end->status != 429;
  }
  int is_fatal = end->close_code >= 4400 && end->close_code < 4500;
  int is_done = end->close_code == 1000 || end->close_code == 1001;
  return (end->trouble == VC_TROUBLE_NONE && (is_fatal || is_done)) ||
         session->n_url_attempts >= ATTEMPTS_PER_URL;
}

static void closed(void *context, const struct vc_socket_end *end)
{
  struct session *session = context;
  int was_open = session->stage == OPEN;
  char reason[96];
  session->socket = NULL;
  session->is_paused = 0;
  session->n_url_attempts++;
  if (session->is_closing && session->has_stopped &&
      (end->trouble == VC_TROUBLE_NONE || session->audio.acked >= session->audio.next_sent)) {
    finish(session);
    return;
  }
  if (is_over(session, end)) {
    forget_url(session);
  }
  if (end->trouble == VC_TROUBLE_NONE) {
    snprintf(reason, sizeof reason, "closed with %d", end->close_code);
  } else if (end->trouble == VC_TROUBLE_REFUSED) {
    snprintf(reason, sizeof reason, "refused with %d", end->status);
  } else {
    snprintf(reason, sizeof reason, "%s", vc_trouble_text(end->trouble));
  }
  if (!was_open) {
    fail(session, reason, end->retry_after_s);
    return;
  }
  vc_log(VC_LOG_WARN, VC_EVENT("stt.lost"), VC_STR("slug", session->session->slug),
         VC_STR("reason", reason));
  results_state(session, VC_STATE_RECONNECTING, "the connection to speech-to-text was lost");
  session->n_attempts++;
  if (session->n_attempts == 1) {
    session->stage = WAITING; // at once, but not from within the callback
    session->retry_ns = now_of(session);
    vc_worker_wake_at(session->worker, session->retry_ns);
  } else {
    try_later(session, -1);
  }
}

static void open_socket(struct session *session)
{
  static const struct vc_socket_ops ops = {
      .opened = opened, .message = took_message, .writable = writable, .closed = closed};
  const struct vc_socket_request request = {.url = session->url,
                                            .scope = session->is_peer_private ? VC_SCOPE_ANY
                                                                              : VC_SCOPE_PUBLIC,
                                            .message_max = MESSAGE_MAX,
                                            .connect_timeout_ms = CONNECT_TIMEOUT_MS,
                                            .ops = &ops,
                                            .context = session};
  session->stage = OPENING;
  session->opening_ns = now_of(session);
  if (vc_socket_open(&session->socket, state_of(session)->client, &request) != 0) {
    forget_url(session);
    fail(session, "no memory", -1);
  }
}

// --- sending

static void sent(struct session *session, uint64_t n, uint64_t arrival_ns)
{
  uint64_t now_ns = now_of(session);
  session->last_sent_ns = now_ns;
  session->n_sent += n;
  vc_metric_add(slots_of(session), CHUNKS_SENT, 1);
  atomic_fetch_add_explicit(&session->session->n_chunks_sent, 1, memory_order_relaxed);
  vc_metric_record(slots_of(session), CHUNK_BYTES, (double)n * 2, now_ns);
  if (arrival_ns != 0) {
    vc_metric_record(slots_of(session), TO_STT,
                     now_ns > arrival_ns ? (double)(now_ns - arrival_ns) / (double)VC_NS_PER_MS : 0,
                     now_ns);
  }
}

// A hole in what is sent: from here on the provider's clock means another time.
static void note_hole(struct session *session, uint64_t sample)
{
  if (session->n_segments == SEGMENTS_MAX) {
    memmove(session->segments, session->segments + 1,
            (SEGMENTS_MAX - 1) * sizeof session->segments[0]);
    session->n_segments--;
  }
  session->segments[session->n_segments++] = (struct segment){session->n_sent, sample};
}

// A backlog goes in larger pieces. Returns: samples laid into the worker's piece.
static uint64_t gather(struct session *session, const struct audio_entry *entry, uint64_t from)
{
  uint8_t *piece = state_of(session)->piece;
  uint64_t n = 0;
  for (; entry != NULL && entry->first <= from + n; entry = entry->next) {
    uint64_t skip = from + n - entry->first;
    uint64_t size = (entry->n - skip) * 2;
    if (n * 2 + size > PIECE_BYTES) {
      break;
    }
    memcpy(piece + n * 2, entry->pcm->data + skip * 2, size);
    n += entry->n - skip;
  }
  return n;
}

// Sends one piece. Returns: 1 it went, 0 there is nothing or the socket is busy.
static int send_piece(struct session *session)
{
  struct audio *audio = &session->audio;
  struct audio_entry *entry = audio_find(audio, audio->next_sent);
  if (entry == NULL) {
    return 0;
  }
  if (entry->first > audio->next_sent) {
    audio->next_sent = entry->first;
    note_hole(session, entry->first);
  }
  uint64_t skip = audio->next_sent - entry->first;
  uint64_t n = entry->n - skip;
  uint64_t arrival_ns = entry->arrival_ns;
  const uint8_t *bytes = entry->pcm->data + skip * 2;
  if (entry->next != NULL) {
    uint64_t gathered = gather(session, entry, audio->next_sent);
    if (gathered > n) {
      n = gathered;
      bytes = state_of(session)->piece;
    }
  }
  if (vc_socket_send(session->socket, VC_WS_BINARY, bytes, n * 2) != 0) {
    session->must_write = 1;
    return 0;
  }
  audio->next_sent += n;
  sent(session, n, arrival_ns);
  return 1;
}

static void say_stop(struct session *session)
{
  if (session->is_closing && !session->has_stopped &&
      vc_socket_send(session->socket, VC_WS_TEXT, vc_gladia_stop_recording,
                     strlen(vc_gladia_stop_recording)) == 0) {
    session->has_stopped = 1;
  }
}

static void pump(struct session *session)
{
  while (session->stage == OPEN && !session->must_write && send_piece(session)) {
  }
  if (session->stage == OPEN && session->audio.next_sent >= audio_end(&session->audio)) {
    say_stop(session);
  }
}

// --- chunks

static void release_covered(struct session *session)
{
  const struct audio *audio = &session->audio;
  uint64_t from = session->final_end > OVERLAP_SAMPLES ? session->final_end - OVERLAP_SAMPLES : 0;
  uint64_t done = session->has_acks ? audio->acked : audio->next_sent;
  audio_release(&session->audio, from < done ? from : done);
}

static void add_audio(struct session *session, struct vc_chunk *chunk)
{
  const struct vc_stt_options *options = state_of(session)->room->settings.options;
  struct audio_entry *entry = calloc(1, sizeof *entry);
  if (entry == NULL) {
    vc_metric_add(slots_of(session), AUDIO_DROPPED_MS, chunk->n_samples / 16);
    return;
  }
  *entry = (struct audio_entry){.pcm = vc_buffer_ref(chunk->pcm),
                                .first = chunk->first_sample,
                                .n = chunk->n_samples,
                                .arrival_ns = chunk->arrival_ns};
  release_covered(session);
  audio_add(&session->audio, entry);
  uint64_t lost = audio_bound(&session->audio, (uint64_t)options->stt_buffer_ms * 16);
  if (lost > 0) {
    vc_metric_add(slots_of(session), AUDIO_DROPPED_MS, lost / 16);
  }
  pump(session);
}

static struct session *session_create(struct vc_worker *worker, struct vc_session *of)
{
  struct worker_state *state = vc_worker_state(worker);
  struct session *session = calloc(1, sizeof *session);
  if (session == NULL) {
    vc_log(VC_LOG_ERROR, VC_EVENT("stt.no_memory"), VC_STR("slug", of->slug));
    return NULL;
  }
  session->id = of->id;
  session->worker = worker;
  session->session = vc_session_ref(of);
  session->state = VC_STATE_LIVE;
  HASH_ADD(hh, state->sessions, id, sizeof session->id, session);
  vc_metric_add(slots_of(session), SESSIONS, 1);
  results_turn(session, VC_RESULT_OPEN);
  post(session);
  return session;
}

static void take_turn(struct session *session, const struct vc_chunk *chunk)
{
  switch (chunk->turn) {
  case VC_TURN_LOST:
    session->is_lost = 1;
    results_state(session, VC_STATE_RECONNECTING, "the publisher is away");
    break;
  case VC_TURN_BACK:
    session->is_lost = 0;
    if (session->stage == OPEN) {
      results_state(session, VC_STATE_LIVE, "");
    }
    break;
  case VC_TURN_CLOSE:
    session->is_closing = 1;
    session->close_reason = chunk->reason;
    session->close_ns = vc_worker_now_ns(session->worker);
    pump(session);
    break;
  default:
    break;
  }
}

void stt_session_chunk(struct vc_worker *worker, struct vc_chunk *chunk)
{
  struct worker_state *state = vc_worker_state(worker);
  struct session *session;
  HASH_FIND(hh, state->sessions, &chunk->session->id, sizeof chunk->session->id, session);
  if (session == NULL && chunk->turn == VC_TURN_OPEN) {
    session_create(worker, chunk->session);
    return;
  }
  if (session == NULL || session->is_closing) {
    return;
  }
  if (chunk->turn == VC_TURN_DATA) {
    add_audio(session, chunk);
  } else {
    take_turn(session, chunk);
  }
}

// --- time

static void keep_alive(struct session *session)
{
  if (now_of(session) >= session->last_sent_ns + KEEP_ALIVE_MS * VC_NS_PER_MS &&
      vc_socket_send(session->socket, VC_WS_TEXT, vc_gladia_keep_alive,
                     strlen(vc_gladia_keep_alive)) == 0) {
    session->last_sent_ns = now_of(session);
  }
}

void stt_session_tick(struct session *session)
{
  uint64_t now_ns = now_of(session);
  int is_flushed = results_flush(session);
  if (session->stage == FINISHED) {
    if (is_flushed) {
      stt_session_destroy(session);
    }
    return;
  }
  if (session->is_closing && now_ns >= session->close_ns + CLOSE_WAIT_MS * VC_NS_PER_MS) {
    finish(session);
    return;
  }
  if (session->stage == WAITING && now_ns >= session->retry_ns) {
    try_again(session);
  } else if (session->stage == OPENING &&
             now_ns >= session->opening_ns + 2 * CONNECT_TIMEOUT_MS * VC_NS_PER_MS) {
    vc_socket_close(&session->socket, 1001);
    session->n_url_attempts++;
    if (session->n_url_attempts >= ATTEMPTS_PER_URL) {
      forget_url(session);
    }
    fail(session, "no answer to the upgrade", -1);
  } else if (session->stage == OPEN) {
    pump(session);
    keep_alive(session);
  }
}

void stt_session_give_up(struct session *session)
{
  finish(session);
}
