//! Makes a table of the vectors in `core/tests/vectors`, so that they are seeds without being copied.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    let vectors = Path::new(&env::var("CARGO_MANIFEST_DIR").unwrap()).join("../tests/vectors").canonicalize().unwrap();
    println!("cargo::rerun-if-changed={}", vectors.display());
    let mut folders: Vec<PathBuf> = fs::read_dir(&vectors).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.retain(|folder| folder.join("case.json").exists());
    folders.sort();
    let mut table = format!("/// A token of each published client.\npub static SEEDS: [Seed; {}] = [\n", folders.len());
    for folder in folders {
        let case: serde_json::Value = serde_json::from_slice(&fs::read(folder.join("case.json")).unwrap()).unwrap();
        let text = |key: &str| case[key].as_str().unwrap().to_owned();
        writeln!(
            table,
            "Seed {{ url: include_str!({:?}), partition: {:?}, region: {:?}, cluster_id: {:?}, secret: {:?} }},",
            folder.join("url"),
            text("partition"),
            text("region"),
            text("cluster_id"),
            text("secret_access_key")
        )
        .unwrap();
    }
    table.push_str("];\n");
    fs::write(Path::new(&env::var("OUT_DIR").unwrap()).join("seeds.rs"), table).unwrap();
}
