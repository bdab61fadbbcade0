//! The few types that probes attach to, as BTF of their own in which each keeps the id it has in the kernel.
//!
//! The loader finds what a program attaches to by name, and tells the kernel the id. It would parse all
//! of the kernel's types for that, and search them name by name for each program. It is given this
//! instead: as many types, all but a few of them without a name.

use super::{Btf, Kind, MAGIC, RECORD_LEN};

/// Types to attach to, by their ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttachTypes {
    /// Id, kind and name, by id.
    found: Vec<(u32, u8, String)>,
}

impl Btf {
    /// Those of these functions, and of these tracepoints (`typedef btf_trace_NAME`), that there are.
    #[must_use]
    pub fn attach_types(&self, functions: &[&str], tracepoints: &[&str]) -> AttachTypes {
        let functions = functions.iter().map(|&name| (Kind::FUNC, name.to_owned()));
        let tracepoints = tracepoints
            .iter()
            .map(|name| (Kind::TYPEDEF, format!("btf_trace_{name}")));
        let mut found: Vec<_> = functions
            .chain(tracepoints)
            .filter_map(|(kind, name)| Some((self.first_id(kind, &name)?, kind.0, name)))
            .collect();
        found.sort_unstable();
        AttachTypes { found }
    }

    fn first_id(&self, kind: Kind, name: &str) -> Option<u32> {
        self.named(name)
            .filter(|(_, record)| record.kind == kind)
            .map(|(id, _)| id)
            .min()
    }
}

impl AttachTypes {
    /// BTF with these types. It says where they are, not what they take: what they refer to is left out.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let count = self.found.last().map_or(0, |(id, ..)| *id);
        let types_len = count.saturating_mul(RECORD_LEN as u32);
        let mut strings = vec![0];
        let mut records = Vec::with_capacity(types_len as usize);
        let mut found = self.found.iter().peekable();
        for id in 1..=count {
            let (name, kind) = match found.next_if(|(known, ..)| *known == id) {
                Some((_, kind, text)) => {
                    let name = u32::try_from(strings.len()).unwrap_or(0);
                    strings.extend_from_slice(text.as_bytes());
                    strings.push(0);
                    (name, *kind)
                }
                None => (0, Kind::FWD.0),
            };
            for word in [name, u32::from(kind) << 24, 0] {
                records.extend_from_slice(&word.to_ne_bytes());
            }
        }
        let strings_len = u32::try_from(strings.len()).unwrap_or(0);
        let mut bytes = Vec::with_capacity(super::HEADER_LEN + records.len() + strings.len());
        bytes.extend_from_slice(&MAGIC.to_ne_bytes());
        bytes.extend_from_slice(&[1, 0]);
        for word in [
            super::HEADER_LEN as u32,
            0,
            types_len,
            types_len,
            strings_len,
        ] {
            bytes.extend_from_slice(&word.to_ne_bytes());
        }
        bytes.append(&mut records);
        bytes.append(&mut strings);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::Builder;
    use super::super::{Kind, VMLINUX};
    use super::Btf;

    fn ids(btf: &Btf) -> [Option<u32>; 4] {
        [
            btf.first_id(Kind::FUNC, "unix_bind"),
            btf.first_id(Kind::FUNC, "inet_bind"),
            btf.first_id(Kind::TYPEDEF, "btf_trace_sched_process_exit"),
            btf.first_id(Kind::FUNC, "schedule"),
        ]
    }

    #[test]
    fn types_keep_their_ids_and_others_lose_their_names() {
        let mut whole = Builder::new();
        let int = whole.int("int", 4);
        let bind = whole.function("unix_bind", &[int, int], int);
        whole.function("schedule", &[], 0);
        // A second one of the same name: the first is meant.
        whole.function("unix_bind", &[], 0);
        whole.structure("inet_bind", &[("not", int, 0)]);
        let exit = whole.typedef("btf_trace_sched_process_exit", int);
        whole.int("long", 8);
        let whole = Btf::parse(whole.build()).expect("BTF");
        let attach = whole.attach_types(&["unix_bind", "inet_bind"], &["sched_process_exit"]);
        let few = Btf::parse(attach.to_bytes()).expect("BTF");
        assert_eq!(ids(&few), [Some(bind), None, Some(exit), None]);
        assert_eq!(few.len(), exit as usize, "nothing behind the last one");
        assert_eq!(few.function("unix_bind"), None, "where, not what");
    }

    #[test]
    fn no_types_are_still_btf() {
        let none = Btf::parse(Builder::new().build()).expect("BTF");
        let few = none.attach_types(&["unix_bind"], &["sched_process_exit"]);
        let few = few.to_bytes();
        assert!(Btf::parse(few.clone()).expect("BTF").is_empty());
        aya::Btf::parse(&few, aya::Endianness::default()).expect("the loader takes it too");
    }

    #[test]
    fn of_the_running_kernel_the_ids_are_the_same() {
        // A kernel without BTF has nothing to compare.
        let Ok(whole) = Btf::read(VMLINUX.as_ref()) else {
            return;
        };
        let few = whole.attach_types(&["unix_bind", "inet_bind"], &["sched_process_exit"]);
        let few = few.to_bytes();
        aya::Btf::parse(&few, aya::Endianness::default()).expect("the loader takes it");
        let few = Btf::parse(few).expect("BTF");
        let [unix, inet, exit, schedule] = ids(&whole);
        assert!(unix.is_some() && inet.is_some() && exit.is_some() && schedule.is_some());
        assert_eq!(ids(&few), [unix, inet, exit, None]);
    }
}
