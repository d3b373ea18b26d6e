// A meeting that needs an egress, step by step: is it on (asked when that is not known from just
// now), which egresses has it, then what decide.c says. A meeting is in the table only as long as
// something is to be done for it; what fails is tried again, each time later, until LiveKit says
// that the room is no more. Whatever the last try may have done without our knowing, the next one
// begins with what is listed.
#include "room.h"

#include <verbacast/base/backoff.h>
#include <verbacast/wire/jwt.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "decide.h"

#define FRESH_MS 5000    // a room that was on so long ago is on
#define CLAIM_MS 30000   // longer than a start takes
#define CLAIMED_MS 20000 // then it is looked at what another node has made of its claim
#define GOING_MS 1000    // an egress ends in about that time
#define VERIFY_MS 2000   // another node that was as fast has begun its own
#define SURPLUS_MS 5000  // the node that began one too many has stopped it, if it is there
#define BACKOFF_FIRST_MS 1000
#define BACKOFF_MAX_MS 60000
#define SERVED_MS 120000 // an egress that lives so long is well
#define LEFT_MS 600000
#define TOKEN_LIFE_S 86400 // an egress comes back with what it was given

static void look(struct meeting *meeting);

static uint64_t after_ms(const struct meeting *meeting, uint64_t ms)
{
  return room_now(meeting->livekit) + ms * VC_NS_PER_MS;
}

static void wait_ms(struct meeting *meeting, uint64_t ms)
{
  meeting->due_ns = after_ms(meeting, ms);
  vc_worker_wake_at(meeting->livekit->worker, meeting->due_ns);
}

// --- the table

struct meeting *meeting_find(struct vc_livekit *livekit, const char *name)
{
  struct meeting *meeting;
  HASH_FIND_STR(livekit->meetings, name, meeting);
  return meeting;
}

void meeting_forget(struct meeting *meeting)
{
  struct vc_livekit *livekit = meeting->livekit;
  call_cancel(livekit, &meeting->post);
  room_is_well(livekit, &meeting->is_failing);
  HASH_DEL(livekit->meetings, meeting);
  vc_metric_set(livekit->slots, MEETINGS, (int64_t)HASH_COUNT(livekit->meetings));
  free(meeting);
}

static struct meeting *meeting_create(struct vc_livekit *livekit,
                                      const struct vc_livekit_room *room)
{
  if (HASH_COUNT(livekit->meetings) >= VC_LIVEKIT_ROOMS_MAX) {
    room_count(livekit, MEETINGS_REFUSED);
    return NULL;
  }
  struct meeting *meeting = calloc(1, sizeof *meeting);
  int is_made = meeting != NULL ? vc_slug_of_room(room->name, meeting->slug) : -1;
  if (is_made >= 0) {
    meeting->livekit = livekit;
    meeting->room = *room;
    HASH_ADD(hh, livekit->meetings, room.name[0], (unsigned)strlen(meeting->room.name), meeting);
  }
  if (meeting == NULL || meeting->hh.tbl == NULL) {
    room_count(livekit, OUT_OF_MEMORY);
    free(meeting);
    return NULL;
  }
  if (is_made) {
    vc_log(VC_LOG_INFO, VC_EVENT("livekit.named"), VC_STR("room", room->name),
           VC_STR("session", meeting->slug));
  }
  vc_metric_set(livekit->slots, MEETINGS, (int64_t)HASH_COUNT(livekit->meetings));
  return meeting;
}

// The room has begun anew: what was known of its life before is no more.
static int is_another_life(const struct meeting *meeting, const struct vc_livekit_room *room)
{
  return meeting->room.sid[0] != '\0' && room->sid[0] != '\0' &&
         strcmp(meeting->room.sid, room->sid) != 0;
}

// Returns: how long to wait. One that is lost again and again is begun less and less often.
static uint64_t lose_egress(struct meeting *meeting)
{
  meeting->phase = PHASE_LOOKING;
  meeting->own[0] = '\0';
  meeting->backoff_ms = vc_backoff_next(meeting->backoff_ms, BACKOFF_FIRST_MS, BACKOFF_MAX_MS);
  return meeting->backoff_ms;
}

