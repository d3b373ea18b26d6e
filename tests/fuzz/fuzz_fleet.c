// What another node may have written: what was taken is printed and read again as the same, its
// frame is JSON of its own, and the record of a final is one.
#include <verbacast/wire/fleet.h>
#include <verbacast/wire/json.h>
#include <verbacast/wire/record.h>

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_frame(const struct vc_envelope_parsed *envelope)
{
  json_t *root = vc_json_parse(envelope->fields.frame, envelope->fields.frame_size, NULL);
  assert(root != NULL && json_equal(root, envelope->json));
  json_decref(root);
}

static void print_again(const struct vc_envelope_parsed *envelope)
{
  struct vc_text text = {0};
  struct vc_envelope_parsed again;
  const struct vc_envelope *a = &envelope->fields, *b = &again.fields;
  vc_envelope_print(&text, a);
  assert(!text.has_failed);
  assert(vc_envelope_parse(text.at, text.size, "demo", &again, NULL) == 0);
  assert(again.kind == envelope->kind && strcmp(a->node, b->node) == 0);
  assert(a->epoch == b->epoch && a->seq == b->seq && a->prev_final == b->prev_final);
  assert(a->started_at_ms == b->started_at_ms && a->received_at_us == b->received_at_us);
  assert(a->frame_size == b->frame_size && memcmp(a->frame, b->frame, a->frame_size) == 0);
  vc_envelope_parsed_fini(&again);
  vc_text_fini(&text);
}

static void check_record(const struct vc_envelope_parsed *envelope)
{
  struct vc_text text = {0};
  struct vc_record_parsed record;
  const char *why = NULL;
  assert(vc_envelope_print_record(&text, envelope) == 0);
  assert(vc_record_parse(text.at, text.size, &record, &why) == 0);
  assert(record.fields.seq == envelope->fields.seq);
  assert(strcmp(record.fields.utterance_id, envelope->utterance_id) == 0);
  vc_record_parsed_fini(&record);
  vc_text_fini(&text);
}

static void read_envelope(const char *text, size_t size)
{
  struct vc_envelope_parsed envelope;
  struct vc_error error = {.text = ""};
  if (vc_envelope_parse(text, size, "demo", &envelope, &error) != 0) {
    assert(error.text[0] != '\0' && envelope.root == NULL);
    return;
  }
  check_frame(&envelope);
  print_again(&envelope);
  if (envelope.kind == VC_ENVELOPE_FINAL) {
    check_record(&envelope);
  }
  vc_envelope_parsed_fini(&envelope);
}

static void read_small(const char *text, size_t size)
{
  struct vc_ctl ctl;
  struct vc_owner owner;
  int64_t epoch;
  uint64_t seq;
  if (vc_ctl_parse(text, size, &ctl, NULL) == 0) {
    assert(ctl.node[0] != '\0' && strlen(ctl.node) <= VC_NODE_MAX && ctl.epoch >= 0);
  }
  if (vc_owner_parse(text, size, &owner, NULL) == 0) {
    assert(owner.node[0] != '\0' && strlen(owner.node) <= VC_NODE_MAX && owner.epoch > 0);
  }
  if (vc_envelope_parse_id(text, size, &epoch, &seq) == 0) {
    assert(epoch > 0);
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  read_envelope((const char *)data, size);
  read_small((const char *)data, size);
  return 0;
}
