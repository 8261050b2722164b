/* SPDX-License-Identifier: Apache-2.0 */
/* A manifest from a directory we did not write. The digest would stop nearly every input, so the
 * input is also tried as the body of a document whose digest is right. */
#include <stdlib.h>
#include <string.h>

#include "base/digest.h"
#include "base/json.h"
#include "engine/manifest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void decode(const char *p, size_t n)
{
    struct manifest m, again;
    struct err e = {0};
    if (manifest_decode(p, n, &m, &e) < 0) {
        if (!e.text[0])
            abort();
        return;
    }
    struct buf out = BUF_INIT(MANIFEST_MAX);
    if (manifest_encode(&m, &out, &e) < 0 || manifest_decode(out.data, out.len, &again, &e) < 0 ||
        manifest_compare(&m, &again, &e) < 0 || m.n_files != again.n_files)
        abort(); /* what was read once can be written and read again */
    buf_done(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    decode((const char *)data, size);
    CLEANUP(cleanup_json)
    json_t *body = NULL;
    struct err e;
    if (json_parse((const char *)data, size, MANIFEST_MAX, &body, &e) < 0)
        return 0;
    char hex[SHA256_HEX_LEN + 1];
    char *text = json_dumps(body, JSON_COMPACT | JSON_SORT_KEYS);
    if (!text)
        return 0;
    sha256_hex_of(text, strlen(text), hex);
    struct buf out = BUF_INIT(0);
    if (buf_addf(&out, "{\"body\":%s,\"sha256\":\"%s\"}", text, hex) == 0)
        decode(out.data, out.len);
    buf_done(&out);
    free(text);
    return 0;
}
