//! What BTF must answer, on bytes made by hand, on damaged bytes, and on the running kernel.

use proptest::prelude::{ProptestConfig, any, prop, proptest};

use super::fixture::Builder;
use super::{Btf, BtfError, Member, VMLINUX};

/// A socket in small: nesting, an anonymous union within an anonymous struct, both kinds of
/// bit-fields, a typedef, a function, a tracepoint.
pub(super) fn sample() -> Vec<u8> {
    let mut b = Builder::new();
    let int = b.int("int", 4);
    let short = b.int("short", 2);
    let constant = b.constant(int);
    let state_t = b.typedef("state_t", constant);
    let ports = b.structure("", &[("skc_dport", short, 0), ("skc_num", short, 16)]);
    let port_pair = b.union("", &[("skc_portpair", int, 0), ("", ports, 0)]);
    let common = b.bit_fields(
        "sock_common",
        &[
            ("skc_family", short, 0, 0),
            ("skc_reuse", int, 16, 4),
            ("skc_reuseport", int, 20, 1),
            ("", port_pair, 32, 0),
            ("skc_state", state_t, 64, 0),
        ],
    );
    let narrow = b.narrow_int(4, 8, 8);
    let sock = b.structure(
        "sock",
        &[("__sk_common", common, 64), ("sk_protocol", narrow, 192)],
    );
    let sock_ptr = b.pointer(sock);
    let const_sock = b.constant(sock);
    let const_sock_ptr = b.pointer(const_sock);
    b.function("inet_csk_listen_start", &[sock_ptr, int], int);
    b.function("void_function", &[], 0);
    let void_ptr = b.pointer(0);
    let tracepoint = b.prototype(&[void_ptr, const_sock_ptr, constant], 0);
    let tracepoint_ptr = b.pointer(tracepoint);
    b.typedef("btf_trace_inet_sock_set_state", tracepoint_ptr);
    b.raw("flags64", 19, false, 1, 8, &[0, 1, 0]);
    b.raw("tag", 17, false, 0, sock, &[0]);
    b.raw("rcu", 18, false, 0, sock, &[]);
    b.structure("after_all_kinds", &[("last", int, 96)]);
    b.build()
}

fn parsed() -> Btf {
    Btf::parse(sample()).expect("the sample is whole")
}

#[test]
fn members_are_found_through_names_and_anonymous_layers() {
    let btf = parsed();
    let at = |path| btf.member_bit_offset("sock", path);
    assert_eq!(at("__sk_common"), Some(64));
    assert_eq!(at("__sk_common.skc_family"), Some(64));
    assert_eq!(at("__sk_common.skc_num"), Some(64 + 32 + 16));
    assert_eq!(at("__sk_common.skc_portpair"), Some(64 + 32));
    assert_eq!(at("__sk_common.skc_state"), Some(64 + 64));
    assert_eq!(at("__sk_common.nothing"), None);
    assert_eq!(at("__sk_common.skc_state.deeper"), None);
    assert_eq!(at(""), None);
    assert_eq!(at("."), None);
    assert_eq!(btf.member_bit_offset("no_such", "x"), None);
    assert_eq!(btf.member_bit_offset("state_t", "x"), None);
    assert_eq!(btf.member_bit_offset("after_all_kinds", "last"), Some(96));
}

#[test]
fn bit_fields_are_told_in_both_encodings() {
    let btf = parsed();
    let member = |bit_offset, bit_size| {
        Some(Member {
            bit_offset,
            bit_size,
        })
    };
    assert_eq!(
        btf.member("sock", "__sk_common.skc_reuseport"),
        member(64 + 20, Some(1))
    );
    assert_eq!(btf.member("sock", "sk_protocol"), member(200, Some(8)));
    assert_eq!(
        btf.member("sock", "__sk_common.skc_family"),
        member(64, None)
    );
}

#[test]
fn prototypes_read_like_c() {
    let btf = parsed();
    let listen = btf.function("inet_csk_listen_start").expect("known");
    assert_eq!(listen.params, ["struct sock *", "int"]);
    assert_eq!(listen.returns, "int");
    assert_eq!(
        btf.function("void_function").expect("known").returns,
        "void"
    );
    assert_eq!(btf.function("sock"), None, "a struct is no function");
    let tracepoint = btf.tracepoint("inet_sock_set_state").expect("known");
    assert_eq!(tracepoint.params, ["const struct sock *", "const int"]);
    assert_eq!(btf.tracepoint("no_such"), None);
}

#[test]
fn types_are_known_by_name() {
    let btf = parsed();
    assert!(btf.has_type("sock") && btf.has_type("state_t") && btf.has_type("flags64"));
    assert!(!btf.has_type("inet_csk_listen_start") && !btf.has_type(""));
}

