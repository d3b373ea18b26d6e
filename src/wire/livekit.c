#include <verbacast/wire/livekit.h>

#include <verbacast/wire/json.h>
#include <verbacast/wire/jwt.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DIGEST_BYTES 32
#define HASH_DIGITS 16 // of a slug that was made; 8 could be searched for a name that has them
#define MADE_TAIL (HASH_DIGITS + 2) // "--" and these
#define AUDIO_HZ 44100
#define AUDIO_KBITS 64

// --- reading

// A member by either of its names.
static const json_t *member(const json_t *object, const char *camel, const char *snake)
{
  const json_t *value = json_object_get(object, camel);
  return value != NULL ? value : json_object_get(object, snake);
}

// Whoever may name a room, or describe one, may put U+0000 there: that is no reason not to read the
// list that it stands in.
// Returns: 0 copied (also nothing), or -1: it does not fit, or is no text of C.
static int copy_text(const json_t *value, char *into, size_t size)
{
  const char *text = json_string_value(value);
  size_t n = text != NULL ? strlen(text) : 0;
  into[0] = '\0';
  if (n >= size || n != json_string_length(value)) {
    return -1;
  }
  memcpy(into, text != NULL ? text : "", n + 1);
  return 0;
}

// An int64, which is a string in protobuf's JSON. What was before 1970 is not said: times are
// subtracted from each other.
static int64_t read_time(const json_t *value)
{
  const char *text = json_string_value(value);
  int64_t time = text != NULL ? strtoll(text, NULL, 10) : (int64_t)json_integer_value(value);
  return time > 0 ? time : 0;
}

static const char *read_room(const json_t *room, struct vc_livekit_room *into)
{
  if (copy_text(json_object_get(room, "sid"), into->sid, sizeof into->sid) != 0) {
    return "a room's sid is too long, or has a zero in it";
  }
  if (copy_text(json_object_get(room, "name"), into->name, sizeof into->name) != 0) {
    return "a room's name is too long, or has a zero in it";
  }
  return into->name[0] != '\0' ? NULL : "a room has no name";
}

static enum vc_livekit_status read_status(const json_t *value)
{
  static const char *const names[VC_LIVEKIT_UNKNOWN] = {
      "EGRESS_STARTING", "EGRESS_ACTIVE",  "EGRESS_ENDING",       "EGRESS_COMPLETE",
      "EGRESS_FAILED",   "EGRESS_ABORTED", "EGRESS_LIMIT_REACHED"};
  const char *text = json_string_value(value);
  if (value == NULL) {
    return VC_LIVEKIT_STARTING; // the first of them is left out
  }
  for (int i = 0; i < VC_LIVEKIT_UNKNOWN; i++) {
    if (text != NULL ? strcmp(text, names[i]) == 0
                     : json_is_integer(value) && json_integer_value(value) == i) {
      return (enum vc_livekit_status)i;
    }
  }
  return VC_LIVEKIT_UNKNOWN;
}

// Where the address stands depends on the request and on LiveKit's age: any string of the egress
// counts. (Its last part is blackened by LiveKit.) The depth is vc_json_parse's.
static int has_address(const json_t *value, const char *ours) // NOLINT(misc-no-recursion)
{
  const char *text = json_string_value(value);
  if (text != NULL) {
    return strncmp(text, ours, strlen(ours)) == 0;
  }
  const char *key;
  json_t *part;
  json_object_foreach((json_t *)value, key, part)
  {
    if (has_address(part, ours)) {
      return 1;
    }
  }
  for (size_t i = 0; i < json_array_size(value); i++) {
    if (has_address(json_array_get(value, i), ours)) {
      return 1;
    }
  }
  return 0;
}

// Errors quote the address that LiveKit was given, with the token that its egress publishes with.
// Of one that is cut by the bound as much is looked at as tells it.
static void copy_error(const char *text, char into[VC_LIVEKIT_ERROR_MAX + 1])
{
  char head[VC_LIVEKIT_ERROR_MAX + 4] = "";
  memcpy(head, text, strnlen(text, sizeof head - 1));
  size_t n = vc_utf8_cut(text, vc_jwt_cut(head), VC_LIVEKIT_ERROR_MAX);
  memcpy(into, text, n);
  into[n] = '\0';
}

