// What is asked of all nodes: sessions, transcripts, erasure. Redis is the test.
#include "no_verdict.h"
#include "rig.h"

#include <verbacast/wire/json.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "store_rig.h"

static struct rig *rig; // of a fleet

static int set_up(void **state)
{
  static const char *const environment[] = {"REDIS_URL=redis://", NULL};
  rig = rig_create(environment, "");
  return 0;
}

static int tear_down(void **state)
{
  rig_destroy(rig);
  return 0;
}

static void reply(enum vc_query_kind kind, int status, const char *text)
{
  rig_reply(rig, kind, (struct rig_reply){.status = status, .text = text});
}

static int answer(void **state)
{
  reply(VC_QUERY_SESSIONS, 200,
        "[{\"slug\":\"here\",\"epoch\":5,\"state\":\"live\",\"startedAt\":1.000,\"viewers\":2},"
        "{\"slug\":\"there\",\"epoch\":7,\"state\":\"live\",\"startedAt\":1.000,\"viewers\":3}]");
  reply(VC_QUERY_PUBLISHERS, 200, "{\"here/\":{\"address\":\"192.0.2.1\"}}");
  reply(VC_QUERY_ERASE, 200, NULL);
  reply(VC_QUERY_FLEET_ERASE, 200, NULL);
  return 0;
}

// --- sessions

#define OTHERS                                                                                     \
  "[{\"slug\":\"there\",\"epoch\":8,\"state\":\"live\",\"startedAt\":2.000,\"viewers\":10,"        \
  "\"publisher\":{\"address\":\"192.0.2.9\"},\"node\":\"b2\"},"                                    \
  "{\"slug\":\"here\",\"epoch\":9,\"state\":\"live\",\"startedAt\":1.000,\"viewers\":1,"           \
  "\"publisher\":null,\"node\":\"b2\"},"                                                           \
  "{\"slug\":\"here\",\"epoch\":5,\"state\":\"live\",\"startedAt\":1.000,\"viewers\":77,"          \
  "\"publisher\":null,\"node\":\"a1\"},"                                                           \
  "{\"slug\":\"alone\",\"epoch\":3,\"state\":\"ended\",\"startedAt\":1.000,\"viewers\":0,"         \
  "\"publisher\":null,\"node\":\"c3\"}]"

static void expect_row(const json_t *list, size_t i, const char *slug, const char *node,
                       long long n_viewers)
{
  const json_t *row = json_array_get(list, i);
  assert_string_equal(vc_json_string(row, "slug", ""), slug);
  assert_string_equal(vc_json_string(row, "node", ""), node);
  assert_int_equal(vc_json_integer(row, "viewers", -1), n_viewers);
}

// A row a slug: of the node that publishes it, with everybody's viewers; what another node says in
// our name is older than what we know.
static void test_sessions_of_all_nodes(void **state)
{
  reply(VC_QUERY_FLEET_SESSIONS, 200, OTHERS);
  assert_int_equal(rig_get(rig, ADMIN_DOOR, "/sessions?all=1"), 200);
  json_t *list = vc_json_parse(rig->body, rig->body_size, NULL);
  assert_int_equal(json_array_size(list), 3);
  expect_row(list, 0, "alone", "c3", 0);
  expect_row(list, 1, "here", "a1", 3);
  expect_row(list, 2, "there", "b2", 13);
  json_decref(list);
}

// Nobody publishes it any more, and both know it alike: whoever is asked names the same node.
static void test_an_ended_session_of_two_nodes(void **state)
{
#define ENDED "{\"slug\":\"s\",\"epoch\":5,\"state\":\"ended\",\"startedAt\":1.000,\"viewers\":1"
  static const char *const others[] = {"0b", "b2"}, *const named[] = {"0b", "a1"};
  for (size_t i = 0; i < 2; i++) {
    char rows[160];
    snprintf(rows, sizeof rows, "[" ENDED ",\"publisher\":null,\"node\":\"%s\"}]", others[i]);
    reply(VC_QUERY_SESSIONS, 200, "[" ENDED "}]");
    reply(VC_QUERY_PUBLISHERS, 200, "{}");
    reply(VC_QUERY_FLEET_SESSIONS, 200, rows);
    assert_int_equal(rig_get(rig, ADMIN_DOOR, "/sessions?all=1"), 200);
    json_t *list = vc_json_parse(rig->body, rig->body_size, NULL);
    assert_int_equal(json_array_size(list), 1);
    expect_row(list, 0, "s", named[i], 2);
    json_decref(list);
  }
#undef ENDED
}

