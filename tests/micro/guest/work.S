/* SPDX-License-Identifier: Apache-2.0 */
/* A computation that depends on everything a saved machine must keep: registers, flags, control,
 * debug, SSE and model-specific registers, memory, and port and memory-mapped accesses, of which
 * the machine can be saved and restored in between. */
#include "guest.inc"
    .code32
    .globl _start
_start:
    movl %cr4, %eax
    orl $0x200, %eax /* OSFXSR */
    movl %eax, %cr4
    movaps pattern, %xmm3
    movl $0x13572468, %eax
    movl %eax, %cr2
    movl $0x1004, %eax
    movl %eax, %dr0
    movl $0x174, %ecx /* SYSENTER_CS */
    movl $0x4321, %eax
    xorl %edx, %edx
    wrmsr
    movl $0x277, %ecx /* PAT */
    movl $0x00070406, %eax
    movl $0x00070105, %edx
    wrmsr
    enable_lapic
    movl $0x50, LAPIC + 0x80 /* task priority */
    movl $0x9bdf0246, %ebp
    xorl %ecx, %ecx
    movl $RESULT, %edi
    cld
1:  movw $PORT + 4, %dx
    movl %ebp, %eax
    outl %eax, %dx
    inl %dx, %eax
    roll $7, %ebp
    adcl %eax, %ebp
    xorl %ecx, %ebp
    movl %ebp, MMIO + 0x10
    movzwl MMIO + 0x21, %ebx
    leal (%ebp, %ebx, 8), %ebp
    movl %ebp, %eax
    stosl
    pushf
    popl %eax
    andl $0xfff, %eax
    xorl %eax, %ebp
    incl %ecx
    cmpl $16, %ecx
    jne 1b

    movw $PORT, %dx /* repeated accesses are cut anywhere */
    movl $RESULT, %esi
    movl $12, %ecx
    rep outsb
    movl $8, %ecx
    rep insw

    movl %cr2, %eax
    stosl
    movl %dr0, %eax
    stosl
    movl %cr4, %eax
    stosl
    movl $0x174, %ecx
    rdmsr
    stosl
    movl $0x277, %ecx
    rdmsr
    stosl
    movl %edx, %eax
    stosl
    movl LAPIC + 0x80, %eax
    stosl
    movl LAPIC + 0xf0, %eax
    stosl
    movaps %xmm3, RESULT + 0x100
    movl %esp, %eax
    stosl
    done
    .align 16
pattern:
    .long 0x01234567, 0x89abcdef, 0xfedcba98, 0x76543210
