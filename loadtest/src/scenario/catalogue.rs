//! The scenarios that there are.

use std::num::NonZeroU64;
use std::time::Duration;

use super::{Amount, Event, Phase, Rule, Scenario, Scenery};
use crate::arrivals::Arrivals;
use crate::generator::Limit;
use crate::mix::{Kind, Mix};
use crate::outcome::Outcome;
use crate::population::{Shape, USUAL_SESSION_TOKEN_CHARS};
use crate::sts::Behaviour;
use crate::target::Http;

const MIB: u64 = 1 << 20;

/// All scenarios, with load for `duration` in each timed phase.
#[must_use]
pub fn all(duration: Duration) -> Vec<Scenario> {
    vec![
        hit(duration),
        hit_users(duration),
        cold(),
        unique_sts(duration),
        unique_offline(duration),
        herd(),
        forged_flood(duration),
        sts_outage(),
        throttle_storm(),
        reload_under_load(),
        drain(),
        memory_20_mib(duration),
    ]
}

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// Sessions of roles with bodies of 1.6 kB, 1 024 identities, 1 000 mappings, one worker thread.
const fn scenery() -> Scenery {
    Scenery {
        shape: Shape::Sessions { session_token_chars: USUAL_SESSION_TOKEN_CHARS },
        identities: 1024,
        mappings: 1000,
        offline: false,
        sts_delay: Duration::ZERO,
        memory_limit: None,
        threads: 1,
        settings: String::new(),
    }
}

/// One HTTP/2 connection with 64 questions in flight, as kube-apiserver has it.
fn phase(name: &'static str, mix: Mix, duration: Duration) -> Phase {
    Phase {
        name,
        amount: Amount::InFlight(64),
        http: Http::Two,
        connections: 1,
        must_connect: true,
        mix,
        tokens: 4096,
        prime: false,
        warm_up: secs(1),
        limit: Limit { duration: Some(duration), count: None },
        events: Vec::new(),
    }
}

fn repeated(name: &'static str, duration: Duration) -> Phase {
    Phase { prime: true, ..phase(name, Mix::only(Kind::Repeated), duration) }
}

fn fresh(name: &'static str, duration: Duration) -> Phase {
    Phase { tokens: 0, ..phase(name, Mix::only(Kind::FreshSameIdentity), duration) }
}

fn rate(rate: f64) -> Amount {
    Amount::Open(Arrivals::Constant { rate })
}

fn mix(text: &str) -> Mix {
    text.parse().expect("written here, and read by a test")
}

fn hit(duration: Duration) -> Scenario {
    Scenario {
        name: "hit",
        about: "warm tokens: 4096 of 1024 identities in random order, over one h2 connection × 64 streams, then over 64 h1 connections; STS takes 10 ms",
        scenery: Scenery { sts_delay: Duration::from_millis(10), ..scenery() },
        phases: vec![repeated("h2", duration), Phase { http: Http::One, connections: 64, ..repeated("h1", duration) }],
        rules: vec![
            Rule::NoWrongIdentity,
            Rule::AllAllowed("h2"),
            Rule::AllAllowed("h1"),
            Rule::StsShare("h2", 0.01),
            Rule::StsShare("h1", 0.01),
        ],
    }
}

fn hit_users(duration: Duration) -> Scenario {
    Scenario {
        name: "hit-users",
        about: "warm tokens of 1000 users, which are half as long as those of sessions, over one h2 connection × 64 streams; STS takes 10 ms",
        scenery: Scenery { shape: Shape::Users, identities: 1000, sts_delay: Duration::from_millis(10), ..scenery() },
        phases: vec![repeated("h2", duration)],
        rules: vec![Rule::NoWrongIdentity, Rule::AllAllowed("h2"), Rule::StsShare("h2", 0.01)],
    }
}

