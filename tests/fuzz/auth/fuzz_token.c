/* SPDX-License-Identifier: Apache-2.0 */
/* Token texts under a fixed key: nothing but a token made with it opens, and what opens is sane. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "auth/token.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct token_key key = {.kid = "00000000-0000-4000-8000-000000000000"};
    struct token_claims c;
    if (token_open(&key, (struct slice){(const char *)data, size}, &c) < 0)
        return 0;
    if (c.n_ports > TOKEN_PORT_RANGES_MAX || !memchr(c.microvm_id, '\0', sizeof c.microvm_id))
        abort();
    return (void)token_check(&c, "microvm-1", 80, 0), 0;
}
