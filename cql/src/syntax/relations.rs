//! WHERE and IF.

use super::ast::{
    Comparison, Condition, InValues, Name, Operand, Predicate, Relation, Term, TermKind,
};
use super::lexer::TokenKind;
use super::parser::{Parsed, Parser};

/// Where a relation stands: what it may be differs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Clause {
    Where,
    If,
}

impl Parser<'_> {
    /// The relations behind WHERE.
    pub(super) fn relations(&mut self) -> Parsed<Vec<Relation>> {
        self.and_separated(|parser| parser.relation(Clause::Where))
    }

    /// IF EXISTS, IF relations, or nothing.
    pub(super) fn condition(&mut self) -> Parsed<Option<Condition>> {
        if !self.accept_word("IF")? {
            return Ok(None);
        }
        if self.at_word("EXISTS") && !self.peeks_at_predicate()? {
            self.advance()?;
            return Ok(Some(Condition::Exists));
        }
        self.and_separated(|parser| parser.relation(Clause::If)).map(Condition::Relations).map(Some)
    }

    /// Whether the current token is an operand, by what follows it.
    fn peeks_at_predicate(&self) -> Parsed<bool> {
        let (kind, text) = self.peek()?;
        Ok(match kind {
            TokenKind::Word => {
                ["IN", "CONTAINS", "LIKE"].iter().any(|word| text.eq_ignore_ascii_case(word))
            }
            TokenKind::BracketOpen | TokenKind::Dot => true,
            kind => comparison(kind).is_some(),
        })
    }

    fn relation(&mut self, clause: Clause) -> Parsed<Relation> {
        let position = self.position();
        if clause == Clause::Where && self.at(TokenKind::ParenthesisOpen) {
            if !self.at_tuple_of_names()? {
                self.advance()?;
                let relation = self.nested(|parser| parser.relation(clause))?;
                self.expect(TokenKind::ParenthesisClose)?;
                return Ok(relation);
            }
            let columns = self.parenthesised(|parser| parser.name("a column"))?;
            let predicate = self.tuple_predicate()?;
            return Ok(Relation { operand: Operand::Columns(columns), predicate, position });
        }
        if clause == Clause::Where && self.accept_word("TOKEN")? {
            let columns = self.parenthesised(|parser| parser.name("a column"))?;
            let predicate = self.comparison_predicate()?;
            return Ok(Relation { operand: Operand::Token(columns), predicate, position });
        }
        let column = self.name("a column")?;
        self.column_relation(clause, column)
    }

    /// A relation that begins with a column.
    fn column_relation(&mut self, clause: Clause, column: Name) -> Parsed<Relation> {
        let position = column.position;
        let (operand, predicate) = if self.accept(TokenKind::BracketOpen)? {
            let key = self.term()?;
            self.expect(TokenKind::BracketClose)?;
            let predicate = match clause {
                Clause::Where => self.comparison_predicate()?,
                Clause::If => self.comparison_or_in()?,
            };
            (Operand::Element { column, key }, predicate)
        } else if clause == Clause::If && self.accept(TokenKind::Dot)? {
            let field = self.name("a field")?;
            (Operand::Field { column, field }, self.comparison_or_in()?)
        } else {
            (Operand::Column(column), self.predicate(clause)?)
        };
        Ok(Relation { operand, predicate, position })
    }

    /// Whether `(name, …` or `(name)` stands here, instead of a relation in parentheses.
    fn at_tuple_of_names(&self) -> Parsed<bool> {
        let first = self.peek_kind(1)?;
        let second = self.peek_kind(2)?;
        Ok(matches!(first, TokenKind::Word | TokenKind::QuotedName)
            && matches!(second, TokenKind::Comma | TokenKind::ParenthesisClose))
    }

    fn predicate(&mut self, clause: Clause) -> Parsed<Predicate> {
        if self.accept_word("CONTAINS")? {
            return Ok(if self.accept_word("KEY")? {
                Predicate::ContainsKey(self.term()?)
            } else {
                Predicate::Contains(self.term()?)
            });
        }
        if self.accept_word("LIKE")? {
            return self.term().map(Predicate::Like);
        }
        if clause == Clause::Where && self.accept_words(&["IS", "NOT", "NULL"])? {
            return Ok(Predicate::IsNotNull);
        }
        self.comparison_or_in()
    }

    fn comparison_or_in(&mut self) -> Parsed<Predicate> {
        if self.accept_word("IN")? {
            return self.in_values(Self::term).map(Predicate::In);
        }
        self.comparison_predicate()
    }

    fn comparison_predicate(&mut self) -> Parsed<Predicate> {
        let operator = self.comparison_operator()?;
        self.term().map(|term| Predicate::Compare(operator, term))
    }

    fn tuple_predicate(&mut self) -> Parsed<Predicate> {
        if self.accept_word("IN")? {
            return self.in_values(Self::tuple_or_marker).map(Predicate::In);
        }
        let operator = self.comparison_operator()?;
        self.tuple_or_marker().map(|term| Predicate::Compare(operator, term))
    }

    pub(super) fn comparison_operator(&mut self) -> Parsed<Comparison> {
        let Some(operator) = comparison(self.token.kind) else {
            return Err(self.unexpected_instead_of("a comparison"));
        };
        self.advance()?;
        Ok(operator)
    }

    fn tuple_or_marker(&mut self) -> Parsed<Term> {
        let position = self.position();
        let term = self.term()?;
        match term.kind {
            TermKind::Tuple(_) | TermKind::Marker(_) => Ok(term),
            _ => Err(self.unexpected_at(position, "a tuple of values or a bind marker")),
        }
    }

    fn in_values(&mut self, item: fn(&mut Self) -> Parsed<Term>) -> Parsed<InValues> {
        let position = self.position();
        if let Some(index) = self.accept_marker()? {
            return Ok(InValues::Marker { index, position });
        }
        self.parenthesised_or_empty(item).map(InValues::Terms)
    }
}

fn comparison(kind: TokenKind) -> Option<Comparison> {
    Some(match kind {
        TokenKind::Equal => Comparison::Equal,
        TokenKind::NotEqual => Comparison::NotEqual,
        TokenKind::Less => Comparison::Less,
        TokenKind::LessOrEqual => Comparison::LessOrEqual,
        TokenKind::Greater => Comparison::Greater,
        TokenKind::GreaterOrEqual => Comparison::GreaterOrEqual,
        _ => return None,
    })
}
