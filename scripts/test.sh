#!/usr/bin/env bash
# Lint, format check, types and tests, set-up included; prints every skipped test and fails when one was not expected.
#
#   bash scripts/test.sh                       what continuous integration runs: 2 cores, no GPU, about 15 minutes
#   bash scripts/test.sh --golden DIR          also the tests on the full golden files (other pytest options work too)
#   bash scripts/test.sh --fast                lint, types and the tests of pure functions: under a minute once set up
#   bash scripts/test.sh tests/test_cli.py     a part; the set of skipped tests is then shown but not compared
#
# Ends with status 0 only if everything passed and the skipped tests are those of tests/expected_skips.txt.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [[ "${1:-}" == --help ]]; then sed -n '2,9s/^# \{0,1\}//p' scripts/test.sh; exit 0; fi
bash scripts/setup.sh
unset PYTHONPATH
# One thread a process: pytest-xdist already fills the cores, and sums come out the same on every machine.
export OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false WANDB_MODE=offline HF_HUB_OFFLINE=1

.venv/bin/ruff check --quiet .
.venv/bin/ruff format --check --quiet . || { echo "error: run .venv/bin/ruff format ." >&2; exit 1; }
.venv/bin/mypy --no-error-summary

# Files without a model, a process or a server in them.
fast=(allowed_sources annotations claims conversation frame_plan fuzz_annotations house judge mixing nano_parser nano_questions
  nano_scoring order packaging positions production_captions production_words render_subtitles score skip_report
  source_times stats words)
if [[ "${1:-}" == --fast ]]; then
  exec .venv/bin/python -m pytest --quiet --numprocesses 2 --dist worksteal -m "not slow and not gpu" \
    $(printf "tests/test_%s.py " "${fast[@]}") "${@:2}"
fi

compare=(--expected-skips tests/expected_skips.txt)
for argument in "$@"; do
  case "$argument" in tests/* | -k | -m | --last-failed | --lf) compare=() ;; esac
done
.venv/bin/python -m pytest --quiet --numprocesses 2 --dist worksteal "${compare[@]}" "$@"
