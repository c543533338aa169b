//! Aggregates: what becomes of a value over many rows.

use crate::plan::arithmetic::compute;
use crate::plan::error::PlanError;
use crate::plan::term_preparer::no_such_signature;
use crate::syntax::ast::ArithmeticOperator;
use model::CqlType;
use model::value::compare_values;
use num_bigint::{BigInt, Sign};
use std::cmp::Ordering;

/// An aggregate function over values of one type.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Aggregate {
    function: AggregateFunction,
    /// Type of the argument; `count(*)` has none.
    argument: CqlType,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AggregateFunction {
    CountRows,
    Count,
    Min,
    Max,
    Sum,
    Average,
}

/// An aggregate on its way through the rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct AggregateState {
    /// Rows, or values that are not null.
    count: i64,
    /// The least, greatest or summed value so far.
    value: Option<Vec<u8>>,
    /// Sums for averages of the types that would overflow.
    whole: i128,
    floating: f64,
}

impl Aggregate {
    /// `count(*)`
    pub(super) fn count_rows() -> Aggregate {
        Aggregate { function: AggregateFunction::CountRows, argument: CqlType::BigInt }
    }

    /// Whether a function of that name is an aggregate.
    pub(super) fn is_name(name: &str) -> bool {
        function_of(name).is_some()
    }

    /// The aggregate of that name over values of a type.
    pub(super) fn new(name: &str, argument: &CqlType) -> Result<Aggregate, PlanError> {
        let is_number = super::super::arithmetic::result_type(argument, argument).is_some();
        match function_of(name) {
            Some(AggregateFunction::Sum | AggregateFunction::Average) if !is_number => {
                Err(no_number(name))
            }
            Some(function) => Ok(Aggregate { function, argument: argument.clone() }),
            None => Err(PlanError::invalid(format!("Unknown function {name} called"))),
        }
    }

    /// What is wrong with a call of the aggregate of that name with so many arguments, which are
    /// not one. Nothing if the name is none of an aggregate.
    pub(super) fn wrong_count(name: &str, given: usize) -> Option<PlanError> {
        Some(match function_of(name)? {
            AggregateFunction::Sum | AggregateFunction::Average => no_number(name),
            AggregateFunction::Min | AggregateFunction::Max => PlanError::invalid(format!(
                "Invalid number of arguments for function system.{name}(any)"
            )),
            AggregateFunction::CountRows | AggregateFunction::Count => PlanError::invalid(format!(
                "Invalid number of arguments in call to function system.{name}: 1 required but \
                 {given} provided"
            )),
        })
    }

    /// The type of its result.
    pub(super) fn returns(&self) -> CqlType {
        match self.function {
            AggregateFunction::CountRows | AggregateFunction::Count => CqlType::BigInt,
            _ => self.argument.freeze(),
        }
    }

    /// Takes the value of one more row.
    pub(super) fn add(
        &self,
        state: &mut AggregateState,
        value: Option<&[u8]>,
    ) -> Result<(), PlanError> {
        if self.function == AggregateFunction::CountRows {
            state.count += 1;
            return Ok(());
        }
        let Some(value) = value else { return Ok(()) };
        state.count += 1;
        let wanted = match self.function {
            AggregateFunction::CountRows | AggregateFunction::Count => return Ok(()),
            AggregateFunction::Min => Ordering::Less,
            AggregateFunction::Max => Ordering::Greater,
            AggregateFunction::Sum => return self.add_to_sum(state, value),
            AggregateFunction::Average => return self.add_to_average(state, value),
        };
        let is_better = |best: &Vec<u8>| compare_values(&self.argument, value, best) == wanted;
        if state.value.as_ref().is_none_or(is_better) {
            state.value = Some(value.to_vec());
        }
        Ok(())
    }

    fn add_to_sum(&self, state: &mut AggregateState, value: &[u8]) -> Result<(), PlanError> {
        let sum_type = self.returns();
        let zero = zero(&sum_type);
        let sum = state.value.as_deref().unwrap_or(&zero);
        let total = compute(ArithmeticOperator::Add, (&sum_type, sum), (&self.argument, value))?;
        if total.is_some() {
            state.value = total;
        }
        Ok(())
    }

    /// Averages of small numbers are summed where they do not overflow.
    fn add_to_average(&self, state: &mut AggregateState, value: &[u8]) -> Result<(), PlanError> {
        match self.argument {
            CqlType::Varint | CqlType::Decimal => return self.add_to_sum(state, value),
            CqlType::Float => {
                let bytes = value.first_chunk().copied().unwrap_or_default();
                state.floating += f64::from(f32::from_be_bytes(bytes));
            }
            CqlType::Double => {
                let bytes = value.first_chunk().copied().unwrap_or_default();
                state.floating += f64::from_be_bytes(bytes);
            }
            _ => state.whole += i128::from(whole_number(value)),
        }
        Ok(())
    }

    /// The result over the rows taken.
    pub(super) fn finish(&self, state: &AggregateState) -> Option<Vec<u8>> {
        match self.function {
            AggregateFunction::CountRows | AggregateFunction::Count => {
                Some(state.count.to_be_bytes().to_vec())
            }
            AggregateFunction::Min | AggregateFunction::Max => state.value.clone(),
            AggregateFunction::Sum => {
                Some(state.value.clone().unwrap_or_else(|| zero(&self.returns())))
            }
            AggregateFunction::Average => Some(self.average(state)),
        }
    }

