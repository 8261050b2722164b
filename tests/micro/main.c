/* SPDX-License-Identifier: Apache-2.0 */
/* micro NAME GUEST: runs one micro-guest. */
#include <stdio.h>
#include <string.h>

#include "harness.h"

int main(int argc, char **argv)
{
    const struct micro_test *const tables[] = {micro_io_tests, micro_cpu_tests, micro_state_tests};
    for (size_t t = 0; argc == 3 && t < ARRAY_LEN(tables); t++)
        for (const struct micro_test *test = tables[t]; test->name; test++)
            if (strcmp(test->name, argv[1]) == 0) {
                test->run(argv[2]);
                return 0;
            }
    fprintf(stderr, "usage: micro NAME GUEST\n");
    return 2;
}
