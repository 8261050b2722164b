/* SPDX-License-Identifier: Apache-2.0 */
/* Random operations on stacks of one to six files, compared with a flat array. A failure is
 * repeated with the DISK_SEED that was printed. */
#include "scratch.h"

#include "disk/flatten.h"

enum { ROUNDS = 36, OPERATIONS = 600, FILES_MAX = 6, REQUEST_MAX = 160 * 1024 };
#define DISK_MAX (UINT64_C(4) << 20)

struct world {
    struct scratch s;
    struct disk *d;
    unsigned n; /* files */
    uint64_t bytes;
    unsigned char *model;   /* DISK_MAX */
    unsigned char *scratch; /* DISK_MAX */
};

/* Often at the end of the disk or around a block, where the mistakes live. */
static void pick_range(struct world *w, uint64_t *offset, uint64_t *bytes)
{
    uint64_t sectors = w->bytes / 512;
    uint64_t at = scratch_random(&w->s, sectors);
    if (scratch_random(&w->s, 4) == 0)
        at = at / 8 * 8;
    uint64_t n = 1 + scratch_random(&w->s, scratch_random(&w->s, 4) ? 24 : REQUEST_MAX / 512);
    if (at + n > sectors || scratch_random(&w->s, 16) == 0)
        n = sectors - at < REQUEST_MAX / 512 ? sectors - at : REQUEST_MAX / 512;
    *offset = at * 512;
    *bytes = n * 512;
}

/* p cut into random pieces, some empty. */
static unsigned cut(struct world *w, unsigned char *p, uint64_t bytes, struct iovec *v)
{
    unsigned n = 0, most = 1 + (unsigned)scratch_random(&w->s, DISK_IOV_MAX);
    while (n + 1 < most && bytes) {
        size_t len = (size_t)scratch_random(&w->s, bytes + 1);
        v[n++] = (struct iovec){p, len};
        p += len;
        bytes -= len;
    }
    v[n++] = (struct iovec){p, (size_t)bytes};
    return n;
}

static void fill(struct world *w, unsigned char *p, uint64_t n)
{
    for (uint64_t i = 0; i < n; i += 8) {
        uint64_t v = scratch_random(&w->s, UINT64_MAX);
        memcpy(p + i, &v, sizeof v);
    }
    if (scratch_random(&w->s, 8) == 0)
        memset(p, 0, (size_t)n);
}

static void check_all(struct world *w)
{
    memset(w->scratch, 0xee, (size_t)w->bytes);
    assert_int_equal(scratch_read(w->d, w->scratch, (size_t)w->bytes, 0), 0);
    assert_memory_equal(w->scratch, w->model, (size_t)w->bytes);
}

static void do_read(struct world *w, uint64_t offset, uint64_t bytes)
{
    struct iovec v[DISK_IOV_MAX];
    memset(w->scratch, 0xee, (size_t)bytes);
    unsigned n = cut(w, w->scratch, bytes, v);
    assert_int_equal(disk_readv(w->d, v, n, offset), 0);
    assert_memory_equal(w->scratch, w->model + offset, (size_t)bytes);
}

static void do_write(struct world *w, uint64_t offset, uint64_t bytes)
{
    struct iovec v[DISK_IOV_MAX];
    fill(w, w->scratch, bytes);
    unsigned n = cut(w, w->scratch, bytes, v);
    assert_int_equal(disk_writev(w->d, v, n, offset), 0);
    memcpy(w->model + offset, w->scratch, (size_t)bytes);
}

static void do_discard(struct world *w, uint64_t offset, uint64_t bytes)
{
    static const unsigned char zero[512];
    assert_int_equal(disk_discard(w->d, offset, bytes), 0);
    assert_int_equal(scratch_read(w->d, w->scratch, (size_t)bytes, offset), 0);
    for (uint64_t i = 0; i < bytes; i += 512)
        if (memcmp(w->scratch + i, zero, 512) != 0)
            assert_memory_equal(w->scratch + i, w->model + offset + i, 512);
    memcpy(w->model + offset, w->scratch, (size_t)bytes);
}

static void reopen(struct world *w)
{
    disk_close(w->d);
    w->d = scratch_open(&w->s, w->n, false);
    assert_int_equal(disk_bytes(w->d), w->bytes);
}