static void test_sessions_of_this_node_do_not_ask_redis(void **state)
{
  reply(VC_QUERY_FLEET_SESSIONS, 503, NULL);
  assert_int_equal(rig_get(rig, ADMIN_DOOR, "/sessions"), 200);
  assert_null(strstr(rig->body, "\"node\""));
  assert_int_equal(rig_get(rig, ADMIN_DOOR, "/sessions?all=0"), 200);
  assert_int_equal(rig->n_asked[VC_QUERY_FLEET_SESSIONS], 0);
  assert_int_equal(rig_get(rig, ADMIN_DOOR, "/sessions?all=1"), 503);
  assert_non_null(strstr(rig->body, "Redis does not answer"));
}

// A list that some nodes are not in must not look like one of all.
static void test_sessions_that_are_too_many_for_one_answer(void **state)
{
  rig_reply(rig, VC_QUERY_FLEET_SESSIONS,
            (struct rig_reply){.status = 200, .text = OTHERS, .is_incomplete = 1});
  assert_int_equal(rig_get(rig, ADMIN_DOOR, "/sessions?all=1"), 503);
  assert_non_null(strstr(rig->body, "more than 16 MiB"));
  assert_int_equal(rig_get(rig, ADMIN_DOOR, "/sessions"), 200);
  assert_int_equal(rig_get(rig, ADMIN_DOOR, "/metrics?format=prometheus"), 200);
  assert_non_null(strstr(rig->body, "http_fleet_refused_total 1\n"));
}

static void test_a_fleet_of_one(void **state)
{
  static const char *const environment[] = {NULL};
  struct rig *alone = rig_create(environment, "");
  rig_reply(alone, VC_QUERY_SESSIONS,
            (struct rig_reply){.status = 200, .text = "[{\"slug\":\"here\",\"viewers\":2}]"});
  rig_reply(alone, VC_QUERY_PUBLISHERS, (struct rig_reply){.status = 200, .text = "{}"});
  assert_int_equal(rig_get(alone, ADMIN_DOOR, "/sessions?all=1"), 200);
  assert_non_null(strstr(alone->body, "\"node\":\"a1\""));
  rig_destroy(alone);
}

static void test_what_others_are_told(void **state)
{
  struct vc_buffer *told = vc_control_sessions(rig->control);
  assert_non_null(told);
  json_t *list = vc_json_parse((const char *)told->data, told->size, NULL);
  assert_int_equal(json_array_size(list), 2);
  expect_row(list, 0, "here", "a1", 2);
  json_decref(list);
  vc_buffer_unref(told);
  reply(VC_QUERY_SESSIONS, 503, NULL);
  assert_null(vc_control_sessions(rig->control));
}

// --- transcripts

static char *list_of(uint64_t first, uint64_t last)
{
  struct vc_text list = {0};
  vc_text_add(&list, "[");
  for (uint64_t seq = first; seq <= last; seq++) {
    char id[32], text[32];
    snprintf(id, sizeof id, "1-0-%d", (int)seq);
    snprintf(text, sizeof text, "w%d", (int)seq);
    char *value = record_final("demo", 1000, seq, id, text);
    vc_text_format(&list, "%s%s", list.size > 1 ? "," : "", value);
    free(value);
  }
  vc_text_add(&list, "]");
  assert_false(list.has_failed);
  return list.at;
}

static void expect_transcript(int status, const char *body, const char *is_complete)
{
  assert_int_equal(rig_get(rig, HTTP_DOOR, "/sessions/demo/transcript.txt"), status);
  if (status == 200) {
    assert_string_equal(rig->body, body);
    assert_non_null(strstr(rig->head, is_complete));
  }
}

#define WHOLE "X-Verbacast-Complete: true"
#define PART "X-Verbacast-Complete: false"

