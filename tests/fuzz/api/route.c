/* SPDX-License-Identifier: Apache-2.0 */
/* A request target against templates, and its query. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "api/route.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const TEMPLATES[] = {
        "/2025-09-09/microvms",
        "/2025-09-09/microvms/{microvmIdentifier}/suspend",
        "/2025-09-09/microvm-images/{imageIdentifier}/versions/{imageVersion}/builds/{buildId}",
        "/2017-03-31/tags/{Resource}",
    };
    char *target = malloc(size + 1);
    if (!target)
        abort();
    memcpy(target, data, size);
    target[size] = '\0';
    for (size_t i = 0; i < ARRAY_LEN(TEMPLATES); i++) {
        CLEANUP(cleanup_json)
        json_t *params = json_object();
        int r = route_match(TEMPLATES[i], target, params);
        if (r == 1 && strchr(TEMPLATES[i], '{') && json_object_size(params) == 0)
            abort();
    }
    CLEANUP(cleanup_json)
    json_t *query = json_object();
    struct err e = {0};
    int r = route_query(target, query, &e);
    if ((r < 0) != (e.code != 0) || json_object_size(query) > ROUTE_QUERY_MAX)
        abort();
    free(target);
    return 0;
}
