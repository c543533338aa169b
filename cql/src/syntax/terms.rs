//! Terms: values that do not depend on the row; and arithmetic, which selectors share.

use super::ast::{
    ArithmeticOperator, FunctionCall, Literal, Position, QualifiedName, Term, TermKind, TypeName,
};
use super::lexer::TokenKind;
use super::parser::{Parsed, Parser, is_reserved, unquote};
use model::literal::{parse_duration, parse_literal};
use model::types::CqlType;

/// An expression with arithmetic: a [`Term`] or a selector.
pub(super) trait Expression: Sized {
    /// Reads an operand: no binary operator outside of parentheses.
    fn operand(parser: &mut Parser<'_>) -> Parsed<Self>;
    /// `left operator right`, which begins at `position`.
    fn combine(position: Position, left: Self, operator: ArithmeticOperator, right: Self) -> Self;
    /// Whether the operator in hand belongs to the statement instead of the expression.
    fn ends_before_operator(parser: &Parser<'_>) -> Parsed<bool>;
}

/// Operators by how tightly they bind.
const PRECEDENCES: &[&[(TokenKind, ArithmeticOperator)]] = &[
    &[(TokenKind::Plus, ArithmeticOperator::Add), (TokenKind::Minus, ArithmeticOperator::Subtract)],
    &[
        (TokenKind::Star, ArithmeticOperator::Multiply),
        (TokenKind::Slash, ArithmeticOperator::Divide),
        (TokenKind::Percent, ArithmeticOperator::Remainder),
    ],
];

impl Parser<'_> {
    /// Operands with the operators of `PRECEDENCES` from the first on between them.
    pub(super) fn expression<E: Expression>(&mut self) -> Parsed<E> {
        self.nested(|parser| parser.expression_of::<E>(PRECEDENCES))
    }

    fn expression_of<E: Expression>(
        &mut self,
        precedences: &[&[(TokenKind, ArithmeticOperator)]],
    ) -> Parsed<E> {
        let Some((operators, tighter)) = precedences.split_first() else {
            return E::operand(self);
        };
        let position = self.position();
        self.chain(|parser| {
            let mut left = parser.expression_of::<E>(tighter)?;
            while let Some((kind, operator)) = parser.operator_among(operators) {
                if E::ends_before_operator(parser)? {
                    break;
                }
                parser.expect(kind)?;
                parser.link()?;
                let right = parser.nested(|parser| parser.expression_of::<E>(tighter))?;
                left = E::combine(position, left, operator, right);
            }
            Ok(left)
        })
    }

    fn operator_among(
        &self,
        operators: &[(TokenKind, ArithmeticOperator)],
    ) -> Option<(TokenKind, ArithmeticOperator)> {
        operators.iter().find(|(kind, _)| self.at(*kind)).copied()
    }

    /// A term.
    pub(super) fn term(&mut self) -> Parsed<Term> {
        self.expression()
    }

    /// An integer or a bind marker, as limits and timestamps are.
    pub(super) fn integer_or_marker(&mut self) -> Parsed<Term> {
        let position = self.position();
        if let Some(index) = self.accept_marker()? {
            return Ok(Term { position, kind: TermKind::Marker(index) });
        }
        match self.accept_number()? {
            Some(literal @ Literal::Integer(_)) => {
                Ok(Term { position, kind: TermKind::Literal(literal) })
            }
            Some(_) => Err(self.unexpected_at(position, "an integer")),
            None => Err(self.unexpected_instead_of("an integer")),
        }
    }

    /// A number or duration with its sign; nothing is read if none stands here.
    pub(super) fn accept_number(&mut self) -> Parsed<Option<Literal>> {
        let negative = self.at(TokenKind::Minus);
        if negative {
            let (kind, text) = self.peek()?;
            if !is_number(kind, text) {
                return Ok(None);
            }
            self.advance()?;
        } else if !is_number(self.token.kind, self.text()) {
            return Ok(None);
        }
        let sign = if negative { "-" } else { "" };
        let literal = match self.token.kind {
            TokenKind::Integer => Literal::Integer(format!("{sign}{}", self.text())),
            TokenKind::Float => Literal::Float(format!("{sign}{}", self.text())),
            TokenKind::Word if self.at_word("NaN") => Literal::Float(format!("{sign}NaN")),
            TokenKind::Word => Literal::Float(format!("{sign}Infinity")),
            _ => self.duration(sign)?,
        };
        self.advance()?;
        Ok(Some(literal))
    }

    fn duration(&mut self, sign: &str) -> Parsed<Literal> {
        if self.token.kind != TokenKind::Duration {
            return Err(self.unexpected_instead_of("a duration"));
        }
        let (months, days, nanoseconds) = parse_duration(&format!("{sign}{}", self.text()))
            .map_err(|error| self.invalid_value(error.to_string()))?;
        Ok(Literal::Duration { months, days, nanoseconds })
    }

    /// A constant; nothing is read if none stands here.
    pub(super) fn accept_literal(&mut self) -> Parsed<Option<Literal>> {
        if let Some(number) = self.accept_number()? {
            return Ok(Some(number));
        }
        let text = self.text();
        let literal = match self.token.kind {
            TokenKind::QuotedString => Literal::String(unquote(text, "'")),
            TokenKind::DollarString => Literal::String(unquote_dollars(text).to_owned()),
            TokenKind::Uuid => Literal::Uuid(hex_digits(text).fold(0, |uuid, digit| {
                // 32 digits of 4 bits: the lexer has counted them.
                (uuid << 4) | u128::from(digit)
            })),
            TokenKind::Blob => match parse_literal(&CqlType::Blob, text) {
                Ok(bytes) => Literal::Blob(bytes),
                Err(error) => return Err(self.invalid_value(error.to_string())),
            },
            TokenKind::Word if self.at_word("NULL") => Literal::Null,
            TokenKind::Word if self.at_word("TRUE") => Literal::Boolean(true),
            TokenKind::Word if self.at_word("FALSE") => Literal::Boolean(false),
            _ => return Ok(None),
        };
        self.advance()?;
        Ok(Some(literal))
    }

    /// A term without binary operators.
    fn term_operand(&mut self) -> Parsed<Term> {
        let position = self.position();
        let kind = self.term_operand_kind()?;
        Ok(Term { position, kind })
    }

    fn term_operand_kind(&mut self) -> Parsed<TermKind> {
        if let Some(kind) = self.accept_plain_term()? {
            return Ok(kind);
        }
        match self.token.kind {
            TokenKind::Minus => {
                self.advance()?;
                let operand = self.nested(Self::term_operand)?;
                Ok(TermKind::Negate(Box::new(without_parentheses(operand))))
            }
            TokenKind::ParenthesisOpen => {
                if let Some(type_name) = self.accept_cast(true)? {
                    let term = Box::new(self.nested(Self::term_operand)?);
                    return Ok(TermKind::Cast { type_name, term });
                }
                Ok(TermKind::Tuple(self.parenthesised(Self::term)?))
            }
            TokenKind::Word | TokenKind::QuotedName => {
                if !is_function_name(self)? {
                    return Err(self.unexpected_instead_of("a term"));
                }
                let function = self.function_name()?;
                let arguments = self.parenthesised_or_empty(Self::term)?;
                Ok(TermKind::Function(FunctionCall { function, arguments }))
            }
            _ => Err(self.unexpected_instead_of("a term")),
        }
    }

    /// A literal, a marker, or a list, set, map or user type in brackets or braces; nothing is
    /// read if none stands here.
    pub(super) fn accept_plain_term(&mut self) -> Parsed<Option<TermKind>> {
        if let Some(literal) = self.accept_literal()? {
            return Ok(Some(TermKind::Literal(literal)));
        }
        match self.token.kind {
            TokenKind::Question | TokenKind::Colon => {
                Ok(self.accept_marker()?.map(TermKind::Marker))
            }
            TokenKind::BracketOpen => self.list_term().map(Some),
            TokenKind::BraceOpen => self.braces_term().map(Some),
            _ => Ok(None),
        }
    }

    fn list_term(&mut self) -> Parsed<TermKind> {
        self.expect(TokenKind::BracketOpen)?;
        if self.accept(TokenKind::BracketClose)? {
            return Ok(TermKind::List(Vec::new()));
        }
        let elements = self.comma_separated(Self::term)?;
        self.expect(TokenKind::BracketClose)?;
        Ok(TermKind::List(elements))
    }

    fn braces_term(&mut self) -> Parsed<TermKind> {
        self.expect(TokenKind::BraceOpen)?;
        if self.accept(TokenKind::BraceClose)? {
            return Ok(TermKind::EmptySetOrMap);
        }
        let kind = if self.at_name() && self.peek()?.0 == TokenKind::Colon {
            TermKind::UserType(self.comma_separated(|parser| {
                let field = parser.name("a field")?;
                parser.expect(TokenKind::Colon)?;
                Ok((field, parser.term()?))
            })?)
        } else {
            self.set_or_map()?
        };
        self.expect(TokenKind::BraceClose)?;
        Ok(kind)
    }

    /// `a, b` or `k: v, l: w`, as what follows the first term tells.
    fn set_or_map(&mut self) -> Parsed<TermKind> {
        let mut first = Some(self.term()?);
        let mut next = |parser: &mut Self| first.take().map_or_else(|| parser.term(), Ok);
        if !self.at(TokenKind::Colon) {
            return self.comma_separated(next).map(TermKind::Set);
        }
        let entries = self.comma_separated(|parser| {
            let key = next(parser)?;
            parser.expect(TokenKind::Colon)?;
            Ok((key, parser.term()?))
        })?;
        Ok(TermKind::Map(entries))
    }

    /// `(type)` where a value follows; nothing is read otherwise. Among columns (`closed` false)
    /// `(a) - 1` is a subtraction, but `(int) - 1` a cast of `-1`; where there are none (`closed`)
    /// both are casts.
    pub(super) fn accept_cast(&mut self, closed: bool) -> Parsed<Option<TypeName>> {
        let start = self.checkpoint();
        self.expect(TokenKind::ParenthesisOpen)?;
        let may_be_type = self.at(TokenKind::Word) || closed && self.at(TokenKind::QuotedName);
        if may_be_type {
            // Nothing else than a type has an angle bracket: its errors are the text's.
            let certain = self.peek()?.0 == TokenKind::Less;
            match self.type_name() {
                Ok(type_name) if self.at(TokenKind::ParenthesisClose) => {
                    let sign_allowed = closed || !matches!(type_name, TypeName::User(_));
                    self.advance()?;
                    if self.begins_cast_operand(sign_allowed) {
                        return Ok(Some(type_name));
                    }
                }
                Err(error) if certain => return Err(error),
                _ => {}
            }
        }
        self.go_back(start);
        Ok(None)
    }

    fn begins_cast_operand(&self, sign_allowed: bool) -> bool {
        match self.token.kind {
            TokenKind::Minus => sign_allowed,
            TokenKind::Word => {
                let text = self.text();
                !is_reserved(text) || is_constant_word(text) || self.at_word("TOKEN")
            }
            TokenKind::QuotedName
            | TokenKind::QuotedString
            | TokenKind::DollarString
            | TokenKind::Integer
            | TokenKind::Float
            | TokenKind::Uuid
            | TokenKind::Blob
            | TokenKind::Duration
            | TokenKind::ParenthesisOpen
            | TokenKind::BracketOpen
            | TokenKind::BraceOpen
            | TokenKind::Question
            | TokenKind::Colon => true,
            _ => false,
        }
    }

    /// `f` or `keyspace.f`, where `f` may be the reserved word `token`.
    pub(super) fn function_name(&mut self) -> Parsed<QualifiedName> {
        if self.at_word("TOKEN") {
            return Ok(QualifiedName { keyspace: None, name: self.any_word_as_name()? });
        }
        let name = self.name("a function")?;
        if !self.accept(TokenKind::Dot)? {
            return Ok(QualifiedName { keyspace: None, name });
        }
        let keyspace = Some(name);
        let token = self.at_word("TOKEN");
        let name = if token { self.any_word_as_name()? } else { self.name("a function")? };
        Ok(QualifiedName { keyspace, name })
    }
}

impl Expression for Term {
    fn operand(parser: &mut Parser<'_>) -> Parsed<Term> {
        parser.term_operand()
    }

