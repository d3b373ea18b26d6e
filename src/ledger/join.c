// Those who come and go. A request whose answer does not fit the lane waits as a request: the
// answer is thrown away and made again when there is room, so that it is always as of the moment
// when it is put, and live messages behind it are exactly those that it does not hold.
#include "ledger.h"

#include <assert.h>
#include <stdlib.h>

// --- requests

static uint64_t count_gaps(const struct vc_answer *answer)
{
  uint64_t n = 0;
  for (size_t i = 0; i < answer->n_messages; i++) {
    n += answer->messages[i]->kind == VC_MESSAGE_GAP;
  }
  return n;
}

static const char *slug_of(const struct vc_item *item)
{
  return item->kind == VC_ITEM_JOIN ? ((const struct vc_join *)item)->slug
                                    : ((const struct vc_catch_up *)item)->slug;
}

static uint32_t worker_of(const struct vc_item *item)
{
  return item->kind == VC_ITEM_JOIN ? ((const struct vc_join *)item)->worker
                                    : ((const struct vc_catch_up *)item)->worker;
}

static int put(struct ledger *ledger, uint32_t worker, struct vc_answer *answer)
{
  uint64_t n_gaps = count_gaps(answer);
  if (vc_putter_put(ledger->broadcast, worker, &answer->item) != 0) {
    vc_item_destroy(&answer->item);
    return 1;
  }
  vc_metric_add(ledger->slots, GAPS, n_gaps);
  return 0;
}

static int refuse(struct ledger *ledger, const struct vc_item *item)
{
  struct vc_answer *answer = vc_answer_create(slug_of(item));
  if (answer == NULL) {
    ledger_out_of_memory(ledger);
    return 1;
  }
  answer->viewer_id = ((const struct vc_join *)item)->viewer_id;
  answer->is_refused = 1;
  answer->is_last = 1;
  return put(ledger, worker_of(item), answer);
}

// Returns: 0 done, 1 no room or no memory now.
static int try_to_answer(struct ledger *ledger, const struct vc_item *item, int is_refused)
{
  if (is_refused) {
    return refuse(ledger, item);
  }
  struct session *session = session_find(ledger, slug_of(item));
  if (session == NULL) {
    return 0; // the viewer has left meanwhile
  }
  struct vc_answer *answer = vc_answer_create(session->slug);
  if (answer == NULL) {
    ledger_out_of_memory(ledger);
    return 1;
  }
  if (answer_fill(ledger, session, item, answer) != 0) {
    vc_item_destroy(&answer->item);
    return 1;
  }
  return put(ledger, worker_of(item), answer);
}

static void wait_for_room(struct ledger *ledger, struct vc_item *item, int is_refused)
{
  struct request *request =
      ledger->n_waiting < ledger->max_waiting ? malloc(sizeof *request) : NULL;
  if (request == NULL) {
    ledger_count(ledger, REQUESTS_LOST);
    vc_item_destroy(item);
    return;
  }
  *request = (struct request){.item = item, .is_refused = is_refused};
  DL_APPEND(ledger->waiting[worker_of(item)], request);
  ledger->n_waiting++;
}

// Takes the item.
static void answer_or_wait(struct ledger *ledger, struct vc_item *item, int is_refused)
{
  if (ledger->waiting[worker_of(item)] == NULL && try_to_answer(ledger, item, is_refused) == 0) {
    vc_item_destroy(item);
  } else {
    wait_for_room(ledger, item, is_refused);
  }
}

void requests_release(struct ledger *ledger, struct session *session)
{
  struct request *request, *next;
  DL_FOREACH_SAFE(session->fleet.joins, request, next)
  {
    DL_DELETE(session->fleet.joins, request);
    ledger->n_unfilled--;
    answer_or_wait(ledger, request->item, 0);
    free(request);
  }
}

static void drop_join(struct ledger *ledger, struct session *session, struct request *request)
{
  DL_DELETE(session->fleet.joins, request);
  ledger->n_unfilled--;
  vc_item_destroy(request->item);
  free(request);
}

void requests_drop(struct ledger *ledger, struct session *session)
{
  while (session->fleet.joins != NULL) {
    drop_join(ledger, session, session->fleet.joins);
  }
}

static void remove_request(struct ledger *ledger, uint32_t worker, struct request *request)
{
  DL_DELETE(ledger->waiting[worker], request);
  ledger->n_waiting--;
  vc_item_destroy(request->item);
  free(request);
}

void requests_retry(struct ledger *ledger)
{
  for (uint32_t i = 0; ledger->n_waiting > 0 && i < ledger->n_broadcast_workers; i++) {
    struct request *request;
    while ((request = ledger->waiting[i]) != NULL &&
           try_to_answer(ledger, request->item, request->is_refused) == 0) {
      remove_request(ledger, i, request);
    }
  }
}

void requests_fini(struct ledger *ledger)
{
  for (uint32_t i = 0; i < ledger->n_broadcast_workers; i++) {
    while (ledger->waiting[i] != NULL) {
      remove_request(ledger, i, ledger->waiting[i]);
    }
  }
}

// Its viewer left before it was answered.
static void forget_join(struct ledger *ledger, struct session *session, uint64_t viewer_id)
{
  struct request *request;
  DL_FOREACH(session->fleet.joins, request)
  {
    if (((const struct vc_join *)request->item)->viewer_id == viewer_id) {
      drop_join(ledger, session, request);
      return;
    }
  }
}

// --- viewers

void handle_join(struct ledger *ledger, struct vc_join *join)
{
  int is_full;
  uint64_t n_left_out;
  assert(join->worker < ledger->n_broadcast_workers);
  struct session *session = session_get_for_viewer(ledger, join->slug, &is_full);
  if (session != NULL) {
    session->n_viewers++;
    session->audience[join->worker].n_viewers++;
    ledger->n_viewers++;
    ledger_count(ledger, JOINS);
  } else {
    ledger_count(ledger, JOINS_REFUSED);
    if (vc_log_limit_pass(&ledger->refused_limit, vc_worker_now_ns(ledger->worker), 10000,
                          &n_left_out)) {
      vc_log(VC_LOG_WARN, VC_EVENT("ledger.join_refused"), VC_STR("session", join->slug),
             VC_STR("reason", is_full ? "MAX_SESSIONS" : "no memory"),
             VC_INT("left_out", n_left_out));
    }
  }
  if (session == NULL || !fleet_hold_join(ledger, session, join)) {
    answer_or_wait(ledger, &join->item, session == NULL);
  }
}

void handle_catch_up(struct ledger *ledger, struct vc_catch_up *catch_up)
{
  assert(catch_up->worker < ledger->n_broadcast_workers);
  ledger_count(ledger, CATCH_UPS);
  answer_or_wait(ledger, &catch_up->item, 0);
}

void handle_leave(struct ledger *ledger, const struct vc_leave *leave)
{
  assert(leave->worker < ledger->n_broadcast_workers);
  struct session *session = session_find(ledger, leave->slug);
  if (session == NULL || session->audience[leave->worker].n_viewers == 0) {
    ledger_count(ledger, STRAY_VIEWERS);
    return;
  }
  session->n_viewers--;
  session->audience[leave->worker].n_viewers--;
  ledger->n_viewers--;
  forget_join(ledger, session, leave->viewer_id);
  session_release(ledger, session);
}
