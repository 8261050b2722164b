/* SPDX-License-Identifier: Apache-2.0 */
/* The rate of this processor's time stamp counter. */
#ifndef ENGINE_TSC_H
#define ENGINE_TSC_H

#include <stdint.h>

/* Measured once per process against CLOCK_MONOTONIC_RAW (20 ms), then remembered. 0 where the
 * processor has no such counter. Any thread. */
uint64_t tsc_khz(void);

#endif
