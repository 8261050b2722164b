/* SPDX-License-Identifier: Apache-2.0 */
/* Names a client sends: ARNs, connectors, versions, patterns, page tokens. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "api/arn.h"
#include "api/page.h"
#include "api/patterns.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct pattern *const PATTERNS[] = {
        &PATTERN_NO_SPACE,   &PATTERN_NAME, &PATTERN_ROLE_ARN, &PATTERN_LOG_GROUP,
        &PATTERN_LOG_STREAM, &PATTERN_TAG,  &PATTERN_TAGGABLE};
    static const unsigned char KEY[PAGE_KEY_LEN] = {0};
    char *text = malloc(size + 1);
    if (!text)
        abort();
    memcpy(text, data, size);
    text[size] = '\0';
    char name[IMAGE_NAME_MAX + 1];
    enum connector c;
    struct page_cursor cursor;
    struct err e = {0};
    if (arn_image(text, "000000000000", name, &e) == 0 && !PATTERN_NAME.matches(name))
        abort();
    if (arn_managed_image(text, name, &e) == 0 && !PATTERN_NAME.matches(name))
        abort();
    if (arn_connector(text, true, &c, &e) == 0 && c == CONNECTOR_INTERNET_EGRESS)
        abort();
    if (version_parse(text) == 0)
        abort();
    for (size_t i = 0; i < ARRAY_LEN(PATTERNS); i++)
        if (PATTERNS[i]->matches(text) && i == 0 && !*text)
            abort();
    if (page_token_open(KEY, "scope", text, &cursor, &e) == 0 &&
        strlen(cursor.key) > PAGE_CURSOR_KEY_MAX)
        abort();
    free(text);
    return 0;
}
