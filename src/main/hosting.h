// LiveKit's part of the node: its room, where it is configured, and who ends sessions and grants
// claims for it.
#pragma once

#include <verbacast/livekit.h>

#include "peers.h"

struct hosting_settings {
  const struct vc_livekit_options *options;
  const struct vc_secret *publish_secret;
  struct peers *peers;
  struct vc_metrics *metrics;
  struct vc_health *health;
};

struct hosting {
  /* set before start, then read-only */
  struct peers *peers;
  struct vc_livekit *livekit; // NULL: not configured
};

// Makes and starts it, or nothing but its metrics' names.
int hosting_init(struct hosting *hosting, const struct hosting_settings *settings,
                 struct vc_error *error);
// Thread: any, with a stack of 1 MiB. As vc_livekit_take_webhook; where it is configured.
int hosting_take_webhook(struct hosting *hosting, const char *authorization, const char *body,
                         size_t size, const char **why);
// Thread: any. Returns: the thread that has been silent for longer than silent_ms, NULL: none.
const char *hosting_stuck(const struct hosting *hosting, uint32_t silent_ms);
void hosting_stop(struct hosting *hosting);
void hosting_fini(struct hosting *hosting);