#[test]
fn what_is_not_btf_is_refused_with_a_reason() {
    let damaged = |at: usize, byte: u8| {
        let mut bytes = sample();
        bytes[at] = byte;
        Btf::parse(bytes).err()
    };
    assert!(matches!(
        Btf::parse(Vec::new()),
        Err(BtfError::Truncated(_))
    ));
    assert!(matches!(damaged(0, 0), Some(BtfError::Magic)));
    assert!(matches!(damaged(2, 2), Some(BtfError::Version(2))));
    // The kind of the first type.
    let kind = if cfg!(target_endian = "little") {
        31
    } else {
        28
    };
    assert!(matches!(
        damaged(kind, 77),
        Some(BtfError::Kind { id: 1, kind: 77 })
    ));
    let mut short = sample();
    short.pop();
    assert!(matches!(Btf::parse(short), Err(BtfError::Truncated(_))));
}

#[test]
fn types_that_contain_themselves_end() {
    let mut b = Builder::new();
    // 1: typedef to itself; 2: anonymous members that are the struct itself, many times over.
    b.typedef("loop", 1);
    let many: Vec<_> = (0..2000).map(|_| ("", 2, 0)).collect();
    b.structure("knot", &many);
    b.structure("user", &[("field", 1, 0)]);
    b.pointer(4);
    b.function("takes_loop", &[4], 1);
    let btf = Btf::parse(b.build()).expect("well formed");
    assert_eq!(btf.member_bit_offset("knot", "x"), None);
    assert_eq!(btf.member_bit_offset("user", "field.x"), None);
    let loops = btf.function("takes_loop").expect("known");
    assert!(loops.params[0].starts_with('?'), "{loops:?}");
}

#[test]
fn an_integer_of_no_bits_is_no_bit_field() {
    let mut b = Builder::new();
    let nothing = b.narrow_int(4, 0, 0);
    b.structure("damaged", &[("x", nothing, 32)]);
    let btf = Btf::parse(b.build()).expect("well formed");
    let expected = Member {
        bit_offset: 32,
        bit_size: None,
    };
    assert_eq!(btf.member("damaged", "x"), Some(expected));
}

#[test]
fn a_string_that_does_not_end_soon_is_no_name() {
    let mut b = Builder::new();
    let int = b.int("int", 4);
    let longest = "n".repeat(super::MAX_STRING - 1);
    b.structure(&longest, &[("x", int, 8)]);
    let longer = "l".repeat(super::MAX_STRING);
    b.structure(&longer, &[("x", int, 8)]);
    let btf = Btf::parse(b.build()).expect("well formed");
    assert_eq!(btf.member_bit_offset(&longest, "x"), Some(8));
    assert!(!btf.has_type(&longer));
}

/// Asks everything; only that it comes back matters.
fn ask(bytes: Vec<u8>) {
    let Ok(btf) = Btf::parse(bytes) else {
        return;
    };
    for path in ["__sk_common.skc_num", "__sk_common.x", "sk_protocol", "x"] {
        let _ = btf.member("sock", path);
        let _ = btf.member("sock_common", path);
    }
    let _ = btf.function("inet_csk_listen_start");
    let _ = btf.tracepoint("inet_sock_set_state");
    let _ = btf.has_type("state_t");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn damaged_bytes_never_panic(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..24),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = sample();
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        ask(bytes);
    }

    #[test]
    fn random_words_behind_a_good_header_never_panic(words in prop::collection::vec(any::<u32>(), 0..64)) {
        let mut bytes = sample();
        let end = bytes.len().min(24 + words.len() * 4);
        let noise: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        bytes[24..end].copy_from_slice(&noise[..end - 24]);
        ask(bytes);
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        ask(bytes);
    }
}

#[test]
fn the_running_kernel_is_understood() {
    let Ok(btf) = Btf::read(VMLINUX.as_ref()) else {
        eprintln!("skipped: this kernel shows no BTF");
        return;
    };
    assert!(
        btf.len() > 10_000,
        "a kernel has more than {} types",
        btf.len()
    );
    assert_eq!(
        btf.member_bit_offset("sock", "__sk_common.skc_family"),
        Some(128)
    );
    let listen = btf.function("inet_csk_listen_start").expect("TCP is there");
    assert_eq!(listen.params[0], "struct sock *");
    assert_eq!(listen.returns, "int");
    let state = btf
        .tracepoint("inet_sock_set_state")
        .expect("tracepoints are there");
    assert_eq!(
        state.params,
        ["const struct sock *", "const int", "const int"]
    );
}
