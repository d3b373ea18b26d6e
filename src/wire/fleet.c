#include <verbacast/wire/fleet.h>

#include <verbacast/wire/json.h>
#include <verbacast/wire/record.h>

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define NUMBER_MAX (INT64_C(1) << 53) // larger ones are not the same to all who read JSON
#define SMALL_MAX 1024                // bytes of what is no message
#define UTTERANCE_ID_MAX 95
#define STATE_MAX 31
#define REASON_MAX 95
#define TIME_MAX_S 1e9 // of a session: thirty years
#define SHOWN 64       // bytes of a value that a complaint repeats

// --- printing

static void string_member(struct vc_text *text, const char *key, const char *value)
{
  vc_text_format(text, "\"%s\":", key);
  vc_text_json_string(text, value);
}

static void time_member(struct vc_text *text, const char *key, int64_t unix_ms)
{
  vc_text_format(text, ",\"%s\":%" PRId64 ".%03d", key, unix_ms / 1000, (int)(unix_ms % 1000));
}

void vc_envelope_print(struct vc_text *text, const struct vc_envelope *envelope)
{
  vc_text_format(text, "{\"v\":%d,", VC_ENVELOPE_VERSION);
  string_member(text, "node", envelope->node);
  vc_text_format(text, ",\"epoch\":%" PRId64 ",\"seq\":%" PRIu64 ",\"prevFinal\":%" PRIu64,
                 envelope->epoch, envelope->seq, envelope->prev_final);
  time_member(text, "startedAt", envelope->started_at_ms);
  if (envelope->received_at_us > 0) {
    time_member(text, "receivedAt", envelope->received_at_us / 1000);
  } else {
    vc_text_add(text, ",\"receivedAt\":null");
  }
  if (envelope->is_after_loss) {
    vc_text_add(text, ",\"afterLoss\":true");
  }
  vc_text_add(text, ",\"frame\":");
  vc_text_append(text, envelope->frame, envelope->frame_size);
  vc_text_add(text, "}");
}

static const char *const ctl_names[] = {"take", "released", "leaving", "end", "erased"};

static void print_node(struct vc_text *text, const char *node, int64_t epoch)
{
  string_member(text, "node", node);
  vc_text_format(text, ",\"epoch\":%" PRId64 "}", epoch);
}

void vc_ctl_print(struct vc_text *text, enum vc_ctl_type type, const char *node, int64_t epoch)
{
  vc_text_format(text, "{\"type\":\"%s\",", ctl_names[type]);
  print_node(text, node, epoch);
}

void vc_owner_print(struct vc_text *text, const char *node, int64_t epoch)
{
  vc_text_add(text, "{");
  print_node(text, node, epoch);
}

// --- reading: what is missing is told by its name

// The member as a complaint shows it.
static const char *shown(const json_t *object, const char *key, char into[SHOWN + 4])
{
  const json_t *value = json_object_get(object, key);
  char *text = value != NULL ? vc_json_print(value) : NULL;
  const char *from = text != NULL ? text : value != NULL ? "?" : "missing";
  size_t n = vc_utf8_cut(from, strlen(from), SHOWN);
  memcpy(into, from, n);
  memcpy(into + n, from[n] != '\0' ? "..." : "", from[n] != '\0' ? 4 : 1);
  free(text);
  return into;
}

static int complain(const json_t *object, const char *key, const char *allowed,
                    struct vc_error *error)
{
  char value[SHOWN + 4];
  return vc_error_set(error, "%s is %s, not %s", key, shown(object, key, value), allowed);
}

// Whole, from `min` to 2^53. Returns: 0, or -1 and the error.
static int read_number(const json_t *object, const char *key, int64_t min, int64_t *number,
                       struct vc_error *error)
{
  long long value = vc_json_integer(object, key, -1);
  if (value < min || value > NUMBER_MAX) {
    return complain(object, key, min > 0 ? "a whole number from 1 to 2^53" : "one from 0 to 2^53",
                    error);
  }
  *number = value;
  return 0;
}

static int read_epoch(const json_t *object, int64_t min, int64_t *epoch, struct vc_error *error)
{
  long long value = vc_json_integer(object, "epoch", -1);
  if (value < min || value > VC_EPOCH_MAX) {
    return complain(object, "epoch",
                    min > 0 ? "a whole number from 1 to 2^52" : "one from 0 to 2^52", error);
  }
  *epoch = value;
  return 0;
}

