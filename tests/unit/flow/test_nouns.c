// Nouns own what they hold: the address sanitizer finds what vc_item_destroy forgets.
#include <verbacast/flow/chunk.h>
#include <verbacast/flow/packet.h>
#include <verbacast/flow/query.h>
#include <verbacast/flow/record.h>
#include <verbacast/flow/remote.h>
#include <verbacast/flow/result.h>
#include <verbacast/flow/viewer.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

static void test_slugs(void **state)
{
  char longest[VC_SLUG_MAX + 2];
  memset(longest, 'a', sizeof longest);
  assert_true(vc_slug_is_valid(longest, VC_SLUG_MAX));
  assert_false(vc_slug_is_valid(longest, VC_SLUG_MAX + 1));
  const char *const good[] = {"a", "0", "Room-1", "a.b_c-d", "x.."};
  const char *const bad[] = {"", ".a", "-a", "_a", "a b", "a/b", "a%20", "\xc3\xbc", "a\n", "a?b"};
  for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
    assert_true(vc_slug_is_valid(good[i], strlen(good[i])));
  }
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    assert_false(vc_slug_is_valid(bad[i], strlen(bad[i])));
  }
  assert_false(vc_slug_is_valid("a\0b", 3));
}

// Slugs that count up come to every worker.
static void test_participants(void **state)
{
  (void)state;
  char longest[VC_PARTICIPANT_MAX + 2];
  memset(longest, 'a', sizeof longest);
  assert_true(vc_participant_is_valid(longest, VC_PARTICIPANT_MAX));
  assert_false(vc_participant_is_valid(longest, VC_PARTICIPANT_MAX + 1));
  const char *good[] = {"a",   "0",   "Ada Lovelace",     "J\xc3\xbcrgen",
                        "<b>", "a/b", "\xf0\x9f\x98\x80", "\xc2\xa0"};
  for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
    assert_true(vc_participant_is_valid(good[i], strlen(good[i])));
  }
  const char *bad[] = {"",     " a",   "a ",         "a\nb",        "a\x7f",
                       "\xc3", "\xff", "a\xc2\x85z", "\xed\xa0\x80"};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    assert_false(vc_participant_is_valid(bad[i], strlen(bad[i])));
  }
  assert_false(vc_participant_is_valid("a\0b", 3));
  struct vc_session *session = vc_session_create_of("room", "Ada", 1, 2);
  assert_string_equal(session->slug, "room");
  assert_string_equal(session->participant, "Ada");
  vc_session_unref(session);
}

static void test_hash_spreads(void **state)
{
  size_t n[4] = {0};
  char slug[16];
  for (int i = 0; i < 400; i++) {
    int size = snprintf(slug, sizeof slug, "room-%d", i);
    n[vc_slug_hash(slug, (size_t)size) % 4]++;
  }
  for (size_t i = 0; i < 4; i++) {
    assert_in_range(n[i], 60, 140);
  }
}

static void test_items_of_a_session(void **state)
{
  struct vc_session *session = vc_session_create("room", 7, 1000);
  assert_non_null(session);
  assert_int_equal(session->hash, vc_slug_hash("room", 4));
  struct vc_packet *packet = vc_packet_create(session, VC_TURN_DATA);
  struct vc_chunk *chunk = vc_chunk_create(session, VC_TURN_DATA);
  struct vc_result *result = vc_result_create(session, VC_RESULT_UTTERANCE);
  assert_true(packet != NULL && chunk != NULL && result != NULL);
  assert_int_equal(atomic_load(&session->n_refs), 4);
  const struct vc_word words[] = {{"one", 0, 0.5, 1}};
  const struct vc_utterance utterance = {
      .id = "1", .text = "one", .language = "en", .words = words, .n_words = 1};
  packet->data = vc_buffer_copy("abc", 3);
  chunk->pcm = vc_buffer_create(1600);
  result->utterance = vc_utterance_create(&utterance);
  assert_string_equal(result->utterance->words[0].text, "one");
  assert_null(result->utterance->speaker);
  vc_item_destroy(&packet->item);
  vc_item_destroy(&chunk->item);
  vc_item_destroy(&result->item);
  assert_int_equal(atomic_load(&session->n_refs), 1);
  vc_session_unref(session);
  vc_session_unref(NULL);
}

