/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/qemu/qmp.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void qmp_reader_init(struct qmp_reader *r)
{
    r->line = BUF_INIT(QMP_LINE_MAX);
}

void qmp_reader_done(struct qmp_reader *r)
{
    buf_done(&r->line);
}

void qmp_message_done(struct qmp_message *m)
{
    json_decref(m->data);
    m->data = NULL;
}

static void copy_text(char *out, size_t cap, const char *s)
{
    size_t n = 0;
    for (; s && s[n] && n + 1 < cap; n++)
        out[n] = (unsigned char)s[n] < 0x20 || s[n] == 0x7f ? '?' : s[n];
    out[n] = '\0';
}

static int protocol_error(struct err *e, const char *what)
{
    return err_set(e, EPROTO, "QMP: %s", what);
}

static int classify(const json_t *v, struct qmp_message *m, struct err *e)
{
    const json_t *error = json_object_get(v, "error"), *value = json_object_get(v, "return");
    const char *event = json_get_str(v, "event");
    m->id = json_get_int(v, "id", -1);
    if (json_is_object(json_object_get(v, "QMP"))) {
        m->kind = QMP_GREETING;
    } else if (event) {
        m->kind = QMP_EVENT;
        copy_text(m->name, sizeof m->name, event);
        m->data = json_incref(json_object_get(v, "data"));
    } else if (json_is_object(error)) {
        m->kind = QMP_ERROR;
        copy_text(m->name, sizeof m->name, json_get_str(error, "class"));
        copy_text(m->text, sizeof m->text, json_get_str(error, "desc"));
    } else if (value) {
        m->kind = QMP_RETURN;
        m->data = json_incref((json_t *)(uintptr_t)value);
    } else {
        return protocol_error(e, "message of no known kind");
    }
    return 1;
}

static int parse_line(struct qmp_reader *r, struct qmp_message *ret, struct err *e)
{
    CLEANUP(cleanup_json)
    json_t *v = NULL;
    struct err why = {0};
    *ret = (struct qmp_message){.id = -1};
    int k = json_parse(r->line.data, r->line.len, QMP_LINE_MAX, &v, &why);
    buf_clear(&r->line);
    if (k < 0)
        return protocol_error(e, why.text);
    if (!json_is_object(v))
        return protocol_error(e, "message is not an object");
    return classify(v, ret, e);
}

int qmp_read(struct qmp_reader *r, const char *p, size_t *n, struct qmp_message *ret, struct err *e)
{
    const char *end = memchr(p, '\n', *n);
    if (end)
        *n = (size_t)(end - p) + 1;
    size_t body = end ? *n - 1 : *n;
    if (end && body && p[body - 1] == '\r')
        body--;
    if (buf_add(&r->line, p, body) < 0)
        return protocol_error(e, "line too long");
    if (!end)
        return 0;
    if (r->line.len && r->line.data[r->line.len - 1] == '\r')
        r->line.len--;
    return r->line.len ? parse_line(r, ret, e) : 0;
}

int qmp_write(struct buf *out, const char *command, const json_t *args, int64_t id)
{
    char *text = args ? json_text(args) : NULL;
    int r = buf_addf(out, "{\"execute\":\"%s\",\"id\":%lld%s%s}\n", command, (long long)id,
                     args ? ",\"arguments\":" : "", args ? text : "");
    free(text);
    return r;
}
