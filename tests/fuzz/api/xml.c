/* SPDX-License-Identifier: Apache-2.0 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "api/s3_xml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int on_key(const char *key, void *arg)
{
    size_t *total = arg;
    *total += strlen(key);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct xml_part parts[16];
    struct err e = {0};
    const char *text = (const char *)data;
    int n = xml_parse_complete(text, size, parts, 16, &e);
    if (n > 16 || (n < 0 && !e.text[0]))
        abort();
    for (int i = 0; i < n; i++)
        if (parts[i].number < 1 || parts[i].number > 10000 || !parts[i].etag[0])
            abort();
    bool quiet;
    size_t total = 0;
    if (xml_parse_delete(text, size, 1000, &quiet, on_key, &total, &e) == 0 && total > size)
        abort();
    return 0;
}
