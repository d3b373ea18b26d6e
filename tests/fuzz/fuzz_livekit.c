// What stands before a webhook's signature is not ours, and what stands behind it may be of another
// version: each text is read as everything that LiveKit says, and as a room's name.
#include <verbacast/wire/livekit.h>

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define OURS "rtmp://h/live/"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_text(const char *text, size_t most)
{
  assert(strlen(text) <= most && vc_utf8_is_valid(text, strlen(text)));
}

static void check_slug(const char *room)
{
  char slug[VC_LIVEKIT_SLUG_MAX + 1], again[VC_LIVEKIT_SLUG_MAX + 1];
  int is_made = vc_slug_of_room(room, slug);
  assert(is_made == (strcmp(room, slug) != 0));
  assert(slug[0] != '\0' && strlen(slug) <= VC_LIVEKIT_SLUG_MAX);
  assert(vc_slug_of_room(slug, again) == is_made && (strcmp(slug, again) != 0) == is_made);
}

static void check_egress(const struct vc_livekit_egress *egress)
{
  assert(egress->id[0] != '\0' && egress->status <= VC_LIVEKIT_UNKNOWN);
  check_text(egress->id, VC_LIVEKIT_ID_MAX);
  check_text(egress->room.name, VC_LIVEKIT_NAME_MAX);
  check_text(egress->error, VC_LIVEKIT_ERROR_MAX);
  check_slug(egress->room.name);
}

static void look_at_webhook(const char *text, size_t size)
{
  struct vc_livekit_webhook webhook;
  const char *why = NULL;
  if (vc_livekit_parse_webhook(text, size, OURS, &webhook, &why) != 0) {
    assert(why != NULL);
    return;
  }
  check_text(webhook.id, VC_LIVEKIT_ID_MAX);
  if (webhook.event >= VC_LIVEKIT_EGRESS_STARTED) {
    check_egress(&webhook.egress);
  } else if (webhook.event != VC_LIVEKIT_OTHER) {
    assert(webhook.room.name[0] != '\0');
    check_slug(webhook.room.name);
  }
}

static void look_at_lists(const char *text, size_t size)
{
  struct vc_livekit_egresses egresses;
  struct vc_livekit_rooms rooms;
  const char *why = NULL;
  if (vc_livekit_parse_egresses(text, size, OURS, &egresses, &why) == 0) {
    for (size_t i = 0; i < egresses.n; i++) {
      check_egress(&egresses.items[i]);
    }
    free(egresses.items);
  }
  if (vc_livekit_parse_rooms(text, size, &rooms, &why) == 0) {
    for (size_t i = 0; i < rooms.n; i++) {
      check_slug(rooms.items[i].name);
    }
    free(rooms.items);
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  char error[VC_LIVEKIT_ERROR_MAX + 1];
  char *copy = malloc(size + 1);
  assert(copy != NULL);
  memcpy(copy, data, size);
  copy[size] = '\0';
  look_at_webhook((const char *)data, size);
  look_at_lists((const char *)data, size);
  vc_livekit_parse_error((const char *)data, size, error);
  check_text(error, VC_LIVEKIT_ERROR_MAX);
  check_slug(copy);
  vc_livekit_hash_matches(copy, data, size);
  free(copy);
  return 0;
}
