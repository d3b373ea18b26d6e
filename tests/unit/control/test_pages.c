// What is asked of the rooms and printed: /metrics, /sessions, /admin/kick, erasure.
#include "rig.h"

#include <verbacast/wire/json.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "store_rig.h"

#define LAG_OF_A_WORKER                                                                            \
  "{\"demo\":{\"clients\":2,\"queue_size\":7,\"lag\":{\"count\":2,\"count_total\":5,\"sum\":6.0,"  \
  "\"min\":2.0,\"max\":4.0,\"buckets\":{\"44\":1,\"47\":1}}},"                                     \
  "\"quiet\":{\"clients\":1,\"queue_size\":0,\"lag\":{\"count\":0,\"count_total\":3,\"sum\":0,"    \
  "\"min\":0,\"max\":0,\"buckets\":{}}},"                                                          \
  "\"ended\":{\"clients\":1,\"queue_size\":0,\"lag\":{\"count\":0,\"count_total\":3,\"sum\":0,"    \
  "\"min\":0,\"max\":0,\"buckets\":{}}}}"

static struct rig *rig;

static int set_up(void **state)
{
  static const char *const environment[] = {"METRICS_PER_SESSION=1", NULL};
  rig = rig_create(environment, "");
  return 0;
}

static int tear_down(void **state)
{
  rig_destroy(rig);
  return 0;
}

static int answer(void **state)
{
  rig_reply(rig, VC_QUERY_SESSIONS,
            (struct rig_reply){.status = 200,
                               .text = "[{\"slug\":\"demo\",\"state\":\"live\"},"
                                       "{\"slug\":\"quiet\",\"state\":\"reconnecting\"},"
                                       "{\"slug\":\"ended\",\"state\":\"ended\"}]"});
  rig_reply(rig, VC_QUERY_VIEWERS, (struct rig_reply){.status = 200, .text = LAG_OF_A_WORKER});
  rig_reply(rig, VC_QUERY_PUBLISHERS,
            (struct rig_reply){.status = 200, .text = "{\"demo/\":{\"address\":\"192.0.2.1\"}}"});
  rig_reply(rig, VC_QUERY_KICK_PUBLISHER, (struct rig_reply){.status = 200});
  rig_reply(rig, VC_QUERY_KICK_VIEWERS, (struct rig_reply){.status = 404});
  rig_reply(rig, VC_QUERY_ERASE, (struct rig_reply){.status = 200});
  return 0;
}

static json_t *get_json(const char *target)
{
  assert_int_equal(rig_get(rig, ADMIN_DOOR, target), 200);
  json_t *json = vc_json_parse(rig->body, rig->body_size, NULL);
  assert_non_null(json);
  return json;
}

// Both workers say the same: what they have is added up.
static void test_a_sessions_lag_is_that_of_all_workers(void **state)
{
  json_t *page = get_json("/metrics");
  const json_t *session = json_object_get(json_object_get(page, "sessions"), "demo");
  assert_int_equal(vc_json_integer(session, "clients", 0), 4);
  assert_int_equal(vc_json_integer(session, "queue_size", 0), 7);
  assert_true(vc_json_real(session, "broadcast_lag_ms", 0) == 3);
  assert_string_equal(vc_json_string(session, "state", ""), "live");
  const json_t *lag =
      json_object_get(json_object_get(page, "latency"), "ws.session_broadcast_lag_ms.demo");
  assert_int_equal(vc_json_integer(lag, "count", 0), 4);
  assert_int_equal(vc_json_integer(lag, "count_total", 0), 10);
  assert_true(vc_json_real(lag, "min", 0) == 2 && vc_json_real(lag, "max", 0) == 4);
  assert_int_equal(rig->n_asked[VC_QUERY_VIEWERS], 2);
  json_decref(page);
}

static void test_a_quiet_session_has_no_lag_now(void **state)
{
  json_t *page = get_json("/metrics");
  const json_t *latency = json_object_get(page, "latency");
  const json_t *lag = json_object_get(latency, "ws.session_broadcast_lag_ms.quiet");
  const json_t *session = json_object_get(json_object_get(page, "sessions"), "quiet");
  assert_true(json_is_null(json_object_get(session, "broadcast_lag_ms")));
  assert_int_equal(vc_json_integer(lag, "count", -1), 0);
  assert_int_equal(vc_json_integer(lag, "count_total", 0), 6);
  assert_true(json_is_null(json_object_get(lag, "avg")));
  assert_true(json_is_null(json_object_get(lag, "p99")));
  json_decref(page);
}

