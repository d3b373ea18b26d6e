// What those who come late are told: a function of what the ledger holds and of the viewer's
// position. Messages stand in the order of their numbers, so that a viewer may stop anywhere and
// read on from there; that order holds over epochs and over what history let go.
#include "ledger.h"

#include <assert.h>

// Where an answer reads on.
struct cursor {
  struct epoch *epoch; // NULL: nobody has published
  uint64_t seq;
  enum history_kinds kinds;
};

// --- building an answer. Each step returns 0, or -1 no memory.

static int add(struct vc_answer *answer, struct vc_message *message) // takes it
{
  if (message == NULL) {
    return -1;
  }
  assert(answer->n_messages < VC_ANSWER_MAX);
  answer->messages[answer->n_messages++] = message;
  return 0;
}

// What is open and was last shown before `seq` is said again, so that it stands behind that.
static void bring_open_behind(struct ledger *ledger, struct session *session, uint64_t seq)
{
  struct publishing *live;
  DL_FOREACH(session->live, live)
  {
    for (size_t i = 0; i < live->n_open; i++) {
      struct open *open = &live->open[i];
      if (open->message != NULL && open->message->seq < seq) {
        say_again(ledger, session, open);
      }
    }
  }
}

static int has_greeted(const struct vc_answer *answer, const struct epoch *epoch)
{
  for (size_t i = 0; i < answer->n_messages; i++) {
    if (answer->messages[i]->kind == VC_MESSAGE_HELLO &&
        answer->messages[i]->epoch == epoch->number) {
      return 1;
    }
  }
  return 0;
}

// What history let go of an epoch, or never had. In the newest that may have been the last word on
// its state, or a partial that is still open.
static int add_known_gap(struct ledger *ledger, struct session *session, struct vc_answer *answer,
                         struct cursor *cursor)
{
  struct epoch *epoch = cursor->epoch;
  assert(epoch != NULL);
  uint64_t to = cursor->seq < epoch->dropped_to ? epoch->dropped_to : epoch->hole_to;
  struct vc_position after = {epoch->number, to};
  if (add(answer, gap_create(ledger, session, epoch->number, cursor->seq + 1, to, after)) != 0) {
    return -1;
  }
  cursor->seq = to;
  if (epoch != session_newest(session)) {
    return 0;
  }
  bring_open_behind(ledger, session, to);
  return has_greeted(answer, epoch) ? 0 : add(answer, hello_get(ledger, session, epoch));
}

static struct vc_message *earlier_of(struct vc_message *a, struct vc_message *b)
{
  return a == NULL || (b != NULL && b->seq < a->seq) ? b : a;
}

static struct vc_message *earliest_after(const struct open *open, size_t n_open, uint64_t seq,
                                         struct vc_message *found)
{
  for (size_t i = 0; i < n_open; i++) {
    if (open[i].message != NULL && open[i].message->seq > seq) {
      found = earlier_of(found, open[i].message);
    }
  }
  return found;
}

// The open partial with the least number after `seq`, NULL: none.
static struct vc_message *open_after(const struct session *session, uint64_t seq)
{
  struct vc_message *found = NULL;
  const struct publishing *live;
  DL_FOREACH(session->live, live)
  {
    found = earliest_after(live->open, live->n_open, seq, found);
  }
  return earliest_after(session->fleet.open, session->fleet.n_open, seq, found);
}

static struct vc_message *next_of(const struct session *session, const struct cursor *cursor)
{
  struct vc_message *kept = history_after(&cursor->epoch->history, cursor->seq, cursor->kinds);
  return cursor->epoch->next != NULL ? kept : earlier_of(kept, open_after(session, cursor->seq));
}

enum step { STEP_NONE, STEP_GAP, STEP_MESSAGE, STEP_EPOCH };

static enum step next_step(const struct session *session, const struct cursor *cursor,
                           struct vc_message **message)
{
  const struct epoch *epoch = cursor->epoch;
  if (epoch != NULL && cursor->seq < epoch->dropped_to) {
    return STEP_GAP;
  }
  *message = epoch != NULL ? next_of(session, cursor) : NULL;
  if (epoch != NULL && cursor->seq < epoch->hole_to &&
      (*message == NULL || (*message)->seq > epoch->hole_to)) {
    return STEP_GAP;
  }
  if (*message != NULL) {
    return STEP_MESSAGE;
  }
  return epoch != NULL && epoch->next != NULL ? STEP_EPOCH : STEP_NONE;
}

