#include <verbacast/wire/viewer.h>

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static void begin(struct vc_text *text, const char *type, const char *session, int64_t epoch)
{
  vc_text_format(text, "{\"type\":\"%s\",\"session\":", type);
  vc_text_json_string(text, session);
  vc_text_format(text, ",\"epoch\":%" PRId64, epoch);
}

static void string_member(struct vc_text *text, const char *key, const char *value)
{
  vc_text_format(text, ",\"%s\":", key);
  vc_text_json_string(text, value);
}

void vc_viewer_print_hello(struct vc_text *text, const struct vc_viewer_hello *hello)
{
  begin(text, "hello", hello->session, hello->epoch);
  vc_text_format(text, ",\"seq\":%" PRIu64, hello->seq);
  string_member(text, "state", hello->state);
  string_member(text, "reason", hello->reason);
  string_member(text, "node", hello->node);
  vc_text_add(text, "}");
}

void vc_viewer_print_words(struct vc_text *text, const struct vc_word *words, size_t n_words)
{
  if (n_words == 0) {
    vc_text_add(text, "null");
    return;
  }
  vc_text_add(text, "[");
  for (size_t i = 0; i < n_words; i++) {
    vc_text_add(text, i > 0 ? ",{\"word\":" : "{\"word\":");
    vc_text_json_string(text, words[i].text);
    vc_text_format(text, ",\"start\":%.3f,\"end\":%.3f,\"confidence\":", words[i].start_s,
                   words[i].end_s);
    vc_text_json_number(text, words[i].confidence, 3);
    vc_text_add(text, "}");
  }
  vc_text_add(text, "]");
}

void vc_viewer_print_said(struct vc_text *text, uint64_t seq, const char *utterance_id,
                          const struct vc_utterance *utterance)
{
  vc_text_format(text, ",\"seq\":%" PRIu64, seq);
  string_member(text, "utteranceId", utterance_id);
  vc_text_format(text, ",\"isFinal\":%s", utterance->is_final ? "true" : "false");
  string_member(text, "text", utterance->text);
  string_member(text, "language", utterance->language[0] != '\0' ? utterance->language : NULL);
  string_member(text, "speaker", utterance->speaker);
  vc_text_add(text, ",\"confidence\":");
  vc_text_json_number(text, utterance->confidence, 3);
  vc_text_format(text, ",\"start\":%.3f,\"end\":%.3f", utterance->start_s, utterance->end_s);
}

void vc_viewer_print_transcript(struct vc_text *text, const struct vc_viewer_transcript *transcript)
{
  const struct vc_utterance *utterance = transcript->utterance;
  begin(text, "transcript", transcript->session, transcript->epoch);
  vc_viewer_print_said(text, transcript->seq, transcript->utterance_id, utterance);
  vc_text_format(text, ",\"sentAt\":%" PRId64 ".%03d", transcript->sent_at_us / 1000000,
                 (int)(transcript->sent_at_us / 1000 % 1000));
  if (utterance->is_final) {
    vc_text_add(text, ",\"words\":");
    vc_viewer_print_words(text, utterance->words, utterance->n_words);
  }
  vc_text_add(text, utterance->is_approximate ? ",\"approximate\":true}" : "}");
}

void vc_viewer_print_retract(struct vc_text *text, const char *session, int64_t epoch, uint64_t seq,
                             const char *utterance_id)
{
  begin(text, "retract", session, epoch);
  vc_text_format(text, ",\"seq\":%" PRIu64, seq);
  string_member(text, "utteranceId", utterance_id);
  vc_text_add(text, "}");
}

void vc_viewer_print_status(struct vc_text *text, const char *session, int64_t epoch, uint64_t seq,
                            const char *state, const char *reason)
{
  begin(text, "status", session, epoch);
  vc_text_format(text, ",\"seq\":%" PRIu64, seq);
  string_member(text, "state", state);
  string_member(text, "reason", reason);
  vc_text_add(text, "}");
}

void vc_viewer_print_gap(struct vc_text *text, const char *session, int64_t epoch, uint64_t from,
                         uint64_t to)
{
  begin(text, "gap", session, epoch);
  vc_text_format(text, ",\"from\":%" PRIu64 ",\"to\":", from);
  if (to > 0) {
    vc_text_format(text, "%" PRIu64 "}", to);
  } else {
    vc_text_add(text, "null}");
  }
}

void vc_viewer_print_end(struct vc_text *text, const char *session, int64_t epoch, uint64_t seq,
                         const char *reason)
{
  begin(text, "end", session, epoch);
  vc_text_format(text, ",\"seq\":%" PRIu64, seq);
  string_member(text, "reason", reason);
  vc_text_add(text, "}");
}

static int parse_number(const char *text, size_t size, uint64_t *number)
{
  if (size == 0 || size > 18 || strspn(text, "0123456789") < size) {
    return -1;
  }
  *number = strtoull(text, NULL, 10);
  return 0;
}

int vc_viewer_parse_since(const char *text, int64_t *epoch, uint64_t *seq)
{
  const char *dot = strchr(text, '.');
  uint64_t number;
  if (dot == NULL || parse_number(text, (size_t)(dot - text), &number) != 0 || number == 0 ||
      parse_number(dot + 1, strlen(dot + 1), seq) != 0) {
    return -1;
  }
  *epoch = (int64_t)number;
  return 0;
}
