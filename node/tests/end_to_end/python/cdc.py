"""The change log as a Python client reads it: which change makes which rows, and where they lie."""

import time

from client import equal, main, rows

IMAGES = "{'enabled': true, 'preimage': true, 'postimage': true}"


def log(session, table, *columns):
    """The log's rows in the order of time: operation and columns."""
    names = ", ".join(f'"cdc${name[1:]}"' if name.startswith("$") else name for name in columns)
    found = session.execute(
        f'SELECT "cdc$time", "cdc$batch_seq_no", "cdc$operation", {names}'
        f" FROM {table}_scylla_cdc_log")
    # Times order by their own bits first, as the server's own order within a stream.
    ordered = sorted(found, key=lambda row: (row[0].time, signed(row[0].bytes[8:]), row[1]))
    return [tuple(plain(cell) for cell in row[2:]) for row in ordered]


def signed(low):
    return [byte - 256 if byte > 127 else byte for byte in low]


def plain(value):
    if hasattr(value, "items"):
        return dict(value.items())
    return set(value) if type(value).__name__ == "SortedSet" else value


def test_operations(session):
    session.execute("CREATE TABLE operations (k int, c int, v int, PRIMARY KEY (k, c))"
                    " WITH cdc = {'enabled': true}")
    for statement in (
        "INSERT INTO operations (k, c, v) VALUES (1, 1, 1)",
        "UPDATE operations SET v = 2 WHERE k = 1 AND c = 1",
        "UPDATE operations SET v = null WHERE k = 1 AND c = 1",
        "INSERT INTO operations (k, c) VALUES (1, 2)",
        "DELETE FROM operations WHERE k = 1 AND c = 1",
        "DELETE FROM operations WHERE k = 1 AND c > 1 AND c < 23",
        "DELETE FROM operations WHERE k = 1",
    ):
        session.execute(statement)
    equal(log(session, "operations", "k", "c", "v", "$deleted_v", "$end_of_batch"), [
        (2, 1, 1, 1, None, True),
        (1, 1, 1, 2, None, True),
        (1, 1, 1, None, True, True),
        (2, 1, 2, None, None, True),
        (3, 1, 1, None, None, True),
        (6, 1, 1, None, None, None),
        (8, 1, 23, None, None, True),
        (4, 1, None, None, None, True),
    ])


def test_collections(session):
    session.execute("CREATE TABLE gathered (k int PRIMARY KEY, m map<text, int>, s set<int>)"
                    " WITH cdc = {'enabled': true}")
    for statement in (
        "UPDATE gathered SET m = m + {'a': 1, 'b': 2} WHERE k = 1",
        "UPDATE gathered SET m = m - {'a'}, s = {1, 2} WHERE k = 1",
        "DELETE m['b'] FROM gathered WHERE k = 1",
        "UPDATE gathered SET m = null WHERE k = 1",
    ):
        session.execute(statement)
    columns = ("m", "$deleted_m", "$deleted_elements_m", "s", "$deleted_s")
    equal(log(session, "gathered", *columns), [
        (1, {"a": 1, "b": 2}, None, None, None, None),
        (1, None, None, {"a"}, {1, 2}, True),
        (1, None, None, {"b"}, None, None),
        (1, None, True, None, None, None),
    ])


def test_static_and_clustered(session):
    session.execute("CREATE TABLE mixed (k int, c int, s int STATIC, v int, PRIMARY KEY (k, c))"
                    " WITH cdc = {'enabled': true}")
    session.execute("INSERT INTO mixed (k, c, s, v) VALUES (1, 2, 3, 4)")
    equal(log(session, "mixed", "k", "c", "s", "v", "$end_of_batch"), [
        (1, 1, None, 3, None, None),
        (2, 1, 2, None, 4, True),
    ])


def test_images(session):
    session.execute(f"CREATE TABLE imaged (k int PRIMARY KEY, v int, w int) WITH cdc = {IMAGES}")
    session.execute("INSERT INTO imaged (k, v, w) VALUES (1, 1, 1)")
    session.execute("UPDATE imaged SET v = 2 WHERE k = 1")
    session.execute("DELETE FROM imaged WHERE k = 1")
    equal(log(session, "imaged", "v", "w", "$end_of_batch"), [
        (2, 1, 1, None), (9, 1, 1, True),
        (0, 1, None, None), (1, 2, None, None), (9, 2, 1, True),
        (0, 2, 1, None), (4, None, None, True),
    ])


def test_ttl(session):
    session.execute("CREATE TABLE short (k int PRIMARY KEY, v int)"
                    " WITH cdc = {'enabled': true, 'ttl': 500}")
    session.execute("INSERT INTO short (k, v) VALUES (1, 1) USING TTL 70")
    session.execute("UPDATE short SET v = null WHERE k = 1")
    equal(log(session, "short", "v", "$ttl"), [(2, 1, 70), (1, None, None)])
    left = session.execute('SELECT ttl("cdc$operation") FROM short_scylla_cdc_log')
    assert all(450 < row[0] <= 500 for row in left)