static int has_just_greeted(const struct vc_answer *answer, const struct epoch *epoch)
{
  const struct vc_message *last =
      answer->n_messages > 0 ? answer->messages[answer->n_messages - 1] : NULL;
  return last != NULL && last->kind == VC_MESSAGE_HELLO && last->epoch == epoch->number;
}

// What another node said last of an epoch, and nobody holds.
static int add_cut(struct ledger *ledger, const struct session *session, struct vc_answer *answer,
                   const struct epoch *epoch)
{
  const struct vc_position at = {epoch->number, epoch->last_seq};
  return epoch->is_cut
             ? add(answer, gap_create(ledger, session, epoch->number, epoch->last_seq + 1, 0, at))
             : 0;
}

static int add_epoch(struct ledger *ledger, struct session *session, struct vc_answer *answer,
                     struct cursor *cursor)
{
  assert(cursor->epoch != NULL && cursor->epoch->next != NULL);
  if (add_cut(ledger, session, answer, cursor->epoch) != 0) {
    return -1;
  }
  *cursor = (struct cursor){.epoch = cursor->epoch->next, .kinds = cursor->kinds};
  return has_just_greeted(answer, cursor->epoch)
             ? 0
             : add(answer, hello_get(ledger, session, cursor->epoch));
}

static int add_step(struct ledger *ledger, struct session *session, struct vc_answer *answer,
                    struct cursor *cursor, enum step step, struct vc_message *message)
{
  switch (step) {
  case STEP_GAP:
    return add_known_gap(ledger, session, answer, cursor);
  case STEP_EPOCH:
    return add_epoch(ledger, session, answer, cursor);
  case STEP_MESSAGE:
    cursor->seq = message->seq;
    return add(answer, vc_message_ref(message));
  case STEP_NONE:
    break;
  }
  return 0;
}

// Fills the answer from the cursor on, and says whether that was all.
static int fill(struct ledger *ledger, struct session *session, struct vc_answer *answer,
                struct cursor *cursor)
{
  struct vc_message *message = NULL;
  enum step step;
  while ((step = next_step(session, cursor, &message)) != STEP_NONE) {
    // A hello is no position: the one of an epoch stands before something, never at the end of a
    // part, or it would be said again; the one after a gap needs its place too.
    if (VC_ANSWER_MAX - answer->n_messages < (step == STEP_MESSAGE ? 1 : 2)) {
      return 0;
    }
    if (add_step(ledger, session, answer, cursor, step, message) != 0) {
      return -1;
    }
  }
  const struct epoch *epoch = cursor->epoch;
  answer->is_last = 1;
  answer->live_from = epoch == NULL ? (struct vc_position){0, 1}
                                    : (struct vc_position){epoch->number, epoch->last_seq + 1};
  return 0;
}

// --- where to begin

// Or nothing that is kept is known to lie behind it: what came elsewhere only is taken for partials
// of an epoch that is over.
static int is_held(const struct session *session, struct vc_position position)
{
  const struct epoch *epoch = session_find_epoch(session, position.epoch);
  return epoch != NULL && (position.seq <= epoch->last_seq ||
                           (epoch->next != NULL && !epoch->is_cut && !epoch->is_refused));
}

static struct cursor newcomer_cursor(const struct ledger *ledger, const struct session *session)
{
  struct epoch *epoch = session_newest(session);
  struct cursor cursor = {.epoch = epoch, .kinds = HISTORY_FINALS_ONLY};
  if (epoch != NULL) {
    cursor.seq = history_before_last_finals(
        &epoch->history, (size_t)ledger->options.history_on_join, epoch->dropped_to);
    if (ledger->options.history_on_join == 0 && cursor.seq < epoch->hole_to) {
      cursor.seq = epoch->hole_to;
    }
  }
  return cursor;
}

static int add_unknown_gap(struct ledger *ledger, const struct session *session,
                           struct vc_answer *answer, struct vc_position lost,
                           const struct cursor *cursor)
{
  struct vc_position after = {0, 0};
  if (cursor->epoch != NULL) {
    after = (struct vc_position){cursor->epoch->number, cursor->seq};
  }
  return add(answer, gap_create(ledger, session, lost.epoch, lost.seq + 1, 0, after));
}

// Many that speak at once leave no room for what was shown before `seq` in one answer: then it is
// said again, and follows in as many answers as it needs.
static void make_open_fit(struct ledger *ledger, struct session *session, uint64_t seq)
{
  size_t n = 0;
  for (struct vc_message *open = open_after(session, 0); open != NULL && open->seq <= seq;
       open = open_after(session, open->seq)) {
    n++;
  }
  if (n > VC_ANSWER_MAX / 2) {
    bring_open_behind(ledger, session, seq + 1);
  }
}

