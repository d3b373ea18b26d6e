// What the files of the room share.
#pragma once

#include <jansson.h>
#include <pthread.h>

#include <verbacast/control.h>
#include <verbacast/flow/query.h>
#include <verbacast/net/front.h>
#include <verbacast/wire/jwt.h>
#include <verbacast/wire/text.h>

#define QUERY_TIMEOUT_MS 2000
#define STORED_MAX 200000 // finals from the store in one answer
#define MAKING_WAIT_MS 2000
#define STORE_REST_MS 5000
#define TOO_BUSY "the node is too busy to be asked"
#define SESSION_UNKNOWN "the token has expired, and whether its session is on is not known now"
#define SLOW_AT_ADMIN_MAX 2 // of the operators' door's workers, so that others answer

enum door { VIEWERS_DOOR, ADMIN_DOOR };

struct vc_control {
  /* set before start, then read-only */
  struct vc_control_settings settings;
  struct vc_shared_putter *ingest, *ledger, *broadcast, *journal;
  struct vc_shared_putter *publisher, *watcher; // NULL: there are no other nodes
  int64_t started_ms;
  struct vc_slots *slots; // of vc_control_metrics
  /* any thread, under the mutex: one door answers while the other opens or closes */
  pthread_mutex_t mutex;
  struct vc_front *viewers, *admin; // NULL: closed
  unsigned n_making;                // transcripts
  pthread_cond_t made;              // one of them is
  unsigned n_slow_at_admin;         // calls at the operators' door that may wait for the store
  /* any thread, atomic */
  _Atomic uint64_t store_rests_until_ns; // nobody asks it for a transcript before
  _Atomic int is_draining;
  _Atomic int refuses_viewers;
};

struct route;

// One request with all that its handler needs.
struct call {
  struct vc_control *control;
  struct vc_request *request;
  enum door door;
  char slug[VC_SLUG_MAX + 1]; // of the path, "" none
  const char *rest;           // of the path behind the slug, "" none
  const struct route *route;
  char *body; // NULL: none was read
  size_t body_size;
};

// --- access.c: who may ask. Returns: 0, or an HTTP status and `why`.
int access_admit(const struct call *call, const char **why);
int access_origin(const struct call *call, const char **why);
int access_admin(const struct call *call, const char **why);
// How one that access_admin let in showed who it is: a constant, for the log.
const char *access_shown(const struct call *call);
// Finds when the token expires, too. Thread: one with a stack of 1 MiB, where access_asks_viewers.
int access_viewer(struct call *call, const char **why);
// Unix time in ms at which the slug's session began that is on or watched here, 0: there is none,
// -1: the ledger is too busy to say. Thread: as access_viewer.
int64_t access_ledger_began(struct vc_control *control, const char *slug);
// Whether viewers from elsewhere need a token.
int access_asks_viewers(const struct vc_control *control);

// --- token.c: whether a token lets somebody to a session
struct token_ask {
  const char *slug;
  int64_t now_ms; // Unix time
  int64_t leeway_ms;
};
struct token_answer {
  int status;      // 0: it does; else HTTP's, and `why`; 503: no memory to say
  const char *why; // a constant, without a part of the token
  enum vc_jwt_verdict verdict;
  int is_signed;  // by one of the keys
  int is_ours;    // and it is of the kind that was asked for
  int is_expired; // it is that, and all else is good
  // Unix time, the leeway included; known where it is good or expired.
  int64_t begins_ms, expires_ms;
};
// Of viewers or publishers: `session` is the slug or "*".
struct token_answer token_check(const struct vc_secret *secret, const char *token,
                                const struct token_ask *ask);
// LiveKit's, to join the room that has this session.
struct token_answer token_check_join(const struct vc_control_livekit *livekit, const char *token,
                                     const struct token_ask *ask);
// One that expired is good all the same while a session is on that began while it was valid.
// 0: none is.
void token_forgive(struct token_answer *answer, int64_t session_began_ms);

// --- deep.c
// Runs it on a thread with a stack of 1 MiB. Returns: 0, or -1: there was no thread.
int run_deep(void (*function)(struct call *call), struct call *call);

// --- ask.c: stages asked, one worker or all of them
// Returns: an answered query, or NULL: not in time.
struct vc_query *ask_worker(struct vc_shared_putter *putter, struct vc_stage *stage,
                            enum vc_query_kind kind, const char *slug, int64_t number);
struct vc_query *ask_one(struct vc_shared_putter *putter, uint32_t worker, enum vc_query_kind kind,
                         const char *slug);
// The worker of ingest that has the slug; `participant` "": all of it.
struct vc_query *ask_ingest_of(struct vc_control *control, enum vc_query_kind kind,
                               const char *slug, const char *participant);
// Merges the workers' JSON objects: each key's values in a list. Returns: a new reference, or NULL.
json_t *ask_all(struct vc_shared_putter *putter, struct vc_stage *stage, enum vc_query_kind kind);

// --- metrics_page.c
enum control_metric {
  LOST_SOCKETS,
  BAD_REQUESTS,
  TOKENS_REFUSED,
  TRANSCRIPTS_REFUSED,
  SLOW_REFUSED,
  FLEET_REFUSED,
  LOG_DROPPED
};

// --- fleet.c: what other nodes know
// The sessions of all nodes, a row a slug: those of `ours` as they are now, the others as their
// nodes last said. Takes `ours`. Returns: a new reference, or NULL and `why`, a constant.
json_t *fleet_sessions(struct vc_control *control, json_t *ours, const char **why);
// Unix time in ms at which the session of a slug began that another node has, 0: none has one, -1:
// Redis does not say.
int64_t fleet_began(struct vc_control *control, const char *slug);
// What Redis holds of a slug. Returns: an answered query, NULL: it did not answer.
struct vc_query *fleet_transcript(struct vc_control *control, const char *slug);
// Returns: NULL when it was erased there, "live" when it is live on another node, else why not.
const char *fleet_erase(struct vc_control *control, const char *slug, int64_t epoch);
#define FLEET_LIVE "live"

// --- metrics_page.c, sessions_page.c, transcript_page.c, pages.c: handlers
void metrics_page(struct call *call);
void sessions_page(struct call *call);
void transcript_page(struct call *call);
void erase_page(struct call *call);
void kick_page(struct call *call);
void static_page(struct call *call);
json_t *degraded_list(struct vc_control *control);
void respond_json(struct call *call, int status, json_t *value); // takes the reference
int wants(const struct call *call, const char *name);            // the query has name=1
// Whether each node of a fleet has a database of its own.
int has_file_of_its_own(const struct vc_control *control);

// --- tracks.c: WebSockets that publish
int tracks_are_at(const char *path);
// Returns: 0 let it in, or 1: it was answered.
int tracks_open(struct vc_control *control, struct vc_request *request);
void tracks_adopt(struct vc_control *control, const struct vc_request *request, int fd);

// --- routes.c
#define STUCK_NAME_MAX 64
struct stuck {
  int is_in_the_way;         // without it nobody is served
  char name[STUCK_NAME_MAX]; // "": none is
};
// Looks for a thread that has been silent for more than 5 s, and tells of it in what is degraded.
void find_stuck(struct vc_control *control, struct stuck *stuck);
void route(struct vc_control *control, struct vc_request *request, enum door door);
int route_socket(struct vc_control *control, struct vc_request *request, char slug[],
                 struct vc_position *since);
