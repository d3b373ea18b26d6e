#include <verbacast/wire/ws.h>

#include <openssl/evp.h>

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define GUID "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

void vc_ws_parser_init(struct vc_ws_parser *parser, enum vc_ws_role role, size_t message_max)
{
  *parser = (struct vc_ws_parser){.role = role, .message_max = message_max};
}

static void free_message(struct vc_ws_parser *parser)
{
  free(parser->message);
  parser->message = NULL;
  parser->message_size = parser->message_capacity = 0;
}

static void free_control(struct vc_ws_parser *parser)
{
  free(parser->control);
  parser->control = NULL;
}

void vc_ws_parser_fini(struct vc_ws_parser *parser)
{
  free_message(parser);
  free_control(parser);
}

int vc_ws_close_code_is_valid(int code)
{
  return (code >= 1000 && code <= 1014 && code != 1004 && code != 1005 && code != 1006) ||
         (code >= 3000 && code <= 4999);
}

static int fail(struct vc_ws_event *event, int code)
{
  event->close_code = code;
  return -1;
}

static size_t header_length(const uint8_t *header)
{
  size_t length = header[1] & 0x7f;
  return 2U + (length == 126 ? 2U : length == 127 ? 8U : 0U) + (header[1] & 0x80 ? 4U : 0U);
}

static uint64_t read_big_endian(const uint8_t *bytes, size_t n)
{
  uint64_t value = 0;
  for (size_t i = 0; i < n; i++) {
    value = value << 8 | bytes[i];
  }
  return value;
}

// What is wrong with a frame's kind, where it stands. Returns a close code or 0.
static int check_kind(const struct vc_ws_parser *parser, uint8_t opcode, int is_final,
                      uint64_t length)
{
  switch (opcode) {
  case VC_WS_CONTINUATION:
    return parser->message_opcode == 0 ? 1002 : 0;
  case VC_WS_TEXT:
  case VC_WS_BINARY:
    return parser->message_opcode != 0 ? 1002 : 0;
  case VC_WS_CLOSE:
  case VC_WS_PING:
  case VC_WS_PONG:
    return !is_final || length > VC_WS_CONTROL_MAX ? 1002 : 0;
  default:
    return 1002;
  }
}

static int begin_frame(struct vc_ws_parser *parser, struct vc_ws_event *event)
{
  const uint8_t *header = parser->header;
  uint64_t length = header[1] & 0x7f;
  size_t at = 2;
  int is_masked = (header[1] & 0x80) != 0;
  if (length == 126) {
    length = read_big_endian(header + 2, 2);
    at = 4;
  } else if (length == 127) {
    length = read_big_endian(header + 2, 8);
    at = 10;
  }
  parser->opcode = header[0] & 0x0f;
  parser->is_final = header[0] >> 7;
  if ((header[0] & 0x70) != 0 || is_masked != (parser->role == VC_WS_SERVER) ||
      length > INT64_MAX) {
    return fail(event, 1002);
  }
  int code = check_kind(parser, parser->opcode, parser->is_final, length);
  if (code != 0) {
    return fail(event, code);
  }
  if (parser->opcode < VC_WS_CLOSE && length > parser->message_max - parser->message_size) {
    return fail(event, 1009);
  }
  if (is_masked) {
    memcpy(parser->mask, header + at, 4);
  }
  if (parser->opcode == VC_WS_TEXT || parser->opcode == VC_WS_BINARY) {
    parser->message_opcode = parser->opcode;
    parser->utf8 = (struct vc_utf8_state){0};
  }
  parser->mask_at = 0;
  parser->n_control = 0;
  parser->left = length;
  parser->is_in_payload = 1;
  return 0;
}

// Takes bytes of the header. Returns 0 or -1.
static int take_header(struct vc_ws_parser *parser, const uint8_t *bytes, size_t size, size_t *used,
                       struct vc_ws_event *event)
{
  while (*used < size) {
    parser->header[parser->n_header++] = bytes[(*used)++];
    if (parser->n_header >= 2 && parser->n_header == header_length(parser->header)) {
      parser->n_header = 0;
      return begin_frame(parser, event);
    }
  }
  return 0;
}

static void unmask(struct vc_ws_parser *parser, uint8_t *bytes, size_t size)
{
  if (parser->role != VC_WS_SERVER) {
    return;
  }
  uint8_t mask[4];
  for (size_t i = 0; i < 4; i++) {
    mask[i] = parser->mask[(parser->mask_at + i) & 3];
  }
  vc_ws_mask(bytes, size, mask);
  parser->mask_at = (uint8_t)((parser->mask_at + size) & 3);
}

