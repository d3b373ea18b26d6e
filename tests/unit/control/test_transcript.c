// Transcripts: each format's bytes, what comes from the ledger and what from the store.
#include "rig.h"

#include <verbacast/wire/record.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <math.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "store_rig.h"

static struct rig *rig;     // no store
static struct rig *storing; // a store in `folder`
static struct folder folder;
static char url[128];

static int set_up(void **state)
{
  char environment[160];
  const char *const with_store[] = {environment, NULL};
  folder_make(&folder);
  snprintf(url, sizeof url, "sqlite:%s", folder_file(&folder, "store.db"));
  snprintf(environment, sizeof environment, "DATABASE_URL=%s", url);
  rig = rig_create(&with_store[1], "");
  storing = rig_create(with_store, "");
  return 0;
}

static int tear_down(void **state)
{
  rig_destroy(rig);
  rig_destroy(storing);
  folder_remove(&folder);
  return 0;
}

// --- what the ledger holds

static char held[65536];

static void hold_nothing(void)
{
  snprintf(held, sizeof held, "[]");
}

static void hold(int64_t epoch, uint64_t seq, double start_s, double end_s, const char *speaker,
                 const char *text)
{
  char id[32];
  struct vc_text record = {0};
  snprintf(id, sizeof id, "1-0-%d", (int)seq);
  const struct vc_utterance utterance = {.id = id,
                                         .text = text,
                                         .language = "en",
                                         .speaker = speaker,
                                         .start_s = start_s,
                                         .end_s = end_s,
                                         .confidence = NAN,
                                         .is_final = 1};
  vc_record_print(&record, &(struct vc_record_fields){.type = VC_RECORD_TYPE_TRANSCRIPT,
                                                      .session = "demo",
                                                      .epoch = epoch,
                                                      .node = "a1",
                                                      .started_at_ms = epoch,
                                                      .seq = seq,
                                                      .utterance_id = id,
                                                      .utterance = &utterance,
                                                      .received_at_us = epoch * 1000});
  size_t n = strlen(held);
  int added = snprintf(held + n - 1, sizeof held - n + 1, "%s%s]", n > 2 ? "," : "", record.at);
  assert_true(added > 0 && (size_t)added < sizeof held - n);
  vc_text_fini(&record);
}

static void expect_of(struct rig *from, const char *format, int status, const char *is_complete)
{
  char target[64], line[64];
  snprintf(target, sizeof target, "/sessions/demo/transcript.%s", format);
  int got = rig_get(from, HTTP_DOOR, target);
  if (got != status) {
    fail_msg("%s: %d, not %d: %s", target, got, status, from->body);
  }
  snprintf(line, sizeof line, "X-Verbacast-Complete: %s\r\n", is_complete);
  if (status == 200 && strstr(from->head, line) == NULL) {
    fail_msg("%s: not '%s': %s", target, line, from->head);
  }
}

static void expect(const char *format, const char *type, const char *body)
{
  char line[96];
  rig_reply(rig, VC_QUERY_TRANSCRIPT, (struct rig_reply){.status = 200, .text = held});
  expect_of(rig, format, 200, "true");
  assert_string_equal(rig->body, body);
  assert_string_equal(rig->asked, "demo");
  snprintf(line, sizeof line, "Content-Type: %s\r\n", type);
  assert_non_null(strstr(rig->head, line));
}

static void expect_txt(const char *body)
{
  expect("txt", "text/plain; charset=utf-8", body);
}

static void expect_srt(const char *body)
{
  expect("srt", "application/x-subrip; charset=utf-8", body);
}

static void expect_vtt(const char *body)
{
  expect("vtt", "text/vtt; charset=utf-8", body);
}

static void expect_json(const char *body)
{
  expect("json", "application/json", body);
}

static void test_empty(void **state)
{
  hold_nothing();
  expect_txt("");
  expect_srt("");
  expect_vtt("WEBVTT\n\n");
  expect_json("{\"session\":\"demo\",\"transcripts\":[]}\n");
}

