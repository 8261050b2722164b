/* SPDX-License-Identifier: Apache-2.0 */
#include "image/reference.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"

/* Where Debian's own image is published; every one of these is the same image. */
static const struct {
    const char *registry, *repository;
} debian_homes[] = {
    {"docker.io", "library/debian"},
    {"public.ecr.aws", "docker/library/debian"},
    {"public.ecr.aws", "debian/debian"},
    {"mirror.gcr.io", "library/debian"},
};

static const struct {
    const char *tag, *managed;
} debian_tags[] = {
    {"12", "debian:12"},
    {"bookworm", "debian:12"},
    {"12-slim", "debian:12"},
    {"bookworm-slim", "debian:12"},
};

#define AVAILABLE "debian:12"

static bool all_of(struct slice s, bool (*ok)(char c))
{
    for (size_t i = 0; i < s.n; i++)
        if (!ok(s.p[i]))
            return false;
    return s.n > 0;
}

static bool is_tag_char(char c)
{
    return isalnum((unsigned char)c) || c == '_' || c == '.' || c == '-';
}

static bool is_repository_char(char c)
{
    return islower((unsigned char)c) || isdigit((unsigned char)c) || strchr("._-/", c);
}

static bool is_registry_char(char c)
{
    return isalnum((unsigned char)c) || c == '.' || c == '-' || c == ':';
}

static bool is_hex_char(char c)
{
    return isdigit((unsigned char)c) || (c >= 'a' && c <= 'f');
}

static int store(char *out, size_t cap, struct slice s)
{
    if (s.n >= cap)
        return -EINVAL;
    memcpy(out, s.p, s.n);
    out[s.n] = '\0';
    return 0;
}

/* Cuts what follows the last mark (after the last slash for ':') off s. */
static bool cut_tail(struct slice *s, char mark, struct slice *tail)
{
    for (size_t i = s->n; i > 0 && !(mark == ':' && s->p[i - 1] == '/'); i--) {
        if (s->p[i - 1] != mark)
            continue;
        *tail = (struct slice){s->p + i, s->n - i};
        s->n = i - 1;
        return true;
    }
    return false;
}

/* A first component with a dot or a port, or "localhost", is a registry; nothing else is. */
static bool cut_registry(struct slice *s, struct slice *registry)
{
    const char *slash = s->n ? memchr(s->p, '/', s->n) : NULL;
    if (!slash)
        return false;
    struct slice first = {s->p, (size_t)(slash - s->p)};
    if (!memchr(first.p, '.', first.n) && !memchr(first.p, ':', first.n) &&
        !slice_eq(first, "localhost"))
        return false;
    *registry = first;
    s->p = slash + 1;
    s->n -= first.n + 1;
    return true;
}

/* Components begin and end with a letter or digit; that also refuses "//" and "..". */
static bool repository_ok(struct slice s)
{
    if (!all_of(s, is_repository_char))
        return false;
    for (size_t i = 0; i < s.n; i++) {
        bool edge = i == 0 || i == s.n - 1 || s.p[i - 1] == '/' || s.p[i + 1] == '/';
        if (edge && s.p[i] != '/' && !isalnum((unsigned char)s.p[i]))
            return false;
        if (s.p[i] == '/' && (i == 0 || i == s.n - 1 || s.p[i + 1] == '/'))
            return false;
    }
    return true;
}

static int parse_digest(struct slice s, struct reference *r, struct err *e)
{
    struct slice hex = {s.p + 7, s.n >= 7 ? s.n - 7 : 0};
    if (s.n != 7 + 64 || memcmp(s.p, "sha256:", 7) != 0 || !all_of(hex, is_hex_char))
        return err_set(e, EINVAL, "the digest must be sha256: and 64 hex digits");
    return store(r->digest, sizeof r->digest, s);
}

static int parse_name(struct slice s, struct reference *r, struct err *e)
{
    struct slice registry = SLICE("docker.io");
    (void)cut_registry(&s, &registry); /* without one it is Docker Hub */
    if (!all_of(registry, is_registry_char) || store(r->registry, sizeof r->registry, registry) < 0)
        return err_set(e, EINVAL, "malformed registry name");
    for (char *c = r->registry; *c; c++)
        *c = (char)tolower((unsigned char)*c);
    bool hub = strcmp(r->registry, "docker.io") == 0 || strcmp(r->registry, "index.docker.io") == 0;
    if (hub)
        memcpy(r->registry, "docker.io", sizeof "docker.io");
    if (!repository_ok(s))
        return err_set(e, EINVAL,
                       "malformed repository name (lower case letters and digits, "
                       "separated by '.', '_', '-' or '/')");
    bool library = hub && !memchr(s.p, '/', s.n);
    if (s.n + (library ? strlen("library/") : 0) >= sizeof r->repository)
        return err_set(e, EINVAL, "the repository name is too long");
    snprintf(r->repository, sizeof r->repository, "%s%.*s", library ? "library/" : "", (int)s.n,
             s.p);
    return 0;
}

