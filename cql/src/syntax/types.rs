//! Type names.

use super::ast::{QualifiedName, TypeName};
use super::lexer::TokenKind;
use super::parser::{Parsed, Parser, unquote};
use model::CqlType;

impl Parser<'_> {
    /// A type, for example `map<text, frozen<list<int>>>`.
    pub(super) fn type_name(&mut self) -> Parsed<TypeName> {
        self.nested(Self::type_name_inner)
    }

    fn type_name_inner(&mut self) -> Parsed<TypeName> {
        if self.at(TokenKind::QuotedString) {
            let (class, position) = (unquote(self.text(), "'"), self.position());
            self.advance()?;
            return Ok(TypeName::Custom { class, position });
        }
        // `set` is reserved, yet a type; the others could be names of user types.
        if self.at(TokenKind::Word) && self.peek()?.0 == TokenKind::Less {
            return self.parameterised_type();
        }
        let unquoted = self.at(TokenKind::Word);
        let first = self.name("a type")?;
        if self.accept(TokenKind::Dot)? {
            let name = self.name("a type")?;
            return Ok(TypeName::User(QualifiedName { keyspace: Some(first), name }));
        }
        match CqlType::native_from_name(first.as_str()) {
            Some(native) if unquoted => Ok(TypeName::Native(native)),
            _ => Ok(TypeName::User(QualifiedName { keyspace: None, name: first })),
        }
    }

    fn parameterised_type(&mut self) -> Parsed<TypeName> {
        let word = self.text();
        if !PARAMETERISED.iter().any(|known| known.eq_ignore_ascii_case(word)) {
            return Err(self.unexpected_instead_of("list, set, map, frozen, tuple or vector"));
        }
        let name = self.any_word_as_name()?;
        self.expect(TokenKind::Less)?;
        let parsed = match name.as_str() {
            "list" => TypeName::List(Box::new(self.type_name()?)),
            "set" => TypeName::Set(Box::new(self.type_name()?)),
            "frozen" => TypeName::Frozen(Box::new(self.type_name()?)),
            "tuple" => TypeName::Tuple(self.comma_separated(Self::type_name)?),
            "map" => {
                let key = self.type_name()?;
                self.expect(TokenKind::Comma)?;
                TypeName::Map(Box::new(key), Box::new(self.type_name()?))
            }
            _ => {
                let element = Box::new(self.type_name()?);
                self.expect(TokenKind::Comma)?;
                TypeName::Vector { element, dimension: self.dimension()? }
            }
        };
        self.expect(TokenKind::Greater)?;
        Ok(parsed)
    }

    fn dimension(&mut self) -> Parsed<u32> {
        if !self.at(TokenKind::Integer) {
            return Err(self.unexpected_instead_of("the vector's dimension"));
        }
        let dimension = self.text().parse();
        let dimension =
            dimension.map_err(|_| self.invalid("the vector's dimension is too large"))?;
        self.advance()?;
        Ok(dimension)
    }
}

/// Types that are written with others in angle brackets.
const PARAMETERISED: &[&str] = &["list", "set", "map", "frozen", "tuple", "vector"];
