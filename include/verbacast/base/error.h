// What went wrong, in words for the operator; for start-up and control paths only (hot paths
// return a code and bump a counter).
#pragma once

struct vc_error {
  char text[512];
};

// Writes the text (cut at the size of the field). `error` may be NULL.
// Returns: -1, so that a caller can `return vc_error_set(...)`.
__attribute__((format(printf, 2, 3))) int vc_error_set(struct vc_error *error, const char *format,
                                                       ...);
