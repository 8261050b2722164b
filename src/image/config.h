/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Image configuration in Docker's form: {"Entrypoint", "Cmd", "Env", "WorkingDir", "User",
 * "ExposedPorts", "Labels", "StopSignal", "Shell"}, members absent when unset. Pure; any thread.
 */
#ifndef IMAGE_CONFIG_H
#define IMAGE_CONFIG_H

#include <jansson.h>

#include "base/err.h"

#define CONFIG_DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define CONFIG_MAX_BYTES (256 * 1024) /* of a configuration's JSON text */

/* The shapes above and nothing else have to hold for the members named there: -EINVAL. */
int config_check(const json_t *config, struct err *e) MUST_CHECK;

/* What the container runs: Entrypoint followed by Cmd. A new array of at least one string;
 * -EINVAL when there is neither. */
int config_argv(const json_t *config, json_t **ret, struct err *e) MUST_CHECK;

const char *config_workdir(const json_t *config); /* "/" when unset */
const char *config_user(const json_t *config);    /* "" when unset: root */

/* Value of a variable in Env, or NULL. */
const char *config_env(const json_t *config, const char *name);

#endif
