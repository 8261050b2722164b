/* SPDX-License-Identifier: Apache-2.0 */
/* Queue notifications: only the right value in the right width is the descriptor's. */
#include "guest.inc"
    .code32
    .globl _start
_start:
    movl $3, %eax
    movl %eax, MMIO + 0x50
    movl %eax, MMIO + 0x50
    movw %ax, MMIO + 0x50
    movl %eax, MMIO + 0x54
    incl %eax
    movl %eax, MMIO + 0x50
    done
