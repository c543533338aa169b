//! A [`Condition`] and the values of one execution to what the leader asks of rows.

use super::prepare::{ColumnCondition, Condition, Part, Test};
use super::{ColumnPart, ColumnTest, RowCondition, RowTest, ValueTest};
use crate::plan::context::{BindContext, BoundValues};
use crate::plan::error::PlanError;
use crate::plan::term::{BoundTerm, PreparedTerm};
use crate::plan::term_text::comparison_text;
use crate::syntax::ast::Comparison;
use model::CqlType;
use model::value::ListView;

impl Condition {
    /// Appends what the condition of one statement asks: of the row that it names, and of the
    /// static row of that one's partition. Existence is asked of the row, or of the static one
    /// where the statement names none.
    pub(in crate::plan) fn bind(
        &self,
        clustering: Option<&[u8]>,
        values: &BoundValues,
        context: &mut BindContext,
        out: &mut Vec<RowCondition>,
    ) -> Result<(), PlanError> {
        let clustering = clustering.map(<[u8]>::to_vec);
        let conditions = match self {
            Condition::NotExists => {
                out.push(RowCondition { clustering, test: RowTest::NotExists });
                return Ok(());
            }
            Condition::Exists => {
                out.push(RowCondition { clustering, test: RowTest::Exists });
                return Ok(());
            }
            Condition::Columns(conditions) => conditions,
        };
        let regular_count = conditions.iter().take_while(|c| !c.is_static).count();
        let (regular, of_static) = conditions.split_at(regular_count);
        for (clustering, conditions) in [(None, of_static), (clustering, regular)] {
            if !conditions.is_empty() {
                let tests = conditions.iter().map(|condition| condition.bind(values, context));
                let test = RowTest::Columns(tests.collect::<Result<_, _>>()?);
                out.push(RowCondition { clustering, test });
            }
        }
        Ok(())
    }
}

impl ColumnCondition {
    fn bind(
        &self,
        values: &BoundValues,
        context: &mut BindContext,
    ) -> Result<ColumnTest, PlanError> {
        Ok(ColumnTest {
            column: self.column,
            part: self.bind_part(values, context)?,
            test: self.bind_test(values, context)?,
        })
    }

    fn bind_part(
        &self,
        values: &BoundValues,
        context: &mut BindContext,
    ) -> Result<ColumnPart, PlanError> {
        let mut key = |term: &PreparedTerm, kind: &str| match term.bind(values, context)? {
            BoundTerm::Value(bytes) => Ok(bytes.into_owned()),
            BoundTerm::Null => {
                Err(PlanError::invalid(format!("Invalid null value for {kind} element access")))
            }
            BoundTerm::Unset => {
                Err(PlanError::invalid(format!("Invalid unset value for {kind} element access")))
            }
        };
        Ok(match &self.part {
            Part::Whole => ColumnPart::Whole,
            Part::Field(index) => ColumnPart::Field(*index),
            Part::Key(term) => ColumnPart::Key(key(term, "map")?),
            Part::Index(term) => {
                let bytes = key(term, "list")?;
                let index = bytes.first_chunk().map_or(0, |bytes| i32::from_be_bytes(*bytes));
                let index = u32::try_from(index).map_err(|_| {
                    PlanError::invalid(format!("Invalid negative list index {index}"))
                })?;
                ColumnPart::Index(index)
            }
        })
    }

    fn bind_test(
        &self,
        values: &BoundValues,
        context: &mut BindContext,
    ) -> Result<ValueTest, PlanError> {
        match &self.test {
            Test::Compare(comparison, term) => {
                let value = term.bind(values, context)?;
                if value == BoundTerm::Unset {
                    return Err(unset());
                }
                self.compare(*comparison, value.as_value())
            }
            Test::Terms(terms) => {
                let mut choices = Vec::with_capacity(terms.len());
                for term in terms {
                    match term.bind(values, context)? {
                        // As in Cassandra, an element that is not set is none.
                        BoundTerm::Unset => {}
                        value => choices.push(self.not_empty(value.as_value())),
                    }
                }
                Ok(ValueTest::OneOf(choices))
            }
            Test::List(marker) => match marker.bind(values)? {
                BoundTerm::Value(list) => {
                    let items = ListView::list(&list)?;
                    let choices = items.map(|item| Ok(self.not_empty(Some(item?))));
                    Ok(ValueTest::OneOf(choices.collect::<Result<_, PlanError>>()?))
                }
                BoundTerm::Null => Err(PlanError::invalid("Invalid null list in IN condition")),
                BoundTerm::Unset => Err(unset()),
            },
            Test::Contains(term) => {
                Ok(ValueTest::Contains(required(term.bind(values, context)?, "CONTAINS")?))
            }
            Test::ContainsKey(term) => {
                Ok(ValueTest::ContainsKey(required(term.bind(values, context)?, "CONTAINS KEY")?))
            }
        }
    }

    fn compare(
        &self,
        comparison: Comparison,
        value: Option<&[u8]>,
    ) -> Result<ValueTest, PlanError> {
        let compared = self.not_empty(value);
        if compared.is_some() || matches!(comparison, Comparison::Equal | Comparison::NotEqual) {
            return Ok(ValueTest::Compare(comparison, compared));
        }
        let operator = comparison_text(comparison);
        let what = match (value, &self.column_type) {
            (None, _) => return Err(null_compared(operator)),
            (_, CqlType::Map { .. }) => "map",
            (_, CqlType::Set { .. }) => "set",
            _ => "list",
        };
        Err(PlanError::invalid(format!(
            "Invalid comparison with an empty {what} for operator \"{operator}\""
        )))
    }

    /// The value; null for an empty collection where that is stored as no cells.
    fn not_empty(&self, value: Option<&[u8]>) -> Option<Vec<u8>> {
        let is_of_cells = self.part == Part::Whole
            && self.column_type.is_collection()
            && self.column_type.is_multi_cell();
        let is_empty =
            |value: &&[u8]| is_of_cells && value.first_chunk().is_none_or(|n| *n == [0; 4]);
        value.filter(|value| !is_empty(value)).map(<[u8]>::to_vec)
    }
}

fn required(value: BoundTerm, operator: &str) -> Result<Vec<u8>, PlanError> {
    match value {
        BoundTerm::Value(bytes) => Ok(bytes.into_owned()),
        BoundTerm::Null => Err(null_compared(operator)),
        BoundTerm::Unset => Err(unset()),
    }
}

fn unset() -> PlanError {
    PlanError::invalid("Invalid 'unset' value in condition")
}

fn null_compared(operator: &str) -> PlanError {
    PlanError::invalid(format!("Invalid comparison with null for operator \"{operator}\""))
}
