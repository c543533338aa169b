//! Random statements of every shape against one table, as text with literals or with markers.
//!
//! Keys and values are few, so that statements meet.

use env::Entropy;

/// Partitions and clustering keys that are written.
const KEYS: u64 = 3;
const VALUES: u64 = 4;

/// The type that [`COLUMNS`] use.
pub(crate) const CREATE_TYPE: &str = "CREATE TYPE ks.address (street text, number int)";

/// The columns of the table that [`Shapes`] writes to, behind its name.
pub(crate) const COLUMNS: &str = "(p int, c int, st int static, a int, b text, m map<int, text>, \
    s set<int>, l list<int>, f frozen<list<int>>, u address, n map<int, frozen<set<int>>>, \
    w set<frozen<address>>, x list<frozen<list<int>>>, PRIMARY KEY (p, c))";

/// The regular columns.
const REGULAR: [&str; 10] = ["a", "b", "m", "s", "l", "f", "u", "n", "w", "x"];

/// One column of a row; the many others stay as they are.
const DELETED_COLUMNS: [&str; 14] =
    ["a", "b", "m", "s", "l", "f", "a, b", "m, a", "u", "n", "w", "x", "u.street", "x, u"];

/// One statement of a client.
#[derive(Clone, Debug)]
pub(crate) struct Statement {
    pub text: String,
    pub values: Vec<Vec<u8>>,
    pub is_prepared: bool,
    /// The timestamp that a driver sends beside the statement.
    pub default_timestamp: Option<i64>,
}

impl Statement {
    /// A statement that is sent as it stands.
    pub(crate) fn of_text(text: &str) -> Statement {
        Statement {
            text: text.to_owned(),
            values: Vec::new(),
            is_prepared: false,
            default_timestamp: None,
        }
    }
}

/// Whether a statement may stand in a batch with a timestamp of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Within {
    Alone,
    Batch,
}

/// Makes statements for a table.
#[derive(Debug)]
pub(crate) struct Shapes<'e> {
    pub table: &'e str,
    pub entropy: &'e mut Entropy,
    /// Values of the markers of the statement in hand; `None` when it has literals.
    values: Option<Vec<Vec<u8>>>,
}

impl<'e> Shapes<'e> {
    pub(crate) fn new(table: &'e str, entropy: &'e mut Entropy) -> Self {
        Shapes { table, entropy, values: None }
    }

    /// A write; with `timestamp` it says `USING TIMESTAMP`.
    pub(crate) fn write(&mut self, timestamp: Option<i64>, within: Within) -> Statement {
        let is_prepared = self.entropy.below(2) == 0;
        self.values = (is_prepared && self.entropy.below(2) == 0).then(Vec::new);
        let text = match self.entropy.below(10) {
            0..=2 => self.insert(timestamp, within),
            3..=6 => self.update(timestamp, within),
            _ => self.delete(timestamp),
        };
        let values = self.values.take().unwrap_or_default();
        Statement { text, values, is_prepared, default_timestamp: None }
    }

    fn insert(&mut self, timestamp: Option<i64>, within: Within) -> String {
        let (mut names, mut values) = (vec!["p", "c"], vec![self.key(), self.key()]);
        for column in ["st"].into_iter().chain(REGULAR) {
            if self.entropy.below(4) == 0 {
                names.push(column);
                values.push(self.value_of(column));
            }
        }
        let (names, values) = (names.join(", "), values.join(", "));
        let using = self.using(timestamp, within);
        format!("INSERT INTO {} ({names}) VALUES ({values}){using}", self.table)
    }

    fn update(&mut self, timestamp: Option<i64>, within: Within) -> String {
        // Markers come in the order of the text.
        let using = self.using(timestamp, within);
        if self.entropy.below(8) == 0 {
            let (value, key) = (self.value_of("st"), self.key());
            return format!("UPDATE {}{using} SET st = {value} WHERE p = {key}", self.table);
        }
        let mut changes = Vec::new();
        for column in REGULAR {
            if self.entropy.below(6) == 0 {
                changes.push(self.change_of(column));
            }
        }
        if changes.is_empty() {
            changes.push(self.change_of("a"));
        }
        let changes = changes.join(", ");
        let (p, c) = (self.key(), self.key());
        format!("UPDATE {}{using} SET {changes} WHERE p = {p} AND c = {c}", self.table)
    }

    fn delete(&mut self, timestamp: Option<i64>) -> String {
        let table = self.table;
        let what = match self.entropy.below(14) {
            0..=3 => self.pick(&DELETED_COLUMNS),
            4 => format!("m[{}]", self.number(VALUES)),
            5 => format!("s[{}]", self.number(VALUES)),
            6 => format!("n[{}]", self.number(VALUES)),
            7 => {
                let using = timestamp.map_or(String::new(), |t| format!(" USING TIMESTAMP {t}"));
                return format!("DELETE st FROM {table}{using} WHERE p = {}", self.key());
            }
            _ => String::new(),
        };
        let using = timestamp.map_or(String::new(), |t| format!(" USING TIMESTAMP {t}"));
        let p = self.key();
        let is_row = !what.is_empty() || self.entropy.below(2) == 0;
        let rest = if is_row {
            format!(" AND c = {}", self.key())
        } else {
            match self.entropy.below(5) {
                0 => String::new(),
                1 => format!(" AND c > {}", self.key()),
                2 => format!(" AND c <= {}", self.key()),
                3 => format!(" AND c >= {} AND c < {}", self.key(), self.key()),
                _ => format!(" AND c IN ({}, {})", self.key(), self.key()),
            }
        };
        let space = if what.is_empty() { "" } else { " " };
        format!("DELETE{space}{what} FROM {table}{using} WHERE p = {p}{rest}")
    }

