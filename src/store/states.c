/* SPDX-License-Identifier: Apache-2.0 */
/* Names and transitions of every state, as tables. Rows of a transition table are "from", bits are
 * "to". A state is never its own successor: callers ask for a change. */
#include "store/states.h"

#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "base/macros.h"

#define TO(state) (UINT32_C(1) << (state))

static const char *const image_names[] = {
    [IMAGE_CREATING] = "CREATING",
    [IMAGE_CREATED] = "CREATED",
    [IMAGE_CREATE_FAILED] = "CREATE_FAILED",
    [IMAGE_UPDATING] = "UPDATING",
    [IMAGE_UPDATED] = "UPDATED",
    [IMAGE_UPDATE_FAILED] = "UPDATE_FAILED",
    [IMAGE_DELETING] = "DELETING",
    [IMAGE_DELETE_FAILED] = "DELETE_FAILED",
    [IMAGE_DELETED] = "DELETED",
};

static const uint32_t image_transitions[ARRAY_LEN(image_names)] = {
    [IMAGE_CREATING] = TO(IMAGE_CREATED) | TO(IMAGE_CREATE_FAILED),
    [IMAGE_CREATED] = TO(IMAGE_UPDATING) | TO(IMAGE_DELETING),
    [IMAGE_CREATE_FAILED] = TO(IMAGE_UPDATING) | TO(IMAGE_DELETING),
    [IMAGE_UPDATING] = TO(IMAGE_UPDATED) | TO(IMAGE_UPDATE_FAILED),
    [IMAGE_UPDATED] = TO(IMAGE_UPDATING) | TO(IMAGE_DELETING),
    [IMAGE_UPDATE_FAILED] = TO(IMAGE_UPDATING) | TO(IMAGE_DELETING),
    [IMAGE_DELETING] = TO(IMAGE_DELETED) | TO(IMAGE_DELETE_FAILED),
    [IMAGE_DELETE_FAILED] = TO(IMAGE_DELETING),
};

static const char *const version_names[] = {
    [VERSION_PENDING] = "PENDING",       [VERSION_IN_PROGRESS] = "IN_PROGRESS",
    [VERSION_SUCCESSFUL] = "SUCCESSFUL", [VERSION_FAILED] = "FAILED",
    [VERSION_DELETING] = "DELETING",     [VERSION_DELETE_FAILED] = "DELETE_FAILED",
    [VERSION_DELETED] = "DELETED",
};

static const uint32_t version_transitions[ARRAY_LEN(version_names)] = {
    [VERSION_PENDING] = TO(VERSION_IN_PROGRESS) | TO(VERSION_FAILED),
    [VERSION_IN_PROGRESS] = TO(VERSION_SUCCESSFUL) | TO(VERSION_FAILED),
    [VERSION_SUCCESSFUL] = TO(VERSION_DELETING),
    [VERSION_FAILED] = TO(VERSION_DELETING),
    [VERSION_DELETING] = TO(VERSION_DELETED) | TO(VERSION_DELETE_FAILED),
    [VERSION_DELETE_FAILED] = TO(VERSION_DELETING),
};

static const char *const status_names[] = {
    [VERSION_INACTIVE] = "INACTIVE",
    [VERSION_ACTIVE] = "ACTIVE",
};

static const char *const build_names[] = {
    [BUILD_PENDING] = "PENDING",
    [BUILD_IN_PROGRESS] = "IN_PROGRESS",
    [BUILD_SUCCESSFUL] = "SUCCESSFUL",
    [BUILD_FAILED] = "FAILED",
};

static const uint32_t build_transitions[ARRAY_LEN(build_names)] = {
    [BUILD_PENDING] = TO(BUILD_IN_PROGRESS) | TO(BUILD_FAILED),
    [BUILD_IN_PROGRESS] = TO(BUILD_SUCCESSFUL) | TO(BUILD_FAILED),
};