static void read_error(const json_t *value, char into[VC_LIVEKIT_ERROR_MAX + 1])
{
  copy_error(json_is_string(value) ? json_string_value(value) : "", into);
}

static const char *read_egress(const json_t *info, const char *ours, struct vc_livekit_egress *into)
{
  memset(into, 0, sizeof *into);
  if (copy_text(member(info, "egressId", "egress_id"), into->id, sizeof into->id) != 0) {
    return "an egress's id is too long, or has a zero in it";
  }
  if (copy_text(member(info, "roomId", "room_id"), into->room.sid, sizeof into->room.sid) != 0 ||
      copy_text(member(info, "roomName", "room_name"), into->room.name, sizeof into->room.name) !=
          0) {
    return "an egress's room has too long a name, or a zero in it";
  }
  into->status = read_status(json_object_get(info, "status"));
  into->started_ns = read_time(member(info, "startedAt", "started_at"));
  into->ended_ns = read_time(member(info, "endedAt", "ended_at"));
  into->is_mix = json_is_true(
      member(member(info, "roomComposite", "room_composite"), "audioOnly", "audio_only"));
  into->is_ours = ours != NULL && ours[0] != '\0' && has_address(info, ours);
  read_error(json_object_get(info, "error"), into->error);
  return into->id[0] != '\0' ? NULL : "an egress has no id";
}

static enum vc_livekit_event event_of(const char *name)
{
  static const char *const names[] = {
      [VC_LIVEKIT_ROOM_STARTED] = "room_started",
      [VC_LIVEKIT_ROOM_FINISHED] = "room_finished",
      [VC_LIVEKIT_EGRESS_STARTED] = "egress_started",
      [VC_LIVEKIT_EGRESS_UPDATED] = "egress_updated",
      [VC_LIVEKIT_EGRESS_ENDED] = "egress_ended",
  };
  for (size_t i = VC_LIVEKIT_ROOM_STARTED; i < sizeof names / sizeof *names; i++) {
    if (strcmp(name, names[i]) == 0) {
      return (enum vc_livekit_event)i;
    }
  }
  return VC_LIVEKIT_OTHER;
}

static const char *read_webhook(const json_t *root, const char *ours,
                                struct vc_livekit_webhook *webhook)
{
  const char *name = vc_json_string(root, "event", NULL);
  memset(webhook, 0, sizeof *webhook);
  if (name == NULL) {
    return "it has no event";
  }
  webhook->event = event_of(name);
  webhook->created_s = read_time(member(root, "createdAt", "created_at"));
  if (copy_text(json_object_get(root, "id"), webhook->id, sizeof webhook->id) != 0) {
    return "its id is too long, or has a zero in it";
  }
  switch (webhook->event) {
  case VC_LIVEKIT_OTHER:
    return NULL;
  case VC_LIVEKIT_ROOM_STARTED:
  case VC_LIVEKIT_ROOM_FINISHED:
    return read_room(json_object_get(root, "room"), &webhook->room);
  default:
    return read_egress(member(root, "egressInfo", "egress_info"), ours, &webhook->egress);
  }
}

// Returns: 0, or -1 and why.
static int outcome(const char *found, const char **why)
{
  *why = found != NULL ? found : *why;
  return found != NULL ? -1 : 0;
}

int vc_livekit_parse_webhook(const char *text, size_t size, const char *ours,
                             struct vc_livekit_webhook *webhook, const char **why)
{
  json_t *root = vc_json_parse_zeros(text, size, why);
  int status = root != NULL ? outcome(read_webhook(root, ours, webhook), why) : -1;
  json_decref(root);
  return status;
}

int vc_livekit_parse_egress(const char *text, size_t size, const char *ours,
                            struct vc_livekit_egress *egress, const char **why)
{
  json_t *root = vc_json_parse_zeros(text, size, why);
  int status = root != NULL ? outcome(read_egress(root, ours, egress), why) : -1;
  json_decref(root);
  return status;
}

