/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which fields of a message go on to the other side, and in what form (RFC 9110 §7.6, RFC 9113
 * §8.2.3; spec: networking §2, §4). Pure.
 */
#ifndef PROXY_FORWARD_H
#define PROXY_FORWARD_H

#include "http/h1_response.h"
#include "http/h1_write.h"
#include "proxy/route.h"

#define FORWARD_REQUEST_ID "x-amzn-requestid"

/* Appends the HTTP/1.1 head for the application to out; *framing says how its body goes on. */
int forward_request(struct queue *out, const struct http_request *r, const struct proxy_route *t,
                    const char *request_id, struct h1_framing *framing) MUST_CHECK;

/* The fields for the client, allocated (free()), slices borrowed from r, request_id and literals.
 * marker: the client authenticated by subprotocol and must see one selected. NULL = no memory. */
struct http_header *forward_response(const struct h1_response_info *r, const char *request_id,
                                     bool marker, size_t *ret_n);

#endif