static void test_another_nodes_words(void **state)
{
  char *remote = list_of(1, 3), *own = list_of(3, 4);
  reply(VC_QUERY_TRANSCRIPT, 404, NULL);
  reply(VC_QUERY_FLEET_TRANSCRIPT, 200, remote);
  expect_transcript(200, "w1\nw2\nw3\n", WHOLE);
  // What both hold is printed once.
  rig_reply(rig, VC_QUERY_TRANSCRIPT,
            (struct rig_reply){.status = 200, .text = own, .is_incomplete = 1});
  expect_transcript(200, "w1\nw2\nw3\nw4\n", WHOLE);
  rig_reply(rig, VC_QUERY_FLEET_TRANSCRIPT,
            (struct rig_reply){.status = 200, .text = remote, .is_incomplete = 1});
  expect_transcript(200, "w1\nw2\nw3\nw4\n", PART);
  reply(VC_QUERY_TRANSCRIPT, 404, NULL);
  rig_reply(rig, VC_QUERY_FLEET_TRANSCRIPT,
            (struct rig_reply){.status = 200, .text = remote, .is_incomplete = 1});
  expect_transcript(200, "w1\nw2\nw3\n", PART);
  free(remote);
  free(own);
}

// What Redis let go of stands in the file of the node that said it.
static void test_the_rest_of_another_nodes_words_is_in_its_file(void **state)
{
  struct folder folder;
  char variable[128];
  struct vc_store *store;
  struct vc_error error;
  folder_make(&folder);
  snprintf(variable, sizeof variable, "DATABASE_URL=sqlite:%s", folder_file(&folder, "store.db"));
  const char *url = strchr(variable, '=') + 1;
  const char *const environment[] = {"REDIS_URL=redis://", variable, NULL};
  assert_int_equal(vc_store_open(&store, url, &error), 0);
  struct rig *own = rig_create(environment, "");
  char *others = list_of(3, 4);
  rig_reply(own, VC_QUERY_TRANSCRIPT, (struct rig_reply){.status = 404});
  rig_reply(own, VC_QUERY_UNRELAYED, (struct rig_reply){.status = 404});
  rig_reply(own, VC_QUERY_FLEET_TRANSCRIPT,
            (struct rig_reply){.status = 200, .text = others, .is_incomplete = 1});
  assert_int_equal(rig_get(own, HTTP_DOOR, "/sessions/demo/transcript.txt"), 200);
  assert_string_equal(own->body, "w3\nw4\n");
  assert_non_null(strstr(own->head, PART));
  char *value = record_final("demo", 1000, 2, "1-0-2", "w2");
  struct vc_store_row row = {.value = value, .size = strlen(value)};
  assert_int_equal(vc_store_write(store, &row, 1, &error), 0);
  assert_int_equal(rig_get(own, HTTP_DOOR, "/sessions/demo/transcript.txt"), 200);
  assert_string_equal(own->body, "w2\nw3\nw4\n"); // others may have said something between
  assert_non_null(strstr(own->head, PART));
  rig_reply(own, VC_QUERY_FLEET_TRANSCRIPT, (struct rig_reply){.status = 200, .text = others});
  assert_int_equal(rig_get(own, HTTP_DOOR, "/sessions/demo/transcript.txt"), 200);
  assert_non_null(strstr(own->head, WHOLE));
  free(value);
  free(others);
  rig_destroy(own);
  vc_store_close(&store);
  folder_remove(&folder);
}

static void test_a_transcript_without_redis(void **state)
{
  char *own = list_of(1, 2);
  reply(VC_QUERY_FLEET_TRANSCRIPT, 503, NULL);
  reply(VC_QUERY_TRANSCRIPT, 404, NULL);
  expect_transcript(503, "", "");
  reply(VC_QUERY_TRANSCRIPT, 200, own);
  expect_transcript(200, "w1\nw2\n", PART); // others may have said more
  reply(VC_QUERY_FLEET_TRANSCRIPT, 404, NULL);
  expect_transcript(200, "w1\nw2\n", WHOLE);
  reply(VC_QUERY_TRANSCRIPT, 404, NULL);
  expect_transcript(404, "", "");
  free(own);
}

// --- erasure

