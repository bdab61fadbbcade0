//! BTF of any bytes: every question has a bounded answer.

use portwatch_common::offsets::{ABSENT, Offsets};
use zerocopy::IntoBytes as _;

use super::lookup::Prototype;
use super::{Btf, RECORD_LEN};
use crate::fuzzing::assert_plain;
use crate::kernel::offsets;

/// Types of the blob itself that are asked about.
const MAX_ASKED: u32 = 64;

/// The property of the target `btf`.
pub fn btf(bytes: &[u8]) {
    let btf = match Btf::parse(bytes.to_vec()) {
        Ok(btf) => btf,
        Err(error) => return assert_plain(&error.to_string()),
    };
    assert!(btf.len() <= bytes.len() / RECORD_LEN);

    let (values, missing) = offsets::resolve(&btf);
    let words = values.as_bytes().chunks(size_of::<u32>());
    let absent = words.filter(|word| **word == ABSENT.to_ne_bytes()).count();
    assert_eq!(absent, missing.len());
    for field in &missing {
        assert!(
            Offsets::FIELDS
                .iter()
                .any(|(name, ..)| *name == field.field)
        );
    }

    for id in 0..=MAX_ASKED {
        if let Some(record) = btf.record(id)
            && let Ok(name) = std::str::from_utf8(btf.string(record.name))
        {
            ask(&btf, name, record.members);
        }
    }
}

fn ask(btf: &Btf, name: &str, members: usize) {
    for prototype in [btf.function(name), btf.tracepoint(name)]
        .into_iter()
        .flatten()
    {
        assert_sound_prototype(&prototype);
    }
    if let Some(tracepoint) = name.strip_prefix("btf_trace_") {
        btf.tracepoint(tracepoint)
            .iter()
            .for_each(assert_sound_prototype);
    }
    let of_this_name = btf
        .named(name)
        .filter(|(_, record)| record.kind.is_aggregate());
    for (_, record) in of_this_name.take(4) {
        for index in 0..members.min(record.members).min(8) {
            let member = btf.trailing(&record, index * 3).map(|at| btf.string(at));
            let Some(Ok(member)) = member.map(std::str::from_utf8) else {
                continue;
            };
            assert!(btf.has_type(name));
            let nested = format!("{member}.{member}");
            for path in [member, &nested] {
                let found = btf.member(name, path);
                let bits = found.map(|found| found.bit_offset);
                assert_eq!(btf.member_bit_offset(name, path), bits);
                assert_ne!(found.and_then(|found| found.bit_size), Some(0));
            }
        }
    }
}

fn assert_sound_prototype(prototype: &Prototype) {
    assert!(prototype.params.len() <= 32);
    let types = prototype.params.iter().chain([&prototype.returns]);
    types.into_iter().for_each(|name| assert_plain(name));
}

/// The sample of the tests, and the structures that the probes read, cut down.
#[cfg(test)]
pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    use super::fixture::Builder;

    let mut builder = Builder::new();
    let int = builder.int("int", 4);
    let qstr = builder.structure("qstr", &[("len", int, 32), ("name", int, 64)]);
    builder.structure("dentry", &[("__d_name", qstr, 256)]);
    let common = builder.bit_fields("sock_common", &[("skc_reuseport", int, 148, 1)]);
    let sock = [("__sk_common", common, 0, 0), ("sk_userlocks", int, 260, 4)];
    builder.bit_fields("sock", &sock);
    builder.bit_fields("tcp_sock", &[("is_mptcp", int, 803, 1)]);
    builder.structure(
        "task_struct",
        &[("tgid", int, 64), ("real_start_time", int, 128)],
    );
    let socket = builder.build();

    // A qualifier of itself, and a structure within itself.
    let mut builder = Builder::new();
    builder.raw("loop", 10, false, 0, 1, &[]);
    builder.structure("nested", &[("", 2, 0), ("x", 1, 8)]);
    vec![
        ("sample", super::tests::sample()),
        ("probes", socket),
        ("loops", builder.build()),
        ("empty", Builder::new().build()),
    ]
}
