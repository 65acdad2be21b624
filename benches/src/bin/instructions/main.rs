//! Instructions that each stage of the core takes, counted by callgrind, beside a committed baseline.
//!
//! ```sh
//! cargo run --release -p arngate-benches --no-default-features --bin instructions            # fails above the baseline + 5 %
//! cargo run --release -p arngate-benches --no-default-features --bin instructions -- --renew # writes it anew: in a commit of its own
//! ```
//!
//! Each case is a process of its own under valgrind, run twice: with ten turns, and with a hundred more. What these hundred have taken more is what is told,
//! so that neither the start of a process nor what is done once in it counts. The same binary gives the same counts on any day; another compiler gives
//! others, and so does another way to hash, which is why the baseline names both. callgrind knows no SHA instructions: hashes weigh more than on the CPU.

mod baseline;

use std::collections::BTreeMap;
use std::error::Error;
use std::hint::black_box;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use arngate_benches::{Case, derive};
use arngate_core::TokenBuffer;
use arngate_core::arn::Arn;

use self::baseline::Baseline;

const FIRST_TURNS: u32 = 10;
const TURNS: u32 = 100;

/// Name and work; it is given how many turns to take, and says whether all of them came to what they should.
type Work = (&'static str, fn(u32) -> bool);

const WORK: &[Work] = &[
    ("arn/parse/session", |turns| {
        all(turns, || {
            Arn::parse(black_box("arn:aws:sts::123456789012:assumed-role/platform-deployer/build-worker-0001@example.com")).is_ok()
        })
    }),
    ("floor/verify/key_500", |turns| floor(&Case::key_500(), turns)),
    ("floor/verify/session_1k8", |turns| floor(&Case::session_1k8(), turns)),
    ("request/check/key_500", |turns| check(&Case::key_500(), turns)),
    ("request/check/session_1k8", |turns| check(&Case::session_1k8(), turns)),
    ("sigv4/derive", |turns| {
        all(turns, || {
            black_box(derive());
            true
        })
    }),
    ("sigv4/presign/key_500", |turns| presign(&Case::key_500(), turns)),
    ("sigv4/presign/session_1k8", |turns| presign(&Case::session_1k8(), turns)),
    ("sigv4/verify/key_500", |turns| verify(&Case::key_500(), turns)),
    ("sigv4/verify/session_1k8", |turns| verify(&Case::session_1k8(), turns)),
    ("token/decode/key_500", |turns| decode(&Case::key_500(), turns)),
    ("token/decode/session_1k8", |turns| decode(&Case::session_1k8(), turns)),
];

fn all(turns: u32, mut turn: impl FnMut() -> bool) -> bool {
    (0..turns).fold(true, |all, _| turn() & all)
}

fn floor(case: &Case, turns: u32) -> bool {
    let mut room = [0; 4096];
    all(turns, || black_box(case).floor(black_box(&mut room)) != [0; 32])
}

fn decode(case: &Case, turns: u32) -> bool {
    let mut buffer = TokenBuffer::new();
    all(turns, || black_box(case).decode(black_box(&mut buffer)).is_ok())
}

fn check(case: &Case, turns: u32) -> bool {
    let mut buffer = TokenBuffer::new();
    all(turns, || black_box(case).check(black_box(&mut buffer)).is_ok())
}

fn verify(case: &Case, turns: u32) -> bool {
    let mut buffer = TokenBuffer::new();
    all(turns, || black_box(case).verify(black_box(&mut buffer)) == Ok(Ok(())))
}

fn presign(case: &Case, turns: u32) -> bool {
    let mut url = String::with_capacity(4096);
    all(turns, || {
        url.clear();
        black_box(case).presign(black_box(&mut url)).is_ok()
    })
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let done = match arguments.as_slice() {
        [] => compare(),
        ["--renew"] => renew(),
        ["--turns", name, turns] => Ok(take_turns(name, turns)),
        // Under valgrind, for what matters is what is seen there.
        ["--backend"] => {
            println!("{}", backend());
            Ok(ExitCode::SUCCESS)
        }
        _ => Err("expected nothing, or --renew".into()),
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}

fn take_turns(name: &str, turns: &str) -> ExitCode {
    let work = WORK.iter().find(|(known, _)| *known == name);
    match (work, turns.parse()) {
        (Some((_, work)), Ok(turns)) if work(turns) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// How sha2 hashes here: by the same question that it asks.
fn backend() -> &'static str {
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    if std::is_x86_feature_detected!("sha") && std::is_x86_feature_detected!("sse4.1") {
        return "x86-sha";
    }
    #[cfg(target_arch = "aarch64")]
    if std::arch::is_aarch64_feature_detected!("sha2") {
        return "aarch64-sha2";
    }
    "soft"
}

fn file() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/instructions.json"))
}

fn renew() -> Result<ExitCode, Box<dyn Error>> {
    let counted = count()?;
    std::fs::write(file(), counted.to_json()?).map_err(|error| format!("cannot write {}: {error}", file().display()))?;
    for (name, count) in &counted.counts {
        println!("{name:28} {count:>9}");
    }
    println!("written to {}; commit it by itself, with the reason", file().display());
    Ok(ExitCode::SUCCESS)
}

fn compare() -> Result<ExitCode, Box<dyn Error>> {
    let text = std::fs::read_to_string(file()).map_err(|error| format!("cannot read {}: {error}", file().display()))?;
    let baseline = Baseline::from_json(&text).map_err(|error| format!("{}: {error}", file().display()))?;
    let compared = baseline.compare(&count()?);
    print!("{compared}");
    Ok(if compared.has_failed() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Counts all.
fn count() -> Result<Baseline, Box<dyn Error>> {
    let lock = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock"))?;
    let version = baseline::sha2_of_core(&lock).ok_or("Cargo.lock does not tell which sha2 the core has")?;
    let (_, backend) = under_valgrind(&["--backend"])?;
    let mut counts = BTreeMap::new();
    for (name, _) in WORK {
        let turns = |turns: u32| under_valgrind(&["--turns", name, &turns.to_string()]).map(|(count, _)| count);
        let (least, most) = (turns(FIRST_TURNS)?, turns(FIRST_TURNS + TURNS)?);
        counts.insert((*name).to_owned(), most.saturating_sub(least) / u64::from(TURNS));
    }
    let sha2 = format!("{version}, {}", backend.trim());
    Ok(Baseline { rustc: env!("BENCHES_RUSTC").into(), sha2, profile: env!("BENCHES_PROFILE").into(), counts })
}

/// Runs this program with these arguments: how many instructions it took, and what it printed.
fn under_valgrind(arguments: &[&str]) -> Result<(u64, String), Box<dyn Error>> {
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(std::env::current_exe()?).args(arguments);
    let output = command.output().map_err(|error| format!("valgrind could not be started: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let count = said.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok());
    match count {
        Some(count) if output.status.success() => Ok((count, String::from_utf8_lossy(&output.stdout).into_owned())),
        _ => Err(format!("valgrind {arguments:?}: {}: {said}", output.status).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_work_comes_to_what_it_should() {
        for (name, work) in WORK {
            assert!(work(3), "{name}");
        }
    }
}