static void test_an_erasure_reaches_all_nodes(void **state)
{
  assert_int_equal(rig_ask(rig, ADMIN_DOOR, "DELETE", "/sessions/demo", ""), 200);
  assert_int_equal(rig->n_asked[VC_QUERY_FLEET_ERASE], 1);
  assert_non_null(strstr(rig->body, "\"remains\":[]"));
  reply(VC_QUERY_FLEET_ERASE, 409, NULL);
  reply(VC_QUERY_ERASE, 200, NULL);
  assert_int_equal(rig_ask(rig, ADMIN_DOOR, "DELETE", "/sessions/demo", ""), 409);
  assert_int_equal(rig->n_asked[VC_QUERY_ERASE], 0); // nothing is gone here either
  reply(VC_QUERY_FLEET_ERASE, 503, NULL);
  assert_int_equal(rig_ask(rig, ADMIN_DOOR, "DELETE", "/sessions/demo", ""), 503);
  assert_non_null(strstr(rig->body, "{\"where\":\"redis\",\"why\":\"Redis did not delete it"));
  reply(VC_QUERY_FLEET_ERASE, 200, NULL);
  no_memory_for_queries(VC_QUERY_FLEET_ERASE);
  assert_int_equal(rig_ask(rig, ADMIN_DOOR, "DELETE", "/sessions/demo", ""), 503);
  no_memory_for_queries(-1);
  assert_non_null(strstr(rig->body, "{\"where\":\"redis\",\"why\":\"Redis did not delete it"));
}

// It was told to their ledgers; what they have written lies in their files.
static void test_an_erasure_does_not_reach_other_nodes_files(void **state)
{
  struct folder folder;
  char url[128];
  folder_make(&folder);
  snprintf(url, sizeof url, "DATABASE_URL=sqlite:%s", folder_file(&folder, "store.db"));
  const char *const with_a_file[] = {"REDIS_URL=redis://", url, NULL};
  const char *const with_a_sink[] = {"REDIS_URL=redis://", url, "KAFKA_TOPIC=words", NULL};
  struct rig *own = rig_create(with_a_file, ""), *sending = rig_create(with_a_sink, "");
  rig_reply(own, VC_QUERY_ERASE, (struct rig_reply){.status = 200});
  rig_reply(sending, VC_QUERY_ERASE, (struct rig_reply){.status = 200});
  assert_int_equal(rig_ask(own, ADMIN_DOOR, "DELETE", "/sessions/demo", ""), 200);
  assert_non_null(strstr(own->body, "\"remains\":[{\"where\":\"files\",\"why\":\""));
  assert_int_equal(rig_ask(sending, ADMIN_DOOR, "DELETE", "/sessions/demo", ""), 200);
  assert_null(strstr(sending->body, "files"));
  rig_destroy(own);
  rig_destroy(sending);
  folder_remove(&folder);
}

#define EXPIRED_AT "{\"session\":\"%s\",\"exp\":%ld}"

static void expect_expired(struct rig *closed, const char *session, long seconds_ago, int status)
{
  char grants[128], target[1024];
  snprintf(grants, sizeof grants, EXPIRED_AT, session, (long)time(NULL) - seconds_ago);
  snprintf(target, sizeof target, "/live/demo?token=%s", rig_token("secret", "HS256", grants));
  assert_int_equal(rig_upgrade(closed, target, ""), status);
}

// The ledger knows of the sessions that are watched here: whose the others are is asked of Redis,
// and for a token alone that wants nothing but that.
static void test_an_expired_token_of_a_session_of_another_node(void **state)
{
  static const char *const environment[] = {"REDIS_URL=redis://", "VIEWER_SECRET=secret", NULL};
  struct rig *closed = rig_create(environment, "");
  int64_t now_ms = vc_clock_unix_ms(&vc_clock_system);
  rig_reply(closed, VC_QUERY_BEGAN, (struct rig_reply){.status = 404});
  rig_reply(closed, VC_QUERY_FLEET_BEGAN,
            (struct rig_reply){.status = 200, .number = now_ms - 100000});
  expect_expired(closed, "other", 60, 403);
  expect_expired(closed, "demo", -60, 101);
  assert_int_equal(closed->n_asked[VC_QUERY_FLEET_BEGAN], 0);
  expect_expired(closed, "demo", 60, 101);
  expect_expired(closed, "demo", 160, 401);
  assert_int_equal(closed->n_asked[VC_QUERY_FLEET_BEGAN], 2);
  rig_reply(closed, VC_QUERY_BEGAN, (struct rig_reply){.status = 503}); // a busy ledger
  expect_expired(closed, "demo", 60, 101);
  rig_reply(closed, VC_QUERY_BEGAN, (struct rig_reply){.status = 404});
  rig_reply(closed, VC_QUERY_FLEET_BEGAN, // Redis does not say
            (struct rig_reply){.status = 503, .number = now_ms - 100000});
  expect_expired(closed, "demo", 60, 503);
  no_memory_for_queries(VC_QUERY_FLEET_BEGAN); // nor is it asked
  expect_expired(closed, "demo", 60, 503);
  no_memory_for_queries(-1);
  rig_reply(closed, VC_QUERY_FLEET_BEGAN, // and what comes with no answer is none
            (struct rig_reply){.status = 404, .number = now_ms - 100000});
  expect_expired(closed, "demo", 60, 401);
  rig_reply(closed, VC_QUERY_BEGAN, (struct rig_reply){.status = 200, .text = "[1000000000000]"});
  expect_expired(closed, "demo", 60, 101);
  assert_int_equal(closed->n_asked[VC_QUERY_FLEET_BEGAN], 1); // since the last reply was set
  rig_destroy(closed);
}