static void test_only_live_sessions_are_listed(void **state)
{
  json_t *page = get_json("/metrics");
  assert_null(json_object_get(json_object_get(page, "sessions"), "ended"));
  assert_null(
      json_object_get(json_object_get(page, "latency"), "ws.session_broadcast_lag_ms.ended"));
  json_decref(page);
}

static void expect_form(const char *target, const char *headers, const char *type)
{
  char line[96];
  assert_int_equal(rig_ask(rig, ADMIN_DOOR, "GET", target, headers), 200);
  snprintf(line, sizeof line, "Content-Type: %s", type);
  if (strstr(rig->head, line) == NULL) {
    fail_msg("%s with '%s' is not %s", target, headers, type);
  }
}

static void test_which_form_is_asked_for(void **state)
{
  static const char json[] = "application/json\r\n", text[] = "text/plain; version=0.0.4";
  expect_form("/metrics", "", json);
  expect_form("/metrics", "Accept: */*\r\n", json);
  expect_form("/metrics", "Accept: text/html,application/xhtml+xml,*/*;q=0.8\r\n", json);
  expect_form("/metrics", "Accept: application/json, text/plain, */*\r\n", json);
  expect_form("/metrics?format=json", "Accept: text/plain\r\n", json);
  expect_form("/metrics", "Accept: text/plain;version=0.0.4;q=0.5,*/*;q=0.1\r\n", text);
  expect_form("/metrics", "Accept: application/openmetrics-text;version=1.0.0\r\n", text);
  expect_form("/metrics", "Accept: Text/Plain\r\n", text); // media types have no case
  expect_form("/metrics?format=prometheus", "Accept: application/json\r\n", text);
  assert_non_null(strstr(rig->body, "\nverbacast_session_clients{session=\"demo\"} 4\n"));
  assert_non_null(strstr(rig->body, "\nverbacast_session_broadcast_lag_ms{session=\"demo\"} 3\n"));
  assert_null(strstr(rig->body, "verbacast_session_broadcast_lag_ms{session=\"quiet\"}"));
  assert_non_null(strstr(rig->body, "\nverbacast_info{node=\"a1\",version=\"1\"} 1\n"));
}

static void test_rooms_that_do_not_answer_well(void **state)
{
  rig_reply(rig, VC_QUERY_VIEWERS, (struct rig_reply){.status = 503});
  assert_int_equal(rig_get(rig, ADMIN_DOOR, "/metrics"), 503);
  assert_non_null(strstr(rig->head, "Retry-After:"));
  assert_int_equal(rig_get(rig, ADMIN_DOOR, "/metrics?format=prometheus"), 200); // the rest
  rig_reply(rig, VC_QUERY_PUBLISHERS, (struct rig_reply){.status = 200, .text = "{"});
  assert_int_equal(rig_get(rig, ADMIN_DOOR, "/sessions"), 503);
}

static void test_the_list_of_sessions(void **state)
{
  json_t *list = get_json("/sessions");
  assert_int_equal(json_array_size(list), 3);
  const json_t *publisher = json_object_get(json_array_get(list, 0), "publisher");
  assert_string_equal(vc_json_string(publisher, "address", ""), "192.0.2.1");
  assert_true(json_is_null(json_object_get(json_array_get(list, 1), "publisher")));
  json_decref(list);
}

static void expect_publisher(const char *publishers, const char *expected)
{
  rig_reply(rig, VC_QUERY_PUBLISHERS, (struct rig_reply){.status = 200, .text = publishers});
  json_t *list = get_json("/sessions");
  char *text = vc_json_print(json_object_get(json_array_get(list, 0), "publisher"));
  assert_string_equal(text, expected);
  free(text);
  json_decref(list);
}

#define OF_ADA "\"address\":\"::1\",\"connected\":true,\"codec\":\"pcm\",\"muted\":false}"
#define OF_BOB "\"address\":\"::2\",\"connected\":false,\"codec\":\"pcm\"}"
#define OF_NOBODY "\"address\":\"::3\",\"connected\":false,\"codec\":\"aac\""
#define ADA "\"demo/Ada\":{" OF_ADA
#define BOB "\"demo/B/b\":{" OF_BOB
#define NOBODY "\"demo/\":{" OF_NOBODY "}"
#define ADA_ROW "{\"participant\":\"Ada\"," OF_ADA
#define BOB_ROW "{\"participant\":\"B/b\"," OF_BOB