// Gives: place for each row of `rows`, one at least. Returns: NULL and why.
static void *make_items(const json_t *rows, size_t item_size, const char **why)
{
  size_t n = json_array_size(rows);
  if (n > VC_LIVEKIT_LIST_MAX) {
    *why = "the list has more than 20000 rows";
    return NULL;
  }
  void *items = calloc(n + 1, item_size);
  *why = items == NULL ? vc_json_no_memory : *why;
  return items;
}

int vc_livekit_parse_egresses(const char *text, size_t size, const char *ours,
                              struct vc_livekit_egresses *list, const char **why)
{
  json_t *root = vc_json_parse_zeros(text, size, why);
  const json_t *rows = json_object_get(root, "items");
  *list = (struct vc_livekit_egresses){0};
  list->items = root != NULL ? make_items(rows, sizeof *list->items, why) : NULL;
  for (size_t i = 0; list->items != NULL && i < json_array_size(rows); i++) {
    struct vc_livekit_egress *item = &list->items[list->n];
    list->n += read_egress(json_array_get(rows, i), ours, item) == NULL;
  }
  json_decref(root);
  return list->items != NULL ? 0 : -1;
}

int vc_livekit_parse_rooms(const char *text, size_t size, struct vc_livekit_rooms *list,
                           const char **why)
{
  json_t *root = vc_json_parse_zeros(text, size, why);
  const json_t *rows = json_object_get(root, "rooms");
  *list = (struct vc_livekit_rooms){0};
  list->items = root != NULL ? make_items(rows, sizeof *list->items, why) : NULL;
  for (size_t i = 0; list->items != NULL && i < json_array_size(rows); i++) {
    list->n += read_room(json_array_get(rows, i), &list->items[list->n]) == NULL;
  }
  json_decref(root);
  return list->items != NULL ? 0 : -1;
}

void vc_livekit_parse_error(const char *text, size_t size, char error[VC_LIVEKIT_ERROR_MAX + 1])
{
  json_t *root = vc_json_parse(text, size, NULL);
  const char *code = vc_json_string(root, "code", NULL);
  error[0] = '\0';
  if (code != NULL) {
    char whole[2 * VC_LIVEKIT_ERROR_MAX];
    snprintf(whole, sizeof whole, "%s: %s", code, vc_json_string(root, "msg", ""));
    copy_error(whole, error);
  }
  json_decref(root);
}

// --- printing

void vc_livekit_print_list_egress(struct vc_text *text, const char *room, int is_active)
{
  vc_text_add(text, "{");
  if (room != NULL) {
    vc_text_add(text, "\"room_name\":");
    vc_text_json_string(text, room);
  }
  if (is_active) {
    vc_text_add(text, room != NULL ? ",\"active\":true" : "\"active\":true");
  }
  vc_text_add(text, "}");
}

void vc_livekit_print_list_rooms(struct vc_text *text, const char *room)
{
  vc_text_add(text, "{");
  if (room != NULL) {
    vc_text_add(text, "\"names\":[");
    vc_text_json_string(text, room);
    vc_text_add(text, "]");
  }
  vc_text_add(text, "}");
}

void vc_livekit_print_start(struct vc_text *text, const char *room, const char *address)
{
  vc_text_add(text, "{\"room_name\":");
  vc_text_json_string(text, room);
  vc_text_add(text, ",\"audio_only\":true,\"stream_outputs\":[{\"protocol\":\"RTMP\",\"urls\":[");
  vc_text_json_string(text, address);
  vc_text_format(text,
                 "]}],\"advanced\":{\"audio_codec\":\"AAC\",\"audio_frequency\":%d,"
                 "\"audio_bitrate\":%d}}",
                 AUDIO_HZ, AUDIO_KBITS);
}

void vc_livekit_print_stop(struct vc_text *text, const char *egress_id)
{
  vc_text_add(text, "{\"egress_id\":");
  vc_text_json_string(text, egress_id);
  vc_text_add(text, "}");
}

