// A manual page of one program, in man(7): its options from the rows, the rest from here.
#pragma once

#include <stdio.h>

#include <verbacast/base/options.h>

struct man_page {
  const struct vc_option_set *set;
  const char *name;             // one phrase behind "verbacast \- "
  const char *argument;         // before the options, NULL: none
  const char *const *about;     // paragraphs, ended by NULL
  const char *const *file_rows; // name, meaning, …, ended by NULL
  const char *example;          // a command line
  const char *see_also;         // "verbacast-stt"
  int is_server;                // it says that it is up, and runs until it is told to end
};

void print_man(const struct man_page *page, FILE *out);
