/* SPDX-License-Identifier: Apache-2.0 */
/* The init of a guest that writes to its console as fast as it can, for ever. */
#include <string.h>
#include <unistd.h>

int main(void)
{
    static char line[8192];
    memset(line, 'x', sizeof line - 1);
    line[sizeof line - 1] = '\n';
    for (;;)
        if (write(1, line, sizeof line) < 0)
            pause();
}
