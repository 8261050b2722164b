/* SPDX-License-Identifier: Apache-2.0 */
/* Runs a session without a socket: input cut as the first byte says, a small echoing application,
 * every exchange must have been closed at the end. */
#ifndef FUZZ_HTTP_SESSION_DRIVER_H
#define FUZZ_HTTP_SESSION_DRIVER_H

#include <stdint.h>

#include "http/session.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
void fuzz_session(struct session *(*make)(const struct session_env *env), const uint8_t *data,
                  size_t size);

#endif
