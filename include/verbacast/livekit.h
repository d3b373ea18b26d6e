// livekit: sound of LiveKit's rooms. Its webhooks say which rooms are on; each of them is given one
// egress that sends its sound to RTMP_LISTEN, and a room that is over ends its session.
//
//   webhook -- verified --> livekit -- Twirp --> LiveKit -- egress, by RTMP --> ingest
//
// One stage of one worker. Nobody waits for it, and its `claim` may wait: a turn takes one webhook,
// so that calls under way are heard between two waits. Webhooks may be lost and
// come twice, on one node or on several: what is to be done is decided by what LiveKit itself lists
// (StartRoomCompositeEgress is called only when ListEgress has none of ours, by the node that has
// the claim), and rooms are listed every LIVEKIT_POLL_MS by one node for what was not heard.
//
// Bounds: VC_LIVEKIT_WEBHOOKS_MAX webhooks wait (the next is answered 503, and LiveKit sends it
// again); VC_LIVEKIT_ROOMS_MAX rooms are looked after at once, of which VC_LIVEKIT_CALLS_MAX have a
// call under way; the last VC_LIVEKIT_EVENTS_MAX ids of webhooks are remembered.
#pragma once

#include <verbacast/base/options.h>
#include <verbacast/flow/health.h>
#include <verbacast/flow/stage.h>

#define VC_LIVEKIT_WEBHOOKS_MAX 255
#define VC_LIVEKIT_ROOMS_MAX 10000
#define VC_LIVEKIT_CALLS_MAX 8
#define VC_LIVEKIT_EVENTS_MAX 1024

struct vc_livekit_options {
  const char *livekit_url;
  const char *livekit_api_key; // or "new,old", as the secret
  struct vc_secret *livekit_api_secret;
  const char *livekit_auto_egress; // "rtmp://host:1937/live"
  int64_t livekit_poll_ms;         // 0: never
  const char *livekit_ca_file;
};
extern const struct vc_option vc_livekit_option_rows[];
extern const struct vc_metric vc_livekit_metrics[];

enum vc_livekit_claim { VC_LIVEKIT_UNASKED = -1, VC_LIVEKIT_OURS = 0, VC_LIVEKIT_OTHERS = 1 };

struct vc_livekit_settings {
  const struct vc_livekit_options *options; // lives as long as the room
  const struct vc_secret *publish_secret;   // signs what an egress publishes with; may be not set
  const struct vc_clock *clock;
  struct vc_metrics *metrics;
  struct vc_health *health;
  // Thread: the room's own; both may wait for a second.
  // The room of this session is over, wherever it is published.
  void (*end_session)(void *context, const char *slug);
  // Of all nodes one gets the key, for ttl_ms. UNASKED: there is nobody to ask.
  enum vc_livekit_claim (*claim)(void *context, const char *key, int64_t ttl_ms);
  void *context;
};

struct vc_livekit;

// Whether webhooks can be verified: the key and its secret are set.
int vc_livekit_is_set(const struct vc_livekit_options *options);
// Options that do not go together. Returns: 0, or -1 and the error.
int vc_livekit_check(const struct vc_livekit_options *options,
                     const struct vc_secret *publish_secret, struct vc_error *error);

int vc_livekit_create(struct vc_livekit **livekit, const struct vc_livekit_settings *settings,
                      struct vc_error *error);
struct vc_stage *vc_livekit_stage(struct vc_livekit *livekit); // to be started
// Thread: any, with a stack of 1 MiB. `authorization`: the header, or NULL. `body`: NULL: it is not
// there yet, and what else there is is looked at. Returns: an HTTP status, and `why` where it is
// not 200.
int vc_livekit_take_webhook(struct vc_livekit *livekit, const char *authorization, const char *body,
                            size_t size, const char **why);
// Webhooks are answered 503 from now on; what waits is handled, calls under way are let go.
void vc_livekit_stop(struct vc_livekit *livekit);
void vc_livekit_destroy(struct vc_livekit **livekit);
