#include "no_verdict.h"

#include <verbacast/wire/ws.h>

int __real_vc_ws_parse(struct vc_ws_parser *parser, const uint8_t *bytes, size_t size, size_t *used,
                       struct vc_ws_event *event);
int __wrap_vc_ws_parse(struct vc_ws_parser *parser, const uint8_t *bytes, size_t size, size_t *used,
                       struct vc_ws_event *event);

static int has_no_memory;

void no_memory_for_frames(int is_lacking)
{
  has_no_memory = is_lacking;
}

int __wrap_vc_ws_parse(struct vc_ws_parser *parser, const uint8_t *bytes, size_t size, size_t *used,
                       struct vc_ws_event *event)
{
  if (!has_no_memory) {
    return __real_vc_ws_parse(parser, bytes, size, used, event);
  }
  *used = size;
  *event = (struct vc_ws_event){.close_code = 1011};
  return -1;
}
