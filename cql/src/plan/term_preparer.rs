//! From terms of the syntax tree to [`PreparedTerm`]s: types are checked here, literals become
//! bytes, overloads are chosen, markers learn what they wait for.

use super::arithmetic;
use super::context::{BindContext, BoundValues};
use super::error::PlanError;
use super::function::{Function, overloads};
use super::markers::{MarkerSpecs, Receiver};
use super::operation;
use super::term::{BoundTerm, Call, Composite, Marker, PreparedTerm};
use super::term_text::{literal_kind, literal_text, term_text};
use super::type_name::resolve_type;
use crate::syntax::ast::{FunctionCall, Literal, Name, Term, TermKind};
use model::value::validate;
use model::{CqlType, Schema, TableDef};
use std::sync::Arc;

/// Prepares the terms of one statement.
#[derive(Debug)]
pub struct TermPreparer<'a, 'm> {
    /// Where user types are looked up.
    pub schema: &'a Schema,
    /// The statement's table: markers belong to it.
    pub table: &'a TableDef,
    /// What is known of the statement's markers.
    pub markers: &'a mut MarkerSpecs<'m>,
}

/// How well a term fits a type; better is greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fit {
    /// Not at all.
    None,
    /// It can be read as the type, and as others.
    Weak,
    /// It is of the type.
    Exact,
}

impl TermPreparer<'_, '_> {
    /// Prepares `term` as a value for `receiver`.
    pub fn prepare(&mut self, term: &Term, receiver: &Receiver) -> Result<PreparedTerm, PlanError> {
        match &term.kind {
            TermKind::Literal(literal) => prepare_literal(literal, receiver),
            TermKind::Marker(index) => self.prepare_marker(*index, receiver),
            TermKind::List(items) => self.prepare_list(items, receiver),
            TermKind::Set(items) => self.prepare_set(items, receiver),
            TermKind::Map(entries) => self.prepare_map(entries, receiver),
            TermKind::EmptySetOrMap => match receiver.cql_type {
                CqlType::Map { .. } | CqlType::Set { .. } => {
                    composite(Vec::new(), &receiver.cql_type)
                }
                _ => Err(wrong_literal("set", receiver)),
            },
            TermKind::UserType(fields) => self.prepare_user_type(fields, receiver),
            TermKind::Tuple(items) => self.prepare_tuple(items, receiver),
            TermKind::Function(call) => self.prepare_call(call, receiver),
            TermKind::Cast { type_name, term: inner } => {
                let cql_type = resolve_type(self.schema, &self.table.keyspace, type_name)?.freeze();
                let cast = Receiver::new(receiver.name.clone(), cql_type);
                if self.fit(inner, &cast.cql_type) == Fit::None {
                    return Err(PlanError::invalid(format!(
                        "Cannot cast value {} to type {}",
                        term_text(inner),
                        cast.cql_type
                    )));
                }
                if !value_compatible(&receiver.cql_type, &cast.cql_type) {
                    return Err(PlanError::invalid(format!(
                        "Cannot assign value {} to {} of type {}",
                        term_text(term),
                        receiver.name,
                        receiver.cql_type
                    )));
                }
                self.prepare(inner, &cast)
            }
            TermKind::Arithmetic { left, operator, right } => {
                let (left_type, right_type) = self.operand_types(left, right, &receiver.cql_type);
                let function = Function::arithmetic(*operator, left_type, right_type);
                self.prepare_operation(function, &[left, right], term, receiver)
            }
            TermKind::Negate(inner) => {
                let own_type = self.own_type(inner).unwrap_or_else(|| receiver.cql_type.clone());
                let function = Function::negation(own_type);
                self.prepare_operation(function, &[inner], term, receiver)
            }
        }
    }

    /// The types of two operands: their own, and for literals and markers that of the receiver.
    fn operand_types(&self, left: &Term, right: &Term, receiver: &CqlType) -> (CqlType, CqlType) {
        let of = |term| self.own_type(term).unwrap_or_else(|| receiver.clone());
        (of(left), of(right))
    }

