"""What the scripts share: a connection, and a runner for their tests.

Every script is called as `python SCRIPT PORT [ARGUMENT...]`, for a node at 127.0.0.1 unless it says
otherwise. It runs each of its functions named
test_* with a session, says which failed and how, and ends with 1 if any did.
"""

import contextlib
import sys
import time
import traceback

from cassandra.cluster import Cluster, ExecutionProfile, EXEC_PROFILE_DEFAULT
from cassandra.query import named_tuple_factory

PORT = int(sys.argv[1])
ARGUMENTS = sys.argv[2:]
KEYSPACE = "ks"


@contextlib.contextmanager
def connected(
    keyspace=None, row_factory=named_tuple_factory, hosts=("127.0.0.1",), **options
):
    """A session that is closed with its cluster; it begins with `hosts`."""
    profile = ExecutionProfile(row_factory=row_factory, request_timeout=30)
    options.setdefault("execution_profiles", {EXEC_PROFILE_DEFAULT: profile})
    cluster = Cluster(list(hosts), port=PORT, **options)
    try:
        yield cluster.connect(keyspace)
    finally:
        cluster.shutdown()


@contextlib.contextmanager
def fails(kind, *texts):
    """The block raises an error of this kind whose text contains all of these."""
    try:
        yield
    except kind as error:
        for text in texts:
            assert text in str(error), f"{text!r} is not in {str(error)!r}"
        return
    raise AssertionError(f"no {kind} was raised")


def create_keyspace(session, name=KEYSPACE, replication_factor=1):
    session.execute(
        f"CREATE KEYSPACE IF NOT EXISTS {name} WITH replication = "
        f"{{'class': 'SimpleStrategy', 'replication_factor': {replication_factor}}}"
    )
    session.set_keyspace(name)


def rows(result):
    """Rows as plain tuples."""
    return [tuple(row) for row in result]


def equal(left, right):
    assert left == right, f"\n  is        {left!r}\n  should be {right!r}"


def eventually(condition, what, seconds=20):
    """Waits until the condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not after {seconds} s"
        time.sleep(0.05)


def main(module, **options):
    """Runs the test_* functions in the order in which they stand."""
    failed = []
    with connected(**options) as session:
        create_keyspace(session)
        for name, test in list(module.items()):
            if not name.startswith("test_"):
                continue
            try:
                test(session)
                print("ok", name, flush=True)
            except Exception:
                failed.append(name)
                print("FAILED", name, flush=True)
                traceback.print_exc(file=sys.stdout)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")
