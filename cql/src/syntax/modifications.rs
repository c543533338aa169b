//! INSERT, UPDATE, DELETE and BATCH.

use super::ast::{
    Assignment, AssignmentOperation, Batch, BatchKind, Delete, DeleteTarget, Insert, InsertValues,
    Literal, Modification, Name, Term, TermKind, Update, Using,
};
use super::error::excerpt;
use super::lexer::TokenKind;
use super::limits::BATCH_STATEMENT_COUNT_MAX;
use super::parser::{Parsed, Parser};

/// Parameters of the USING clause of INSERT and UPDATE, and of BATCH, whose TTL the plan refuses.
const WITH_TTL: &[&str] = &["TIMESTAMP", "TTL", "TIMEOUT"];
/// Parameters of the USING clause of DELETE.
const WITHOUT_TTL: &[&str] = &["TIMESTAMP", "TIMEOUT"];

impl Parser<'_> {
    /// INSERT, UPDATE or DELETE; nothing is read if none stands here.
    pub(super) fn accept_modification(&mut self) -> Parsed<Option<Modification>> {
        Ok(if self.accept_words(&["INSERT", "INTO"])? {
            Some(Modification::Insert(self.insert()?))
        } else if self.accept_word("UPDATE")? {
            Some(Modification::Update(self.update()?))
        } else if self.accept_word("DELETE")? {
            Some(Modification::Delete(self.delete()?))
        } else {
            None
        })
    }

    fn insert(&mut self) -> Parsed<Insert> {
        let table = self.qualified_name("a table")?;
        let values = if self.accept_word("JSON")? {
            let value = self.json_value()?;
            let default_unset = self.accept_word("DEFAULT")? && {
                let unset = self.accept_word("UNSET")?;
                if !unset {
                    self.expect_word("NULL")?;
                }
                unset
            };
            InsertValues::Json { value, default_unset }
        } else {
            let columns = self.parenthesised(|parser| parser.name("a column"))?;
            self.expect_word("VALUES")?;
            InsertValues::Columns { columns, values: self.parenthesised(Self::term)? }
        };
        let if_not_exists = self.if_not_exists()?;
        let using = self.using(WITH_TTL)?;
        Ok(Insert { table, values, if_not_exists, using })
    }

    fn json_value(&mut self) -> Parsed<Term> {
        let position = self.position();
        if !matches!(
            self.token.kind,
            TokenKind::QuotedString
                | TokenKind::DollarString
                | TokenKind::Question
                | TokenKind::Colon
        ) {
            return Err(self.unexpected_instead_of("a string or a bind marker"));
        }
        match self.accept_plain_term()? {
            Some(kind) => Ok(Term { position, kind }),
            None => Err(self.unexpected_instead_of("a string or a bind marker")),
        }
    }

    fn update(&mut self) -> Parsed<Update> {
        let table = self.qualified_name("a table")?;
        let using = self.using(WITH_TTL)?;
        self.expect_word("SET")?;
        let assignments = self.comma_separated(Self::assignment)?;
        self.expect_word("WHERE")?;
        let relations = self.relations()?;
        let condition = self.condition()?;
        Ok(Update { table, using, assignments, relations, condition })
    }

    fn assignment(&mut self) -> Parsed<Assignment> {
        let column = self.name("a column")?;
        let operation = if self.accept(TokenKind::PlusEqual)? {
            AssignmentOperation::Add(self.term()?)
        } else if self.accept(TokenKind::MinusEqual)? {
            AssignmentOperation::Subtract(self.term()?)
        } else if self.accept(TokenKind::BracketOpen)? {
            self.assignment_of_element()?
        } else if self.accept(TokenKind::Dot)? {
            let field = self.name("a field")?;
            self.expect(TokenKind::Equal)?;
            AssignmentOperation::SetField { field, value: self.term()? }
        } else {
            self.expect(TokenKind::Equal)?;
            self.assigned_value(&column)?
        };
        Ok(Assignment { column, operation })
    }

    /// `key] = term`
    fn assignment_of_element(&mut self) -> Parsed<AssignmentOperation> {
        let list_cell = self.accept_word("SCYLLA_TIMEUUID_LIST_INDEX")?;
        if list_cell {
            self.expect(TokenKind::ParenthesisOpen)?;
        }
        let key = self.term()?;
        if list_cell {
            self.expect(TokenKind::ParenthesisClose)?;
        }
        self.expect(TokenKind::BracketClose)?;
        self.expect(TokenKind::Equal)?;
        let value = self.term()?;
        Ok(if list_cell {
            AssignmentOperation::SetListCell { cell: key, value }
        } else {
            AssignmentOperation::SetElement { key, value }
        })
    }

    /// `term`, `column + term`, `column - term` or `term + column`
    fn assigned_value(&mut self, column: &Name) -> Parsed<AssignmentOperation> {
        let next = self.peek()?.0;
        if self.at_name() && !matches!(next, TokenKind::ParenthesisOpen | TokenKind::Dot) {
            let adds = next == TokenKind::Plus;
            self.same_column(column, if adds { "X +<value>" } else { "X -<value>" })?;
            if self.accept(TokenKind::Plus)? {
                return self.term().map(AssignmentOperation::Add);
            }
            self.expect(TokenKind::Minus)?;
            return self.term().map(AssignmentOperation::Subtract);
        }
        let term = self.term()?;
        if self.at(TokenKind::Plus) {
            self.advance()?;
            self.same_column(column, "<value> + X")?;
            return Ok(AssignmentOperation::Prepend(term));
        }
        Ok(AssignmentOperation::Set(term))
    }

    /// The column that is assigned to: no other can stand on the right side.
    fn same_column(&mut self, column: &Name, form: &str) -> Parsed<()> {
        let name = self.name("a column")?;
        if name.text == column.text {
            return Ok(());
        }
        let message = format!(
            "Only expressions of the form X = {form} are supported: '{}' is not '{}'",
            excerpt(&name.text),
            excerpt(&column.text)
        );
        Err(self.invalid_at(name.position, message))
    }

    fn delete(&mut self) -> Parsed<Delete> {
        let targets = if self.at_word("FROM") {
            Vec::new()
        } else {
            self.comma_separated(Self::delete_target)?
        };
        self.expect_word("FROM")?;
        let table = self.qualified_name("a table")?;
        let using = self.using(WITHOUT_TTL)?;
        self.expect_word("WHERE")?;
        let relations = self.relations()?;
        let condition = self.condition()?;
        Ok(Delete { table, targets, using, relations, condition })
    }

    fn delete_target(&mut self) -> Parsed<DeleteTarget> {
        let column = self.name("a column")?;
        if self.accept(TokenKind::BracketOpen)? {
            let key = self.term()?;
            self.expect(TokenKind::BracketClose)?;
            return Ok(DeleteTarget::Element { column, key });
        }
        if self.accept(TokenKind::Dot)? {
            return Ok(DeleteTarget::Field { column, field: self.name("a field")? });
        }
        Ok(DeleteTarget::Column(column))
    }

    /// USING with some of `parameters` in any order, each at most once; or nothing.
    fn using(&mut self, parameters: &[&'static str]) -> Parsed<Using> {
        let mut using = Using::default();
        if !self.accept_word("USING")? {
            return Ok(using);
        }
        self.and_separated(|parser| parser.using_parameter(parameters, &mut using))?;
        Ok(using)
    }

    fn using_parameter(&mut self, parameters: &[&'static str], using: &mut Using) -> Parsed<()> {
        for parameter in parameters {
            let position = self.position();
            if !self.accept_word(parameter)? {
                continue;
            }
            let (slot, value) = match *parameter {
                "TIMESTAMP" => (&mut using.timestamp, self.integer_or_marker()?),
                "TTL" => (&mut using.ttl, self.integer_or_marker()?),
                _ => (&mut using.timeout, self.duration_or_marker()?),
            };
            if slot.replace(value).is_some() {
                return Err(self.invalid_at(position, format!("{parameter} is given twice")));
            }
            return Ok(());
        }
        Err(self.unexpected())
    }

    /// A duration or a bind marker, as timeouts are.
    pub(super) fn duration_or_marker(&mut self) -> Parsed<Term> {
        let position = self.position();
        if let Some(index) = self.accept_marker()? {
            return Ok(Term { position, kind: TermKind::Marker(index) });
        }
        match self.accept_number()? {
            Some(literal @ Literal::Duration { .. }) => {
                Ok(Term { position, kind: TermKind::Literal(literal) })
            }
            Some(_) => Err(self.unexpected_at(position, "a duration")),
            None => Err(self.unexpected_instead_of("a duration")),
        }
    }

    /// A batch, behind BEGIN.
    pub(super) fn batch(&mut self) -> Parsed<Batch> {
        let kind = if self.accept_word("UNLOGGED")? {
            BatchKind::Unlogged
        } else if self.accept_word("COUNTER")? {
            BatchKind::Counter
        } else {
            BatchKind::Logged
        };
        self.expect_word("BATCH")?;
        let using = self.using(WITH_TTL)?;
        let mut statements = Vec::new();
        while let Some(statement) = self.accept_modification()? {
            if statements.len() == BATCH_STATEMENT_COUNT_MAX {
                let message =
                    format!("more than {BATCH_STATEMENT_COUNT_MAX} statements in a batch");
                return Err(self.invalid(message));
            }
            statements.push(statement);
            self.accept(TokenKind::Semicolon)?;
        }
        self.expect_word("APPLY")?;
        self.expect_word("BATCH")?;
        Ok(Batch { kind, using, statements })
    }
}