// A time in seconds; null and none are 0.
static int read_time(const json_t *object, const char *key, int64_t *unix_ms,
                     struct vc_error *error)
{
  const json_t *value = json_object_get(object, key);
  double seconds = vc_json_real(object, key, value == NULL || json_is_null(value) ? 0 : -1);
  if (!(seconds >= 0 && seconds < 1e11)) {
    return complain(object, key, "seconds of Unix time", error);
  }
  *unix_ms = llround(seconds * 1000);
  return 0;
}

// A string of 1 to `most` bytes.
static int read_string(const json_t *object, const char *key, size_t most, const char **string,
                       struct vc_error *error)
{
  const json_t *value = json_object_get(object, key);
  size_t size = json_string_length(value);
  if (size == 0 || size > most) {
    char allowed[48];
    snprintf(allowed, sizeof allowed, "a string of 1 to %zu bytes", most);
    return complain(object, key, allowed, error);
  }
  *string = json_string_value(value);
  return 0;
}

// A string, or null, which is "".
static int read_reason(const json_t *object, const char **reason, struct vc_error *error)
{
  const json_t *value = json_object_get(object, "reason");
  if (value == NULL || json_is_null(value) ||
      (json_is_string(value) && json_string_length(value) == 0)) {
    return 0;
  }
  return read_string(object, "reason", REASON_MAX, reason, error);
}

static int read_root(const char *text, size_t size, size_t most, json_t **root,
                     struct vc_error *error)
{
  const char *why = NULL;
  *root = NULL;
  if (size > most) {
    return vc_error_set(error, "%zu bytes, not at most %zu", size, most);
  }
  *root = vc_json_parse(text, size, &why);
  if (*root == NULL) {
    vc_error_set(error, "%s", why);
    return why == vc_json_no_memory ? VC_FLEET_NO_MEMORY : -1;
  }
  return json_is_object(*root) ? 0 : vc_error_set(error, "a JSON array, not an object");
}

// --- the frame

// Past the string at `at`, which is within JSON that was parsed.
static const char *skip_string(const char *at)
{
  for (at++; *at != '"'; at++) {
    at += *at == '\\';
  }
  return at + 1;
}

static const char *skip_blanks(const char *at)
{
  while (*at == ' ' || *at == '\t' || *at == '\n' || *at == '\r') {
    at++;
  }
  return at;
}

// Past the value at `at`: an object or array with all that is in it, or what is neither.
static const char *skip_value(const char *at)
{
  size_t depth = 0;
  do {
    if (*at == '"') {
      at = skip_string(at);
      continue;
    }
    depth += *at == '{' || *at == '[';
    depth -= *at == '}' || *at == ']';
    at++;
  } while (depth > 0 || (*at != ',' && *at != '}'));
  return at;
}

// The bytes of the member as they stand in the text of an object that was parsed: all of it is well
// formed and ends with a brace. Returns: NULL when the name is written in another way.
static const char *find_bytes(const char *text, const char *key, size_t *size)
{
  size_t key_size = strlen(key);
  const char *at = skip_blanks(text);
  while (*at != '}') {
    const char *name = at = skip_blanks(at + 1); // past the brace or comma
    if (*at == '}') {
      break;
    }
    at = skip_blanks(skip_string(at));
    int is_it = strncmp(name + 1, key, key_size) == 0 && name[key_size + 1] == '"';
    const char *value = skip_blanks(at + 1); // past the colon
    at = skip_value(value);
    if (is_it) {
      *size = (size_t)(at - value);
      return value;
    }
  }
  return NULL;
}

// Of the whole text: the frame is an object, so that its last byte is a brace.
static int find_frame(const char *text, struct vc_envelope_parsed *envelope, struct vc_error *error)
{
  envelope->json = json_object_get(envelope->root, "frame");
  if (!json_is_object(envelope->json)) {
    return complain(envelope->root, "frame", "an object", error);
  }
  struct vc_envelope *fields = &envelope->fields;
  fields->frame = find_bytes(text, "frame", &fields->frame_size);
  if (fields->frame == NULL) {
    return vc_error_set(error, "frame is not written as such");
  }
  while (fields->frame[fields->frame_size - 1] != '}') {
    fields->frame_size--; // a blank
  }
  return 0;
}

static int is_number_or_null(const json_t *object, const char *key)
{
  const json_t *value = json_object_get(object, key);
  return value == NULL || json_is_null(value) ||
         (json_is_number(value) && fabs(json_number_value(value)) < TIME_MAX_S);
}

