"""Prepared statements and batches: markers, what they are called, null against unset, timestamps."""

import time

from cassandra import InvalidRequest
from cassandra.cluster import NoHostAvailable
from cassandra.protocol import SyntaxException
from cassandra.query import UNSET_VALUE, BatchStatement, BatchType, SimpleStatement

from client import KEYSPACE, connected, equal, fails, main, rows


def names(statement):
    return [column.name for column in statement.column_metadata]


def types(statement):
    return [column.type.cql_parameterized_type() for column in statement.column_metadata]


def test_markers_by_position_and_by_name(session):
    session.execute("CREATE TABLE markers (k int, c text, v list<int>, PRIMARY KEY (k, c))")
    insert = session.prepare("INSERT INTO markers (c, v, k) VALUES (?, ?, ?)")
    equal(names(insert), ["c", "v", "k"])
    equal(types(insert), ["varchar", "list<int>", "int"])
    equal(insert.routing_key_indexes, [2])
    session.execute(insert, ("a", [1], 7))
    named = session.prepare("INSERT INTO markers (k, c, v) VALUES (:key, :cluster, :list)")
    equal(names(named), ["key", "cluster", "list"])
    session.execute(named, {"list": [2], "key": 7, "cluster": "b"})
    found = session.execute("SELECT c, v FROM markers WHERE k = 7")
    equal(rows(found), [("a", [1]), ("b", [2])])
    twice = session.prepare("SELECT c FROM markers WHERE k = :x AND c = :y")
    equal(rows(session.execute(twice, {"x": 7, "y": "b"})), [("b",)])
    # Values by name without preparing.
    simple = SimpleStatement("SELECT c FROM markers WHERE k = %(x)s AND c = %(y)s")
    equal(rows(session.execute(simple, {"x": 7, "y": "a"})), [("a",)])


def test_markers_everywhere(session):
    session.execute("CREATE TABLE anywhere (k int, c int, m map<text, int>, v int,"
                    " PRIMARY KEY (k, c))")
    insert = session.prepare(
        "INSERT INTO anywhere (k, c, v) VALUES (?, ?, ?) USING TIMESTAMP ? AND TTL ?")
    equal(names(insert), ["k", "c", "v", "[timestamp]", "[ttl]"])
    for c in range(6):
        session.execute(insert, (1, c, c * 10, 1_000 + c, 500))
    select = session.prepare(
        "SELECT c, writetime(v) FROM anywhere WHERE k IN ? AND c > ? AND c <= ?"
        " PER PARTITION LIMIT ? LIMIT ?")
    equal(names(select)[3:], ["[per_partition_limit]", "[limit]"])
    found = rows(session.execute(select, ([1, 2], 0, 4, 3, 2)))
    equal(found, [(1, 1001), (2, 1002)])
    update = session.prepare("UPDATE anywhere SET m[?] = ?, v = ? WHERE k = ? AND c IN ?")
    session.execute(update, ("x", 5, -1, 1, [2, 3]))
    found = session.execute("SELECT c, m, v FROM anywhere WHERE k = 1 AND c IN (1, 2, 3)")
    equal([(row.c, dict(row.m or {}), row.v) for row in found],
          [(1, {}, 10), (2, {"x": 5}, -1), (3, {"x": 5}, -1)])
    tuples = session.prepare("SELECT c FROM anywhere WHERE k = ? AND (c) IN ?")
    equal(rows(session.execute(tuples, (1, [(5,), (0,)]))), [(0,), (5,)])
    delete = session.prepare("DELETE m[?] FROM anywhere WHERE k = ? AND c = ?")
    session.execute(delete, ("x", 1, 2))
    equal(session.execute("SELECT m FROM anywhere WHERE k = 1 AND c = 2").one().m, None)
    tokens = session.prepare("SELECT k FROM anywhere WHERE token(k) >= ? AND token(k) <= ?")
    equal(types(tokens), ["bigint", "bigint"])
    equal(len(rows(session.execute(tokens, (-(2**63), 2**63 - 1)))), 6)


def test_null_and_unset(session):
    session.execute("CREATE TABLE unset (k int PRIMARY KEY, a int, b int)")
    insert = session.prepare("INSERT INTO unset (k, a, b) VALUES (?, ?, ?)")
    session.execute(insert, (1, 1, 1))
    session.execute(insert, (1, None, UNSET_VALUE))
    equal(rows(session.execute("SELECT a, b FROM unset")), [(None, 1)])
    session.execute(insert, (1, 5))
    equal(rows(session.execute("SELECT a, b FROM unset")), [(5, 1)])
    with fails(InvalidRequest):
        session.execute(insert, (None, 1, 1))
    select = session.prepare("SELECT a FROM unset WHERE k = ?")
    with fails(InvalidRequest):
        session.execute(select, (None,))
    # An unset limit is no limit, an unset TTL is the table's.
    limited = session.prepare("SELECT a FROM unset LIMIT ?")
    equal(rows(session.execute(limited, (UNSET_VALUE,))), [(5,)])
    ttl = session.prepare("UPDATE unset USING TTL ? SET a = 6 WHERE k = 1")
    session.execute(ttl, (UNSET_VALUE,))
    equal(rows(session.execute("SELECT a, ttl(a) FROM unset")), [(6, None)])


def test_the_id_depends_on_the_text_alone(session):
    session.execute("CREATE TABLE ids (k int PRIMARY KEY)")
    text = f"SELECT * FROM {KEYSPACE}.ids WHERE k = ?"
    first = session.prepare(text)
    with connected() as other:
        equal(other.prepare(text).query_id, first.query_id)
    assert session.prepare(text + " ").query_id is not None
    assert session.prepare(f"SELECT k FROM {KEYSPACE}.ids").query_id != first.query_id


