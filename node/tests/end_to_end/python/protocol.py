"""Protocol versions 3 to 5, with and without compression, and what travels beside the rows."""

import uuid

from cassandra import ProtocolVersion
from cassandra.cluster import NoHostAvailable

from client import KEYSPACE, connected, equal, fails, main, rows


def check_conversation(session, name):
    """The whole of a small life over one connection's version."""
    session.set_keyspace(KEYSPACE)
    session.execute(f"CREATE TABLE {name} (k int, c int, v text, PRIMARY KEY (k, c))")
    insert = session.prepare(f"INSERT INTO {name} (k, c, v) VALUES (?, ?, ?)")
    # Longer than a segment of v5, so that frames are cut; and of the kind that compresses well.
    large = "0123456789abcdef" * 20_000
    for c in range(30):
        session.execute(insert, (1, c, f"value {c}"))
    session.execute(insert, (2, 0, large))
    session.execute(f"INSERT INTO {name} (k, c, v) VALUES (2, 1, %s)", (large,))
    select = session.prepare(f"SELECT c, v FROM {name} WHERE k = ?")
    equal(rows(session.execute(select, (1,))), [(c, f"value {c}") for c in range(30)])
    equal(rows(session.execute(select, (2,))), [(0, large), (1, large)])
    select.fetch_size = 7
    equal(len(rows(session.execute(select, (1,)))), 30)
    with fails(Exception, "nosuch"):
        session.execute(f"SELECT nosuch FROM {name}")
    session.execute(f"DROP TABLE {name}")


def test_all_versions_and_compressions(session):
    for version in (3, 4, 5):
        for compression in (False, "lz4"):
            with connected(protocol_version=version, compression=compression) as other:
                name = f"v{version}_{compression or 'plain'}"
                check_conversation(other, name.lower())
                equal(other.cluster.protocol_version, version)


def test_the_newest_version_is_found(session):
    equal(session.cluster.protocol_version, ProtocolVersion.V5)


def test_a_version_that_nobody_speaks_is_refused(session):
    with fails(NoHostAvailable, "ProtocolError"):
        with connected(protocol_version=ProtocolVersion.DSE_V1):
            pass


def test_tracing(session):
    session.execute("CREATE TABLE traced (k int PRIMARY KEY, v int)")
    result = session.execute("INSERT INTO traced (k, v) VALUES (1, 2)", trace=True)
    trace = result.get_query_trace(max_wait_sec=10)
    assert isinstance(trace.trace_id, uuid.UUID)
    equal(trace.coordinator, "127.0.0.1")
    equal(trace.client, "127.0.0.1")
    equal(trace.parameters.get("query"), "INSERT INTO traced (k, v) VALUES (1, 2)")
    assert trace.duration.total_seconds() < 10 and trace.started_at is not None
    assert trace.events and all(event.description and event.thread_name for event in trace.events)
    prepared = session.prepare("SELECT v FROM traced WHERE k = ?")
    result = session.execute(prepared, (1,), trace=True)
    equal(rows(result), [(2,)])
    assert result.get_query_trace(max_wait_sec=10).events
    # Only what asked for it is traced.
    equal(session.execute(prepared, (1,)).get_query_trace(), None)


def test_warnings(session):
    future = session.execute_async(
        "CREATE KEYSPACE warned WITH replication ="
        " {'class': 'SimpleStrategy', 'replication_factor': 3}"
    )
    future.result()
    assert future.warnings and "3" in future.warnings[0], future.warnings
    future = session.execute_async("SELECT key FROM system.local")
    future.result()
    assert not future.warnings, future.warnings


def test_keyspace_of_the_connection(session):
    session.execute("CREATE TABLE here (k int PRIMARY KEY)")
    with connected() as other:
        with fails(Exception, "o keyspace"):
            other.execute("SELECT * FROM here")
        other.execute(f"USE {KEYSPACE}")
        equal(rows(other.execute("SELECT * FROM here")), [])
        with fails(Exception, "nosuch"):
            other.execute("USE nosuch")
        equal(rows(other.execute("SELECT * FROM here")), [])


def test_many_requests_at_once(session):
    session.execute("CREATE TABLE busy (k int PRIMARY KEY, v int)")
    insert = session.prepare("INSERT INTO busy (k, v) VALUES (?, ?)")
    for future in [session.execute_async(insert, (k, -k)) for k in range(3000)]:
        future.result()
    select = session.prepare("SELECT v FROM busy WHERE k = ?")
    futures = [session.execute_async(select, (k,)) for k in range(3000)]
    equal([future.result().one().v for future in futures], [-k for k in range(3000)])


main(globals())
