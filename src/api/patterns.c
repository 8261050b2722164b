/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Matchers written out by hand: the patterns are few and fixed, a client chooses the subject (up
 * to 10,000 characters), and each matcher is one linear pass whatever it is given.
 */
#include "api/patterns.h"

#include <string.h>

static bool lower(char c)
{
    return c >= 'a' && c <= 'z';
}

static bool digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool alnum(char c)
{
    return lower(c) || digit(c) || (c >= 'A' && c <= 'Z');
}

/* Every character is alphanumeric or in extra, and there is at least one. */
static bool all_of(const char *s, const char *extra)
{
    const char *p = s;
    while (alnum(*p) || (*p && strchr(extra, *p)))
        p++;
    return p > s && !*p;
}

static bool skip(const char **p, const char *literal)
{
    size_t n = strlen(literal);
    if (strncmp(*p, literal, n) != 0)
        return false;
    *p += n;
    return true;
}

static unsigned skip_class(const char **p, bool (*is)(char c))
{
    unsigned n = 0;
    while (is(**p)) {
        ++*p;
        n++;
    }
    return n;
}

static bool match_no_space(const char *s)
{
    return *s && !strpbrk(s, " \t\n\v\f\r");
}

static bool match_name(const char *s)
{
    return all_of(s, "-_");
}

static bool match_log_group(const char *s)
{
    return all_of(s, "_-/.#");
}

static bool match_log_stream(const char *s)
{
    return !strpbrk(s, ":*");
}

static bool lower_or_dash(char c)
{
    return lower(c) || c == '-';
}

static bool alnum_or_dash(char c)
{
    return alnum(c) || c == '-';
}

static bool match_role_arn(const char *s)
{
    if (!skip(&s, "arn:aws"))
        return false;
    skip_class(&s, lower_or_dash);
    if (!skip(&s, ":iam::") || skip_class(&s, digit) != 12 || !skip(&s, ":role"))
        return false;
    return all_of(s, "_+=,.@-/");
}

/* (eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}, advancing p. */
static bool skip_region(const char **p)
{
    skip(p, "eusc-");
    if (!lower((*p)[0]) || !lower((*p)[1]))
        return false;
    *p += 2;
    const char *q = *p;
    if (skip(&q, "-gov") || skip(&q, "-iso")) {
        if (q[-1] == 'o' && lower(*q))
            q++;
        if (*q == '-' && lower(q[1]))
            *p = q;
    }
    if (!skip(p, "-") || !skip_class(p, lower) || !skip(p, "-") || !digit(**p))
        return false;
    ++*p;
    return true;
}

bool region_valid(const char *s)
{
    return skip_region(&s) && !*s;
}

static bool match_uuid(const char *s)
{
    for (unsigned i = 0; i < 36; i++) {
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;
        bool hex = digit(s[i]) || ((s[i] | 32) >= 'a' && (s[i] | 32) <= 'f');
        if (dash ? s[i] != '-' : !hex)
            return false;
    }
    return !s[36];
}

static bool match_function(const char *s)
{
    const char *colon = strchr(s, ':');
    if (!colon)
        return match_name(s);
    size_t n = (size_t)(colon - s);
    return n &&
           strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") == n &&
           (strcmp(colon + 1, "$LATEST") == 0 || match_name(colon + 1));
}

static bool match_csc(const char *s)
{
    size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789");
    return n == 17 && !s[n];
}

static bool match_taggable(const char *s)
{
    static const struct {
        const char *prefix;
        bool (*rest)(const char *s);
    } KINDS[] = {
        {"function:", match_function},           {"layer:", match_name},
        {"code-signing-config:csc-", match_csc}, {"event-source-mapping:", match_uuid},
        {"capacity-provider:", match_name},      {"network-connector:", match_name},
        {"microvm-image:", match_name},
    };
    if (!skip(&s, "arn:aws"))
        return false;
    skip_class(&s, alnum_or_dash);
    if (!skip(&s, ":lambda:") || !skip_region(&s) || !skip(&s, ":") ||
        skip_class(&s, digit) != 12 || !skip(&s, ":"))
        return false;
    for (size_t i = 0; i < ARRAY_LEN(KINDS); i++)
        if (skip(&s, KINDS[i].prefix))
            return KINDS[i].rest(s);
    return false;
}

/* Decodes one code point; 0 at the end, -1 when the bytes are no UTF-8 (RFC 3629). */
static long utf8_next(const char **p)
{
    const unsigned char *s = (const unsigned char *)*p;
    if (!*s)
        return 0;
    unsigned n = *s < 0x80 ? 0 : *s >= 0xf0 ? 3 : *s >= 0xe0 ? 2 : 1;
    if (n && (*s < 0xc2 || *s > 0xf4))
        return -1;
    long c = n == 0 ? *s : *s & (0x3f >> n);
    for (unsigned i = 1; i <= n; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return -1;
        c = c << 6 | (s[i] & 0x3f);
    }
    static const long LEAST[] = {0, 0x80, 0x800, 0x10000};
    if (c < LEAST[n] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
        return -1;
    *p += n + 1;
    return c;
}

long utf8_length(const char *s)
{
    long n = 0, c;
    while ((c = utf8_next(&s)) > 0)
        n++;
    return c < 0 ? -1 : n;
}

/* [\p{L}\p{Z}\p{N}_.:/=+\-@]*: beyond ASCII the classes are left to the C library's tables only
 * where a locale is set, so everything that is no control character is accepted there. */
static bool match_tag(const char *s)
{
    for (long c; (c = utf8_next(&s)) != 0;) {
        if (c < 0 || (c >= 0x80 && c < 0xa0))
            return false;
        if (c < 0x80 && !alnum((char)c) && !strchr(" _.:/=+-@", (char)c))
            return false;
    }
    return true;
}

const struct pattern PATTERN_NO_SPACE = {"[^\\s]+", match_no_space};
const struct pattern PATTERN_NAME = {"[a-zA-Z0-9-_]+", match_name};
const struct pattern PATTERN_ROLE_ARN = {
    "arn:aws[a-z\\-]*:iam::[0-9]{12}:role/?[a-zA-Z_0-9+=,.@\\-_/]+", match_role_arn};
const struct pattern PATTERN_LOG_GROUP = {"[a-zA-Z0-9_\\-/.#]+", match_log_group};
const struct pattern PATTERN_LOG_STREAM = {"[^:*]*", match_log_stream};
const struct pattern PATTERN_TAG = {"([\\p{L}\\p{Z}\\p{N}_.:/=+\\-@]*)", match_tag};
const struct pattern PATTERN_TAGGABLE = {
    "arn:(aws[a-zA-Z-]*):lambda:(eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\\d{1}:\\d{12}:"
    "(function:[a-zA-Z0-9-_]+(:(\\$LATEST|[a-zA-Z0-9-_]+))?|layer:([a-zA-Z0-9-_]+)|"
    "code-signing-config:csc-[a-z0-9]{17}|event-source-mapping:[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-"
    "[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}|"
    "(capacity-provider|network-connector|microvm-image):[a-zA-Z0-9-_]+)",
    match_taggable};
