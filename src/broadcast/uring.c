#include <verbacast/base/log.h>

#include <errno.h>
#include <liburing.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "room.h"

#define SLOTS 128                // writes a system call
#define NOT_TAKEN (-EINPROGRESS) // no answer of the kernel's yet

struct slot {
  struct viewer *viewer;
  struct batch batch;
  struct msghdr header;
  ssize_t result;
};

struct uring {
  struct io_uring ring;
  int is_broken; // the kernel does not take from it any more
  size_t n;
  struct slot slots[SLOTS];
};

// Those of old kernels (5.1 to 5.5) know neither.
static int can_send(struct io_uring *ring)
{
  struct io_uring_probe *probe = io_uring_get_probe_ring(ring);
  int can = probe != NULL && io_uring_opcode_supported(probe, IORING_OP_SEND) &&
            io_uring_opcode_supported(probe, IORING_OP_SENDMSG);
  io_uring_free_probe(probe);
  return can;
}

int uring_create(struct uring **uring_out, struct vc_error *error)
{
  // Only the worker's own thread submits, and it waits at once for what it has submitted.
  struct io_uring_params params = {.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN};
  struct uring *uring = calloc(1, sizeof *uring);
  if (uring == NULL) {
    return vc_error_set(error, "no memory");
  }
  int status = io_uring_queue_init_params(SLOTS, &uring->ring, &params);
  if (status == -EINVAL) { // a kernel before 6.0
    status = io_uring_queue_init(SLOTS, &uring->ring, 0);
  }
  if (status != 0) {
    free(uring);
    return vc_error_set(error, "the kernel gives no io_uring: %s", strerror(-status));
  }
  if (!can_send(&uring->ring)) {
    uring_destroy(&uring);
    return vc_error_set(error, "the kernel's io_uring cannot send");
  }
  *uring_out = uring;
  return 0;
}

void uring_destroy(struct uring **uring)
{
  if (*uring != NULL) {
    io_uring_queue_exit(&(*uring)->ring);
    free(*uring);
    *uring = NULL;
  }
}

static void prepare(struct uring *uring, struct slot *slot)
{
  struct io_uring_sqe *sqe = io_uring_get_sqe(&uring->ring); // there are as many as slots
  const struct batch *batch = &slot->batch;
  int flags = MSG_DONTWAIT | MSG_NOSIGNAL; // a full socket is an answer, too
  if (batch->n == 1) {
    io_uring_prep_send(sqe, slot->viewer->watch.fd, batch->iovecs[0].iov_base,
                       batch->iovecs[0].iov_len, flags);
  } else {
    slot->header = (struct msghdr){.msg_iov = slot->batch.iovecs, .msg_iovlen = batch->n};
    io_uring_prep_sendmsg(sqe, slot->viewer->watch.fd, &slot->header, (unsigned)flags);
  }
  io_uring_sqe_set_data(sqe, slot);
  slot->result = NOT_TAKEN;
}

static size_t take_results(struct uring *uring)
{
  struct io_uring_cqe *cqe;
  unsigned head, n = 0;
  io_uring_for_each_cqe(&uring->ring, head, cqe)
  {
    struct slot *slot = io_uring_cqe_get_data(cqe);
    slot->result = cqe->res;
    n++;
  }
  io_uring_cq_advance(&uring->ring, n);
  return n;
}

// Returns when the kernel has answered for every slot, or will take no more of them.
static void submit(struct uring *uring)
{
  size_t n_done = 0;
  while (n_done < uring->n && !uring->is_broken) {
    int status = io_uring_submit_and_wait(&uring->ring, (unsigned)(uring->n - n_done));
    n_done += take_results(uring);
    uring->is_broken = status < 0 && status != -EINTR;
    if (uring->is_broken) {
      vc_log(VC_LOG_WARN, VC_EVENT("broadcast.uring_broken"), VC_STR("reason", strerror(-status)));
    }
  }
}

void uring_send(struct vc_worker *worker, struct uring *uring)
{
  if (uring->n == 0) {
    return;
  }
  submit(uring);
  for (size_t i = 0; i < uring->n; i++) {
    struct slot *slot = &uring->slots[i];
    int is_to_do_again = slot->result == NOT_TAKEN || slot->result == -EINTR;
    if (is_to_do_again || viewer_sent(worker, slot->viewer, &slot->batch, slot->result) == 0) {
      viewer_flush(worker, slot->viewer); // what came behind, and what is due when all is sent
    }
  }
  uring->n = 0;
}

void uring_add(struct vc_worker *worker, struct uring *uring, struct viewer *viewer)
{
  struct slot *slot = &uring->slots[uring->n];
  viewer_gather(worker, viewer, &slot->batch);
  if (slot->batch.n == 0 || uring->is_broken) {
    viewer_flush(worker, viewer);
    return;
  }
  slot->viewer = viewer;
  prepare(uring, slot);
  if (++uring->n == SLOTS) {
    uring_send(worker, uring);
  }
}
