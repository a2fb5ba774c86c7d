#!/usr/bin/env bash
# Sourced by scripts that run in stages: `stage NAME COMMAND...` runs a command once. Needs $out, a folder.
#
# Its wall and CPU seconds go to $out/stages/NAME.json; where that file holds the same command and no earlier stage has
# just run, the stage is passed over. Of an interrupted stage only the last attempt is timed, and "attempts" says so.
if [[ "${1:-}" == --help && "${BASH_SOURCE[0]}" == "$0" ]]; then sed -n '2,5s/^# \{0,1\}//p' "$0"; exit 0; fi
mkdir -p "$out/stages"
ran_one=
n_stages=0
stage() {
  local name=$1 base="$out/stages/$1" command status=0 wall user system
  shift
  n_stages=$((n_stages + 1))
  command=$(json_text "$(printf '%q ' "$@")")
  if [[ -z "$ran_one" && -f "$base.json" ]] && grep -qF -- "\"$command\"" "$base.json"; then
    echo "== $name: done before"
    return
  fi
  ran_one=yes
  echo "== $name: $*"
  echo attempt >> "$base.attempts"
  local TIMEFORMAT='%R %U %S'
  { time "$@" 2>&3 || status=$?; } 3>&2 2> "$base.time"
  if ((status)); then
    echo "error: stage $name ended with status $status; the same command goes on from here" >&2
    exit "$status"
  fi
  read -r wall user system < <(tail -n 1 "$base.time")
  printf '{"number": %s, "stage": "%s", "wall_s": %s, "cpu_s": %s, "attempts": %s, "command": "%s"}\n' \
    "$n_stages" "$name" "$wall" "$(awk "BEGIN {print $user + $system}")" "$(grep -c . "$base.attempts")" "$command" > "$base.json"
  rm "$base.time" "$base.attempts"
}

json_text() { printf '%s' "$1" | sed 's/\\/\\\\/g; s/"/\\"/g'; }
