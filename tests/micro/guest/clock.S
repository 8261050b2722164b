/* SPDX-License-Identifier: Apache-2.0 */
/* kvmclock: the structure at CLOCK and a time stamp, at points 1 and 2. */
#include "guest.inc"
#define CLOCK 0x3800
    .code32
    .globl _start
_start:
    movl $0x4b564d01, %ecx /* MSR_KVM_SYSTEM_TIME_NEW */
    movl $CLOCK + 1, %eax
    xorl %edx, %edx
    wrmsr
    rdtsc
    movl %eax, RESULT
    movl %edx, RESULT + 4
    mark 1
    rdtsc
    movl %eax, RESULT + 8
    movl %edx, RESULT + 12
    mark 2
    done
