/* SPDX-License-Identifier: Apache-2.0 */
/*
 * clientToken: the same token with the same parameters names the first call's result. Parameters
 * are compared by a digest of the validated input (keys sorted, the token left out).
 */
#ifndef API_REPLAY_H
#define API_REPLAY_H

#include "api/op.h"

/* 1: go on (new token, or none given), then call replay_settle(). 0: *resource (owned by the
 * caller) names the result of the first call, which is waited for. -EBUSY: other parameters, or
 * the first call does not end. */
int replay_claim(struct op_call *c, char **resource, struct err *e) MUST_CHECK;
/* Records the result under the call's token; NULL forgets the token, so that a failed call can be
 * repeated. */
void replay_settle(struct op_call *c, const char *resource);

#endif
