"""Runs the statements of a transcript and prints what comes back, in the transcript's own form.

    transcript.py PORT FILE          compares, and fails with the difference
    transcript.py PORT FILE record   writes FILE anew

The answers in the files are those of Apache Cassandra 5.0.9: recorded on one, as is.

A transcript is blocks with a line between them:

    # a comment
    level QUORUM              options: consistency, serial consistency, timestamp, protocol batch
    serial LOCAL_SERIAL
    timestamp 5
    batch UNLOGGED
    > a statement, or several of a batch
    with [1, None, UNSET]     values: the statement is prepared (in a batch, one such line for each)
    the answer
"""
import difflib
import sys

from cassandra import ConsistencyLevel
from cassandra.cluster import Cluster, ExecutionProfile, EXEC_PROFILE_DEFAULT
from cassandra.query import (
    BatchStatement, BatchType, SimpleStatement, UNSET_VALUE, tuple_factory)
from cassandra.util import OrderedMapSerializedKey, SortedSet
from cassandra.policies import FallthroughRetryPolicy

OPTIONS = ("level ", "serial ", "timestamp ", "batch ", "with ", "> ", "# ", "after ")


def shown(value):
    """A value, the same in every run."""
    if isinstance(value, (SortedSet, set, frozenset)):
        return "{" + ", ".join(shown(item) for item in value) + "}"
    if isinstance(value, (OrderedMapSerializedKey, dict)):
        return "{" + ", ".join(f"{shown(k)}: {shown(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(shown(item) for item in value) + "]"
    if isinstance(value, tuple):
        return "(" + ", ".join(shown(item) for item in value) + ")"
    return repr(value)


def answer(session, lines):
    statements, values, options = [], [], {}
    for line in lines:
        if line.startswith("> "):
            statements.append(line[2:])
            values.append(None)
        elif line.startswith("with "):
            values[-1] = eval(line[5:], {"UNSET": UNSET_VALUE})
        elif not line.startswith("# "):
            name, value = line.split(" ", 1)
            options[name] = value
    out = []
    try:
        run(session, statements, values, options, out)
    except Exception as error:
        out.append(told(error))
    return out


def told(error):
    name = type(error).__name__
    cause = getattr(error, "errors", None)
    if cause:
        error = next(iter(cause.values()))
    message = getattr(error, "message", None) or str(error)
    prefix = 'Error from server: '
    text = str(message)
    if text.startswith(prefix):
        text = text.split('message="', 1)[1].rsplit('"', 1)[0]
    # Where a text cannot be parsed is said in other words.
    return name if name == "SyntaxException" else f"{name}: {text}"


def run(session, statements, values, options, out):
    level = ConsistencyLevel.name_to_value[options.get("level", "ONE")]
    serial = options.get("serial")
    serial = ConsistencyLevel.name_to_value[serial] if serial else None
    made = []
    for text, given in zip(statements, values):
        if given is None:
            made.append((SimpleStatement(text), ()))
            continue
        prepared = session.prepare(text)
        specs = [f"{c.name} {c.type.cql_parameterized_type()}" for c in prepared.column_metadata]
        key = prepared.routing_key_indexes
        out.append(f"markers: {', '.join(specs)}; key: {key}")
        if prepared.result_metadata:
            out.append(f"columns: {[c[2] for c in prepared.result_metadata]}")
        made.append((prepared, given))
    if "batch" in options:
        kind = getattr(BatchType, options["batch"])
        statement = BatchStatement(batch_type=kind, consistency_level=level,
                                   serial_consistency_level=serial)
        for one, given in made:
            statement.add(one, given) if given else statement.add(one)
    else:
        statement, given = made[0]
        if values[0] is not None:
            statement = statement.bind(given)
        statement.consistency_level = level
        if serial is not None:
            statement.serial_consistency_level = serial
    if "timestamp" in options:
        session.timestamp_generator = lambda: int(options["timestamp"])
        session.use_client_timestamp = True
    try:
        result = session.execute(statement)
    finally:
        session.use_client_timestamp = False
    if result.column_names is None:
        out.append("done")
        return
    types = [t.cql_parameterized_type() for t in result.column_types]
    out.append(" | ".join(f"{n} {t}" for n, t in zip(result.column_names, types)))
    rows = result.current_rows
    for row in rows:
        out.append(" | ".join(shown(value) for value in row))
    is_condition = result.column_names[0] == "[applied]" and len(rows) == 1
    if is_condition and rows[0][0] is not result.was_applied:
        out.append("was_applied says otherwise")


def main(port, path, record):
    profile = ExecutionProfile(row_factory=tuple_factory, request_timeout=20,
                               retry_policy=FallthroughRetryPolicy())
    cluster = Cluster(["127.0.0.1"], port=port, protocol_version=5,
                      execution_profiles={EXEC_PROFILE_DEFAULT: profile})
    session = cluster.connect()
    session.use_client_timestamp = False
    session.execute("DROP KEYSPACE IF EXISTS lwt")
    session.execute("CREATE KEYSPACE lwt WITH replication = "
                    "{'class': 'SimpleStrategy', 'replication_factor': 1}")
    session.set_keyspace("lwt")
    with open(path) as file:
        wanted = file.read()
    made = []
    for block in wanted.rstrip("\n").split("\n\n"):
        lines = [line for line in block.split("\n") if line.startswith(OPTIONS)]
        out = lines[:]
        if any(line.startswith("> ") for line in lines):
            out += answer(session, lines)
        made.append("\n".join(out))
    cluster.shutdown()
    made = "\n\n".join(made) + "\n"
    if record:
        with open(path, "w") as file:
            file.write(made)
    elif made != wanted:
        diff = difflib.unified_diff(wanted.splitlines(), made.splitlines(), "wanted", "got",
                                    lineterm="", n=4)
        print("\n".join(diff))
        sys.exit(1)
    print("ok test_transcript")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], len(sys.argv) > 3)
