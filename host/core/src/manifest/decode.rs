//! From a tree to an API object, noting every mistake instead of ending at the first.
//!
//! A value of the wrong type is noted and taken as empty; a field that the type does not have is noted and passed over. What
//! a type itself refuses (a timestamp, say) ends one attempt: the value is noted, taken out, and the rest is tried again.

use std::cell::RefCell;
use std::fmt;

use serde::de::{self, DeserializeOwned, Deserializer, IntoDeserializer, Visitor};

use super::tree::{Node, Value};

/// A mistake at a path of the document.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Mistake {
    pub(super) path: String,
    pub(super) message: String,
}

/// More than anybody reads.
const MAX_ATTEMPTS: usize = 64;

/// The object as far as it could be read, and all mistakes. None if nothing could be read at all.
pub(super) fn decode<T: DeserializeOwned>(mut root: Node) -> (Option<T>, Vec<Mistake>) {
    let mut refused = Vec::new();
    loop {
        let noted = RefCell::new(Vec::new());
        let result = T::deserialize(Decoder {
            node: &root,
            path: Path::Root,
            noted: &noted,
        });
        let mut noted = noted.into_inner();
        match result {
            Ok(object) => {
                noted.append(&mut refused);
                return (Some(object), noted);
            }
            Err(error) => {
                let path = error.path.unwrap_or_default();
                let again = refused.len() < MAX_ATTEMPTS && root.remove(&path);
                refused.push(Mistake {
                    path,
                    message: error.message,
                });
                if !again {
                    noted.append(&mut refused);
                    return (None, noted);
                }
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Path<'a> {
    Root,
    Key(&'a Path<'a>, &'a str),
    Index(&'a Path<'a>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Key(Self::Root, key) => f.write_str(key),
            // As the API server writes keys that are no field names.
            Self::Key(parent, key) if key.contains('.') => write!(f, "{parent}[{key}]"),
            Self::Key(parent, key) => write!(f, "{parent}.{key}"),
            Self::Index(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

#[derive(Debug)]
struct Refused {
    path: Option<String>,
    message: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Refused {}

impl de::Error for Refused {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self {
            path: None,
            message: message.to_string(),
        }
    }
}

#[derive(Clone, Copy)]
struct Decoder<'a> {
    node: &'a Node,
    path: Path<'a>,
    noted: &'a RefCell<Vec<Mistake>>,
}

impl Decoder<'_> {
    fn note(&self, message: String) {
        self.noted.borrow_mut().push(Mistake {
            path: self.path.to_string(),
            message,
        });
    }

    fn expected(&self, what: &str) {
        let found = match &self.node.value {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Int(_) | Value::UInt(_) | Value::Float(_) => "a number",
            Value::Str(_) => "a string",
            Value::Seq(_) => "a list",
            Value::Map(_) => "a map",
        };
        self.note(format!("expected {what}, found {found}"));
    }

    fn integer(&self, low: i64, high: u64, what: &str) -> Option<i128> {
        let number = match &self.node.value {
            Value::Null => return None,
            Value::Int(i) => i128::from(*i),
            Value::UInt(u) => i128::from(*u),
            // `1.0` is a whole number in JSON.
            Value::Float(x) if x.fract() == 0.0 && x.abs() < 9e15 => *x as i128,
            _ => {
                self.expected(what);
                return None;
            }
        };
        if number < i128::from(low) || number > i128::from(high) {
            self.note(format!("{number} is not {what}"));
            return None;
        }
        Some(number)
    }
}

macro_rules! integers {
    ($($method:ident $visit:ident $type:ty, $what:literal;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
            let number = self.integer(<$type>::MIN as i64, <$type>::MAX as u64, $what);
            // `integer` checked the range.
            visitor.$visit(number.map_or(0, |n| n as $type))
        }
    )*};
}

impl<'de> Deserializer<'de> for Decoder<'_> {
    type Error = Refused;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        match &self.node.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(b) => visitor.visit_bool(*b),
            Value::Int(i) => visitor.visit_i64(*i),
            Value::UInt(u) => visitor.visit_u64(*u),
            Value::Float(x) => visitor.visit_f64(*x),
            Value::Str(s) => visitor.visit_str(s),
            Value::Seq(_) => self.deserialize_seq(visitor),
            Value::Map(_) => self.deserialize_map(visitor),
        }
        .map_err(|e| e.at(self.path))
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        let value = match &self.node.value {
            Value::Null => false,
            Value::Bool(b) => *b,
            // YAML 1.1, which Kubernetes reads.
            Value::Str(s) if matches!(s.as_str(), "yes" | "Yes" | "YES" | "on" | "On" | "ON") => true,
            Value::Str(s) if matches!(s.as_str(), "no" | "No" | "NO" | "off" | "Off" | "OFF") => false,
            _ => {
                self.expected("a boolean");
                false
            }
        };
        visitor.visit_bool(value)
    }

    integers! {
        deserialize_i8 visit_i8 i8, "an 8-bit integer";
        deserialize_i16 visit_i16 i16, "a 16-bit integer";
        deserialize_i32 visit_i32 i32, "a 32-bit integer";
        deserialize_i64 visit_i64 i64, "a 64-bit integer";
        deserialize_u8 visit_u8 u8, "an unsigned 8-bit integer";
        deserialize_u16 visit_u16 u16, "an unsigned 16-bit integer";
        deserialize_u32 visit_u32 u32, "an unsigned 32-bit integer";
        deserialize_u64 visit_u64 u64, "an unsigned 64-bit integer";
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        let value = match &self.node.value {
            Value::Null => 0.0,
            Value::Int(i) => *i as f64,
            Value::UInt(u) => *u as f64,
            Value::Float(x) => *x,
            _ => {
                self.expected("a number");
                0.0
            }
        };
        visitor.visit_f64(value)
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.deserialize_str(visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        let text = match &self.node.value {
            Value::Str(s) => s,
            // JSON null leaves a Go string empty.
            Value::Null => "",
            _ => {
                self.expected("a string");
                ""
            }
        };
        visitor.visit_str(text).map_err(|e: Refused| e.at(self.path))
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.deserialize_str(visitor)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        match &self.node.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        let items: &[Node] = match &self.node.value {
            Value::Seq(items) => items,
            Value::Null => &[],
            _ => {
                self.expected("a list");
                &[]
            }
        };
        visitor.visit_seq(Items {
            of: self,
            items: items.iter().enumerate(),
        })
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Refused> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        let entries: &[(String, Node)] = match &self.node.value {
            Value::Map(entries) => entries,
            Value::Null => &[],
            _ => {
                self.expected("a map");
                &[]
            }
        };
        visitor.visit_map(Entries {
            of: self,
            entries: entries.iter(),
            value: None,
        })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        match &self.node.value {
            Value::Str(s) => visitor.visit_enum(s.as_str().into_deserializer()),
            _ => Err(Refused {
                path: Some(self.path.to_string()),
                message: "expected a string".into(),
            }),
        }
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.deserialize_str(visitor)
    }

    /// Generated types pass over the fields that they do not know by this, and use it for nothing else.
    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.note("unknown field".into());
        visitor.visit_unit()
    }
}

impl Refused {
    /// The innermost place wins: it is where the error arose.
    fn at(mut self, path: Path<'_>) -> Self {
        self.path.get_or_insert_with(|| path.to_string());
        self
    }
}

struct Items<'a> {
    of: Decoder<'a>,
    items: std::iter::Enumerate<std::slice::Iter<'a, Node>>,
}