// What is open and not after `seq`: shown before, unless the page is a new one. Only what is
// numbered here was brought behind the last final; with what is not a position would go back.
static void add_open_until(const struct session *session, struct vc_answer *answer, uint64_t seq)
{
  struct vc_message *open = session->live != NULL ? open_after(session, 0) : NULL;
  while (open != NULL && open->seq <= seq) {
    add(answer, vc_message_ref(open));
    open = open_after(session, open->seq);
  }
}

// What the viewer has is not known here yet: it goes on behind that.
static int answer_ahead(struct vc_answer *answer, struct vc_position position)
{
  answer->is_last = 1;
  answer->live_from = (struct vc_position){position.epoch, position.seq + 1};
  return 0;
}

static int answer_join(struct ledger *ledger, struct session *session, struct vc_answer *answer,
                       struct vc_position since)
{
  struct epoch *newest = session_newest(session);
  int is_ahead = fleet_is_ahead(ledger, session, since);
  int is_known = is_ahead || is_held(session, since);
  struct cursor cursor = {.epoch = session_find_epoch(session, since.epoch), .seq = since.seq};
  if (!is_known) {
    cursor = newcomer_cursor(ledger, session);
  }
  if (newest != NULL) { // so that a viewer's position never goes back behind a final
    bring_open_behind(ledger, session, newest->last_final);
    make_open_fit(ledger, session, cursor.epoch == newest ? cursor.seq : 0);
  }
  if (add(answer, hello_get(ledger, session, newest)) != 0 ||
      (!is_known && since.epoch != 0 &&
       add_unknown_gap(ledger, session, answer, since, &cursor) != 0)) {
    return -1;
  }
  if (is_ahead) {
    return answer_ahead(answer, since);
  }
  if (cursor.epoch != NULL && cursor.epoch == newest) {
    add_open_until(session, answer, cursor.seq);
  }
  return fill(ledger, session, answer, &cursor);
}

// Those that were told `unknown` are told what is. It stands behind everything, where a position
// does not go back.
static int add_late_status(struct ledger *ledger, struct session *session, struct vc_answer *answer)
{
  if (!answer->is_last || answer->n_messages == VC_ANSWER_MAX || !fleet_was_late(ledger, session)) {
    return 0;
  }
  return add(answer, present_status_create(ledger, session));
}

// A viewer that has waited since before the first epoch, or one whose position was forgotten: it is
// given a hello of what follows, like whoever sees an epoch begin.
static int answer_stranger(struct ledger *ledger, struct session *session, struct vc_answer *answer,
                           struct vc_position position)
{
  struct cursor cursor = {.epoch = session->epochs};
  if (position.epoch == 0 &&
      fleet_was_late(ledger, session)) { // it could not be told what there was
    cursor = newcomer_cursor(ledger, session);
  } else if (position.epoch != 0 || session->has_lost_epochs) {
    cursor = newcomer_cursor(ledger, session);
    if (add_unknown_gap(ledger, session, answer, position, &cursor) != 0) {
      return -1;
    }
  }
  if (cursor.epoch != NULL && cursor.epoch->number != position.epoch &&
      add(answer, hello_get(ledger, session, cursor.epoch)) != 0) {
    return -1;
  }
  return fill(ledger, session, answer, &cursor) == 0 ? add_late_status(ledger, session, answer)
                                                     : -1;
}

static int answer_catch_up(struct ledger *ledger, struct session *session, struct vc_answer *answer,
                           struct vc_position position)
{
  if (fleet_is_ahead(ledger, session, position)) {
    return answer_ahead(answer, position);
  }
  if (!is_held(session, position)) {
    return answer_stranger(ledger, session, answer, position);
  }
  struct cursor cursor = {.epoch = session_find_epoch(session, position.epoch),
                          .seq = position.seq};
  return fill(ledger, session, answer, &cursor) == 0 ? add_late_status(ledger, session, answer)
                                                     : -1;
}

// --- the answer

int answer_fill(struct ledger *ledger, struct session *session, const struct vc_item *item,
                struct vc_answer *answer)
{
  answer->began_ms = session_began_ms(session);
  if (item->kind == VC_ITEM_JOIN) {
    const struct vc_join *join = (const struct vc_join *)item;
    answer->viewer_id = join->viewer_id;
    return answer_join(ledger, session, answer, join->since);
  }
  const struct vc_catch_up *catch_up = (const struct vc_catch_up *)item;
  answer->viewer_id = catch_up->viewer_id;
  return answer_catch_up(ledger, session, answer, catch_up->position);
}