    fn average(&self, state: &AggregateState) -> Vec<u8> {
        let count = state.count.max(1);
        match &self.argument {
            CqlType::Float => ((state.floating / count as f64) as f32).to_be_bytes().to_vec(),
            CqlType::Double => (state.floating / count as f64).to_be_bytes().to_vec(),
            CqlType::Varint => {
                let sum = BigInt::from_signed_bytes_be(state.value.as_deref().unwrap_or_default());
                (sum / count).to_signed_bytes_be()
            }
            CqlType::Decimal => match state.value.as_deref().and_then(<[u8]>::split_first_chunk) {
                Some((scale, unscaled)) => {
                    let scale: &[u8; 4] = scale;
                    let sum = BigInt::from_signed_bytes_be(unscaled);
                    let quotient = half_even(&sum, &BigInt::from(count));
                    [scale.as_slice(), &quotient.to_signed_bytes_be()].concat()
                }
                None => zero(&CqlType::Decimal),
            },
            other => {
                let average = (state.whole / i128::from(count)) as i64;
                average.to_be_bytes()[8 - zero(other).len()..].to_vec()
            }
        }
    }
}

/// The overloads of a function of `system` that keeps the type of any number.
fn no_number(name: &str) -> PlanError {
    no_such_signature(name, &number_signatures(name))
}

pub(super) fn number_signatures(name: &str) -> String {
    const NUMBERS: [&str; 9] =
        ["tinyint", "smallint", "int", "bigint", "float", "double", "decimal", "varint", "counter"];
    let signature = |number: &&str| format!("system.{name} : ({number}) -> {number}");
    NUMBERS.iter().map(signature).collect::<Vec<_>>().join(", ")
}

fn function_of(name: &str) -> Option<AggregateFunction> {
    Some(match name {
        "count" => AggregateFunction::Count,
        "min" => AggregateFunction::Min,
        "max" => AggregateFunction::Max,
        "sum" => AggregateFunction::Sum,
        "avg" => AggregateFunction::Average,
        _ => return None,
    })
}

/// A signed number of up to eight bytes.
fn whole_number(value: &[u8]) -> i64 {
    let is_negative = value.first().is_some_and(|byte| *byte >= 0x80);
    value
        .iter()
        .take(8)
        .fold(if is_negative { -1 } else { 0 }, |number, byte| number << 8 | i64::from(*byte))
}

/// Division that rounds to the nearest, halves to the even number.
fn half_even(number: &BigInt, divisor: &BigInt) -> BigInt {
    let quotient = number / divisor;
    let twice_rest: BigInt = (number % divisor) * 2;
    let is_odd = quotient.bit(0);
    let order = twice_rest.magnitude().cmp(divisor.magnitude());
    if order == Ordering::Greater || order == Ordering::Equal && is_odd {
        let away = if number.sign() == Sign::Minus { -1 } else { 1 };
        return quotient + away;
    }
    quotient
}

fn zero(cql_type: &CqlType) -> Vec<u8> {
    let length = match cql_type {
        CqlType::TinyInt | CqlType::Varint => 1,
        CqlType::SmallInt => 2,
        CqlType::Int | CqlType::Float => 4,
        CqlType::Decimal => 5,
        _ => 8,
    };
    vec![0; length]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn over<const N: usize>(name: &str, cql_type: &CqlType, values: &[[u8; N]]) -> Vec<u8> {
        let aggregate = Aggregate::new(name, cql_type).unwrap();
        let mut state = AggregateState::default();
        for value in values {
            aggregate.add(&mut state, Some(value)).unwrap();
        }
        aggregate.add(&mut state, None).unwrap();
        aggregate.finish(&state).unwrap()
    }

    #[test]
    fn averages_do_not_overflow_and_sums_wrap() {
        let ints = [i32::MAX.to_be_bytes(), i32::MAX.to_be_bytes()];
        assert_eq!(over("avg", &CqlType::Int, &ints), i32::MAX.to_be_bytes());
        assert_eq!(over("sum", &CqlType::Int, &ints), (-2_i32).to_be_bytes());
        let negative = [(-3_i32).to_be_bytes(), 0_i32.to_be_bytes()];
        assert_eq!(over("avg", &CqlType::Int, &negative), (-1_i32).to_be_bytes());
        assert_eq!(over("count", &CqlType::Int, &ints), 2_i64.to_be_bytes());
        assert_eq!(over("min", &CqlType::Int, &negative), negative[0]);
    }

    #[test]
    fn averages_of_decimals_keep_the_scale_and_round_halves_to_even() {
        let decimal = |unscaled: u8| [0, 0, 0, 1, unscaled];
        let average = |values: &[[u8; 5]]| over("avg", &CqlType::Decimal, values);
        assert_eq!(average(&[decimal(1), decimal(2)]), decimal(2));
        assert_eq!(average(&[decimal(2), decimal(3)]), decimal(2));
        assert_eq!(average(&[decimal(0xff), decimal(0xfe)]), decimal(0xfe));
        assert_eq!(average(&[]), [0; 5]);
    }
}
