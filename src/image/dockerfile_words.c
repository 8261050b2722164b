/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One logical line: instruction word, flags, arguments. A row per instruction says which flags it
 * has and how its arguments are cut.
 */
#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <strings.h>

#include "base/json.h"
#include "image/dockerfile_internal.h"

typedef int parse_fn(struct dockerfile_line *l, struct dockerfile_instruction *in);

static parse_fn parse_from, parse_command, parse_copy, parse_pairs, parse_arg, parse_rest,
    parse_words, parse_shell;

enum flag { FLAG_PLATFORM = 1, FLAG_FROM = 2, FLAG_CHOWN = 4, FLAG_CHMOD = 8, FLAG_LINK = 16 };

static const struct {
    const char *name;
    parse_fn *parse;
    unsigned flags;
} words[] = {
    [DOCKERFILE_FROM] = {"FROM", parse_from, FLAG_PLATFORM},
    [DOCKERFILE_RUN] = {"RUN", parse_command, 0},
    [DOCKERFILE_COPY] = {"COPY", parse_copy, FLAG_FROM | FLAG_CHOWN | FLAG_CHMOD | FLAG_LINK},
    [DOCKERFILE_ADD] = {"ADD", parse_copy, FLAG_CHOWN | FLAG_CHMOD | FLAG_LINK},
    [DOCKERFILE_ENV] = {"ENV", parse_pairs, 0},
    [DOCKERFILE_ARG] = {"ARG", parse_arg, 0},
    [DOCKERFILE_WORKDIR] = {"WORKDIR", parse_rest, 0},
    [DOCKERFILE_USER] = {"USER", parse_rest, 0},
    [DOCKERFILE_EXPOSE] = {"EXPOSE", parse_words, 0},
    [DOCKERFILE_ENTRYPOINT] = {"ENTRYPOINT", parse_command, 0},
    [DOCKERFILE_CMD] = {"CMD", parse_command, 0},
    [DOCKERFILE_LABEL] = {"LABEL", parse_pairs, 0},
    [DOCKERFILE_SHELL] = {"SHELL", parse_shell, 0},
    [DOCKERFILE_MAINTAINER] = {"MAINTAINER", parse_rest, 0},
    [DOCKERFILE_STOPSIGNAL] = {"STOPSIGNAL", parse_rest, 0},
};

/* Known to the Dockerfile reference, not to us: another text than for a misspelt word. */
static const char *const unsupported_words[] = {"VOLUME", "HEALTHCHECK", "ONBUILD"};
static const struct {
    enum dockerfile_word word;
    const char *flag;
} unsupported_flags[] = {
    {DOCKERFILE_RUN, "mount"},        {DOCKERFILE_RUN, "network"},  {DOCKERFILE_RUN, "security"},
    {DOCKERFILE_RUN, "device"},       {DOCKERFILE_COPY, "parents"}, {DOCKERFILE_COPY, "exclude"},
    {DOCKERFILE_ADD, "checksum"},     {DOCKERFILE_ADD, "exclude"},  {DOCKERFILE_ADD, "unpack"},
    {DOCKERFILE_ADD, "keep-git-dir"},
};

const char *dockerfile_word_name(enum dockerfile_word w)
{
    return words[w].name;
}

#define LINE_ERR(l, ...) dockerfile_err((l)->e, EINVAL, (l)->line, __VA_ARGS__)

/* At most so many bytes of the user's words are repeated in an error. */
static int shown(struct slice s)
{
    return (int)(s.n > 100 ? 100 : s.n);
}

static int too_many_words(struct dockerfile_line *l, const struct dockerfile_instruction *in)
{
    return dockerfile_err(l->e, EMSGSIZE, l->line, "%s: more than %d words", words[in->word].name,
                          DOCKERFILE_MAX_WORDS);
}

/* ---- flags ---- */

/* One "--name=value" word; quotes around parts of the value are removed. */
static char *take_flag(struct dockerfile_line *l)
{
    char *out = arena_alloc(l->arena, l->rest.n + 1);
    size_t n = 0;
    char quote = '\0';
    while (l->rest.n) {
        char c = l->rest.p[0];
        if (!quote && dockerfile_is_space(c))
            break;
        l->rest.p++, l->rest.n--;
        if (c == quote) {
            quote = '\0';
        } else if (!quote && (c == '"' || c == '\'')) {
            quote = c;
        } else {
            if (c == l->escape && quote != '\'' && l->rest.n) {
                c = l->rest.p[0];
                l->rest.p++, l->rest.n--;
            }
            out[n++] = c;
        }
    }
    out[n] = '\0';
    return out;
}

static int flag_unknown(struct dockerfile_line *l, enum dockerfile_word w, const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(unsupported_flags); i++)
        if (unsupported_flags[i].word == w && strcmp(unsupported_flags[i].flag, name) == 0)
            return LINE_ERR(l, "%s --%s is not supported", words[w].name, name);
    return LINE_ERR(l, "%s: unknown flag: --%.100s", words[w].name, name);
}

