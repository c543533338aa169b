"""Statements and what they return: restrictions, order, limits, aggregates, times, deletions."""

import time

from client import equal, main, rows


def table(session, name, columns, *inserts):
    session.execute(f"CREATE TABLE {name} ({columns})")
    for insert in inserts:
        session.execute(f"INSERT INTO {name} {insert}")


def check(session, expectations):
    """Each statement returns these rows."""
    for text, expected in expectations.items():
        try:
            found = rows(session.execute(text))
        except Exception as error:
            raise AssertionError(text) from error
        equal((text, found), (text, expected))


def test_restrictions_order_and_limits(session):
    table(session, "wide", "k int, a int, b text, v int, PRIMARY KEY (k, a, b)",
          *[f"(k, a, b, v) VALUES ({k}, {a}, '{b}', {k * 100 + a})"
            for k in (1, 2) for a in range(4) for b in "xyz"])
    check(session, {
        "SELECT a, b FROM wide WHERE k = 1 AND a = 2": [(2, "x"), (2, "y"), (2, "z")],
        "SELECT a, b FROM wide WHERE k = 1 AND a = 2 AND b > 'x'": [(2, "y"), (2, "z")],
        "SELECT a, b FROM wide WHERE k = 1 AND a = 2 AND b >= 'y' AND b < 'z'": [(2, "y")],
        "SELECT a, b FROM wide WHERE k = 1 AND a > 2 AND a < 3": [],
        "SELECT a FROM wide WHERE k = 1 AND a IN (3, 0, 3) AND b = 'x'": [(0,), (3,)],
        "SELECT a, b FROM wide WHERE k = 1 AND (a, b) > (2, 'y') AND (a, b) <= (3, 'x')":
            [(2, "z"), (3, "x")],
        "SELECT a, b FROM wide WHERE k = 1 AND (a, b) IN ((3, 'z'), (0, 'x'), (9, 'q'))":
            [(0, "x"), (3, "z")],
        "SELECT a, b FROM wide WHERE k = 1 ORDER BY a DESC LIMIT 4":
            [(3, "z"), (3, "y"), (3, "x"), (2, "z")],
        "SELECT a, b FROM wide WHERE k = 1 AND a < 2 ORDER BY a DESC, b DESC LIMIT 2":
            [(1, "z"), (1, "y")],
        "SELECT k, a FROM wide WHERE k IN (2, 1, 2) AND a = 0 AND b = 'x'": [(1, 0), (2, 0)],
        "SELECT k, v FROM wide WHERE k IN (1, 2) PER PARTITION LIMIT 1": [(1, 100), (2, 200)],
        "SELECT DISTINCT k FROM wide WHERE k IN (1, 2, 3)": [(1,), (2,)],
        "SELECT a, v FROM wide WHERE k = 1 AND v = 102 LIMIT 1 ALLOW FILTERING": [(2, 102)],
        "SELECT k, a FROM wide WHERE b = 'z' AND v > 201 ALLOW FILTERING": [(2, 2), (2, 3)],
        "SELECT a AS alpha FROM wide WHERE k = 1 AND a = 0 AND b = 'x'": [(0,)],
        "SELECT k FROM wide WHERE k = 3": [],
        "SELECT * FROM wide WHERE k = 1 AND a = 3 AND b = 'y'": [(1, 3, "y", 103)],
    })


def test_descending_clustering(session):
    session.execute("CREATE TABLE down (k int, a int, b int, PRIMARY KEY (k, a, b))"
                    " WITH CLUSTERING ORDER BY (a DESC, b ASC)")
    for a in range(3):
        for b in range(2):
            session.execute(f"INSERT INTO down (k, a, b) VALUES (1, {a}, {b})")
    check(session, {
        "SELECT a, b FROM down WHERE k = 1": [(2, 0), (2, 1), (1, 0), (1, 1), (0, 0), (0, 1)],
        "SELECT a, b FROM down WHERE k = 1 AND a > 0 AND a <= 2":
            [(2, 0), (2, 1), (1, 0), (1, 1)],
        "SELECT a, b FROM down WHERE k = 1 ORDER BY a ASC, b DESC LIMIT 3":
            [(0, 1), (0, 0), (1, 1)],
        "SELECT a, b FROM down WHERE k = 1 AND a = 1 AND b > 0": [(1, 1)],
    })


