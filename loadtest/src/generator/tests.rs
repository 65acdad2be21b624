//! That an open loop is open, and that a generator which is late says so: on a clock that the tests move.

use super::*;
use crate::ceiling::{ARN, canned_reply};
use crate::question::Needle;
use crate::result::{LATENESS_MOST, Origin, Run};
use crate::run::{Finished, Seen};
use crate::supply::tests::order;
use crate::transport::Answer;

/// A target that answers after a millisecond, and not at all in the third second.
#[derive(Clone)]
struct Stalls {
    since: Instant,
}

impl Ask for Stalls {
    async fn ask(&mut self, _: Bytes) -> Result<Answer, Failure> {
        tokio::time::sleep(Duration::from_millis(1)).await;
        let (stall, end) = (self.since + Duration::from_secs(2), self.since + Duration::from_secs(3));
        if Instant::now() >= stall {
            tokio::time::sleep_until(end).await;
        }
        Ok(Answer { status: 200, body: canned_reply(0) })
    }
}

/// A target that is quick, while the generator itself takes five milliseconds for each question.
#[derive(Clone)]
struct Hogs;

impl Ask for Hogs {
    async fn ask(&mut self, _: Bytes) -> Result<Answer, Failure> {
        tokio::time::advance(Duration::from_millis(5)).await;
        Ok(Answer { status: 200, body: canned_reply(0) })
    }
}

fn desk() -> Arc<Desk> {
    let mut order = order("repeated");
    order.form.always = Some(Arc::new(Needle::new(ARN)));
    order.stock = crate::supply::Stock::sign(&order.cast, &order.form, 4, &order.clock);
    Arc::new(Desk::new(Supply::new(order, 0, 1), Duration::from_secs(30)))
}

fn course(count: u64) -> Arc<Course> {
    let course = Course::new(Some(count));
    course.count_from_now();
    Arc::new(course)
}

async fn open(asker: impl Ask + Clone, count: u64, in_flight_most: u32) -> Tally {
    let desk = desk();
    let pool = open::Exclusive::new(vec![asker; 4096]);
    let schedule = Arrivals::Constant { rate: 100.0 }.schedule(1, 0, 1);
    open::run(pool, schedule, in_flight_most, &course(count), &desk, pacer::Pacer::of_tokio()).await;
    desk.take()
}

fn finished(tally: Tally) -> Run {
    let finished = Finished {
        tally,
        elapsed: Duration::from_secs(10),
        seconds: Vec::new(),
        unanswered: 0,
        stopped: false,
        generator_cpu: Duration::ZERO,
        generator_elapsed: Duration::from_secs(10),
        seen_first: Seen::default(),
    };
    Run::new(Origin::here(0), Default::default(), &finished, LATENESS_MOST, None)
}

#[tokio::test(start_paused = true)]
async fn an_open_loop_sees_a_stall_of_a_second_where_a_closed_one_does_not() {
    let tally = open(Stalls { since: Instant::now() }, 1000, 4096).await;
    assert_eq!(tally.count(Outcome::Allowed), 1000);
    let latencies = tally.latencies();
    // A tenth of all was due in that second, and the p99 is of those that had to wait for nearly all of it.
    assert!(latencies.percentile(99.0) > Duration::from_millis(850), "{:?}", latencies.percentile(99.0));
    assert!(latencies.percentile(95.0) > Duration::from_millis(450), "{:?}", latencies.percentile(95.0));
    assert!(latencies.percentile(80.0) < Duration::from_millis(5), "{:?}", latencies.percentile(80.0));
    assert!(finished(tally).summary.void.is_empty(), "the target was slow, the generator was not");

    let desk = desk();
    closed::run(vec![Stalls { since: Instant::now() }], &course(3000), &desk).await;
    let latencies = desk.take().latencies();
    assert_eq!((latencies.count(), latencies.max() > Duration::from_millis(900)), (3000, true));
    assert!(latencies.percentile(99.0) < Duration::from_millis(5), "a closed loop hides it: {:?}", latencies.percentile(99.0));
}

#[tokio::test(start_paused = true)]
async fn latency_counts_from_when_a_question_was_due() {
    // One asker for all: nearly all of the time passes before anything is sent.
    let desk = desk();
    let pool = open::Exclusive::new(vec![Stalls { since: Instant::now() }]);
    let schedule = Arrivals::Constant { rate: 100.0 }.schedule(1, 0, 1);
    open::run(pool, schedule, 4096, &course(400), &desk, pacer::Pacer::of_tokio()).await;
    let latencies = desk.take().latencies();
    assert!(latencies.percentile(99.0) > Duration::from_millis(900), "{:?}", latencies.percentile(99.0));
}

#[tokio::test(start_paused = true)]
async fn a_generator_that_is_late_makes_the_run_void() {
    let schedule = Arrivals::Constant { rate: 500.0 }.schedule(1, 0, 1);
    let desk = desk();
    open::run(open::Exclusive::new(vec![Hogs; 64]), schedule, 4096, &course(500), &desk, pacer::Pacer::of_tokio()).await;
    let run = finished(desk.take());
    assert_eq!(run.summary.completed, 500, "late ones are asked all the same");
    let void = run.summary.void.join("\n");
    assert!(void.contains("the generator was late"), "{void}");
    assert!(run.to_string().starts_with("VOID: the generator was late"), "{run}");
}

#[tokio::test(start_paused = true)]
async fn what_is_due_and_not_asked_is_counted_and_makes_the_run_void() {
    let tally = open(Stalls { since: Instant::now() }, 1000, 10).await;
    assert_eq!(tally.total() + tally.unsent, 1000);
    assert!(tally.unsent > 80, "{}", tally.unsent);
    assert!(finished(tally).summary.void[0].contains("were due and not asked"));
}

#[tokio::test(start_paused = true)]
async fn a_closed_loop_asks_as_many_as_it_is_told() {
    let desk = desk();
    closed::run(vec![Stalls { since: Instant::now() }; 7], &course(100), &desk).await;
    assert_eq!(desk.take().count(Outcome::Allowed), 100);
}
