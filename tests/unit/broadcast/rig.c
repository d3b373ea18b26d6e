#include "rig.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/sockios.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define FDS_MAX 1024
#define WRITES_MAX 256
#define IOVECS_MAX 128

// --- sockets that take only so much: the linker puts these in the place of the stage's calls

size_t rig_n_writes;
static size_t room_of[FDS_MAX];
static int held_of[FDS_MAX];

ssize_t __real_send(int fd, const void *bytes, size_t size, int flags);
ssize_t __wrap_send(int fd, const void *bytes, size_t size, int flags);
ssize_t __real_sendmsg(int fd, const struct msghdr *header, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *header, int flags);

static ssize_t took(int fd, ssize_t n)
{
  if (n > 0 && room_of[fd] != SIZE_MAX) {
    room_of[fd] -= (size_t)n;
  }
  return n;
}

static void cut_message(struct msghdr *cut, struct iovec *iovecs, const struct msghdr *header,
                        size_t room)
{
  *cut = (struct msghdr){.msg_iov = iovecs};
  for (; cut->msg_iovlen < header->msg_iovlen && room > 0; cut->msg_iovlen++) {
    struct iovec *iovec = &iovecs[cut->msg_iovlen];
    *iovec = header->msg_iov[cut->msg_iovlen];
    iovec->iov_len = iovec->iov_len < room ? iovec->iov_len : room;
    room -= iovec->iov_len;
  }
}

ssize_t __wrap_send(int fd, const void *bytes, size_t size, int flags)
{
  rig_n_writes++;
  if (room_of[fd] == 0) {
    errno = EAGAIN;
    return -1;
  }
  return took(fd, __real_send(fd, bytes, size < room_of[fd] ? size : room_of[fd], flags));
}

ssize_t __wrap_sendmsg(int fd, const struct msghdr *header, int flags)
{
  struct iovec iovecs[IOVECS_MAX];
  struct msghdr cut;
  rig_n_writes++;
  if (room_of[fd] == 0) {
    errno = EAGAIN;
    return -1;
  }
  cut_message(&cut, iovecs, header, room_of[fd]);
  return took(fd, __real_sendmsg(fd, &cut, flags));
}

// A socket that takes nothing stands for each that has no room.
static int full_socket(void)
{
  static int pair[2] = {-1, -1};
  static const uint8_t bytes[4096];
  if (pair[0] < 0) {
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    while (__real_send(pair[0], bytes, sizeof bytes, MSG_DONTWAIT) > 0) {
    }
  }
  return pair[0];
}

// Cuts a write that was prepared to what its socket takes.
static void cut_prepared(struct io_uring_sqe *sqe, struct msghdr *cut, struct iovec *iovecs)
{
  size_t room = room_of[sqe->fd];
  rig_n_writes++;
  if (room == 0) {
    sqe->fd = full_socket();
  } else if (sqe->opcode == IORING_OP_SEND) {
    sqe->len = sqe->len < room ? sqe->len : (unsigned)room;
  } else {
    cut_message(cut, iovecs, (const struct msghdr *)(uintptr_t)sqe->addr, room);
    sqe->addr = (uintptr_t)cut;
  }
}

int rig_uring_refusal;
int __real_io_uring_queue_init_params(unsigned n, struct io_uring *ring,
                                      struct io_uring_params *params);
int __wrap_io_uring_queue_init_params(unsigned n, struct io_uring *ring,
                                      struct io_uring_params *params);

int __wrap_io_uring_queue_init_params(unsigned n, struct io_uring *ring,
                                      struct io_uring_params *params)
{
  return rig_uring_refusal != 0 ? rig_uring_refusal
                                : __real_io_uring_queue_init_params(n, ring, params);
}

int rig_uring_is_old;
struct io_uring_probe *__real_io_uring_get_probe_ring(struct io_uring *ring);
struct io_uring_probe *__wrap_io_uring_get_probe_ring(struct io_uring *ring);

