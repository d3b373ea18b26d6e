#include <verbacast/flow/chunk.h>
#include <verbacast/flow/message.h>
#include <verbacast/flow/packet.h>
#include <verbacast/flow/query.h>
#include <verbacast/flow/record.h>
#include <verbacast/flow/remote.h>
#include <verbacast/flow/result.h>
#include <verbacast/flow/viewer.h>

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static void copy_slug(char to[VC_SLUG_MAX + 1], const char *slug)
{
  size_t size = strlen(slug);
  assert(size <= VC_SLUG_MAX);
  memcpy(to, slug, size + 1);
}

const char *vc_close_reason_text(enum vc_close_reason reason)
{
  static const char *const texts[] = {"publisher_left", "shutdown", "kicked", "owner_lost",
                                      "taken_over"};
  return texts[reason];
}

int vc_close_reason_is_owner_lost(const char *text)
{
  return strcmp(text, vc_close_reason_text(VC_CLOSE_OWNER_LOST)) == 0;
}

const char *vc_state_text(enum vc_state state)
{
  static const char *const texts[] = {"idle",     "live",  "reconnecting",
                                      "stt_down", "ended", "unknown"};
  return texts[state];
}

struct vc_packet *vc_packet_create(struct vc_session *session, enum vc_turn turn)
{
  struct vc_packet *packet = calloc(1, sizeof *packet);
  if (packet != NULL) {
    packet->item.kind = VC_ITEM_PACKET;
    packet->session = vc_session_ref(session);
    packet->turn = turn;
  }
  return packet;
}

void vc_packet_destroy(struct vc_packet **packet)
{
  if (*packet != NULL) {
    vc_session_unref((*packet)->session);
    vc_buffer_unref((*packet)->data);
    free(*packet);
    *packet = NULL;
  }
}

struct vc_chunk *vc_chunk_create(struct vc_session *session, enum vc_turn turn)
{
  struct vc_chunk *chunk = calloc(1, sizeof *chunk);
  if (chunk != NULL) {
    chunk->item.kind = VC_ITEM_CHUNK;
    chunk->session = vc_session_ref(session);
    chunk->turn = turn;
  }
  return chunk;
}

void vc_chunk_destroy(struct vc_chunk **chunk)
{
  if (*chunk != NULL) {
    vc_session_unref((*chunk)->session);
    vc_buffer_unref((*chunk)->pcm);
    free(*chunk);
    *chunk = NULL;
  }
}

struct vc_result *vc_result_create(struct vc_session *session, enum vc_result_kind kind)
{
  struct vc_result *result = calloc(1, sizeof *result);
  if (result != NULL) {
    result->item.kind = VC_ITEM_RESULT;
    result->session = vc_session_ref(session);
    result->kind = kind;
  }
  return result;
}

void vc_result_destroy(struct vc_result **result)
{
  if (*result != NULL) {
    vc_session_unref((*result)->session);
    vc_utterance_destroy(&(*result)->utterance);
    free(*result);
    *result = NULL;
  }
}

struct vc_message *vc_message_create(enum vc_message_kind kind, const char *slug)
{
  struct vc_message *message = calloc(1, sizeof *message);
  if (message != NULL) {
    atomic_init(&message->n_refs, 1);
    message->kind = kind;
    copy_slug(message->slug, slug);
  }
  return message;
}

struct vc_message *vc_message_ref(struct vc_message *message)
{
  if (message != NULL) {
    atomic_fetch_add_explicit(&message->n_refs, 1, memory_order_relaxed);
  }
  return message;
}

int vc_message_begin(struct vc_message *message)
{
  return atomic_exchange_explicit(&message->is_begun, 1, memory_order_relaxed) == 0;
}

int vc_message_is_kept(const struct vc_message *message)
{
  return message->kind == VC_MESSAGE_FINAL || message->kind == VC_MESSAGE_STATUS ||
         message->kind == VC_MESSAGE_END;
}

void vc_message_unref(struct vc_message *message)
{
  if (message != NULL &&
      atomic_fetch_sub_explicit(&message->n_refs, 1, memory_order_acq_rel) == 1) {
    vc_buffer_unref(message->record);
    vc_buffer_unref(message->frame);
    free(message);
  }
}

struct vc_live *vc_live_create(struct vc_message *message)
{
  struct vc_live *live = calloc(1, sizeof *live);
  if (live != NULL) {
    live->item.kind = VC_ITEM_LIVE;
    live->message = vc_message_ref(message);
  }
  return live;
}

