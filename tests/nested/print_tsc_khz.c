/* SPDX-License-Identifier: Apache-2.0 */
/* Prints the rate of this machine's time stamp counter, which the outer guest is told. */
#include <inttypes.h>
#include <stdio.h>

#include "engine/tsc.h"

int main(void)
{
    printf("%" PRIu64 "\n", tsc_khz());
    return tsc_khz() ? 0 : 1;
}