    /// The type that a term has whatever receives it; `None` for literals and markers.
    fn own_type(&self, term: &Term) -> Option<CqlType> {
        match &term.kind {
            TermKind::Function(call) => Some(self.choose(call, None).ok()?.returns.clone()),
            TermKind::Cast { type_name, .. } => {
                let cast = resolve_type(self.schema, &self.table.keyspace, type_name).ok()?;
                Some(cast.freeze())
            }
            TermKind::Literal(Literal::Duration { .. }) => Some(CqlType::Duration),
            TermKind::Arithmetic { left, operator, right } => {
                match (self.own_type(left), self.own_type(right)) {
                    (Some(left), Some(right)) => operation::result_type(*operator, &left, &right),
                    (left, right) => left.or(right),
                }
            }
            TermKind::Negate(inner) => self.own_type(inner),
            TermKind::Tuple(items) if items.len() == 1 => self.own_type(&items[0]),
            _ => None,
        }
    }

    fn prepare_operation(
        &mut self,
        function: Option<Arc<Function>>,
        operands: &[&Term],
        term: &Term,
        receiver: &Receiver,
    ) -> Result<PreparedTerm, PlanError> {
        let Some(function) = function else {
            return Err(PlanError::invalid(format!(
                "Invalid operation ({}) for {} of type {}",
                term_text(term),
                receiver.name,
                receiver.cql_type
            )));
        };
        self.prepare_arguments(function, operands.iter().copied(), receiver)
    }

    fn prepare_marker(
        &mut self,
        index: u16,
        receiver: &Receiver,
    ) -> Result<PreparedTerm, PlanError> {
        self.markers.assign(index, &self.table.keyspace, &self.table.name, receiver)?;
        Ok(PreparedTerm::Marker(Marker { slot: index, cql_type: receiver.cql_type.clone() }))
    }

    fn prepare_list(
        &mut self,
        items: &[Term],
        receiver: &Receiver,
    ) -> Result<PreparedTerm, PlanError> {
        let (kind, element) = match &receiver.cql_type {
            CqlType::List { element, .. } => ("list", element),
            CqlType::Vector { element, dimension } => {
                if items.len() != usize::from(*dimension) {
                    return Err(PlanError::invalid(format!(
                        "Invalid vector literal for {} of type {}; expected {dimension} elements, \
                         but given {}",
                        receiver.name,
                        receiver.cql_type,
                        items.len()
                    )));
                }
                ("vector", element)
            }
            other => {
                return Err(PlanError::invalid(format!(
                    "Unexpected receiver type '{other}'; only list and vector are expected"
                )));
            }
        };
        let part = receiver.part("value", (**element).clone());
        let parts = self.prepare_elements(items, &part, kind, receiver)?;
        composite(parts, &receiver.cql_type)
    }

    fn prepare_set(
        &mut self,
        items: &[Term],
        receiver: &Receiver,
    ) -> Result<PreparedTerm, PlanError> {
        let CqlType::Set { element, .. } = &receiver.cql_type else {
            return Err(wrong_literal("set", receiver));
        };
        let part = receiver.part("value", (**element).clone());
        let parts = self.prepare_elements(items, &part, "set", receiver)?;
        composite(parts, &receiver.cql_type)
    }

    fn prepare_elements(
        &mut self,
        items: &[Term],
        part: &Receiver,
        kind: &str,
        receiver: &Receiver,
    ) -> Result<Vec<PreparedTerm>, PlanError> {
        let prepare = |item: &Term| {
            if self.fit(item, &part.cql_type) == Fit::None {
                return Err(PlanError::invalid(format!(
                    "Invalid {kind} literal for {}: value {} is not of type {}",
                    receiver.name,
                    term_text(item),
                    part.cql_type
                )));
            }
            self.prepare(item, part)
        };
        items.iter().map(prepare).collect()
    }

    fn prepare_map(
        &mut self,
        entries: &[(Term, Term)],
        receiver: &Receiver,
    ) -> Result<PreparedTerm, PlanError> {
        let CqlType::Map { key, value, .. } = &receiver.cql_type else {
            return Err(wrong_literal("map", receiver));
        };
        let keys = receiver.part("key", (**key).clone());
        let values = receiver.part("value", (**value).clone());
        let mut parts = Vec::with_capacity(entries.len() * 2);
        for (entry_key, entry_value) in entries {
            for (term, part, what) in [(entry_key, &keys, "key"), (entry_value, &values, "value")] {
                if self.fit(term, &part.cql_type) == Fit::None {
                    return Err(PlanError::invalid(format!(
                        "Invalid map literal for {}: {what} {} is not of type {}",
                        receiver.name,
                        term_text(term),
                        part.cql_type
                    )));
                }
                parts.push(self.prepare(term, part)?);
            }
        }
        composite(parts, &receiver.cql_type)
    }

