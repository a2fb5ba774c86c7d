#!/usr/bin/env bash
# Lint, format check, types and tests, set-up included; prints every skipped test and fails when one was not expected.
#
#   bash scripts/test.sh                       what continuous integration runs: 2 cores, no GPU, about 15 minutes
#   bash scripts/test.sh --golden DIR          also the tests on the full golden files (other pytest options work too)
#   bash scripts/test.sh tests/test_cli.py     a part; the set of skipped tests is then shown but not compared
#
# Ends with status 0 only if everything passed and the skipped tests are those of tests/expected_skips.txt.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [[ "${1:-}" == --help ]]; then sed -n '2,8s/^# \{0,1\}//p' scripts/test.sh; exit 0; fi
bash scripts/setup.sh
unset PYTHONPATH
# One thread a process: pytest-xdist already fills the cores, and sums come out the same on every machine.
export OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false WANDB_MODE=offline HF_HUB_OFFLINE=1

.venv/bin/ruff check --quiet .
.venv/bin/ruff format --check --quiet . || { echo "error: run .venv/bin/ruff format ." >&2; exit 1; }
.venv/bin/mypy --no-error-summary

compare=(--expected-skips tests/expected_skips.txt)
for argument in "$@"; do
  case "$argument" in tests/* | -k | -m | --last-failed | --lf) compare=() ;; esac
done
.venv/bin/python -m pytest --quiet --numprocesses 2 --dist worksteal "${compare[@]}" "$@"
