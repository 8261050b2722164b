/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "vmm/snapshot/pages.h"

#define RAM (UINT64_C(8) << 20)

static struct err e;
static int pagemap;

static int new_file(void)
{
    int fd = memfd_create("pages", MFD_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

static int base_file(void)
{
    int fd = new_file();
    uint64_t v;
    assert_int_equal(ftruncate(fd, RAM), 0);
    for (v = 1; v < RAM / GMEM_PAGE; v += 2) /* odd pages hold their number */
        assert_int_equal(pwrite(fd, &v, 8, (off_t)(v * GMEM_PAGE)), 8);
    return fd;
}

static void map(struct gmem *m, int base)
{
    assert_int_equal(gmem_reserve(m, RAM, &e), 0);
    assert_int_equal(base < 0 ? gmem_map_zero(m, false, &e) : gmem_map_file(m, base, &e), 0);
}

static uint64_t *at(struct gmem *m, uint64_t page)
{
    return (uint64_t *)(void *)(m->host + page * GMEM_PAGE);
}

static struct pages_result save(struct gmem *m, enum pages_what what, struct page_set *mapped,
                                int fd)
{
    struct page_set set;
    struct pages_result r;
    assert_int_equal(page_set_init(&set, m, &e), 0);
    assert_int_equal(pages_scan(m, pagemap, what, mapped, &set, &e), 0);
    assert_int_equal(pages_write(m, &set, fd, &r, &e), 0);
    page_set_done(&set);
    return r;
}

static void dirty(struct gmem *m)
{
    *at(m, 3) = 33; /* a short run */
    *at(m, 5) = 0;  /* a page that becomes zero (it held its number) */
    for (uint64_t i = 100; i < 140; i++)
        *at(m, i) = i * 1000; /* a long run */
    *at(m, RAM / GMEM_PAGE - 1) = 99;
    volatile uint64_t read = *at(m, 1001); /* touched, not different */
    (void)read;
}

static void check(struct gmem *m)
{
    assert_int_equal(*at(m, 1), 1);
    assert_int_equal(*at(m, 3), 33);
    assert_int_equal(*at(m, 5), 0);
    assert_int_equal(*at(m, 100), 100000);
    assert_int_equal(*at(m, 139), 139000);
    assert_int_equal(*at(m, 141), 141);
    assert_int_equal(*at(m, RAM / GMEM_PAGE - 1), 99);
}

static void test_only_what_differs(void **state)
{
    (void)state;
    struct gmem m, n;
    int base = base_file(), fd = new_file(), again = new_file();
    map(&m, base);
    dirty(&m);
    struct pages_result r = save(&m, PAGES_DIFFERENT, NULL, fd);
    assert_int_equal(r.pages, 43);
    assert_int_equal(r.bytes, 42 * GMEM_PAGE); /* the zero page is a hole */
    map(&n, base);
    struct page_set mapped;
    assert_int_equal(page_set_init(&mapped, &n, &e), 0);
    assert_int_equal(pages_load(&n, fd, &mapped, &e), 0);
    check(&n);
    assert_true(page_set_has(&mapped, 100));
    assert_false(page_set_has(&mapped, 3));
    /* What was mapped from the file is not anonymous, and must be saved again all the same. */
    *at(&n, 7) = 77;
    r = save(&n, PAGES_DIFFERENT, &mapped, again);
    assert_int_equal(r.pages, 44);
    page_set_done(&mapped);
    gmem_done(&n);
    map(&n, base);
    assert_int_equal(page_set_init(&mapped, &n, &e), 0);
    assert_int_equal(pages_load(&n, again, &mapped, &e), 0);
    check(&n);
    assert_int_equal(*at(&n, 7), 77);
    page_set_done(&mapped);
    gmem_done(&n);
    gmem_done(&m);
    close(base);
    close(fd);
    close(again);
}

static void test_all_pages_cut_to_size_are_a_memory_file(void **state)
{
    (void)state;
    struct gmem m, n;
    struct stat st;
    int fd = new_file();
    map(&m, -1);
    *at(&m, 9) = 9;
    *at(&m, 1000) = 1000;
    struct pages_result r = save(&m, PAGES_DIFFERENT, NULL, fd);
    assert_int_equal(r.bytes, 2 * GMEM_PAGE);
    assert_int_equal(ftruncate(fd, RAM), 0);
    assert_int_equal(fstat(fd, &st), 0);
    assert_true(st.st_blocks * 512 <= 4 * GMEM_PAGE);
    map(&n, fd);
    assert_int_equal(*at(&n, 9), 9);
    assert_int_equal(*at(&n, 1000), 1000);
    gmem_done(&n);
    gmem_done(&m);
    close(fd);
    /* With a base: everything, whoever it belongs to. */
    int base = base_file();
    fd = new_file();
    map(&m, base);
    dirty(&m);
    r = save(&m, PAGES_ALL, NULL, fd);
    assert_int_equal(r.pages, RAM / GMEM_PAGE);
    assert_int_equal(ftruncate(fd, RAM), 0);
    map(&n, fd);
    check(&n);
    gmem_done(&n);
    gmem_done(&m);
    close(base);
    close(fd);
}

static void test_working_set(void **state)
{
    (void)state;
    struct gmem m;
    struct page_set set;
    int base = base_file(), fd = new_file();
    map(&m, base);
    dirty(&m);
    assert_int_equal(page_set_init(&set, &m, &e), 0);
    assert_int_equal(pages_scan(&m, pagemap, PAGES_TOUCHED, NULL, &set, &e), 0);
    assert_true(page_set_has(&set, 1001));
    assert_true(page_set_has(&set, 100));
    assert_int_equal(pages_write_index(&set, m.bytes, fd, &e), 0);
    page_set_done(&set);
    gmem_done(&m);
    map(&m, base);
    assert_int_equal(pages_populate(&m, fd, &e), 0);
    assert_int_equal(page_set_init(&set, &m, &e), 0);
    assert_int_equal(pages_scan(&m, pagemap, PAGES_TOUCHED, NULL, &set, &e), 0);
    assert_true(page_set_has(&set, 1001));
    page_set_done(&set);
    gmem_done(&m);
    close(base);
    close(fd);
}

static void refuse(int fd)
{
    struct gmem m;
    struct page_set mapped;
    map(&m, -1);
    assert_int_equal(page_set_init(&mapped, &m, &e), 0);
    assert_int_equal(pages_load(&m, fd, &mapped, &e), -74);
    page_set_done(&mapped);
    gmem_done(&m);
}

static void patch(int fd, uint64_t offset, uint64_t value)
{
    assert_int_equal(pwrite(fd, &value, 8, (off_t)(RAM + offset)), 8);
}

static uint64_t run_of(uint32_t first, uint32_t pages)
{
    return first | (uint64_t)pages << 32;
}

static void test_hostile_indexes(void **state)
{
    (void)state;
    const struct {
        uint64_t offset, value;
    } cases[] = {
        {0, 0},             /* magic */
        {8, 2},             /* format and page size */
        {16, RAM * 2},      /* RAM */
        {24, 3},            /* runs */
        {24, UINT64_MAX},   /* ... */
        {32, UINT64_MAX},   /* pages */
        {40, run_of(3, 0)}, /* an empty run */
        {40, run_of(UINT32_MAX, 2)},
        {40, run_of(0, RAM / GMEM_PAGE + 1)},
        {48, run_of(0, 1)}, /* not ascending */
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct gmem m;
        int fd = new_file();
        map(&m, -1);
        *at(&m, 3) = 1;
        *at(&m, 9) = 1;
        save(&m, PAGES_DIFFERENT, NULL, fd);
        gmem_done(&m);
        patch(fd, cases[i].offset, cases[i].value);
        refuse(fd);
        close(fd);
    }
    int fd = new_file();
    refuse(fd);
    assert_int_equal(ftruncate(fd, RAM + 39), 0);
    refuse(fd);
    close(fd);
}

int main(void)
{
    pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_only_what_differs),
        cmocka_unit_test(test_all_pages_cut_to_size_are_a_memory_file),
        cmocka_unit_test(test_working_set),
        cmocka_unit_test(test_hostile_indexes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
