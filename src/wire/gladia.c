#include <verbacast/wire/gladia.h>

#include <verbacast/wire/json.h>
#include <verbacast/wire/text.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TIME_MAX_S 1e7
#define ID_MAX 63
#define LANGUAGE_MAX 31
#define CHANNEL_MAX 255
#define STATUS_MAX 999 // of HTTP

const char vc_gladia_stop_recording[] = "{\"type\":\"stop_recording\"}";
const char vc_gladia_keep_alive[] = "{\"type\":\"audio_chunk\",\"data\":{\"chunk\":\"\"}}";

char *vc_gladia_print_init(const struct vc_gladia_init *init)
{
  struct vc_text text = {0};
  vc_text_format(&text,
                 "{\"encoding\":\"wav/pcm\",\"bit_depth\":16,\"sample_rate\":16000,\"channels\":1,"
                 "\"model\":\"solaria-1\",\"endpointing\":%.3f,"
                 "\"maximum_duration_without_endpointing\":%.3f",
                 init->endpointing_s, init->max_utterance_s);
  if (init->session != NULL) {
    vc_text_add(&text, ",\"custom_metadata\":{\"session\":");
    vc_text_json_string(&text, init->session);
    vc_text_add(&text, "}");
  }
  vc_text_add(&text, ",\"language_config\":{\"languages\":[");
  for (size_t i = 0; i < init->n_languages; i++) {
    vc_text_add(&text, i > 0 ? "," : "");
    vc_text_json_string(&text, init->languages[i]);
  }
  // code_switching with an empty list makes the provider guess per utterance among all languages.
  vc_text_format(&text, "],\"code_switching\":%s}", init->n_languages > 1 ? "true" : "false");
  vc_text_add(&text, ",\"messages_config\":{\"receive_partial_transcripts\":true,"
                     "\"receive_final_transcripts\":true,\"receive_speech_events\":true,"
                     "\"receive_pre_processing_events\":false,"
                     "\"receive_realtime_processing_events\":false,"
                     "\"receive_post_processing_events\":false,\"receive_acknowledgments\":true,"
                     "\"receive_errors\":true,\"receive_lifecycle_events\":true}}");
  if (text.has_failed) {
    vc_text_fini(&text);
    return NULL;
  }
  return text.at;
}

static int copy_member(const json_t *object, const char *key, char *into, size_t size)
{
  const char *text = vc_json_string(object, key, "");
  size_t length = strlen(text);
  if (length == 0 || length >= size) {
    return -1;
  }
  memcpy(into, text, length + 1);
  return 0;
}

int vc_gladia_parse_init_answer(const char *text, size_t size, struct vc_gladia_session *session,
                                const char **why)
{
  json_t *answer = vc_json_parse(text, size, why);
  if (answer == NULL) {
    return -1;
  }
  int status = 0;
  if (copy_member(answer, "id", session->id, sizeof session->id) != 0 ||
      copy_member(answer, "url", session->url, sizeof session->url) != 0) {
    *why = "the answer has no usable id and url";
    status = -1;
  }
  json_decref(answer);
  return status;
}

// A time that is to be shown: finite, not negative, within reason.
static double tidy_time(double time, double fallback)
{
  return isfinite(time) && time >= 0 && time < TIME_MAX_S ? time : fallback;
}

static double tidy_confidence(double confidence)
{
  return isfinite(confidence) && confidence >= 0 && confidence <= 1 ? confidence : NAN;
}

// A member that is to be a number and may be missing or null. Returns: 0, or 1: it is something
// else, and whoever wrote it cannot be trusted with the rest.
static int read_number(const json_t *object, const char *key, double fallback, double *number)
{
  const json_t *value = json_object_get(object, key);
  *number = json_is_number(value) ? json_number_value(value) : fallback;
  return value != NULL && !json_is_null(value) && !json_is_number(value);
}

// A copy cut at `most` bytes between characters, without blanks at the ends.
static char *trimmed(const char *text, size_t most)
{
  text += strspn(text, " \t\r\n");
  size_t n = vc_utf8_cut(text, strlen(text), most);
  while (n > 0 && strchr(" \t\r\n", text[n - 1]) != NULL) {
    n--;
  }
  return strndup(text, n);
}

struct words {
  struct vc_word *at;
  size_t n;
};

