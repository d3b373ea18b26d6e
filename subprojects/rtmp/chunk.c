#include "rtmp.h"

#include <stdlib.h>
#include <string.h>

#define EXTENDED 0xffffff
#define KEPT_MAX 4096 // bytes of payload that a chunk stream keeps between messages

struct rtmp_chunk_stream {
  uint32_t id; // 0: free
  uint8_t type;
  uint8_t has_extended; // its last header had an extended timestamp
  uint8_t is_open;      // a message has begun and is not complete
  uint32_t timestamp;   // absolute
  uint32_t delta;       // of the last header; the absolute one when that was a type 0
  uint32_t length;
  uint32_t stream_id;
  uint32_t received;
  uint8_t *payload;
  size_t capacity;
};

uint32_t rtmp_read_u32(const uint8_t *bytes)
{
  return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

static uint32_t read_u24(const uint8_t *bytes)
{
  return (uint32_t)bytes[0] << 16 | (uint32_t)bytes[1] << 8 | bytes[2];
}

static uint32_t read_u32_little(const uint8_t *bytes)
{
  return (uint32_t)bytes[3] << 24 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[1] << 8 | bytes[0];
}

const char *rtmp_error_text(int error)
{
  switch (error) {
  case RTMP_ERROR_MEMORY:
    return "no memory";
  case RTMP_ERROR_CHUNK_SIZE:
    return "chunk size out of range";
  case RTMP_ERROR_CHUNK_STREAMS:
    return "too many chunk streams";
  case RTMP_ERROR_MESSAGE_SIZE:
    return "message too large";
  case RTMP_ERROR_HEADER:
    return "malformed chunk header";
  default:
    return "no error";
  }
}

void rtmp_reader_init(struct rtmp_reader *reader, size_t message_max, size_t buffered_max)
{
  *reader = (struct rtmp_reader){
      .message_max = message_max, .buffered_max = buffered_max, .chunk_size = 128};
}

void rtmp_reader_fini(struct rtmp_reader *reader)
{
  for (size_t i = 0; reader->streams != NULL && i < RTMP_CHUNK_STREAMS_MAX; i++) {
    free(reader->streams[i].payload);
  }
  free(reader->streams);
  reader->streams = NULL;
}

// Returns: the stream of that id, a free one that is now of that id, or NULL when all are taken.
static struct rtmp_chunk_stream *find_stream(struct rtmp_reader *reader, uint32_t id)
{
  struct rtmp_chunk_stream *free_one = NULL;
  for (size_t i = 0; i < RTMP_CHUNK_STREAMS_MAX; i++) {
    struct rtmp_chunk_stream *stream = &reader->streams[i];
    if (stream->id == id) {
      return stream;
    }
    if (stream->id == 0 && free_one == NULL) {
      free_one = stream;
    }
  }
  if (free_one != NULL) {
    free_one->id = id;
    free_one->type = 0;
  }
  return free_one;
}

static int is_skipped(const struct rtmp_chunk_stream *stream)
{
  return stream->type == RTMP_VIDEO;
}

// Large payloads are not kept for the next, small message: there are many chunk streams.
static void shrink(struct rtmp_chunk_stream *stream)
{
  if (stream->capacity > KEPT_MAX) {
    free(stream->payload);
    stream->payload = NULL;
    stream->capacity = 0;
  }
}

// The rest of the stream's message will not come.
static void give_up(struct rtmp_reader *reader, struct rtmp_chunk_stream *stream)
{
  if (stream->is_open) {
    reader->n_buffered -= is_skipped(stream) ? 0 : stream->received;
    stream->is_open = 0;
    shrink(stream);
  }
}

struct header {
  uint8_t format;
  uint32_t stream;
  size_t size; // without the extended timestamp
};

// Returns: 1, or 0 when more bytes are needed.
static int parse_basic(const uint8_t *bytes, size_t size, struct header *header)
{
  static const uint8_t message_sizes[] = {11, 7, 3, 0};
  if (size < 1) {
    return 0;
  }
  size_t n = (bytes[0] & 0x3f) == 0 ? 2 : (bytes[0] & 0x3f) == 1 ? 3 : 1;
  if (size < n) {
    return 0;
  }
  header->format = bytes[0] >> 6;
  header->stream = n == 1   ? bytes[0] & 0x3f
                   : n == 2 ? 64U + bytes[1]
                            : 64U + bytes[1] + 256U * bytes[2];
  header->size = n + message_sizes[header->format];
  return size >= header->size;
}

// Begins a message of the stream from its header's values.
static int begin_message(const struct rtmp_reader *reader, struct rtmp_chunk_stream *stream)
{
  stream->received = 0;
  stream->is_open = 1;
  return !is_skipped(stream) && stream->length > reader->message_max ? RTMP_ERROR_MESSAGE_SIZE : 0;
}

// Returns: 1 a chunk has begun, 0 more bytes are needed, < 0 an error.
static int read_header(struct rtmp_reader *reader, const uint8_t *bytes, size_t size, size_t *used)
{
  struct header header;
  if (!parse_basic(bytes, size, &header)) {
    return 0;
  }
  struct rtmp_chunk_stream *stream = find_stream(reader, header.stream);
  if (stream == NULL) {
    return RTMP_ERROR_CHUNK_STREAMS;
  }
  if (header.format != 0 && stream->type == 0) {
    return RTMP_ERROR_HEADER; // it continues what never began
  }
  const uint8_t *fields = bytes + header.size;
  fields -= header.format == 0 ? 11 : header.format == 1 ? 7 : header.format == 2 ? 3 : 0;
  uint32_t time = header.format < 3 ? read_u24(fields) : 0;
  int has_extended = header.format < 3 ? time == EXTENDED : stream->has_extended;
  size_t whole = header.size;
  if (has_extended) {
    if (size < whole + 4) {
      return 0;
    }
    uint32_t extended = rtmp_read_u32(bytes + whole);
    if (header.format < 3) {
      time = extended;
      whole += 4;
    } else if (extended == stream->delta || extended == stream->timestamp) {
      whole += 4; // repeated, as ffmpeg and librtmp do; else these four bytes are payload
    }
  }
  if (header.format < 3) {
    give_up(reader, stream); // a new message before the old one was complete
  }
  if (header.format == 0) {
    stream->timestamp = time;
    stream->stream_id = read_u32_little(fields + 7);
  }
  if (header.format <= 1) {
    stream->length = read_u24(fields + 3);
    stream->type = fields[6];
    if (stream->type == 0) {
      return RTMP_ERROR_HEADER;
    }
  }
  if (header.format < 3) {
    stream->delta = time;
    stream->has_extended = (uint8_t)has_extended;
  }
  if (!stream->is_open) {
    // A type 3 that begins a message repeats the last delta; right after a type 0 that is its time.
    if (header.format != 0) {
      stream->timestamp += stream->delta;
    }
    int status = begin_message(reader, stream);
    if (status < 0) {
      return status;
    }
  }
  uint32_t left = stream->length - stream->received;
  reader->current = stream;
  reader->chunk_left = left < reader->chunk_size ? left : reader->chunk_size;
  *used += whole;
  return 1;
}

static int keep(struct rtmp_reader *reader, struct rtmp_chunk_stream *stream, const uint8_t *bytes,
                size_t size)
{
  if (reader->n_buffered + size > reader->buffered_max) {
    return RTMP_ERROR_MESSAGE_SIZE;
  }
  if (stream->received + size > stream->capacity) {
    size_t capacity = stream->capacity == 0 ? 512 : stream->capacity * 2;
    capacity = capacity < stream->received + size ? stream->received + size : capacity;
    capacity = capacity > stream->length ? stream->length : capacity;
    uint8_t *payload = realloc(stream->payload, capacity);
    if (payload == NULL) {
      return RTMP_ERROR_MEMORY;
    }
    stream->payload = payload;
    stream->capacity = capacity;
  }
  memcpy(stream->payload + stream->received, bytes, size);
  reader->n_buffered += size;
  return 0;
}

static int apply(struct rtmp_reader *reader, const struct rtmp_message *message)
{
  if (message->type == RTMP_SET_CHUNK_SIZE && message->size >= 4) {
    uint32_t size = rtmp_read_u32(message->payload);
    if (size < 1 || size > INT32_MAX) {
      return RTMP_ERROR_CHUNK_SIZE;
    }
    reader->chunk_size = size < RTMP_CHUNK_SIZE_MAX ? size : RTMP_CHUNK_SIZE_MAX;
  } else if (message->type == RTMP_ABORT && message->size >= 4) {
    uint32_t id = rtmp_read_u32(message->payload);
    for (size_t i = 0; i < RTMP_CHUNK_STREAMS_MAX; i++) {
      struct rtmp_chunk_stream *stream = &reader->streams[i];
      if (stream->id == id) {
        give_up(reader, stream);
      }
    }
  }
  return 1;
}

static int complete(struct rtmp_reader *reader, struct rtmp_chunk_stream *stream,
                    struct rtmp_message *message)
{
  int is_kept = !is_skipped(stream);
  stream->is_open = 0;
  reader->n_buffered -= is_kept ? stream->received : 0;
  *message = (struct rtmp_message){
      .type = stream->type,
      .stream_id = stream->stream_id,
      .timestamp_ms = stream->timestamp,
      .payload = is_kept ? stream->payload : NULL,
      .size = is_kept ? stream->received : 0,
  };
  reader->given = stream;
  return apply(reader, message);
}

// What the caller has seen may go.
static void let_go(struct rtmp_reader *reader)
{
  if (reader->given != NULL) {
    shrink(reader->given);
  }
  reader->given = NULL;
}

int rtmp_reader_next(struct rtmp_reader *reader, const uint8_t *bytes, size_t size, size_t *used,
                     struct rtmp_message *message)
{
  *used = 0;
  let_go(reader);
  if (reader->streams == NULL) {
    reader->streams = calloc(RTMP_CHUNK_STREAMS_MAX, sizeof *reader->streams);
    if (reader->streams == NULL) {
      return RTMP_ERROR_MEMORY;
    }
  }
  for (;;) {
    if (reader->current == NULL) {
      int status = read_header(reader, bytes + *used, size - *used, used);
      if (status <= 0) {
        return status;
      }
    }
    struct rtmp_chunk_stream *stream = reader->current;
    size_t n = size - *used < reader->chunk_left ? size - *used : reader->chunk_left;
    int status = n > 0 && !is_skipped(stream) ? keep(reader, stream, bytes + *used, n) : 0;
    if (status < 0) {
      return status;
    }
    *used += n;
    stream->received += (uint32_t)n;
    reader->chunk_left -= (uint32_t)n;
    if (reader->chunk_left > 0) {
      return 0;
    }
    reader->current = NULL;
    if (stream->received == stream->length) {
      return complete(reader, stream, message);
    }
  }
}

#define TAG_HEADER 11
#define TAG_TRAILER 4

int rtmp_aggregate_next(const struct rtmp_message *aggregate, size_t *at,
                        struct rtmp_message *message)
{
  size_t left = aggregate->size - *at;
  if (left == 0) {
    return 0; // of an empty aggregate there is no payload to point into
  }
  const uint8_t *tag = aggregate->payload + *at;
  if (left < TAG_HEADER) {
    return -1;
  }
  uint32_t size = read_u24(tag + 1);
  if (left - TAG_HEADER < size) {
    return -1;
  }
  // The times within an aggregate begin where its own does: the first tag's time is its base.
  const uint8_t *first = aggregate->payload;
  uint32_t time = read_u24(tag + 4) | (uint32_t)tag[7] << 24;
  uint32_t base = read_u24(first + 4) | (uint32_t)first[7] << 24;
  *message = (struct rtmp_message){
      .type = tag[0],
      .stream_id = aggregate->stream_id,
      .timestamp_ms = aggregate->timestamp_ms + (time - base),
      .payload = tag + TAG_HEADER,
      .size = size,
  };
  size_t whole = TAG_HEADER + (size_t)size + TAG_TRAILER;
  *at += whole < left ? whole : left;
  return 1;
}

// --- writing

void rtmp_bytes_fini(struct rtmp_bytes *bytes)
{
  free(bytes->at);
  *bytes = (struct rtmp_bytes){0};
}

void rtmp_bytes_add(struct rtmp_bytes *bytes, const void *from, size_t size)
{
  if (bytes->has_failed || size == 0) {
    return;
  }
  if (bytes->capacity - bytes->size < size) {
    size_t capacity = (bytes->size + size) * 2;
    uint8_t *at = realloc(bytes->at, capacity);
    if (at == NULL) {
      bytes->has_failed = 1;
      return;
    }
    bytes->at = at;
    bytes->capacity = capacity;
  }
  memcpy(bytes->at + bytes->size, from, size);
  bytes->size += size;
}

static void print_u24(uint8_t *bytes, uint32_t value)
{
  bytes[0] = (uint8_t)(value >> 16);
  bytes[1] = (uint8_t)(value >> 8);
  bytes[2] = (uint8_t)value;
}

static void print_u32(uint8_t *bytes, uint32_t value)
{
  bytes[0] = (uint8_t)(value >> 24);
  print_u24(bytes + 1, value);
}

void rtmp_write(struct rtmp_bytes *out, uint32_t chunk_size, uint8_t chunk_stream,
                const struct rtmp_message *message)
{
  uint8_t header[16], extended[4];
  int has_extended = message->timestamp_ms >= EXTENDED;
  header[0] = chunk_stream & 0x3f;
  print_u24(header + 1, has_extended ? EXTENDED : message->timestamp_ms);
  print_u24(header + 4, (uint32_t)message->size);
  header[7] = message->type;
  for (int i = 0; i < 4; i++) {
    header[8 + i] = (uint8_t)(message->stream_id >> (8 * i));
  }
  print_u32(extended, message->timestamp_ms);
  rtmp_bytes_add(out, header, 12);
  rtmp_bytes_add(out, extended, has_extended ? 4 : 0);
  for (size_t at = 0; at < message->size;) {
    size_t n = message->size - at < chunk_size ? message->size - at : chunk_size;
    if (at > 0) {
      uint8_t next = (uint8_t)(0xc0 | (chunk_stream & 0x3f));
      rtmp_bytes_add(out, &next, 1);
      rtmp_bytes_add(out, extended, has_extended ? 4 : 0);
    }
    rtmp_bytes_add(out, message->payload + at, n);
    at += n;
  }
}

void rtmp_write_control(struct rtmp_bytes *out, enum rtmp_type type, uint32_t value)
{
  uint8_t payload[5];
  print_u32(payload, value);
  payload[4] = 2; // Set Peer Bandwidth: dynamic
  struct rtmp_message message = {
      .type = (uint8_t)type, .payload = payload, .size = type == RTMP_PEER_BANDWIDTH ? 5 : 4};
  rtmp_write(out, 128, 2, &message);
}

void rtmp_write_user_control(struct rtmp_bytes *out, uint16_t event, uint32_t value)
{
  uint8_t payload[6] = {(uint8_t)(event >> 8), (uint8_t)event};
  print_u32(payload + 2, value);
  struct rtmp_message message = {.type = RTMP_USER_CONTROL, .payload = payload, .size = 6};
  rtmp_write(out, 128, 2, &message);
}
