/* SPDX-License-Identifier: Apache-2.0 */
/* micro GUEST_DIRECTORY [NAME]: runs the test of that name, or each in a process of its own, as
 * TAP. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"

static const struct micro_test *const tables[] = {micro_io_tests, micro_cpu_tests,
                                                  micro_state_tests};

static void run(const char *dir, const struct micro_test *t)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s.bin", dir, t->guest ? t->guest : t->name);
    t->run(path);
}

static int run_forked(const char *dir, const struct micro_test *t)
{
    int status;
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        run(dir, t);
        exit(0);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
        return 1;
    return WEXITSTATUS(status);
}

static int run_all(const char *dir)
{
    unsigned n = 0, failed = 0;
    for (size_t i = 0; i < ARRAY_LEN(tables); i++)
        for (const struct micro_test *t = tables[i]; t->name; t++) {
            int status = run_forked(dir, t);
            bool ok = status == 0 || status == 77;
            failed += !ok;
            printf("%s %u %s %s\n", ok ? "ok" : "not ok", ++n, status == 77 ? "# SKIP" : "-",
                   t->name);
        }
    return failed != 0;
}

int main(int argc, char **argv)
{
    if (argc == 2)
        return run_all(argv[1]);
    for (size_t i = 0; argc == 3 && i < ARRAY_LEN(tables); i++)
        for (const struct micro_test *t = tables[i]; t->name; t++)
            if (strcmp(t->name, argv[2]) == 0) {
                run(argv[1], t);
                return 0;
            }
    fprintf(stderr, "usage: micro GUEST_DIRECTORY [NAME]\n");
    return 2;
}
