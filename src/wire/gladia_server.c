#include <verbacast/wire/gladia_server.h>

#include <verbacast/wire/json.h>

#include <openssl/evp.h>

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define METADATA_MAX 4096
#define SHOWN_MAX 40 // of a value that is refused

// --- the request

struct reading {
  const json_t *root;
  char *why;
  size_t why_size;
  int status; // of the refusal, 0: none
};

// The first refusal stands.
__attribute__((format(printf, 3, 0))) static void
note_refusal(struct reading *reading, int status, const char *format, va_list arguments)
{
  if (reading->status == 0) {
    vsnprintf(reading->why, reading->why_size, format, arguments);
    reading->status = status;
  }
}

__attribute__((format(printf, 3, 4))) static void refuse_whole(struct reading *reading, int status,
                                                               const char *format, ...)
{
  va_list arguments;
  va_start(arguments, format);
  note_refusal(reading, status, format, arguments);
  va_end(arguments);
}

// For a field.
__attribute__((format(printf, 2, 3))) static void refuse(struct reading *reading,
                                                         const char *format, ...)
{
  va_list arguments;
  va_start(arguments, format);
  note_refusal(reading, 422, format, arguments);
  va_end(arguments);
}

// A member that the request may leave out: NULL also for null.
static const json_t *given(const json_t *object, const char *key)
{
  const json_t *value = json_object_get(object, key);
  return json_is_null(value) ? NULL : value;
}

// The value as JSON, its beginning where it is long.
static const char *show(const json_t *value, char scratch[SHOWN_MAX + 1])
{
  char *text = vc_json_print(value);
  const char *shown = text != NULL ? text : "not as it must be";
  snprintf(scratch, SHOWN_MAX + 1, "%.*s", (int)vc_utf8_cut(shown, strlen(shown), SHOWN_MAX),
           shown);
  free(text);
  return scratch;
}

// A number that the request may give, within [min, max].
static double number_of(struct reading *reading, const char *key, double fallback, double min,
                        double max)
{
  const json_t *value = given(reading->root, key);
  double number = value != NULL ? json_number_value(value) : fallback;
  if (value != NULL && !(json_is_number(value) && number >= min && number <= max)) {
    char scratch[SHOWN_MAX + 1];
    refuse(reading, "%s is %s; allowed: %g to %g", key, show(value, scratch), min, max);
  }
  return number;
}

// A whole number that the request may give: the usual one or the other.
static int one_of(struct reading *reading, const char *key, int usual, int other)
{
  const json_t *value = given(reading->root, key);
  long long number = value != NULL ? json_integer_value(value) : usual;
  if (number != usual && number != other) {
    char scratch[SHOWN_MAX + 1], or_other[24] = "";
    if (other != usual) {
      snprintf(or_other, sizeof or_other, " or %d", other);
    }
    refuse(reading, "%s is %s; this server takes %d%s", key, show(value, scratch), usual, or_other);
  }
  return (int)number;
}

static void check_audio(struct reading *reading, struct vc_gladia_request *request)
{
  const json_t *encoding = given(reading->root, "encoding");
  if (encoding != NULL && strcmp(vc_json_string(reading->root, "encoding", ""), "wav/pcm") != 0) {
    char scratch[SHOWN_MAX + 1];
    refuse(reading, "encoding is %s; this server takes wav/pcm", show(encoding, scratch));
  }
  one_of(reading, "bit_depth", 16, 16);
  request->sample_rate_hz = one_of(reading, "sample_rate", 16000, 8000);
  one_of(reading, "channels", 1, 1);
}

