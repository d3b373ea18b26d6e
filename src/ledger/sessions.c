// The table of sessions, what each holds of its past, and what gives way when that is too much.
#include "ledger.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define GIVE_WAY_BYTES ((size_t)64 * 1024) // at most so much of a live session at a time
#define SLACK 64                           // 1/64 of the bound is freed at once

// --- epochs

struct epoch *session_newest(const struct session *session)
{
  return session->epochs == NULL ? NULL : session->epochs->prev;
}

struct epoch *session_find_epoch(const struct session *session, int64_t number)
{
  struct epoch *epoch;
  DL_FOREACH(session->epochs, epoch)
  {
    if (epoch->number == number) {
      return epoch;
    }
  }
  return NULL;
}

static int has_until(const struct epoch *epoch, uint64_t seq)
{
  const struct history *history = &epoch->history;
  return history->n > 0 && history->items[history->first]->seq <= seq;
}

// Pops the oldest of an epoch. Returns: its kind; the history must not be empty.
static enum vc_message_kind drop_one(struct ledger *ledger, struct session *session,
                                     struct epoch *epoch)
{
  struct vc_message *message = history_pop(&epoch->history);
  enum vc_message_kind kind = message->kind;
  size_t bytes = message_bytes(message);
  epoch->dropped_to = message->seq;
  if (epoch->hole_to > message->seq && !has_until(epoch, epoch->hole_to)) {
    epoch->dropped_to = epoch->hole_to;
  }
  session->n_bytes -= bytes;
  ledger->n_bytes -= bytes;
  session->n_items--;
  if (kind == VC_MESSAGE_FINAL) {
    session->n_finals--;
    ledger->n_finals--;
    ledger_count(ledger, HISTORY_DROPPED);
  }
  vc_message_unref(message);
  return kind;
}

static void drop_all_of(struct ledger *ledger, struct session *session, struct epoch *epoch)
{
  while (epoch->history.n > 0) {
    drop_one(ledger, session, epoch);
  }
}

// Drops from the oldest end until one final is gone.
static void drop_oldest_final(struct ledger *ledger, struct session *session)
{
  struct epoch *epoch;
  DL_FOREACH(session->epochs, epoch)
  {
    while (epoch->history.n > 0) {
      if (drop_one(ledger, session, epoch) == VC_MESSAGE_FINAL) {
        return;
      }
    }
  }
}

static void remove_epoch(struct ledger *ledger, struct session *session, struct epoch *epoch)
{
  drop_all_of(ledger, session, epoch);
  begin_behind(ledger, epoch->number);
  DL_DELETE(session->epochs, epoch);
  session->n_epochs--;
  free(epoch);
}

struct epoch *session_add_epoch(struct ledger *ledger, struct session *session, int64_t number)
{
  struct epoch *epoch = calloc(1, sizeof *epoch);
  if (epoch == NULL) {
    return NULL;
  }
  epoch->number = number;
  epoch->state = VC_STATE_LIVE;
  DL_APPEND(session->epochs, epoch);
  session->n_epochs++;
  if (session->n_epochs > EPOCHS_MAX) {
    remove_epoch(ledger, session, session->epochs);
    session->has_lost_epochs = 1;
  }
  return epoch;
}

// --- the bounds of history

static struct session *largest(const struct ledger *ledger)
{
  struct session *found = NULL, *session, *next;
  HASH_ITER(hh, ledger->sessions, session, next)
  {
    if (found == NULL || session->n_bytes > found->n_bytes) {
      found = session;
    }
  }
  return found;
}

static void expire(struct ledger *ledger, struct session *session)
{
  struct epoch *epoch;
  DL_DELETE(ledger->ended, session);
  session->is_in_ended = 0;
  DL_FOREACH(session->epochs, epoch)
  {
    drop_all_of(ledger, session, epoch);
  }
  session_release(ledger, session);
}

static void shrink_live(struct ledger *ledger, struct session *session, size_t target)
{
  size_t before = session->n_bytes;
  while (session->n_bytes > 0 && before - session->n_bytes < GIVE_WAY_BYTES &&
         ledger->n_bytes > target) {
    drop_oldest_final(ledger, session);
  }
}

// Frees a little more than it must, so that not every final has to look for the largest session.
static void give_way(struct ledger *ledger)
{
  size_t most = (size_t)ledger->options.history_max_bytes;
  size_t target = ledger->n_bytes > most ? most - most / SLACK : most;
  while (ledger->n_bytes > target) {
    if (ledger->ended != NULL) {
      expire(ledger, ledger->ended);
    } else {
      shrink_live(ledger, largest(ledger), target);
    }
  }
}

void session_lose_to(struct ledger *ledger, struct session *session, struct epoch *epoch,
                     uint64_t seq)
{
  drop_all_of(ledger, session, epoch);
  epoch->dropped_to = seq;
}

void session_miss_to(struct ledger *ledger, struct session *session, struct epoch *epoch,
                     uint64_t seq)
{
  int is_second = history_after(&epoch->history, epoch->hole_to, HISTORY_ALL) != NULL;
  while (is_second && has_until(epoch, epoch->hole_to)) {
    drop_one(ledger, session, epoch);
  }
  if (epoch->history.n > 0) {
    epoch->hole_to = seq;
  } else {
    epoch->dropped_to = seq;
  }
}

