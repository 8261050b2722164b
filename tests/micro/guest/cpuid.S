/* SPDX-License-Identifier: Apache-2.0 */
/* Leaves 0, 1, 0x40000000, 0x80000001, 0xb.0 and 0xb.1, four registers each, to RESULT. */
#include "guest.inc"
    .code32
    .globl _start
_start:
    movl $RESULT, %edi
    movl $leaves, %esi
1:  movl (%esi), %eax
    movl 4(%esi), %ecx
    cpuid
    movl %eax, (%edi)
    movl %ebx, 4(%edi)
    movl %ecx, 8(%edi)
    movl %edx, 12(%edi)
    addl $16, %edi
    addl $8, %esi
    cmpl $end, %esi
    jne 1b
    done
    .align 4
leaves:
    .long 0, 0, 1, 0, 0x40000000, 0, 0x80000001, 0, 0xb, 0, 0xb, 1
end:
