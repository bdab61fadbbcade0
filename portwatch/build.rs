//! Packs the built eBPF object: it is nine tenths repetition, and a part of every copy of the program.

use std::error::Error;
use std::path::Path;
use std::{env, fs, io::Write as _};

use flate2::Compression;
use flate2::write::DeflateEncoder;

fn main() -> Result<(), Box<dyn Error>> {
    let object = match env::var("CARGO_CFG_TARGET_ARCH")?.as_str() {
        "x86_64" => "ebpf/portwatch.bpf.o",
        "aarch64" => "ebpf/portwatch.bpf.arm64.o",
        arch => {
            return Err(format!(
                "there are eBPF objects for x86_64 and aarch64, and none for {arch}: kprobe programs read a machine's argument registers"
            )
            .into());
        }
    };
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={object}");
    let bytes = fs::read(object)?;
    let packed = Path::new(&env::var("OUT_DIR")?).join("object.deflate");
    let mut encoder = DeflateEncoder::new(fs::File::create(packed)?, Compression::best());
    encoder.write_all(&bytes)?;
    encoder.finish()?;
    println!("cargo::rustc-env=PORTWATCH_OBJECT_BYTES={}", bytes.len());
    Ok(())
}
