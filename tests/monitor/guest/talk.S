/* SPDX-License-Identifier: Apache-2.0 */
/* Real mode. What it does is in the byte at its end of the image (patched by the test):
 *   'c' counts: "A", "B", ... "Z", "A", ... for ever, remembering the count in memory
 *   'h' says "ok" and halts for ever with interrupts off
 *   't' says "ok" and ends in a triple fault     'r' resets through the keyboard controller
 *   'p' powers off through the ACPI sleep register
 *   's' spins without leaving the guest */
    .code16
    .globl _start
_start:
    xorw %ax, %ax
    movw %ax, %ds
    movw %ax, %ss
    movw $0x7000, %sp
    movb what, %bl
    cmpb $'c', %bl
    je count
    movb $'o', %al
    call say
    movb $'k', %al
    call say
    cmpb $'h', %bl
    je halt
    cmpb $'r', %bl
    je reset
    cmpb $'p', %bl
    je poweroff
    cmpb $'s', %bl
    je spin
    cli
    lgdt gdt_pointer
    movl %cr0, %eax
    orl $1, %eax
    movl %eax, %cr0
    ljmpl $8, $protected
    .code32
protected:
    lidt none
    ud2
    .code16
halt:
    cli
    hlt
    jmp halt
spin:
    jmp spin
reset:
    movb $0xfe, %al
    outb %al, $0x64
    jmp halt
poweroff:
    movw $0x600, %dx
    movb $0x34, %al /* SLP_TYP 5, SLP_EN */
    outb %al, %dx
    jmp halt
count:
    incl counter
    movl counter, %eax
    andl $0x3fff, %eax
    jnz count
    movl counter, %eax
    shrl $14, %eax
    xorl %edx, %edx
    movl $26, %ecx
    divl %ecx
    movb %dl, %al
    addb $'A', %al
    call say
    jmp count
say:
    movw $0x3f8, %dx
    outb %al, %dx
    ret
    .balign 8
gdt:
    .quad 0
    .quad 0x00cf9b000000ffff /* flat code */
gdt_pointer:
    .word 15
    .long gdt
    .balign 4
none:
    .word 0
    .long 0
    .balign 4
counter:
    .long 0
what:
    .byte 'c'