void session_keep(struct ledger *ledger, struct session *session, struct vc_message *message)
{
  struct epoch *epoch = session_newest(session);
  if (history_push(&epoch->history, vc_message_ref(message)) != 0) {
    // What history cannot take is a gap; everything older is then before that gap.
    vc_message_unref(message);
    ledger_out_of_memory(ledger);
    session_lose_to(ledger, session, epoch, message->seq);
    return;
  }
  size_t bytes = message_bytes(message);
  session->n_bytes += bytes;
  ledger->n_bytes += bytes;
  session->n_items++;
  if (message->kind == VC_MESSAGE_FINAL) {
    session->n_finals++;
    ledger->n_finals++;
  }
  size_t most = (size_t)ledger->options.history_finals;
  while (session->n_finals > most || session->n_items > 2 * most + OPEN_MAX) {
    drop_oldest_final(ledger, session);
  }
  give_way(ledger);
}

// --- the table

struct session *session_find(struct ledger *ledger, const char *slug)
{
  struct session *session;
  HASH_FIND_STR(ledger->sessions, slug, session);
  return session;
}

static void count_sessions(const struct ledger *ledger, int by)
{
  if (ledger->settings->n_sessions != NULL) {
    atomic_fetch_add_explicit(ledger->settings->n_sessions, (uint32_t)by, memory_order_relaxed);
  }
}

static struct session *session_create(struct ledger *ledger, const char *slug)
{
  struct session *session =
      calloc(1, sizeof *session + ledger->n_broadcast_workers * sizeof session->audience[0]);
  if (session == NULL) {
    return NULL;
  }
  size_t size = strlen(slug);
  memcpy(session->slug, slug, size + 1);
  session->hash = vc_slug_hash(slug, size);
  HASH_ADD_KEYPTR(hh, ledger->sessions, session->slug, size, session);
  if (session->hh.tbl == NULL) {
    free(session);
    return NULL;
  }
  count_sessions(ledger, 1);
  return session;
}

struct session *session_get_for_viewer(struct ledger *ledger, const char *slug, int *is_full)
{
  struct session *session = session_find(ledger, slug);
  *is_full = session == NULL && HASH_COUNT(ledger->sessions) >= ledger->options.max_sessions;
  return session != NULL || *is_full ? session : session_create(ledger, slug);
}

static void make_room_for_one(struct ledger *ledger)
{
  struct session *session;
  DL_FOREACH(ledger->ended, session)
  {
    if (session->n_viewers == 0) {
      expire(ledger, session);
      return;
    }
  }
}

struct session *session_get_for_publisher(struct ledger *ledger, const char *slug)
{
  struct session *session = session_find(ledger, slug);
  if (session != NULL) {
    return session;
  }
  if (HASH_COUNT(ledger->sessions) >= ledger->options.max_sessions) {
    make_room_for_one(ledger);
  }
  return session_create(ledger, slug);
}

static void session_destroy(struct ledger *ledger, struct session *session)
{
  assert(!session->is_in_ended);
  while (session->live != NULL) {
    publishing_remove(session, session->live);
  }
  assert(!session->fleet.is_busy);
  session_forget(ledger, session);
  fleet_fini(session);
  HASH_DEL(ledger->sessions, session);
  count_sessions(ledger, -1);
  free(session);
}

// --- its life

int64_t session_began_ms(const struct session *session)
{
  const struct epoch *newest = session_newest(session);
  if (session->live != NULL) {
    return newest->started_unix_ms;
  }
  return session->fleet.is_watched && newest != NULL && newest->state != VC_STATE_ENDED
             ? newest->number
             : 0;
}

void session_end(struct ledger *ledger, struct session *session)
{
  assert(session->live == NULL);
  session->ended_ns = vc_worker_now_ns(ledger->worker);
  session->is_in_ended = 1;
  DL_APPEND(ledger->ended, session);
  fleet_let_go(ledger, session);
}

void session_revive(struct ledger *ledger, struct session *session)
{
  if (session->is_in_ended) {
    session->is_in_ended = 0;
    DL_DELETE(ledger->ended, session);
  }
}

void session_forget(struct ledger *ledger, struct session *session)
{
  while (session->epochs != NULL) {
    remove_epoch(ledger, session, session->epochs);
  }
  session->has_lost_epochs = 0;
  vc_message_unref(session->hello);
  session->hello = NULL;
  remote_forget(session);
  live_forget(ledger, session);
}

void session_forget_before(struct ledger *ledger, struct session *session, int64_t last)
{
  const struct epoch *newest = session_newest(session);
  while (session->epochs != newest && session->epochs->number <= last) {
    remove_epoch(ledger, session, session->epochs);
    session->has_lost_epochs = 0; // which were older
  }
}

void session_release(struct ledger *ledger, struct session *session)
{
  if (session->live != NULL || session->is_in_ended || session->n_viewers > 0) {
    return;
  }
  requests_drop(ledger, session);
  fleet_settle(ledger, session);
  if (!session->fleet.is_busy && session->fleet.claim == CLAIM_NONE) {
    session_destroy(ledger, session);
  }
}

void sessions_expire(struct ledger *ledger)
{
  uint64_t now = vc_worker_now_ns(ledger->worker);
  uint64_t keep = (uint64_t)ledger->options.session_keep_ms * VC_NS_PER_MS;
  while (ledger->ended != NULL && now - ledger->ended->ended_ns >= keep) {
    expire(ledger, ledger->ended);
  }
}

void sessions_fini(struct ledger *ledger)
{
  struct session *session, *next;
  HASH_ITER(hh, ledger->sessions, session, next)
  {
    session_revive(ledger, session);
    requests_drop(ledger, session);
    session->fleet.is_busy = 0;
    session_destroy(ledger, session);
  }
}