static void read_languages(struct reading *reading, struct vc_gladia_request *request)
{
  char scratch[SHOWN_MAX + 1];
  const json_t *list = given(given(reading->root, "language_config"), "languages");
  if (list != NULL && (!json_is_array(list) || json_array_size(list) > VC_GLADIA_LANGUAGES_MAX)) {
    refuse(reading, "language_config.languages is %s; allowed: a list of at most %d codes",
           show(list, scratch), VC_GLADIA_LANGUAGES_MAX);
    return;
  }
  for (size_t i = 0; i < json_array_size(list); i++) {
    const json_t *code = json_array_get(list, i);
    size_t length = json_string_length(code);
    if (length < 2 || length >= sizeof request->languages[0]) {
      refuse(reading, "language_config.languages[%zu] is %s; allowed: a code such as \"en\"", i,
             show(code, scratch));
      return;
    }
    memcpy(request->languages[request->n_languages++], json_string_value(code), length + 1);
  }
}

// A flag that the request may give, of a section or (NULL) of the request itself.
static int flag_of(struct reading *reading, const char *section, const char *key, int fallback)
{
  const json_t *of = section != NULL ? given(reading->root, section) : reading->root;
  const json_t *value = given(of, key);
  if (value != NULL && !json_is_boolean(value)) {
    char scratch[SHOWN_MAX + 1];
    refuse(reading, "%s%s%s is %s; allowed: true or false", section != NULL ? section : "",
           section != NULL ? "." : "", key, show(value, scratch));
  }
  return value != NULL ? json_is_true(value) : fallback;
}

static void check_sections(struct reading *reading)
{
  static const char *const sections[] = {"language_config", "messages_config",
                                         "pre_processing",  "realtime_processing",
                                         "post_processing", "callback_config"};
  for (size_t i = 0; i < sizeof sections / sizeof *sections; i++) {
    const json_t *section = given(reading->root, sections[i]);
    if (section != NULL && !json_is_object(section)) {
      char scratch[SHOWN_MAX + 1];
      refuse(reading, "%s is %s; allowed: an object", sections[i], show(section, scratch));
    }
  }
}

// What makes no difference to this server is still to be what it is elsewhere.
static void check_other_flags(struct reading *reading)
{
  static const struct {
    const char *section, *key;
  } flags[] = {{"language_config", "code_switching"},
               {"messages_config", "receive_pre_processing_events"},
               {"messages_config", "receive_realtime_processing_events"},
               {"pre_processing", "audio_enhancer"},
               {"realtime_processing", "custom_vocabulary"},
               {"realtime_processing", "custom_spelling"},
               {"realtime_processing", "translation"},
               {"realtime_processing", "named_entity_recognition"},
               {"realtime_processing", "sentiment_analysis"},
               {"post_processing", "summarization"},
               {NULL, "callback"}};
  for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
    flag_of(reading, flags[i].section, flags[i].key, 0);
  }
}

static void read_messages(struct reading *reading, struct vc_gladia_request *request)
{
  const struct {
    const char *key;
    int fallback, *wants;
  } flags[] = {{"receive_partial_transcripts", 0, &request->wants_partials},
               {"receive_final_transcripts", 1, &request->wants_finals},
               {"receive_speech_events", 1, &request->wants_speech},
               {"receive_acknowledgments", 1, &request->wants_acks},
               {"receive_lifecycle_events", 1, &request->wants_lifecycle},
               {"receive_post_processing_events", 1, &request->wants_post},
               {"receive_errors", 1, &request->wants_errors}};
  for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
    *flags[i].wants = flag_of(reading, "messages_config", flags[i].key, flags[i].fallback);
  }
}

static void read_metadata(struct reading *reading, struct vc_gladia_request *request)
{
  const json_t *metadata = given(reading->root, "custom_metadata");
  if (metadata == NULL) {
    return;
  }
  request->metadata = vc_json_print(metadata);
  if (request->metadata == NULL) {
    refuse_whole(reading, 503, "no memory");
  } else if (!json_is_object(metadata) || strlen(request->metadata) > METADATA_MAX) {
    char scratch[SHOWN_MAX + 1];
    refuse(reading, "custom_metadata is %s; allowed: an object of at most %d bytes",
           show(metadata, scratch), METADATA_MAX);
  }
}

