#!/usr/bin/env bash
# Training on several nodes: run the same command on each, and they find one another at the first one's address.
#
#   NNODES=2 RDZV_ENDPOINT=node-a:29500 bash scripts/launch_torchrun.sh pt [flags of train.py]
#   NNODES=2 RDZV_ENDPOINT=node-a:29500 bash scripts/launch_torchrun.sh --dry-run sft [flags]
#
# pt and sft stand for scripts/pt_local.sh and scripts/sft_local.sh, whose flags and environment they are (NPROC, MODEL,
# DATA, OUTPUT, DEEPSPEED, ...). NNODES nodes; RDZV_ENDPOINT host and port of one of them, free there and reachable from
# all; RDZV_ID a name that two runs at one endpoint must not share; LOCAL_ADDR this node's address where its host name
# is none. ACCUMULATION follows from the published batch of 512: 512 / (NNODES x NPROC). --dry-run starts nothing and
# prints what each node would execute. Hardware: NNODES machines of NPROC GPUs with the same code, model and data at the
# same paths. OUTPUT may be shared (then add --save_on_each_node False) or each node's own. Under Slurm:
# scripts/launch_slurm.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
fail() { echo "error: $1 (--help)" >&2; exit 2; }
if [[ "${1:-}" == --help ]]; then sed -n '2,14s/^# \{0,1\}//p' scripts/launch_torchrun.sh; exit 0; fi
dry_run=
if [[ "${1:-}" == --dry-run ]]; then dry_run=1; shift; fi
case "${1:-}" in
  pt | sft) script="scripts/$1_local.sh"; shift ;;
  *) fail "unknown stage ${1:-(none)}; give pt or sft" ;;
esac
nodes="${NNODES:-}" endpoint="${RDZV_ENDPOINT:-}"
[[ "$nodes" =~ ^[1-9][0-9]*$ ]] || fail "NNODES=$nodes: set it to the number of nodes, at least 1"
[[ "$endpoint" =~ ^.+:[0-9]+$ ]] || fail "RDZV_ENDPOINT=$endpoint: set it to host:port of one node, such as node-a:29500"
processes=$((nodes * ${NPROC:-8}))
if [[ -z "${ACCUMULATION:-}" ]]; then
  ((512 % processes == 0)) || fail "$nodes nodes of ${NPROC:-8} processes do not divide the batch of 512; set ACCUMULATION"
  export ACCUMULATION=$((512 / processes))
fi
# The nodes' ranks are given out at the meeting, in the order of their host names: the same ones after a restart.
export LAUNCH="--nnodes=$nodes --rdzv_backend=c10d --rdzv_endpoint=$endpoint --rdzv_id=${RDZV_ID:-livecc}"
if [[ -n "${LOCAL_ADDR:-}" ]]; then LAUNCH+=" --local_addr=$LOCAL_ADDR"; fi
if [[ -z "$dry_run" ]]; then exec bash "$script" "$@"; fi
for ((node = 0; node < nodes; node++)); do
  echo "# node $node of $nodes, ${NPROC:-8} processes:"
  DRY_RUN=1 bash "$script" "$@"
done
