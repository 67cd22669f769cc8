//! JSON of strangers: how deep, how many, and `null` where something may be missing.

use super::ANNOTATIONS;
use crate::image::limits::{DOCUMENT_MAX, JSON_DEPTH_MAX};
use crate::sys::Error;
use serde::de::{DeserializeOwned, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, de};
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

/// Reads a document about `object`; `what` is what it should be.
pub(super) fn read<T: DeserializeOwned>(object: &str, what: &str, bytes: &[u8]) -> Result<T, Error> {
    if bytes.len() as u64 > DOCUMENT_MAX {
        return Err(Error::refused(object, format!("its {what} is larger than {DOCUMENT_MAX} bytes")));
    }
    if depth(bytes) > JSON_DEPTH_MAX {
        return Err(Error::refused(object, format!("its {what} nests deeper than {JSON_DEPTH_MAX} levels")));
    }
    serde_json::from_slice(bytes)
        .map_err(|e| Error::refused(object, format!("its {what} is damaged: {}", short(&e.to_string()))))
}

/// Printable and of bounded length: what a stranger has written, for a message.
pub(super) fn short(text: &str) -> String {
    let mut out: String = text.chars().take(160).map(|c| if c.is_control() { '?' } else { c }).collect();
    if out.len() < text.len() {
        out.push('…');
    }
    out
}

/// How deep brackets and braces nest, at most.
fn depth(bytes: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let mut rest = bytes.iter();
    while let Some(byte) = rest.next() {
        match byte {
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' => {
                while let Some(byte) = rest.next() {
                    match byte {
                        b'\\' => drop(rest.next()),
                        b'"' => break,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    deepest
}

/// `null`, which Go writes for what is empty, is the default.
pub(super) fn nullable<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// At most `N` elements; `null` is none. It ends at the first that is too many, not after the last.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Few<T, const N: usize>(pub Vec<T>);

impl<T, const N: usize> Default for Few<T, N> {
    fn default() -> Self {
        Few(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>, const N: usize> Deserialize<'de> for Few<T, N> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Elements<T, const N: usize>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>, const N: usize> Visitor<'de> for Elements<T, N> {
            type Value = Few<T, N>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "an array of at most {N} elements")
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Few(Vec::new()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Self::Value, A::Error> {
                let mut all = Vec::new();
                while let Some(one) = from.next_element()? {
                    if all.len() == N {
                        return Err(de::Error::custom(format!("an array has more than {N} elements")));
                    }
                    all.push(one);
                }
                Ok(Few(all))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                // The shell form of very old images.
                let value = de::value::StrDeserializer::<E>::new(text);
                T::deserialize(value).map(|one| Few(vec![one]))
            }
        }
        from.deserialize_any(Elements(PhantomData))
    }
}

/// The keys of an object, at most `N`; their values don't matter.
#[derive(Debug, Default)]
pub(super) struct Keys<const N: usize>(pub Vec<String>);

impl<'de, const N: usize> Deserialize<'de> for Keys<N> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Object<const N: usize>;
        impl<'de, const N: usize> Visitor<'de> for Object<N> {
            type Value = Keys<N>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "an object of at most {N} keys")
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Keys(Vec::new()))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Self::Value, A::Error> {
                let mut all = Vec::new();
                while let Some((key, IgnoredAny)) = from.next_entry::<String, IgnoredAny>()? {
                    if all.len() == N {
                        return Err(de::Error::custom(format!("an object has more than {N} keys")));
                    }
                    all.push(key);
                }
                Ok(Keys(all))
            }
        }
        from.deserialize_any(Object::<N>)
    }
}

/// The annotations that are read; all others are passed over, however many there are.
pub(super) fn annotations<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, String>, D::Error> {
    struct Known;
    impl<'de> Visitor<'de> for Known {
        type Value = BTreeMap<String, String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object of strings")
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(BTreeMap::new())
        }

        fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Self::Value, A::Error> {
            let mut all = BTreeMap::new();
            while let Some(key) = from.next_key::<String>()? {
                if ANNOTATIONS.contains(&key.as_str()) {
                    all.insert(key, from.next_value()?);
                } else {
                    from.next_value::<IgnoredAny>()?;
                }
            }
            Ok(all)
        }
    }
    from.deserialize_any(Known)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn depth_counts_brackets_outside_strings() {
        for (text, deep) in
            [("1", 0), ("[[]]", 2), (r#"{"a":"[[[\"[[","b":[{}]}"#, 3), ("[", 1), ("]]][", 1), ("\"[[[", 0)]
        {
            assert_eq!(depth(text.as_bytes()), deep, "{text}");
        }
    }

    #[test]
    fn bombs_are_refused() {
        let deep = "[".repeat(1000);
        let told = read::<IgnoredAny>("x", "manifest", deep.as_bytes()).unwrap_err().to_string();
        assert_eq!(told, "x: its manifest nests deeper than 64 levels");
        let wide = format!("[{}0]", "0,".repeat(1000));
        let told = read::<Few<u8, 10>>("x", "manifest", wide.as_bytes()).unwrap_err().to_string();
        assert!(told.contains("more than 10 elements"), "{told}");
        let large = vec![b' '; usize::try_from(DOCUMENT_MAX).unwrap() + 1];
        assert!(read::<IgnoredAny>("x", "manifest", &large).unwrap_err().to_string().contains("larger than"));
        assert_eq!(read::<Few<String, 3>>("x", "config", b"null").unwrap(), Few(vec![]));
        assert_eq!(read::<Few<String, 3>>("x", "config", b"\"sh\"").unwrap(), Few(vec!["sh".into()]));
    }
}
