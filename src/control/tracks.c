// WebSockets that publish: /ingest/livekit/{session}?participant=…&token=…&rate=…&channels=…
#include "room.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATH "/ingest/livekit/"
#define RATE_HZ 48000 // what LiveKit sends
#define CHANNELS 2

int tracks_are_at(const char *path)
{
  return strncmp(path, PATH, strlen(PATH)) == 0;
}

// --- what it says of itself. Each returns 0, or a status and why.

struct claim {
  struct call call; // the first: run_deep gives it back
  struct vc_control_track track;
  // Since when its session is on, as far as the worker of ingest knows.
  enum { NOT_ASKED, SINCE_BEGAN_MS, LONGER_THAN_IT, NOWHERE_HERE } is_on;
  int64_t began_ms; // 0: not SINCE_BEGAN_MS
};

// A whole number of decimal digits within the bounds.
static int parse_number(const struct vc_request *request, const char *name, uint32_t range[2],
                        uint32_t *number)
{
  char text[8];
  int found = vc_request_query(request, name, text, sizeof text);
  if (found == 0) {
    return 0;
  }
  if (found < 0 || text[0] == '\0' || text[strspn(text, "0123456789")] != '\0') {
    return -1;
  }
  *number = (uint32_t)strtoul(text, NULL, 10);
  return *number >= range[0] && *number <= range[1] ? 0 : -1;
}

static int parse_slug(struct claim *claim, const char **why)
{
  const char *slug = claim->call.request->path + strlen(PATH);
  size_t size = strlen(slug);
  *why = "streams are taken at /ingest/livekit/{session}; a session's name is 1 to 128 letters, "
         "digits, '.', '_' or '-', the first a letter or a digit";
  if (!vc_slug_is_valid(slug, size)) {
    return 404;
  }
  memcpy(claim->call.slug, slug, size + 1);
  memcpy(claim->track.slug, slug, size + 1);
  return 0;
}

static int parse_claim(struct claim *claim, const char **why)
{
  const struct vc_request *request = claim->call.request;
  struct vc_control_track *track = &claim->track;
  uint32_t rates[2] = {VC_TRACK_RATE_MIN_HZ, VC_TRACK_RATE_MAX_HZ};
  uint32_t channels[2] = {1, VC_TRACK_CHANNELS_MAX};
  track->rate_hz = RATE_HZ;
  track->n_channels = CHANNELS;
  int found =
      vc_request_query(request, "participant", track->participant, sizeof track->participant);
  *why = "participant= names who speaks: 1 to 64 bytes of UTF-8 without control characters and "
         "blanks at its ends";
  if (found != 1 || !vc_participant_is_valid(track->participant, strlen(track->participant))) {
    return 400;
  }
  *why = "rate= is that of the samples: 8000 to 96000";
  if (parse_number(request, "rate", rates, &track->rate_hz) != 0) {
    return 400;
  }
  *why = "channels= is how many are interleaved: 1 to 8";
  return parse_number(request, "channels", channels, &track->n_channels) != 0 ? 400 : 0;
}

// --- whether it may. Each returns 0, or a status and why.
//
// 503 lets a balancer ask another node. There the participant would take the session from whoever
// publishes it here; so it is 429 where somebody does, or where that is not known. (Of two who come
// at the same moment, to a node that has room or a descriptor for one, the other may be sent away.)

// Protected mode: without a secret this machine only publishes, whoever may watch.
static int admit(const struct call *call, const char **why)
{
  const struct vc_control_options *options = call->control->settings.options;
  *why = "this node is not protected: publishers from elsewhere need PUBLISH_SECRET, or --insecure";
  return options->insecure || vc_secret_is_set(options->publish_secret) ||
                 vc_request_is_near(call->request)
             ? 0
             : 403;
}

static int check_room(const struct call *call, const char **why)
{
  const struct vc_control *control = call->control;
  const struct vc_control_settings *settings = &control->settings;
  if (atomic_load_explicit(&control->refuses_viewers, memory_order_relaxed)) {
    *why = "the node is draining";
    return 503;
  }
  int is_exempt = vc_limits_exempt(settings->proxies, &call->request->client);
  int status = vc_limits_ask(settings->publisher_limits, &call->request->client, is_exempt);
  *why = status == 1 ? "too many connections from this address" : "too many connections";
  return status != 0 ? 429 : 0;
}

static struct vc_publisher_answer judge_token(const struct claim *claim, int64_t began_ms)
{
  const struct vc_control_settings *settings = &claim->call.control->settings;
  const struct vc_publisher_times times = {.now_ms = vc_clock_unix_ms(settings->clock),
                                           .session_began_ms = began_ms};
  return vc_control_authorize_publisher(settings->options, claim->call.slug,
                                        claim->call.request->query, times);
}

