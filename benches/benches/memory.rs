//! What a cached identity takes, and how long it takes to find one: `cargo bench --profile dist -p arngate-benches --bench memory`.
//!
//! A million identities of a usual size (170 bytes of ARN, ids and host) go into the cache; what the process has grown by is compared with what the cache says of
//! itself, and look-ups in random order are timed at a thousand and at a million. Ends with an error where an identity takes more than is promised.

use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use arngate_benches::identity::usual;
use arngate_benches::resident_bytes;
use arngate_server::identity_cache::{Digest, Digester, Found, IdentityCache, Settings};
use prometheus_client::metrics::counter::Counter;

/// The most that is promised for one, all included, in bytes.
const LIMIT_BYTES: u64 = 640;

fn main() -> ExitCode {
    // Without --bench it is `cargo test`, which only wants to see that it runs.
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    let count: u32 = if is_bench { 1_000_000 } else { 1_000 };
    let (identity, now) = usual();
    let digester = Digester::new("bench").expect("the system has random numbers");
    let digest = |number: u32| digester.digest(0, &number.to_be_bytes());

    let look_up = |cache: &IdentityCache, digests: &[Digest]| {
        let begin = now_instant();
        let found = digests.iter().filter(|digest| matches!(black_box(cache.get(digest, now)), Found::Fresh(_))).count();
        let nanos = begin.elapsed().as_secs_f64() * 1e9 / digests.len() as f64;
        println!("identity_cache/get among {:>9}: {nanos:7.1} ns ({found} of {} found)", cache.sizes().entries, digests.len());
    };
    let small = IdentityCache::new(Settings::default(), Counter::default());
    for number in 0..1_000 {
        small.insert(digest(number), Arc::new(identity.clone()));
    }
    let some: Vec<_> = (0..1_000_000_u32).map(|number| digest(number.wrapping_mul(2_654_435_761) % 1_000)).collect();
    look_up(&small, &some);
    drop((small, some));

    let before = resident_bytes();
    let cache = IdentityCache::new(Settings { max_bytes: 1 << 30, ..Settings::default() }, Counter::default());
    for number in 0..count {
        cache.insert(digest(number), Arc::new(identity.clone()));
    }
    let grown = resident_bytes().saturating_sub(before);
    let sizes = cache.sizes();
    let entries = u64::try_from(sizes.entries).unwrap_or(u64::MAX).max(1);
    let (real, told) = (grown / entries, sizes.bytes / entries);
    println!(
        "identity_cache/entry: {real} bytes of the process for each of {entries}, {told} by the cache's own account (at most {LIMIT_BYTES})"
    );
    // Shuffled by a multiplication that is one to one below 2^32, and then by what fits.
    let all: Vec<_> = (0..count).map(|number| digest(number.wrapping_mul(2_654_435_761) % count)).collect();
    look_up(&cache, &all);

    let small_cache = IdentityCache::new(Settings { max_bytes: 2 << 20, ..Settings::default() }, Counter::default());
    let before = resident_bytes();
    for number in 0..200_000.min(count * 10) {
        small_cache.insert(digest(number), Arc::new(identity.clone()));
    }
    let grown = resident_bytes().saturating_sub(before);
    println!("identity_cache/full at 2 MiB: the process has grown by {grown} bytes, {:?}", small_cache.sizes());
    if is_bench && real > LIMIT_BYTES { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

#[expect(clippy::disallowed_methods, reason = "a bench measures with the real clock")]
fn now_instant() -> Instant {
    Instant::now()
}
