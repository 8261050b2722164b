#!/bin/sh
# There is no service manager in here: packages must not start daemons when they are installed.
exit 101
