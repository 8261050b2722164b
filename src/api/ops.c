/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The operations table: the MicroVM API (2025-09-09), the tag operations it shares with Lambda
 * (2017-03-31), the connector API's paths, and our extensions. Every row's input shape is walked by
 * a test.
 */
#include <string.h>

#include "api/op.h"
#include "api/route.h"

#define IMAGES "/2025-09-09/microvm-images"
#define IMAGE IMAGES "/{imageIdentifier}"
#define VERSION IMAGE "/versions/{imageVersion}"
#define MANAGED "/2025-09-09/managed-microvm-images"
#define VMS "/2025-09-09/microvms"
#define VM VMS "/{microvmIdentifier}"
#define TAGS "/2017-03-31/tags/{Resource}"
#define CORE "/2026-04-04/network-connectors"
#define EXT "/tinderbox/v1"

const struct operation OPERATIONS[] = {
    {"CreateMicrovmImage", "POST", IMAGES, 201, IN_CREATE_IMAGE, op_create_image, false},
    {"ListMicrovmImages", "GET", IMAGES, 200, IN_LIST_IMAGES, op_list_images, false},
    {"GetMicrovmImage", "GET", IMAGE, 200, IN_IMAGE, op_get_image, false},
    {"UpdateMicrovmImage", "PUT", IMAGE, 200, IN_UPDATE_IMAGE, op_update_image, false},
    {"DeleteMicrovmImage", "DELETE", IMAGE, 200, IN_IMAGE, op_delete_image, false},
    {"ListMicrovmImageVersions", "GET", IMAGE "/versions", 200, IN_LIST_VERSIONS, op_list_versions,
     false},
    {"GetMicrovmImageVersion", "GET", VERSION, 200, IN_VERSION, op_get_version, false},
    {"UpdateMicrovmImageVersion", "PATCH", VERSION, 200, IN_UPDATE_VERSION, op_update_version,
     false},
    {"DeleteMicrovmImageVersion", "DELETE", VERSION, 200, IN_VERSION, op_delete_version, false},
    {"ListMicrovmImageBuilds", "GET", VERSION "/builds", 200, IN_LIST_BUILDS, op_list_builds,
     false},
    {"GetMicrovmImageBuild", "GET", VERSION "/builds/{buildId}", 200, IN_BUILD, op_get_build,
     false},
    {"ListManagedMicrovmImages", "GET", MANAGED, 200, IN_LIST_MANAGED, op_list_managed, false},
    {"ListManagedMicrovmImageVersions", "GET", MANAGED "/{imageIdentifier}/versions", 200,
     IN_LIST_VERSIONS, op_list_managed_versions, false},

    {"RunMicrovm", "POST", VMS, 200, IN_RUN, op_run_microvm, true},
    {"ListMicrovms", "GET", VMS, 200, IN_LIST_MICROVMS, op_list_microvms, false},
    {"GetMicrovm", "GET", VM, 200, IN_MICROVM, op_get_microvm, false},
    {"TerminateMicrovm", "DELETE", VM, 200, IN_MICROVM, op_terminate_microvm, false},
    {"SuspendMicrovm", "POST", VM "/suspend", 200, IN_MICROVM, op_suspend_microvm, false},
    {"ResumeMicrovm", "POST", VM "/resume", 200, IN_MICROVM, op_resume_microvm, false},
    {"CreateMicrovmAuthToken", "POST", VM "/auth-token", 200, IN_AUTH_TOKEN, op_create_token,
     false},
    {"CreateMicrovmShellAuthToken", "POST", VM "/shell-auth-token", 200, IN_SHELL_TOKEN,
     op_create_shell_token, false},

    {"ListTags", "GET", TAGS, 200, IN_RESOURCE, op_list_tags, false},
    {"TagResource", "POST", TAGS, 204, IN_TAG, op_tag_resource, false},
    {"UntagResource", "DELETE", TAGS, 204, IN_UNTAG, op_untag_resource, false},

    {"CreateNetworkConnector", "POST", CORE, 202, IN_NONE, op_connectors, false},
    {"ListNetworkConnectors", "GET", CORE, 200, IN_NONE, op_connectors, false},
    {"GetNetworkConnector", "GET", CORE "/{Identifier}", 200, IN_NONE, op_connectors, false},
    {"UpdateNetworkConnector", "PUT", CORE "/{Identifier}", 202, IN_NONE, op_connectors, false},
    {"DeleteNetworkConnector", "DELETE", CORE "/{Identifier}", 202, IN_NONE, op_connectors, false},

    {"TinderboxStatus", "GET", EXT "/status", 200, IN_NONE, op_status, false},
    {"TinderboxLogs", "GET", EXT "/logs/{kind}/{key}", 200, IN_LOGS, op_logs, false},
    {"TinderboxExec", "POST", EXT "/microvms/{microvmIdentifier}/exec", 200, IN_EXEC, op_exec,
     false},
    {"TinderboxGetFiles", "GET", EXT "/microvms/{microvmIdentifier}/files", 200, IN_GET_FILES,
     op_files_get, false},
    {"TinderboxPutFiles", "PUT", EXT "/microvms/{microvmIdentifier}/files", 204, IN_PUT_FILES,
     op_files_put, false},
    {"TinderboxStats", "GET", EXT "/microvms/{microvmIdentifier}/stats", 200, IN_MICROVM, op_stats,
     false},
};
const size_t N_OPERATIONS = ARRAY_LEN(OPERATIONS);

const struct operation *operation_find(const char *method, const char *target, json_t *params,
                                       bool *bad)
{
    *bad = false;
    for (size_t i = 0; i < N_OPERATIONS; i++) {
        if (strcmp(OPERATIONS[i].method, method) != 0)
            continue;
        json_object_clear(params);
        int r = route_match(OPERATIONS[i].path, target, params);
        if (r == 1)
            return &OPERATIONS[i];
        if (r < 0)
            *bad = true;
    }
    return NULL;
}
