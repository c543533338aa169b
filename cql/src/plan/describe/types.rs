//! User-defined types in an order in which they can be made.

use model::{CqlType, KeyspaceDef, UserType};
use std::collections::BTreeSet;

/// The types of a keyspace by name, each behind those that it uses.
pub(super) fn in_dependency_order(keyspace: &KeyspaceDef) -> Vec<&UserType> {
    let mut order = Order { keyspace, seen: BTreeSet::new(), types: Vec::new() };
    for name in keyspace.types.keys() {
        order.place(name);
    }
    order.types
}

struct Order<'s> {
    keyspace: &'s KeyspaceDef,
    seen: BTreeSet<&'s str>,
    types: Vec<&'s UserType>,
}

impl Order<'_> {
    /// Places a type that is not placed yet behind those that it uses. As deep as types are nested,
    /// which their definition bounds.
    fn place(&mut self, name: &str) {
        let Some(user_type) = self.keyspace.types.get(name) else { return };
        if !self.seen.insert(&user_type.name) {
            return;
        }
        for (_, cql_type) in &user_type.fields {
            self.place_used_by(cql_type);
        }
        self.types.push(user_type);
    }

    fn place_used_by(&mut self, cql_type: &CqlType) {
        match cql_type {
            CqlType::List { element, .. }
            | CqlType::Set { element, .. }
            | CqlType::Vector { element, .. } => self.place_used_by(element),
            CqlType::Map { key, value, .. } => {
                self.place_used_by(key);
                self.place_used_by(value);
            }
            CqlType::Tuple(fields) => fields.iter().for_each(|field| self.place_used_by(field)),
            CqlType::Udt(udt) => self.place(&udt.name),
            _ => {}
        }
    }
}
