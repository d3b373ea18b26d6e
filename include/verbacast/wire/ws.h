// WebSocket frames (RFC 6455), both ends, without extensions: one parser and one writer for
// viewers, the STT client and the STT server. Pure: bytes in, events out; no socket, no clock.
//
// A parser owns what has come of a message, at most `message_max` bytes, and the payload of a
// control frame; nothing of either once the call after the one that gave it out has begun.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <verbacast/base/buffer.h>
#include <verbacast/wire/text.h>

enum vc_ws_opcode {
  VC_WS_CONTINUATION = 0x0,
  VC_WS_TEXT = 0x1,
  VC_WS_BINARY = 0x2,
  VC_WS_CLOSE = 0x8,
  VC_WS_PING = 0x9,
  VC_WS_PONG = 0xa,
};

enum vc_ws_role {
  VC_WS_SERVER, // takes masked frames, writes bare ones
  VC_WS_CLIENT, // takes bare frames, writes masked ones
};

#define VC_WS_HEADER_MAX 14
#define VC_WS_CONTROL_MAX 125

struct vc_ws_parser {
  /* set by init */
  size_t message_max;
  enum vc_ws_role role;
  /* the parser's */
  uint64_t left; // payload bytes of the frame that are still to come
  uint8_t header[VC_WS_HEADER_MAX];
  uint8_t n_header;
  uint8_t is_in_payload;
  uint8_t opcode;         // of the frame
  uint8_t is_final;       // the frame's FIN
  uint8_t message_opcode; // 0: no message is open
  uint8_t mask[4];
  uint8_t mask_at;
  uint8_t n_control;
  struct vc_utf8_state utf8;
  uint8_t *control; // VC_WS_CONTROL_MAX, as long as there is a control frame with a payload
  uint8_t *message;
  size_t message_size, message_capacity;
};

struct vc_ws_event {
  enum vc_ws_opcode opcode; // TEXT, BINARY, CLOSE, PING, PONG
  const uint8_t *payload;   // valid until the next call
  size_t size;
  int close_code; // CLOSE: what the peer said, 1005 nothing; after an error: what to say
};

void vc_ws_parser_init(struct vc_ws_parser *parser, enum vc_ws_role role, size_t message_max);
void vc_ws_parser_fini(struct vc_ws_parser *parser);
// Reads from `bytes`; *used says how many were taken. May be called again with the rest.
// Returns: 1 an event (a whole message or control frame), 0 all bytes were taken and nothing is
// complete, -1 the peer broke the protocol or there is no memory: close with event->close_code.
int vc_ws_parse(struct vc_ws_parser *parser, const uint8_t *bytes, size_t size, size_t *used,
                struct vc_ws_event *event);

// Returns: the header's length. `mask` NULL: a bare frame; else the four bytes to mask with.
size_t vc_ws_print_header(uint8_t header[VC_WS_HEADER_MAX], enum vc_ws_opcode opcode, size_t size,
                          const uint8_t mask[4]);
void vc_ws_mask(uint8_t *bytes, size_t size, const uint8_t mask[4]);
// A whole bare frame. Returns NULL without memory. *payload_offset (may be NULL): where it begins.
struct vc_buffer *vc_ws_frame_create(enum vc_ws_opcode opcode, const void *payload, size_t size,
                                     uint32_t *payload_offset);
// The payload of a close frame; `reason` is cut at 123 bytes. Returns: its length.
size_t vc_ws_print_close(uint8_t payload[VC_WS_CONTROL_MAX], int code, const char *reason);
// The whole frame, bare. Returns: its length.
size_t vc_ws_print_close_frame(uint8_t frame[VC_WS_HEADER_MAX + VC_WS_CONTROL_MAX], int code,
                               const char *reason);
// Returns: 1 when a close frame may carry `code`.
int vc_ws_close_code_is_valid(int code);

#define VC_WS_KEY_SIZE 25    // 24 characters and NUL
#define VC_WS_ACCEPT_SIZE 29 // 28 characters and NUL
// Whether it looks like 16 bytes in base64. May be NULL.
int vc_ws_key_is_valid(const char *key);
// The answer to a Sec-WebSocket-Key. Returns: 0, or -1 without memory, and "".
int vc_ws_print_accept(const char *key, char accept[VC_WS_ACCEPT_SIZE]);
// A key from 16 random bytes.
void vc_ws_print_key(const uint8_t random[16], char key[VC_WS_KEY_SIZE]);