static void test_two_finals(void **state)
{
  hold_nothing();
  hold(1000, 2, 0.5, 1.25, NULL, "Good morning.");
  hold(1000, 5, 1.25, 2, "Ann", "Hello.");
  expect_txt("Good morning.\nAnn: Hello.\n");
  expect_srt("1\n00:00:00,500 --> 00:00:01,250\nGood morning.\n\n"
             "2\n00:00:01,250 --> 00:00:02,000\nAnn: Hello.\n\n");
  expect_vtt("WEBVTT\n\n00:00:00.500 --> 00:00:01.250\nGood morning.\n\n"
             "00:00:01.250 --> 00:00:02.000\n<v Ann>Hello.\n\n");
  expect_json("{\"session\":\"demo\",\"transcripts\":["
              "{\"epoch\":1000,\"seq\":2,\"utteranceId\":\"1-0-2\",\"text\":\"Good morning.\","
              "\"language\":\"en\",\"speaker\":null,\"confidence\":null,\"start\":0.500,"
              "\"end\":1.250,\"words\":null},"
              "{\"epoch\":1000,\"seq\":5,\"utteranceId\":\"1-0-5\",\"text\":\"Hello.\","
              "\"language\":\"en\",\"speaker\":\"Ann\",\"confidence\":null,\"start\":1.250,"
              "\"end\":2.000,\"words\":null}]}\n");
}

static void test_times(void **state)
{
  hold_nothing();
  hold(1000, 1, 0, 59.9994, NULL, "a");
  hold(1000, 2, 59.9996, 3599.9996, NULL, "b");
  hold(1000, 3, 3661.001, 35999.999, NULL, "c");
  hold(1000, 4, 360000, 3600000.5, NULL, "d");
  expect_srt("1\n00:00:00,000 --> 00:00:59,999\na\n\n2\n00:01:00,000 --> 01:00:00,000\nb\n\n"
             "3\n01:01:01,001 --> 09:59:59,999\nc\n\n4\n100:00:00,000 --> 1000:00:00,500\nd\n\n");
  expect_vtt("WEBVTT\n\n00:00:00.000 --> 00:00:59.999\na\n\n00:01:00.000 --> 01:00:00.000\nb\n\n"
             "01:01:01.001 --> 09:59:59.999\nc\n\n100:00:00.000 --> 1000:00:00.500\nd\n\n");
}

static void test_a_cue_lasts(void **state)
{
  hold_nothing();
  hold(1000, 1, 5, 5, NULL, "a");
  hold(1000, 2, 6.0004, 6.0006, NULL, "b");
  expect_srt("1\n00:00:05,000 --> 00:00:05,001\na\n\n2\n00:00:06,000 --> 00:00:06,001\nb\n\n");
  expect_vtt("WEBVTT\n\n00:00:05.000 --> 00:00:05.001\na\n\n"
             "00:00:06.000 --> 00:00:06.001\nb\n\n");
}

// A cue's clock goes on where the epoch before ended, by its latest end.
static void test_epochs_follow_each_other(void **state)
{
  hold_nothing();
  hold(1000, 1, 0, 30, NULL, "a");
  hold(1000, 2, 10, 20, NULL, "b");
  hold(2000, 1, 1, 2, NULL, "c");
  hold(3000, 1, 0, 1, NULL, "d");
  expect_srt("1\n00:00:00,000 --> 00:00:30,000\na\n\n2\n00:00:10,000 --> 00:00:20,000\nb\n\n"
             "3\n00:00:31,000 --> 00:00:32,000\nc\n\n4\n00:00:32,000 --> 00:00:33,000\nd\n\n");
}

