//! Collections, tuples and user types put together from what a row has: `[a, b]`, `{a: b}`,
//! `(a, b)`, `(map<text, int>) {'a': b}`.
//!
//! Their type is that of a hint in front, else that of their parts; a literal among the parts
//! takes the type of the others. Terms alone are no business of this file: they are one term.

use super::selection::{Compiled, Compiler};
use super::selector::Expression;
use crate::plan::error::PlanError;
use crate::plan::term_preparer::{Fit, value_compatible};
use crate::plan::term_text::term_text;
use crate::plan::type_name::resolve_type;
use crate::syntax::ast::{Selector, SelectorKind, Term};
use model::CqlType;
use model::value::{fixed_bytes_in_vector, push_value};
use std::borrow::Cow;
use std::sync::Arc;

impl Compiler<'_, '_, '_> {
    /// A composite selector, or one with a hint; of the type `wanted`, if that is known.
    pub(super) fn composite(
        &mut self,
        selector: &Selector,
        wanted: Option<&CqlType>,
    ) -> Result<Compiled, PlanError> {
        match &selector.kind {
            SelectorKind::Hint { type_name, selector } => {
                let keyspace = &self.preparer.table.keyspace;
                let hinted = resolve_type(self.preparer.schema, keyspace, type_name)?.freeze();
                let value = self.compile_as(selector, &hinted)?;
                let name = format!("({type_name}){}", value.name);
                if !value_compatible(&hinted, &value.cql_type) {
                    return Err(PlanError::invalid(format!(
                        "Cannot assign value {name} to {name} of type {hinted}"
                    )));
                }
                Ok(Compiled { name, cql_type: hinted, ..value })
            }
            SelectorKind::List(items) | SelectorKind::Set(items) => {
                let is_list = matches!(selector.kind, SelectorKind::List(_));
                self.list_or_set(items, is_list, wanted)
            }
            SelectorKind::Map(entries) => self.map_or_user_type(entries, wanted),
            SelectorKind::Tuple(items) => self.tuple(items, wanted),
            _ => self.compile(selector),
        }
    }

    fn compile_as(&mut self, selector: &Selector, wanted: &CqlType) -> Result<Compiled, PlanError> {
        match &selector.kind {
            SelectorKind::Term(kind) => {
                let term = Term { position: selector.position, kind: kind.clone() };
                if self.preparer.fit(&term, wanted) == Fit::None {
                    let name = term_text(&term);
                    return Err(wrong_part(&name, &name, wanted));
                }
                self.term_as(&term, wanted.clone())
            }
            _ => self.composite(selector, Some(wanted)),
        }
    }

    /// A part of a composite value: of the type of its place, or of its own.
    fn part(&mut self, part: &Selector, wanted: &CqlType) -> Result<Compiled, PlanError> {
        let compiled = self.compile_as(part, wanted)?;
        if !value_compatible(wanted, &compiled.cql_type) {
            return Err(wrong_part(&compiled.name, &compiled.name, wanted));
        }
        Ok(compiled)
    }

    fn list_or_set(
        &mut self,
        items: &[Selector],
        is_list: bool,
        wanted: Option<&CqlType>,
    ) -> Result<Compiled, PlanError> {
        let element = match (wanted, is_list) {
            (Some(CqlType::List { element, .. }), true) => Some((**element).clone()),
            (Some(CqlType::Set { element, .. }), false) => Some((**element).clone()),
            (Some(CqlType::Vector { element, dimension }), true)
                if usize::from(*dimension) == items.len() =>
            {
                Some((**element).clone())
            }
            (Some(other), _) => {
                let kind = if is_list { "list" } else { "set" };
                let name = self.name_of(items)?;
                return Err(PlanError::invalid(format!(
                    "Invalid {kind} literal for {name} of type {other}"
                )));
            }
            (None, _) => None,
        };
        let (element, parts) = match element {
            Some(element) => {
                let parts = items.iter().map(|item| self.part(item, &element));
                let parts = parts.collect::<Result<Vec<_>, _>>()?;
                (element, parts)
            }
            None => self.like_the_first(items)?,
        };
        let name = joined(&parts);
        let name = if is_list { format!("[{name}]") } else { format!("{{{name}}}") };
        let element = Arc::new(element.freeze());
        let cql_type = match (wanted, is_list) {
            (Some(wanted), _) => wanted.clone(),
            (None, true) => CqlType::List { element, frozen: true },
            (None, false) => CqlType::Set { element, frozen: true },
        };
        Ok(of_parts(cql_type, parts, name))
    }

    /// Items that all have the type of the first one that has any. Each is compiled once, or the
    /// work would double with every level.
    fn like_the_first(
        &mut self,
        items: &[Selector],
    ) -> Result<(CqlType, Vec<Compiled>), PlanError> {
        let is_typed = |item: &Selector| !matches!(item.kind, SelectorKind::Term(_));
        let Some(first) = items.iter().position(is_typed) else {
            return Err(no_type(&self.name_of(items)?));
        };
        let typed = self.composite(&items[first], None)?;
        let cql_type = typed.cql_type.clone();
        let before = items[..first].iter().map(|item| self.part(item, &cql_type));
        let mut parts = before.collect::<Result<Vec<_>, _>>()?;
        parts.push(typed);
        for item in &items[first + 1..] {
            parts.push(self.part(item, &cql_type)?);
        }
        Ok((cql_type, parts))
    }

    /// The items as they were written, for an error.
    fn name_of(&mut self, items: &[Selector]) -> Result<String, PlanError> {
        let mut names = Vec::with_capacity(items.len());
        for item in items {
            names.push(match &item.kind {
                SelectorKind::Term(kind) => {
                    term_text(&Term { position: item.position, kind: kind.clone() })
                }
                _ => self.composite(item, None)?.name,
            });
        }
        Ok(names.join(", "))
    }

    fn map_or_user_type(
        &mut self,
        entries: &[(Selector, Selector)],
        wanted: Option<&CqlType>,
    ) -> Result<Compiled, PlanError> {
        match wanted {
            Some(cql_type @ CqlType::Map { key, value, .. }) => {
                let mut parts = Vec::with_capacity(entries.len() * 2);
                let mut names = Vec::with_capacity(entries.len());
                for (entry_key, entry_value) in entries {
                    let entry = [self.part(entry_key, key)?, self.part(entry_value, value)?];
                    names.push(format!("{}: {}", entry[0].name, entry[1].name));
                    parts.extend(entry);
                }
                let name = format!("{{{}}}", names.join(", "));
                Ok(of_parts(cql_type.clone(), parts, name))
            }
            Some(cql_type @ CqlType::Udt(udt)) => {
                let null = || Compiled {
                    expression: Expression::Null,
                    cql_type: CqlType::Blob,
                    name: String::new(),
                };
                let mut parts: Vec<_> = udt.fields.iter().map(|_| null()).collect();
                let mut names = Vec::with_capacity(entries.len());
                for (field, value) in entries {
                    let SelectorKind::Column(field) = &field.kind else {
                        return Err(PlanError::invalid(format!(
                            "Invalid user type literal of type {cql_type}"
                        )));
                    };
                    let at = udt.fields.iter().position(|(name, _)| **name == *field.text);
                    let at = at.ok_or_else(|| {
                        PlanError::invalid(format!(
                            "Unknown field '{}' in value of user defined type {}",
                            field.as_str(),
                            udt.name
                        ))
                    })?;
                    parts[at] = self.part(value, &udt.fields[at].1)?;
                    names.push(format!("{}: {}", field.as_str(), parts[at].name));
                }
                let name = format!("{{{}}}", names.join(", "));
                Ok(of_parts(cql_type.clone(), parts, name))
            }
            // Names for keys could be columns as well as fields.
            _ => {
                let mut names = Vec::with_capacity(entries.len());
                for (key, value) in entries {
                    let key = self.name_of(std::slice::from_ref(key))?;
                    names.push(format!("{key}: {}", self.name_of(std::slice::from_ref(value))?));
                }
                Err(no_type(&format!("{{{}}}", names.join(", "))))
            }
        }
    }

    fn tuple(
        &mut self,
        items: &[Selector],
        wanted: Option<&CqlType>,
    ) -> Result<Compiled, PlanError> {
        let (cql_type, parts) = match wanted {
            Some(CqlType::Tuple(fields)) if fields.len() >= items.len() => {
                let parts = items.iter().zip(fields.iter()).map(|(i, field)| self.part(i, field));
                (wanted.cloned(), parts.collect::<Result<Vec<_>, _>>()?)
            }
            _ => {
                let untyped = |item: &Selector| matches!(item.kind, SelectorKind::Term(_));
                if wanted.is_some() || items.iter().any(untyped) {
                    return Err(no_type(&format!("({})", self.name_of(items)?)));
                }
                let parts = items.iter().map(|item| self.composite(item, None));
                (None, parts.collect::<Result<Vec<_>, _>>()?)
            }
        };
        let name = format!("({})", joined(&parts));
        let cql_type = cql_type.unwrap_or_else(|| {
            let fields: Vec<CqlType> = parts.iter().map(|part| part.cql_type.clone()).collect();
            CqlType::Tuple(fields.into()).freeze()
        });
        Ok(of_parts(cql_type, parts, name))
    }
}