static void words_fini(struct words *words)
{
  for (size_t i = 0; i < words->n; i++) {
    free((char *)words->at[i].text);
  }
  free(words->at);
}

// Returns: 0, 1 malformed, -1 no memory. A word of blanks alone is left out: its text is NULL.
static int parse_word(const json_t *from, double start_s, double end_s, struct vc_word *word)
{
  double start, end, confidence;
  const json_t *text_of = json_object_get(from, "word");
  *word = (struct vc_word){0};
  if (read_number(from, "start", start_s, &start) != 0 ||
      read_number(from, "end", end_s, &end) != 0 ||
      read_number(from, "confidence", NAN, &confidence) != 0 ||
      (text_of != NULL && !json_is_null(text_of) && !json_is_string(text_of))) {
    return 1;
  }
  char *text = trimmed(vc_json_string(from, "word", ""), VC_GLADIA_TEXT_MAX);
  if (text == NULL || text[0] == '\0') {
    int status = text == NULL ? -1 : 0;
    free(text);
    return status;
  }
  word->text = text;
  word->start_s = tidy_time(start, start_s);
  word->end_s = tidy_time(end, word->start_s);
  word->end_s = word->end_s < word->start_s ? word->start_s : word->end_s;
  word->confidence = tidy_confidence(confidence);
  return 0;
}

static int parse_words(const json_t *list, double start_s, double end_s, struct words *words)
{
  size_t n = json_array_size(list);
  n = n < VC_GLADIA_WORDS_MAX ? n : VC_GLADIA_WORDS_MAX;
  words->at = calloc(n > 0 ? n : 1, sizeof *words->at);
  if (words->at == NULL) {
    return -1;
  }
  if (list != NULL && !json_is_null(list) && !json_is_array(list)) {
    return 1;
  }
  double before = start_s;
  for (size_t i = 0; i < n; i++) {
    struct vc_word *word = &words->at[words->n];
    int status = parse_word(json_array_get(list, i), before, end_s, word);
    if (status != 0) {
      return status;
    }
    if (word->text != NULL) {
      before = word->start_s;
      words->n++;
    }
  }
  return 0;
}

static int parse_speaker(const json_t *utterance, char *speaker, size_t size)
{
  const json_t *value = json_object_get(utterance, "speaker");
  if (json_is_integer(value)) {
    snprintf(speaker, size, "%lld", (long long)json_integer_value(value));
    return 1;
  }
  if (json_string_length(value) > 0) {
    const char *text = json_string_value(value);
    snprintf(speaker, size, "%.*s", (int)vc_utf8_cut(text, strlen(text), size - 1), text);
    return 1;
  }
  return 0;
}

static int parse_transcript(const json_t *data, struct vc_gladia_message *message)
{
  const json_t *from = json_object_get(data, "utterance");
  const char *id = vc_json_string(data, "id", "");
  const json_t *is_final = json_object_get(data, "is_final");
  double start, end, confidence, channel;
  if (!json_is_object(from) || id[0] == '\0' || strlen(id) > ID_MAX || !json_is_boolean(is_final) ||
      !json_is_string(json_object_get(from, "text")) ||
      read_number(from, "start", 0, &start) != 0 || read_number(from, "end", NAN, &end) != 0 ||
      read_number(from, "confidence", NAN, &confidence) != 0 ||
      read_number(from, "channel", 0, &channel) != 0) {
    return 1;
  }
  char speaker[64];
  start = tidy_time(start, 0);
  end = tidy_time(end, start);
  struct vc_utterance utterance = {
      .id = id,
      .language = vc_json_string(from, "language", ""),
      .speaker = parse_speaker(from, speaker, sizeof speaker) ? speaker : NULL,
      .start_s = start,
      .end_s = end < start ? start : end,
      .confidence = tidy_confidence(confidence),
      .channel = channel >= 0 && channel <= CHANNEL_MAX ? (int)channel : -1,
      .is_final = json_is_true(is_final),
      .is_approximate = vc_json_true(from, "approximate"),
  };
  if (utterance.channel < 0 || strlen(utterance.language) > LANGUAGE_MAX) {
    return 1;
  }
  struct words words = {0};
  char *text = trimmed(vc_json_string(from, "text", ""), VC_GLADIA_TEXT_MAX);
  int status = -1;
  if (text != NULL) {
    status = parse_words(json_object_get(from, "words"), start, utterance.end_s, &words);
  }
  if (status == 0) {
    utterance.text = text;
    utterance.words = words.at;
    utterance.n_words = words.n;
    message->utterance = vc_utterance_create(&utterance);
    message->kind = VC_GLADIA_TRANSCRIPT;
    status = message->utterance != NULL ? 0 : -1;
  }
  words_fini(&words);
  free(text);
  return status;
}

