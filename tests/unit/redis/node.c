#include "node.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <utlist.h>

#include <verbacast/wire/viewer.h>
#include <verbacast/wire/ws.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "shown.h"

#define STARTED_MS INT64_C(1790000000000)

// --- its ledger

static int enter_ledger(struct vc_worker *worker, void *config, struct vc_error *error)
{
  vc_worker_set_state(worker, *(struct node **)config);
  return 0;
}

static void handle_remote(struct vc_worker *worker, struct vc_item *item)
{
  struct node *node = vc_worker_state(worker);
  assert_int_equal(item->kind, VC_ITEM_REMOTE);
  pthread_mutex_lock(&node->mutex);
  while (node->is_blocked) {
    pthread_cond_wait(&node->changed, &node->mutex);
  }
  DL_APPEND(node->remotes, item);
  pthread_mutex_unlock(&node->mutex);
}

static void leave(struct vc_worker *worker) {}

static const struct vc_stage_ops ledger_ops = {
    .name = "ledger", .enter = enter_ledger, .handle = handle_remote, .leave = leave};

static void end_session(void *context, const char *slug)
{
  struct node *node = context;
  pthread_mutex_lock(&node->mutex);
  snprintf(node->ended, sizeof node->ended, "%s", slug);
  node->n_ended++;
  pthread_mutex_unlock(&node->mutex);
}

void node_block(struct node *node, int is_blocked)
{
  pthread_mutex_lock(&node->mutex);
  node->is_blocked = is_blocked;
  pthread_cond_broadcast(&node->changed);
  pthread_mutex_unlock(&node->mutex);
}

// --- its life

static void start_ledger(struct node *node, const struct node_settings *settings)
{
  struct vc_error error;
  const struct vc_stage_settings made = {
      .ops = &ledger_ops,
      .config = &node,
      .config_size = sizeof node,
      .n_workers = settings->n_ledgers > 0 ? settings->n_ledgers : 1,
      .lane_capacity = settings->lane_capacity > 0 ? settings->lane_capacity : 4096,
      .clock = &vc_clock_system};
  assert_int_equal(vc_stage_create(&node->ledger, &made, &error), 0);
  assert_int_equal(vc_stage_start(node->ledger, &error), 0);
}

void node_start(struct node *node, const struct server *server, const char *name,
                const struct node_settings *settings)
{
  static const struct node_settings plain;
  struct vc_error error = {.text = ""};
  settings = settings != NULL ? settings : &plain;
  *node = (struct node){.name = name};
  node->options.redis_url = server->url;
  node->options.redis_prefix = settings->prefix != NULL ? settings->prefix : "vc:";
  pthread_mutex_init(&node->mutex, NULL);
  pthread_cond_init(&node->changed, NULL);
  node->metrics = vc_metrics_create(&vc_clock_system);
  node->health = vc_health_create(&vc_clock_system);
  start_ledger(node, settings);
  const struct vc_redis_settings room = {.options = &node->options,
                                         .node = name,
                                         .history_finals = 100000,
                                         .session_keep_ms = 600000,
                                         .clock = &vc_clock_system,
                                         .metrics = node->metrics,
                                         .health = node->health,
                                         .end_session = end_session,
                                         .context = node};
  vc_redis_create(&node->redis, &room, &error);
  assert_string_equal(error.text, "");
  assert_int_equal(vc_redis_set_ledger(node->redis, node->ledger, &error), 0);
  node->to_publisher = vc_putter_create(vc_redis_publisher(node->redis));
  node->to_watcher = vc_putter_create(vc_redis_watcher(node->redis));
  assert_int_equal(vc_redis_start(node->redis, &error), 0);
}

void node_stop(struct node *node)
{
  struct vc_remote *remote;
  node_block(node, 0);
  vc_redis_stop(node->redis, 5000);
  vc_stage_stop(node->ledger, 1000);
  vc_redis_destroy(&node->redis);
  vc_stage_destroy(&node->ledger);
  while ((remote = node_try(node)) != NULL) {
    vc_item_destroy(&remote->item);
  }
  vc_health_destroy(&node->health);
  vc_metrics_destroy(&node->metrics);
  pthread_cond_destroy(&node->changed);
  pthread_mutex_destroy(&node->mutex);
}

