"""A client by the Apache driver for Python: `client.py PORT PROCESS ADDRESS...`.

Two threads write rows of their own and raise registers by light-weight transactions, with the
driver's default policies. What is asked and answered is printed as events of a history
(`jepsen/src/history.rs`), one a line. After a line on standard input they rest, and the program
prints again and again which nodes the driver knows and which of them answer through it. It ends with
its input.
"""

import json
import os
import sys
import threading
import time

from cassandra import ConsistencyLevel, Unavailable
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile
from cassandra.policies import RetryPolicy

PORT, PROCESS, ADDRESSES = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
THREADS = 2
# As in jepsen/src/clients/mod.rs.
PARTITIONS = 64
VALUES_OF_PROCESS = 1_000_000
REGISTERS = 256
RAISE_ONE_OF = 4
RAISES_IN_TURN = 40
PAUSE_SECONDS = 0.01
VIEW_SECONDS = 0.3
ANSWER_SECONDS_MAX = 5

rests = threading.Event()
printing = threading.Lock()


class NotingPolicy(RetryPolicy):
    """Decides as the default policy does, and notes on a statement that it may have been done."""

    def on_request_error(self, query, *args, **kwargs):
        query.may_be_done = True
        return super().on_request_error(query, *args, **kwargs)

    def on_write_timeout(self, query, *args, **kwargs):
        query.may_be_done = True
        return super().on_write_timeout(query, *args, **kwargs)


def show(line):
    text = json.dumps({"nanos": time.monotonic_ns()} | line)
    with printing:
        print(text, flush=True)


def ask(process, operation, statement, told=lambda result: {}):
    """Runs a bound statement, and shows what became of it. Returns what was told, or None."""
    statement.may_be_done = False
    show({"process": process, "type": "invoke"} | operation)
    try:
        answer = told(session.execute(statement))
        if answer.get("applied") is False and statement.may_be_done:
            # By an attempt whose answer was lost, or not at all.
            raise RuntimeError("refused at a second attempt")
        show({"process": process, "type": "ok"} | operation | answer)
        return answer
    except Exception as error:
        is_refused = isinstance(error, Unavailable) and not statement.may_be_done
        kind, text = "fail" if is_refused else "info", f"{type(error).__name__}: {error}"
        show({"process": process, "type": kind, "error": text} | operation)
        return None


def add(process, value):
    ask(process, {"f": "add", "value": value}, insert.bind((value % PARTITIONS, value)))


def raise_register(process, key):
    def value_of(result):
        row = result.one()
        return {"value": row and row.v}

    told = ask(process, {"f": "read", "key": key, "value": None}, select.bind((key,)), value_of)
    if told is not None and told["value"] is not None:
        value = told["value"]
        operation = {"f": "compare-and-set", "key": key, "from": value, "to": value + 1}
        statement = update.bind((value + 1, key, value))
        ask(process, operation | {"applied": None}, statement,
            lambda result: {"applied": result.was_applied})


def work(process):
    number = 0
    while not rests.is_set():
        add(process, process * VALUES_OF_PROCESS + number)
        if number % RAISE_ONE_OF == 0:
            raise_register(process, number // RAISE_ONE_OF // RAISES_IN_TURN % REGISTERS)
        number += 1
        time.sleep(PAUSE_SECONDS)


def view():
    """Which nodes the driver knows, and which of them answer a statement that is prepared already."""
    began, answered = time.monotonic_ns(), []
    known = list(cluster.metadata.all_hosts())
    for host in known:
        try:
            session.execute(select.bind((0,)), host=host, timeout=ANSWER_SECONDS_MAX)
            answered.append(host.address)
        except Exception:
            pass
    return {"nanos": began, "known": [host.address for host in known], "answered": answered}


def listen():
    if sys.stdin.readline():
        rests.set()
        sys.stdin.read()
    os._exit(0)


threading.Thread(target=listen, daemon=True).start()
profile = ExecutionProfile(
    consistency_level=ConsistencyLevel.QUORUM, retry_policy=NotingPolicy()
)
while True:
    try:
        cluster = Cluster(ADDRESSES, port=PORT, execution_profiles={EXEC_PROFILE_DEFAULT: profile})
        session = cluster.connect("jepsen")
        insert = session.prepare("INSERT INTO elements (k, v) VALUES (?, ?)")
        select = session.prepare("SELECT v FROM registers WHERE k = ?")
        update = session.prepare("UPDATE registers SET v = ? WHERE k = ? IF v = ?")
        break
    except Exception as error:
        print(f"not connected yet: {error}", file=sys.stderr)
        cluster.shutdown()
        time.sleep(1)
insert.is_idempotent = True
select.consistency_level = ConsistencyLevel.SERIAL
show(view())
threads = [threading.Thread(target=work, args=(PROCESS + n,), daemon=True) for n in range(THREADS)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
while True:
    show(view())
    time.sleep(VIEW_SECONDS)
