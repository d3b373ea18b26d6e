#include "no_verdict.h"

#include <stdatomic.h>

#include <verbacast/wire/jwt.h>

enum vc_jwt_verdict __real_vc_jwt_verify_by(const struct vc_secret *secret, const char *token,
                                            const struct vc_jwt_clock *clock, struct vc_jwt *jwt);
enum vc_jwt_verdict __wrap_vc_jwt_verify_by(const struct vc_secret *secret, const char *token,
                                            const struct vc_jwt_clock *clock, struct vc_jwt *jwt);

static atomic_int n_left;

void no_memory_for_token(int n)
{
  n_left = n;
}

enum vc_jwt_verdict __wrap_vc_jwt_verify_by(const struct vc_secret *secret, const char *token,
                                            const struct vc_jwt_clock *clock, struct vc_jwt *jwt)
{
  int is_lacking = n_left > 0 && --n_left == 0;
  *jwt = (struct vc_jwt){0};
  return is_lacking ? VC_JWT_NO_MEMORY : __real_vc_jwt_verify_by(secret, token, clock, jwt);
}
