// What LiveKit says and is asked, in the forms that its services have been seen to use.
#include <verbacast/wire/livekit.h>

#include <verbacast/wire/json.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "no_memory.h"
#include "no_verdict.h"

#define OURS "rtmp://media.example:1937/live/"

static const char ended[] =
    "{\"event\":\"egress_ended\",\"id\":\"EV_1\",\"createdAt\":\"1790000000\",\"egressInfo\":{"
    "\"egressId\":\"EG_x\",\"roomId\":\"RM_x\",\"roomName\":\"r1\",\"status\":\"EGRESS_FAILED\","
    "\"startedAt\":\"1790000000000000001\",\"endedAt\":\"1790000000000000002\","
    "\"roomComposite\":{\"roomName\":\"r1\",\"audioOnly\":true},\"streamResults\":[{\"url\":\"" OURS
    "{re...ed}\","
    "\"status\":\"FAILED\"}],\"error\":\"no answer\"}}";

static void test_webhook_of_an_egress(void **state)
{
  (void)state;
  struct vc_livekit_webhook webhook;
  const char *why = NULL;
  assert_int_equal(vc_livekit_parse_webhook(ended, strlen(ended), OURS, &webhook, &why), 0);
  assert_int_equal(webhook.event, VC_LIVEKIT_EGRESS_ENDED);
  assert_string_equal(webhook.id, "EV_1");
  assert_int_equal(webhook.created_s, 1790000000);
  assert_string_equal(webhook.egress.id, "EG_x");
  assert_string_equal(webhook.egress.room.sid, "RM_x");
  assert_string_equal(webhook.egress.room.name, "r1");
  assert_int_equal(webhook.egress.status, VC_LIVEKIT_FAILED);
  assert_true(webhook.egress.started_ns == INT64_C(1790000000000000001));
  assert_true(webhook.egress.ended_ns == INT64_C(1790000000000000002));
  assert_true(webhook.egress.is_ours);
  assert_true(webhook.egress.is_mix);
  assert_string_equal(webhook.egress.error, "no answer");
  assert_int_equal(
      vc_livekit_parse_webhook(ended, strlen(ended), "rtmp://other/live/", &webhook, &why), 0);
  assert_false(webhook.egress.is_ours);
  assert_int_equal(vc_livekit_parse_webhook(ended, strlen(ended), NULL, &webhook, &why), 0);
  assert_false(webhook.egress.is_ours);
}

static enum vc_livekit_event event_of(const char *body, struct vc_livekit_webhook *webhook)
{
  const char *why = NULL;
  assert_int_equal(vc_livekit_parse_webhook(body, strlen(body), OURS, webhook, &why), 0);
  return webhook->event;
}

static void test_webhooks(void **state)
{
  (void)state;
  struct vc_livekit_webhook webhook;
  assert_int_equal(event_of("{\"event\":\"room_started\",\"room\":{\"sid\":\"RM_1\",\"name\":\"a "
                            "b\"}}",
                            &webhook),
                   VC_LIVEKIT_ROOM_STARTED);
  assert_string_equal(webhook.room.name, "a b");
  assert_string_equal(webhook.room.sid, "RM_1");
  assert_string_equal(webhook.id, "");
  assert_int_equal(event_of("{\"event\":\"room_finished\",\"room\":{\"name\":\"r\"}}", &webhook),
                   VC_LIVEKIT_ROOM_FINISHED);
  assert_string_equal(webhook.room.sid, "");
  assert_int_equal(
      event_of("{\"event\":\"egress_started\",\"egressInfo\":{\"egressId\":\"E\"}}", &webhook),
      VC_LIVEKIT_EGRESS_STARTED);
  assert_int_equal(webhook.egress.status, VC_LIVEKIT_STARTING);
  assert_int_equal(event_of("{\"event\":\"egress_updated\",\"egressInfo\":{\"egressId\":\"E\","
                            "\"status\":\"EGRESS_NEW_ONE\"}}",
                            &webhook),
                   VC_LIVEKIT_EGRESS_UPDATED);
  assert_int_equal(webhook.egress.status, VC_LIVEKIT_UNKNOWN);
  assert_int_equal(event_of("{\"event\":\"participant_joined\",\"id\":\"EV_2\"}", &webhook),
                   VC_LIVEKIT_OTHER);
  assert_string_equal(webhook.id, "EV_2");
}

static void refused(const char *body, const char *expected)
{
  struct vc_livekit_webhook webhook;
  const char *why = NULL;
  assert_int_equal(vc_livekit_parse_webhook(body, strlen(body), OURS, &webhook, &why), -1);
  assert_non_null(why);
  assert_non_null(strstr(why, expected));
}

