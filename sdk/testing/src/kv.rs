use std::cell::RefCell;
use std::collections::BTreeMap;

use witlet_sdk::kv::Store;
use witlet_sdk::{Error, Result};

const MAX_KEY: usize = 256;

/// A plugin's store in memory, with the limits of its grant.
#[derive(Debug)]
pub struct FakeKv {
    pub entries: RefCell<BTreeMap<String, Vec<u8>>>,
    /// What the grant allows: keys, and bytes of keys and values.
    pub most: (usize, usize),
}

impl Default for FakeKv {
    fn default() -> Self {
        Self {
            entries: RefCell::default(),
            most: (1000, 1 << 20),
        }
    }
}

fn named(key: &str) -> Result<()> {
    if key.is_empty() || key.len() > MAX_KEY {
        return Err(Error::Invalid(format!("a key has between 1 and {MAX_KEY} bytes")));
    }
    Ok(())
}

impl Store for FakeKv {
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        named(key)?;
        Ok(self.entries.borrow().get(key).cloned())
    }

    fn set(&self, key: &str, value: &[u8]) -> Result<()> {
        named(key)?;
        let mut entries = self.entries.borrow_mut();
        let others = entries.iter().filter(|(k, _)| *k != key);
        let (count, bytes) = others.fold((0, 0), |(n, b), (k, v)| (n + 1, b + k.len() + v.len()));
        if count + 1 > self.most.0 || bytes + key.len() + value.len() > self.most.1 {
            return Err(Error::Denied(format!("{key}: the grant has no room for it")));
        }
        entries.insert(key.to_owned(), value.to_vec());
        Ok(())
    }

    fn delete(&self, key: &str) -> Result<bool> {
        named(key)?;
        Ok(self.entries.borrow_mut().remove(key).is_some())
    }

    fn keys(&self, prefix: &str) -> Result<Vec<String>> {
        let entries = self.entries.borrow();
        Ok(entries.keys().filter(|key| key.starts_with(prefix)).cloned().collect())
    }

    fn replace(&self, key: &str, expected: Option<&[u8]>, value: Option<&[u8]>) -> Result<bool> {
        if self.get(key)?.as_deref() != expected {
            return Ok(false);
        }
        match value {
            Some(value) => self.set(key, value)?,
            None => drop(self.delete(key)?),
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::cell::Cell;

    use witlet_sdk::kv::update;

    use super::*;

    fn plus_one(old: Option<&[u8]>) -> Option<Vec<u8>> {
        Some(vec![old.map_or(1, |v| v[0] + 1)])
    }

    #[test]
    fn a_store_with_limits() {
        let kv = FakeKv {
            most: (2, 10),
            ..FakeKv::default()
        };
        kv.set("a", b"12").unwrap();
        kv.set("b", b"1234").unwrap();
        assert!(matches!(kv.set("c", b""), Err(Error::Denied(_))), "a third key");
        assert!(matches!(kv.set("b", b"1234567"), Err(Error::Denied(_))), "eleven bytes");
        assert!(matches!(kv.get(""), Err(Error::Invalid(_))));
        assert_eq!(kv.keys("").unwrap(), ["a", "b"]);
        assert!(kv.delete("a").unwrap() && !kv.delete("a").unwrap());
        assert_eq!(kv.get("a").unwrap(), None);
        assert_eq!(update(&kv, "n", plus_one).unwrap(), Some(vec![1]));
        assert_eq!(update(&kv, "n", |_| None).unwrap(), None);
        assert_eq!(kv.keys("n").unwrap(), [""; 0]);
    }

    /// Somebody else writes between the look and the change, so often.
    struct Busy(FakeKv, Cell<u32>);

    impl Store for Busy {
        fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
            let value = self.0.get(key);
            if self.1.get() > 0 {
                self.1.set(self.1.get() - 1);
                update(&self.0, key, plus_one)?;
            }
            value
        }
        fn set(&self, key: &str, value: &[u8]) -> Result<()> {
            self.0.set(key, value)
        }
        fn delete(&self, key: &str) -> Result<bool> {
            self.0.delete(key)
        }
        fn keys(&self, prefix: &str) -> Result<Vec<String>> {
            self.0.keys(prefix)
        }
        fn replace(&self, key: &str, expected: Option<&[u8]>, value: Option<&[u8]>) -> Result<bool> {
            self.0.replace(key, expected, value)
        }
    }

    #[test]
    fn no_change_is_lost() {
        let busy = Busy(FakeKv::default(), Cell::new(3));
        assert_eq!(update(&busy, "n", plus_one).unwrap(), Some(vec![4]));
        let never = Busy(FakeKv::default(), Cell::new(100));
        assert!(matches!(update(&never, "n", plus_one), Err(Error::Unavailable(_))));
    }
}
