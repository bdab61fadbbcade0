//! The process table's promises: inheritance, order of forgetting, bounds.

use std::time::Instant;

use proptest::prelude::{any, proptest};

use super::{Limits, ProcessTable};
use crate::decode::record::{ExecSeen, ImageInfo, LifeSeen, ProcessKey, TaskInfo};
use crate::enrich::proc_parse::Layout;
use crate::time::BootNs;

const MS: u64 = 1_000_000;

fn key(pid: u32, start_ms: u64) -> ProcessKey {
    ProcessKey {
        pid,
        start: BootNs(start_ms * MS),
    }
}

fn task(key: ProcessKey, ppid: u32, comm: &str) -> TaskInfo {
    TaskInfo {
        key,
        tid: key.pid,
        ppid,
        uid: 0,
        gid: 0,
        loginuid: None,
        cgroup_id: 0,
        comm: comm.into(),
        is_kthread: false,
    }
}

fn image(exe: &str) -> ImageInfo {
    ImageInfo {
        exe: Some(exe.into()),
        args: Some(vec![exe.into()]),
        ..ImageInfo::default()
    }
}

fn exec(key: ProcessKey, at: u64, exe: &str) -> ExecSeen {
    ExecSeen {
        at: BootNs(at * MS),
        task: task(key, 1, "program"),
        image: image(exe),
    }
}

fn life(key: ProcessKey, at: u64, parent: Option<ProcessKey>) -> LifeSeen {
    LifeSeen {
        at: BootNs(at * MS),
        task: task(key, parent.map_or(0, |p| p.pid), "child"),
        parent,
        exit_code: 0,
    }
}

fn exe(table: &ProcessTable, key: ProcessKey) -> Option<&str> {
    let exe = table.image(key)?.exe.as_deref()?;
    std::str::from_utf8(exe).ok()
}

#[test]
fn a_child_runs_its_parents_image_until_it_execs() {
    let mut table = ProcessTable::new(Limits::default());
    let (parent, child) = (key(10, 100), key(11, 200));
    table.on_exec(&exec(parent, 100, "/bin/sh"));
    table.on_fork(&life(child, 200, Some(parent)));
    assert_eq!(exe(&table, child), Some("/bin/sh"));
    assert_eq!(table.parent(child), Some(parent));
    assert_eq!(table.name(child), Some(&b"child"[..]));
    table.on_exec(&exec(child, 210, "/bin/nc"));
    assert_eq!(exe(&table, child), Some("/bin/nc"));
    assert_eq!(exe(&table, parent), Some("/bin/sh"));
    assert_eq!(table.parent(child), Some(parent), "exec keeps the parent");
}

#[test]
fn an_exec_that_arrives_before_its_fork_wins() {
    let mut table = ProcessTable::new(Limits::default());
    let (parent, child) = (key(10, 100), key(11, 200));
    table.on_exec(&exec(parent, 100, "/bin/sh"));
    table.on_exec(&exec(child, 210, "/bin/nc"));
    table.on_fork(&life(child, 200, Some(parent)));
    assert_eq!(exe(&table, child), Some("/bin/nc"));
    assert_eq!(table.parent(child), Some(parent));
}

#[test]
fn the_dead_are_remembered_and_their_pid_is_free() {
    let mut table = ProcessTable::new(Limits::default());
    let old = key(10, 100);
    table.on_exec(&exec(old, 100, "/bin/old"));
    assert_eq!(table.current(10), Some(old));
    table.on_exit(&life(old, 150, None));
    assert_eq!(table.current(10), None);
    let new = key(10, 300);
    table.on_exec(&exec(new, 300, "/bin/new"));
    assert_eq!(table.current(10), Some(new));
    assert_eq!(exe(&table, old), Some("/bin/old"));
    assert_eq!(exe(&table, new), Some("/bin/new"));
}

#[test]
fn a_lost_exit_does_not_keep_a_pid() {
    let mut table = ProcessTable::new(Limits::default());
    table.on_exec(&exec(key(10, 100), 100, "/bin/old"));
    table.on_exec(&exec(key(10, 900), 900, "/bin/new"));
    assert_eq!(table.current(10), Some(key(10, 900)));
    // A late record of the older process does not take the pid back.
    table.on_exec(&exec(key(10, 500), 950, "/bin/between"));
    assert_eq!(table.current(10), Some(key(10, 900)));
}

