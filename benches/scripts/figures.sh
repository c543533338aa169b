#!/usr/bin/env bash
# The node's figures against the null server, CDC against no CDC, start, memory and replay.
#
# Usage: benches/scripts/figures.sh [PART]...     parts: null cdc start replay; all without any
#
# Builds release binaries, runs servers on core 0 and the load generator on core 1 (so it takes two
# cores and a machine that does nothing else), and prints Markdown. Every comparison alternates
# within one run, A B A B: rates change with the neighbours of a virtual machine, so ratios are of
# pairs, and processor time per operation is the figure to trust. While one server is measured, the
# other is stopped.
#
#   RUN_SECONDS=5   how long one measurement takes
#   PAIRS=3         how many pairs
#   KEYS=200000     rows of the table
#   PORT=9342       first of four ports on 127.0.0.1
#   WORK_DIR=…      where data directories are made (default: a new one in TMPDIR, removed again)
#   TARGET_DIR=…    where built binaries are (default: cargo's; set it to build nothing)
#   LOG_MIB=1024    how much log the replay is to have; a shard flushes before its log has 512 MiB,
#                   so the part uses a shard for each 448 MiB
set -euo pipefail
cd "$(dirname "$0")/../.."

RUN_SECONDS=${RUN_SECONDS:-5}
PAIRS=${PAIRS:-3}
KEYS=${KEYS:-200000}
PORT=${PORT:-9342}
LOG_MIB=${LOG_MIB:-1024}
if [ -z "${TARGET_DIR:-}" ]; then
  cargo build -q --release -p node -p benches --bins --examples >&2
  TARGET_DIR=target
fi
BIN=$TARGET_DIR/release
EXAMPLES=$BIN/examples
if [ -z "${WORK_DIR:-}" ]; then
  WORK_DIR=$(mktemp -d)
  trap 'stop_all; rm -rf "$WORK_DIR"' EXIT
else
  mkdir -p "$WORK_DIR"
  trap 'stop_all' EXIT
fi
started=()

stop_all() {
  local pid
  for pid in "${started[@]:-}"; do
    [ -n "$pid" ] && kill -CONT "$pid" 2>/dev/null && kill -KILL "$pid" 2>/dev/null || true
  done
}

# field NAME: the number of that name on standard input, a line of JSON.
field() { sed -n "s/.*\"$1\":\([0-9.e+-]*\).*/\1/p"; }

# median: of the numbers on standard input.
median() { sort -g | awk '{ v[NR] = $1 } END { if (NR) print (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2 }'; }

# start NAME PORT COMMAND...: sets PID when the server answers.
start() {
  local name=$1 port=$2; shift 2
  "$EXAMPLES/first_answer" --keep "127.0.0.1:$port" "$@" \
    > "$WORK_DIR/$name.json" 2> "$WORK_DIR/$name.err" || { cat "$WORK_DIR/$name.err" >&2; exit 1; }
  PID=$(field pid < "$WORK_DIR/$name.json")
  started+=("$PID")
}

# tethys PORT DIR SHARDS FLAGS...: the command line of a node, without logging to the terminal.
tethys_command() {
  local port=$1 dir=$2 shards=$3; shift 3
  echo env RUST_LOG=warn "$BIN/tethys" --data-dir "$dir" --address 127.0.0.1 --port "$port" \
    --shard-aware-port 0 --storage-port 0 --http-port 0 --shards "$shards" "$@"
}

# load ARGUMENTS...: one run of the load generator, as JSON.
load() { taskset -c 1 "$EXAMPLES/rawload" --json --keys "$KEYS" "$@"; }

# measure PORT PID ARGUMENTS...: one measurement.
measure() {
  local port=$1 pid=$2; shift 2
  load --address "127.0.0.1:$port" --server-pid "$pid" --warmup 1 --seconds "$RUN_SECONDS" "$@"
}

# ratios NAME FILE_A FILE_B: of the field, B over A, pair by pair; the median.
ratios() { paste <(field "$1" < "$2") <(field "$1" < "$3") | awk '{ print $2 / $1 }' | median; }

# row LABEL FILE_A FILE_B: a line of a table that compares B with A.
row() {
  local label=$1 a=$2 b=$3
  printf '| %s | %.0f | %.0f | **%.2f** | %.2f | %.2f | **%.2f** | %.0f / %.0f |\n' "$label" \
    "$(field ops_per_second < "$a" | median)" "$(field ops_per_second < "$b" | median)" \
    "$(ratios ops_per_second "$a" "$b")" \
    "$(field server_cpu_us_per_op < "$a" | median)" "$(field server_cpu_us_per_op < "$b" | median)" \
    "$(ratios server_cpu_us_per_op "$b" "$a")" \
    "$(field p50_us < "$b" | median)" "$(field p99_us < "$b" | median)"
}

table_head() {
  echo "| $1 | ops/s $2 | ops/s $3 | rate, of $2 | CPU us/op $2 | CPU us/op $3 | CPU, $2 of $3 | p50 / p99 us $3 |"
  echo '|---|---|---|---|---|---|---|---|'
}

