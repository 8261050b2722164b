/* SPDX-License-Identifier: Apache-2.0 */
/* An image reference: what is accepted has one normal form, which parses to itself. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "image/reference.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = strndup((const char *)data, size);
    const struct reference_alias alias = {"my/base", "debian:12"};
    const char *managed;
    struct reference r, again;
    char normal[REFERENCE_MAX + 32], twice[REFERENCE_MAX + 32];
    (void)!reference_managed(text, &alias, 1, &managed, NULL);
    if (reference_parse(text, &r, NULL) == 0) {
        reference_text(&r, normal, sizeof normal);
        if (strlen(normal) <= REFERENCE_MAX) {
            if (reference_parse(normal, &again, NULL) < 0)
                abort();
            reference_text(&again, twice, sizeof twice);
            if (strcmp(normal, twice) != 0)
                abort();
        }
    }
    free(text);
    return 0;
}