// `error` is {message}, {status_code, exception, message}, or the text itself.
static void parse_error(const json_t *error, struct vc_gladia_message *message)
{
  const char *text = json_is_string(error) ? json_string_value(error)
                                           : vc_json_string(error, "message", "no reason given");
  snprintf(message->error_text, sizeof message->error_text, "%.*s",
           (int)vc_utf8_cut(text, strlen(text), sizeof message->error_text - 1), text);
  long long code = vc_json_integer(error, "status_code", 0);
  message->status_code = code > 0 && code <= STATUS_MAX ? (int)code : 0;
}

static int parse_audio_chunk(const json_t *root, const json_t *data,
                             struct vc_gladia_message *message)
{
  if (!vc_json_true(root, "acknowledged")) {
    message->kind = VC_GLADIA_AUDIO_REFUSED;
    parse_error(json_object_get(root, "error"), message);
    return 0;
  }
  const json_t *range = json_object_get(data, "byte_range");
  const json_t *begin = json_array_get(range, 0), *end = json_array_get(range, 1);
  if (!json_is_integer(begin) || !json_is_integer(end) || json_integer_value(begin) < 0 ||
      json_integer_value(end) < json_integer_value(begin)) {
    return 1;
  }
  message->kind = VC_GLADIA_AUDIO_ACK;
  message->byte_begin = (uint64_t)json_integer_value(begin);
  // Samples are two bytes: an odd end is the last byte itself.
  message->byte_end = ((uint64_t)json_integer_value(end) + 1) / 2 * 2;
  return 0;
}

static int parse_speech(const json_t *data, enum vc_gladia_kind kind,
                        struct vc_gladia_message *message)
{
  double time;
  if (read_number(data, "time", 0, &time) != 0) {
    return 1;
  }
  message->kind = kind;
  message->time_s = tidy_time(time, 0);
  return 0;
}

static int parse_plain(enum vc_gladia_kind kind, struct vc_gladia_message *message)
{
  message->kind = kind;
  return 0;
}

static int parse_typed(const char *type, const json_t *root, struct vc_gladia_message *message)
{
  const json_t *data = json_object_get(root, "data");
  if (strcmp(type, "transcript") == 0) {
    return parse_transcript(data, message);
  }
  if (strcmp(type, "audio_chunk") == 0) {
    return parse_audio_chunk(root, data, message);
  }
  if (strcmp(type, "speech_start") == 0) {
    return parse_speech(data, VC_GLADIA_SPEECH_START, message);
  }
  if (strcmp(type, "speech_end") == 0) {
    return parse_speech(data, VC_GLADIA_SPEECH_END, message);
  }
  if (strcmp(type, "stop_recording") == 0) {
    return parse_plain(VC_GLADIA_STOP_ACK, message);
  }
  if (strcmp(type, "end_recording") == 0) {
    return parse_plain(VC_GLADIA_END_RECORDING, message);
  }
  if (strcmp(type, "end_session") == 0) {
    return parse_plain(VC_GLADIA_END_SESSION, message);
  }
  if (strcmp(type, "error") == 0) {
    const json_t *error = json_object_get(root, "error");
    parse_error(error != NULL && !json_is_null(error) ? error : data, message);
    return parse_plain(VC_GLADIA_ERROR, message);
  }
  return parse_plain(VC_GLADIA_IGNORED, message);
}

int vc_gladia_parse(const char *text, size_t size, struct vc_gladia_message *message)
{
  *message = (struct vc_gladia_message){0};
  const char *why = NULL;
  json_t *root = vc_json_parse(text, size, &why);
  const char *type = vc_json_string(root, "type", NULL);
  int status = type != NULL ? parse_typed(type, root, message) : why == vc_json_no_memory ? -1 : 1;
  json_decref(root);
  return status;
}
