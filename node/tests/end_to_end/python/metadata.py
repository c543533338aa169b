"""What the driver learns of the cluster and its schema, and that it hears of every change."""

from cassandra import AlreadyExists
from cassandra.metadata import Murmur3Token

from client import KEYSPACE, connected, equal, eventually, fails, main, rows


def table(session, name):
    return session.cluster.metadata.keyspaces[KEYSPACE].tables[name]


def test_the_node(session):
    metadata = session.cluster.metadata
    equal(metadata.cluster_name, "Test Cluster")
    equal(metadata.partitioner, "org.apache.cassandra.dht.Murmur3Partitioner")
    (host,) = metadata.all_hosts()
    equal((host.datacenter, host.rack, host.is_up), ("datacenter1", "rack1", True))
    equal(host.broadcast_rpc_address, "127.0.0.1")
    assert host.host_id is not None and host.release_version.startswith("5.0"), host
    local = session.execute("SELECT * FROM system.local WHERE key = 'local'").one()
    equal(local.host_id, host.host_id)
    assert local.tokens and local.schema_version and local.bootstrapped == "COMPLETED", local
    equal(rows(session.execute("SELECT * FROM system.peers")), [])
    equal(rows(session.execute("SELECT * FROM system.peers_v2")), [])


def test_the_token_map(session):
    metadata = session.cluster.metadata
    (host,) = metadata.all_hosts()
    ring = metadata.token_map.ring
    local = session.execute("SELECT tokens FROM system.local").one()
    equal([token.value for token in ring], sorted(int(token) for token in local.tokens))
    equal(metadata.get_replicas(KEYSPACE, b"any key"), [host])
    session.execute("CREATE TABLE tokens (k int PRIMARY KEY)")
    for k in range(50):
        session.execute("INSERT INTO tokens (k) VALUES (%s)", (k,))
    for row in session.execute("SELECT k, token(k) AS t FROM tokens"):
        equal(row.t, Murmur3Token.from_key(row.k.to_bytes(4, "big", signed=True)).value)


def test_a_keyspace(session):
    session.execute("CREATE KEYSPACE other WITH replication = {'class': 'NetworkTopologyStrategy',"
                    " 'datacenter1': 1} AND durable_writes = false")
    other = session.cluster.metadata.keyspaces["other"]
    equal((other.replication_strategy.name, other.durable_writes), ("NetworkTopologyStrategy", False))
    session.execute("ALTER KEYSPACE other WITH durable_writes = true")
    equal(session.cluster.metadata.keyspaces["other"].durable_writes, True)
    session.execute("DROP KEYSPACE other")
    assert "other" not in session.cluster.metadata.keyspaces


def test_a_table(session):
    session.execute("CREATE TYPE point (x int, y int)")
    session.execute(
        'CREATE TABLE shapes (a int, b text, c timeuuid, "D" decimal, s text STATIC,'
        " points list<frozen<point>>, home point, tags map<text, frozen<set<int>>>,"
        ' PRIMARY KEY ((a, b), c, "D")) WITH CLUSTERING ORDER BY (c DESC, "D" ASC)'
        " AND comment = 'it''s a shape' AND default_time_to_live = 77 AND gc_grace_seconds = 1234"
        " AND compaction = {'class': 'LeveledCompactionStrategy', 'sstable_size_in_mb': 64}")
    shapes = table(session, "shapes")
    equal([column.name for column in shapes.partition_key], ["a", "b"])
    equal([column.name for column in shapes.clustering_key], ["c", "D"])
    equal([column.is_reversed for column in shapes.clustering_key], [True, False])
    equal(list(shapes.columns), ["a", "b", "c", "D", "home", "points", "s", "tags"])
    equal({name: column.cql_type for name, column in shapes.columns.items()}, {
        "a": "int", "b": "text", "c": "timeuuid", "D": "decimal", "s": "text", "home": "point",
        "points": "list<frozen<point>>", "tags": "map<text, frozen<set<int>>>"})
    equal(shapes.columns["s"].is_static, True)
    options = shapes.options
    equal((options["comment"], options["default_time_to_live"], options["gc_grace_seconds"]),
          ("it's a shape", 77, 1234))
    assert options["compaction"]["class"].endswith("LeveledCompactionStrategy"), options
    point = session.cluster.metadata.keyspaces[KEYSPACE].user_types["point"]
    equal((point.field_names, point.field_types), (["x", "y"], ["int", "int"]))


