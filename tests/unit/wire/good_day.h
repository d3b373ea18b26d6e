// An utterance with all that one can have, for those that print it and read it again: what must be
// escaped, what is no ASCII, times of more than three places, a confidence that is not known.
#pragma once

#include <math.h>

#include <verbacast/wire/utterance.h>

static const struct vc_word good_day_words[] = {{"Good", 12.48, 12.7104, 0.97},
                                                {"\"day\"", 12.71, 13, NAN}};

static const struct vc_utterance good_day = {.id = "00-4",
                                             .text = "Good\n\"day\" \x7f",
                                             .language = "en",
                                             .speaker = "Ann \xc3\xa9",
                                             .start_s = 12.4804,
                                             .end_s = 13,
                                             .confidence = 0.9149,
                                             .is_final = 1,
                                             .words = good_day_words,
                                             .n_words = 2};
