/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "engine/qemu/args.h"

static struct overlay_chain disks[2];
static const bool read_only[2] = {false, true};

static struct qemu_args sample(void)
{
    static char one[] = "/m1/disk.qcow2", base[] = "/img/base,1.raw", two[] = "/img/context.raw";
    disks[0] = (struct overlay_chain){
        .node = {{one, ENGINE_DISK_OVERLAY}, {base, ENGINE_DISK_RAW}}, .n = 2, .bytes = 1 << 20};
    disks[1] = (struct overlay_chain){.node = {{two, ENGINE_DISK_RAW}}, .n = 1, .bytes = 4096};
    return (struct qemu_args){.program = "/usr/bin/qemu",
                              .memory_mib = 512,
                              .vcpus = 2,
                              .memory = QEMU_MEMORY_SHARED,
                              .memory_file = "/m1/memory",
                              .kernel = "/k/vmlinux",
                              .initramfs = "/k/initramfs",
                              .tsc_khz = 2300000,
                              .network = true,
                              .sandboxed = true,
                              .disks = disks,
                              .disk_read_only = read_only,
                              .n_disks = 2};
}

static char *line_of(const struct qemu_args *q)
{
    struct argv a = {0};
    struct buf b = BUF_INIT(0);
    struct err e;
    qemu_args_build(&a, q);
    const char *const *v = argv_end(&a, &e);
    assert_non_null(v);
    for (size_t i = 0; v[i]; i++)
        assert_int_equal(buf_addf(&b, "%s%s", i ? " " : "", v[i]), 0);
    argv_done(&a);
    return buf_take(&b);
}

struct expect {
    const char *text;
    bool boot, restore, resume;
};

/* Every word here stands for a measured pitfall or a boundary. */
static const struct expect expects[] = {
    {"tsc_early_khz=2300000 tsc=reliable no_timer_check lpj=9200000 mitigations=off", true, false,
     false},
    {"-kernel /m/kernel -initrd /m/initramfs", true, false, false},
    {"-incoming defer", false, true, true},
    {"share=on,mem-path=/m/memory", true, false, false},
    {"share=off,mem-path=/m/memory", false, true, false},
    {"memory-backend-ram,id=ram,size=512M", false, false, true},
    {"--bind /m1/memory /m/memory", true, false, false},
    {"--ro-bind /m1/memory /m/memory", false, true, false},
    {"--ro-bind-data 9 /m/preload.so", false, true, false},
    {"--bind /m1/disk.qcow2 /m/disk0.0", true, true, true},
    {"--ro-bind /img/base,1.raw /m/disk0.1", true, true, true},
    {"--ro-bind /img/context.raw /m/disk1.0", true, true, true},
    {"--unshare-net", true, true, true},
    {"--unshare-user", true, true, true},
    {"--unshare-pid", true, true, true},
    {"--die-with-parent", true, true, true},
    {"--new-session", true, true, true},
    {"--cap-drop ALL", true, true, true},
    {"-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny", true, true,
     true},
    {"driver=raw,node-name=d0-1,read-only=on,discard=unmap,file=f0-1", true, true, true},
    {"driver=qcow2,node-name=d0-0,read-only=off,discard=unmap,file=f0-0,backing=d0-1", true, true,
     true},
    {"virtio-blk-device,id=disk0,drive=d0-0", true, true, true},
    {"virtio-blk-device,id=disk1,drive=d1-0", true, true, true},
    {"name=tinderbox.agent", true, true, true},
    {"-nodefaults -no-user-config -display none -no-reboot", true, true, true},
    {"-smp 2", true, true, true},
    {"tb-size=", true, true, true},
    {"stream,id=net,server=off,addr.type=fd,addr.str=6", true, true, true},
    {"-netdev user", false, false, false},
    {"hostfwd", false, false, false},
};

static void check(const struct qemu_args *q, const char *what, size_t i, bool want)
{
    char *line = line_of(q);
    bool have = strstr(line, expects[i].text) != NULL;
    if (have != want)
        fail_msg("%s: '%s' is %s", what, expects[i].text, have ? "there" : "missing");
    free(line);
}

static void test_table(void **state)
{
    (void)state;
    struct qemu_args boot = sample(), restore = sample(), resume = sample();
    restore.incoming = resume.incoming = true;
    restore.memory = QEMU_MEMORY_PRIVATE;
    resume.memory = QEMU_MEMORY_ANON;
    for (size_t i = 0; i < ARRAY_LEN(expects); i++) {
        check(&boot, "boot", i, expects[i].boot);
        check(&restore, "restore", i, expects[i].restore);
        check(&resume, "resume", i, expects[i].resume);
    }
}

static void test_without_sandbox(void **state)
{
    (void)state;
    struct qemu_args q = sample();
    q.sandboxed = false;
    char *line = line_of(&q);
    assert_null(strstr(line, "bwrap"));
    assert_null(strstr(line, "/m/"));
    assert_int_equal(strncmp(line, "/usr/bin/qemu ", 14), 0);
    /* a comma in a name is data */
    assert_non_null(strstr(line, "filename=/img/base,,1.raw"));
    free(line);
}

static void test_no_network(void **state)
{
    (void)state;
    struct qemu_args q = sample();
    q.network = false;
    char *line = line_of(&q);
    assert_null(strstr(line, "-netdev"));
    assert_null(strstr(line, "virtio-net"));
    free(line);
}

static void digest(const struct qemu_args *q, char out[SHA256_HEX_LEN + 1])
{
    struct err e;
    assert_int_equal(qemu_args_machine_digest(q, out, &e), 0);
}

/* Same for boot and restore whatever the files are called; another as soon as the guest would see a
 * difference. */
static void test_digest(void **state)
{
    (void)state;
    struct qemu_args q = sample();
    char first[SHA256_HEX_LEN + 1], other[SHA256_HEX_LEN + 1];
    digest(&q, first);
    q.incoming = true;
    q.memory = QEMU_MEMORY_ANON;
    q.kernel = "/other";
    q.sandboxed = false;
    disks[0].n = 1;
    disks[0].node[0].format = ENGINE_DISK_RAW;
    digest(&q, other);
    assert_string_equal(first, other);
    for (int i = 0; i < 4; i++) {
        q = sample();
        if (i == 0)
            q.vcpus = 1;
        else if (i == 1)
            q.memory_mib = 1024;
        else if (i == 2)
            q.network = false;
        else
            q.n_disks = 1;
        digest(&q, other);
        assert_string_not_equal(first, other);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_without_sandbox),
        cmocka_unit_test(test_no_network),
        cmocka_unit_test(test_digest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