// --- what comes

// What is asked again and again.
struct vc_remote *node_try(struct node *node)
{
  pthread_mutex_lock(&node->mutex);
  struct vc_item *item = node->remotes;
  if (item != NULL) {
    DL_DELETE(node->remotes, item);
  }
  pthread_mutex_unlock(&node->mutex);
  return (struct vc_remote *)item;
}

struct vc_remote *node_take(struct node *node)
{
  uint64_t until = shown_patience_ns();
  struct vc_remote *remote;
  while ((remote = node_try(node)) == NULL) {
    if (!shown_wait_more(until)) {
      fail_msg("nothing came to the ledger of %s", node->name);
    }
  }
  return remote;
}

static void print(char into[NODE_MAX_SAID], const struct vc_remote *remote, const char *what)
{
  snprintf(into, NODE_MAX_SAID, "%s %s %lld%s%s", remote->slug, what, (long long)remote->epoch,
           remote->node[0] != '\0' ? " " : "", remote->node);
}

void node_print(const struct vc_remote *remote, char into[NODE_MAX_SAID])
{
  const struct vc_message *message = remote->message;
  const char *slug = remote->slug;
  switch (remote->kind) {
  case VC_REMOTE_MESSAGE:
    snprintf(into, NODE_MAX_SAID, "%s %lld.%llu", slug, (long long)message->epoch,
             (unsigned long long)message->seq);
    break;
  case VC_REMOTE_GAP:
    snprintf(into, NODE_MAX_SAID, "%s [%lld.%llu-%llu]", slug, (long long)remote->epoch,
             (unsigned long long)remote->seq, (unsigned long long)remote->to);
    break;
  case VC_REMOTE_FILLED:
    print(into, remote, "filled");
    break;
  case VC_REMOTE_OWNER:
    print(into, remote, "owner");
    break;
  case VC_REMOTE_AWAY:
    snprintf(into, NODE_MAX_SAID, "away");
    break;
  case VC_REMOTE_BACK:
    snprintf(into, NODE_MAX_SAID, "back");
    break;
  case VC_REMOTE_OWNED:
    print(into, remote, remote->is_after_loss ? "owned after loss" : "owned");
    break;
  case VC_REMOTE_TAKEN:
    print(into, remote, "taken");
    break;
  case VC_REMOTE_GIVEN_UP:
    print(into, remote, "given up");
    break;
  case VC_REMOTE_FENCED:
    snprintf(into, NODE_MAX_SAID, "%s fenced %lld", slug, (long long)remote->epoch);
    break;
  case VC_REMOTE_ASK:
    snprintf(into, NODE_MAX_SAID, "%s asked %lld.%llu", slug, (long long)remote->epoch,
             (unsigned long long)remote->seq);
    break;
  case VC_REMOTE_ERASED:
    print(into, remote, "erased");
    break;
  }
}

void node_expect(struct node *node, const char *said)
{
  char text[NODE_MAX_SAID];
  struct vc_remote *remote = node_take(node);
  node_print(remote, text);
  assert_string_equal(text, said);
  vc_item_destroy(&remote->item);
}

void node_expect_nothing(struct node *node)
{
  char text[NODE_MAX_SAID] = "";
  struct vc_remote *remote = node_try(node);
  if (remote != NULL) {
    node_print(remote, text);
    vc_item_destroy(&remote->item);
  }
  assert_string_equal(text, "");
}

// --- what is put

static void put(struct vc_putter *putter, struct vc_item *item)
{
  uint64_t until = shown_patience_ns();
  while (vc_putter_put(putter, 0, item) != 0) {
    assert_true(shown_wait_more(until));
  }
}

static void put_turn(struct vc_putter *putter, enum vc_fleet_kind kind, const char *slug,
                     struct vc_position position, int64_t floor)
{
  struct vc_fleet *fleet = vc_fleet_create(kind, slug, 0);
  fleet->position = position;
  fleet->epoch_floor = floor;
  put(putter, &fleet->item);
}

