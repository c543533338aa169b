//! What a SELECT returns: selectors to expressions, with the names and types of their columns.

use super::aggregate::{Aggregate, number_signatures};
use super::cast::{can_cast, castable_to};
use super::selector::{Expression, Part};
use crate::plan::context::{BindContext, BoundValues};
use crate::plan::error::PlanError;
use crate::plan::function::{Function, overloads};
use crate::plan::markers::Receiver;
use crate::plan::names::column_index;
use crate::plan::term::{BoundTerm, Call, PreparedTerm};
use crate::plan::term_preparer::{
    Fit, TermPreparer, choose_overload, no_such_signature, value_compatible,
};
use crate::plan::term_text::term_text;
use crate::plan::type_name::resolve_type;
use crate::syntax::ast::{
    ArithmeticOperator, CellMetadataFunction, FunctionCall, Literal, Name,
    Selection as WrittenSelection, Selector, SelectorKind, Term, TermKind, TypeName,
};
use crate::wire::ColumnSpec;
use model::{ColumnDef, ColumnKind, CqlType, TableDef};
use std::sync::Arc;

/// What a SELECT returns.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Selection {
    /// One for each column of the result.
    pub(super) expressions: Vec<Expression>,
    /// The columns of the result.
    pub(super) columns: Vec<ColumnSpec>,
    /// What is computed over rows.
    pub(super) aggregates: Vec<SelectedAggregate>,
    /// Terms in the selectors.
    pub(super) terms: Vec<PreparedTerm>,
    /// Whether it was `*`.
    pub(super) is_wildcard: bool,
}

/// An aggregate and what it is computed from.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct SelectedAggregate {
    pub(super) aggregate: Aggregate,
    pub(super) argument: Option<Expression>,
}

impl Selection {
    /// Prepares the selectors.
    pub(super) fn prepare(
        preparer: &mut TermPreparer,
        written: &WrittenSelection,
    ) -> Result<Selection, PlanError> {
        let table = preparer.table;
        let mut compiler = Compiler {
            preparer,
            aggregates: Vec::new(),
            terms: Vec::new(),
            is_in_aggregate: false,
        };
        let mut expressions = Vec::new();
        let mut columns = Vec::new();
        match written {
            WrittenSelection::All => {
                for index in columns_of_wildcard(table) {
                    let column = &table.columns[index];
                    expressions.push(Expression::Column(index));
                    columns.push(spec(table, column.name.clone(), column.cql_type.clone()));
                }
            }
            WrittenSelection::Selectors(selectors) => {
                for selected in selectors {
                    let compiled = compiler.compile(&selected.selector)?;
                    let name = match &selected.alias {
                        Some(alias) => alias.text.clone(),
                        None => compiled.name.into(),
                    };
                    expressions.push(compiled.expression);
                    columns.push(spec(table, name, compiled.cql_type));
                }
            }
        }
        let is_wildcard = *written == WrittenSelection::All;
        let Compiler { aggregates, terms, .. } = compiler;
        Ok(Selection { expressions, columns, aggregates, terms, is_wildcard })
    }

    /// Calls `visit` with the index of every column that is read.
    pub(super) fn for_each_column(&self, visit: &mut impl FnMut(usize)) {
        self.expressions.iter().for_each(|expression| expression.for_each_column(visit));
        let arguments = self.aggregates.iter().filter_map(|a| a.argument.as_ref());
        arguments.for_each(|argument| argument.for_each_column(visit));
    }

    /// The values of the terms in one execution.
    pub(super) fn bind_terms(
        &self,
        values: &BoundValues,
        context: &mut BindContext,
    ) -> Result<Vec<Option<Vec<u8>>>, PlanError> {
        let bind = |term: &PreparedTerm| match term.bind(values, context)? {
            BoundTerm::Value(bytes) => Ok(Some(bytes.into_owned())),
            BoundTerm::Null => Ok(None),
            BoundTerm::Unset => Err(PlanError::invalid("Invalid unset value in the selection")),
        };
        self.terms.iter().map(bind).collect()
    }
}

