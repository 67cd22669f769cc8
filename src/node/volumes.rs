//! Podman's volumes beside what definitions and records say: which are a component's own, and why the others stay.

use super::inventory;
use crate::container::Podman;
use crate::container::volume::{self, Volume};
use crate::model::{Component, ComponentId, Loaded, Record};
use crate::sys::Result;
use crate::sys::paths::Paths;
use std::collections::{BTreeMap, BTreeSet};

/// Which components name which of podman's volumes.
#[derive(Debug, Default)]
pub struct Users {
    by_name: BTreeMap<String, BTreeSet<ComponentId>>,
    /// Of what can't be read nobody knows what it names: whose it is where that is known, and why.
    unread: Vec<(Option<ComponentId>, String)>,
}

/// A volume that stays when a component goes with its volumes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its name in podman.
    pub name: String,
    /// Why, and the way out where there is one.
    pub why: String,
}

/// What a component has of podman's volumes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Data {
    /// Names of those that hold its data and nobody else's.
    pub own: Vec<String>,
    /// Those that are not its own alone.
    pub kept: Vec<Kept>,
}

impl Users {
    /// By all definitions and all versions of all records.
    pub fn of(paths: &Paths, loaded: &Loaded) -> Result<Users> {
        let mut users = Users::default();
        for service in &loaded.broken {
            users.unread.push((None, format!("the definition of {service} is bad, and may name it")));
        }
        for (id, _, component) in loaded.components() {
            users.note(&id, component);
        }
        for id in inventory::leftovers(paths)? {
            match Record::read(paths, &id) {
                Ok(record) => record.iter().flat_map(Record::versions).for_each(|v| users.note(&id, &v.spec)),
                Err(_) => {
                    let why = format!("the record of {id} can't be read, and may name it");
                    users.unread.push((Some(id), why));
                }
            }
        }
        Ok(users)
    }

    fn note(&mut self, id: &ComponentId, spec: &Component) {
        for name in spec.podman_volumes() {
            self.by_name.entry(name.to_string()).or_default().insert(id.clone());
        }
    }

    /// Whether `id` names any.
    pub fn has(&self, id: &ComponentId) -> bool {
        self.by_name.values().any(|ids| ids.contains(id))
    }

    /// What podman has of it for each component.
    pub fn ask(&self, paths: &Paths, podman: &Podman) -> Result<BTreeMap<ComponentId, Data>> {
        Ok(self.sort(paths, volume::list(podman)?))
    }

    fn sort(&self, paths: &Paths, listed: Vec<Volume>) -> BTreeMap<ComponentId, Data> {
        let mut all: BTreeMap<ComponentId, Data> = BTreeMap::new();
        let nobody = BTreeSet::new();
        for volume in listed {
            let owner = volume.of(paths);
            let users = self.by_name.get(&volume.name).unwrap_or(&nobody);
            for id in users.iter().chain(owner.as_ref().filter(|owner| !users.contains(*owner))) {
                let data = all.entry(id.clone()).or_default();
                match self.why_kept(id, &volume, owner.as_ref(), users) {
                    Some(why) => data.kept.push(Kept { name: volume.name.clone(), why }),
                    None => data.own.push(volume.name.clone()),
                }
            }
        }
        all
    }

    fn why_kept(
        &self,
        id: &ComponentId,
        volume: &Volume,
        owner: Option<&ComponentId>,
        users: &BTreeSet<ComponentId>,
    ) -> Option<String> {
        let unread = || self.unread.iter().find(|(of, _)| of.as_ref() != Some(id)).map(|(_, why)| why.clone());
        match owner {
            None if volume.is_some_mcps() => Some("it is another mcp's".into()),
            None => Some(format!("it has no label of this mcp; podman volume rm {} removes it", volume.name)),
            Some(owner) if owner != id => Some(format!("it is {owner}'s")),
            Some(_) => match users.iter().find(|user| *user != id) {
                Some(user) => Some(format!("{user} names it too")),
                None => unread(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::listing::{COMPONENT, ROOT, SERVICE};
    use std::path::Path;

    fn id(component: &str) -> ComponentId {
        ComponentId { service: "shop".into(), component: component.into() }
    }

    fn volume(name: &str, of: Option<(&str, &str)>) -> Volume {
        let labels = of.map(|(component, root)| [(SERVICE, "shop"), (COMPONENT, component), (ROOT, root)]);
        let labels = labels.into_iter().flatten().map(|(key, value)| (key.to_string(), value.to_string()));
        Volume { name: name.into(), labels: labels.collect() }
    }

    #[test]
    fn only_what_is_marked_and_named_by_nobody_else_is_ones_own() {
        let mut users = Users::default();
        for (name, component) in [("own", "a"), ("shared", "a"), ("shared", "b"), ("bare", "a"), ("other", "a")] {
            users.by_name.entry(name.into()).or_default().insert(id(component));
        }
        let listed = || {
            let a = Some(("a", "/r/lib"));
            let all =
                [("own", a), ("shared", a), ("bare", None), ("other", Some(("a", "/x/lib"))), ("past", a), ("z", None)];
            all.map(|(name, of)| volume(name, of)).into()
        };
        let paths = Paths::under(Path::new("/r"));
        let told = |users: &Users, component: &str| {
            let data = users.sort(&paths, listed()).remove(&id(component)).unwrap_or_default();
            (data.own, data.kept.into_iter().map(|k| format!("{}: {}", k.name, k.why)).collect::<Vec<_>>())
        };
        let (own, kept) = told(&users, "a");
        assert_eq!(own, ["own", "past"]);
        assert_eq!(
            kept,
            [
                "shared: shop/b names it too",
                "bare: it has no label of this mcp; podman volume rm bare removes it",
                "other: it is another mcp's"
            ]
        );
        assert_eq!(told(&users, "b"), (Vec::new(), vec!["shared: it is shop/a's".to_string()]));
        // Its own record may be bad, nobody else's.
        users.unread.push((Some(id("a")), "unread".into()));
        assert_eq!(told(&users, "a").0, ["own", "past"]);
        users.unread.push((None, "unread".into()));
        assert_eq!(told(&users, "a").0, Vec::<String>::new());
    }
}
