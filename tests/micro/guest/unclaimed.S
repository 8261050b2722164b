/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that is nobody's: all ones, writes go nowhere, and the guest goes on. */
#include "guest.inc"
#define RAM_END 0x400000
    .code32
    .globl _start
_start:
    movl $0x12345678, %eax
    movl $where, %esi
    movl $RESULT, %edi
1:  movl (%esi), %ebp
    testl %ebp, %ebp
    jz 2f
    movl %eax, (%ebp)
    movw %ax, (%ebp)
    movb %al, (%ebp)
    movl (%ebp), %ebx
    movl %ebx, (%edi)
    xorl %ebx, %ebx
    movw (%ebp), %bx
    movl %ebx, 4(%edi)
    movzbl (%ebp), %ebx
    movl %ebx, 8(%edi)
    addl $12, %edi
    addl $4, %esi
    jmp 1b
2:  movl %eax, RAM_END - 2 /* half of it is RAM */
    movl RAM_END - 2, %ebx
    movl %ebx, (%edi)
    done
    .align 4
where:
    .long MMIO_END, 0xd0001000, RAM_END, 0xfe000000, 0xfeb00003, 0
