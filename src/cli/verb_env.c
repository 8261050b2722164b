/* SPDX-License-Identifier: Apache-2.0 */
/* env: what the AWS CLI and SDKs need, for eval "$(tinderbox env)". */
#include <stdio.h>

#include "cli/cli.h"
#include "cli/output.h"

static void export_line(const char *name, const char *value)
{
    printf("export %s=", name);
    print_shell_quoted(value);
    putchar('\n');
}

static int run(struct cli *c, const void *options, const struct operands *args)
{
    (void)options, (void)args;
    struct err e = {0};
    if (cli_connect(c, &e) < 0)
        return cli_fail(&e);
    export_line("AWS_ACCESS_KEY_ID", c->credential.access_key);
    export_line("AWS_SECRET_ACCESS_KEY", c->credential.secret_key);
    export_line("AWS_REGION", c->region);
    export_line("AWS_DEFAULT_REGION", c->region);
    export_line("AWS_ENDPOINT_URL_LAMBDA_MICROVMS", c->api);
    export_line("AWS_ENDPOINT_URL_LAMBDA_CORE", c->api);
    export_line("AWS_ENDPOINT_URL_S3", c->s3);
    export_line("TINDERBOX_HOME", c->home);
    export_line("TINDERBOX_CA", c->ca);
    puts("unset AWS_SESSION_TOKEN AWS_PROFILE");
    return EXIT_OK;
}

const struct verb verb_env = {
    .name = "env",
    .help = "print shell exports for the AWS CLI and SDKs: eval \"$(tinderbox env)\"",
    .usage = "",
    .run = run,
};