    fn prepare_user_type(
        &mut self,
        fields: &[(Name, Term)],
        receiver: &Receiver,
    ) -> Result<PreparedTerm, PlanError> {
        let CqlType::Udt(udt) = &receiver.cql_type else {
            return Err(wrong_literal("user type", receiver));
        };
        let mut parts = vec![PreparedTerm::Null; udt.fields.len()];
        for (name, term) in fields {
            let Some(index) = udt.fields.iter().position(|(field, _)| **field == *name.text) else {
                return Err(PlanError::invalid(format!(
                    "Unknown field '{}' in value of user defined type {}",
                    name.as_str(),
                    udt.name
                )));
            };
            let field_type = &udt.fields[index].1;
            if self.fit(term, field_type) == Fit::None {
                return Err(PlanError::invalid(format!(
                    "Invalid user type literal for {}: field {} is not of type {field_type}",
                    receiver.name,
                    name.as_str()
                )));
            }
            let part =
                Receiver::new(format!("{}.{}", receiver.name, name.as_str()), field_type.clone());
            parts[index] = self.prepare(term, &part)?;
        }
        composite(parts, &receiver.cql_type)
    }

    fn prepare_tuple(
        &mut self,
        items: &[Term],
        receiver: &Receiver,
    ) -> Result<PreparedTerm, PlanError> {
        let CqlType::Tuple(fields) = &receiver.cql_type else {
            // `(x)` is also how a term is put in parentheses.
            if let [item] = items {
                return self.prepare(item, receiver);
            }
            return Err(wrong_literal("tuple type", receiver));
        };
        if items.len() > fields.len() {
            return Err(PlanError::invalid(format!(
                "Invalid tuple literal for {}: too many elements. Type {} expects {} but got {}",
                receiver.name,
                receiver.cql_type,
                fields.len(),
                items.len()
            )));
        }
        let mut parts = Vec::with_capacity(items.len());
        for (index, (item, field)) in items.iter().zip(fields.iter()).enumerate() {
            if self.fit(item, field) == Fit::None {
                return Err(PlanError::invalid(format!(
                    "Invalid tuple literal for {}: component {index} is not of type {field}",
                    receiver.name
                )));
            }
            let part = Receiver::new(format!("{}[{index}]", receiver.name), field.clone());
            parts.push(self.prepare(item, &part)?);
        }
        composite(parts, &receiver.cql_type)
    }

    fn prepare_call(
        &mut self,
        call: &FunctionCall<Term>,
        receiver: &Receiver,
    ) -> Result<PreparedTerm, PlanError> {
        let function = self.choose(call, Some(receiver))?;
        self.prepare_arguments(function, call.arguments.iter(), receiver)
    }