def test_token_ranges(session):
    table(session, "ring", "k int PRIMARY KEY, v int")
    for k in range(200):
        session.execute(f"INSERT INTO ring (k, v) VALUES ({k}, {k})")
    by_token = rows(session.execute("SELECT token(k), k FROM ring"))
    equal(by_token, sorted(by_token))
    equal(len(by_token), 200)
    middle = by_token[77][0]
    above = session.execute(f"SELECT k FROM ring WHERE token(k) > {middle}")
    equal([row.k for row in above], [k for _, k in by_token[78:]])
    until = session.execute(f"SELECT k FROM ring WHERE token(k) <= {middle} LIMIT 30")
    equal([row.k for row in until], [k for _, k in by_token[:30]])
    pieces = []
    bounds = [-(2**63), -(2**61), 0, 2**60, 2**63 - 1]
    for low, high in zip(bounds, bounds[1:]):
        pieces += rows(session.execute(
            f"SELECT token(k), k FROM ring WHERE token(k) > {low} AND token(k) <= {high}"))
    equal(pieces, by_token)
    key = by_token[3][1]
    equal(rows(session.execute(f"SELECT k FROM ring WHERE token(k) = token({key})")), [(key,)])


def test_aggregates(session):
    table(session, "sums", "k int, c int, v int, d double, t text, PRIMARY KEY (k, c)",
          "(k, c, v, d, t) VALUES (1, 1, 10, 1.5, 'b')", "(k, c, v, d, t) VALUES (1, 2, 20, 2.5, 'a')",
          "(k, c, v) VALUES (1, 3, -5)", "(k, c, t) VALUES (2, 1, 'z')")
    check(session, {
        "SELECT count(*) FROM sums": [(4,)],
        "SELECT count(1) FROM sums": [(4,)],
        "SELECT count(v), count(d) FROM sums": [(3, 2)],
        "SELECT min(v), max(v), sum(v), avg(v) FROM sums WHERE k = 1": [(-5, 20, 25, 8)],
        "SELECT sum(d), avg(d), min(t), max(t) FROM sums": [(4.0, 2.0, "a", "z")],
        "SELECT count(*), max(c) FROM sums WHERE k = 9": [(0, None)],
        "SELECT sum(v), avg(v) FROM sums WHERE k = 9": [(0, 0)],
        "SELECT k, count(*), max(c) FROM sums WHERE k IN (1, 2) GROUP BY k": [(1, 3, 3), (2, 1, 1)],
        "SELECT min(c) FROM sums WHERE k = 1 AND c > 1": [(2,)],
    })
    result = session.execute("SELECT count(*), min(v), k AS key FROM sums WHERE k = 1")
    equal(result.column_names, ["count", "system.min(v)", "key"])


def test_functions(session):
    table(session, "functions", "k int PRIMARY KEY, t timeuuid, s timestamp, v text",
          "(k, t, s, v) VALUES (1, minTimeuuid('2026-01-02 03:04:05+0000'),"
          " '2026-01-02 03:04:05.678+0000', 'x')")
    check(session, {
        "SELECT toUnixTimestamp(t), toUnixTimestamp(s) FROM functions":
            [(1767323045000, 1767323045678)],
        "SELECT intAsBlob(k) FROM functions": [(b"\0\0\0\1",)],
        "SELECT blobAsText(textAsBlob(v)) FROM functions": [("x",)],
        "SELECT CAST(k AS text), CAST(k AS double) FROM functions": [("1", 1.0)],
        "SELECT token(k) FROM functions": [(-4069959284402364209,)],
    })
    row = session.execute("SELECT toDate(s), now(), currentTimestamp(), uuid() FROM functions").one()
    equal(str(row[0]), "2026-01-02")
    equal((row[1].version, row[3].version), (1, 4))
    assert abs(row[2].timestamp() - time.time()) < 24 * 3600