fn spec(table: &TableDef, name: Arc<str>, cql_type: CqlType) -> ColumnSpec {
    let (keyspace, table) = (table.keyspace.clone(), table.name.clone());
    ColumnSpec { keyspace, table, name, cql_type }
}

/// The key, then static columns, then regular ones, both by name.
pub(in crate::plan) fn columns_of_wildcard(table: &TableDef) -> Vec<usize> {
    let mut indexes: Vec<usize> = (0..table.columns.len()).collect();
    let rank = |index: &usize| match table.columns[*index].kind {
        ColumnKind::PartitionKey(_) | ColumnKind::Clustering(_) => 0,
        ColumnKind::Static => 1,
        ColumnKind::Regular => 2,
    };
    indexes.sort_by_key(rank);
    indexes
}

/// A selector whose type and name are known.
pub(super) struct Compiled {
    pub(super) expression: Expression,
    pub(super) cql_type: CqlType,
    pub(super) name: String,
}

pub(super) struct Compiler<'p, 'a, 'm> {
    pub(super) preparer: &'p mut TermPreparer<'a, 'm>,
    aggregates: Vec<SelectedAggregate>,
    terms: Vec<PreparedTerm>,
    is_in_aggregate: bool,
}

/// An argument of a function: its type is known, or depends on the overload.
enum Argument {
    Compiled(Compiled),
    Term(Term),
}

