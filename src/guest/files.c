/* SPDX-License-Identifier: Apache-2.0 */
/*
 * FILES: the archive program in the root of the running application. The root is handed over as a
 * descriptor taken here, while the application cannot have been reaped: its number cannot have
 * become another process's.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "guest/exec.h"
#include "proto/wire.h"

static int open_root(const struct guest *g, struct err *e)
{
    char path[64] = "/";
    if (!g->no_container && g->app.state != APP_RUNNING)
        return err_set(e, EINVAL, "the application is not running");
    if (!g->no_container)
        snprintf(path, sizeof path, "/proc/%d/root", (int)g->app.pid);
    int fd = open(path, O_PATH | O_DIRECTORY); /* the program inherits it */
    return fd < 0 ? err_set_errno(e, errno, "cannot open the application's root") : fd;
}

static int launch(struct exec *x, int root, struct err *e)
{
    CLEANUP(cleanup_json)
    json_t *in = json_pack("{s:s?, s:s?, s:i}", "op", json_get_str(x->spec, "op"), "path",
                           json_get_str(x->spec, "path"), "rootFd", root);
    CLEANUP(cleanup_free)
    char *text = json_text(in);
    CLEANUP(cleanup_json)
    json_t *spec = json_pack("{s:[s, s, s]}", "args", GUEST_UNPACK, "files", text);
    if (!spec)
        return err_set(e, EINVAL, "bad specification");
    /* It keeps of them what it needs: CAP_DAC_READ_SEARCH is not among the default ones. */
    struct launch l = {.where = LAUNCH_HERE, .all_caps = true};
    int r = launch_parse(&l, spec, NULL, e);
    if (r == 0)
        r = exec_launch(x, &l, e);
    launch_done(&l);
    return r;
}

static int begin(struct exec *x, struct err *e)
{
    CLEANUP(cleanup_close)
    int root = open_root(x->g, e);
    return root < 0 ? root : launch(x, root, e);
}

static const struct exec_kind FILES_KIND = {
    .begin = begin, .output = exec_unpack_output, .ended = exec_unpack_ended};

void guest_files(struct guest *g, struct stream *st)
{
    exec_open(g, st, &FILES_KIND);
}
