/* SPDX-License-Identifier: Apache-2.0 */
#include "base/crc32c.h"

static uint32_t table[256];

__attribute__((constructor)) static void make_table(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int k = 0; k < 8; k++)
            c = c >> 1 ^ (c & 1 ? 0x82f63b78u : 0);
        table[i] = c;
    }
}

uint32_t crc32c_update(uint32_t crc, const void *p, size_t n)
{
    const uint8_t *b = p;
    while (n--)
        crc = table[(crc ^ *b++) & 255] ^ crc >> 8;
    return crc;
}
