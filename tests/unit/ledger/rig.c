#include "rig.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <verbacast/wire/json.h>
#include <verbacast/wire/viewer.h>
#include <verbacast/wire/ws.h>

#define LINE 256

// --- the rig

static uint64_t now_ns(void *context)
{
  return ((struct rig *)context)->now_ns;
}

static int64_t unix_us(void *context)
{
  return ((struct rig *)context)->unix_us;
}

static struct vc_stage *make_inbox(struct rig *rig, uint32_t n_workers)
{
  struct vc_stage *stage;
  struct vc_stage_settings settings = {
      .ops = &hand_inbox, .n_workers = n_workers, .clock = &rig->clock};
  assert_int_equal(vc_stage_create(&stage, &settings, NULL), 0);
  return stage;
}

struct rig *rig_create(void (*change)(struct rig *rig))
{
  struct rig *rig = calloc(1, sizeof *rig);
  assert_non_null(rig);
  struct vc_error error;
  rig->now_ns = VC_NS_PER_S;
  rig->unix_us = RIG_UNIX_MS * 1000;
  rig->clock = (struct vc_clock){now_ns, unix_us, rig};
  rig->metrics = vc_metrics_create(&rig->clock);
  rig->health = vc_health_create(&rig->clock);
  rig->options = (struct vc_ledger_options){.dedup_window = 1000,
                                            .history_finals = 10000,
                                            .history_on_join = 50,
                                            .history_max_bytes = 256 * 1024 * 1024,
                                            .session_keep_ms = 600000,
                                            .max_sessions = 10000};
  rig->broadcast = make_inbox(rig, 2);
  rig->journal = make_inbox(rig, 1);
  rig->partials = make_inbox(rig, 1);
  rig->publisher = make_inbox(rig, 1);
  rig->watcher = make_inbox(rig, 1);
  rig->settings = (struct vc_ledger_settings){.options = &rig->options,
                                              .max_viewers = 1000,
                                              .node = "a1",
                                              .broadcast = rig->broadcast,
                                              .journal = rig->journal,
                                              .clock = &rig->clock,
                                              .metrics = rig->metrics,
                                              .health = rig->health};
  if (change != NULL) {
    change(rig);
  }
  assert_int_equal(vc_ledger_create(&rig->ledger, &rig->settings, &error), 0);
  rig->putter = vc_putter_create(rig->ledger);
  assert_int_equal(vc_stage_start(rig->ledger, &error), 0);
  return rig;
}

void rig_destroy(struct rig *rig)
{
  vc_stage_stop(rig->ledger, 1000);
  vc_stage_destroy(&rig->ledger);
  vc_stage_destroy(&rig->broadcast);
  vc_stage_destroy(&rig->journal);
  vc_stage_destroy(&rig->partials);
  vc_stage_destroy(&rig->publisher);
  vc_stage_destroy(&rig->watcher);
  vc_metrics_destroy(&rig->metrics);
  vc_health_destroy(&rig->health);
  free(rig);
}

void rig_turn(struct rig *rig)
{
  hand_turn(rig->ledger);
}

void rig_pass_ms(struct rig *rig, uint64_t ms)
{
  rig->now_ns += ms * VC_NS_PER_MS;
  rig->unix_us += (int64_t)ms * 1000;
  rig_turn(rig);
}

void rig_put(struct rig *rig, struct vc_item *item)
{
  assert_int_equal(vc_putter_put(rig->putter, 0, item), 0);
  rig_turn(rig);
}

uint64_t rig_count(struct rig *rig, const char *metric)
{
  uint64_t value;
  assert_int_equal(vc_metrics_counter(rig->metrics, metric, &value), 0);
  return value;
}

// --- results

static struct vc_result *result_create(struct rig *rig, struct vc_session *session,
                                       enum vc_result_kind kind)
{
  struct vc_result *result = vc_result_create(session, kind);
  assert_non_null(result);
  result->stt_ordinal = 1;
  result->received_ns = rig->now_ns;
  result->received_unix_us = rig->unix_us;
  return result;
}

struct vc_session *rig_open(struct rig *rig, const char *slug)
{
  return rig_open_of(rig, slug, "");
}

struct vc_session *rig_open_of(struct rig *rig, const char *slug, const char *participant)
{
  return rig_open_at(rig, slug, participant, rig->now_ns);
}

struct vc_session *rig_open_at(struct rig *rig, const char *slug, const char *participant,
                               uint64_t began_ns)
{
  struct vc_session *session =
      vc_session_create_of(slug, participant, ++rig->next_session, rig->unix_us / 1000);
  session->began_ns = began_ns;
  rig_put(rig, &result_create(rig, session, VC_RESULT_OPEN)->item);
  return session;
}

