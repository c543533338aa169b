//! SELECT, and the selectors: values computed from a row.

use super::ast::{
    ArithmeticOperator, CellMetadataFunction, Direction, FunctionCall, Literal, Name, Position,
    Select, SelectedColumn, Selection, Selector, SelectorKind, Term, TermKind, TypeName,
};
use super::lexer::TokenKind;
use super::parser::{Parsed, Parser};
use super::terms::{Expression, is_function_name};

impl Parser<'_> {
    /// SELECT, behind that word.
    pub(super) fn select(&mut self) -> Parsed<Select> {
        let json = self.accept_select_modifier("JSON")?;
        let distinct = self.accept_select_modifier("DISTINCT")?;
        let selection = self.selection()?;
        self.expect_word("FROM")?;
        let table = self.qualified_name("a table")?;
        let relations = if self.accept_word("WHERE")? { self.relations()? } else { Vec::new() };
        let group_by = if self.accept_words(&["GROUP", "BY"])? {
            self.comma_separated(Self::grouping)?
        } else {
            Vec::new()
        };
        let order_by = if self.accept_words(&["ORDER", "BY"])? {
            self.comma_separated(Self::ordering)?
        } else {
            Vec::new()
        };
        let per_partition_limit = if self.accept_words(&["PER", "PARTITION", "LIMIT"])? {
            Some(self.integer_or_marker()?)
        } else {
            None
        };
        let limit = if self.accept_word("LIMIT")? { Some(self.integer_or_marker()?) } else { None };
        let allow_filtering = self.accept_words(&["ALLOW", "FILTERING"])?;
        let bypass_cache = self.accept_words(&["BYPASS", "CACHE"])?;
        let timeout = if self.accept_words(&["USING", "TIMEOUT"])? {
            Some(self.duration_or_marker()?)
        } else {
            None
        };
        Ok(Select {
            json,
            distinct,
            selection,
            table,
            relations,
            group_by,
            order_by,
            per_partition_limit,
            limit,
            allow_filtering,
            bypass_cache,
            timeout,
        })
    }

    /// JSON or DISTINCT, unless it is the name of the first column or function.
    fn accept_select_modifier(&mut self, word: &'static str) -> Parsed<bool> {
        if !self.at_word(word) {
            return Ok(false);
        }
        let (kind, text) = self.peek()?;
        let modifies = match kind {
            TokenKind::Word => {
                !text.eq_ignore_ascii_case("FROM") && !text.eq_ignore_ascii_case("AS")
            }
            TokenKind::QuotedName
            | TokenKind::QuotedString
            | TokenKind::DollarString
            | TokenKind::Integer
            | TokenKind::Float
            | TokenKind::Uuid
            | TokenKind::Blob
            | TokenKind::Duration
            | TokenKind::Question
            | TokenKind::Colon
            | TokenKind::Star => true,
            _ => false,
        };
        if modifies { self.accept_word(word) } else { Ok(false) }
    }

    fn selection(&mut self) -> Parsed<Selection> {
        if self.accept(TokenKind::Star)? {
            return Ok(Selection::All);
        }
        let columns = self.comma_separated(|parser| {
            let selector = parser.selector()?;
            let alias =
                if parser.accept_word("AS")? { Some(parser.name("an alias")?) } else { None };
            Ok(SelectedColumn { selector, alias })
        })?;
        Ok(Selection::Selectors(columns))
    }

    /// A column or a function of columns.
    fn grouping(&mut self) -> Parsed<Selector> {
        let position = self.position();
        if is_function_name(self)? {
            return self.selector();
        }
        let name = self.name("a column")?;
        Ok(Selector { position, kind: SelectorKind::Column(name) })
    }

    /// `column [ASC|DESC]`
    fn ordering(&mut self) -> Parsed<(Name, Direction)> {
        let column = self.name("a column")?;
        if self.accept_word("DESC")? {
            return Ok((column, Direction::Descending));
        }
        self.accept_word("ASC")?;
        Ok((column, Direction::Ascending))
    }

    /// A selector.
    fn selector(&mut self) -> Parsed<Selector> {
        self.expression()
    }

    /// A selector with its subscripts and fields.
    fn selector_operand(&mut self) -> Parsed<Selector> {
        self.chain(|parser| {
            let mut selector = parser.selector_primary()?;
            loop {
                let position = selector.position;
                let kind = if parser.accept(TokenKind::BracketOpen)? {
                    parser.link()?;
                    parser.subscript(selector)?
                } else if parser.accept(TokenKind::Dot)? {
                    parser.link()?;
                    let field = parser.name("a field")?;
                    SelectorKind::Field { value: Box::new(selector), field }
                } else {
                    return Ok(selector);
                };
                selector = Selector { position, kind };
            }
        })
    }

    /// `key]`, `from..to]`, `from..]` or `..to]`
    fn subscript(&mut self, collection: Selector) -> Parsed<SelectorKind> {
        let collection = Box::new(collection);
        let from = if self.at(TokenKind::Range) { None } else { Some(self.term()?) };
        if self.accept(TokenKind::Range)? {
            let open = from.is_some() && self.at(TokenKind::BracketClose);
            let to = if open { None } else { Some(self.term()?) };
            self.expect(TokenKind::BracketClose)?;
            return Ok(SelectorKind::Slice { collection, from, to });
        }
        let Some(key) = from else { return Err(self.unexpected()) };
        self.expect(TokenKind::BracketClose)?;
        Ok(SelectorKind::Element { collection, key })
    }

    fn selector_primary(&mut self) -> Parsed<Selector> {
        let position = self.position();
        let kind = match self.token.kind {
            TokenKind::ParenthesisOpen => self.selector_in_parentheses(),
            TokenKind::BracketOpen => self.selectors_in_brackets(),
            TokenKind::BraceOpen => self.selectors_in_braces(),
            _ => self.plain_selector(),
        };
        kind.map(|kind| Selector { position, kind })
    }

    /// A selector without brackets of its own.
    fn plain_selector(&mut self) -> Parsed<SelectorKind> {
        match self.accept_plain_term()? {
            Some(term) => Ok(SelectorKind::Term(term)),
            None => self.selector_kind(),
        }
    }

    fn selector_kind(&mut self) -> Parsed<SelectorKind> {
        if self.at(TokenKind::Minus) {
            self.advance()?;
            return Ok(SelectorKind::Negate(Box::new(self.nested(Self::selector_operand)?)));
        }
        if self.at(TokenKind::Word) && self.peek()?.0 == TokenKind::ParenthesisOpen {
            if self.at_word("COUNT") && self.accept_count_rows()? {
                return Ok(SelectorKind::CountRows);
            }
            if self.at_word("CAST") {
                return self.cast_selector();
            }
            for (word, function) in CELL_METADATA_FUNCTIONS {
                if self.at_word(word) {
                    return self.cell_metadata(*function);
                }
            }
        }
        if is_function_name(self)? {
            let function = self.function_name()?;
            let arguments = self.parenthesised_or_empty(Self::selector)?;
            return Ok(SelectorKind::Function(FunctionCall { function, arguments }));
        }
        Ok(SelectorKind::Column(self.name("a selector")?))
    }

    /// `count(*)` or `count(1)`, or of any other constant; nothing is read if it is the count of something else.
    fn accept_count_rows(&mut self) -> Parsed<bool> {
        let start = self.checkpoint();
        self.advance()?;
        self.expect(TokenKind::ParenthesisOpen)?;
        // A constant is never null, so that counting it counts rows.
        let counts_rows = self.accept(TokenKind::Star)?
            || self.accept_literal()?.is_some_and(|literal| literal != Literal::Null);
        if counts_rows && self.accept(TokenKind::ParenthesisClose)? {
            return Ok(true);
        }
        self.go_back(start);
        Ok(false)
    }

    /// `CAST(selector AS type)`
    fn cast_selector(&mut self) -> Parsed<SelectorKind> {
        self.advance()?;
        self.expect(TokenKind::ParenthesisOpen)?;
        let selector = Box::new(self.selector()?);
        self.expect_word("AS")?;
        let position = self.position();
        let type_name = self.type_name()?;
        if !matches!(type_name, TypeName::Native(_)) {
            return Err(self.unexpected_at(position, "a native type"));
        }
        self.expect(TokenKind::ParenthesisClose)?;
        Ok(SelectorKind::Cast { selector, type_name })
    }

    /// `writetime(cell)`
    fn cell_metadata(&mut self, function: CellMetadataFunction) -> Parsed<SelectorKind> {
        self.advance()?;
        self.expect(TokenKind::ParenthesisOpen)?;
        let position = self.position();
        let cell = Box::new(self.nested(Self::selector_operand)?);
        let mut root = &*cell;
        while let SelectorKind::Element { collection: inner, .. }
        | SelectorKind::Slice { collection: inner, .. }
        | SelectorKind::Field { value: inner, .. } = &root.kind
        {
            root = inner;
        }
        if !matches!(root.kind, SelectorKind::Column(_)) {
            return Err(self.unexpected_at(position, "a column or a part of one"));
        }
        self.expect(TokenKind::ParenthesisClose)?;
        Ok(SelectorKind::CellMetadata { function, cell })
    }

    /// `(type) term`, `(selector)`, or the tuple `(term, term)`
    fn selector_in_parentheses(&mut self) -> Parsed<SelectorKind> {
        if let Some(type_name) = self.accept_cast(false)? {
            return Ok(hinted(type_name, self.nested(Self::selector_operand)?));
        }
        Ok(in_parentheses(self.parenthesised(Self::selector)?))
    }

    /// `[a, b]`
    fn selectors_in_brackets(&mut self) -> Parsed<SelectorKind> {
        self.expect(TokenKind::BracketOpen)?;
        if self.accept(TokenKind::BracketClose)? {
            return Ok(SelectorKind::Term(TermKind::List(Vec::new())));
        }
        let elements = self.comma_separated(Self::selector)?;
        self.expect(TokenKind::BracketClose)?;
        Ok(list_or_term(elements))
    }

    /// `{a, b}`, `{a: b}` or `{}`
    fn selectors_in_braces(&mut self) -> Parsed<SelectorKind> {
        self.expect(TokenKind::BraceOpen)?;
        if self.accept(TokenKind::BraceClose)? {
            return Ok(SelectorKind::Term(TermKind::EmptySetOrMap));
        }
        let entries = self.comma_separated(Self::entry)?;
        let at = self.position();
        self.expect(TokenKind::BraceClose)?;
        in_braces(entries).ok_or_else(|| self.unexpected_at(at, "either elements or entries"))
    }

    /// `a` or `a: b`
    fn entry(&mut self) -> Parsed<(Selector, Option<Selector>)> {
        let key = self.selector()?;
        let value = if self.accept(TokenKind::Colon)? { Some(self.selector()?) } else { None };
        Ok((key, value))
    }
}

