// What other nodes say. Their sessions are kept and shown as ours are, only that the numbers are
// theirs: nothing is numbered here while another node owns the slug.
#include "ledger.h"

#include <stdlib.h>

#define LATE_MS 5000

// --- what is open

void remote_forget(struct session *session)
{
  for (size_t i = 0; i < session->fleet.n_open; i++) {
    vc_message_unref(session->fleet.open[i].message);
  }
  session->fleet.n_open = 0;
}

static void close_open(struct fleet *fleet, size_t at)
{
  vc_message_unref(fleet->open[at].message);
  memmove(&fleet->open[at], &fleet->open[at + 1], (fleet->n_open - at - 1) * sizeof *fleet->open);
  fleet->n_open--;
}

static void close_same(struct fleet *fleet, const struct vc_message *message)
{
  for (size_t i = 0; i < fleet->n_open; i++) {
    if (fleet->open[i].key == message->utterance_hash) {
      close_open(fleet, i);
      return;
    }
  }
}

// Without memory it is shown all the same, but not to who comes before the next.
static void keep_open(struct ledger *ledger, struct fleet *fleet, struct vc_message *message)
{
  if (fleet->open == NULL) {
    fleet->open = calloc(FLEET_OPEN_MAX, sizeof *fleet->open);
  }
  if (fleet->open == NULL) {
    ledger_out_of_memory(ledger);
    return;
  }
  if (fleet->n_open == FLEET_OPEN_MAX) {
    close_open(fleet, 0);
  }
  fleet->open[fleet->n_open++] =
      (struct open){.key = message->utterance_hash, .message = vc_message_ref(message)};
}

static void follow_open(struct ledger *ledger, struct session *session, struct vc_message *message)
{
  if (message->kind == VC_MESSAGE_END) {
    remote_forget(session);
  } else if (message->utterance_hash != 0) {
    close_same(&session->fleet, message);
  }
  if (message->kind == VC_MESSAGE_PARTIAL) {
    keep_open(ledger, &session->fleet, message);
  }
}

// --- messages

static void show(struct ledger *ledger, struct session *session, struct vc_message *message)
{
  if (!session->fleet.is_filled) {
    session->fleet.has_unshown = 1;
  } else if (message != NULL) {
    live_send(ledger, session, message);
  }
}

static void greet(struct ledger *ledger, struct session *session, struct epoch *epoch)
{
  struct vc_message *hello = hello_get(ledger, session, epoch);
  if (!session->fleet.is_filled || hello == NULL) {
    show(ledger, session, hello);
  } else {
    say_hello(ledger, session, epoch, hello);
  }
  vc_message_unref(hello);
}

// The epoch that it is of: the newest, or a new one, which is greeted.
static struct epoch *get_epoch(struct ledger *ledger, struct session *session,
                               const struct vc_remote *remote)
{
  int64_t number = remote->epoch;
  struct epoch *epoch = session_newest(session);
  if (epoch != NULL && epoch->number >= number) {
    return epoch->number == number ? epoch : NULL;
  }
  epoch = session_add_epoch(ledger, session, number);
  if (epoch == NULL) {
    ledger_out_of_memory(ledger);
    return NULL;
  }
  // A number is about the time it was made at: all that is known when the first words are lost.
  epoch->started_unix_ms = remote->started_unix_ms != 0 ? remote->started_unix_ms : number;
  remote_forget(session);
  vc_message_unref(session->hello);
  session->hello = NULL;
  greet(ledger, session, epoch);
  return epoch;
}

// As its owner said: who takes it for lost does not know what it said.
static int is_over(const struct epoch *epoch)
{
  return epoch->state == VC_STATE_ENDED && !vc_close_reason_is_owner_lost(epoch->reason);
}

// Of what has been said. Where its owner has said the end, others took him for lost in vain.
static int is_stray(const struct epoch *epoch, const struct vc_remote *remote)
{
  const struct vc_message *message = remote->message;
  return (message->seq <= epoch->last_seq && message->kind != VC_MESSAGE_HELLO) ||
         (is_over(epoch) && vc_close_reason_is_owner_lost(remote->reason));
}

