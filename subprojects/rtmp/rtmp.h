// The RTMP wire protocol, both ends, as pure functions: bytes in, messages out, and back. No
// sockets, no clock, no dependency beyond libc. All input is hostile: every length is checked
// before it is believed, memory grows with what has come and is bounded by what the caller allows.
//
// Sources: Adobe's RTMP 1.0, AMF0 and FLV specifications; Enhanced RTMP v2 for FourCC audio; what
// publishers really send was read off captures.
#pragma once

#include <stddef.h>
#include <stdint.h>

// --- handshake

#define RTMP_HANDSHAKE_SIZE 1536
#define RTMP_C0C1_SIZE (1 + RTMP_HANDSHAKE_SIZE)
#define RTMP_S0S1S2_SIZE (1 + 2 * RTMP_HANDSHAKE_SIZE)

// The server's answer to C0 and C1: simple, or with digests when C1 carries a valid one.
// `random`: 2 * RTMP_HANDSHAKE_SIZE bytes to fill S1 and S2 with. Returns: 0, or -1: no version 3.
// (C2 is not checked: real publishers send what they like.)
int rtmp_handshake_answer(const uint8_t c0c1[RTMP_C0C1_SIZE], const uint8_t *random,
                          uint8_t s0s1s2[RTMP_S0S1S2_SIZE]);
// A client's C0 and C1, simple; C2 is S1 as it came.
void rtmp_handshake_begin(const uint8_t random[RTMP_HANDSHAKE_SIZE], uint8_t c0c1[RTMP_C0C1_SIZE]);

// --- messages

enum rtmp_type {
  RTMP_SET_CHUNK_SIZE = 1,
  RTMP_ABORT = 2,
  RTMP_ACKNOWLEDGEMENT = 3,
  RTMP_USER_CONTROL = 4,
  RTMP_WINDOW_SIZE = 5,
  RTMP_PEER_BANDWIDTH = 6,
  RTMP_AUDIO = 8,
  RTMP_VIDEO = 9,
  RTMP_DATA_AMF3 = 15,
  RTMP_COMMAND_AMF3 = 17,
  RTMP_DATA_AMF0 = 18,
  RTMP_COMMAND_AMF0 = 20,
  RTMP_AGGREGATE = 22,
};

struct rtmp_message {
  uint8_t type;
  uint32_t stream_id;
  uint32_t timestamp_ms;  // absolute
  const uint8_t *payload; // valid until the next call
  size_t size;
};

#define RTMP_CHUNK_STREAMS_MAX 64
#define RTMP_CHUNK_SIZE_MAX 16777215 // what a peer says beyond, up to 2^31 - 1, means the same
#define RTMP_HEADER_MAX 18           // bytes of the largest chunk header

enum rtmp_error {
  RTMP_ERROR_MEMORY = -1,
  RTMP_ERROR_CHUNK_SIZE = -2,    // Set Chunk Size out of range
  RTMP_ERROR_CHUNK_STREAMS = -3, // more than RTMP_CHUNK_STREAMS_MAX, ever
  RTMP_ERROR_MESSAGE_SIZE = -4,  // larger than allowed
  RTMP_ERROR_HEADER = -5,        // a chunk that continues nothing
};
const char *rtmp_error_text(int error);

struct rtmp_chunk_stream;
struct rtmp_reader {
  size_t message_max;  // of what is kept: audio, data, commands
  size_t buffered_max; // of all unfinished messages together
  uint32_t chunk_size; // the peer's, 128 at first
  size_t n_buffered;
  struct rtmp_chunk_stream *streams; // RTMP_CHUNK_STREAMS_MAX, allocated on first use
  struct rtmp_chunk_stream *given;   // whose payload the caller has
  struct rtmp_chunk_stream *current; // whose chunk is being read
  uint32_t chunk_left;               // bytes of that chunk that are still to come
};

void rtmp_reader_init(struct rtmp_reader *reader, size_t message_max, size_t buffered_max);
void rtmp_reader_fini(struct rtmp_reader *reader);
// Reads a part of `bytes`, *used of them; the caller keeps the rest and shows it again with more.
// At most RTMP_HEADER_MAX bytes are left over. Set Chunk Size and Abort are applied and also given.
// Video is counted off and never kept: it is given with size 0 when it is complete.
// Returns: 1 a message, 0 more bytes are needed, < 0 an rtmp_error: the stream cannot be read on.
int rtmp_reader_next(struct rtmp_reader *reader, const uint8_t *bytes, size_t size, size_t *used,
                     struct rtmp_message *message);

