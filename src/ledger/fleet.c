// What other nodes are told, and what waits for them. A session's state says what is to be put to
// the redis room; settling it puts what fits and leaves the rest for the next turn, so that nothing
// has to be remembered in order and nothing is told twice.
#include "ledger.h"

#include <stdlib.h>

#define JOIN_WAIT_MS 300
#define CLAIM_WAIT_MS 3000 // the redis room answers sooner by itself
#define RESULTS_MAX 1024
#define ORPHAN_AFTER_MS 5000 // a Redis that was away needs 3 s until all owners are known again
#define ORPHAN_AGAIN_MS 3000
#define ORPHAN_SEQ_STEP 1000000 // more than a node says from one kept message to the next
#define LET_GO_MS 2000          // of a session that another node has claimed

static int is_on(const struct ledger *ledger)
{
  return ledger->publisher != NULL;
}

static uint64_t ms_from_now(const struct ledger *ledger, uint64_t ms)
{
  return vc_worker_now_ns(ledger->worker) + ms * VC_NS_PER_MS;
}

static int is_past(const struct ledger *ledger, uint64_t since_ns, uint64_t ms)
{
  return vc_worker_now_ns(ledger->worker) >= since_ns + ms * VC_NS_PER_MS;
}

static int is_claiming(const struct session *session)
{
  return session->fleet.claim == CLAIM_WANTED || session->fleet.claim == CLAIM_ASKED;
}

static int should_watch(const struct session *session)
{
  return session->n_viewers > 0 && session->live == NULL && session->fleet.claim == CLAIM_NONE;
}

static struct vc_position position_of(const struct session *session)
{
  const struct epoch *newest = session_newest(session);
  return newest != NULL ? (struct vc_position){newest->number, newest->last_kept}
                        : (struct vc_position){0, 0};
}

// --- putting. Each returns 0, or -1: no room or no memory now.

static int put(struct ledger *ledger, struct vc_putter *putter, struct vc_fleet *fleet)
{
  if (fleet == NULL) {
    ledger_out_of_memory(ledger);
    return -1;
  }
  if (vc_putter_put(putter, 0, &fleet->item) != 0) {
    vc_item_destroy(&fleet->item);
    return -1;
  }
  return 0;
}

static int put_turn(struct ledger *ledger, struct vc_putter *putter, const struct session *session,
                    enum vc_fleet_kind kind, struct vc_position position)
{
  const struct epoch *newest = session_newest(session);
  struct vc_fleet *fleet = vc_fleet_create(kind, session->slug, 0);
  if (fleet != NULL) {
    fleet->position = position;
    fleet->is_over = newest != NULL && newest->state == VC_STATE_ENDED;
    fleet->epoch_floor = kind == VC_FLEET_CLAIM ? session->fleet.key_epoch : 0;
    fleet->is_last = kind == VC_FLEET_RELEASE && session->fleet.has_said_last;
  }
  return put(ledger, putter, fleet);
}

// NULL without memory.
static struct vc_fleet *create_message(const struct session *session, enum vc_fleet_kind kind,
                                       struct vc_message *message)
{
  struct vc_fleet *fleet = vc_fleet_create(kind, session->slug, 1);
  if (fleet != NULL) {
    vc_fleet_add(fleet, message);
    fleet->started_unix_ms = session_newest(session)->started_unix_ms;
  }
  return fleet;
}

// --- what is kept, once more

// What is told again: what we numbered, and what was before that.
static int64_t newest_to_resend(const struct session *session)
{
  return session->fleet.claim == CLAIM_HELD ? INT64_MAX : session->fleet.released.epoch;
}

// The first epoch from this number on that is told again.
static const struct epoch *epoch_from(const struct session *session, int64_t number)
{
  const struct epoch *epoch;
  DL_FOREACH(session->epochs, epoch)
  {
    if (epoch->number >= number) {
      return epoch->number <= newest_to_resend(session) ? epoch : NULL;
    }
  }
  return NULL;
}

// Fills a piece from what one epoch keeps after `after`, and moves `after` there.
static void fill_piece(struct vc_fleet *piece, const struct epoch *epoch, struct vc_position *after)
{
  struct vc_message *message;
  while (piece->n_messages < piece->most &&
         (message = history_after(&epoch->history, after->seq, HISTORY_ALL)) != NULL) {
    after->seq = message->seq;
    if (vc_message_is_kept(message)) {
      vc_fleet_add(piece, message);
    }
  }
}

