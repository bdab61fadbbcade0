//! The committed eBPF objects must be the ones that these sources build.
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

use manifest::{ARCHES, Arch, Inputs, Manifest};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn committed(arch: Arch) -> (Manifest, Vec<u8>) {
    let (object, manifest) = (arch.object, arch.manifest);
    let manifest = Manifest::load(&root(), arch)
        .unwrap()
        .unwrap_or_else(|| panic!("{manifest} is missing; write it with `cargo xtask ebpf`"));
    let object = std::fs::read(root().join(object))
        .unwrap_or_else(|error| panic!("{object}: {error}; write it with `cargo xtask ebpf`"));
    (manifest, object)
}

#[test]
fn the_objects_were_built_from_these_sources() {
    for arch in ARCHES {
        let (manifest, object) = committed(arch);
        let departures = manifest.departures(&Inputs::read(&root()).unwrap(), &object);
        assert!(
            departures.is_empty(),
            "the committed eBPF object is stale; run `cargo xtask ebpf` and commit what it writes:\n  {}",
            departures.join("\n  ")
        );
    }
}

#[test]
fn each_manifest_describes_an_object_for_the_bpf_machine() {
    const EM_BPF: u16 = 247;
    for arch in ARCHES {
        let (manifest, object) = committed(arch);
        assert_eq!(manifest.object.arch, arch.name);
        assert_eq!(
            manifest.flags,
            [format!("--cfg=bpf_target_arch=\"{}\"", arch.name)]
        );
        assert_eq!(manifest.object.size, object.len());
        assert_eq!(object.get(..4), Some(&b"\x7fELF"[..]));
        assert_eq!(object.get(18..20), Some(&EM_BPF.to_le_bytes()[..]));
    }
}

#[test]
fn both_objects_have_the_same_inputs_and_other_code() {
    let [(one, first), (other, second)] = ARCHES.map(committed);
    assert_eq!(one.inputs, other.inputs);
    assert_ne!(first, second);
}

#[test]
fn a_change_in_any_kind_of_input_is_a_departure() {
    let [arch, _] = ARCHES;
    let (manifest, object) = committed(arch);
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
            "the object for x86_64 is not the one that its manifest describes",
        ]
    );
}
