/* SPDX-License-Identifier: Apache-2.0 */
/* Endpoint tokens from the API, for the verbs curl, run and token. */
#ifndef CLI_TOKEN_H
#define CLI_TOKEN_H

#include "cli/cli.h"

#define TOKEN_MAX 8192
#define DEFAULT_PORT 8080 /* where traffic without x-aws-proxy-port goes */

/* CreateMicrovmAuthToken for these ports ("5000" or "8000-8010"); none = all ports. */
int token_create(struct cli *c, const char *id, const struct option_list *ports, long minutes,
                 char out[TOKEN_MAX], struct err *e) MUST_CHECK;
/* "N" or "N-M" (pure, for tests). */
int token_parse_ports(const char *text, long *first, long *last, struct err *e) MUST_CHECK;

#endif