// A line break would end a line of text, two of them a cue.
static void test_line_breaks(void **state)
{
  hold_nothing();
  hold(1000, 1, 0, 1, "A\nnn", "one\ntwo\r\nthree\n\nfour\tfive\x7f");
  expect_txt("A nn: one two  three  four five \n");
  expect_srt("1\n00:00:00,000 --> 00:00:01,000\nA nn: one two  three  four five \n\n");
  expect_vtt("WEBVTT\n\n00:00:00.000 --> 00:00:01.000\n<v A nn>one two  three  four five \n\n");
  hold_nothing();
  hold(1000, 1, 0, 1, NULL, "a\n\n2\n00:00:05,000 --> 00:00:06,000\nnever said");
  expect_srt("1\n00:00:00,000 --> 00:00:01,000\n"
             "a  2 00:00:05,000 -- > 00:00:06,000 never said\n\n");
  hold_nothing();
  hold(1000, 1, 0, 1, NULL,
       "a\xc2\x85"
       "b\xe2\x80\xa8"
       "c\xe2\x80\xa9"
       "d\xc2\x84\xe2\x80\xaa");
  expect_txt("a b c d\xc2\x84\xe2\x80\xaa\n");
}

static void test_arrows(void **state)
{
  hold_nothing();
  hold(1000, 1, 0, 1, "-->", "00:00:05,000 --> 00:00:06,000");
  hold(1000, 2, 1, 2, NULL, "--->-->>->--");
  expect_txt("-->: 00:00:05,000 --> 00:00:06,000\n--->-->>->--\n");
  expect_srt("1\n00:00:00,000 --> 00:00:01,000\n-- >: 00:00:05,000 -- > 00:00:06,000\n\n"
             "2\n00:00:01,000 --> 00:00:02,000\n--- >-- >>->--\n\n");
  expect_vtt("WEBVTT\n\n00:00:00.000 --> 00:00:01.000\n"
             "<v --&gt;>00:00:05,000 --&gt; 00:00:06,000\n\n"
             "00:00:01.000 --> 00:00:02.000\n---&gt;--&gt;&gt;-&gt;--\n\n");
}

static void test_markup_in_vtt_is_text(void **state)
{
  hold_nothing();
  hold(1000, 1, 0, 1, "<b>&", "<script>alert('x')</script> &amp; <00:00:01.000> \"q\"");
  expect_vtt("WEBVTT\n\n00:00:00.000 --> 00:00:01.000\n"
             "<v &lt;b&gt;&amp;>&lt;script&gt;alert('x')&lt;/script&gt; &amp;amp; "
             "&lt;00:00:01.000&gt; \"q\"\n\n");
  expect_txt("<b>&: <script>alert('x')</script> &amp; <00:00:01.000> \"q\"\n");
}

static void test_a_json_string_stays_what_it_is(void **state)
{
  hold_nothing();
  hold(1000, 1, 0, 1, NULL, "\"\\\n\x01 \xc3\xa4\xf0\x9f\x98\x80 </script>");
  expect_json("{\"session\":\"demo\",\"transcripts\":["
              "{\"epoch\":1000,\"seq\":1,\"utteranceId\":\"1-0-1\",\"text\":\"\\\"\\\\\\n\\u0001 "
              "\xc3\xa4\xf0\x9f\x98\x80 </script>\",\"language\":\"en\",\"speaker\":null,"
              "\"confidence\":null,\"start\":0.000,\"end\":1.000,\"words\":null}]}\n");
}

// --- where it comes from

static void test_an_unknown_session(void **state)
{
  rig_reply(rig, VC_QUERY_TRANSCRIPT, (struct rig_reply){.status = 404});
  expect_of(rig, "txt", 404, "");
}

static void test_a_ledger_that_is_busy(void **state)
{
  rig_reply(rig, VC_QUERY_TRANSCRIPT, (struct rig_reply){.status = 503});
  expect_of(rig, "txt", 503, "");
  rig_reply(rig, VC_QUERY_TRANSCRIPT, (struct rig_reply){.status = 200, .text = "[{"});
  expect_of(rig, "txt", 503, "");
}

static void *ask_and_forget(void *context)
{
  const enum rig_door *door = context;
  struct rig client = {.doors = {rig->doors[HTTP_DOOR], rig->doors[ADMIN_DOOR]}};
  rig_get(&client, *door, "/sessions/demo/transcript.txt");
  free(client.head);
  return NULL;
}