// Returns: 0, or -1 no memory.
static int begin_piece(struct ledger *ledger, const struct session *session,
                       const struct epoch *epoch, struct vc_fleet *piece)
{
  struct vc_message *beginning = beginning_create(ledger, session, epoch);
  if (beginning == NULL) {
    return -1;
  }
  vc_fleet_add(piece, beginning);
  vc_message_unref(beginning);
  return 0;
}

// There is nothing (more) of the slug.
static int put_end_of_history(struct ledger *ledger, const char *slug, struct vc_position behind)
{
  struct vc_fleet *piece = vc_fleet_create(VC_FLEET_HISTORY, slug, 0);
  if (piece != NULL) {
    piece->position = behind;
    piece->is_last = 1;
  }
  return put(ledger, ledger->publisher, piece);
}

static struct vc_position last_of(const struct vc_fleet *piece, struct vc_position behind)
{
  if (piece->n_messages == 0) {
    return behind;
  }
  const struct vc_message *last = piece->messages[piece->n_messages - 1];
  return (struct vc_position){last->epoch, last->seq};
}

// The next piece of this epoch; `after` becomes where the one behind it begins.
static struct vc_fleet *make_piece(struct ledger *ledger, const struct session *session,
                                   const struct epoch *epoch, struct vc_position *after)
{
  struct vc_fleet *piece = vc_fleet_create(VC_FLEET_HISTORY, session->slug, VC_ANSWER_MAX);
  if (piece == NULL) {
    return NULL;
  }
  if (epoch->number != after->epoch) {
    *after = (struct vc_position){epoch->number, 0};
    if (begin_piece(ledger, session, epoch, piece) != 0) {
      vc_item_destroy(&piece->item);
      return NULL;
    }
  }
  fill_piece(piece, epoch, after);
  piece->position = session->fleet.resend_behind;
  piece->started_unix_ms = epoch->started_unix_ms;
  if (history_after(&epoch->history, after->seq, HISTORY_ALL) == NULL) {
    *after = (struct vc_position){epoch->number + 1, 0};
    piece->is_last = epoch_from(session, epoch->number + 1) == NULL;
  }
  return piece;
}

static int resend_piece(struct ledger *ledger, struct session *session)
{
  struct fleet *fleet = &session->fleet;
  struct vc_position after = fleet->resend_after;
  const struct epoch *epoch = epoch_from(session, after.epoch);
  if (epoch == NULL) {
    fleet->is_resending = put_end_of_history(ledger, session->slug, fleet->resend_behind) != 0;
    return -fleet->is_resending;
  }
  struct vc_fleet *piece = make_piece(ledger, session, epoch, &after);
  if (piece == NULL) {
    ledger_out_of_memory(ledger);
    return -1;
  }
  int is_last = piece->is_last;
  struct vc_position behind = last_of(piece, fleet->resend_behind);
  if (put(ledger, ledger->publisher, piece) != 0) {
    return -1;
  }
  fleet->is_resending = !is_last;
  fleet->resend_after = after;
  fleet->resend_behind = behind;
  return 0;
}

void fleet_resend(struct ledger *ledger, struct session *session, const char *slug,
                  struct vc_position after)
{
  if (session == NULL) {
    put_end_of_history(ledger, slug, after); // what a full lane does not take is asked for again
    return;
  }
  session->fleet.is_resending = 1;
  session->fleet.resend_after = session->fleet.resend_behind = after;
  fleet_settle(ledger, session);
}

// --- a session whose node is lost

static int is_given_up(const struct epoch *epoch)
{
  return epoch->state == VC_STATE_RECONNECTING && vc_close_reason_is_owner_lost(epoch->reason);
}

// Takes the message, which may be NULL. `after` it is written. Returns: 0, or -1: not now.
static int put_orphan(struct ledger *ledger, const struct session *session,
                      struct vc_message *message, uint64_t after)
{
  struct vc_fleet *fleet =
      message != NULL ? create_message(session, VC_FLEET_ORPHAN, message) : NULL;
  if (fleet != NULL) {
    fleet->position = (struct vc_position){message->epoch, after};
  }
  vc_message_unref(message);
  return put(ledger, ledger->publisher, fleet);
}

static void say_for_lost(struct ledger *ledger, struct session *session, struct vc_message *message)
{
  if (put_orphan(ledger, session, message, session_newest(session)->last_kept) == 0) {
    session->fleet.said_ns = vc_worker_now_ns(ledger->worker);
    ledger_count(ledger, ORPHANS);
  }
}

