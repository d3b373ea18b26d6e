// What the files of the room share.
//
//   connect.c  the thread that makes connections, and asks for the node's sessions
//   link.c     one connection in the hands of a worker: commands out, replies in
//   publish.c  the publishing worker; owned.c: what it knows of each slug
//   watch.c    the watching worker
#pragma once

#include <hiredis/hiredis.h>

#include <pthread.h>
#include <stdatomic.h>

#include <verbacast/base/log.h>
#include <verbacast/flow/query.h>
#include <verbacast/flow/remote.h>
#include <verbacast/redis.h>
#include <verbacast/wire/fleet.h>

enum metric { // of vc_redis_metrics, in options.c
  /* publishing */
  KEPT,
  FLEETING,
  REPEATED,
  DROPPED,
  HOLES,
  ASKED,
  FENCED,
  GIVEN_UP,
  TAKEN,
  CLAIMS,
  ORPHANS,
  OWNED,
  BEHIND,
  PUBLISH_MS,
  /* connections */
  CONNECTS,
  CONNECT_ERRORS,
  DISCONNECTS,
  UP,
  UNANSWERED,
  UNSENT_BYTES,
  LINK_FULL,
  PING_MS,
  /* errors that Redis answered with */
  ERRORS_OOM,
  ERRORS_READONLY,
  ERRORS_LOADING,
  ERRORS_MISCONF,
  ERRORS_AUTH,
  ERRORS_BUSY,
  ERRORS_NOSCRIPT,
  ERRORS_OTHER,
  /* watching */
  WATCHED,
  SUBSCRIPTIONS,
  SUBSCRIPTIONS_REFUSED,
  RECEIVED,
  READS,
  READ_ENTRIES,
  FILL_MS,
  HELD,
  CUT,
  GAPS,
  OVERLAPS,
  STALE,
  UNKNOWN_TYPES,
  MALFORMED,
  CLAIM_TIME_MS,
  CLAIMS_LATE,
  LEDGER_FULL,
  WATCH_OUT_OF_MEMORY,
};

// --- url.c: where Redis is

struct redis_address {
  char host[256]; // "" : `path`
  uint16_t port;
  char path[108]; // of a unix socket
  char user[128], password[256];
  int database;
  char shown[400]; // for the log: neither user nor password
};
#define REDIS_DATABASE_MAX 1023

// The URL, or @file with it in its first line. Returns: 0, or -1 and the error, which quotes no
// password.
int redis_address_parse(const char *text, struct redis_address *address, struct vc_error *error);

// --- scripts.c: the Lua

enum redis_script {
  SCRIPT_WRITE,    // a kept message into the stream, if it follows what is there
  SCRIPT_ORPHAN,   // the same of a session whose owner is lost
  SCRIPT_CLAIM,    // a slug becomes ours
  SCRIPT_RENEW,    // it still is
  SCRIPT_LOOK,     // what the stream ends with, and how far it has what is ours
  SCRIPT_RELEASE,  // it is nobody's
  SCRIPT_ERASE,    // the stream goes
  SCRIPT_END,      // its owner is told to end it
  SCRIPT_BEGAN,    // its owner's epoch
  SCRIPT_SHOW,     // this node's sessions, for others
  SCRIPT_SESSIONS, // those of all
  SCRIPT_READ,     // a piece of a stream
  N_SCRIPTS,
};
extern const char *const redis_scripts[N_SCRIPTS];
#define REDIS_SHA_SIZE 41

// --- what travels between the room's own threads: VC_ITEM_OWNED

enum redis_item_kind {
  REDIS_CONNECTION, // connect -> a worker
  REDIS_SHOWN,      // connect -> publish: the node's sessions
  REDIS_CLAIM,      // watch -> publish, and the same object back
  REDIS_RELEASED,   // publish -> watch: the slug is not ours any more
};

struct redis_item {
  struct vc_owned_item owned;
  enum redis_item_kind kind;
};

enum redis_role {
  ROLE_PUBLISH,   // the publishing worker's
  ROLE_WATCH,     // the watching worker's, for commands
  ROLE_SUBSCRIBE, // the watching worker's, for what comes by itself
  N_ROLES,
};

// Logged in, its database selected, the scripts loaded; does not block.
struct redis_connection {
  struct redis_item item;
  enum redis_role role;
  redisContext *context;
  char shas[N_SCRIPTS][REDIS_SHA_SIZE];
};

struct redis_shown {
  struct redis_item item;
  struct vc_buffer *sessions; // a JSON array
};

struct redis_claim {
  struct redis_item item;
  char slug[VC_SLUG_MAX + 1];
  int64_t epoch_floor;
  int is_retry; // the publishing worker's
  /* the answer */
  int64_t epoch;            // 0: Redis is away, or refuses
  struct vc_owner previous; // whose it was, epoch 0: nobody's
  struct vc_position last;  // of the stream, epoch 0: there is none
  int is_after_loss;        // what we said last can no longer be written
};