fn of_parts(cql_type: CqlType, parts: Vec<Compiled>, name: String) -> Compiled {
    let parts = parts.into_iter().map(|part| part.expression).collect();
    let expression = Expression::Composite { cql_type: cql_type.clone(), parts };
    Compiled { expression, cql_type, name }
}

fn joined(parts: &[Compiled]) -> String {
    parts.iter().map(|part| part.name.as_str()).collect::<Vec<_>>().join(", ")
}

fn no_type(name: &str) -> PlanError {
    PlanError::invalid(format!(
        "Cannot infer type for term {name} in selection clause (try using a cast to force a type)"
    ))
}

fn wrong_part(value: &str, receiver: &str, wanted: &CqlType) -> PlanError {
    PlanError::invalid(format!("Cannot assign value {value} to {receiver} of type {wanted}"))
}

/// The serialized value of that type. Unlike in a stored collection a list's elements and a map's
/// values may be null, as they may be in the row.
pub(super) fn build(cql_type: &CqlType, parts: &[Option<Cow<[u8]>>]) -> Result<Vec<u8>, PlanError> {
    let no_null = |part: &Option<Cow<[u8]>>, what: &str| match part {
        Some(bytes) => Ok(bytes.to_vec()),
        None => Err(PlanError::invalid(format!("null is not supported inside {what}"))),
    };
    let mut out = Vec::new();
    let count = |out: &mut Vec<u8>, count: usize| {
        let count = i32::try_from(count).expect("a statement has fewer selectors");
        out.extend_from_slice(&count.to_be_bytes());
    };
    match cql_type {
        CqlType::Set { element, .. } => {
            let elements = parts.iter().map(|part| no_null(part, "collections"));
            let mut elements = elements.collect::<Result<Vec<_>, _>>()?;
            elements.sort_by(|a, b| model::value::compare_values(element, a, b));
            elements.dedup();
            count(&mut out, elements.len());
            for bytes in &elements {
                push_value(&mut out, Some(bytes));
            }
        }
        CqlType::Map { key, .. } => {
            let mut entries: Vec<(Vec<u8>, Option<&[u8]>)> = Vec::with_capacity(parts.len() / 2);
            for entry in parts.chunks_exact(2) {
                entries.push((no_null(&entry[0], "collections")?, entry[1].as_deref()));
            }
            // Of equal keys the last one counts.
            entries.reverse();
            entries.sort_by(|(a, _), (b, _)| model::value::compare_values(key, a, b));
            entries.dedup_by(|(a, _), (b, _)| a == b);
            count(&mut out, entries.len());
            for (key, value) in &entries {
                push_value(&mut out, Some(key));
                push_value(&mut out, *value);
            }
        }
        CqlType::Vector { element, .. } => {
            for part in parts {
                let bytes = no_null(part, "vectors")?;
                if fixed_bytes_in_vector(element).is_none() {
                    crate::plan::composite::put_vector_length(&mut out, bytes.len());
                }
                out.extend_from_slice(&bytes);
            }
        }
        _ => {
            if matches!(cql_type, CqlType::List { .. }) {
                count(&mut out, parts.len());
            }
            for part in parts {
                push_value(&mut out, part.as_deref());
            }
        }
    }
    Ok(out)
}
