/* SPDX-License-Identifier: Apache-2.0 */
#include <curl/curl.h>
#include <locale.h>
#include <signal.h>

#include "cli/cli.h"

int main(int argc, char **argv)
{
    /* File names in archives are UTF-8 whatever the user's language is. */
    if (!setlocale(LC_CTYPE, "C.UTF-8"))
        setlocale(LC_CTYPE, "");
    signal(SIGPIPE, SIG_DFL);
    curl_global_init(CURL_GLOBAL_DEFAULT);
    int code = cli_main(argc, (const char *const *)argv);
    curl_global_cleanup();
    return code;
}
