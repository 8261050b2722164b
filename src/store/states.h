/* SPDX-License-Identifier: Apache-2.0 */
/*
 * States of the service's objects and their names on the wire. The names are the API's own; the
 * database stores them as text. Pure.
 */
#ifndef STORE_STATES_H
#define STORE_STATES_H

#include <stdbool.h>

enum image_state {
    IMAGE_CREATING,
    IMAGE_CREATED,
    IMAGE_CREATE_FAILED,
    IMAGE_UPDATING,
    IMAGE_UPDATED,
    IMAGE_UPDATE_FAILED,
    IMAGE_DELETING,
    IMAGE_DELETE_FAILED,
    IMAGE_DELETED,
};

enum version_state {
    VERSION_PENDING,
    VERSION_IN_PROGRESS,
    VERSION_SUCCESSFUL,
    VERSION_FAILED,
    VERSION_DELETING,
    VERSION_DELETE_FAILED,
    VERSION_DELETED,
};

enum version_status { VERSION_INACTIVE, VERSION_ACTIVE };

enum build_state { BUILD_PENDING, BUILD_IN_PROGRESS, BUILD_SUCCESSFUL, BUILD_FAILED };

enum microvm_state {
    MICROVM_PENDING,
    MICROVM_RUNNING,
    MICROVM_SUSPENDING,
    MICROVM_SUSPENDED,
    MICROVM_TERMINATING,
    MICROVM_TERMINATED,
};

/* The wire name; never NULL for a valid value. */
const char *image_state_name(enum image_state s);
const char *version_state_name(enum version_state s);
const char *version_status_name(enum version_status s);
const char *build_state_name(enum build_state s);
const char *microvm_state_name(enum microvm_state s);

/* The value of a wire name, or -EINVAL. */
int image_state_parse(const char *name);
int version_state_parse(const char *name);
int version_status_parse(const char *name);
int build_state_parse(const char *name);
int microvm_state_parse(const char *name);

/* Whether the state may follow; a state never follows itself. */
bool image_state_allows(enum image_state from, enum image_state to);
bool version_state_allows(enum version_state from, enum version_state to);
bool build_state_allows(enum build_state from, enum build_state to);
bool microvm_state_allows(enum microvm_state from, enum microvm_state to);

#endif
