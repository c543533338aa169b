//! Whether a row passes what it is asked.

use super::{ColumnPart, ColumnTest, RowTest, ValueTest};
use crate::plan::restriction::{contains, entry_of, holds};
use crate::plan::select::column_value;
use crate::syntax::ast::Comparison;
use model::row::RowView;
use model::value::{ListView, TupleView, compare_values};
use model::{CqlType, EpochSeconds, TableDef, ValueError};

impl RowTest {
    /// Whether a row passes; `None` is one that does not exist.
    pub fn holds(
        &self,
        table: &TableDef,
        row: Option<RowView>,
        now: EpochSeconds,
    ) -> Result<bool, ValueError> {
        match self {
            RowTest::NotExists => Ok(row.is_none()),
            RowTest::Exists => Ok(row.is_some()),
            RowTest::Columns(tests) => {
                for test in tests {
                    if !test.holds(table, row, now)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
        }
    }
}

impl ColumnTest {
    fn holds(
        &self,
        table: &TableDef,
        row: Option<RowView>,
        now: EpochSeconds,
    ) -> Result<bool, ValueError> {
        // A column that was dropped since is null.
        let column = table.column_by_id(self.column);
        let found = match (column, row) {
            (Some(column), Some(row)) => column_value(row, column, now)?,
            _ => None,
        };
        let (Some(column), Some(value)) = (column, &found) else {
            return Ok(self.test.holds_for_null());
        };
        let (part_type, part) = match (&self.part, &column.cql_type) {
            (ColumnPart::Whole, cql_type) => (cql_type, Some(&**value)),
            (ColumnPart::Key(key), CqlType::Map { value: value_type, .. }) => {
                (&**value_type, entry_of(&column.cql_type, value, key)?)
            }
            (ColumnPart::Index(index), CqlType::List { element, .. }) => {
                let item = ListView::list(value)?.nth(*index as usize);
                (&**element, item.transpose()?)
            }
            (ColumnPart::Field(index), CqlType::Udt(udt)) => {
                let field = TupleView::new(value).nth(usize::from(*index));
                match udt.fields.get(usize::from(*index)) {
                    Some((_, field_type)) => (field_type, field.transpose()?.flatten()),
                    None => return Ok(self.test.holds_for_null()),
                }
            }
            _ => return Ok(self.test.holds_for_null()),
        };
        match part {
            Some(part) => self.test.holds_for(part_type, part),
            None => Ok(self.test.holds_for_null()),
        }
    }
}

impl ValueTest {
    fn holds_for_null(&self) -> bool {
        match self {
            ValueTest::Compare(comparison, value) => match comparison {
                Comparison::Equal => value.is_none(),
                Comparison::NotEqual => value.is_some(),
                _ => false,
            },
            ValueTest::OneOf(choices) => choices.iter().any(Option::is_none),
            ValueTest::Contains(_) | ValueTest::ContainsKey(_) => false,
        }
    }

    fn holds_for(&self, cql_type: &CqlType, value: &[u8]) -> Result<bool, ValueError> {
        Ok(match self {
            ValueTest::Compare(comparison, Some(other)) => {
                holds(*comparison, compare_values(cql_type, value, other))
            }
            ValueTest::Compare(comparison, None) => *comparison == Comparison::NotEqual,
            ValueTest::OneOf(choices) => {
                let mut choices = choices.iter().flatten();
                choices.any(|choice| compare_values(cql_type, value, choice).is_eq())
            }
            ValueTest::Contains(wanted) => contains(cql_type, value, wanted)?,
            ValueTest::ContainsKey(key) => entry_of(cql_type, value, key)?.is_some(),
        })
    }
}
