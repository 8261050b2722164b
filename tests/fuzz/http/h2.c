/* SPDX-License-Identifier: Apache-2.0 */
#include "session_driver.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size)
        fuzz_session(h2_session_new, data, size);
    return 0;
}
