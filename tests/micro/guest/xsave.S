/* SPDX-License-Identifier: Apache-2.0 */
/* Turns on what XSAVE components there are of x87, SSE and AVX, and keeps a register's 32 or 16 bytes
 * over point 2. Ends with 2 when there is no XSAVE, with 3 when what was turned on is not on after an
 * exit. */
#include "guest.inc"
    .code32
    .globl _start
_start:
    movl $1, %eax
    cpuid
    btl $26, %ecx
    jc 1f
    done 2
1:  movl %cr4, %eax
    orl $0x40200, %eax /* OSXSAVE, OSFXSR */
    movl %eax, %cr4
    movl $0xd, %eax
    xorl %ecx, %ecx
    cpuid
    andl $7, %eax
    xorl %edx, %edx
    xorl %ecx, %ecx
    xsetbv
    movl %eax, RESULT
    movl %eax, %ebx
    mark 1
    xgetbv
    cmpl %eax, %ebx
    je 5f
    done 3
5:  testl $4, %eax
    jz 2f
    vmovups pattern, %ymm5
    jmp 3f
2:  movups pattern, %xmm5
3:  mark 2
    xorl %ecx, %ecx
    xgetbv
    movl %eax, RESULT + 4
    testl $4, %eax
    jz 4f
    vmovups %ymm5, RESULT + 0x20
    done
4:  movups %xmm5, RESULT + 0x20
    done
    .align 4
pattern:
    .long 0x03020100, 0x07060504, 0x0b0a0908, 0x0f0e0d0c
    .long 0x13121110, 0x17161514, 0x1b1a1918, 0x1f1e1d1c
