// What another node wrote becomes what the ledger takes: all of it, or nothing.
#include "node.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "no_memory.h"
#include "watch.h"

static struct vc_text text;

static void write_message(char letter, uint64_t seq, uint64_t prev)
{
  struct vc_message *message = node_message("other", "demo", letter, 5, seq, prev);
  text.size = 0;
  vc_envelope_print(&text, &(struct vc_envelope){
                               .node = "other",
                               .epoch = 5,
                               .seq = seq,
                               .prev_final = prev,
                               .started_at_ms = 1000,
                               .received_at_us = 2000000,
                               .frame = (const char *)message->frame->data + message->json_offset,
                               .frame_size = message->frame->size - message->json_offset});
  vc_message_unref(message);
}

static void test_all_kinds(void **state)
{
  static const struct {
    char letter;
    enum vc_message_kind kind;
    enum vc_state state;
    const char *reason;
  } rows[] = {{'h', VC_MESSAGE_HELLO, VC_STATE_LIVE, ""},
              {'p', VC_MESSAGE_PARTIAL, VC_STATE_UNKNOWN, ""},
              {'f', VC_MESSAGE_FINAL, VC_STATE_UNKNOWN, ""},
              {'r', VC_MESSAGE_RETRACT, VC_STATE_UNKNOWN, ""},
              {'s', VC_MESSAGE_STATUS, VC_STATE_STT_DOWN, "HTTP 401"},
              {'e', VC_MESSAGE_END, VC_STATE_ENDED, "publisher_left"}};
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
    struct vc_remote *remote;
    uint64_t seq = rows[i].letter == 'h' ? 0 : 7;
    write_message(rows[i].letter, seq, seq > 0 ? 3 : 0);
    assert_int_equal(incoming_parse(text.at, text.size, "demo", &remote, NULL), 0);
    assert_int_equal(remote->kind, VC_REMOTE_MESSAGE);
    assert_int_equal(remote->started_unix_ms, 1000);
    assert_string_equal(remote->slug, "demo");
    assert_int_equal(remote->message->kind, rows[i].kind);
    assert_int_equal(remote->message->seq, seq);
    assert_int_equal(remote->state, rows[i].state);
    assert_string_equal(remote->reason, rows[i].reason);
    vc_item_destroy(&remote->item);
  }
}

// A partial, its final and its retract are of one utterance; another's are not.
static void test_utterances_are_told_apart(void **state)
{
  uint64_t hashes[3];
  const struct {
    char letter;
    uint64_t seq;
  } rows[] = {{'p', 1}, {'r', 5}, {'p', 2}};
  for (size_t i = 0; i < 3; i++) {
    struct vc_remote *remote;
    write_message(rows[i].letter, rows[i].seq, 0);
    assert_int_equal(incoming_parse(text.at, text.size, "demo", &remote, NULL), 0);
    hashes[i] = remote->message->utterance_hash;
    vc_item_destroy(&remote->item);
  }
  assert_true(hashes[0] != 0 && hashes[0] == hashes[1] && hashes[0] != hashes[2]);
}

static void parse(void)
{
  struct vc_remote *remote = NULL;
  int status = incoming_parse(text.at, text.size, "demo", &remote, NULL);
  assert_int_equal(status, memory_has_failed ? VC_FLEET_NO_MEMORY : 0);
  assert_true((remote == NULL) == (status != 0));
  vc_item_destroy(remote != NULL ? &remote->item : NULL);
}

static void test_without_memory_it_says_so(void **state)
{
  write_message('f', 7, 3);
  assert_true(memory_fail_each(parse) > 20);
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_all_kinds),
                                     cmocka_unit_test(test_utterances_are_told_apart),
                                     cmocka_unit_test(test_without_memory_it_says_so)};
  int status = cmocka_run_group_tests(tests, NULL, NULL);
  vc_text_fini(&text);
  return status;
}