def test_times_of_cells(session):
    table(session, "times", "k int PRIMARY KEY, a int, b int, m map<int, int>")
    session.execute("INSERT INTO times (k, a) VALUES (1, 1) USING TIMESTAMP 1000 AND TTL 3000")
    session.execute("UPDATE times USING TIMESTAMP 2000 SET b = 2 WHERE k = 1")
    check(session, {"SELECT writetime(a), writetime(b), ttl(b) FROM times": [(1000, 2000, None)]})
    assert 2900 < session.execute("SELECT ttl(a) FROM times").one()[0] <= 3000
    check(session, {"SELECT writetime(a) FROM times WHERE k = 5": []})
    session.execute("UPDATE times USING TTL 0 SET a = 7 WHERE k = 1")
    check(session, {"SELECT a, ttl(a) FROM times": [(7, None)]})


def test_expiry(session):
    session.execute("CREATE TABLE expiring (k int PRIMARY KEY, v int) WITH default_time_to_live = 2")
    table(session, "expired", "k int, c int, v int, w int, PRIMARY KEY (k, c)")
    session.execute("INSERT INTO expiring (k, v) VALUES (1, 1)")
    session.execute("INSERT INTO expiring (k, v) VALUES (2, 2) USING TTL 1000")
    session.execute("INSERT INTO expired (k, c, v) VALUES (1, 1, 1) USING TTL 1")
    session.execute("INSERT INTO expired (k, c, v) VALUES (1, 2, 2)")
    session.execute("UPDATE expired USING TTL 1 SET w = 2 WHERE k = 1 AND c = 2")
    # An UPDATE makes no row of its own: it goes with its last cell.
    session.execute("UPDATE expired USING TTL 1 SET v = 3 WHERE k = 1 AND c = 3")
    # A later write without TTL takes the cell over, but not the row's marker.
    session.execute("INSERT INTO expired (k, c, v) VALUES (1, 4, 1) USING TTL 1")
    session.execute("UPDATE expired SET v = 4 WHERE k = 1 AND c = 4")
    time.sleep(3.5)
    check(session, {
        "SELECT k FROM expiring": [(2,)],
        "SELECT c, v, w FROM expired WHERE k = 1": [(2, 2, None), (4, 4, None)],
        "SELECT count(*) FROM expired": [(2,)],
    })


def test_static_columns(session):
    table(session, "statics", "k int, c int, s text STATIC, v int, PRIMARY KEY (k, c)",
          "(k, s) VALUES (1, 'alone')", "(k, c, v) VALUES (2, 1, 1)",
          "(k, c, v, s) VALUES (2, 2, 2, 'two')", "(k, c) VALUES (3, 1)")
    check(session, {
        "SELECT k, c, s, v FROM statics WHERE k = 1": [(1, None, "alone", None)],
        "SELECT c, s, v FROM statics WHERE k = 2": [(1, "two", 1), (2, "two", 2)],
        "SELECT c, s FROM statics WHERE k = 3": [(1, None)],
        "SELECT c, s FROM statics WHERE k = 1 AND c = 5": [],
        "SELECT DISTINCT k, s FROM statics WHERE k IN (1, 2, 3)":
            [(1, "alone"), (2, "two"), (3, None)],
    })
    session.execute("UPDATE statics SET s = 'three' WHERE k = 3")
    session.execute("DELETE s FROM statics WHERE k = 2")
    session.execute("DELETE FROM statics WHERE k = 2 AND c = 1")
    check(session, {
        "SELECT c, s FROM statics WHERE k = 2": [(2, None)],
        "SELECT c, s FROM statics WHERE k = 3": [(1, "three")],
    })
    session.execute("DELETE FROM statics WHERE k = 3 AND c = 1")
    check(session, {"SELECT c, s FROM statics WHERE k = 3": [(None, "three")]})
    session.execute("DELETE FROM statics WHERE k = 3")
    check(session, {"SELECT c, s FROM statics WHERE k = 3": []})