struct vc_fleet *node_turn(enum vc_fleet_kind kind, const char *slug, struct vc_position position)
{
  struct vc_fleet *turn = vc_fleet_create(kind, slug, 0);
  turn->position = position;
  turn->epoch_floor = 1;
  return turn;
}

void node_put_turn(struct node *node, struct vc_fleet *turn)
{
  put(node->to_watcher, &turn->item);
}

void node_watch(struct node *node, const char *slug, int64_t epoch, uint64_t seq)
{
  put_turn(node->to_watcher, VC_FLEET_WATCH, slug, (struct vc_position){epoch, seq}, 0);
}

void node_unwatch(struct node *node, const char *slug)
{
  put_turn(node->to_watcher, VC_FLEET_UNWATCH, slug, (struct vc_position){0, 0}, 0);
}

void node_claim(struct node *node, const char *slug, struct vc_position position, int64_t floor)
{
  put_turn(node->to_watcher, VC_FLEET_CLAIM, slug, position, floor);
}

void node_release(struct node *node, const char *slug, int64_t epoch, uint64_t seq)
{
  struct vc_fleet *fleet = vc_fleet_create(VC_FLEET_RELEASE, slug, 0);
  fleet->position = (struct vc_position){epoch, seq};
  fleet->is_last = 1;
  put(node->to_publisher, &fleet->item);
}

void node_give_up(struct node *node, const char *slug, int64_t epoch, uint64_t seq)
{
  put_turn(node->to_publisher, VC_FLEET_RELEASE, slug, (struct vc_position){epoch, seq}, 0);
}

void node_put_message(struct node *node, struct vc_message *message)
{
  struct vc_fleet *fleet = vc_fleet_create(VC_FLEET_MESSAGE, message->slug, 1);
  fleet->started_unix_ms = STARTED_MS;
  vc_fleet_add(fleet, message);
  put(node->to_publisher, &fleet->item);
}

void node_say(struct node *node, const char *slug, char letter, int64_t epoch, uint64_t seq,
              uint64_t prev)
{
  struct vc_message *message = node_message(node->name, slug, letter, epoch, seq, prev);
  node_put_message(node, message);
  vc_message_unref(message);
}

void node_give(struct node *node, const char *slug, struct vc_position after, int is_last,
               struct vc_message *const *messages, size_t n)
{
  struct vc_fleet *fleet = vc_fleet_create(VC_FLEET_HISTORY, slug, n);
  fleet->position = after;
  fleet->is_last = is_last;
  fleet->started_unix_ms = STARTED_MS;
  for (size_t i = 0; i < n; i++) {
    vc_fleet_add(fleet, messages[i]);
  }
  put(node->to_publisher, &fleet->item);
}

void node_put_query(struct node *node, struct vc_query *query)
{
  put(node->to_watcher, vc_query_item(query));
}

struct vc_query *node_ask(struct node *node, const char *slug)
{
  struct vc_query *query = vc_query_create(VC_QUERY_FLEET_TRANSCRIPT, slug);
  node_put_query(node, query);
  assert_int_equal(vc_query_wait(query, SERVER_PATIENCE_MS), 0);
  return query;
}

// --- what it shows

uint64_t node_counter(struct node *node, const char *name)
{
  return shown_counter(node->metrics, name);
}

void node_await_counter(struct node *node, const char *name, uint64_t value)
{
  shown_await_counter(node->metrics, name, value);
}

int64_t node_gauge(struct node *node, const char *name)
{
  return shown_gauge(node->metrics, name);
}

void node_await_gauge(struct node *node, const char *name, int64_t value)
{
  shown_await_gauge(node->metrics, name, value);
}

// A session of its own is watched and filled: what was asked before it has been answered.
void node_await_ready(struct node *node)
{
  node_await_gauge(node, "redis.connections", 3);
  node_watch(node, "ready", 0, 0);
  node_expect(node, "ready filled 0");
  node_unwatch(node, "ready");
}

// --- messages