struct redis_released {
  struct redis_item item;
  char slug[VC_SLUG_MAX + 1];
  int64_t epoch;
};

// NULL without memory. All are freed by vc_item_destroy.
struct redis_connection *redis_connection_create(enum redis_role role);
struct redis_shown *redis_shown_create(struct vc_buffer *sessions); // takes them
struct redis_claim *redis_claim_create(const char *slug, int64_t epoch_floor);
struct redis_released *redis_released_create(const char *slug, int64_t epoch);
struct redis_item *redis_item_of(struct vc_item *item);

// --- room.c

enum redis_trouble { // the first that stands is told by the condition "redis"
  TROUBLE_AWAY,
  TROUBLE_REFUSED,  // Redis answers with errors
  TROUBLE_EVICTING, // its policy is not noeviction
  TROUBLE_NAMESAKE, // another node has our name
  TROUBLE_DEAF,     // it refuses subscriptions
  TROUBLE_ALONE,    // sessions of ours cannot be written to it
  N_TROUBLES,
};

struct vc_redis {
  /* set before start, then read-only */
  struct vc_redis_settings settings;
  struct redis_address address;
  char *node_json;  // the node's name as a JSON string
  char process[17]; // a random number: whose that name is
  struct vc_stage *publisher, *watcher;
  struct vc_stage *ledger;
  struct vc_putter *publish_to_ledger, *watch_to_ledger; // each its worker's
  struct vc_putter *publish_to_watch, *watch_to_publish;
  struct vc_putter *connect_to[2]; // of the connecting thread: publish, watch
  struct vc_slots *connect_slots;
  pthread_t connector;
  int has_connector;
  /* under the mutex */
  pthread_mutex_t mutex;
  pthread_cond_t changed;
  int is_wanted[N_ROLES]; // a connection is
  int is_up[N_ROLES];
  int is_stopping;
  int dialing_fd;                 // -1: none
  char troubles[N_TROUBLES][128]; // "" none
};

// Thread: any. Sets, or takes away, what stands in the way; health tells the first.
__attribute__((format(printf, 3, 4))) void
redis_trouble(struct vc_redis *redis, enum redis_trouble trouble, const char *format, ...);
void redis_trouble_clear(struct vc_redis *redis, enum redis_trouble trouble);
// "{prefix}{kind}:{slug}", cut where it does not fit.
#define REDIS_KEY_MAX 256 // bytes with the NUL: VC_SLUG_MAX, REDIS_PREFIX (at most 64) and a kind
const char *redis_key(const struct vc_redis *redis, char into[REDIS_KEY_MAX], const char *kind,
                      const char *slug);

// --- connect.c

// Thread: any. A connection of that role is wanted; it comes to its worker's lane as a
// REDIS_CONNECTION, after a back-off.
void redis_connect_ask(struct vc_redis *redis, enum redis_role role);
// Thread: any. The connection is in use, or is not any more: `why`.
void redis_connect_up(struct vc_redis *redis, enum redis_role role);
void redis_connect_down(struct vc_redis *redis, enum redis_role role, const char *why);
void *redis_connect_run(void *redis);
void redis_connect_stop(struct vc_redis *redis);

// --- link.c: one connection in the hands of its worker
//
// Commands are appended and written at the end of the worker's turn, as far as the socket takes
// them. Replies come in the order of the commands. A PING each LINK_PING_MS; when nothing came for
// LINK_SILENT_MS the connection is given up, as it is when Redis closes it; another is asked for.
// Bounds: LINK_UNSENT_MAX bytes that the socket did not take, LINK_UNANSWERED_MAX commands, replies
// of LINK_REPLY_MAX bytes; beyond the first two a command is refused, at the third the connection
// is given up.
//
// Thread: the worker's.

#define LINK_PING_MS 500
#define LINK_SILENT_MS 2000
#define LINK_UNSENT_MAX ((size_t)8 * 1024 * 1024)
#define LINK_UNANSWERED_MAX 16384
#define LINK_REPLY_MAX ((size_t)64 * 1024 * 1024)

struct redis_link;

// What waits for a reply.
struct redis_call {
  // Borrows the reply; NULL: the connection broke, and the command may have been done or not.
  // Further commands may be appended.
  void (*answered)(struct redis_link *link, const struct redis_call *call, const redisReply *reply);
  void *subject;
  struct vc_position position;
  uint64_t number;
  uint64_t sent_ns; // the link's: when it was appended
};