part_null() {
  local sync shape workload pair tethys null a b null_port=$PORT tethys_port=$((PORT + 1))
  echo; echo '### Against the null server'; echo
  table_head 'workload' null Tethys
  start null "$null_port" taskset -c 0 "$EXAMPLES/null_cql" "$null_port"; null=$PID
  for sync in group periodic; do
    start "tethys-$sync" "$tethys_port" taskset -c 0 \
      $(tethys_command "$tethys_port" "$WORK_DIR/$sync" 1 --commitlog-sync "$sync"); tethys=$PID
    kill -STOP "$null"
    load --address "127.0.0.1:$tethys_port" --setup --load > "$WORK_DIR/load.json"
    for workload in read write; do
      [ "$workload.$sync" = read.group ] && continue # reads know nothing of the log
      for shape in '64 1' '8 16'; do
        set -- $shape
        a=$WORK_DIR/null-$sync-$workload-$1.json b=$WORK_DIR/tethys-$sync-$workload-$1.json
        : > "$a"; : > "$b"
        for pair in $(seq "$PAIRS"); do
          kill -STOP "$tethys"; kill -CONT "$null"
          measure "$null_port" "$null" --any-values --workload "$workload" \
            --connections "$1" --in-flight "$2" >> "$a"
          kill -STOP "$null"; kill -CONT "$tethys"
          measure "$tethys_port" "$tethys" --timestamps --workload "$workload" \
            --connections "$1" --in-flight "$2" >> "$b"
        done
        row "$workload, $1 x $2$([ $workload = write ] && echo ", $sync sync")" "$a" "$b"
      done
    done
    kill -TERM "$tethys"; wait_gone "$tethys"
  done
  kill -CONT "$null"; kill -TERM "$null"
}

part_cdc() {
  local port=$((PORT + 2)) tethys mode a b pair
  local -A options=(
    [delta]="{'enabled': true}"
    [keys]="{'enabled': true, 'delta': 'keys'}"
    [preimage]="{'enabled': true, 'preimage': true}"
    [pre_and_post]="{'enabled': true, 'preimage': 'full', 'postimage': true}"
  )
  echo; echo '### CDC, writes 8 x 16, periodic sync, against a table without CDC'; echo
  table_head 'cdc' off on
  start tethys-cdc "$port" taskset -c 0 \
    $(tethys_command "$port" "$WORK_DIR/cdc" 1 --commitlog-sync periodic); tethys=$PID
  load --address "127.0.0.1:$port" --setup --load --table off > "$WORK_DIR/load.json"
  for mode in delta keys preimage pre_and_post; do
    load --address "127.0.0.1:$port" --setup --load --table "$mode" --cdc "${options[$mode]}" \
      > "$WORK_DIR/load.json"
    a=$WORK_DIR/cdc-off-$mode.json b=$WORK_DIR/cdc-$mode.json
    : > "$a"; : > "$b"
    for pair in $(seq "$PAIRS"); do
      measure "$port" "$tethys" --timestamps --workload write --table off >> "$a"
      measure "$port" "$tethys" --timestamps --workload write --table "$mode" >> "$b"
    done
    row "$mode" "$a" "$b"
  done
  kill -TERM "$tethys"; wait_gone "$tethys"
}

part_start() {
  local port=$((PORT + 3)) run file=$WORK_DIR/start.json
  : > "$file"
  for run in 1 2 3 4 5; do
    "$EXAMPLES/first_answer" "127.0.0.1:$port" \
      $(tethys_command "$port" "$WORK_DIR/start-$run" 1) >> "$file" 2> "$WORK_DIR/start.err"
  done
  echo; echo '### Start and memory (an empty directory, median of 5)'; echo
  echo '| | |'; echo '|---|---|'
  printf '| exec to first answer | %.0f ms |\n' "$(field first_answer_ms < "$file" | median)"
  printf '| resident memory, idle | %.1f MiB |\n' "$(field idle_memory_mib < "$file" | median)"
}

part_replay() {
  local port=$((PORT + 3)) dir=$WORK_DIR/replay shards=$(((LOG_MIB + 447) / 448)) mib rows
  start replay "$port" $(tethys_command "$port" "$dir" "$shards" --memory 8G --commitlog-sync periodic)
  mib=0 rows=0
  while [ "$mib" -lt "$LOG_MIB" ] && [ "$rows" -lt 12000000 ]; do
    rows=$((rows + 250000))
    "$EXAMPLES/rawload" --address "127.0.0.1:$port" --json --setup --load --keys 250000 \
      --timestamps > "$WORK_DIR/load.json"
    mib=$(du -cm "$dir"/shard-*/log | tail -1 | cut -f1)
  done
  kill -KILL "$PID"; wait_gone "$PID"
  "$EXAMPLES/first_answer" "127.0.0.1:$port" \
    $(tethys_command "$port" "$dir" "$shards" --memory 8G) > "$WORK_DIR/replay.json" 2> "$WORK_DIR/replay.err"
  echo; echo '### Replay after kill -9'; echo
  echo '| | |'; echo '|---|---|'
  printf '| log on disk, rows written | %s MiB in %s shards, %s |\n' "$mib" "$shards" "$rows"
  printf '| exec to first answer | %.0f ms |\n' "$(field first_answer_ms < "$WORK_DIR/replay.json")"
}

wait_gone() {
  local turn
  for turn in $(seq 600); do kill -0 "$1" 2>/dev/null || return 0; sleep 0.1; done
  echo "process $1 does not end" >&2; exit 1
}

if [ $# -eq 0 ]; then set -- null cdc start replay; fi
echo "$(date -u +%F), $(uname -sr), $(nproc) cores: $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1)"
echo "commit $(git rev-parse --short HEAD 2>/dev/null || echo unknown), $PAIRS pairs of $RUN_SECONDS s, $KEYS rows of 150 B"
for part in "$@"; do "part_$part"; done
