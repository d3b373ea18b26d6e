// The metrics' places in their tables, rows.c.
#pragma once

// vc_sttd_metrics: the network's thread
enum room_metric {
  CONNECTIONS_TOTAL,
  CONNECTIONS,
  CONNECTIONS_REFUSED,
  REQUESTS,
  REQUESTS_REFUSED,
  TIMEOUTS,
  PROTOCOL_ERRORS,
  SESSIONS_TOTAL,
  SESSIONS,
  SESSIONS_REFUSED,
  SESSIONS_RESUMED,
  SESSIONS_EXPIRED,
  AUDIO_BYTES,
  PAUSES,
  MESSAGES,
  PARTIALS_DROPPED,
  HELD_DROPPED,
  RESULTS_CUT,
  ACCEPT_RESTS,
};

// vc_sttd_pool_metrics: the recognisers' threads
enum pool_metric {
  PARTIALS,
  FINALS,
  COALESCED,
  EMPTY,
  CIRCLES,
  CONTEXTS_LOST,
  FAILURES,
  PARTIAL_MS,
  FINAL_MS,
  PARTIAL_DELAY_MS,
  FINAL_DELAY_MS,
  HEARD_MS,
};