    fn using(&mut self, timestamp: Option<i64>, within: Within) -> String {
        // A batch gives one TTL to nobody, so its statements may have their own.
        let ttl = (self.entropy.below(8) == 0 && within == Within::Alone).then_some(100_000);
        match (timestamp, ttl) {
            (None, None) => String::new(),
            (Some(t), None) => format!(" USING TIMESTAMP {t}"),
            (None, Some(ttl)) => format!(" USING TTL {ttl}"),
            (Some(t), Some(ttl)) => format!(" USING TIMESTAMP {t} AND TTL {ttl}"),
        }
    }

    /// What an UPDATE does to a column.
    fn change_of(&mut self, column: &str) -> String {
        let whole = format!("{column} = {}", self.value_of(column));
        let (n, k) = (self.number(VALUES), self.number(VALUES));
        // Literals only from here on: the values above were drawn first, so they come first.
        if self.values.is_some() || self.entropy.below(3) == 0 {
            return whole;
        }
        match column {
            "m" => self.pick(&[
                &format!("m = m + {{{n}: 'x{k}'}}"),
                &format!("m[{n}] = 'y{k}'"),
                &format!("m[{n}] = null"),
                &format!("m = m - {{{n}, {k}}}"),
                "m = {}",
            ]),
            "s" => self.pick(&[
                &format!("s = s + {{{n}, {k}}}"),
                &format!("s = s - {{{n}}}"),
                "s = {}",
            ]),
            "l" => self.pick(&[
                &format!("l = l + [{n}, {k}]"),
                &format!("l = [{n}, {k}] + l"),
                &format!("l = l - [{n}]"),
                &format!("l[0] = {n}"),
                "l[0] = null",
                "l = []",
            ]),
            "u" => self.pick(&[
                &format!("u.street = 's{n}'"),
                &format!("u.number = {k}"),
                "u.street = null",
                "u = {number: 1}",
            ]),
            "n" => self.pick(&[
                &format!("n = n + {{{n}: {{{k}, 9}}}}"),
                &format!("n[{n}] = {{{k}}}"),
                &format!("n[{n}] = null"),
                &format!("n = n - {{{n}}}"),
            ]),
            "w" => self.pick(&[
                &format!("w = w + {{{{street: 's{n}', number: {k}}}}}"),
                &format!("w = w - {{{{street: 's{n}', number: {k}}}}}"),
            ]),
            "x" => self.pick(&[
                &format!("x = x + [[{n}, {k}], []]"),
                &format!("x = [[{n}]] + x"),
                &format!("x = x - [[{n}]]"),
                &format!("x[0] = [{n}]"),
            ]),
            _ => whole,
        }
    }

    fn value_of(&mut self, column: &str) -> String {
        let (n, k) = (self.number(VALUES), self.number(VALUES));
        if self.entropy.below(6) == 0 {
            return "null".to_owned();
        }
        match column {
            "st" | "a" => self.int(VALUES),
            "b" => format!("'b{n}'"),
            "m" => self.pick(&["{}", &format!("{{{n}: 'm{k}'}}"), "{1: 'one', 2: 'two'}"]),
            "s" => self.pick(&["{}", &format!("{{{n}}}"), "{1, 2}"]),
            "l" | "f" => self.pick(&["[]", &format!("[{n}, {k}]"), "[1]"]),
            "u" => self.pick(&[
                &format!("{{street: 's{n}', number: {k}}}"),
                &format!("{{number: {k}}}"),
                "{street: 's', number: null}",
            ]),
            "n" => self.pick(&["{}", &format!("{{{n}: {{{k}}}, 9: {{}}}}")]),
            "w" => self.pick(&["{}", &format!("{{{{street: 's{n}', number: {k}}}}}")]),
            "x" => self.pick(&["[]", &format!("[[{n}, {k}]]"), "[[], [1]]"]),
            other => unreachable!("no column {other}"),
        }
    }

    fn key(&mut self) -> String {
        self.int(KEYS)
    }

    /// A number below `bound`, as a literal or as the value of a marker.
    fn int(&mut self, bound: u64) -> String {
        let number = self.number(bound);
        match &mut self.values {
            Some(values) => {
                values.push((number as i32).to_be_bytes().to_vec());
                "?".to_owned()
            }
            None => number.to_string(),
        }
    }

    fn number(&mut self, bound: u64) -> u64 {
        self.entropy.below(bound)
    }

    fn pick(&mut self, shapes: &[&str]) -> String {
        shapes[self.entropy.below(shapes.len() as u64) as usize].to_owned()
    }
}
