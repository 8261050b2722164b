/* SPDX-License-Identifier: Apache-2.0 */
/* Input: method line "METHOD TARGET", then "name: value" lines; the first byte chooses the service.
 * Whatever happens, a request is accepted only with the one right signature, which a fuzzer does
 * not find: acceptance of anything but the corpus' presigned example would be a finding. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "auth/sigv4.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct sigv4_credential account = {"AKIAIOSFODNN7EXAMPLE",
                                                "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"};

static const struct sigv4_credential *lookup(const char *access_key, void *arg)
{
    (void)arg;
    return strcmp(access_key, account.access_key) == 0 ? &account : NULL;
}

static struct slice cut(struct slice *s, char c)
{
    const char *at = s->n ? memchr(s->p, c, s->n) : NULL;
    size_t n = at ? (size_t)(at - s->p) : s->n;
    struct slice out = {s->p, n};
    s->p += n + (at != NULL);
    s->n -= n + (at != NULL);
    return out;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct http_header h[32];
    size_t n = 0;
    if (size < 1)
        return 0;
    struct slice rest = {(const char *)data + 1, size - 1};
    struct slice line = cut(&rest, '\n');
    struct sigv4_request q = {.method = cut(&line, ' '), .target = line, .headers = h};
    while (rest.n && n < 32) {
        line = cut(&rest, '\n');
        h[n].name = cut(&line, ':');
        h[n++].value = line;
    }
    q.n_headers = n;
    struct sigv4_result r;
    struct err e;
    int rc =
        sigv4_verify(&q, data[0] & 1 ? SIGV4_S3 : SIGV4_LAMBDA, lookup, NULL, 1369353600, &r, &e);
    if (rc < 0 && r.refusal == SIGV4_ACCEPTED)
        abort();
    return 0;
}
