//! Keys and values of one scope (the whole file, or one NodeName line) with typed look-ups.
//!
//! Look-ups that find a wrong value record an error at its place and answer the default, so that one
//! reading finds every error; the caller refuses the configuration if any was recorded.

use super::keys::parse_flag;
use super::lex::Place;
use super::{Error, keys};
use crate::quantity::MemoryMib;
use crate::time::{Span, limit};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// Values by lower-case key.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    values: BTreeMap<String, (String, Place)>,
}

/// Settings while they are being read: look-ups record their errors.
#[derive(Clone, Debug, Default)]
pub(super) struct Scope {
    pub(super) settings: Settings,
    errors: Rc<RefCell<Vec<Error>>>,
}

impl std::ops::Deref for Scope {
    type Target = Settings;
    fn deref(&self) -> &Settings {
        &self.settings
    }
}

impl std::ops::DerefMut for Scope {
    fn deref_mut(&mut self) -> &mut Settings {
        &mut self.settings
    }
}

impl Settings {
    /// Sets a key; a later value takes the place of an earlier one. True if there was one.
    pub(super) fn set(&mut self, key: &str, value: &str, place: &Place) -> bool {
        self.values.insert(key.to_ascii_lowercase(), (value.to_owned(), place.clone())).is_some()
    }

    /// Takes a value out.
    pub(super) fn unset(&mut self, key: &str) {
        self.values.remove(&key.to_ascii_lowercase());
    }

    /// The value as written.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<&str> {
        self.values.get(&key.to_ascii_lowercase()).map(|(value, _)| value.as_str())
    }

    /// Where the value stands.
    #[must_use]
    pub fn place(&self, key: &str) -> Option<&Place> {
        self.values.get(&key.to_ascii_lowercase()).map(|(_, place)| place)
    }

    /// Every key in lower case with its value, in alphabetical order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> + '_ {
        self.values.iter().map(|(key, (value, _))| (key.as_str(), value.as_str()))
    }

    /// The value as written, or the key's default in the table (empty where it has none).
    pub(super) fn text_or_default(&self, key: &str) -> String {
        let default = keys::find(key).map_or("", |key| key.default);
        self.text(key).unwrap_or(default).to_owned()
    }
}

impl Scope {
    /// An empty scope that records its errors in `errors`.
    pub(super) fn new(errors: &Rc<RefCell<Vec<Error>>>) -> Scope {
        Scope { settings: Settings::default(), errors: Rc::clone(errors) }
    }

    /// Records that the value of `key` is wrong.
    pub(super) fn fail(&self, key: &str, message: &str) {
        if let Some((value, place)) = self.settings.values.get(&key.to_ascii_lowercase()) {
            self.errors
                .borrow_mut()
                .push(place.error(format!("invalid value \"{value}\" for {key}: {message}")));
        }
    }

    /// The value read by `read`; absent, or wrong and recorded: `None`.
    pub(super) fn read<T>(&self, key: &str, wanted: &str, read: impl Fn(&str) -> Option<T>) -> Option<T> {
        let text = self.text(key)?;
        let value = read(text);
        if value.is_none() {
            self.fail(key, wanted);
        }
        value
    }

    pub(super) fn number<T: std::str::FromStr>(&self, key: &str, default: T) -> T {
        self.read(key, "not a whole number, or too large", |text| text.parse().ok()).unwrap_or(default)
    }

    pub(super) fn number_opt<T: std::str::FromStr>(&self, key: &str) -> Option<T> {
        self.read(key, "not a whole number, or too large", |text| text.parse().ok())
    }

    /// A number that may be UNLIMITED or INFINITE (`None`).
    pub(super) fn number_or_unlimited(&self, key: &str) -> Option<Option<u32>> {
        self.read(key, "not a whole number or UNLIMITED", |text| {
            if unlimited(text) { Some(None) } else { text.parse().ok().map(Some) }
        })
    }

    pub(super) fn flag(&self, key: &str, default: bool) -> bool {
        self.read(key, "not yes or no", parse_flag).unwrap_or(default)
    }

    /// Seconds; UNLIMITED is [`Span::MAX`].
    pub(super) fn seconds(&self, key: &str, default: i64) -> Span {
        let read = |text: &str| {
            if unlimited(text) {
                Some(Span::MAX)
            } else {
                text.parse::<u32>().ok().map(|n| Span::from_secs(i64::from(n)))
            }
        };
        self.read(key, "not a number of seconds", read).unwrap_or(Span::from_secs(default))
    }

    /// A length of time, `Some(None)` for UNLIMITED; rounded up to minutes.
    pub(super) fn time(&self, key: &str) -> Option<Option<Span>> {
        self.read(key, "not a length of time", |text| limit::parse_minutes(text).ok())
    }

    /// A size in megabytes, `Some(None)` for UNLIMITED.
    pub(super) fn mib(&self, key: &str) -> Option<Option<MemoryMib>> {
        self.read(key, "not a size in megabytes", |text| {
            if unlimited(text) {
                Some(None)
            } else {
                crate::tres::parse_mib(text).map(|mib| Some(MemoryMib(mib)))
            }
        })
    }

    /// A comma list; empty where absent.
    pub(super) fn list(&self, key: &str) -> Vec<Box<str>> {
        comma_list(self.text(key).unwrap_or_default())
    }

    /// A comma list where `ALL` and absence mean no restriction (`None`).
    pub(super) fn list_or_all(&self, key: &str) -> Option<Vec<Box<str>>> {
        let text = self.text(key)?;
        (!text.eq_ignore_ascii_case("ALL")).then(|| comma_list(text))
    }
}

pub(super) fn unlimited(text: &str) -> bool {
    text == "-1" || text.eq_ignore_ascii_case("UNLIMITED") || text.eq_ignore_ascii_case("INFINITE")
}

pub(super) fn comma_list(text: &str) -> Vec<Box<str>> {
    text.split(',').map(str::trim).filter(|word| !word.is_empty()).map(Box::from).collect()
}