static void care_for_lost(struct ledger *ledger, struct session *session)
{
  const struct fleet *fleet = &session->fleet;
  const struct epoch *epoch = session_newest(session);
  const char *reason = vc_close_reason_text(VC_CLOSE_OWNER_LOST);
  if (!should_watch(session) || epoch == NULL || epoch->state == VC_STATE_ENDED ||
      ledger->is_redis_away || !is_past(ledger, fleet->gone_ns, ORPHAN_AFTER_MS) ||
      !is_past(ledger, fleet->said_ns, ORPHAN_AGAIN_MS)) {
    return;
  }
  // Partials of the lost node came to others that did not come here: what is said for it has a
  // number behind theirs, or who has them takes it for one of them.
  uint64_t seq = epoch->last_seq + ORPHAN_SEQ_STEP;
  if (is_past(ledger, fleet->gone_ns, (uint64_t)ledger->settings->session_resume_ms)) {
    say_for_lost(ledger, session, end_create(ledger, session, seq, reason));
  } else if (!is_given_up(epoch)) {
    say_for_lost(ledger, session,
                 status_create(ledger, session, seq, VC_STATE_RECONNECTING, reason));
  }
}

// Where words are lost the number before its own is nobody's: who waits for that learns it. Here
// none are, and it is not shown.
void fleet_end_given_up(struct ledger *ledger, struct session *session, uint64_t seq,
                        uint64_t theirs)
{
  struct epoch *epoch = session_newest(session);
  uint64_t before = seq > epoch->last_seq ? seq : epoch->last_seq;
  int is_lost = epoch->last_final > theirs;
  uint64_t number = before + (is_lost ? 2 : 1);
  struct vc_message *message = end_create(ledger, session, number, epoch->reason);
  if (message != NULL) {
    message->prev_final = is_lost ? number - 1 : seq;
    epoch_number(session, epoch, message);
    put_orphan(ledger, session, message, seq); // else it is told again
  }
}

// --- settling

static void settle_claim(struct ledger *ledger, struct session *session)
{
  struct fleet *fleet = &session->fleet;
  if (fleet->claim != CLAIM_WANTED) {
    return;
  }
  fleet->key_epoch = next_epoch(ledger, session);
  if (put_turn(ledger, ledger->watcher, session, VC_FLEET_CLAIM, position_of(session)) == 0) {
    fleet->claim = CLAIM_ASKED;
    fleet->is_watched = 0; // a claim ends it
    fleet->is_filled = 0;
  }
}

static void settle_release(struct ledger *ledger, struct session *session)
{
  struct fleet *fleet = &session->fleet;
  if (fleet->must_release &&
      put_turn(ledger, ledger->publisher, session, VC_FLEET_RELEASE, fleet->released) == 0) {
    fleet->must_release = 0;
  }
}

static void settle_watch(struct ledger *ledger, struct session *session)
{
  struct fleet *fleet = &session->fleet;
  if (!should_watch(session)) {
    fleet->refresh = REFRESH_NONE; // nobody is there to hear it
  }
  int must_stop = fleet->is_watched && (!should_watch(session) || fleet->refresh == REFRESH_WANTED);
  if (must_stop && put_turn(ledger, ledger->watcher, session, VC_FLEET_UNWATCH,
                            (struct vc_position){0, 0}) == 0) {
    fleet->is_watched = 0;
    fleet->gone_ns = 0;
    if (!should_watch(session)) {
      fleet->is_filled = 0;
    }
  }
  if (!fleet->is_watched && !fleet->must_release && should_watch(session) &&
      put_turn(ledger, ledger->watcher, session, VC_FLEET_WATCH, position_of(session)) == 0) {
    fleet->is_watched = 1;
    fleet->refresh = fleet->refresh != REFRESH_NONE ? REFRESH_ASKED : REFRESH_NONE;
  }
}

// One that was let go of meanwhile is closed all the same: its words are nobody's but this node's.
static void settle_closing(struct ledger *ledger, struct session *session)
{
  const struct vc_ledger_settings *settings = ledger->settings;
  struct fleet *fleet = &session->fleet;
  if (fleet->closing == CLOSING_NONE) {
    return;
  }
  if (session->live == NULL || settings->take_over == NULL ||
      settings->take_over(settings->context, session->slug) == 0) {
    fleet->closing = CLOSING_NONE;
  } else if (fleet->closing == CLOSING_WANTED) {
    fleet->closing = CLOSING_LATE;
    ledger_count(ledger, CLOSES_LATE);
    vc_log(VC_LOG_WARN, VC_EVENT("ledger.close_late"), VC_STR("session", session->slug));
  }
}