impl<'de> de::SeqAccess<'de> for Items<'_> {
    type Error = Refused;

    fn next_element_seed<T: de::DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Refused> {
        let Some((index, node)) = self.items.next() else {
            return Ok(None);
        };
        let path = Path::Index(&self.of.path, index);
        seed.deserialize(Decoder {
            node,
            path,
            noted: self.of.noted,
        })
        .map(Some)
        .map_err(|e| e.at(path))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

struct Entries<'a> {
    of: Decoder<'a>,
    entries: std::slice::Iter<'a, (String, Node)>,
    value: Option<(&'a str, &'a Node)>,
}

impl<'de> de::MapAccess<'de> for Entries<'_> {
    type Error = Refused;

    fn next_key_seed<K: de::DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Refused> {
        let Some((key, node)) = self.entries.next() else {
            return Ok(None);
        };
        self.value = Some((key, node));
        seed.deserialize(key.as_str().into_deserializer()).map(Some)
    }

    fn next_value_seed<V: de::DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Refused> {
        let Some((key, node)) = self.value.take() else {
            return Err(de::Error::custom("a value was asked for before its key"));
        };
        let path = Path::Key(&self.of.path, key);
        seed.deserialize(Decoder {
            node,
            path,
            noted: self.of.noted,
        })
        .map_err(|e| e.at(path))
    }
}
