#!/usr/bin/env bash
# Three nodes on one machine, and one node beside them: what replication costs.
#
# Usage: benches/scripts/cluster.sh [PART]...     parts: ready write read lwt idle pause away join;
#                                              all without any
#
# Builds release binaries, runs all servers on core 0 and the load generator on core 1, and prints
# Markdown. Three nodes on one core do not show what three machines could do; processor time per
# operation, added up over the nodes, is the figure, in pairs that alternate within one run. While
# one of the two clusters is measured, the other is idle. A join has no load beside it: there all
# nodes share both cores.
#
#   RUN_SECONDS=5   how long one measurement takes
#   PAIRS=3         how many pairs
#   KEYS=200000     rows of the table
#   PORT=9442       port for clients on 127.0.0.1 to 127.0.0.4
#   WORK_DIR=…      where data directories are made (default: a new one in TMPDIR, removed again)
#   TARGET_DIR=…    where built binaries are (default: cargo's; set it to build nothing)
#   SYNC=periodic   how the commit log is synced
#   AWAY_SECONDS=60 how long a node is away in the part of that name
#   JOIN_KEYS=2000000   rows that there are when a fourth node joins
#   HOME_SECONDS=8  how long leaders are given to come home before anything is measured
set -Eeuo pipefail
trap 'echo "$0: line $LINENO failed: $BASH_COMMAND" >&2' ERR
cd "$(dirname "$0")/../.."

RUN_SECONDS=${RUN_SECONDS:-5}
PAIRS=${PAIRS:-3}
KEYS=${KEYS:-200000}
PORT=${PORT:-9442}
SYNC=${SYNC:-periodic}
AWAY_SECONDS=${AWAY_SECONDS:-60}
JOIN_KEYS=${JOIN_KEYS:-2000000}
HOME_SECONDS=${HOME_SECONDS:-8}
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

# The fourth node is a cluster by itself.
ONE=127.0.0.4:$PORT
THREE=127.0.0.1:$PORT,127.0.0.2:$PORT,127.0.0.3:$PORT
pids=()
# Where nodes run.
cores=0

# A node that is waited for is not in pids yet; its report has its number.
stop_all() {
  local pid
  for pid in "${pids[@]:-}" $(cat "$WORK_DIR"/node-*.json 2> /dev/null | field pid); do
    [ -n "$pid" ] && kill -CONT "$pid" 2>/dev/null && kill -KILL "$pid" 2>/dev/null || true
  done
}

# field NAME: the number of that name on standard input, a line of JSON.
field() { sed -n "s/.*\"$1\":\([0-9.e+-]*\).*/\1/p"; }

# median: of the numbers on standard input.
median() { sort -g | awk '{ v[NR] = $1 } END { if (NR) print (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2 }'; }

# ratios NAME FILE_A FILE_B: of the field, B over A, pair by pair; the median.
ratios() { paste <(field "$1" < "$2") <(field "$1" < "$3") | awk '{ print $2 / $1 }' | median; }

# start INDEX FLAGS...: a node on 127.0.0.INDEX, in the background; its report goes to a file.
start() {
  local index=$1; shift
  "$EXAMPLES/first_answer" --keep "127.0.0.$index:$PORT" taskset -c "$cores" env TETHYS_LOG=warn \
    "$BIN/tethys" --data-dir "$WORK_DIR/node-$index" --address "127.0.0.$index" --port "$PORT" \
    --shard-aware-port 0 --storage-port $((PORT + 1)) --http-port $((PORT + 2)) --shards 1 \
    --commitlog-sync "$SYNC" "$@" > "$WORK_DIR/node-$index.json" 2> "$WORK_DIR/node-$index.err" &
}

# await INDEX: until the node has been started and has rested; its process is added to pids.
await() {
  local turn
  for turn in $(seq 600); do
    [ -s "$WORK_DIR/node-$1.json" ] && { pids+=("$(field pid < "$WORK_DIR/node-$1.json")"); return; }
    sleep 0.1
  done
  cat "$WORK_DIR/node-$1.err" >&2; exit 1
}

SEEDS="--seeds 127.0.0.1:$((PORT + 1)),127.0.0.2:$((PORT + 1))"

start_all() {
  local index
  for index in 1 2 3; do start "$index" $SEEDS; done
  for index in 1 2 3; do await "$index"; done
  start 4; await 4
}

