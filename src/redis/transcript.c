// The records of a session, from its stream, for who asks. As the ledger's own: each final as its
// owner printed it.
#include <stdlib.h>
#include <string.h>

#include "watch.h"

struct transcript {
  struct transcript *prev, *next; // in watcher.transcripts
  struct watcher *watcher;
  struct vc_query *query;
  struct vc_text text;
  struct vc_position after; // the last entry that was read
  int is_incomplete;
};

// Takes the query of the transcript, which is freed.
static void answer(struct transcript *transcript, int status)
{
  struct watcher *watcher = transcript->watcher;
  struct vc_buffer *reply = NULL;
  if (status == 200) {
    vc_text_add(&transcript->text, "]");
    reply = vc_text_take(&transcript->text);
    status = reply != NULL ? 200 : 503;
  }
  if (transcript->is_incomplete) {
    vc_query_mark_incomplete(transcript->query);
  }
  vc_query_answer(transcript->query, status, reply);
  DL_DELETE(watcher->transcripts, transcript);
  watcher->n_transcripts--;
  vc_text_fini(&transcript->text);
  free(transcript);
}

void transcripts_fini(struct watcher *watcher)
{
  while (watcher->transcripts != NULL) {
    answer(watcher->transcripts, 503);
  }
}

// What the entry says of those before it: they are there, or were trimmed.
static void follow(struct transcript *transcript, struct vc_position number, uint64_t prev_final)
{
  const struct vc_position before = transcript->after;
  uint64_t last = before.epoch == number.epoch ? before.seq : 0;
  int is_first = before.epoch == 0;
  transcript->is_incomplete |= prev_final != last || (is_first && number.seq > 0);
  transcript->after = number;
}

// Returns: 0, or -1 no memory.
static int add_record(struct transcript *transcript, const struct vc_envelope_parsed *envelope)
{
  struct vc_text *text = &transcript->text;
  if (text->size > 1) {
    vc_text_add(text, ",");
  }
  return vc_envelope_print_record(text, envelope);
}

// Returns: 0, or -1 no memory.
static int add_entry(struct transcript *transcript, const struct piece *piece, size_t i)
{
  const redisReply *id = piece->at[2 * i], *message = piece->at[2 * i + 1];
  struct vc_envelope_parsed envelope;
  struct vc_position number;
  struct vc_error error;
  if (vc_envelope_parse_id(id->str, (size_t)id->len, &number.epoch, &number.seq) != 0) {
    transcript->is_incomplete = 1;
    return 0;
  }
  int status = vc_envelope_parse(message->str, (size_t)message->len,
                                 vc_query_slug(transcript->query), &envelope, &error);
  if (status == VC_FLEET_NO_MEMORY) {
    return -1;
  }
  if (status != 0) {
    watcher_malformed(transcript->watcher, vc_query_slug(transcript->query), &error);
    transcript->is_incomplete = 1;
    transcript->after = number;
    return 0;
  }
  follow(transcript, number, envelope.fields.prev_final);
  status = envelope.kind == VC_ENVELOPE_FINAL ? add_record(transcript, &envelope) : 0;
  vc_envelope_parsed_fini(&envelope);
  return status;
}

static void read_piece(struct transcript *transcript);

static void take_piece(struct transcript *transcript, const struct piece *piece)
{
  const struct vc_position before = transcript->after;
  for (size_t i = 0; i < piece->n; i++) {
    if (add_entry(transcript, piece, i) != 0) {
      watcher_out_of_memory(transcript->watcher);
      answer(transcript, 503);
      return;
    }
  }
  int has_moved = transcript->after.epoch != before.epoch || transcript->after.seq != before.seq;
  int is_large = transcript->text.size > TRANSCRIPT_BYTES_MAX;
  transcript->is_incomplete |= !piece->is_last && (is_large || !has_moved);
  if (piece->is_last || is_large || !has_moved) {
    answer(transcript, transcript->after.epoch > 0 ? 200 : 404);
  } else {
    read_piece(transcript);
  }
}

static void answered(struct redis_link *link, const struct redis_call *call,
                     const redisReply *reply)
{
  struct transcript *transcript = call->subject;
  struct piece piece;
  if (reply != NULL && reply->type == REDIS_REPLY_ERROR) {
    watcher_take_error(link, reply);
  }
  if (reply == NULL || stream_parse(reply, &piece) != 0) {
    answer(transcript, 503);
  } else {
    take_piece(transcript, &piece);
  }
}

static void read_piece(struct transcript *transcript)
{
  const struct redis_call call = {.answered = answered, .subject = transcript};
  if (stream_read(transcript->watcher, &call, vc_query_slug(transcript->query),
                  transcript->after) != 0) {
    answer(transcript, 503);
  }
}

void transcript_begin(struct watcher *watcher, struct vc_query *query)
{
  if (vc_query_kind(query) != VC_QUERY_FLEET_TRANSCRIPT) { // another worker's
    vc_query_answer(query, 501, NULL);
    return;
  }
  struct transcript *transcript =
      watcher->n_transcripts < TRANSCRIPTS_MAX ? calloc(1, sizeof *transcript) : NULL;
  if (transcript == NULL) {
    vc_query_answer(query, 503, NULL);
    return;
  }
  transcript->watcher = watcher;
  transcript->query = query;
  vc_text_add(&transcript->text, "[");
  DL_APPEND(watcher->transcripts, transcript);
  watcher->n_transcripts++;
  read_piece(transcript);
}