static void test_webhooks_that_are_none(void **state)
{
  (void)state;
  char body[2048], name[VC_LIVEKIT_NAME_MAX + 2];
  refused("", "");
  refused("[1]", "no event");
  refused("{\"event\":7}", "no event");
  refused("{\"event\":\"room_started\"}", "no name");
  refused("{\"event\":\"room_started\",\"room\":{\"name\":[]}}", "no name");
  refused("{\"event\":\"room_started\",\"room\":{\"name\":\"r\\u0000s\"}}", "a zero");
  refused("{\"event\":\"room_started\",\"id\":\"E\\u0000\"}", "a zero");
  refused("{\"event\":\"egress_ended\"}", "no id");
  memset(name, 'n', sizeof name - 1);
  name[sizeof name - 1] = '\0';
  snprintf(body, sizeof body, "{\"event\":\"room_started\",\"room\":{\"name\":\"%s\"}}", name);
  refused(body, "name is too long");
  snprintf(body, sizeof body, "{\"event\":\"room_started\",\"id\":\"%s\"}", name);
  refused(body, "id is too long");
  snprintf(body, sizeof body, "{\"event\":\"room_started\",\"room\":{\"sid\":\"%s\"}}", name);
  refused(body, "sid is too long");
  snprintf(body, sizeof body, "{\"event\":\"egress_ended\",\"egressInfo\":{\"egressId\":\"%s\"}}",
           name);
  refused(body, "id is too long");
  snprintf(body, sizeof body,
           "{\"event\":\"egress_ended\",\"egressInfo\":{\"egressId\":\"E\",\"roomName\":\"%s\"}}",
           name);
  refused(body, "too long a name");
}

// As Twirp prints it: the protocol's own names, nothing left out.
static const char list[] =
    "{\"items\":[{\"egress_id\":\"EG_1\",\"room_id\":\"RM_1\",\"room_name\":\"r\",\"status\":"
    "\"EGRESS_ACTIVE\",\"started_at\":\"5\",\"stream_results\":[],\"ended_at\":\"6\","
    "\"room_composite\":{\"audio_only\":true,\"stream_outputs\":[{\"protocol\":\"RTMP\",\"urls\":["
    "\"" OURS "{re...ed}\"]}]},\"error\":\"\"},"
    "{\"room_name\":\"has no id\"},7,"
    "{\"egress_id\":\"EG_2\",\"room_name\":\"r\",\"status\":3,\"participant\":{"
    "\"audio_only\":true},\"file\":{\"filename\":\"a.ogg\"}}]}";

static void test_egresses(void **state)
{
  (void)state;
  struct vc_livekit_egresses egresses;
  const char *why = NULL;
  assert_int_equal(vc_livekit_parse_egresses(list, strlen(list), OURS, &egresses, &why), 0);
  assert_int_equal(egresses.n, 2);
  assert_true(egresses.items[0].is_ours);
  assert_int_equal(egresses.items[0].status, VC_LIVEKIT_ACTIVE);
  assert_true(egresses.items[0].started_ns == 5);
  assert_true(egresses.items[0].ended_ns == 6);
  assert_true(egresses.items[0].is_mix);
  assert_false(egresses.items[1].is_mix);
  assert_string_equal(egresses.items[0].room.sid, "RM_1");
  assert_false(egresses.items[1].is_ours);
  assert_int_equal(egresses.items[1].status, VC_LIVEKIT_COMPLETE);
  free(egresses.items);
  assert_int_equal(vc_livekit_parse_egresses("{}", 2, OURS, &egresses, &why), 0);
  assert_int_equal(egresses.n, 0);
  free(egresses.items);
  assert_int_equal(vc_livekit_parse_egresses("{", 1, OURS, &egresses, &why), -1);
  assert_null(egresses.items);
}

static void test_rooms(void **state)
{
  (void)state;
  static const char text[] = "{\"rooms\":[{\"sid\":\"RM_1\",\"name\":\"r\"},{\"sid\":\"RM_2\"},"
                             "{\"name\":\"\\u0437\"}]}";
  struct vc_livekit_rooms rooms;
  const char *why = NULL;
  assert_int_equal(vc_livekit_parse_rooms(text, strlen(text), &rooms, &why), 0);
  assert_int_equal(rooms.n, 2);
  assert_string_equal(rooms.items[0].sid, "RM_1");
  assert_string_equal(rooms.items[1].name, "\u0437");
  free(rooms.items);
  // One room's name or description is not in the way of others.
  static const char zeros[] = "{\"rooms\":[{\"sid\":\"RM_1\",\"name\":\"r\\u0000s\"},{\"sid\":"
                              "\"RM_2\",\"name\":\"s\",\"metadata\":\"\\u0000\"}]}";
  assert_int_equal(vc_livekit_parse_rooms(zeros, strlen(zeros), &rooms, &why), 0);
  assert_int_equal(rooms.n, 1);
  assert_string_equal(rooms.items[0].name, "s");
  free(rooms.items);
}

