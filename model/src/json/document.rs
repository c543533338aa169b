//! JSON text as a tree, numbers as they are written.
//!
//! What RFC 8259 allows, and nothing else. Texts come from clients: nesting and the number of values
//! are bounded, and a text that is none is an error that says where.

#![deny(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss
)]

/// Deepest nesting of lists and objects.
const DEPTH_MAX: usize = 64;
/// Most values in a text.
const VALUES_MAX: usize = 1 << 18;

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Json {
    /// `null`
    Null,
    /// `true` or `false`
    Boolean(bool),
    /// A number, as it is written.
    Number(String),
    /// A string, without its escapes.
    Text(String),
    /// `[…]`
    List(Vec<Json>),
    /// `{…}`, members in order; a name may come again.
    Object(Vec<(String, Json)>),
}

impl Json {
    /// Reads a text, which is one value.
    ///
    /// The error says what is wrong, and at which byte.
    pub fn parse(text: &str) -> Result<Json, String> {
        let mut parser = Parser { rest: text, length: text.len(), values_left: VALUES_MAX };
        let value = parser.value(0)?;
        parser.skip_blanks();
        if parser.rest.is_empty() { Ok(value) } else { Err(parser.error("the end is expected")) }
    }
}

struct Parser<'t> {
    rest: &'t str,
    length: usize,
    values_left: usize,
}

