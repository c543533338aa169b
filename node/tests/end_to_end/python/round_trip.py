"""Every type comes back as it went in: as a literal, bound, as a key, null, and empty."""

import datetime
import decimal
import uuid

from cassandra.util import Date, Duration, SortedSet, Time, uuid_from_time

from client import equal, main, rows

UUIDS = [uuid.UUID(int=0), uuid.UUID(int=(1 << 128) - 1), uuid.uuid4()]
TIMES = [uuid_from_time(0), uuid.uuid1(), uuid_from_time(datetime.datetime(2050, 1, 2, 3, 4, 5))]
STAMPS = [
    datetime.datetime(1970, 1, 1),
    datetime.datetime(2026, 11, 21, 1, 2, 3, 456000),
    datetime.datetime(1901, 12, 13, 20, 45, 52, 1000),
]
NATIVE = {
    "ascii": ["", "plain", "a'quote''s", "".join(map(chr, range(1, 128)))],
    "bigint": [0, -1, 2**63 - 1, -(2**63)],
    "blob": [b"", b"\0", bytes(range(256)), b"x" * 100_000],
    "boolean": [True, False],
    "date": [Date(0), Date("1582-10-15"), Date("0001-01-01"), Date("9999-12-31")],
    "decimal": list(map(decimal.Decimal, ["0", "-1.50", "1E+5", "1E-300", "7" * 60 + ".5"])),
    "double": [0.0, -1.5, 1e308, 5e-324, float("inf"), float("-inf")],
    "float": [0.0, -1.5, 2.0**127, float("inf")],
    "inet": ["127.0.0.1", "255.255.255.255", "::1", "fe80::1:2:3"],
    "int": [0, -1, 2**31 - 1, -(2**31)],
    "smallint": [0, -1, 2**15 - 1, -(2**15)],
    "text": ["", "é漢字𝄞", "line\nbreak", "a'quote''s", "x" * 70_000],
    "time": [Time(0), Time("12:34:56.789012345"), Time(24 * 3600 * 10**9 - 1)],
    "timestamp": STAMPS,
    "timeuuid": TIMES,
    "tinyint": [0, -1, 127, -128],
    "uuid": UUIDS,
    "varchar": ["", "same as text"],
    "varint": [0, -1, 127, 128, -128, -129, 2**200, -(2**200)],
}
VALUE_ONLY = {"duration": [Duration(0, 0, 0), Duration(1, 2, 3), Duration(-14, -3, -999)]}
COMPOSITE = {
    "list<int>": [[1, 2, 2, -1]],
    "set<text>": [{"b", "a", "é"}],
    "map<text, int>": [{"b": 1, "a": 2}],
    "frozen<list<int>>": [[], [3, 1]],
    "frozen<set<int>>": [set(), {3, 1}],
    "frozen<map<int, text>>": [{}, {1: "x"}],
    "list<frozen<map<int, text>>>": [[{1: "a"}, {}]],
    "map<text, frozen<set<int>>>": [{"k": {1, 2}, "empty": set()}],
    "frozen<map<text, list<map<int, set<text>>>>>": [{"deep": [{1: {"a", "b"}}, {}], "none": []}],
    "tuple<int, text, double>": [(1, "a", 2.5), (None, "b", None)],
    "frozen<tuple<int, tuple<text, list<int>>>>": [(1, ("x", [1, 2]))],
    "list<tuple<int, text>>": [[(1, "a"), (2, None)]],
    "map<timeuuid, inet>": [{TIMES[1]: "10.0.0.1"}],
    "map<date, time>": [{Date("2026-11-21"): Time("01:02:03")}],
    "set<decimal>": [{decimal.Decimal("1.5"), decimal.Decimal("-2")}],
    "list<duration>": [[Duration(1, 2, 3)]],
    "list<boolean>": [[True, False]],
    "map<bigint, varint>": [{-1: 2**100}],
}


def plain(value):
    """Driver's ordered collections as Python's own."""
    if hasattr(value, "items"):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, (set, SortedSet)):
        return {plain(item) for item in value}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, tuple):
        return tuple(plain(item) for item in value)
    return value