pids_of() { if [ "$1" = "$ONE" ]; then echo "${pids[3]}"; else echo "${pids[0]},${pids[1]},${pids[2]}"; fi; }

# load ADDRESSES ARGUMENTS...: one run of the load generator, as JSON.
load() { local to=$1; shift; taskset -c 1 "$EXAMPLES/rawload" --address "$to" --json --keys "$KEYS" "$@"; }

# measure ADDRESSES ARGUMENTS...: one measurement of the servers at those addresses.
measure() {
  local to=$1; shift
  load "$to" --server-pid "$(pids_of "$to")" --warmup 1 --seconds "$RUN_SECONDS" "$@"
}

# compare LABEL FILE A_ADDRESSES "A_ARGUMENTS" B_ADDRESSES "B_ARGUMENTS": a line that compares B with A.
compare() {
  local label=$1 name=$2 pair a=$WORK_DIR/$2-a.json b=$WORK_DIR/$2-b.json
  : > "$a"; : > "$b"
  for pair in $(seq "$PAIRS"); do
    measure "$3" $4 >> "$a"
    measure "$5" $6 >> "$b"
  done
  printf '| %s | %.0f | %.0f | %.2f | %.2f | %.2f | **%.2f** | %.0f / %.0f |\n' "$label" \
    "$(field ops_per_second < "$a" | median)" "$(field ops_per_second < "$b" | median)" \
    "$(ratios ops_per_second "$a" "$b")" \
    "$(field server_cpu_us_per_op < "$a" | median)" "$(field server_cpu_us_per_op < "$b" | median)" \
    "$(ratios server_cpu_us_per_op "$a" "$b")" \
    "$(field p50_us < "$b" | median)" "$(field p99_us < "$b" | median)"
}

table_head() {
  echo; echo "### $1"; echo
  echo "| workload | ops/s $2 | ops/s $3 | rate, of $2 | CPU us/op $2 | CPU us/op $3 | CPU, of $2 | p50 / p99 us $3 |"
  echo '|---|---|---|---|---|---|---|---|'
}

QUORUM='--consistency quorum --routed'

part_ready() {
  local index
  echo; echo '### Three nodes started at once, from empty directories'; echo
  echo '| node | exec to first answer, ms | resident memory after 3 s, MiB |'; echo '|---|---|---|'
  for index in 1 2 3; do
    printf '| %s | %.0f | %.1f |\n' "$index" "$(field first_answer_ms < "$WORK_DIR/node-$index.json")" \
      "$(field idle_memory_mib < "$WORK_DIR/node-$index.json")"
  done
}

part_write() {
  local shape
  table_head "Writes, replication factor 3 at QUORUM, against one node ($SYNC sync)" one three
  for shape in '8 16' '64 1'; do
    set -- $shape
    local flags="--workload write --timestamps --connections $1 --in-flight $2"
    compare "write, $1 x $2" "write-$1" "$ONE" "$flags" "$THREE" "$flags $QUORUM"
  done
}

part_read() {
  table_head 'Reads of three nodes, each sent to the first replica' ONE QUORUM
  local flags='--workload read --connections 8 --in-flight 16 --routed'
  compare 'read, 8 x 16' read "$THREE" "$flags" "$THREE" "$flags --consistency quorum"
}

part_lwt() {
  table_head 'Conditional writes (UPDATE … IF EXISTS) of three nodes' write conditional
  local flags="--connections 8 --in-flight 16 $QUORUM"
  compare 'replication factor 3, 8 x 16' lwt "$THREE" "$flags --workload write" \
    "$THREE" "$flags --workload conditional"
}

# A setting of replication has 128 groups of its own, so eight of them have a thousand.
part_idle() {
  local factor before after index
  for factor in 4 5 6 7 8 9 10; do
    load "127.0.0.1:$PORT" --setup --keyspace "idle_$factor" --replication "$factor"
  done
  sleep 10
  echo; echo '### Idle, 1,000 groups of three members'; echo
  echo '| node | processor, % of a core |'; echo '|---|---|'
  for index in 0 1 2; do
    before=$(awk '{ print $14 + $15 }' "/proc/${pids[index]}/stat")
    sleep 10
    after=$(awk '{ print $14 + $15 }' "/proc/${pids[index]}/stat")
    awk -v node=$((index + 1)) -v ticks=$((after - before)) 'BEGIN { printf "| %d | %.2f |\n", node, ticks / 10 }'
  done
}

