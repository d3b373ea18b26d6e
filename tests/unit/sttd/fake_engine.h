// An engine that hears loudness and counts time: a window with a loud sample is a voice, and each
// half second of a segment is a word: "one two three". It can be held up, and made to fail.
#pragma once

#include "engine.h"

#define LOUD 8000 // of a sample
#define FAKE_HEARD_MAX 4096

// Gives: an engine for pool_create or room_create, closed by engine_close.
struct engine *fake_engine_create(void);
// Thread: any. While held, a decode waits.
void fake_engine_hold(struct engine *engine);
void fake_engine_release(struct engine *engine);
// Waits until a decode waits (at most a minute; fails the process otherwise).
void fake_engine_wait_held(struct engine *engine);
void fake_engine_fail_ears(struct engine *engine);    // from now on none opens
void fake_engine_fail_decodes(struct engine *engine); // from now on none works
void fake_engine_mute_finals(struct engine *engine);  // finals hear nothing
void fake_engine_know_times(struct engine *engine);   // words come with their times
// The next n finals go round in circles.
void fake_engine_circle(struct engine *engine, int n_finals);
// From now on what is longer than 5 s is heard as something else.
void fake_engine_confuse_long(struct engine *engine);
size_t fake_engine_n_ears(struct engine *engine); // ever opened
// Which ear heard the i-th window (numbered by their opening); -1: not that many were heard.
int fake_engine_heard_by(struct engine *engine, size_t i);