static int flag_store(struct dockerfile_line *l, struct dockerfile_instruction *in, char *text)
{
    const struct {
        const char *name;
        enum flag flag;
        const char **place;
    } known[] = {
        {"platform", FLAG_PLATFORM, &in->platform},
        {"from", FLAG_FROM, &in->from},
        {"chown", FLAG_CHOWN, &in->chown},
        {"chmod", FLAG_CHMOD, &in->chmod},
        {"link", FLAG_LINK, NULL}, /* a hint to a layered store: nothing to do for ours */
    };
    char *eq = strchr(text, '=');
    const char *value = eq ? eq + 1 : NULL;
    if (eq)
        *eq = '\0';
    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        if (strcmp(known[i].name, text) != 0 || !(words[in->word].flags & known[i].flag))
            continue;
        if (!known[i].place) {
            if (value && strcmp(value, "true") != 0 && strcmp(value, "false") != 0)
                return LINE_ERR(l, "--%s takes true or false", text);
            return 0;
        }
        if (!value || !*value)
            return LINE_ERR(l, "%s: --%s needs a value", words[in->word].name, text);
        if (*known[i].place)
            return LINE_ERR(l, "%s: --%s is given twice", words[in->word].name, text);
        *known[i].place = value;
        return 0;
    }
    return flag_unknown(l, in->word, text);
}

static int parse_flags(struct dockerfile_line *l, struct dockerfile_instruction *in)
{
    for (unsigned i = 0;; i++) {
        l->rest = dockerfile_trim(l->rest);
        if (l->rest.n < 2 || memcmp(l->rest.p, "--", 2) != 0)
            return 0;
        if (i == 32)
            return LINE_ERR(l, "%s: too many flags", words[in->word].name);
        char *text = take_flag(l);
        if (strcmp(text, "--") == 0) {
            l->rest = dockerfile_trim(l->rest);
            return 0;
        }
        int r = flag_store(l, in, text + 2);
        if (r < 0)
            return r;
    }
}

/* ---- argument forms ---- */

static int add_arg(struct dockerfile_line *l, struct dockerfile_instruction *in, const char *s,
                   size_t n)
{
    if (in->args.n == DOCKERFILE_MAX_WORDS)
        return too_many_words(l, in);
    strlist_add(l->arena, &in->args, arena_strndup(l->arena, s, n));
    return 0;
}

/*
 * JSON form. 1 when the rest of the line is an array of strings; 0 when it is no JSON array at
 * all, then it is ordinary text ("[ -f x ] && y"); an array with something else in it is an error.
 */
static int try_json(struct dockerfile_line *l, struct dockerfile_instruction *in)
{
    CLEANUP(cleanup_json)
    json_t *v = NULL;
    if (!l->rest.n || l->rest.p[0] != '[' ||
        json_parse(l->rest.p, l->rest.n, DOCKERFILE_MAX_LINE, &v, NULL) < 0 || !json_is_array(v))
        return 0;
    size_t i;
    json_t *item;
    json_array_foreach (v, i, item) {
        if (!json_is_string(item))
            return LINE_ERR(l, "%s: the JSON form takes strings only", words[in->word].name);
        int r = add_arg(l, in, json_string_value(item), json_string_length(item));
        if (r < 0)
            return r;
    }
    in->exec = true;
    return 1;
}

static int parse_words(struct dockerfile_line *l, struct dockerfile_instruction *in)
{
    for (struct slice w; (w = dockerfile_take_word(&l->rest)).n;) {
        int r = add_arg(l, in, w.p, w.n);
        if (r < 0)
            return r;
    }
    return 0;
}

static int parse_rest(struct dockerfile_line *l, struct dockerfile_instruction *in)
{
    return add_arg(l, in, l->rest.p, l->rest.n);
}

static int parse_command(struct dockerfile_line *l, struct dockerfile_instruction *in)
{
    int r = try_json(l, in);
    if (r > 0 && in->word == DOCKERFILE_RUN && !in->args.n)
        return LINE_ERR(l, "RUN needs a command");
    return r ? (r < 0 ? r : 0) : parse_rest(l, in);
}

static int parse_shell(struct dockerfile_line *l, struct dockerfile_instruction *in)
{
    int r = try_json(l, in);
    if (r < 0)
        return r;
    if (r == 0 || !in->args.n)
        return LINE_ERR(l, "SHELL takes a JSON array, such as [\"/bin/bash\", \"-c\"]");
    return 0;
}

static int parse_copy(struct dockerfile_line *l, struct dockerfile_instruction *in)
{
    int r = try_json(l, in);
    if (r == 0)
        r = parse_words(l, in);
    if (r < 0)
        return r;
    if (in->args.n < 2)
        return LINE_ERR(l, "%s needs a source and a destination", words[in->word].name);
    return 0;
}

static bool stage_name_ok(const char *s)
{
    if (!islower((unsigned char)s[0]))
        return false;
    for (; *s; s++)
        if (!islower((unsigned char)*s) && !isdigit((unsigned char)*s) && !strchr("-_.", *s))
            return false;
    return true;
}

