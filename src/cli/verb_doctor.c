/* SPDX-License-Identifier: Apache-2.0 */
/* doctor: can this machine run microVMs, with what, and what would mend it. */
#include <stdio.h>

#include "base/json.h"
#include "cli/doctor.h"
#include "cli/output.h"

struct options {
    bool json;
};

static const struct option_row rows[] = {
    {"json", 0, OPTION_FLAG, offsetof(struct options, json), 0, 0, NULL, "print JSON"},
    {0},
};

static const char *const levels[] = {
    [FINDING_OK] = "ok", [FINDING_NOTE] = "note", [FINDING_MISSING] = "MISSING"};

static void print(const struct check *k, const struct finding *f)
{
    printf("%-8s %-10s %s\n", levels[f->level], k->name, f->text);
    if (f->fix[0])
        printf("%-19s $ %s\n", "", f->fix);
}

static int run(struct cli *c, const void *options, const struct operands *args)
{
    (void)args;
    const struct options *o = options;
    bool usable = true;
    CLEANUP(cleanup_json)
    json_t *all = json_array();
    for (size_t i = 0; i < doctor_n_checks; i++) {
        struct finding f = {0};
        doctor_checks[i].run(c, &f);
        usable &= f.level != FINDING_MISSING;
        if (!o->json)
            print(&doctor_checks[i], &f);
        json_array_append_new(all,
                              json_pack("{s:s,s:s,s:s,s:s}", "check", doctor_checks[i].name,
                                        "result", levels[f.level], "text", f.text, "fix", f.fix));
    }
    if (o->json) {
        CLEANUP(cleanup_json)
        json_t *report =
            json_pack("{s:b,s:s,s:O}", "usable", usable, "home", c->home, "checks", all);
        print_json(report);
    } else {
        puts(usable ? "\nThis machine can run microVMs."
                    : "\nThis machine cannot run microVMs yet.");
    }
    return usable ? EXIT_OK : EXIT_FAIL;
}

const struct verb verb_doctor = {
    .name = "doctor",
    .help = "what this machine has and lacks for running microVMs",
    .usage = "[--json]",
    .options = rows,
    .size = sizeof(struct options),
    .run = run,
};