void meeting_wake(struct vc_livekit *livekit, const struct vc_livekit_room *room, uint64_t on_ns,
                  uint64_t in_ms)
{
  struct meeting *meeting = meeting_find(livekit, room->name);
  if (meeting != NULL && is_another_life(meeting, room)) {
    meeting_forget(meeting);
    meeting = NULL;
  }
  if (meeting == NULL) {
    meeting = meeting_create(livekit, room);
  } else if (meeting->phase == PHASE_SERVED) {
    in_ms = lose_egress(meeting);
  } else if (meeting->phase == PHASE_LEFT || meeting->post != NULL || meeting->is_failing) {
    meeting->has_news = meeting->post != NULL;
    return; // it has its time
  }
  if (meeting != NULL) {
    meeting->on_ns = on_ns;
    wait_ms(meeting, in_ms);
  }
}

// --- trouble

static void try_again(struct meeting *meeting, const char *reason)
{
  meeting->backoff_ms = vc_backoff_next(meeting->backoff_ms, BACKOFF_FIRST_MS, BACKOFF_MAX_MS);
  vc_log(VC_LOG_WARN, VC_EVENT("livekit.failed"), VC_STR("room", meeting->room.name),
         VC_STR("reason", reason), VC_INT("again_ms", meeting->backoff_ms));
  room_is_ill(meeting->livekit, &meeting->is_failing, reason);
  wait_ms(meeting, meeting->backoff_ms);
}

// What was listed may be older than what was said meanwhile: then it is looked again.
static void settle(struct meeting *meeting, enum phase phase)
{
  room_is_well(meeting->livekit, &meeting->is_failing);
  if (meeting->has_news) {
    meeting->on_ns = 0;
    wait_ms(meeting, GOING_MS);
    return;
  }
  meeting->phase = phase;
  wait_ms(meeting, phase == PHASE_LEFT ? LEFT_MS : SERVED_MS);
}

// --- the egress is begun

// rtmp://host:1937/live/SLUG?token=…, the token where the ingest asks for one.
static int print_address(const struct meeting *meeting, struct vc_text *address)
{
  const struct vc_livekit_settings *settings = &meeting->livekit->settings;
  vc_text_add(address, meeting->livekit->ours);
  vc_text_add(address, meeting->slug);
  if (!vc_secret_is_set(settings->publish_secret)) {
    return address->has_failed ? -1 : 0;
  }
  json_int_t expires_s = vc_clock_unix_ms(settings->clock) / 1000 + TOKEN_LIFE_S;
  json_t *claims = json_pack("{s:s,s:I}", "session", meeting->slug, "exp", expires_s);
  struct vc_jwt_keys *keys = vc_jwt_keys_of_secret(settings->publish_secret, NULL);
  char *token = claims != NULL ? vc_jwt_print(keys, claims) : NULL;
  vc_jwt_keys_destroy(&keys);
  json_decref(claims);
  if (token != NULL) {
    vc_text_add(address, "?token=");
    vc_text_add(address, token);
  }
  int status = token != NULL && !address->has_failed ? 0 : -1;
  free(token);
  return status;
}

static void started(void *context, const struct vc_post_answer *answer)
{
  struct meeting *meeting = context;
  struct vc_livekit *livekit = meeting->livekit;
  struct vc_livekit_egress egress;
  char reason[REASON_MAX];
  const char *why = "";
  if (call_end(livekit, &meeting->post, answer, reason) != 0) {
    room_count(livekit, EGRESS_FAILURES);
    if (call_says_not_found(answer)) {
      meeting_forget(meeting);
    } else {
      try_again(meeting, reason);
    }
    return;
  }
  if (vc_livekit_parse_egress(answer->body, answer->size, livekit->ours, &egress, &why) != 0) {
    try_again(meeting, why);
    return;
  }
  room_count(livekit, EGRESS_STARTS);
  vc_log(VC_LOG_INFO, VC_EVENT("livekit.egress"), VC_STR("room", meeting->room.name),
         VC_STR("session", meeting->slug), VC_STR("egress", egress.id));
  memcpy(meeting->own, egress.id, sizeof meeting->own);
  meeting->on_ns = room_now(livekit);
  wait_ms(meeting, VERIFY_MS);
}