static void take_message(struct ledger *ledger, struct session *session,
                         const struct vc_remote *remote)
{
  struct vc_message *message = remote->message;
  struct epoch *epoch = get_epoch(ledger, session, remote);
  if (epoch == NULL || is_stray(epoch, remote)) {
    ledger_count(ledger, REMOTE_STRAYS);
    return;
  }
  // What was only guessed: a gap that began it did not say, or who spoke for its owner.
  if (remote->started_unix_ms != 0 && epoch->started_unix_ms == epoch->number) {
    epoch->started_unix_ms = remote->started_unix_ms;
  }
  ledger_count(ledger, REMOTE_MESSAGES);
  session_revive(ledger, session); // it goes on elsewhere: its history is not that of an ended one
  if (message->kind == VC_MESSAGE_HELLO) {
    epoch->is_after_loss = message->is_after_loss;
    return;
  }
  if (message->kind == VC_MESSAGE_STATUS || message->kind == VC_MESSAGE_END) {
    epoch_set_state(session, epoch, remote->state, remote->reason);
  }
  epoch_number(session, epoch, message);
  follow_open(ledger, session, message);
  show(ledger, session, message);
  if (message->kind != VC_MESSAGE_PARTIAL) {
    session_keep(ledger, session, message);
  }
}

static void tell_again(struct ledger *ledger, struct session *session)
{
  struct vc_message *hello = hello_get(ledger, session, session_newest(session));
  if (hello != NULL) {
    live_send_after_loss(ledger, session, hello);
    vc_message_unref(hello);
  }
}

static void lose(struct ledger *ledger, struct session *session, struct epoch *epoch, uint64_t to)
{
  epoch->last_seq = to;
  epoch->last_kept = to;
  session_miss_to(ledger, session, epoch, to);
  if (session->fleet.is_filled) {
    tell_again(ledger, session);
  } else {
    session->fleet.has_unshown = 1;
  }
}

static void take_gap(struct ledger *ledger, struct session *session, const struct vc_remote *remote)
{
  struct epoch *epoch = get_epoch(ledger, session, remote);
  if (epoch == NULL || (remote->to == 0 ? is_over(epoch) : remote->to <= epoch->last_seq)) {
    ledger_count(ledger, REMOTE_STRAYS);
    return;
  }
  ledger_count(ledger, REMOTE_GAPS);
  remote_forget(session);
  vc_message_unref(session->hello);
  session->hello = NULL;
  if (remote->to == 0) {
    epoch->is_cut = 1; // told where it ends, see say_hello
  } else {
    lose(ledger, session, epoch, remote->to);
  }
}

void remote_lose_rest(struct ledger *ledger, struct session *session)
{
  struct epoch *epoch = session_newest(session);
  session->fleet.is_unsure = 1;
  if (epoch != NULL && !is_over(epoch) && !epoch->is_cut) {
    ledger_count(ledger, REMOTE_GAPS);
    epoch->is_cut = 1;
  }
}

// --- owners

static void set_owner(const struct ledger *ledger, struct session *session, int64_t epoch)
{
  struct fleet *fleet = &session->fleet;
  if (epoch != 0) {
    fleet->gone_ns = 0;
  } else if (fleet->gone_ns == 0) {
    fleet->gone_ns = vc_worker_now_ns(ledger->worker);
  }
}

// Viewers that were told `unknown` are told what is: by what they missed, or that it is nothing.
static void tell_late(struct ledger *ledger, struct session *session)
{
  if (session->epochs != NULL) {
    tell_again(ledger, session);
    return;
  }
  struct vc_message *status = present_status_create(ledger, session);
  if (status != NULL) {
    live_send(ledger, session, status);
    vc_message_unref(status);
  }
}

// Some of its viewers were answered before.
static int has_answered(const struct session *session)
{
  const struct request *request;
  uint32_t n_waiting = 0;
  DL_FOREACH(session->fleet.joins, request)
  {
    n_waiting++;
  }
  return session->n_viewers > n_waiting;
}

