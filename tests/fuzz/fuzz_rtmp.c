// A publisher's chunk stream after the handshake: messages, aggregates, AMF values, audio tags. The
// first byte says in how large pieces it arrives; the pieces must not change what is read.
#include <rtmp.h>

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define MESSAGE_MAX 4096
#define BUFFERED_MAX 16384

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct summary {
  size_t n_messages;
  uint64_t hash; // of all that was given
  int end;       // 0 ran out, < 0 an rtmp_error
};

static void add(struct summary *summary, const void *bytes, size_t size)
{
  for (size_t i = 0; i < size; i++) {
    summary->hash = (summary->hash ^ ((const uint8_t *)bytes)[i]) * UINT64_C(1099511628211);
  }
}

static void look_at_values(const uint8_t *payload, size_t size)
{
  struct rtmp_amf amf = {payload, payload + size};
  struct rtmp_amf_value value, member;
  while (rtmp_amf_next(&amf, &value) == 1) {
    assert(amf.at <= amf.end);
    if (value.kind == RTMP_AMF_OBJECT) {
      rtmp_amf_find(&value, "app", &member);
    }
  }
}

static void look_at_message(const struct rtmp_message *message)
{
  struct rtmp_audio_tag tag;
  struct rtmp_message part;
  size_t at = 0;
  if (message->type == RTMP_AUDIO && rtmp_audio_parse(message->payload, message->size, &tag) == 0) {
    assert(tag.size <= message->size);
  }
  if (message->type == RTMP_AGGREGATE) {
    while (rtmp_aggregate_next(message, &at, &part) == 1) {
      assert(at <= message->size && part.size <= message->size);
    }
  }
  if (message->type == RTMP_COMMAND_AMF0 || message->type == RTMP_DATA_AMF0) {
    look_at_values(message->payload, message->size);
  }
}

static void take(struct summary *summary, const struct rtmp_message *message)
{
  assert(message->size <= MESSAGE_MAX);
  summary->n_messages++;
  add(summary, &message->type, sizeof message->type);
  add(summary, &message->stream_id, sizeof message->stream_id);
  add(summary, &message->timestamp_ms, sizeof message->timestamp_ms);
  add(summary, &message->size, sizeof message->size);
  add(summary, message->payload, message->size);
  look_at_message(message);
}

// Shows the reader at most `piece` new bytes at a time, in an allocation of exactly what is shown.
static struct summary read_in_pieces(const uint8_t *data, size_t size, size_t piece)
{
  struct summary summary = {0, UINT64_C(14695981039346656037), 0};
  struct rtmp_reader reader;
  struct rtmp_message message;
  size_t at = 0, shown = 0;
  rtmp_reader_init(&reader, MESSAGE_MAX, BUFFERED_MAX);
  while (shown < size && summary.end == 0) {
    shown = size - shown > piece ? shown + piece : size;
    uint8_t *exact = malloc(shown - at);
    size_t from = 0, used = 0;
    int status;
    assert(exact != NULL);
    memcpy(exact, data + at, shown - at);
    while ((status = rtmp_reader_next(&reader, exact + from, shown - at - from, &used, &message)) ==
           1) {
      from += used;
      assert(from <= shown - at);
      take(&summary, &message);
    }
    from += status == 0 ? used : 0;
    summary.end = status;
    at += from;
    assert(status < 0 || (shown >= at && shown - at <= RTMP_HEADER_MAX));
    free(exact);
  }
  rtmp_reader_fini(&reader);
  return summary;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  if (size < 1) {
    return 0;
  }
  size_t piece = data[0] > 0 ? data[0] : 1;
  struct summary whole = read_in_pieces(data + 1, size - 1, size);
  struct summary pieces = read_in_pieces(data + 1, size - 1, piece);
  assert(whole.n_messages == pieces.n_messages && whole.hash == pieces.hash);
  assert(whole.end == pieces.end);
  look_at_values(data + 1, size - 1);
  return 0;
}
