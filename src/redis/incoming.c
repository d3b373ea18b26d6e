// What another node wrote becomes what the ledger takes.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <verbacast/wire/ws.h>

#include "watch.h"

static enum vc_message_kind kind_of(enum vc_envelope_kind kind)
{
  static const enum vc_message_kind kinds[] = {
      [VC_ENVELOPE_HELLO] = VC_MESSAGE_HELLO,   [VC_ENVELOPE_PARTIAL] = VC_MESSAGE_PARTIAL,
      [VC_ENVELOPE_FINAL] = VC_MESSAGE_FINAL,   [VC_ENVELOPE_RETRACT] = VC_MESSAGE_RETRACT,
      [VC_ENVELOPE_STATUS] = VC_MESSAGE_STATUS, [VC_ENVELOPE_END] = VC_MESSAGE_END,
  };
  return kinds[kind];
}

static enum vc_state state_of(const struct vc_envelope_parsed *envelope)
{
  if (envelope->kind == VC_ENVELOPE_END) {
    return VC_STATE_ENDED;
  }
  for (int state = VC_STATE_IDLE; state < VC_STATE_UNKNOWN; state++) {
    if (strcmp(envelope->state, vc_state_text((enum vc_state)state)) == 0) {
      return (enum vc_state)state;
    }
  }
  return VC_STATE_UNKNOWN;
}

// FNV-1a; 0 is no utterance's.
static uint64_t hash_of(const char *id)
{
  uint64_t hash = UINT64_C(0xcbf29ce484222325);
  for (; *id != '\0'; id++) {
    hash = (hash ^ (unsigned char)*id) * UINT64_C(0x100000001b3);
  }
  return hash != 0 ? hash : 1;
}

static struct vc_message *build(const struct vc_envelope_parsed *envelope, const char *slug)
{
  const struct vc_envelope *fields = &envelope->fields;
  struct vc_message *message = vc_message_create(kind_of(envelope->kind), slug);
  if (message == NULL) {
    return NULL;
  }
  message->epoch = fields->epoch;
  message->seq = fields->seq;
  message->prev_final = fields->prev_final;
  message->received_unix_us = fields->received_at_us;
  message->is_after_loss = fields->is_after_loss;
  snprintf(message->utterance_id, sizeof message->utterance_id, "%s", envelope->utterance_id);
  message->utterance_hash = envelope->utterance_id[0] != '\0' ? hash_of(envelope->utterance_id) : 0;
  message->frame =
      vc_ws_frame_create(VC_WS_TEXT, fields->frame, fields->frame_size, &message->json_offset);
  if (message->frame == NULL) {
    vc_message_unref(message);
    return NULL;
  }
  return message;
}

static struct vc_remote *wrap(const struct vc_envelope_parsed *envelope, const char *slug)
{
  struct vc_remote *remote = vc_remote_create(VC_REMOTE_MESSAGE, slug);
  if (remote == NULL) {
    return NULL;
  }
  snprintf(remote->node, sizeof remote->node, "%s", envelope->fields.node);
  snprintf(remote->reason, sizeof remote->reason, "%s", envelope->reason);
  remote->epoch = envelope->fields.epoch;
  remote->started_unix_ms = envelope->fields.started_at_ms;
  remote->state = state_of(envelope);
  remote->message = build(envelope, slug);
  if (remote->message == NULL) {
    vc_item_destroy(&remote->item);
    return NULL;
  }
  return remote;
}

int incoming_parse(const char *text, size_t size, const char *slug, struct vc_remote **remote,
                   struct vc_error *error)
{
  struct vc_envelope_parsed envelope;
  *remote = NULL;
  int status = vc_envelope_parse(text, size, slug, &envelope, error);
  if (status != 0) {
    return status;
  }
  *remote = wrap(&envelope, slug);
  vc_envelope_parsed_fini(&envelope);
  return *remote != NULL ? 0 : VC_FLEET_NO_MEMORY;
}