static void one_operation(struct world *w)
{
    uint64_t offset, bytes;
    pick_range(w, &offset, &bytes);
    switch (scratch_random(&w->s, 16)) {
    case 0:
        assert_int_equal(disk_write_zeroes(w->d, offset, bytes), 0);
        memset(w->model + offset, 0, (size_t)bytes);
        break;
    case 1:
        do_discard(w, offset, bytes);
        break;
    case 2:
        assert_int_equal(disk_flush(w->d), 0);
        break;
    case 3:
        if (scratch_random(&w->s, 8) == 0)
            reopen(w);
        break;
    case 4:
    case 5:
    case 6:
    case 7:
    case 8:
        do_read(w, offset, bytes);
        break;
    default:
        do_write(w, offset, bytes);
    }
}

static uint64_t pick_size(struct world *w)
{
    return (1 + scratch_random(&w->s, scratch_random(&w->s, 4) ? DISK_MAX / 512 : 20)) * 512;
}

/* What was the top is frozen; a new layer of another size goes on it. */
static void grow(struct world *w)
{
    disk_close(w->d);
    uint64_t bytes = scratch_random(&w->s, 2) ? w->bytes : pick_size(w);
    scratch_layer(&w->s, w->n++, bytes);
    if (bytes > w->bytes)
        memset(w->model + w->bytes, 0, (size_t)(bytes - w->bytes));
    w->bytes = bytes;
    w->d = scratch_open(&w->s, w->n, false);
    check_all(w);
}

/* The same while the disk stays open, as a fork does it. */
static void push(struct world *w)
{
    char path[SCRATCH_PATH];
    struct err e = {0};
    scratch_layer(&w->s, w->n, w->bytes);
    int fd = open(scratch_path(&w->s, "file", w->n, path), O_RDWR | O_CLOEXEC);
    if (disk_push(w->d, fd, &e) < 0)
        fail_msg("%s", e.text);
    w->n++;
    check_all(w);
    /* It is not empty for long, and then it cannot be put on again. */
    do_write(w, 0, 512);
    fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(disk_push(w->d, fd, &e) < 0);
    close(fd);
}

static void check_layers(const struct world *w)
{
    for (unsigned i = 1; i < w->n; i++) {
        char path[SCRATCH_PATH];
        struct layer_check c;
        int fd = open(scratch_path(&w->s, "file", i, path), O_RDONLY | O_CLOEXEC);
        assert_int_equal(layer_check(fd, &c, NULL), 0);
        close(fd);
        if (c.errors)
            fail_msg("layer %u: %s", i, c.first);
        assert_int_equal(c.leaked, 0);
    }
}

static void check_flattened(struct world *w)
{
    char path[SCRATCH_PATH];
    struct err e = {0};
    struct disk *d = scratch_open(&w->s, w->n, true);
    int fd =
        open(scratch_path(&w->s, "flat", 0, path), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (disk_flatten(d, fd, NULL, &e) < 0)
        fail_msg("%s", e.text);
    assert_int_equal(lseek(fd, 0, SEEK_END), w->bytes);
    assert_int_equal(pread(fd, w->scratch, (size_t)w->bytes, 0), w->bytes);
    assert_memory_equal(w->scratch, w->model, (size_t)w->bytes);
    close(fd);
    disk_close(d);
}

static void one_round(struct world *w, unsigned files)
{
    w->n = 1;
    w->bytes = pick_size(w);
    fill(w, w->model, w->bytes);
    scratch_raw(&w->s, w->model, (size_t)w->bytes);
    w->d = scratch_open(&w->s, 1, false);
    for (;;) {
        /* Some layers stay nearly empty: what is below them shows through. */
        uint64_t n = scratch_random(&w->s, 3) ? OPERATIONS : scratch_random(&w->s, 5);
        for (uint64_t i = 0; i < n; i++)
            one_operation(w);
        check_all(w);
        if (w->n == files)
            break;
        if (scratch_random(&w->s, 2))
            grow(w);
        else
            push(w);
    }
    disk_close(w->d);
    check_layers(w);
    check_flattened(w);
    for (unsigned i = 0; i < w->n; i++) {
        char path[SCRATCH_PATH];
        assert_int_equal(unlink(scratch_path(&w->s, "file", i, path)), 0);
    }
}

static void test_random(void **state)
{
    (void)state;
    struct world w = {.model = malloc(DISK_MAX), .scratch = malloc(DISK_MAX)};
    scratch_begin(&w.s);
    for (unsigned i = 0; i < ROUNDS; i++)
        one_round(&w, 1 + i % FILES_MAX);
    scratch_end(&w.s);
    free(w.model);
    free(w.scratch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_random)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