// --- keys

json_t *vc_livekit_make_claims(const struct vc_livekit_caller *caller, const char *grant)
{
  json_int_t now_s = caller->now_s, life_s = caller->life_s;
  return json_pack("{s:s,s:I,s:I,s:{s:b}}", "iss", caller->api_key, "nbf", now_s, "exp",
                   now_s + life_s, "video", grant, 1);
}

int vc_livekit_knows_key(const char *api_keys, const char *key)
{
  size_t size = strlen(key);
  for (const char *at = api_keys; *at != '\0';) {
    size_t n = strcspn(at, ",");
    if (n == size && n > 0 && memcmp(at, key, n) == 0) {
      return 1;
    }
    at += n + (at[n] == ',');
  }
  return 0;
}

size_t vc_livekit_first_key(const char *api_keys, char *into, size_t size)
{
  size_t n = strcspn(api_keys, ",");
  if (n == 0 || n >= size) {
    return 0;
  }
  memcpy(into, api_keys, n);
  into[n] = '\0';
  return n;
}

// --- names and hashes

// Returns: 0, or -1 no memory.
static int digest(const void *bytes, size_t size, unsigned char into[DIGEST_BYTES])
{
  return EVP_Digest(bytes, size, into, NULL, EVP_sha256(), NULL) == 1 ? 0 : -1;
}

static int is_alphanumeric(char c)
{
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

static int may_stand(char c)
{
  return is_alphanumeric(c) || c == '.' || c == '_' || c == '-';
}

static int is_slug(const char *name)
{
  size_t n = 0;
  while (may_stand(name[n])) {
    n++;
  }
  return name[n] == '\0' && n > 0 && n <= VC_LIVEKIT_SLUG_MAX && is_alphanumeric(name[0]);
}

// It could be another room's slug.
static int looks_made(const char *name)
{
  size_t n = strlen(name);
  const char *tail = n > MADE_TAIL ? name + n - MADE_TAIL : "";
  return strncmp(tail, "--", 2) == 0 && strspn(tail + 2, "0123456789abcdef") == HASH_DIGITS;
}

// Gives: its length.
static size_t copy_what_may_stand(const char *room, char *slug, size_t max)
{
  size_t n = 0;
  for (const char *at = room; *at != '\0' && n < max; at++) {
    if (n == 0 && !is_alphanumeric(*at)) {
      continue; // nothing else begins one
    }
    if (may_stand(*at)) {
      slug[n++] = *at;
    } else if (slug[n - 1] != '-') {
      slug[n++] = '-';
    }
  }
  while (n > 0 && slug[n - 1] == '-') {
    n--;
  }
  return n;
}

int vc_slug_of_room(const char *room, char slug[VC_LIVEKIT_SLUG_MAX + 1])
{
  static const char nameless[] = "room";
  unsigned char hash[DIGEST_BYTES];
  if (is_slug(room) && !looks_made(room)) {
    memcpy(slug, room, strlen(room) + 1);
    return 0;
  }
  if (digest(room, strlen(room), hash) != 0) {
    return -1;
  }
  size_t n = copy_what_may_stand(room, slug, VC_LIVEKIT_SLUG_MAX - MADE_TAIL);
  if (n == 0) {
    n = strlen(nameless);
    memcpy(slug, nameless, n);
  }
  memcpy(slug + n, "--", 3);
  for (size_t i = 0; i < HASH_DIGITS / 2; i++) {
    snprintf(slug + n + 2 + 2 * i, 3, "%02x", hash[i]);
  }
  return 1;
}

int vc_livekit_hash_matches(const char *text, const void *body, size_t size)
{
  unsigned char hash[DIGEST_BYTES], encoded[4 * ((DIGEST_BYTES + 2) / 3) + 1];
  if (digest(body, size, hash) != 0) {
    return -1;
  }
  int n = EVP_EncodeBlock(encoded, hash, DIGEST_BYTES);
  return strlen(text) == (size_t)n && CRYPTO_memcmp(text, encoded, (size_t)n) == 0;
}
