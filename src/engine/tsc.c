/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CPUID leaf 0x15 is absent on many hypervisors, "cpu MHz" in /proc/cpuinfo moves with the clock,
 * and the kernel log is not for ordinary users. CLOCK_MONOTONIC_RAW, however, is the counter itself
 * times the factor the kernel calibrated: dividing the two gives the kernel's own figure back.
 */
#include "engine/tsc.h"

#include <pthread.h>
#include <time.h>

#if defined(__x86_64__)
#include <x86intrin.h>

struct sample {
    uint64_t tsc;
    int64_t ns;
    uint64_t width; /* how long taking it took: a preempted sample is wide */
};

static struct sample take_sample(void)
{
    struct sample best = {.width = UINT64_MAX};
    for (int i = 0; i < 32; i++) {
        struct timespec t;
        uint64_t a = __rdtsc();
        clock_gettime(CLOCK_MONOTONIC_RAW, &t);
        uint64_t b = __rdtsc();
        if (b - a < best.width)
            best =
                (struct sample){a + (b - a) / 2, t.tv_sec * INT64_C(1000000000) + t.tv_nsec, b - a};
    }
    return best;
}

static uint64_t measured;

static void measure(void)
{
    struct sample a = take_sample();
    struct timespec pause = {.tv_nsec = 20000000};
    nanosleep(&pause, NULL);
    struct sample b = take_sample();
    if (b.ns > a.ns)
        measured = (uint64_t)((double)(b.tsc - a.tsc) * 1e6 / (double)(b.ns - a.ns) + 0.5);
}

uint64_t tsc_khz(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, measure);
    return measured;
}
#else
uint64_t tsc_khz(void)
{
    return 0;
}
#endif
