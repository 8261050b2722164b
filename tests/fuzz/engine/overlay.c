/* SPDX-License-Identifier: Apache-2.0 */
/* The header of an overlay whose monitor was taken over. The key is fixed, so that corpus files can
 * carry a code that holds. */
#include <stdlib.h>
#include <string.h>

#include "engine/overlay.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct overlay_key key = {"0123456789abcdef0123456789abcde"};
    struct overlay_info info;
    struct err e = {0};
    if (overlay_decode(data, size, &key, &info, &e) < 0) {
        if (!e.text[0])
            abort();
        return 0;
    }
    if (info.base[0] != '/' || strlen(info.base) > OVERLAY_PATH_MAX)
        abort();
    return 0;
}