// Where others go on with the session here, one may come back that ingest has forgotten: the ledger
// has not. Where nothing of it is on here, whoever published before did so on another node.
static int64_t ask_others_began(const struct claim *claim)
{
  struct vc_control *control = claim->call.control;
  return claim->is_on == LONGER_THAN_IT ? access_ledger_began(control, claim->call.slug)
         : claim->is_on == NOWHERE_HERE ? fleet_began(control, claim->call.slug)
                                        : 0;
}

static int check_token(struct claim *claim, const char **why)
{
  struct vc_publisher_answer answer = judge_token(claim, claim->began_ms);
  if (answer.is_expired && claim->began_ms == 0) {
    int64_t began_ms = ask_others_began(claim);
    if (began_ms < 0) {
      *why = SESSION_UNKNOWN;
      return 429;
    }
    answer = judge_token(claim, began_ms);
    claim->call.request->begins_ms = began_ms;
  }
  if (answer.is_expired && claim->is_on == NOT_ASKED) {
    return 0; // it may be good for what is on here: only that the node is busy is told
  }
  *why = answer.why;
  return answer.status == 503 && claim->is_on != NOWHERE_HERE ? 429 : answer.status;
}

// The worker of ingest knows what is on, and whether there is room for one more; who has no good
// token is not told of that.
static void ask_ingest(struct call *call)
{
  struct claim *claim = (struct claim *)call;
  const char *why = "";
  struct vc_query *query =
      ask_ingest_of(call->control, VC_QUERY_MAY_PUBLISH, call->slug, claim->track.participant);
  const struct vc_buffer *reply = query != NULL ? vc_query_reply(query) : NULL;
  int status = query != NULL ? vc_query_status(query) : 503;
  int is_busy = status != 200 && reply == NULL;
  int64_t number = !is_busy ? vc_query_number(query) : 0;
  claim->is_on = is_busy      ? NOT_ASKED
                 : number > 0 ? SINCE_BEGAN_MS
                 : number < 0 ? LONGER_THAN_IT
                              : NOWHERE_HERE;
  claim->began_ms = number > 0 ? number : 0;
  claim->call.request->begins_ms = claim->began_ms; // for `adopt`: it counts once more
  int refused = check_token(claim, &why);
  if (refused != 0) {
    vc_respond_error(call->request, refused, why);
  } else if (claim->is_on == NOT_ASKED) {
    vc_respond_error(call->request, 429, TOO_BUSY);
  } else if (status != 200) {
    char text[128];
    snprintf(text, sizeof text, "%.*s", (int)reply->size, (const char *)reply->data);
    vc_respond_error(call->request, status == 503 ? 503 : 429, text);
  }
  vc_query_unref(query);
}

static int refuse(const struct claim *claim, int status, const char *why)
{
  vc_respond_error(claim->call.request, status, why);
  return 1;
}

int tracks_open(struct vc_control *control, struct vc_request *request)
{
  struct claim claim = {.call = {.control = control, .request = request, .rest = ""}};
  const char *why = "";
  int status;
  if ((status = admit(&claim.call, &why)) != 0 || (status = parse_slug(&claim, &why)) != 0 ||
      (status = access_origin(&claim.call, &why)) != 0 ||
      (status = parse_claim(&claim, &why)) != 0 || (status = check_room(&claim.call, &why)) != 0) {
    return refuse(&claim, status, why);
  }
  if (run_deep(ask_ingest, &claim.call) != 0) {
    return refuse(&claim, 429, "no thread for this request");
  }
  request->lost_status = claim.is_on == NOWHERE_HERE ? 503 : 429;
  return request->status != 0;
}

// --- the handshake is done

// FNV-1a over what tells one publisher from another.
static uint64_t hash_more(uint64_t hash, const void *bytes, size_t size)
{
  const uint8_t *at = bytes;
  for (size_t i = 0; i < size; i++) {
    hash = (hash ^ at[i]) * UINT64_C(1099511628211);
  }
  return hash;
}

static uint64_t identity_of(const struct vc_request *request)
{
  const char *agent = vc_request_header(request, "User-Agent");
  uint64_t hash = hash_more(UINT64_C(14695981039346656037), request->client.bytes,
                            sizeof request->client.bytes);
  hash = hash_more(hash, request->query, strlen(request->query) + 1);
  return agent != NULL ? hash_more(hash, agent, strlen(agent)) : hash;
}

// What `tracks_open` found good is read again.
void tracks_adopt(struct vc_control *control, const struct vc_request *request, int fd)
{
  struct claim claim = {.call = {.control = control, .request = (struct vc_request *)request}};
  const char *why;
  int status = parse_slug(&claim, &why) != 0 || parse_claim(&claim, &why) != 0;
  assert(status == 0);
  (void)status;
  claim.track.fd = fd;
  claim.track.address = request->client;
  claim.track.is_exempt = vc_limits_exempt(control->settings.proxies, &request->client);
  claim.track.identity = identity_of(request);
  claim.track.session_began_ms = request->begins_ms;
  control->settings.adopt_track(control->settings.context, &claim.track);
}
