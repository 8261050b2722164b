/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/kvm_probe.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"

#define TURNS 20000000U
#define CODE_AT 0x1000
#define MEMORY 0x4000

/* Real mode: mov ecx, TURNS; 1: dec ecx; jnz 1b; hlt */
static const unsigned char CODE[] = {
    0x66, 0xb9, TURNS & 255, TURNS >> 8 & 255, TURNS >> 16 & 255, TURNS >> 24, 0x66, 0x49,
    0x75, 0xfc, 0xf4};

static bool has_cpu_flag(void)
{
    FILE *f = fopen("/proc/cpuinfo", "re");
    char line[8192];
    bool yes = false;
    while (f && !yes && fgets(line, sizeof line, f))
        yes = strncmp(line, "flags", 5) == 0 && (strstr(line, " vmx ") || strstr(line, " svm "));
    if (f)
        fclose(f);
    return yes;
}

static int set_registers(int vcpu)
{
    struct kvm_sregs s;
    struct kvm_regs r = {.rip = CODE_AT, .rflags = 2, .rsp = MEMORY};
    if (ioctl(vcpu, KVM_GET_SREGS, &s) < 0)
        return -errno;
    s.cs.base = 0;
    s.cs.selector = 0;
    if (ioctl(vcpu, KVM_SET_SREGS, &s) < 0 || ioctl(vcpu, KVM_SET_REGS, &r) < 0)
        return -errno;
    return 0;
}

/* KVM API §4.2 CREATE_VM, §4.35 SET_USER_MEMORY_REGION, §4.7 CREATE_VCPU, §4.10 RUN. Microseconds
 * until HLT, or -errno. */
static int64_t run_micro_guest(int kvm)
{
    int vm = ioctl(kvm, KVM_CREATE_VM, 0);
    int size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    char *memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (vm < 0 || size < (int)sizeof(struct kvm_run) || memory == MAP_FAILED)
        return -EIO;
    memcpy(memory + CODE_AT, CODE, sizeof CODE);
    struct kvm_userspace_memory_region slot = {.memory_size = MEMORY,
                                               .userspace_addr = (uintptr_t)memory};
    if (ioctl(vm, KVM_SET_USER_MEMORY_REGION, &slot) < 0)
        return -errno;
    int vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
    if (vcpu < 0)
        return -errno;
    struct kvm_run *run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
    int r = run == MAP_FAILED ? -errno : set_registers(vcpu);
    if (r < 0)
        return r;
    int64_t start = clock_mono_us();
    do
        r = ioctl(vcpu, KVM_RUN, 0);
    while (r < 0 && errno == EINTR);
    if (r < 0)
        return -errno;
    return run->exit_reason == KVM_EXIT_HLT ? clock_mono_us() - start : -EPROTO;
}

/* The child may hang in KVM_RUN or die in it; what it found comes through a pipe. */
static int64_t run_bounded(int kvm)
{
    int result[2];
    int64_t us = -ETIMEDOUT;
    if (pipe2(result, O_CLOEXEC) < 0)
        return -errno;
    pid_t pid = fork();
    if (pid == 0) {
        us = run_micro_guest(kvm);
        _exit(write(result[1], &us, sizeof us) == sizeof us ? 0 : 1);
    }
    close(result[1]);
    struct pollfd p = {.fd = result[0], .events = POLLIN};
    if (pid < 0)
        us = -EAGAIN;
    else if (poll(&p, 1, KVM_PROBE_LIMIT_MS) == 1 && read(result[0], &us, sizeof us) != sizeof us)
        us = -EIO;
    close(result[0]);
    if (pid > 0) {
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
    }
    return us;
}

static void describe(struct kvm_probe *p, int64_t us)
{
    if (us == -ETIMEDOUT)
        snprintf(p->text, sizeof p->text,
                 "/dev/kvm opens, but a loop of %u turns did not end within %d ms in it: there is "
                 "no hardware behind it",
                 TURNS, KVM_PROBE_LIMIT_MS);
    else if (us < 0)
        snprintf(p->text, sizeof p->text, "/dev/kvm opens, but a micro-guest cannot run in it: %s",
                 strerror((int)-us));
    else
        snprintf(p->text, sizeof p->text, "/dev/kvm runs %.0f million loop turns a second: %s",
                 (double)p->rate / 1e6,
                 p->real        ? "hardware virtualization works"
                 : !p->cpu_flag ? "but the CPU has neither vmx nor svm, kernels are emulated"
                                : "that is emulation, there is no hardware behind it");
}

void kvm_probe(struct kvm_probe *ret)
{
    *ret = (struct kvm_probe){.cpu_flag = has_cpu_flag()};
    int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    ret->opens = kvm >= 0;
    ret->present = ret->opens || errno != ENOENT;
    if (kvm < 0) {
        snprintf(ret->text, sizeof ret->text, "/dev/kvm: %s", strerror(errno));
        return;
    }
    int64_t us = run_bounded(kvm);
    close(kvm);
    ret->ran = us > 0;
    if (ret->ran)
        ret->rate = (uint64_t)TURNS * 1000000 / (uint64_t)us;
    /* A fast loop alone does not prove it: user-mode code may run natively where the guest's
     * kernel code is emulated. */
    ret->real = ret->ran && ret->rate >= KVM_PROBE_REAL_RATE && ret->cpu_flag;
    describe(ret, us);
}
