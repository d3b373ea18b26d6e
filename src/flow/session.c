#include <verbacast/flow/session.h>

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include <verbacast/wire/text.h>

static int is_alphanumeric(char c)
{
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

int vc_slug_is_valid(const char *slug, size_t size)
{
  if (size == 0 || size > VC_SLUG_MAX || !is_alphanumeric(slug[0])) {
    return 0;
  }
  for (size_t i = 1; i < size; i++) {
    if (!is_alphanumeric(slug[i]) && slug[i] != '.' && slug[i] != '_' && slug[i] != '-') {
      return 0;
    }
  }
  return 1;
}

// FNV-1a, with the bits of the end mixed down: workers are chosen by a small remainder.
uint32_t vc_slug_hash(const char *slug, size_t size)
{
  uint32_t hash = UINT32_C(2166136261);
  for (size_t i = 0; i < size; i++) {
    hash = (hash ^ (unsigned char)slug[i]) * UINT32_C(16777619);
  }
  hash ^= hash >> 16;
  hash *= UINT32_C(0x7feb352d);
  hash ^= hash >> 15;
  return hash;
}

// C0, DEL and C1, the last in two bytes.
static int has_controls(const char *text, size_t size)
{
  for (size_t i = 0; i < size; i++) {
    unsigned char c = (unsigned char)text[i];
    if (c < 0x20 || c == 0x7f || (c == 0xc2 && i + 1 < size && (unsigned char)text[i + 1] < 0xa0)) {
      return 1;
    }
  }
  return 0;
}

int vc_participant_is_valid(const char *participant, size_t size)
{
  return size > 0 && size <= VC_PARTICIPANT_MAX && vc_utf8_is_valid(participant, size) &&
         !has_controls(participant, size) && participant[0] != ' ' && participant[size - 1] != ' ';
}

struct vc_session *vc_session_create(const char *slug, uint64_t id, int64_t started_unix_ms)
{
  return vc_session_create_of(slug, "", id, started_unix_ms);
}

struct vc_session *vc_session_create_of(const char *slug, const char *participant, uint64_t id,
                                        int64_t started_unix_ms)
{
  size_t size = strlen(slug), participant_size = strlen(participant);
  assert(vc_slug_is_valid(slug, size));
  assert(participant_size == 0 || vc_participant_is_valid(participant, participant_size));
  struct vc_session *session = calloc(1, sizeof *session);
  if (session != NULL) {
    session->id = id;
    session->hash = vc_slug_hash(slug, size);
    session->started_unix_ms = started_unix_ms;
    memcpy(session->slug, slug, size + 1);
    memcpy(session->participant, participant, participant_size + 1);
    atomic_init(&session->n_refs, 1);
  }
  return session;
}

struct vc_session *vc_session_ref(struct vc_session *session)
{
  if (session != NULL) {
    atomic_fetch_add_explicit(&session->n_refs, 1, memory_order_relaxed);
  }
  return session;
}

void vc_session_unref(struct vc_session *session)
{
  if (session != NULL &&
      atomic_fetch_sub_explicit(&session->n_refs, 1, memory_order_acq_rel) == 1) {
    free(session);
  }
}
