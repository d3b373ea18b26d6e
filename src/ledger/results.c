// What stt says becomes what viewers are told: finals once, partials in place, states on change.
#include "ledger.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TIME_MAX_S 1.0e9 // 30 years: beyond is no time of a session

// --- open utterances

static struct open *find_open(struct publishing *live, uint64_t key)
{
  for (size_t i = 0; i < live->n_open; i++) {
    if (live->open[i].key == key) {
      return &live->open[i];
    }
  }
  return NULL;
}

static void close_open(struct publishing *live, struct open *open)
{
  vc_utterance_destroy(&open->utterance);
  vc_message_unref(open->message);
  size_t at = (size_t)(open - live->open);
  memmove(open, open + 1, (live->n_open - at - 1) * sizeof *open);
  live->open[--live->n_open] = (struct open){0};
}

static void retract(struct ledger *ledger, struct session *session, struct publishing *live,
                    struct open *open)
{
  if (open->message != NULL) {
    say_retract(ledger, session, open);
  }
  close_open(live, open);
}

static struct open *add_open(struct ledger *ledger, struct session *session,
                             struct publishing *live, const struct open *shown)
{
  if (live->n_open == OPEN_MAX) {
    ledger_count(ledger, OPEN_OVERFLOWS);
    retract(ledger, session, live, &live->open[0]);
  }
  live->open[live->n_open] = *shown;
  return &live->open[live->n_open++];
}

// --- utterances

static int is_time(double seconds)
{
  return isfinite(seconds) && fabs(seconds) < TIME_MAX_S;
}

