/* SPDX-License-Identifier: Apache-2.0 */
/* Every refusal of the parser and the planner: the text the user reads, with its line. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support.h"

#define FROM "FROM debian:12\n"

static const struct {
    const char *dockerfile, *error;
} table[] = {
    {"", "Dockerfile:1: the file has no instructions"},
    {"# only a comment\n\n", "Dockerfile:2: the file has no instructions"},
    {"FROM\n", "Dockerfile:1: FROM needs an argument"},
    {"FROM a b\n", "Dockerfile:1: FROM takes an image, or an image AS a name"},
    {"FROM a AS\n", "Dockerfile:1: FROM takes an image, or an image AS a name"},
    {"FROM a AS 1x\n", "Dockerfile:1: '1x' cannot be the name of a stage"},
    {"FROM a AS scratch\n", "Dockerfile:1: 'scratch' cannot be the name of a stage"},
    {"FROM nope\n", "Dockerfile:1: base image 'nope' is not available"},
    {"FROM $NOPE\n", "Dockerfile:1: FROM: '$NOPE' expands to nothing"},
    {"FROM --platform=windows/amd64 debian:12\n",
     "Dockerfile:1: FROM --platform=windows/amd64 is not supported: linux/amd64 and linux/arm64 "
     "are"},
    {"RUN x\n" FROM, "Dockerfile:1: RUN before the first FROM"},
    {"ARG A=1\n", "Dockerfile:1: there is no FROM"},
    {FROM "FORM x\n", "Dockerfile:2: unknown instruction: FORM"},
    {FROM "\n# c\nVOLUME /data\n", "Dockerfile:4: VOLUME is not supported"},
    {FROM "healthcheck NONE\n", "Dockerfile:2: HEALTHCHECK is not supported"},
    {FROM "ONBUILD RUN x\n", "Dockerfile:2: ONBUILD is not supported"},
    {FROM "RUN --mount=type=cache,target=/x y\n", "Dockerfile:2: RUN --mount is not supported"},
    {FROM "RUN --network=none y\n", "Dockerfile:2: RUN --network is not supported"},
    {FROM "RUN --wat y\n", "Dockerfile:2: RUN: unknown flag: --wat"},
    {FROM "COPY --parents a b\n", "Dockerfile:2: COPY --parents is not supported"},
    {FROM "ADD --checksum=sha256:0 a b\n", "Dockerfile:2: ADD --checksum is not supported"},
    {FROM "ADD --from=x a b\n", "Dockerfile:2: ADD: unknown flag: --from"},
    {FROM "COPY --from= a b\n", "Dockerfile:2: COPY: --from needs a value"},
    {FROM "COPY --chown=a --chown=b a b\n", "Dockerfile:2: COPY: --chown is given twice"},
    {FROM "COPY --link=maybe a b\n", "Dockerfile:2: --link takes true or false"},
    {FROM "RUN\n", "Dockerfile:2: RUN needs an argument"},
    {FROM "RUN []\n", "Dockerfile:2: RUN needs a command"},
    {FROM "RUN [\"a\", 1]\n", "Dockerfile:2: RUN: the JSON form takes strings only"},
    {FROM "SHELL /bin/bash\n",
     "Dockerfile:2: SHELL takes a JSON array, such as [\"/bin/bash\", \"-c\"]"},
    {FROM "ENV A\n", "Dockerfile:2: ENV needs a name and a value"},
    {FROM "ENV A=1 B\n", "Dockerfile:2: ENV: 'B' has no '=': write name=value"},
    {FROM "ENV =1\n", "Dockerfile:2: ENV: a name is missing before '='"},
    {FROM "ENV A='x\n", "Dockerfile:2: a single quote is not closed"},
    {FROM "ENV A=\"x\n", "Dockerfile:2: a double quote is not closed"},
    {FROM "ENV A=${B\n", "Dockerfile:2: '${' is not closed"},
    {FROM "ENV A=${}\n", "Dockerfile:2: bad substitution: '${' needs a variable name"},
    {FROM "ENV A=${B/x/y}\n", "Dockerfile:2: unsupported modifier '/' in '${B'"},
    {FROM "ENV A=${B:=y}\n", "Dockerfile:2: unsupported modifier ':=' in '${B'"},
    {FROM "ENV A=\"${B:?set it}\"\n", "Dockerfile:2: B: set it"},
    {FROM "ENV A=${B?}\n", "Dockerfile:2: B: must be set"},
    {FROM "COPY a\n", "Dockerfile:2: COPY needs a source and a destination"},
    {FROM "COPY a.txt gone.txt /x\n",
     "Dockerfile:2: COPY: with several sources the destination must be a directory and end with "
     "'/'"},
    {FROM "COPY app.py /\n", "Dockerfile:2: COPY: no such file in the build context: app.py"},
    {FROM "COPY *.go /\n", "Dockerfile:2: COPY: nothing in the build context matches: *.go"},
    {FROM "COPY [a-.txt /\n", "Dockerfile:2: COPY: '[a-.txt': malformed [class] in the pattern"},
    {FROM "COPY a.txt/x /\n", "Dockerfile:2: COPY: no such file in the build context: a.txt/x"},
    {FROM "COPY loop /\n", "Dockerfile:2: COPY: no such file in the build context: loop"},
    {FROM "COPY $NONE /\n", "Dockerfile:2: COPY: a source is empty"},
    {FROM "COPY a.txt $NONE\n", "Dockerfile:2: COPY: the destination is empty"},
    {FROM "COPY --chown=a:b:c a.txt /\n",
     "Dockerfile:2: COPY --chown: 'a:b:c' is not user[:group]"},
    {FROM "COPY --chmod=u+x a.txt /\n",
     "Dockerfile:2: COPY --chmod: 'u+x' is not an octal mode such as 0755"},
    {FROM "COPY --chmod=99999 a.txt /\n",
     "Dockerfile:2: COPY --chmod: '99999' is not an octal mode such as 0755"},
    {FROM "ADD https://example.com/x /x\n",
     "Dockerfile:2: ADD of a URL is not supported: fetch it in a RUN step, or put the file into "
     "the build context"},
    {FROM "ADD git@example.com:x.git /x\n",
     "Dockerfile:2: ADD of a URL is not supported: fetch it in a RUN step, or put the file into "
     "the build context"},
    {FROM "COPY <<EOF /x\nno end\n", "Dockerfile:2: here-document 'EOF' has no end"},
    {FROM "COPY <<a/b /x\na/b\n", "Dockerfile:2: COPY: 'a/b' cannot be the name of a file"},
    {FROM "COPY --from=0 <<E /x\nE\n",
     "Dockerfile:2: --from=0: only stages 0 to -1 are finished before this line"},
    {"FROM debian:12 AS a\nFROM debian:12 AS A\n", "Dockerfile:2: there are two stages named 'a'"},
    {FROM "COPY --from=late /x /x\nFROM debian:12 AS late\nCOPY --from=0 /x /y\n",
     "Dockerfile:2: --from=late: the stage of that name is not finished before this line"},
    {"FROM debian:12 AS a\nCOPY --from=a /x /x\n",
     "Dockerfile:2: --from=a: the stage of that name is not finished before this line"},
    {"FROM debian:12 AS a\nRUN x\nFROM a\nCOPY --from=7 /x /x\n",
     "Dockerfile:4: --from=7: only stages 0 to 0 are finished before this line"},
    {FROM "COPY --from=$X /x /x\n",
     "Dockerfile:2: --from takes no variables: name a stage 'FROM ... AS name' instead"},
    {FROM "COPY --from=nginx /x /x\n", "Dockerfile:2: base image 'nginx' is not available"},
    {"FROM bare\nRUN x\n\nENV A=1\n",
     "Dockerfile:4: the image has neither ENTRYPOINT nor CMD: nothing to start"},
    {FROM "CMD []\n", "Dockerfile:2: the image has neither ENTRYPOINT nor CMD: nothing to start"},
    {FROM "EXPOSE 0\n", "Dockerfile:2: EXPOSE: '0' is not port[-port][/tcp|/udp|/sctp]"},
    {FROM "EXPOSE 80/http\n",
     "Dockerfile:2: EXPOSE: '80/http' is not port[-port][/tcp|/udp|/sctp]"},
    {FROM "EXPOSE 70000\n", "Dockerfile:2: EXPOSE: '70000' is not port[-port][/tcp|/udp|/sctp]"},
    {FROM "EXPOSE 90-80\n", "Dockerfile:2: EXPOSE: '90-80' is not port[-port][/tcp|/udp|/sctp]"},
    {FROM "EXPOSE 1-65535\n", "Dockerfile:2: EXPOSE: more than 4096 ports"},
    {FROM "STOPSIGNAL SIGNOPE\n", "Dockerfile:2: STOPSIGNAL: there is no signal 'SIGNOPE'"},
    {FROM "USER $NONE\n", "Dockerfile:2: USER: '$NONE' expands to nothing"},
    {FROM "WORKDIR $NONE\n", "Dockerfile:2: WORKDIR: '$NONE' expands to nothing"},
    {"# escape=x\n" FROM, "Dockerfile:1: the escape character must be \\ or `, not 'x'"},
    {"# escape=`\n# escape=`\n" FROM, "Dockerfile:2: directive 'escape' is given twice"},
    {FROM "RUN \xff\n", "Dockerfile:2: the file is not valid UTF-8"},
    {FROM "RU\x1bN x\n", "Dockerfile:2: unknown instruction: RU N"},
};

static void test_table(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct support_plan s;
        support_plan(&s, table[i].dockerfile, "file 0644 a.txt x\nlink loop loop\n", NULL, NULL);
        if (s.r >= 0 || strcmp(s.e.text, table[i].error) != 0)
            fail_msg("%s: got %s", table[i].dockerfile, s.r < 0 ? s.e.text : "a plan");
        support_plan_done(&s);
    }
}

static int parse(const char *p, size_t n, struct err *e)
{
    struct dockerfile *d = NULL;
    int r = dockerfile_parse(p, n, &d, e);
    dockerfile_free(d);
    return r;
}

static void test_nul(void **state)
{
    (void)state;
    struct err e = {0};
    assert_int_equal(parse("FROM x\nRUN a\0b\n", 15, &e), -EINVAL);
    assert_string_equal(e.text, "Dockerfile:2: the file has a NUL byte in it");
}

static char *repeat(const char *head, const char *text, size_t times, size_t *n)
{
    struct buf b = BUF_INIT(0);
    assert_int_equal(buf_adds(&b, head), 0);
    for (size_t i = 0; i < times; i++)
        assert_int_equal(buf_adds(&b, text), 0);
    *n = b.len;
    return buf_take(&b);
}

static const struct {
    const char *head, *text;
    size_t times;
    const char *error;
} limits[] = {
    {"#", "x", DOCKERFILE_MAX_BYTES, "Dockerfile:1: the file is larger than 1048576 bytes"},
    {FROM, "USER x\n", DOCKERFILE_MAX_INSTRUCTIONS, "Dockerfile:1001: more than 1000 instructions"},
    {FROM "RUN ", "x", DOCKERFILE_MAX_LINE,
     "Dockerfile:2: the instruction is longer than 131072 bytes"},
    {FROM "COPY ", "x ", DOCKERFILE_MAX_WORDS + 1, "Dockerfile:2: COPY: more than 2048 words"},
    {FROM "LABEL ", "x=y ", DOCKERFILE_MAX_WORDS + 1, "Dockerfile:2: LABEL: more than 2048 words"},
    {FROM "RUN ", "<<E ", DOCKERFILE_MAX_HEREDOCS + 1, "Dockerfile:2: more than 16 here-documents"},
};

static void test_limits(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(limits); i++) {
        struct err e = {0};
        size_t n;
        char *text = repeat(limits[i].head, limits[i].text, limits[i].times, &n);
        assert_int_equal(parse(text, n, &e), -EMSGSIZE);
        assert_string_equal(e.text, limits[i].error);
        free(text);
    }
}

static void expect_error(const char *dockerfile, const char *error)
{
    struct support_plan s;
    support_plan(&s, dockerfile, "", NULL, NULL);
    if (s.r >= 0 || strcmp(s.e.text, error) != 0)
        fail_msg("wanted %s, got %s", error, s.r < 0 ? s.e.text : "a plan");
    support_plan_done(&s);
}

static void test_plan_limits(void **state)
{
    (void)state;
    size_t n;
    char *text = repeat("", "FROM debian:12\n", PLAN_MAX_STAGES + 1, &n);
    expect_error(text, "Dockerfile:101: more than 100 stages");
    free(text);
    /* Doubling a value twenty times over must end at the limit, not in memory. */
    text = repeat(FROM "ENV A=0123456789abcdef\n", "ENV A=$A$A\n", 20, &n);
    expect_error(text, "Dockerfile:13: more than 1000 variables or 32768 bytes of them");
    free(text);
    text = repeat(FROM "ENV ", "$A", 2000, &n);
    free(text);
    text = repeat(FROM "ARG A=0123456789abcdef\nLABEL x=", "$A$A$A$A", 1000, &n);
    expect_error(text, "Dockerfile:3: the value expands to more than 32768 bytes");
    free(text);
    text = repeat(FROM "ENV A=", "${A:-", 30, &n);
    expect_error(text, "Dockerfile:2: substitutions are nested deeper than 16");
    free(text);
    text = repeat(FROM "RUN ", "x", 70000, &n);
    expect_error(text, "Dockerfile:2: RUN: the command and its environment are larger than 65536 "
                       "bytes");
    free(text);
}

/* A great many large values: the memory of the whole plan has a ceiling, too. */
static void test_plan_memory(void **state)
{
    (void)state;
    struct buf b = BUF_INIT(0);
    size_t n;
    char *big = repeat("", "x", 30000, &n);
    assert_int_equal(buf_addf(&b, FROM "ARG B=%s\n", big), 0);
    for (unsigned i = 0; i < 900; i++) {
        assert_int_equal(buf_adds(&b, "LABEL"), 0);
        for (unsigned k = 0; k < 90; k++)
            assert_int_equal(buf_adds(&b, " a=$B"), 0);
        assert_int_equal(buf_adds(&b, "\n"), 0);
    }
    struct support_plan s;
    support_plan(&s, b.data, "", NULL, NULL);
    assert_int_equal(s.r, -EMSGSIZE);
    assert_non_null(strstr(s.e.text, ": the build plan is larger than 67108864 bytes"));
    support_plan_done(&s);
    buf_done(&b);
    free(big);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),       cmocka_unit_test(test_nul),
        cmocka_unit_test(test_limits),      cmocka_unit_test(test_plan_limits),
        cmocka_unit_test(test_plan_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
