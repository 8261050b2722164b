/* SPDX-License-Identifier: Apache-2.0 */
/* Model-specific registers: firmware's values, and #GP for those that are not there. */
#include "guest.inc"
    .code32
    .globl _start
_start:
    set_gate 13, on_gp
    load_idt
    movl $0x1b, %ecx /* APIC base */
    rdmsr
    movl %eax, RESULT
    movl $0x2ff, %ecx /* default memory type */
    rdmsr
    movl %eax, RESULT + 4
    movl $0x277, %ecx /* PAT */
    rdmsr
    movl %eax, RESULT + 8
    movl $0x176, %ecx /* SYSENTER_EIP keeps what is written */
    movl $0x1234, %eax
    xorl %edx, %edx
    wrmsr
    xorl %eax, %eax
    rdmsr
    movl %eax, RESULT + 12
    movl $0xdeadbeef, %ecx
    rdmsr
    movl faults, %eax
    movl %eax, RESULT + 16 /* 1 */
    movl $0xdeadbeef, %ecx
    xorl %eax, %eax
    wrmsr
    movl faults, %eax
    movl %eax, RESULT + 20 /* 2 */
    movl $0x480, %ecx /* VMX, which no guest has */
    rdmsr
    movl faults, %eax
    movl %eax, RESULT + 24 /* 3 */
    done
on_gp:
    incl faults
    addl $2, 4(%esp) /* past rdmsr or wrmsr */
    addl $4, %esp /* the error code */
    return_from_interrupt
    .align 4
faults:
    .long 0