struct redis_link_ops {
  enum redis_role role;
  // A connection is there, nothing has been sent on it.
  void (*up)(struct redis_link *link);
  // It is gone: all calls have been answered with NULL, another connection is asked for.
  void (*down)(struct redis_link *link);
  // ROLE_SUBSCRIBE: all that comes but the answers to the link's own PINGs. Borrows the reply.
  void (*pushed)(struct redis_link *link, const redisReply *reply);
};

struct redis_link {
  struct vc_watch watch; // the first member
  /* set by link_init, then read-only */
  const struct redis_link_ops *ops;
  struct vc_redis *redis;
  struct vc_worker *worker;
  void *owner;
  /* the worker's */
  struct redis_connection *connection; // NULL: none
  char *out;                           // what is to be written: [out_begin, out_end)
  size_t out_begin, out_end, out_capacity;
  struct redis_call *calls; // a ring
  size_t n_calls, first_call;
  uint64_t pinged_ns, heard_ns;
  int is_ping_under_way; // ROLE_SUBSCRIBE
  size_t n_loading;      // scripts
  int is_paused;
  uint32_t events; // that epoll watches for
  int is_broken;   // to be given up when its callers have returned
  char why[128];
  int depth; // of callbacks that are under way
};

// Asks for a connection.
int link_init(struct redis_link *link, struct vc_redis *redis, struct vc_worker *worker,
              const struct redis_link_ops *ops, void *owner);
void link_close(struct redis_link *link); // at the end: all calls are answered with NULL
void link_fini(struct redis_link *link);  // answers nobody
// Takes the connection that has come.
void link_take(struct redis_link *link, struct redis_connection *connection);
int link_is_up(const struct redis_link *link);
int link_has_room(const struct redis_link *link); // half of its bounds is free
// In `turned`: writes. In each tick: pings, and gives up.
void link_turned(struct redis_link *link);
void link_tick(struct redis_link *link);
// A command; with `call` NULL (ROLE_SUBSCRIBE only) its reply comes to `pushed`. `sizes` NULL:
// strings. Returns: 0, or 1: there is no connection, or a bound is reached; nothing was appended.
int link_send(struct redis_link *link, const struct redis_call *call, int n,
              const char *const *arguments, const size_t *sizes);
// A script: its keys, then its arguments. Borrows what is added; numbers and keys are copied.
#define RUN_ARGUMENTS_MAX 12
struct redis_run {
  const struct vc_redis *redis;
  enum redis_script script;
  int n_keys, n;
  const char *at[RUN_ARGUMENTS_MAX];
  size_t sizes[RUN_ARGUMENTS_MAX];
  char room[RUN_ARGUMENTS_MAX][REDIS_KEY_MAX];
};
void run_init(struct redis_run *run, const struct vc_redis *redis, enum redis_script script);
void run_key(struct redis_run *run, const char *kind, const char *slug); // before what follows
// A script of this node's about who owns the slug: it is given the owner's key, the history and the
// channel that owners talk on, then the node.
void run_init_owner(struct redis_run *run, const struct vc_redis *redis, enum redis_script script,
                    const char *slug);
void run_text(struct redis_run *run, const char *text, size_t size);
void run_number(struct redis_run *run, int64_t number);
// Returns: as link_send.
int link_run(struct redis_link *link, const struct redis_call *call, const struct redis_run *run);
// What an answer has at `i`, 0 or "" where there is none such.
int64_t reply_number(const redisReply *reply, size_t i);
const char *reply_text(const redisReply *reply, size_t i);
// 0 to VC_EPOCH_MAX, as all that nodes give out: what is larger is taken for none, and is not gone
// on from.
int redis_is_number(int64_t number);
// Epoch and seq at `i` and behind it. Returns: 0, or -1: nobody has given them out. Of an epoch
// that is not `own` whatever seq may be: nothing is numbered behind it.
int reply_position(const redisReply *reply, size_t i, int64_t own, struct vc_position *position);
// Loads all scripts again, before what is sent next: Redis said NOSCRIPT.
void link_load_scripts(struct redis_link *link);
// The socket is not read until it is again; meanwhile silence is no sign of death.
void link_pause(struct redis_link *link, int is_paused);
// Gives the connection up, when the callbacks that are under way have returned.
__attribute__((format(printf, 2, 3))) void link_break(struct redis_link *link, const char *format,
                                                      ...);
// What an error reply is: counted; kept as what stands in the way; a connection that will get no
// better (READONLY, NOAUTH) is given up.
enum metric redis_error_metric(const char *text, int *is_final);
enum redis_error { ERROR_NOSCRIPT, ERROR_OTHER };
enum redis_error link_take_error(struct redis_link *link, const redisReply *reply);

// --- publish.c, watch.c

extern const struct vc_stage_ops redis_publish_ops, redis_watch_ops; // config: struct vc_redis *