static void start(struct meeting *meeting)
{
  struct vc_livekit *livekit = meeting->livekit;
  struct vc_text address = {0}, text = {0};
  int status = print_address(meeting, &address);
  if (status == 0) {
    vc_livekit_print_start(&text, meeting->room.name, address.at);
    status = call_start(livekit, &meeting->post, START_EGRESS, &text, started, meeting);
  }
  vc_text_fini(&address);
  if (status != 0) {
    try_again(meeting, "no memory, or PUBLISH_SECRET does not sign");
  }
}

// One node begins what follows `last`: its claim names it, so that the next one is another's.
static int is_claimed(struct meeting *meeting, const struct vc_livekit_egress *last)
{
  const char *life = meeting->room.sid[0] != '\0' ? meeting->room.sid : meeting->slug;
  char key[sizeof meeting->claim];
  snprintf(key, sizeof key, "lk:room:%.50s:%.50s", life, last != NULL ? last->id : "");
  if (strcmp(key, meeting->claim) == 0 && room_now(meeting->livekit) < meeting->claimed_ns) {
    return 1;
  }
  uint64_t claimed_ns = after_ms(meeting, CLAIM_MS);
  enum vc_livekit_claim claim = room_claim(meeting->livekit, key, CLAIM_MS);
  if (claim == VC_LIVEKIT_OURS) {
    memcpy(meeting->claim, key, sizeof key);
    meeting->claimed_ns = claimed_ns;
  }
  return claim != VC_LIVEKIT_OTHERS;
}

// --- one too many

// It is looked again, then: there may be more.
static void stopped(void *context, const struct vc_post_answer *answer)
{
  struct meeting *meeting = context;
  char reason[REASON_MAX];
  if (call_end(meeting->livekit, &meeting->post, answer, reason) != 0 && !call_says_ended(answer)) {
    try_again(meeting, reason);
  } else {
    wait_ms(meeting, GOING_MS);
  }
}

static void stop(struct meeting *meeting, const struct vc_livekit_egress *surplus)
{
  struct vc_text text = {0};
  vc_log(VC_LOG_INFO, VC_EVENT("livekit.egress_stopped"), VC_STR("room", meeting->room.name),
         VC_STR("egress", surplus->id));
  room_count(meeting->livekit, EGRESS_STOPS);
  vc_livekit_print_stop(&text, surplus->id);
  if (call_start(meeting->livekit, &meeting->post, STOP_EGRESS, &text, stopped, meeting) != 0) {
    try_again(meeting, "no memory");
  }
}

// The node that began it stops it, when it looks at what it did. That node may be dead, or may not
// know that LiveKit began the one for whose answer it waited too long: then whoever sees it twice.
static void rid_of(struct meeting *meeting, const struct vc_livekit_egress *surplus)
{
  int was_seen = strcmp(surplus->id, meeting->surplus) == 0;
  memcpy(meeting->surplus, surplus->id, sizeof meeting->surplus);
  if (was_seen || strcmp(surplus->id, meeting->own) == 0) {
    stop(meeting, surplus);
  } else {
    wait_ms(meeting, SURPLUS_MS);
  }
}

// --- looking

static void log_leave(const struct meeting *meeting, const struct vc_livekit_egress *last)
{
  vc_log(VC_LOG_INFO, VC_EVENT("livekit.left"), VC_STR("room", meeting->room.name),
         VC_STR("egress", last->id),
         VC_STR("why", last->status == VC_LIVEKIT_COMPLETE ? "it was stopped"
                                                           : "it reached LiveKit's limit"));
}

