/* SPDX-License-Identifier: Apache-2.0 */
/*
 * QEMU Machine Protocol, sans-IO: bytes in, messages out (QEMU docs/interop/qmp-spec.txt). The
 * process that talks may be owned by its guest, so lines and depth are bounded and every message is
 * checked before a field is used. Single owner.
 */
#ifndef ENGINE_QEMU_QMP_H
#define ENGINE_QEMU_QMP_H

#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/json.h"

#define QMP_LINE_MAX 65536

enum qmp_kind { QMP_GREETING, QMP_RETURN, QMP_ERROR, QMP_EVENT };

struct qmp_message {
    enum qmp_kind kind;
    int64_t id;     /* of the command a QMP_RETURN or QMP_ERROR answers; -1 = none */
    char name[48];  /* event name, or class of an error */
    char text[256]; /* description of an error, control characters replaced */
    json_t *data;   /* owned: return value, event data or NULL */
};

struct qmp_reader {
    struct buf line; /* what has come of the current line */
};

void qmp_reader_init(struct qmp_reader *r);
void qmp_reader_done(struct qmp_reader *r);
/* Takes *n of the bytes at p, up to and including the first line end; a complete message is
 * returned in *ret (1), otherwise 0. -EPROTO: hang up. */
int qmp_read(struct qmp_reader *r, const char *p, size_t *n, struct qmp_message *ret,
             struct err *e) MUST_CHECK;
void qmp_message_done(struct qmp_message *m);

/* One command line. args is borrowed and may be NULL. */
int qmp_write(struct buf *out, const char *command, const json_t *args, int64_t id) MUST_CHECK;

#endif
