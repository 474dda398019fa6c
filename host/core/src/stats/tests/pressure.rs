use jiff::SignedDuration;
use proptest::prelude::*;

use super::super::pressure::*;
use super::*;

fn crossed_by(node: &Node) -> Vec<Signal> {
    crossed(&effective(&default_thresholds(), node), &observe(node))
}

/// Nothing is short here.
fn node() -> Node {
    let big = Filesystem {
        capacity: 1000,
        available: 900,
        ..filesystem(100)
    };
    let mut node = gathered().node;
    node.memory_bytes = 16 << 30;
    node.kubepods.as_mut().unwrap().limits.memory = Some(15 << 30);
    (node.root_fs, node.image_fs, node.container_fs) = (Some(big), Some(big), Some(big));
    node
}

#[test]
fn thresholds_are_read_as_the_kubelet_writes_them() {
    let given = [
        ("memory.available", "100Mi"),
        ("nodefs.available", "10%"),
        ("nodefs.inodesFree", "5%"),
        ("imagefs.available", "15%"),
        ("imagefs.inodesFree", "5%"),
    ];
    assert_eq!(parse(given).unwrap(), default_thresholds());
    assert!(
        parse([("nodefs.available", "0%"), ("imagefs.available", "100%")])
            .unwrap()
            .is_empty()
    );
    let pid = parse([("pid.available", "1k")]).unwrap();
    assert_eq!(pid[&Signal::Pid], Threshold::Bytes(1000));
}

#[test]
fn every_wrong_threshold_is_told() {
    let given = [
        ("memory.free", "1Mi"),
        ("memory.available", "0"),
        ("nodefs.available", "101%"),
        ("nodefs.inodesFree", "-1%"),
        ("imagefs.available", "much"),
        ("pid.available", "NaN%"),
    ];
    let wrong = parse(given).unwrap_err();
    assert_eq!(wrong.len(), 6, "{wrong:?}");
    assert!(
        wrong[0].starts_with("unsupported eviction signal memory.free"),
        "{wrong:?}"
    );
}

#[test]
fn each_signal_is_crossed_by_itself() {
    assert_eq!(crossed_by(&node()), []);
    let change = |change: &dyn Fn(&mut Node)| {
        let mut node = node();
        change(&mut node);
        crossed_by(&node)
    };
    let used =
        |cgroup: &mut Option<Cgroup>, bytes| cgroup.as_mut().unwrap().memory.as_mut().unwrap().working_set = bytes;
    assert_eq!(
        change(&|n| used(&mut n.root, (16 << 30) - (100 << 20) + 1)),
        [Signal::Memory]
    );
    assert_eq!(
        change(&|n| used(&mut n.root, (16 << 30) - (100 << 20))),
        [],
        "not below"
    );
    assert_eq!(
        change(&|n| used(&mut n.kubepods, (15 << 30) - (99 << 20))),
        [Signal::AllocatableMemory]
    );
    let full = |fs: &mut Option<Filesystem>| fs.as_mut().unwrap().available = 140;
    assert_eq!(change(&|n| full(&mut n.root_fs)), [], "14% left of 10%");
    assert_eq!(change(&|n| full(&mut n.image_fs)), [Signal::ImageFs], "14% left of 15%");
    let inodes = |fs: &mut Option<Filesystem>| fs.as_mut().unwrap().inodes_free = 4;
    assert_eq!(change(&|n| inodes(&mut n.root_fs)), [Signal::NodeFsInodes]);
    assert_eq!(change(&|n| inodes(&mut n.container_fs)), [Signal::ContainerFsInodes]);
}

#[test]
fn the_containers_filesystem_is_held_to_what_it_lies_with() {
    let mut node = node();
    let low = |fs: &mut Option<Filesystem>| fs.as_mut().unwrap().available = 140;
    low(&mut node.container_fs);
    assert_eq!(crossed_by(&node), [], "with the node's: 10%");
    for fs in [&mut node.image_fs, &mut node.container_fs] {
        fs.as_mut().unwrap().device = 2;
    }
    assert_eq!(crossed_by(&node), [Signal::ContainerFs], "with the images': 15%");
    node.image_fs.as_mut().unwrap().device = 3;
    assert_eq!(crossed_by(&node), [], "by itself: 10%");
}

#[test]
fn filesystems_without_inodes_have_none_to_run_out_of() {
    let mut node = node();
    node.root_fs = node.root_fs.map(|fs| Filesystem {
        inodes: 0,
        inodes_free: 0,
        ..fs
    });
    assert_eq!(crossed_by(&node), []);
    assert_eq!(crossed_by(&Node::default()), [], "what is not known is not short");
}

#[test]
fn processes_run_out_too() {
    let thresholds = parse([("pid.available", "10%")]).unwrap();
    let mut node = node();
    node.tasks = Some(Tasks {
        at: at(1),
        max: 1000,
        running: 901,
    });
    assert_eq!(crossed(&effective(&thresholds, &node), &observe(&node)), [Signal::Pid]);
}

#[test]
fn a_condition_holds_for_a_while_after_it_was_seen() {
    let mut tracker = Tracker::new(SignedDuration::from_secs(300));
    let memory = Pressed {
        memory: true,
        ..Pressed::default()
    };
    assert_eq!(tracker.update(&[], at(0)), Pressed::default());
    assert_eq!(tracker.update(&[Signal::AllocatableMemory], at(10)), memory, "at once");
    assert_eq!(tracker.update(&[], at(309)), memory);
    assert_eq!(tracker.update(&[], at(310)), Pressed::default());
    let mut tracker = Tracker::new(SignedDuration::ZERO);
    assert_eq!(
        tracker.update(&[Signal::Memory], at(10)),
        memory,
        "as long as it is seen"
    );
    assert_eq!(tracker.update(&[], at(11)), Pressed::default());
}

proptest! {
    #[test]
    fn less_left_never_ends_a_pressure(available in 0u64..1000, less in 0u64..1000) {
        let with = |available| {
            let mut node = node();
            node.root_fs = node.root_fs.map(|fs| Filesystem { available, ..fs });
            crossed_by(&node)
        };
        let (more, less) = (with(available), with(available.saturating_sub(less)));
        prop_assert!(more.iter().all(|s| less.contains(s)));
    }

    #[test]
    fn no_threshold_makes_the_parser_fail(name in ".*", value in ".*") {
        let _ = parse([(name.as_str(), value.as_str()), ("memory.available", value.as_str())]);
    }
}