struct io_uring_probe *__wrap_io_uring_get_probe_ring(struct io_uring *ring)
{
  return rig_uring_is_old ? NULL : __real_io_uring_get_probe_ring(ring);
}

int rig_uring_status;
int __real_io_uring_submit_and_wait(struct io_uring *ring, unsigned n);
int __wrap_io_uring_submit_and_wait(struct io_uring *ring, unsigned n);

int __wrap_io_uring_submit_and_wait(struct io_uring *ring, unsigned n)
{
  static struct msghdr cuts[WRITES_MAX];
  static struct iovec iovecs[WRITES_MAX][IOVECS_MAX];
  int fds[WRITES_MAX];
  uint64_t writes[WRITES_MAX];
  unsigned n_prepared = ring->sq.sqe_tail - ring->sq.sqe_head;
  if (rig_uring_status != 0) {
    return rig_uring_status;
  }
  assert_true(n_prepared <= WRITES_MAX);
  for (unsigned i = 0; i < n_prepared; i++) {
    struct io_uring_sqe *sqe = &ring->sq.sqes[(ring->sq.sqe_head + i) & ring->sq.ring_mask];
    fds[i] = sqe->fd;
    writes[i] = sqe->user_data;
    cut_prepared(sqe, &cuts[i], iovecs[i]);
  }
  int status = __real_io_uring_submit_and_wait(ring, n);
  struct io_uring_cqe *cqe;
  unsigned head;
  io_uring_for_each_cqe(ring, head, cqe)
  {
    for (unsigned i = 0; i < n_prepared; i++) {
      if (writes[i] == cqe->user_data) {
        took(fds[i], cqe->res);
      }
    }
  }
  return status;
}

int __wrap_ioctl(int fd, unsigned long request, int *n_bytes);

int __wrap_ioctl(int fd, unsigned long request, int *n_bytes)
{
  assert_int_equal(request, SIOCOUTQNSD);
  *n_bytes = held_of[fd];
  return 0;
}

// --- the rig

// RIG_IO, a name of BROADCAST_IO's: how all tests of a program write.
static int io_of_this_run(void)
{
  const char *name = getenv("RIG_IO");
  return name != NULL && strcmp(name, "uring") == 0 ? 2 : 1;
}

struct rig *rig_create(void (*change)(struct rig *rig))
{
  struct rig *rig = calloc(1, sizeof *rig);
  struct vc_error error;
  assert_non_null(rig);
  for (size_t i = 0; i < FDS_MAX; i++) {
    room_of[i] = SIZE_MAX;
  }
  rig->now_ns = 100 * VC_NS_PER_S;
  rig->clock = hand_clock(&rig->now_ns);
  rig->metrics = vc_metrics_create(&rig->clock);
  rig->limits = vc_limits_create(1000, 1000);
  rig->n_workers = 1;
  rig->max_viewers = 1000;
  rig->options = (struct vc_broadcast_options){.max_broadcast_queue_size = 500,
                                               .ping_interval_ms = 15000,
                                               .pong_timeout = 3,
                                               .slow_viewer_timeout_ms = 30000,
                                               .broadcast_io = io_of_this_run()};
  if (change != NULL) {
    change(rig);
  }
  struct vc_stage_settings inbox = {.ops = &hand_inbox, .n_workers = 1, .clock = &rig->clock};
  assert_int_equal(vc_stage_create(&rig->ledger, &inbox, &error), 0);
  struct vc_broadcast_settings settings = {.options = &rig->options,
                                           .n_workers = rig->n_workers,
                                           .max_viewers = rig->max_viewers,
                                           .limits = rig->limits,
                                           .clock = &rig->clock,
                                           .metrics = rig->metrics};
  assert_int_equal(vc_broadcast_create(&rig->broadcast, &settings, &error), 0);
  vc_broadcast_set_ledger(rig->broadcast, rig->ledger);
  rig->stage = vc_broadcast_stage(rig->broadcast);
  rig->putter = vc_putter_create(rig->stage);
  assert_int_equal(vc_stage_start(rig->ledger, &error), 0);
  rig->start_status = vc_stage_start(rig->stage, &rig->start_error);
  assert_true(rig->start_status == 0 || rig_uring_refusal != 0 || rig_uring_is_old);
  return rig;
}

