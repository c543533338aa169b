"""Three nodes, of which the last may be away: `several.py PORT COUNT_UP ADDRESS ADDRESS ADDRESS`."""

from cassandra import ConsistencyLevel, Unavailable, WriteTimeout
from cassandra.cluster import NoHostAvailable
from cassandra.query import SimpleStatement

from client import ARGUMENTS, create_keyspace, equal, eventually, main, rows

COUNT_UP = int(ARGUMENTS[0])
ADDRESSES = ARGUMENTS[1:]
KEYS = 30


def surely(run):
    """Runs what may be repeated until the ranges of a node that has gone are led by others."""
    found = []

    def succeeds():
        try:
            found.append(run())
        except (Unavailable, WriteTimeout, NoHostAvailable):
            return False
        return True

    eventually(succeeds, "a statement", seconds=60)
    return found[-1]


def up(session):
    return [host for host in session.cluster.metadata.all_hosts() if host.is_up]


def test_the_nodes(session):
    metadata = session.cluster.metadata
    equal(sorted(host.address for host in metadata.all_hosts()), sorted(ADDRESSES))
    eventually(lambda: len(up(session)) == COUNT_UP, f"{COUNT_UP} nodes are up", seconds=60)
    for host in metadata.all_hosts():
        equal((host.datacenter, host.rack), ("datacenter1", "rack1"))
        equal((host.broadcast_rpc_address, host.broadcast_rpc_port), (host.address, host.endpoint.port))
        assert host.host_id is not None and host.release_version.startswith("5.0"), host
    equal(len({host.host_id for host in metadata.all_hosts()}), 3)


def test_every_node_tells_the_same(session):
    tokens, schemas = [], set()
    for host in up(session):
        local = session.execute("SELECT * FROM system.local", host=host).one()
        peers = list(session.execute("SELECT * FROM system.peers", host=host))
        peers_v2 = list(session.execute("SELECT * FROM system.peers_v2", host=host))
        equal(local.host_id, host.host_id)
        equal(sorted([local.rpc_address] + [peer.rpc_address for peer in peers]), sorted(ADDRESSES))
        equal(sorted(peer.native_address for peer in peers_v2),
              sorted(peer.rpc_address for peer in peers))
        for node in [local] + peers:
            assert node.tokens and node.schema_version and node.rack and node.data_center, node
        tokens.append(sorted(token for node in [local] + peers for token in node.tokens))
        schemas |= {node.schema_version for node in [local] + peers}
    equal(len(schemas), 1)
    assert all(each == tokens[0] for each in tokens)
    ring = session.cluster.metadata.token_map.ring
    equal(sorted(token.value for token in ring), sorted(map(int, tokens[0])))


def test_prepared_on_one_and_run_on_all(session):
    create_keyspace(session, "three", replication_factor=3)
    session.execute("CREATE TABLE IF NOT EXISTS t (k int PRIMARY KEY, v text)")
    insert = session.prepare("INSERT INTO t (k, v) VALUES (?, ?)")
    select = session.prepare("SELECT v FROM t WHERE k = ?")
    insert.consistency_level = select.consistency_level = ConsistencyLevel.QUORUM
    for host in up(session):
        for k in range(KEYS):
            surely(lambda: session.execute(insert, (k, host.address), host=host))
        for other in up(session):
            for k in range(KEYS):
                found = surely(lambda: session.execute(select, (k,), host=other))
                equal(rows(found), [(host.address,)])


def test_routed_by_token(session):
    insert = session.prepare("INSERT INTO three.t (k, v) VALUES (?, ?)")
    metadata = session.cluster.metadata
    for k in range(KEYS):
        statement = insert.bind((k, "routed"))
        equal(len(metadata.get_replicas("three", statement.routing_key)), 3)
        surely(lambda: session.execute(statement))
    alone = SimpleStatement("SELECT k FROM three.t", consistency_level=ConsistencyLevel.ONE)
    found = eventually_all(session, alone)
    equal(found, list(range(KEYS)))


def eventually_all(session, statement):
    """What any replica shows once it has caught up."""
    found = []

    def is_there():
        found[:] = sorted(row.k for row in session.execute(statement))
        return len(found) == KEYS

    eventually(is_there, "all rows", seconds=60)
    return found


if __name__ == "__main__":
    main(globals(), hosts=ADDRESSES[:COUNT_UP])
