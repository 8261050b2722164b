/* SPDX-License-Identifier: Apache-2.0 */
/* A request's body as text, wherever the HTTP service has put it. Worker threads. */
#ifndef API_CALL_H
#define API_CALL_H

#include "http/service.h"

/* Moves a spooled body into h->body. -EMSGSIZE when it is larger than max, -EIO. */
int call_load_body(struct http_call *h, size_t max) MUST_CHECK;

#endif