static void test_few_are_made_at_once(void **state)
{
  enum { AT_ONCE = 4 };
  static enum rig_door door = HTTP_DOOR;
  pthread_t threads[AT_ONCE];
  rig_reply(rig, VC_QUERY_TRANSCRIPT, (struct rig_reply){.is_held = 1});
  for (int i = 0; i < AT_ONCE; i++) {
    assert_int_equal(pthread_create(&threads[i], NULL, ask_and_forget, &door), 0);
  }
  rig_await_held(rig, AT_ONCE);
  expect_of(rig, "txt", 503, "");
  assert_non_null(strstr(rig->body, "too many transcripts"));
  rig_release(rig, 404);
  for (int i = 0; i < AT_ONCE; i++) {
    pthread_join(threads[i], NULL);
  }
  hold_nothing();
  expect_txt("");
}

static void test_those_that_wait_leave_the_operators_room(void **state)
{
  enum { AT_ONCE = 2 };
  static enum rig_door door = ADMIN_DOOR;
  pthread_t threads[AT_ONCE];
  rig_reply(rig, VC_QUERY_TRANSCRIPT, (struct rig_reply){.is_held = 1});
  for (int i = 0; i < AT_ONCE; i++) {
    assert_int_equal(pthread_create(&threads[i], NULL, ask_and_forget, &door), 0);
  }
  rig_await_held(rig, AT_ONCE);
  assert_int_equal(rig_get(rig, ADMIN_DOOR, "/sessions/demo/transcript.txt"), 503);
  assert_non_null(strstr(rig->body, "at this door"));
  assert_int_equal(rig_ask(rig, ADMIN_DOOR, "DELETE", "/sessions/demo", ""), 503);
  assert_non_null(strstr(rig->body, "at this door"));
  assert_int_equal(rig_get(rig, ADMIN_DOOR, "/healthz"), 200);
  rig_reply(rig, VC_QUERY_TRANSCRIPT, (struct rig_reply){.status = 404});
  expect_of(rig, "txt", 404, ""); // the viewers have places left
  rig_release(rig, 404);
  for (int i = 0; i < AT_ONCE; i++) {
    pthread_join(threads[i], NULL);
  }
  assert_int_equal(rig_get(rig, ADMIN_DOOR, "/sessions/demo/transcript.txt"), 404);
}

static void test_holes_are_said(void **state)
{
  hold_nothing();
  hold(1000, 7, 0, 1, NULL, "a");
  rig_reply(rig, VC_QUERY_TRANSCRIPT,
            (struct rig_reply){.status = 200, .text = held, .is_incomplete = 1});
  expect_of(rig, "txt", 200, "false");
}

static void store_finals(int64_t epoch, uint64_t first, uint64_t last)
{
  struct vc_store *store;
  struct vc_error error;
  size_t n = (size_t)(last - first + 1);
  struct vc_store_row *rows = calloc(n, sizeof *rows);
  assert_non_null(rows);
  assert_int_equal(vc_store_open(&store, url, &error), 0);
  for (size_t i = 0; i < n; i++) {
    char id[32], text[32];
    snprintf(id, sizeof id, "1-0-%d", (int)(first + i));
    snprintf(text, sizeof text, "s%d", (int)(first + i));
    char *value = record_final("demo", epoch, first + i, id, text);
    rows[i] = (struct vc_store_row){.value = value, .size = strlen(value)};
  }
  assert_int_equal(vc_store_write(store, rows, n, &error), 0);
  for (size_t i = 0; i < n; i++) {
    assert_int_equal(rows[i].outcome, VC_STORE_STORED);
    free((char *)rows[i].value);
  }
  free(rows);
  vc_store_close(&store);
}

static void forget_store(void)
{
  remove(folder_file(&folder, "store.db"));
  remove(folder_file(&folder, "store.db-wal"));
  remove(folder_file(&folder, "store.db-shm"));
}

static void expect_stored(int held_status, int is_incomplete, const char *is_complete,
                          const char *body)
{
  rig_reply(storing, VC_QUERY_TRANSCRIPT,
            (struct rig_reply){.status = held_status,
                               .text = held_status == 200 ? held : NULL,
                               .is_incomplete = is_incomplete});
  expect_of(storing, "txt", 200, is_complete);
  assert_string_equal(storing->body, body);
}