    fn prepare_arguments<'t>(
        &mut self,
        function: Arc<Function>,
        terms: impl ExactSizeIterator<Item = &'t Term>,
        receiver: &Receiver,
    ) -> Result<PreparedTerm, PlanError> {
        if !value_compatible(&receiver.cql_type, &function.returns) {
            return Err(PlanError::invalid(format!(
                "Type error: cannot assign result of function {} (type {}) to {} (type {})",
                function.name, function.returns, receiver.name, receiver.cql_type
            )));
        }
        let mut arguments = Vec::with_capacity(terms.len());
        for (index, (term, cql_type)) in terms.zip(&function.arguments).enumerate() {
            let part = Receiver::new(format!("arg{index}({})", function.name), cql_type.clone());
            arguments.push(self.prepare(term, &part)?);
        }
        let is_constant = function.is_pure() && arguments.iter().all(PreparedTerm::is_constant);
        let call = PreparedTerm::Call(Box::new(Call { function, arguments }));
        if is_constant { fold(&call) } else { Ok(call) }
    }

    /// The overload that a call means. A receiver helps to choose among several.
    pub fn choose(
        &self,
        call: &FunctionCall<Term>,
        receiver: Option<&Receiver>,
    ) -> Result<Arc<Function>, PlanError> {
        let name = call.function.name.as_str();
        let keyspace = call.function.keyspace.as_ref().map(Name::as_str);
        let all = overloads(keyspace, name, self.table);
        // The type of a nested call is found once and not for each overload, so that the work does
        // not double with every level.
        let own_types: Vec<Option<Option<CqlType>>> = call
            .arguments
            .iter()
            .map(|term| match &term.kind {
                TermKind::Function(inner) => {
                    Some(self.choose(inner, None).ok().map(|function| function.returns.clone()))
                }
                _ => None,
            })
            .collect();
        let arguments: Vec<_> = call.arguments.iter().zip(&own_types).collect();
        let fits =
            |(term, own_type): &(&Term, &Option<Option<CqlType>>), wanted: &CqlType| match own_type
            {
                None => self.fit(term, wanted),
                Some(None) => Fit::None,
                Some(Some(own_type)) => fit_type(wanted, own_type),
            };
        choose_overload(name, all, &arguments, fits, |(term, _)| term_text(term), receiver)
    }

    /// How well a term fits a type, without preparing it.
    pub fn fit(&self, term: &Term, cql_type: &CqlType) -> Fit {
        let all = |mut fits: Box<dyn Iterator<Item = Fit> + '_>| {
            // Parts that fit weakly may still make an exact whole elsewhere; the weakest decides.
            fits.try_fold(Fit::Exact, |worst, fit| (fit != Fit::None).then_some(worst.min(fit)))
                .unwrap_or(Fit::None)
        };
        match (&term.kind, cql_type) {
            (TermKind::Literal(literal), _) => fit_literal(literal, cql_type),
            (TermKind::Marker(_), _) => Fit::Weak,
            (TermKind::List(items), CqlType::List { element, .. }) => {
                all(Box::new(items.iter().map(|item| self.fit(item, element))))
            }
            (TermKind::List(items), CqlType::Vector { element, dimension })
                if items.len() == usize::from(*dimension) =>
            {
                all(Box::new(items.iter().map(|item| self.fit(item, element))))
            }
            (TermKind::Set(items), CqlType::Set { element, .. }) => {
                all(Box::new(items.iter().map(|item| self.fit(item, element))))
            }
            (TermKind::EmptySetOrMap, CqlType::Set { .. } | CqlType::Map { .. }) => Fit::Weak,
            (TermKind::Map(entries), CqlType::Map { key, value, .. }) => {
                all(Box::new(entries.iter().map(|(k, v)| self.fit(k, key).min(self.fit(v, value)))))
            }
            (TermKind::UserType(fields), CqlType::Udt(udt)) => {
                all(Box::new(fields.iter().map(|(name, term)| {
                    let field = udt.fields.iter().find(|(field, _)| **field == *name.text);
                    field.map_or(Fit::None, |(_, field_type)| self.fit(term, field_type))
                })))
            }
            (TermKind::Tuple(items), CqlType::Tuple(fields)) if items.len() <= fields.len() => {
                all(Box::new(items.iter().zip(fields.iter()).map(|(i, f)| self.fit(i, f))))
            }
            (TermKind::Tuple(items), _) if items.len() == 1 => self.fit(&items[0], cql_type),
            (TermKind::Function(call), _) => {
                let receiver = Receiver::new("", cql_type.clone());
                self.choose(call, Some(&receiver))
                    .map_or(Fit::None, |function| fit_type(cql_type, &function.returns))
            }
            (TermKind::Cast { type_name, .. }, _) => {
                resolve_type(self.schema, &self.table.keyspace, type_name)
                    .map_or(Fit::None, |cast| fit_type(cql_type, &cast.freeze()))
            }
            (TermKind::Arithmetic { left, operator, right }, _) => {
                let (left, right) = self.operand_types(left, right, cql_type);
                operation::result_type(*operator, &left, &right)
                    .map_or(Fit::None, |returns| fit_type(cql_type, &returns))
            }
            (TermKind::Negate(inner), _) => {
                let own_type = self.own_type(inner).unwrap_or_else(|| cql_type.clone());
                arithmetic::result_type(&own_type, &own_type)
                    .map_or(Fit::None, |_| fit_type(cql_type, &own_type))
            }
            _ => Fit::None,
        }
    }
}