static void test_too_long_a_list(void **state)
{
  (void)state;
  struct vc_livekit_rooms rooms;
  struct vc_text text = {0};
  const char *why = NULL;
  vc_text_add(&text, "{\"rooms\":[0");
  for (int i = 0; i < VC_LIVEKIT_LIST_MAX; i++) {
    vc_text_add(&text, ",0");
  }
  vc_text_add(&text, "]}");
  assert_int_equal(vc_livekit_parse_rooms(text.at, text.size, &rooms, &why), -1);
  assert_string_equal(why, "the list has more than 20000 rows");
  vc_text_fini(&text);
}

static void test_started(void **state)
{
  (void)state;
  static const char text[] = "{\"egress_id\":\"EG_1\",\"room_name\":\"r\",\"status\":"
                             "\"EGRESS_STARTING\"}";
  struct vc_livekit_egress egress;
  const char *why = NULL;
  assert_int_equal(vc_livekit_parse_egress(text, strlen(text), OURS, &egress, &why), 0);
  assert_string_equal(egress.id, "EG_1");
  assert_int_equal(vc_livekit_parse_egress("{}", 2, OURS, &egress, &why), -1);
  assert_string_equal(why, "an egress has no id");
}

static void test_errors(void **state)
{
  (void)state;
  char error[VC_LIVEKIT_ERROR_MAX + 1];
  static const char text[] = "{\"code\":\"not_found\",\"msg\":\"no such room\"}";
  vc_livekit_parse_error(text, strlen(text), error);
  assert_string_equal(error, "not_found: no such room");
  vc_livekit_parse_error("<html>", 6, error);
  assert_string_equal(error, "");
  struct vc_text large = {0};
  vc_text_add(&large, "{\"code\":\"internal\",\"msg\":\"");
  for (int i = 0; i < 400; i++) {
    vc_text_add(&large, "\u0437");
  }
  vc_text_add(&large, "\"}");
  vc_livekit_parse_error(large.at, large.size, error);
  assert_in_range(strlen(error), VC_LIVEKIT_ERROR_MAX - 4, VC_LIVEKIT_ERROR_MAX);
  assert_true(vc_utf8_is_valid(error, strlen(error)));
  vc_text_fini(&large);
}

#define TOKEN "eyJhbGciOiJIUzI1NiJ9.e30.c2lnbmF0dXJl"

// The address of an egress has its publisher's token in it.
static void test_errors_without_their_token(void **state)
{
  (void)state;
  struct vc_livekit_egress egress;
  char error[VC_LIVEKIT_ERROR_MAX + 1];
  const char *why = NULL;
  static const char refusal[] = "{\"code\":\"invalid_argument\",\"msg\":\"invalid url "
                                "rtmp://node/live/r?token=" TOKEN ": it is away\"}";
  vc_livekit_parse_error(refusal, strlen(refusal), error);
  assert_string_equal(error, "invalid_argument: invalid url rtmp://node/live/r?token=");
  static const char failed[] = "{\"egress_id\":\"EG_1\",\"room_name\":\"r\",\"error\":"
                               "\"cannot reach rtmp://node/live/r?token=" TOKEN "\"}";
  assert_int_equal(vc_livekit_parse_egress(failed, strlen(failed), OURS, &egress, &why), 0);
  assert_string_equal(egress.error, "cannot reach rtmp://node/live/r?token=");
}

static void expect_error(const char *error, const char *shown)
{
  struct vc_text text = {0};
  struct vc_livekit_webhook webhook;
  const char *why = NULL;
  vc_text_format(&text,
                 "{\"event\":\"egress_ended\",\"egressInfo\":{\"egressId\":\"EG_1\","
                 "\"roomName\":\"r\",\"error\":\"%s\"}}",
                 error);
  assert_int_equal(vc_livekit_parse_webhook(text.at, text.size, OURS, &webhook, &why), 0);
  assert_string_equal(webhook.egress.error, shown);
  vc_text_fini(&text);
}

