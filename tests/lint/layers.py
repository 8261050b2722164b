#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Layering: a directory below src/ includes only itself and directories left of it.

base <- {http, proto, store} <- {auth, engine, net, image, guest} <- microvm <- {api, proxy}
     <- {daemon, cli}. Exceptions are listed with their reason."""
import pathlib
import re
import sys

LEVELS = {
    "base": 0,
    "http": 1, "proto": 1, "store": 1, "disk": 1,
    "auth": 2, "engine": 2, "net": 2, "image": 2, "guest": 2, "vmm": 2,
    "microvm": 3,
    "api": 4, "proxy": 4,
    "daemon": 5, "cli": 5,
}
SAME_LEVEL = {
    ("engine", "net"): "a machine's network policy is part of its specification",
}


def main():
    root = pathlib.Path(__file__).resolve().parents[2] / "src"
    bad = 0
    for path in sorted(root.rglob("*.[ch]")):
        layer = path.relative_to(root).parts[0]
        for number, line in enumerate(path.read_text().splitlines(), 1):
            m = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
            if not m:
                continue
            target = m.group(1).split("/")[0]
            where = f"{path.relative_to(root.parent)}:{number}"
            if target not in LEVELS:
                print(f"{where}: include \"{m.group(1)}\" by layer, as \"layer/file.h\"")
                bad += 1
            elif target != layer and LEVELS[target] >= LEVELS[layer] \
                    and (layer, target) not in SAME_LEVEL:
                print(f"{where}: {layer} must not include {target}")
                bad += 1
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
