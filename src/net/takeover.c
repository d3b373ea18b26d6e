// Civetweb keeps a thread for every WebSocket and gives its descriptor to nobody. But the
// descriptor is there: the socket whose two ends are those of the request. It is duplicated above
// all that Civetweb uses, and Civetweb's number is made to mean a socket that reads end of file, so
// that it closes what it believes to be the connection and its thread goes on to the next request.
// No shutdown() of Civetweb's reaches the TCP connection.
//
// Two ends are one connection's at a time. But a client that resets its connection and comes again
// from the same port has a second one with the same ends, while Civetweb still holds the dead
// first: what is found is the request's own only if Civetweb can write to the request's afterwards.
#include "takeover.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

// Viewers' descriptors go above: a quarter of the limit, 1024 at most. Civetweb's stay below as
// long as the rest of the program (publishers, their connections to the STT) leaves room there;
// when it does not, they are looked for above too, which takes a hundred times longer.
#define BASE_MAX 1024
#define LIMIT_MAX (1 << 20)
#define BLOCK 512         // numbers that one call asks about
#define CANDIDATES_MAX 16 // of one peer's address and port, towards as many of ours

static int eof_fd = -1; // reads end of file; a shutdown() of it harms nobody
static int base_fd, end_fd;

// Whose the low numbers were at a time.
struct survey {
  struct {
    int fd;
    struct vc_address peer;
  } sockets[BASE_MAX];
  int n;
  int is_crowded; // more than half of them
};

struct scan {
  struct pollfd numbers[BLOCK];
  int used[BLOCK];
};

// A look at all low numbers serves whoever asked before it began. A crowd that comes at once would
// else have every thread look at the same numbers, which is most of what a handshake costs then.
static struct {
  pthread_mutex_t mutex;
  pthread_cond_t done;
  /* guarded by the mutex */
  uint64_t n_begun, n_done;
  struct survey *latest;
  /* whose look it is */
  struct survey *next;
  struct scan scan; // on no thread's stack: a crowd would have each of them grow by it
} looks = {.mutex = PTHREAD_MUTEX_INITIALIZER, .done = PTHREAD_COND_INITIALIZER};
static struct survey surveys[2];

// Returns: 0, or -1 with errno.
static int prepare(void)
{
  struct rlimit limit;
  int pair[2];
  if (eof_fd >= 0) {
    return 0;
  }
  getrlimit(RLIMIT_NOFILE, &limit);
  base_fd = limit.rlim_cur / 4 < BASE_MAX ? (int)(limit.rlim_cur / 4) : BASE_MAX;
  end_fd = limit.rlim_cur < LIMIT_MAX ? (int)limit.rlim_cur : LIMIT_MAX;
  looks.latest = &surveys[0];
  looks.next = &surveys[1];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
    return -1;
  }
  close(pair[1]);
  eof_fd = pair[0];
  return 0;
}

// Returns: 0 or -1.
static int get_local_end(int fd, struct vc_address *end)
{
  struct sockaddr_storage storage;
  socklen_t size = sizeof storage;
  if (getsockname(fd, (struct sockaddr *)&storage, &size) != 0) {
    return -1;
  }
  vc_address_from_socket((struct sockaddr *)&storage, end);
  return 0;
}

// Returns: 0 or -1.
static int get_peer(int fd, struct vc_address *peer)
{
  struct sockaddr_storage storage;
  socklen_t size = sizeof storage;
  if (getpeername(fd, (struct sockaddr *)&storage, &size) != 0) {
    return -1;
  }
  vc_address_from_socket((struct sockaddr *)&storage, peer);
  return 0;
}

static int is_same(const struct vc_address *a, const struct vc_address *b)
{
  return a->port == b->port && vc_address_equal(a, b);
}

static int has_ends(int fd, const struct vc_address *peer, const struct vc_address *own)
{
  struct vc_address end;
  return get_peer(fd, &end) == 0 && is_same(&end, peer) && get_local_end(fd, &end) == 0 &&
         is_same(&end, own);
}

// Gives those of `n` numbers, of which most are not in use, that are: poll() says it for a whole
// block in the time of some ten looks. Returns: how many.
static int find_used(struct scan *scan, int from, size_t n)
{
  int n_used = 0;
  for (size_t i = 0; i < n; i++) {
    scan->numbers[i] = (struct pollfd){.fd = from + (int)i};
  }
  int status = poll(scan->numbers, n, 0);
  for (size_t i = 0; i < n; i++) {
    if (status < 0 || (scan->numbers[i].revents & POLLNVAL) == 0) {
      scan->used[n_used++] = scan->numbers[i].fd;
    }
  }
  return n_used;
}

static size_t block_of(int from, int end)
{
  return end - from < BLOCK ? (size_t)(end - from) : BLOCK;
}

static void look_around(struct survey *survey)
{
  struct scan *scan = &looks.scan;
  int n_used = 0;
  survey->n = 0;
  for (int from = 3; from < base_fd; from += BLOCK) {
    int n = find_used(scan, from, block_of(from, base_fd));
    for (int i = 0; i < n; i++) {
      survey->sockets[survey->n].fd = scan->used[i];
      survey->n += get_peer(scan->used[i], &survey->sockets[survey->n].peer) == 0;
    }
    n_used += n;
  }
  survey->is_crowded = n_used > base_fd / 2;
}

