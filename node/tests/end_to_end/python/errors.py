"""Errors: their kind, what they carry, and that what failed changed nothing."""

from cassandra import ConsistencyLevel, InvalidRequest, Unauthorized, Unavailable
from cassandra.policies import FallthroughRetryPolicy
from cassandra.protocol import ConfigurationException, SyntaxException
from cassandra.query import SimpleStatement

from client import create_keyspace, equal, fails, main, rows


def test_syntax(session):
    for text, where in {
        "SELEC * FROM t": "line 1:0",
        "SELECT * FRM t": "line 1:9",
        "SELECT * FROM t WHERE k = ": "line ",
        "INSERT INTO t (a, b) VALUES (1,\n 'x)": "line 2:",
        "": "line",
        "SELECT * FROM t; SELECT * FROM t": "line 1:",
    }.items():
        with fails(SyntaxException, where):
            session.execute(text)


def test_names_that_nobody_knows(session):
    session.execute("CREATE TABLE known (k int PRIMARY KEY, v int)")
    for text, name in {
        "SELECT * FROM nosuch": "nosuch",
        "SELECT * FROM nokeyspace.t": "nokeyspace",
        "SELECT nocolumn FROM known": "nocolumn",
        "SELECT * FROM known WHERE nocolumn = 1": "nocolumn",
        "INSERT INTO known (k, nocolumn) VALUES (1, 2)": "nocolumn",
        "UPDATE known SET nocolumn = 2 WHERE k = 1": "nocolumn",
        "SELECT nofunction(v) FROM known": "nofunction",
        "DROP TABLE nosuch": "nosuch",
        "ALTER TABLE nosuch ADD v int": "nosuch",
        "CREATE TABLE typed (k int PRIMARY KEY, v notype)": "notype",
        "TRUNCATE nosuch": "nosuch",
    }.items():
        with fails(InvalidRequest, name):
            session.execute(text)


def test_statements_that_mean_nothing(session):
    session.execute("CREATE TABLE strict (k int, c int, d int, s int STATIC, v text, m map<int, int>,"
                    " PRIMARY KEY (k, c, d))")
    for text, part in {
        "INSERT INTO strict (c, d) VALUES (1, 1)": "k",
        "INSERT INTO strict (k, c, d, v) VALUES (1, 1, 1, 5)": "v",
        "INSERT INTO strict (k, c, d) VALUES ('x', 1, 1)": "k",
        "INSERT INTO strict (k, c, d) VALUES (1, 1)": "",
        "INSERT INTO strict (k, c, d) VALUES (null, 1, 1)": "k",
        "INSERT INTO strict (k, c, d, c) VALUES (1, 1, 1, 1)": "c",
        "INSERT INTO strict (k, c, d, v) VALUES (1, 1, 1, 'x') USING TTL -1": "",
        "UPDATE strict SET v = 'x' WHERE k = 1": "c",
        "UPDATE strict SET k = 2 WHERE k = 1 AND c = 1 AND d = 1": "k",
        "UPDATE strict SET v = 'x' WHERE k > 1 AND c = 1 AND d = 1": "",
        "UPDATE strict SET v = v + 'x' WHERE k = 1 AND c = 1 AND d = 1": "v",
        "UPDATE strict SET m['x'] = 1 WHERE k = 1 AND c = 1 AND d = 1": "",
        "DELETE FROM strict WHERE c = 1": "k",
        "DELETE v FROM strict WHERE k = 1 AND c > 1": "",
        "DELETE k FROM strict WHERE k = 1 AND c = 1 AND d = 1": "k",
        "SELECT * FROM strict WHERE v = 'x'": "ALLOW FILTERING",
        "SELECT * FROM strict WHERE k = 1 AND d = 1": "",
        "SELECT * FROM strict WHERE k = 1 AND c > 1 AND d = 1": "",
        "SELECT * FROM strict WHERE c = 1": "ALLOW FILTERING",
        "SELECT * FROM strict WHERE k > 1": "",
        "SELECT * FROM strict WHERE k = 1 ORDER BY v": "v",
        "SELECT * FROM strict ORDER BY c": "",
        "SELECT * FROM strict WHERE k = 1 LIMIT 0": "",
        "SELECT * FROM strict WHERE k = 1 LIMIT -5": "",
        "SELECT * FROM strict WHERE k = 99999999999": "",
        "SELECT DISTINCT v FROM strict": "",
        "SELECT max(v, c) FROM strict": "max",
        "CREATE TABLE broken (k int, v int)": "",
        "CREATE TABLE broken (k list<int> PRIMARY KEY)": "k",
        "CREATE TABLE broken (k int PRIMARY KEY, k int)": "k",
        "CREATE TABLE broken (k int PRIMARY KEY, s int STATIC)": "",
        "CREATE TABLE broken (k duration PRIMARY KEY)": "",
        "ALTER TABLE strict DROP k": "k",
        "ALTER TABLE strict ADD v int": "v",
        "ALTER TABLE strict DROP nocolumn": "nocolumn",
    }.items():
        try:
            with fails((InvalidRequest, SyntaxException), part):
                session.execute(text)
        except AssertionError as error:
            raise AssertionError(text) from error
    equal(rows(session.execute("SELECT * FROM strict")), [])


