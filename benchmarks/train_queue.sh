#!/usr/bin/env bash
# The developers' training queue: runs of a list, at idle priority, from a worktree at a fixed commit.
#
#   benchmarks/train_queue.sh start|stop|pause|resume|status
#
# Runs lie in ~/runs (RUNS), the list is ~/runs/queue.txt, its format that of `syllabary queue`. The
# code that trains is that of the commit in ~/runs/code: edits in this tree don't touch it. `start`
# makes that worktree of HEAD where there is none; remove it to train with a later commit.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
runs=${RUNS:-$HOME/runs}
code=$runs/code
mkdir -p "$runs"
python=${PYTHON:-$root/.venv/bin/python}
# One thread a run: two runs on two cores are faster than two threads on one run.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} PYTHONPATH=$runs/path SYLLABARY_SPEECH=${SYLLABARY_SPEECH:-$root/../shared/data/speech16k}
queue() { (cd "$runs" && "$python" -m syllabary queue queue.txt "$@"); }
everyone() { # the queue's process and those of its runs
  pid=$(cat "$runs/queue.pid" 2>/dev/null) && kill -0 "$pid" 2>/dev/null || { echo "no queue is at work" >&2; return 1; }
  echo "$pid"; pgrep -P "$pid" || true
}
case ${1:-} in
start)
  if [ ! -d "$code" ]; then
    git -C "$root" worktree prune
    git -C "$root" worktree add -q --detach "$code" HEAD
  fi
  mkdir -p "$runs/path" && ln -sfn "$code" "$runs/path/syllabary"
  # On a line of its own: of a list, $! would be the shell's.
  cd "$runs"
  setsid nohup "$python" -m syllabary queue queue.txt --at-a-time "${AT_A_TIME:-2}" --idle >> queue.log 2>&1 &
  echo $! > "$runs/queue.pid"
  echo "queue started from $(git -C "$code" rev-parse --short HEAD), pid $(cat "$runs/queue.pid")" ;;
stop)
  pid=$(everyone | head -1); everyone | xargs -r kill -CONT; kill -TERM "$pid"
  while kill -0 "$pid" 2>/dev/null; do sleep 1; done
  queue --status ;;
pause) everyone | xargs -r kill -STOP ;;
resume) everyone | xargs -r kill -CONT ;;
status) queue --status ;;
*) sed -n '2,9p' "$0" | cut -c3- >&2; exit 2 ;;
esac