void rig_destroy(struct rig *rig)
{
  for (size_t i = 0; i < rig->n_peers; i++) {
    peer_hang_up(rig->peers[i]);
    vc_ws_parser_fini(&rig->peers[i]->parser);
    free(rig->peers[i]);
  }
  if (rig->start_status == 0) {
    vc_stage_stop(rig->stage, 0);
  }
  vc_stage_stop(rig->ledger, 0);
  vc_broadcast_destroy(&rig->broadcast);
  vc_stage_destroy(&rig->ledger);
  assert_int_equal(vc_limits_count(rig->limits), 0);
  vc_limits_destroy(&rig->limits);
  vc_metrics_destroy(&rig->metrics);
  free(rig);
}

void rig_turn(struct rig *rig)
{
  hand_turn(rig->stage);
}

void rig_pass_ms(struct rig *rig, uint64_t ms)
{
  rig->now_ns += ms * VC_NS_PER_MS;
  rig_turn(rig);
}

uint64_t rig_counter(struct rig *rig, const char *name)
{
  uint64_t value = UINT64_MAX;
  assert_int_equal(vc_metrics_counter(rig->metrics, name, &value), 0);
  return value;
}

// --- viewers

struct peer *rig_come(struct rig *rig, const char *slug, struct vc_position since)
{
  static uint8_t n_before;
  struct peer *peer = calloc(1, sizeof *peer);
  int pair[2];
  assert_non_null(peer);
  assert_true(rig->n_peers < RIG_PEERS_MAX);
  assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
  assert_true(pair[1] < FDS_MAX);
  room_of[pair[1]] = SIZE_MAX;
  held_of[pair[1]] = 0;
  peer->fd = pair[0];
  peer->theirs = pair[1];
  peer->worker = (uint32_t)(rig->n_peers % rig->n_workers); // they go round
  peer->id = rig->n_peers + 1;
  vc_ws_parser_init(&peer->parser, VC_WS_CLIENT, 65536);
  rig->peers[rig->n_peers++] = peer;
  struct vc_newcomer newcomer = {.fd = pair[1],
                                 .since = since,
                                 .address = {.n_bytes = 4},
                                 .begins_ms = rig->begins_ms,
                                 .expires_ms = rig->expires_ms};
  newcomer.address.bytes[3] = ++n_before;
  snprintf(newcomer.slug, sizeof newcomer.slug, "%s", slug);
  vc_broadcast_adopt(rig->broadcast, &newcomer);
  rig_turn(rig);
  return peer;
}

struct peer *rig_watch(struct rig *rig, const char *slug, int64_t epoch, uint64_t seq)
{
  struct peer *peer = rig_come(rig, slug, (struct vc_position){0});
  assert_non_null(strstr(rig_requests(rig), "join"));
  struct vc_answer *answer = rig_answer(peer, slug);
  rig_answer_add(answer, rig_message(VC_MESSAGE_HELLO, slug, epoch, seq, 0, 0));
  rig_answer_last(rig, peer, answer, (struct vc_position){epoch, seq + 1});
  rig_turn(rig);
  assert_non_null(strstr(peer_read(peer), "H"));
  return peer;
}

void rig_stall(struct peer *peer, size_t n_bytes)
{
  room_of[peer->theirs] = n_bytes;
}

void rig_hold(struct peer *peer, int n_bytes)
{
  held_of[peer->theirs] = n_bytes;
}

void rig_take(struct rig *rig, struct peer *peer, size_t n_bytes)
{
  room_of[peer->theirs] = n_bytes;
  hand_ready(rig->stage, peer->theirs, EPOLLOUT);
}