def check_values(session, table, cql_type, values):
    session.execute(f"CREATE TABLE {table} (k int PRIMARY KEY, v {cql_type})")
    insert = session.prepare(f"INSERT INTO {table} (k, v) VALUES (?, ?)")
    select = session.prepare(f"SELECT v FROM {table} WHERE k = ?")
    for number, value in enumerate(values):
        session.execute(insert, (number, value))
        equal(plain(session.execute(select, (number,)).one()[0]), plain(value))
        session.execute(insert, (number, None))
        equal(session.execute(select, (number,)).one()[0], None)


def test_bound_values(session):
    for number, (cql_type, values) in enumerate({**NATIVE, **VALUE_ONLY, **COMPOSITE}.items()):
        try:
            check_values(session, f"bound_{number}", cql_type, values)
        except Exception as error:
            raise AssertionError(cql_type) from error


def test_literals(session):
    # The driver writes tuples as lists, so those are tested where they are written out.
    composite = {name: values for name, values in COMPOSITE.items() if "tuple" not in name}
    for number, (cql_type, values) in enumerate({**NATIVE, **composite}.items()):
        session.execute(f"CREATE TABLE literal_{number} (k int PRIMARY KEY, v {cql_type})")
        for value in values:
            try:
                # The driver would write a decimal with a double's digits.
                insert = f"INSERT INTO literal_{number} (k, v) VALUES (0, %s)"
                if cql_type == "decimal":
                    session.execute(insert % value)
                else:
                    session.execute(insert, (value,))
                back = session.execute(f"SELECT v FROM literal_{number} WHERE k = 0").one()[0]
                equal(plain(back), plain(value))
            except Exception as error:
                raise AssertionError(f"{cql_type}: {value!r}"[:200]) from error


def test_durations_are_written_in_all_forms(session):
    session.execute("CREATE TABLE durations (k int PRIMARY KEY, v duration)")
    forms = {
        "1y2mo3w4d5h6m7s8ms9us10ns": Duration(14, 25, 18367008009010),
        "-2h30m": Duration(0, 0, -9000 * 10**9),
        "P1Y2M3DT4H5M6S": Duration(14, 3, 14706 * 10**9),
        "P3W": Duration(0, 21, 0),
    }
    for text, value in forms.items():
        session.execute(f"INSERT INTO durations (k, v) VALUES (0, {text})")
        equal(session.execute("SELECT v FROM durations").one().v, value)


def test_keys(session):
    """Partition and clustering keys of each type, in the order of the values."""
    for number, (cql_type, values) in enumerate(NATIVE.items()):
        table = f"keys_{number}"
        session.execute(
            f"CREATE TABLE {table} (p {cql_type}, c {cql_type}, v int, PRIMARY KEY (p, c))"
        )
        insert = session.prepare(f"INSERT INTO {table} (p, c, v) VALUES (?, ?, ?)")
        select = session.prepare(f"SELECT c FROM {table} WHERE p = ?")
        # Keys are bounded, other values are not.
        small = [value for value in values if not (hasattr(value, "__len__") and len(value) > 9_999)]
        # A partition key of one column may not be empty.
        parts = [value for value in small if value not in ("", b"")]
        for part in parts:
            for value in small:
                session.execute(insert, (part, value, 1))
            back = [row.c for row in session.execute(select, (part,))]
            equal(len(back), len(small))
            if cql_type in ("inet", "uuid", "timeuuid"):
                equal(sorted(map(str, back)), sorted(map(str, small)))
            else:
                key = (lambda text: text.encode()) if isinstance(small[0], str) else (lambda v: v)
                equal(back, sorted(small, key=key))


def test_composite_keys(session):
    session.execute(
        "CREATE TABLE composite_keys (a int, b text, c frozen<set<int>>, d frozen<tuple<int, text>>,"
        " PRIMARY KEY ((a, b), c, d)) WITH CLUSTERING ORDER BY (c DESC, d ASC)"
    )
    insert = session.prepare("INSERT INTO composite_keys (a, b, c, d) VALUES (?, ?, ?, ?)")
    for c in [{1}, {1, 2}, {2}, set()]:
        for d in [(1, "b"), (1, "a"), (None, "z")]:
            session.execute(insert, (1, "", c, d))
    found = rows(session.execute("SELECT c, d FROM composite_keys WHERE a = 1 AND b = ''"))
    equal([set(c) for c, _ in found[::3]], [{2}, {1, 2}, {1}, set()])
    equal([d for _, d in found[:3]], [(None, "z"), (1, "a"), (1, "b")])
    equal(rows(session.execute(
        "SELECT d FROM composite_keys WHERE a = 1 AND b = '' AND c = {1, 2} AND d > (1, 'a')"
    )), [((1, "b"),)])