/// Parts to a whole, at once if they are all constants.
fn composite(parts: Vec<PreparedTerm>, cql_type: &CqlType) -> Result<PreparedTerm, PlanError> {
    let is_constant = parts.iter().all(PreparedTerm::is_constant);
    let term = PreparedTerm::Composite(Box::new(Composite { cql_type: cql_type.clone(), parts }));
    if is_constant { fold(&term) } else { Ok(term) }
}

/// Chooses among the overloads of a function: of those whose result the receiver takes, the one
/// that fits best. `fits` says how well an argument fits a type, `text` how it was written.
pub fn choose_overload<A>(
    name: &str,
    all: Vec<Arc<Function>>,
    arguments: &[A],
    fits: impl Fn(&A, &CqlType) -> Fit,
    text: impl Fn(&A) -> String,
    receiver: Option<&Receiver>,
) -> Result<Arc<Function>, PlanError> {
    if all.is_empty() {
        return Err(PlanError::invalid(format!("Unknown function {name} called")));
    }
    if let [only] = all.as_slice() {
        check_arguments(only, arguments, &fits, text)?;
    }
    let fits = |function: &Arc<Function>| {
        if function.arguments.len() != arguments.len() {
            return Fit::None;
        }
        let each = arguments.iter().zip(&function.arguments);
        each.map(|(argument, wanted)| fits(argument, wanted)).min().unwrap_or(Fit::Exact)
    };
    let signatures = list_signatures(&all);
    let is_overloaded = all.len() > 1;
    let mut fitting: Vec<(Fit, Arc<Function>)> =
        all.into_iter().map(|function| (fits(&function), function)).collect();
    if is_overloaded && let Some(receiver) = receiver {
        fitting.retain(|(_, f)| value_compatible(&receiver.cql_type, &f.returns));
    }
    let best = fitting.iter().map(|(fit, _)| *fit).max().unwrap_or(Fit::None);
    fitting.retain(|(fit, _)| *fit == best && *fit != Fit::None);
    if fitting.len() > 1 {
        let candidates: Vec<_> = fitting.into_iter().map(|(_, function)| function).collect();
        return Err(PlanError::invalid(format!(
            "Ambiguous call to function {name} (can be matched by following signatures: {}): use \
             type casts to disambiguate",
            list_signatures(&candidates)
        )));
    }
    let chosen = fitting.pop().map(|(_, function)| function);
    chosen.ok_or_else(|| no_such_signature(name, &signatures))
}

/// No overload of a function takes such arguments.
pub fn no_such_signature(function: &str, signatures: &str) -> PlanError {
    PlanError::invalid(format!(
        "Invalid call to function {function}, none of its type signatures match (known type \
         signatures: {signatures})"
    ))
}

/// That the arguments fit the only overload there is.
fn check_arguments<A>(
    only: &Function,
    arguments: &[A],
    fits: impl Fn(&A, &CqlType) -> Fit,
    text: impl Fn(&A) -> String,
) -> Result<(), PlanError> {
    if only.arguments.len() != arguments.len() {
        return Err(PlanError::invalid(format!(
            "Invalid number of arguments in call to function {}: {} required but {} provided",
            only.name,
            only.arguments.len(),
            arguments.len()
        )));
    }
    for (index, (argument, wanted)) in arguments.iter().zip(&only.arguments).enumerate() {
        if fits(argument, wanted) == Fit::None {
            return Err(PlanError::invalid(format!(
                "Type error: {} cannot be passed as argument {index} of function {} of type \
                 {wanted}",
                text(argument),
                only.name
            )));
        }
    }
    Ok(())
}