static void test_the_publishers_of_a_session(void **state)
{
  expect_publisher("{\"other/Ada\":{}}", "null");
  expect_publisher("{" BOB "," ADA "}", "{\"address\":null,\"connected\":true,\"codec\":\"pcm\","
                                        "\"participants\":[" BOB_ROW "," ADA_ROW "]}");
  expect_publisher("{" ADA "," NOBODY "}", "{" OF_NOBODY ",\"participants\":[" ADA_ROW "]}");
  expect_publisher("{" NOBODY "," ADA "}", "{" OF_NOBODY ",\"participants\":[" ADA_ROW "]}");
  expect_publisher("{" NOBODY "}", "{" OF_NOBODY ",\"participants\":[]}");
}

static void test_kicks(void **state)
{
  static const struct {
    const char *body;
    int status;
  } kicks[] = {
      {"{\"session\":\"demo\"}", 200},
      {"{\"session\":\"demo\",\"what\":\"publisher\"}", 200},
      {"{\"session\":\"demo\",\"what\":\"viewers\"}", 404},
      {"{\"session\":\"demo\",\"participant\":\"Ada\"}", 200},
      {"{\"session\":\"demo\",\"participant\":\"\"}", 400},
      {"{\"session\":\"demo\",\"participant\":7}", 400},
      {"{\"session\":\"demo\",\"participant\":\"Ada\",\"what\":\"viewers\"}", 400},
      {"{\"session\":\"demo\",\"what\":\"all\"}", 400},
      {"{\"session\":\"demo\",\"what\":7}", 400},
      {"{\"session\":\"demo\",\"what\":null}", 400},
      {"{\"session\":\"\"}", 400},
      {"{\"session\":\"../x\"}", 400},
      {"{\"session\":[\"demo\"]}", 400},
      {"{\"session\":\"demo\\u0000x\"}", 400},
      {"{}", 400},
      {"[]", 400},
      {"", 400},
      {"{\"session\":\"demo\"", 400},
      {"\xff", 400},
  };
  for (size_t i = 0; i < sizeof kicks / sizeof *kicks; i++) {
    int status = rig_post(rig, ADMIN_DOOR, "/admin/kick", "", kicks[i].body);
    if (status != kicks[i].status) {
      fail_msg("%s: %d", kicks[i].body, status);
    }
    assert_string_equal(rig->asked_participant, i == 3 ? "Ada" : "");
    rig->asked_participant[0] = '\0';
  }
  rig_reply(rig, VC_QUERY_KICK_VIEWERS, (struct rig_reply){.status = 200});
  assert_int_equal(rig_post(rig, ADMIN_DOOR, "/admin/kick", "", kicks[2].body), 200);
  assert_int_equal(rig->n_asked[VC_QUERY_KICK_VIEWERS], 2);
  assert_string_equal(rig->asked, "demo");
}

static void test_erasure(void **state)
{
  assert_int_equal(rig_ask(rig, ADMIN_DOOR, "DELETE", "/sessions/demo", ""), 200);
  assert_string_equal(rig->body, "{\"session\":\"demo\",\"erased\":true,\"finals\":0,"
                                 "\"remains\":[]}");
  assert_int_equal(rig->n_asked[VC_QUERY_ERASE], 2); // ledger and journal
  rig_reply(rig, VC_QUERY_ERASE, (struct rig_reply){.status = 409});
  assert_int_equal(rig_ask(rig, ADMIN_DOOR, "DELETE", "/sessions/demo", ""), 409);
  assert_int_equal(rig->n_asked[VC_QUERY_ERASE], 1); // the journal keeps what is live
  rig_reply(rig, VC_QUERY_ERASE, (struct rig_reply){.status = 404});
  assert_int_equal(rig_ask(rig, ADMIN_DOOR, "DELETE", "/sessions/demo", ""), 503);
  assert_string_equal(rig->body, "{\"session\":\"demo\",\"erased\":false,\"finals\":0,"
                                 "\"remains\":[{\"where\":\"journal\","
                                 "\"why\":\"the journal did not delete it\"}]}");
}

