/* SPDX-License-Identifier: Apache-2.0 */
/* Never leaves by itself. */
#include "guest.inc"
    .code32
    .globl _start
_start:
    mark 1
1:  jmp 1b
