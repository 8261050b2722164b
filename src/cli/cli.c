/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command line of Tinderbox. Theory of operation: main() finds the verb's row, parses its
 * options with the table, and calls it. A verb talks to the daemon as any other client does: signed
 * requests of the AWS API and of our extensions, with the addresses and the credential the daemon
 * keeps below its home. Results go to stdout; progress, hints and errors to stderr.
 */
#include "cli/cli.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

const struct verb *const cli_verbs[] = {
    &verb_doctor, &verb_up,    &verb_down,    &verb_status, &verb_env,  &verb_build,
    &verb_images, &verb_run,   &verb_ps,      &verb_logs,   &verb_exec, &verb_cp,
    &verb_curl,   &verb_token, &verb_suspend, &verb_resume, &verb_rm,
};
const size_t cli_n_verbs = ARRAY_LEN(cli_verbs);

const struct option_row cli_common_options[] = {
    {"home", 0, OPTION_TEXT, offsetof(struct cli, home_option), 0, 0, "DIR",
     "where the service keeps its data (TINDERBOX_HOME)"},
    {"remote", 0, OPTION_FLAG, offsetof(struct cli, remote), 0, 0, NULL,
     "use AWS_ENDPOINT_URL and AWS_* credentials of the environment"},
    {"help", 'h', OPTION_FLAG, offsetof(struct cli, help), 0, 0, NULL, "this text"},
    {0},
};

int cli_fail(const struct err *e)
{
    fprintf(stderr, "tinderbox: %s\n", e->text);
    return EXIT_FAIL;
}

static void print_overview(FILE *out)
{
    fputs("usage: tinderbox [--home DIR] VERB [OPTION]... [ARGUMENT]...\n\n", out);
    for (size_t i = 0; i < cli_n_verbs; i++)
        fprintf(out, "  %-9s %s\n", cli_verbs[i]->name, cli_verbs[i]->help);
    fputs("\ntinderbox VERB --help tells more; tinderbox --version prints the version.\n", out);
}

static void print_help(const struct verb *v, FILE *out)
{
    fprintf(out, "usage: tinderbox %s %s\n\n%s\n\n", v->name, v->usage, v->help);
    options_help(v->options, out);
    options_help(cli_common_options, out);
}

static const struct verb *find_verb(const char *name)
{
    for (size_t i = 0; i < cli_n_verbs; i++) {
        if (strcmp(cli_verbs[i]->name, name) == 0)
            return cli_verbs[i];
    }
    return NULL;
}

static int usage_error(const struct verb *v, const char *text)
{
    fprintf(stderr, "tinderbox %s: %s\nusage: tinderbox %s %s\n", v->name, text, v->name, v->usage);
    return EXIT_USAGE;
}

static int run_verb(struct cli *c, const struct verb *v, int argc, const char *const *argv)
{
    struct err e = {0};
    static struct operands args;
    CLEANUP(cleanup_free)
    void *options = calloc(1, v->size + 1);
    if (!options)
        abort();
    if (v->defaults)
        memcpy(options, v->defaults, v->size);
    const struct option_set sets[2] = {{v->options, options}, {cli_common_options, c}};
    if (options_parse(sets, v->stop_after, argc, argv, &args, &e) < 0)
        return usage_error(v, e.text);
    if (c->help) {
        print_help(v, stdout);
        return EXIT_OK;
    }
    if (args.n < v->min)
        return usage_error(v, "an argument is missing");
    if (args.n > v->max)
        return usage_error(v, "too many arguments");
    if (cli_find_home(c, &e) < 0)
        return cli_fail(&e);
    int code = v->run(c, options, &args);
    if (fflush(stdout) != 0 && code == EXIT_OK) {
        fprintf(stderr, "tinderbox: cannot write the output: %s\n", strerror(errno));
        code = EXIT_FAIL;
    }
    return code;
}

int cli_main(int argc, const char *const *argv)
{
    struct cli c = {0};
    int i = 1;
    for (; i < argc && argv[i][0] == '-'; i++) {
        if (strcmp(argv[i], "--version") == 0) {
            puts("tinderbox " TINDERBOX_VERSION);
            return EXIT_OK;
        }
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            print_overview(stdout);
            return EXIT_OK;
        }
        if (strcmp(argv[i], "--remote") == 0) {
            c.remote = true;
        } else if (strcmp(argv[i], "--home") == 0 && i + 1 < argc) {
            c.home_option = argv[++i];
        } else {
            fprintf(stderr, "tinderbox: unknown option '%s'\n", argv[i]);
            return EXIT_USAGE;
        }
    }
    if (i >= argc) {
        print_overview(stderr);
        return EXIT_USAGE;
    }
    const struct verb *v = find_verb(argv[i]);
    if (!v) {
        fprintf(stderr, "tinderbox: unknown verb '%s'; tinderbox --help lists them\n", argv[i]);
        return EXIT_USAGE;
    }
    return run_verb(&c, v, argc - i - 1, argv + i + 1);
}
