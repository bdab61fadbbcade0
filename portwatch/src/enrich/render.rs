//! Bytes of a process to the texts of an event: escaped, and bounded so that a line stays a line.

use crate::decode::record::{ImageInfo, TaskInfo};
use crate::event::{Ancestor, Process};
use crate::text::escape;
use crate::time::WallClock;

/// Most room for the arguments in a line of JSON, in bytes.
const ARGS_MAX: usize = 32 << 10;
/// Longest texts of the other fields in a line of JSON, in bytes; a longer one is left out, because
/// part of a path is another path.
const EXE_MAX: usize = 12 << 10;
const CWD_MAX: usize = 4 << 10;
const ANCESTOR_EXE_MAX: usize = 1 << 10;
/// JSON around each argument: two quotes and a comma.
const QUOTES: usize = 3;

/// What the kernel's record and the image say; names, hashes and the like come later.
pub(super) fn process(task: &TaskInfo, image: Option<&ImageInfo>, clock: &WallClock) -> Process {
    let mut process = Process {
        pid: task.key.pid,
        tid: (task.tid != 0).then_some(task.tid),
        ppid: (task.ppid != 0).then_some(task.ppid),
        name: escape(&task.comm),
        start_time: (task.key.start.0 != 0).then(|| clock.rfc3339(task.key.start)),
        uid: Some(task.uid),
        gid: Some(task.gid),
        loginuid: task.loginuid,
        ..Process::default()
    };
    if let Some(image) = image {
        process.exe = image.exe.as_deref().and_then(|exe| bounded(exe, EXE_MAX));
        process.exe_memfd = image.exe_memfd.then_some(true);
        process.exe_deleted = (image.exe_deleted && !image.exe_memfd).then_some(true);
        process.cwd = image.cwd.as_deref().and_then(|cwd| bounded(cwd, CWD_MAX));
        if let Some(args) = &image.args {
            set_args(&mut process, args, image.args_truncated);
        }
    }
    if process.name.is_empty() {
        let exe = image.and_then(|image| image.exe.as_deref());
        process.name = exe.map_or_else(|| "?".to_owned(), base_name);
    }
    process
}

/// The arguments, as many as fit.
pub(super) fn set_args(process: &mut Process, args: &[Vec<u8>], truncated: bool) {
    let mut truncated = truncated;
    let mut room = ARGS_MAX;
    let mut texts = Vec::new();
    for arg in without_padding(args) {
        let Some(left) = room.checked_sub(QUOTES) else {
            truncated = true;
            break;
        };
        // More bytes than there is room for cannot fit, whatever they are.
        let text = escape(arg.get(..left).unwrap_or(arg));
        let fits = fitting(&text, left);
        texts.push(text.get(..fits).unwrap_or_default().to_owned());
        if fits < text.len() || left < arg.len() {
            truncated = true;
            break;
        }
        room = left - json_len(&text);
    }
    process.args = (!texts.is_empty()).then_some(texts);
    process.args_truncated = truncated.then_some(true);
}

/// One parent; `None` for an executable that is not known.
pub(super) fn ancestor(pid: u32, comm: &[u8], exe: Option<&[u8]>) -> Ancestor {
    let name = match exe {
        Some(exe) if comm.is_empty() => base_name(exe),
        _ if comm.is_empty() => "?".to_owned(),
        _ => escape(comm),
    };
    Ancestor {
        pid,
        name,
        exe: exe.and_then(|exe| bounded(exe, ANCESTOR_EXE_MAX)),
    }
}

/// Programs that write a title over their arguments fill the rest with NULs, which look like a run of
/// empty arguments.
fn without_padding(args: &[Vec<u8>]) -> &[Vec<u8>] {
    let used = args
        .iter()
        .rposition(|arg| !arg.is_empty())
        .map_or(0, |last| last + 1);
    if args.len() - used >= 2 {
        args.get(..used).unwrap_or(args)
    } else {
        args
    }
}

/// The last part that has a name: the kernel's name of a memfd may end in a slash.
fn base_name(path: &[u8]) -> String {
    let mut parts = path.rsplit(|&b| b == b'/');
    let last = parts.find(|part| !part.is_empty());
    last.map_or_else(|| "?".to_owned(), escape)
}

fn bounded(path: &[u8], limit: usize) -> Option<String> {
    let text = escape(path);
    (!text.is_empty() && json_len(&text) <= limit).then_some(text)
}

fn json_len(text: &str) -> usize {
    text.len() + text.bytes().filter(|b| matches!(b, b'"' | b'\\')).count()
}

