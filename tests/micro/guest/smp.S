/* SPDX-License-Identifier: Apache-2.0 */
/* vCPU 0 starts vCPU 1, which adds to a counter until vCPU 0 has seen it move twice. */
#include "guest.inc"
#define COUNTER RESULT
#define AP_ID RESULT + 4
    .code32
    .globl _start
_start:
    enable_lapic
    mark 1 /* vCPU 1 waits for INIT */
    movl $1 << 24, LAPIC + 0x310
    movl $0x4500, LAPIC + 0x300 /* INIT */
    mark 2 /* vCPU 1 waits for SIPI */
    movl $1 << 24, LAPIC + 0x310
    movl $0x4602, LAPIC + 0x300 /* SIPI: start at 0x2000 */
    call wait
    mark 3 /* both run */
    call wait
    done

wait: /* until the counter moves */
    movl COUNTER, %eax
1:  pause
    cmpl %eax, COUNTER
    je 1b
    ret

    .org 0x1000
    .code16
ap:
    movl $1, %eax
    cpuid
    shrl $24, %ebx
    xorw %ax, %ax
    movw %ax, %ds
    movl %ebx, AP_ID
1:  lock incl COUNTER
    pause
    jmp 1b
