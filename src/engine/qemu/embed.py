#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""embed.py NAME INPUT OUTPUT: the bytes of a file as a C array NAME and its size NAME_size."""
import sys

name, source, target = sys.argv[1:]
with open(source, "rb") as f:
    data = f.read()
with open(target, "w", encoding="ascii") as f:
    f.write('/* Generated. */\n#include "engine/qemu/spawn.h"\n')
    f.write("const unsigned char %s[] = {\n" % name)
    for i in range(0, len(data), 16):
        f.write("    " + "".join("0x%02x, " % b for b in data[i:i + 16]).rstrip() + "\n")
    f.write("};\nconst size_t %s_size = sizeof %s;\n" % (name, name))