// A token may begin on either side of where a long error is cut, or stand across it.
static void test_long_errors(void **state)
{
  (void)state;
  enum { LONG = 1000000 };
  char *error = calloc(1, LONG + 1), shown[VC_LIVEKIT_ERROR_MAX + 1];
  assert_non_null(error);
  memset(error, 'x', LONG);
  snprintf(shown, sizeof shown, "%s", error);
  expect_error(error, shown);
  for (size_t at = VC_LIVEKIT_ERROR_MAX - sizeof TOKEN; at < VC_LIVEKIT_ERROR_MAX + 8; at++) {
    size_t n = at < VC_LIVEKIT_ERROR_MAX ? at : VC_LIVEKIT_ERROR_MAX;
    memset(error, 'x', LONG);
    error[at - 1] = '=';
    memcpy(error + at, TOKEN, strlen(TOKEN));
    snprintf(shown, n + 1, "%s", error);
    expect_error(error, shown);
  }
  free(error);
}

// Takes the text.
static void expect(struct vc_text *text, const char *expected)
{
  assert_false(text->has_failed);
  assert_string_equal(text->at, expected);
  vc_text_fini(text);
}

static void test_requests(void **state)
{
  (void)state;
  struct vc_text text = {0};
  vc_livekit_print_list_egress(&text, "a \"b\"", 1);
  expect(&text, "{\"room_name\":\"a \\\"b\\\"\",\"active\":true}");
  vc_livekit_print_list_egress(&text, "r", 0);
  expect(&text, "{\"room_name\":\"r\"}");
  vc_livekit_print_list_egress(&text, NULL, 1);
  expect(&text, "{\"active\":true}");
  vc_livekit_print_list_rooms(&text, NULL);
  expect(&text, "{}");
  vc_livekit_print_list_rooms(&text, "r");
  expect(&text, "{\"names\":[\"r\"]}");
  vc_livekit_print_stop(&text, "EG_1");
  expect(&text, "{\"egress_id\":\"EG_1\"}");
  vc_livekit_print_start(&text, "r", OURS "r?token=a.b.c");
  expect(&text, "{\"room_name\":\"r\",\"audio_only\":true,\"stream_outputs\":[{\"protocol\":"
                "\"RTMP\",\"urls\":[\"" OURS "r?token=a.b.c\"]}],\"advanced\":{\"audio_codec\":"
                "\"AAC\",\"audio_frequency\":44100,\"audio_bitrate\":64}}");
}

static void test_claims(void **state)
{
  (void)state;
  const struct vc_livekit_caller caller = {"APIkey", 1790000000, 600};
  json_t *claims = vc_livekit_make_claims(&caller, "roomRecord");
  char *text = vc_json_print(claims);
  assert_string_equal(text, "{\"iss\":\"APIkey\",\"nbf\":1790000000,\"exp\":1790000600,\"video\":{"
                            "\"roomRecord\":true}}");
  free(text);
  json_decref(claims);
}

static void test_keys(void **state)
{
  (void)state;
  char key[8];
  assert_true(vc_livekit_knows_key("new,old", "new"));
  assert_true(vc_livekit_knows_key("new,old", "old"));
  assert_false(vc_livekit_knows_key("new,old", "new,old"));
  assert_false(vc_livekit_knows_key("new,old", "ne"));
  assert_false(vc_livekit_knows_key("new,,old", ""));
  assert_false(vc_livekit_knows_key("", ""));
  assert_int_equal(vc_livekit_first_key("new,old", key, sizeof key), 3);
  assert_string_equal(key, "new");
  assert_int_equal(vc_livekit_first_key("12345678", key, sizeof key), 0);
  assert_int_equal(vc_livekit_first_key(",old", key, sizeof key), 0);
}

static void test_slugs(void **state)
{
  (void)state;
  // The digits are those of `printf %s NAME | sha256sum`.
  static const char *const rows[][2] = {
      {"demo", "demo"},
      {"A.b_c-9", "A.b_c-9"},
      {"daily meeting", "daily-meeting--3b204f4c08c7ef74"},
      {"  two  of  them ", "two-of-them--58cf59d6ffb88e65"},
      {"-begins", "begins--510bf53e021c2b3b"},
      {"\u0432\u0441\u0442\u0440\u0435\u0447\u0430", "room--0c86cec430efd354"},
      {"a/../b", "a-..-b--900ea8b7e0d8fe30"},
      {"", "room--e3b0c44298fc1c14"},
      // What looks like another's is none.
      {"a--0123456789abcdef", "a--0123456789abcdef--8fc23559d8ce8227"},
      {"a--0123456789abcdeF", "a--0123456789abcdeF"},
      {"a-b-0123456789abcdef", "a-b-0123456789abcdef"},
      {"a--123456789abcdef", "a--123456789abcdef"},
  };
  char slug[VC_LIVEKIT_SLUG_MAX + 1];
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    int is_made = vc_slug_of_room(rows[i][0], slug);
    assert_string_equal(slug, rows[i][1]);
    assert_int_equal(is_made, strcmp(rows[i][0], rows[i][1]) != 0);
  }
}

