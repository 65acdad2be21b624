//! A run from its begin to its end: generator threads beside a sampler, which once a second takes what they have counted.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::generator::{self, Limit, Load, Placement, Plan, StartError};
use crate::outcome::Outcome;
use crate::supply::{Order, Supply};
use crate::tally::{Latencies, Tally};

/// How often counts are taken.
const SAMPLE: Duration = Duration::from_secs(1);

/// How long answers are waited for after the run was stopped.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// Questions in flight while a cache is filled.
const PRIMERS_MOST: u32 = 32;

/// One second of a run.
#[derive(Clone, Debug)]
pub struct Second {
    /// When it ended, from the end of the warm-up.
    pub at: Duration,
    /// How long it was.
    pub lasted: Duration,
    /// What was counted in it.
    pub outcomes: [u64; Outcome::ALL.len()],
    /// Latencies of all of these.
    pub p50: Duration,
    /// The same.
    pub p99: Duration,
    /// What the observer had to say.
    pub seen: Seen,
}

/// What is seen of the world outside at the end of a second.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// Calls that the fake STS has counted so far.
    pub sts_calls: Option<u64>,
    /// Resident memory of the target, in bytes.
    pub rss_bytes: Option<u64>,
    /// Processor time of the target so far.
    pub cpu: Option<Duration>,
}

/// What a run has come to.
#[derive(Debug)]
pub struct Finished {
    /// All counts after the warm-up.
    pub tally: Tally,
    /// From the end of the warm-up to the last answer.
    pub elapsed: Duration,
    /// Second by second.
    pub seconds: Vec<Second>,
    /// Questions whose answers were not waited for, for the run was stopped.
    pub unanswered: u64,
    /// Whether it was stopped before its end.
    pub stopped: bool,
    /// Processor time of the generator threads, warm-up included.
    pub generator_cpu: Duration,
    /// How long they were at work, warm-up included.
    pub generator_elapsed: Duration,
    /// What was seen at the end of the warm-up.
    pub seen_first: Seen,
}

impl Finished {
    /// The last that was seen of one thing.
    pub(crate) fn seen_last<T>(&self, thing: impl Fn(&Seen) -> Option<T>) -> Option<T> {
        self.seconds.iter().rev().map(|second| &second.seen).chain([&self.seen_first]).find_map(thing)
    }
}

/// Who looks on: sees the world once a second, and is told what was counted.
pub trait Observer {
    /// What there is to see now. The run waits for it: it is to be told soon, or left out.
    fn see(&mut self) -> impl Future<Output = Seen>;

    /// A second is over.
    fn second(&mut self, second: &Second);

    /// The warm-up is over.
    fn warmed_up(&mut self) {}
}

/// Sees nothing.
#[derive(Clone, Copy, Debug)]
pub struct Blind;

impl Observer for Blind {
    async fn see(&mut self) -> Seen {
        Seen::default()
    }

    fn second(&mut self, _: &Second) {}
}