static int grow_message(struct vc_ws_parser *parser, size_t size)
{
  size_t needed = parser->message_size + size;
  if (needed <= parser->message_capacity) {
    return 0;
  }
  // What is announced is not believed: the buffer grows with what has come, by doubling.
  size_t capacity = parser->message_capacity == 0 ? 256 : parser->message_capacity * 2;
  capacity = capacity < parser->message_max ? capacity : parser->message_max;
  capacity = capacity < needed ? needed : capacity;
  uint8_t *message = realloc(parser->message, capacity);
  if (message == NULL) {
    return -1;
  }
  parser->message = message;
  parser->message_capacity = capacity;
  return 0;
}

static int take_data(struct vc_ws_parser *parser, const uint8_t *bytes, size_t size,
                     struct vc_ws_event *event)
{
  if (grow_message(parser, size) != 0) {
    return fail(event, 1011);
  }
  if (size == 0) {
    return 0;
  }
  uint8_t *to = parser->message + parser->message_size;
  memcpy(to, bytes, size);
  unmask(parser, to, size);
  parser->message_size += size;
  if (parser->message_opcode == VC_WS_TEXT && vc_utf8_feed(&parser->utf8, to, size) != 0) {
    return fail(event, 1007);
  }
  return 0;
}

static int take_control(struct vc_ws_parser *parser, const uint8_t *bytes, size_t size,
                        struct vc_ws_event *event)
{
  if (size == 0) {
    return 0;
  }
  if (parser->control == NULL && (parser->control = malloc(VC_WS_CONTROL_MAX)) == NULL) {
    return fail(event, 1011);
  }
  uint8_t *to = parser->control + parser->n_control;
  memcpy(to, bytes, size);
  unmask(parser, to, size);
  parser->n_control = (uint8_t)(parser->n_control + size);
  return 0;
}

static int finish_close(struct vc_ws_parser *parser, struct vc_ws_event *event)
{
  event->close_code = 1005;
  if (parser->n_control == 0) {
    return 1;
  }
  int code = parser->n_control == 1 ? 0 : parser->control[0] << 8 | parser->control[1];
  if (!vc_ws_close_code_is_valid(code)) {
    return fail(event, 1002);
  }
  if (!vc_utf8_is_valid((const char *)parser->control + 2, parser->n_control - 2U)) {
    return fail(event, 1007);
  }
  event->close_code = code;
  return 1;
}

// The frame is complete. Returns 1 with an event, 0 when the message goes on, -1.
static int finish_frame(struct vc_ws_parser *parser, struct vc_ws_event *event)
{
  parser->is_in_payload = 0;
  if (parser->opcode >= VC_WS_CLOSE) {
    event->opcode = parser->opcode;
    event->payload = parser->control;
    event->size = parser->n_control;
    return parser->opcode == VC_WS_CLOSE ? finish_close(parser, event) : 1;
  }
  if (!parser->is_final) {
    return 0;
  }
  if (parser->message_opcode == VC_WS_TEXT && parser->utf8.n_left != 0) {
    return fail(event, 1007);
  }
  event->opcode = parser->message_opcode;
  event->payload = parser->message;
  event->size = parser->message_size;
  parser->message_opcode = 0;
  return 1;
}

// What was given out by the last call may go.
static void let_go(struct vc_ws_parser *parser)
{
  if (parser->is_in_payload) {
    return;
  }
  free_control(parser);
  if (parser->message_opcode == 0) {
    free_message(parser);
  }
}

int vc_ws_parse(struct vc_ws_parser *parser, const uint8_t *bytes, size_t size, size_t *used,
                struct vc_ws_event *event)
{
  *used = 0;
  *event = (struct vc_ws_event){0};
  let_go(parser);
  for (;;) {
    if (!parser->is_in_payload && take_header(parser, bytes, size, used, event) != 0) {
      return -1;
    }
    if (!parser->is_in_payload) {
      return 0;
    }
    size_t n = size - *used < parser->left ? size - *used : (size_t)parser->left;
    int taken = parser->opcode >= VC_WS_CLOSE ? take_control(parser, bytes + *used, n, event)
                                              : take_data(parser, bytes + *used, n, event);
    if (taken != 0) {
      return -1;
    }
    *used += n;
    parser->left -= n;
    if (parser->left > 0) {
      return 0;
    }
    int status = finish_frame(parser, event);
    if (status != 0) {
      return status;
    }
  }
}