static void act(struct meeting *meeting, const struct vc_livekit_egresses *egresses)
{
  const struct vc_livekit_egress *last;
  const struct known known = {.room = meeting->room.name,
                              .sid = meeting->room.sid,
                              .own = meeting->own,
                              .surplus = meeting->surplus,
                              .egresses = egresses};
  enum verdict verdict = decide(&known, &last);
  if (verdict == VERDICT_START && meeting->own[0] != '\0') {
    meeting->own[0] = '\0'; // it has failed already
    try_again(meeting, last != NULL && last->error[0] != '\0' ? last->error : "egress failed");
  } else if (verdict == VERDICT_START && !is_claimed(meeting, last)) {
    wait_ms(meeting, CLAIMED_MS);
  } else if (verdict == VERDICT_START) {
    start(meeting);
  } else if (verdict == VERDICT_STOP) {
    rid_of(meeting, last);
  } else if (verdict == VERDICT_WAIT) {
    wait_ms(meeting, GOING_MS);
  } else if (verdict == VERDICT_LEAVE) {
    log_leave(meeting, last);
    settle(meeting, PHASE_LEFT);
  } else {
    settle(meeting, PHASE_SERVED);
  }
}

static void egresses_listed(void *context, const struct vc_post_answer *answer)
{
  struct meeting *meeting = context;
  struct vc_livekit *livekit = meeting->livekit;
  struct vc_livekit_egresses egresses;
  char reason[REASON_MAX];
  const char *why = "";
  if (call_end(livekit, &meeting->post, answer, reason) != 0) {
    try_again(meeting, reason);
  } else if (vc_livekit_parse_egresses(answer->body, answer->size, livekit->ours, &egresses,
                                       &why) != 0) {
    try_again(meeting, why);
  } else {
    act(meeting, &egresses);
    free(egresses.items);
  }
}

static void rooms_listed(void *context, const struct vc_post_answer *answer)
{
  struct meeting *meeting = context;
  struct vc_livekit_rooms rooms;
  char reason[REASON_MAX];
  const char *why = "";
  if (call_end(meeting->livekit, &meeting->post, answer, reason) != 0) {
    try_again(meeting, reason);
    return;
  }
  if (vc_livekit_parse_rooms(answer->body, answer->size, &rooms, &why) != 0) {
    try_again(meeting, why);
    return;
  }
  int is_on = 0;
  for (size_t i = 0; i < rooms.n; i++) {
    if (strcmp(rooms.items[i].name, meeting->room.name) == 0) {
      is_on = 1;
      meeting->room = rooms.items[i];
    }
  }
  free(rooms.items);
  if (is_on) {
    meeting->on_ns = room_now(meeting->livekit);
    look(meeting);
  } else {
    meeting_forget(meeting);
  }
}

static void look(struct meeting *meeting)
{
  struct vc_livekit *livekit = meeting->livekit;
  struct vc_text text = {0};
  meeting->has_news = 0;
  int is_fresh =
      meeting->on_ns != 0 && room_now(livekit) - meeting->on_ns < FRESH_MS * VC_NS_PER_MS;
  if (is_fresh) {
    vc_livekit_print_list_egress(&text, meeting->room.name, 0);
  } else {
    vc_livekit_print_list_rooms(&text, meeting->room.name);
  }
  if (call_start(livekit, &meeting->post, is_fresh ? LIST_EGRESS : LIST_ROOMS, &text,
                 is_fresh ? egresses_listed : rooms_listed, meeting) != 0) {
    try_again(meeting, "no memory");
  }
}

void meetings_tick(struct vc_livekit *livekit)
{
  struct meeting *meeting, *next;
  HASH_ITER(hh, livekit->meetings, meeting, next)
  {
    if (meeting->due_ns == 0) {
      continue;
    }
    if (meeting->due_ns > room_now(livekit)) {
      vc_worker_wake_at(livekit->worker, meeting->due_ns);
    } else if (meeting->phase != PHASE_LOOKING) {
      meeting_forget(meeting);
    } else if (livekit->n_calls < VC_LIVEKIT_CALLS_MAX) {
      meeting->due_ns = 0;
      look(meeting);
    }
  }
}