void rig_close(struct rig *rig, struct vc_session **session, enum vc_close_reason reason)
{
  struct vc_result *result = result_create(rig, *session, VC_RESULT_CLOSE);
  result->close_reason = reason;
  rig_put(rig, &result->item);
  vc_session_unref(*session);
  *session = NULL;
}

void rig_hear(struct rig *rig, struct vc_session *session, uint32_t ordinal,
              const struct vc_utterance *utterance)
{
  struct vc_result *result = result_create(rig, session, VC_RESULT_UTTERANCE);
  result->stt_ordinal = ordinal;
  result->utterance = vc_utterance_create(utterance);
  rig_put(rig, &result->item);
}

static void hear(struct rig *rig, struct vc_session *session, const char *id, const char *text,
                 int is_final)
{
  rig_hear(rig, session, 1,
           &(struct vc_utterance){.id = id,
                                  .text = text,
                                  .language = "en",
                                  .start_s = 1.5,
                                  .end_s = 2.25,
                                  .confidence = NAN,
                                  .is_final = is_final});
}

void rig_partial(struct rig *rig, struct vc_session *session, const char *id, const char *text)
{
  hear(rig, session, id, text, 0);
}

void rig_final(struct rig *rig, struct vc_session *session, const char *id, const char *text)
{
  hear(rig, session, id, text, 1);
}

void rig_retract(struct rig *rig, struct vc_session *session, const char *id)
{
  struct vc_result *result = result_create(rig, session, VC_RESULT_RETRACT);
  snprintf(result->utterance_id, sizeof result->utterance_id, "%s", id);
  rig_put(rig, &result->item);
}

void rig_state(struct rig *rig, struct vc_session *session, enum vc_state state, const char *reason)
{
  struct vc_result *result = result_create(rig, session, VC_RESULT_STATE);
  result->state = state;
  snprintf(result->reason, sizeof result->reason, "%s", reason);
  rig_put(rig, &result->item);
}

// --- viewers

uint64_t rig_join(struct rig *rig, const char *slug)
{
  return rig_join_since(rig, slug, 0, 0, 0);
}

uint64_t rig_join_since(struct rig *rig, const char *slug, uint32_t worker, int64_t epoch,
                        uint64_t seq)
{
  struct vc_join *join = vc_join_create(slug);
  join->worker = worker;
  uint64_t viewer = ++rig->next_viewer;
  join->viewer_id = viewer;
  join->since = (struct vc_position){epoch, seq};
  rig_put(rig, &join->item);
  return viewer;
}

void rig_catch_up(struct rig *rig, const char *slug, uint64_t viewer, int64_t epoch, uint64_t seq)
{
  struct vc_catch_up *catch_up = vc_catch_up_create(slug);
  catch_up->viewer_id = viewer;
  catch_up->position = (struct vc_position){epoch, seq};
  rig_put(rig, &catch_up->item);
}

void rig_leave(struct rig *rig, const char *slug, uint32_t worker, uint64_t viewer)
{
  struct vc_leave *leave = vc_leave_create(slug);
  leave->worker = worker;
  leave->viewer_id = viewer;
  rig_put(rig, &leave->item);
}

struct vc_query *rig_ask(struct rig *rig, enum vc_query_kind kind, const char *slug)
{
  struct vc_query *query = vc_query_create(kind, slug);
  rig_put(rig, vc_query_item(query));
  assert_int_equal(vc_query_wait(query, 0), 0);
  return query;
}

// --- what came out, in words

static const char *epoch_text(int64_t epoch, char text[32])
{
  if (epoch == 0) {
    return "e-";
  }
  snprintf(text, 32, "e%lld", (long long)(epoch - RIG_UNIX_MS));
  return text;
}

static void describe_transcript(const json_t *root, const char *at, char line[LINE])
{
  int is_final = vc_json_true(root, "isFinal");
  assert_int_equal(is_final, json_is_array(json_object_get(root, "words")) ||
                                 json_is_null(json_object_get(root, "words")));
  assert_true(vc_json_real(root, "end", -1) >= vc_json_real(root, "start", 0));
  snprintf(line, LINE, "%s %s %s %s", is_final ? "final" : "partial", at,
           vc_json_string(root, "utteranceId", "?"), vc_json_string(root, "text", "?"));
}

