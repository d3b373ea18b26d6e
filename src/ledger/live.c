// Live messages to the workers of broadcast that have viewers of the session. A lane that is full
// costs this message for that worker: the session is then behind there, until one message went
// through that says so and makes its viewers catch up.
#include "ledger.h"

#include <stdlib.h>

static int put(struct ledger *ledger, struct session *session, uint32_t worker)
{
  struct vc_live *live = vc_live_create(session->newest);
  if (live == NULL) {
    ledger_out_of_memory(ledger);
    return -1;
  }
  live->is_after_loss = session->audience[worker].is_behind;
  live->began_ms = session_began_ms(session);
  live->queued_ns = vc_clock_now_ns(vc_worker_clock(ledger->worker));
  if (vc_putter_put(ledger->broadcast, worker, &live->item) != 0) {
    vc_item_destroy(&live->item);
    return -1;
  }
  session->audience[worker].is_behind = 0;
  return 0;
}

static void fall_behind(struct ledger *ledger, struct session *session, uint32_t worker)
{
  session->audience[worker].is_behind = 1;
  if (!session->is_in_behind) {
    session->is_in_behind = 1;
    DL_APPEND2(ledger->behind, session, behind_prev, behind_next);
  }
}

static void catch_up(struct ledger *ledger, struct session *session)
{
  session->is_in_behind = 0;
  DL_DELETE2(ledger->behind, session, behind_prev, behind_next);
}

void live_send(struct ledger *ledger, struct session *session, struct vc_message *message)
{
  vc_message_ref(message);
  vc_message_unref(session->newest);
  session->newest = message;
  for (uint32_t i = 0; i < ledger->n_broadcast_workers; i++) {
    if (session->audience[i].n_viewers > 0 && put(ledger, session, i) != 0) {
      ledger_count(ledger, LIVE_DROPPED);
      fall_behind(ledger, session, i);
    }
  }
}

void live_send_after_loss(struct ledger *ledger, struct session *session,
                          struct vc_message *message)
{
  for (uint32_t i = 0; i < ledger->n_broadcast_workers; i++) {
    session->audience[i].is_behind = session->audience[i].n_viewers > 0;
  }
  live_send(ledger, session, message);
}

// Returns: 0 when it is behind nowhere any more.
static int retry(struct ledger *ledger, struct session *session)
{
  int is_behind = 0;
  for (uint32_t i = 0; i < ledger->n_broadcast_workers; i++) {
    struct audience *audience = &session->audience[i];
    if (audience->n_viewers == 0) {
      audience->is_behind = 0;
    }
    is_behind |= audience->is_behind && put(ledger, session, i) != 0;
  }
  return is_behind;
}

void live_retry(struct ledger *ledger)
{
  struct session *session, *next;
  DL_FOREACH_SAFE2(ledger->behind, session, next, behind_next)
  {
    if (retry(ledger, session) == 0) {
      catch_up(ledger, session);
    }
  }
}

void live_forget(struct ledger *ledger, struct session *session)
{
  for (uint32_t i = 0; i < ledger->n_broadcast_workers; i++) {
    session->audience[i].is_behind = 0;
  }
  if (session->is_in_behind) {
    catch_up(ledger, session);
  }
  vc_message_unref(session->newest);
  session->newest = NULL;
}
