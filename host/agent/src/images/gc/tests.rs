#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;

use jiff::ToSpan;
use serde_json::json;

use super::*;

const GIB: u64 = 1 << 30;

/// Images of 10 GiB on a disk of 100 GiB.
#[derive(Default)]
struct Disk {
    images: Mutex<Vec<Image>>,
    /// Used by other things.
    other: Mutex<u64>,
    stuck: BTreeSet<String>,
    told: Mutex<Vec<String>>,
    broken: bool,
}

impl Disk {
    fn new(ids: &[&str]) -> Self {
        let image = |id: &&str| Image {
            id: (*id).into(),
            size: 10 * GIB,
            ..Image::default()
        };
        Self {
            images: Mutex::new(ids.iter().map(image).collect()),
            ..Self::default()
        }
    }

    fn ids(&self) -> Vec<String> {
        self.images.lock().unwrap().iter().map(|i| i.id.clone()).collect()
    }

    fn told(&self) -> Vec<String> {
        std::mem::take(&mut *self.told.lock().unwrap())
    }
}

#[async_trait]
impl Store for Disk {
    async fn images(&self) -> Result<Vec<Image>> {
        Ok(self.images.lock().unwrap().clone())
    }

    async fn containers(&self) -> Result<Vec<Container>> {
        Ok(Vec::new())
    }

    async fn remove(&self, id: &str) -> Result<()> {
        if self.stuck.contains(id) {
            return Err(Error::retry(format!("{id} is stuck")));
        }
        self.images.lock().unwrap().retain(|i| i.id != id);
        Ok(())
    }

    async fn filesystem(&self) -> Result<(u64, u64)> {
        let used = self.ids().len() as u64 * 10 * GIB + *self.other.lock().unwrap();
        Ok(if self.broken {
            (0, 0)
        } else {
            (100 * GIB, 100 * GIB - used)
        })
    }
}

impl Told for Disk {
    fn warn(&self, reason: &str, message: &str) {
        self.told.lock().unwrap().push(format!("{reason}: {message}"));
    }

    fn removed(&self, reason: &'static str) {
        self.told.lock().unwrap().push(reason.into());
    }
}

fn at(minutes: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000).unwrap() + minutes.minutes()
}

fn using(id: &str) -> InUse {
    let pod = serde_json::from_value(json!({"spec": {"containers": [{"name": "c", "image": id}]}})).unwrap();
    InUse::of(&[], [&pod])
}

#[tokio::test]
async fn a_full_disk_loses_the_images_that_nobody_uses() {
    let disk = Disk::new(&["a", "b", "c", "d"]);
    *disk.other.lock().unwrap() = 44 * GIB;
    let (mut table, policy) = (Table::default(), Policy::default());
    collect(&disk, &disk, &mut table, &using("a"), &policy, at(0))
        .await
        .unwrap();
    assert_eq!(disk.ids(), ["a", "b", "c", "d"], "84% is not too much");
    collect(&disk, &disk, &mut table, &using("b"), &policy, at(5))
        .await
        .unwrap();
    *disk.other.lock().unwrap() = 55 * GIB;
    // 95%: 15 GiB have to go, which are two images: those that nobody used at all.
    collect(&disk, &disk, &mut table, &using("x"), &policy, at(10))
        .await
        .unwrap();
    assert_eq!(disk.ids(), ["a", "b"]);
    assert_eq!(disk.told(), ["space", "space"]);

    *disk.other.lock().unwrap() = 75 * GIB;
    let error = collect(&disk, &disk, &mut table, &using("a"), &policy, at(15))
        .await
        .unwrap_err();
    assert_eq!(disk.ids(), ["a"]);
    let told = disk.told();
    assert_eq!(told[1], format!("FreeDiskSpaceFailed: {error}"));
    assert!(
        told[1].contains("(95% of 100.0 GiB used)") && told[1].contains("(freed 10737418240 bytes)"),
        "{told:?}"
    );
}

#[tokio::test]
async fn images_that_cannot_be_removed_do_not_keep_the_others() {
    let disk = Disk {
        stuck: ["a".to_owned()].into(),
        ..Disk::new(&["a", "b"])
    };
    *disk.other.lock().unwrap() = 70 * GIB;
    let (mut table, policy) = (Table::default(), Policy::default());
    let error = collect(&disk, &disk, &mut table, &using("x"), &policy, at(0))
        .await
        .unwrap_err();
    assert_eq!(disk.ids(), ["a"]);
    let expected =
        "wanted to free 10737418240 bytes, but freed 10737418240 bytes space with errors in image deletion: a is stuck";
    assert_eq!(error.to_string(), expected);
    assert_eq!(disk.told(), ["space"]);
}

#[tokio::test]
async fn old_images_go_although_there_is_space() {
    let disk = Disk::new(&["a", "b"]);
    let policy = Policy {
        max_age: Some(Duration::from_secs(3600)),
        ..Policy::default()
    };
    let mut table = Table::default();
    for minutes in [0, 30, 60] {
        collect(&disk, &disk, &mut table, &using("a"), &policy, at(minutes))
            .await
            .unwrap();
    }
    assert_eq!(disk.ids(), ["a", "b"], "the agent is not older itself");
    collect(&disk, &disk, &mut table, &using("a"), &policy, at(61))
        .await
        .unwrap();
    assert_eq!(
        (disk.ids(), disk.told()),
        (vec!["a".to_owned()], vec!["age".to_owned()])
    );
}

#[tokio::test]
async fn the_second_failure_is_told() {
    let disk = Disk {
        broken: true,
        ..Disk::new(&[])
    };
    let (mut table, policy, mut failed) = (Table::default(), Policy::default(), false);
    let invalid = "invalid capacity 0 on image filesystem";
    for expected in [
        vec![format!("InvalidDiskCapacity: {invalid}")],
        vec![
            format!("InvalidDiskCapacity: {invalid}"),
            format!("ImageGCFailed: {invalid}"),
        ],
    ] {
        let result = collect(&disk, &disk, &mut table, &using("x"), &policy, at(0)).await;
        report(&disk, &mut failed, result);
        assert_eq!(disk.told(), expected);
    }
    report(&disk, &mut failed, Ok(()));
    assert!(!failed);
}