int reference_parse(const char *text, struct reference *ret, struct err *e)
{
    struct slice s = slice_from(text), digest, tag;
    struct reference r = {.tag = ""};
    if (!s.n || s.n > REFERENCE_MAX)
        return err_set(e, EINVAL,
                       s.n ? "the image reference is too long" : "the image reference is empty");
    int rc = 0;
    bool has_digest = cut_tail(&s, '@', &digest);
    if (has_digest)
        rc = parse_digest(digest, &r, e);
    if (rc < 0)
        return rc;
    if (cut_tail(&s, ':', &tag)) {
        if (!all_of(tag, is_tag_char) || tag.p[0] == '.' || tag.p[0] == '-' ||
            store(r.tag, sizeof r.tag, tag) < 0)
            return err_set(e, EINVAL, "malformed tag");
    } else if (!has_digest) {
        memcpy(r.tag, "latest", sizeof "latest");
    }
    rc = parse_name(s, &r, e);
    if (rc < 0)
        return rc;
    *ret = r;
    return 0;
}

void reference_text(const struct reference *r, char *out, size_t cap)
{
    snprintf(out, cap, "%s/%s%s%s%s%s", r->registry, r->repository, r->tag[0] ? ":" : "", r->tag,
             r->digest[0] ? "@" : "", r->digest);
}

static bool same(const struct reference *a, const struct reference *b)
{
    return strcmp(a->registry, b->registry) == 0 && strcmp(a->repository, b->repository) == 0 &&
           strcmp(a->tag, b->tag) == 0 && strcmp(a->digest, b->digest) == 0;
}

static bool is_debian(const struct reference *r)
{
    for (size_t i = 0; i < ARRAY_LEN(debian_homes); i++)
        if (strcmp(r->registry, debian_homes[i].registry) == 0 &&
            strcmp(r->repository, debian_homes[i].repository) == 0)
            return true;
    return false;
}

static int managed_debian(const struct reference *r, const char **ret, struct err *e)
{
    if (r->digest[0])
        return err_set(e, ENOENT,
                       "an image pinned by digest cannot be served from the managed root file "
                       "system: write " AVAILABLE ", or configure an alias for this reference");
    for (size_t i = 0; i < ARRAY_LEN(debian_tags); i++) {
        if (strcmp(r->tag, debian_tags[i].tag) == 0) {
            *ret = debian_tags[i].managed;
            return 0;
        }
    }
    if (strcmp(r->tag, "latest") == 0)
        return err_set(
            e, ENOENT,
            "debian:latest is Debian 13 (trixie), which is not available here: write " AVAILABLE
            ", or configure an alias for debian:latest");
    return err_set(e, ENOENT,
                   "debian:%s is not available here: write " AVAILABLE
                   ", or configure an alias for debian:%s",
                   r->tag, r->tag);
}

static int find_managed(const struct reference *r, const char *text, const char **ret,
                        struct err *e)
{
    if (is_debian(r))
        return managed_debian(r, ret, e);
    return err_set(e, ENOENT,
                   "base image '%s' is not available: there is %s (and its usual spellings); "
                   "configure an alias from '%s' to it if the Dockerfile works on Debian",
                   text, AVAILABLE, text);
}

int reference_managed(const char *text, const struct reference_alias *aliases, size_t n,
                      const char **ret, struct err *e)
{
    if (strcmp(text, "scratch") == 0)
        return err_set(e, ENOENT,
                       "'scratch' is not available: an image needs a root file system, such "
                       "as " AVAILABLE);
    struct reference r;
    int rc = reference_parse(text, &r, e);
    if (rc < 0) {
        (void)err_wrap(e, "'%.200s'", text);
        return rc;
    }
    for (size_t i = 0; i < n; i++) {
        struct reference from, to;
        if (reference_parse(aliases[i].from, &from, NULL) < 0 || !same(&from, &r))
            continue;
        /* One step only: an alias names a managed image, never another alias. */
        rc = reference_parse(aliases[i].to, &to, e);
        if (rc == 0)
            rc = find_managed(&to, aliases[i].to, ret, e);
        if (rc < 0)
            (void)err_wrap(e, "alias of '%s'", text);
        return rc;
    }
    return find_managed(&r, text, ret, e);
}
