//! Names of unix sockets without what differs from one run of a program to the next. Pure.

/// What stands for a part that differs.
pub(super) const ANY: char = '*';

/// Fewest hexadecimal digits that are taken for an id, where digits and letters are mixed.
const HEX_MIN: usize = 8;
/// Fewest digits that are taken for a number that differs; four may be a port or a user.
const NUMBER_MIN: usize = 5;
/// How long the random parts are that `mkstemp(3)` and its like make: `XXXXXX` and multiples that programs use.
const RANDOM: [usize; 5] = [6, 8, 10, 12, 16];

/// The name, with `*` for process ids, long numbers, ids and random parts. Folding again changes nothing.
///
/// `pids` are those of the process and its parents: what a program puts into a name is its own.
#[must_use]
pub(super) fn fold(name: &str, pids: &[u32]) -> String {
    let mut folded = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(first) = rest.chars().next() {
        if let Some(len) = uuid(rest) {
            push_any(&mut folded);
            rest = rest.get(len..).unwrap_or_default();
            continue;
        }
        let len = rest
            .find(|c: char| !c.is_ascii_alphanumeric())
            .unwrap_or(rest.len());
        if len == 0 {
            push(&mut folded, first);
            rest = rest.get(first.len_utf8()..).unwrap_or_default();
            continue;
        }
        let (token, after) = rest.split_at(len);
        if differs(token, pids) {
            push_any(&mut folded);
        } else {
            folded.push_str(token);
        }
        rest = after;
    }
    folded
}

fn push(folded: &mut String, c: char) {
    if c == ANY {
        push_any(folded);
    } else {
        folded.push(c);
    }
}

/// One after the other they say no more than one.
fn push_any(folded: &mut String) {
    if !folded.ends_with(ANY) {
        folded.push(ANY);
    }
}

/// Does this run of letters and digits differ from one run of a program to the next?
fn differs(token: &str, pids: &[u32]) -> bool {
    let bytes = token.as_bytes();
    if bytes.iter().all(u8::is_ascii_digit) {
        return bytes.len() >= NUMBER_MIN || token.parse().is_ok_and(|pid| pids.contains(&pid));
    }
    let has = |is: fn(&u8) -> bool| bytes.iter().any(is);
    let digits = has(u8::is_ascii_digit);
    if bytes.len() >= HEX_MIN && digits && bytes.iter().all(u8::is_ascii_hexdigit) {
        return true;
    }
    let upper = has(u8::is_ascii_uppercase);
    let lower = has(u8::is_ascii_lowercase);
    let kinds = [upper, lower, digits].into_iter().filter(|&it| it).count();
    kinds > 1 && RANDOM.contains(&bytes.len()) && !is_word(token)
}

/// A word as people write it: `Docker`, `redis6`, `RDMA2`; or two of them together, `NetworkManager`.
fn is_word(token: &str) -> bool {
    let letters = token.trim_end_matches(|c: char| c.is_ascii_digit());
    if letters.bytes().any(|byte| byte.is_ascii_digit()) {
        return false;
    }
    // Whoever writes words together begins each with one capital letter, and makes it three letters long.
    let mut words = letters.split_inclusive(|c: char| c.is_ascii_uppercase());
    let begins = words.next().unwrap_or_default();
    let same_case = letters.bytes().all(|byte| byte.is_ascii_lowercase())
        || letters.bytes().all(|byte| byte.is_ascii_uppercase());
    let lowers: Vec<usize> = std::iter::once(begins)
        .chain(words)
        .map(|word| word.bytes().filter(u8::is_ascii_lowercase).count())
        .skip(1)
        .collect();
    let first = begins.bytes().filter(u8::is_ascii_lowercase).count();
    same_case || ((first == 0 || first >= 2) && lowers.iter().all(|&count| count >= 2))
}

/// Length of the UUID that the text begins with.
fn uuid(text: &str) -> Option<usize> {
    const GROUPS: [usize; 5] = [8, 4, 4, 4, 12];
    let mut at = 0;
    for (n, group) in GROUPS.into_iter().enumerate() {
        if n > 0 {
            if text.as_bytes().get(at) != Some(&b'-') {
                return None;
            }
            at += 1;
        }
        let digits = text.as_bytes().get(at..at + group)?;
        if !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        at += group;
    }
    let next = text.as_bytes().get(at);
    (!next.is_some_and(u8::is_ascii_alphanumeric)).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::fold;
    use proptest::prelude::*;

    #[test]
    fn what_differs_is_folded() {
        for (name, folded) in [
            ("/tmp/ssh-6nW0Zx2aQ9Lk/agent.912", "/tmp/ssh-*/agent.*"),
            ("@/tmp/dbus-AbCdEfGhIj", "@/tmp/dbus-*"),
            ("/tmp/.ICE-unix/912", "/tmp/.ICE-unix/*"),
            (
                "/run/app/3f2504e0-4f89-11d3-9a0c-0305e82c3301.sock",
                "/run/app/*.sock",
            ),
            ("/run/c/0a1b2c3d4e5f.sock", "/run/c/*.sock"),
            ("/tmp/tmpk3x9Qa/s", "/tmp/tmpk3x9Qa/s"),
            ("/tmp/x-k3x9Qa/s", "/tmp/x-*/s"),
            ("@00a1f", "@00a1f"),
            ("/run/x.1234567", "/run/x.*"),
        ] {
            assert_eq!(fold(name, &[912, 1]), folded, "{name}");
        }
    }

    #[test]
    fn what_stays_the_same_is_kept() {
        for name in [
            "/run/dbus/system_bus_socket",
            "/run/user/1000/bus",
            "/var/run/postgresql/.s.PGSQL.5432",
            "/run/docker.sock",
            "/run/NetworkManager/private",
            "/run/systemd/journal/stdout",
            "/run/redis6/redis.sock",
            "/run/php/php8.2-fpm.sock",
            "/var/run/Docker/s",
            "@/containerd-shim/s",
            "/tmp/.X11-unix/X0",
        ] {
            assert_eq!(fold(name, &[912]), name);
        }
    }

    proptest! {
        #[test]
        fn folding_again_changes_nothing(name in "[/@.a-zA-Z0-9_*-]{0,60}", pid: u32) {
            let once = fold(&name, &[pid]);
            prop_assert_eq!(fold(&once, &[pid]), once.clone());
            prop_assert_eq!(fold(&once, &[]), once);
        }

        #[test]
        fn any_text_is_folded(name in ".*") {
            let _ = fold(&name, &[]);
        }

        #[test]
        fn a_pid_is_never_part_of_it(pid in 10u32..4_194_304, before in "[a-z]{1,5}[-./]") {
            let folded = fold(&format!("/run/{before}{pid}/s"), &[pid]);
            prop_assert!(!folded.contains(&pid.to_string()), "{}", folded);
        }
    }
}