def test_times_are_those_of_the_writes(session):
    session.execute("CREATE TABLE timed (k int PRIMARY KEY, v int) WITH cdc = {'enabled': true}")
    now = int(time.time() * 1_000_000)
    session.execute(f"INSERT INTO timed (k, v) VALUES (1, 1) USING TIMESTAMP {now}")
    row = session.execute('SELECT "cdc$time" AS t, writetime(v) FROM timed_scylla_cdc_log').one()
    equal((row.t.time - 0x01B21DD213814000) // 10, row[1])
    assert row[1] >= now


def test_a_retry_is_not_logged_again(session):
    session.execute("CREATE TABLE retried (k int PRIMARY KEY, v int) WITH cdc = {'enabled': true}")
    now = int(time.time() * 1_000_000)
    for _ in range(3):
        session.execute(f"INSERT INTO retried (k, v) VALUES (1, 1) USING TIMESTAMP {now}")
    equal(log(session, "retried", "v"), [(2, 1)])


def test_old_and_future_timestamps_are_logged(session):
    session.execute("CREATE TABLE anytime (k int PRIMARY KEY, v int) WITH cdc = {'enabled': true}")
    for k, stamp in enumerate([1, 1_000_000, int((time.time() + 10**6) * 1e6)]):
        session.execute(f"INSERT INTO anytime (k, v) VALUES ({k}, {k}) USING TIMESTAMP {stamp}")
    equal(sorted(log(session, "anytime", "k", "v")), [(2, 0, 0), (2, 1, 1), (2, 2, 2)])


def test_a_batch_is_one_group_for_each_partition(session):
    session.execute("CREATE TABLE grouped (k int, c int, v int, PRIMARY KEY (k, c))"
                    " WITH cdc = {'enabled': true}")
    session.execute("BEGIN BATCH INSERT INTO grouped (k, c, v) VALUES (1, 1, 1);"
                    " INSERT INTO grouped (k, c, v) VALUES (1, 2, 2);"
                    " INSERT INTO grouped (k, c, v) VALUES (2, 1, 3); APPLY BATCH")
    found = session.execute('SELECT k, "cdc$time" AS t, "cdc$batch_seq_no" AS n, v'
                            " FROM grouped_scylla_cdc_log")
    groups = {}
    for row in found:
        groups.setdefault((row.k, row.t), []).append((row.n, row.v))
    equal(sorted((k, sorted(group)) for (k, _), group in groups.items()),
          [(1, [(0, 1), (1, 2)]), (2, [(0, 3)])])


def test_streams_are_announced(session):
    times = rows(session.execute("SELECT time FROM system_distributed.cdc_generation_timestamps"
                                 " WHERE key = 'timestamps'"))
    assert times
    streams = set()
    for (started,) in times:
        for row in session.execute("SELECT streams FROM system_distributed."
                                   "cdc_streams_descriptions_v2 WHERE time = %s", (started,)):
            streams |= set(row.streams)
    used = session.execute('SELECT DISTINCT "cdc$stream_id" FROM operations_scylla_cdc_log')
    used = [row[0] for row in used]
    assert used and all(len(stream) == 16 and stream in streams for stream in used)
    prepared = session.prepare('SELECT k FROM operations_scylla_cdc_log WHERE "cdc$stream_id" IN ?'
                               ' AND "cdc$time" >= minTimeuuid(?) AND "cdc$time" < minTimeuuid(?)'
                               " BYPASS CACHE")
    now = int(time.time() * 1000)
    equal(len(rows(session.execute(prepared, (sorted(streams), 0, now + 60_000)))), 8)
    equal(rows(session.execute(prepared, (sorted(streams), 0, 1000))), [])
    equal(rows(session.execute('SELECT * FROM operations_scylla_cdc_log'
                               ' WHERE "cdc$stream_id" = 0x00')), [])


def test_off_and_on_again(session):
    session.execute("CREATE TABLE switched (k int PRIMARY KEY, v int) WITH cdc = {'enabled': true}")
    session.execute("INSERT INTO switched (k, v) VALUES (1, 1)")
    session.execute("ALTER TABLE switched WITH cdc = {'enabled': false}")
    session.execute("INSERT INTO switched (k, v) VALUES (2, 2)")
    equal(log(session, "switched", "k"), [(2, 1)])
    session.execute("ALTER TABLE switched ADD w text")
    session.execute("ALTER TABLE switched WITH cdc = {'enabled': true}")
    session.execute("INSERT INTO switched (k, w) VALUES (3, 'w')")
    equal(log(session, "switched", "k", "v", "w"), [(2, 1, 1, None), (2, 3, None, "w")])
    session.execute("ALTER TABLE switched DROP v")
    session.execute("UPDATE switched SET w = 'x' WHERE k = 3")
    equal(log(session, "switched", "k", "w")[-1], (1, 3, "x"))


main(globals())
