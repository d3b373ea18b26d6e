// The publishings of a session: who publishes, where each one's sound stands on the session's
// clock, and what its utterances are called.
#include "ledger.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// --- who publishes

struct publishing *publishing_create(const struct ledger *ledger, struct vc_session *of)
{
  struct publishing *publishing = calloc(1, sizeof *publishing);
  if (publishing != NULL) {
    publishing->session = vc_session_ref(of);
    publishing->state = VC_STATE_LIVE;
    publishing->dedup.window = (size_t)ledger->options.dedup_window;
  }
  return publishing;
}

void publishing_destroy(struct publishing **publishing)
{
  if (*publishing == NULL) {
    return;
  }
  for (size_t i = 0; i < (*publishing)->n_open; i++) {
    vc_utterance_destroy(&(*publishing)->open[i].utterance);
    vc_message_unref((*publishing)->open[i].message);
  }
  dedup_fini(&(*publishing)->dedup);
  vc_session_unref((*publishing)->session);
  free(*publishing);
  *publishing = NULL;
}

struct publishing *publishing_find(const struct session *session, uint64_t id)
{
  struct publishing *publishing;
  DL_SEARCH_SCALAR(session->live, publishing, session->id, id);
  return publishing;
}

struct publishing *publishing_find_of(const struct session *session, const char *participant)
{
  struct publishing *publishing;
  DL_FOREACH(session->live, publishing)
  {
    if (strcmp(publishing->session->participant, participant) == 0) {
      break;
    }
  }
  return publishing;
}

void publishing_add(struct session *session, struct publishing *publishing)
{
  DL_APPEND(session->live, publishing);
}

void publishing_remove(struct session *session, struct publishing *publishing)
{
  DL_DELETE(session->live, publishing);
  publishing_destroy(&publishing);
}

// In the order of the states: live before reconnecting before stt_down; the longest there of
// equals.
const struct publishing *publishing_best(const struct session *session)
{
  const struct publishing *best = session->live, *publishing;
  DL_FOREACH(session->live, publishing)
  {
    best = publishing->state < best->state ? publishing : best;
  }
  return best;
}

// --- the session's clock

// It begins with the first sound of any publishing, and then stays. What has no sound yet can only
// begin later.
void session_settle_clock(const struct session *session)
{
  struct epoch *epoch = session_newest(session);
  const struct publishing *publishing;
  if (epoch->first_audio_ns != 0) {
    return;
  }
  DL_FOREACH(session->live, publishing)
  {
    uint64_t first_ns =
        atomic_load_explicit(&publishing->session->first_audio_ns, memory_order_relaxed);
    if (first_ns != 0 && (epoch->first_audio_ns == 0 || first_ns < epoch->first_audio_ns)) {
      epoch->first_audio_ns = first_ns;
    }
  }
}

static double offset_s(const struct session *session, const struct publishing *publishing)
{
  session_settle_clock(session);
  uint64_t zero_ns = session_newest(session)->first_audio_ns;
  uint64_t first_ns =
      atomic_load_explicit(&publishing->session->first_audio_ns, memory_order_relaxed);
  return first_ns > zero_ns ? (double)(first_ns - zero_ns) / (double)VC_NS_PER_S : 0;
}

int publishing_place(const struct session *session, const struct publishing *publishing,
                     struct vc_utterance **utterance)
{
  const char *participant = publishing->session->participant;
  double by_s = offset_s(session, publishing);
  if (by_s == 0 && participant[0] == '\0') {
    return 0;
  }
  struct vc_utterance *placed =
      vc_utterance_place(*utterance, by_s, participant[0] != '\0' ? participant : NULL);
  if (placed == NULL) {
    return -1;
  }
  vc_utterance_destroy(utterance);
  *utterance = placed;
  return 0;
}

// --- utterance ids

static uint64_t hash_of(const char *text)
{
  uint64_t hash = UINT64_C(14695981039346656037);
  for (; *text != '\0'; text++) {
    hash = (hash ^ (unsigned char)*text) * UINT64_C(1099511628211);
  }
  return hash;
}

static int is_plain(char c, const char *signs)
{
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
         strchr(signs, c) != NULL;
}

// What is long or odd is shown cut and with its hash, so that different texts stay different.
struct part_rule {
  size_t plain_max, cut;
  const char *signs; // that are plain besides letters and digits
  char mark;         // before the hash
};
static const struct part_rule provider_rule = {64, 40, "._:-", '-'};
// Its end must be known from its letters alone: "a" with the id "b-1" is not "a-b" with "1".
static const struct part_rule participant_rule = {32, 15, "_", '.'};
#define PART_SIZE 65

static int is_plain_text(const char *text, const struct part_rule *rule)
{
  size_t size = 0;
  while (text[size] != '\0' && size <= rule->plain_max && is_plain(text[size], rule->signs)) {
    size++;
  }
  return size > 0 && text[size] == '\0' && size <= rule->plain_max;
}

static void print_part(char part[PART_SIZE], const char *text, const struct part_rule *rule)
{
  size_t n = 0;
  for (; n < rule->cut && text[n] != '\0'; n++) {
    part[n] = (char)(is_plain(text[n], rule->signs) ? text[n] : '_');
  }
  snprintf(part + n, PART_SIZE - n, "%c%016llx", rule->mark, (unsigned long long)hash_of(text));
}

static int is_number(const char *text)
{
  return text[strspn(text, "0123456789")] == '\0';
}

static void print_speaker(char part[PART_SIZE], const char *participant, int channel)
{
  if (participant[0] == '\0') {
    snprintf(part, PART_SIZE, "%d", channel);
  } else if (is_plain_text(participant, &participant_rule) && !is_number(participant)) {
    snprintf(part, PART_SIZE, "%s", participant);
  } else {
    print_part(part, participant, &participant_rule);
  }
}

// "1-0-00000004", "2-alice-00000004". The provider's id is opaque.
void publishing_name(const struct session *session, const struct publishing *publishing,
                     const struct heard_id *heard, struct open *open)
{
  struct epoch *epoch = session_newest(session);
  uint32_t ordinal = publishing->ordinals_before + heard->ordinal;
  char speaker[PART_SIZE], provider[PART_SIZE];
  const char *id = heard->id;
  if (epoch->last_ordinal < ordinal) {
    epoch->last_ordinal = ordinal;
  }
  print_speaker(speaker, publishing->session->participant, heard->channel);
  if (!is_plain_text(id, &provider_rule)) {
    print_part(provider, id, &provider_rule);
    id = provider;
  }
  snprintf(open->id, sizeof open->id, "%u-%s-%s", ordinal, speaker, id);
  open->key = hash_of(open->id);
}