static void describe_json(const json_t *root, char line[LINE])
{
  char epoch[32], at[64];
  const char *type = vc_json_string(root, "type", "?");
  const char *reason = vc_json_string(root, "reason", "");
  const char *space = reason[0] != '\0' ? " " : "";
  const char *e = epoch_text(vc_json_integer(root, "epoch", -1), epoch);
  snprintf(at, sizeof at, "%s#%lld", e, vc_json_integer(root, "seq", -1));
  if (strcmp(type, "transcript") == 0) {
    describe_transcript(root, at, line);
  } else if (strcmp(type, "retract") == 0) {
    snprintf(line, LINE, "retract %s %s", at, vc_json_string(root, "utteranceId", "?"));
  } else if (strcmp(type, "gap") == 0) {
    snprintf(line, LINE, "gap %s %lld-%lld", e, vc_json_integer(root, "from", -1),
             vc_json_integer(root, "to", 0));
  } else {
    snprintf(line, LINE, "%s %s %s%s%s", type, at, vc_json_string(root, "state", ""), space,
             reason);
  }
}

void rig_describe(const struct vc_message *message, char line[LINE])
{
  const char *why = "";
  const struct vc_buffer *frame = message->frame;
  assert_int_equal(frame->data[0], 0x81); // a whole text frame
  json_t *root = vc_json_parse((const char *)frame->data + message->json_offset,
                               frame->size - message->json_offset, &why);
  assert_non_null(root);
  describe_json(root, line);
  if (message->kind != VC_MESSAGE_GAP) {
    assert_int_equal(vc_json_integer(root, "epoch", -1), message->epoch);
    assert_int_equal(vc_json_integer(root, "seq", -1), message->seq);
  }
  json_decref(root);
}

struct lines {
  char (*at)[LINE];
  size_t n, capacity;
};

__attribute__((format(printf, 2, 3))) static void add_line(struct lines *lines, const char *format,
                                                           ...)
{
  va_list arguments;
  if (lines->n == lines->capacity) {
    lines->capacity = lines->capacity * 2 + 16;
    lines->at = realloc(lines->at, lines->capacity * LINE);
    assert_non_null(lines->at);
  }
  va_start(arguments, format);
  vsnprintf(lines->at[lines->n++], LINE, format, arguments);
  va_end(arguments);
}

static void add_answer(struct lines *lines, const struct vc_answer *answer)
{
  char epoch[32], line[LINE];
  if (answer->is_refused) {
    add_line(lines, "answer %llu refused", (unsigned long long)answer->viewer_id);
  } else if (answer->is_last) {
    add_line(lines, "answer %llu last %s#%llu", (unsigned long long)answer->viewer_id,
             epoch_text(answer->live_from.epoch, epoch), (unsigned long long)answer->live_from.seq);
  } else {
    add_line(lines, "answer %llu more", (unsigned long long)answer->viewer_id);
  }
  for (size_t i = 0; i < answer->n_messages; i++) {
    rig_describe(answer->messages[i], line);
    add_line(lines, "- %.*s", LINE - 8, line);
  }
}

// Returns: when the session began, as it says.
static int64_t add_item(struct lines *lines, struct vc_item *item)
{
  char line[LINE];
  int64_t began_ms;
  if (item->kind == VC_ITEM_LIVE) {
    const struct vc_live *live = (const struct vc_live *)item;
    began_ms = live->began_ms;
    rig_describe(live->message, line);
    add_line(lines, "live%s %.*s", live->is_after_loss ? "!" : "", LINE - 8, line);
  } else {
    assert_int_equal(item->kind, VC_ITEM_ANSWER);
    began_ms = ((const struct vc_answer *)item)->began_ms;
    add_answer(lines, (const struct vc_answer *)item);
  }
  vc_item_destroy(item);
  return began_ms;
}

static void compare(struct lines *lines, va_list expected)
{
  size_t i = 0;
  const char *line;
  while ((line = va_arg(expected, const char *)) != NULL) {
    if (i == lines->n) {
      fail_msg("missing: %s", line);
    }
    assert_string_equal(lines->at[i], line);
    i++;
  }
  if (i < lines->n) {
    fail_msg("not expected: %s", lines->at[i]);
  }
  free(lines->at);
}

void rig_expect(struct rig *rig, uint32_t worker, ...)
{
  struct lines lines = {0};
  struct vc_item *item;
  while ((item = hand_take(rig->broadcast, worker)) != NULL) {
    rig->began_ms = add_item(&lines, item);
  }
  va_list expected;
  va_start(expected, worker);
  compare(&lines, expected);
  va_end(expected);
}

void rig_skip(struct rig *rig, uint32_t worker)
{
  struct vc_item *item;
  while ((item = hand_take(rig->broadcast, worker)) != NULL) {
    vc_item_destroy(item);
  }
}