// Cuts an aggregate's payload. `at` begins at 0. Returns: 1 the next message in it, 0 the end, -1
// malformed.
int rtmp_aggregate_next(const struct rtmp_message *aggregate, size_t *at,
                        struct rtmp_message *message);

// Bytes that grow. The first failed allocation marks it, later writes do nothing.
struct rtmp_bytes {
  uint8_t *at;
  size_t size, capacity;
  int has_failed;
};
void rtmp_bytes_fini(struct rtmp_bytes *bytes);
void rtmp_bytes_add(struct rtmp_bytes *bytes, const void *from, size_t size);

// Appends a message in chunks of `chunk_size`, with full headers, on chunk stream 2-63.
void rtmp_write(struct rtmp_bytes *out, uint32_t chunk_size, uint8_t chunk_stream,
                const struct rtmp_message *message);
// Control messages, on chunk stream 2. `value`: size, sequence number, window.
void rtmp_write_control(struct rtmp_bytes *out, enum rtmp_type type, uint32_t value);
// event 0 stream begin, 6 ping, 7 pong
void rtmp_write_user_control(struct rtmp_bytes *out, uint16_t event, uint32_t value);

uint32_t rtmp_read_u32(const uint8_t *bytes); // big-endian

// --- AMF0

enum rtmp_amf_kind {
  RTMP_AMF_NUMBER,
  RTMP_AMF_BOOLEAN,
  RTMP_AMF_STRING,
  RTMP_AMF_OBJECT, // or an ECMA array: members are looked up by rtmp_amf_find
  RTMP_AMF_NULL,   // or undefined
  RTMP_AMF_OTHER,  // passed over
};

#define RTMP_AMF_DEPTH_MAX 16

struct rtmp_amf_value {
  enum rtmp_amf_kind kind;
  double number;      // NUMBER, BOOLEAN (0, 1)
  const char *string; // STRING: not terminated, may hold anything
  size_t size;        // of the string; OBJECT: of the members' bytes
  const uint8_t *members;
};

struct rtmp_amf {
  const uint8_t *at, *end;
};
// Returns: 1 a value, 0 the end, -1 malformed or nested deeper than RTMP_AMF_DEPTH_MAX.
int rtmp_amf_next(struct rtmp_amf *amf, struct rtmp_amf_value *value);
// Returns: 1 found, 0 not there, -1 malformed.
int rtmp_amf_find(const struct rtmp_amf_value *object, const char *key,
                  struct rtmp_amf_value *value);

void rtmp_amf_write_number(struct rtmp_bytes *out, double number);
void rtmp_amf_write_boolean(struct rtmp_bytes *out, int value);
void rtmp_amf_write_string(struct rtmp_bytes *out, const char *string);
void rtmp_amf_write_null(struct rtmp_bytes *out);
void rtmp_amf_begin_object(struct rtmp_bytes *out);
void rtmp_amf_write_key(struct rtmp_bytes *out, const char *key);
void rtmp_amf_end_object(struct rtmp_bytes *out);

// --- FLV audio tags, as RTMP audio messages carry them

enum rtmp_audio_codec { RTMP_CODEC_AAC, RTMP_CODEC_MP3, RTMP_CODEC_OPUS, RTMP_CODEC_OTHER };
enum rtmp_audio_kind {
  RTMP_AUDIO_CONFIG, // AudioSpecificConfig or OpusHead
  RTMP_AUDIO_FRAME,
  RTMP_AUDIO_IGNORED, // an end of sequence, another track, a codec that is not taken
};
struct rtmp_audio_tag {
  enum rtmp_audio_kind kind;
  enum rtmp_audio_codec codec;
  uint32_t sample_rate_hz; // as the tag says, 0 unknown; AAC's is always said to be 44100
  uint32_t channels;       // as the tag says, 0 unknown
  const uint8_t *data;
  size_t size;
};
// Returns: 0, or -1: too short to be a tag.
int rtmp_audio_parse(const uint8_t *payload, size_t size, struct rtmp_audio_tag *tag);
