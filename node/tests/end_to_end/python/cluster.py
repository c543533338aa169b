"""Three nodes: the driver finds all of them, and knows what each holds.

The arguments are the addresses of the nodes; the first is where the driver begins.
"""

from cassandra import ConsistencyLevel
from cassandra.query import SimpleStatement

from client import ARGUMENTS, create_keyspace, equal, eventually, main, rows


def up(session):
    return {host.address for host in session.cluster.metadata.all_hosts() if host.is_up}


def test_all_nodes_are_found_and_used(session):
    eventually(lambda: up(session) == set(ARGUMENTS), "all nodes are up", 60)
    create_keyspace(session, "three", 3)
    result = session.execute_async("CREATE TABLE t (k int PRIMARY KEY, v int)")
    result.result()
    assert result.is_schema_agreed, "all nodes have it when the statement is answered"
    asked = set()
    for k in range(60):
        insert = SimpleStatement(
            "INSERT INTO t (k, v) VALUES (%s, %s)", consistency_level=ConsistencyLevel.QUORUM
        )
        asked.add(session.execute(insert, (k, k)).response_future.coordinator_host.address)
    equal(asked, set(ARGUMENTS))
    select = SimpleStatement("SELECT k FROM t", consistency_level=ConsistencyLevel.QUORUM)
    equal(sorted(k for (k,) in rows(session.execute(select))), list(range(60)))


def test_every_node_owns_a_part_of_the_ring(session):
    tokens = session.cluster.metadata.token_map
    equal({host.address for host in tokens.token_to_host_owner.values()}, set(ARGUMENTS))
    equal(len(tokens.ring), 16 * len(ARGUMENTS))
    create_keyspace(session, "one", 1)
    known = session.cluster.metadata.keyspaces
    eventually(lambda: "one" in known, "the driver hears of the keyspace")
    owners = {
        host.address
        for key in range(200)
        for host in session.cluster.metadata.get_replicas("one", b"%d" % key)
    }
    equal(owners, set(ARGUMENTS))


main(globals(), hosts=ARGUMENTS[:1])
