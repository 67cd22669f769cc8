//! What a node answers: the parts of its `mcp-status --json` that are shown of it, bounded and checked.

use crate::model::{ComponentId, Port, name};
use serde::de::{Deserializer, Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::marker::PhantomData;

/// The version of the document that is read.
const SCHEMA: u32 = 1;
/// The longest text of one value that is kept.
const TEXT_MAX: usize = 4096;

/// What a node answered.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Answer {
    schema: u32,
    /// Problems of its definitions.
    #[serde(default)]
    pub problems: Few<String, 1000>,
    /// What it says of podman.
    #[serde(default)]
    pub podman: Podman,
    /// Its components.
    pub components: Few<Item, 20_000>,
}

/// Whether podman could be asked.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
pub struct Podman {
    /// Why it could not.
    pub error: Option<String>,
}

/// One component on one node.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
pub struct Item {
    /// Its service; `None`: it is a container of somebody else.
    pub service: Option<String>,
    /// Its name.
    pub component: String,
    /// How it runs.
    #[serde(default)]
    pub runtime: Option<String>,
    /// The word for it.
    pub state: String,
    /// The kinds of drift that the node itself tells.
    #[serde(default)]
    pub drift: Few<String, 64>,
    /// Whether it shall run there, as far as the node can tell.
    #[serde(default)]
    pub wanted: Option<bool>,
    /// Whether it is declared there.
    #[serde(default)]
    pub declared: bool,
    /// Whether its service is active there.
    #[serde(default)]
    pub active: Option<bool>,
    /// Whether it lives.
    #[serde(default)]
    pub alive: Option<bool>,
    /// Who places it: `node` or `cluster`; `None`: it does not say.
    #[serde(default)]
    pub placement: Option<String>,
    /// Whether it is healthy, where that is known.
    #[serde(default)]
    pub health: Option<Health>,
    /// What it runs.
    #[serde(default)]
    pub image: Option<String>,
    /// Its forwarded ports.
    #[serde(default)]
    pub ports: Few<Port, 1000>,
    /// Since when it lives, in seconds.
    #[serde(default)]
    pub uptime_seconds: Option<u64>,
    /// Times that the restart policy has started it again.
    #[serde(default)]
    pub restarts: Option<u64>,
    /// How it ended.
    #[serde(default)]
    pub end: Option<End>,
}

/// What a component answered when it was asked last.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
pub struct Health {
    /// `healthy`, `unhealthy`, `unknown` or `none`.
    pub verdict: String,
    /// Why, where it is not healthy.
    #[serde(default)]
    pub reason: Option<String>,
    /// How long ago that was, in seconds.
    pub age_s: u64,
    /// Whether it was recorded, not asked now.
    pub recorded: bool,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
pub struct End {
    /// With this exit code.
    #[serde(default)]
    pub code: Option<i64>,
    /// By this signal.
    #[serde(default)]
    pub signal: Option<i32>,
}

impl Item {
    /// Its full name; `None`: it is a container of somebody else.
    pub fn id(&self) -> Option<ComponentId> {
        let service = self.service.clone()?;
        Some(ComponentId { service, component: self.component.clone() })
    }

    /// Whether its VM or container is known to live.
    pub fn is_alive(&self) -> bool {
        self.alive == Some(true)
    }

