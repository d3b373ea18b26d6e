// WebSocket frames as a server and as a client reads them. The first byte says in how large pieces
// they arrive; the pieces must not change what is read. Every event that was read is written as a
// frame of the other side and read again as the same.
#include <verbacast/wire/ws.h>

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define MESSAGE_MAX 1024

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct summary {
  size_t n_events;
  uint64_t hash; // of all that was given
  int end_code;  // 0 ran out, else the close code of the error
};

static void add(struct summary *summary, const void *bytes, size_t size)
{
  for (size_t i = 0; i < size; i++) {
    summary->hash = (summary->hash ^ ((const uint8_t *)bytes)[i]) * UINT64_C(1099511628211);
  }
}

static void check(const struct vc_ws_event *event)
{
  int is_control = event->opcode >= VC_WS_CLOSE;
  assert(event->size <= (is_control ? VC_WS_CONTROL_MAX : MESSAGE_MAX));
  assert(event->opcode != VC_WS_CONTINUATION);
  if (event->opcode == VC_WS_TEXT) {
    assert(vc_utf8_is_valid((const char *)event->payload, event->size));
  }
  if (event->opcode == VC_WS_CLOSE) {
    assert(event->close_code == 1005 || vc_ws_close_code_is_valid(event->close_code));
  }
}

static void read_again(const struct vc_ws_event *event, enum vc_ws_role role)
{
  static const uint8_t mask[4] = {0x12, 0x00, 0xff, 0xa5};
  const uint8_t *used_mask = role == VC_WS_SERVER ? mask : NULL;
  uint8_t frame[VC_WS_HEADER_MAX + MESSAGE_MAX];
  size_t n = vc_ws_print_header(frame, event->opcode, event->size, used_mask);
  if (event->size > 0) {
    memcpy(frame + n, event->payload, event->size);
  }
  if (used_mask != NULL) {
    vc_ws_mask(frame + n, event->size, used_mask);
  }
  struct vc_ws_parser parser;
  struct vc_ws_event again;
  size_t used;
  vc_ws_parser_init(&parser, role, MESSAGE_MAX);
  assert(vc_ws_parse(&parser, frame, n + event->size, &used, &again) == 1);
  assert(used == n + event->size && again.opcode == event->opcode && again.size == event->size);
  assert(event->size == 0 || memcmp(again.payload, event->payload, event->size) == 0);
  assert(again.close_code == event->close_code);
  vc_ws_parser_fini(&parser);
}

static void take(struct summary *summary, const struct vc_ws_event *event, enum vc_ws_role role)
{
  check(event);
  read_again(event, role);
  summary->n_events++;
  add(summary, &event->opcode, sizeof event->opcode);
  add(summary, &event->size, sizeof event->size);
  add(summary, &event->close_code, sizeof event->close_code);
  add(summary, event->payload, event->size);
}

// Each piece lies in an allocation of exactly its size.
static struct summary read_in_pieces(const uint8_t *data, size_t size, size_t piece,
                                     enum vc_ws_role role)
{
  struct summary summary = {0, UINT64_C(14695981039346656037), 0};
  struct vc_ws_parser parser;
  struct vc_ws_event event;
  vc_ws_parser_init(&parser, role, MESSAGE_MAX);
  for (size_t at = 0; at < size && summary.end_code == 0; at += piece) {
    size_t n = size - at < piece ? size - at : piece;
    uint8_t *exact = malloc(n);
    assert(exact != NULL);
    memcpy(exact, data + at, n);
    size_t from = 0, used;
    int status;
    while ((status = vc_ws_parse(&parser, exact + from, n - from, &used, &event)) == 1) {
      from += used;
      assert(from <= n);
      take(&summary, &event, role);
    }
    assert(status < 0 || from + used == n);
    summary.end_code = status < 0 ? event.close_code : 0;
    assert(status == 0 || summary.end_code == 1002 || summary.end_code == 1007 ||
           summary.end_code == 1009);
    free(exact);
  }
  vc_ws_parser_fini(&parser);
  return summary;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  if (size < 2) {
    return 0;
  }
  size_t piece = data[0] > 0 ? data[0] : 1;
  for (int role = VC_WS_SERVER; role <= VC_WS_CLIENT; role++) {
    struct summary whole = read_in_pieces(data + 1, size - 1, size - 1, (enum vc_ws_role)role);
    struct summary pieces = read_in_pieces(data + 1, size - 1, piece, (enum vc_ws_role)role);
    assert(whole.n_events == pieces.n_events && whole.hash == pieces.hash);
    assert(whole.end_code == pieces.end_code);
  }
  return 0;
}