struct vc_join *vc_join_create(const char *slug)
{
  struct vc_join *join = calloc(1, sizeof *join);
  if (join != NULL) {
    join->item.kind = VC_ITEM_JOIN;
    copy_slug(join->slug, slug);
  }
  return join;
}

struct vc_catch_up *vc_catch_up_create(const char *slug)
{
  struct vc_catch_up *catch_up = calloc(1, sizeof *catch_up);
  if (catch_up != NULL) {
    catch_up->item.kind = VC_ITEM_CATCH_UP;
    copy_slug(catch_up->slug, slug);
  }
  return catch_up;
}

struct vc_leave *vc_leave_create(const char *slug)
{
  struct vc_leave *leave = calloc(1, sizeof *leave);
  if (leave != NULL) {
    leave->item.kind = VC_ITEM_LEAVE;
    copy_slug(leave->slug, slug);
  }
  return leave;
}

struct vc_answer *vc_answer_create(const char *slug)
{
  struct vc_answer *answer = calloc(1, sizeof *answer);
  if (answer != NULL) {
    answer->item.kind = VC_ITEM_ANSWER;
    copy_slug(answer->slug, slug);
  }
  return answer;
}

static void answer_destroy(struct vc_answer *answer)
{
  for (size_t i = 0; i < answer->n_messages; i++) {
    vc_message_unref(answer->messages[i]);
  }
  free(answer);
}

static void live_destroy(struct vc_live *live)
{
  vc_message_unref(live->message);
  free(live);
}

struct vc_record *vc_record_create(enum vc_record_kind kind, const char *slug)
{
  struct vc_record *record = calloc(1, sizeof *record);
  if (record != NULL) {
    record->item.kind = VC_ITEM_RECORD;
    record->kind = kind;
    copy_slug(record->slug, slug);
  }
  return record;
}

void vc_record_destroy(struct vc_record **record)
{
  if (*record != NULL) {
    vc_buffer_unref((*record)->value);
    free(*record);
    *record = NULL;
  }
}

struct vc_remote *vc_remote_create(enum vc_remote_kind kind, const char *slug)
{
  struct vc_remote *remote = calloc(1, sizeof *remote);
  if (remote != NULL) {
    remote->item.kind = VC_ITEM_REMOTE;
    remote->kind = kind;
    copy_slug(remote->slug, slug);
  }
  return remote;
}

static void remote_destroy(struct vc_remote *remote)
{
  vc_message_unref(remote->message);
  free(remote);
}

struct vc_fleet *vc_fleet_create(enum vc_fleet_kind kind, const char *slug, size_t most)
{
  struct vc_fleet *fleet = calloc(1, sizeof *fleet + most * sizeof fleet->messages[0]);
  if (fleet != NULL) {
    fleet->item.kind = VC_ITEM_FLEET;
    fleet->kind = kind;
    fleet->most = most;
    copy_slug(fleet->slug, slug);
  }
  return fleet;
}

void vc_fleet_add(struct vc_fleet *fleet, struct vc_message *message)
{
  assert(fleet->n_messages < fleet->most);
  fleet->messages[fleet->n_messages++] = vc_message_ref(message);
}

static void fleet_destroy(struct vc_fleet *fleet)
{
  for (size_t i = 0; i < fleet->n_messages; i++) {
    vc_message_unref(fleet->messages[i]);
  }
  free(fleet);
}

// An item is the first member of its noun.
void vc_item_destroy(struct vc_item *item)
{
  if (item == NULL) {
    return;
  }
  void *noun = item;
  switch (item->kind) {
  case VC_ITEM_PACKET:
    vc_packet_destroy(&(struct vc_packet *){noun});
    break;
  case VC_ITEM_CHUNK:
    vc_chunk_destroy(&(struct vc_chunk *){noun});
    break;
  case VC_ITEM_RESULT:
    vc_result_destroy(&(struct vc_result *){noun});
    break;
  case VC_ITEM_LIVE:
    live_destroy(noun);
    break;
  case VC_ITEM_ANSWER:
    answer_destroy(noun);
    break;
  case VC_ITEM_JOIN:
  case VC_ITEM_CATCH_UP:
  case VC_ITEM_LEAVE:
    free(noun);
    break;
  case VC_ITEM_QUERY:
    vc_query_drop(vc_query_of(item));
    break;
  case VC_ITEM_RECORD:
    vc_record_destroy(&(struct vc_record *){noun});
    break;
  case VC_ITEM_REMOTE:
    remote_destroy(noun);
    break;
  case VC_ITEM_FLEET:
    fleet_destroy(noun);
    break;
  case VC_ITEM_OWNED:
    ((struct vc_owned_item *)noun)->destroy(item);
    break;
  }
}