def test_user_types(session):
    session.execute("CREATE TYPE street (name text, number int)")
    session.execute("CREATE TYPE address (town text, street frozen<street>, phones frozen<list<text>>)")
    session.execute(
        "CREATE TABLE people (k int PRIMARY KEY, home frozen<address>, work address,"
        " past list<frozen<street>>)"
    )
    session.execute(
        "INSERT INTO people (k, home, work, past) VALUES (1,"
        " {town: 'Rome', street: {name: 'Appia', number: 1}, phones: ['1', '2']},"
        " {town: 'Oslo'}, [{name: 'x', number: null}])"
    )
    row = session.execute("SELECT * FROM people").one()
    equal((row.home.town, row.home.street.name, row.home.phones), ("Rome", "Appia", ["1", "2"]))
    equal((row.work.town, row.work.street, row.work.phones), ("Oslo", None, None))
    equal([(street.name, street.number) for street in row.past], [("x", None)])
    session.execute("UPDATE people SET work.phones = ['3'] WHERE k = 1")
    row = session.execute("SELECT work FROM people").one()
    equal((row.work.town, row.work.phones), ("Oslo", ["3"]))
    equal(session.execute("SELECT home.street.number FROM people").one()[0], 1)
    # What was read goes in again, bound.
    insert = session.prepare("INSERT INTO people (k, home, work) VALUES (?, ?, ?)")
    session.execute(insert, (2, row.work, row.work))
    row = session.execute("SELECT home, work FROM people WHERE k = 2").one()
    equal((row.home.town, row.work.phones), ("Oslo", ["3"]))
    # A field that is added reads as null in what was there.
    session.execute("ALTER TYPE street ADD floor int")
    row = session.execute("SELECT past FROM people WHERE k = 1").one()
    equal((row.past[0].name, row.past[0].floor), ("x", None))


def test_empty_values(session):
    """A value of no bytes is not null."""
    for number, (cql_type, function) in enumerate({
        "int": "Int", "bigint": "Bigint", "double": "Double", "uuid": "Uuid",
        "timestamp": "Timestamp", "boolean": "Boolean", "inet": "Inet", "varint": "Varint",
    }.items()):
        session.execute(f"CREATE TABLE empty_{number} (k int PRIMARY KEY, v {cql_type})")
        session.execute(f"INSERT INTO empty_{number} (k, v) VALUES (1, blobAs{function}(0x))")
        found = session.execute(f"SELECT {function}AsBlob(v) FROM empty_{number}").one()[0]
        equal(found, b"")


def test_empty_collections_are_null_unless_frozen(session):
    session.execute(
        "CREATE TABLE empties (k int PRIMARY KEY, l list<int>, s set<int>, m map<int, int>,"
        " f frozen<list<int>>)"
    )
    session.execute("INSERT INTO empties (k, l, s, m, f) VALUES (1, [], {}, {}, [])")
    equal(rows(session.execute("SELECT l, s, m, f FROM empties")), [(None, None, None, [])])


def test_numbers_that_are_not_numbers(session):
    session.execute("CREATE TABLE nans (k int PRIMARY KEY, d double, f float)")
    session.execute("INSERT INTO nans (k, d, f) VALUES (1, NaN, -NaN)")
    row = session.execute("SELECT d, f FROM nans").one()
    assert row.d != row.d and row.f != row.f


def test_vectors(session):
    session.execute("CREATE TABLE vectors (k int PRIMARY KEY, v vector<float, 3>)")
    insert = session.prepare("INSERT INTO vectors (k, v) VALUES (?, ?)")
    session.execute(insert, (1, [1.0, -2.5, 0.0]))
    session.execute("INSERT INTO vectors (k, v) VALUES (2, [0.5, 0.25, 4])")
    found = {row.k: list(row.v) for row in session.execute("SELECT k, v FROM vectors")}
    equal(found, {1: [1.0, -2.5, 0.0], 2: [0.5, 0.25, 4.0]})


def test_result_metadata(session):
    session.execute("CREATE TABLE described (k int PRIMARY KEY, m map<text, frozen<list<int>>>)")
    result = session.execute("SELECT k, m FROM described")
    equal(result.column_names, ["k", "m"])
    equal([kind.cql_parameterized_type() for kind in result.column_types],
          ["int", "map<varchar, list<int>>"])


main(globals())
