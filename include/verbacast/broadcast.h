// broadcast: messages to viewers. Nobody waits for anybody.
//
//   ledger -- LIVE, ANSWER --> broadcast -- sockets --> viewers
//   broadcast -- JOIN, CATCH_UP, LEAVE --> ledger          front -- sockets --> broadcast
//
// A session's viewers are spread over all workers. Each worker holds a ring of the session's last
// messages (references), a viewer is a cursor into it: memory does not grow with a viewer's lag.
// What a turn gathered leaves in one write a viewer, the writes to many viewers in one system call
// where the kernel allows io_uring (BROADCAST_IO). A viewer that cannot take more waits for
// writability; then partials that were overtaken are passed over, and what left the ring is asked
// of the ledger. One that takes nothing for SLOW_VIEWER_TIMEOUT_MS is closed with 4008.
//
// Bounds: MAX_VIEWERS; MAX_BROADCAST_QUEUE_SIZE messages a session and worker; one answer and 512
// bytes of control frames a viewer; 4 KiB a message that a viewer sends.
#pragma once

#include <verbacast/base/limits.h>
#include <verbacast/base/options.h>
#include <verbacast/flow/stage.h>
#include <verbacast/flow/viewer.h>

struct vc_broadcast_options {
  int64_t max_broadcast_queue_size;
  int64_t ping_interval_ms;
  int64_t pong_timeout;
  int64_t slow_viewer_timeout_ms;
  int64_t max_viewers; // 0: by the descriptor limit
  int64_t broadcast_threads;
  int broadcast_io; // auto, send, uring
};
extern const struct vc_option vc_broadcast_option_rows[];
extern const struct vc_metric vc_broadcast_metrics[];

struct vc_broadcast_settings {
  const struct vc_broadcast_options *options; // lives as long as the stage
  uint32_t n_workers;
  uint32_t max_viewers;     // resolved
  struct vc_limits *limits; // viewers by address; entered at adopt, left at close; may be NULL
  const struct vc_clock *clock;
  struct vc_metrics *metrics; // may be NULL
};

struct vc_broadcast;

int vc_broadcast_create(struct vc_broadcast **broadcast,
                        const struct vc_broadcast_settings *settings, struct vc_error *error);
// Its stage; started, stopped by the caller, destroyed by vc_broadcast_destroy.
struct vc_stage *vc_broadcast_stage(struct vc_broadcast *broadcast);
// Before the start: the stage that answers joins.
void vc_broadcast_set_ledger(struct vc_broadcast *broadcast, struct vc_stage *ledger);
void vc_broadcast_destroy(struct vc_broadcast **broadcast);

// Thread: any. Returns: 1 while another viewer fits.
int vc_broadcast_has_room(const struct vc_broadcast *broadcast);

struct vc_newcomer {
  int fd; // non-blocking, its handshake done
  char slug[VC_SLUG_MAX + 1];
  struct vc_position since; // epoch 0: none
  struct vc_address address;
  int is_exempt;      // of the limit by address
  int64_t begins_ms;  // its token, Unix time
  int64_t expires_ms; // the same; 0: never
};
// Thread: any. Takes the descriptor: when there is no room it is closed with 1013.
void vc_broadcast_adopt(struct vc_broadcast *broadcast, const struct vc_newcomer *newcomer);
