#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Prints "passed failed skipped" of a test report: count.py meson LOG.json | junit REPORT.xml."""
import json
import sys
import xml.etree.ElementTree as ET

MESON = {"OK": 0, "EXPECTEDFAIL": 0, "FAIL": 1, "TIMEOUT": 1, "ERROR": 1, "UNEXPECTEDPASS": 1,
         "INTERRUPT": 1, "SKIP": 2}


def meson(path):
    total = [0, 0, 0]
    with open(path, encoding="utf-8") as log:
        for line in log:
            total[MESON[json.loads(line)["result"]]] += 1
    return total


def junit(path):
    total = [0, 0, 0]
    for suite in ET.parse(path).getroot().iter("testsuite"):
        bad = int(suite.get("failures")) + int(suite.get("errors"))
        skip = int(suite.get("skipped"))
        total[0] += int(suite.get("tests")) - bad - skip
        total[1] += bad
        total[2] += skip
    return total


if __name__ == "__main__":
    print(*{"meson": meson, "junit": junit}[sys.argv[1]](sys.argv[2]))
