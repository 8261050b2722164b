/* SPDX-License-Identifier: Apache-2.0 */
/* An exception without an interrupt table. */
#include "guest.inc"
    .code32
    .globl _start
_start:
    lidt nothing
    ud2
    done 1
nothing:
    .word 0
    .long 0
