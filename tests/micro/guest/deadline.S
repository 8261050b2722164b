/* SPDX-License-Identifier: Apache-2.0 */
/* The APIC timer in TSC-deadline mode, armed at point 1, ends a HLT. */
#include "guest.inc"
    .code32
    .globl _start
_start:
    set_gate 0x50, on_timer
    load_idt
    enable_lapic
    movl $0x40050, LAPIC + 0x320 /* deadline mode, vector 0x50 */
    rdtsc
    addl $200000000, %eax /* some tens of milliseconds */
    adcl $0, %edx
    movl $0x6e0, %ecx
    wrmsr
    mark 1
    sti
1:  hlt
    cmpl $1, fired
    jne 1b
    done
on_timer:
    incl fired
    movl $0, LAPIC + 0xb0
    return_from_interrupt
    .align 4
fired:
    .long 0