void rig_expect_records(struct rig *rig, ...)
{
  static const char *const kinds[] = {"final", "started", "ended"};
  struct lines lines = {0};
  struct vc_item *item;
  char epoch[32];
  while ((item = hand_take(rig->journal, 0)) != NULL) {
    const struct vc_record *record = (const struct vc_record *)item;
    assert_int_equal(item->kind, VC_ITEM_RECORD);
    const char *e = epoch_text(record->epoch, epoch);
    if (record->kind == VC_RECORD_FINAL) {
      add_line(&lines, "final %s %s#%llu", record->slug, e, (unsigned long long)record->seq);
    } else {
      add_line(&lines, "%s %s %s", kinds[record->kind], record->slug, e);
    }
    vc_item_destroy(item);
  }
  va_list expected;
  va_start(expected, rig);
  compare(&lines, expected);
  va_end(expected);
}

// --- other nodes

static int taken_over(void *context, const char *slug)
{
  struct rig *rig = context;
  snprintf(rig->taken_over, sizeof rig->taken_over, "%s", slug);
  rig->n_taken_over++;
  return rig->is_ingest_full;
}

void rig_with_fleet(struct rig *rig)
{
  rig->settings.publisher = rig->publisher;
  rig->settings.watcher = rig->watcher;
  rig->settings.session_resume_ms = 30000;
  rig->settings.take_over = taken_over;
  rig->settings.context = rig;
}

void rig_remote(struct rig *rig, enum vc_remote_kind kind, const char *slug, int64_t epoch,
                uint64_t seq)
{
  struct vc_remote *remote = vc_remote_create(kind, slug);
  assert_non_null(remote);
  remote->epoch = epoch;
  remote->seq = seq;
  rig_put(rig, &remote->item);
}

void rig_remote_owned_late(struct rig *rig, const char *slug, int64_t epoch)
{
  struct vc_remote *remote = vc_remote_create(VC_REMOTE_OWNED, slug);
  assert_non_null(remote);
  remote->epoch = epoch;
  remote->is_after_loss = 1;
  rig_put(rig, &remote->item);
}

static void put_range(struct rig *rig, struct vc_remote *remote, int64_t epoch, uint64_t seq,
                      uint64_t to)
{
  assert_non_null(remote);
  remote->epoch = epoch;
  remote->seq = seq;
  remote->to = to;
  rig_put(rig, &remote->item);
}

void rig_remote_given_up(struct rig *rig, const char *slug, int64_t epoch, uint64_t seq,
                         uint64_t theirs)
{
  put_range(rig, vc_remote_create(VC_REMOTE_GIVEN_UP, slug), epoch, seq, theirs);
}

void rig_remote_gap(struct rig *rig, const char *slug, int64_t epoch, uint64_t from, uint64_t to)
{
  put_range(rig, vc_remote_create(VC_REMOTE_GAP, slug), epoch, from, to);
}

static void print_remote(struct vc_text *into, const struct vc_message *message, const char *text)
{
  const struct vc_utterance utterance = {.is_final = message->kind == VC_MESSAGE_FINAL,
                                         .text = text,
                                         .language = "",
                                         .confidence = NAN};
  switch (message->kind) {
  case VC_MESSAGE_HELLO:
    vc_viewer_print_hello(into, &(struct vc_viewer_hello){message->slug, message->epoch,
                                                          message->seq, text, NULL, "b2"});
    break;
  case VC_MESSAGE_STATUS:
    vc_viewer_print_status(into, message->slug, message->epoch, message->seq, text, NULL);
    break;
  case VC_MESSAGE_END:
    vc_viewer_print_end(into, message->slug, message->epoch, message->seq, text);
    break;
  case VC_MESSAGE_RETRACT:
    vc_viewer_print_retract(into, message->slug, message->epoch, message->seq,
                            message->utterance_id);
    break;
  default:
    vc_viewer_print_transcript(into,
                               &(struct vc_viewer_transcript){.session = message->slug,
                                                              .epoch = message->epoch,
                                                              .seq = message->seq,
                                                              .utterance_id = message->utterance_id,
                                                              .utterance = &utterance});
    break;
  }
}

static enum vc_state state_of(const char *text)
{
  for (int state = VC_STATE_IDLE; state <= VC_STATE_UNKNOWN; state++) {
    if (strcmp(vc_state_text((enum vc_state)state), text) == 0) {
      return (enum vc_state)state;
    }
  }
  fail_msg("no state: %s", text);
  return VC_STATE_IDLE;
}