# The third node is the one that is lost. Its writes are the client's, with their timestamps.
part_pause() {
  local how
  for how in '' --freeze; do
    echo; echo "### Pause of writes when a node is lost: ${how:-killed}"; echo
    taskset -c 1 "$EXAMPLES/pause" --address "127.0.0.3:$PORT,127.0.0.1:$PORT,127.0.0.2:$PORT" \
      --pid "${pids[2]}" --timestamps $how
    [ -n "$how" ] || restart_third
    sleep 5
  done
}

# restart_third: starts the third node, which has ended, and waits for it.
restart_third() { rm "$WORK_DIR/node-3.json"; start 3 $SEEDS; await 3; pids[2]=${pids[4]}; unset 'pids[4]'; }

# The third node is killed and comes back, while the others have half of the load that they can take.
part_away() {
  local rate load_pid
  local flags="--workload write --timestamps --connections 8 --in-flight 16 --consistency quorum"
  kill -KILL "${pids[2]}"; sleep 3
  local two=127.0.0.1:$PORT,127.0.0.2:$PORT
  rate=$(load "$two" $flags --seconds 4 | field ops_per_second | awk '{ print int($1 / 2) }')
  load "$two" $flags --rate "$rate" --seconds $((AWAY_SECONDS + 60)) > "$WORK_DIR/away.json" &
  load_pid=$!
  sleep "$AWAY_SECONDS"
  echo; echo "### Back after $AWAY_SECONDS s, while $rate writes a second go on"; echo
  rm "$WORK_DIR/node-3.json"; start 3 $SEEDS
  "$EXAMPLES/catch_up" --node "127.0.0.3:$PORT" --others "$two"
  wait "$load_pid"
  echo; echo '| writes from the kill until 60 s after it is back: p50, ms | p99, ms | longest, s | without an answer |'
  echo '|---|---|---|---|'
  for name in p50_us p99_us max_us unanswered; do field $name < "$WORK_DIR/away.json"; done |
    paste -sd' ' | awk '{ printf "| %.1f | %.0f | %.1f | %d |\n", $1 / 1e3, $2 / 1e3, $3 / 1e6, $4 }'
  await 3; pids[2]=${pids[4]}; unset 'pids[4]'
}

# A fourth node joins the three, and takes its part of what they hold.
part_join() {
  local began ended bytes pid
  KEYS=$JOIN_KEYS load "$THREE" --setup --keyspace joined --replication 3 --consistency quorum --load \
    >> "$WORK_DIR/load.json"
  cores=0,1
  for pid in "${pids[@]:0:3}"; do taskset -acp "$cores" "$pid" > "$WORK_DIR/taskset.log"; done
  sleep 5
  echo; echo "### A fourth node joins, $JOIN_KEYS rows of 150 B in three copies"; echo
  began=$(date +%s%N)
  start 5 $SEEDS
  until "$BIN/tethys" status --host 127.0.0.1 --http-port $((PORT + 2)) 2> "$WORK_DIR/status.err" |
    grep -q '^UN *127.0.0.5'; do sleep 0.1; done
  ended=$(date +%s%N)
  await 5
  bytes=$(find "$WORK_DIR/node-5" -path '*table*' -type f -printf '%s\n' | awk '{ n += $1 } END { print n }')
  echo '| seconds until it is in the ring | bytes of its tables then, MB | MB/s |'; echo '|---|---|---|'
  awk -v nanos=$((ended - began)) -v bytes="$bytes" \
    'BEGIN { printf "| %.1f | %.0f | %.0f |\n", nanos / 1e9, bytes / 1e6, bytes * 1e3 / nanos }'
}

if [ $# -eq 0 ]; then set -- ready write read lwt idle pause away join; fi
echo "$(date -u +%F), $(uname -sr), $(nproc) cores: $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1)"
echo "commit $(git rev-parse --short HEAD 2>/dev/null || echo unknown), $PAIRS pairs of $RUN_SECONDS s, $KEYS rows of 150 B"
start_all
load "$ONE" --setup --load > "$WORK_DIR/load.json"
load "$THREE" --setup --replication 3 --consistency quorum --load >> "$WORK_DIR/load.json"
# Leaders that are not at home yet go there.
sleep "$HOME_SECONDS"
for part in "$@"; do "part_$part"; done