static int is_string_or_null(const json_t *object, const char *key)
{
  const json_t *value = json_object_get(object, key);
  return value == NULL || json_is_null(value) || json_is_string(value);
}

static int check_words(const json_t *frame, struct vc_error *error)
{
  const json_t *words = json_object_get(frame, "words");
  size_t at;
  json_t *word;
  if (words != NULL && !json_is_null(words) && !json_is_array(words)) {
    return complain(frame, "words", "an array or null", error);
  }
  json_array_foreach(words, at, word)
  {
    if (!json_is_string(json_object_get(word, "word")) ||
        !json_is_number(json_object_get(word, "start")) || !is_number_or_null(word, "start") ||
        !json_is_number(json_object_get(word, "end")) || !is_number_or_null(word, "end") ||
        !is_number_or_null(word, "confidence")) {
      return vc_error_set(error, "word %zu has no word, start, end and confidence", at);
    }
  }
  return 0;
}

static int check_transcript(const json_t *frame, struct vc_error *error)
{
  double start_s = vc_json_real(frame, "start", NAN), end_s = vc_json_real(frame, "end", NAN);
  if (!json_is_string(json_object_get(frame, "text"))) {
    return complain(frame, "text", "a string", error);
  }
  if (!(start_s >= 0 && start_s <= end_s && end_s < TIME_MAX_S)) {
    return complain(frame, "end", "a time after start", error);
  }
  const char *wrong = !is_string_or_null(frame, "language")     ? "language"
                      : !is_string_or_null(frame, "speaker")    ? "speaker"
                      : !is_number_or_null(frame, "confidence") ? "confidence"
                                                                : NULL;
  if (wrong != NULL) {
    return complain(frame, wrong, "of its type or null", error);
  }
  return check_words(frame, error);
}

static int read_utterance_id(struct vc_envelope_parsed *envelope, struct vc_error *error)
{
  return read_string(envelope->json, "utteranceId", UTTERANCE_ID_MAX, &envelope->utterance_id,
                     error);
}

static int read_transcript(struct vc_envelope_parsed *envelope, struct vc_error *error)
{
  const json_t *is_final = json_object_get(envelope->json, "isFinal");
  if (!json_is_boolean(is_final)) {
    return complain(envelope->json, "isFinal", "true or false", error);
  }
  envelope->kind = json_is_true(is_final) ? VC_ENVELOPE_FINAL : VC_ENVELOPE_PARTIAL;
  return read_utterance_id(envelope, error) != 0 ? -1 : check_transcript(envelope->json, error);
}

static int read_retract(struct vc_envelope_parsed *envelope, struct vc_error *error)
{
  envelope->kind = VC_ENVELOPE_RETRACT;
  return read_utterance_id(envelope, error);
}

static int read_state(struct vc_envelope_parsed *envelope, struct vc_error *error)
{
  return read_string(envelope->json, "state", STATE_MAX, &envelope->state, error) != 0
             ? -1
             : read_reason(envelope->json, &envelope->reason, error);
}

static int read_hello(struct vc_envelope_parsed *envelope, struct vc_error *error)
{
  envelope->kind = VC_ENVELOPE_HELLO;
  return read_state(envelope, error);
}

static int read_status(struct vc_envelope_parsed *envelope, struct vc_error *error)
{
  envelope->kind = VC_ENVELOPE_STATUS;
  return read_state(envelope, error);
}

static int read_end(struct vc_envelope_parsed *envelope, struct vc_error *error)
{
  envelope->kind = VC_ENVELOPE_END;
  return read_reason(envelope->json, &envelope->reason, error);
}

static const struct {
  const char *type;
  int (*read)(struct vc_envelope_parsed *envelope, struct vc_error *error);
} frame_types[] = {{"hello", read_hello},
                   {"transcript", read_transcript},
                   {"retract", read_retract},
                   {"status", read_status},
                   {"end", read_end}};

static int read_frame(struct vc_envelope_parsed *envelope, struct vc_error *error)
{
  const char *type = "";
  if (read_string(envelope->json, "type", SHOWN, &type, error) != 0) {
    return -1;
  }
  for (size_t i = 0; i < sizeof frame_types / sizeof frame_types[0]; i++) {
    if (strcmp(frame_types[i].type, type) == 0) {
      return frame_types[i].read(envelope, error);
    }
  }
  complain(envelope->json, "type", "one that this program knows", error);
  return VC_FLEET_NEWER;
}

// --- the envelope