    fn check(&self) -> Result<(), String> {
        let named = self.service.as_deref().is_none_or(|s| name::is_valid(s) && name::is_valid(&self.component));
        let texts = [Some(&self.component), Some(&self.state), self.runtime.as_ref(), self.image.as_ref()];
        let of_health = self.health.iter().flat_map(|h| [Some(&h.verdict), h.reason.as_ref()]);
        let mut texts = texts.into_iter().chain(of_health).flatten().chain(self.drift.iter());
        match named && texts.all(|text| text.len() <= TEXT_MAX) {
            true => Ok(()),
            false => Err("it names a component as none can be named".into()),
        }
    }
}

/// Reads what a node printed. The error says why it is no answer.
pub fn read(bytes: &[u8]) -> Result<Answer, String> {
    #[derive(Deserialize)]
    struct Head {
        schema: u32,
    }
    // Of a document that we don't know, its version tells more than what is missing in it.
    let head = serde_json::from_slice::<Head>(bytes);
    if let Ok(Head { schema }) = head
        && schema != SCHEMA
    {
        return Err(format!("it answers in schema {schema}, and this mcp reads {SCHEMA}; bring both to one version"));
    }
    let answer: Answer =
        serde_json::from_slice(bytes).map_err(|e| match bytes.iter().all(u8::is_ascii_whitespace) {
            true => "it answers nothing".to_string(),
            false => format!("it answers no status: {e}: {}", beginning(bytes)),
        })?;
    answer.components.iter().try_for_each(Item::check)?;
    Ok(answer)
}

/// The beginning of what it printed instead, on one line.
fn beginning(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes.get(..200).unwrap_or(bytes)).into_owned();
    let shown: String = text.trim().chars().take(60).collect();
    format!("{shown:?}")
}

/// A list that is refused when it has more than `MOST` items: it is a stranger's.
#[derive(Debug, Clone, PartialEq)]
pub struct Few<T, const MOST: usize>(Vec<T>);

impl<T, const MOST: usize> Default for Few<T, MOST> {
    fn default() -> Self {
        Few(Vec::new())
    }
}

impl<T, const MOST: usize> std::ops::Deref for Few<T, MOST> {
    type Target = Vec<T>;

    fn deref(&self) -> &Vec<T> {
        &self.0
    }
}

impl<T, const MOST: usize> std::ops::DerefMut for Few<T, MOST> {
    fn deref_mut(&mut self) -> &mut Vec<T> {
        &mut self.0
    }
}

impl<'de, T: Deserialize<'de>, const MOST: usize> Deserialize<'de> for Few<T, MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List<T, const MOST: usize>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>, const MOST: usize> Visitor<'de> for List<T, MOST> {
            type Value = Few<T, MOST>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a list of at most {MOST}")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    if list.len() == MOST {
                        return Err(A::Error::custom(format!("a list of more than {MOST}")));
                    }
                    list.push(item);
                }
                Ok(Few(list))
            }
        }
        deserializer.deserialize_seq(List(PhantomData))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        read(text.as_bytes()).unwrap_err()
    }

    #[test]
    fn what_is_no_answer() {
        assert_eq!(error(""), "it answers nothing");
        assert_eq!(error("Welcome!\n{}"), "it answers no status: expected value at line 1 column 1: \"Welcome!\\n{}\"");
        assert_eq!(
            error("{\"schema\":2,\"new\":[]}"),
            "it answers in schema 2, and this mcp reads 1; bring both to one version"
        );
        let odd = |item: &str| error(&format!("{{\"schema\":1,\"components\":[{item}]}}"));
        assert_eq!(
            odd("{\"service\":\"a\\u001b\",\"component\":\"b\",\"state\":\"running\"}"),
            "it names a component as none can be named"
        );
        assert!(odd("{\"service\":\"a\"}").contains("missing field"));
        assert!(odd(&vec!["{\"component\":\"b\",\"state\":\"\"}"; 20_001].join(",")).contains("more than 20000"));
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(error(&format!("{{\"schema\":1,\"x\":{deep}}}")).contains("missing field"));
        assert!(odd(&deep).contains("invalid type"));
        assert!(odd("{\"service\":\"a\",\"component\":\"b\",\"sta").contains("EOF"));
    }

    #[test]
    fn what_is_not_known_is_passed_over() {
        let text = "{\"schema\":1,\"new\":{\"x\":[1]},\"components\":[{\"service\":\"a\",\"component\":\"b\",
            \"state\":\"dreaming\",\"drift\":[\"odd\"],\"new\":1}]}";
        let answer = read(text.as_bytes()).unwrap();
        assert_eq!((answer.components[0].state.as_str(), answer.components[0].drift.len()), ("dreaming", 1));
    }
}