static void test_the_store_gives_what_the_ledger_does_not_hold(void **state)
{
  forget_store();
  store_finals(1000, 1, 2);
  store_finals(2000, 1, 4);
  hold_nothing();
  expect_stored(404, 0, "true", "s1\ns2\ns1\ns2\ns3\ns4\n");
  expect_stored(200, 0, "true", "s1\ns2\ns1\ns2\ns3\ns4\n");
  hold(2000, 3, 0, 1, NULL, "h3"); // none twice
  hold(2000, 5, 0, 1, NULL, "h5");
  expect_stored(200, 1, "true", "s1\ns2\ns1\ns2\nh3\ns4\nh5\n");
}

// Word times that were spread say so, in what the ledger holds and in what the store has.
static void test_spread_words_say_so(void **state)
{
  struct vc_store *store;
  struct vc_error error;
  char *stored = record_spread("demo", 1000, 1), *live = record_spread("demo", 1000, 2);
  struct vc_store_row row = {.value = stored, .size = strlen(stored)};
  forget_store();
  assert_int_equal(vc_store_open(&store, url, &error), 0);
  assert_int_equal(vc_store_write(store, &row, 1, &error), 0);
  vc_store_close(&store);
  snprintf(held, sizeof held, "[%s]", live);
  free(stored);
  free(live);
  rig_reply(storing, VC_QUERY_TRANSCRIPT, (struct rig_reply){.status = 200, .text = held});
  expect_of(storing, "json", 200, "true");
  const char *first = strstr(storing->body, "],\"approximate\":true}");
  assert_non_null(first);
  assert_non_null(strstr(first + 1, "],\"approximate\":true}"));
}

static char *waiting_list(int64_t epoch, uint64_t first, uint64_t last)
{
  struct vc_text list = {0};
  char *started = record_started("demo", epoch), *partial = record_partial("demo", epoch, 1, "p");
  vc_text_format(&list, "[%s,%s", started, partial); // no final is passed over
  free(started);
  free(partial);
  for (uint64_t seq = first; seq <= last; seq++) {
    char id[32], text[32];
    snprintf(id, sizeof id, "1-0-%d", (int)seq);
    snprintf(text, sizeof text, "w%d", (int)seq);
    char *value = record_final("demo", epoch, seq, id, text);
    vc_text_format(&list, ",%s", value);
    free(value);
  }
  vc_text_add(&list, "]");
  assert_false(list.has_failed);
  return list.at;
}

static void wait_in_journal(struct rig_reply reply)
{
  rig_reply(storing, VC_QUERY_UNRELAYED, reply);
}

// What has left the ledger and is not in the store yet is on its way from the one to the other.
static void test_what_the_journal_has_is_not_missed(void **state)
{
  forget_store();
  store_finals(1000, 1, 3);
  hold_nothing();
  char *list = waiting_list(1000, 3, 5); // the third is in the store already
  wait_in_journal((struct rig_reply){.status = 200, .text = list});
  expect_stored(404, 0, "true", "s1\ns2\nw3\nw4\nw5\n");
  hold(1000, 5, 0, 1, NULL, "h5");
  hold(1000, 6, 0, 1, NULL, "h6");
  expect_stored(200, 1, "true", "s1\ns2\nw3\nw4\nh5\nh6\n");
  wait_in_journal((struct rig_reply){.status = 200, .text = list, .is_incomplete = 1});
  expect_stored(200, 1, "false", "s1\ns2\nw3\nw4\nh5\nh6\n");
  wait_in_journal((struct rig_reply){.status = 404});
  free(list);
}

static void test_a_journal_that_cannot_be_asked_leaves_a_hole(void **state)
{
  forget_store();
  store_finals(1000, 1, 2);
  hold_nothing();
  wait_in_journal((struct rig_reply){.status = 503});
  expect_stored(404, 0, "false", "s1\ns2\n");
  forget_store();
  store_finals(2000, 1, 0); // the tables, with nothing in them
  rig_reply(storing, VC_QUERY_TRANSCRIPT, (struct rig_reply){.status = 404});
  expect_of(storing, "txt", 503, "");
  wait_in_journal((struct rig_reply){.status = 404});
  expect_of(storing, "txt", 404, "");
}

