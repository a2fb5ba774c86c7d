#!/usr/bin/env bash
# What only a GPU runs: its tests, then streaming and evaluation on random weights of the 7B shape.
#
#   bash scripts/gpu_check.sh              installs nothing; takes .venv if it is there, else python3, or $PYTHON
#   bash scripts/gpu_check.sh --tests      the tests alone
#
# Hardware: one CUDA GPU with 40 GB. Time: under 10 minutes. Writes outputs/gpu_check/.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
case "${1:-}" in
  --help) sed -n '2,8s/^# \{0,1\}//p' scripts/gpu_check.sh; exit 0 ;;
  "" | --tests) ;;
  *) echo "error: unknown argument $1 (--help lists them)" >&2; exit 2 ;;
esac
export TOKENIZERS_PARALLELISM=false WANDB_MODE=offline HF_HUB_OFFLINE=1
python=${PYTHON:-python3}
[[ -n "${PYTHON:-}" || ! -x .venv/bin/python ]] || python=.venv/bin/python
"$python" -c 'import torch, sys; sys.exit(not torch.cuda.is_available())' || { echo "error: $python sees no CUDA GPU" >&2; exit 1; }
"$python" -c 'import torch, transformers; print(torch.cuda.get_device_name(), "torch", torch.__version__, "transformers", transformers.__version__)'
"$python" -m pytest --quiet -p no:cacheprovider -n 0 tests/test_gpu.py
if [[ "${1:-}" != --tests ]]; then
  "$python" dev/bench/bench_streaming.py gpu --sessions_s 30 --output_dir outputs/gpu_check
  "$python" dev/bench/bench_eval.py --model_name_or_path 7B --n_videos 2 --visual_tokens 24576 --subtitle_words 300
fi