#[test]
fn proc_starts_are_ticks_and_still_match() {
    let mut table = ProcessTable::new(Limits::default());
    let from_proc = ProcessKey {
        pid: 10,
        start: BootNs(1_230 * MS),
    };
    let from_kernel = ProcessKey {
        pid: 10,
        start: BootNs(1_230 * MS + 7_654_321),
    };
    table.learn(
        from_proc,
        b"sshd",
        None,
        Some(&image("/usr/sbin/sshd")),
        BootNs(0),
    );
    assert_eq!(exe(&table, from_kernel), Some("/usr/sbin/sshd"));
    table.on_fork(&life(from_kernel, 2_000, None));
    assert_eq!(table.len(), 1);
    assert_eq!(
        table.current(10),
        Some(from_kernel),
        "the exact start is kept"
    );
}

#[test]
fn learning_fills_gaps_and_replaces_nothing() {
    let mut table = ProcessTable::new(Limits::default());
    let key = key(10, 100);
    table.on_exec(&exec(key, 100, "/bin/true"));
    table.learn(key, b"other", None, Some(&image("/bin/false")), BootNs(0));
    assert_eq!(exe(&table, key), Some("/bin/true"));
    assert_eq!(table.name(key), Some(&b"program"[..]));
    assert!(table.may_ask_proc(key));
    assert!(!table.may_ask_proc(key));
    table.on_exec(&exec(key, 200, "/bin/next"));
    assert!(table.may_ask_proc(key), "a new image may be asked for anew");
}

#[test]
fn a_renewed_image_keeps_its_arguments_while_the_layout_stays() {
    let layout = |stack| Some(Layout { stack, args: 9 });
    let fresh = |cwd: &str| ImageInfo {
        exe: Some(b"/bin/sh".to_vec()),
        cwd: Some(cwd.into()),
        ..ImageInfo::default()
    };
    let mut table = ProcessTable::new(Limits::default());
    let key = key(10, 100);
    let renew = |table: &mut ProcessTable, cwd, layout| {
        table.renew(key, b"sh", fresh(cwd), layout, BootNs(0));
        let image = table.image(key).expect("an image").clone();
        (image.cwd, image.args.is_some())
    };
    let cwd = |path: &str| Some(Vec::from(path));
    table.learn(key, b"sh", None, Some(&image("/bin/sh")), BootNs(0));
    table.learn_layout(key, layout(1));
    assert_eq!(renew(&mut table, "/a", layout(1)), (cwd("/a"), true));
    assert_eq!(renew(&mut table, "/b", layout(1)), (cwd("/b"), true));
    assert_eq!(renew(&mut table, "/b", layout(2)), (cwd("/b"), false));
    table.learn_args(key, &[b"sh".to_vec()], false);
    assert_eq!(renew(&mut table, "/b", layout(2)), (cwd("/b"), true));
    assert_eq!(renew(&mut table, "/b", None), (cwd("/b"), false));
    table.learn_args(key, &[b"sh".to_vec()], false);
    let unknown = renew(&mut table, "/b", None);
    assert_eq!(unknown, (cwd("/b"), false), "nothing vouches for them");
}

#[test]
fn the_longest_dead_go_first_then_the_least_used() {
    let mut table = ProcessTable::new(Limits {
        entries: 4,
        ..Limits::default()
    });
    let keys: Vec<_> = (0..4).map(|n| key(100 + n, 100)).collect();
    for key in &keys {
        table.on_exec(&exec(*key, 100, "/bin/x"));
    }
    // Deaths reported out of order: 2 died before 1.
    table.on_exit(&life(keys[1], 500, None));
    table.on_exit(&life(keys[2], 400, None));
    table.on_exec(&exec(key(200, 600), 600, "/bin/y"));
    assert_eq!(exe(&table, keys[2]), None);
    assert_eq!(exe(&table, keys[1]), Some("/bin/x"));
    table.on_exec(&exec(key(201, 600), 600, "/bin/y"));
    assert_eq!(exe(&table, keys[1]), None);
    table.touch(keys[0]);
    table.on_exec(&exec(key(202, 600), 600, "/bin/y"));
    assert_eq!(exe(&table, keys[0]), Some("/bin/x"), "used last");
    assert_eq!(exe(&table, keys[3]), None);
    assert_eq!(table.current(keys[3].pid), None);
    assert_eq!(table.len(), 4);
}

#[test]
fn the_dead_have_a_bound_of_their_own() {
    let mut table = ProcessTable::new(Limits {
        dead: 10,
        ..Limits::default()
    });
    let living: Vec<_> = (0..10_000).map(|n| key(10 + n, 100)).collect();
    for key in &living {
        table.on_exec(&exec(*key, 100, "/bin/x"));
    }
    for n in 0..100 {
        let short = key(50_000 + n, 200);
        table.on_exec(&exec(short, 200, "/bin/y"));
        table.on_exit(&life(short, 300 + u64::from(n), None));
        assert_eq!(exe(&table, short), Some("/bin/y"), "the last one dead");
    }
    assert_eq!(table.len(), 10_010);
    assert!(living.iter().all(|key| exe(&table, *key).is_some()));
}