int vc_gladia_parse_request(const char *text, size_t size, struct vc_gladia_request *request,
                            char *why, size_t why_size)
{
  *request = (struct vc_gladia_request){0};
  const char *reason = NULL;
  json_t *root = vc_json_parse(text, size, &reason);
  struct reading reading = {.root = root, .why = why, .why_size = why_size};
  if (reason == vc_json_no_memory) {
    refuse_whole(&reading, 503, "%s", reason);
  } else if (!json_is_object(root)) {
    refuse_whole(&reading, 400, "the body is %s", reason != NULL ? reason : "no JSON object");
  } else {
    check_audio(&reading, request);
    request->endpointing_s = number_of(&reading, "endpointing", 0.4, 0.01, 10);
    request->max_utterance_s =
        number_of(&reading, "maximum_duration_without_endpointing", 5, 5, 60);
    check_sections(&reading);
    read_languages(&reading, request);
    read_messages(&reading, request);
    check_other_flags(&reading);
    read_metadata(&reading, request);
  }
  json_decref(root);
  if (reading.status != 0) {
    vc_gladia_request_fini(request);
  }
  return reading.status;
}

void vc_gladia_request_fini(struct vc_gladia_request *request)
{
  free(request->metadata);
  request->metadata = NULL;
}

static void print_languages(struct vc_text *text, const struct vc_gladia_request *request)
{
  vc_text_add(text, "\"language_config\":{\"languages\":[");
  for (size_t i = 0; i < request->n_languages; i++) {
    vc_text_add(text, i > 0 ? "," : "");
    vc_text_json_string(text, request->languages[i]);
  }
  vc_text_add(text, "]}");
}

static void print_wants(struct vc_text *text, const struct vc_gladia_request *request)
{
  const struct {
    const char *key;
    int is_wanted;
  } rows[] = {
      {"receive_partial_transcripts", request->wants_partials},
      {"receive_final_transcripts", request->wants_finals},
      {"receive_speech_events", request->wants_speech},
      {"receive_acknowledgments", request->wants_acks},
      {"receive_lifecycle_events", request->wants_lifecycle},
      {"receive_post_processing_events", request->wants_post},
      {"receive_errors", request->wants_errors},
  };
  vc_text_add(text, "\"messages_config\":");
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    vc_text_format(text, "%s\"%s\":%s", i > 0 ? "," : "{", rows[i].key,
                   rows[i].is_wanted ? "true" : "false");
  }
  vc_text_add(text, "}");
}

void vc_gladia_print_request(struct vc_text *text, const struct vc_gladia_request *request)
{
  vc_text_format(text,
                 "{\"encoding\":\"wav/pcm\",\"bit_depth\":16,\"sample_rate\":%d,\"channels\":1,"
                 "\"endpointing\":%g,\"maximum_duration_without_endpointing\":%g,",
                 request->sample_rate_hz, request->endpointing_s, request->max_utterance_s);
  print_languages(text, request);
  vc_text_add(text, ",");
  print_wants(text, request);
  vc_text_add(text, "}");
}

// --- what a client says

// Strictly: whole groups of the alphabet, padded at the end alone. (libcrypto also takes blanks
// around the text and padding anywhere, and counts it as sound.)
static int decode_base64(const char *text, struct vc_gladia_client_message *message)
{
  static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  size_t n = strlen(text);
  size_t n_digits = strspn(text, alphabet);
  size_t padding = strspn(text + n_digits, "=");
  if (n % 4 != 0 || n > (size_t)1 << 22 || padding > 2 || n_digits + padding != n) {
    return 1;
  }
  message->audio = malloc(n / 4 * 3 + 1);
  if (message->audio == NULL) {
    return -1;
  }
  int size = n > 0 ? EVP_DecodeBlock(message->audio, (const unsigned char *)text, (int)n) : 0;
  if (size < 0) {
    free(message->audio);
    message->audio = NULL;
    return 1;
  }
  message->audio_size = (size_t)size - padding;
  return 0;
}