static int check_version(const json_t *root, struct vc_error *error)
{
  int64_t version = 0;
  if (read_number(root, "v", 1, &version, error) != 0) {
    return -1;
  }
  if (version > VC_ENVELOPE_VERSION) {
    complain(root, "v", "1, which is what this program knows", error);
    return VC_FLEET_NEWER;
  }
  return 0;
}

// None is false.
static int read_flag(const json_t *object, const char *key, int *flag, struct vc_error *error)
{
  const json_t *value = json_object_get(object, key);
  *flag = json_is_true(value);
  return value == NULL || json_is_boolean(value) ? 0
                                                 : complain(object, key, "true or false", error);
}

static int read_fields(struct vc_envelope_parsed *envelope, struct vc_error *error)
{
  struct vc_envelope *fields = &envelope->fields;
  const json_t *root = envelope->root;
  int64_t seq = 0, prev_final = 0, received_ms = 0;
  if (read_string(root, "node", VC_NODE_MAX, &fields->node, error) != 0 ||
      read_epoch(root, 1, &fields->epoch, error) != 0 ||
      read_number(root, "seq", 0, &seq, error) != 0 ||
      read_number(root, "prevFinal", 0, &prev_final, error) != 0 ||
      read_time(root, "startedAt", &fields->started_at_ms, error) != 0 ||
      read_time(root, "receivedAt", &received_ms, error) != 0 ||
      read_flag(root, "afterLoss", &fields->is_after_loss, error) != 0) {
    return -1;
  }
  fields->seq = (uint64_t)seq;
  fields->prev_final = (uint64_t)prev_final;
  fields->received_at_us = received_ms * 1000;
  return prev_final < seq || seq == 0 ? 0
                                      : complain(root, "prevFinal", "a number before seq", error);
}

// The frame is of the session and number that the envelope tells.
static int check_same(const struct vc_envelope_parsed *envelope, const char *slug,
                      struct vc_error *error)
{
  const struct vc_envelope *fields = &envelope->fields;
  int64_t epoch = 0, seq = 0;
  if (strcmp(vc_json_string(envelope->json, "session", ""), slug) != 0) {
    return complain(envelope->json, "session", slug, error);
  }
  if (read_epoch(envelope->json, 1, &epoch, error) != 0 ||
      read_number(envelope->json, "seq", 0, &seq, error) != 0) {
    return -1;
  }
  if (epoch != fields->epoch) {
    return complain(envelope->json, "epoch", "that of the envelope", error);
  }
  if (envelope->kind == VC_ENVELOPE_HELLO) {
    return fields->seq == 0 && fields->prev_final == 0
               ? 0
               : complain(envelope->root, "seq", "0, as of any hello", error);
  }
  return fields->seq > 0 && (uint64_t)seq == fields->seq
             ? 0
             : complain(envelope->json, "seq", "that of the envelope, from 1", error);
}

static int read_envelope(const char *text, size_t size, const char *slug,
                         struct vc_envelope_parsed *envelope, struct vc_error *error)
{
  int status = read_root(text, size, VC_ENVELOPE_MAX, &envelope->root, error);
  status = status != 0 ? status : check_version(envelope->root, error);
  status = status != 0 ? status : read_fields(envelope, error);
  status = status != 0 ? status : find_frame(text, envelope, error);
  status = status != 0 ? status : read_frame(envelope, error);
  return status != 0 ? status : check_same(envelope, slug, error);
}

int vc_envelope_parse(const char *text, size_t size, const char *slug,
                      struct vc_envelope_parsed *envelope, struct vc_error *error)
{
  *envelope = (struct vc_envelope_parsed){.utterance_id = "", .state = "", .reason = ""};
  int status = read_envelope(text, size, slug, envelope, error);
  if (status != 0) {
    vc_envelope_parsed_fini(envelope);
  }
  return status;
}

void vc_envelope_parsed_fini(struct vc_envelope_parsed *envelope)
{
  json_decref(envelope->root);
  envelope->root = NULL;
}

int vc_envelope_is_kept(enum vc_envelope_kind kind)
{
  return kind != VC_ENVELOPE_PARTIAL && kind != VC_ENVELOPE_RETRACT;
}

// --- the record

static void read_words(const json_t *words, struct vc_word *into)
{
  size_t at;
  json_t *word;
  json_array_foreach(words, at, word)
  {
    into[at] = (struct vc_word){.text = vc_json_string(word, "word", ""),
                                .start_s = vc_json_real(word, "start", 0),
                                .end_s = vc_json_real(word, "end", 0),
                                .confidence = vc_json_real(word, "confidence", NAN)};
  }
}