#[test]
fn memory_is_bounded_in_bytes_too_and_shared_images_count_once() {
    let mut table = ProcessTable::new(Limits {
        entries: 1_000_000,
        bytes: 1 << 20,
        ..Limits::default()
    });
    let fat = "x".repeat(4096);
    for pid in 1..2_000 {
        table.on_exec(&exec(key(pid, 100), 100, &fat));
        assert!(table.bytes() <= 1 << 20);
    }
    assert!(table.len() > 50, "{} left", table.len());

    let mut table = ProcessTable::new(Limits::default());
    let parent = key(1, 100);
    table.on_exec(&exec(parent, 100, &fat));
    let started = Instant::now();
    for pid in 2..10_000 {
        table.on_fork(&life(key(pid, 200), 200, Some(parent)));
    }
    assert_eq!(table.len(), 9_999);
    assert!(table.bytes() < 4 << 20, "{} bytes", table.bytes());
    assert!(started.elapsed().as_secs() < 2);
    table.on_exit(&life(parent, 300, None));
    assert_eq!(exe(&table, key(9_999, 200)).map(str::len), Some(4096));
}

proptest! {
    #[test]
    fn any_history_keeps_the_bounds_and_the_books(
        steps in proptest::collection::vec((0..4u8, 1..20u32, 1..6u64, any::<u16>()), 1..300)
    ) {
        let mut table = ProcessTable::new(Limits { entries: 16, dead: 6, bytes: 1 << 20 });
        for (what, pid, start, at) in steps {
            let key = key(pid, start * 10);
            let at = u64::from(at);
            match what {
                0 => table.on_exec(&exec(key, at, "/bin/a")),
                1 => table.on_fork(&life(key, at, table.current(pid % 7 + 1))),
                2 => table.on_exit(&life(key, at, None)),
                _ => table.touch(key),
            }
            assert!(table.len() <= 16);
            assert!(table.len() - table.living.len() <= 6);
            assert_eq!(table.order.len(), table.entries.len());
            assert!(table.order.iter().all(|(rank, slot)| table.entries[slot].rank == *rank));
            assert!(table.living.values().all(|slot| table.entries.contains_key(slot)));
        }
        table.entries.clear();
        assert_eq!(table.bytes(), 0, "every image gave its weight back");
    }
}

/// The same pid again within one tick of /proc, which is all that a slot tells.
#[test]
fn two_processes_of_one_tick_are_two() {
    let mut table = ProcessTable::new(Limits::default());
    let at = |ns: u64| ProcessKey {
        pid: 10,
        start: BootNs(5_000 * MS + ns),
    };
    let (first, second) = (at(1), at(2));
    table.on_exec(&exec(first, 5_000, "/bin/first"));
    table.on_exit(&life(first, 5_001, None));
    assert_eq!(exe(&table, second), None, "not its image");
    table.on_fork(&life(second, 5_002, None));
    assert_eq!(exe(&table, second), None, "inherited from nobody");
    assert_eq!(table.current(10), Some(second));
    table.on_exec(&exec(second, 5_003, "/bin/second"));
    // A record of the first that comes late ends only the first.
    table.on_exit(&life(first, 5_001, None));
    assert_eq!(table.current(10), Some(second));
    assert_eq!(exe(&table, second), Some("/bin/second"));
    assert_eq!(exe(&table, first), None);
    // /proc knows ticks only: it means whoever has the pid.
    assert_eq!(exe(&table, key(10, 5_000)), Some("/bin/second"));
}

#[test]
fn images_in_doubt_are_not_told_until_they_are_learned_anew() {
    let mut table = ProcessTable::new(Limits::default());
    let (parent, child) = (key(10, 100), key(11, 200));
    table.on_exec(&exec(parent, 100, "/bin/sh"));
    assert!(!table.is_doubted(parent));
    table.doubt();
    assert!(table.is_doubted(parent));
    assert_eq!(exe(&table, parent), None);
    table.on_fork(&life(child, 200, Some(parent)));
    assert!(table.is_doubted(child), "doubt is inherited");
    assert_eq!(exe(&table, child), None);
    assert_eq!(table.name(parent), Some(&b"program"[..]));
    // A listener's record carries the image of the moment.
    table.learn(parent, b"", None, Some(&image("/bin/nc")), BootNs(300 * MS));
    assert_eq!(exe(&table, parent), Some("/bin/nc"));
    table.on_exec(&exec(child, 310, "/bin/id"));
    assert_eq!(exe(&table, child), Some("/bin/id"));
    table.doubt();
    table.renew(child, b"x", image("/bin/su"), None, BootNs(400 * MS));
    assert_eq!(exe(&table, child), Some("/bin/su"));
}
