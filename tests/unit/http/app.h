/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small application for the tests: /info (the request as seen), /echo, /sink, /size/N, /hints
 * (103), /early (403 at once), /short (less than announced), /status/N, /hang, and for upgrades a
 * raw echo that says "hello " first.
 */
#ifndef TESTS_HTTP_APP_H
#define TESTS_HTTP_APP_H

#include <stdatomic.h>

#include "http/server.h"

extern const struct http_handler app;
extern atomic_uint app_opened; /* exchanges that began */
extern atomic_uint app_closed; /* exchanges that ended */

/* Waits for every exchange to have been closed: none may leak or hang. */
void app_all_closed(void);

#endif
