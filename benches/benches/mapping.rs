//! What a look-up among many mappings costs, and what they take: `cargo bench --profile dist -p arngate-benches --bench mapping`.
//!
//! The same 100 000 identities, those of neighbours far from each other, are looked up among 10, 1 000 and 100 000 exact mappings, so that what an identity itself costs to touch is the
//! same in each; and one that fits none among 1 000 patterns of its own account. Time is the processor's; bytes are what the allocator was asked for and still holds. Ends with an error
//! where a promise is broken.
//!
//! From one identity to the next it is always the same step, which a processor in part foresees. So they are looked up in an order without one, too; nothing is promised of that, since
//! it is for the most part what one wait for memory takes, on a shared machine by what its neighbours leave of the cache.

use std::hint::black_box;
use std::process::ExitCode;
use std::time::Duration;

use allocation_counter::measure;
use arngate_core::{Identity, Partition};
use arngate_server::mapping::crd::{self, IdentityMapping};
use arngate_server::mapping::{Backend, BackendMode, Mapping, Names, Options, Outcome, Policy, SsoEntries, Store};
use rustix::time::{ClockId, clock_gettime};

/// The most that a look-up among 100 000 may cost, as a multiple of one among 10.
const RATIO: f64 = 2.0;
/// The longest that 1 000 patterns may take.
const PATTERNS: Duration = Duration::from_micros(50);
/// The longest that a snapshot of 100 000 mappings may take to build.
const BUILD: Duration = Duration::from_secs(1);
/// The most that a mapping may take, all included, in bytes.
const BYTES: i64 = 300;

const MODE: BackendMode = BackendMode::MountedFile;
const KEY: &str = "ASIAIOSFODNN7EXAMPLE";
const ROUNDS: usize = 7;

fn role(number: usize) -> String {
    format!("arn:aws:iam::123456789012:role/platform/Team-{number:06}")
}

/// A name that is rendered and a group of its own for each.
fn mapping(number: usize) -> Mapping {
    let names =
        Names { username: format!("team-{number:06}:{{{{SessionName}}}}"), groups: vec![format!("team-{number:06}")], ..Names::default() };
    Mapping::for_arn(role(number), false, names).expect("an ARN")
}

fn pattern(number: usize) -> Mapping {
    let names = Names { username: "team".into(), ..Names::default() };
    Mapping::for_arn(format!("arn:aws:iam::123456789012:role/Team-{number:06}-*"), true, names).expect("a pattern")
}

/// The numbers below `count` in an order that is the same each time and has no pattern.
fn shuffled(count: usize) -> Vec<usize> {
    let mut order: Vec<_> = (0..count).collect();
    let mut state = 1_u64;
    for last in (1..count).rev() {
        // Knuth's MMIX generator, of which the high bits are the good ones.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        order.swap(last, usize::try_from(state >> 33).unwrap_or_default() % (last + 1));
    }
    order
}

fn store(mappings: Vec<Mapping>) -> Store {
    let store = Store::new(Policy::of([MODE]));
    store.publish(MODE, Backend::new(mappings, [].into()));
    store
}

fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let begin = processor_time();
    let value = work();
    (processor_time().saturating_sub(begin), value)
}

/// The time that this thread has had a processor: what others do meanwhile is not counted, but for what they push out of the caches.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let (secs, nanos) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    Duration::new(secs.unwrap_or_default(), nanos.unwrap_or_default())
}