impl Expression for Selector {
    fn operand(parser: &mut Parser<'_>) -> Parsed<Selector> {
        parser.selector_operand()
    }

    fn combine(
        position: Position,
        left: Selector,
        operator: ArithmeticOperator,
        right: Selector,
    ) -> Selector {
        let (left, right) = (Box::new(left), Box::new(right));
        Selector { position, kind: SelectorKind::Arithmetic { left, operator, right } }
    }

    fn ends_before_operator(_: &Parser<'_>) -> Parsed<bool> {
        Ok(false)
    }
}

const CELL_METADATA_FUNCTIONS: &[(&str, CellMetadataFunction)] = &[
    ("writetime", CellMetadataFunction::WriteTime),
    ("maxwritetime", CellMetadataFunction::MaxWriteTime),
    ("ttl", CellMetadataFunction::Ttl),
];

#[expect(clippy::result_large_err, reason = "no error: what is no term goes on as it is")]
fn into_term(selector: Selector) -> Result<Term, Selector> {
    match selector {
        Selector { position, kind: SelectorKind::Term(kind) } => Ok(Term { position, kind }),
        other => Err(other),
    }
}

/// Terms if they are all terms, else as they were.
fn into_terms(selectors: Vec<Selector>) -> Result<Vec<Term>, Vec<Selector>> {
    let is_term = |selector: &Selector| matches!(selector.kind, SelectorKind::Term(_));
    if !selectors.iter().all(is_term) {
        return Err(selectors);
    }
    Ok(selectors.into_iter().filter_map(|selector| into_term(selector).ok()).collect())
}

