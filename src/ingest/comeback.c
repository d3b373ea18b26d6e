// A token that was valid when its session began lets its publisher come back within that session,
// and a balancer sends who comes back where it likes. A worker does not know of other nodes'
// sessions and waits for nobody: the connection is held, a question goes out, and its answer comes
// on a lane. The question itself says whose answer it is: while it is on its way no other one has
// its address, so that one whose connection has gone meets nobody.
//
// A question keeps its place for ASK_MS whatever becomes of it. So nobody makes a worker ask more
// often than ASKED_MAX times in that, with however many expired tokens he comes.
#include "room.h"

#define DENIED "NetStream.Publish.Denied"

static struct question *find_place(struct worker_state *state, uint64_t now_ns)
{
  for (size_t i = 0; i < ASKED_MAX; i++) {
    struct question *question = &state->questions[i];
    if (question->query == NULL && now_ns >= question->asked_ns + ASK_MS * VC_NS_PER_MS) {
      return question;
    }
  }
  return NULL;
}

// Returns: 0 the question is on its way, or 1.
static int put(struct vc_worker *worker, struct connection *connection, struct question *question)
{
  const struct worker_state *state = vc_worker_state(worker);
  const struct vc_ingest_settings *settings = &state->room->settings;
  struct vc_query *query = vc_query_create(VC_QUERY_FLEET_BEGAN, connection->slug);
  if (query == NULL || settings->ask_began(settings->context, query) != 0) {
    vc_query_unref(query);
    return 1;
  }
  *question = (struct question){query, connection, vc_worker_now_ns(worker)};
  vc_metric_add(vc_worker_slots(worker), ASKED, 1);
  return 0;
}

static int give_up(struct vc_worker *worker, const char *reason, const char **why)
{
  vc_metric_add(vc_worker_slots(worker), UNASKED, 1);
  *why = reason;
  return 1;
}

int comeback_ask(struct vc_worker *worker, struct connection *connection, const char **why)
{
  struct worker_state *state = vc_worker_state(worker);
  if (state->room->settings.ask_began == NULL) {
    return 1; // there is no other node
  }
  struct question *question = find_place(state, vc_worker_now_ns(worker));
  if (question == NULL) {
    return give_up(worker, "the token has expired, and too many such publishers come at once", why);
  }
  if (put(worker, connection, question) != 0) {
    return give_up(worker, "the token has expired, and other nodes cannot be asked now", why);
  }
  if (connection_hold(worker, connection) != 0) {
    question->connection = NULL;
    return give_up(worker, "the token has expired, and its publisher cannot wait", why);
  }
  return 0;
}

// What is known of its session is known: it publishes, or is refused.
static void settle(struct vc_worker *worker, struct connection *connection, int64_t began_ms)
{
  if (ingest_session_come_back(worker, connection, began_ms) != 0) {
    connection_finish(worker, connection);
  } else {
    connection_read_on(worker, connection);
  }
}

static void settle_unknown(struct vc_worker *worker, struct connection *connection,
                           const char *reason)
{
  vc_metric_add(vc_worker_slots(worker), UNANSWERED, 1);
  command_refuse(worker, connection, REFUSED_TOKEN, DENIED, reason);
  connection_finish(worker, connection);
}

// Frees the question, not its place. Returns: the connection that it was asked for, NULL: none any
// more.
static struct connection *end(struct question *question)
{
  struct connection *connection = question->connection;
  vc_query_unref(question->query);
  question->query = NULL;
  question->connection = NULL;
  return connection;
}

void comeback_take(struct vc_worker *worker, struct vc_query *query)
{
  struct worker_state *state = vc_worker_state(worker);
  struct connection *connection = NULL;
  for (size_t i = 0; i < ASKED_MAX; i++) {
    if (state->questions[i].query == query) {
      connection = end(&state->questions[i]);
    }
  }
  int status = vc_query_status(query);
  int64_t began_ms = status == 200 ? vc_query_number(query) : 0;
  vc_query_unref(query);
  if (connection == NULL) {
    return; // it came too late, or its publisher has gone
  }
  if (status == 200 || status == 404) {
    settle(worker, connection, began_ms);
  } else {
    settle_unknown(worker, connection,
                   "the token has expired, and Redis, which knows of other nodes, is away");
  }
}

void comeback_forget(struct vc_worker *worker, const struct connection *connection)
{
  struct worker_state *state = vc_worker_state(worker);
  for (size_t i = 0; i < ASKED_MAX; i++) {
    if (state->questions[i].connection == connection) {
      state->questions[i].connection = NULL;
    }
  }
}

void comeback_tick(struct vc_worker *worker)
{
  struct worker_state *state = vc_worker_state(worker);
  uint64_t now_ns = vc_worker_now_ns(worker);
  for (size_t i = 0; i < ASKED_MAX; i++) {
    struct question *question = &state->questions[i];
    if (question->query != NULL && now_ns >= question->asked_ns + ASK_MS * VC_NS_PER_MS) {
      struct connection *connection = end(question);
      if (connection != NULL) {
        settle_unknown(worker, connection,
                       "the token has expired, and Redis, which knows of other nodes, is silent");
      }
    }
  }
}

void comeback_fini(struct worker_state *state)
{
  for (size_t i = 0; i < ASKED_MAX; i++) {
    end(&state->questions[i]);
  }
}