def test_options_that_mean_nothing(session):
    for option in (
        "nooption = 1",
        "gc_grace_seconds = 'soon'",
        "default_time_to_live = -1",
        "compaction = {'class': 'NoSuchStrategy'}",
        "compression = {'class': 'NoSuchCompressor'}",
        "bloom_filter_fp_chance = 2.0",
        "cdc = {'enabled': 'maybe'}",
        "cdc = {'enabled': true, 'ttl': '-5'}",
        "cdc = {'enabled': true, 'unknown': 1}",
    ):
        try:
            with fails((InvalidRequest, ConfigurationException, SyntaxException)):
                session.execute(f"CREATE TABLE optional (k int PRIMARY KEY) WITH {option}")
        except AssertionError as error:
            raise AssertionError(option) from error
    for replication in (
        "{'class': 'NoSuchStrategy'}",
        "{'class': 'SimpleStrategy', 'replication_factor': 'many'}",
        "{'class': 'SimpleStrategy', 'replication_factor': -1}",
        "{'class': 'NetworkTopologyStrategy', 'no_such_centre': 1}",
    ):
        with fails((InvalidRequest, ConfigurationException)):
            session.execute(f"CREATE KEYSPACE optional WITH replication = {replication}")


def test_system_tables_are_read_only(session):
    for text in (
        "INSERT INTO system.local (key) VALUES ('mine')",
        "DROP TABLE system.local",
        "DROP KEYSPACE system",
        "ALTER TABLE system_schema.tables ADD v int",
        "TRUNCATE system_schema.tables",
        "CREATE TABLE system.mine (k int PRIMARY KEY)",
    ):
        try:
            with fails((Unauthorized, InvalidRequest), "system"):
                session.execute(text)
        except AssertionError as error:
            raise AssertionError(text) from error


def test_unavailable_says_how_many_are_there(session):
    create_keyspace(session, "three", replication_factor=3)
    session.execute("CREATE TABLE t (k int PRIMARY KEY)")
    figures = {ConsistencyLevel.QUORUM: 2, ConsistencyLevel.LOCAL_QUORUM: 2,
               ConsistencyLevel.TWO: 2, ConsistencyLevel.THREE: 3, ConsistencyLevel.ALL: 3}
    for text in ("INSERT INTO t (k) VALUES (1)", "SELECT * FROM t WHERE k = 1"):
        for level, required in figures.items():
            statement = SimpleStatement(
                text, FallthroughRetryPolicy(), consistency_level=level)
            try:
                session.execute(statement)
            except Unavailable as error:
                equal((error.consistency, error.required_replicas, error.alive_replicas),
                      (level, required, 1))
            else:
                raise AssertionError(f"{text} at {level} went through")
    one = SimpleStatement(
        "SELECT * FROM t WHERE k = 1", consistency_level=ConsistencyLevel.ONE)
    equal(rows(session.execute(one)), [])
    create_keyspace(session)


def test_levels_that_one_node_can_give(session):
    session.execute("CREATE TABLE levels (k int PRIMARY KEY, v int)")
    level = ConsistencyLevel

    def at(level, text):
        return session.execute(SimpleStatement(
            text, FallthroughRetryPolicy(), consistency_level=level))

    for write in (level.ANY, level.ONE, level.QUORUM, level.ALL, level.LOCAL_QUORUM,
                  level.EACH_QUORUM, level.LOCAL_ONE):
        at(write, "INSERT INTO levels (k, v) VALUES (1, 1)")
    for read in (level.ONE, level.QUORUM, level.ALL, level.LOCAL_QUORUM, level.LOCAL_ONE,
                 level.SERIAL, level.LOCAL_SERIAL):
        equal(rows(at(read, "SELECT v FROM levels WHERE k = 1")), [(1,)])
    with fails(InvalidRequest):
        at(level.ANY, "SELECT v FROM levels WHERE k = 1")
    with fails(InvalidRequest):
        at(level.SERIAL, "INSERT INTO levels (k, v) VALUES (1, 1)")
    with fails((Unavailable, InvalidRequest)):
        at(level.TWO, "INSERT INTO levels (k, v) VALUES (1, 1)")


def test_limits_of_keys(session):
    session.execute("CREATE TABLE limits (k text, c text, PRIMARY KEY (k, c))")
    insert = session.prepare("INSERT INTO limits (k, c) VALUES (?, ?)")
    with fails(InvalidRequest):
        session.execute(insert, ("x" * 66_000, "c"))
    with fails(InvalidRequest):
        session.execute(insert, ("k", "x" * 66_000))
    with fails(InvalidRequest, "mpty"):
        session.execute(insert, ("", "c"))
    session.execute(insert, ("x" * 60_000, "c"))
    equal(len(rows(session.execute("SELECT * FROM limits"))), 1)


main(globals())