static const char *const microvm_names[] = {
    [MICROVM_PENDING] = "PENDING",         [MICROVM_RUNNING] = "RUNNING",
    [MICROVM_SUSPENDING] = "SUSPENDING",   [MICROVM_SUSPENDED] = "SUSPENDED",
    [MICROVM_TERMINATING] = "TERMINATING", [MICROVM_TERMINATED] = "TERMINATED",
};

static const uint32_t microvm_transitions[ARRAY_LEN(microvm_names)] = {
    /* SUSPENDED: a resume that a crash interrupted falls back on the state it was read from. */
    [MICROVM_PENDING] = TO(MICROVM_RUNNING) | TO(MICROVM_SUSPENDED) | TO(MICROVM_TERMINATING) |
                        TO(MICROVM_TERMINATED),
    [MICROVM_RUNNING] = TO(MICROVM_SUSPENDING) | TO(MICROVM_TERMINATING) | TO(MICROVM_TERMINATED),
    /* RUNNING: a suspend that failed without harm keeps the machine alive. */
    [MICROVM_SUSPENDING] = TO(MICROVM_SUSPENDED) | TO(MICROVM_RUNNING) | TO(MICROVM_TERMINATING) |
                           TO(MICROVM_TERMINATED),
    [MICROVM_SUSPENDED] = TO(MICROVM_PENDING) | TO(MICROVM_RUNNING) | TO(MICROVM_TERMINATING) |
                          TO(MICROVM_TERMINATED),
    [MICROVM_TERMINATING] = TO(MICROVM_TERMINATED),
};

static const char *name_of(const char *const *names, size_t n, unsigned value)
{
    assert(value < n);
    return names[value];
}

static int parse(const char *const *names, size_t n, const char *name)
{
    for (size_t i = 0; name && i < n; i++) {
        if (strcmp(names[i], name) == 0)
            return (int)i;
    }
    return -EINVAL;
}

static bool allows(const uint32_t *table, size_t n, unsigned from, unsigned to)
{
    return from < n && to < n && (table[from] & TO(to));
}

const char *image_state_name(enum image_state s)
{
    return name_of(image_names, ARRAY_LEN(image_names), s);
}

const char *version_state_name(enum version_state s)
{
    return name_of(version_names, ARRAY_LEN(version_names), s);
}

const char *version_status_name(enum version_status s)
{
    return name_of(status_names, ARRAY_LEN(status_names), s);
}

const char *build_state_name(enum build_state s)
{
    return name_of(build_names, ARRAY_LEN(build_names), s);
}

const char *microvm_state_name(enum microvm_state s)
{
    return name_of(microvm_names, ARRAY_LEN(microvm_names), s);
}

int image_state_parse(const char *name)
{
    return parse(image_names, ARRAY_LEN(image_names), name);
}

int version_state_parse(const char *name)
{
    return parse(version_names, ARRAY_LEN(version_names), name);
}

int version_status_parse(const char *name)
{
    return parse(status_names, ARRAY_LEN(status_names), name);
}

int build_state_parse(const char *name)
{
    return parse(build_names, ARRAY_LEN(build_names), name);
}

int microvm_state_parse(const char *name)
{
    return parse(microvm_names, ARRAY_LEN(microvm_names), name);
}

bool image_state_allows(enum image_state from, enum image_state to)
{
    return allows(image_transitions, ARRAY_LEN(image_transitions), from, to);
}

bool version_state_allows(enum version_state from, enum version_state to)
{
    return allows(version_transitions, ARRAY_LEN(version_transitions), from, to);
}

bool build_state_allows(enum build_state from, enum build_state to)
{
    return allows(build_transitions, ARRAY_LEN(build_transitions), from, to);
}

bool microvm_state_allows(enum microvm_state from, enum microvm_state to)
{
    return allows(microvm_transitions, ARRAY_LEN(microvm_transitions), from, to);
}
