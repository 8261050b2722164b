/* SPDX-License-Identifier: Apache-2.0 */
/* Runs of equal bits, word by word. Pure. */
#ifndef BASE_BITMAP_H
#define BASE_BITMAP_H

#include <stdbool.h>
#include <stdint.h>

/* How many bits from at on, below end, are equal to value. at < end. */
uint64_t bitmap_run(const uint64_t *words, uint64_t at, uint64_t end, bool value);
/* Sets or clears bits [at, end); bit 0 is the lowest of words[0]. */
void bitmap_fill(uint64_t *words, uint64_t at, uint64_t end, bool value);

#endif