static int parse_client(const json_t *root, struct vc_gladia_client_message *message,
                        const char **why)
{
  const char *type = vc_json_string(root, "type", NULL);
  if (type == NULL) {
    *why = "the message is no JSON object with a type";
    return 1;
  }
  if (strcmp(type, "stop_recording") == 0) {
    message->kind = VC_GLADIA_CLIENT_STOP;
    return 0;
  }
  if (strcmp(type, "audio_chunk") != 0) {
    message->kind = VC_GLADIA_CLIENT_UNKNOWN;
    return 0;
  }
  message->kind = VC_GLADIA_CLIENT_AUDIO;
  const char *chunk = vc_json_string(json_object_get(root, "data"), "chunk", NULL);
  int status = chunk != NULL ? decode_base64(chunk, message) : 1;
  *why = "audio_chunk needs data.chunk in base64";
  return status;
}

int vc_gladia_parse_client(const char *text, size_t size, struct vc_gladia_client_message *message,
                           const char **why)
{
  *message = (struct vc_gladia_client_message){.kind = VC_GLADIA_CLIENT_UNKNOWN};
  json_t *root = vc_json_parse(text, size, why);
  int status = root != NULL ? parse_client(root, message, why) : *why == vc_json_no_memory ? -1 : 1;
  json_decref(root);
  return status;
}

// --- what the server says

void vc_gladia_print_time(struct vc_text *text, int64_t unix_ms)
{
  time_t seconds = (time_t)(unix_ms / 1000);
  struct tm parts;
  char scratch[32];
  gmtime_r(&seconds, &parts);
  strftime(scratch, sizeof scratch, "%Y-%m-%dT%H:%M:%S", &parts);
  vc_text_format(text, "%s.%03dZ", scratch, (int)(unix_ms % 1000));
}

static void begin(struct vc_text *text, const struct vc_gladia_envelope *envelope, const char *type)
{
  vc_text_format(text, "{\"type\":\"%s\",\"session_id\":", type);
  vc_text_json_string(text, envelope->session_id);
  vc_text_add(text, ",\"created_at\":\"");
  vc_gladia_print_time(text, envelope->created_at_ms);
  vc_text_add(text, "\"");
}

void vc_gladia_print_init_answer(struct vc_text *text, const struct vc_gladia_envelope *envelope,
                                 const char *url)
{
  vc_text_add(text, "{\"id\":");
  vc_text_json_string(text, envelope->session_id);
  vc_text_add(text, ",\"created_at\":\"");
  vc_gladia_print_time(text, envelope->created_at_ms);
  vc_text_add(text, "\",\"url\":");
  vc_text_json_string(text, url);
  vc_text_add(text, "}");
}

void vc_gladia_print_lifecycle(struct vc_text *text, const struct vc_gladia_envelope *envelope,
                               const char *type)
{
  begin(text, envelope, type);
  vc_text_add(text, "}");
}

void vc_gladia_print_ack(struct vc_text *text, const struct vc_gladia_envelope *envelope,
                         uint64_t byte_begin, uint64_t byte_end, uint32_t bytes_per_s)
{
  begin(text, envelope, "audio_chunk");
  vc_text_format(text,
                 ",\"acknowledged\":true,\"error\":null,\"data\":{\"byte_range\":[%" PRIu64
                 ",%" PRIu64 "],\"time_range\":[%.4f,%.4f]}}",
                 byte_begin, byte_end, (double)byte_begin / bytes_per_s,
                 (double)byte_end / bytes_per_s);
}

void vc_gladia_print_audio_error(struct vc_text *text, const struct vc_gladia_envelope *envelope,
                                 const char *why)
{
  begin(text, envelope, "audio_chunk");
  vc_text_add(text, ",\"acknowledged\":false,\"error\":{\"message\":");
  vc_text_json_string(text, why);
  vc_text_add(text, "},\"data\":null}");
}

