// When the next messages are said: at a rate, or as soon as all have got the last ones, which shows
// how many a system delivers when it is never let rest.
#include "bench.h"

#define PATIENCE_NS VC_NS_PER_S

void pace_begin(struct pace *pace, struct vc_stage *speaker)
{
  atomic_store(&pace->speaker, speaker);
  vc_stage_wake(speaker);
}

void pace_end(struct pace *pace)
{
  atomic_store(&pace->speaker, NULL);
}

int pace_is_due(struct pace *pace, uint64_t now_ns)
{
  if (pace->rate_hz > 0 || atomic_load(&pace->speaker) == NULL) {
    return 0;
  }
  size_t n_behind = atomic_load(&pace->n_behind);
  if (n_behind > 0 && now_ns < pace->said_ns + PATIENCE_NS) {
    return 0;
  }
  pace->n_given_up += n_behind > 0 && pace_is_measured(pace, now_ns);
  pace->said_ns = now_ns;
  atomic_store(&pace->n_behind, pace->n_readers);
  atomic_fetch_add(&pace->last_number, pace->burst);
  return 1;
}

void pace_measure(struct pace *pace, uint64_t from_ns, uint64_t to_ns)
{
  atomic_store_explicit(&pace->measured_from_ns, from_ns, memory_order_relaxed);
  // Release: who sees this end sees the beginning, too.
  atomic_store_explicit(&pace->measured_to_ns, to_ns, memory_order_release);
}

int pace_is_measured(struct pace *pace, uint64_t said_ns)
{
  return said_ns < atomic_load_explicit(&pace->measured_to_ns, memory_order_acquire) &&
         said_ns >= atomic_load_explicit(&pace->measured_from_ns, memory_order_relaxed);
}

void pace_said(struct pace *pace, size_t session, uint64_t said_ns)
{
  if (pace->readers_of == NULL) {
    return;
  }
  if (session >= pace->n_sessions) {
    die("session %zu speaks, and there are %zu", session, pace->n_sessions);
  }
  if (pace_is_measured(pace, said_ns)) {
    atomic_fetch_add_explicit(&pace->n_due, pace->readers_of[session], memory_order_relaxed);
  }
}

void pace_late(struct pace *pace, struct samples *late_ms, uint64_t due_ns, uint64_t now_ns)
{
  if (pace_is_measured(pace, due_ns)) {
    samples_add(late_ms, (double)(now_ns - due_ns) / (double)VC_NS_PER_MS);
  }
}

void pace_received(struct pace *pace, uint64_t number)
{
  if (pace->rate_hz > 0 || number != atomic_load(&pace->last_number)) {
    return;
  }
  struct vc_stage *speaker = atomic_load(&pace->speaker);
  if (atomic_fetch_sub(&pace->n_behind, 1) == 1 && speaker != NULL) {
    vc_stage_wake(speaker);
  }
}
