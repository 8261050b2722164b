/* SPDX-License-Identifier: Apache-2.0 */
/* Token buckets (rate limits of network and disk). Pure: time is a parameter, monotonic
 * nanoseconds. Single thread. */
#ifndef VMM_RATE_H
#define VMM_RATE_H

#include <stdbool.h>
#include <stdint.h>

struct rate_limit {
    uint64_t per_second; /* tokens; 0 = unlimited */
    uint64_t burst;      /* bucket size; 0 = per_second */
};

struct rate_bucket {
    struct rate_limit limit;
    uint64_t tokens, last_ns;
};

void rate_init(struct rate_bucket *b, struct rate_limit l, uint64_t now_ns);
/* Takes n tokens and returns 0, or takes none and returns the nanoseconds until that may work. A
 * request larger than the bucket passes when the bucket is full, and leaves it in debt. */
uint64_t rate_take(struct rate_bucket *b, uint64_t n, uint64_t now_ns);

#endif