static void settle_resend(struct ledger *ledger, struct session *session)
{
  while (session->fleet.is_resending && !is_claiming(session) &&
         resend_piece(ledger, session) == 0) {
  }
}

// Something is to be put that a full lane has kept back.
static int is_kept_back(const struct session *session)
{
  const struct fleet *fleet = &session->fleet;
  return fleet->must_release || fleet->claim == CLAIM_WANTED || fleet->closing != CLOSING_NONE ||
         (fleet->is_resending && !is_claiming(session)) ||
         fleet->is_watched != should_watch(session) || fleet->refresh == REFRESH_WANTED;
}

// Its node may be lost. One that nobody has published, or that has ended, is nobody's: there may be
// very many that are only watched.
static int may_be_lost(const struct session *session)
{
  const struct epoch *epoch = session_newest(session);
  return session->fleet.is_watched && session->fleet.gone_ns != 0 && epoch != NULL &&
         epoch->state != VC_STATE_ENDED;
}

static int is_busy(const struct session *session)
{
  const struct fleet *fleet = &session->fleet;
  return is_kept_back(session) || fleet->claim == CLAIM_ASKED || fleet->joins != NULL ||
         fleet->taken_ns != 0 || may_be_lost(session);
}

static void set_busy(struct ledger *ledger, struct session *session)
{
  int busy = is_busy(session);
  if (busy && !session->fleet.is_busy) {
    DL_APPEND2(ledger->busy, session, busy_prev, busy_next);
  } else if (!busy && session->fleet.is_busy) {
    DL_DELETE2(ledger->busy, session, busy_prev, busy_next);
  }
  session->fleet.is_busy = busy;
}

void fleet_settle(struct ledger *ledger, struct session *session)
{
  if (!is_on(ledger)) {
    return;
  }
  settle_claim(ledger, session);
  settle_release(ledger, session);
  settle_watch(ledger, session);
  settle_resend(ledger, session);
  settle_closing(ledger, session);
  set_busy(ledger, session);
}

int fleet_is_waiting(const struct ledger *ledger)
{
  const struct session *session;
  DL_FOREACH2(ledger->busy, session, busy_next)
  {
    if (is_kept_back(session)) {
      return 1;
    }
  }
  return 0;
}

static int has_newcomer(const struct session *session)
{
  const struct publishing *live;
  DL_FOREACH(session->live, live)
  {
    if (live->is_newcomer) {
      return 1;
    }
  }
  return 0;
}

// Who came behind the other node's claim takes the session back, as whoever opens it last does.
// What the other said meanwhile is not heard here: somebody publishes.
static void take_back(struct ledger *ledger, struct session *session)
{
  session->fleet.closing = CLOSING_NONE; // it would be told to who came
  remote_lose_rest(ledger, session);
  fleet_claim(ledger, session);
}

static void let_go_of_taken(struct ledger *ledger, struct session *session)
{
  if (session->fleet.taken_ns != 0 && is_past(ledger, session->fleet.taken_ns, LET_GO_MS)) {
    fleet_let_go(ledger, session);
    if (has_newcomer(session)) {
      take_back(ledger, session);
    }
  }
}

static void stop_waiting(struct ledger *ledger, struct session *session)
{
  struct fleet *fleet = &session->fleet;
  uint64_t now = vc_worker_now_ns(ledger->worker);
  if (is_claiming(session) && now >= fleet->claim_until_ns) {
    ledger_count(ledger, CLAIMS_LATE);
    fleet_begin(ledger, session, 0, 1);
  }
  if (fleet->joins != NULL && now >= fleet->joins_until_ns) {
    fleet->late_until_ns = UINT64_MAX;
    requests_release(ledger, session);
  }
}

static void retry(struct ledger *ledger, struct session *session)
{
  stop_waiting(ledger, session);
  let_go_of_taken(ledger, session);
  if (session->fleet.gone_ns != 0) {
    care_for_lost(ledger, session);
  }
  fleet_settle(ledger, session);
}

// When it is to be looked at without a message: others wait, by this time.
static uint64_t wake_before(const struct session *session, uint64_t wake_ns)
{
  const struct fleet *fleet = &session->fleet;
  uint64_t let_go_ns = fleet->taken_ns + (uint64_t)LET_GO_MS * VC_NS_PER_MS;
  if (fleet->joins != NULL && fleet->joins_until_ns < wake_ns) {
    wake_ns = fleet->joins_until_ns;
  }
  return fleet->taken_ns != 0 && let_go_ns < wake_ns ? let_go_ns : wake_ns;
}

