/* SPDX-License-Identifier: Apache-2.0 */
/* Dialect byte, pattern, NUL, text: the work is bounded, and literal patterns match themselves. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "image/pattern.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    enum pattern_dialect dialect = data[0] & 1 ? PATTERN_IGNORE : PATTERN_COPY;
    const char *text = (const char *)data + 1;
    const char *nul = memchr(text, 0, --size);
    size_t n = nul ? (size_t)(nul - text) : size;
    struct pattern *p = NULL;
    uint64_t work = 0;
    if (pattern_compile(text, n, dialect, &p, NULL) < 0)
        return 0;
    if (nul)
        (void)pattern_match(p, nul + 1, size - n - 1, &work);
    if (work > (n + 2) * (size + 1))
        abort();
    char *self = strndup(text, n);
    if (!pattern_has_magic(self) && !pattern_match(p, self, n, NULL))
        abort();
    free(self);
    pattern_free(p);
    return 0;
}
