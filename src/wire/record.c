#include <verbacast/wire/record.h>

#include <verbacast/wire/json.h>
#include <verbacast/wire/viewer.h>

#include <inttypes.h>
#include <math.h>
#include <string.h>

#define TIME_MAX_S 1e9               // of a session: thirty years
#define EPOCH_MAX (INT64_C(1) << 53) // ms; larger numbers are not the same to all who read JSON

static const char *const type_names[] = {"transcript", "session_started", "session_ended",
                                         "session_erased"};

static void string_member(struct vc_text *text, const char *key, const char *value)
{
  vc_text_format(text, ",\"%s\":", key);
  vc_text_json_string(text, value);
}

static void time_member(struct vc_text *text, const char *key, int64_t unix_ms)
{
  vc_text_format(text, ",\"%s\":%" PRId64 ".%03d", key, unix_ms / 1000, (int)(unix_ms % 1000));
}

static void print_transcript(struct vc_text *text, const struct vc_record_fields *fields)
{
  const struct vc_utterance *utterance = fields->utterance;
  vc_viewer_print_said(text, fields->seq, fields->utterance_id, utterance);
  vc_text_add(text, ",\"words\":");
  vc_viewer_print_words(text, utterance->words, utterance->n_words);
  if (utterance->is_approximate) {
    vc_text_add(text, ",\"approximate\":true");
  }
  time_member(text, "startedAt", fields->started_at_ms);
  time_member(text, "receivedAt", fields->received_at_us / 1000);
}

void vc_record_print(struct vc_text *text, const struct vc_record_fields *fields)
{
  vc_text_format(text, "{\"v\":%d,\"type\":\"%s\",\"session\":", VC_RECORD_VERSION,
                 type_names[fields->type]);
  vc_text_json_string(text, fields->session);
  vc_text_format(text, ",\"epoch\":%" PRId64, fields->epoch);
  if (fields->type == VC_RECORD_TYPE_TRANSCRIPT) {
    print_transcript(text, fields);
  } else if (fields->type == VC_RECORD_TYPE_SESSION_ERASED) {
    time_member(text, "erasedAt", fields->erased_at_ms);
  } else {
    time_member(text, "startedAt", fields->started_at_ms);
  }
  if (fields->type == VC_RECORD_TYPE_SESSION_ENDED) {
    time_member(text, "endedAt", fields->ended_at_ms);
    string_member(text, "reason", fields->reason);
  }
  string_member(text, "node", fields->node);
  vc_text_add(text, "}");
}

static int64_t milliseconds(const json_t *root, const char *key)
{
  double seconds = vc_json_real(root, key, 0);
  return seconds > 0 && seconds < 1e11 ? (int64_t)llround(seconds * 1000) : 0;
}

static int is_null_or(const json_t *root, const char *key, int (*is_type)(const json_t *))
{
  const json_t *value = json_object_get(root, key);
  return value == NULL || json_is_null(value) || is_type(value);
}

static int is_string(const json_t *value)
{
  return json_is_string(value);
}

static int is_array(const json_t *value)
{
  return json_is_array(value);
}

static int is_number(const json_t *value)
{
  return json_is_number(value);
}

static int is_boolean(const json_t *value)
{
  return json_is_boolean(value);
}

static int is_span(double start_s, double end_s)
{
  return start_s >= 0 && start_s <= end_s && end_s < TIME_MAX_S; // none of it holds for NAN
}

