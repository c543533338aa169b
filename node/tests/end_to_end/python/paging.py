"""Pages: any size gives the same rows, and a page's state works later, elsewhere and after a restart.

Arguments: `write FILE` writes the rows, reads some pages and keeps the next one's state in FILE;
`resume FILE` goes on from there on a fresh connection.
"""

import json

from cassandra import InvalidRequest
from cassandra.cluster import NoHostAvailable
from cassandra.concurrent import execute_concurrent_with_args
from cassandra.protocol import ProtocolException
from cassandra.query import SimpleStatement

from client import ARGUMENTS, KEYSPACE, connected, equal, fails, main, rows

PARTITIONS = 40
ROWS = 25
QUERIES = [
    "SELECT k, c FROM paged",
    "SELECT DISTINCT k FROM paged",
    "SELECT k, c FROM paged WHERE k = 7",
    "SELECT k, c FROM paged WHERE k = 7 ORDER BY c DESC",
    "SELECT k, c FROM paged WHERE k = 7 AND c > 3 AND c <= 20",
    "SELECT k, c FROM paged WHERE k IN (3, 9, 1)",
    "SELECT k, s, c FROM paged WHERE k IN (7, 1000)",
    "SELECT k, c FROM paged WHERE k IN (3, 9, 1) AND c IN (2, 24, 7)",
    "SELECT k, c FROM paged LIMIT 111",
    "SELECT k, c FROM paged PER PARTITION LIMIT 3",
    "SELECT k, c FROM paged PER PARTITION LIMIT 2 LIMIT 17",
    "SELECT k, c FROM paged WHERE token(k) > 0",
    "SELECT k, c FROM paged WHERE v = 5 ALLOW FILTERING",
    "SELECT count(*) FROM paged",
    "SELECT k, max(c) FROM paged GROUP BY k",
]


def paged(session, query, size):
    """All rows, and the lengths of the pages."""
    result = session.execute(SimpleStatement(query, fetch_size=size))
    found, lengths = [], []
    while True:
        page = list(result.current_rows)
        lengths.append(len(page))
        found.extend(map(tuple, page))
        if not result.has_more_pages:
            return found, lengths
        result.fetch_next_page()


def test_every_size_gives_the_same_rows(session):
    for query in QUERIES:
        whole, lengths = paged(session, query, 5000)
        equal(len(lengths), 1)
        assert whole, query
        for size in (1, 2, 7, 100):
            if size == 1 and len(whole) > 300:
                continue
            found, lengths = paged(session, query, size)
            equal((query, size, found), (query, size, whole))
            assert all(0 < length <= size for length in lengths[:-1]), (query, size, lengths)


def test_no_paging_is_one_page(session):
    equal(len(rows(session.execute(SimpleStatement(QUERIES[0], fetch_size=None)))), PARTITIONS * ROWS + 1)


def test_prepared_statements_page(session):
    select = session.prepare("SELECT c FROM paged WHERE k = ? AND c >= ?")
    select.fetch_size = 4
    result = session.execute(select, (7, 5))
    equal(len(result.current_rows), 4)
    equal(rows(result), [(c,) for c in range(5, ROWS)])


def test_writes_between_pages(session):
    """A row that is written or deleted meanwhile neither repeats nor hides another."""
    session.execute("CREATE TABLE moving (k int, c int, PRIMARY KEY (k, c))")
    for c in range(0, 40, 2):
        session.execute(f"INSERT INTO moving (k, c) VALUES (1, {c})")
    result = session.execute(SimpleStatement("SELECT c FROM moving WHERE k = 1", fetch_size=5))
    equal([row.c for row in result.current_rows], [0, 2, 4, 6, 8])
    session.execute("INSERT INTO moving (k, c) VALUES (1, 1)")
    session.execute("DELETE FROM moving WHERE k = 1 AND c = 8")
    session.execute("INSERT INTO moving (k, c) VALUES (1, 9)")
    result.fetch_next_page()
    equal([row.c for row in result.current_rows], [9, 10, 12, 14, 16])


def test_a_wrong_state_is_refused(session):
    statement = SimpleStatement("SELECT k, c FROM paged", fetch_size=5)
    state = session.execute(statement).paging_state
    damaged = bytes([state[0] ^ 1]) + state[1:]
    wrong = [b"\0", b"garbage" * 9, state[:-1], state + b"\0", damaged,
             state[:-1] + bytes([state[-1] ^ 0x80])]
    attempts = [(statement, state) for state in wrong]
    # Another statement's state is no state of this one.
    attempts.append((SimpleStatement("SELECT c FROM moving WHERE k = 1", fetch_size=5), state))
    for attempt, state in attempts:
        # A protocol error costs the connection, so each has its own.
        with connected(KEYSPACE) as other:
            with fails((InvalidRequest, ProtocolException, NoHostAvailable)):
                other.execute(attempt, paging_state=state)


def write(session):
    session.execute("CREATE TABLE paged (k int, c int, s int STATIC, v int, PRIMARY KEY (k, c))")
    insert = session.prepare("INSERT INTO paged (k, c, v) VALUES (?, ?, ?)")
    values = [(k, c, (k + c) % 10) for k in range(PARTITIONS) for c in range(ROWS)]
    execute_concurrent_with_args(session, insert, values)
    session.execute("INSERT INTO paged (k, s) VALUES (7, 70)")
    # A partition with a static row alone is a row of the table.
    session.execute("INSERT INTO paged (k, s) VALUES (1000, 71)")


def states(session):
    """The first page of each query, and the state that leads to the next."""
    for query in QUERIES:
        result = session.execute(SimpleStatement(query, fetch_size=3))
        state = result.paging_state
        yield {"query": query, "first": [list(row) for row in result.current_rows],
               "state": state.hex() if state else None}


def test_states_work_later(session):
    if ARGUMENTS[0] == "write":
        with open(ARGUMENTS[1], "w") as file:
            json.dump(list(states(session)), file)
        return
    with open(ARGUMENTS[1]) as file:
        kept = json.load(file)
    equal(len(kept), len(QUERIES))
    for entry in kept:
        whole, _ = paged(session, entry["query"], 5000)
        found = [tuple(row) for row in entry["first"]]
        if entry["state"]:
            statement = SimpleStatement(entry["query"], fetch_size=5000)
            state = bytes.fromhex(entry["state"])
            found += rows(session.execute(statement, paging_state=state))
        equal((entry["query"], found), (entry["query"], whole))


TESTS = dict(globals())
if ARGUMENTS[0] == "write":
    main({"test_write": write, **TESTS})
else:
    main({"test_states_work_later": test_states_work_later})