void rig_remote_say(struct rig *rig, enum vc_message_kind kind, const char *slug, int64_t epoch,
                    uint64_t seq, const char *id, const char *text)
{
  struct vc_remote *remote = vc_remote_create(VC_REMOTE_MESSAGE, slug);
  struct vc_message *message = vc_message_create(kind, slug);
  struct vc_text frame = {0};
  assert_true(remote != NULL && message != NULL);
  message->epoch = epoch;
  message->seq = seq;
  remote->epoch = epoch;
  remote->started_unix_ms = rig->remote_started_ms;
  message->is_after_loss = rig->says_after_loss && kind == VC_MESSAGE_HELLO;
  if (id != NULL) {
    snprintf(message->utterance_id, sizeof message->utterance_id, "%s", id);
    message->utterance_hash = vc_slug_hash(id, strlen(id)) + UINT64_C(1);
  }
  print_remote(&frame, message, text);
  message->frame = vc_ws_frame_create(VC_WS_TEXT, frame.at, frame.size, &message->json_offset);
  assert_non_null(message->frame);
  vc_text_fini(&frame);
  remote->message = message;
  if (kind == VC_MESSAGE_HELLO || kind == VC_MESSAGE_STATUS) {
    remote->state = state_of(text);
  } else if (kind == VC_MESSAGE_END) {
    remote->state = VC_STATE_ENDED;
    snprintf(remote->reason, sizeof remote->reason, "%s", text);
  }
  rig_put(rig, &remote->item);
}

static const char *after_loss(const struct vc_message *message)
{
  return message->is_after_loss ? " after loss" : "";
}

static void add_fleet(struct lines *lines, const struct vc_fleet *fleet)
{
  static const char *const kinds[] = {"claim",  "message", "history", "release",
                                      "orphan", "watch",   "unwatch"};
  char line[LINE], epoch[32], floor[32];
  const char *kind = kinds[fleet->kind], *e = epoch_text(fleet->position.epoch, epoch);
  unsigned long long seq = fleet->position.seq;
  switch (fleet->kind) {
  case VC_FLEET_CLAIM:
    add_line(lines, "claim %s %s#%llu floor %s%s", fleet->slug, e, seq,
             epoch_text(fleet->epoch_floor, floor), fleet->is_over ? " over" : "");
    break;
  case VC_FLEET_WATCH:
    add_line(lines, "watch %s %s#%llu%s", fleet->slug, e, seq, fleet->is_over ? " over" : "");
    break;
  case VC_FLEET_UNWATCH:
    add_line(lines, "unwatch %s", fleet->slug);
    break;
  case VC_FLEET_RELEASE:
    add_line(lines, "release %s %s#%llu%s", fleet->slug, e, seq, fleet->is_last ? "" : " unsaid");
    break;
  case VC_FLEET_HISTORY:
    add_line(lines, "history %s behind %s#%llu%s", fleet->slug, e, seq,
             fleet->is_last ? " last" : "");
    for (size_t i = 0; i < fleet->n_messages; i++) {
      rig_describe(fleet->messages[i], line);
      add_line(lines, "- %.*s%s", LINE - 32, line, after_loss(fleet->messages[i]));
    }
    break;
  case VC_FLEET_ORPHAN:
    assert_int_equal(fleet->n_messages, 1);
    rig_describe(fleet->messages[0], line);
    add_line(lines, "orphan %.*s behind %s#%llu, says #%llu", LINE - 96, line, e, seq,
             (unsigned long long)fleet->messages[0]->prev_final);
    break;
  case VC_FLEET_MESSAGE:
    assert_int_equal(fleet->n_messages, 1);
    rig_describe(fleet->messages[0], line);
    add_line(lines, "%s %.*s%s", kind, LINE - 32, line, after_loss(fleet->messages[0]));
    break;
  }
}

static void take_fleet(struct lines *lines, struct vc_stage *stage)
{
  struct vc_item *item;
  while ((item = hand_take(stage, 0)) != NULL) {
    assert_int_equal(item->kind, VC_ITEM_FLEET);
    add_fleet(lines, (const struct vc_fleet *)item);
    vc_item_destroy(item);
  }
}

void rig_expect_watcher(struct rig *rig, ...)
{
  struct lines lines = {0};
  take_fleet(&lines, rig->watcher);
  va_list expected;
  va_start(expected, rig);
  compare(&lines, expected);
  va_end(expected);
}

void rig_expect_publisher(struct rig *rig, ...)
{
  struct lines lines = {0};
  take_fleet(&lines, rig->publisher);
  va_list expected;
  va_start(expected, rig);
  compare(&lines, expected);
  va_end(expected);
}