static int is_same_text(const char *a, const char *b)
{
  return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

static int is_same_number(double a, double b)
{
  return (isnan(a) && isnan(b)) || fabs(a - b) < 0.0005;
}

static int is_same(const struct vc_utterance *a, const struct vc_utterance *b)
{
  return is_same_text(a->text, b->text) && is_same_text(a->language, b->language) &&
         is_same_text(a->speaker, b->speaker) && is_same_number(a->end_s, b->end_s) &&
         is_same_number(a->confidence, b->confidence);
}

static void hear_partial(struct ledger *ledger, struct session *session, struct publishing *live,
                         struct open *shown, const struct vc_result *heard,
                         struct vc_utterance **utterance)
{
  struct open *open = find_open(live, shown->key);
  if (open == NULL) {
    shown->start_s = (*utterance)->start_s > 0 ? (*utterance)->start_s : 0;
    open = add_open(ledger, session, live, shown);
  } else if (is_same(open->utterance, *utterance)) {
    ledger_count(ledger, SAME_PARTIALS);
    return;
  }
  vc_utterance_destroy(&open->utterance);
  open->utterance = *utterance;
  *utterance = NULL;
  say_partial(ledger, session, open, heard);
  atomic_fetch_add_explicit(&live->session->n_partials, 1, memory_order_relaxed);
}

static void hear_final(struct ledger *ledger, struct session *session, struct publishing *live,
                       const struct open *shown, const struct vc_result *heard,
                       const struct vc_utterance *heard_utterance)
{
  struct open *open = find_open(live, shown->key);
  struct vc_utterance utterance = *heard_utterance;
  utterance.start_s = open != NULL ? open->start_s : utterance.start_s > 0 ? utterance.start_s : 0;
  if (utterance.end_s < utterance.start_s) {
    utterance.end_s = utterance.start_s;
  }
  if (say_final(ledger, session, shown, &utterance, heard) != 0) {
    return; // not shown: it may come again
  }
  if (dedup_add(&live->dedup, shown->key) != 0) {
    ledger_out_of_memory(ledger); // shown now; shown again if it comes again
  }
  if (open != NULL) {
    close_open(live, open);
  }
  atomic_fetch_add_explicit(&live->session->n_finals, 1, memory_order_relaxed);
}

// A final without text takes back what was shown of it.
static void hear_nothing(struct ledger *ledger, struct session *session, struct publishing *live,
                         const struct open *shown, const struct vc_utterance *utterance)
{
  struct open *open = find_open(live, shown->key);
  ledger_count(ledger, EMPTY_UTTERANCES);
  if (!utterance->is_final) {
    return;
  }
  if (dedup_add(&live->dedup, shown->key) != 0) {
    ledger_out_of_memory(ledger);
  }
  if (open != NULL) {
    retract(ledger, session, live, open);
  }
}

static void hear(struct ledger *ledger, struct session *session, struct publishing *live,
                 const struct vc_result *heard, struct vc_utterance **taken)
{
  if (!is_time((*taken)->start_s) || !is_time((*taken)->end_s)) {
    ledger_count(ledger, INVALID_UTTERANCES);
    return;
  }
  if (publishing_place(session, live, taken) != 0) {
    ledger_out_of_memory(ledger);
    return;
  }
  const struct vc_utterance *utterance = *taken;
  const struct heard_id id = {heard->stt_ordinal, utterance->channel, utterance->id};
  struct open shown = {0};
  publishing_name(session, live, &id, &shown);
  if (dedup_has(&live->dedup, shown.key)) {
    ledger_count(ledger, utterance->is_final ? DUPLICATES : LATE_PARTIALS);
  } else if (utterance->text[0] == '\0') {
    hear_nothing(ledger, session, live, &shown, utterance);
  } else if (utterance->is_final) {
    hear_final(ledger, session, live, &shown, heard, utterance);
  } else {
    hear_partial(ledger, session, live, &shown, heard, taken);
  }
}

// --- the life of a publishing

// The session's state is that of its best publishing.
static void show_state(struct ledger *ledger, struct session *session)
{
  const struct epoch *epoch = session_newest(session);
  const struct publishing *best = publishing_best(session);
  if (epoch->state != best->state || strcmp(epoch->reason, best->reason) != 0) {
    say_status(ledger, session, best->state, best->reason);
  }
}

// Who was told to leave, and says the last words of what was taken back, ends it here. Who leaves
// what another node has taken, however late, does not.
static enum vc_close_reason why_it_ends(const struct session *session, enum vc_close_reason why)
{
  const struct fleet *fleet = &session->fleet;
  if (why != VC_CLOSE_SHUTDOWN && (fleet->taken_ns != 0 || fleet->is_elsewhere)) {
    return VC_CLOSE_TAKEN_OVER;
  }
  int is_ours = fleet->claim == CLAIM_HELD && fleet->taken_ns == 0;
  return why == VC_CLOSE_TAKEN_OVER && is_ours ? VC_CLOSE_PUBLISHER_LEFT : why;
}

static void end(struct ledger *ledger, struct session *session, enum vc_close_reason why)
{
  why = why_it_ends(session, why);
  const char *reason = vc_close_reason_text(why);
  if (why == VC_CLOSE_SHUTDOWN && ledger->publisher != NULL) {
    say_status(ledger, session, VC_STATE_RECONNECTING, reason); // it may go on elsewhere
  } else if (why != VC_CLOSE_TAKEN_OVER) {                      // which goes on elsewhere
    say_end(ledger, session, reason);
  }
  record_ended(ledger, session, reason);
  vc_log(VC_LOG_INFO, VC_EVENT("ledger.ended"), VC_STR("session", session->slug),
         VC_INT("epoch", session_newest(session)->number), VC_STR("reason", reason));
  publishing_remove(session, session->live);
  session_end(ledger, session);
}

static void retract_all(struct ledger *ledger, struct session *session, struct publishing *live)
{
  while (live->n_open > 0) {
    retract(ledger, session, live, &live->open[0]);
  }
}

// The last one ends the session.
static void finish(struct ledger *ledger, struct session *session, struct publishing *live,
                   enum vc_close_reason why)
{
  retract_all(ledger, session, live);
  session_settle_clock(session);
  if (session->live->next == NULL) {
    end(ledger, session, why);
    return;
  }
  vc_log(VC_LOG_INFO, VC_EVENT("ledger.left"), VC_STR("session", session->slug),
         VC_STR("participant", live->session->participant),
         VC_STR("reason", vc_close_reason_text(why)));
  publishing_remove(session, live);
  show_state(ledger, session);
}

// The first one begins the session. Returns: 0, or -1 no memory.
static int join_in(struct ledger *ledger, struct session *session, struct vc_session *of)
{
  int is_first = session->live == NULL;
  struct publishing *live = publishing_create(ledger, of);
  if (live == NULL) {
    ledger_out_of_memory(ledger);
    return -1;
  }
  live->is_newcomer = of->began_ns >= session->fleet.taken_again_ns;
  publishing_add(session, live);
  if (is_first && say_begin(ledger, session, of->started_unix_ms) != 0) {
    publishing_remove(session, live);
    return -1;
  }
  live->ordinals_before = session_newest(session)->last_ordinal;
  if (is_first) {
    record_started(ledger, session);
  } else {
    show_state(ledger, session);
  }
  vc_log(VC_LOG_INFO, VC_EVENT(is_first ? "ledger.began" : "ledger.joined_in"),
         VC_STR("session", session->slug), VC_INT("epoch", session_newest(session)->number),
         VC_STR("participant", of->participant));
  return 0;
}

static void start(struct ledger *ledger, struct vc_session *of)
{
  struct session *session = session_get_for_publisher(ledger, of->slug);
  if (session == NULL) {
    ledger_out_of_memory(ledger);
    return;
  }
  struct publishing *stale = publishing_find_of(session, of->participant);
  if (stale != NULL) { // its close was lost on the way
    ledger_count(ledger, STRAY_RESULTS);
    finish(ledger, session, stale, VC_CLOSE_PUBLISHER_LEFT);
  }
  session_revive(ledger, session);
  if (join_in(ledger, session, of) != 0 && session->live == NULL) { // what it says is stray
    session->epochs != NULL ? session_end(ledger, session) : session_release(ledger, session);
  }
}

static void change_state(struct ledger *ledger, struct session *session, struct publishing *live,
                         const struct vc_result *result)
{
  int is_state = result->state == VC_STATE_LIVE || result->state == VC_STATE_RECONNECTING ||
                 result->state == VC_STATE_STT_DOWN;
  if (!is_state) {
    ledger_count(ledger, STRAY_RESULTS);
    return;
  }
  live->state = result->state;
  snprintf(live->reason, sizeof live->reason, "%s", result->reason);
  show_state(ledger, session);
}

static void take_back(struct ledger *ledger, struct session *session, struct publishing *live,
                      const struct vc_result *result)
{
  const struct heard_id id = {result->stt_ordinal, result->channel, result->utterance_id};
  struct open named = {0};
  publishing_name(session, live, &id, &named);
  struct open *open = find_open(live, named.key);
  if (open != NULL) {
    retract(ledger, session, live, open);
  }
}

static void measure_delay(struct ledger *ledger, const struct vc_result *result)
{
  uint64_t now = vc_worker_now_ns(ledger->worker);
  if (result->received_ns != 0 && now >= result->received_ns) {
    vc_metric_record(ledger->slots, DELAY_MS,
                     (double)(now - result->received_ns) / (double)VC_NS_PER_MS, now);
  }
}

void handle_result(struct ledger *ledger, const struct vc_result *result,
                   struct vc_utterance **utterance)
{
  if (result->kind == VC_RESULT_OPEN) {
    start(ledger, result->session);
    return;
  }
  struct session *session = session_find(ledger, result->session->slug);
  struct publishing *live = session != NULL ? publishing_find(session, result->session->id) : NULL;
  if (live == NULL) {
    ledger_count(ledger, STRAY_RESULTS);
    return;
  }
  switch (result->kind) {
  case VC_RESULT_UTTERANCE:
    measure_delay(ledger, result);
    hear(ledger, session, live, result, utterance);
    break;
  case VC_RESULT_RETRACT:
    take_back(ledger, session, live, result);
    break;
  case VC_RESULT_STATE:
    change_state(ledger, session, live, result);
    break;
  case VC_RESULT_CLOSE:
    finish(ledger, session, live, result->close_reason);
    break;
  case VC_RESULT_OPEN:
    break;
  }
}

void end_live_sessions(struct ledger *ledger)
{
  fleet_begin_all(ledger);
  // An end may make ended sessions give way, also the next one: it is looked up afterwards.
  for (struct session *session = ledger->sessions; session != NULL; session = session->hh.next) {
    while (session->live != NULL) {
      finish(ledger, session, session->live, VC_CLOSE_SHUTDOWN);
    }
  }
}

void renew_live_session(struct ledger *ledger, struct session *session)
{
  const struct epoch *old = session_newest(session);
  uint32_t last_ordinal = old->last_ordinal;
  uint64_t first_audio_ns = old->first_audio_ns;
  struct publishing *live;
  DL_FOREACH(session->live, live)
  {
    retract_all(ledger, session, live);
  }
  record_ended(ledger, session, vc_close_reason_text(VC_CLOSE_OWNER_LOST));
  if (say_begin(ledger, session, old->started_unix_ms) != 0) {
    return; // it goes on as it was, unheard by other nodes
  }
  struct epoch *epoch = session_newest(session);
  epoch->last_ordinal = last_ordinal; // ids stay what they are
  epoch->first_audio_ns = first_audio_ns;
  record_started(ledger, session);
  show_state(ledger, session);
  vc_log(VC_LOG_WARN, VC_EVENT("ledger.renewed"), VC_STR("session", session->slug),
         VC_INT("epoch", epoch->number));
}
