//! How much longer a verification takes than its floor: `cargo bench --profile dist -p arngate-benches --bench ratio`.
//!
//! The two take turns, a hundred calls each, so that whatever else the machine does meets both; of each the quickest turn counts. Ends with an
//! error where the ratio is above the promised one.

use std::hint::black_box;
use std::process::ExitCode;
use std::time::Duration;

use arngate_benches::Case;
use arngate_core::TokenBuffer;

/// The most that is promised.
const LIMIT: f64 = 1.5;
const TURNS: u32 = 20_000;
const CALLS: u32 = 100;

fn main() -> ExitCode {
    // Without --bench it is `cargo test`, which only wants to see that it runs.
    let turns = if std::env::args().any(|argument| argument == "--bench") { TURNS } else { 1 };
    let mut is_over = false;
    for (name, case) in [("key_500", Case::key_500()), ("session_1k8", Case::session_1k8())] {
        let (mut buffer, mut room) = (TokenBuffer::new(), [0; 4096]);
        let (mut verify, mut floor) = (Duration::MAX, Duration::MAX);
        for _ in 0..turns {
            verify = verify.min(time(|| assert_eq!(black_box(&case).verify(black_box(&mut buffer)), Ok(Ok(())))));
            floor = floor.min(time(|| {
                black_box(black_box(&case).floor(black_box(&mut room)));
            }));
        }
        let nanos = |turn: Duration| turn.as_secs_f64() * 1e9 / f64::from(CALLS);
        let ratio = nanos(verify) / nanos(floor);
        println!("{name:12} verify {:7.1} ns   floor {:7.1} ns   ratio {ratio:.3} (at most {LIMIT})", nanos(verify), nanos(floor));
        is_over |= turns == TURNS && ratio > LIMIT;
    }
    if is_over { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

#[expect(clippy::disallowed_methods, reason = "a bench measures with the real clock")]
fn time(mut call: impl FnMut()) -> Duration {
    let start = std::time::Instant::now();
    for _ in 0..CALLS {
        call();
    }
    start.elapsed()
}
