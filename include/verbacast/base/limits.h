// How many connections there are, all together and from one address. Shared by the threads that
// accept and close; nothing else is done under its mutex.
#pragma once

#include <verbacast/base/address.h>

struct vc_limits;

struct vc_limits *vc_limits_create(size_t connections_max, size_t per_address_max);
void vc_limits_destroy(struct vc_limits **limits);
// Who is not counted by address: loopback, a proxy of ours. Returns: 1 or 0.
int vc_limits_exempt(const struct vc_networks *proxies, const struct vc_address *address);
// Thread: any. `is_exempt`: as vc_limits_exempt says.
// Returns: 0 counted in, 1 the address has too many, 2 all together are too many.
int vc_limits_enter(struct vc_limits *limits, const struct vc_address *address, int is_exempt);
void vc_limits_leave(struct vc_limits *limits, const struct vc_address *address, int is_exempt);
// Returns: what vc_limits_enter would say now, without counting.
int vc_limits_ask(struct vc_limits *limits, const struct vc_address *address, int is_exempt);
size_t vc_limits_count(struct vc_limits *limits);
