"""What to do with the events of a changefeed: four recipes, for a table

    CREATE TABLE shop.orders (id int PRIMARY KEY, customer text, status text, total decimal);

Each takes events one by one. A changefeed delivers at least once: after a failure the last events
may come again, in order. So each recipe can take an event twice, most of them by remembering the
sequence of the last event that it took of a key.
"""

import json
import sqlite3


def key_of(event):
    """The primary key as text, the same for equal keys."""
    return json.dumps(event["key"], sort_keys=True)


class SearchIndex:
    """Keeps a full-text index of what is in the table now."""

    def __init__(self, database=":memory:"):
        self.db = sqlite3.connect(database)
        self.db.execute("CREATE TABLE taken (key TEXT PRIMARY KEY, sequence INTEGER)")
        self.db.execute("CREATE VIRTUAL TABLE orders USING fts5(key UNINDEXED, customer, status)")

    def take(self, event):
        key = key_of(event)
        with self.db:
            if not is_news(self.db, key, event["sequence"]):
                return
            self.db.execute("DELETE FROM orders WHERE key = ?", (key,))
            row = event["new_row"]
            if row is not None:
                self.db.execute(
                    "INSERT INTO orders VALUES (?, ?, ?)", (key, row["customer"], row["status"])
                )

    def find(self, words):
        found = self.db.execute("SELECT key FROM orders WHERE orders MATCH ? ORDER BY key", (words,))
        return [json.loads(key) for (key,) in found]

    def result(self):
        return {"shipped": self.find("shipped"), "Ada": self.find("Ada")}


class CacheInvalidation:
    """Drops from a cache what has changed. Forgetting twice does no harm, so nothing is remembered.

    With `event_kind = 'key_only'` the feed sends no more than this needs.
    """

    def __init__(self, cache=None):
        self.cache = cache if cache is not None else {}
        self.dropped = 0

    def take(self, event):
        if self.cache.pop(key_of(event), None) is not None:
            self.dropped += 1

    def result(self):
        return {"cached": sorted(self.cache), "dropped": self.dropped}


class Warehouse:
    """Fills a table elsewhere; deleted rows stay there and are marked, so that reports see them."""

    def __init__(self, database=":memory:"):
        self.db = sqlite3.connect(database)
        self.db.execute(
            "CREATE TABLE orders (id INTEGER PRIMARY KEY, customer TEXT, status TEXT, total TEXT,"
            " deleted INTEGER, sequence INTEGER)"
        )

    def take(self, event):
        row = event["new_row"] or {}
        values = (
            event["key"]["id"],
            row.get("customer"),
            row.get("status"),
            str(row["total"]) if row.get("total") is not None else None,
            event["operation"] == "DELETE",
            event["sequence"],
        )
        with self.db:
            # An older event changes nothing.
            self.db.execute(
                "INSERT INTO orders VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET"
                " customer = excluded.customer, status = excluded.status, total = excluded.total,"
                " deleted = excluded.deleted, sequence = excluded.sequence"
                " WHERE excluded.sequence > orders.sequence",
                values,
            )

    def result(self):
        rows = self.db.execute("SELECT id, customer, status, total, deleted FROM orders ORDER BY id")
        return [list(row) for row in rows]


class Audit:
    """Keeps every change for good. The sequence tells a repeat from a change.

    With `include_old_values = true` it also says what was there before.
    """

    def __init__(self, database=":memory:"):
        self.db = sqlite3.connect(database)
        self.db.execute(
            "CREATE TABLE changes (sequence INTEGER PRIMARY KEY, at TEXT, operation TEXT, key TEXT,"
            " before TEXT, after TEXT)"
        )

    def take(self, event):
        values = (
            event["sequence"],
            event["timestamp"],
            event["operation"],
            key_of(event),
            json.dumps(event["old_row"]),
            json.dumps(event["new_row"]),
        )
        with self.db:
            self.db.execute("INSERT OR IGNORE INTO changes VALUES (?, ?, ?, ?, ?, ?)", values)

    def result(self):
        changes = self.db.execute("SELECT operation, key FROM changes ORDER BY sequence")
        return [[operation, json.loads(key)] for (operation, key) in changes]


def is_news(db, key, sequence):
    """Remembers an event of a key, unless that one or a later one was taken before."""
    taken = db.execute(
        "INSERT INTO taken VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET sequence = excluded.sequence"
        " WHERE excluded.sequence > taken.sequence",
        (key, sequence),
    )
    return taken.rowcount == 1


RECIPES = {
    "search": SearchIndex,
    "cache": CacheInvalidation,
    "warehouse": Warehouse,
    "audit": Audit,
}
