/* SPDX-License-Identifier: Apache-2.0 */
/* tinderbox-disk as its callers see it: exit status and output. TINDERBOX_DISK names it. */
#include "scratch.h"

#include <sys/wait.h>

static char output[4096];

/* In the directory of the stack; standard error goes to the output, too. */
static int run(const struct scratch *s, const char *arguments)
{
    char command[1024];
    snprintf(command, sizeof command, "cd %s && exec \"$TINDERBOX_DISK\" %s 2>&1", s->dir,
             arguments);
    FILE *f = popen(command, "r");
    assert_non_null(f);
    output[fread(output, 1, sizeof output - 1, f)] = '\0';
    int status = pclose(f);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void shows(const char *text)
{
    if (!strstr(output, text))
        fail_msg("'%s' is not in: %s", text, output);
}

static void test_program(void **state)
{
    (void)state;
    struct scratch s;
    static unsigned char data[5 * LAYER_BLOCK], flat[sizeof data];
    char path[SCRATCH_PATH];
    scratch_begin(&s);
    memset(data, 0x77, sizeof data);
    scratch_raw(&s, data, sizeof data);
    scratch_layer(&s, 1, sizeof data);
    scratch_layer(&s, 2, sizeof data);
    struct disk *d = scratch_open(&s, 3, false);
    memset(data + 512, 0x99, 512);
    assert_int_equal(scratch_write(d, data + 512, 512, 512), 0);
    disk_close(d);

    assert_int_equal(run(&s, "info file2"), 0);
    shows("disk size:  20480 bytes");
    shows("file1 (layer)");
    assert_int_equal(run(&s, "check file2"), 0);
    shows("1 of 5 blocks");
    shows("0 errors");
    assert_int_equal(run(&s, "flatten --output flat0 layer:file2 layer:file1 raw:file0"), 0);
    int fd = open(scratch_path(&s, "flat", 0, path), O_RDONLY | O_CLOEXEC);
    assert_int_equal(read(fd, flat, sizeof flat), sizeof flat);
    close(fd);
    assert_memory_equal(flat, data, sizeof flat);

    assert_int_equal(run(&s, "flatten --output flat0 layer:file2 raw:file0"), 1);
    shows("wants a copy-on-write file");
    assert_int_equal(run(&s, "flatten --output flat0 file0"), 1);
    shows("layer:FILE or raw:FILE");
    assert_int_equal(run(&s, "flatten --output flat0 raw:missing"), 1);
    shows("missing: No such file");
    assert_int_equal(run(&s, "flatten --output /dev/full raw:file0"), 1);
    shows("/dev/full: Invalid argument");
    assert_int_equal(run(&s, "info file0"), 1);
    shows("not a copy-on-write layer");
    fd = open(scratch_path(&s, "file", 1, path), O_WRONLY | O_CLOEXEC);
    assert_int_equal(pwrite(fd, "\xff", 1, LAYER_BLOCK), 1);
    close(fd);
    assert_int_equal(run(&s, "check file1"), 1);
    shows("first error: bit 5 is set");
    assert_int_equal(run(&s, ""), 2);
    assert_int_equal(run(&s, "check"), 2);
    shows("usage:");
    scratch_end(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_program)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