static void print_record(struct vc_text *text, const struct vc_envelope_parsed *envelope,
                         const struct vc_utterance *utterance)
{
  const struct vc_envelope *fields = &envelope->fields;
  vc_record_print(
      text, &(struct vc_record_fields){.type = VC_RECORD_TYPE_TRANSCRIPT,
                                       .session = vc_json_string(envelope->json, "session", ""),
                                       .epoch = fields->epoch,
                                       .node = fields->node,
                                       .started_at_ms = fields->started_at_ms,
                                       .seq = fields->seq,
                                       .utterance_id = envelope->utterance_id,
                                       .utterance = utterance,
                                       .received_at_us = fields->received_at_us});
}

int vc_envelope_print_record(struct vc_text *text, const struct vc_envelope_parsed *envelope)
{
  const json_t *frame = envelope->json, *list = json_object_get(frame, "words");
  size_t n = json_array_size(list);
  struct vc_word *words = calloc(n > 0 ? n : 1, sizeof *words);
  if (words == NULL) {
    return -1;
  }
  read_words(list, words);
  print_record(text, envelope,
               &(struct vc_utterance){.text = vc_json_string(frame, "text", ""),
                                      .language = vc_json_string(frame, "language", ""),
                                      .speaker = vc_json_string(frame, "speaker", NULL),
                                      .start_s = vc_json_real(frame, "start", 0),
                                      .end_s = vc_json_real(frame, "end", 0),
                                      .confidence = vc_json_real(frame, "confidence", NAN),
                                      .is_final = 1,
                                      .is_approximate = vc_json_true(frame, "approximate"),
                                      .words = words,
                                      .n_words = n});
  free(words);
  return text->has_failed ? -1 : 0;
}

static int parse_digits(const char *text, size_t size, uint64_t *number)
{
  if (size == 0 || size > 16) {
    return -1;
  }
  *number = 0;
  for (size_t i = 0; i < size; i++) {
    if (text[i] < '0' || text[i] > '9') {
      return -1;
    }
    *number = *number * 10 + (uint64_t)(text[i] - '0');
  }
  return *number <= NUMBER_MAX ? 0 : -1;
}

int vc_envelope_parse_id(const char *id, size_t size, int64_t *epoch, uint64_t *seq)
{
  const char *dash = memchr(id, '-', size);
  uint64_t number;
  if (dash == NULL || parse_digits(id, (size_t)(dash - id), &number) != 0 || number == 0 ||
      number > VC_EPOCH_MAX || parse_digits(dash + 1, size - (size_t)(dash - id) - 1, seq) != 0) {
    return -1;
  }
  *epoch = (int64_t)number;
  return 0;
}

// --- what is no message

static int read_node(const json_t *root, int64_t epoch_min, char node[VC_NODE_MAX + 1],
                     int64_t *epoch, struct vc_error *error)
{
  const char *name = "";
  if (read_string(root, "node", VC_NODE_MAX, &name, error) != 0 ||
      read_epoch(root, epoch_min, epoch, error) != 0) {
    return -1;
  }
  memcpy(node, name, strlen(name) + 1);
  return 0;
}

static int read_ctl_type(const json_t *root, enum vc_ctl_type *type, struct vc_error *error)
{
  const char *name = "";
  if (read_string(root, "type", SHOWN, &name, error) != 0) {
    return -1;
  }
  for (size_t i = 0; i < sizeof ctl_names / sizeof ctl_names[0]; i++) {
    if (strcmp(ctl_names[i], name) == 0) {
      *type = (enum vc_ctl_type)i;
      return 0;
    }
  }
  complain(root, "type", "take, released, leaving, end or erased", error);
  return VC_FLEET_NEWER;
}

int vc_ctl_parse(const char *text, size_t size, struct vc_ctl *ctl, struct vc_error *error)
{
  json_t *root;
  *ctl = (struct vc_ctl){0};
  int status = read_root(text, size, SMALL_MAX, &root, error);
  status = status != 0 ? status : read_ctl_type(root, &ctl->type, error);
  status = status != 0 ? status : read_node(root, 0, ctl->node, &ctl->epoch, error);
  json_decref(root);
  return status;
}

int vc_owner_parse(const char *text, size_t size, struct vc_owner *owner, struct vc_error *error)
{
  json_t *root;
  *owner = (struct vc_owner){0};
  int status = read_root(text, size, SMALL_MAX, &root, error);
  status = status != 0 ? status : read_node(root, 1, owner->node, &owner->epoch, error);
  json_decref(root);
  return status;
}
