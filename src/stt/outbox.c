// Results on their way: straight into the ledger's lane, or, once it is full, into a list. While
// the list is not empty the session's socket is not read, so that it stays short; a partial that
// waits is replaced by the next one of its utterance.
#include "room.h"

#include <stdlib.h>
#include <string.h>
#include <utlist.h>

static int put(struct session *session, struct vc_result *result)
{
  struct room *room = session->room;
  return vc_putter_put(room->putter, session->session->hash % room->n_ledgers, &result->item);
}

static int is_partial(const struct vc_result *result)
{
  return result->kind == VC_RESULT_UTTERANCE && !result->utterance->is_final;
}

static int is_same(const struct vc_result *a, const struct vc_result *b)
{
  return a->stt_ordinal == b->stt_ordinal && a->utterance->channel == b->utterance->channel &&
         strcmp(a->utterance->id, b->utterance->id) == 0;
}

static int replace_partial(struct session *session, struct vc_result *result)
{
  struct waiting *waiting;
  DL_FOREACH(session->outbox, waiting)
  {
    if (is_partial(waiting->result) && is_same(waiting->result, result)) {
      vc_result_destroy(&waiting->result);
      waiting->result = result;
      return 1;
    }
  }
  return 0;
}

static void remove_first(struct session *session)
{
  struct waiting *waiting = session->outbox;
  DL_DELETE(session->outbox, waiting);
  session->n_waiting--;
  free(waiting);
}

static void append(struct session *session, struct vc_result *result)
{
  struct waiting *waiting = session->n_waiting < VC_STT_WAIT_MAX ? malloc(sizeof *waiting) : NULL;
  if (waiting == NULL) {
    stt_room_count(session->room, RESULTS_DROPPED, 1);
    vc_result_destroy(&result);
    return;
  }
  waiting->result = result;
  if (session->outbox == NULL) {
    session->room->n_waiting++;
    if (session->socket != NULL) {
      vc_socket_pause(session->socket);
    }
  }
  DL_APPEND(session->outbox, waiting);
  session->n_waiting++;
  stt_room_count(session->room, RESULTS_WAITING, 1);
}

void stt_outbox_say(struct session *session, struct vc_result *result)
{
  if (result == NULL) {
    stt_room_count(session->room, OUT_OF_MEMORY, 1);
    return;
  }
  if (session->outbox == NULL && session->before == NULL && put(session, result) == 0) {
    return;
  }
  if (session->outbox != NULL && is_partial(result) && replace_partial(session, result)) {
    return;
  }
  append(session, result);
}

void stt_outbox_flush(struct session *session)
{
  if (session->outbox == NULL || session->before != NULL) {
    return;
  }
  while (session->outbox != NULL && put(session, session->outbox->result) == 0) {
    remove_first(session);
  }
  if (session->outbox == NULL) {
    session->room->n_waiting--;
    session->unanswered_ns = stt_room_now(session->room); // what it said meanwhile is not read yet
    if (session->socket != NULL) {
      vc_socket_resume(session->socket);
    }
  }
}

int stt_outbox_close(struct session *session)
{
  stt_outbox_flush(session);
  if (session->outbox != NULL || session->before != NULL) {
    return 0;
  }
  if (session->closing != NULL && put(session, session->closing) != 0) {
    return 0;
  }
  session->closing = NULL;
  return 1;
}

void stt_outbox_fini(struct session *session)
{
  if (session->outbox != NULL) {
    session->room->n_waiting--;
  }
  while (session->outbox != NULL) {
    struct vc_result *result = session->outbox->result;
    stt_room_count(session->room, RESULTS_DROPPED, 1);
    remove_first(session);
    vc_result_destroy(&result);
  }
  if (session->closing != NULL) {
    vc_result_destroy(&session->closing);
  }
}
