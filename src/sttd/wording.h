// Texts looked at word by word. Pure. Case and punctuation do not count.
#pragma once

#include <stddef.h>

#define WORDING_WORDS_MAX 256 // a text with more is not looked at

// `heard` is what was heard in the sound of `told` and in what follows it, with the differences
// that a second look brings. Returns: 0 and where in `heard` the words begin that follow (its size:
// there are none); 1 the two do not begin alike.
int wording_after(const char *told, const char *heard, size_t *offset);

// A phrase that is there four times in a row and makes eight words or more.
struct wording_circle {
  size_t end;  // of what makes it one
  size_t left; // where the text goes on to something else
};

// A decoder that lost its way says a phrase again and again, until it may say no more. Returns: 1
// the text does so.
int wording_is_circular(const char *text, struct wording_circle *circle);
