// What HTTP handlers and the like ask the publishing worker: each one call to Redis.
#include <stdio.h>
#include <string.h>

#include "publish.h"

#define SESSIONS_MAX ((size_t)16 * 1024 * 1024) // bytes of an answer

static void ask(struct publisher *publisher, struct vc_query *query, uint64_t is_retry);

static int is_status(const redisReply *reply, const char *text)
{
  return reply->type == REDIS_REPLY_STATUS && strcmp(reply->str, text) == 0;
}

// --- answers: an HTTP status, and a reply

static int is_array(const redisReply *text)
{
  return text->type == REDIS_REPLY_STRING && text->len >= 2 && text->str[0] == '[' &&
         text->str[text->len - 1] == ']';
}

// [a,b] and [] and [c] become [a,b,c].
static struct vc_buffer *join(const redisReply *arrays)
{
  struct vc_text text = {0};
  vc_text_add(&text, "[");
  for (size_t i = 0; i < arrays->elements; i++) {
    const redisReply *array = arrays->element[i];
    if (is_array(array) && array->len > 2) {
      vc_text_add(&text, text.size > 1 ? "," : "");
      vc_text_append(&text, array->str + 1, array->len - 2);
    }
  }
  vc_text_add(&text, "]");
  return vc_text_take(&text);
}

static int answer_sessions(struct vc_query *query, const redisReply *reply,
                           struct vc_buffer **found)
{
  if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 2 ||
      reply->element[1]->type != REDIS_REPLY_ARRAY) {
    return 503;
  }
  if (reply_number(reply, 0) != 0) {
    vc_query_mark_incomplete(query);
  }
  *found = join(reply->element[1]);
  return *found != NULL ? 200 : 503;
}

static int answer_of(struct vc_query *query, const redisReply *reply, struct vc_buffer **found)
{
  switch (vc_query_kind(query)) {
  case VC_QUERY_FLEET_SESSIONS:
    return answer_sessions(query, reply, found);
  case VC_QUERY_FLEET_ERASE:
  case VC_QUERY_FLEET_BEGAN:
    vc_query_set_number(query, reply_number(reply, 1));
    return (int)reply_number(reply, 0);
  case VC_QUERY_FLEET_CLAIM:
    return is_status(reply, "OK") ? 200 : 409;
  default:
    return reply->type == REDIS_REPLY_INTEGER ? (int)reply->integer : 503;
  }
}

static void answered(struct redis_link *link, const struct redis_call *call,
                     const redisReply *reply)
{
  struct publisher *publisher = link->owner;
  struct vc_query *query = call->subject;
  struct vc_buffer *found = NULL;
  int is_error = reply != NULL && reply->type == REDIS_REPLY_ERROR;
  if (is_error && publisher_take_error(publisher, reply) && call->number == 0) {
    ask(publisher, query, 1);
    return;
  }
  int status = reply != NULL && !is_error ? answer_of(query, reply, &found) : 503;
  vc_query_answer(query, status, found);
}

// --- questions

static int ask_sessions(struct publisher *publisher, const struct redis_call *call)
{
  const struct vc_redis *redis = publisher->redis;
  char nodes[REDIS_KEY_MAX], begins[REDIS_KEY_MAX];
  struct redis_run run;
  snprintf(nodes, sizeof nodes, "%snodes", redis->settings.options->redis_prefix);
  run_init(&run, redis, SCRIPT_SESSIONS);
  run_text(&run, nodes, strlen(nodes));
  run.n_keys++;
  redis_key(redis, begins, "node", "");
  run_text(&run, begins, strlen(begins));
  run_number(&run, SESSIONS_MAX);
  return link_run(&publisher->link, call, &run);
}

static int ask_erase(struct publisher *publisher, const struct redis_call *call,
                     const struct vc_query *query)
{
  const struct vc_redis *redis = publisher->redis;
  struct redis_run run;
  run_init_owner(&run, redis, SCRIPT_ERASE, vc_query_slug(query));
  run_number(&run, vc_query_number(query));
  return link_run(&publisher->link, call, &run);
}

static int ask_claim(struct publisher *publisher, const struct redis_call *call,
                     const struct vc_query *query)
{
  const struct vc_redis *redis = publisher->redis;
  char key[REDIS_KEY_MAX], ms[24];
  snprintf(key, sizeof key, "%s%s", redis->settings.options->redis_prefix, vc_query_slug(query));
  snprintf(ms, sizeof ms, "%lld", (long long)vc_query_number(query));
  const char *const arguments[] = {"SET", key, redis->settings.node, "NX", "PX", ms};
  return link_send(&publisher->link, call, 6, arguments, NULL);
}

static int ask_end(struct publisher *publisher, const struct redis_call *call,
                   const struct vc_query *query)
{
  const struct vc_redis *redis = publisher->redis;
  struct redis_run run;
  run_init(&run, redis, SCRIPT_END);
  run_key(&run, "owner", vc_query_slug(query));
  run_key(&run, "ctl", vc_query_slug(query));
  run_text(&run, redis->node_json, strlen(redis->node_json));
  return link_run(&publisher->link, call, &run);
}

static int ask_began(struct publisher *publisher, const struct redis_call *call,
                     const struct vc_query *query)
{
  struct redis_run run;
  run_init(&run, publisher->redis, SCRIPT_BEGAN);
  run_key(&run, "owner", vc_query_slug(query));
  return link_run(&publisher->link, call, &run);
}

static void ask(struct publisher *publisher, struct vc_query *query, uint64_t is_retry)
{
  const struct redis_call call = {.answered = answered, .subject = query, .number = is_retry};
  int status;
  switch (vc_query_kind(query)) {
  case VC_QUERY_FLEET_SESSIONS:
    status = ask_sessions(publisher, &call);
    break;
  case VC_QUERY_FLEET_ERASE:
    status = ask_erase(publisher, &call, query);
    break;
  case VC_QUERY_FLEET_CLAIM:
    status = ask_claim(publisher, &call, query);
    break;
  case VC_QUERY_FLEET_END:
    status = ask_end(publisher, &call, query);
    break;
  case VC_QUERY_FLEET_BEGAN:
    status = ask_began(publisher, &call, query);
    break;
  default: // another's
    vc_query_answer(query, 501, NULL);
    return;
  }
  if (status != 0) {
    vc_query_answer(query, 503, NULL);
  }
}

void question_handle(struct publisher *publisher, struct vc_query *query)
{
  if (vc_query_kind(query) == VC_QUERY_FLEET_ERASE &&
      owned_forget(publisher, vc_query_slug(query)) != 0) {
    vc_query_answer(query, 409, NULL);
    return;
  }
  ask(publisher, query, 0);
}