/// Nanoseconds of one look-up, of the quickest round; all of them find what they should.
fn look_ups(store: &Store, identities: &[Identity<'_>], expected: bool) -> f64 {
    let snapshot = store.current();
    let found = |identity: &Identity<'_>| matches!(snapshot.look_up(black_box(identity), KEY), Outcome::Mapped(_));
    let round = || {
        let (time, count) = timed(|| identities.iter().filter(|identity| found(identity)).count());
        assert_eq!(count, if expected { identities.len() } else { 0 });
        time.as_secs_f64() * 1e9 / identities.len() as f64
    };
    let rounds = if identities.len() < 100 { 100 * ROUNDS } else { ROUNDS };
    (0..rounds).map(|_| round()).fold(f64::INFINITY, f64::min)
}

fn main() -> ExitCode {
    // Without --bench it is `cargo test`, which only wants to see that it runs.
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    let many = if is_bench { 100_000 } else { 1_000 };
    let mut broken = Vec::new();

    // One to one below `many`, for the factor is prime and does not divide it.
    let by_steps: Vec<_> = (0..many).map(|index| index * 7_919 % many).collect();
    let shuffled = shuffled(many);
    let arns = |order: &[usize], roles: usize| -> Vec<String> {
        let arn = |(index, number): (usize, &usize)| {
            format!("arn:aws:sts::123456789012:assumed-role/Team-{:06}/worker-{index:06}", number % roles)
        };
        order.iter().enumerate().map(arn).collect()
    };
    let user_ids: Vec<_> = (0..many).map(|index| format!("AROAIOSFODNN7EXAMPLE:worker-{index:06}")).collect();
    let mut times = Vec::new();
    for (order, name, count) in [
        (&by_steps, "exact", 10),
        (&by_steps, "exact", 1_000),
        (&by_steps, "exact", many),
        (&shuffled, "shuffled", 10),
        (&shuffled, "shuffled", many),
    ] {
        let arns = arns(order, count);
        let identities: Vec<_> =
            arns.iter().zip(&user_ids).map(|(arn, id)| Identity::check(Partition::Aws, "123456789012", arn, id).expect("one")).collect();
        let nanos = look_ups(&store((0..count).map(mapping).collect()), &identities, true);
        println!("mapping/look_up/{name} among {count:>7}: {nanos:7.1} ns");
        times.push(nanos);
    }
    let ratio = times[2] / times[0];
    println!("mapping/look_up/exact: {ratio:.2} times as long among {many} as among 10 (at most {RATIO})");
    println!("mapping/look_up/shuffled: {:.2} times as long among {many} as among 10", times[4] / times[3]);
    if is_bench && ratio > RATIO {
        broken.push("a look-up among many");
    }

    let arn = "arn:aws:sts::123456789012:assumed-role/Team-000999/worker".to_owned();
    let nobody = [Identity::check(Partition::Aws, "123456789012", &arn, "AROAEXAMPLE:worker").expect("one")];
    let micros = look_ups(&store((0..1_000).map(pattern).collect()), &nobody, false) / 1e3;
    println!("mapping/look_up/miss of 1000 patterns: {micros:.1} us (at most {PATTERNS:?})");
    if is_bench && micros > PATTERNS.as_secs_f64() * 1e6 {
        broken.push("a look-up among patterns");
    }

    let mut held = None;
    let mut built = Duration::MAX;
    let counted = measure(|| {
        let mappings: Vec<_> = (0..many).map(mapping).collect();
        (built, held) = {
            let (time, store) = timed(|| store(mappings));
            (time, Some(store))
        };
    });
    let (made, _) = timed(|| black_box(store((0..many).map(mapping).collect())));
    let bytes = counted.bytes_current / i64::try_from(many).unwrap_or(i64::MAX);
    println!(
        "mapping/build/{many}: {built:.1?} from mappings at hand, {made:.1?} from nothing (at most {BUILD:?}), at its highest {} MB",
        counted.bytes_max / 1_000_000
    );
    println!("mapping/bytes: {bytes} for each of {many}, its own name and group included (at most {BYTES})");
    if is_bench && made > BUILD {
        broken.push("the time to build");
    }
    if is_bench && bytes > BYTES {
        broken.push("the bytes of a mapping");
    }
    let (freed, ()) = timed(|| drop(held));
    println!("mapping/drop/{many}: {freed:.1?}");

    let objects: Vec<_> = (0..many).map(|number| (format!("team-{number:06}"), role(number), [format!("team-{number:06}")])).collect();
    let specs = objects.iter().map(|(name, arn, groups)| IdentityMapping { name, arn, username: name, groups });
    let options = Options { partition: Partition::Aws, arn_patterns: false, sso: SsoEntries::Asked };
    let (time, read) = timed(|| crd::read(specs, &options));
    assert_eq!((read.entries, read.rejected, read.findings.len()), (many, 0, 0));
    println!("mapping/crd/read/{many}: {time:.1?}");

    for what in &broken {
        eprintln!("{what}: more than is promised");
    }
    if broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
