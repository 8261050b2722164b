/* SPDX-License-Identifier: Apache-2.0 */
/* Keeps something in a model-specific register over point 1. */
#include "guest.inc"
    .code32
    .globl _start
_start:
    movl $0x174, %ecx /* SYSENTER_CS */
    movl $0x4321, %eax
    xorl %edx, %edx
    wrmsr
    mark 1
    rdmsr
    movl %eax, RESULT
    done
