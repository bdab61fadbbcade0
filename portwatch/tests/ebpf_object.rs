//! The committed eBPF object must be the one that these sources build.
//!
//! Compares the sources with the manifest beside the object, so it needs no BPF toolchain;
//! `cargo xtask ebpf --check` goes further and rebuilds.
#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test says what is wrong by failing"
)]

#[path = "../../xtask/src/ebpf/manifest.rs"]
mod manifest;

use std::path::{Path, PathBuf};

use manifest::{Inputs, MANIFEST, Manifest, OBJECT};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn committed() -> (Manifest, Vec<u8>) {
    let manifest = Manifest::load(&root())
        .unwrap()
        .unwrap_or_else(|| panic!("{MANIFEST} is missing; write it with `cargo xtask ebpf`"));
    let object = std::fs::read(root().join(OBJECT))
        .unwrap_or_else(|error| panic!("{OBJECT}: {error}; write it with `cargo xtask ebpf`"));
    (manifest, object)
}

#[test]
fn the_object_was_built_from_these_sources() {
    let (manifest, object) = committed();
    let departures = manifest.departures(&Inputs::read(&root()).unwrap(), &object);
    assert!(
        departures.is_empty(),
        "the committed eBPF object is stale; run `cargo xtask ebpf` and commit what it writes:\n  {}",
        departures.join("\n  ")
    );
}

#[test]
fn the_manifest_describes_an_object_for_the_bpf_machine() {
    const EM_BPF: u16 = 247;
    let (manifest, object) = committed();
    assert_eq!(manifest.object.size, object.len());
    assert_eq!(object.get(..4), Some(&b"\x7fELF"[..]));
    assert_eq!(object.get(18..20), Some(&EM_BPF.to_le_bytes()[..]));
}

#[test]
fn a_change_in_any_kind_of_input_is_a_departure() {
    let (manifest, object) = committed();
    let inputs = &manifest.inputs;
    assert_eq!(manifest.departures(inputs, &object), Vec::<String>::new());

    let mut edited = inputs.clone();
    edited
        .files
        .insert("portwatch-ebpf/src/main.rs".to_owned(), String::new());
    edited.settings.remove("profile.ebpf");
    edited
        .crates
        .insert("newcomer 1.0.0".to_owned(), String::new());
    assert_eq!(
        manifest.departures(&edited, b"another object"),
        [
            "portwatch-ebpf/src/main.rs has changed",
            "Cargo.toml: profile.ebpf is gone",
            "Cargo.lock: newcomer 1.0.0 is new",
            "portwatch/ebpf/portwatch.bpf.o is not the object that its manifest describes",
        ]
    );
}
