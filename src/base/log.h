/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One line per event on stderr: "<RFC 3339 time> <level> <area>: <text>". Any thread. Libraries
 * log at debug only; whoever gives up on an error logs it, once. Secrets are never arguments.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "base/macros.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

void log_set_level(enum log_level level); /* default LOG_INFO; call before threads start */
void log_line(enum log_level level, const char *area, const char *fmt, ...) PRINTF(3, 4);

#define log_debug(area, ...) log_line(LOG_DEBUG, area, __VA_ARGS__)
#define log_info(area, ...) log_line(LOG_INFO, area, __VA_ARGS__)
#define log_warn(area, ...) log_line(LOG_WARN, area, __VA_ARGS__)
#define log_error(area, ...) log_line(LOG_ERROR, area, __VA_ARGS__)

#endif