def test_errors_of_preparing(session):
    with fails(SyntaxException, "line 1:"):
        session.prepare("SELECT FROM WHERE")
    with fails(InvalidRequest, "nosuch"):
        session.prepare("SELECT * FROM nosuch WHERE k = ?")


def test_a_statement_outlives_a_change_of_its_table(session):
    session.execute("CREATE TABLE changing (k int PRIMARY KEY, a int)")
    session.execute("INSERT INTO changing (k, a) VALUES (1, 2)")
    star = session.prepare("SELECT * FROM changing WHERE k = ?")
    insert = session.prepare("INSERT INTO changing (k, a) VALUES (?, ?)")
    equal(rows(session.execute(star, (1,))), [(1, 2)])
    session.execute("ALTER TABLE changing ADD b text")
    session.execute("INSERT INTO changing (k, a, b) VALUES (1, 2, 'three')")
    result = session.execute(star, (1,))
    equal(result.column_names, ["k", "a", "b"])
    equal(rows(result), [(1, 2, "three")])
    session.execute(insert, (1, 4))
    equal(rows(session.execute(star, (1,))), [(1, 4, "three")])
    session.execute("ALTER TABLE changing DROP a")
    equal(rows(session.execute(star, (1,))), [(1, "three")])
    session.execute("DROP TABLE changing")
    with fails((InvalidRequest, NoHostAvailable)):
        session.execute(star, (1,))


def test_batches(session):
    session.execute("CREATE TABLE batched (k int, c int, v text, PRIMARY KEY (k, c))")
    insert = session.prepare("INSERT INTO batched (k, c, v) VALUES (?, ?, ?)")
    for kind in (BatchType.LOGGED, BatchType.UNLOGGED):
        batch = BatchStatement(batch_type=kind)
        for k in range(4):
            batch.add(insert, (k, 0, "prepared"))
            batch.add("INSERT INTO batched (k, c, v) VALUES (%s, 1, 'text')", (k,))
        batch.add("DELETE FROM batched WHERE k = 3 AND c = 5")
        session.execute(batch)
        equal(len(rows(session.execute("SELECT * FROM batched"))), 8)
        session.execute("TRUNCATE batched")
    session.execute(
        "BEGIN BATCH INSERT INTO batched (k, c, v) VALUES (1, 1, 'a');"
        " UPDATE batched SET v = 'b' WHERE k = 1 AND c = 2;"
        " DELETE v FROM batched WHERE k = 1 AND c = 1; APPLY BATCH")
    equal(rows(session.execute("SELECT c, v FROM batched WHERE k = 1")), [(1, None), (2, "b")])


def test_a_bad_statement_spoils_its_batch(session):
    session.execute("CREATE TABLE spoiled (k int PRIMARY KEY, v int)")
    batch = BatchStatement()
    batch.add("INSERT INTO spoiled (k, v) VALUES (1, 1)")
    batch.add("INSERT INTO spoiled (k, nosuch) VALUES (2, 2)")
    with fails(InvalidRequest, "nosuch"):
        session.execute(batch)
    equal(rows(session.execute("SELECT * FROM spoiled")), [])
    batch = BatchStatement()
    batch.add("SELECT * FROM spoiled")
    with fails((InvalidRequest, SyntaxException)):
        session.execute(batch)


def test_timestamps_decide(session):
    session.execute("CREATE TABLE stamped (k int PRIMARY KEY, v text)")
    session.execute("INSERT INTO stamped (k, v) VALUES (1, 'new') USING TIMESTAMP 2000")
    session.execute("INSERT INTO stamped (k, v) VALUES (1, 'old') USING TIMESTAMP 1000")
    equal(rows(session.execute("SELECT v, writetime(v) FROM stamped")), [("new", 2000)])
    # Of equal timestamps the larger value wins, and a deletion wins over a value.
    session.execute("UPDATE stamped USING TIMESTAMP 2000 SET v = 'newer' WHERE k = 1")
    session.execute("UPDATE stamped USING TIMESTAMP 2000 SET v = 'a' WHERE k = 1")
    equal(rows(session.execute("SELECT v FROM stamped")), [("newer",)])
    session.execute("DELETE v FROM stamped USING TIMESTAMP 2000 WHERE k = 1")
    equal(rows(session.execute("SELECT v FROM stamped")), [(None,)])
    batch = BatchStatement()
    batch.add("UPDATE stamped USING TIMESTAMP 3000 SET v = 'x' WHERE k = 1")
    batch.add("UPDATE stamped USING TIMESTAMP 4000 SET v = 'y' WHERE k = 1")
    session.execute(batch)
    equal(rows(session.execute("SELECT v, writetime(v) FROM stamped")), [("y", 4000)])
    session.execute("BEGIN BATCH USING TIMESTAMP 5000"
                    " UPDATE stamped SET v = 'z' WHERE k = 1 APPLY BATCH")
    equal(rows(session.execute("SELECT v, writetime(v) FROM stamped")), [("z", 5000)])
    # Without one it is the driver's or the server's: now, in microseconds.
    session.execute("INSERT INTO stamped (k, v) VALUES (2, 'now')")
    written = session.execute("SELECT writetime(v) FROM stamped WHERE k = 2").one()[0]
    assert abs(written - time.time() * 1e6) < 60e6, written


main(globals())
