/* SPDX-License-Identifier: Apache-2.0 */
/* The init of a guest that ends: END is what it does. */
#include <sys/reboot.h>
#include <unistd.h>

#define POWER_OFF 1
#define RESET 2
#define PANIC 3

int main(void)
{
    if (END == PANIC)
        return 7; /* the kernel does not survive its init */
    reboot(END == RESET ? RB_AUTOBOOT : RB_POWER_OFF);
    pause();
    return 0;
}