def filled(session, name):
    table(session, name, "k int, a int, b int, v int, w int, PRIMARY KEY (k, a, b)")
    for a in range(3):
        for b in range(3):
            session.execute(f"INSERT INTO {name} (k, a, b, v, w) VALUES (1, {a}, {b}, 1, 2)")
    return f"SELECT a, b FROM {name} WHERE k = 1"


def test_deletions(session):
    everything = [(a, b) for a in range(3) for b in range(3)]
    forms = {
        "a = 1 AND b = 1": lambda a, b: (a, b) == (1, 1),
        "a = 1": lambda a, b: a == 1,
        "a = 1 AND b > 0": lambda a, b: a == 1 and b > 0,
        "a = 1 AND b >= 1 AND b < 2": lambda a, b: (a, b) == (1, 1),
        "a > 0": lambda a, b: a > 0,
        "a <= 1": lambda a, b: a <= 1,
        "a > 0 AND a < 2": lambda a, b: a == 1,
        "a IN (0, 2)": lambda a, b: a in (0, 2),
        "a = 2 AND b IN (0, 1, 7)": lambda a, b: a == 2 and b in (0, 1),
        "(a, b) > (1, 1)": lambda a, b: (a, b) > (1, 1),
        "(a, b) >= (0, 1) AND (a, b) < (2, 1)": lambda a, b: (0, 1) <= (a, b) < (2, 1),
        "(a, b) = (0, 0)": lambda a, b: (a, b) == (0, 0),
    }
    for number, (where, gone) in enumerate(forms.items()):
        select = filled(session, f"deleted_{number}")
        session.execute(f"DELETE FROM deleted_{number} WHERE k = 1 AND {where}")
        left = [row for row in everything if not gone(*row)]
        equal((where, rows(session.execute(select))), (where, left))
        equal((where, rows(session.execute(select + " ORDER BY a DESC"))), (where, left[::-1]))
    select = filled(session, "deleted_whole")
    session.execute("DELETE FROM deleted_whole WHERE k = 1")
    check(session, {select: []})
    session.execute("INSERT INTO deleted_whole (k, a, b) VALUES (1, 5, 5)")
    check(session, {select: [(5, 5)]})


def test_deletions_of_cells(session):
    select = filled(session, "cells")
    session.execute("DELETE v FROM cells WHERE k = 1 AND a = 0 AND b = 0")
    check(session, {"SELECT v, w FROM cells WHERE k = 1 AND a = 0 AND b = 0": [(None, 2)]})
    session.execute("DELETE v, w FROM cells WHERE k = 1 AND a = 0 AND b = 0")
    # An inserted row stays without its cells; one that was only updated goes with the last.
    check(session, {select + " AND a = 0 AND b = 0": [(0, 0)]})
    session.execute("UPDATE cells SET v = 1 WHERE k = 1 AND a = 7 AND b = 7")
    session.execute("UPDATE cells SET v = null WHERE k = 1 AND a = 7 AND b = 7")
    check(session, {select + " AND a = 7": []})