/// Terms alone make a term: a map, or with names for keys a user type.
fn map_or_user_type(entries: Vec<(Selector, Selector)>) -> SelectorKind {
    let (keys, values): (Vec<Selector>, Vec<Selector>) = entries.into_iter().unzip();
    let field = |key: &Selector| match &key.kind {
        SelectorKind::Column(name) => Some(name.clone()),
        _ => None,
    };
    let fields: Option<Vec<Name>> = keys.iter().map(field).collect();
    let rejoin = |keys: Vec<Selector>, values: Vec<Selector>| {
        SelectorKind::Map(keys.into_iter().zip(values).collect())
    };
    let values = match into_terms(values) {
        Ok(values) => values,
        Err(values) => return rejoin(keys, values),
    };
    if let Some(fields) = fields {
        return SelectorKind::Term(TermKind::UserType(fields.into_iter().zip(values).collect()));
    }
    match into_terms(keys) {
        Ok(keys) => SelectorKind::Term(TermKind::Map(keys.into_iter().zip(values).collect())),
        Err(keys) => {
            let of_term =
                |Term { position, kind }| Selector { position, kind: SelectorKind::Term(kind) };
            rejoin(keys, values.into_iter().map(of_term).collect())
        }
    }
}

// What becomes of parts once they are read stands outside of the recursion, whose frames it would
// make larger.