// What came while the claim was under way is of older epochs: their last words, shown before the
// new one begins.
void remote_show_rest(struct ledger *ledger, struct session *session)
{
  struct fleet *fleet = &session->fleet;
  if (fleet->has_unshown && session->epochs != NULL && has_answered(session)) {
    fleet->is_filled = 1; // the answer says so; who watches later asks again
    vc_message_unref(session->hello);
    session->hello = NULL;
    tell_again(ledger, session);
    fleet->is_filled = 0;
  }
  fleet->has_unshown = 0;
}

static void filled(struct ledger *ledger, struct session *session, const struct vc_remote *remote)
{
  struct fleet *fleet = &session->fleet;
  int was_late = fleet->late_until_ns == UINT64_MAX;
  int must_tell = was_late || fleet->has_unshown;
  fleet->is_filled = 1;
  fleet->has_unshown = 0;
  fleet->is_unsure = 0;
  fleet->refresh = REFRESH_NONE;
  fleet->late_until_ns = was_late ? vc_worker_now_ns(ledger->worker) + LATE_MS * VC_NS_PER_MS : 0;
  vc_message_unref(session->hello);
  session->hello = NULL;
  set_owner(ledger, session, remote->epoch);
  if (must_tell && has_answered(session)) {
    tell_late(ledger, session);
  }
  requests_release(ledger, session);
}

static void close_all(const struct ledger *ledger, struct session *session, int64_t taken_epoch)
{
  struct publishing *live;
  session->fleet.taken_epoch = taken_epoch;
  session->fleet.taken_again_ns = vc_worker_now_ns(ledger->worker);
  session->fleet.closing = CLOSING_WANTED;
  DL_FOREACH(session->live, live)
  {
    live->is_newcomer = 0;
  }
}

// While we claim it ourselves the answer tells who did so later.
static void taken(struct ledger *ledger, struct session *session, const struct vc_remote *remote)
{
  int was_taken = session->fleet.taken_ns != 0;
  if (session->live == NULL || session->fleet.claim != CLAIM_HELD ||
      remote->epoch < session_newest(session)->number || // the other is the one that gives way
      (was_taken && remote->epoch <= session->fleet.taken_epoch)) { // it is told twice
    return;
  }
  close_all(ledger, session, remote->epoch);
  if (was_taken) {
    return;
  }
  ledger_count(ledger, EPOCHS_TAKEN);
  vc_log(VC_LOG_INFO, VC_EVENT("ledger.taken"), VC_STR("session", session->slug),
         VC_INT("epoch", session_newest(session)->number), VC_STR("by", remote->node),
         VC_INT("its_epoch", remote->epoch));
  session->fleet.taken_ns = session->fleet.taken_again_ns;
}

static void owned(struct ledger *ledger, struct session *session, const struct vc_remote *remote)
{
  const struct epoch *newest = session_newest(session);
  int64_t epoch = remote->epoch;
  if (session->fleet.claim != CLAIM_ASKED || (epoch > 0 && epoch < session->fleet.key_epoch)) {
    return; // it was asked for by a claim before, which was not waited for any longer
  }
  // Somebody has begun a later one meanwhile: a number behind that is Redis' to give.
  if (epoch > 0 && newest != NULL && newest->number >= epoch && newest->number < VC_EPOCH_MAX) {
    session->fleet.is_after_loss |= remote->is_after_loss;
    fleet_claim(ledger, session);
    return;
  }
  fleet_begin(ledger, session, epoch, remote->is_after_loss);
}

static void fenced(struct ledger *ledger, struct session *session, const struct vc_remote *remote)
{
  struct epoch *epoch = session_newest(session);
  if (session->live == NULL || session->fleet.claim != CLAIM_HELD || session->fleet.taken_ns != 0 ||
      epoch->number != remote->epoch) {
    return;
  }
  ledger_count(ledger, EPOCHS_FENCED);
  vc_log(VC_LOG_WARN, VC_EVENT("ledger.fenced"), VC_STR("session", session->slug),
         VC_INT("epoch", epoch->number));
  epoch->is_refused = epoch->last_kept > remote->seq;
  // A loss that its hello would have told is still to be told.
  session->fleet.is_after_loss |= epoch->is_refused || (epoch->is_after_loss && remote->seq == 0);
  fleet_claim(ledger, session);
}

