/* SPDX-License-Identifier: Apache-2.0 */
/* Real mode: port access of every width, single and repeated, at a range's end, and nowhere. */
#include "guest.inc"
    .code16
    .globl _start
_start:
    cld
    movw $PORT, %dx
    movl $0x44332211, %eax
    outb %al, %dx
    incw %dx
    outw %ax, %dx /* odd */
    addw $3, %dx
    outl %eax, %dx
    movw $PORT + 3, %dx
    xorl %eax, %eax
    inb %dx, %al
    movl %eax, RESULT
    xorl %eax, %eax
    inw %dx, %ax
    movl %eax, RESULT + 4
    inl %dx, %eax
    movl %eax, RESULT + 8

    movw $PORT + 14, %dx /* leaves the range: nobody's */
    xorl %eax, %eax
    inl %dx, %eax
    movl %eax, RESULT + 12
    outl %eax, %dx
    inw %dx, %ax /* the last two */
    movl %eax, RESULT + 16
    movw $0x200, %dx /* unclaimed */
    xorl %eax, %eax
    inb %dx, %al
    movl %eax, RESULT + 20
    outb %al, %dx
    inw %dx, %ax
    movl %eax, RESULT + 24
    inl %dx, %eax
    movl %eax, RESULT + 28

    movw $PORT, %dx
    movw $data, %si
    movw $5, %cx
    rep outsb
    movw $data, %si
    movw $5, %cx
    rep outsw
    movw $data, %si
    movw $5, %cx
    rep outsl
    movw $RESULT + 32, %di
    movw $4, %cx
    rep insb
    movw $4, %cx
    rep insw
    movw $4, %cx
    rep insl
    done
data:
    .byte 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20
