// LiveKit's JSON: its webhooks and what its Twirp services answer, from bytes to structs; what they
// are asked, from structs to bytes; and the session's name that a room has here. Pure.
//
// Webhooks have their members in camel case, Twirp's answers as the protocol's files name them;
// here either is taken in both. What is zero is left out by the former.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include <verbacast/wire/text.h>

#define VC_LIVEKIT_NAME_MAX 512  // bytes of a room's name; LiveKit itself allows 256 as it comes
#define VC_LIVEKIT_ID_MAX 64     // of an id of LiveKit's: RM_…, EG_…, EV_…
#define VC_LIVEKIT_ERROR_MAX 160 // of an error's text; what is longer is cut, and before a token
#define VC_LIVEKIT_LIST_MAX 20000
#define VC_LIVEKIT_SLUG_MAX 128

enum vc_livekit_event {
  VC_LIVEKIT_OTHER, // nothing that concerns us
  VC_LIVEKIT_ROOM_STARTED,
  VC_LIVEKIT_ROOM_FINISHED,
  VC_LIVEKIT_EGRESS_STARTED,
  VC_LIVEKIT_EGRESS_UPDATED,
  VC_LIVEKIT_EGRESS_ENDED,
};

enum vc_livekit_status {
  VC_LIVEKIT_STARTING,
  VC_LIVEKIT_ACTIVE,
  VC_LIVEKIT_ENDING,
  VC_LIVEKIT_COMPLETE, // somebody stopped it, or its room ended
  VC_LIVEKIT_FAILED,
  VC_LIVEKIT_ABORTED, // failed before it was active
  VC_LIVEKIT_LIMIT_REACHED,
  VC_LIVEKIT_UNKNOWN,
};

struct vc_livekit_room {
  char sid[VC_LIVEKIT_ID_MAX + 1]; // of this life of the room, "" not said
  char name[VC_LIVEKIT_NAME_MAX + 1];
};

struct vc_livekit_egress {
  char id[VC_LIVEKIT_ID_MAX + 1];
  struct vc_livekit_room room;
  enum vc_livekit_status status;
  int64_t started_ns; // Unix time, 0: not said
  int64_t ended_ns;   // the same
  int is_ours;        // it streams, or streamed, to the address that was asked for
  int is_mix;         // of a whole room, its sound alone: what vc_livekit_print_start asks for
  char error[VC_LIVEKIT_ERROR_MAX + 1];
};

struct vc_livekit_webhook {
  enum vc_livekit_event event;
  char id[VC_LIVEKIT_ID_MAX + 1];  // "" not said
  int64_t created_s;               // Unix time, 0: not said
  struct vc_livekit_room room;     // of ROOM_…
  struct vc_livekit_egress egress; // of EGRESS_…
};

// `ours`: what an address must begin with for an egress to be ours; NULL or "": none is.
// Returns: 0; or -1 and `why`, a constant.
int vc_livekit_parse_webhook(const char *text, size_t size, const char *ours,
                             struct vc_livekit_webhook *webhook, const char **why);

struct vc_livekit_egresses {
  struct vc_livekit_egress *items; // malloc'ed
  size_t n;
};
struct vc_livekit_rooms {
  struct vc_livekit_room *items; // malloc'ed
  size_t n;
};
// The answers of ListEgress and ListRooms; a row that has no name, or one that is too long or has
// U+0000 in it, is left out. Gives: items, to be freed also when n is 0. Returns: 0; or -1 and
// `why` (then nothing is to be freed).
int vc_livekit_parse_egresses(const char *text, size_t size, const char *ours,
                              struct vc_livekit_egresses *list, const char **why);
int vc_livekit_parse_rooms(const char *text, size_t size, struct vc_livekit_rooms *list,
                           const char **why);
// The answer of StartRoomCompositeEgress. Returns: as vc_livekit_parse_webhook.
int vc_livekit_parse_egress(const char *text, size_t size, const char *ours,
                            struct vc_livekit_egress *egress, const char **why);
// Twirp's {"code":…,"msg":…}: "not_found: no such room"; what is none of that kind gives "".
void vc_livekit_parse_error(const char *text, size_t size, char error[VC_LIVEKIT_ERROR_MAX + 1]);

// Requests. `room` NULL: of all rooms.
void vc_livekit_print_list_egress(struct vc_text *text, const char *room, int is_active);
void vc_livekit_print_list_rooms(struct vc_text *text, const char *room);
// Sound only, AAC, to one RTMP address: LiveKit mixes it without a browser.
void vc_livekit_print_start(struct vc_text *text, const char *room, const char *address);
void vc_livekit_print_stop(struct vc_text *text, const char *egress_id);

// The claims of a token for one call. `grant`: "roomRecord" or "roomList".
struct vc_livekit_caller {
  const char *api_key;
  int64_t now_s;  // Unix time
  int64_t life_s; // from then on
};
// Returns: a new reference, or NULL without memory.
json_t *vc_livekit_make_claims(const struct vc_livekit_caller *caller, const char *grant);

// LIVEKIT_API_KEY is one key, or "new,old" while they are changed. Returns: 1 when `key` is one of
// them, else 0.
int vc_livekit_knows_key(const char *api_keys, const char *key);
// The first of them. Returns: its length; 0 it does not fit, or there is none.
size_t vc_livekit_first_key(const char *api_keys, char *into, size_t size);

// A room's name that may be a session's is itself. Any other, and one that ends as these do, has
// each run of bytes that may not stand there replaced by '-' ("room" if nothing is left), is cut,
// and ends in "--" and 16 hexadecimal digits of its SHA-256: nobody finds a name that has another
// room's slug. Returns: 0 it is itself, 1 it was made, -1 no memory for that.
int vc_slug_of_room(const char *room, char slug[VC_LIVEKIT_SLUG_MAX + 1]);

// Whether `text` is what LiveKit's `sha256` says of a webhook's body: the standard base64 of its
// SHA-256. In constant time. Returns: 1 or 0, -1 no memory.
int vc_livekit_hash_matches(const char *text, const void *body, size_t size);
