/* SPDX-License-Identifier: Apache-2.0 */
/* Halts with interrupts off. */
#include "guest.inc"
    .code32
    .globl _start
_start:
    cli
    mark 1
1:  hlt
    jmp 1b