fn hinted(type_name: TypeName, operand: Selector) -> SelectorKind {
    match into_term(operand) {
        Ok(term) => SelectorKind::Term(TermKind::Cast { type_name, term: Box::new(term) }),
        Err(selector) => SelectorKind::Hint { type_name, selector: Box::new(selector) },
    }
}

fn in_parentheses(mut selectors: Vec<Selector>) -> SelectorKind {
    if selectors.len() == 1 {
        return match into_term(selectors.swap_remove(0)) {
            Ok(term) => SelectorKind::Term(term.kind),
            Err(selector) => SelectorKind::Parentheses(Box::new(selector)),
        };
    }
    match into_terms(selectors) {
        Ok(terms) => SelectorKind::Term(TermKind::Tuple(terms)),
        Err(selectors) => SelectorKind::Tuple(selectors),
    }
}

fn list_or_term(elements: Vec<Selector>) -> SelectorKind {
    match into_terms(elements) {
        Ok(terms) => SelectorKind::Term(TermKind::List(terms)),
        Err(selectors) => SelectorKind::List(selectors),
    }
}

/// `None` when some have a value and others not.
fn in_braces(entries: Vec<(Selector, Option<Selector>)>) -> Option<SelectorKind> {
    let count = entries.len();
    let (keys, values): (Vec<Selector>, Vec<Option<Selector>>) = entries.into_iter().unzip();
    let values: Vec<Selector> = values.into_iter().flatten().collect();
    if values.len() == count {
        return Some(map_or_user_type(keys.into_iter().zip(values).collect()));
    }
    values.is_empty().then(|| match into_terms(keys) {
        Ok(terms) => SelectorKind::Term(TermKind::Set(terms)),
        Err(selectors) => SelectorKind::Set(selectors),
    })
}
