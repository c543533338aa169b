//! CREATE, ALTER and DROP of keyspaces, tables and types.

use super::ast::{
    AlterKeyspace, AlterTable, AlterTableAction, AlterType, AlterTypeAction, ColumnDefinition,
    CreateKeyspace, CreateTable, CreateType, Direction, Drop, DropKeyspace, Literal, Name,
    PrimaryKey, Property, PropertyValue, Statement, TableProperties, TypeName,
};
use super::error::excerpt;
use super::lexer::TokenKind;
use super::parser::{Parsed, Parser};
use model::CqlType;
use std::collections::BTreeSet;

impl Parser<'_> {
    /// A statement behind CREATE; nothing more is read if it is none of these.
    pub(super) fn accept_create(&mut self) -> Parsed<Option<Statement>> {
        Ok(if self.accept_word("KEYSPACE")? {
            Some(Statement::CreateKeyspace(self.create_keyspace()?))
        } else if self.accept_table_word()? {
            Some(Statement::CreateTable(self.create_table()?))
        } else if self.accept_word("TYPE")? {
            Some(Statement::CreateType(self.create_type()?))
        } else if self.accept_word("CHANGEFEED")? {
            Some(self.create_changefeed()?)
        } else {
            None
        })
    }

    /// A statement behind ALTER; nothing more is read if it is none of these.
    pub(super) fn accept_alter(&mut self) -> Parsed<Option<Statement>> {
        Ok(if self.accept_word("KEYSPACE")? {
            let if_exists = self.if_exists()?;
            let name = self.name("a keyspace")?;
            self.expect_word("WITH")?;
            let properties = self.keyspace_properties()?;
            Some(Statement::AlterKeyspace(AlterKeyspace { name, if_exists, properties }))
        } else if self.accept_table_word()? {
            let if_exists = self.if_exists()?;
            let table = self.qualified_name("a table")?;
            let action = self.alter_table_action()?;
            Some(Statement::AlterTable(AlterTable { table, if_exists, action }))
        } else if self.accept_word("TYPE")? {
            let if_exists = self.if_exists()?;
            let name = self.qualified_name("a type")?;
            let action = self.alter_type_action()?;
            Some(Statement::AlterType(AlterType { name, if_exists, action }))
        } else if self.accept_word("CHANGEFEED")? {
            Some(self.alter_changefeed()?)
        } else {
            None
        })
    }

    /// A statement behind DROP; nothing more is read if it is none of these.
    pub(super) fn accept_drop(&mut self) -> Parsed<Option<Statement>> {
        Ok(if self.accept_word("KEYSPACE")? {
            let if_exists = self.if_exists()?;
            let name = self.name("a keyspace")?;
            Some(Statement::DropKeyspace(DropKeyspace { name, if_exists }))
        } else if self.accept_table_word()? {
            let if_exists = self.if_exists()?;
            Some(Statement::DropTable(Drop { name: self.qualified_name("a table")?, if_exists }))
        } else if self.accept_word("TYPE")? {
            let if_exists = self.if_exists()?;
            Some(Statement::DropType(Drop { name: self.qualified_name("a type")?, if_exists }))
        } else if self.accept_word("CHANGEFEED")? {
            Some(self.drop_changefeed()?)
        } else {
            None
        })
    }

    /// TABLE or its old name.
    pub(super) fn accept_table_word(&mut self) -> Parsed<bool> {
        Ok(self.accept_word("TABLE")? || self.accept_word("COLUMNFAMILY")?)
    }

    // -- Keyspaces ------------------------------------------------------------------------------

    fn create_keyspace(&mut self) -> Parsed<CreateKeyspace> {
        let if_not_exists = self.if_not_exists()?;
        let name = self.name("a keyspace")?;
        self.expect_word("WITH")?;
        let properties = self.keyspace_properties()?;
        Ok(CreateKeyspace { name, if_not_exists, properties })
    }

    fn keyspace_properties(&mut self) -> Parsed<Vec<Property>> {
        let properties = self.and_separated(Self::property)?;
        self.check_unique(&properties)?;
        Ok(properties)
    }

    /// No property may be given twice.
    pub(super) fn check_unique(&self, properties: &[Property]) -> Parsed<()> {
        let mut seen = BTreeSet::new();
        for Property { name, .. } in properties {
            if !seen.insert(name.as_str()) {
                let message =
                    format!("Multiple definitions for property '{}'", excerpt(name.as_str()));
                return Err(self.invalid_at(name.position, message));
            }
        }
        Ok(())
    }

    /// `name = value`
    fn property(&mut self) -> Parsed<Property> {
        let name = self.name("a property")?;
        self.expect(TokenKind::Equal)?;
        Ok(Property { name, value: self.property_value()? })
    }

    /// A constant, or a map of constants.
    pub(super) fn property_value(&mut self) -> Parsed<PropertyValue> {
        if !self.accept(TokenKind::BraceOpen)? {
            return Ok(PropertyValue::Text(self.constant_text()?));
        }
        if self.accept(TokenKind::BraceClose)? {
            return Ok(PropertyValue::Map(Vec::new()));
        }
        let entries = self.comma_separated(|parser| {
            let key = parser.constant_text()?;
            parser.expect(TokenKind::Colon)?;
            Ok((key, parser.constant_text()?))
        })?;
        self.expect(TokenKind::BraceClose)?;
        Ok(PropertyValue::Map(entries))
    }

    /// A constant as it was written, a string without its quotes.
    fn constant_text(&mut self) -> Parsed<String> {
        let sign = if self.at(TokenKind::Minus) { "-" } else { "" };
        let (kind, text) = match sign {
            "" => (self.token.kind, self.text()),
            _ => self.peek()?,
        };
        match self.accept_literal()? {
            Some(Literal::String(text)) => Ok(text),
            Some(Literal::Null) | None => Err(self.unexpected_instead_of("a constant")),
            Some(_) if kind == TokenKind::Word => {
                Ok(format!("{sign}{}", text.to_ascii_lowercase()))
            }
            Some(_) => Ok(format!("{sign}{text}")),
        }
    }

    // -- Tables ---------------------------------------------------------------------------------

    fn create_table(&mut self) -> Parsed<CreateTable> {
        let if_not_exists = self.if_not_exists()?;
        let table = self.qualified_name("a table")?;
        let (mut columns, mut primary_keys) = (Vec::new(), Vec::new());
        self.definitions(|parser| {
            if parser.at_word("PRIMARY") {
                primary_keys.push(parser.primary_key()?);
                return Ok(());
            }
            let column = parser.column_definition()?;
            let position = parser.position();
            if parser.accept_words(&["PRIMARY", "KEY"])? {
                let partition = vec![column.name.clone()];
                primary_keys.push(PrimaryKey { position, partition, clustering: Vec::new() });
            }
            columns.push(column);
            Ok(())
        })?;
        let properties = if self.accept_word("WITH")? {
            self.table_properties()?
        } else {
            TableProperties::default()
        };
        Ok(CreateTable { table, if_not_exists, columns, primary_keys, properties })
    }

    /// `name type [STATIC]`
    fn column_definition(&mut self) -> Parsed<ColumnDefinition> {
        let name = self.name("a column")?;
        let type_name = self.type_name()?;
        let is_static = self.accept_word("STATIC")?;
        Ok(ColumnDefinition { name, type_name, is_static })
    }

    /// `PRIMARY KEY (a, b)` or `PRIMARY KEY ((a, b), c)`
    fn primary_key(&mut self) -> Parsed<PrimaryKey> {
        let position = self.position();
        self.expect_word("PRIMARY")?;
        self.expect_word("KEY")?;
        self.expect(TokenKind::ParenthesisOpen)?;
        let partition = if self.at(TokenKind::ParenthesisOpen) {
            self.parenthesised(|parser| parser.name("a column"))?
        } else {
            vec![self.name("a column")?]
        };
        let clustering = if self.accept(TokenKind::Comma)? {
            self.comma_separated(|parser| parser.name("a column"))?
        } else {
            Vec::new()
        };
        self.expect(TokenKind::ParenthesisClose)?;
        Ok(PrimaryKey { position, partition, clustering })
    }

    /// What stands behind WITH.
    fn table_properties(&mut self) -> Parsed<TableProperties> {
        let mut properties = TableProperties::default();
        self.and_separated(|parser| {
            let position = parser.position();
            if parser.at_word("CLUSTERING") && parser.peek()?.0 == TokenKind::Word {
                parser.accept_words(&["CLUSTERING", "ORDER", "BY"])?;
                properties.clustering_order.extend(parser.parenthesised(Self::clustering_order)?);
            } else if parser.at_word("COMPACT") && parser.peek()?.0 == TokenKind::Word {
                parser.accept_words(&["COMPACT", "STORAGE"])?;
                properties.compact_storage = Some(position);
            } else {
                properties.properties.push(parser.property()?);
            }
            Ok(())
        })?;
        self.check_unique(&properties.properties)?;
        Ok(properties)
    }

    /// `column ASC` or `column DESC`; unlike in ORDER BY the direction is said.
    fn clustering_order(&mut self) -> Parsed<(Name, Direction)> {
        let column = self.name("a column")?;
        if self.accept_word("DESC")? {
            return Ok((column, Direction::Descending));
        }
        self.expect_word("ASC")?;
        Ok((column, Direction::Ascending))
    }

    fn alter_table_action(&mut self) -> Parsed<AlterTableAction> {
        if self.accept_word("ADD")? {
            let if_not_exists = self.if_not_exists()?;
            let columns = self.maybe_parenthesised(Self::column_definition)?;
            return Ok(AlterTableAction::Add { if_not_exists, columns });
        }
        if self.accept_word("DROP")? {
            return self.alter_table_drop();
        }
        if self.accept_word("RENAME")? {
            let if_exists = self.if_exists()?;
            let columns = self.renames("a column")?;
            return Ok(AlterTableAction::Rename { if_exists, columns });
        }
        if self.accept_word("ALTER")? {
            let if_exists = self.if_exists()?;
            let (column, type_name) = self.retyping("a column")?;
            return Ok(AlterTableAction::AlterType { if_exists, column, type_name });
        }
        self.expect_word("WITH")?;
        self.table_properties().map(AlterTableAction::With)
    }

    fn alter_table_drop(&mut self) -> Parsed<AlterTableAction> {
        if self.at_word("COMPACT") && self.peek()?.1.eq_ignore_ascii_case("STORAGE") {
            self.accept_words(&["COMPACT", "STORAGE"])?;
            return Ok(AlterTableAction::DropCompactStorage);
        }
        let if_exists = self.if_exists()?;
        let columns = self.maybe_parenthesised(|parser| parser.name("a column"))?;
        let timestamp = if self.accept_words(&["USING", "TIMESTAMP"])? {
            Some(self.timestamp()?)
        } else {
            None
        };
        Ok(AlterTableAction::Drop { if_exists, columns, timestamp })
    }

    /// Microseconds as a number.
    fn timestamp(&mut self) -> Parsed<i64> {
        let position = self.position();
        match self.accept_number()? {
            Some(Literal::Integer(text)) => text.parse().map_err(|_| {
                self.invalid_at(
                    position,
                    format!("timestamp {} does not fit 64 bits", excerpt(&text)),
                )
            }),
            Some(_) => Err(self.unexpected_at(position, "an integer")),
            None => Err(self.unexpected_instead_of("an integer")),
        }
    }

    /// `item, …` or `(item, …)`
    fn maybe_parenthesised<T>(
        &mut self,
        item: impl FnMut(&mut Self) -> Parsed<T>,
    ) -> Parsed<Vec<T>> {
        if self.at(TokenKind::ParenthesisOpen) {
            return self.parenthesised(item);
        }
        self.comma_separated(item)
    }

    /// `a TO b AND c TO d`
    fn renames(&mut self, what: &'static str) -> Parsed<Vec<(Name, Name)>> {
        self.and_separated(|parser| {
            let from = parser.name(what)?;
            parser.expect_word("TO")?;
            Ok((from, parser.name(what)?))
        })
    }

    /// `a TYPE type`
    fn retyping(&mut self, what: &'static str) -> Parsed<(Name, TypeName)> {
        let name = self.name(what)?;
        self.expect_word("TYPE")?;
        Ok((name, self.type_name()?))
    }

    // -- Types ----------------------------------------------------------------------------------

    fn create_type(&mut self) -> Parsed<CreateType> {
        let if_not_exists = self.if_not_exists()?;
        // A native type's name alone would never be read as the type that is created here.
        let unquoted = self.at(TokenKind::Word);
        let name = self.qualified_name("a type")?;
        if unquoted
            && name.keyspace.is_none()
            && CqlType::native_from_name(name.name.as_str()).is_some()
        {
            return Err(
                self.unexpected_at(name.name.position, "the name of a type that is not native")
            );
        }
        let fields = self.definitions(Self::field_definition)?;
        Ok(CreateType { name, if_not_exists, fields })
    }

    fn field_definition(&mut self) -> Parsed<(Name, TypeName)> {
        let field = self.name("a field")?;
        Ok((field, self.type_name()?))
    }

    fn alter_type_action(&mut self) -> Parsed<AlterTypeAction> {
        if self.accept_word("ADD")? {
            let if_not_exists = self.if_not_exists()?;
            let (field, type_name) = self.field_definition()?;
            return Ok(AlterTypeAction::Add { if_not_exists, field, type_name });
        }
        if self.accept_word("RENAME")? {
            let if_exists = self.if_exists()?;
            let fields = self.renames("a field")?;
            return Ok(AlterTypeAction::Rename { if_exists, fields });
        }
        self.expect_word("ALTER")?;
        let if_exists = self.if_exists()?;
        let (field, type_name) = self.retyping("a field")?;
        Ok(AlterTypeAction::AlterField { if_exists, field, type_name })
    }
}