#define TRACK "/ingest/livekit/demo?participant=Ada&token=%s"

static void expect_expired_track(struct rig *closed, long seconds_ago, int status)
{
  char grants[128], target[1024];
  snprintf(grants, sizeof grants, EXPIRED_AT, "demo", (long)time(NULL) - seconds_ago);
  snprintf(target, sizeof target, TRACK, rig_token("secret", "HS256", grants));
  assert_int_equal(rig_upgrade(closed, target, ""), status);
}

// A participant's stream likewise, where this node does not publish it.
static void test_an_expired_token_of_a_stream_of_another_node(void **state)
{
  static const char *const environment[] = {"REDIS_URL=redis://", "PUBLISH_SECRET=secret", NULL};
  struct rig *closed = rig_create(environment, "");
  int64_t now_ms = vc_clock_unix_ms(&vc_clock_system);
  rig_reply(closed, VC_QUERY_MAY_PUBLISH, (struct rig_reply){.status = 200});
  rig_reply(closed, VC_QUERY_FLEET_BEGAN,
            (struct rig_reply){.status = 200, .number = now_ms - 100000});
  expect_expired_track(closed, -60, 101);
  assert_int_equal(closed->n_asked[VC_QUERY_FLEET_BEGAN], 0);
  assert_int_equal(closed->track.session_began_ms, 0);
  expect_expired_track(closed, 60, 101);
  assert_int_equal(closed->track.session_began_ms, now_ms - 100000);
  expect_expired_track(closed, 160, 401);
  assert_int_equal(closed->n_asked[VC_QUERY_FLEET_BEGAN], 2);
  rig_reply(closed, VC_QUERY_FLEET_BEGAN,
            (struct rig_reply){.status = 503, .number = now_ms - 100000});
  expect_expired_track(closed, 60, 429);
  rig_reply(closed, VC_QUERY_FLEET_BEGAN,
            (struct rig_reply){.status = 404, .number = now_ms - 100000});
  expect_expired_track(closed, 60, 401);
  rig_reply(closed, VC_QUERY_MAY_PUBLISH,
            (struct rig_reply){.status = 200, .number = now_ms - 100000});
  expect_expired_track(closed, 60, 101);
  rig_reply(closed, VC_QUERY_MAY_PUBLISH, (struct rig_reply){.status = 200, .number = -1});
  expect_expired_track(closed, 60, 401); // others publish it here, and the ledger does not say more
  assert_int_equal(closed->n_asked[VC_QUERY_FLEET_BEGAN], 1); // since the last reply was set
  rig_destroy(closed);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup(test_sessions_of_all_nodes, answer),
      cmocka_unit_test(test_an_ended_session_of_two_nodes),
      cmocka_unit_test_setup(test_sessions_of_this_node_do_not_ask_redis, answer),
      cmocka_unit_test_setup(test_sessions_that_are_too_many_for_one_answer, answer),
      cmocka_unit_test_setup(test_a_fleet_of_one, answer),
      cmocka_unit_test_setup(test_what_others_are_told, answer),
      cmocka_unit_test_setup(test_another_nodes_words, answer),
      cmocka_unit_test(test_the_rest_of_another_nodes_words_is_in_its_file),
      cmocka_unit_test_setup(test_a_transcript_without_redis, answer),
      cmocka_unit_test(test_an_expired_token_of_a_session_of_another_node),
      cmocka_unit_test(test_an_expired_token_of_a_stream_of_another_node),
      cmocka_unit_test_setup(test_an_erasure_reaches_all_nodes, answer),
      cmocka_unit_test_setup(test_an_erasure_does_not_reach_other_nodes_files, answer),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