static const char *parse_transcript(const json_t *root, struct vc_record_fields *fields)
{
  long long seq = vc_json_integer(root, "seq", 0);
  fields->utterance_id = vc_json_string(root, "utteranceId", "");
  fields->text = vc_json_string(root, "text", NULL);
  fields->language = vc_json_string(root, "language", "");
  fields->speaker = vc_json_string(root, "speaker", NULL);
  fields->confidence = vc_json_real(root, "confidence", NAN);
  fields->start_s = vc_json_real(root, "start", NAN);
  fields->end_s = vc_json_real(root, "end", NAN);
  fields->received_at_us = milliseconds(root, "receivedAt") * 1000;
  fields->words = json_object_get(root, "words");
  fields->is_approximate = vc_json_true(root, "approximate");
  fields->is_final = !json_is_false(json_object_get(root, "isFinal"));
  if (seq <= 0) {
    return "seq is missing or no positive whole number";
  }
  fields->seq = (uint64_t)seq;
  if (fields->utterance_id[0] == '\0') {
    return "utteranceId is missing";
  }
  if (fields->text == NULL) {
    return "text is missing or no string";
  }
  if (!is_span(fields->start_s, fields->end_s)) {
    return "start or end is missing or no time";
  }
  if (!is_null_or(root, "words", is_array) || !is_null_or(root, "language", is_string) ||
      !is_null_or(root, "speaker", is_string) || !is_null_or(root, "confidence", is_number)) {
    return "words, language, speaker or confidence has the wrong type";
  }
  if (!is_null_or(root, "isFinal", is_boolean)) {
    return "isFinal is neither true nor false";
  }
  if (!json_is_array(fields->words)) {
    fields->words = NULL;
  }
  return NULL;
}

static const char *parse_ended(const json_t *root, struct vc_record_fields *fields)
{
  fields->ended_at_ms = milliseconds(root, "endedAt");
  fields->reason = vc_json_string(root, "reason", "");
  return fields->ended_at_ms == 0 ? "endedAt is missing or no time" : NULL;
}

static const char *parse_erased(const json_t *root, struct vc_record_fields *fields)
{
  fields->started_at_ms = 0; // it has none
  fields->erased_at_ms = milliseconds(root, "erasedAt");
  return fields->erased_at_ms == 0 ? "erasedAt is missing or no time" : NULL;
}

static int find_type(const char *name, enum vc_record_type *type)
{
  for (size_t i = 0; i < sizeof type_names / sizeof *type_names; i++) {
    if (strcmp(type_names[i], name) == 0) {
      *type = (enum vc_record_type)i;
      return 0;
    }
  }
  return -1;
}

const char *vc_record_read(const json_t *root, struct vc_record_fields *fields)
{
  *fields = (struct vc_record_fields){0};
  long long version = vc_json_integer(root, "v", 0);
  if (version < 1 || version > VC_RECORD_VERSION) {
    return "v is missing or newer than this program knows";
  }
  if (find_type(vc_json_string(root, "type", ""), &fields->type) != 0) {
    return "type is missing or unknown";
  }
  fields->session = vc_json_string(root, "session", "");
  fields->epoch = vc_json_integer(root, "epoch", 0);
  fields->node = vc_json_string(root, "node", "");
  fields->started_at_ms = milliseconds(root, "startedAt");
  if (fields->session[0] == '\0' || fields->epoch <= 0 || fields->epoch > EPOCH_MAX) {
    return "session or epoch is missing or out of range";
  }
  switch (fields->type) {
  case VC_RECORD_TYPE_TRANSCRIPT:
    return parse_transcript(root, fields);
  case VC_RECORD_TYPE_SESSION_ENDED:
    return parse_ended(root, fields);
  case VC_RECORD_TYPE_SESSION_ERASED:
    return parse_erased(root, fields);
  case VC_RECORD_TYPE_SESSION_STARTED:
    break;
  }
  return NULL;
}

int vc_record_parse(const char *text, size_t size, struct vc_record_parsed *record,
                    const char **why)
{
  *record = (struct vc_record_parsed){0};
  record->root = vc_json_parse(text, size, why);
  if (record->root == NULL) {
    return -1;
  }
  *why = vc_record_read(record->root, &record->fields);
  if (*why != NULL) {
    vc_record_parsed_fini(record);
    return -1;
  }
  return 0;
}

void vc_record_parsed_fini(struct vc_record_parsed *record)
{
  json_decref(record->root);
  record->root = NULL;
}
