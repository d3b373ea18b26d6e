#include "no_verdict.h"

#include <stdatomic.h>

#include <verbacast/flow/query.h>

struct vc_query *__real_vc_query_create(enum vc_query_kind kind, const char *slug);
struct vc_query *__wrap_vc_query_create(enum vc_query_kind kind, const char *slug);

static atomic_int lacking = -1;

void no_memory_for_queries(int kind)
{
  lacking = kind;
}

struct vc_query *__wrap_vc_query_create(enum vc_query_kind kind, const char *slug)
{
  return (int)kind == lacking ? NULL : __real_vc_query_create(kind, slug);
}
