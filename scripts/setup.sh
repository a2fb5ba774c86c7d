#!/usr/bin/env bash
# Make .venv and install requirements.txt into it; nothing happens when both are up to date.
#
#   bash scripts/setup.sh            scripts/quickstart.sh and scripts/test.sh call it themselves
#   PYTHON=python3.12 bash scripts/setup.sh
#
# Needs Python >= 3.11 and about 8 GB of disk. A first run downloads about 3 GB (2-10 minutes); later ones take no time.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [[ "${1:-}" == --help ]]; then sed -n '2,7s/^# \{0,1\}//p' scripts/setup.sh; exit 0; fi

is_recent() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
  local candidate
  for candidate in ${PYTHON:-python3.11 python3.12 python3 python}; do
    if is_recent "$candidate"; then echo "$candidate"; return; fi
  done
  echo "error: Python >= 3.11 is needed, and ${PYTHON:-python3.11, python3.12, python3 and python} did not start as one." \
    "Install one, or name it: PYTHON=/path/to/python3.11 bash $0" >&2
  exit 1
}

if [[ ! -x .venv/bin/python ]]; then
  python=$(find_python)
  echo "setup: making .venv with $("$python" --version)"
  "$python" -m venv .venv
fi
is_recent .venv/bin/python || { echo "error: .venv holds $(.venv/bin/python --version); Python >= 3.11 is needed." \
  "Delete the folder .venv and run this again." >&2; exit 1; }

# The stamp names what was installed: another Python or another requirements.txt installs again.
stamp=.venv/installed_requirements
wanted="$(.venv/bin/python --version) $(.venv/bin/python -c \
  'import hashlib, pathlib; print(hashlib.sha256(pathlib.Path("requirements.txt").read_bytes()).hexdigest())')"
if [[ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]]; then
  echo "setup: installing requirements.txt into .venv (up to 3 GB to download: torch with CUDA, torchvision, transformers, PyAV, ...)"
  .venv/bin/python -m pip install --quiet --quiet --disable-pip-version-check --requirement requirements.txt
  echo "$wanted" > "$stamp"
fi