static void print_transcript(struct vc_text *text, const char *slug, int64_t epoch, uint64_t seq,
                             int is_final)
{
  char id[32], said[32];
  snprintf(id, sizeof id, "u%llu", (unsigned long long)seq);
  snprintf(said, sizeof said, "text %llu", (unsigned long long)seq);
  const struct vc_word word = {said, 1, 2, 0.5};
  const struct vc_utterance utterance = {.text = said,
                                         .language = "en",
                                         .start_s = (double)seq,
                                         .end_s = (double)seq + 1,
                                         .confidence = 0.75,
                                         .is_final = is_final,
                                         .words = &word,
                                         .n_words = is_final ? 1 : 0};
  vc_viewer_print_transcript(text, &(struct vc_viewer_transcript){.session = slug,
                                                                  .epoch = epoch,
                                                                  .seq = seq,
                                                                  .utterance_id = id,
                                                                  .utterance = &utterance,
                                                                  .sent_at_us = STARTED_MS * 1000});
}

static void print_frame(struct vc_text *text, const char *node, const char *slug, char letter,
                        int64_t epoch, uint64_t seq)
{
  switch (letter) {
  case 'h':
    vc_viewer_print_hello(
        text, &(struct vc_viewer_hello){
                  .session = slug, .epoch = epoch, .seq = seq, .state = "live", .node = node});
    break;
  case 'r':
    vc_viewer_print_retract(text, slug, epoch, seq, "u1");
    break;
  case 's':
    vc_viewer_print_status(text, slug, epoch, seq, "stt_down", "HTTP 401");
    break;
  case 'e':
    vc_viewer_print_end(text, slug, epoch, seq, "publisher_left");
    break;
  default:
    print_transcript(text, slug, epoch, seq, letter == 'f');
    break;
  }
}

static enum vc_message_kind kind_of(char letter)
{
  return letter == 'h'   ? VC_MESSAGE_HELLO
         : letter == 'p' ? VC_MESSAGE_PARTIAL
         : letter == 'r' ? VC_MESSAGE_RETRACT
         : letter == 's' ? VC_MESSAGE_STATUS
         : letter == 'e' ? VC_MESSAGE_END
                         : VC_MESSAGE_FINAL;
}

struct vc_message *node_message(const char *node, const char *slug, char letter, int64_t epoch,
                                uint64_t seq, uint64_t prev)
{
  struct vc_text text = {0};
  struct vc_message *message = vc_message_create(kind_of(letter), slug);
  print_frame(&text, node, slug, letter, epoch, seq);
  message->epoch = epoch;
  message->seq = seq;
  message->prev_final = prev;
  message->received_unix_us = STARTED_MS * 1000;
  message->frame = vc_ws_frame_create(VC_WS_TEXT, text.at, text.size, &message->json_offset);
  vc_text_fini(&text);
  return message;
}

void write_envelope(struct vc_text *text, const char *slug, char letter, int64_t epoch,
                    uint64_t seq, uint64_t prev)
{
  struct vc_text frame = {0};
  print_frame(&frame, "other", slug, letter, epoch, seq);
  vc_envelope_print(text, &(struct vc_envelope){.node = "other",
                                                .epoch = epoch,
                                                .seq = seq,
                                                .prev_final = prev,
                                                .started_at_ms = STARTED_MS,
                                                .received_at_us = STARTED_MS * 1000,
                                                .frame = frame.at,
                                                .frame_size = frame.size});
  vc_text_fini(&frame);
}

void entry(struct server *server, const char *slug, char letter, int64_t epoch, uint64_t seq,
           uint64_t prev)
{
  struct vc_text text = {0};
  write_envelope(&text, slug, letter, epoch, seq, prev);
  server_do(server, "XADD vc:history:%s %lld-%llu node other message %s", slug, (long long)epoch,
            (unsigned long long)seq, text.at);
  vc_text_fini(&text);
}

void publish(struct server *server, const char *slug, char letter, int64_t epoch, uint64_t seq,
             uint64_t prev)
{
  struct vc_text text = {0};
  write_envelope(&text, slug, letter, epoch, seq, prev);
  server_do(server, "PUBLISH vc:live:%s %s", slug, text.at);
  vc_text_fini(&text);
}

void both(struct server *server, const char *slug, char letter, int64_t epoch, uint64_t seq,
          uint64_t prev)
{
  entry(server, slug, letter, epoch, seq, prev);
  publish(server, slug, letter, epoch, seq, prev);
}
