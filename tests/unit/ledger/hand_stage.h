// Stages that turn when a test says so: flow/stage.h without threads, in place of the real one, so
// that a test decides which lane is full when, and every run is the same run. What the threads
// themselves do is tested with flow.
#pragma once

#include <verbacast/flow/stage.h>

#define HAND_UNBOUNDED SIZE_MAX

// Of a stage that only has an inbox: the test takes what lies in it.
extern const struct vc_stage_ops hand_inbox;
// A clock that shows what the test wrote there, which is its Unix time too.
struct vc_clock hand_clock(uint64_t *now_ns);

// 1 while a stage turns: what it does then is the room's own doing.
extern int hand_is_turning;
// How many events of the kernel's were served: a stage at rest has none.
extern uint64_t hand_n_events;
// Called before each turn of a drain, so that time may pass meanwhile; NULL at first.
extern void (*hand_before_turn)(void *context);
extern void *hand_context;
// Handles what lies in the inboxes, then `turned`, then `tick` when it is due.
void hand_turn(struct vc_stage *stage);
// Takes the oldest item of a worker's inbox, NULL when empty.
struct vc_item *hand_take(struct vc_stage *stage, uint32_t worker);
size_t hand_count(struct vc_stage *stage, uint32_t worker);
// When the worker asked for a turn beyond its ticks, 0 never: between turns it would sleep so long.
uint64_t hand_wake_at_ns(struct vc_stage *stage, uint32_t worker);
// How many items a worker's inbox holds from now on; HAND_UNBOUNDED at first.
void hand_set_capacity(struct vc_stage *stage, uint32_t worker, size_t capacity);
// Tells a watch of the stage, on whichever worker, that its descriptor is ready: for sockets whose
// fullness a test plays. What the kernel itself has to say is served at every turn.
void hand_ready(struct vc_stage *stage, int fd, uint32_t events);