// As of a look that begins now or later. With the mutex, which is let go meanwhile.
static void wait_for_look(void)
{
  uint64_t wanted = looks.n_begun + 1;
  while (looks.n_done < wanted) {
    if (looks.n_begun > looks.n_done) {
      pthread_cond_wait(&looks.done, &looks.mutex);
      continue;
    }
    looks.n_begun++;
    pthread_mutex_unlock(&looks.mutex);
    look_around(looks.next);
    pthread_mutex_lock(&looks.mutex);
    struct survey *before = looks.latest;
    looks.latest = looks.next;
    looks.next = before;
    looks.n_done++;
    pthread_cond_broadcast(&looks.done);
  }
}

// Returns: the number, or -1.
static int find_low(const struct vc_address *peer, const struct vc_address *own, int *is_crowded)
{
  int candidates[CANDIDATES_MAX], n = 0, found = -1;
  pthread_mutex_lock(&looks.mutex);
  wait_for_look();
  const struct survey *survey = looks.latest;
  *is_crowded = survey->is_crowded;
  for (int i = 0; i < survey->n && n < CANDIDATES_MAX; i++) {
    if (is_same(&survey->sockets[i].peer, peer)) {
      candidates[n++] = survey->sockets[i].fd;
    }
  }
  pthread_mutex_unlock(&looks.mutex);
  for (int i = 0; i < n && found < 0; i++) {
    found = has_ends(candidates[i], peer, own) ? candidates[i] : -1;
  }
  return found;
}

static int find_high(const struct vc_address *peer, const struct vc_address *own)
{
  struct scan scan;
  for (int from = base_fd; from < end_fd; from += BLOCK) {
    int n = find_used(&scan, from, block_of(from, end_fd));
    for (int i = 0; i < n; i++) {
      if (has_ends(scan.used[i], peer, own)) {
        return scan.used[i];
      }
    }
  }
  return -1;
}

int takeover_begin(struct takeover *takeover, const struct vc_address *peer,
                   const struct vc_address *own, enum takeover_effort effort)
{
  int is_crowded;
  int theirs = find_low(peer, own, &is_crowded);
  if (theirs < 0 && (is_crowded || effort == TAKEOVER_EVERYWHERE)) {
    theirs = find_high(peer, own);
  }
  if (theirs < 0) {
    return TAKEOVER_NOT_FOUND;
  }
  int ours = fcntl(theirs, F_DUPFD_CLOEXEC, base_fd);
  if (ours < 0) {
    return TAKEOVER_NO_DESCRIPTOR;
  }
  // Their number may have become another's between the two questions about its ends; ours cannot.
  if (!has_ends(ours, peer, own)) {
    close(ours);
    return TAKEOVER_NOT_FOUND;
  }
  *takeover = (struct takeover){.theirs = theirs, .ours = ours};
  return 0;
}

int takeover_finish(const struct takeover *takeover)
{
  int status = dup2(eof_fd, takeover->theirs);
  assert(status >= 0); // both numbers are open, and nobody opens either meanwhile
  (void)status;
  return takeover->ours;
}

void takeover_cancel(const struct takeover *takeover)
{
  close(takeover->ours);
}

const char *takeover_trouble(int status)
{
  return status == TAKEOVER_NO_DESCRIPTOR ? "no descriptor"
         : status == TAKEOVER_NO_MEMORY   ? "no memory"
                                          : "the connection has gone";
}

static void close_if_listening(int fd, const struct vc_address *bound)
{
  struct vc_address end;
  int listens = 0;
  socklen_t size = sizeof listens;
  if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) == 0 && listens &&
      get_local_end(fd, &end) == 0 && is_same(&end, bound)) {
    shutdown(fd, SHUT_RDWR);
  }
}

void takeover_close_door(const struct vc_address *bound)
{
  struct scan scan;
  for (int from = 3; from < end_fd; from += BLOCK) {
    int n = find_used(&scan, from, block_of(from, end_fd));
    for (int i = 0; i < n; i++) {
      close_if_listening(scan.used[i], bound);
    }
  }
}

// A connection of our own through all of it: what is sent after the theft must arrive, and the
// stolen number must read end of file.
static int prove(void)
{
  struct vc_address bound, peer;
  struct takeover takeover;
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  struct sockaddr_storage storage;
  socklen_t size = sizeof storage;
  char byte = 0;
  int is_proved = 0, ours = -1;
  int listener = vc_listen("127.0.0.1:0", 1, &bound, NULL);
  int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  to.sin_port = htons(bound.port);
  int accepted = -1;
  if (listener >= 0 && client >= 0 && connect(client, (struct sockaddr *)&to, sizeof to) == 0) {
    fcntl(listener, F_SETFL, 0);
    accepted = accept(listener, (struct sockaddr *)&storage, &size);
  }
  if (accepted >= 0) {
    vc_address_from_socket((struct sockaddr *)&storage, &peer);
    if (takeover_begin(&takeover, &peer, &bound, TAKEOVER_EVERYWHERE) == 0) {
      ours = takeover_finish(&takeover);
    }
  }
  if (ours >= 0) {
    shutdown(accepted, SHUT_RDWR);
    is_proved = read(accepted, &byte, 1) == 0 && send(ours, "x", 1, MSG_NOSIGNAL) == 1 &&
                recv(client, &byte, 1, 0) == 1 && byte == 'x';
    close(ours);
  }
  if (accepted >= 0) {
    close(accepted);
  }
  if (client >= 0) {
    close(client);
  }
  if (listener >= 0) {
    close(listener);
  }
  return is_proved ? 0 : -1;
}

int takeover_prepare(struct vc_error *error)
{
  if (prepare() != 0) {
    return vc_error_set(error, "front: no socket pair: %s", strerror(errno));
  }
  if (prove() != 0) {
    return vc_error_set(error,
                        "front: sockets cannot be taken over on this system (descriptors "
                        "up to %d are looked at)",
                        end_fd);
  }
  return 0;
}
