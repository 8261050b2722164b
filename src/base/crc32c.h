/* SPDX-License-Identifier: Apache-2.0 */
/* CRC-32C (RFC 3720 §12.1), to tell damaged files from whole ones. Pure; any thread. */
#ifndef BASE_CRC32C_H
#define BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

#define CRC32C_START UINT32_MAX

/* crc goes from CRC32C_START through all pieces; the checksum is its complement. */
uint32_t crc32c_update(uint32_t crc, const void *p, size_t n);

#endif