void fleet_retry(struct ledger *ledger)
{
  struct session *session;
  uint64_t wake_ns = UINT64_MAX;
  size_t n;
  DL_COUNT2(ledger->busy, session, n, busy_next);
  // What is done for one may end others: each is taken from the front and stands behind afterwards.
  for (; n > 0 && (session = ledger->busy) != NULL; n--) {
    DL_DELETE2(ledger->busy, session, busy_prev, busy_next);
    session->fleet.is_busy = 0;
    retry(ledger, session);
    wake_ns = wake_before(session, wake_ns);
    session_release(ledger, session); // it may have been kept for this only
  }
  if (wake_ns != UINT64_MAX) {
    vc_worker_wake_at(ledger->worker, wake_ns);
  }
}

// --- claims

void fleet_claim(struct ledger *ledger, struct session *session)
{
  session->fleet.claim = CLAIM_WANTED;
  session->fleet.claimed_epoch = 0; // of the one before, where that is just being begun
  session->fleet.claim_until_ns = ms_from_now(ledger, CLAIM_WAIT_MS);
  fleet_settle(ledger, session);
}

// What was heard of it is no node's: to number behind it would make that number ours.
static void forget_beyond_clocks(struct ledger *ledger, struct session *session)
{
  const struct epoch *newest = session_newest(session);
  if (newest != NULL && newest->number > VC_EPOCH_MAX) {
    session_revive(ledger, session);
    session_forget(ledger, session);
  }
}

static struct session *session_to_claim(struct ledger *ledger, const struct vc_result *result)
{
  struct session *session = session_find(ledger, result->session->slug);
  if (session != NULL && session->fleet.claim != CLAIM_NONE) {
    return is_claiming(session) ? session : NULL;
  }
  if (result->kind != VC_RESULT_OPEN) {
    return NULL;
  }
  if (session != NULL && session->live != NULL) { // of who has not said his last since it was taken
    if (result->session->began_ns < session->fleet.taken_again_ns) {
      return NULL; // he was told to leave, too
    }
    take_back(ledger, session);
    return session;
  }
  session = session_get_for_publisher(ledger, result->session->slug);
  if (session != NULL) {
    forget_beyond_clocks(ledger, session);
    fleet_claim(ledger, session);
  }
  return session;
}

int fleet_hold(struct ledger *ledger, struct vc_result *result)
{
  struct session *session = is_on(ledger) ? session_to_claim(ledger, result) : NULL;
  if (session == NULL) {
    return 0;
  }
  DL_APPEND(session->fleet.results, &result->item);
  session->fleet.n_results++;
  fleet_settle(ledger, session);
  if (session->fleet.n_results >= RESULTS_MAX) {
    ledger_count(ledger, CLAIMS_LATE);
    fleet_begin(ledger, session, 0, 1);
  }
  return 1;
}

static void handle_held(struct ledger *ledger, struct vc_item *results)
{
  while (results != NULL) {
    struct vc_item *item = results;
    struct vc_result *result = (struct vc_result *)item;
    DL_DELETE(results, item);
    if (fleet_hold(ledger, result)) {
      continue; // what it was claimed for is over: this is another session, with a claim of its own
    }
    handle_result(ledger, result, &result->utterance);
    vc_item_destroy(item);
  }
}

// Where somebody publishes here all that was said before is ours, or known to be lost.
static int may_lack_rest(const struct session *session)
{
  return session->live == NULL || session_newest(session)->is_cut;
}

void fleet_begin(struct ledger *ledger, struct session *session, int64_t epoch, int is_after_loss)
{
  struct fleet *fleet = &session->fleet;
  struct vc_item *results = fleet->results;
  fleet->claim = CLAIM_HELD;
  fleet->claimed_epoch = epoch;
  fleet->key_epoch = epoch > 0 ? epoch : fleet->key_epoch;
  fleet->gone_ns = 0;
  fleet->is_elsewhere = 0;
  fleet->results = NULL;
  fleet->n_results = 0;
  if (is_after_loss && session->live == NULL) {
    remote_lose_rest(ledger, session);
  }
  fleet->is_after_loss |= is_after_loss && may_lack_rest(session);
  if (fleet->late_until_ns == UINT64_MAX) { // who was told `unknown` may be ahead
    fleet->is_unsure = 1;
    fleet->late_until_ns = 0;
  }
  remote_show_rest(ledger, session);
  remote_forget(session);
  if (session->live != NULL) {
    renew_live_session(ledger, session);
  }
  handle_held(ledger, results);
  fleet->claimed_epoch = 0;
  if (session->live == NULL && fleet->claim == CLAIM_HELD) { // it was over before it began
    fleet_let_go(ledger, session);
  }
  requests_release(ledger, session);
  fleet_settle(ledger, session);
}