void vc_gladia_print_speech(struct vc_text *text, const struct vc_gladia_envelope *envelope,
                            const char *type, double time_s)
{
  begin(text, envelope, type);
  vc_text_format(text, ",\"data\":{\"time\":%.3f,\"channel\":0}}", time_s);
}

void vc_gladia_print_utterance(struct vc_text *text, const struct vc_utterance *utterance)
{
  vc_text_format(text, "{\"start\":%.3f,\"end\":%.3f,\"confidence\":", utterance->start_s,
                 utterance->end_s);
  vc_text_json_number(text, utterance->confidence, 3);
  vc_text_format(text, ",\"channel\":%d,\"language\":", utterance->channel);
  vc_text_json_string(text, utterance->language[0] != '\0' ? utterance->language : NULL);
  vc_text_add(text, ",\"text\":");
  vc_text_json_string(text, utterance->text);
  vc_text_add(text, ",\"words\":[");
  for (size_t i = 0; i < utterance->n_words; i++) {
    const struct vc_word *word = &utterance->words[i];
    vc_text_add(text, i > 0 ? ",{\"word\":" : "{\"word\":");
    vc_text_json_string(text, word->text);
    vc_text_format(text, ",\"start\":%.3f,\"end\":%.3f,\"confidence\":", word->start_s,
                   word->end_s);
    vc_text_json_number(text, word->confidence, 3);
    vc_text_add(text, "}");
  }
  vc_text_add(text, utterance->is_approximate ? "],\"approximate\":true}" : "]}");
}

void vc_gladia_print_transcript(struct vc_text *text, const struct vc_gladia_envelope *envelope,
                                const struct vc_utterance *utterance)
{
  begin(text, envelope, "transcript");
  vc_text_add(text, ",\"data\":{\"id\":");
  vc_text_json_string(text, utterance->id);
  vc_text_format(text, ",\"is_final\":%s,\"utterance\":", utterance->is_final ? "true" : "false");
  vc_gladia_print_utterance(text, utterance);
  vc_text_add(text, "}}");
}

void vc_gladia_print_stop_ack(struct vc_text *text, const struct vc_gladia_envelope *envelope,
                              double duration_s, double left_s)
{
  begin(text, envelope, "stop_recording");
  vc_text_format(text,
                 ",\"acknowledged\":true,\"error\":null,\"data\":{\"recording_duration\":%.3f,"
                 "\"recording_left_to_process\":%.3f}}",
                 duration_s, left_s);
}

void vc_gladia_print_end_recording(struct vc_text *text, const struct vc_gladia_envelope *envelope,
                                   double duration_s)
{
  begin(text, envelope, "end_recording");
  vc_text_format(text, ",\"data\":{\"recording_duration\":%.3f}}", duration_s);
}

void vc_gladia_print_post_transcript(struct vc_text *text,
                                     const struct vc_gladia_envelope *envelope,
                                     const char *language, const char *full_text,
                                     const char *utterances)
{
  begin(text, envelope, "post_transcript");
  vc_text_add(text, ",\"data\":{\"full_transcript\":");
  vc_text_json_string(text, full_text);
  vc_text_add(text, ",\"languages\":[");
  vc_text_json_string(text, language);
  vc_text_add(text, "],\"utterances\":[");
  vc_text_add(text, utterances);
  vc_text_add(text, "]}}");
}

void vc_gladia_print_error(struct vc_text *text, const struct vc_gladia_envelope *envelope,
                           int status_code, const char *why)
{
  begin(text, envelope, "error");
  vc_text_format(text, ",\"error\":{\"status_code\":%d,\"message\":", status_code);
  vc_text_json_string(text, why);
  vc_text_add(text, "},\"data\":null}");
}