    fn combine(position: Position, left: Term, operator: ArithmeticOperator, right: Term) -> Term {
        let left = Box::new(without_parentheses(left));
        let right = Box::new(without_parentheses(right));
        Term { position, kind: TermKind::Arithmetic { left, operator, right } }
    }

    /// In `SET v = [1] + v` the term ends before the `+`: a column is no term.
    fn ends_before_operator(parser: &Parser<'_>) -> Parsed<bool> {
        if !parser.at(TokenKind::Plus) {
            return Ok(false);
        }
        let (kind, text) = parser.peek()?;
        if kind != TokenKind::QuotedName && (kind != TokenKind::Word || is_reserved(text)) {
            return Ok(false);
        }
        let behind = parser.peek_kind(2)?;
        Ok(!matches!(behind, TokenKind::ParenthesisOpen | TokenKind::Dot))
    }
}

/// `(a)` beside an operator is `a`, not a tuple.
fn without_parentheses(term: Term) -> Term {
    match term {
        Term { kind: TermKind::Tuple(mut elements), .. } if elements.len() == 1 => {
            elements.swap_remove(0)
        }
        other => other,
    }
}

/// Whether a call `f(` or `keyspace.f(` begins at the current word or quoted name.
pub(super) fn is_function_name(parser: &Parser<'_>) -> Parsed<bool> {
    if !parser.at_name() && !parser.at_word("TOKEN") {
        return Ok(false);
    }
    Ok(match parser.peek()?.0 {
        TokenKind::ParenthesisOpen => true,
        TokenKind::Dot => parser.peek_kind(3)? == TokenKind::ParenthesisOpen,
        _ => false,
    })
}

fn is_constant_word(text: &str) -> bool {
    ["null", "true", "false", "nan", "infinity"].iter().any(|word| text.eq_ignore_ascii_case(word))
}

fn is_number(kind: TokenKind, text: &str) -> bool {
    match kind {
        TokenKind::Integer | TokenKind::Float | TokenKind::Duration => true,
        TokenKind::Word => {
            text.eq_ignore_ascii_case("nan") || text.eq_ignore_ascii_case("infinity")
        }
        _ => false,
    }
}

/// What stands between `$$` and `$$`.
fn unquote_dollars(text: &str) -> &str {
    text.strip_prefix("$$").and_then(|text| text.strip_suffix("$$")).unwrap_or(text)
}

/// The values of the hexadecimal digits in `text`.
fn hex_digits(text: &str) -> impl Iterator<Item = u8> + '_ {
    text.chars().filter_map(|c| c.to_digit(16)).filter_map(|digit| u8::try_from(digit).ok())
}
