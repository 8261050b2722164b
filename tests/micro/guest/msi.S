/* SPDX-License-Identifier: Apache-2.0 */
/* Interrupts: one that was pending before interrupts are enabled, one that ends a HLT. */
#include "guest.inc"
    .code32
    .globl _start
_start:
    set_gate 0x40, on_first
    set_gate 0x41, on_second
    load_idt
    enable_lapic
    mark 1
    nop
    cmpl $0, seen
    jne wrong
    sti
1:  pause
    cmpl $1, seen
    jne 1b
    mark 2
2:  cli /* or it could come before the HLT that waits for it */
    cmpl $3, seen
    je 3f
    sti
    hlt
    jmp 2b
3:  done
wrong:
    done 1
on_first:
    orl $1, seen
    movl $0, LAPIC + 0xb0
    return_from_interrupt
on_second:
    orl $2, seen
    movl $0, LAPIC + 0xb0
    return_from_interrupt
    .align 4
seen:
    .long 0
