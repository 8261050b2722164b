/* SPDX-License-Identifier: Apache-2.0 */
/* Protected mode: memory-mapped accesses of 1, 2 and 4 bytes in every alignment, and over a range's
 * end. */
#include "guest.inc"
    .code32
    .globl _start
_start:
    cmpl $0xb0b0, %ebx /* as PVH asks */
    jne wrong
    movl $MMIO, %esi
1:  movl $0x44332211, %eax
    movb %al, (%esi)
    movw %ax, (%esi)
    movl %eax, (%esi)
    movb (%esi), %al
    movw (%esi), %ax
    movl (%esi), %eax
    movl %esi, %edi
    andl $3, %edi
    movl %eax, RESULT(, %edi, 4)
    incl %esi
    cmpl $MMIO + 4, %esi
    jne 1b

    movl $0x55555555, %eax
    movl %eax, MMIO_END - 3 /* leaves the range */
    movw %ax, MMIO_END - 1
    movl MMIO_END - 3, %eax
    movl %eax, RESULT + 16
    xorl %eax, %eax
    movw MMIO_END - 1, %ax
    movl %eax, RESULT + 20
    movzbl MMIO_END - 1, %eax /* the last byte */
    movl %eax, RESULT + 24
    movsbl MMIO + 1, %eax
    movl %eax, RESULT + 28
    movl $MMIO + 8, %edi
    movl $3, %ecx
    movl $0x01020304, %eax
    cld
    rep stosl
    movl $MMIO + 8, %esi
    movl $RESULT + 32, %edi
    movl $2, %ecx
    rep movsl
    done
wrong:
    done 1
