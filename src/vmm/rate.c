/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/rate.h"

#include "base/macros.h"

#define SECOND_NS UINT64_C(1000000000)

/* A product of two 64-bit numbers: any limit and any span are allowed. */
__extension__ typedef unsigned __int128 wide;

static uint64_t bucket_size(const struct rate_bucket *b)
{
    return b->limit.burst ? b->limit.burst : b->limit.per_second;
}

/* Rounded up, so that waiting that long is enough. */
static uint64_t ns_for(const struct rate_bucket *b, uint64_t tokens)
{
    wide ns = ((wide)tokens * SECOND_NS + b->limit.per_second - 1) / b->limit.per_second;
    return ns > UINT64_MAX ? UINT64_MAX : (uint64_t)ns;
}

static uint64_t add_saturated(uint64_t a, uint64_t b)
{
    uint64_t sum;
    return ckd_add(&sum, a, b) ? UINT64_MAX : sum;
}

/* last_ns moves only by what the tokens added are worth: fractions are not lost to frequent calls.
 */
static void refill(struct rate_bucket *b, uint64_t now_ns)
{
    if (now_ns <= b->last_ns)
        return;
    wide gained = (wide)(now_ns - b->last_ns) * b->limit.per_second / SECOND_NS;
    if (gained >= bucket_size(b) - b->tokens) {
        b->tokens = bucket_size(b);
        b->last_ns = now_ns;
        return;
    }
    b->tokens += (uint64_t)gained;
    b->last_ns += ns_for(b, (uint64_t)gained);
}

void rate_init(struct rate_bucket *b, struct rate_limit l, uint64_t now_ns)
{
    *b = (struct rate_bucket){.limit = l, .last_ns = now_ns};
    b->tokens = bucket_size(b);
}

uint64_t rate_take(struct rate_bucket *b, uint64_t n, uint64_t now_ns)
{
    if (!b->limit.per_second)
        return 0;
    refill(b, now_ns);
    uint64_t needed = n < bucket_size(b) ? n : bucket_size(b);
    if (b->tokens < needed) {
        uint64_t until = add_saturated(b->last_ns, ns_for(b, needed - b->tokens));
        return until > now_ns ? until - now_ns : 1;
    }
    if (b->tokens >= n) {
        b->tokens -= n;
        return 0;
    }
    /* Debt is an empty bucket that begins to fill only when the debt is paid. */
    b->last_ns = add_saturated(now_ns, ns_for(b, n - b->tokens));
    b->tokens = 0;
    return 0;
}
