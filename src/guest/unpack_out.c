/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "guest/unpack.h"
#include "proto/frame.h"
#include "proto/wire.h"

void out_frame(int type, const void *p, size_t n)
{
    struct buf b = BUF_INIT(0);
    if (frame_put_all(&b, type, p, n) < 0 || fs_write_all(STDOUT_FILENO, b.data, b.len) < 0)
        _exit(1); /* nobody listens */
    buf_done(&b);
}

static void out_json(int type, json_t *v)
{
    CLEANUP(cleanup_free)
    char *text = json_text(v);
    json_decref(v);
    out_frame(type, text, strlen(text));
}

void out_record(json_t *v)
{
    out_json(WIRE_FRAME_RECORD, v);
}

void out_exit(void)
{
    out_json(WIRE_FRAME_EXIT, json_pack("{s:i, s:i}", "exitCode", 0, "signal", 0));
}

void out_error(const struct err *e)
{
    static const struct {
        int code;
        const char *name;
    } map[] = {{EBADMSG, "ARCHIVE_INVALID"}, {ENOENT, "NOT_FOUND"},     {ENOSPC, "DISK_FULL"},
               {EDQUOT, "DISK_FULL"},        {EEXIST, "EXISTS"},        {ENOTDIR, "EXISTS"},
               {ELOOP, "INVALID"},           {ENAMETOOLONG, "INVALID"}, {EROFS, "INVALID"},
               {EPERM, "INVALID"},           {EACCES, "INVALID"},       {EINVAL, "INVALID"}};
    const char *name = "INTERNAL";
    for (size_t i = 0; i < ARRAY_LEN(map); i++)
        if (map[i].code == e->code)
            name = map[i].name;
    json_t *v = json_pack("{s:s, s:s}", "message", e->text, "code", name);
    if (!v) { /* a name that is no UTF-8, or was cut inside a character */
        struct err plain = *e;
        for (char *p = plain.text; *p; p++)
            if ((unsigned char)*p >= 0x80)
                *p = '?';
        v = json_pack("{s:s, s:s}", "message", plain.text, "code", name);
    }
    out_json(WIRE_FRAME_ERROR, v);
}
