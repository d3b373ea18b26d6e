#include <verbacast/flow/listener.h>

#include <verbacast/base/log.h>

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>

#define ACCEPTS_PER_TURN 64

static void rest(struct vc_worker *worker, struct vc_listener *listener)
{
  listener->rests_until_ns = vc_worker_now_ns(worker) + VC_LISTENER_REST_MS * VC_NS_PER_MS;
  vc_worker_wake_at(worker, listener->rests_until_ns);
}

static void run_short(struct vc_worker *worker, struct vc_listener *listener, int why)
{
  vc_metric_add(vc_worker_slots(worker), listener->rests, 1);
  if (!listener->is_short) {
    listener->is_short = 1;
    vc_log(VC_LOG_ERROR, VC_EVENT(listener->event), VC_STR("error", strerror(why)),
           VC_INT("tried_every_ms", VC_LISTENER_REST_MS));
  }
  vc_worker_unwatch(worker, &listener->watch);
  listener->is_listening = 0;
  rest(worker, listener);
}

static void accept_ready(struct vc_worker *worker, struct vc_watch *watch, uint32_t events)
{
  struct vc_listener *listener = (struct vc_listener *)watch; // its first member
  for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
    struct sockaddr_storage from;
    socklen_t size = sizeof from;
    int fd = accept4(listener->fd, (struct sockaddr *)&from, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) {
      listener->take(worker, fd, (struct sockaddr *)&from);
    } else if (errno == EAGAIN) {
      listener->is_short = 0;
      return;
    } else if (errno != EINTR && errno != ECONNABORTED) {
      run_short(worker, listener, errno);
      return;
    }
  }
}

int vc_listener_start(struct vc_worker *worker, struct vc_listener *listener)
{
  listener->watch.fd = listener->fd;
  listener->watch.ready = accept_ready;
  listener->rests_until_ns = 0;
  if (vc_worker_watch(worker, &listener->watch, EPOLLIN | EPOLLEXCLUSIVE) != 0) {
    return -1;
  }
  listener->is_listening = 1;
  return 0;
}

void vc_listener_tick(struct vc_worker *worker, struct vc_listener *listener)
{
  if (listener->rests_until_ns == 0) {
    return;
  }
  if (vc_worker_now_ns(worker) < listener->rests_until_ns) {
    vc_worker_wake_at(worker, listener->rests_until_ns);
  } else if (vc_listener_start(worker, listener) != 0) {
    rest(worker, listener);
  }
}

void vc_listener_stop(struct vc_worker *worker, struct vc_listener *listener)
{
  if (listener->is_listening) {
    vc_worker_unwatch(worker, &listener->watch);
    listener->is_listening = 0;
  }
  listener->rests_until_ns = 0;
}