static void test_long_names(void **state)
{
  (void)state;
  char room[VC_LIVEKIT_NAME_MAX + 1], slug[VC_LIVEKIT_SLUG_MAX + 1];
  memset(room, 'r', sizeof room);
  room[VC_LIVEKIT_SLUG_MAX] = '\0';
  assert_int_equal(vc_slug_of_room(room, slug), 0);
  assert_string_equal(slug, room);
  room[VC_LIVEKIT_SLUG_MAX] = 'r';
  room[VC_LIVEKIT_NAME_MAX] = '\0';
  assert_int_equal(vc_slug_of_room(room, slug), 1);
  assert_int_equal(strlen(slug), VC_LIVEKIT_SLUG_MAX);
  assert_memory_equal(slug + VC_LIVEKIT_SLUG_MAX - 19, "r--", 3);
}

// Two rooms would have one slug.
static void test_no_memory_for_a_hash(void **state)
{
  (void)state;
  char slug[VC_LIVEKIT_SLUG_MAX + 1];
  no_memory_for_digest(1);
  assert_int_equal(vc_slug_of_room("demo", slug), 0);
  assert_string_equal(slug, "demo");
  assert_int_equal(vc_slug_of_room("two words", slug), -1);
  no_memory_for_digest(1);
  assert_int_equal(vc_livekit_hash_matches("", "abc", 3), -1);
}

static void test_hash(void **state)
{
  (void)state;
  // Of "abc", by `openssl dgst -sha256 -binary | base64`.
  static const char of_abc[] = "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=";
  assert_true(vc_livekit_hash_matches(of_abc, "abc", 3));
  assert_false(vc_livekit_hash_matches(of_abc, "abd", 3));
  assert_false(vc_livekit_hash_matches("", "abc", 3));
  assert_false(vc_livekit_hash_matches("ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0", "abc", 3));
}

// Without numbers: jansson's lexer takes characters back that it had no memory to keep.
static const char short_list[] = "{\"items\":[{\"egress_id\":\"EG_1\",\"room_name\":\"r\"}]}";

static void parse_all(void)
{
  struct vc_livekit_webhook webhook;
  struct vc_livekit_egresses egresses;
  struct vc_livekit_rooms rooms;
  struct vc_text text = {0};
  char error[VC_LIVEKIT_ERROR_MAX + 1];
  const char *why = NULL;
  int status = vc_livekit_parse_webhook(ended, strlen(ended), OURS, &webhook, &why);
  assert_true(status == 0 || why == vc_json_no_memory);
  if (vc_livekit_parse_egresses(short_list, strlen(short_list), OURS, &egresses, &why) == 0) {
    free(egresses.items);
  }
  if (vc_livekit_parse_rooms("{\"rooms\":[]}", 12, &rooms, &why) == 0) {
    free(rooms.items);
  }
  vc_livekit_parse_error(short_list, strlen(short_list), error);
  vc_livekit_print_start(&text, "r", OURS "r");
  json_decref(vc_livekit_make_claims(&(struct vc_livekit_caller){"k", 1, 1}, "roomList"));
  vc_text_fini(&text);
}

static void test_memory(void **state)
{
  (void)state;
  assert_true(memory_fail_each(parse_all) > 10);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_webhook_of_an_egress),
      cmocka_unit_test(test_webhooks),
      cmocka_unit_test(test_webhooks_that_are_none),
      cmocka_unit_test(test_egresses),
      cmocka_unit_test(test_rooms),
      cmocka_unit_test(test_too_long_a_list),
      cmocka_unit_test(test_started),
      cmocka_unit_test(test_errors),
      cmocka_unit_test(test_errors_without_their_token),
      cmocka_unit_test(test_long_errors),
      cmocka_unit_test(test_requests),
      cmocka_unit_test(test_claims),
      cmocka_unit_test(test_keys),
      cmocka_unit_test(test_slugs),
      cmocka_unit_test(test_long_names),
      cmocka_unit_test(test_hash),
      cmocka_unit_test(test_no_memory_for_a_hash),
      cmocka_unit_test(test_memory),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
