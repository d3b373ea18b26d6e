// What travels on a lane: every noun begins with a vc_item, whose kind says which noun it is. While
// it waits for a lane it may be linked into its putter's list (flow/waiting.h), which thus needs no
// memory.
#pragma once

enum vc_item_kind {
  VC_ITEM_PACKET,   // ingest -> decode
  VC_ITEM_CHUNK,    // decode -> stt
  VC_ITEM_RESULT,   // stt -> ledger
  VC_ITEM_LIVE,     // ledger -> broadcast: a message for a session's viewers
  VC_ITEM_ANSWER,   // ledger -> broadcast: to a viewer's join or catch-up
  VC_ITEM_JOIN,     // broadcast -> ledger: a viewer came
  VC_ITEM_CATCH_UP, // broadcast -> ledger: a viewer asks for finals it missed
  VC_ITEM_LEAVE,    // broadcast -> ledger: a viewer went
  VC_ITEM_QUERY,    // control -> any stage: a question with a reply
  VC_ITEM_RECORD,   // ledger -> journal: a final or a session record to be kept
  VC_ITEM_REMOTE,   // redis -> ledger: of sessions on other nodes, and of claims
  VC_ITEM_FLEET,    // ledger -> redis: what is said here, and what is to be watched
  VC_ITEM_OWNED,    // a noun of one room's own, between its threads: see vc_owned_item
};

struct vc_item {
  enum vc_item_kind kind;
  struct vc_item *prev, *next; // in vc_waiting.items
};

// The beginning of a noun that only one room knows: a socket that its front door hands to its
// worker, a connection that moves from one worker to another.
struct vc_owned_item {
  struct vc_item item; // VC_ITEM_OWNED
  void (*destroy)(struct vc_item *item);
};

// Frees any noun with all that it owns. NULL is allowed.
void vc_item_destroy(struct vc_item *item);
