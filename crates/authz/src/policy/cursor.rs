//! A JSON value with its place in the text, for errors. Objects are read strictly: no unknown field, no repeated field,
//! no `null`.

use std::collections::HashMap;

use crate::policy::invalid::{InvalidPolicy, PolicyFault};
use crate::policy::json::{JsonValue, Node};

pub(crate) type Parsed<T> = Result<T, InvalidPolicy>;

/// A value and its place.
pub(crate) struct At<'a> {
    pub(crate) node: &'a Node,
    pub(crate) pointer: String,
}

pub(crate) type Fields<'a> = HashMap<&'a str, At<'a>>;

impl<'a> At<'a> {
    pub(crate) fn fault(&self, fault: PolicyFault) -> InvalidPolicy {
        InvalidPolicy {
            pointer: self.pointer.clone(),
            line: self.node.line,
            fault,
        }
    }

    fn wrong_type(&self, expected: &'static str) -> InvalidPolicy {
        self.fault(PolicyFault::WrongType {
            expected,
            found: self.node.value.kind(),
        })
    }

    fn step(&self, step: &str, node: &'a Node) -> Self {
        let step = step.replace('~', "~0").replace('/', "~1");
        Self {
            node,
            pointer: format!("{}/{step}", self.pointer),
        }
    }

    /// The fields of an object, each known and there once.
    pub(crate) fn fields(&self, known: &'static [&'static str]) -> Parsed<Fields<'a>> {
        let fields = self.unique_fields()?;
        match self
            .entries()?
            .iter()
            .find(|(key, _)| !known.contains(&key.as_str()))
        {
            Some((key, field)) => Err(self.step(key, field).fault(PolicyFault::UnknownField {
                field: key.clone(),
                known,
            })),
            None => Ok(fields),
        }
    }

    fn unique_fields(&self) -> Parsed<Fields<'a>> {
        let mut fields = HashMap::new();
        for (key, field) in self.entries()? {
            let field = self.step(key, field);
            if fields.contains_key(key.as_str()) {
                return Err(field.fault(PolicyFault::DuplicateField(key.clone())));
            }
            fields.insert(key.as_str(), field);
        }
        Ok(fields)
    }

    fn entries(&self) -> Parsed<&'a [(String, Node)]> {
        let JsonValue::Object(entries) = &self.node.value else {
            return Err(self.wrong_type("an object"));
        };
        Ok(entries)
    }

    pub(crate) fn items(&self) -> Parsed<Vec<Self>> {
        let JsonValue::Array(items) = &self.node.value else {
            return Err(self.wrong_type("an array"));
        };
        let items = items.iter().enumerate();
        Ok(items
            .map(|(at, item)| self.step(&at.to_string(), item))
            .collect())
    }

    pub(crate) fn items_or_note(&self, empty_lists: &mut Vec<(String, u32)>) -> Parsed<Vec<Self>> {
        let items = self.items()?;
        if items.is_empty() {
            empty_lists.push((self.pointer.clone(), self.node.line));
        }
        Ok(items)
    }

    pub(crate) fn string(&self) -> Parsed<&'a str> {
        let JsonValue::String(text) = &self.node.value else {
            return Err(self.wrong_type("a string"));
        };
        Ok(text)
    }

    pub(crate) fn boolean(&self) -> Parsed<bool> {
        let JsonValue::Bool(value) = &self.node.value else {
            return Err(self.wrong_type("a boolean"));
        };
        Ok(*value)
    }

    /// A required name of this object.
    pub(crate) fn name(&self, fields: &Fields<'a>, field: &'static str) -> Parsed<Box<str>> {
        match fields.get(field).map(Self::string).transpose()? {
            Some(name) if !name.is_empty() => Ok(name.into()),
            Some(_) | None => Err(self.fault(PolicyFault::Missing(field))),
        }
    }

    /// An object of any fields, none of them twice at any depth.
    pub(crate) fn json_object(&self) -> Parsed<serde_json::Map<String, serde_json::Value>> {
        let fields = self.unique_fields()?;
        fields.values().try_for_each(Self::refuse_duplicates)?;
        Ok(fields
            .into_iter()
            .map(|(key, at)| (key.to_owned(), at.node.into()))
            .collect())
    }

    fn refuse_duplicates(&self) -> Parsed<()> {
        match &self.node.value {
            JsonValue::Object(_) => self
                .unique_fields()?
                .values()
                .try_for_each(Self::refuse_duplicates),
            JsonValue::Array(_) => self.items()?.iter().try_for_each(Self::refuse_duplicates),
            JsonValue::Null | JsonValue::Bool(_) | JsonValue::Number(_) | JsonValue::String(_) => {
                Ok(())
            }
        }
    }
}