/// Runs `plan` with the questions of `order`, `ahead` of which for each thread are made before it begins, until its limit or until `stop`.
///
/// # Errors
///
/// [`StartError`], where there is nobody to ask.
pub async fn run(
    plan: &Plan,
    order: &Order,
    ahead: usize,
    placement: Placement,
    observer: &mut impl Observer,
    stop: impl Future<Output = ()>,
) -> Result<Finished, StartError> {
    let threads = plan.threads.max(1);
    let supplies = (0..threads).map(|part| {
        let mut supply = Supply::new(order.clone(), part, threads);
        supply.make_ahead(ahead);
        supply
    });
    let mut running = generator::start(plan, supplies.collect(), placement).await?;
    let begin = Instant::now();
    let mut stop = std::pin::pin!(stop);
    let mut warmed = 0;
    let mut stopped = false;
    if !plan.warm_up.is_zero() {
        tokio::select! {
            () = tokio::time::sleep(plan.warm_up) => {}
            () = running.ended() => {}
            () = stop.as_mut() => stopped = true,
        }
        warmed = running.take().total();
    }
    running.course.count_from_now();
    observer.warmed_up();
    let seen_first = observer.see().await;

    let counting = Instant::now();
    let mut seconds = Seconds::default();
    let mut ticks = interval(SAMPLE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    let until = plan.limit.duration.map(|duration| counting + duration);
    let mut deadline = std::pin::pin!(tokio::time::sleep_until(until.unwrap_or(counting)));
    let mut over = false;
    while !stopped {
        tokio::select! {
            biased;
            () = running.ended() => break,
            () = stop.as_mut() => stopped = true,
            () = deadline.as_mut(), if until.is_some() && !over => {
                over = true;
                running.course.end();
            }
            _ = ticks.tick() => seconds.take(running.take(), counting.elapsed(), observer).await,
        }
    }
    running.course.end();
    if stopped {
        // Who has not answered by then may hang for ever.
        let _ = tokio::time::timeout(STOP_GRACE, running.ended()).await;
    }
    let elapsed = counting.elapsed();
    seconds.take(running.take(), elapsed, observer).await;
    let unanswered = running.given().saturating_sub(warmed + seconds.total.total());
    let Seconds { total: tally, seconds, .. } = seconds;
    Ok(Finished {
        tally,
        elapsed,
        seconds,
        unanswered,
        stopped,
        generator_cpu: running.cpu(),
        generator_elapsed: begin.elapsed() * threads,
        seen_first,
    })
}

/// Asks about each token of the stock once, over the connections of `plan`, or until `stop`; how many of them were not let in as who they are.
///
/// # Errors
///
/// [`StartError`], where there is nobody to ask, and where it was stopped.
pub async fn prime(plan: &Plan, order: &Order, placement: Placement, stop: impl Future<Output = ()>) -> Result<u64, StartError> {
    let count = u64::try_from(order.stock.len()).unwrap_or(u64::MAX);
    let limit = Limit { duration: None, count: Some(count) };
    let load = match plan.load {
        Load::Closed { in_flight } => Load::Closed { in_flight: in_flight.min(PRIMERS_MOST) },
        Load::Open { .. } => Load::Closed { in_flight: PRIMERS_MOST },
    };
    let plan = Plan { load, warm_up: Duration::ZERO, limit, threads: 1, ..plan.clone() };
    let mut supply = Supply::new(order.clone(), 0, 1);
    supply.put_ahead(order.stock.questions().cloned());
    let mut running = generator::start(&plan, vec![supply], placement).await?;
    tokio::select! {
        () = running.ended() => {}
        () = stop => return Err(StartError::Stopped),
    }
    Ok(count - running.take().count(Outcome::Allowed))
}

#[derive(Default)]
struct Seconds {
    total: Tally,
    seconds: Vec<Second>,
    /// Latencies of the last one.
    latencies: Latencies,
    last: Duration,
}

impl Seconds {
    async fn take(&mut self, tally: Tally, at: Duration, observer: &mut impl Observer) {
        let mut latencies = tally.latencies();
        let mut lasted = at - self.last;
        let mut outcomes = Outcome::ALL.map(|outcome| tally.count(outcome));
        let is_rest = lasted < SAMPLE / 2;
        if is_rest && latencies.count() == 0 && self.seconds.is_empty() {
            return;
        }
        // What is left at the end belongs to the second before: a rate of three answers in a millisecond says nothing.
        if is_rest && let Some(before) = self.seconds.pop() {
            latencies.add(&self.latencies);
            lasted += before.lasted;
            outcomes.iter_mut().zip(before.outcomes).for_each(|(count, more)| *count += more);
        }
        let (p50, p99) = (latencies.percentile(50.0), latencies.percentile(99.0));
        let second = Second { at, lasted, outcomes, p50, p99, seen: observer.see().await };
        observer.second(&second);
        self.seconds.push(second);
        self.latencies = latencies;
        self.last = at;
        self.total.add(tally);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Judgement;

    fn answers(count: u64, latency: Duration) -> Tally {
        let mut tally = Tally::default();
        (0..count).for_each(|_| tally.record(Judgement::because(Outcome::Denied, "no"), latency));
        tally
    }

    #[tokio::test]
    async fn a_rest_at_the_end_belongs_to_the_second_before() {
        let (quick, slow) = (Duration::from_millis(1), Duration::from_millis(8));
        let mut seconds = Seconds::default();
        seconds.take(answers(100, quick), Duration::from_secs(1), &mut Blind).await;
        seconds.take(answers(60, quick), Duration::from_secs(2), &mut Blind).await;
        seconds.take(answers(40, slow), Duration::from_millis(2004), &mut Blind).await;
        let told: Vec<_> =
            seconds.seconds.iter().map(|second| (second.at.as_millis(), second.lasted.as_millis(), second.outcomes[2])).collect();
        assert_eq!(told, [(1000, 1000, 100), (2004, 1004, 100)]);
        assert_eq!(seconds.seconds[1].p50.as_millis(), 1);
        assert_eq!(seconds.seconds[1].p99.as_millis(), 8);
        assert_eq!(seconds.total.total(), 200);
    }

    #[tokio::test]
    async fn what_is_long_enough_stands_for_itself_and_so_does_what_is_alone() {
        let mut seconds = Seconds::default();
        seconds.take(answers(3, Duration::ZERO), Duration::from_millis(2), &mut Blind).await;
        assert_eq!(seconds.seconds.len(), 1);
        let mut seconds = Seconds::default();
        seconds.take(answers(100, Duration::ZERO), Duration::from_secs(1), &mut Blind).await;
        seconds.take(answers(60, Duration::ZERO), Duration::from_millis(1600), &mut Blind).await;
        assert_eq!((seconds.seconds.len(), seconds.seconds[1].lasted.as_millis()), (2, 600));
    }
}