/// How much of an escaped text fits into `room` bytes of JSON without cutting a `\xNN` in two.
fn fitting(text: &str, room: usize) -> usize {
    let mut used = 0;
    let mut at = 0;
    while let Some(c) = text.get(at..).and_then(|rest| rest.chars().next()) {
        // `escape` writes every backslash as the start of four characters.
        let len = if c == '\\' { 4 } else { c.len_utf8() };
        let cost = len + usize::from(matches!(c, '"' | '\\'));
        if used + cost > room {
            break;
        }
        used += cost;
        at += len;
    }
    at
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::{Just, ProptestConfig, any, prop_oneof, proptest};

    use super::{ARGS_MAX, ancestor, process, set_args};
    use crate::decode::record::{ImageInfo, ProcessKey, TaskInfo};
    use crate::event::Process;
    use crate::time::{BootNs, WallClock};

    fn task(comm: &[u8]) -> TaskInfo {
        TaskInfo {
            key: ProcessKey {
                pid: 812,
                start: BootNs(1_000_000_000),
            },
            tid: 813,
            ppid: 1,
            uid: 33,
            gid: 34,
            loginuid: Some(1000),
            cgroup_id: 0,
            comm: comm.into(),
            is_kthread: false,
        }
    }

    fn args(args: &[&[u8]]) -> Process {
        let args: Vec<_> = args.iter().map(|arg| arg.to_vec()).collect();
        let mut process = Process::default();
        set_args(&mut process, &args, false);
        process
    }

    #[test]
    fn a_whole_process() {
        let image = ImageInfo {
            exe: Some(b"/usr/sbin/ng\ninx".to_vec()),
            exe_deleted: true,
            cwd: Some(b"/".to_vec()),
            args: Some(vec![
                b"nginx".to_vec(),
                b"-g".to_vec(),
                b"daemon\x1b".to_vec(),
            ]),
            ..ImageInfo::default()
        };
        let clock = WallClock::from_epoch_ns(1_795_290_121_000_000_000);
        let seen = process(&task(b"nginx"), Some(&image), &clock);
        assert_eq!(
            serde_json::to_string(&seen).expect("JSON"),
            r#"{"pid":812,"tid":813,"ppid":1,"name":"nginx","exe":"/usr/sbin/ng\\x0ainx","exe_deleted":true,"args":["nginx","-g","daemon\\x1b"],"cwd":"/","start_time":"2026-11-21T19:42:02.000000000Z","uid":33,"gid":34,"loginuid":1000}"#
        );
        assert_eq!(process(&task(b""), Some(&image), &clock).name, r"ng\x0ainx");
        assert_eq!(process(&task(b""), None, &clock).name, "?");
        assert_eq!(ancestor(1, b"", Some(b"/lib/systemd")).name, "systemd");
    }

    #[test]
    fn a_nameless_process_is_called_by_its_executable_and_never_nothing() {
        let of = |exe: &[u8]| {
            let nameless = ancestor(7, b"", Some(exe)).name;
            let image = ImageInfo {
                exe: Some(exe.to_vec()),
                ..ImageInfo::default()
            };
            let task = task(b"");
            let clock = WallClock::from_epoch_ns(0);
            assert_eq!(process(&task, Some(&image), &clock).name, nameless);
            nameless
        };
        assert_eq!(of(b"/usr/sbin/nginx"), "nginx");
        assert_eq!(of(b"/memfd:x/"), "memfd:x");
        assert_eq!(of(b"//"), "?");
    }

    #[test]
    fn padding_is_no_argument_but_one_empty_one_is() {
        let texts = |seen: Process| seen.args.unwrap_or_default();
        assert_eq!(
            texts(args(&[b"postgres: writer", b"", b"", b""])),
            ["postgres: writer"]
        );
        assert_eq!(texts(args(&[b"a", b"", b"b", b""])), ["a", "", "b", ""]);
        assert_eq!(args(&[]).args, None);
        assert_eq!(args(&[b"", b""]).args, None);
    }

    #[test]
    fn a_cut_is_told_and_never_splits_an_escape() {
        let long = vec![b'\n'; ARGS_MAX];
        let seen = args(&[b"a", &long, b"b"]);
        let texts = seen.args.expect("args");
        assert_eq!((texts.len(), seen.args_truncated), (2, Some(true)));
        assert!(texts[1].len().is_multiple_of(4) && texts[1].ends_with(r"\x0a"));
        assert_eq!(args(&[b"a"]).args_truncated, None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn the_bound_holds_in_json(
            list in vec(vec(prop_oneof![any::<u8>(), Just(b'"')], 0..1_000), 0..24),
            empty in prop_oneof![0..9usize, 10_000..12_000usize],
            times in 1..6usize,
        ) {
            let mut all = vec![Vec::new(); empty];
            all.extend(list.iter().map(|arg| arg.repeat(times)));
            all.push(b"x".to_vec());
            let mut process = Process::default();
            set_args(&mut process, &all, false);
            let json = serde_json::to_string(&process.args).expect("JSON");
            assert!(json.len() <= ARGS_MAX + 2, "{}", json.len());
            let whole = process.args.map(|a| a.len()) == Some(all.len());
            assert!(whole || process.args_truncated == Some(true));
        }
    }
}
