#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""filters.py OUTPUT NAME.filter...: the rules as a C table. The grammar is explained in control.filter."""
import pathlib
import re
import sys

CONDITION = re.compile(r"arg([0-5])(?:&(\w+))?=(\w+)")


def rule(line, where):
    text = line.split("#")[0].split()
    if not text:
        return None
    conditions = []
    for word in text[1:]:
        m = CONDITION.fullmatch(word)
        if not m:
            sys.exit(f"{where}: '{word}' is not a condition")
        conditions.append(f"{{{m[1]}, (uint32_t){m[2] or 'UINT32_MAX'}, (uint32_t){m[3]}}}")
    if len(conditions) > 2:
        sys.exit(f"{where}: at most two conditions")
    return (f'    {{__NR_{text[0]}, {len(conditions)}, {{{", ".join(conditions) or "{0, 0, 0}"}}}, '
            f'"{" ".join(text)}"}},')


def main(output, *sources):
    with open(output, "w", encoding="ascii") as out:
        out.write('/* Generated from jail/filters. */\n#include "vmm/jail/filter_table.h"\n')
        for source in map(pathlib.Path, sources):
            name = source.stem
            lines = enumerate(source.read_text(encoding="ascii").splitlines(), 1)
            rules = [r for n, line in lines if (r := rule(line, f"{source}:{n}"))]
            out.write(f"const struct filter_rule filter_{name}[] = {{\n" + "\n".join(rules) +
                      f"\n}};\nconst unsigned filter_{name}_rules = {len(rules)};\n")


main(*sys.argv[1:])
