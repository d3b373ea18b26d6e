// What stt says becomes what viewers are told: finals once, partials in place, states on change.
#include "ledger.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ID_PART_MAX 64   // of the provider's id that is shown as it is
#define ID_CUT 40        // of one that is not
#define TIME_MAX_S 1.0e9 // 30 years: beyond is no time of a session

// --- utterance ids

static uint64_t hash_of(const char *text)
{
  uint64_t hash = UINT64_C(14695981039346656037);
  for (; *text != '\0'; text++) {
    hash = (hash ^ (unsigned char)*text) * UINT64_C(1099511628211);
  }
  return hash;
}

static int is_plain(char c)
{
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
         strchr("._:-", c) != NULL;
}

static int is_plain_id(const char *id)
{
  size_t size = 0;
  while (id[size] != '\0' && size <= ID_PART_MAX && is_plain(id[size])) {
    size++;
  }
  return size > 0 && id[size] == '\0';
}

// "1-0-00000004". The provider's id is opaque: one that is long or odd is shown cut and with its
// hash, so that different ids stay different.
static void make_id(struct open *open, uint32_t ordinal, int channel, const char *id)
{
  if (is_plain_id(id)) {
    snprintf(open->id, sizeof open->id, "%u-%d-%s", ordinal, channel, id);
  } else {
    char part[ID_CUT + 1];
    size_t n = 0;
    for (; n < ID_CUT && id[n] != '\0'; n++) {
      part[n] = (char)(is_plain(id[n]) ? id[n] : '_');
    }
    part[n] = '\0';
    snprintf(open->id, sizeof open->id, "%u-%d-%s-%016llx", ordinal, channel, part,
             (unsigned long long)hash_of(id));
  }
  open->key = hash_of(open->id);
}

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

static void retract(struct ledger *ledger, struct session *session, struct open *open)
{
  if (open->message != NULL) {
    say_retract(ledger, session, open);
  }
  close_open(session->live, open);
}

