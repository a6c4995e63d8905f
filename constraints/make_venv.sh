#!/bin/sh
# Makes .venv from Python 3.11 or 3.12, or keeps one that works. $PYTHON names a certain one.
set -eu

supported() {
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null
}

if [ -x .venv/bin/python ] && supported .venv/bin/python; then
    exit 0
fi
for candidate in ${PYTHON:-python3 python3.12 python3.11}; do
    if supported "$candidate"; then
        echo "making .venv with $("$candidate" --version)"
        rm -rf .venv
        "$candidate" -m venv .venv || {
            rm -rf .venv
            echo "error: $candidate cannot make a virtual environment; on Debian install python3-venv" >&2
            exit 1
        }
        exit 0
    fi
done
echo "error: Python 3.11 or 3.12 is needed, and ${PYTHON:-python3} is $("${PYTHON:-python3}" --version 2>&1 || true)" >&2
echo "install one of them, or name it: make setup PYTHON=/path/to/python3.12" >&2
exit 1
