// Real stages: two workers, a ledger on a thread of its own, viewers that come from foreign
// threads. For the thread sanitizer, and for what only a kernel's socket does.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <assert.h>
#include <cmocka.h>

#include <verbacast/broadcast.h>
#include <verbacast/wire/ws.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define VIEWERS 24
#define MESSAGES 2000
#define PATIENCE_S 60

static struct vc_broadcast *broadcast;
static _Atomic uint64_t n_numbered;
static _Atomic int n_joined;

// --- the ledger: answers joins with a hello, then says one message a turn

struct ledger {
  struct vc_putter *putter;
  uint64_t seq;
};

static struct vc_message *make(enum vc_message_kind kind, uint64_t seq)
{
  char text[64];
  struct vc_message *message = vc_message_create(kind, "demo");
  int n = snprintf(text, sizeof text, "%c%llu", kind == VC_MESSAGE_HELLO ? 'H' : 'F',
                   (unsigned long long)seq);
  message->epoch = 1;
  message->seq = seq;
  message->frame = vc_ws_frame_create(VC_WS_TEXT, text, (size_t)n, NULL);
  return message;
}

static int enter(struct vc_worker *worker, void *config, struct vc_error *error)
{
  struct ledger *ledger = calloc(1, sizeof *ledger);
  ledger->putter = vc_putter_create(vc_broadcast_stage(broadcast));
  vc_worker_set_state(worker, ledger);
  return 0;
}

static void handle(struct vc_worker *worker, struct vc_item *item)
{
  struct ledger *ledger = vc_worker_state(worker);
  if (item->kind == VC_ITEM_JOIN) {
    const struct vc_join *join = (const struct vc_join *)item;
    struct vc_answer *answer = vc_answer_create("demo");
    answer->viewer_id = join->viewer_id;
    answer->is_last = 1;
    answer->live_from = (struct vc_position){1, ledger->seq + 1};
    answer->messages[answer->n_messages++] = make(VC_MESSAGE_HELLO, ledger->seq);
    assert(vc_putter_put(ledger->putter, join->worker, &answer->item) == 0);
    atomic_fetch_add(&n_joined, 1);
  }
  vc_item_destroy(item);
}

static void tick(struct vc_worker *worker)
{
  struct ledger *ledger = vc_worker_state(worker);
  for (int i = 0; i < 50 && ledger->seq < MESSAGES && atomic_load(&n_joined) == VIEWERS; i++) {
    struct vc_message *message = make(VC_MESSAGE_FINAL, ++ledger->seq);
    for (uint32_t j = 0; j < 2; j++) {
      struct vc_live *live = vc_live_create(message);
      assert(vc_putter_put(ledger->putter, j, &live->item) == 0); // the lane holds all
    }
    vc_message_unref(message);
    atomic_store(&n_numbered, ledger->seq);
  }
}

static void leave(struct vc_worker *worker)
{
  free(vc_worker_state(worker));
}

static const struct vc_stage_ops ledger_ops = {
    .name = "ledger", .enter = enter, .handle = handle, .tick = tick, .leave = leave};

// --- a viewer

static void *come(void *context)
{
  struct vc_newcomer newcomer = {.fd = *(int *)context, .slug = "demo", .is_exempt = 1};
  vc_broadcast_adopt(broadcast, &newcomer);
  return NULL;
}

struct reader {
  uint64_t seq; // of the last message
  int fd;
  int code; // what the close said
};

static void take_event(struct reader *reader, const struct vc_ws_event *event)
{
  if (event->opcode == VC_WS_CLOSE) {
    reader->code = event->close_code;
  } else if (event->payload[0] == 'F') {
    char text[32] = "";
    memcpy(text, event->payload + 1, event->size - 1);
    assert_int_equal(strtoull(text, NULL, 10), ++reader->seq);
  }
}

// Reads in order until the message of that number, or the close.
static void read_to(struct reader *reader, uint64_t seq)
{
  struct vc_ws_parser parser;
  uint8_t bytes[4096];
  ssize_t n;
  vc_ws_parser_init(&parser, VC_WS_CLIENT, 65536);
  while (reader->seq < seq && reader->code == 0 &&
         (n = read(reader->fd, bytes, sizeof bytes)) > 0) {
    struct vc_ws_event event;
    for (size_t at = 0, used; at < (size_t)n; at += used) {
      int status = vc_ws_parse(&parser, bytes + at, (size_t)n - at, &used, &event);
      assert_true(status >= 0);
      if (status == 1) {
        take_event(reader, &event);
      }
    }
  }
  vc_ws_parser_fini(&parser);
}

static void *stop_broadcast(void *context)
{
  vc_stage_stop(vc_broadcast_stage(broadcast), PATIENCE_S * 1000);
  return NULL;
}

static void test_all_get_all(void **state)
{
  static const struct vc_broadcast_options options = {.max_broadcast_queue_size = MESSAGES,
                                                      .ping_interval_ms = 3600000,
                                                      .pong_timeout = 3,
                                                      .slow_viewer_timeout_ms = 3600000};
  struct vc_error error;
  struct vc_stage *ledger;
  struct reader ours[VIEWERS] = {0};
  int theirs[VIEWERS];
  pthread_t threads[VIEWERS];
  struct vc_broadcast_settings settings = {
      .options = &options, .n_workers = 2, .max_viewers = VIEWERS, .clock = &vc_clock_system};
  assert_int_equal(vc_broadcast_create(&broadcast, &settings, &error), 0);
  struct vc_stage_settings ledger_settings = {.ops = &ledger_ops,
                                              .n_workers = 1,
                                              .tick_ms = 1,
                                              .lane_capacity = 1024,
                                              .clock = &vc_clock_system};
  assert_int_equal(vc_stage_create(&ledger, &ledger_settings, &error), 0);
  vc_broadcast_set_ledger(broadcast, ledger);
  assert_int_equal(vc_stage_start(vc_broadcast_stage(broadcast), &error), 0);
  assert_int_equal(vc_stage_start(ledger, &error), 0);
  for (int i = 0; i < VIEWERS; i++) {
    int pair[2], size = 4096; // so that it is often full
    struct timeval patience = {.tv_sec = PATIENCE_S};
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    ours[i].fd = pair[0];
    theirs[i] = pair[1];
    assert_int_equal(pthread_create(&threads[i], NULL, come, &theirs[i]), 0);
  }
  for (int i = 0; i < VIEWERS; i++) {
    pthread_join(threads[i], NULL);
  }
  for (uint64_t waited = 0; atomic_load(&n_numbered) < MESSAGES; waited++) {
    assert_true(waited < PATIENCE_S * 100);
    usleep(10000);
  }
  for (int i = 0; i < VIEWERS; i++) {
    read_to(&ours[i], MESSAGES); // a drain has a second for what is unsent
    assert_int_equal(ours[i].seq, MESSAGES);
  }
  vc_stage_stop(ledger, 1000);
  pthread_t stopper;
  assert_int_equal(pthread_create(&stopper, NULL, stop_broadcast, NULL), 0);
  for (int i = 0; i < VIEWERS; i++) {
    read_to(&ours[i], MESSAGES + 1);
    assert_int_equal(ours[i].code, 1001);
    assert_int_equal(ours[i].seq, MESSAGES);
    close(ours[i].fd);
  }
  pthread_join(stopper, NULL);
  vc_broadcast_destroy(&broadcast);
  vc_stage_destroy(&ledger);
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_all_get_all)};
  return cmocka_run_group_tests_name("broadcast/threads", tests, NULL, NULL);
}
