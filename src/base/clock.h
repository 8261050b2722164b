/* SPDX-License-Identifier: Apache-2.0 */
/* Time, random bytes, UUIDs. Any thread. */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stddef.h>
#include <stdint.h>

int64_t clock_real_ms(void); /* Unix epoch, milliseconds */
int64_t clock_mono_ms(void); /* CLOCK_MONOTONIC, milliseconds */
int64_t clock_mono_us(void);

void random_bytes(void *p, size_t n); /* getrandom(2); never fails once the kernel pool is up */

#define UUID_LEN 36
void uuid_new(char out[UUID_LEN + 1]); /* RFC 9562 version 4, lower case */

#endif