fn cold() -> Scenario {
    Scenario {
        name: "cold",
        about: "4096 tokens of 1024 identities, each asked about once by a process that has just started; STS takes 10 ms",
        scenery: Scenery { sts_delay: Duration::from_millis(10), ..scenery() },
        phases: vec![Phase {
            tokens: 0,
            warm_up: Duration::ZERO,
            limit: Limit { duration: None, count: Some(4096) },
            ..phase("cold", Mix::only(Kind::FreshSameIdentity), Duration::ZERO)
        }],
        rules: vec![Rule::NoWrongIdentity, Rule::AllAllowed("cold"), Rule::StsCalls("cold", 4096)],
    }
}

fn unique_sts(duration: Duration) -> Scenario {
    Scenario {
        name: "unique-sts",
        about: "each token another one, proved by an STS that takes no time: 64 in flight, then evenly at half of that rate",
        scenery: scenery(),
        phases: vec![fresh("full", duration), Phase { amount: Amount::ShareOfBefore(0.5), ..fresh("half", duration) }],
        rules: vec![Rule::NoWrongIdentity, Rule::AllAllowed("full"), Rule::AllAllowed("half")],
    }
}

fn unique_offline(duration: Duration) -> Scenario {
    Scenario {
        name: "unique-offline",
        about: "each token another one, proved by a bundle of keys; then repeated ones",
        scenery: Scenery { shape: Shape::Users, identities: 1000, offline: true, ..scenery() },
        phases: vec![fresh("unique", duration), repeated("repeated", duration)],
        rules: vec![
            Rule::NoWrongIdentity,
            Rule::AllAllowed("unique"),
            Rule::AllAllowed("repeated"),
            Rule::RateShare("unique", "repeated", 0.8),
        ],
    }
}

fn herd() -> Scenario {
    Scenario {
        name: "herd",
        about: "10 000 questions in flight for one cold token, over 40 h2 connections; STS takes 200 ms; 256 MiB of memory",
        scenery: Scenery { identities: 1, sts_delay: Duration::from_millis(200), memory_limit: Some(256 * MIB), ..scenery() },
        phases: vec![Phase {
            amount: Amount::InFlight(10_000),
            connections: 40,
            tokens: 1,
            warm_up: Duration::ZERO,
            limit: Limit { duration: None, count: Some(10_000) },
            ..phase("herd", Mix::only(Kind::Repeated), Duration::ZERO)
        }],
        rules: vec![Rule::NoWrongIdentity, Rule::StsCalls("herd", 1), Rule::AtLeast("herd", Outcome::Allowed, 10_000)],
    }
}

fn forged_flood(duration: Duration) -> Scenario {
    let known = 200.0;
    // By chance it may be fewer than its share, but never so few.
    let known_least = (duration.as_secs_f64() * known * 0.75) as u64;
    Scenario {
        name: "forged-flood",
        about: "200 repeated tokens a second alone, then beside 2000 forged ones a second whose keys nobody knows; STS takes 10 ms",
        scenery: Scenery { sts_delay: Duration::from_millis(10), ..scenery() },
        phases: vec![
            Phase { amount: rate(known), ..repeated("alone", duration) },
            Phase { amount: rate(known * 11.0), prime: true, ..phase("flooded", mix("repeated=1,forged-unknown-key=10"), duration) },
        ],
        rules: vec![
            Rule::NoWrongIdentity,
            Rule::AllAllowed("alone"),
            Rule::AtLeast("flooded", Outcome::Allowed, known_least),
            Rule::AtLeast("flooded", Outcome::Denied, 1),
            Rule::P99Within("alone", "flooded", 2.0),
        ],
    }
}

/// 300 questions a second for 25 seconds; of ten tokens nine are repeated: 6750 by chance, and 26 more or less are usual.
fn mostly_repeated(name: &'static str, events: Vec<(Duration, Event)>) -> Phase {
    let mix = mix("repeated=9,fresh-same-identity=1");
    Phase { amount: rate(300.0), prime: true, tokens: 512, warm_up: Duration::ZERO, events, ..phase(name, mix, secs(25)) }
}