static void test_items_of_viewers(void **state)
{
  struct vc_message *message = vc_message_create(VC_MESSAGE_FINAL, "room");
  assert_non_null(message);
  message->frame = vc_buffer_copy("{}", 2);
  message->record = vc_buffer_copy("{}", 2);
  struct vc_live *live = vc_live_create(message);
  struct vc_answer *answer = vc_answer_create("room");
  struct vc_record *record = vc_record_create(VC_RECORD_FINAL, "room");
  assert_true(live != NULL && answer != NULL && record != NULL);
  for (; answer->n_messages < VC_ANSWER_MAX; answer->n_messages++) {
    answer->messages[answer->n_messages] = vc_message_ref(message);
  }
  record->value = vc_buffer_ref(message->record);
  assert_int_equal(atomic_load(&message->n_refs), 2 + VC_ANSWER_MAX);
  vc_item_destroy(&live->item);
  vc_item_destroy(&answer->item);
  vc_item_destroy(&record->item);
  assert_int_equal(atomic_load(&message->n_refs), 1);
  vc_message_unref(message);
  vc_item_destroy(&vc_join_create("room")->item);
  vc_item_destroy(&vc_catch_up_create("room")->item);
  vc_item_destroy(&vc_leave_create("room")->item);
  vc_item_destroy(NULL);
}

struct owned {
  struct vc_owned_item owned;
  int *n_destroyed;
};

static void owned_destroy(struct vc_item *item)
{
  struct owned *owned = (struct owned *)item;
  (*owned->n_destroyed)++;
  free(owned);
}

static void test_owned(void **state)
{
  int n_destroyed = 0;
  struct owned *owned = malloc(sizeof *owned);
  assert_non_null(owned);
  *owned = (struct owned){{{VC_ITEM_OWNED}, owned_destroy}, &n_destroyed};
  vc_item_destroy(&owned->owned.item);
  assert_int_equal(n_destroyed, 1);
}

static void test_texts(void **state)
{
  assert_string_equal(vc_close_reason_text(VC_CLOSE_PUBLISHER_LEFT), "publisher_left");
  assert_string_equal(vc_close_reason_text(VC_CLOSE_OWNER_LOST), "owner_lost");
  assert_true(vc_close_reason_is_owner_lost("owner_lost"));
  assert_false(vc_close_reason_is_owner_lost("publisher_left"));
  assert_string_equal(vc_state_text(VC_STATE_IDLE), "idle");
  assert_string_equal(vc_state_text(VC_STATE_STT_DOWN), "stt_down");
  assert_string_equal(vc_state_text(VC_STATE_UNKNOWN), "unknown");
}

// Each holds a reference of its messages and gives it back.
static void test_remote_and_fleet(void **state)
{
  struct vc_message *message = vc_message_create(VC_MESSAGE_FINAL, "room");
  struct vc_remote *remote = vc_remote_create(VC_REMOTE_MESSAGE, "room");
  struct vc_fleet *fleet = vc_fleet_create(VC_FLEET_HISTORY, "room", 2);
  assert_true(message != NULL && remote != NULL && fleet != NULL);
  remote->message = vc_message_ref(message);
  vc_fleet_add(fleet, message);
  vc_fleet_add(fleet, message);
  assert_int_equal(fleet->n_messages, 2);
  assert_int_equal(atomic_load(&message->n_refs), 4);
  vc_item_destroy(&remote->item);
  vc_item_destroy(&fleet->item);
  assert_int_equal(atomic_load(&message->n_refs), 1);
  vc_message_unref(message);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_slugs),
      cmocka_unit_test(test_participants),
      cmocka_unit_test(test_hash_spreads),
      cmocka_unit_test(test_items_of_a_session),
      cmocka_unit_test(test_remote_and_fleet),
      cmocka_unit_test(test_items_of_viewers),
      cmocka_unit_test(test_owned),
      cmocka_unit_test(test_texts),
  };
  return cmocka_run_group_tests_name("flow/nouns", tests, NULL, NULL);
}