static void expect_erased(struct rig *from, const char *target, const char *finals)
{
  assert_int_equal(rig_ask(from, ADMIN_DOOR, "DELETE", target, ""), 200);
  assert_non_null(strstr(from->body, finals));
}

static void write_final(const char *url, struct vc_store_row *row)
{
  struct vc_store *store;
  struct vc_error error;
  assert_int_equal(vc_store_open(&store, url, &error), 0);
  assert_int_equal(vc_store_write(store, row, 1, &error), 0);
  vc_store_close(&store);
}

// It is gone, what comes late stays away, and what others hold is said.
static void test_what_an_erasure_leaves(void **state)
{
  struct folder folder;
  char environment[128];
  folder_make(&folder);
  snprintf(environment, sizeof environment, "DATABASE_URL=sqlite:%s", folder_file(&folder, "a.db"));
  const char *const with_kafka[] = {environment, "KAFKA_TOPIC=words", NULL};
  struct rig *sending = rig_create(with_kafka, "");
  rig_reply(sending, VC_QUERY_ERASE, (struct rig_reply){.status = 200});
  char *value = record_final("demo", 1000, 1, "1-0-1", "unsaid");
  struct vc_store_row row = {.value = value, .size = strlen(value)};
  write_final(environment + 13, &row);
  expect_erased(sending, "/sessions/demo", "\"finals\":1,");
  assert_non_null(strstr(sending->body, "\"remains\":[{\"where\":\"kafka\",\"topics\":[\"words\","
                                        "\"words.sessions\",\"words.partial\",\"words.dead\"],"));
  assert_int_equal(folder_holds(&folder, "unsaid"), 0);
  write_final(environment + 13, &row);
  assert_int_equal(row.outcome, VC_STORE_ERASED);
  expect_erased(sending, "/sessions/demo", "\"finals\":0,");
  free(value);
  rig_destroy(sending);
  folder_remove(&folder);
}

// The sink makes its database; one that this node made would be read as if it had all.
static void test_an_erasure_makes_no_database_for_the_sink(void **state)
{
  struct folder folder;
  char environment[128];
  folder_make(&folder);
  snprintf(environment, sizeof environment, "DATABASE_URL=sqlite:%s", folder_file(&folder, "a.db"));
  const char *const with_kafka[] = {environment, "KAFKA_TOPIC=words", NULL};
  struct rig *sending = rig_create(with_kafka, "");
  rig_reply(sending, VC_QUERY_ERASE, (struct rig_reply){.status = 200});
  expect_erased(sending, "/sessions/demo", "\"finals\":0,");
  assert_int_equal(vc_store_exists(environment + 13), 0);
  rig_destroy(sending);
  folder_remove(&folder);
}

static void test_an_erasure_that_the_database_does_not_do(void **state)
{
  static const char *const away[] = {"DATABASE_URL=sqlite:/nonexistent/a.db", NULL};
  struct rig *storing = rig_create(away, "");
  rig_reply(storing, VC_QUERY_ERASE, (struct rig_reply){.status = 200});
  assert_int_equal(rig_ask(storing, ADMIN_DOOR, "DELETE", "/sessions/demo", ""), 503);
  assert_non_null(strstr(storing->body, "\"erased\":false"));
  assert_non_null(strstr(storing->body, "{\"where\":\"database\","));
  assert_int_equal(storing->n_asked[VC_QUERY_ERASE], 2); // the journal's rows go nevertheless
  rig_destroy(storing);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup(test_a_sessions_lag_is_that_of_all_workers, answer),
      cmocka_unit_test_setup(test_a_quiet_session_has_no_lag_now, answer),
      cmocka_unit_test_setup(test_only_live_sessions_are_listed, answer),
      cmocka_unit_test_setup(test_which_form_is_asked_for, answer),
      cmocka_unit_test_setup(test_rooms_that_do_not_answer_well, answer),
      cmocka_unit_test_setup(test_the_list_of_sessions, answer),
      cmocka_unit_test_setup(test_the_publishers_of_a_session, answer),
      cmocka_unit_test_setup(test_kicks, answer),
      cmocka_unit_test_setup(test_erasure, answer),
      cmocka_unit_test(test_what_an_erasure_leaves),
      cmocka_unit_test(test_an_erasure_makes_no_database_for_the_sink),
      cmocka_unit_test(test_an_erasure_that_the_database_does_not_do),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