/// Fewer than there are repeated ones, and far more than are asked outside of ten seconds.
const KNOWN_LEAST: u64 = 6600;

fn sts_outage() -> Scenario {
    let events = vec![(secs(5), Event::Sts(Behaviour::Hang, NonZeroU64::MIN)), (secs(15), Event::Sts(Behaviour::Answer, NonZeroU64::MIN))];
    Scenario {
        name: "sts-outage",
        about: "300 questions a second, one of ten about a fresh token; STS hangs from second 5 to second 15: who is known is let in, who is not is told that STS is away, and soon after its end all are let in",
        scenery: Scenery { sts_delay: Duration::from_millis(10), ..scenery() },
        phases: vec![mostly_repeated("outage", events)],
        rules: vec![
            Rule::NoWrongIdentity,
            Rule::AtMost("outage", Outcome::Denied, 0),
            Rule::AtMost("outage", Outcome::TimedOut, 0),
            Rule::AtMost("outage", Outcome::CutOff, 0),
            Rule::AtLeast("outage", Outcome::Allowed, KNOWN_LEAST),
            Rule::P90AtMost("outage", Duration::from_millis(200)),
            Rule::AtLeast("outage", Outcome::Unavailable, 1),
            // A breaker that is open looks again after four seconds at most.
            Rule::OnlyAllowedFrom("outage", secs(21)),
        ],
    }
}

fn throttle_storm() -> Scenario {
    let every_second = NonZeroU64::MIN.saturating_add(1);
    let events = vec![(secs(5), Event::Sts(Behaviour::Throttle, every_second)), (secs(15), Event::Sts(Behaviour::Answer, NonZeroU64::MIN))];
    Scenario {
        name: "throttle-storm",
        about: "300 questions a second, one of ten about a fresh token; STS throttles every second call from second 5 to second 15: who is known is let in, who is throttled is told so",
        scenery: Scenery { sts_delay: Duration::from_millis(10), ..scenery() },
        phases: vec![mostly_repeated("storm", events)],
        rules: vec![
            Rule::NoWrongIdentity,
            Rule::AtMost("storm", Outcome::Denied, 0),
            Rule::AtMost("storm", Outcome::TimedOut, 0),
            Rule::AtMost("storm", Outcome::CutOff, 0),
            Rule::AtMost("storm", Outcome::Unavailable, 0),
            Rule::AtLeast("storm", Outcome::Allowed, KNOWN_LEAST),
            Rule::P90AtMost("storm", Duration::from_millis(200)),
            Rule::AtLeast("storm", Outcome::Throttled, 1),
            Rule::OnlyAllowedFrom("storm", secs(19)),
        ],
    }
}

fn reload_under_load() -> Scenario {
    Scenario {
        name: "reload-under-load",
        about: "warm tokens; the configuration is written anew with one mapping more after 2 and 8 seconds, the certificate after 5: each acts within 3 seconds, and nobody is harmed",
        scenery: scenery(),
        phases: vec![Phase {
            events: vec![(secs(2), Event::RewriteConfig), (secs(5), Event::RenewCertificate), (secs(8), Event::RewriteConfig)],
            warm_up: Duration::ZERO,
            ..repeated("reload", secs(12))
        }],
        rules: vec![Rule::NoWrongIdentity, Rule::AllAllowed("reload"), Rule::ReloadsWithin(3, secs(3))],
    }
}

