// A record: what must outlive the node. From the ledger to the journal, in the order of the ledger;
// one for each final, one for each session's begin and end.
#pragma once

#include <stdint.h>

#include <verbacast/base/buffer.h>
#include <verbacast/flow/item.h>
#include <verbacast/flow/session.h>

enum vc_record_kind {
  VC_RECORD_FINAL,
  VC_RECORD_SESSION_STARTED,
  VC_RECORD_SESSION_ENDED,
  VC_RECORD_SESSION_ERASED, // all epochs of the slug up to this one
  VC_RECORD_PARTIAL,        // outlives nothing: to Kafka only
};

struct vc_record {
  struct vc_item item;
  struct vc_record *prev, *next; // with those that wait where it is: at the ledger or the journal
  enum vc_record_kind kind;
  char slug[VC_SLUG_MAX + 1]; // the Kafka key
  int64_t epoch;
  uint64_t seq;            // FINAL
  struct vc_buffer *value; // the JSON of docs/schemas, one reference
};

struct vc_record *vc_record_create(enum vc_record_kind kind, const char *slug);
void vc_record_destroy(struct vc_record **record);
