//! What the load generator itself costs: `cargo bench --profile dist -p arngate-benches --bench samples`.
//!
//! A million latencies of all outcomes are recorded, and what the process has grown by is told; and fresh tokens are signed as a generator thread does it.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use arngate_loadtest::clock::Clock;
use arngate_loadtest::mix::{Kind, Mix, Popularity};
use arngate_loadtest::outcome::{Outcome, judge};
use arngate_loadtest::population::{Population, Shape, USUAL_SESSION_TOKEN_CHARS};
use arngate_loadtest::question::{ApiVersion, Expected};
use arngate_loadtest::supply::{Cast, Form, Order, Stock, Supply};
use arngate_loadtest::tally::Tally;

/// The most that is promised for a million, in bytes, and for a token.
const LIMIT_BYTES: u64 = 64_000_000;
const LIMIT_PER_TOKEN: Duration = Duration::from_micros(10);

fn main() -> ExitCode {
    // Without --bench it is `cargo test`, which only wants to see that it runs.
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    let (samples, tokens): (u64, usize) = if is_bench { (1_000_000, 200_000) } else { (1_000, 100) };

    let before = arngate_benches::resident_bytes();
    let mut tally = Tally::default();
    let begin = now();
    for number in 0..samples {
        // Of each outcome some, from microseconds to half a minute.
        let status = [200, 200, 200, 403, 429, 503, 302][number as usize % 7];
        let judgement = judge(status, br#"{"status":{"authenticated":false}}"#, &Expected::Nobody);
        tally.record(judgement, Duration::from_nanos(1_000 + (number * 2_654_435_761) % 30_000_000_000));
        tally.record_lateness(Duration::from_nanos(number % 100_000));
    }
    let each = begin.elapsed().as_secs_f64() * 1e9 / samples as f64;
    let grown = arngate_benches::resident_bytes().saturating_sub(before);
    assert_eq!((tally.total(), tally.count(Outcome::Throttled)), (samples, (samples + 2) / 7));

    let shape = Shape::Sessions { session_token_chars: USUAL_SESSION_TOKEN_CHARS };
    let cast = Cast { regulars: Population { shape, identities: 1024, mappings: 1000, seed: 1 }, newcomers: 0 };
    let form = Form::new("bench", "sts.us-east-1.amazonaws.com", ApiVersion::V1).expect("these are names");
    let clock = Clock::fixed(arngate_benches::NOW);
    let stock = Stock::sign(&cast, &form, 0, &clock);
    let mix = Mix::only(Kind::FreshSameIdentity);
    let mut supply = Supply::new(Order { cast, form, mix, popularity: Popularity::Uniform, stock, seed: 1, clock }, 0, 1);
    let begin = now();
    let bytes: usize = (0..tokens).map(|_| supply.question().body.len()).sum();
    let each_token = begin.elapsed().div_f64(tokens as f64);
    assert!(bytes / tokens > 1_400, "{} bytes each", bytes / tokens);
    println!(
        "samples: {grown} bytes for {} latencies, {each:.1} ns each; a fresh token {:.2} µs",
        if is_bench { "1 000 000" } else { "few" },
        each_token.as_secs_f64() * 1e6
    );
    let is_over = grown > LIMIT_BYTES || each_token > LIMIT_PER_TOKEN;
    if is_bench && is_over { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

#[expect(clippy::disallowed_methods, reason = "a bench measures with the real clock")]
fn now() -> Instant {
    Instant::now()
}
