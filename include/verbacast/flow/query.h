// A query: a question that a foreign thread (an HTTP handler) asks a stage, with a reply and a
// bounded wait. Refcounted between asker and stage: an asker that gave up leaves an orphan, which
// the stage answers into and drops.
#pragma once

#include <stdint.h>

#include <verbacast/base/buffer.h>
#include <verbacast/flow/item.h>
#include <verbacast/flow/session.h>

enum vc_query_kind {
  VC_QUERY_SESSIONS,    // ledger: JSON array of the sessions it holds -> reply
  VC_QUERY_BEGAN,       // ledger: [Unix ms when the session of `slug` began, 0: none is on], or
                        // 404: the slug is not held
  VC_QUERY_TRANSCRIPT,  // ledger: JSON array of the finals of `slug` (records, as in docs/schemas)
  VC_QUERY_UNRELAYED,   // journal: JSON array of the records of `slug` on their way to the database
  VC_QUERY_ERASE,       // ledger: forget `slug`, number raised to its last epoch; 409 while live
  VC_QUERY_MAY_PUBLISH, // ingest: may `participant` begin or go on to publish `slug`? 200, or why
                        // not: 429 where anything of it is on here, 503: another node may be asked.
                        // The number: Unix ms when that publishing began, or its session on another
                        // node; 0: nothing of `slug` is on here, -1: others are
  VC_QUERY_KICK_PUBLISHER, // ingest: close the publishers of `slug`, or that of `participant`
  VC_QUERY_TAKE_OVER,      // ingest: the same of a `slug` that another node has claimed
  VC_QUERY_END_SESSION,    // ingest: end `slug`, whose room is over, with its publisher
  VC_QUERY_KICK_VIEWERS,   // broadcast: close the viewers of `slug` (each worker its own)
  VC_QUERY_VIEWERS,    // broadcast: JSON object slug -> {clients, queue_size, …}, one worker's
  VC_QUERY_PUBLISHERS, // ingest: JSON object "slug/participant" -> {address, …}, one worker's
  // Of the redis room; 503: Redis is away.
  VC_QUERY_FLEET_SESSIONS,   // publishing worker: JSON array, the sessions of all nodes
  VC_QUERY_FLEET_TRANSCRIPT, // watching worker: as VC_QUERY_TRANSCRIPT, from the stream of `slug`
  VC_QUERY_FLEET_ERASE,      // publishing worker: the history of `slug` is deleted and all nodes
                             // forget it, up to epoch `number`; 409: some node owns it, 404: none
  VC_QUERY_FLEET_CLAIM, // publishing worker: 200 the key {prefix}`slug` is set, for `number` ms;
                        // 409 somebody has set it
  VC_QUERY_FLEET_END,   // publishing worker: whoever owns `slug` ends it
  VC_QUERY_FLEET_BEGAN, // publishing worker: 200 and the number: the epoch of who owns `slug`; 404:
                        // nobody does
};

struct vc_query;

// Asker's side. Returns NULL without memory.
struct vc_query *vc_query_create(enum vc_query_kind kind, const char *slug);
// Thread: the asker. Waits for the answer at most timeout_ms.
// Returns: 0 answered, 1 not in time. In both cases the asker's reference must be given back.
int vc_query_wait(struct vc_query *query, uint32_t timeout_ms);
int vc_query_status(const struct vc_query *query);              // an HTTP status, after wait
struct vc_buffer *vc_query_reply(const struct vc_query *query); // borrowed, may be NULL, after wait
// 0 when the stage said that its reply has holes (finals that history let go), else 1; after wait.
int vc_query_is_complete(const struct vc_query *query);
void vc_query_unref(struct vc_query *query);

// Stage's side: what travels is the query's item.
struct vc_item *vc_query_item(struct vc_query *query); // takes a new reference into the lane
struct vc_query *vc_query_of(struct vc_item *item);
// A participant that goes with the question, valid or "", set before it is put; "" by itself.
void vc_query_set_participant(struct vc_query *query, const char *participant);
const char *vc_query_participant(const struct vc_query *query);
// A number that goes with the question (an epoch), set before it is put; 0 by itself. The stage may
// set another before the answer.
void vc_query_set_number(struct vc_query *query, int64_t number);
int64_t vc_query_number(const struct vc_query *query);
enum vc_query_kind vc_query_kind(const struct vc_query *query);
const char *vc_query_slug(const struct vc_query *query);
// Before the answer: the reply is not all there ever was.
void vc_query_mark_incomplete(struct vc_query *query);
// Takes the reply (may be NULL) and the lane's reference of the query: it is not to be touched
// again.
void vc_query_answer(struct vc_query *query, int status, struct vc_buffer *reply);
// What lies in a lane that nobody takes from any more: an unanswered one is answered with 503.
void vc_query_drop(struct vc_query *query);
// Before it is put: its answer comes as its item on a lane of a stage, with the lane's reference;
// where that lane is full it does not come. NULL: none. Both must live until it is answered.
struct vc_shared_putter;
void vc_query_set_back(struct vc_query *query, struct vc_shared_putter *back, uint32_t worker);