void peer_send_raw(struct peer *peer, const void *bytes, size_t size)
{
  assert_int_equal(write(peer->fd, bytes, size), size);
}

void peer_send(struct peer *peer, enum vc_ws_opcode opcode, const void *payload, size_t size)
{
  static const uint8_t mask[4] = {0x12, 0x34, 0x56, 0x78};
  uint8_t *frame = malloc(VC_WS_HEADER_MAX + size);
  assert_non_null(frame);
  size_t n = vc_ws_print_header(frame, opcode, size, mask);
  memcpy(frame + n, payload, size);
  vc_ws_mask(frame + n, size, mask);
  peer_send_raw(peer, frame, n + size);
  free(frame);
}

void peer_hang_up(struct peer *peer)
{
  if (peer->fd >= 0) {
    close(peer->fd);
    peer->fd = -1;
  }
}

static void tell(struct peer *peer, const char *what, const void *text, size_t size)
{
  int n =
      snprintf(peer->told + peer->n_told, sizeof peer->told - peer->n_told, "%s%s%.*s",
               peer->n_told > 0 ? " " : "", what, (int)size, size > 0 ? (const char *)text : "");
  peer->n_told += (size_t)n;
  assert_true(peer->n_told < sizeof peer->told);
}

static void tell_event(struct peer *peer, const struct vc_ws_event *event)
{
  char code[16];
  switch (event->opcode) {
  case VC_WS_TEXT:
    tell(peer, "", event->payload, strcspn((const char *)event->payload, " "));
    break;
  case VC_WS_PING:
    tell(peer, "ping", NULL, 0);
    break;
  case VC_WS_PONG:
    tell(peer, "pong:", event->payload, event->size);
    break;
  case VC_WS_CLOSE:
    snprintf(code, sizeof code, "%d", event->close_code);
    tell(peer, "close:", code, strlen(code));
    snprintf(peer->why, sizeof peer->why, "%.*s", event->size > 2 ? (int)event->size - 2 : 0,
             event->size > 2 ? (const char *)event->payload + 2 : "");
    break;
  default:
    fail_msg("opcode %d", event->opcode);
  }
}

static void parse(struct peer *peer, const uint8_t *bytes, size_t size)
{
  while (size > 0) {
    struct vc_ws_event event;
    size_t used;
    int status = vc_ws_parse(&peer->parser, bytes, size, &used, &event);
    assert_true(status >= 0); // a frame was cut
    if (status > 0) {
      tell_event(peer, &event);
    }
    bytes += used;
    size -= used;
  }
}

const char *peer_read(struct peer *peer)
{
  uint8_t bytes[16384];
  ssize_t n;
  peer->n_told = 0;
  peer->told[0] = '\0';
  while ((n = recv(peer->fd, bytes, sizeof bytes, MSG_DONTWAIT)) > 0) {
    parse(peer, bytes, (size_t)n);
  }
  if (n == 0) {
    tell(peer, "eof", NULL, 0);
  } else {
    assert_int_equal(errno, EAGAIN);
  }
  return peer->told;
}

void peer_expect(struct peer *peer, const char *told)
{
  assert_string_equal(peer_read(peer), told);
}

// --- the ledger's side

static void print_request(char *to, size_t size, const struct vc_item *item)
{
  if (item->kind == VC_ITEM_JOIN) {
    const struct vc_join *join = (const struct vc_join *)item;
    snprintf(to, size, "join %s %llu %lld.%llu", join->slug, (unsigned long long)join->viewer_id,
             (long long)join->since.epoch, (unsigned long long)join->since.seq);
  } else if (item->kind == VC_ITEM_CATCH_UP) {
    const struct vc_catch_up *catch_up = (const struct vc_catch_up *)item;
    snprintf(to, size, "catch_up %s %llu %lld.%llu", catch_up->slug,
             (unsigned long long)catch_up->viewer_id, (long long)catch_up->position.epoch,
             (unsigned long long)catch_up->position.seq);
  } else {
    const struct vc_leave *leave = (const struct vc_leave *)item;
    assert_int_equal(item->kind, VC_ITEM_LEAVE);
    snprintf(to, size, "leave %s %llu", leave->slug, (unsigned long long)leave->viewer_id);
  }
}

