#!/bin/sh
# Prints the first of the given Pythons, else of this machine's, that can carry the project (3.11 is the reference,
# 3.12 works too) and can make a virtual environment; says what to do where there is none.
fits='import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 13))'
[ $# -gt 0 ] || set -- ${PYTHON:-python3.11 python3.12 python3 python}
for candidate in "$@"; do
    # Run it: a launcher of that name (pyenv's, the Windows store's) may have no Python behind it.
    if "$candidate" -c "$fits" >/dev/null 2>&1; then
        command -v "$candidate"
        exit 0
    fi
done
echo "None of these is a Python 3.11 or 3.12 that can make virtual environments: $*. Install one (Debian, Ubuntu:" \
    "python3.11-venv; macOS: brew install python@3.11) or name it: make PYTHON=/path/to/python3.11 ..." >&2
exit 1
