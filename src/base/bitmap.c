/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bitmap.h"

uint64_t bitmap_run(const uint64_t *words, uint64_t at, uint64_t end, bool value)
{
    uint64_t flip = value ? UINT64_MAX : 0; /* a bit that ends the run becomes 1 */
    uint64_t word = at / 64;
    uint64_t enders = (words[word] ^ flip) & (UINT64_MAX << (at % 64));
    while (!enders && ++word * 64 < end)
        enders = words[word] ^ flip;
    uint64_t stop = word * 64 + (enders ? (uint64_t)__builtin_ctzll(enders) : 0);
    return (stop < end ? stop : end) - at;
}

void bitmap_fill(uint64_t *words, uint64_t at, uint64_t end, bool value)
{
    while (at < end) {
        uint64_t n = 64 - at % 64 < end - at ? 64 - at % 64 : end - at;
        uint64_t mask = (n == 64 ? UINT64_MAX : (UINT64_C(1) << n) - 1) << (at % 64);
        words[at / 64] = value ? words[at / 64] | mask : words[at / 64] & ~mask;
        at += n;
    }
}