def test_the_drivers_own_description_creates_the_same(session):
    shapes = table(session, "shapes")
    text = shapes.as_cql_query().replace(f"{KEYSPACE}.shapes", f"{KEYSPACE}.shapes_again")
    session.execute(text)
    again = table(session, "shapes_again")
    equal(list(again.columns), list(shapes.columns))
    equal([column.is_reversed for column in again.clustering_key], [True, False])


def test_changes_of_a_table(session):
    session.execute("CREATE TABLE altered (k int, c int, v int, PRIMARY KEY (k, c))")
    session.execute("ALTER TABLE altered ADD w text")
    session.execute("ALTER TABLE altered ADD (x list<int>, y tuple<int, text>)")
    session.execute("ALTER TABLE altered DROP v")
    session.execute("ALTER TABLE altered RENAME c TO cc")
    session.execute("ALTER TABLE altered WITH comment = 'new'")
    altered = table(session, "altered")
    equal(list(altered.columns), ["k", "cc", "w", "x", "y"])
    equal(altered.options["comment"], "new")
    session.execute("DROP TABLE altered")
    assert "altered" not in session.cluster.metadata.keyspaces[KEYSPACE].tables
    session.execute("CREATE TYPE thing (a int)")
    session.execute("ALTER TYPE thing ADD b text")
    session.execute("ALTER TYPE thing RENAME a TO z")
    types = session.cluster.metadata.keyspaces[KEYSPACE].user_types
    equal(types["thing"].field_names, ["z", "b"])
    session.execute("DROP TYPE thing")
    assert "thing" not in session.cluster.metadata.keyspaces[KEYSPACE].user_types


def test_agreement_follows_each_change(session):
    def version():
        return session.execute("SELECT schema_version FROM system.local").one()[0]

    before = version()
    future = session.execute_async("CREATE TABLE agreed (k int PRIMARY KEY)")
    future.result()
    equal(future.is_schema_agreed, True)
    after = version()
    assert after != before
    session.execute("CREATE TABLE IF NOT EXISTS agreed (k int PRIMARY KEY)")
    equal(version(), after)


def test_others_hear_of_changes(session):
    with connected(schema_event_refresh_window=0) as other:
        keyspace = other.cluster.metadata.keyspaces[KEYSPACE]
        session.execute("CREATE TABLE heard (k int PRIMARY KEY)")
        eventually(lambda: "heard" in keyspace.tables, "the new table")
        session.execute("ALTER TABLE heard ADD v int")
        eventually(lambda: "v" in keyspace.tables["heard"].columns, "the new column")
        session.execute("CREATE TYPE heard_type (a int)")
        eventually(lambda: "heard_type" in keyspace.user_types, "the new type")
        session.execute("DROP TYPE heard_type")
        eventually(lambda: "heard_type" not in keyspace.user_types, "the dropped type")
        session.execute("DROP TABLE heard")
        eventually(lambda: "heard" not in keyspace.tables, "the dropped table")
        keyspaces = other.cluster.metadata.keyspaces
        session.execute("CREATE KEYSPACE heard WITH replication ="
                        " {'class': 'SimpleStrategy', 'replication_factor': 1}")
        eventually(lambda: "heard" in keyspaces, "the new keyspace")
        session.execute("DROP KEYSPACE heard")
        eventually(lambda: "heard" not in keyspaces, "the dropped keyspace")


def test_a_log_table_is_announced_with_its_base(session):
    with connected(schema_event_refresh_window=0) as other:
        keyspace = other.cluster.metadata.keyspaces[KEYSPACE]
        session.execute("CREATE TABLE based (k int PRIMARY KEY, v int) WITH cdc = {'enabled': true}")
        log = "based_scylla_cdc_log"
        eventually(lambda: log in keyspace.tables, "the log table")
        equal([column.name for column in keyspace.tables[log].primary_key],
              ["cdc$stream_id", "cdc$time", "cdc$batch_seq_no"])
        session.execute("DROP TABLE based")
        eventually(lambda: log not in keyspace.tables, "the dropped log table")


def test_what_exists_already(session):
    with fails(AlreadyExists, KEYSPACE):
        session.execute(f"CREATE KEYSPACE {KEYSPACE} WITH replication ="
                        " {'class': 'SimpleStrategy', 'replication_factor': 1}")
    try:
        session.execute("CREATE TABLE shapes (k int PRIMARY KEY)")
    except AlreadyExists as error:
        equal((error.keyspace, error.table), (KEYSPACE, "shapes"))
    else:
        raise AssertionError("the table was created twice")


main(globals())
