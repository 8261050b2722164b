/* SPDX-License-Identifier: Apache-2.0 */
#include "api/s3_xml.h"

#include <errno.h>
#include <expat.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define DEPTH_MAX 8
#define TEXT_MAX 4096

int xml_text(struct buf *out, const char *s)
{
    int r = 0;
    for (; r == 0 && *s; s++) {
        unsigned char c = (unsigned char)*s;
        const char *named = c == '&'   ? "&amp;"
                            : c == '<' ? "&lt;"
                            : c == '>' ? "&gt;"
                            : c == '"' ? "&quot;"
                                       : NULL;
        if (named)
            r = buf_adds(out, named);
        else if (c < 0x20 || c == 0x7f)
            r = buf_addf(out, "&#x%x;", c);
        else
            r = buf_add(out, s, 1);
    }
    return r;
}

int xml_element(struct buf *out, const char *name, const char *text)
{
    int r = buf_addf(out, "<%s>", name);
    if (r == 0)
        r = xml_text(out, text);
    return r == 0 ? buf_addf(out, "</%s>", name) : r;
}

/* One parse: leaves (elements with text only) are handed over as their end tag is seen. */
struct parse {
    XML_Parser parser;
    const char *root;
    char names[DEPTH_MAX][64];
    unsigned depth;
    struct buf text;
    const char *error;
    int result;
    /* path below the root, e.g. "Part/PartNumber"; group elements come with leaf false */
    int (*on)(struct parse *p, const char *path, const char *text);
    struct xml_part *parts;
    int n, max;
    bool *quiet;
    int (*fn)(const char *key, void *arg);
    void *arg;
};

static void stop(struct parse *p, const char *error)
{
    if (!p->error)
        p->error = error;
    XML_StopParser(p->parser, XML_FALSE);
}

static void XMLCALL on_doctype(void *user, const XML_Char *name, const XML_Char *system,
                               const XML_Char *public, int subset)
{
    (void)name, (void)system, (void)public, (void)subset;
    stop(user, "a document type declaration is not allowed");
}

/* Names are compared without their namespace prefix. */
static const char *local_name(const char *name)
{
    const char *colon = strrchr(name, ':');
    return colon ? colon + 1 : name;
}

static void XMLCALL on_start(void *user, const XML_Char *name, const XML_Char **attributes)
{
    struct parse *p = user;
    (void)attributes;
    const char *local = local_name(name);
    if (p->depth == DEPTH_MAX || strlen(local) >= sizeof p->names[0]) {
        stop(p, "too deep or an element name too long");
        return;
    }
    if (p->depth == 0 && strcmp(local, p->root) != 0) {
        stop(p, "unexpected root element");
        return;
    }
    memcpy(p->names[p->depth++], local, strlen(local) + 1);
    buf_clear(&p->text);
}

static void XMLCALL on_end(void *user, const XML_Char *name)
{
    struct parse *p = user;
    (void)name;
    char path[DEPTH_MAX * 66] = "";
    for (unsigned i = 1; i < p->depth; i++) {
        if (i > 1)
            strcat(path, "/");
        strcat(path, p->names[i]);
    }
    if (p->depth > 1) {
        int r = p->on(p, path, p->text.data ? p->text.data : "");
        if (r < 0) {
            p->result = r;
            stop(p, "the document does not have the expected contents");
        }
    }
    p->depth--;
    buf_clear(&p->text);
}

static void XMLCALL on_text(void *user, const XML_Char *s, int n)
{
    struct parse *p = user;
    if (buf_add(&p->text, s, (size_t)n) < 0)
        stop(p, "an element's text is too long");
}

static int run(struct parse *p, const char *body, size_t n, struct err *e)
{
    if (n > XML_MAX_BODY)
        return err_set(e, EINVAL, "the document is larger than %d bytes", XML_MAX_BODY);
    p->parser = XML_ParserCreate("UTF-8");
    if (!p->parser)
        return err_set(e, ENOMEM, "out of memory");
    p->text.max = TEXT_MAX;
    XML_SetUserData(p->parser, p);
    XML_SetStartDoctypeDeclHandler(p->parser, on_doctype);
    XML_SetElementHandler(p->parser, on_start, on_end);
    XML_SetCharacterDataHandler(p->parser, on_text);
    int r = 0;
    if (XML_Parse(p->parser, body, (int)n, 1) != XML_STATUS_OK)
        r = err_set(e, EINVAL, "line %lu: %s", (unsigned long)XML_GetCurrentLineNumber(p->parser),
                    p->error ? p->error : XML_ErrorString(XML_GetErrorCode(p->parser)));
    XML_ParserFree(p->parser);
    buf_done(&p->text);
    return r < 0 && p->result < 0 ? p->result : r;
}

static int on_complete(struct parse *p, const char *path, const char *text)
{
    if (strcmp(path, "Part") == 0) {
        if (p->n == p->max || !p->parts[p->n].number || !p->parts[p->n].etag[0])
            return -EINVAL;
        p->n++;
        return 0;
    }
    if (p->n == p->max)
        return -EINVAL;
    struct xml_part *part = &p->parts[p->n];
    if (strcmp(path, "Part/PartNumber") == 0) {
        char *end;
        long v = strtol(text, &end, 10);
        if (end == text || *end || v < 1 || v > 10000)
            return -EINVAL;
        part->number = (int)v;
    } else if (strcmp(path, "Part/ETag") == 0) {
        size_t n = strlen(text);
        if (n >= 2 && text[0] == '"' && text[n - 1] == '"') {
            text++;
            n -= 2;
        }
        if (n >= sizeof part->etag)
            return -EINVAL;
        memcpy(part->etag, text, n);
        part->etag[n] = '\0';
    }
    return 0;
}

int xml_parse_complete(const char *body, size_t n, struct xml_part *parts, int max, struct err *e)
{
    struct parse p = {
        .root = "CompleteMultipartUpload", .on = on_complete, .parts = parts, .max = max};
    memset(parts, 0, (size_t)max * sizeof *parts);
    int r = run(&p, body, n, e);
    return r < 0 ? r : p.n;
}

static int on_delete(struct parse *p, const char *path, const char *text)
{
    if (strcmp(path, "Quiet") == 0)
        *p->quiet = strcasecmp(text, "true") == 0;
    if (strcmp(path, "Object/Key") != 0)
        return 0;
    return p->n++ == p->max ? -EINVAL : p->fn(text, p->arg);
}

int xml_parse_delete(const char *body, size_t n, int max, bool *quiet,
                     int (*fn)(const char *key, void *arg), void *arg, struct err *e)
{
    struct parse p = {
        .root = "Delete", .on = on_delete, .max = max, .quiet = quiet, .fn = fn, .arg = arg};
    *quiet = false;
    return run(&p, body, n, e);
}