// Others spoke for us, and lack what we said last: the end is said once more, by us.
static void given_up(struct ledger *ledger, struct session *session, const struct vc_remote *remote)
{
  const struct epoch *epoch = session_newest(session);
  if (session->live == NULL && session->fleet.claim == CLAIM_NONE && epoch != NULL &&
      epoch->number == remote->epoch && is_over(epoch)) {
    fleet_end_given_up(ledger, session, remote->seq, remote->to);
  }
}

static void erased(struct ledger *ledger, struct session *session, const struct vc_remote *remote)
{
  const struct epoch *epoch = session_newest(session);
  if (session->live != NULL || epoch == NULL || epoch->number > remote->epoch) {
    session_forget_before(ledger, session, remote->epoch);
    return;
  }
  vc_log(VC_LOG_INFO, VC_EVENT("ledger.erased"), VC_STR("session", session->slug));
  session_revive(ledger, session);
  session_forget(ledger, session);
  session_release(ledger, session);
}

static void redis_away(struct ledger *ledger)
{
  struct session *session;
  ledger->is_redis_away = 1;
  DL_FOREACH2(ledger->busy, session, busy_next)
  {
    if (session->fleet.joins != NULL) {
      session->fleet.late_until_ns = UINT64_MAX;
      requests_release(ledger, session);
    }
  }
}

// What is of a session. May free it.
static void handle_of_session(struct ledger *ledger, struct session *session,
                              const struct vc_remote *remote)
{
  const struct fleet *fleet = &session->fleet;
  int is_heard = session->live == NULL && (fleet->is_watched || fleet->claim == CLAIM_ASKED);
  switch (remote->kind) {
  case VC_REMOTE_MESSAGE:
  case VC_REMOTE_GAP:
    if (!is_heard) {
      ledger_count(ledger, REMOTE_STRAYS);
    } else if (remote->kind == VC_REMOTE_MESSAGE) {
      take_message(ledger, session, remote);
    } else {
      take_gap(ledger, session, remote);
    }
    break;
  case VC_REMOTE_FILLED:
    if (is_heard) {
      filled(ledger, session, remote);
    }
    break;
  case VC_REMOTE_OWNER:
    set_owner(ledger, session, remote->epoch);
    break;
  case VC_REMOTE_OWNED:
    owned(ledger, session, remote);
    break;
  case VC_REMOTE_TAKEN:
    taken(ledger, session, remote);
    break;
  case VC_REMOTE_FENCED:
    fenced(ledger, session, remote);
    break;
  case VC_REMOTE_GIVEN_UP:
    given_up(ledger, session, remote);
    break;
  case VC_REMOTE_ASK:
    fleet_resend(ledger, session, remote->slug, (struct vc_position){remote->epoch, remote->seq});
    return;
  case VC_REMOTE_ERASED:
    erased(ledger, session, remote);
    return;
  case VC_REMOTE_AWAY:
  case VC_REMOTE_BACK:
    break;
  }
  fleet_settle(ledger, session);
}

void handle_remote(struct ledger *ledger, const struct vc_remote *remote)
{
  if (remote->kind == VC_REMOTE_ERASED) {
    // What begins from now on is not erased, also where the clock of the node that erased is ahead:
    // it would be taken for what was, by those who watch and by the sink.
    begin_behind(ledger, remote->epoch);
  }
  if (remote->kind == VC_REMOTE_AWAY) {
    redis_away(ledger);
  } else if (remote->kind == VC_REMOTE_BACK) {
    ledger->is_redis_away = 0;
  } else {
    struct session *session = session_find(ledger, remote->slug);
    if (session == NULL && remote->kind == VC_REMOTE_ASK) {
      fleet_resend(ledger, NULL, remote->slug, (struct vc_position){remote->epoch, remote->seq});
    } else if (session == NULL) {
      ledger_count(ledger, REMOTE_STRAYS);
    } else {
      handle_of_session(ledger, session, remote);
    }
  }
}