static int parse_from(struct dockerfile_line *l, struct dockerfile_instruction *in)
{
    int r = parse_words(l, in);
    if (r < 0)
        return r;
    if (in->args.n == 1)
        return 0;
    if (in->args.n != 3 || strcasecmp(in->args.v[1], "AS") != 0)
        return LINE_ERR(l, "FROM takes an image, or an image AS a name");
    char *name = arena_strdup(l->arena, in->args.v[2]);
    for (char *c = name; *c; c++)
        *c = (char)tolower((unsigned char)*c);
    if (!stage_name_ok(name) || strlen(name) > 128 || strcmp(name, "scratch") == 0 ||
        strcmp(name, "context") == 0)
        return LINE_ERR(l, "'%.100s' cannot be the name of a stage", name);
    in->as = name;
    in->args.n = 1;
    return 0;
}

/* ---- NAME=value words ---- */

/* A word that may hold quoted spaces; quotes and escapes stay for the expansion to remove. */
static struct slice take_quoted_word(struct slice *s, char escape)
{
    while (s->n && dockerfile_is_space(s->p[0]))
        s->p++, s->n--;
    struct slice word = {s->p, 0};
    char quote = '\0';
    while (word.n < s->n) {
        char c = s->p[word.n];
        if (!quote && dockerfile_is_space(c))
            break;
        if (c == escape && quote != '\'' && word.n + 1 < s->n)
            word.n++;
        else if (quote ? c == quote : (c == '"' || c == '\''))
            quote = quote ? '\0' : c;
        word.n++;
    }
    s->p += word.n;
    s->n -= word.n;
    return word;
}

static int add_pair(struct dockerfile_line *l, struct dockerfile_instruction *in, struct slice name,
                    const struct slice *value, size_t *cap)
{
    const char *word = words[in->word].name;
    if (!name.n)
        return LINE_ERR(l, "%s: a name is missing before '='", word);
    if (in->n_pairs == DOCKERFILE_MAX_WORDS)
        return too_many_words(l, in);
    in->pairs = arena_grow(l->arena, in->pairs, in->n_pairs, cap, sizeof *in->pairs);
    in->pairs[in->n_pairs++] = (struct dockerfile_pair){
        arena_strndup(l->arena, name.p, name.n),
        value ? arena_strndup(l->arena, value->p, value->n) : NULL,
    };
    return 0;
}

static bool split_pair(struct slice word, struct slice *name, struct slice *value)
{
    const char *eq = word.n ? memchr(word.p, '=', word.n) : NULL;
    *name = eq ? (struct slice){word.p, (size_t)(eq - word.p)} : word;
    *value = eq ? (struct slice){eq + 1, word.n - name->n - 1} : (struct slice){word.p, 0};
    return eq != NULL;
}

/* ENV and LABEL: "a=1 b=2", or the old "a the rest of the line". */
static int parse_pairs(struct dockerfile_line *l, struct dockerfile_instruction *in)
{
    size_t cap = 0;
    struct slice rest = l->rest, name, value;
    struct slice first = take_quoted_word(&rest, l->escape);
    if (!split_pair(first, &name, &value)) {
        name = dockerfile_take_word(&l->rest);
        value = dockerfile_trim(l->rest);
        if (!value.n)
            return LINE_ERR(l, "%s needs a name and a value", words[in->word].name);
        return add_pair(l, in, name, &value, &cap);
    }
    for (struct slice w; (w = take_quoted_word(&l->rest, l->escape)).n;) {
        if (!split_pair(w, &name, &value))
            return LINE_ERR(l, "%s: '%.*s' has no '=': write name=value", words[in->word].name,
                            shown(w), w.p);
        int r = add_pair(l, in, name, &value, &cap);
        if (r < 0)
            return r;
    }
    return 0;
}

static int parse_arg(struct dockerfile_line *l, struct dockerfile_instruction *in)
{
    size_t cap = 0;
    struct slice name, value;
    for (struct slice w; (w = take_quoted_word(&l->rest, l->escape)).n;) {
        bool has_value = split_pair(w, &name, &value);
        int r = add_pair(l, in, name, has_value ? &value : NULL, &cap);
        if (r < 0)
            return r;
    }
    return 0;
}

/* ---- the line ---- */

static int find_word(struct dockerfile_line *l, struct slice w, enum dockerfile_word *ret)
{
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        if (slice_eq_nocase(w, words[i].name)) {
            *ret = (enum dockerfile_word)i;
            return 0;
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(unsupported_words); i++)
        if (slice_eq_nocase(w, unsupported_words[i]))
            return LINE_ERR(l, "%s is not supported", unsupported_words[i]);
    return LINE_ERR(l, "unknown instruction: %.*s", shown(w), w.p);
}

int dockerfile_parse_line(struct dockerfile_line *l, struct dockerfile_instruction *in)
{
    struct slice w = dockerfile_take_word(&l->rest);
    int r = find_word(l, w, &in->word);
    if (r == 0)
        r = parse_flags(l, in);
    if (r < 0)
        return r;
    if (!l->rest.n)
        return LINE_ERR(l, "%s needs an argument", words[in->word].name);
    return words[in->word].parse(l, in);
}
