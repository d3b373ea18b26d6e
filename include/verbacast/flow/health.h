// Health: what of the node is degraded, since when and why; any thread may say so, /readyz and
// /metrics list it. A condition has a name that a runbook entry explains: "stt", "journal",
// "database". At most 16 conditions; the reason is cut at 127 bytes.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <verbacast/base/clock.h>
#include <verbacast/wire/text.h>

#define VC_HEALTH_MAX 16

struct vc_health;

struct vc_condition {
  char what[32];
  char reason[128];
  int64_t since_unix_ms;
};

struct vc_health *vc_health_create(const struct vc_clock *clock);
void vc_health_destroy(struct vc_health **health);
// Thread: any. A condition that stands already keeps its `since` and takes the new reason. A change
// is logged once. NULL health is allowed.
void vc_health_set(struct vc_health *health, const char *what, const char *reason);
void vc_health_clear(struct vc_health *health, const char *what);
// Copies what stands now. Returns: how many.
size_t vc_health_list(struct vc_health *health, struct vc_condition into[VC_HEALTH_MAX]);
// The same as a JSON array: [{"what":…,"since":…,"reason":…}]
void vc_health_print(struct vc_health *health, struct vc_text *text);
// And as Prometheus' verbacast_degraded{what="…"}.
void vc_health_print_prometheus(struct vc_health *health, FILE *out);

struct vc_program_state {
  const char *stuck; // a thread that has been silent for more than 5 s, NULL: none
  int is_draining;
  const char *node, *version;
};
// As Prometheus' verbacast_stuck, verbacast_draining and verbacast_info.
void vc_program_state_print_prometheus(const struct vc_program_state *state, FILE *out);
