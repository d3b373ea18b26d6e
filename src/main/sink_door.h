// The sink's operators' door: /healthz, /readyz, /metrics.
//
// Thread: a front's, whose stacks are small: JSON is printed here and never parsed.
#pragma once

#include <verbacast/base/address.h>
#include <verbacast/flow/health.h>

#include "sink.h"

extern const struct vc_metric sink_door_metrics[];

struct sink_door;

struct sink_door_settings {
  const struct sink_options *options; // all of it lives as long as the door
  const struct sink *sink;
  const char *node;
  const struct vc_clock *clock;
  struct vc_metrics *metrics;
  struct vc_health *health;
};

int sink_door_open(struct sink_door **door, struct vc_address *bound,
                   const struct sink_door_settings *settings, struct vc_error *error);
// Thread: any. /readyz answers 404 from now on.
void sink_door_drain(struct sink_door *door);
// Up to 2 s.
void sink_door_close(struct sink_door **door);
