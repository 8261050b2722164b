/* SPDX-License-Identifier: Apache-2.0 */
/* The version-independent face of an exchange. */
#include "http/session.h"

void http_exchange_set(struct http_exchange *x, const struct http_exchange_ops *ops, void *ctx)
{
    x->ops = ops;
    x->ctx = ctx;
}

void http_respond(struct http_exchange *x, int status, const struct http_header *h, size_t n)
{
    x->vt->respond(x, status, h, n);
}

bool http_write(struct http_exchange *x, const char *p, size_t n)
{
    return x->vt->write(x, p, n);
}

void http_end(struct http_exchange *x, const struct http_header *trailers, size_t n)
{
    x->vt->end(x, trailers, n);
}

void http_upgrade(struct http_exchange *x, const struct http_header *h, size_t n)
{
    x->vt->upgrade(x, h, n);
}

void http_body_pause(struct http_exchange *x)
{
    x->vt->pause(x, true);
}

void http_body_resume(struct http_exchange *x)
{
    x->vt->pause(x, false);
}

void http_abort(struct http_exchange *x)
{
    x->vt->abort(x);
}