size_t vc_ws_print_header(uint8_t header[VC_WS_HEADER_MAX], enum vc_ws_opcode opcode, size_t size,
                          const uint8_t mask[4])
{
  size_t n = 2;
  header[0] = (uint8_t)(0x80 | opcode);
  if (size < 126) {
    header[1] = (uint8_t)size;
  } else if (size <= UINT16_MAX) {
    header[1] = 126;
    header[2] = (uint8_t)(size >> 8);
    header[3] = (uint8_t)size;
    n = 4;
  } else {
    header[1] = 127;
    for (size_t i = 0; i < 8; i++) {
      header[2 + i] = (uint8_t)((uint64_t)size >> (56 - 8 * i));
    }
    n = 10;
  }
  if (mask != NULL) {
    header[1] |= 0x80;
    memcpy(header + n, mask, 4);
    n += 4;
  }
  return n;
}

void vc_ws_mask(uint8_t *bytes, size_t size, const uint8_t mask[4])
{
  uint8_t wide[8];
  memcpy(wide, mask, 4);
  memcpy(wide + 4, mask, 4);
  uint64_t pattern;
  memcpy(&pattern, wide, 8);
  size_t i = 0;
  for (; i + 8 <= size; i += 8) {
    uint64_t word;
    memcpy(&word, bytes + i, 8);
    word ^= pattern;
    memcpy(bytes + i, &word, 8);
  }
  for (; i < size; i++) {
    bytes[i] ^= mask[i & 3];
  }
}

struct vc_buffer *vc_ws_frame_create(enum vc_ws_opcode opcode, const void *payload, size_t size,
                                     uint32_t *payload_offset)
{
  uint8_t header[VC_WS_HEADER_MAX];
  size_t n = vc_ws_print_header(header, opcode, size, NULL);
  struct vc_buffer *frame = vc_buffer_create(n + size);
  if (frame == NULL) {
    return NULL;
  }
  memcpy(frame->data, header, n);
  if (size > 0) {
    memcpy(frame->data + n, payload, size);
  }
  frame->size = (uint32_t)(n + size);
  if (payload_offset != NULL) {
    *payload_offset = (uint32_t)n;
  }
  return frame;
}

size_t vc_ws_print_close(uint8_t payload[VC_WS_CONTROL_MAX], int code, const char *reason)
{
  size_t n = reason != NULL ? vc_utf8_cut(reason, strlen(reason), VC_WS_CONTROL_MAX - 2) : 0;
  payload[0] = (uint8_t)(code >> 8);
  payload[1] = (uint8_t)code;
  if (n > 0) {
    memcpy(payload + 2, reason, n);
  }
  return n + 2;
}

size_t vc_ws_print_close_frame(uint8_t frame[VC_WS_HEADER_MAX + VC_WS_CONTROL_MAX], int code,
                               const char *reason)
{
  uint8_t payload[VC_WS_CONTROL_MAX];
  size_t size = vc_ws_print_close(payload, code, reason);
  size_t n = vc_ws_print_header(frame, VC_WS_CLOSE, size, NULL);
  memcpy(frame + n, payload, size);
  return n + size;
}

int vc_ws_key_is_valid(const char *key)
{
  static const char figures[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  return key != NULL && strspn(key, figures) == 22 && strcmp(key + 22, "==") == 0;
}

int vc_ws_print_accept(const char *key, char accept[VC_WS_ACCEPT_SIZE])
{
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  EVP_MD_CTX *context = EVP_MD_CTX_new();
  int is_done = context != NULL && EVP_DigestInit_ex(context, EVP_sha1(), NULL) == 1 &&
                EVP_DigestUpdate(context, key, strlen(key)) == 1 &&
                EVP_DigestUpdate(context, GUID, sizeof GUID - 1) == 1 &&
                EVP_DigestFinal_ex(context, digest, &size) == 1;
  EVP_MD_CTX_free(context);
  accept[0] = '\0';
  if (!is_done) {
    return -1;
  }
  int n = EVP_EncodeBlock((unsigned char *)accept, digest, 20);
  assert(n == VC_WS_ACCEPT_SIZE - 1);
  (void)n;
  return 0;
}

void vc_ws_print_key(const uint8_t random[16], char key[VC_WS_KEY_SIZE])
{
  EVP_EncodeBlock((unsigned char *)key, random, 16);
}
