#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <netinet/in.h>
#include <netinet/tcp.h>

#include "bench.h"

#define READ_SIZE 65536
#define OUT_MAX (4 << 20)
#define SIP_MAX 4096
#define READABLE (EPOLLIN | EPOLLRDHUP | EPOLLET)
#define ENDED (EPOLLRDHUP | EPOLLHUP | EPOLLERR)
#define CONNECTIONS_PER_ADDRESS 16384

void pile_add(struct pile *pile, const void *bytes, size_t size)
{
  if (pile->n + size > pile->capacity) {
    pile->capacity = (pile->n + size) * 2;
    pile->at = grow(pile->at, pile->capacity, 1);
  }
  memcpy(pile->at + pile->n, bytes, size);
  pile->n += size;
}

void pile_drop(struct pile *pile, size_t n)
{
  memmove(pile->at, pile->at + n, pile->n - n);
  pile->n -= n;
}

void link_close(struct vc_worker *worker, struct link *link)
{
  if (link->watch.fd < 0) {
    return;
  }
  vc_worker_unwatch(worker, &link->watch);
  close(link->watch.fd);
  link->watch.fd = -1;
  free(link->out);
  link->out = NULL;
  link->n_out = link->out_capacity = 0;
}

static void lose(struct vc_worker *worker, struct link *link)
{
  link_close(worker, link);
  link->closed(worker, link);
}

static void write_waiting(struct vc_worker *worker, struct link *link)
{
  ssize_t n = send(link->watch.fd, link->out, link->n_out, MSG_DONTWAIT | MSG_NOSIGNAL);
  if (n > 0) {
    memmove(link->out, link->out + n, link->n_out - (size_t)n);
    link->n_out -= (size_t)n;
  }
  if (n < 0 && errno != EAGAIN) {
    lose(worker, link);
  } else if (link->n_out == 0) {
    vc_worker_rewatch(worker, &link->watch, link->is_paused ? 0 : READABLE);
  }
}

// What is there. Its end comes as an event of its own, or behind it.
static void read_all(struct vc_worker *worker, struct link *link, int has_ended)
{
  static _Thread_local uint8_t bytes[READ_SIZE];
  while (link->watch.fd >= 0 && !link->is_paused) {
    ssize_t n = recv(link->watch.fd, bytes, sizeof bytes, MSG_DONTWAIT);
    if (n > 0) {
      link->take(worker, link, bytes, (size_t)n);
    } else if (n == 0 || errno != EAGAIN) {
      lose(worker, link);
    }
    if (n <= 0 || (n < (ssize_t)sizeof bytes && !has_ended)) {
      return;
    }
  }
}

static void ready(struct vc_worker *worker, struct vc_watch *watch, uint32_t events)
{
  struct link *link = (struct link *)watch;
  if (link->is_connecting && (events & EPOLLOUT) != 0) {
    link->is_connecting = 0;
    vc_worker_rewatch(worker, watch, READABLE);
    link->connected(worker, link);
  } else if ((events & EPOLLOUT) != 0 && link->n_out > 0) {
    write_waiting(worker, link);
  }
  if (link->watch.fd >= 0 && (events & (EPOLLIN | ENDED)) != 0) {
    // One that is paused does not see what its end was about.
    link->is_paused ? lose(worker, link) : read_all(worker, link, (events & ENDED) != 0);
  }
}

void link_pause(struct vc_worker *worker, struct link *link)
{
  link->is_paused = 1;
  vc_worker_rewatch(worker, &link->watch, link->n_out > 0 ? EPOLLOUT : 0);
}

void link_sip(struct vc_worker *worker, struct link *link, size_t most)
{
  uint8_t bytes[SIP_MAX];
  if (link->watch.fd < 0) {
    return;
  }
  ssize_t n = recv(link->watch.fd, bytes, most < sizeof bytes ? most : sizeof bytes, MSG_DONTWAIT);
  if (n > 0) {
    link->take(worker, link, bytes, (size_t)n);
  } else if (n == 0 || errno != EAGAIN) {
    lose(worker, link);
  }
}

static void watch_it(struct vc_worker *worker, struct link *link, int fd, uint32_t events)
{
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  link->watch = (struct vc_watch){.fd = fd, .ready = ready};
  if (vc_worker_watch(worker, &link->watch, events) != 0) {
    die("a connection cannot be watched: %s", strerror(errno));
  }
}

static int make_socket(const struct link *link, size_t number)
{
  const int on = 1;
  struct sockaddr_in from = {.sin_family = AF_INET};
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + (uint32_t)(number / CONNECTIONS_PER_ADDRESS));
  if (fd < 0) {
    return fd;
  }
  if (link->receive_buffer > 0) {
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &link->receive_buffer, sizeof link->receive_buffer);
  }
  if (number >= CONNECTIONS_PER_ADDRESS &&
      (setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on) != 0 ||
       bind(fd, (const struct sockaddr *)&from, sizeof from) != 0)) {
    close(fd);
    return -1;
  }
  return fd;
}

void link_open(struct vc_worker *worker, struct link *link, const struct vc_address *to,
               size_t number)
{
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(to->port)};
  memcpy(&address.sin_addr, to->bytes, sizeof address.sin_addr);
  int fd = make_socket(link, number);
  if (fd < 0 || (connect(fd, (const struct sockaddr *)&address, sizeof address) != 0 &&
                 errno != EINPROGRESS)) {
    die("cannot connect: %s", strerror(errno));
  }
  link->is_connecting = 1;
  watch_it(worker, link, fd, READABLE | EPOLLOUT);
}

void link_adopt(struct vc_worker *worker, struct link *link, int fd)
{
  watch_it(worker, link, fd, READABLE);
}

void link_send(struct vc_worker *worker, struct link *link, const void *bytes, size_t size)
{
  ssize_t n = 0;
  if (link->watch.fd < 0) {
    return;
  }
  if (link->n_out == 0) {
    n = send(link->watch.fd, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    n = n > 0 ? n : 0; // what is wrong with it shows when it is read
  }
  if ((size_t)n == size) {
    return;
  }
  size_t left = size - (size_t)n;
  if (link->n_out + left > OUT_MAX) {
    die("a server takes nothing: %zu bytes wait for it", link->n_out + left);
  }
  if (link->n_out + left > link->out_capacity) {
    link->out_capacity = (link->n_out + left) * 2;
    link->out = grow(link->out, link->out_capacity, 1);
  }
  memcpy(link->out + link->n_out, (const uint8_t *)bytes + n, left);
  link->n_out += left;
  vc_worker_rewatch(worker, &link->watch, (link->is_paused ? 0 : READABLE) | EPOLLOUT);
}
