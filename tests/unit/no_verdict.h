// Things of wire and flow that find no memory when a test says so, put in their places by the
// linker: for programs that depend on `no_token_dep`, `no_frame_dep`, `no_query_dep` or
// `no_digest_dep`. Thread: any arms them, any meets them.
#pragma once

// The `n`th token from now that is verified by a secret; 0: none.
void no_memory_for_token(int n);
// Whatever is parsed of WebSockets while it is 1, at both ends.
void no_memory_for_frames(int is_lacking);
// The `n`th hash from now that OpenSSL makes; 0: none.
void no_memory_for_digest(int n);
// Whatever is asked in a vc_query of that kind from now on; -1: none.
void no_memory_for_queries(int kind);