impl Parser<'_> {
    fn error(&self, what: &str) -> String {
        format!("{what} at byte {}", self.length - self.rest.len())
    }

    fn skip_blanks(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\r', '\n']);
    }

    fn accept(&mut self, text: &str) -> bool {
        match self.rest.strip_prefix(text) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn value(&mut self, depth: usize) -> Result<Json, String> {
        self.skip_blanks();
        let Some(left) = self.values_left.checked_sub(1) else {
            return Err(format!("more than {VALUES_MAX} values"));
        };
        self.values_left = left;
        if depth > DEPTH_MAX {
            return Err(format!("nested more than {DEPTH_MAX} levels deep"));
        }
        for (word, value) in
            [("null", Json::Null), ("true", Json::Boolean(true)), ("false", Json::Boolean(false))]
        {
            if self.accept(word) {
                return Ok(value);
            }
        }
        match self.rest.bytes().next() {
            Some(b'"') => self.string().map(Json::Text),
            Some(b'[') => self.list(depth).map(Json::List),
            Some(b'{') => self.object(depth).map(Json::Object),
            Some(b'-' | b'0'..=b'9') => self.number().map(Json::Number),
            _ => Err(self.error("a value is expected")),
        }
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Json>, String> {
        let mut items = Vec::new();
        self.accept("[");
        self.skip_blanks();
        if self.accept("]") {
            return Ok(items);
        }
        loop {
            items.push(self.value(depth + 1)?);
            self.skip_blanks();
            if self.accept("]") {
                return Ok(items);
            }
            if !self.accept(",") {
                return Err(self.error("a comma or ] is expected"));
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<Vec<(String, Json)>, String> {
        let mut members = Vec::new();
        self.accept("{");
        self.skip_blanks();
        if self.accept("}") {
            return Ok(members);
        }
        loop {
            self.skip_blanks();
            let name = self.string()?;
            self.skip_blanks();
            if !self.accept(":") {
                return Err(self.error("a colon is expected"));
            }
            members.push((name, self.value(depth + 1)?));
            self.skip_blanks();
            if self.accept("}") {
                return Ok(members);
            }
            if !self.accept(",") {
                return Err(self.error("a comma or } is expected"));
            }
        }
    }

    fn number(&mut self) -> Result<String, String> {
        let is_of_number = |c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.' | 'e' | 'E');
        let end = self.rest.find(|c| !is_of_number(c)).unwrap_or(self.rest.len());
        let (number, rest) = self.rest.split_at(end);
        if !is_number(number) {
            return Err(self.error("a number is expected"));
        }
        self.rest = rest;
        Ok(number.to_owned())
    }

    fn string(&mut self) -> Result<String, String> {
        if !self.accept("\"") {
            return Err(self.error("a string is expected"));
        }
        let mut out = String::new();
        loop {
            let is_end = |c: char| matches!(c, '"' | '\\') || c < ' ';
            let Some(end) = self.rest.find(is_end) else {
                return Err(self.error("a string does not end"));
            };
            let (plain, rest) = self.rest.split_at(end);
            out.push_str(plain);
            self.rest = rest;
            if self.accept("\"") {
                return Ok(out);
            }
            if !self.accept("\\") {
                return Err(self.error("a control character must be escaped"));
            }
            out.push(self.escaped()?);
        }
    }

    /// The character behind a backslash.
    fn escaped(&mut self) -> Result<char, String> {
        const ESCAPES: &[(&str, char)] = &[
            ("\"", '"'),
            ("\\", '\\'),
            ("/", '/'),
            ("b", '\u{8}'),
            ("f", '\u{c}'),
            ("n", '\n'),
            ("r", '\r'),
            ("t", '\t'),
        ];
        if let Some((_, character)) = ESCAPES.iter().find(|(text, _)| self.accept(text)) {
            return Ok(*character);
        }
        let unit = self.code_unit()?;
        let code = match unit {
            0xd800..=0xdbff if self.accept("\\") => match self.code_unit()? {
                low @ 0xdc00..=0xdfff => 0x1_0000 + ((unit - 0xd800) << 10) + (low - 0xdc00),
                _ => unit,
            },
            _ => unit,
        };
        char::from_u32(code).ok_or_else(|| self.error("half a surrogate pair"))
    }

    /// `uXXXX`
    fn code_unit(&mut self) -> Result<u32, String> {
        let digits = self.rest.strip_prefix('u').and_then(|rest| rest.get(..4));
        let digits = digits.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let unit = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let Some(unit) = unit else { return Err(self.error("an escape is expected")) };
        self.rest = self.rest.get(5..).unwrap_or_default();
        Ok(unit)
    }
}

/// Whether a text is a number of JSON.
fn is_number(text: &str) -> bool {
    let digits =
        |text: &str| text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let text = text.strip_prefix('-').unwrap_or(text);
    let whole = digits(text);
    if whole == 0 || (whole > 1 && text.starts_with('0')) {
        return false;
    }
    let mut rest = text.get(whole..).unwrap_or_default();
    if let Some(fraction) = rest.strip_prefix('.') {
        let length = digits(fraction);
        rest = fraction.get(length..).unwrap_or_default();
        if length == 0 {
            return false;
        }
    }
    if let Some(exponent) = rest.strip_prefix(['e', 'E']) {
        let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        return !exponent.is_empty() && digits(exponent) == exponent.len();
    }
    rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::{DEPTH_MAX, Json, VALUES_MAX};

    #[test]
    fn what_another_reader_takes_is_taken_and_nothing_else() {
        for text in [
            "null",
            " [ ] ",
            "{}",
            "[1, -0.5e+3, 1E2, 0]",
            r#"{"a": {"b": [true, false]}, "a": 1}"#,
            r#""\"\\\/\b\f\n\r\t\u00e4 \ud83d\ude00 ä""#,
            "01",
            "1.",
            ".5",
            "-",
            "1e",
            "+1",
            "[1,]",
            "{\"a\"}",
            "{a: 1}",
            "[1 2]",
            "\"a",
            "\"\\x\"",
            "\"\\ud800\"",
            "\"\\ud800\\u0041\"",
            "\"\n\"",
            "nul",
            "1 2",
            "",
            "[",
            "{",
            "{\"a\":",
            "\"\\u12",
            "tru",
            "1e5x",
        ] {
            let expected = serde_json::from_str::<serde_json::Value>(text);
            let parsed = Json::parse(text);
            assert_eq!(parsed.is_ok(), expected.is_ok(), "{text}: {parsed:?}");
        }
        let text = r#"{"x": ["\ud83d\ude00\t", 1.50]}"#;
        let inner = vec![Json::Text("😀\t".to_owned()), Json::Number("1.50".to_owned())];
        assert_eq!(Json::parse(text), Ok(Json::Object(vec![("x".to_owned(), Json::List(inner))])));
        assert_eq!(Json::parse("[1,x]").unwrap_err(), "a value is expected at byte 3");
    }

    #[test]
    fn depth_and_size_are_bounded() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(Json::parse(&nested(DEPTH_MAX)).is_ok());
        assert!(Json::parse(&nested(1 << 20)).unwrap_err().contains("levels deep"));
        let many = format!("[{}1]", "1,".repeat(VALUES_MAX));
        assert!(Json::parse(&many).unwrap_err().contains("values"));
    }
}
