/* SPDX-License-Identifier: Apache-2.0 */
/* Long mode: the registers it starts with, and accesses of 8 bytes. */
#include "guest.inc"
    .code64
    .globl _start
_start:
    cmpq $0x5151, %rsi
    jne wrong
    cmpq $0x7000, %rsp
    jne wrong
    pushq %rsi /* the stack works */
    popq %rax
    cmpq %rax, %rsi
    jne wrong
    movl $MMIO, %esi
    movabsq $0x8877665544332211, %rax
    movq %rax, 8(%rsi)
    movq %rax, 3(%rsi) /* in any alignment */
    movq 16(%rsi), %rax
    movq %rax, RESULT
    movq 5(%rsi), %rax
    movq %rax, RESULT + 8
    movl $MMIO_END, %esi
    movq %rax, -4(%rsi) /* leaves the range */
    movq -4(%rsi), %rax
    movq %rax, RESULT + 16
    done
wrong:
    done 1
