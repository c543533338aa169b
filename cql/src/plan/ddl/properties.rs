//! The properties of a WITH clause, taken one by one; what nobody takes is unknown.

use super::super::PlanError;
use super::errors::syntax;
use crate::syntax::ast::{Property, PropertyValue};
use std::collections::BTreeMap;

/// The properties of a statement that are not taken yet.
pub(super) struct Properties<'a> {
    remaining: Vec<&'a Property>,
}

impl<'a> Properties<'a> {
    /// Properties, each name once (the parser sees to that).
    pub(super) fn new(properties: &'a [Property]) -> Self {
        Properties { remaining: properties.iter().collect() }
    }

    /// The value of that name, whatever it is.
    pub(super) fn take(&mut self, name: &str) -> Option<&'a PropertyValue> {
        let at = self.remaining.iter().position(|p| p.name.as_str() == name)?;
        Some(&self.remaining.remove(at).value)
    }

    /// The text of that name.
    pub(super) fn take_text(&mut self, name: &str) -> Result<Option<&'a str>, PlanError> {
        match self.take(name) {
            None => Ok(None),
            Some(PropertyValue::Text(text)) => Ok(Some(text)),
            Some(PropertyValue::Map(_)) => {
                Err(syntax(format!("Invalid value for property '{name}'. It should be a string")))
            }
        }
    }

    /// The map of that name; of equal keys the last one counts.
    pub(super) fn take_map(
        &mut self,
        name: &str,
    ) -> Result<Option<BTreeMap<String, String>>, PlanError> {
        match self.take(name) {
            None => Ok(None),
            Some(PropertyValue::Map(entries)) => Ok(Some(entries.iter().cloned().collect())),
            Some(PropertyValue::Text(_)) => {
                Err(syntax(format!("Invalid value for property '{name}'. It should be a map.")))
            }
        }
    }

    /// The boolean of that name.
    pub(super) fn take_boolean(&mut self, name: &str) -> Result<Option<bool>, PlanError> {
        let Some(text) = self.take_text(name)? else { return Ok(None) };
        match text.to_ascii_lowercase().as_str() {
            "1" | "true" | "yes" => Ok(Some(true)),
            "0" | "false" | "no" => Ok(Some(false)),
            _ => Err(syntax(format!(
                "Invalid boolean value {text} for '{name}'. Positive values can be '1', 'true' or \
                 'yes'. Negative values can be '0', 'false' or 'no'."
            ))),
        }
    }

    /// The integer of that name.
    pub(super) fn take_integer(&mut self, name: &str) -> Result<Option<i32>, PlanError> {
        self.take_parsed(name, "integer")
    }

    /// The number of that name.
    pub(super) fn take_double(&mut self, name: &str) -> Result<Option<f64>, PlanError> {
        self.take_parsed(name, "double")
    }

    fn take_parsed<T: std::str::FromStr>(
        &mut self,
        name: &str,
        what: &str,
    ) -> Result<Option<T>, PlanError> {
        let Some(text) = self.take_text(name)? else { return Ok(None) };
        let value = text.parse();
        value.map(Some).map_err(|_| syntax(format!("Invalid {what} value {text} for '{name}'")))
    }

    /// Errors when a property is left, which is then one that nobody knows.
    pub(super) fn finish(self) -> Result<(), PlanError> {
        match self.remaining.first() {
            None => Ok(()),
            Some(property) => Err(syntax(format!("Unknown property '{}'", property.name.as_str()))),
        }
    }
}