fn list_signatures(functions: &[Arc<Function>]) -> String {
    functions.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Computes a term that needs neither values nor a context.
fn fold(term: &PreparedTerm) -> Result<PreparedTerm, PlanError> {
    let mut no_uuid = || [0; 16];
    let mut no_timeuuid = || [0; 16];
    let mut context = BindContext {
        now_micros: 0,
        now_seconds: 0,
        default_timestamp: None,
        fresh_timeuuid: &mut no_timeuuid,
        fresh_uuid: &mut no_uuid,
        json: None,
    };
    Ok(match term.bind(&BoundValues::new(&[]), &mut context)? {
        BoundTerm::Value(bytes) => PreparedTerm::Constant(bytes.into()),
        BoundTerm::Null | BoundTerm::Unset => PreparedTerm::Null,
    })
}

/// The bytes of a literal as the receiver's type reads it.
fn prepare_literal(literal: &Literal, receiver: &Receiver) -> Result<PreparedTerm, PlanError> {
    if *literal == Literal::Null {
        return Ok(PreparedTerm::Null);
    }
    let cql_type = &receiver.cql_type;
    if fit_literal(literal, cql_type) == Fit::None {
        return Err(PlanError::invalid(format!(
            "Invalid {} constant ({}) for \"{}\" of type {cql_type}",
            literal_kind(literal),
            literal_text(literal),
            receiver.name
        )));
    }
    let bytes = match literal {
        Literal::Blob(bytes) => bytes.clone(),
        Literal::Boolean(value) => vec![u8::from(*value)],
        Literal::Uuid(_) | Literal::Duration { .. } => {
            model::literal::parse_literal(cql_type, &literal_text(literal))?
        }
        Literal::Integer(text) | Literal::Float(text) | Literal::String(text) => {
            model::literal::parse_literal(cql_type, text)?
        }
        Literal::Null => return Ok(PreparedTerm::Null),
    };
    validate(cql_type, &bytes)?;
    Ok(PreparedTerm::Constant(bytes.into()))
}

/// Which types a kind of literal can be read as, and which of them it is by itself.
fn fit_literal(literal: &Literal, cql_type: &CqlType) -> Fit {
    use CqlType::{
        Ascii, BigInt, Blob, Boolean, Counter, Date, Decimal, Double, Duration, Float, Inet, Int,
        SmallInt, Text, Time, TimeUuid, Timestamp, TinyInt, Uuid, Varint,
    };
    let (exact, weak) = match literal {
        Literal::Null => return Fit::Weak,
        Literal::Integer(text) => {
            let own = if text.parse::<i32>().is_ok() {
                *cql_type == Int
            } else if text.parse::<i64>().is_ok() {
                *cql_type == BigInt
            } else {
                *cql_type == Varint
            };
            let readable = matches!(
                cql_type,
                BigInt
                    | Counter
                    | Date
                    | Decimal
                    | Double
                    | Duration
                    | Float
                    | Int
                    | SmallInt
                    | Time
                    | Timestamp
                    | TinyInt
                    | Varint
            );
            (own, readable)
        }
        Literal::Float(_) => (*cql_type == Double, matches!(cql_type, Decimal | Double | Float)),
        Literal::String(text) => {
            let own = if text.is_ascii() { Ascii } else { Text };
            let readable = matches!(cql_type, Ascii | Text | Inet | Timestamp | Date | Time);
            (*cql_type == own, readable)
        }
        Literal::Uuid(_) => (*cql_type == Uuid, matches!(cql_type, Uuid | TimeUuid)),
        Literal::Blob(_) => (*cql_type == Blob, *cql_type == Blob),
        Literal::Boolean(_) => (*cql_type == Boolean, *cql_type == Boolean),
        Literal::Duration { .. } => (*cql_type == Duration, *cql_type == Duration),
    };
    if exact {
        Fit::Exact
    } else if weak {
        Fit::Weak
    } else {
        Fit::None
    }
}

fn fit_type(wanted: &CqlType, given: &CqlType) -> Fit {
    if wanted == given {
        Fit::Exact
    } else if value_compatible(wanted, given) {
        Fit::Weak
    } else {
        Fit::None
    }
}

/// Whether the bytes of any value of type `given` are a value of type `wanted` that means the same.
pub fn value_compatible(wanted: &CqlType, given: &CqlType) -> bool {
    use CqlType::{Ascii, BigInt, Blob, Int, Text, TimeUuid, Timestamp, Uuid, Varint};
    matches!(
        (wanted, given),
        (Blob, _) | (Text, Ascii) | (Uuid, TimeUuid) | (BigInt, Timestamp) | (Varint, Int | BigInt)
    ) || wanted.freeze() == given.freeze()
}

fn wrong_literal(kind: &str, receiver: &Receiver) -> PlanError {
    PlanError::invalid(format!(
        "Invalid {kind} literal for {} of type {}",
        receiver.name, receiver.cql_type
    ))
}