// What was before the ledger's first final may stand in it.
static void test_a_store_that_cannot_be_read_leaves_a_hole(void **state)
{
  forget_store();
  hold_nothing();
  hold(2000, 1, 0, 1, NULL, "h1");
  expect_stored(200, 0, "false", "h1\n");
  rig_reply(storing, VC_QUERY_TRANSCRIPT, (struct rig_reply){.status = 404});
  expect_of(storing, "txt", 503, "");
}

// Whoever listens there never answers.
static int open_hole(char *environment, size_t size)
{
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t length = sizeof address;
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  assert_int_equal(bind(fd, (struct sockaddr *)&address, length), 0);
  assert_int_equal(listen(fd, 16), 0);
  assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &length), 0);
  snprintf(environment, size, "DATABASE_URL=postgresql://demo@127.0.0.1:%u/demo",
           ntohs(address.sin_port));
  return fd;
}

static int n_connections(int hole)
{
  int fd, n = 0;
  assert_int_equal(fcntl(hole, F_SETFL, O_NONBLOCK), 0);
  while ((fd = accept(hole, NULL, NULL)) >= 0) {
    close(fd);
    n++;
  }
  return n;
}

static void test_a_store_that_does_not_answer_is_left_alone(void **state)
{
  char environment[96];
  const char *const with_hole[] = {environment, NULL};
  int hole = open_hole(environment, sizeof environment);
  struct rig *waiting = rig_create(with_hole, "");
  hold_nothing();
  hold(2000, 1, 0, 1, NULL, "h1");
  rig_reply(waiting, VC_QUERY_TRANSCRIPT, (struct rig_reply){.status = 200, .text = held});
  expect_of(waiting, "txt", 200, "false");
  assert_string_equal(waiting->body, "h1\n");
  assert_true(n_connections(hole) > 0);
  expect_of(waiting, "txt", 200, "false");
  assert_int_equal(n_connections(hole), 0);
  atomic_store(&waiting->forward_ns, RIG_STORE_REST_MS * VC_NS_PER_MS);
  expect_of(waiting, "txt", 200, "false");
  assert_true(n_connections(hole) > 0);
  rig_destroy(waiting);
  close(hole);
}

static void test_a_transcript_that_is_too_long_is_not_complete(void **state)
{
  forget_store();
  store_finals(1000, 1, RIG_STORED_MAX + 1);
  rig_reply(storing, VC_QUERY_TRANSCRIPT, (struct rig_reply){.status = 404});
  expect_of(storing, "txt", 200, "false");
  assert_non_null(strstr(storing->body, "\ns50\n"));
  assert_null(strstr(storing->body, "\ns51\n"));
  forget_store();
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_empty),
      cmocka_unit_test(test_two_finals),
      cmocka_unit_test(test_times),
      cmocka_unit_test(test_a_cue_lasts),
      cmocka_unit_test(test_epochs_follow_each_other),
      cmocka_unit_test(test_line_breaks),
      cmocka_unit_test(test_arrows),
      cmocka_unit_test(test_markup_in_vtt_is_text),
      cmocka_unit_test(test_a_json_string_stays_what_it_is),
      cmocka_unit_test(test_an_unknown_session),
      cmocka_unit_test(test_a_ledger_that_is_busy),
      cmocka_unit_test(test_few_are_made_at_once),
      cmocka_unit_test(test_those_that_wait_leave_the_operators_room),
      cmocka_unit_test(test_holes_are_said),
      cmocka_unit_test(test_the_store_gives_what_the_ledger_does_not_hold),
      cmocka_unit_test(test_spread_words_say_so),
      cmocka_unit_test(test_what_the_journal_has_is_not_missed),
      cmocka_unit_test(test_a_journal_that_cannot_be_asked_leaves_a_hole),
      cmocka_unit_test(test_a_store_that_cannot_be_read_leaves_a_hole),
      cmocka_unit_test(test_a_store_that_does_not_answer_is_left_alone),
      cmocka_unit_test(test_a_transcript_that_is_too_long_is_not_complete),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