impl Compiler<'_, '_, '_> {
    pub(super) fn compile(&mut self, selector: &Selector) -> Result<Compiled, PlanError> {
        match &selector.kind {
            SelectorKind::Column(name) => self.column(name),
            SelectorKind::Term(kind) => {
                self.typed_term(&Term { position: selector.position, kind: kind.clone() })
            }
            SelectorKind::CountRows => {
                self.aggregate(Aggregate::count_rows(), None, "count".to_owned())
            }
            SelectorKind::Function(call) => self.function(call),
            SelectorKind::Cast { selector, type_name } => self.cast(selector, type_name),
            SelectorKind::CellMetadata { function, cell } => self.metadata(*function, cell),
            SelectorKind::Element { collection, key } => {
                let (collection, key_type, value_type) = self.keyed(collection)?;
                let name = format!("{}[{}]", collection.name, term_text(key));
                let key = self.key_term(key, &collection.cql_type, &collection.name, key_type)?;
                let (cql_type, collection) = (collection.cql_type, Box::new(collection.expression));
                let expression = Expression::Element { collection, cql_type, key };
                Ok(Compiled { expression, cql_type: value_type, name })
            }
            SelectorKind::Slice { collection, from, to } => {
                let (collection, key_type, _) = self.keyed(collection)?;
                let text = |term: &Option<Term>| term.as_ref().map(term_text).unwrap_or_default();
                let name = format!("{}[{}..{}]", collection.name, text(from), text(to));
                let mut key = |term: &Option<Term>| {
                    let (of, name) = (&collection.cql_type, &collection.name);
                    let prepare = |term| self.key_term(term, of, name, key_type.clone());
                    term.as_ref().map(prepare).transpose()
                };
                let (from, to) = (key(from)?, key(to)?);
                let result = collection.cql_type.clone();
                let (cql_type, collection) = (collection.cql_type, Box::new(collection.expression));
                let expression = Expression::Slice { collection, cql_type, from, to };
                Ok(Compiled { expression, cql_type: result, name })
            }
            SelectorKind::Field { value, field } => {
                let value = self.compile(value)?;
                let (index, cql_type) = field_of(&value.cql_type, &value.name, field)?;
                let name = format!("{}.{}", value.name, field.as_str());
                let value = Box::new(value.expression);
                Ok(Compiled { expression: Expression::Field { value, index }, cql_type, name })
            }
            SelectorKind::Arithmetic { left, operator, right } => {
                self.arithmetic(left, *operator, right)
            }
            SelectorKind::Negate(operand) => {
                let operand = self.compile(operand)?;
                let function = Function::negation(operand.cql_type.clone()).ok_or_else(|| {
                    no_such_signature("system._negate", &number_signatures("\"_negate\""))
                })?;
                let name = format!("-{}", operand.name);
                Ok(called(function, vec![operand.expression], name))
            }
            SelectorKind::Parentheses(inner) => {
                let inner = self.compile(inner)?;
                Ok(Compiled { name: format!("({})", inner.name), ..inner })
            }
            SelectorKind::Hint { .. }
            | SelectorKind::List(_)
            | SelectorKind::Set(_)
            | SelectorKind::Map(_)
            | SelectorKind::Tuple(_) => self.composite(selector, None),
        }
    }

    fn cast(&mut self, selector: &Selector, type_name: &TypeName) -> Result<Compiled, PlanError> {
        let value = self.compile(selector)?;
        let keyspace = &self.preparer.table.keyspace;
        let to = resolve_type(self.preparer.schema, keyspace, type_name)?;
        let from = value.cql_type.clone();
        if from == to {
            return Ok(value);
        }
        if !can_cast(&from, &to) {
            let sources = castable_to(&to);
            if sources.is_empty() {
                let message = format!("{} cannot be cast to {to}", value.name);
                return Err(PlanError::invalid(message));
            }
            let function = format!("system.cast_as_{to}");
            let signature = |from: &CqlType| format!("{function} : ({from}) -> {to}");
            let signatures: Vec<_> = sources.iter().map(signature).collect();
            return Err(no_such_signature(&function, &signatures.join(", ")));
        }
        let name = format!("cast({} as {to})", value.name);
        let (value, cql_type) = (Box::new(value.expression), to.clone());
        Ok(Compiled { expression: Expression::Cast { value, from, to }, cql_type, name })
    }

    fn column(&mut self, name: &Name) -> Result<Compiled, PlanError> {
        let index = column_index(self.preparer.table, name)?;
        let column = &self.preparer.table.columns[index];
        let (cql_type, name) = (column.cql_type.clone(), column.name.to_string());
        Ok(Compiled { expression: Expression::Column(index), cql_type, name })
    }

    /// A term that says itself what type it has.
    fn typed_term(&mut self, term: &Term) -> Result<Compiled, PlanError> {
        let TermKind::Cast { type_name, term: inner } = &term.kind else {
            return Err(PlanError::invalid(format!(
                "Cannot infer type for term {} in selection clause (try using a cast to force a \
                 type)",
                term_text(term)
            )));
        };
        let keyspace = &self.preparer.table.keyspace;
        let cql_type = resolve_type(self.preparer.schema, keyspace, type_name)?.freeze();
        let prepared =
            self.preparer.prepare(term, &Receiver::new("[selection]", cql_type.clone()))?;
        let name = format!("({type_name}){}", term_text(inner));
        Ok(Compiled { expression: self.term(prepared), cql_type, name })
    }

    fn term(&mut self, term: PreparedTerm) -> Expression {
        self.terms.push(term);
        Expression::Term(self.terms.len() - 1)
    }

    /// A key of a map, or an element of a set.
    fn key_term(
        &mut self,
        key: &Term,
        collection: &CqlType,
        name: &str,
        cql_type: CqlType,
    ) -> Result<usize, PlanError> {
        let kind = if matches!(collection, CqlType::Map { .. }) { "key" } else { "value" };
        let receiver = Receiver::new(format!("{kind}({name})"), cql_type);
        let prepared = self.preparer.prepare(key, &receiver)?;
        self.terms.push(prepared);
        Ok(self.terms.len() - 1)
    }

    fn aggregate(
        &mut self,
        aggregate: Aggregate,
        argument: Option<Expression>,
        name: String,
    ) -> Result<Compiled, PlanError> {
        if self.is_in_aggregate {
            return Err(PlanError::invalid(
                "aggregate functions cannot be used as arguments of aggregate functions",
            ));
        }
        let cql_type = aggregate.returns();
        self.aggregates.push(SelectedAggregate { aggregate, argument });
        let expression = Expression::Aggregate(self.aggregates.len() - 1);
        Ok(Compiled { expression, cql_type, name })
    }

    fn function(&mut self, call: &FunctionCall<Selector>) -> Result<Compiled, PlanError> {
        let name = call.function.name.as_str();
        let keyspace = call.function.keyspace.as_ref().map(Name::as_str);
        let is_system = keyspace.is_none_or(|keyspace| keyspace == "system");
        if is_system
            && Aggregate::is_name(name)
            && let [argument] = call.arguments.as_slice()
        {
            let was_in_aggregate = std::mem::replace(&mut self.is_in_aggregate, true);
            let argument = self.compile(argument);
            self.is_in_aggregate = was_in_aggregate;
            let argument = argument?;
            let aggregate = Aggregate::new(name, &argument.cql_type)?;
            let column = format!("system.{name}({})", argument.name);
            return self.aggregate(aggregate, Some(argument.expression), column);
        }
        if is_system && let Some(error) = Aggregate::wrong_count(name, call.arguments.len()) {
            return Err(error);
        }
        if is_system && let Some(compiled) = self.generic_function(name, &call.arguments)? {
            return Ok(compiled);
        }
        let arguments = self.arguments(&call.arguments)?;
        let fits = |argument: &Argument, wanted: &CqlType| match argument {
            Argument::Term(term) => self.preparer.fit(term, wanted),
            Argument::Compiled(compiled) if compiled.cql_type == *wanted => Fit::Exact,
            Argument::Compiled(compiled) if value_compatible(wanted, &compiled.cql_type) => {
                Fit::Weak
            }
            Argument::Compiled(_) => Fit::None,
        };
        let all = overloads(keyspace, name, self.preparer.table);
        if all.is_empty() {
            let name = keyspace.map_or(name.to_owned(), |keyspace| format!("{keyspace}.{name}"));
            return Err(PlanError::invalid(format!("Unknown function '{name}'")));
        }
        let function = choose_overload(name, all, &arguments, fits, argument_text, None)?;
        let mut names = Vec::with_capacity(arguments.len());
        let mut expressions = Vec::with_capacity(arguments.len());
        for (index, argument) in arguments.into_iter().enumerate() {
            let compiled = match argument {
                Argument::Compiled(compiled) => compiled,
                Argument::Term(term) => {
                    let cql_type = function.arguments[index].clone();
                    let receiver =
                        Receiver::new(format!("arg{index}({})", function.name), cql_type.clone());
                    let prepared = self.preparer.prepare(&term, &receiver)?;
                    let name = term_text(&term);
                    Compiled { expression: self.term(prepared), cql_type, name }
                }
            };
            names.push(compiled.name);
            expressions.push(compiled.expression);
        }
        let column = format!("{}({})", function.name, names.join(", "));
        if !function.is_pure() {
            // The present is the same for all rows: it is a term.
            let cql_type = function.returns.clone();
            let call = PreparedTerm::Call(Box::new(Call { function, arguments: Vec::new() }));
            return Ok(Compiled { expression: self.term(call), cql_type, name: column });
        }
        Ok(called(function, expressions, column))
    }

    fn arguments(&mut self, selectors: &[Selector]) -> Result<Vec<Argument>, PlanError> {
        let argument = |selector: &Selector| match &selector.kind {
            SelectorKind::Term(kind) => {
                Ok(Argument::Term(Term { position: selector.position, kind: kind.clone() }))
            }
            _ => self.compile(selector).map(Argument::Compiled),
        };
        selectors.iter().map(argument).collect()
    }

    /// Operands without a type: a number has the smallest of its own kind, a text that of the
    /// other operand.
    fn arithmetic(
        &mut self,
        left: &Selector,
        operator: ArithmeticOperator,
        right: &Selector,
    ) -> Result<Compiled, PlanError> {
        let symbol = crate::plan::arithmetic::symbol(operator);
        let (left, right) = (self.operand(left)?, self.operand(right)?);
        let (left_text, right_text) = (argument_text(&left), argument_text(&right));
        let unsupported = || {
            PlanError::invalid(format!(
                "the '{symbol}' operation is not supported between {left_text} and {right_text}"
            ))
        };
        if [&left, &right].into_iter().any(is_of_any_type) {
            return Err(PlanError::invalid(format!(
                "Ambiguous '{symbol}' operation with args {left_text} and {right_text}: use type \
                 hint to disambiguate, example '(int) ?'"
            )));
        }
        let (left, right) = match (left, right) {
            (Argument::Compiled(left), Argument::Compiled(right)) => (left, right),
            (Argument::Compiled(left), Argument::Term(right)) => {
                let right = self.text_operand(&right, &left.cql_type).ok_or_else(unsupported)?;
                (left, right)
            }
            (Argument::Term(left), Argument::Compiled(right)) => {
                let left = self.text_operand(&left, &right.cql_type).ok_or_else(unsupported)?;
                (left, right)
            }
            (Argument::Term(left), _) => return self.typed_term(&left),
        };
        let name = format!("{} {symbol} {}", left.name, right.name);
        let function =
            Function::arithmetic(operator, left.cql_type.clone(), right.cql_type.clone());
        let function = function.ok_or_else(unsupported)?;
        Ok(called(function, vec![left.expression, right.expression], name))
    }

    fn operand(&mut self, selector: &Selector) -> Result<Argument, PlanError> {
        let SelectorKind::Term(kind @ (TermKind::Literal(_) | TermKind::Marker(_))) =
            &selector.kind
        else {
            return self.compile(selector).map(Argument::Compiled);
        };
        let term = Term { position: selector.position, kind: kind.clone() };
        for cql_type in
            [CqlType::Int, CqlType::BigInt, CqlType::Varint, CqlType::Double, CqlType::Duration]
        {
            if self.preparer.fit(&term, &cql_type) == Fit::Exact {
                return self.term_as(&term, cql_type).map(Argument::Compiled);
            }
        }
        Ok(Argument::Term(term))
    }

    /// A literal beside a text, if it is one too.
    fn text_operand(&mut self, term: &Term, other: &CqlType) -> Option<Compiled> {
        let is_text = matches!(other, CqlType::Ascii | CqlType::Text)
            && matches!(term.kind, TermKind::Literal(Literal::String(_)));
        is_text.then(|| self.term_as(term, CqlType::Text).ok()).flatten()
    }

    /// A term as a value of that type.
    pub(super) fn term_as(
        &mut self,
        term: &Term,
        cql_type: CqlType,
    ) -> Result<Compiled, PlanError> {
        let name = term_text(term);
        let prepared =
            self.preparer.prepare(term, &Receiver::new("[selection]", cql_type.clone()))?;
        Ok(Compiled { expression: self.term(prepared), cql_type, name })
    }

    /// A set or map, and the types of its keys and of what they select.
    fn keyed(&mut self, collection: &Selector) -> Result<(Compiled, CqlType, CqlType), PlanError> {
        let collection = self.compile(collection)?;
        let (key, value) = match &collection.cql_type {
            CqlType::Map { key, value, .. } => ((**key).clone(), (**value).clone()),
            CqlType::Set { element, .. } => ((**element).clone(), (**element).clone()),
            CqlType::List { .. } => {
                return Err(PlanError::invalid(format!(
                    "Element selection is only allowed on sets and maps, but {} is a list",
                    collection.name
                )));
            }
            other => {
                return Err(PlanError::invalid(format!(
                    "Invalid element selection: {} is of type {other} is not a collection",
                    collection.name
                )));
            }
        };
        Ok((collection, key, value))
    }

    fn metadata(
        &mut self,
        function: CellMetadataFunction,
        cell: &Selector,
    ) -> Result<Compiled, PlanError> {
        let function_name = match function {
            CellMetadataFunction::WriteTime => "writetime",
            CellMetadataFunction::MaxWriteTime => "maxwritetime",
            CellMetadataFunction::Ttl => "ttl",
        };
        let (column, part, name) = self.cell(cell, function_name)?;
        let one = match function {
            CellMetadataFunction::Ttl => CqlType::Int,
            _ => CqlType::BigInt,
        };
        let is_list = self.preparer.table.columns[column].cql_type.is_multi_cell()
            && matches!(part, None | Some(Part::Slice { .. }))
            && function != CellMetadataFunction::MaxWriteTime;
        let cql_type =
            if is_list { CqlType::List { element: Arc::new(one), frozen: false } } else { one };
        let expression = Expression::Metadata { function, column, part };
        Ok(Compiled { expression, cql_type, name: format!("{function_name}({name})") })
    }

    /// A column or an element or field of one: its index, the part and its name.
    fn cell(
        &mut self,
        cell: &Selector,
        function: &str,
    ) -> Result<(usize, Option<Part>, String), PlanError> {
        match &cell.kind {
            SelectorKind::Column(name) => {
                let index = column_index(self.preparer.table, name)?;
                let column: &ColumnDef = &self.preparer.table.columns[index];
                if matches!(column.kind, ColumnKind::PartitionKey(_) | ColumnKind::Clustering(_)) {
                    return Err(PlanError::invalid(format!(
                        "Cannot use selection function {function} on PRIMARY KEY part {}",
                        column.name
                    )));
                }
                Ok((index, None, column.name.to_string()))
            }
            SelectorKind::Element { collection, key } => {
                let (column, _, name) = self.cell(collection, function)?;
                let (typed, key_type, _) = self.keyed(collection)?;
                let text = format!("{name}[{}]", term_text(key));
                let key = self.key_term(key, &typed.cql_type, &name, key_type)?;
                let part = typed.cql_type.is_multi_cell().then_some(Part::Element(key));
                Ok((column, part, text))
            }
            SelectorKind::Field { value, field } => {
                let (column, _, name) = self.cell(value, function)?;
                let cql_type = &self.preparer.table.columns[column].cql_type;
                let (index, _) = field_of(cql_type, &name, field)?;
                let part = cql_type.is_multi_cell().then_some(Part::Field(index as u16));
                Ok((column, part, format!("{name}.{}", field.as_str())))
            }
            SelectorKind::Slice { collection, from, to } => {
                let (column, _, name) = self.cell(collection, function)?;
                let (typed, key_type, _) = self.keyed(collection)?;
                let text = |term: &Option<Term>| term.as_ref().map(term_text).unwrap_or_default();
                let name_of_slice = format!("{name}[{}..{}]", text(from), text(to));
                let mut key = |term: &Option<Term>| {
                    let prepare =
                        |term| self.key_term(term, &typed.cql_type, &name, key_type.clone());
                    term.as_ref().map(prepare).transpose()
                };
                let part = Part::Slice { from: key(from)?, to: key(to)? };
                let part = typed.cql_type.is_multi_cell().then_some(part);
                Ok((column, part, name_of_slice))
            }
            _ => Err(PlanError::invalid(format!("{function} takes a column or a part of one"))),
        }
    }
}

fn argument_text(argument: &Argument) -> String {
    match argument {
        Argument::Term(term) => term_text(term),
        Argument::Compiled(compiled) => compiled.name.clone(),
    }
}

/// Null and markers are whatever they are asked to be.
fn is_of_any_type(operand: &Argument) -> bool {
    let Argument::Term(term) = operand else { return false };
    matches!(term.kind, TermKind::Marker(_) | TermKind::Literal(Literal::Null))
}

fn called(function: Arc<Function>, arguments: Vec<Expression>, name: String) -> Compiled {
    let cql_type = function.returns.clone();
    Compiled { expression: Expression::Call { function, arguments }, cql_type, name }
}

fn field_of(cql_type: &CqlType, name: &str, field: &Name) -> Result<(usize, CqlType), PlanError> {
    let CqlType::Udt(udt) = cql_type else {
        return Err(PlanError::invalid(format!(
            "Invalid field selection: {name} of type {cql_type} is not a user type"
        )));
    };
    let position = udt.fields.iter().position(|(known, _)| **known == *field.text);
    let index = position.ok_or_else(|| {
        PlanError::invalid(format!("{name} of type {cql_type} has no field {}", field.as_str()))
    })?;
    Ok((index, udt.fields[index].1.clone()))
}