fn drain() -> Scenario {
    Scenario {
        name: "drain",
        about: "1000 questions a second, one of ten about a fresh token, for which STS takes 200 ms; the target is told to end after 3 seconds: what it has taken it must answer; who comes later finds it gone",
        scenery: Scenery { sts_delay: Duration::from_millis(200), ..scenery() },
        phases: vec![Phase {
            amount: rate(1000.0),
            prime: true,
            tokens: 256,
            events: vec![(secs(3), Event::Terminate)],
            warm_up: Duration::ZERO,
            ..phase("drain", mix("repeated=9,fresh-same-identity=1"), secs(4))
        }],
        rules: vec![
            Rule::NoWrongIdentity,
            Rule::AtMost("drain", Outcome::Denied, 0),
            Rule::AtMost("drain", Outcome::TimedOut, 0),
            Rule::AtMost("drain", Outcome::Unavailable, 0),
            Rule::AtLeast("drain", Outcome::CutOff, 1),
            Rule::OnlyBecause("drain", Outcome::CutOff, "cannot connect: connection refused"),
            Rule::EndedWell,
        ],
    }
}

fn memory_20_mib(duration: Duration) -> Scenario {
    let counted = |name, kind, count| Phase {
        http: Http::One,
        connections: 64,
        tokens: 0,
        warm_up: Duration::ZERO,
        limit: Limit { duration: None, count: Some(count) },
        ..phase(name, Mix::only(kind), Duration::ZERO)
    };
    Scenario {
        name: "memory-20MiB",
        about: "20 MiB without swap: fill the cache, 64 connections at full speed, 20 000 distinct forged tokens, then more connections and more waiters than there may be",
        scenery: Scenery { memory_limit: Some(20 * MIB), ..scenery() },
        phases: vec![
            counted("fill", Kind::FreshSameIdentity, 12_000),
            Phase { http: Http::One, connections: 64, ..repeated("speed", (duration * 6).max(secs(20))) },
            counted("forged", Kind::ForgedUnknownKey, 20_000),
            Phase {
                amount: Amount::InFlight(600),
                connections: 600,
                must_connect: false,
                http: Http::One,
                ..repeated("connections", secs(5))
            },
            Phase {
                amount: Amount::InFlight(6000),
                connections: 12,
                must_connect: false,
                // Slow enough that questions pile up; quick again before its end, so that the next phase can warm up.
                events: vec![
                    (Duration::ZERO, Event::StsDelay(Duration::from_millis(500))),
                    (Duration::from_millis(5500), Event::StsDelay(Duration::ZERO)),
                ],
                ..fresh("waiters", secs(5))
            },
            Phase { http: Http::One, connections: 64, ..repeated("after", secs(5)) },
        ],
        rules: vec![
            Rule::NoWrongIdentity,
            Rule::NoOomKill,
            Rule::PeakAtMost(20 * MIB),
            Rule::Steady("speed", secs(10), 0.9),
            Rule::AtLeast("waiters", Outcome::Unavailable, 1),
            Rule::AtLeast("after", Outcome::Allowed, 1),
        ],
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_has_a_name_of_its_own_and_rules_about_phases_that_it_has() {
        let scenarios = all(secs(10));
        let names: HashSet<_> = scenarios.iter().map(|scenario| scenario.name).collect();
        assert_eq!(names.len(), scenarios.len());
        for scenario in &scenarios {
            assert!(scenario.rules.len() > 1, "{} says nothing that could fail", scenario.name);
            let has = |name: &str| scenario.phases.iter().any(|phase| phase.name == name);
            for rule in &scenario.rules {
                let named = match rule {
                    Rule::AllAllowed(name)
                    | Rule::AtLeast(name, ..)
                    | Rule::AtMost(name, ..)
                    | Rule::OnlyAllowedFrom(name, _)
                    | Rule::OnlyBecause(name, ..)
                    | Rule::P90AtMost(name, _)
                    | Rule::Steady(name, ..)
                    | Rule::StsCalls(name, _)
                    | Rule::StsShare(name, _) => has(name),
                    Rule::P99Within(first, second, _) | Rule::RateShare(first, second, _) => has(first) && has(second),
                    Rule::EndedWell | Rule::NoOomKill | Rule::NoWrongIdentity | Rule::PeakAtMost(_) | Rule::ReloadsWithin(..) => true,
                };
                assert!(named, "{}: {rule:?}", scenario.name);
            }
        }
    }
}
