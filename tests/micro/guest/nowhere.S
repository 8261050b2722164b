/* SPDX-License-Identifier: Apache-2.0 */
/* Jumps to where there is no memory. */
#include "guest.inc"
    .code32
    .globl _start
_start:
    movl $MMIO + 0x1000, %eax
    jmp *%eax