static struct open *add_open(struct ledger *ledger, struct session *session,
                             const struct open *shown)
{
  struct publishing *live = session->live;
  if (live->n_open == OPEN_MAX) {
    ledger_count(ledger, OPEN_OVERFLOWS);
    retract(ledger, session, &live->open[0]);
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

static void hear_partial(struct ledger *ledger, struct session *session, struct open *shown,
                         const struct vc_result *heard, struct vc_utterance **utterance)
{
  struct open *open = find_open(session->live, shown->key);
  if (open == NULL) {
    shown->start_s = (*utterance)->start_s > 0 ? (*utterance)->start_s : 0;
    open = add_open(ledger, session, shown);
  } else if (is_same(open->utterance, *utterance)) {
    ledger_count(ledger, SAME_PARTIALS);
    return;
  }
  vc_utterance_destroy(&open->utterance);
  open->utterance = *utterance;
  *utterance = NULL;
  say_partial(ledger, session, open, heard);
  atomic_fetch_add_explicit(&session->live->session->n_partials, 1, memory_order_relaxed);
}

static void hear_final(struct ledger *ledger, struct session *session, const struct open *shown,
                       const struct vc_result *heard, const struct vc_utterance *heard_utterance)
{
  struct open *open = find_open(session->live, shown->key);
  struct vc_utterance utterance = *heard_utterance;
  utterance.start_s = open != NULL ? open->start_s : utterance.start_s > 0 ? utterance.start_s : 0;
  if (utterance.end_s < utterance.start_s) {
    utterance.end_s = utterance.start_s;
  }
  if (say_final(ledger, session, shown, &utterance, heard) != 0) {
    return; // not shown: it may come again
  }
  if (dedup_add(&session->live->dedup, shown->key) != 0) {
    ledger_out_of_memory(ledger); // shown now; shown again if it comes again
  }
  if (open != NULL) {
    close_open(session->live, open);
  }
  atomic_fetch_add_explicit(&session->live->session->n_finals, 1, memory_order_relaxed);
}

// A final without text takes back what was shown of it.
static void hear_nothing(struct ledger *ledger, struct session *session, const struct open *shown,
                         const struct vc_utterance *utterance)
{
  struct open *open = find_open(session->live, shown->key);
  ledger_count(ledger, EMPTY_UTTERANCES);
  if (!utterance->is_final) {
    return;
  }
  if (dedup_add(&session->live->dedup, shown->key) != 0) {
    ledger_out_of_memory(ledger);
  }
  if (open != NULL) {
    retract(ledger, session, open);
  }
}

static void hear(struct ledger *ledger, struct session *session, const struct vc_result *heard,
                 struct vc_utterance **taken)
{
  const struct vc_utterance *utterance = *taken;
  if (!is_time(utterance->start_s) || !is_time(utterance->end_s)) {
    ledger_count(ledger, INVALID_UTTERANCES);
    return;
  }
  struct open shown = {0};
  make_id(&shown, heard->stt_ordinal, utterance->channel, utterance->id);
  if (dedup_has(&session->live->dedup, shown.key)) {
    ledger_count(ledger, utterance->is_final ? DUPLICATES : LATE_PARTIALS);
  } else if (utterance->text[0] == '\0') {
    hear_nothing(ledger, session, &shown, utterance);
  } else if (utterance->is_final) {
    hear_final(ledger, session, &shown, heard, utterance);
  } else {
    hear_partial(ledger, session, &shown, heard, taken);
  }
}

// --- the life of a publishing

static void finish(struct ledger *ledger, struct session *session, enum vc_close_reason why)
{
  const char *reason = vc_close_reason_text(why);
  while (session->live->n_open > 0) {
    retract(ledger, session, &session->live->open[0]);
  }
  say_end(ledger, session, reason);
  record_ended(ledger, session, reason);
  vc_log(VC_LOG_INFO, VC_EVENT("ledger.ended"), VC_STR("session", session->slug),
         VC_INT("epoch", session_newest(session)->number), VC_STR("reason", reason));
  session_end(ledger, session);
}

static struct publishing *publishing_create(struct ledger *ledger, struct vc_session *of)
{
  struct publishing *publishing = calloc(1, sizeof *publishing);
  if (publishing != NULL) {
    publishing->session = vc_session_ref(of);
    publishing->dedup.window = (size_t)ledger->options.dedup_window;
  }
  return publishing;
}

static void start(struct ledger *ledger, struct vc_session *of)
{
  struct session *session = session_get_for_publisher(ledger, of->slug);
  if (session == NULL) {
    ledger_out_of_memory(ledger);
    return;
  }
  if (session->live != NULL) { // its close was lost on the way
    ledger_count(ledger, STRAY_RESULTS);
    finish(ledger, session, VC_CLOSE_PUBLISHER_LEFT);
  }
  session_revive(ledger, session);
  session->live = publishing_create(ledger, of);
  if (session->live == NULL) {
    ledger_out_of_memory(ledger);
  } else if (say_begin(ledger, session, of->started_unix_ms) != 0) {
    publishing_destroy(&session->live);
  }
  if (session->live == NULL) { // what it says is stray
    session->epochs != NULL ? session_end(ledger, session) : session_release(ledger, session);
    return;
  }
  record_started(ledger, session);
  vc_log(VC_LOG_INFO, VC_EVENT("ledger.began"), VC_STR("session", session->slug),
         VC_INT("epoch", session_newest(session)->number));
}

static void change_state(struct ledger *ledger, struct session *session,
                         const struct vc_result *result)
{
  const struct epoch *epoch = session_newest(session);
  int is_state = result->state == VC_STATE_LIVE || result->state == VC_STATE_RECONNECTING ||
                 result->state == VC_STATE_STT_DOWN;
  if (!is_state) {
    ledger_count(ledger, STRAY_RESULTS);
  } else if (epoch->state != result->state || strcmp(epoch->reason, result->reason) != 0) {
    say_status(ledger, session, result->state, result->reason);
  }
}

static void take_back(struct ledger *ledger, struct session *session,
                      const struct vc_result *result)
{
  struct open named = {0};
  make_id(&named, result->stt_ordinal, result->channel, result->utterance_id);
  struct open *open = find_open(session->live, named.key);
  if (open != NULL) {
    retract(ledger, session, open);
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
  if (session == NULL || session->live == NULL ||
      session->live->session->id != result->session->id) {
    ledger_count(ledger, STRAY_RESULTS);
    return;
  }
  switch (result->kind) {
  case VC_RESULT_UTTERANCE:
    measure_delay(ledger, result);
    hear(ledger, session, result, utterance);
    break;
  case VC_RESULT_RETRACT:
    take_back(ledger, session, result);
    break;
  case VC_RESULT_STATE:
    change_state(ledger, session, result);
    break;
  case VC_RESULT_CLOSE:
    finish(ledger, session, result->close_reason);
    break;
  case VC_RESULT_OPEN:
    break;
  }
}

void end_live_sessions(struct ledger *ledger)
{
  // An end may make ended sessions give way, also the next one: it is looked up afterwards.
  for (struct session *session = ledger->sessions; session != NULL; session = session->hh.next) {
    if (session->live != NULL) {
      finish(ledger, session, VC_CLOSE_SHUTDOWN);
    }
  }
}