const char *rig_requests(struct rig *rig)
{
  struct vc_item *item;
  size_t n = 0;
  rig->requests[0] = '\0';
  while ((item = hand_take(rig->ledger, 0)) != NULL) {
    assert_true(n + 256 < sizeof rig->requests);
    n += (size_t)snprintf(rig->requests + n, 4, "%s", n > 0 ? "; " : "");
    print_request(rig->requests + n, 256, item);
    n += strlen(rig->requests + n);
    vc_item_destroy(item);
  }
  return rig->requests;
}

void rig_expect_requests(struct rig *rig, const char *requests)
{
  assert_string_equal(rig_requests(rig), requests);
}

struct vc_message *rig_message(enum vc_message_kind kind, const char *slug, int64_t epoch,
                               uint64_t seq, char utterance, size_t size)
{
  static const char letters[] = {'H', 'P', 'F', 'R', 'S', 'G', 'E'};
  char *text = calloc(1, size + 64);
  struct vc_message *message = vc_message_create(kind, slug);
  assert_non_null(text);
  assert_non_null(message);
  int n = snprintf(text, 64, "%c%lld.%llu%.*s ", letters[kind], (long long)epoch,
                   (unsigned long long)seq, utterance != 0, &utterance);
  size_t length = (size_t)n > size ? (size_t)n : size;
  memset(text + n, ' ', length - (size_t)n);
  message->epoch = epoch;
  message->seq = seq;
  message->utterance_hash = (uint64_t)utterance * 1000003;
  message->frame = vc_ws_frame_create(VC_WS_TEXT, text, length, &message->json_offset);
  assert_non_null(message->frame);
  free(text);
  return message;
}

static void live(struct rig *rig, struct vc_message *message, int is_after_loss)
{
  for (uint32_t i = 0; i < rig->n_workers; i++) {
    struct vc_live *live = vc_live_create(message);
    assert_non_null(live);
    live->is_after_loss = is_after_loss;
    live->began_ms = rig->began_ms != 0 ? rig->began_ms : message->epoch;
    live->queued_ns = rig->now_ns;
    assert_int_equal(vc_putter_put(rig->putter, i, &live->item), 0);
  }
  vc_message_unref(message);
}

void rig_live(struct rig *rig, struct vc_message *message)
{
  live(rig, message, 0);
}

void rig_live_after_loss(struct rig *rig, struct vc_message *message)
{
  live(rig, message, 1);
}

void rig_say(struct rig *rig, enum vc_message_kind kind, uint64_t seq, char utterance)
{
  rig_live(rig, rig_message(kind, "demo", 1, seq, utterance, 0));
}

struct vc_answer *rig_answer(const struct peer *peer, const char *slug)
{
  struct vc_answer *answer = vc_answer_create(slug);
  assert_non_null(answer);
  answer->viewer_id = peer->id;
  return answer;
}

void rig_answer_add(struct vc_answer *answer, struct vc_message *message)
{
  assert_true(answer->n_messages < VC_ANSWER_MAX);
  answer->messages[answer->n_messages++] = message;
}

void rig_answer_last(struct rig *rig, const struct peer *peer, struct vc_answer *answer,
                     struct vc_position live_from)
{
  answer->is_last = 1;
  answer->live_from = live_from;
  rig_answer_part(rig, peer, answer);
}

void rig_answer_part(struct rig *rig, const struct peer *peer, struct vc_answer *answer)
{
  assert_int_equal(vc_putter_put(rig->putter, peer->worker, &answer->item), 0);
}