void fleet_begin_all(struct ledger *ledger)
{
  struct session *session;
  for (session = ledger->sessions; session != NULL; session = session->hh.next) {
    while (is_claiming(session)) { // what was held may be several, each with a claim
      fleet_begin(ledger, session, 0, 1);
    }
  }
}

void fleet_let_go(struct ledger *ledger, struct session *session)
{
  struct fleet *fleet = &session->fleet;
  fleet->taken_ns = 0;
  if (fleet->claim == CLAIM_HELD) {
    fleet->claim = CLAIM_NONE;
    fleet->is_elsewhere = session->live != NULL;
    fleet->is_after_loss = 0;
    fleet->must_release = 1;
    // Who is closed too late says more, which other nodes do not hear; with a newcomer they will.
    fleet->has_said_last = session->live == NULL || has_newcomer(session);
    fleet->released = position_of(session);
    if (fleet->released.epoch < fleet->key_epoch) { // there was no memory to begin it
      fleet->released = (struct vc_position){fleet->key_epoch, 0};
    }
  }
  fleet_settle(ledger, session);
}

void fleet_send(struct ledger *ledger, struct session *session, struct vc_message *message)
{
  if (session->fleet.claim == CLAIM_HELD &&
      put(ledger, ledger->publisher, create_message(session, VC_FLEET_MESSAGE, message)) != 0) {
    ledger_count(ledger, FLEET_DROPPED);
  }
}

// --- viewers

int fleet_is_known(const struct ledger *ledger, const struct session *session)
{
  return !is_on(ledger) || session->live != NULL || session->fleet.is_filled;
}

int fleet_was_late(const struct ledger *ledger, const struct session *session)
{
  return session->fleet.is_filled &&
         vc_worker_now_ns(ledger->worker) < session->fleet.late_until_ns;
}

int fleet_is_ahead(const struct ledger *ledger, const struct session *session,
                   struct vc_position position)
{
  const struct epoch *newest = session_newest(session);
  int64_t known = newest != NULL ? newest->number : 0;
  if (!is_on(ledger) || session->live != NULL || position.epoch == 0) {
    return 0;
  }
  if (position.epoch > known) {
    return !session->fleet.is_filled || session->fleet.refresh != REFRESH_NONE;
  }
  return position.epoch == known && position.seq > newest->last_seq;
}

// Whether Redis is to be heard before the join is answered.
static int must_wait(const struct session *session, struct vc_position since)
{
  const struct epoch *newest = session_newest(session);
  return !session->fleet.is_filled || session->fleet.refresh != REFRESH_NONE ||
         since.epoch > (newest != NULL ? newest->number : 0);
}

int fleet_hold_join(struct ledger *ledger, struct session *session, struct vc_join *join)
{
  struct fleet *fleet = &session->fleet;
  if (!is_on(ledger) || session->live != NULL) {
    return 0;
  }
  int must = must_wait(session, join->since);
  if (must && fleet->is_filled && fleet->refresh == REFRESH_NONE) {
    fleet->refresh = REFRESH_WANTED;
  }
  struct request *request =
      must && !ledger->is_redis_away && ledger->n_unfilled < ledger->max_waiting
          ? calloc(1, sizeof *request)
          : NULL;
  if (request == NULL) {
    if (must) {
      fleet->late_until_ns = UINT64_MAX;
      ledger_count(ledger, JOINS_UNFILLED);
    }
    fleet_settle(ledger, session);
    return 0;
  }
  request->item = &join->item;
  if (fleet->joins == NULL) {
    fleet->joins_until_ns = ms_from_now(ledger, JOIN_WAIT_MS);
  }
  DL_APPEND(fleet->joins, request);
  ledger->n_unfilled++;
  fleet_settle(ledger, session);
  return 1;
}

void fleet_fini(struct session *session)
{
  while (session->fleet.results != NULL) {
    struct vc_item *item = session->fleet.results;
    DL_DELETE(session->fleet.results, item);
    vc_item_destroy(item);
  }
  remote_forget(session);
  free(session->fleet.open);
}
