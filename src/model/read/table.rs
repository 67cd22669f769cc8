//! A table of a file, and the way to its values.

use super::{Item, Place, Reader};
use crate::model::problem::quoted;
use crate::model::suggest;
use std::cell::RefCell;
use toml::de::DeTable;

/// A table with its place in the file.
pub(super) struct Table<'r> {
    pub reader: &'r Reader<'r>,
    table: &'r DeTable<'r>,
    pub place: Place<'r>,
    at: usize,
    /// Keys that an unknown one was probably meant to be: that they are missing is the same mistake.
    meant: RefCell<Vec<&'static str>>,
}

impl<'r> Table<'r> {
    pub fn new(reader: &'r Reader<'r>, table: &'r DeTable<'r>, place: Place<'r>, at: usize) -> Table<'r> {
        Table { reader, table, place, at, meant: RefCell::default() }
    }

    /// The same table under another place: a component under its name once that is known.
    pub fn placed<'s>(&'s self, place: Place<'s>) -> Table<'s> {
        let meant = RefCell::new(self.meant.borrow().clone());
        Table { reader: self.reader, table: self.table, place, at: self.at, meant }
    }

    /// Refuses every key that isn't in `known`. `elsewhere`: keys of other tables, with what those are called.
    pub fn only(&self, known: &'static [&'static str], elsewhere: &[(&[&str], &str)]) {
        for (key, _) in self.table.iter() {
            let word: &str = key.get_ref();
            if known.contains(&word) {
                continue;
            }
            let reason = if let Some((_, table)) = elsewhere.iter().find(|(keys, _)| keys.contains(&word)) {
                format!("unknown key {} here; it belongs in {table}", quoted(word))
            } else if let Some(near) = suggest::nearest(word, known.iter().copied()) {
                self.meant.borrow_mut().push(near);
                format!("unknown key {}; did you mean \"{near}\"?", quoted(word))
            } else {
                format!("unknown key {}; known are: {}", quoted(word), suggest::list(known.iter().copied()))
            };
            let place = Place::Key(&self.place, word);
            self.reader.add(key.span().start, place.path(), reason, &[]);
        }
    }

    /// Whether the file has the key, whatever its value.
    pub fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Whether an unknown key was probably meant to be `key`, so that there is no telling what it says.
    pub fn meant(&self, key: &str) -> bool {
        self.meant.borrow().contains(&key)
    }

    /// The value of `key`, if the file has it.
    pub fn get<'s>(&'s self, key: &'s str) -> Option<Item<'s>> {
        let value = self.table.get(key)?;
        Some(Item { reader: self.reader, value, place: Place::Key(&self.place, key), secret: false })
    }

    /// Every key with its value, in the order of the names.
    pub fn entries<'s>(&'s self) -> impl Iterator<Item = (&'s str, Item<'s>)> {
        self.table.iter().map(move |(key, value)| {
            let key: &'s str = key.get_ref();
            (key, Item { reader: self.reader, value, place: Place::Key(&self.place, key), secret: false })
        })
    }

    /// The value of `key`; that it isn't there is a problem. `why` is what to do about it.
    pub fn required<'s>(&'s self, keys: &'static [&'static str; 1], why: &str) -> Option<Item<'s>> {
        let [key] = *keys;
        if !self.has(key) {
            let path = Place::Key(&self.place, key).path();
            if !self.meant.borrow().contains(&key) {
                self.reader.add(self.at, path, format!("missing; {why}"), keys);
            }
        }
        self.get(key)
    }

    /// None of `keys` is there. Silent when an unknown key was probably meant to be one of them.
    pub fn missing(&self, keys: &'static [&'static str], reason: &str) {
        if !self.meant.borrow().iter().any(|m| keys.contains(m)) {
            self.reader.add(self.at, self.place.path(), reason.to_string(), keys);
        }
    }
}