def test_deletions_in_the_past(session):
    table(session, "past", "k int, c int, v int, PRIMARY KEY (k, c)",
          "(k, c, v) VALUES (1, 1, 1) USING TIMESTAMP 1000",
          "(k, c, v) VALUES (1, 2, 2) USING TIMESTAMP 3000")
    session.execute("DELETE FROM past USING TIMESTAMP 2000 WHERE k = 1")
    check(session, {"SELECT c, v FROM past": [(2, 2)]})
    session.execute("DELETE FROM past USING TIMESTAMP 2500 WHERE k = 1 AND c > 0")
    check(session, {"SELECT c, v FROM past": [(2, 2)]})
    session.execute("INSERT INTO past (k, c, v) VALUES (1, 5, 5) USING TIMESTAMP 2400")
    check(session, {"SELECT c, v FROM past": [(2, 2)]})
    session.execute("INSERT INTO past (k, c, v) VALUES (1, 6, 6) USING TIMESTAMP 2600")
    check(session, {"SELECT c, v FROM past": [(2, 2), (6, 6)]})


def test_collections(session):
    table(session, "collections", "k int PRIMARY KEY, l list<text>, s set<int>, m map<text, int>")
    row = "SELECT l, s, m FROM collections WHERE k = 1"

    def after(*statements):
        for statement in statements:
            session.execute(f"UPDATE collections SET {statement} WHERE k = 1")
        found = session.execute(row).one()
        return found.l, set(found.s or ()), dict(found.m or {})

    equal(after("l = ['b'], s = {2}, m = {'b': 2}"), (["b"], {2}, {"b": 2}))
    equal(after("l = l + ['c', 'd']", "s = s + {3, 2}", "m = m + {'c': 3}"),
          (["b", "c", "d"], {2, 3}, {"b": 2, "c": 3}))
    equal(after("l = ['x', 'a'] + l", "s = s - {2, 9}", "m = m - {'b', 'z'}"),
          (["x", "a", "b", "c", "d"], {3}, {"c": 3}))
    equal(after("m['d'] = 4", "m['c'] = null"), (["x", "a", "b", "c", "d"], {3}, {"d": 4}))
    equal(after("l = ['n']", "m = {'n': 0}"), (["n"], {3}, {"n": 0}))
    session.execute("DELETE m['n'], s FROM collections WHERE k = 1")
    equal(after(), (["n"], set(), {}))
    session.execute("INSERT INTO collections (k, s, m) VALUES (2, {5, 1, 3}, {'a': 1, 'b': 2})")
    check(session, {
        "SELECT k FROM collections WHERE s CONTAINS 3 ALLOW FILTERING": [(2,)],
        "SELECT k FROM collections WHERE m CONTAINS 2 ALLOW FILTERING": [(2,)],
        "SELECT k FROM collections WHERE m CONTAINS KEY 'a' ALLOW FILTERING": [(2,)],
        "SELECT k FROM collections WHERE m['b'] = 2 ALLOW FILTERING": [(2,)],
        "SELECT k FROM collections WHERE m['b'] = 1 ALLOW FILTERING": [],
    })
    equal(list(session.execute("SELECT s FROM collections WHERE k = 2").one().s), [1, 3, 5])


def test_list_indexes(session):
    """They are read before they are written."""
    table(session, "indexed", "k int PRIMARY KEY, l list<text>",
          "(k, l) VALUES (1, ['a', 'b', 'c', 'b'])")
    session.execute("UPDATE indexed SET l[1] = 'x' WHERE k = 1")
    check(session, {"SELECT l FROM indexed": [(["a", "x", "c", "b"],)]})
    session.execute("UPDATE indexed SET l = l - ['b', 'a'] WHERE k = 1")
    check(session, {"SELECT l FROM indexed": [(["x", "c"],)]})
    session.execute("DELETE l[0] FROM indexed WHERE k = 1")
    check(session, {"SELECT l FROM indexed": [(["c"],)]})


def test_truncate(session):
    table(session, "cleared", "k int PRIMARY KEY", "(k) VALUES (1)", "(k) VALUES (2)")
    session.execute("TRUNCATE TABLE cleared")
    check(session, {"SELECT * FROM cleared": []})
    session.execute("INSERT INTO cleared (k) VALUES (3)")
    check(session, {"SELECT * FROM cleared": [(3,)]})


main(globals())
